//! A group of layers as reports say it: one name for what it keeps, and flat numbers.

use serde::Serialize;

use crate::memory::layout::{Cache, LayerGroup, Reach, State};

/// One group of a layout, flattened. `None` where a number means nothing for the kind.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    /// What one layer keeps: `full-attention`, `sliding-window`, `latent`, `mamba2`, ...
    pub(super) kind: &'static str,
    /// Number of layers.
    pub(super) layers: u64,
    /// KV heads of the whole model.
    pub(super) kv_heads: Option<u64>,
    /// Elements of one key: of one head, of a latent with its rotary key, of an index key.
    pub(super) k_dim: Option<u64>,
    /// Elements of one value of one head; 0 where only keys or latents are kept.
    pub(super) v_dim: Option<u64>,
    /// Tokens it looks back: the window, the chunk, the encoder's tokens.
    pub(super) window: Option<u64>,
    /// Elements that one more token adds, per layer.
    pub(super) elements_per_token: u64,
    /// Bytes of fixed state, per layer and sequence. Elements whose width the model's config does not fix are
    /// counted with 2 bytes.
    pub(super) state_bytes: u64,
}

/// Bytes of a state's element where the model's config does not fix them: the width of 16-bit models.
const STATE_ELEMENT_BYTES: u64 = 2;

impl Group {
    /// Flattens a group.
    pub(super) fn new(group: &LayerGroup) -> Self {
        let mut flat = Self {
            kind: kind(&group.cache),
            layers: group.count(),
            kv_heads: None,
            k_dim: None,
            v_dim: None,
            window: None,
            elements_per_token: group.cache.elements_per_token(),
            state_bytes: 0,
        };
        match group.cache {
            Cache::Attention {
                kv_heads,
                k_dim,
                v_dim,
                reach,
            } => {
                flat.set_heads(kv_heads, k_dim, v_dim);
                flat.window = match reach {
                    Reach::Full => None,
                    Reach::Window(tokens) | Reach::Chunk(tokens) => Some(tokens),
                };
            }
            Cache::Latent { rank, rope_dim } => flat.set_heads(1, rank.saturating_add(rope_dim), 0),
            Cache::Indexer { head_dim }
            | Cache::Compressed { head_dim, .. }
            | Cache::CompressedIndexer { head_dim, .. } => {
                flat.set_heads(1, head_dim, 0);
            }
            Cache::Ring { width, tokens } => {
                flat.state_bytes = width.saturating_mul(tokens).saturating_mul(4);
            }
            Cache::Cross {
                kv_heads,
                k_dim,
                v_dim,
                encoder_tokens,
            } => {
                flat.set_heads(kv_heads, k_dim, v_dim);
                flat.window = Some(encoder_tokens);
            }
            Cache::Recurrent {
                state,
                state_element_bytes,
            } => flat.state_bytes = state_bytes(state, state_element_bytes),
        }
        flat
    }

    fn set_heads(&mut self, kv_heads: u64, k_dim: u64, v_dim: u64) {
        self.kv_heads = Some(kv_heads);
        self.k_dim = Some(k_dim);
        self.v_dim = Some(v_dim);
    }

    /// The numbers of one layer in words: `8 KV heads x 128`, `window 4,096`.
    pub(super) fn shape(&self) -> String {
        let heads = match (self.kv_heads, self.k_dim, self.v_dim) {
            (Some(1), Some(k), Some(0)) => format!("one vector of {k}"),
            (Some(heads), Some(k), Some(v)) if k == v => format!("{heads} KV heads x {k}"),
            (Some(heads), Some(k), Some(v)) => format!("{heads} KV heads x {k} (K) and {v} (V)"),
            _ => format!("{} a sequence", super::units::bytes(self.state_bytes)),
        };
        match self.window {
            Some(tokens) => format!("{heads}, {} tokens", super::units::count(tokens)),
            None => heads,
        }
    }
}

fn kind(cache: &Cache) -> &'static str {
    match cache {
        Cache::Attention { reach, .. } => match reach {
            Reach::Full => "full-attention",
            Reach::Window(_) => "sliding-window",
            Reach::Chunk(_) => "chunked",
        },
        Cache::Latent { .. } => "latent",
        Cache::Indexer { .. } => "indexer",
        Cache::Compressed { .. } => "compressed",
        Cache::CompressedIndexer { .. } => "compressed-indexer",
        Cache::Ring { .. } => "compressor-state",
        Cache::Cross { .. } => "cross-attention",
        Cache::Recurrent { state, .. } => match state {
            State::Mamba1 { .. } => "mamba1",
            State::Mamba2 { .. } => "mamba2",
            State::DeltaNet { .. } => "delta-net",
            State::Kda { .. } => "kda",
            State::Lightning { .. } => "lightning",
            State::ShortConv { .. } => "short-conv",
            State::RgLru { .. } => "rg-lru",
            State::Rwkv { .. } => "rwkv",
        },
    }
}

fn state_bytes(state: State, element_bytes: Option<u64>) -> u64 {
    let (convolution, recurrent) = state.elements();
    convolution
        .saturating_mul(STATE_ELEMENT_BYTES)
        .saturating_add(recurrent.saturating_mul(element_bytes.unwrap_or(STATE_ELEMENT_BYTES)))
}
