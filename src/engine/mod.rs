//! Serving engines: what each reserves for a model on a machine.
//!
//! One file an engine; each gives a [`Plan`] for one deployment of one model on one machine, and the plan
//! answers for any context, batch and KV type without reading anything again. Flags, defaults and KV types are
//! data in `catalog/engines`; the arithmetic is in the engine's file. Sources: `docs/engines.md`.

pub mod architectures;
pub mod args;
mod defaults;
#[cfg(test)]
mod fixtures;
pub mod flags;
pub mod kv_type;
pub mod llama_cpp;
pub mod mlx;
pub mod ollama;
pub mod overheads;
pub mod refusals;
pub mod releases;
pub mod settings;
pub mod sglang;
pub mod sharding;
pub mod tensorrt_llm;
pub mod tgi;
mod token_pool;
pub mod transformers;
pub mod vllm;

use crate::machine::Machine;
use crate::model::{Model, Quantization};

pub use defaults::{
    DEFAULT_CONTEXT, accelerators_used, default_context, default_kv_type, plan, publishes_fp8_cache,
    world_size,
};
pub use flags::{default_of, kv_types};
pub use kv_type::KvType;
pub use settings::Settings;

/// The engines that oomlint knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// mlx-lm and other runtimes on MLX.
    Mlx,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// llama.cpp.
    LlamaCpp,
    /// Ollama, which runs llama.cpp.
    Ollama,
    /// Text Generation Inference.
    Tgi,
    /// TensorRT-LLM.
    TensorrtLlm,
    /// transformers `generate`.
    Transformers,
}

impl Engine {
    /// Every engine, in the order of reports.
    pub const ALL: [Self; 8] = [
        Self::Mlx,
        Self::Vllm,
        Self::Sglang,
        Self::LlamaCpp,
        Self::Ollama,
        Self::Tgi,
        Self::TensorrtLlm,
        Self::Transformers,
    ];

    /// The name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mlx => "mlx",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::LlamaCpp => "llama.cpp",
            Self::Ollama => "ollama",
            Self::Tgi => "tgi",
            Self::TensorrtLlm => "tensorrt-llm",
            Self::Transformers => "transformers",
        }
    }

    /// Reads a name; also `llamacpp`, `llama-cpp`, `trtllm` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "mlx" | "mlx-lm" | "mlx_lm" | "mlxcel" => Self::Mlx,
            "vllm" => Self::Vllm,
            "sglang" => Self::Sglang,
            "llama.cpp" | "llamacpp" | "llama-cpp" | "llama_cpp" | "llama-server" => Self::LlamaCpp,
            "ollama" => Self::Ollama,
            "tgi" | "text-generation-inference" => Self::Tgi,
            "tensorrt-llm" | "tensorrt_llm" | "trtllm" | "trt-llm" => Self::TensorrtLlm,
            "transformers" => Self::Transformers,
            _ => return None,
        })
    }
}

/// An engine's release, compared by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// Major, minor, patch. A llama.cpp build `b10488` is 10488.0.0.
    pub parts: (u32, u32, u32),
}

impl Version {
    /// Reads `0.33.0`, `v0.33`, `0.6.6.post1`, `b10488`; `None` for `latest` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches(['v', 'b']);
        let mut numbers = text.split(['.', '-', '+']).map_while(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        });
        let major = numbers.next()?;
        Some(Self {
            parts: (major, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
        })
    }

    /// A version from its numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            parts: (major, minor, patch),
        }
    }
}

impl std::fmt::Display for Version {
    /// `0.17.1`; a llama.cpp build as its number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.parts {
            (build, 0, 0) if build > 999 => write!(f, "b{build}"),
            (major, minor, patch) => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The model; its layout is known.
    pub model: &'a Model,
    /// The machine.
    pub machine: &'a Machine,
    /// The engine's release, where declared.
    pub version: Option<Version>,
    /// The engine's own settings, from the manifest's keys and from `args`.
    pub settings: &'a Settings,
    /// Bytes of the whole model's weights in the format to be served (all ranks together).
    pub weights_bytes: u64,
    /// That format, where layers are quantized: what ranks share follows from it.
    pub format: Option<&'a Quantization>,
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Context of one sequence in tokens.
    pub context: u64,
    /// Concurrent sequences of that length.
    pub batch: u64,
    /// KV element type.
    pub kv: KvType,
}

/// What the engine takes on one accelerator, the worst rank. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reservation {
    /// Weights of the rank.
    pub weights_bytes: u64,
    /// KV cache that the declared context and batch need, as the allocator rounds it.
    pub kv_cache_bytes: u64,
    /// Recurrent states of the batch.
    pub state_bytes: u64,
    /// What the allocator holds back of its pool beside the requests (vLLM's null block).
    pub extra_reserved_bytes: u64,
    /// Activations, graphs, runtime context: an estimate.
    pub overhead: Band,
    /// What the engine may use of the accelerator (its memory fraction applied).
    pub usable_bytes: u64,
    /// Tokens of the pool that the engine would take, as its log prints them.
    pub kv_cache_tokens: Option<u64>,
    /// Requests of the declared context that the pool holds.
    pub max_concurrency: Option<f64>,
    /// Sequences that the engine would run at once, declared or by default.
    pub max_sequences: Option<u64>,
    /// Sequences whose recurrent states the pool has room for; `None` for models without states and
    /// without CUDA graphs. vLLM refuses to start with fewer than `max_sequences`
    /// (`config/compilation.py`, 0.33).
    pub state_slots: Option<u64>,
    /// The same with the lowest overhead: more slots than this there cannot be.
    pub state_slots_at_most: Option<u64>,
}

/// An estimate with its bounds. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Band {
    /// At least this much.
    pub low: u64,
    /// The best guess.
    pub likely: u64,
    /// At most this much.
    pub high: u64,
}

impl Reservation {
    /// What is certain to be needed: weights, KV cache, states and what the allocator holds back.
    pub fn certain_bytes(&self) -> u64 {
        self.weights_bytes
            .saturating_add(self.kv_cache_bytes)
            .saturating_add(self.state_bytes)
            .saturating_add(self.extra_reserved_bytes)
    }
}

/// What stays the same for every cell of one deployment of one model on one machine.
pub trait Plan: Send + Sync {
    /// The reservation of one cell.
    fn reserve(&self, cell: Cell) -> Reservation;

    /// Bytes of weights, KV cache and states that the plan leaves in host memory because the settings say so or
    /// the accelerators have no room for them. 0 for engines that never do that.
    fn host_bytes(&self, _cell: Cell) -> u64 {
        0
    }

    /// What had to be assumed, in words, for the report.
    fn assumptions(&self) -> &[String];
}

/// Why an engine cannot run what was asked, whatever the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The rule that speaks: an id of `rules/`.
    pub rule: &'static str,
    /// A sentence with the two facts that contradict.
    pub message: String,
    /// What is involved, first the one to point at: settings by their ids, or facts of the model by their paths
    /// (`model.num_heads`, `model.quantization`).
    pub settings: Vec<&'static str>,
}

impl Contradiction {
    /// The rule of those that have none of their own.
    pub const GENERAL: &'static str = "engine-contradiction";
}
