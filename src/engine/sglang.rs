//! SGLang: static pools inside a fraction of the memory, sized without a profiling run.
//!
//! The fraction covers weights and pools; activations and graphs live in what it leaves. So the overhead here
//! is only what the runtime holds before the weights are loaded. Source: SGLang 0.5.23
//! `srt/arg_groups/memory_hook.py::handle_gpu_memory_settings`, `srt/mem_cache/kv_cache_configurator.py`,
//! `srt/model_executor/pool_configurator.py`; read, and compared with public start-up logs.

use super::sharding::Sharding;
use super::token_pool::{Cells, RankCaches, admitted};
use super::{Band, Cell, Contradiction, Engine, KvType, Plan, Request, Reservation, overheads};
use crate::memory::layout::{Cache, Layout};
use crate::memory::{MIB, round_up};
use crate::model::Dtype;

/// `swa_full_tokens_ratio`: tokens of the window pool for one of the full pool.
const WINDOW_RATIO: f64 = 0.8;
/// The same for models with compressed caches (DeepSeek-V4).
const WINDOW_RATIO_COMPRESSED: f64 = 0.1;
/// `mamba_full_memory_ratio`: bytes of the state pool for one of the KV pool.
const STATE_RATIO: f64 = 0.9;
/// State slots that one request may hold while prefixes are cached.
const SLOTS_WITH_PREFIXES: u64 = 3;
/// Tokens between two evictions from the window pool.
const EVICTION_INTERVAL: u64 = 128;

struct SglangPlan {
    caches: RankCaches,
    weights_bytes: u64,
    usable_bytes: u64,
    overhead: Band,
    page: u64,
    window_ratio: f64,
    state_ratio: f64,
    slots_per_request: u64,
    state_element_bytes: Option<u64>,
    max_total_tokens: Option<u64>,
    assumptions: Vec<String>,
}

/// The plan of one deployment of one model on one machine.
///
/// # Errors
/// The reasons why SGLang refuses to start whatever the memory.
pub fn plan(request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    let sharding = Sharding::of(request);
    let layout = admitted(request, &sharding, kv_contradiction)?;
    Ok(Box::new(SglangPlan::new(request, layout, sharding)))
}

/// Why SGLang refuses a KV type, whatever the memory: it knows 16-bit, fp8 and 4-bit floats.
pub fn kv_contradiction(kv: KvType) -> Option<Contradiction> {
    let known = matches!(
        kv,
        KvType::Auto | KvType::F16 | KvType::Bf16 | KvType::Fp8 | KvType::Nvfp4
    );
    (!known).then(|| Contradiction {
        rule: "kv-cache-dtype-unsupported",
        message: format!("SGLang has no KV cache of type {}", kv.name()),
        settings: vec!["kv_cache"],
    })
}

impl SglangPlan {
    fn new(request: &Request<'_>, layout: &Layout, sharding: Sharding) -> Self {
        let settings = request.settings;
        let latent = layout
            .groups
            .iter()
            .any(|group| matches!(group.cache, Cache::Latent { .. }));
        let compressed = layout
            .groups
            .iter()
            .any(|group| matches!(group.cache, Cache::Compressed { .. }));
        let memory = request.machine.engine_memory_bytes();
        let declared = settings.number("memory_fraction");
        let fraction = declared.unwrap_or_else(|| static_fraction(request, &sharding, latent));
        let load = overheads::load(request, &sharding, 0, 0);
        let mut assumptions = Vec::new();
        if declared.is_none() {
            assumptions.push(format!(
                "the static memory fraction is SGLang's default here, {fraction:.3}"
            ));
        }
        if sharding.shares_evenly(request) {
            assumptions.push(String::from("every rank holds an even share of the weights"));
        }
        let prefixes = settings.flag("prefix_caching").unwrap_or(true);
        let state_type = |id| {
            settings
                .text(id)
                .and_then(Dtype::parse)
                .map(|dtype| dtype.bits() / 8)
        };
        let default_ratio = if compressed {
            WINDOW_RATIO_COMPRESSED
        } else {
            WINDOW_RATIO
        };
        let ratio = |id, default: f64| {
            settings
                .number(id)
                .filter(|ratio| *ratio > 0.0)
                .unwrap_or(default)
        };
        Self {
            weights_bytes: sharding.rank_weights_bytes(request),
            usable_bytes: scaled(memory, fraction),
            overhead: overheads::of(Engine::Sglang, request.version, request.settings)
                .estimate(&load)
                .into(),
            page: settings.count("page_size").unwrap_or(1).max(1),
            window_ratio: ratio("swa_full_tokens_ratio", default_ratio),
            state_ratio: ratio("mamba_full_memory_ratio", STATE_RATIO),
            slots_per_request: if prefixes { SLOTS_WITH_PREFIXES } else { 1 },
            state_element_bytes: state_type("mamba_ssm_cache_dtype"),
            max_total_tokens: settings.count("max_total_tokens"),
            caches: RankCaches::of(request, layout, sharding),
            assumptions,
        }
    }

