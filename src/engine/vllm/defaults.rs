//! What vLLM chooses when nothing is declared: memory fraction, batch sizes, block sizes, modes; by release.
//!
//! Source: vLLM 0.33 `engine/arg_utils.py::get_batch_defaults`, `config/vllm.py::max_concurrent_batches`,
//! `platforms/interface.py::update_block_size_for_backend`; the releases at which they changed were read off
//! the packages 0.19.1, 0.20.0, 0.25.1, 0.26.0 and 0.28.0 to 0.32.0.

use super::specs::PrefixStates;
use crate::engine::sharding::Sharding;
use crate::engine::{Request, Settings, Version};
use crate::machine::{Machine, MachineKind};
use crate::memory::GIB;

/// The release whose rules apply where none is declared.
pub(super) const NEWEST: Version = Version::new(0, 33, 0);

/// The first release with the fraction 0.92 in place of 0.90.
const FRACTION_RAISED: Version = Version::new(0, 20, 0);

/// The first release that counts the tokens of overlapping steps for windows (`max_in_flight_tokens`).
const OVERLAPPING_STEPS: Version = Version::new(0, 26, 0);

/// The first release that caches prefixes of models with recurrent layers by default
/// (`ModelConfig.is_prefix_caching_supported`).
const ALIGNED_STATES: Version = Version::new(0, 26, 0);

/// The first release that keeps only the last state of a prefix for Mamba layers too (mode `align`, not `all`).
const LAST_STATE_ONLY: Version = Version::new(0, 28, 0);

/// The first release whose log prints concurrency x length as the tokens of the pool.
pub(super) const TOKENS_BY_CONCURRENCY: Version = Version::new(0, 20, 1);

/// The first release that keeps a checkpoint of a Mamba-2 state inside a prefill.
const MAMBA2_CHECKPOINTS: Version = Version::new(0, 32, 0);

/// The first release that keeps one of a gated-delta or KDA state.
const DELTA_CHECKPOINTS: Version = Version::new(0, 33, 0);

/// The first release on the V1 engine that takes 1024 sequences on large GPUs.
const MANY_SEQUENCES: Version = Version::new(0, 8, 3);

/// The default fraction of device memory (`config/cache.py::CacheConfig.gpu_memory_utilization`).
pub(super) fn memory_fraction(version: Version) -> f64 {
    if version < FRACTION_RAISED { 0.90 } else { 0.92 }
}

/// How much a step may schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batches {
    /// `max_num_seqs`.
    pub(super) sequences: u64,
    /// `max_num_batched_tokens`, where declared.
    declared_tokens: Option<u64>,
    /// `max_num_batched_tokens` before the length of the context bounds it.
    default_tokens: u64,
    chunked_prefill: bool,
    /// Steps under way at once.
    pub(super) concurrent: u64,
}

impl Batches {
    pub(super) fn of(
        request: &Request<'_>,
        version: Version,
        sharding: &Sharding,
        encoder_decoder: bool,
        step_floor: u64,
    ) -> Self {
        let settings = request.settings;
        let (mut tokens, mut sequences) = batch_defaults(
            request.machine,
            version,
            sharding.tensor.saturating_mul(sharding.pipeline),
        );
        if settings.text("performance_mode") == Some("throughput") {
            (tokens, sequences) = (tokens.saturating_mul(2), sequences.saturating_mul(2));
        }
        tokens = tokens.max(step_floor);
        let declared_tokens = settings.count("max_batched_tokens").filter(|tokens| *tokens > 0);
        if let Some(declared) = declared_tokens {
            sequences = sequences.min(declared);
        }
        Self {
            sequences: settings.count("max_sequences").unwrap_or(sequences).max(1),
            declared_tokens,
            default_tokens: tokens,
            chunked_prefill: settings.flag("chunked_prefill").unwrap_or(!encoder_decoder),
            concurrent: concurrent_batches(settings, version, sharding.pipeline),
        }
    }

    /// `max_num_batched_tokens` under a `max_model_len`.
    pub(super) fn tokens(&self, context: u64) -> u64 {
        self.declared_tokens.unwrap_or_else(|| {
            let floor = if self.chunked_prefill { 0 } else { context };
            self.default_tokens
                .max(floor)
                .min(self.sequences.saturating_mul(context))
        })
    }
}

