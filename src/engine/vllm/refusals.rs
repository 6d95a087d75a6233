//! What vLLM refuses whatever the memory: degrees of parallelism that do not divide, KV types without a kernel.
//!
//! Source: vLLM 0.33 `config/model.py::verify_with_parallel_config`, `config/parallel.py`, the attention
//! backends' supported types; each rule names its own.

use super::quirks::{Quirk, Quirks};
use crate::engine::sharding::Sharding;
use crate::engine::{Contradiction, KvType, Request};
use crate::memory::layout::{Cache, Layout, Reach};

/// Every reason that the settings and the model give.
pub(super) fn contradictions(request: &Request<'_>, sharding: &Sharding) -> Vec<Contradiction> {
    let reasons = [
        memory_fraction(request),
        context_ranks(request, sharding),
        declared_kv_type(request).and_then(|kv| kv_type(request, kv)),
    ];
    let split = sharding.contradictions(request).into_iter();
    split.chain(reasons.into_iter().flatten()).collect()
}

fn memory_fraction(request: &Request<'_>) -> Option<Contradiction> {
    let fraction = request.settings.number("memory_fraction")?;
    (fraction <= 0.0 || fraction > 1.0).then(|| Contradiction {
        rule: Contradiction::GENERAL,
        message: format!("the memory fraction is {fraction}, vLLM takes more than 0 and at most 1"),
        settings: vec!["memory_fraction"],
    })
}

/// Decode context parallelism shares the tokens among ranks that hold copies of the same KV heads: it must
/// divide the ranks, there must be copies, the query heads of a KV head must divide, and no layer may slide.
fn context_ranks(request: &Request<'_>, sharding: &Sharding) -> Option<Contradiction> {
    let ranks = request.settings.count("decode_context_parallel")?;
    if ranks <= 1 {
        return None;
    }
    let name = &request.model.name;
    let layout = request.model.layout.as_ref().ok()?;
    let reason = if !sharding.tensor.is_multiple_of(ranks) {
        format!("does not divide tensor parallelism {}", sharding.tensor)
    } else if layout.groups.iter().any(|group| slides(&group.cache)) {
        format!("does not work with the windowed layers of {name}")
    } else {
        let (heads, kv_heads) = copied_heads(request, layout)?;
        let copies = sharding.tensor.checked_div(kv_heads)?;
        if copies < ranks {
            format!(
                "needs {ranks} ranks for each of the {kv_heads} KV heads of {name}, tensor parallelism is {}",
                sharding.tensor
            )
        } else if !(heads / kv_heads).is_multiple_of(ranks) {
            format!(
                "does not divide the {} query heads of a KV head of {name}",
                heads / kv_heads
            )
        } else {
            return None;
        }
    };
    Some(Contradiction {
        rule: "context-parallel-invalid",
        message: format!("decode context parallelism {ranks} {reason}"),
        settings: vec!["decode_context_parallel", "tensor_parallel"],
    })
}

fn slides(cache: &Cache) -> bool {
    let slides = |reach: &Reach| *reach != Reach::Full;
    matches!(cache, Cache::Attention { reach, .. } if slides(reach))
}

/// Query and KV heads of a model whose KV heads are split over ranks; latent caches are whole on every rank.
fn copied_heads(request: &Request<'_>, layout: &Layout) -> Option<(u64, u64)> {
    let latent = |cache: &Cache| matches!(cache, Cache::Latent { .. });
    if layout.groups.iter().any(|group| latent(&group.cache)) {
        return None;
    }
    let kv_heads = layout.groups.iter().find_map(|group| match group.cache {
        Cache::Attention { kv_heads, .. } => Some(kv_heads),
        _ => None,
    })?;
    Some((request.model.dims.num_heads.as_ref()?.value, kv_heads))
}

/// Why vLLM refuses a KV type for this model on this machine, whatever the memory.
pub(super) fn kv_type(request: &Request<'_>, kv: KvType) -> Option<Contradiction> {
    let message = match kv {
        KvType::Q8_0 | KvType::Q5_1 | KvType::Q5_0 | KvType::Q4_1 | KvType::Q4_0 | KvType::Iq4Nl => {
            format!("vLLM has no KV cache of type {}", kv.name())
        }
        KvType::Fp8 => {
            let (major, minor) = request.machine.compute_capability?;
            let layout = request.model.layout.as_ref().ok()?;
            if (major, minor) >= (8, 9) || !needs_triton(request, layout) {
                return None;
            }
            format!(
                "an fp8 KV cache of {} needs compute capability 8.9, {} has {major}.{minor}",
                request.model.name, request.machine.id
            )
        }
        _ => return None,
    };
    Some(Contradiction {
        rule: "kv-cache-dtype-unsupported",
        message,
        settings: vec!["kv_cache"],
    })
}

fn declared_kv_type(request: &Request<'_>) -> Option<KvType> {
    let text = |id| request.settings.text(id);
    text("kv_cache")
        .or_else(|| text("kv_cache_dtype"))
        .and_then(KvType::parse)
}

/// True where the model runs on Triton attention below SM90: latent caches, attention sinks, encoders, image
/// tokens that attend both ways (measured on an A100 and an RTX 4090).
fn needs_triton(request: &Request<'_>, layout: &Layout) -> bool {
    let triton = |cache: &Cache| matches!(cache, Cache::Latent { .. } | Cache::Cross { .. });
    let quirks = Quirks::of(request);
    layout.groups.iter().any(|group| triton(&group.cache))
        || quirks.is_prefix_lm()
        || quirks.has(Quirk::TritonBelowSm90)
}
