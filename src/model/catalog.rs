//! The built-in catalog of checkpoints, and what a reference means in it.
//!
//! In: a [`Reference`]. Out: a [`Match`]: a row by its name, or the row that a re-upload, a quantized copy, a
//! fine-tune or a local folder is taken for by its name, with that assumption in words. Never a model of another
//! size: the words that state a size must be the same. The rows are text in the binary; one is parsed when it is
//! asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::name::{Kind, Reference, Stem, is_gguf_format, stem};
use super::record::{Record, RecordedParameters, RecordedWeights};
use super::scheme::Scheme;
use super::{Model, ModelSource, Quantization, Weights, quantization};
use crate::fact::Fact;
use crate::finding::Finding;

static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/catalog/models");
const NAMES: &str = include_str!("../../catalog/model_names.yaml");

/// How many rows may refer to one another in a chain.
const LONGEST_CHAIN: usize = 4;

/// A row of the catalog as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    source: String,
    /// The row whose facts hold where this one has none.
    #[serde(default)]
    same_as: Option<String>,
    #[serde(default)]
    config: Map<String, Value>,
    /// Fields that take the place of the other row's.
    #[serde(default)]
    changes: Map<String, Value>,
    #[serde(default)]
    quantization: Published,
    #[serde(default)]
    scheme: Option<Scheme>,
    #[serde(default)]
    parameters: Option<RecordedParameters>,
    #[serde(default)]
    weights: Option<RecordedWeights>,
}

/// The published format of a row: its own, or that of the row it refers to.
#[derive(Debug, Default)]
enum Published {
    /// As the other row.
    #[default]
    Inherited,
    /// Its own; null for 16 and 32 bit.
    Stated(Option<Quantization>),
}

impl<'de> Deserialize<'de> for Published {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::Stated)
    }
}

/// Rows by their names in lower case: the name as written, and the text.
fn rows() -> &'static HashMap<String, (&'static str, &'static str)> {
    static ROWS: OnceLock<HashMap<String, (&'static str, &'static str)>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let texts = FILES.files().filter_map(include_dir::File::contents_utf8);
        let lines = texts.flat_map(str::lines);
        let rows = lines.filter_map(|line| line.strip_prefix('"')?.split_once("\": "));
        rows.map(|(name, text)| (name.to_ascii_lowercase(), (name, text)))
            .collect()
    })
}

/// The names of all rows, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = rows().values().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

/// The name as its row writes it, where the catalog has a row of that name.
pub fn written(name: &str) -> Option<&'static str> {
    rows().get(&name.to_ascii_lowercase()).map(|(name, _)| *name)
}

/// The row of a checkpoint by its name, upper and lower case alike.
pub fn record(name: &str) -> Option<Record> {
    chained(name, LONGEST_CHAIN)
}

fn chained(name: &str, left: usize) -> Option<Record> {
    let (name, text) = rows().get(&name.to_ascii_lowercase())?;
    let row: Row = serde_json::from_str(text).ok()?;
    let base = match &row.same_as {
        Some(base) => chained(base, left.checked_sub(1)?)?,
        None => Record::default(),
    };
    let mut config = if row.config.is_empty() {
        base.config
    } else {
        row.config
    };
    config.extend(row.changes);
    let (quantization, scheme, other_weights) = match row.quantization {
        Published::Inherited => (base.quantization, row.scheme.or(base.scheme), base.weights),
        // Bytes and exceptions are those of a format: they do not outlive it.
        Published::Stated(own) => (own, row.scheme, None),
    };
    Some(Record {
        name: (*name).to_owned(),
        source: row.source,
        config,
        quantization,
        scheme,
        parameters: row.parameters.or(base.parameters),
        weights: row.weights.or(other_weights),
        ..Record::default()
    })
}

/// What a reference means in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The row.
    pub record: Record,
    /// The weight format that the reference states and the row does not have.
    pub format: Option<String>,
    /// What was assumed to find the row.
    pub assumption: Option<String>,
}

