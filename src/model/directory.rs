//! Checkpoint directories: config.json, what stands beside it, and the headers of the weights.
//!
//! In: a directory. Out: a [`Model`] with every fact that the files tell, or findings that say why there is
//! none. Never reads tensor data: a checkpoint of 100 GB costs its headers.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde_json::Value;

use super::component::ExtraLayers;
use super::config::{self, ConfigFacts};
use super::quantization::{self, Quantization};
use super::scheme::Scheme;
use super::shards::{self, display_in};
use super::text::{self, CONFIG_INCOMPLETE, FILE_UNREADABLE, JsonText};
use super::weights::{Packing, Packings, Reading};
use super::{Model, ModelSource};
use crate::fact::Fact;
use crate::finding::{Finding, Severity};
use crate::source::tree::{Document, Tree};
use crate::source::{SourceFile, Sources};

/// A model, where there is one, and what is wrong with its files.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The model; `None` when config.json is absent, broken, or not one of a model.
    pub model: Option<Model>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Keys of which a model's config.json has at least one: its class, its family, or its number of layers.
const MODEL_KEYS: &[&str] = &[
    "architectures",
    "model_type",
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
];

/// Keys under which a config nests the model that generates text.
const NESTED: &[&str] = &["text_config", "llm_config", "language_config", "thinker_config"];

/// Files that quantizers write beside a silent config.json, and the method of each.
pub const QUANTIZER_FILES: &[(&str, &str)] = &[
    ("hf_quant_config.json", "modelopt"),
    ("quantize_config.json", "gptq"),
    ("quant_config.json", "awq"),
];

/// True for a directory whose config.json is one of a model, as far as a glance tells: weights beside it, or a
/// model's key in its first 64 KiB. [`load`] decides.
pub fn is_model_directory(dir: &Path) -> bool {
    const GLANCE_BYTES: u64 = 64 << 10;
    let path = dir.join("config.json");
    if !path.is_file() {
        return false;
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(GLANCE_BYTES).read_to_end(&mut start));
    let text = String::from_utf8_lossy(&start);
    (read.is_ok() && MODEL_KEYS.iter().any(|key| text.contains(&format!("\"{key}\"")))) || has_weights(dir)
}

fn has_weights(dir: &Path) -> bool {
    let ends = [".safetensors", ".safetensors.index.json"];
    let is_weights =
        |name: &String| name.starts_with("pytorch_model") || ends.iter().any(|end| name.ends_with(end));
    shards::list(dir).is_ok_and(|names| names.iter().any(is_weights))
}

/// Reads the checkpoint in `dir`, which reports call `display`. A config.json without any of a model's keys is
/// not a model: neither model nor finding.
pub fn load(sources: &Sources, dir: &Path, display: &str) -> Loaded {
    let mut visit = Visit {
        sources,
        dir,
        display,
        findings: Vec::new(),
        bytes_read: 0,
    };
    let model = visit.model();
    Loaded {
        model,
        findings: visit.findings,
    }
}

/// A directory while it is read: what was found wrong, and what it cost.
struct Visit<'v> {
    sources: &'v Sources,
    dir: &'v Path,
    display: &'v str,
    findings: Vec<Finding>,
    bytes_read: u64,
}

