//! Scenarios: every cell of deployment x model x machine x context x batch x KV type, with its estimate.
//!
//! In: resolved deployments. Out: [`Scenario`]s in a fixed order. The arithmetic is the engine's plan; this
//! module only multiplies out the dimensions, chooses the weight format and judges the fit.

mod build;
mod solve;
mod weights;

pub use build::{Built, Refused, Subject, build, wanted};
pub use solve::Solver;

use std::sync::Arc;

use crate::engine::{Band, KvType};

/// Does it fit?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Even with the highest overhead.
    Fits,
    /// With the likely overhead.
    LikelyFits,
    /// Not with the likely overhead.
    LikelyExceeds,
    /// Weights, KV cache and states alone are too much.
    Exceeds,
    /// The model or the machine is not known well enough.
    Unknown,
}

impl Verdict {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::LikelyFits => "likely_fits",
            Self::LikelyExceeds => "likely_exceeds",
            Self::Exceeds => "exceeds",
            Self::Unknown => "unknown",
        }
    }

    /// Judges what is certain to be needed, and the overhead band, against what may be used. Bytes.
    pub fn judge(certain: u64, overhead: Band, usable: u64) -> Self {
        if certain > usable {
            Self::Exceeds
        } else if certain.saturating_add(overhead.high) <= usable {
            Self::Fits
        } else if certain.saturating_add(overhead.likely) <= usable {
            Self::LikelyFits
        } else {
            Self::LikelyExceeds
        }
    }
}

/// The estimate of one cell. Bytes are per accelerator, of the worst rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Weights.
    pub weights_bytes: u64,
    /// KV bytes that the model needs, whatever the engine.
    pub kv_cache_logical_bytes: u64,
    /// KV bytes as the engine reserves them.
    pub kv_cache_bytes: u64,
    /// Recurrent states.
    pub state_bytes: u64,
    /// Activations, graphs, runtime context: an estimate.
    pub overhead: Band,
    /// Weights, KV cache, states and likely overhead.
    pub required_bytes: u64,
    /// What the engine may use.
    pub usable_bytes: u64,
    /// Memory of the accelerator.
    pub memory_bytes: u64,
    /// The judgement.
    pub verdict: Verdict,
    /// Weights and KV cache that the engine leaves in host memory, over all accelerators.
    pub host_bytes: u64,
    /// Tokens of the pool the engine takes.
    pub kv_cache_tokens: Option<u64>,
    /// Requests of this context that the pool holds.
    pub max_concurrency: Option<f64>,
    /// Sequences that the engine would run at once, declared or by default.
    pub max_sequences: Option<u64>,
    /// Sequences whose recurrent states the pool has room for, where the engine insists on room for all.
    pub state_slots: Option<u64>,
    /// The same with the lowest overhead.
    pub state_slots_at_most: Option<u64>,
}

/// The best quantization of a scenario, and whether it fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recommended {
    /// Its name: `fp16`, `int8`, `int4`, or a format of the engine.
    pub name: String,
    /// True when it fits.
    pub fits: bool,
    /// Bytes of weights and KV cache in that format, as the decision counted them (an MLX-family runtime
    /// counts both in whole GiB).
    pub needed_bytes: u64,
    /// Bytes the decision held them against.
    pub available_bytes: u64,
}

/// What would fit instead, solved backwards. `None` where nothing of the kind fits or applies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alternatives {
    /// Largest context in tokens with everything else as it is.
    pub largest_context: Option<u64>,
    /// Another KV type by name, and the largest context in tokens with it.
    pub kv_cache: Option<(String, u64)>,
    /// Another weight format, its weights in bytes, and the largest context in tokens with it.
    pub quantization: Option<(String, u64, u64)>,
    /// The smallest machine on which all of it fits, and its memory in bytes per accelerator.
    pub machine: Option<(String, u64)>,
    /// Another tensor-parallel size, and the largest context in tokens with it.
    pub tensor_parallel: Option<(u64, u64)>,
    /// The least memory fraction with which the cell fits.
    pub memory_fraction: Option<f64>,
    /// Largest number of concurrent sequences of the context.
    pub largest_batch: Option<u64>,
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The deployment, by position.
    pub deployment: usize,
    /// The model, by position; `None` when it was not found.
    pub model: Option<usize>,
    /// The machine, by position in the run's machines; `None` when the name is unknown.
    pub machine: Option<usize>,
    /// Accelerators that serve one copy of the model.
    pub accelerators: u64,
    /// Context of one sequence in tokens.
    pub context: u64,
    /// Concurrent sequences.
    pub batch: u64,
    /// KV element type.
    pub kv_cache: KvType,
    /// The weight format of the estimate.
    pub quantization: String,
    /// The estimate; `None` when the verdict is unknown.
    pub estimate: Option<Estimate>,
    /// The recommendation.
    pub recommended: Option<Recommended>,
    /// Largest context in tokens that fits with the same batch, KV type and weights; 0 when none does.
    pub largest_context: Option<u64>,
    /// What would fit instead; for the cell that a finding speaks of.
    pub alternatives: Option<Box<Alternatives>>,
    /// Which of the deployment's machine names it is, by position; `None` for a machine named elsewhere.
    pub machine_name: Option<usize>,
    /// What had to be assumed; shared by the cells for which the same was.
    pub assumptions: Arc<[String]>,
}

impl Scenario {
    /// Does it fit? Unknown where there is no estimate.
    pub fn verdict(&self) -> Verdict {
        self.estimate
            .as_ref()
            .map_or(Verdict::Unknown, |estimate| estimate.verdict)
    }
}
