//! Models in GGUF files: metadata and tensor table, read from the header only.
//!
//! In: the path of a file, perhaps the first of a split set, perhaps cut after its header, perhaps hostile. Out:
//! a [`Model`] whose weights are exact to the byte, and findings for what cannot be read. The header's bytes
//! are read in [`header`], types and names in [`types`], the KV layout in [`layout`].

mod header;
mod layout;
mod types;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use crate::fact::Fact;
use crate::finding::{Finding, Severity};
use crate::memory::round_up;
use crate::model::{
    Dims, Dtype, GgufFacts, GgufValue, Model, ModelSource, Parameters, Quantization, Refusal, Weights,
};

use header::Header;
use layout::Keys;
pub use layout::{from_metadata, llama_cpp_slides};
use types::Catalog;

/// Bytes of a git-LFS pointer file at most.
const LFS_POINTER_BYTES: u64 = 1024;

/// What a GGUF file gave.
#[derive(Debug)]
pub struct Loaded {
    /// The model; `None` when the header cannot be read.
    pub model: Option<Model>,
    /// What is wrong with the file, or missing in it.
    pub findings: Vec<Finding>,
}

/// Reads the header of a GGUF file. `display` is the path that reports print.
///
/// For one part of a split set (`-00001-of-00003.gguf`) the metadata is that of the first part, and the weights
/// are those of all parts that are there.
pub fn load(path: &Path, display: &str) -> Loaded {
    let set = Parts::of(path);
    let first = match set.first(path).map(|path| open(&path)) {
        Some(Ok(Opened::Header(header))) => header,
        Some(Ok(Opened::LfsPointer(size))) => return pointers(&set, size, display),
        Some(Err(why)) => return unreadable(display, &why),
        None => return unreadable(display, "its first part is absent"),
    };
    let mut findings = Vec::new();
    let mut sum = Sum::new(main_layers(&first.metadata));
    match sum.add(&first) {
        Ok(end) => findings.extend(truncation(&first, end, display)),
        Err(why) => return unreadable(display, &why),
    }
    for part in set.others() {
        findings.extend(add_part(&mut sum, &part, &beside(display, &part)));
    }
    findings.extend(set.absent(display, &first.metadata));
    let complete = findings.iter().all(|finding| finding.severity < Severity::Error);
    let model = model(display, first, sum, complete);
    if let Err(refusal) = &model.layout {
        let message = format!("{}: the KV cache cannot be sized: {}", model.name, refusal.reason);
        let finding = Finding::about("config-incomplete", Severity::Warning, message, display);
        findings.push(finding);
    }
    Loaded {
        model: Some(model),
        findings,
    }
}

/// Reads the header of a file that lies elsewhere, part by part: readers that begin at a part's first byte, and
/// the bytes of the part. The model's name is `name`.
///
/// # Errors
/// In a sentence without the file's name, when a header cannot be read.
pub fn read_parts<F: Read + Seek>(
    name: &str,
    parts: impl IntoIterator<Item = (F, u64)>,
) -> Result<Model, String> {
    let mut parts = parts.into_iter();
    let (first, bytes) = parts.next().ok_or("it has no parts")?;
    let first = header::read(first, bytes)?;
    let mut sum = Sum::new(main_layers(&first.metadata));
    check_end(&first, sum.add(&first)?)?;
    for (part, bytes) in parts {
        let header = header::read(part, bytes)?;
        check_end(&header, sum.add(&header)?)?;
    }
    Ok(model(name, first, sum, true))
}

/// Refuses a file that is too short for its tensors.
fn check_end(header: &Header, end_of_last: u64) -> Result<(), String> {
    let end = weights_start(header).saturating_add(end_of_last);
    if header.file_bytes < end {
        return Err(format!(
            "it has {} bytes, and its tensors need {end}",
            header.file_bytes
        ));
    }
    Ok(())
}

/// Adds a later part of a split set to the sum.
fn add_part(sum: &mut Sum, part: &Path, display: &str) -> Option<Finding> {
    let added = open(part).and_then(|opened| match opened {
        Opened::Header(header) => sum.add(&header).map(|end| truncation(&header, end, display)),
        Opened::LfsPointer(size) => {
            sum.add_pointer(size);
            Ok(None)
        }
    });
    added.unwrap_or_else(|why| Some(error(display, why)))
}