    /// Bytes of the pools for one token of the full pool, its share of the window pool included. A model whose
    /// layers all slide has one pool.
    fn cell_bytes(&self, cells: &Cells) -> f64 {
        if cells.full == 0 {
            cells.window as f64
        } else {
            cells.full as f64 + self.window_ratio * cells.window as f64
        }
    }

    /// Tokens of the full pool that `batch` sequences need: their own, and as many as the window pool needs to
    /// be large enough.
    fn tokens(&self, cells: &Cells, context: u64, batch: u64) -> u64 {
        let full = round_up(context, self.page).saturating_mul(batch);
        if cells.window == 0 || cells.full == 0 {
            return full;
        }
        let held = cells
            .window_tokens
            .saturating_add(EVICTION_INTERVAL)
            .saturating_add(self.page.saturating_mul(2))
            .min(round_up(context, self.page));
        let window = scaled(held.saturating_mul(batch), 1.0 / self.window_ratio);
        full.max(window)
    }

    /// Tokens of the full pool in `rest` bytes, states taken out first.
    fn pool_tokens(&self, cells: &Cells, rest: u64) -> u64 {
        let states = match cells.state {
            0 => 0,
            state => {
                let budget = rest as f64 * self.state_ratio / (1.0 + self.state_ratio);
                (whole(budget) / state).saturating_mul(state)
            }
        };
        let cell = self.cell_bytes(cells);
        if cell <= 0.0 {
            return 0;
        }
        let tokens = whole(rest.saturating_sub(states) as f64 / cell);
        let tokens = tokens / self.page * self.page;
        tokens.min(self.max_total_tokens.unwrap_or(u64::MAX))
    }
}

impl Plan for SglangPlan {
    /// `kv_cache_bytes` is what the pools must hold for the batch, the window pool's share included;
    /// `state_bytes` its slots of recurrent states. `extra_reserved_bytes` is the padding page, and what the
    /// fixed ratio of the two pools forces the engine to give one of them beyond its need.
    fn reserve(&self, cell: Cell) -> Reservation {
        let cells = self.caches.cells(cell.kv, self.state_element_bytes);
        let tokens = self.tokens(&cells, cell.context, cell.batch);
        let kv_cache_bytes = whole((tokens as f64 * self.cell_bytes(&cells)).ceil())
            .saturating_add(cells.encoder.saturating_mul(cell.batch));
        let slots = cell
            .batch
            .saturating_mul(self.slots_per_request)
            .saturating_add(1);
        let state_bytes = cells.state.saturating_mul(slots);
        let forced = if state_bytes == 0 || kv_cache_bytes == 0 {
            0
        } else {
            let whole_pool = (state_bytes as f64 * (1.0 + self.state_ratio) / self.state_ratio)
                .max(kv_cache_bytes as f64 * (1.0 + self.state_ratio));
            whole(whole_pool).saturating_sub(state_bytes.saturating_add(kv_cache_bytes))
        };
        let padding = cells.full.saturating_add(cells.window).saturating_mul(self.page);
        let rest = self
            .usable_bytes
            .saturating_sub(self.weights_bytes)
            .saturating_sub(self.overhead.likely);
        let pool = self.pool_tokens(&cells, rest);
        let one = self.tokens(&cells, cell.context, 1).max(1);
        Reservation {
            weights_bytes: self.weights_bytes,
            kv_cache_bytes,
            state_bytes,
            extra_reserved_bytes: forced.saturating_add(padding),
            overhead: self.overhead,
            usable_bytes: self.usable_bytes,
            kv_cache_tokens: Some(pool),
            max_concurrency: Some(pool as f64 / one as f64),
            max_sequences: None,
            state_slots: None,
            state_slots_at_most: None,
        }
    }