impl Visit<'_> {
    fn model(&mut self) -> Option<Model> {
        if let Some(finding) =
            no_directory(self.dir, self.display).or_else(|| no_config(self.dir, self.display))
        {
            self.findings.push(finding);
            return None;
        }
        let config = self.read("config.json")?;
        let json = config.json.as_ref()?;
        if !names_a_model(json) {
            self.findings.clear();
            return None;
        }
        let (quantization, section) = self.quantization(&config).unzip();
        let mut facts = config::read(&config.file);
        // As vLLM does: what a file beside it says counts as config.json's own.
        if let (Some(Some(section)), Some(config)) = (&section, facts.json.as_object_mut()) {
            let in_text = config.get("text_config").is_some_and(states_quantization);
            if !in_text && !config.contains_key("quantization_config") {
                config.insert("quantization_config".to_owned(), section.clone());
            }
        }
        if let Some(scheme) = section.flatten().and_then(|section| Scheme::read(&section, json)) {
            note(&scheme, &mut facts);
        }
        let reading = reading(json, &facts, quantization.as_ref().map(|fact| &fact.value));
        let weighed = shards::weigh(self.sources, self.dir, self.display, &reading);
        self.bytes_read = self.bytes_read.saturating_add(weighed.bytes_read);
        self.findings.extend(facts.findings);
        self.findings.extend(weighed.findings);
        Some(Model {
            name: name(self.dir, self.display),
            path: self.display.to_owned(),
            source: ModelSource::Directory,
            architecture: facts.architecture,
            model_type: facts.model_type,
            dims: facts.dims,
            dtype: facts.dtype,
            max_context: facts.max_context,
            longest_context: facts.longest_context,
            census: facts.census,
            quantization,
            layout: facts.layout,
            parameters: weighed.parameters.or(facts.parameters),
            weights: weighed.weights,
            gguf: None,
            config: Some(facts.json),
            assumptions: Vec::new(),
            bytes_read: self.bytes_read,
        })
    }

    /// One JSON text of the directory; what is wrong with it is kept.
    fn read(&mut self, name: &str) -> Option<JsonText> {
        match text::read(
            self.sources,
            &self.dir.join(name),
            &display_in(self.display, name),
        ) {
            Ok(mut text) => {
                self.bytes_read = self.bytes_read.saturating_add(text.bytes);
                self.findings.append(&mut text.findings);
                Some(text)
            }
            Err(finding) => {
                self.findings.push(*finding);
                None
            }
        }
    }

    /// The published quantization and the section that states it, from config.json or, where that is silent, from the files that quantizers
    /// write beside it.
    fn quantization(&mut self, config: &JsonText) -> Option<(Fact<Quantization>, Option<Value>)> {
        if config.json.as_ref().is_some_and(states_quantization) {
            let tree = Tree::parse(&config.file);
            let root = tree.documents.first().map(Document::root);
            if let Some(found) = root.and_then(|root| quantization::read(root, None)) {
                let section = config.json.as_ref().and_then(section);
                return Some((found, section.cloned()));
            }
        }
        let mut there = QUANTIZER_FILES
            .iter()
            .filter(|(name, _)| self.dir.join(name).exists());
        there.find_map(|(name, method)| {
            let text = self.read(name)?;
            let found = beside(&text.file, method)?;
            Some((found, text.json.map(within)))
        })
    }
}

/// The directory's own name, also for `.` and `..`.
fn name(dir: &Path, display: &str) -> String {
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    last(Path::new(display))
        .or_else(|| last(&dir.canonicalize().ok()?))
        .unwrap_or_else(|| display.to_owned())
}

fn no_directory(dir: &Path, display: &str) -> Option<Finding> {
    let words = match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => return None,
        Ok(_) => "is a file; expected a model directory".to_owned(),
        Err(error) => format!("cannot be read: {}", text::reason(&error)),
    };
    let message = format!("`{display}` {words}");
    Some(Finding::about(FILE_UNREADABLE, Severity::Error, message, display))
}

/// A link that leads nowhere is there and cannot be read; only a name that is not there is absent.
fn no_config(dir: &Path, display: &str) -> Option<Finding> {
    let error = std::fs::symlink_metadata(dir.join("config.json")).err()?;
    if error.kind() != ErrorKind::NotFound {
        return None;
    }
    let names = shards::list(dir).unwrap_or_default();
    let gguf = names
        .iter()
        .find(|name| name.to_ascii_lowercase().ends_with(".gguf"));
    let help = match gguf {
        Some(name) => format!("name the GGUF file itself: `{}`", display_in(display, name)),
        None => "a model directory holds the config.json that its weights were published with".to_owned(),
    };
    let message = format!("`{display}` has no config.json");
    Some(Finding::about(CONFIG_INCOMPLETE, Severity::Error, message, display).with_help(help))
}

