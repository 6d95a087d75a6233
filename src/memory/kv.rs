//! The KV cache in bytes: the formula that the product grows from, and the logical bytes of any layout.
//!
//! Source of the step: mlx-lm `models/cache.py`, `KVCache.step` (0.32): the cache grows 256 tokens at a time.

use super::layout::{Cache, Layout, Reach};
use super::{product, round_up};

/// Tokens in which the MLX-family runtime allocates its KV cache (mlx-lm `KVCache.step`).
pub const KV_CACHE_ALLOC_STEP: u64 = 256;

/// Bytes of the KV cache of a plain attention model on an MLX-family runtime:
/// layers x 2 x KV heads x head dim x element bytes x `round_up(ctx_len, 256)` x batch.
///
/// `elem_bytes` is the size of one element (2 for fp16 and bf16, 1 for int8), `ctx_len` the context in tokens,
/// `batch` the number of sequences of that length. Saturates at `u64::MAX` instead of wrapping.
///
/// ```
/// use oomlint::kv_cache_bytes;
/// assert_eq!(kv_cache_bytes(32, 8, 128, 2, 8192, 1), 1 << 30); // Llama-3.1-8B at 8k: 1 GiB
/// ```
pub fn kv_cache_bytes(
    num_layers: u64,
    num_kv_heads: u64,
    head_dim: u64,
    elem_bytes: u64,
    ctx_len: u64,
    batch: u64,
) -> u64 {
    let tokens = round_up(ctx_len, KV_CACHE_ALLOC_STEP);
    product(&[num_layers, 2, num_kv_heads, head_dim, elem_bytes, tokens, batch])
}

/// The arguments of [`kv_cache_bytes`] by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KvCacheParams {
    /// Transformer layers that cache keys and values.
    pub num_layers: u64,
    /// KV heads (fewer than attention heads under GQA).
    pub num_kv_heads: u64,
    /// Elements of one head's key, and of its value.
    pub head_dim: u64,
    /// True for a cache of 1 byte per element; false for 2 (fp16 or bf16).
    pub int8_kv: bool,
    /// Context length in tokens.
    pub ctx_len: u64,
    /// Concurrent sequences of that length.
    pub batch: u64,
}

impl KvCacheParams {
    /// A 16-bit cache for one sequence.
    pub fn new(num_layers: u64, num_kv_heads: u64, head_dim: u64, ctx_len: u64) -> Self {
        Self {
            num_layers,
            num_kv_heads,
            head_dim,
            int8_kv: false,
            ctx_len,
            batch: 1,
        }
    }

    /// Bytes of one element: 1 for int8, else 2.
    pub fn elem_bytes(&self) -> u64 {
        if self.int8_kv { 1 } else { 2 }
    }
}

/// [`kv_cache_bytes`] of named arguments.
pub fn kv_cache_bytes_from_params(params: &KvCacheParams) -> u64 {
    kv_cache_bytes(
        params.num_layers,
        params.num_kv_heads,
        params.head_dim,
        params.elem_bytes(),
        params.ctx_len,
        params.batch,
    )
}

/// Tokens that a cache of this reach holds of a context, before any engine rounds.
pub fn reached_tokens(reach: Reach, context: u64) -> u64 {
    match reach {
        Reach::Full => context,
        Reach::Window(tokens) | Reach::Chunk(tokens) => context.min(tokens),
    }
}

/// *Logical* KV bytes of `batch` sequences of `context` tokens: what the model needs before any engine rounds,
/// with `element_bits` for each key and value element. Recurrent states are not in it.
pub fn logical_kv_bytes(layout: &Layout, context: u64, batch: u64, element_bits: u64) -> u64 {
    let elements = layout.groups.iter().fold(0u64, |sum, group| {
        let per_layer = match group.cache {
            Cache::Attention { reach, .. } => {
                product(&[group.cache.elements_per_token(), reached_tokens(reach, context)])
            }
            Cache::Latent { .. } | Cache::Indexer { .. } => {
                product(&[group.cache.elements_per_token(), context])
            }
            Cache::Compressed { ratio, head_dim } | Cache::CompressedIndexer { ratio, head_dim } => {
                product(&[head_dim, context / ratio.max(1)])
            }
            Cache::Cross {
                kv_heads,
                k_dim,
                v_dim,
                encoder_tokens,
            } => product(&[kv_heads, k_dim.saturating_add(v_dim), encoder_tokens]),
            Cache::Recurrent { .. } | Cache::Ring { .. } => 0,
        };
        sum.saturating_add(per_layer.saturating_mul(group.count()))
    });
    bits_to_bytes(elements.saturating_mul(batch), element_bits)
}

