//! The KV and state buffers of llama.cpp, exact.
//!
//! In: a layout and the context settings. Out: bytes per layer. Pure arithmetic on counts that [`Caches::new`]
//! prepares. Source: `ggml-org/llama.cpp` (2026-10), `src/llama-context.cpp`, `llama-kv-cache.cpp`,
//! `llama-kv-cache-iswa.cpp`, `llama-kv-cache-dsa.cpp`, `llama-kv-cache-dsv4.cpp`, `llama-memory-recurrent.cpp`.

use crate::engine::KvType;
use crate::memory::layout::{Cache, Layout, Reach, State};
use crate::memory::{product, round_up};

/// Cells are allocated in steps of so many (`llama_kv_cache`, `n_pad`; `GGML_PAD(n_ctx, 256)`).
pub const CELL_STEP: u64 = 256;

/// Layers that are told apart at most (`LLAMA_MAX_LAYERS` is 512).
const MOST_LAYERS: u32 = 1 << 16;

/// Recurrent states are 32-bit whatever the model is.
const STATE_ELEMENT_BYTES: u64 = 4;

/// How llama.cpp divides its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextUsed {
    /// Tokens of all sequences together; can be more than was asked for.
    pub n_ctx: u64,
    /// Tokens that one sequence can use at most.
    pub n_ctx_seq: u64,
    /// Sequences at once.
    pub sequences: u64,
    /// True when the sequences share one pool of cells.
    pub unified: bool,
}

/// The context that llama.cpp uses when `total` tokens are asked for (`-c`) for `sequences` (`-np`): a unified
/// cache rounds the whole up to 256 tokens, a divided one each sequence's share
/// (`llama_context::llama_context`).
pub fn context_used(total: u64, sequences: u64, unified: bool) -> ContextUsed {
    let sequences = sequences.max(1);
    let padded = round_up(total, CELL_STEP);
    let (n_ctx, n_ctx_seq) = if unified {
        (padded, padded)
    } else {
        let share = round_up(padded / sequences, CELL_STEP);
        (share.saturating_mul(sequences), share)
    };
    ContextUsed {
        n_ctx,
        n_ctx_seq,
        sequences,
        unified,
    }
}

impl ContextUsed {
    /// Copies of the cells: one for each sequence unless they share a pool.
    fn streams(&self) -> u64 {
        if self.unified { 1 } else { self.sequences }
    }

    /// Cells of a layer, per stream. Window layers keep the window of every sequence that shares the pool and
    /// the tokens of one micro-batch.
    fn cells(&self, reach: Reach, ubatch: u64, swa_full: bool) -> u64 {
        match reach {
            Reach::Window(window) | Reach::Chunk(window) if !swa_full => {
                let sharing = if self.unified { self.sequences } else { 1 };
                let wanted = window.saturating_mul(sharing).saturating_add(ubatch);
                round_up(wanted.min(self.n_ctx_seq), CELL_STEP)
            }
            _ => self.n_ctx_seq,
        }
    }
}

/// What decides the bytes of a cell beside the layout.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellOptions {
    pub(super) key: KvType,
    pub(super) value: KvType,
    /// Tokens of a micro-batch.
    pub(super) ubatch: u64,
    /// Window layers get cells for the whole context (`--swa-full`).
    pub(super) swa_full: bool,
}

/// The layers of a model, ready to be counted.
#[derive(Debug)]
pub(super) struct Caches {
    groups: Vec<Group>,
}

/// Layers that take the same bytes.
#[derive(Debug)]
struct Group {
    rows: Rows,
    /// How many layers of the group come before each layer of the model, and before its end.
    before: Vec<u32>,
}

impl Group {
    fn new(rows: Rows, layers: &[u32]) -> Self {
        let end = layers
            .last()
            .map_or(0, |last| last.saturating_add(1))
            .min(MOST_LAYERS);
        let before = (0..=end).scan(layers.iter().peekable(), |rest, layer| {
            while rest.next_if(|own| **own < layer).is_some() {}
            Some(u32::try_from(layers.len() - rest.len()).unwrap_or(u32::MAX))
        });
        Self {
            rows,
            before: before.collect(),
        }
    }