/// The path that reports print for another part of the same set.
fn beside(display: &str, part: &Path) -> String {
    let folder = display.strip_suffix(name_of(display)).unwrap_or("");
    let name = part.file_name().unwrap_or_default().to_string_lossy();
    format!("{folder}{name}")
}

/// A file is a GGUF file, or stands for one.
enum Opened {
    Header(Header),
    /// Bytes of the file that the pointer stands for.
    LfsPointer(u64),
}

fn open(path: &Path) -> Result<Opened, String> {
    // Asked before opening: a pipe would block.
    let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    if about.len() <= LFS_POINTER_BYTES
        && let Some(size) = std::fs::read_to_string(path).ok().as_deref().and_then(lfs_size)
    {
        return Ok(Opened::LfsPointer(size));
    }
    header::read(file, about.len()).map(Opened::Header)
}

/// The `size` line of a git-LFS pointer file.
fn lfs_size(text: &str) -> Option<u64> {
    if !text.starts_with("version https://git-lfs.github.com/spec/") {
        return None;
    }
    text.lines()
        .find_map(|line| line.strip_prefix("size "))?
        .trim()
        .parse()
        .ok()
}

fn error(display: &str, why: impl std::fmt::Display) -> Finding {
    let message = format!("{} cannot be read: {why}", name_of(display));
    Finding::about("file-unreadable", Severity::Error, message, display)
        .with_help("download the file again, or convert the model again with a current llama.cpp")
}

fn unreadable(display: &str, why: &str) -> Loaded {
    Loaded {
        model: None,
        findings: vec![error(display, why)],
    }
}

/// A file that holds some of its weights but not all of them was not copied whole. One that holds none was cut
/// after its header on purpose, and says all that sizing needs.
fn truncation(header: &Header, end_of_last: u64, display: &str) -> Option<Finding> {
    let start = weights_start(header);
    let end = start.saturating_add(end_of_last);
    (header.file_bytes > start && header.file_bytes < end).then(|| {
        let message = format!(
            "{} ends after {} bytes, and its tensors need {end}: it was not copied whole",
            name_of(display),
            header.file_bytes
        );
        Finding::about("file-unreadable", Severity::Warning, message, display)
            .with_help("download the file again")
    })
}

/// Bytes before the weights.
fn weights_start(header: &Header) -> u64 {
    let alignment = match header.metadata.get("general.alignment") {
        Some(GgufValue::Integer(number)) => u64::try_from(*number).unwrap_or(32),
        _ => 32,
    };
    round_up(header.length, alignment)
}

/// What the tensors of all parts add up to.
struct Sum {
    main_layers: u64,
    weights: Weights,
    bytes: u64,
    parameters: u64,
    tensors: u64,
    bytes_read: u64,
    /// True when a part is only a pointer, whose bytes include its header.
    inexact: bool,
}

impl Sum {
    fn new(main_layers: u64) -> Self {
        Self {
            main_layers,
            weights: Weights::default(),
            bytes: 0,
            parameters: 0,
            tensors: 0,
            bytes_read: 0,
            inexact: false,
        }
    }

    /// Adds a part; returns the bytes from the start of its weights to the end of its last tensor.
    fn add(&mut self, header: &Header) -> Result<u64, String> {
        self.bytes_read = self.bytes_read.saturating_add(header.bytes_read);
        let mut end_of_last = 0;
        for tensor in &header.tensors {
            let (elements, bytes, kind) = types::measure(tensor)?;
            let by_dtype = self.weights.by_dtype.entry(kind.name.clone()).or_default();
            *by_dtype = by_dtype.saturating_add(bytes);
            let component = types::component(&tensor.name, self.main_layers);
            let by_component = self.weights.by_component.entry(component).or_default();
            *by_component = by_component.saturating_add(bytes);
            self.bytes = self.bytes.saturating_add(bytes);
            self.parameters = self.parameters.saturating_add(elements);
            end_of_last = tensor.offset.saturating_add(bytes).max(end_of_last);
        }
        self.tensors = self.tensors.saturating_add(header.tensors.len() as u64);
        Ok(end_of_last)
    }

