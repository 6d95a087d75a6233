//! Models: what a checkpoint says of itself, read from headers only.
//!
//! In: a directory with config.json, or a GGUF file. Out: a [`Model`]: dimensions with the places that state
//! them, the KV [`Layout`](crate::memory::layout::Layout) or the reason there is none, parameters, weight
//! bytes. Knows nothing of machines or engines.

pub mod advise;
pub mod catalog;
pub mod census;
pub mod component;
pub mod config;
pub mod directory;
pub mod gguf;
pub mod index;
pub(crate) mod layout;
pub mod name;
pub(crate) mod parameters;
pub mod pointer;
pub mod quantization;
pub mod record;
pub mod safetensors;
pub mod scheme;
pub(crate) mod shards;
mod text;
pub mod weights;

use std::collections::BTreeMap;

use crate::fact::Fact;
use crate::memory::layout::Layout;
use crate::source::Span;

pub use quantization::Quantization;

/// Where a model was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelSource {
    /// A directory with config.json.
    Directory,
    /// A GGUF file.
    Gguf,
    /// The built-in catalog.
    Catalog,
    /// The local hub cache.
    HubCache,
    /// `oomlint.lock`.
    Lock,
}

/// A checkpoint.
#[derive(Debug, Clone)]
pub struct Model {
    /// How reports call it: the directory's or file's name.
    pub name: String,
    /// Path of the directory or file as reports print it.
    pub path: String,
    /// Where it was found.
    pub source: ModelSource,
    /// The class that loads it: `architectures[0]`, or GGUF `general.architecture`.
    pub architecture: Option<Fact<String>>,
    /// `model_type` of the text model.
    pub model_type: Option<Fact<String>>,
    /// Dimensions.
    pub dims: Dims,
    /// Element type of the unquantized weights.
    pub dtype: Option<Fact<Dtype>>,
    /// Longest context in tokens the model was made for, as vLLM derives it.
    pub max_context: Option<Fact<u64>>,
    /// Longest context in tokens that vLLM lets anyone ask for; larger than `max_context` under LongRoPE only.
    pub longest_context: Option<Fact<u64>>,
    /// How the published weights are quantized; `None` for 16- and 32-bit checkpoints.
    pub quantization: Option<Fact<Quantization>>,
    /// What its layers keep, or why that cannot be said.
    pub layout: Result<Layout, Refusal>,
    /// Parameters.
    pub parameters: Option<Parameters>,
    /// The tensors in groups, where the family's formula is known.
    pub census: Option<census::Census>,
    /// Weights.
    pub weights: Weights,
    /// Metadata of a GGUF file that the llama.cpp allocator needs.
    pub gguf: Option<GgufFacts>,
    /// The whole of config.json (as JSON) for engines that read fields of their own; `None` for GGUF.
    pub config: Option<serde_json::Value>,
    /// What was assumed to know it by its name; scenarios repeat it.
    pub assumptions: Vec<String>,
    /// Bytes read from disk to know all this.
    pub bytes_read: u64,
}

impl Model {
    /// Bytes of the weights by component: as read from headers, else as config.json says they must be. Empty where
    /// neither tells.
    pub fn weights_by_component(&self) -> BTreeMap<Component, u64> {
        match &self.census {
            Some(census) if self.weights.by_component.is_empty() => {
                let format = self.quantization.as_ref().map(|fact| &fact.value);
                let dtype = self.dtype.as_ref().map_or(Dtype::Bfloat16, |dtype| dtype.value);
                census.published_by_component(format, dtype)
            }
            _ => self.weights.by_component.clone(),
        }
    }

    /// Bytes of the published weights, and whether they are exact: those of the files, else those that config.json
    /// says they must take.
    pub fn published_bytes(&self) -> Option<(u64, bool)> {
        if let Some(bytes) = self.weights.bytes {
            return Some((bytes, self.weights.exact));
        }
        let computed = self.weights_by_component();
        let sum = computed
            .values()
            .fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        (sum > 0).then_some((sum, false))
    }

    /// A model of which only the name, the place and the layout are known.
    pub fn bare(
        name: impl Into<String>,
        path: impl Into<String>,
        source: ModelSource,
        layout: Result<Layout, Refusal>,
    ) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            source,
            architecture: None,
            model_type: None,
            dims: Dims::default(),
            dtype: None,
            max_context: None,
            longest_context: None,
            census: None,
            quantization: None,
            layout,
            parameters: None,
            weights: Weights::default(),
            gguf: None,
            config: None,
            assumptions: Vec::new(),
            bytes_read: 0,
        }
    }
}