/// The part of a config that describes the text model, and the whole.
fn levels(json: &Value) -> impl Iterator<Item = &Value> {
    let nested = NESTED.iter().filter_map(|key| json.get(key));
    let deeper = json
        .get("thinker_config")
        .and_then(|thinker| thinker.get("text_config"));
    deeper.into_iter().chain(nested).chain([json])
}

fn names_a_model(json: &Value) -> bool {
    levels(json).any(|level| {
        MODEL_KEYS
            .iter()
            .any(|key| level.get(key).is_some_and(|value| !value.is_null()))
    })
}

/// Most configs state none: they need no tree here.
fn states_quantization(json: &Value) -> bool {
    let keys = ["quantization_config", "compression_config", "quantization"];
    levels(json).any(|level| keys.iter().any(|key| level.get(key).is_some()))
}

/// Notes what the checkpoint stores otherwise than in its one format.
pub(super) fn note(scheme: &Scheme, facts: &mut ConfigFacts) {
    let Some(census) = &mut facts.census else { return };
    let width = facts.dims.hidden_size.as_ref().map_or(0, |fact| fact.value);
    let experts_beside = facts
        .model_type
        .as_ref()
        .is_some_and(|kind| kind.value.starts_with("gemma4"));
    census.note(scheme, width, experts_beside);
}

/// The section of config.json that states the quantization.
pub(super) fn section(json: &Value) -> Option<&Value> {
    let keys = ["quantization_config", "compression_config"];
    levels(json).find_map(|level| keys.iter().find_map(|key| level.get(key)))
}

/// The section that the text of a file beside config.json states.
pub(super) fn section_beside(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().map(within)
}

fn within(beside: Value) -> Value {
    beside.get("quantization").cloned().unwrap_or(beside)
}

pub(super) fn beside(file: &SourceFile, method: &str) -> Option<Fact<Quantization>> {
    let tree = Tree::parse(file);
    let root = tree.documents.first()?.root();
    quantization::read_section(root.get("quantization").unwrap_or(root), method)
}

/// What the config says of how its tensors are to be read.
pub(super) fn reading(json: &Value, facts: &ConfigFacts, quantization: Option<&Quantization>) -> Reading {
    let first = facts
        .dims
        .num_layers
        .as_ref()
        .map_or(u64::MAX, |layers| layers.value);
    let count = |key| levels(json).find_map(|level| level.get(key)?.as_u64());
    let extra = [
        "num_nextn_predict_layers",
        "mtp_num_hidden_layers",
        "num_mtp_modules",
    ];
    let tied = levels(json).find_map(|level| level.get("tie_word_embeddings")?.as_bool());
    Reading {
        extra_layers: ExtraLayers {
            first,
            count: extra.into_iter().find_map(count).unwrap_or(0),
        },
        tied: tied.unwrap_or(false),
        packings: packings(json, quantization),
    }
}

/// The packings of the published quantization, of all compressed-tensors groups, and of mlx-lm's overrides.
fn packings(json: &Value, quantization: Option<&Quantization>) -> Packings {
    let mut packings = Packings::default();
    packings.general.extend(quantization.and_then(|quantization| {
        Some(Packing {
            bits: whole_bits(quantization.bits)?,
            group_size: quantization.group_size,
        })
    }));
    for level in levels(json) {
        for section in ["quantization_config", "quantization"]
            .iter()
            .filter_map(|key| level.get(key)?.as_object())
        {
            let groups = section
                .get("config_groups")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            packings
                .general
                .extend(groups.filter_map(|(_, group)| packing(group.get("weights")?, "num_bits")));
            let modules = section
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), packing(value, "bits")?)));
            packings.by_module.extend(modules);
        }
    }
    packings
}

fn packing(value: &Value, bits: &str) -> Option<Packing> {
    Some(Packing {
        bits: value.get(bits)?.as_u64()?,
        group_size: value.get("group_size").and_then(Value::as_u64),
    })
}

fn whole_bits(bits: f64) -> Option<u64> {
    (1..=16)
        .find(|whole: &u32| (f64::from(*whole) - bits).abs() < f64::EPSILON)
        .map(u64::from)
}

#[cfg(test)]
mod tests;
