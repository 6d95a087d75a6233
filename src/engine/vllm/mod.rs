//! vLLM (V1 engine): one pool of blocks that every layer's cache shares.
//!
//! In: a request. Out: a plan whose reservations follow the engine's own arithmetic: [`specs`] says what a
//! layer keeps in a block, [`groups`] how layers share blocks, [`defaults`] what the engine chooses by itself.
//! Exact given the memory that is left for the pool; what is left is an estimate
//! ([`crate::memory::overhead`]). Source: vLLM 0.33.0 (commit 4ba787ec9), files named at each item; measured
//! on its own planner.

mod defaults;
mod groups;
mod quirks;
mod refusals;
mod specs;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::OnceLock;

use serde_json::Value;

use super::sharding::Sharding;
use super::{Band, Cell, Contradiction, Engine, KvType, Plan, Request, Reservation, Version, overheads};
use crate::machine::MachineKind;
use crate::memory::GIB;
use crate::memory::layout::{Cache, Layout, Reach};
use crate::memory::overhead::{Coefficients, Load};
use crate::model::Dtype;
use crate::model::census::ExpertPadding;
use defaults::{Batches, BlockNeeds, CacheKind};
use groups::{Flight, Pool, Ungroupable};
use quirks::{Quirk, Quirks};
use specs::{Checkpoints, SkipLayers, SpecRules, StateRules};

/// What the pool is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Budget {
    /// What the memory fraction leaves beside weights and overhead.
    Fraction,
    /// `--kv-cache-memory-bytes`.
    Bytes(u64),
    /// `--num-gpu-blocks-override`.
    Blocks(u64),
}

struct VllmPlan {
    version: Version,
    rules: SpecRules,
    hybrid: bool,
    stages: Vec<Range<u64>>,
    pools: [OnceLock<Pool>; KvType::ALL.len()],
    batches: Batches,
    context_ranks: u64,
    /// Tokens that windows retain beyond their size, for draft modules that prefill again.
    extra_tokens: u64,
    budget: Budget,
    weights_bytes: u64,
    usable_bytes: u64,
    has_states: bool,
    overheads: Coefficients,
    load: Load,
    assumptions: Vec<String>,
}

/// The plan of one deployment of one model on one machine.
///
/// # Errors
/// The reasons why vLLM refuses to start whatever the memory.
pub fn plan(request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    let mut sharding = Sharding::of(request);
    // Data-parallel replicas of a mixture of experts serve with one set of experts, by parts without
    // `--enable-expert-parallel`, else whole (`fused_moe/config.py::FusedMoEParallelConfig.make`).
    sharding.replicas_of_experts = sharding.data;
    let mut contradictions = refusals::contradictions(request, &sharding);
    let Ok(layout) = &request.model.layout else {
        contradictions.push(Contradiction {
            rule: Contradiction::GENERAL,
            message: format!("what the layers of {} cache is not known", request.model.name),
            settings: Vec::new(),
        });
        return Err(contradictions);
    };
    let version = request.version.unwrap_or(defaults::NEWEST);
    let plan = VllmPlan::new(request, layout, sharding, version);
    contradictions.extend(plan.contradiction());
    if contradictions.is_empty() {
        Ok(Box::new(plan))
    } else {
        Err(contradictions)
    }
}

/// The memory fraction of a release (`gpu_memory_utilization`) where none is declared.
pub fn default_memory_fraction(version: Option<Version>) -> f64 {
    defaults::memory_fraction(version.unwrap_or(defaults::NEWEST))
}

/// Why vLLM refuses a KV type for this model on this machine, whatever the memory.
pub fn kv_contradiction(request: &Request<'_>, kv: KvType) -> Option<Contradiction> {
    refusals::kv_type(request, kv)
}

