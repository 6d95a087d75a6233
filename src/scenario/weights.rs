//! Weight formats of a scenario: what a model's weights take when they are served in another format, and which
//! formats an engine could fall back to on a machine.

use crate::engine::Engine;
use crate::engine::flags::online_format;
use crate::machine::{Machine, MachineKind};
use crate::model::quantization::TensorFormat;
use crate::model::{Component, Dtype, Model, Quantization, quantization};

/// A format that weights can be served in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Format {
    /// Its name in reports; `as-published` never stands here, but the published format's own name.
    pub(super) name: String,
    /// Bytes of the whole model.
    pub(super) bytes: u64,
    /// True for bytes read from headers; false for bytes computed from a parameter count.
    pub(super) exact: bool,
    /// How its linear layers are stored, where they are quantized.
    pub(super) quantization: Option<Quantization>,
}

/// The published checkpoint, as far as its size is known.
pub(super) fn published(model: &Model) -> Option<Format> {
    let name = published_name(model);
    if let Some(bytes) = model.weights.bytes {
        return Some(Format {
            name,
            bytes: bytes.saturating_sub(unloaded(model)),
            exact: model.weights.exact,
            quantization: published_quantization(model),
        });
    }
    let dtype = model.dtype.as_ref().map_or(Dtype::Bfloat16, |dtype| dtype.value);
    let bytes = match (&model.quantization, &model.census) {
        (Some(quantization), Some(census)) => census.published_bytes(&quantization.value, dtype),
        (Some(quantization), None) => scaled(
            model.parameters.as_ref()?.count,
            quantization.value.real_bits_per_weight(),
        ),
        (None, _) => scaled(model.parameters.as_ref()?.count, dtype.bits() as f64),
    };
    Some(Format {
        name,
        bytes,
        exact: false,
        quantization: published_quantization(model),
    })
}

fn published_quantization(model: &Model) -> Option<Quantization> {
    model.quantization.as_ref().map(|fact| fact.value.clone())
}

/// Bytes of a checkpoint that no engine loads by default: a second copy of tied embeddings, and the layers that
/// predict further tokens, which only speculative decoding uses.
fn unloaded(model: &Model) -> u64 {
    let nextn = model
        .weights
        .by_component
        .get(&Component::NextN)
        .copied()
        .unwrap_or(0);
    model.weights.tied_bytes.saturating_add(nextn)
}

/// The name of the published format: `bf16`, `awq int4`, `q4_K_M`.
fn published_name(model: &Model) -> String {
    match (&model.quantization, &model.dtype) {
        (Some(quantization), _) => quantization.value.name(),
        (None, Some(dtype)) => match dtype.value {
            Dtype::Float32 => "fp32".to_owned(),
            Dtype::Float16 => "fp16".to_owned(),
            other => other.name().replace("bfloat16", "bf16").replace("float8", "fp8"),
        },
        (None, None) => "bf16".to_owned(),
    }
}

/// The model in a format named in a manifest or recommended; the published bytes where that is the format the
/// checkpoint already has.
pub(super) fn named(engine: Engine, model: &Model, name: &str) -> Option<Format> {
    let published = published(model);
    let is_16_bit = |name: &str| matches!(name, "fp16" | "bf16");
    if let Some(published) = &published
        && model.quantization.is_none()
        && is_16_bit(name)
        && is_16_bit(&published.name)
    {
        return Some(Format {
            name: name.to_owned(),
            ..published.clone()
        });
    }
    let row = quantization::serving_format(as_served(engine, name))?;
    let bytes = match (&row.tensors, &model.census) {
        (Some(tensors), Some(census)) => census.bytes(&tensors.quantization(), Dtype::Bfloat16),
        _ => scaled(model.parameters.as_ref()?.count, row.bits),
    };
    Some(Format {
        name: name.to_owned(),
        bytes,
        exact: false,
        quantization: row.tensors.as_ref().map(TensorFormat::quantization),
    })
}

/// What a name means to an engine: its own methods first; `int8` is group-wise on MLX, and one scale a channel on
/// GPU engines.
fn as_served(engine: Engine, name: &str) -> &str {
    if let Some(format) = online_format(engine, name) {
        return format;
    }
    match (engine, name) {
        (Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorrtLlm, "int8") => "w8a8-int8",
        (Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorrtLlm, "int4") => "awq-int4",
        (Engine::LlamaCpp | Engine::Ollama, "int8") => "q8_0",
        (Engine::LlamaCpp | Engine::Ollama, "int4") => "q4_k_m",
        (Engine::Transformers, "int8") => "bnb-8bit",
        (Engine::Transformers, "int4") => "nf4",
        (_, name) => name,
    }
}

/// Bytes of `parameters` at `bits` each.
fn scaled(parameters: u64, bits: f64) -> u64 {
    let bytes = parameters as f64 * bits / 8.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bits are positive; casts saturate"
    )]
    let whole = bytes.ceil() as u64;
    whole
}

/// Formats that an engine can quantize to or load on a machine, best quality first, below 16 bit. The choice
/// among published checkpoints is the user's; these stand for the usual ones of each size.
///
/// Sources: vLLM 0.33 `platforms/cuda.py` and the quantization methods' `get_min_capability` (fp8 needs 8.9,
/// awq-marlin 8.0); llama.cpp and Ollama serve GGUF; bitsandbytes for transformers and TGI.
pub(super) fn fallbacks(engine: Engine, machine: &Machine) -> &'static [&'static str] {
    let capability = machine.compute_capability;
    match engine {
        Engine::Mlx => &["int8", "int4"],
        Engine::LlamaCpp | Engine::Ollama => &["q8_0", "q4_k_m"],
        Engine::Transformers => &["int8", "nf4"],
        Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorrtLlm => {
            let has_fp8 = capability.is_some_and(|capability| capability >= (8, 9))
                || matches!(machine.kind, MachineKind::Amd | MachineKind::Tpu);
            if has_fp8 {
                &["fp8", "awq"]
            } else {
                &["int8", "awq"]
            }
        }
    }
}
