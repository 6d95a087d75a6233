//! One model from the hub: the record of a repository at a commit.
//!
//! In: a reference. Out: a [`Record`], made from config.json and the headers of all weight files. A repository of
//! GGUF files alone is recorded with the sizes of all of them, and with the headers of those that are asked for.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::answer::{DEFAULT_QUANTIZATION, pick};
use super::name::{FileWish, is_gguf};
use super::remote::{self, RemoteFile};
use super::split::GgufSet;
use crate::hub::{Hub, Revision, Subject};
use crate::model::directory::QUANTIZER_FILES;
use crate::model::index::ShardIndex;
use crate::model::record::{GgufFile, Parts, Record, RecordedParameters, RecordedWeights};
use crate::model::safetensors::Tensor;
use crate::model::{GgufValue, Model, gguf, shards};
use crate::source::SourceFile;

/// Bytes of a shard index at most; the largest known, of 160 shards, has 10 MB.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// A repository at a commit, while its record is made.
pub(super) struct Fetch<'h> {
    hub: &'h Hub,
    revision: &'h Revision,
    /// The repository at the commit.
    at: Subject,
    /// The files beside config.json.
    names: BTreeSet<String>,
}

impl<'h> Fetch<'h> {
    pub(super) fn new(hub: &'h Hub, repository: &str, revision: &'h Revision) -> Self {
        let names = revision.files.keys().filter(|name| !name.contains('/'));
        Self {
            hub,
            revision,
            at: Subject::revision(repository, &revision.commit),
            names: names.cloned().collect(),
        }
    }

    /// The record. `old` is one of the same commit, whose headers need not be read again.
    pub(super) fn record(&self, wishes: &BTreeSet<FileWish>, old: Option<&Record>) -> Result<Record, String> {
        let sets = GgufSet::all(&self.revision.files);
        if let Some(wish) = wishes.iter().next().filter(|_| sets.is_empty()) {
            return Err(format!(
                "{}: there is no GGUF file {wish}, nor any other",
                self.at.repository
            ));
        }
        let has_config = self.names.contains("config.json");
        let safetensors = has_config && self.names.iter().any(|name| name.contains(".safetensors"));
        if !has_config && sets.is_empty() {
            return Err(format!(
                "{} has neither a config.json nor GGUF files, so nothing in it says what serving it takes",
                self.at.repository
            ));
        }
        // A repository can hold both; without a wish its GGUF files are what counts only where they are all.
        let mut record = if safetensors || sets.is_empty() {
            self.config_record()?
        } else {
            Record {
                name: self.at.repository.clone(),
                revision: Some(self.revision.commit.clone()),
                source: "hub: the headers of GGUF files".to_owned(),
                ..Record::default()
            }
        };
        let all_are_gguf = !safetensors && !sets.is_empty();
        if all_are_gguf || !wishes.is_empty() {
            self.add_gguf(&mut record, &sets, wishes, old)?;
        }
        Ok(record)
    }

    /// What the weight files hold: by their headers, else by their index, else by their lengths.
    fn weighed(&self) -> Result<Weighed, String> {
        let index = self.index()?;
        let is_there = |name: &str| self.revision.files.contains_key(name);
        let (shards, by_index) = shards::choose(&self.names, index.as_ref(), is_there);
        if !shards.is_empty() && shards.iter().all(|name| is_there(name)) {
            let tensors = self.tensors(&shards)?;
            return Ok(Weighed {
                read: format!(" and the headers of {}", count(shards.len(), "safetensors file")),
                tensors: Some(tensors),
                bytes: None,
            });
        }
        let total = index.filter(|_| by_index).and_then(|index| index.total_size);
        let bytes = match total {
            Some(total) => Some((total, true)),
            None => self.pickles()?,
        };
        let read = match bytes {
            Some((_, true)) => " and the index of the weight files",
            Some((_, false)) => " and the lengths of PyTorch files",
            None => "",
        };
        Ok(Weighed {
            read: read.to_owned(),
            tensors: None,
            bytes,
        })
    }

    /// Bytes of the `PyTorch` files: by their index, else as long as they are, which is not quite what they hold.
    fn pickles(&self) -> Result<Option<(u64, bool)>, String> {
        const INDEX: &str = "pytorch_model.bin.index.json";
        if self.names.contains(INDEX)
            && let Some(total) = self.read_index(INDEX)?.total_size
        {
            return Ok(Some((total, true)));
        }
        let lengths = shards::pickles(&self.names).into_iter();
        let lengths = lengths.filter_map(|name| self.revision.files.get(name).copied().flatten());
        let sum = lengths.fold(0, u64::saturating_add);
        Ok((sum > 0).then_some((sum, false)))
    }