/// Bytes that `elements` of `bits` each take, rounded up; saturates.
pub fn bits_to_bytes(elements: u64, bits: u64) -> u64 {
    let total = u128::from(elements).saturating_mul(u128::from(bits)).div_ceil(8);
    u64::try_from(total).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::GIB;

    #[test]
    fn known_sizes_of_the_core_formula() {
        assert_eq!(kv_cache_bytes(32, 32, 128, 2, 8192, 1), 4 * GIB);
        assert_eq!(kv_cache_bytes(32, 8, 128, 2, 8192, 1), GIB);
        assert_eq!(kv_cache_bytes(32, 8, 128, 2, 131_072, 1), 16 * GIB);
    }

    #[test]
    fn int8_takes_exactly_half_of_fp16() {
        for ctx in [1, 255, 256, 257, 8192, 131_071] {
            let fp16 = kv_cache_bytes(32, 8, 128, 2, ctx, 3);
            assert_eq!(kv_cache_bytes(32, 8, 128, 1, ctx, 3) * 2, fp16, "context {ctx}");
        }
    }

    #[test]
    fn contexts_round_up_to_the_next_256_tokens() {
        let tokens = |ctx| kv_cache_bytes(1, 1, 1, 1, ctx, 1) / 2;
        assert_eq!(
            [tokens(1), tokens(255), tokens(256), tokens(257)],
            [256, 256, 256, 512]
        );
        assert_eq!(tokens(0), 0);
    }

    #[test]
    fn the_struct_agrees_with_the_function() {
        let mut params = KvCacheParams::new(32, 8, 128, 131_072);
        assert_eq!((params.int8_kv, params.batch), (false, 1));
        assert_eq!(
            kv_cache_bytes_from_params(&params),
            kv_cache_bytes(32, 8, 128, 2, 131_072, 1)
        );
        params.int8_kv = true;
        params.batch = 4;
        assert_eq!(
            kv_cache_bytes_from_params(&params),
            kv_cache_bytes(32, 8, 128, 1, 131_072, 4)
        );
    }

    #[test]
    fn absurd_numbers_saturate_and_zero_stays_zero() {
        assert_eq!(kv_cache_bytes(1 << 63, 8, 128, 2, 8192, 1), u64::MAX);
        assert_eq!(kv_cache_bytes(32, 8, 128, 2, u64::MAX, 1), u64::MAX);
        assert_eq!(kv_cache_bytes(0, u64::MAX, u64::MAX, 2, u64::MAX, 9), 0);
    }

    #[test]
    fn window_layers_stop_growing_past_the_window() {
        use crate::memory::layout::LayerGroup;
        let attention = |reach| Cache::Attention {
            kv_heads: 8,
            k_dim: 128,
            v_dim: 128,
            reach,
        };
        let layout = Layout {
            num_layers: 2,
            nextn_layers: 0,
            groups: vec![
                LayerGroup {
                    cache: attention(Reach::Full),
                    layers: vec![0],
                },
                LayerGroup {
                    cache: attention(Reach::Window(1024)),
                    layers: vec![1],
                },
            ],
        };
        let per_token = 8 * 256 * 2;
        assert_eq!(logical_kv_bytes(&layout, 1000, 1, 16), per_token * 2000);
        assert_eq!(logical_kv_bytes(&layout, 9000, 1, 16), per_token * (9000 + 1024));
    }
}
