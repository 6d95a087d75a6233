//! Facts about a deployment that are sums of its settings.
//!
//! In: a view. Out: numbers with the places that state them. Nothing here knows a machine; what needs one is a fact
//! of the scenario.

use super::fact_table::{engine, engine_version};
use super::facts::View;
use crate::engine::{Engine, Settings, Version};
use crate::fact::Origin;
use crate::memory::{GIB, round_up};

/// The first vLLM release without swap space (`--swap-space` is refused from here on).
const NO_SWAP: Version = Version::new(0, 18, 0);

/// The step to which llama.cpp rounds the context of a slot (`src/llama-context.cpp`, `GGML_PAD(n_ctx_seq, 256)`).
const SLOT_STEP: u64 = 256;

/// The longest declared context, else the maximum of a model whose engine takes that: vLLM, SGLang, TensorRT-LLM.
pub(super) fn context(view: &View<'_>) -> Option<u64> {
    let deployment = view.deployment?;
    let declared = deployment.context.iter().map(|fact| fact.value).max();
    declared.or_else(|| model_maximum(view).map(|fact| fact.value))
}

pub(super) fn context_origin<'a>(view: &View<'a>) -> Option<&'a Origin> {
    let declared = view.deployment?.context.iter().max_by_key(|fact| fact.value);
    let fact = declared.or_else(|| model_maximum(view))?;
    Some(&fact.origin)
}

fn model_maximum<'a>(view: &View<'a>) -> Option<&'a crate::fact::Fact<u64>> {
    let deployment = view.deployment?;
    let takes_it = matches!(
        engine(deployment)?,
        Engine::Vllm | Engine::Sglang | Engine::TensorrtLlm
    );
    let unknown = deployment.settings.get("context").is_some()
        || deployment.unresolved.iter().any(|field| field == "context");
    if !takes_it || unknown {
        return None;
    }
    view.model?.max_context.as_ref()
}

/// Tokens of one slot of llama-server: with `-np` the context is divided, unless the slots share one pool.
pub(super) fn tokens_per_slot(view: &View<'_>) -> Option<u64> {
    let deployment = view.deployment?;
    let settings = &deployment.settings;
    let slots = settings.count("parallel").filter(|slots| *slots > 1)?;
    let shared = settings.get("kv_unified").is_some() || settings.get("kv_unified_per_slot").is_some();
    if engine(deployment)? != Engine::LlamaCpp || shared {
        return None;
    }
    let total = settings.count("ctx_size").filter(|tokens| *tokens > 0)?;
    Some(round_up(total / slots, SLOT_STEP))
}

/// Settings that reserve host memory.
const HOST_SETTINGS: [&str; 4] = [
    "cpu_offload_gb",
    "swap_space",
    "hicache_size",
    "kv_offloading_size",
];

/// Host memory that settings reserve. vLLM offloads weights and swaps for each accelerator
/// (`--cpu-offload-gb`, `--swap-space` up to 0.17), and sizes its KV tier for all of them (`--kv-offloading-size`);
/// SGLang's tier is for each (`--hicache-size`).
pub(super) fn host_reserved(view: &View<'_>) -> Option<u64> {
    let deployment = view.deployment?;
    let settings = &deployment.settings;
    let swaps = engine_version(view).is_some_and(|version| version < NO_SWAP);
    let tiered = settings.flag("hierarchical_cache") == Some(true);
    let ranks = crate::engine::world_size(settings).max(1);
    let of = |id: &str| {
        let (unit, times) = match id {
            "swap_space" if !swaps => return 0,
            "hicache_size" if !tiered => return 0,
            "hicache_size" => (1_000_000_000, ranks),
            "kv_offloading_size" => (GIB, 1),
            _ => (GIB, ranks),
        };
        bytes(settings, id, unit).unwrap_or(0).saturating_mul(times)
    };
    let reserved = HOST_SETTINGS.iter().map(|id| of(id));
    let sum = reserved.fold(0, u64::saturating_add);
    (sum > 0).then_some(sum)
}

pub(super) fn host_reserved_origin<'a>(view: &View<'a>) -> Option<&'a Origin> {
    let settings = &view.deployment?.settings;
    let first = HOST_SETTINGS.iter().find_map(|id| settings.get(id));
    first.map(|fact| &fact.origin)
}

fn bytes(settings: &Settings, id: &str, unit: u64) -> Option<u64> {
    let bytes = settings.number(id)? * unit as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be positive and within 2^53"
    )]
    (bytes > 0.0 && bytes < 9e15).then_some(bytes as u64)
}