/// The row that a reference means: the one of its name, else the one that it is taken for by the rules of names.
pub fn find(reference: &Reference, written: &str) -> Option<Match> {
    let exact = reference.names.iter().find_map(|name| record(name));
    if let Some(record) = exact {
        let is_named = reference.kind == Kind::Hub;
        return Some(matched(record, reference.format.clone(), written, !is_named));
    }
    reference.names.iter().find_map(|name| {
        let (record, format) = match reference.kind {
            Kind::Tag => by_tag(name)?,
            // A bare name of the library means its latest tag.
            Kind::Hub if names_file().ollama.contains_key(&name.to_ascii_lowercase()) => {
                by_tag(&format!("{name}:latest"))?
            }
            _ => by_words(&stem(name))?,
        };
        Some(matched(
            record,
            reference.format.clone().or(format),
            written,
            true,
        ))
    })
}

fn matched(record: Record, format: Option<String>, written: &str, is_assumed: bool) -> Match {
    let same = |format: &String| {
        record
            .quantization
            .as_ref()
            .is_some_and(|own| is_same_format(own, format))
    };
    let format = format.filter(|format| !same(format));
    let words = match &format {
        Some(format) => format!("{written} is taken for {} in {format}", record.name),
        None => format!("{written} is taken for {} by its name", record.name),
    };
    Match {
        assumption: (is_assumed || format.is_some()).then_some(words),
        record,
        format,
    }
}

/// True where a name states what the row is anyway: `-FP8` of a checkpoint published in FP8.
fn is_same_format(own: &Quantization, format: &str) -> bool {
    let element = own.element();
    own.method == format || element == format || (format.starts_with("fp8") && element == "fp8")
}

/// Words of a name that say how a model was trained or packed, not what shape it has.
const NEUTRAL: [&str; 18] = [
    "instruct",
    "chat",
    "it",
    "base",
    "hf",
    "pt",
    "text",
    "preview",
    "latest",
    "sft",
    "dpo",
    "uncensored",
    "abliterated",
    "model",
    "original",
    "checkpoint",
    "unsloth",
    "mtp",
];

/// Words of a name that say that it is another model than the one whose name it contains.
const DIFFERENT: [&str; 33] = [
    "eagle",
    "eagle3",
    "speculator",
    "speculators",
    "medusa",
    "draft",
    "drafter",
    "dflash",
    "lora",
    "adapter",
    "adapters",
    "vl",
    "vision",
    "omni",
    "audio",
    "moe",
    "next",
    "reap",
    "pruned",
    "expand",
    "upscaled",
    "embedding",
    "embed",
    "reranker",
    "mmproj",
    "projector",
    "tts",
    "asr",
    "nano",
    "mini",
    "minitron",
    "accelerator",
    "llava",
];

/// Families: where a name holds two of them, it does not say which one the model is of.
const FAMILIES: [&str; 9] = [
    "llama", "qwen", "gemma", "mistral", "mixtral", "phi", "falcon", "yi", "glm",
];

/// A row by the words of its name.
struct Entry {
    name: &'static str,
    words: Vec<String>,
    /// The words without the neutral ones.
    core: Vec<String>,
    /// True where the name states a format: such a row never stands for others.
    is_quantized: bool,
    /// True where another row has its facts.
    is_derived: bool,
}

fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let entry = |name: &'static str| {
            let Stem { words, format, .. } = stem(name);
            Entry {
                name,
                core: core(&words),
                words,
                is_quantized: format.is_some_and(|format| format != UNQUANTIZED),
                is_derived: rows()
                    .get(&name.to_ascii_lowercase())
                    .is_some_and(|(_, text)| text.contains("\"same_as\"")),
            }
        };
        names().into_iter().map(entry).collect()
    })
}

fn core(words: &[String]) -> Vec<String> {
    words
        .iter()
        .filter(|word| !NEUTRAL.contains(&word.as_str()))
        .cloned()
        .collect()
}

/// The row for the words of a name: the same words, the same without neutral ones, or the longest name of a
/// checkpoint that the words contain.
fn by_words(stem: &Stem) -> Option<(Record, Option<String>)> {
    if stem.strange || stem.words.is_empty() {
        return None;
    }
    let alias = || names_file().aliases.get(&stem.words.join(" ")).cloned();
    let core_alias = || names_file().aliases.get(&core(&stem.words).join(" ")).cloned();
    let row = alias()
        .or_else(|| same_words(stem))
        .or_else(core_alias)
        .or_else(|| contained(stem))?;
    Some((record(&row)?, stem.format.clone().or_else(|| unquantized(&row))))
}