impl VllmPlan {
    fn new(request: &Request<'_>, layout: &Layout, sharding: Sharding, version: Version) -> Self {
        let settings = request.settings;
        let quirks = Quirks::of(request);
        let layout = with_draft_layers(request, layout);
        let has = |wanted: fn(&Cache) -> bool| layout.groups.iter().any(|group| wanted(&group.cache));
        let encoder_decoder = has(|cache| matches!(cache, Cache::Cross { .. }));
        let attention = has(|cache| !matches!(cache, Cache::Recurrent { .. }));
        let has_states = has(|cache| matches!(cache, Cache::Recurrent { .. }));
        let dtype_bytes = dtype_bytes(request);
        let state_type = |id| {
            settings
                .text(id)
                .and_then(Dtype::parse)
                .map(|dtype| dtype.bits() / 8)
        };
        let conv_bytes = state_type("mamba_cache_dtype");
        let states = StateRules {
            prefixes: defaults::prefix_states(request, version, attention && !encoder_decoder),
            drafted: drafted_tokens(request),
            conv_bytes: conv_bytes.unwrap_or(dtype_bytes),
            state_bytes: state_type("mamba_ssm_cache_dtype"),
            default_state_bytes: quirks.has(Quirk::Float32States).then_some(4),
            checkpoints: checkpoints(request, version, quirks),
        };
        let mut pipeline = sharding.stages(layout.num_layers);
        if let Some(last) = pipeline.last_mut() {
            last.end = u64::MAX; // draft layers stand behind the last stage's
        }
        let batches = Batches::of(request, version, &sharding, encoder_decoder, quirks.step_floor());
        let fraction = settings
            .number("memory_fraction")
            .unwrap_or_else(|| defaults::memory_fraction(version));
        let offloaded = settings
            .number("cpu_offload_gb")
            .map_or(0, |gib| scaled(GIB, gib));
        let weights_bytes = sharding
            .padded_weights_bytes(request, expert_padding(request))
            .saturating_add(sharding.next_token_bytes(request, draft_layers(request, &layout)))
            .saturating_sub(offloaded);
        Self {
            version,
            hybrid: settings.flag("hybrid_kv_cache_manager").unwrap_or(true),
            stages: pipeline,
            pools: [const { OnceLock::new() }; KvType::ALL.len()],
            batches,
            context_ranks: settings.count("decode_context_parallel").unwrap_or(1).max(1),
            extra_tokens: draft_layers(request, &layout).saturating_sub(1),
            budget: budget(request),
            weights_bytes,
            usable_bytes: scaled(request.machine.engine_memory_bytes(), fraction),
            has_states,
            overheads: overheads::of(Engine::Vllm, Some(version), settings),
            load: Load {
                largest_graph: largest_graph(request, batches.sequences, states.drafted),
                ..overheads::load(request, &sharding, batches.sequences, 0)
            },
            assumptions: assumptions(request, version, &sharding),
            rules: SpecRules {
                sharding,
                dtype_bytes,
                declared_block: settings.count("block_size"),
                needs: block_needs(request, &layout),
                states,
                ignores_kv_type: quirks.has(Quirk::IgnoresKvType),
                skip: skip_layers(settings.text("kv_cache_dtype_skip_layers")),
                layout,
            },
        }
    }

    fn build_pool(&self, kv: KvType) -> Result<Pool, Ungroupable> {
        let packed = self.rules.needs.kind == CacheKind::Compressed;
        Pool::of(self.rules.buckets(kv), self.hybrid, packed, &self.stages)
    }

    /// The pool of a KV type; the first caller makes it. Layers that cannot be grouped are refused when the
    /// plan is made, so the fallback only keeps this total.
    fn pool(&self, kv: KvType) -> Option<&Pool> {
        let slot = self.pools.get(kv as usize)?;
        Some(slot.get_or_init(|| {
            self.build_pool(kv)
                .or_else(|_| Pool::of(self.rules.buckets(kv), true, false, &self.stages))
                .unwrap_or_else(|_| Pool::empty())
        }))
    }