    fn assumptions(&self) -> &[String] {
        &self.assumptions
    }
}

/// What SGLang takes as its static fraction when none is declared: the memory without a reserve for
/// activations, graphs and communication. MiB, as the engine calculates.
fn static_fraction(request: &Request<'_>, sharding: &Sharding, latent: bool) -> f64 {
    let memory = request.machine.engine_memory_bytes() / MIB;
    if memory == 0 {
        return 0.95;
    }
    let settings = request.settings;
    let (chunk, graph_batch) = step_defaults(memory, sharding.tensor >= 4);
    let chunk = settings.count("chunked_prefill_size").unwrap_or(chunk);
    let most = settings.count("max_sequences").unwrap_or(u64::MAX);
    let graph_batch = settings
        .count("cuda_graph_max_bs")
        .unwrap_or_else(|| graph_batch.min(most));
    let graphs = match settings.flag("enforce_eager") {
        Some(true) => 0.0,
        _ if latent => 2.0 * graph_batch as f64 + 1536.0,
        _ => 2.0 * graph_batch as f64 + 8.0 * prefill_graphs(chunk) as f64,
    };
    let ranks = sharding.tensor.saturating_mul(sharding.pipeline) as f64;
    let mut reserved = 512.0 + 1.5 * chunk.max(2048) as f64 + ranks / 8.0 * 1024.0 + graphs;
    if memory > 61_440 {
        reserved = reserved.max(10_240.0);
    }
    let fraction = ((memory as f64 - reserved) / memory as f64 * 1000.0).round() / 1000.0;
    let multimodal = overheads::load(request, sharding, 0, 0).multimodal;
    let fraction = if multimodal {
        fraction * vision_factor(request)
    } else {
        fraction
    };
    fraction.clamp(0.0, 1.0)
}

/// Tokens of a prefill chunk and sequences of the largest decode graph, by device memory in MiB.
fn step_defaults(memory: u64, many_ranks: bool) -> (u64, u64) {
    match memory {
        0..20_480 => (2048, 8),
        20_480..35_840 => (4096, if many_ranks { 160 } else { 48 }),
        35_840..61_440 => (4096, if many_ranks { 160 } else { 32 }),
        61_440..163_840 => (8192, if many_ranks { 512 } else { 256 }),
        _ => (16_384, 512),
    }
}

/// How many prefill graphs are captured for chunks of at most `tokens`: the steps widen with the size
/// (`cuda_graph_hook.py::generate_prefill_cuda_graph_batch_sizes`).
fn prefill_graphs(tokens: u64) -> u64 {
    let ranges = [
        (0, 32, 4),
        (32, 256, 16),
        (256, 512, 32),
        (512, 1024, 64),
        (1024, 4096, 256),
        (4096, u64::MAX, 512),
    ];
    let steps = |(after, upto, step): &(u64, u64, u64)| tokens.min(*upto).saturating_sub(*after) / step;
    ranges.iter().map(steps).sum()
}

