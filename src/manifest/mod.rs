//! Manifests: files that declare deployments. One file a format; each gives [`Deployment`]s.
//!
//! In: a tree with spans. Out: what the file declares, every value with its characters, and findings for what
//! could not be understood. Nothing is resolved here: model names, machine names and engine defaults are the
//! business of the stages after.

pub mod command;
pub mod own;
pub mod read;

use crate::engine::{Engine, KvType, Settings};
use crate::fact::Fact;
use crate::source::{FileId, Span};

/// The format a manifest is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// oomlint's own.
    Own,
}

impl Format {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "oomlint",
        }
    }
}

/// One model served by one engine with its settings, as declared. `None` and empty lists: not declared.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its name; the model's when the file gives none.
    pub name: Fact<String>,
    /// The file that declares it.
    pub file: FileId,
    /// The characters of the whole declaration.
    pub span: Span,
    /// The file's format.
    pub format: Format,
    /// The engine.
    pub engine: Option<Fact<Engine>>,
    /// The engine's release, as written.
    pub engine_version: Option<Fact<String>>,
    /// Directory, GGUF file or hub name, as written.
    pub model: Option<Fact<String>>,
    /// Machines to check on, as written.
    pub machines: Vec<Fact<String>>,
    /// Contexts in tokens.
    pub context: Vec<Fact<u64>>,
    /// Concurrent sequences of that length.
    pub batch: Vec<Fact<u64>>,
    /// KV element types.
    pub kv_cache: Vec<Fact<KvType>>,
    /// Weight format.
    pub quantization: Option<Fact<WeightFormat>>,
    /// The engine's own arguments, word by word.
    pub args: Vec<Fact<String>>,
    /// What the arguments and further keys set, by setting id. Filled by `engine::args`.
    pub settings: Settings,
    /// Fields whose value is a variable or a placeholder.
    pub unresolved: Vec<String>,
}

impl Deployment {
    /// The engine; mlx where none is declared.
    pub fn engine_or_default(&self) -> Engine {
        self.engine.as_ref().map_or(Engine::Mlx, |engine| engine.value)
    }

    /// The weight format; `auto` where none is declared.
    pub fn weight_format(&self) -> WeightFormat {
        self.quantization
            .as_ref()
            .map_or(WeightFormat::Auto, |format| format.value.clone())
    }
}

/// The weight format a deployment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightFormat {
    /// oomlint's recommendation.
    Auto,
    /// What the checkpoint holds.
    AsPublished,
    /// A format by name, lower case: `fp16`, `int8`, `int4`, `fp8`, `q4_k_m`, ...
    Named(String),
}

impl WeightFormat {
    /// The name in manifests and reports.
    pub fn name(&self) -> &str {
        match self {
            Self::Auto => "auto",
            Self::AsPublished => "as-published",
            Self::Named(name) => name,
        }
    }
}