    fn flight(&self, context: u64) -> Flight {
        let batched = self.batches.tokens(context);
        Flight {
            under_way: batched.saturating_mul(self.batches.concurrent),
            batched,
            context_ranks: self.context_ranks,
            extra: self.extra_tokens,
        }
    }

    fn contradiction(&self) -> Option<Contradiction> {
        let manager = "the hybrid KV-cache manager is switched off, but the model";
        let message = match self.build_pool(KvType::Auto).err()? {
            Ungroupable::CannotPromote => {
                format!(
                    "{manager} has layers whose cache cannot become full attention (recurrent states, an encoder)"
                )
            }
            Ungroupable::WindowsDiffer => format!("{manager} has windows of different sizes"),
        };
        Some(Contradiction {
            rule: Contradiction::GENERAL,
            message,
            settings: vec!["hybrid_kv_cache_manager"],
        })
    }

    /// Tokens as the release's log prints them ("GPU KV cache size").
    fn printed_tokens(&self, pool: &Pool, num_blocks: u64, concurrency: f64, context: u64) -> u64 {
        if self.version < defaults::TOKENS_BY_CONCURRENCY {
            return (num_blocks / pool.groups.max(1))
                .saturating_mul(pool.smallest_block)
                .saturating_mul(self.context_ranks);
        }
        scaled_down(concurrency * context as f64)
    }
}

impl Plan for VllmPlan {
    /// One request of the context needs its blocks; a batch so many times that. The engine holds one block back
    /// (the null block). Under the memory fraction the pool is what weights and overhead leave.
    /// With `--kv-cache-memory-bytes` or `--num-gpu-blocks-override` the engine profiles nothing and checks only
    /// that pool: then `usable_bytes` is the weights and the pool, and the overhead, which lies outside, is 0.
    fn reserve(&self, cell: Cell) -> Reservation {
        let Some(pool) = self.pool(cell.kv) else {
            return Reservation::default();
        };
        let flight = self.flight(cell.context);
        let blocks = pool.blocks(cell.context, flight);
        let declared_pool = match self.budget {
            Budget::Fraction => None,
            Budget::Bytes(bytes) => Some(bytes),
            Budget::Blocks(blocks) => Some(blocks.saturating_mul(pool.bytes_per_block)),
        };
        let (usable_bytes, overhead) = match declared_pool {
            Some(bytes) => (self.weights_bytes.saturating_add(bytes), Band::default()),
            None => (
                self.usable_bytes,
                self.overheads
                    .estimate(&self.load.with_tokens(flight.batched))
                    .into(),
            ),
        };
        let beside_weights = usable_bytes.saturating_sub(self.weights_bytes);
        let blocks_in = |overhead: u64| {
            let available = beside_weights.saturating_sub(overhead);
            available.checked_div(pool.bytes_per_block).unwrap_or(0)
        };
        let num_blocks = blocks_in(overhead.likely);
        let needs_slots = self.has_states && self.load.largest_graph > 0;
        // A model that caches nothing has no pool.
        let max_concurrency = (blocks > 0).then(|| num_blocks as f64 / blocks as f64);
        Reservation {
            weights_bytes: self.weights_bytes,
            kv_cache_bytes: pool
                .bytes_per_block
                .saturating_mul(blocks)
                .saturating_mul(cell.batch),
            state_bytes: 0,
            extra_reserved_bytes: pool.bytes_per_block,
            overhead,
            usable_bytes,
            kv_cache_tokens: max_concurrency
                .map(|requests| self.printed_tokens(pool, num_blocks, requests, cell.context)),
            max_concurrency,
            max_sequences: Some(self.batches.sequences),
            state_slots: needs_slots.then_some(num_blocks),
            state_slots_at_most: needs_slots.then(|| blocks_in(overhead.low)),
        }
    }

    fn assumptions(&self) -> &[String] {
        &self.assumptions
    }
}