/// Default batch tokens (of the server) and sequences by device memory.
fn batch_defaults(machine: &Machine, version: Version, world: u64) -> (u64, u64) {
    let memory = machine.memory_bytes;
    let many = if version < MANY_SEQUENCES { 256 } else { 1024 };
    // The engine asks for "a100" and the GB10's name in the device name; ids carry both.
    let small_by_name = machine.id.contains("a100") || machine.id.contains("gb10");
    match machine.kind {
        MachineKind::Cpu => (world.saturating_mul(2048), world.saturating_mul(128)),
        _ if memory >= 160 * GIB => (16_384, many),
        _ if memory >= 70 * GIB && !small_by_name => (8192, many),
        _ => (2048, 256),
    }
}

/// Steps under way at once: one a pipeline stage, and one more that is being scheduled.
fn concurrent_batches(settings: &Settings, version: Version, pipeline: u64) -> u64 {
    if version < OVERLAPPING_STEPS {
        return 1;
    }
    let asynchronous = settings.flag("async_scheduling").unwrap_or(true);
    pipeline.saturating_add(u64::from(asynchronous))
}

/// Which states of shared prefixes recurrent layers keep: prefix caching is on by default for decoders with
/// attention, and cannot be for models without.
pub(super) fn prefix_states(request: &Request<'_>, version: Version, attention: bool) -> PrefixStates {
    let caching = request
        .settings
        .flag("prefix_caching")
        .unwrap_or(version >= ALIGNED_STATES);
    let every = match request.settings.text("mamba_cache_mode") {
        Some("all") => true,
        Some("align") => false,
        _ => version < LAST_STATE_ONLY,
    };
    if !attention || !caching {
        PrefixStates::None
    } else if every {
        PrefixStates::Every(mamba_chunk(request))
    } else {
        PrefixStates::Last
    }
}

/// `ModelConfig.get_mamba_chunk_size`.
fn mamba_chunk(request: &Request<'_>) -> u64 {
    let declared = || {
        let config = request.model.config.as_ref()?;
        let text = config.get("text_config").unwrap_or(config);
        ["mamba_chunk_size", "chunk_size"]
            .iter()
            .find_map(|key| text.get(*key)?.as_u64())
    };
    declared().filter(|tokens| *tokens > 0).unwrap_or(2048)
}

/// Whether a release keeps a checkpoint of Mamba-2 states, and of gated-delta and KDA states.
pub(super) fn checkpoints(version: Version) -> (bool, bool) {
    (version >= MAMBA2_CHECKPOINTS, version >= DELTA_CHECKPOINTS)
}

/// What attention layers keep, as far as backends care; the later ones decide where a model has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum CacheKind {
    /// Keys and values of heads.
    #[default]
    Heads,
    /// Latent vectors.
    Latent,
    /// Latent vectors that are read through an indexer.
    Sparse,
    /// Compressed runs of tokens (DeepSeek-V4).
    Compressed,
}

/// What decides the block size beside the declared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct BlockNeeds {
    /// Compute capability, where known.
    pub(super) capability: Option<(u32, u32)>,
    /// The device is a CPU.
    pub(super) cpu: bool,
    /// What attention layers keep.
    pub(super) kind: CacheKind,
    /// Image tokens attend both ways (Gemma 3 with vision).
    pub(super) prefix_lm: bool,
    /// KV elements take one byte.
    pub(super) fp8: bool,
    /// Widest attention head.
    pub(super) head_dim: u64,
}

impl BlockNeeds {
    /// Tokens of a block: the declared size, raised to what the attention backend supports. Backends by
    /// compute capability as measured on 0.33.
    pub(super) fn block_size(&self, declared: Option<u64>) -> u64 {
        let least = self.backend_block();
        match declared.filter(|tokens| *tokens > 0) {
            Some(tokens) if tokens % least == 0 => tokens,
            Some(tokens) => tokens.max(least),
            None => least,
        }
    }

    fn backend_block(&self) -> u64 {
        let major = self.capability.map_or(0, |(major, _)| major);
        let (hopper, blackwell) = (major == 9, major == 10);
        match self.kind {
            CacheKind::Compressed => 256,         // FlashMLA sparse, compressed caches
            CacheKind::Sparse => 64,              // FlashMLA sparse and its indexer
            CacheKind::Latent if blackwell => 32, // FlashInfer MLA
            CacheKind::Latent if hopper && self.fp8 => 64, // FlashMLA
            CacheKind::Heads if self.prefix_lm && blackwell => 64, // FlashInfer beside Triton
            CacheKind::Heads if self.head_dim >= 512 && hopper && self.fp8 => 64, // FlashAttention 4
            _ if self.cpu => 32,
            _ => 16,
        }
    }
}