    /// Layers of the group before a layer of the model.
    fn before(&self, layer: u64) -> u64 {
        let at = usize::try_from(layer).unwrap_or(usize::MAX);
        self.before
            .get(at)
            .or(self.before.last())
            .copied()
            .unwrap_or(0)
            .into()
    }
}

/// What one layer stores; widths in elements.
#[derive(Debug, Clone, Copy)]
enum Rows {
    /// Keys, and values unless the model has none.
    Tokens { key: u64, value: u64, reach: Reach },
    /// DeepSeek-V4: one entry for each run of tokens.
    Runs { key: u64, ratio: u64 },
    /// Bytes for each sequence.
    State { bytes: u64 },
}

/// Groups whose bytes are worked out once for a cell: no known model has more than 20.
const KEPT_GROUPS: usize = 24;

/// What each layer takes in one context: made once for a cell, asked for many ranges of layers.
pub(super) struct PerLayer<'a> {
    groups: &'a [Group],
    first: [CacheBytes; KEPT_GROUPS],
    context: ContextUsed,
    options: CellOptions,
}

impl PerLayer<'_> {
    /// Bytes of the layers `from..to`.
    pub(super) fn bytes(&self, from: u64, to: u64) -> CacheBytes {
        let mut sum = CacheBytes::default();
        for (at, group) in self.groups.iter().enumerate() {
            let layers = group.before(to).saturating_sub(group.before(from));
            let one = match self.first.get(at) {
                Some(known) => *known,
                None => group.rows.bytes(&self.context, &self.options),
            };
            sum.kv = sum.kv.saturating_add(one.kv.saturating_mul(layers));
            sum.state = sum.state.saturating_add(one.state.saturating_mul(layers));
        }
        sum
    }
}

/// Bytes of some layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CacheBytes {
    pub(super) kv: u64,
    pub(super) state: u64,
}

impl Caches {
    /// Prepares a layout. `flash_attention` off stores values transposed, each layer as wide as the widest;
    /// `windows` off keeps every layer in full, as llama.cpp does for architectures whose windows it ignores.
    pub(super) fn new(
        layout: &Layout,
        flash_attention: bool,
        windows: bool,
        token_shifts: Option<u64>,
    ) -> Self {
        let widest = layout
            .groups
            .iter()
            .map(|group| value_width(group.cache))
            .max()
            .unwrap_or(0);
        let keys_only = layout
            .groups
            .iter()
            .any(|group| matches!(group.cache, Cache::Compressed { .. }));
        let rows = |cache: Cache| {
            Some(match cache {
                Cache::Attention {
                    kv_heads,
                    k_dim,
                    reach,
                    ..
                } => Rows::Tokens {
                    key: kv_heads.saturating_mul(k_dim),
                    value: match value_width(cache) {
                        0 => 0,
                        _ if keys_only => 0,
                        width if flash_attention => width,
                        _ => widest,
                    },
                    reach: if windows { reach } else { Reach::Full },
                },
                Cache::Latent { rank, rope_dim } => Rows::Tokens {
                    key: rank.saturating_add(rope_dim),
                    value: 0,
                    reach: Reach::Full,
                },
                Cache::Indexer { head_dim } => Rows::Tokens {
                    key: head_dim,
                    value: 0,
                    reach: Reach::Full,
                },
                Cache::Compressed { ratio, head_dim } | Cache::CompressedIndexer { ratio, head_dim } => {
                    Rows::Runs { key: head_dim, ratio }
                }
                Cache::Ring { width, tokens } => Rows::State {
                    bytes: product(&[width, tokens, STATE_ELEMENT_BYTES]),
                },
                Cache::Recurrent { state, .. } => Rows::State {
                    bytes: state_bytes(state, token_shifts),
                },
                // Keys and values of the encoder are worked out anew in every step.
                Cache::Cross { .. } => return None,
            })
        };
        let groups = layout
            .groups
            .iter()
            .filter_map(|group| Some(Group::new(rows(group.cache)?, &group.layers)));
        Self {
            groups: groups.collect(),
        }
    }