/// Where only a quantized copy has a row, a name that states no format means its 16-bit original.
fn unquantized(row: &str) -> Option<String> {
    let is_copy = super::name::stem(row)
        .format
        .is_some_and(|format| format != UNQUANTIZED);
    is_copy.then(|| UNQUANTIZED.to_owned())
}

fn same_words(stem: &Stem) -> Option<String> {
    let wanted = core(&stem.words);
    let same = entries()
        .iter()
        .filter(|entry| entry.core == wanted && !wanted.is_empty());
    best(same, stem).or_else(|| without_active(&wanted, stem))
}

/// Libraries leave out how many parameters are active: `qwen3.5:35b` is `Qwen3.5-35B-A3B`, as long as there is no
/// other of that size.
fn without_active(wanted: &[String], stem: &Stem) -> Option<String> {
    let is_active = |word: &&String| word.starts_with('a') && is_size(word);
    let shorter = |entry: &&Entry| {
        entry.core.iter().any(|word| is_active(&word))
            && entry
                .core
                .iter()
                .filter(|word| !is_active(word))
                .eq(wanted.iter())
    };
    let found: Vec<&Entry> = entries().iter().filter(shorter).collect();
    let first = found.first()?;
    let is_one = found.iter().all(|entry| entry.core == first.core);
    best(found.iter().copied().filter(|_| is_one), stem)
}

/// Of rows that share their core the unquantized, then the one with most of the asked words, then the shortest, then
/// the one that has facts of its own.
fn best<'e>(entries: impl Iterator<Item = &'e Entry>, stem: &Stem) -> Option<String> {
    let rank = |entry: &&Entry| {
        let common = entry
            .words
            .iter()
            .filter(|word| stem.words.contains(word))
            .count();
        (
            entry.is_quantized,
            usize::MAX - common,
            entry.words.len(),
            entry.is_derived,
            entry.name,
        )
    };
    entries.min_by_key(rank).map(|entry| entry.name.to_owned())
}

/// A fine-tune bears its base in its name: `Hermes-3-Llama-3.1-8B`, `dolphin-2.9-mistral-7b`.
fn contained(stem: &Stem) -> Option<String> {
    let words = core(&stem.words);
    let holds = |core: &[String]| {
        let has_size = core.iter().any(|word| is_size(word));
        let rest = || rest_of(&words, core);
        core.len() >= 2
            && has_size
            && rest().is_some_and(|rest| rest.iter().all(|word| is_harmless(word.as_str())))
    };
    let candidates: Vec<&Entry> = entries()
        .iter()
        .filter(|entry| !entry.is_quantized && holds(&entry.core))
        .collect();
    let longest = candidates.iter().map(|entry| entry.core.len()).max();
    let by_rows = best(
        candidates
            .into_iter()
            .filter(|entry| Some(entry.core.len()) == longest),
        stem,
    );
    by_rows.or_else(|| {
        let held = |(words, row): (&String, &String)| {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            holds(&words).then(|| (words.len(), row.clone()))
        };
        let aliases = names_file().aliases.iter();
        aliases.filter_map(held).max().map(|(_, row)| row)
    })
}

fn is_harmless(word: &str) -> bool {
    !is_size(word) && !FAMILIES.contains(&word) && !word.split('.').any(|part| DIFFERENT.contains(&part))
}

/// The words around the first place where `part` stands in `words`.
fn rest_of(words: &[String], part: &[String]) -> Option<Vec<String>> {
    let at = words
        .windows(part.len().max(1))
        .position(|window| window == part)?;
    let mut rest = words.to_vec();
    rest.drain(at..at.saturating_add(part.len()));
    Some(rest)
}

/// `8b`, `0.5b`, `350m`, `8x7b`, `a3b`, `e4b`, `16e`.
fn is_size(word: &str) -> bool {
    let body = word.strip_prefix(['a', 'e']).unwrap_or(word);
    let Some(number) = body.strip_suffix(['b', 'm', 'e', 't']) else {
        return false;
    };
    let mut factors = number.split('x');
    number.starts_with(|c: char| c.is_ascii_digit()) && factors.all(|factor| factor.parse::<f64>().is_ok())
}

/// `catalog/model_names.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    /// Checkpoints by the words of a shorter name.
    aliases: BTreeMap<String, String>,
    /// The Ollama library: by name and tag a checkpoint, or another tag.
    ollama: BTreeMap<String, BTreeMap<String, String>>,
}

