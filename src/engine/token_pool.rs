//! What a rank keeps per token and per sequence, for engines whose pool is an array of tokens.
//!
//! SGLang, TGI and TensorRT-LLM size their pools by bytes per token over all layers of a rank; they differ in
//! what they do with windows, states and rounding, which their own files say.

use super::sharding::Sharding;
use super::{Contradiction, KvType, Request};
use crate::memory::layout::{Cache, Layout, Reach};
use crate::memory::product;
use crate::model::Dtype;

/// The caches of the pipeline stage that keeps most, with the number of its layers that keep each.
#[derive(Debug, Clone)]
pub(super) struct RankCaches {
    caches: Vec<(Cache, u64)>,
    tensor: Sharding,
    dtype: KvType,
}

/// Bytes of a rank over all its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cells {
    /// Per token, layers that keep the whole context.
    pub(super) full: u64,
    /// Per token, layers that keep a window.
    pub(super) window: u64,
    /// The largest window in tokens.
    pub(super) window_tokens: u64,
    /// Per sequence: recurrent states.
    pub(super) state: u64,
    /// Per sequence: the encoder's keys and values.
    pub(super) encoder: u64,
}

/// What every engine here asks first: degrees that divide, a KV type it knows, a layout.
pub(super) fn admitted<'a>(
    request: &Request<'a>,
    sharding: &Sharding,
    refuses: fn(KvType) -> Option<Contradiction>,
) -> Result<&'a Layout, Vec<Contradiction>> {
    let settings = request.settings;
    let declared = settings
        .text("kv_cache")
        .or_else(|| settings.text("kv_cache_dtype"));
    let kv_type = declared.and_then(KvType::parse).and_then(refuses);
    let mut found: Vec<_> = sharding
        .contradictions(request)
        .into_iter()
        .chain(kv_type)
        .collect();
    match &request.model.layout {
        Ok(layout) if found.is_empty() => return Ok(layout),
        Ok(_) => {}
        Err(_) => found.push(Contradiction {
            rule: Contradiction::GENERAL,
            message: format!("what the layers of {} cache is not known", request.model.name),
            settings: Vec::new(),
        }),
    }
    Err(found)
}

impl RankCaches {
    /// The caches of the worst stage of a request's layout.
    pub(super) fn of(request: &Request<'_>, layout: &Layout, sharding: Sharding) -> Self {
        let stage_caches = |stage: std::ops::Range<u64>| -> Vec<(Cache, u64)> {
            let within = |layer: &&u32| stage.contains(&u64::from(**layer));
            let count = |layers: &[u32]| layers.iter().filter(within).count() as u64;
            let groups = layout.groups.iter();
            groups.map(|group| (group.cache, count(&group.layers))).collect()
        };
        let declared = request.settings.text("dtype").and_then(Dtype::parse);
        let of = |caches| Self {
            caches,
            tensor: sharding,
            dtype: if declared == Some(Dtype::Float32) {
                KvType::F32
            } else {
                KvType::Bf16
            },
        };
        let stages = sharding.stages(layout.num_layers).into_iter().map(stage_caches);
        let weight = |rank: &Self| {
            let cells = rank.cells(KvType::Auto, None);
            (cells.full.saturating_add(cells.window), cells.state)
        };
        stages
            .map(of)
            .max_by_key(weight)
            .unwrap_or_else(|| of(Vec::new()))
    }

    /// Bytes per token and per sequence under a KV type; `state_bytes` is one element of a recurrent state
    /// where declared.
    pub(super) fn cells(&self, kv: KvType, state_bytes: Option<u64>) -> Cells {
        let kv = if kv == KvType::Auto { self.dtype } else { kv };
        let sparse = self
            .caches
            .iter()
            .any(|(cache, _)| matches!(cache, Cache::Indexer { .. }));
        let mut cells = Cells::default();
        for (cache, layers) in &self.caches {
            let times = |bytes: u64| bytes.saturating_mul(*layers);
            match *cache {
                Cache::Attention {
                    kv_heads,
                    k_dim,
                    v_dim,
                    reach,
                } => {
                    let bytes = times(product(&[
                        self.tensor.kv_heads(kv_heads),
                        kv.head_bytes(k_dim, v_dim),
                    ]));
                    match reach {
                        Reach::Full => cells.full = cells.full.saturating_add(bytes),
                        Reach::Window(tokens) | Reach::Chunk(tokens) => {
                            cells.window = cells.window.saturating_add(bytes);
                            cells.window_tokens = cells.window_tokens.max(tokens);
                        }
                    }
                }
                Cache::Latent { rank, rope_dim } => {
                    // Sparse attention keeps fp8 latents with a scale per 128 and a 16-bit rotary part.
                    let bytes = if sparse && kv == KvType::Fp8 {
                        rank.saturating_add(rank.div_ceil(128) * 4)
                            .saturating_add(rope_dim.saturating_mul(2))
                    } else {
                        kv.row_bytes(rank.saturating_add(rope_dim))
                    };
                    cells.full = cells.full.saturating_add(times(bytes));
                }
                Cache::Indexer { head_dim } => {
                    let bytes = head_dim.saturating_add(head_dim.div_ceil(128) * 4);
                    cells.full = cells.full.saturating_add(times(bytes));
                }
                Cache::Ring { width, tokens } => {
                    let bytes = product(&[width, tokens, 4]);
                    cells.state = cells.state.saturating_add(times(bytes));
                }
                Cache::CompressedIndexer { ratio, head_dim } => {
                    let bytes = head_dim.saturating_add(head_dim.div_ceil(128).saturating_mul(4));
                    cells.full = cells.full.saturating_add(times(bytes.div_ceil(ratio.max(1))));
                }
                Cache::Compressed { ratio, head_dim } => {
                    let bytes = kv.row_bytes(head_dim).div_ceil(ratio.max(1));
                    cells.full = cells.full.saturating_add(times(bytes));
                }
                Cache::Cross {
                    kv_heads,
                    k_dim,
                    v_dim,
                    encoder_tokens,
                } => {
                    let heads = self.tensor.kv_heads(kv_heads);
                    let bytes = product(&[heads, kv.head_bytes(k_dim, v_dim), encoder_tokens]);
                    cells.encoder = cells.encoder.saturating_add(times(bytes));
                }
                Cache::Recurrent {
                    state,
                    state_element_bytes,
                } => {
                    let (conv, recurrent) = state.elements();
                    let share = |elements: u64| elements.div_ceil(self.tensor.tensor);
                    let element = state_bytes.or(state_element_bytes).unwrap_or(2);
                    let bytes =
                        product(&[share(conv), 2]).saturating_add(product(&[share(recurrent), element]));
                    cells.state = cells.state.saturating_add(times(bytes));
                }
            }
        }
        cells
    }
}
