//! Records: the facts of a checkpoint, kept without its files.
//!
//! A row of `catalog/models` and an entry of `oomlint.lock` are the same [`Record`]. It is made from a
//! config.json and, where they could be read, the headers of the weights; it gives the same [`Model`] as loading
//! the checkpoint would. The config is kept as a smaller config.json, so that one reader understands both.

mod fields;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::{self, ConfigFacts};
use super::directory::{self, QUANTIZER_FILES};
use super::safetensors::Tensor;
use super::scheme::Scheme;
use super::{Component, Dims, GgufValue, Model, ModelSource, Parameters, Quantization, Weights};
use super::{gguf, quantization, weights};
use crate::fact::{Fact, Origin};
use crate::finding::Finding;
use crate::source::tree::{Document, Tree};
use crate::source::{FileId, SourceFile};

/// The facts of a checkpoint. Keys that are empty are left out where it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The name on the hub: `org/name`.
    pub name: String,
    /// The commit the facts are of; `None` where only the name is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The branch, tag or commit that manifests ask for and that led to this commit; `None` for the main branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// Where the facts were read: an address, or a file of a public repository and its commit.
    pub source: String,
    /// The fields of config.json that sizing reads; empty for a repository of GGUF files alone.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// How the published weights are quantized; `None` for 16- and 32-bit checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// What of it is stored otherwise than in that format; `None` where all linear layers are stored alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Parameters counted from tensor shapes or published; `None` leaves the count to the config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<RecordedParameters>,
    /// What the weight files hold; `None` where nothing told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<RecordedWeights>,
    /// Other published checkpoints of the same model in other formats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// The GGUF files of the repository by their paths in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gguf: BTreeMap<String, GgufFile>,
    /// Metadata that all its GGUF files share, by key, where there is no config.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gguf_metadata: BTreeMap<String, GgufValue>,
}

/// How many parameters a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedParameters {
    /// The count.
    pub count: u64,
    /// As [`Parameters::exact`].
    pub exact: bool,
}

/// What weight files hold. All counts are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedWeights {
    /// All tensors.
    pub bytes: u64,
    /// As [`Weights::exact`].
    pub exact: bool,
    /// By element type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_dtype: BTreeMap<String, u64>,
    /// By component.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_component: BTreeMap<Component, u64>,
    /// As [`Weights::tied_bytes`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tied_bytes: u64,
}

/// A published checkpoint of the same model in another format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The name on the hub.
    pub name: String,
    /// The format, as reports name it: `fp8`, `awq int4`, `q4_K_M`.
    pub format: String,
    /// Bytes of its weights, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
}

/// A GGUF file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GgufFile {
    /// Bytes of the file; of all parts for the first part of a split file.
    pub bytes: u64,
    /// Its mix of types: `Q4_K_M`, `UD-Q4_K_XL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// What its tensors take, where its header was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<RecordedWeights>,
}

/// What a record is made from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'p> {
    /// The name on the hub.
    pub name: &'p str,
    /// The commit.
    pub revision: Option<&'p str>,
    /// As [`Record::source`].
    pub source: &'p str,
    /// The text of config.json.
    pub config_json: &'p str,
    /// The name and text of the first of [`QUANTIZER_FILES`] that the checkpoint has.
    pub quantizer_file: Option<(&'p str, &'p str)>,
    /// The tensors of *all* weight files, where every header could be read.
    pub tensors: Option<&'p [Tensor]>,
    /// Bytes of all tensors by the shard index, where headers could not be read.
    pub index_bytes: Option<u64>,
}

impl Record {
    /// The record of a checkpoint of which these parts were read.
    ///
    /// # Errors
    /// In words, when the config is no JSON object.
    pub fn from_parts(parts: &Parts<'_>) -> Result<Self, String> {
        let file = text_of_no_run("config.json", parts.config_json);
        let facts = config::read(&file);
        let Value::Object(json) = &facts.json else {
            let finding = facts.findings.first();
            return Err(
                finding.map_or_else(|| "config.json holds no object".to_owned(), |f| f.message.clone())
            );
        };
        let beside = || {
            let (name, text) = parts.quantizer_file?;
            let (_, method) = QUANTIZER_FILES.iter().find(|(known, _)| *known == name)?;
            directory::beside(&text_of_no_run(name, text), method)
        };
        let stated = stated_quantization(&file);
        let section = match &stated {
            Some(_) => directory::section(&facts.json).cloned(),
            None => parts
                .quantizer_file
                .and_then(|(_, text)| directory::section_beside(text)),
        };
        let scheme = section.and_then(|section| Scheme::read(&section, &facts.json));
        let quantization = stated.or_else(beside).map(|fact| fact.value);
        let totals = parts.tensors.map(|tensors| {
            let reading = directory::reading(&facts.json, &facts, quantization.as_ref());
            weights::total(tensors, &reading)
        });
        let parameters = totals.as_ref().and_then(|totals| totals.parameters);
        let weighed = totals.map(|totals| totals.into_weights(""));
        let from_index = || RecordedWeights {
            bytes: parts.index_bytes.unwrap_or(0),
            exact: true,
            ..RecordedWeights::default()
        };
        Ok(Self {
            name: parts.name.to_owned(),
            revision: parts.revision.map(str::to_owned),
            source: parts.source.to_owned(),
            config: fields::kept(json),
            quantization,
            scheme,
            parameters: parameters.map(|count| RecordedParameters { count, exact: true }),
            weights: weighed
                .and_then(|weights| RecordedWeights::of(&weights))
                .or_else(|| parts.index_bytes.map(|_| from_index())),
            ..Self::default()
        })
    }