    fn add_pointer(&mut self, size: u64) {
        self.bytes = self.bytes.saturating_add(size);
        self.inexact = true;
    }
}

/// The files of a split set.
struct Parts {
    /// Paths by position; empty for a file that stands alone.
    paths: Vec<PathBuf>,
}

impl Parts {
    /// Parts at most: a name has five digits, and nobody splits into more than some hundreds.
    const MOST: u64 = 9999;

    /// Reads the split from the name, as llama.cpp does (`llama_split_prefix`).
    fn of(path: &Path) -> Self {
        let paths = Self::prefix_and_count(path).map_or_else(Vec::new, |(prefix, count)| {
            let part = |at: u64| path.with_file_name(format!("{prefix}-{at:05}-of-{count:05}.gguf"));
            (1..=count).map(part).collect()
        });
        Self { paths }
    }

    fn prefix_and_count(path: &Path) -> Option<(&str, u64)> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| (text.len() == 5).then(|| text.parse::<u64>().ok()).flatten();
        let count = digits(count)?;
        let number = digits(number)?;
        (count > 1 && count <= Self::MOST && number >= 1 && number <= count).then_some((prefix, count))
    }

    /// The file that holds the metadata, if it is there.
    fn first(&self, asked: &Path) -> Option<PathBuf> {
        match self.paths.first() {
            None => Some(asked.to_owned()),
            Some(first) => first.exists().then(|| first.clone()),
        }
    }

    fn others(&self) -> impl Iterator<Item = PathBuf> {
        self.paths.iter().skip(1).filter(|path| path.exists()).cloned()
    }

    /// Parts that are not there, by name or by the count in the metadata.
    fn absent(&self, display: &str, metadata: &BTreeMap<String, GgufValue>) -> Option<Finding> {
        let absent: Vec<_> = self.paths.iter().filter(|path| !path.exists()).collect();
        let declared = match metadata.get("split.count") {
            Some(GgufValue::Integer(count)) if *count > 1 && self.paths.is_empty() => *count,
            _ => 0,
        };
        let message = if let Some(missing) = absent.first() {
            format!(
                "{} of the {} parts of {} are absent, the first of them {}",
                absent.len(),
                self.paths.len(),
                name_of(display),
                name_of(&missing.to_string_lossy())
            )
        } else if declared > 0 {
            format!(
                "{} is one of {declared} parts, but its name does not say which",
                name_of(display)
            )
        } else {
            return None;
        };
        let finding = Finding::about("gguf-split-incomplete", Severity::Error, message, display);
        Some(
            finding.with_help(
                "fetch every part; the weights counted here are those of the parts that are there",
            ),
        )
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit(['/', '\\'])
        .find(|part| !part.is_empty())
        .unwrap_or(path)
}

fn main_layers(metadata: &BTreeMap<String, GgufValue>) -> u64 {
    Keys::new(metadata)
        .and_then(|keys| keys.main_layers())
        .unwrap_or(u64::MAX)
}

/// A set that is not there: only the sizes of the files that its pointers stand for are known.
fn pointers(set: &Parts, first: u64, display: &str) -> Loaded {
    let layout = Err(Refusal {
        reason: "the file is a git-LFS pointer: only its size is known".to_owned(),
        span: None,
    });
    let sizes = set.others().filter_map(|part| match open(&part) {
        Ok(Opened::LfsPointer(size)) => Some(size),
        _ => None,
    });
    let mut model = Model::bare(name_of(display), display, ModelSource::Gguf, layout);
    model.weights = Weights {
        bytes: Some(sizes.fold(first, u64::saturating_add)),
        how: "LFS pointer files",
        ..Weights::default()
    };
    Loaded {
        model: Some(model),
        findings: set.absent(display, &BTreeMap::new()).into_iter().collect(),
    }
}