/// What MXFP4 experts are padded to, by the kernels that a device gets: Marlin on Ampere, Ada and consumer
/// Blackwell, `FlashInfer`'s on data-centre Blackwell, Triton's on Hopper, which pads nothing here
/// (`quantization/mxfp4.py::Mxfp4MoEMethod.create_weights`, 0.12).
fn expert_padding(request: &Request<'_>) -> Option<ExpertPadding> {
    request.format.filter(|format| format.method == "mxfp4")?;
    let stream = request.model.dims.hidden_size.as_ref()?.value;
    let major = request.machine.compute_capability.map(|(major, _)| major);
    let (stream_step, inner_step) = match (request.machine.kind, major) {
        (MachineKind::Nvidia, Some(9)) => (1, 64),
        (MachineKind::Nvidia, Some(10)) | (MachineKind::Amd, _) => (256, 256),
        (MachineKind::Nvidia, _) => (256, 128),
        _ => return None,
    };
    Some(ExpertPadding {
        stream,
        stream_step,
        inner_step,
    })
}

/// Which kinds of states have checkpoints in a release. KDA's kernel needs a bounded gate
/// (`linear_attn_config.gate_lower_bound`).
fn checkpoints(request: &Request<'_>, version: Version, quirks: Quirks) -> Checkpoints {
    let (mamba2, delta) = defaults::checkpoints(version);
    let bounded = || {
        let config = request.model.config.as_ref()?;
        let text = config.get("text_config").unwrap_or(config);
        text.get("linear_attn_config")?.get("gate_lower_bound")?.as_f64()
    };
    Checkpoints {
        mamba2,
        delta: delta && !quirks.has(Quirk::NoCheckpoints),
        kda: delta && bounded().is_some(),
    }
}

/// Tokens of the largest captured graph: what is declared, else twice the tokens of a decoding step with every
/// sequence, at most 512 (`config/vllm.py::_set_cudagraph_sizes`); none in eager mode.
fn largest_graph(request: &Request<'_>, sequences: u64, drafted: u64) -> u64 {
    if request.settings.flag("enforce_eager") == Some(true) {
        return 0;
    }
    let settings = request.settings;
    let listed = || {
        let text = settings.text("cudagraph_capture_sizes")?;
        let sizes = text.split(|c: char| !c.is_ascii_digit());
        sizes.filter_map(|size| size.parse().ok()).max()
    };
    let step = sequences.saturating_mul(drafted.saturating_add(1));
    settings
        .count("max_cudagraph_capture_size")
        .or_else(listed)
        .unwrap_or_else(|| step.saturating_mul(2).min(512))
}

/// `ceil(bytes * factor)`, as the engine rounds its request (`request_memory`).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and the factor is clamped to what is not negative"
)]
fn scaled(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor.max(0.0)).ceil() as u64
}

/// The whole tokens of a product that may carry a fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates; tokens are not negative"
)]
fn scaled_down(tokens: f64) -> u64 {
    tokens as u64
}

fn budget(request: &Request<'_>) -> Budget {
    let settings = request.settings;
    if let Some(blocks) = settings.count("num_gpu_blocks_override") {
        Budget::Blocks(blocks)
    } else if let Some(bytes) = settings.count("kv_cache_memory_bytes") {
        Budget::Bytes(bytes)
    } else {
        Budget::Fraction
    }
}

/// Bytes of one element of the model's dtype: what `--dtype` says, else the checkpoint's, where float32 is cast
/// to 16 bits (`config/model.py::_get_and_verify_dtype`).
fn dtype_bytes(request: &Request<'_>) -> u64 {
    let declared = request.settings.text("dtype").and_then(Dtype::parse);
    if declared == Some(Dtype::Float32) { 4 } else { 2 }
}