    /// The record of config.json and the weight files.
    fn config_record(&self) -> Result<Record, String> {
        // First of all files: a model that is gated shows it here, at the cost of one request.
        let config = self.text("config.json", SourceFile::MAX_BYTES)?;
        let weighed = self.weighed()?;
        let beside = QUANTIZER_FILES
            .iter()
            .find(|(name, _)| self.names.contains(*name));
        let beside = beside
            .map(|(name, _)| Ok::<_, String>((*name, self.text(name, SourceFile::MAX_BYTES)?)))
            .transpose()?;
        let source = format!("hub: config.json{}", weighed.read);
        let parts = Parts {
            name: &self.at.repository,
            revision: Some(&self.revision.commit),
            source: &source,
            config_json: &config,
            quantizer_file: beside.as_ref().map(|(name, text)| (*name, text.as_str())),
            tensors: weighed.tensors.as_deref(),
            index_bytes: weighed.bytes.map(|(bytes, _)| bytes),
        };
        let record = Record::from_parts(&parts);
        let mut record = record.map_err(|why| format!("{}: {why}", self.at.file("config.json")))?;
        if let (Some(weights), Some((_, exact))) = (&mut record.weights, weighed.bytes) {
            weights.exact = exact;
        }
        Ok(record)
    }

    fn index(&self) -> Result<Option<ShardIndex>, String> {
        let name = shards::index_name(&self.names);
        name.map(|name| self.read_index(name)).transpose()
    }

    fn read_index(&self, name: &str) -> Result<ShardIndex, String> {
        let text = self.text(name, MAX_INDEX_BYTES)?;
        ShardIndex::parse(&text).map_err(|_| format!("{} is not a shard index", self.at.file(name)))
    }

    fn text(&self, name: &str, most: u64) -> Result<String, String> {
        let file = self.at.file(name);
        let size = self.revision.files.get(name).copied().flatten();
        let bytes = self
            .hub
            .text(&file, size, most)
            .map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|_| format!("{file} is not UTF-8 text"))
    }

    /// The tensors of all shards.
    fn tensors(&self, shards: &[String]) -> Result<Vec<Tensor>, String> {
        let read = |name: &String| {
            let size = self.revision.files.get(name).copied().flatten();
            remote::safetensors_header(self.hub, &self.at.file(name), size)
        };
        let headers: Result<Vec<_>, String> = shards.par_iter().map(read).collect();
        Ok(headers?.into_iter().flat_map(|header| header.tensors).collect())
    }

    /// Adds all GGUF files with their sizes, and what the headers of the wanted ones say.
    fn add_gguf(
        &self,
        record: &mut Record,
        sets: &BTreeMap<String, GgufSet>,
        wishes: &BTreeSet<FileWish>,
        old: Option<&Record>,
    ) -> Result<(), String> {
        let mut files = BTreeMap::new();
        for (path, set) in sets {
            let known = old.and_then(|old| old.gguf.get(path));
            let file = GgufFile {
                bytes: set.bytes(),
                quantization: set.quantization.clone(),
                weights: known.and_then(|known| known.weights.clone()),
            };
            files.insert(path.clone(), file);
        }
        let wanted = self.wanted(sets, wishes)?;
        let models: Result<Vec<_>, String> = wanted
            .par_iter()
            .map(|(path, set)| Ok((*path, self.gguf_model(path, set)?)))
            .collect();
        let models = models?;
        for (path, model) in &models {
            if let Some(file) = files.get_mut(*path) {
                file.weights = RecordedWeights::of(&model.weights);
                let mix = model.quantization.as_ref();
                let mix = mix.map(|fact| fact.value.method.to_ascii_uppercase());
                file.quantization = file.quantization.take().or(mix);
            }
        }
        let (_, first) = models.first().ok_or("there is no GGUF file")?;
        let metadata = first.gguf.as_ref().map(|facts| shared(&facts.metadata));
        let count = first.parameters.as_ref().map(|parameters| RecordedParameters {
            count: parameters.count,
            exact: parameters.exact,
        });
        record.parameters = record.parameters.or(count);
        record.gguf = files;
        record.gguf_metadata = metadata.unwrap_or_default();
        Ok(())
    }

    /// The files whose headers are to be read: those wished for, else the one llama.cpp would take.
    fn wanted<'s>(
        &self,
        sets: &'s BTreeMap<String, GgufSet>,
        wishes: &BTreeSet<FileWish>,
    ) -> Result<Vec<(&'s str, &'s GgufSet)>, String> {
        let default = FileWish::Quantization(DEFAULT_QUANTIZATION.to_owned());
        let by_default = || find(sets, &default).or_else(|| sets.iter().next());
        let named = |wish: &FileWish| {
            find(sets, wish).ok_or_else(|| {
                let known: BTreeSet<&str> = sets
                    .values()
                    .filter_map(|set| set.quantization.as_deref())
                    .collect();
                let known: Vec<&str> = known.into_iter().collect();
                let repository = &self.at.repository;
                format!(
                    "{repository} has no GGUF file {wish}; it has {}",
                    known.join(", ")
                )
            })
        };
        let found: BTreeMap<_, _> = if wishes.is_empty() {
            by_default().into_iter().collect()
        } else {
            wishes.iter().map(named).collect::<Result<_, String>>()?
        };
        Ok(found
            .into_iter()
            .map(|(path, set)| (path.as_str(), set))
            .collect())
    }

    /// Reads the headers of all parts of a file.
    fn gguf_model(&self, path: &str, set: &GgufSet) -> Result<Model, String> {
        let file = self.at.file(path);
        let parts: Option<Vec<_>> = set
            .parts
            .iter()
            .map(|(path, bytes)| Some((path, (*bytes)?)))
            .collect();
        let parts = parts.ok_or_else(|| format!("{file}: the hub does not tell its size"))?;
        if parts.is_empty() {
            return Err(format!("{file}: parts of it are absent from the repository"));
        }
        let mut readers: Vec<_> = parts
            .into_iter()
            .map(|(path, bytes)| RemoteFile::new(self.hub, self.at.file(path), bytes))
            .collect();
        let sized = readers.iter_mut().map(|reader| {
            let bytes = reader.file_bytes;
            (reader, bytes)
        });
        let model = gguf::read_parts(path, sized);
        let failure = readers.iter_mut().find_map(|reader| reader.failure.take());
        match failure {
            Some(error) => Err(error.to_string()),
            None => model.map_err(|why| format!("{file} cannot be read: {why}")),
        }
    }
}