    /// The record of a loaded checkpoint directory.
    pub fn from_model(model: &Model, name: &str, source: &str) -> Self {
        let config = model.config.as_ref().and_then(Value::as_object);
        let scheme = || {
            let config = model.config.as_ref()?;
            Scheme::read(directory::section(config)?, config)
        };
        let counted = |parameters: &&Parameters| parameters.how != config::COUNTED_FROM;
        Self {
            name: name.to_owned(),
            source: source.to_owned(),
            config: config.map(fields::kept).unwrap_or_default(),
            quantization: model.quantization.as_ref().map(|fact| fact.value.clone()),
            scheme: scheme(),
            parameters: model
                .parameters
                .as_ref()
                .filter(counted)
                .map(|parameters| RecordedParameters {
                    count: parameters.count,
                    exact: parameters.exact,
                }),
            weights: RecordedWeights::of(&model.weights),
            ..Self::default()
        }
    }

    /// The model that the checkpoint's files would give, and what is wrong with its config. `shown_path` is the
    /// path that reports print. Its facts have no places: no file of the run states them.
    pub fn to_model(&self, shown_path: &str, source: ModelSource) -> (Model, Vec<Finding>) {
        if self.config.is_empty() && !self.gguf_metadata.is_empty() {
            let model = gguf::from_record(&self.name, shown_path, source, self.gguf_metadata.clone());
            return (self.weighed(model), Vec::new());
        }
        let text = Value::Object(self.config.clone()).to_string();
        let file = text_of_no_run("config.json", &text);
        let mut facts = config::read(&file);
        if let Some(scheme) = &self.scheme {
            directory::note(scheme, &mut facts);
        }
        let findings = facts
            .findings
            .iter()
            .map(|finding| without_place(finding, shown_path));
        let findings = findings.collect();
        let stated = || stated_quantization(&file).map(|fact| fact.value);
        let quantization = self.quantization.clone().or_else(stated);
        let model = self.weighed(model_of(facts, &self.name, shown_path, source));
        let quantization = quantization.map(recorded);
        (
            Model {
                quantization,
                ..model
            },
            findings,
        )
    }

    /// The model with the weights and parameters that the record states.
    fn weighed(&self, mut model: Model) -> Model {
        let how = match model.source {
            ModelSource::Lock => "oomlint.lock",
            _ => "built-in catalog",
        };
        if let Some(weights) = &self.weights {
            model.weights = Weights {
                bytes: Some(weights.bytes),
                exact: weights.exact,
                how,
                by_dtype: weights.by_dtype.clone(),
                by_component: weights.by_component.clone(),
                tied_bytes: weights.tied_bytes,
            };
        }
        if let Some(RecordedParameters { count, exact }) = self.parameters {
            model.parameters = Some(Parameters { count, exact, how });
        }
        model
    }
}

impl RecordedWeights {
    /// What is recorded of weights whose bytes are known.
    pub fn of(weights: &Weights) -> Option<Self> {
        Some(Self {
            bytes: weights.bytes?,
            exact: weights.exact,
            by_dtype: weights.by_dtype.clone(),
            by_component: weights.by_component.clone(),
            tied_bytes: weights.tied_bytes,
        })
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A text that is read for its values only; spans into it are dropped before anyone could look them up.
fn text_of_no_run(name: &str, text: &str) -> SourceFile {
    SourceFile::new(FileId::from_index(usize::MAX), name, text)
}

fn stated_quantization(config: &SourceFile) -> Option<Fact<Quantization>> {
    let tree = Tree::parse(config);
    let root = tree.documents.first().map(Document::root)?;
    quantization::read(root, None)
}

/// A fact that no file of the run states.
fn recorded<T>(value: T) -> Fact<T> {
    Fact::derived(value, [])
}

/// The same fact without the place in a text that no report can show. Defaults of a class stay what they are.
fn placeless<T>(fact: Fact<T>) -> Fact<T> {
    match fact.origin {
        Origin::Default(_) => fact,
        Origin::At(_) | Origin::Derived(_) => recorded(fact.value),
    }
}

fn without_place(finding: &Finding, path: &str) -> Finding {
    let about = Finding::about(&finding.rule, finding.severity, finding.message.clone(), path);
    match &finding.help {
        Some(help) => about.with_help(help.clone()),
        None => about,
    }
}

fn model_of(facts: ConfigFacts, name: &str, path: &str, source: ModelSource) -> Model {
    let mut layout = facts.layout;
    if let Err(refusal) = &mut layout {
        refusal.span = None;
    }
    Model {
        architecture: facts.architecture.map(placeless),
        model_type: facts.model_type.map(placeless),
        dims: placeless_dims(facts.dims),
        dtype: facts.dtype.map(placeless),
        max_context: facts.max_context.map(placeless),
        longest_context: facts.longest_context.map(placeless),
        census: facts.census,
        parameters: facts.parameters,
        config: Some(facts.json),
        ..Model::bare(name, path, source, layout)
    }
}

fn placeless_dims(dims: Dims) -> Dims {
    Dims {
        num_layers: dims.num_layers.map(placeless),
        hidden_size: dims.hidden_size.map(placeless),
        num_heads: dims.num_heads.map(placeless),
        num_kv_heads: dims.num_kv_heads.map(placeless),
        head_dim: dims.head_dim.map(placeless),
        vocab_size: dims.vocab_size.map(placeless),
        sliding_window: dims.sliding_window.map(placeless),
        num_experts: dims.num_experts.map(placeless),
    }
}

#[cfg(test)]
mod tests;