    /// Bytes by layer for one context.
    pub(super) fn per_layer(&self, context: &ContextUsed, options: &CellOptions) -> PerLayer<'_> {
        let mut first = [CacheBytes::default(); KEPT_GROUPS];
        for (bytes, group) in first.iter_mut().zip(&self.groups) {
            *bytes = group.rows.bytes(context, options);
        }
        PerLayer {
            groups: &self.groups,
            first,
            context: *context,
            options: *options,
        }
    }

    /// Cells of the longest layer, for the size of the attention mask.
    pub(super) fn longest(&self, context: &ContextUsed) -> u64 {
        let attends = self
            .groups
            .iter()
            .any(|group| !matches!(group.rows, Rows::State { .. }));
        if attends { context.n_ctx_seq } else { 0 }
    }
}

impl Rows {
    /// Bytes of one layer.
    fn bytes(self, context: &ContextUsed, options: &CellOptions) -> CacheBytes {
        match self {
            Self::Tokens { key, value, reach } => {
                let row = options
                    .key
                    .row_bytes(key)
                    .saturating_add(options.value.row_bytes(value));
                let cells = context.cells(reach, options.ubatch, options.swa_full);
                CacheBytes {
                    kv: product(&[context.streams(), cells, row]),
                    state: 0,
                }
            }
            Self::Runs { key, ratio } => {
                // Each sequence has runs of its own, whether or not the sequences share the pool.
                let cells = round_up(context.n_ctx_seq.div_ceil(ratio.max(1)), CELL_STEP);
                CacheBytes {
                    kv: product(&[context.sequences, cells, options.key.row_bytes(key)]),
                    state: 0,
                }
            }
            Self::State { bytes } => CacheBytes {
                kv: 0,
                state: bytes.saturating_mul(context.sequences),
            },
        }
    }
}

fn value_width(cache: Cache) -> u64 {
    match cache {
        Cache::Attention { kv_heads, v_dim, .. } => kv_heads.saturating_mul(v_dim),
        _ => 0,
    }
}

/// Bytes of one recurrent layer for one sequence. RWKV keeps as many shifted tokens as its file says.
fn state_bytes(state: State, token_shifts: Option<u64>) -> u64 {
    let (mut conv, recurrent) = state.elements();
    if let (State::Rwkv { width, .. }, Some(shifts)) = (state, token_shifts) {
        conv = width.saturating_mul(shifts);
    }
    conv.saturating_add(recurrent).saturating_mul(STATE_ELEMENT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::layout::LayerGroup;

    #[test]
    fn each_slot_rounds_up_so_the_whole_can_exceed_what_was_asked_for() {
        let used = context_used(5000, 3, false);
        assert_eq!((used.n_ctx, used.n_ctx_seq), (5376, 1792));
        let used = context_used(5000, 3, true);
        assert_eq!((used.n_ctx, used.n_ctx_seq), (5120, 5120));
        let used = context_used(u64::MAX, 0, false);
        assert_eq!(used.n_ctx, u64::MAX);
    }

    #[test]
    fn a_larger_micro_batch_makes_window_layers_larger() {
        let used = context_used(8192, 1, false);
        let cells = |ubatch| used.cells(Reach::Window(4096), ubatch, false);
        assert_eq!((cells(512), cells(1024)), (4608, 5120));
        assert_eq!(used.cells(Reach::Window(4096), 512, true), 8192);
        let shared = context_used(32_768, 2, true);
        assert_eq!(shared.cells(Reach::Window(1024), 64, false), 2304);
    }

    #[test]
    fn without_flash_attention_every_value_row_is_as_wide_as_the_widest() {
        let attention = |kv_heads, layer| LayerGroup {
            cache: Cache::Attention {
                kv_heads,
                k_dim: 64,
                v_dim: 64,
                reach: Reach::Full,
            },
            layers: vec![layer],
        };
        let layout = Layout {
            num_layers: 2,
            nextn_layers: 0,
            groups: vec![attention(8, 0), attention(2, 1)],
        };
        let options = CellOptions {
            key: KvType::F16,
            value: KvType::F16,
            ubatch: 512,
            swa_full: false,
        };
        let used = context_used(256, 1, false);
        let kv = |flash| {
            Caches::new(&layout, flash, true, None)
                .per_layer(&used, &options)
                .bytes(0, 2)
                .kv
        };
        assert_eq!(kv(true), 256 * 2 * (512 + 512 + 128 + 128));
        assert_eq!(kv(false), 256 * 2 * (512 + 512 + 128 + 512));
    }
}
