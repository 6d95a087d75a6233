//! Scenarios: every cell of deployment x model x machine x context x batch x KV type, with its estimate.
//!
//! In: resolved deployments. Out: [`Scenario`]s in a fixed order. The arithmetic is the engine's plan; this
//! module only multiplies out the dimensions and judges the fit.

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
    /// Tokens of the pool the engine takes.
    pub kv_cache_tokens: Option<u64>,
    /// Requests of this context that the pool holds.
    pub max_concurrency: Option<f64>,
}

/// The best quantization of a scenario, and whether it fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recommended {
    /// Its name: `fp16`, `int8`, `int4`, or a format of the engine.
    pub name: String,
    /// True when it fits.
    pub fits: bool,
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
    /// Which of the deployment's contexts.
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
    /// What had to be assumed.
    pub assumptions: Vec<String>,
}