fn model(display: &str, first: Header, sum: Sum, complete: bool) -> Model {
    let metadata = first.metadata;
    let weights = Weights {
        bytes: Some(sum.bytes),
        exact: complete && !sum.inexact,
        how: "GGUF tensor table",
        ..sum.weights
    };
    let mut model = described(
        name_of(display),
        display,
        ModelSource::Gguf,
        metadata,
        sum.tensors,
    );
    model.weights = weights;
    model.parameters = Some(Parameters {
        count: sum.parameters,
        exact: complete && !sum.inexact,
        how: "tensor shapes",
    });
    model.bytes_read = sum.bytes_read;
    model
}

/// The model that recorded metadata describes, without weights.
pub(super) fn from_record(
    name: &str,
    display: &str,
    source: ModelSource,
    metadata: BTreeMap<String, GgufValue>,
) -> Model {
    described(name, display, source, metadata, 0)
}

/// The `general.file_type` of a mix of types by its name, upper and lower case alike. Mixes that llama.cpp does not
/// number (`UD-Q4_K_XL`, `MXFP4_MOE`) go by the numbered one that they vary, as their own headers do.
pub fn file_type(name: &str) -> Option<GgufValue> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("ud-").unwrap_or(&name);
    let number = |name: &str| Catalog::built_in().file_named(name);
    let varied = || {
        let (family, _) = name.rsplit_once('_')?;
        number(family).or_else(|| number(&format!("{family}_m")))
    };
    number(name).or_else(varied).map(GgufValue::Integer)
}

/// What the metadata alone says of a model.
fn described(
    name: &str,
    display: &str,
    source: ModelSource,
    metadata: BTreeMap<String, GgufValue>,
    num_tensors: u64,
) -> Model {
    let mut model = Model::bare(name, display, source, from_metadata(&metadata));
    if let Some(GgufValue::Text(arch)) = metadata.get("general.architecture") {
        model.architecture = Some(known(arch.clone()));
    }
    model.model_type.clone_from(&model.architecture);
    let file_type = match metadata.get("general.file_type") {
        Some(GgufValue::Integer(id)) => Catalog::built_in().file(*id),
        _ => None,
    };
    model.dtype = file_type.and_then(|kind| Dtype::parse(&kind.name)).map(known);
    model.quantization = file_type.and_then(|kind| {
        let bits = f64::from(kind.bits?);
        let method = kind.name.clone();
        Some(known(Quantization {
            method,
            bits,
            group_size: None,
            float: false,
        }))
    });
    if let Ok(keys) = Keys::new(&metadata) {
        model.max_context = keys.count("context_length").map(known);
        model.dims = dims(&keys, &metadata);
    }
    model.gguf = Some(GgufFacts {
        metadata,
        num_tensors,
    });
    model
}

fn dims(keys: &Keys<'_>, metadata: &BTreeMap<String, GgufValue>) -> Dims {
    let count = |key: &str| keys.count(key).map(known);
    let layers = keys.main_layers().ok();
    // Hybrid models give a count for each layer, 0 where a layer is recurrent: the largest is the model's.
    let kv_heads = layers.and_then(|layers| (0..layers).filter_map(|layer| keys.kv_heads(layer).ok()).max());
    Dims {
        num_layers: layers.map(known),
        hidden_size: count("embedding_length"),
        num_heads: count("attention.head_count"),
        num_kv_heads: kv_heads.filter(|heads| *heads > 0).map(known),
        head_dim: keys.head_dim("key", false).ok().map(known),
        vocab_size: count("vocab_size").or_else(|| vocabulary(metadata).map(known)),
        sliding_window: keys
            .count("attention.sliding_window")
            .filter(|window| *window > 0)
            .map(known),
        num_experts: keys
            .count("expert_count")
            .filter(|experts| *experts > 0)
            .map(known),
    }
}

/// Tokens listed in the file.
fn vocabulary(metadata: &BTreeMap<String, GgufValue>) -> Option<u64> {
    match metadata.get("tokenizer.ggml.tokens")? {
        GgufValue::Array(tokens) => Some(tokens.len() as u64),
        GgufValue::LongArray(count) => Some(*count),
        _ => None,
    }
}

/// A fact of a file that has no text to point at.
fn known<T>(value: T) -> Fact<T> {
    Fact::derived(value, [])
}

#[cfg(test)]
mod tests;