/// Vision models leave more room, the more the larger their tower.
fn vision_factor(request: &Request<'_>) -> f64 {
    let tower = || {
        let vision = request.model.config.as_ref()?.get("vision_config")?;
        let number = |keys: [&str; 2]| keys.iter().find_map(|key| vision.get(*key)?.as_f64());
        let layers = number(["num_hidden_layers", "depth"])?;
        let hidden = number(["hidden_size", "embed_dim"])?;
        Some(layers * hidden * hidden / (24.0 * 1024.0 * 1024.0))
    };
    tower().map_or(0.95, |size| 0.95 * (1.0 - 0.1 * (size - 1.0)).clamp(0.8, 1.05))
}

fn scaled(bytes: u64, factor: f64) -> u64 {
    whole((bytes as f64 * factor).ceil())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and negative values are clamped"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures::{attention, h100, model, settings};
    use crate::engine::{Request, Version};
    use crate::memory::GIB;
    use crate::memory::layout::{Reach, State};
    use crate::model::Model;

    fn planned(model: &Model, values: &[(&str, &str)]) -> Box<dyn Plan> {
        plan(&Request {
            model,
            machine: &h100(),
            version: Version::parse("0.5.23"),
            settings: &settings(values),
            weights_bytes: 16 * GIB,
            format: None,
        })
        .unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    const fn cell(context: u64, batch: u64) -> Cell {
        Cell {
            context,
            batch,
            kv: KvType::Auto,
        }
    }

    #[test]
    fn the_pool_is_what_the_static_fraction_leaves_beside_the_weights() {
        let llama = model(&[(attention(8, 128, Reach::Full), 32)]);
        let reservation = planned(&llama, &[("memory_fraction", "0.8")]).reserve(cell(8192, 2));
        assert_eq!(reservation.kv_cache_bytes, 2 * GIB);
        let rest = reservation.usable_bytes - 16 * GIB - reservation.overhead.likely;
        assert_eq!(reservation.kv_cache_tokens, Some(rest / 131_072));
    }

    #[test]
    fn the_default_fraction_reserves_for_chunks_and_graphs() {
        let llama = model(&[(attention(8, 128, Reach::Full), 32)]);
        // 512 + 1.5 x 8192 + 1024 / 8 + 2 x 256 + 8 x 58 = 13,904 of 81,559 MiB.
        let assumed = planned(&llama, &[]).assumptions()[0].clone();
        assert!(assumed.ends_with("0.830"), "{assumed}");
        assert_eq!([2048, 4096, 8192, 16_384].map(prefill_graphs), [42, 50, 58, 74]);
    }

    #[test]
    fn windows_have_a_pool_of_four_fifths() {
        let hybrid = model(&[
            (attention(8, 64, Reach::Window(128)), 12),
            (attention(8, 64, Reach::Full), 12),
        ]);
        let need =
            |values: &[(&str, &str)]| planned(&hybrid, values).reserve(cell(131_072, 1)).kv_cache_bytes;
        let full = 131_072u64 * 12 * 8 * 128 * 2;
        assert_eq!(need(&[]), full + (full * 4).div_ceil(5));
        assert_eq!(need(&[("swa_full_tokens_ratio", "0.25")]), full + full / 4);
    }

    #[test]
    fn a_request_holds_three_state_slots_while_prefixes_are_cached() {
        let state = Cache::Recurrent {
            state: State::Mamba1 {
                inner: 1000,
                state: 10,
                conv_kernel: 1,
            },
            state_element_bytes: None,
        };
        let hybrid = model(&[(state, 1), (attention(8, 64, Reach::Full), 1)]);
        let slots =
            |values: &[(&str, &str)]| planned(&hybrid, values).reserve(cell(16, 2)).state_bytes / 20_000;
        assert_eq!(slots(&[]), 2 * 3 + 1);
        assert_eq!(slots(&[("prefix_caching", "false")]), 2 + 1);
    }

    #[test]
    fn ggml_types_are_refused() {
        assert!(kv_contradiction(KvType::Q8_0).is_some());
        assert!(kv_contradiction(KvType::Fp8).is_none());
    }
}