fn names_file() -> &'static Names {
    static NAMES_FILE: OnceLock<Names> = OnceLock::new();
    NAMES_FILE.get_or_init(|| serde_saphyr::from_str(NAMES).unwrap_or_default())
}

/// The format of checkpoints that nobody quantized.
const UNQUANTIZED: &str = "bf16";

/// Format of a tag that names none, as the Ollama library publishes them.
const OLLAMA_DEFAULT: &str = "q4_K_M";

/// `name:tag` of the Ollama library; the format is that of the tag, else the library's usual one.
fn by_tag(name: &str) -> Option<(Record, Option<String>)> {
    let (model, tag) = name.split_once(':')?;
    let model = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let tag = tag.to_ascii_lowercase();
    let library = names_file().ollama.get(&model);
    let tag = if tag == "latest" {
        library
            .and_then(|tags| tags.get("latest"))
            .cloned()
            .unwrap_or(tag)
    } else {
        tag
    };
    let given = stem(&tag);
    let size = core(&given.words).join("-");
    let listed = library.and_then(|tags| tags.get(&tag).or_else(|| tags.get(&size)));
    let format = given.format.clone();
    let row = match listed {
        Some(row) if row.contains('/') => record(row)?,
        _ if tag.contains('/') => record(&tag)?,
        _ => by_words(&tuned(stem(&format!("{model}:{tag}"))))?.0,
    };
    let usual = || {
        // gpt-oss keeps its own format, embedding models their 16 bit.
        let is_native = row.quantization.as_ref().is_some_and(|own| own.method == "mxfp4");
        (!is_native && !is_embedding(&row)).then(|| OLLAMA_DEFAULT.to_owned())
    };
    let format = format.or_else(usual);
    Some((row, format))
}

fn is_embedding(record: &Record) -> bool {
    let class = record
        .config
        .get("architectures")
        .and_then(|list| list.get(0)?.as_str());
    class.is_some_and(|name| name.ends_with("Model"))
}

/// The words of a tag; the library publishes the tuned checkpoint where a tag does not ask for the base.
fn tuned(mut stem: Stem) -> Stem {
    stem.format = None;
    if !stem
        .words
        .iter()
        .any(|word| matches!(word.as_str(), "base" | "text" | "code" | "pt"))
    {
        stem.words.extend(["instruct", "chat", "it"].map(str::to_owned));
    }
    stem
}

impl Match {
    /// The model; `shown` is how reports call it.
    pub fn to_model(&self, shown: &str) -> (Model, Vec<Finding>) {
        let (mut model, findings) = self.record.to_model(&self.record.name, ModelSource::Catalog);
        shown.clone_into(&mut model.name);
        if let Some(format) = &self.format {
            in_format(&mut model, format);
        }
        if let Some(assumption) = &self.assumption {
            // Exact for the row, not for what is only taken for it.
            model.assumptions.push(assumption.clone());
            model.weights.exact = false;
            if let Some(parameters) = &mut model.parameters {
                parameters.exact = false;
            }
        }
        (model, findings)
    }
}

/// The model as a copy in another format would be: weights by the format's own layout where the tensors are
/// known, else by its average bits.
fn in_format(model: &mut Model, format: &str) {
    let Some(row) = quantization::serving_format(format) else {
        return;
    };
    model.weights = Weights::default();
    // What the row's own checkpoint leaves alone says nothing of the copy.
    for part in model.census.iter_mut().flat_map(|census| &mut census.parts) {
        part.stored = None;
    }
    if row.bits >= 16.0 {
        model.quantization = None;
        return;
    }
    let stored = row.tensors.as_ref().map(quantization::TensorFormat::quantization);
    if stored.is_none() || model.census.is_none() || is_gguf_format(format) {
        let count = model.parameters.as_ref().map(|parameters| parameters.count);
        model.weights = Weights {
            bytes: count.map(|count| scaled(count, row.bits)),
            how: "the bits of the format",
            ..Weights::default()
        };
    }
    let averaged = || Quantization {
        method: row.name.clone(),
        bits: row.bits,
        group_size: None,
        float: false,
    };
    model.quantization = Some(Fact::derived(stored.unwrap_or_else(averaged), []));
}

fn scaled(parameters: u64, bits: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bits are positive; casts saturate"
    )]
    let bytes = (parameters as f64 * bits / 8.0).ceil() as u64;
    bytes
}

#[cfg(test)]
mod tests;