/// Counts from the config of the text model. `None` where neither the file nor the class default tells.
#[derive(Debug, Clone, Default)]
pub struct Dims {
    /// Transformer layers.
    pub num_layers: Option<Fact<u64>>,
    /// Width of the residual stream.
    pub hidden_size: Option<Fact<u64>>,
    /// Attention heads.
    pub num_heads: Option<Fact<u64>>,
    /// KV heads.
    pub num_kv_heads: Option<Fact<u64>>,
    /// Elements of one head.
    pub head_dim: Option<Fact<u64>>,
    /// Tokens of the vocabulary.
    pub vocab_size: Option<Fact<u64>>,
    /// Sliding window in tokens, if any layer has one.
    pub sliding_window: Option<Fact<u64>>,
    /// Routed experts, for mixture-of-experts models.
    pub num_experts: Option<Fact<u64>>,
}

/// Why a layout cannot be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence: what is missing or not understood.
    pub reason: String,
    /// Where, if a file has such a place.
    pub span: Option<Span>,
}

/// How many parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The count.
    pub count: u64,
    /// True when counted from tensor shapes or by a formula known to be exact for the family.
    pub exact: bool,
    /// How it was counted, for people: "tensor shapes", "config.json".
    pub how: &'static str,
}

/// What the weights take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    /// Bytes of all tensors as published; `None` when nothing tells.
    pub bytes: Option<u64>,
    /// True when the bytes come from headers, an index or pointer files rather than from a parameter count.
    pub exact: bool,
    /// How the bytes were found, for people: "safetensors headers", "LFS pointer files", ...
    pub how: &'static str,
    /// Bytes by element type as the header names it (`BF16`, `F8_E4M3`, `Q4_K`, ...), where headers were read.
    pub by_dtype: BTreeMap<String, u64>,
    /// Bytes by component, where tensor names were read.
    pub by_component: BTreeMap<Component, u64>,
    /// Of `bytes`, those of an output projection that repeats tied embeddings: on disk, never loaded.
    pub tied_bytes: u64,
}

/// What a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// Input embeddings.
    Embedding,
    /// Output projection.
    LmHead,
    /// Attention and its norms.
    Attention,
    /// Dense feed-forward layers.
    Mlp,
    /// Routed experts.
    Experts,
    /// Recurrent and convolution layers.
    Recurrent,
    /// Vision and audio towers and their projectors.
    Multimodal,
    /// Next-token-prediction layers, loaded only for speculative decoding.
    NextN,
    /// All else.
    Other,
}

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit float.
    Float32,
    /// IEEE half.
    Float16,
    /// bfloat16.
    Bfloat16,
    /// 8-bit float.
    Float8,
    /// 8-bit integer.
    Int8,
}

impl Dtype {
    /// Bits of one element.
    pub fn bits(self) -> u64 {
        match self {
            Self::Float32 => 32,
            Self::Float16 | Self::Bfloat16 => 16,
            Self::Float8 | Self::Int8 => 8,
        }
    }

    /// The name in config.json and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Float8 => "float8",
            Self::Int8 => "int8",
        }
    }

    /// Reads a config's or a tensor's spelling (`torch.bfloat16`, `BF16`, `float16`, `half`, ...).
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.trim().trim_start_matches("torch.").to_ascii_lowercase();
        Some(match name.as_str() {
            "float32" | "float" | "fp32" | "f32" => Self::Float32,
            "float16" | "half" | "fp16" | "f16" => Self::Float16,
            "bfloat16" | "bf16" => Self::Bfloat16,
            "float8_e4m3fn" | "float8_e5m2" | "f8_e4m3" | "f8_e5m2" | "fp8" => Self::Float8,
            "int8" | "i8" => Self::Int8,
            _ => return None,
        })
    }
}

/// GGUF metadata by key, and the tensors' totals.
#[derive(Debug, Clone, Default)]
pub struct GgufFacts {
    /// Scalar and array metadata; long arrays (vocabularies) are left out.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Tensors in the file.
    pub num_tensors: u64,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GgufValue {
    /// Any integer type.
    Integer(i128),
    /// Any float type.
    Float(f64),
    /// A flag.
    Bool(bool),
    /// Text.
    Text(String),
    /// An array of at most a few thousand values.
    Array(Vec<GgufValue>),
    /// The length of an array too long to keep.
    LongArray(u64),
}
