//! The weight files of a checkpoint: which of a directory's files they are, and what they hold.
//!
//! In: a directory, and how its config says tensors are to be read. Out: [`Weights`], parameters where every
//! header was read, findings. Of safetensors files only headers are read, of git-LFS pointers their size line,
//! of `PyTorch` files the length.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Component as PathPart, Path};

use rayon::prelude::*;

use super::index::ShardIndex;
use super::safetensors::{self, Header, Tensor};
use super::text::{self, FILE_UNREADABLE};
use super::weights::{self, Reading};
use super::{Parameters, Weights, pointer};
use crate::finding::{Finding, Label, Severity};
use crate::source::Sources;

const SHARD_MISSING: &str = "shard-missing";
const LFS_POINTER_WEIGHTS: &str = "lfs-pointer-weights";

/// What a directory's weight files tell.
#[derive(Debug, Default)]
pub(super) struct Weighed {
    pub(super) weights: Weights,
    pub(super) parameters: Option<Parameters>,
    pub(super) findings: Vec<Finding>,
    /// Bytes read from disk.
    pub(super) bytes_read: u64,
}

/// Weighs the files of `dir`, which reports call `display`.
pub(super) fn weigh(sources: &Sources, dir: &Path, display: &str, reading: &Reading) -> Weighed {
    let mut weighed = Weighed::default();
    let names = match list(dir) {
        Ok(names) => names,
        Err(error) => {
            let message = format!("`{display}` cannot be listed: {}", text::reason(&error));
            weighed
                .findings
                .push(Finding::about(FILE_UNREADABLE, Severity::Error, message, display));
            return weighed;
        }
    };
    let directory = Directory { path: dir, display };
    let index = read_index(sources, &directory, &names, &mut weighed);
    let set = Set::choose(&directory, &names, index);
    if set.shards.is_empty() {
        weigh_pickles(&directory, &names, &mut weighed);
    } else {
        weigh_shards(sources, &directory, &set, reading, &mut weighed);
    }
    weighed
}

/// A directory on disk and in reports.
struct Directory<'d> {
    path: &'d Path,
    display: &'d str,
}

impl Directory<'_> {
    fn display(&self, name: &str) -> String {
        display_in(self.display, name)
    }
}

/// The path that reports print for a file of a directory.
pub(super) fn display_in(directory: &str, name: &str) -> String {
    match directory.trim_end_matches('/') {
        "" | "." => name.to_owned(),
        directory => format!("{directory}/{name}"),
    }
}

