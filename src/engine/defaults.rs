//! What an engine does where nothing is declared, and which plan it makes.

use super::{Contradiction, Engine, KvType, Plan, Request, Settings};
use serde_json::Value;

use crate::fact::Fact;
use crate::machine::Machine;
use crate::memory::GIB;
use crate::model::{Dtype, Model};

/// Context in tokens where none is declared and the engine has no default of its own.
pub const DEFAULT_CONTEXT: u64 = 8192;

/// The plan of an engine for a request, or why it cannot run there whatever the memory.
///
/// # Errors
/// The contradictions between what was declared and what the engine can do.
pub fn plan(engine: Engine, request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    if let Some(contradiction) = too_few_accelerators(engine, request) {
        return Err(vec![contradiction]);
    }
    if let Some(contradiction) = super::refusals::weights(engine, request) {
        return Err(vec![contradiction]);
    }
    match engine {
        Engine::Mlx => super::mlx::plan(request),
        Engine::Vllm => super::vllm::plan(request),
        Engine::Sglang => super::sglang::plan(request),
        Engine::LlamaCpp => super::llama_cpp::plan(request),
        Engine::Ollama => super::ollama::plan(request),
        Engine::Tgi => super::tgi::plan(request),
        Engine::TensorrtLlm => super::tensorrt_llm::plan(request),
        Engine::Transformers => super::transformers::plan(request),
    }
}

/// Accelerators that one copy of the model is spread over.
pub fn accelerators_used(engine: Engine, settings: &Settings, machine: &Machine) -> u64 {
    match engine {
        Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorrtLlm => world_size(settings).max(1),
        // Layers are spread over every visible accelerator by default.
        Engine::LlamaCpp | Engine::Ollama => machine.count,
        Engine::Mlx | Engine::Transformers => 1,
    }
}

/// Tensor parallel times pipeline parallel: accelerators that one copy of the model is split over.
pub fn world_size(settings: &Settings) -> u64 {
    let size = |id| settings.count(id).unwrap_or(1).max(1);
    size("tensor_parallel").saturating_mul(size("pipeline_parallel"))
}

fn too_few_accelerators(engine: Engine, request: &Request<'_>) -> Option<Contradiction> {
    let needed = accelerators_used(engine, request.settings, request.machine);
    let present = request.machine.count;
    if needed <= present {
        return None;
    }
    let message = format!(
        "one copy of the model is split over {needed} accelerators, and {} has {present}",
        request.machine.name()
    );
    Some(Contradiction {
        message,
        settings: vec!["tensor_parallel", "pipeline_parallel"],
    })
}

/// The context in tokens that an engine takes where none is declared.
///
/// vLLM, SGLang and TensorRT-LLM take the model's maximum, llama.cpp the training context (`-c 0`), Ollama a
/// tier of the total memory (`server/routes.go` at fb30760), and the others [`DEFAULT_CONTEXT`].
pub fn default_context(engine: Engine, model: Option<&Model>, machine: Option<&Machine>) -> Fact<u64> {
    let most = model
        .and_then(|model| model.max_context.as_ref())
        .map(|fact| fact.value);
    match (engine, most) {
        (Engine::Vllm | Engine::Sglang | Engine::TensorrtLlm | Engine::LlamaCpp, Some(most)) => {
            Fact::default(
                most,
                "the model's maximum, which the engine takes where none is declared",
            )
        }
        (Engine::Ollama, _) => {
            let memory = machine.map_or(0, |machine| machine.memory_bytes.saturating_mul(machine.count));
            let tier = match memory / GIB {
                47.. => 262_144,
                23..=46 => 32_768,
                _ => 4096,
            };
            Fact::default(
                tier.min(most.unwrap_or(u64::MAX)),
                "Ollama's default for this amount of memory",
            )
        }
        // What nobody asked for must not be held against a model that was made for less.
        (Engine::Tgi | Engine::Transformers, Some(most)) if most < DEFAULT_CONTEXT => {
            Fact::default(most, "the model's maximum, less than oomlint's default")
        }
        _ => Fact::default(DEFAULT_CONTEXT, "oomlint's default where none is declared"),
    }
}

/// True for checkpoints that say how their cache is quantized (`kv_cache_quant_algo` of `modelopt`,
/// `kv_cache_scheme` of compressed-tensors): `auto` then means FP8 (vLLM `utils/torch_utils.py`,
/// `resolve_kv_cache_dtype_string`, 0.33; SGLang `model_runner.py`, `configure_kv_cache_dtype`).
pub fn publishes_fp8_cache(model: &Model) -> bool {
    let section = || {
        let config = model.config.as_ref()?;
        let nested = config
            .get("text_config")
            .and_then(|text| text.get("quantization_config"));
        let section = config.get("quantization_config").or(nested)?;
        Some(section.get("quantization").unwrap_or(section))
    };
    let is_float8 = |scheme: &Value| {
        scheme.get("num_bits").and_then(Value::as_u64) == Some(8)
            && scheme.get("type").and_then(Value::as_str) == Some("float")
    };
    section().is_some_and(|section| {
        section.get("kv_cache_quant_algo").and_then(Value::as_str) == Some("FP8")
            || section.get("kv_cache_scheme").is_some_and(is_float8)
    })
}

/// The KV element type where none is declared: 16-bit floats, or the model's dtype where the engine follows it.
///
/// Checkpoints published in float32 are served in bfloat16: vLLM casts them (`config/model.py`,
/// `_get_and_verify_dtype`), and for the other engines it is what people do.
pub fn default_kv_type(engine: Engine, model: Option<&Model>) -> KvType {
    let dtype = model
        .and_then(|model| model.dtype.as_ref())
        .map(|dtype| dtype.value);
    match engine {
        Engine::Mlx | Engine::LlamaCpp | Engine::Ollama => KvType::F16,
        Engine::Vllm | Engine::Sglang | Engine::TensorrtLlm if model.is_some_and(publishes_fp8_cache) => {
            KvType::Fp8
        }
        _ if dtype == Some(Dtype::Float32) => KvType::Bf16,
        _ => KvType::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures::{attention, model};
    use crate::memory::layout::Reach;

    #[test]
    fn a_checkpoint_that_says_how_its_cache_is_quantized_gets_it_where_the_engine_listens() {
        let with = |section: Value| {
            let mut model = model(&[(attention(8, 128, Reach::Full), 2)]);
            model.config = Some(serde_json::json!({"quantization_config": section}));
            [Engine::Vllm, Engine::LlamaCpp].map(|engine| default_kv_type(engine, Some(&model)))
        };
        let fp8 = [KvType::Fp8, KvType::F16];
        assert_eq!(with(serde_json::json!({"kv_cache_quant_algo": "FP8"})), fp8);
        let scheme = serde_json::json!({"kv_cache_scheme": {"num_bits": 8, "type": "float"}});
        assert_eq!(with(scheme), fp8);
        let none = serde_json::json!({"kv_cache_scheme": null, "kv_cache_quant_algo": null});
        assert_eq!(with(none), [KvType::Auto, KvType::F16]);
    }
}
