//! The advice for one model directory on one computer: what to quantize to, and from which numbers.
//!
//! In: a directory, the hardware, perhaps a parameter count. Out: a [`QuantAdvice`]. It follows the MLX-family
//! decision tree in [`recommend`](crate::memory::recommend); the engines' own allocators are not asked.

use std::path::Path;

use serde_json::Value;

use super::{Dtype, Model, directory};
use crate::memory::kv::kv_cache_bytes;
use crate::memory::recommend::{
    FALLBACK_PARAMS_BILLIONS, HardwareCapabilities, QuantRecommendation, recommend_quantization,
};
use crate::source::Sources;

/// Context in tokens that the advice leaves room for.
pub const DEFAULT_CONTEXT: u64 = 8192;

/// A recommendation and the numbers it was made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantAdvice {
    /// The best quantization, and whether it fits.
    pub recommendation: QuantRecommendation,
    /// Parameters in billions: the override, else weight bytes / 2 / 1e9, else the count from config.json,
    /// else [`FALLBACK_PARAMS_BILLIONS`].
    pub params_billions: f64,
    /// Bytes of the published weights, where headers, an index or pointer files tell them exactly.
    pub weight_bytes: Option<u64>,
    /// True when the model's 16-bit weights are bfloat16.
    pub is_bfloat16: bool,
    /// 16-bit KV cache of one sequence of [`DEFAULT_CONTEXT`] tokens; `None` when config.json lacks the
    /// dimensions, in which case the recommendation keeps 2 GiB.
    pub kv_cache_bytes: Option<u64>,
}

/// Advises on the model in `model_dir`, which may lack anything: what cannot be read falls back.
/// `params_override` is a number of parameters in billions.
pub fn advise_quantization(
    model_dir: &Path,
    hardware: &HardwareCapabilities,
    params_override: Option<f64>,
) -> QuantAdvice {
    let display = model_dir.to_string_lossy();
    let model = directory::load(&Sources::default(), model_dir, &display).model;
    let model = model.as_ref();
    let weight_bytes = model.and_then(|model| model.weights.bytes.filter(|_| model.weights.exact));
    let from_bytes = weight_bytes.map(|bytes| bytes as f64 / 2.0 / 1e9);
    let from_config = || Some(model?.parameters.as_ref()?.count as f64 / 1e9);
    let params_billions = params_override
        .or(from_bytes)
        .or_else(from_config)
        .unwrap_or(FALLBACK_PARAMS_BILLIONS);
    let kv_cache_bytes = model.and_then(|model| plain_kv_cache_bytes(model.config.as_ref()?));
    QuantAdvice {
        recommendation: recommend_quantization(
            params_billions,
            hardware.unified_memory_gb,
            hardware,
            kv_cache_bytes,
        ),
        params_billions,
        weight_bytes,
        is_bfloat16: model.is_some_and(is_bfloat16),
        kv_cache_bytes,
    }
}

/// The declared dtype; where none is declared, that of most of the weights' bytes.
fn is_bfloat16(model: &Model) -> bool {
    if let Some(dtype) = &model.dtype {
        return dtype.value == Dtype::Bfloat16;
    }
    let most = model.weights.by_dtype.iter().max_by_key(|(_, bytes)| **bytes);
    most.is_some_and(|(dtype, _)| Dtype::parse(dtype) == Some(Dtype::Bfloat16))
}

/// The core formula on the dimensions that config.json states; no class default stands in for one.
fn plain_kv_cache_bytes(config: &Value) -> Option<u64> {
    let nested = config
        .get("text_config")
        .filter(|text| text.get("num_hidden_layers").is_some());
    let config = nested.unwrap_or(config);
    let number = |key: &str| config.get(key)?.as_u64().filter(|number| *number > 0);
    let layers = number("num_hidden_layers")?;
    let heads = number("num_attention_heads");
    let kv_heads = number("num_key_value_heads").or(heads)?;
    let head_dim = number("head_dim").or_else(|| number("hidden_size")?.checked_div(heads?))?;
    Some(kv_cache_bytes(layers, kv_heads, head_dim, 2, DEFAULT_CONTEXT, 1))
}