fn block_needs(request: &Request<'_>, layout: &Layout) -> BlockNeeds {
    let mut needs = BlockNeeds {
        capability: request.machine.compute_capability,
        cpu: request.machine.kind == MachineKind::Cpu,
        prefix_lm: Quirks::of(request).is_prefix_lm(),
        ..BlockNeeds::default()
    };
    for group in &layout.groups {
        match group.cache {
            Cache::Attention { k_dim, .. } => needs.head_dim = needs.head_dim.max(k_dim),
            Cache::Latent { .. } => needs.kind = needs.kind.max(CacheKind::Latent),
            Cache::Indexer { .. } => needs.kind = needs.kind.max(CacheKind::Sparse),
            Cache::Compressed { .. } | Cache::CompressedIndexer { .. } | Cache::Ring { .. } => {
                needs.kind = CacheKind::Compressed;
            }
            Cache::Cross { .. } | Cache::Recurrent { .. } => {}
        }
    }
    needs
}

fn skip_layers(text: Option<&str>) -> SkipLayers {
    let mut skip = SkipLayers::default();
    for word in text
        .unwrap_or_default()
        .split(|c: char| !c.is_alphanumeric() && c != '_')
    {
        match word.parse() {
            Ok(index) => skip.indexes.push(index),
            Err(_) => skip.windows |= word == "sliding_window",
        }
    }
    skip
}

/// `--speculative-config`, if it is JSON.
fn speculation(request: &Request<'_>) -> Option<Value> {
    serde_json::from_str(request.settings.text("speculative_config")?).ok()
}

fn drafted_tokens(request: &Request<'_>) -> u64 {
    let from_json = || speculation(request)?.get("num_speculative_tokens")?.as_u64();
    request
        .settings
        .count("num_speculative_tokens")
        .or_else(from_json)
        .unwrap_or(0)
}

/// Next-token-prediction layers that are loaded as the draft.
fn draft_layers(request: &Request<'_>, layout: &Layout) -> u64 {
    let speculation = speculation(request);
    let in_json = || speculation.as_ref()?.get("method")?.as_str();
    let method = request.settings.text("speculative_method").or_else(in_json);
    let loaded = method.is_some_and(|method| method.contains("mtp") || method.contains("nextn"));
    if loaded { layout.nextn_layers.min(64) } else { 0 }
}

/// The layers of the draft keep a cache too: like the last attention layers.
fn with_draft_layers(request: &Request<'_>, layout: &Layout) -> Layout {
    let mut layout = layout.clone();
    let first = u32::try_from(layout.num_layers).unwrap_or(u32::MAX);
    let drafts = u32::try_from(draft_layers(request, &layout)).unwrap_or(0);
    let last_full = layout.groups.iter_mut().filter(|group| {
        matches!(
            group.cache,
            Cache::Latent { .. }
                | Cache::Indexer { .. }
                | Cache::Attention {
                    reach: Reach::Full,
                    ..
                }
        )
    });
    for group in last_full {
        group
            .layers
            .extend((0..drafts).map(|draft| first.saturating_add(draft)));
    }
    layout
}

fn assumptions(request: &Request<'_>, version: Version, sharding: &Sharding) -> Vec<String> {
    let mut assumed = Vec::new();
    if request.version.is_none() {
        let (major, minor, _) = defaults::NEWEST.parts;
        assumed.push(format!(
            "vLLM's release is not declared: {major}.{minor} is assumed"
        ));
    }
    if request.settings.number("memory_fraction").is_none() {
        assumed.push(format!(
            "the memory fraction is vLLM's default, {:.2}",
            defaults::memory_fraction(version)
        ));
    }
    if sharding.shares_evenly(request) {
        assumed.push(String::from("every rank holds an even share of the weights"));
    }
    if request.machine.kind == MachineKind::Cpu {
        assumed.push(String::from(
            "the pool of vLLM's CPU backend (VLLM_CPU_KVCACHE_SPACE) is not modelled",
        ));
    }
    let in_json = || speculation(request).is_some_and(|json| json.get("model").is_some());
    if request.settings.get("draft_model").is_some() || in_json() {
        assumed.push(String::from(
            "the draft model's weights and cache are not counted",
        ));
    }
    assumed
}