/// The names in a directory, sorted; names that are not UTF-8 are none that an engine looks for.
pub(super) fn list(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// A shard index and the text it was read from.
struct Index {
    content: ShardIndex,
    /// Where reports find it, and the text, in which the names of absent shards are shown.
    display: String,
    text: String,
}

fn read_index(
    sources: &Sources,
    directory: &Directory<'_>,
    names: &BTreeSet<String>,
    weighed: &mut Weighed,
) -> Option<Index> {
    let name = index_name(names)?;
    let display = directory.display(name);
    let bytes = match text::bytes(&directory.path.join(name), &display) {
        Ok(bytes) => bytes,
        Err(finding) => {
            weighed.findings.push(*finding);
            return None;
        }
    };
    weighed.bytes_read += bytes.len() as u64;
    if pointer::is_pointer(&bytes) {
        return None;
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match ShardIndex::parse(&text) {
        Ok(content) => Some(Index {
            content,
            display,
            text,
        }),
        Err(error) => {
            weighed
                .findings
                .push(broken_index(sources, &display, text, &error));
            None
        }
    }
}

fn broken_index(sources: &Sources, display: &str, text: String, error: &serde_json::Error) -> Finding {
    let file = sources.add(display, text);
    let at = text::place(&file, 0, error);
    let words = text::without_place(error);
    let label = Label {
        span: file.span(at..at + 1),
        text: words.clone(),
    };
    let message = format!("`{display}` is not a shard index: {words}");
    Finding::at(text::YAML_INVALID, Severity::Error, message, label)
}

/// The safetensors files that make up the checkpoint.
struct Set {
    shards: Vec<String>,
    index: Option<Index>,
}

impl Set {
    /// The files that the index names, as vLLM filters them (0.33 `model_loader/weight_utils.py`,
    /// `filter_duplicate_safetensors_files`); without an index, one family of names, so that a consolidated
    /// or a differently typed copy beside the shards is not counted twice.
    fn choose(directory: &Directory<'_>, names: &BTreeSet<String>, index: Option<Index>) -> Self {
        let content = index.as_ref().map(|index| &index.content);
        let is_there = |name: &str| directory.path.join(name).exists();
        let (shards, by_index) = choose(names, content, is_there);
        Self {
            shards,
            index: index.filter(|_| by_index),
        }
    }
}

/// The names of a checkpoint's safetensors files, and whether the index gave them. `names` are the files beside
/// the config; `is_there` tells of any path below it.
pub(crate) fn choose(
    names: &BTreeSet<String>,
    index: Option<&ShardIndex>,
    is_there: impl Fn(&str) -> bool,
) -> (Vec<String>, bool) {
    let family = family(names);
    let listed: Vec<String> = index
        .iter()
        .flat_map(|index| &index.shards)
        .filter(|name| stays_inside(name))
        .cloned()
        .collect();
    if family.is_empty() || listed.iter().any(|name| is_there(name)) {
        (listed, true)
    } else {
        (with_absent_numbers(family), false)
    }
}

/// The index that transformers and vLLM look for first; Mistral's own has another name.
pub(crate) fn index_name(names: &BTreeSet<String>) -> Option<&str> {
    let known = [
        "model.safetensors.index.json",
        "consolidated.safetensors.index.json",
    ];
    let first = known.into_iter().find(|name| names.contains(*name));
    first.or_else(|| {
        let other = names
            .iter()
            .find(|name| name.ends_with(".safetensors.index.json"));
        other.map(String::as_str)
    })
}

/// An index is input: it must not lead out of its directory.
fn stays_inside(name: &str) -> bool {
    Path::new(name)
        .components()
        .all(|part| matches!(part, PathPart::Normal(_)))
}

/// The first family of names that has a file.
fn family(names: &BTreeSet<String>) -> Vec<String> {
    let one = |name: &str| name == "model.safetensors";
    let numbered = |name: &str| name.starts_with("model-") && numbers(name).is_some();
    let model = |name: &str| name.starts_with("model");
    let consolidated = |name: &str| name.starts_with("consolidated");
    let others = |name: &str| {
        !["adapter", "optimizer", "training", "scheduler"]
            .iter()
            .any(|no| name.starts_with(no))
    };
    let families: [&dyn Fn(&str) -> bool; 5] = [&one, &numbered, &model, &consolidated, &others];
    let safetensors = || names.iter().filter(|name| name.ends_with(".safetensors"));
    families
        .iter()
        .map(|belongs| safetensors().filter(|name| belongs(name)).cloned().collect())
        .find(|family: &Vec<String>| !family.is_empty())
        .unwrap_or_default()
}

/// `model-00002-of-00004.safetensors`: the text before the number, the number's width, and the total.
fn numbers(name: &str) -> Option<(&str, usize, u32)> {
    let (start, total) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (prefix, number) = start.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    Some((
        prefix,
        number.len(),
        total.parse().ok().filter(|total| *total <= 10_000)?,
    ))
}

/// A numbered family with the names that its numbering says must be there.
fn with_absent_numbers(family: Vec<String>) -> Vec<String> {
    let Some((prefix, width, total)) = family.first().and_then(|name| numbers(name)) else {
        return family;
    };
    let all = (1..=total).map(|number| format!("{prefix}-{number:0width$}-of-{total:0width$}.safetensors"));
    all.chain(family.iter().cloned())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// What one file turned out to be.
enum Shard {
    Header(Header),
    Pointer(u64),
    Absent,
    Unusable,
}

/// One file's outcome.
struct Outcome {
    shard: Shard,
    finding: Option<Finding>,
    bytes_read: u64,
}

/// Counts what a reader really hands out.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

fn read_shard(path: &Path, display: &str) -> Outcome {
    let outcome = |shard, finding, bytes_read| Outcome {
        shard,
        finding,
        bytes_read,
    };
    if matches!(std::fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return outcome(Shard::Absent, None, 0);
    }
    let (file, length) = match text::open(path, display) {
        Ok(opened) => opened,
        Err(finding) => return outcome(Shard::Unusable, Some(*finding), 0),
    };
    let mut file = Counted {
        inner: file,
        bytes: 0,
    };
    let (shard, words) = contents(&mut file, length);
    let finding = words.map(|words| {
        let help =
            "download the file again; an interrupted download or a clone without git-lfs leaves such a file";
        Finding::about(
            FILE_UNREADABLE,
            Severity::Error,
            format!("`{display}` {words}"),
            display,
        )
        .with_help(help)
    });
    outcome(shard, finding, file.bytes)
}

/// What a file holds, and what is wrong with it in words that follow its name.
fn contents(file: &mut impl Read, length: u64) -> (Shard, Option<String>) {
    if length <= pointer::MAX_POINTER_BYTES {
        let mut small = Vec::new();
        if let Err(error) = file.take(length).read_to_end(&mut small) {
            return (
                Shard::Unusable,
                Some(format!("cannot be read: {}", text::reason(&error))),
            );
        }
        if pointer::is_pointer(&small) {
            return pointer::size(&small).map_or_else(
                || {
                    (
                        Shard::Unusable,
                        Some("is a git-LFS pointer without a size".to_owned()),
                    )
                },
                |size| (Shard::Pointer(size), None),
            );
        }
        return header(small.as_slice(), length);
    }
    header(file, length)
}

fn header(file: impl Read, length: u64) -> (Shard, Option<String>) {
    match safetensors::read(file, length) {
        Ok(header) => {
            let expected = header.file_bytes();
            let words = (expected != length).then(|| {
                let cut = if length < expected {
                    "is cut off"
                } else {
                    "has bytes after its last tensor"
                };
                format!("{cut}: its header describes {expected} bytes, the file holds {length}")
            });
            (Shard::Header(header), words)
        }
        Err(error) => (Shard::Unusable, Some(error.to_string())),
    }
}

fn weigh_shards(
    sources: &Sources,
    directory: &Directory<'_>,
    set: &Set,
    reading: &Reading,
    weighed: &mut Weighed,
) {
    let read = |name: &String| read_shard(&directory.path.join(name), &directory.display(name));
    let outcomes: Vec<Outcome> = set.shards.par_iter().map(read).collect();
    let (mut tensors, mut absent, mut pointed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut pointers, mut unusable) = (None, false);
    for (name, outcome) in set.shards.iter().zip(outcomes) {
        weighed.findings.extend(outcome.finding);
        weighed.bytes_read += outcome.bytes_read;
        match outcome.shard {
            Shard::Header(header) => tensors.extend(header.tensors),
            Shard::Pointer(size) => {
                pointers = Some(size.saturating_add(pointers.unwrap_or(0)));
                pointed.push(name.as_str());
            }
            Shard::Absent => absent.push(name.as_str()),
            Shard::Unusable => unusable = true,
        }
    }
    // A repository of configs alone has an index and no shards: nothing is amiss with it.
    if !absent.is_empty() && absent.len() < set.shards.len() {
        weighed
            .findings
            .push(incomplete(sources, directory, set, &absent));
    }
    // A repository with pointers alone is a clone that was never meant to serve: their size lines are enough.
    if !tensors.is_empty() {
        weighed
            .findings
            .extend(half_fetched(directory, &pointed, set.shards.len()));
    }
    if unusable || !absent.is_empty() {
        weighed.weights = from_index(set.index.as_ref());
    } else if let Some(bytes) = pointers {
        weighed.weights = with_pointers(&tensors, bytes);
    } else if !tensors.is_empty() {
        let totals = weights::total(&tensors, reading);
        weighed.parameters = totals.parameters.map(|count| Parameters {
            count,
            exact: true,
            how: "tensor shapes",
        });
        weighed.weights = totals.into_weights("safetensors headers");
    }
}

/// Of an incomplete set only the index knows the total; a part of it would pass for all.
fn from_index(index: Option<&Index>) -> Weights {
    let bytes = index.and_then(|index| index.content.total_size);
    Weights {
        bytes,
        exact: bytes.is_some(),
        how: if bytes.is_some() { "safetensors index" } else { "" },
        ..Weights::default()
    }
}

fn with_pointers(tensors: &[Tensor], pointer_bytes: u64) -> Weights {
    let read: u64 = tensors
        .iter()
        .fold(0, |sum, tensor| sum.saturating_add(tensor.bytes));
    Weights {
        bytes: Some(read.saturating_add(pointer_bytes)),
        exact: true,
        how: if tensors.is_empty() {
            "LFS pointer files"
        } else {
            "safetensors headers and LFS pointer files"
        },
        ..Weights::default()
    }
}

/// Real weight files beside pointers to others: the fetch of the large files stopped half-way.
fn half_fetched(directory: &Directory<'_>, pointed: &[&str], total: usize) -> Option<Finding> {
    let first = pointed.first()?;
    let message = format!(
        "{} of {total} weight files are git-LFS pointers, `{first}` for one: engines take them for safetensors and \
         stop with HeaderTooLarge",
        pointed.len()
    );
    let finding = Finding::about(
        LFS_POINTER_WEIGHTS,
        Severity::Error,
        message,
        directory.display(first),
    );
    Some(finding.with_help("`git lfs pull` in this directory, or download the model again"))
}

fn incomplete(sources: &Sources, directory: &Directory<'_>, set: &Set, absent: &[&str]) -> Finding {
    const NAMED: usize = 3;
    let named = absent
        .iter()
        .take(NAMED)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    let more = absent.len().saturating_sub(NAMED);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let total = set.shards.len();
    let message = format!(
        "{} of {total} weight files are absent: {named}{rest}",
        absent.len()
    );
    let help = "fetch the absent files; an engine that loads this directory stops at the first of them";
    let place = set.index.as_ref().and_then(|index| {
        let quoted = format!("\"{}\"", absent.first()?);
        let at = index.text.find(&quoted)?;
        let file = sources.add(index.display.as_str(), index.text.as_str());
        let span = file.span(at + 1..at + quoted.len() - 1);
        let text = "not in this directory".to_owned();
        Some(Label { span, text })
    });
    let finding = match place {
        Some(label) => Finding::at(SHARD_MISSING, Severity::Error, message, label),
        None => Finding::about(SHARD_MISSING, Severity::Error, message, directory.display),
    };
    finding.with_help(help)
}

/// `PyTorch` files hold pickles, which only their own index or their length describe.
fn weigh_pickles(directory: &Directory<'_>, names: &BTreeSet<String>, weighed: &mut Weighed) {
    let index = "pytorch_model.bin.index.json";
    if names.contains(index)
        && let Ok(bytes) = text::bytes(&directory.path.join(index), &directory.display(index))
    {
        weighed.bytes_read += bytes.len() as u64;
        let content = ShardIndex::parse(&String::from_utf8_lossy(&bytes)).ok();
        if let Some(total) = content.and_then(|content| content.total_size) {
            weighed.weights = Weights {
                bytes: Some(total),
                exact: true,
                how: "PyTorch index",
                ..Weights::default()
            };
            return;
        }
    }
    let mut sum: Option<u64> = None;
    for name in pickles(names) {
        let path = directory.path.join(name);
        let Ok((mut file, length)) = text::open(&path, name) else {
            continue;
        };
        let mut bytes = length;
        if length <= pointer::MAX_POINTER_BYTES {
            let mut small = Vec::new();
            weighed.bytes_read += file.read_to_end(&mut small).unwrap_or_default() as u64;
            bytes = pointer::size(&small)
                .filter(|_| pointer::is_pointer(&small))
                .unwrap_or(length);
        }
        sum = Some(sum.unwrap_or_default().saturating_add(bytes));
    }
    if let Some(bytes) = sum {
        weighed.weights = Weights {
            bytes: Some(bytes),
            exact: false,
            how: "lengths of PyTorch files",
            ..Weights::default()
        };
    }
}

/// The first family of `PyTorch` files that has a member.
pub(crate) fn pickles(names: &BTreeSet<String>) -> Vec<&str> {
    let ends = |name: &str, ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let transformers = |name: &str| name.starts_with("pytorch_model") && ends(name, &[".bin"]);
    let original = |name: &str| name.starts_with("consolidated") && ends(name, &[".pth", ".pt"]);
    let other = |name: &str| {
        let state = ["training", "optimizer", "scheduler", "rng_state", "adapter"];
        ends(name, &[".bin", ".pt", ".pth"]) && !state.iter().any(|start| name.starts_with(start))
    };
    let families: [&dyn Fn(&str) -> bool; 3] = [&transformers, &original, &other];
    families
        .iter()
        .map(|belongs| {
            names
                .iter()
                .map(String::as_str)
                .filter(|name| belongs(name))
                .collect()
        })
        .find(|family: &Vec<&str>| !family.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_family_of_names_is_counted_so_copies_are_not() {
        let chosen = |list: &[&str]| family(&names(list)).join(" ");
        assert_eq!(
            chosen(&["consolidated.safetensors", "model.safetensors"]),
            "model.safetensors"
        );
        assert_eq!(
            chosen(&[
                "consolidated.safetensors",
                "model-1-of-1.safetensors",
                "model.fp32.safetensors"
            ]),
            "model-1-of-1.safetensors"
        );
        assert_eq!(
            chosen(&["adapter_model.safetensors", "weights.00.safetensors"]),
            "weights.00.safetensors"
        );
        assert_eq!(chosen(&["adapter_model.safetensors"]), "");
    }

    #[test]
    fn numbered_names_tell_which_of_them_are_absent() {
        let family = vec!["model-00002-of-00003.safetensors".to_owned()];
        assert_eq!(with_absent_numbers(family).len(), 3);
        let family = vec!["model-00002-of-4000000000.safetensors".to_owned()];
        assert_eq!(with_absent_numbers(family).len(), 1);
    }

    #[test]
    fn an_index_never_leads_out_of_its_directory() {
        assert!(stays_inside("a.safetensors") && stays_inside("sub/a.safetensors"));
        assert!(!stays_inside("../a.safetensors") && !stays_inside("/etc/passwd"));
    }

    #[test]
    fn files_of_a_training_run_are_no_weights() {
        let found = names(&["optimizer.pt", "training_args.bin", "pytorch_model.bin"]);
        assert_eq!(pickles(&found), ["pytorch_model.bin"]);
    }
}