fn find<'s>(sets: &'s BTreeMap<String, GgufSet>, wish: &FileWish) -> Option<(&'s String, &'s GgufSet)> {
    sets.iter().find(|(path, set)| match wish {
        FileWish::Path(wished) => *path == wished || set.parts.iter().any(|(part, _)| part == wished),
        FileWish::Quantization(wished) => set
            .quantization
            .as_ref()
            .is_some_and(|name| name.eq_ignore_ascii_case(wished)),
    })
}

/// True when a record knows a wished-for file and its tensors.
pub(super) fn holds(record: &Record, wish: &FileWish) -> bool {
    pick(record, Some(wish)).is_some_and(|(_, file)| file.weights.is_some())
}

/// What the weight files of a checkpoint hold.
struct Weighed {
    /// What was read for it, in words that follow `config.json`.
    read: String,
    tensors: Option<Vec<Tensor>>,
    /// Bytes where there are no tensors, and whether they are exact.
    bytes: Option<(u64, bool)>,
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The metadata that sizing reads and that all files of a repository share: the dimensions, and how many tokens
/// the vocabulary has. Numbers that JSON does not know are left out; no dimension is one.
fn shared(metadata: &BTreeMap<String, GgufValue>) -> BTreeMap<String, GgufValue> {
    const VOCABULARY: &str = "tokenizer.ggml.tokens";
    let arch = match metadata.get("general.architecture") {
        Some(GgufValue::Text(arch)) => format!("{arch}."),
        _ => String::new(),
    };
    let is_kept = |key: &str| {
        key == "general.architecture" || key == VOCABULARY || (!arch.is_empty() && key.starts_with(&arch))
    };
    let kept = metadata
        .iter()
        .filter(|(key, value)| is_kept(key) && is_finite(value));
    kept.map(|(key, value)| match value {
        GgufValue::Array(tokens) if key == VOCABULARY => {
            (key.clone(), GgufValue::LongArray(tokens.len() as u64))
        }
        _ => (key.clone(), value.clone()),
    })
    .collect()
}

fn is_finite(value: &GgufValue) -> bool {
    match value {
        GgufValue::Float(number) => number.is_finite(),
        GgufValue::Array(values) => values.iter().all(is_finite),
        _ => true,
    }
}

/// True for files that go with a model and are none: projectors, importance matrices.
pub(super) fn is_companion(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    !is_gguf(&name) || name.starts_with("mmproj") || name.contains("imatrix")
}
