//! What each layer keeps in one vLLM block: page sizes from the layout, the KV type and the block size.
//!
//! Source: vLLM 0.33 `v1/kv_cache_interface.py` (the specs), `model_executor/layers/attention/*.py`
//! (`get_kv_cache_spec`), `model_executor/layers/mamba/mamba_utils.py` (state shapes),
//! `platforms/interface.py::_align_hybrid_block_size`.

use super::defaults::{BlockNeeds, CacheKind};
use super::groups::{Bucket, Demand, Family, Spec};
use crate::engine::KvType;
use crate::engine::sharding::Sharding;
use crate::memory::layout::{Cache, LayerGroup, Layout, Reach, State};
use crate::memory::{product, round_up};

/// DeepSeek-V4: bytes of one entry of a compressed or window cache (448 fp8 + 128 rotary + 8 scale).
const COMPRESSED_ENTRY: u64 = 584;

/// DeepSeek-V4: pages are padded to a multiple of this.
const COMPRESSED_PAGE_STEP: u64 = 576;

/// Everything but the KV type that decides the specs of a model.
#[derive(Debug, Clone)]
pub(super) struct SpecRules {
    /// What the layers keep.
    pub(super) layout: Layout,
    /// How layers are split.
    pub(super) sharding: Sharding,
    /// Bytes of one element of the model's dtype.
    pub(super) dtype_bytes: u64,
    /// `--block-size`.
    pub(super) declared_block: Option<u64>,
    /// What the backend needs; `fp8` is set for each KV type.
    pub(super) needs: BlockNeeds,
    /// Recurrent layers.
    pub(super) states: StateRules,
    /// The cache stays in the model's dtype, whatever is declared.
    pub(super) ignores_kv_type: bool,
    /// Layers whose cache stays in the model's dtype.
    pub(super) skip: SkipLayers,
}

/// How recurrent layers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateRules {
    /// Which states of shared prefixes are kept.
    pub(super) prefixes: PrefixStates,
    /// Tokens that speculation drafts.
    pub(super) drafted: u64,
    /// Bytes of one element of the convolution's memory.
    pub(super) conv_bytes: u64,
    /// Bytes of one element of the recurrent state, where declared.
    pub(super) state_bytes: Option<u64>,
    /// The same where nothing declares it.
    pub(super) default_state_bytes: Option<u64>,
    /// Kernels that write checkpoints of states inside a prefill.
    pub(super) checkpoints: Checkpoints,
}

/// Which states of shared prefixes are kept (`mamba_cache_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrefixStates {
    /// None.
    None,
    /// That of the last whole block (`align`).
    Last,
    /// That of every block, for Mamba layers, whose kernels work in chunks of so many tokens (`all`).
    Every(u64),
}

/// Which recurrent layers keep a checkpoint of their state inside a prefill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Checkpoints {
    /// Mamba-2 layers, on any device.
    pub(super) mamba2: bool,
    /// Gated-delta layers, where `FlashInfer` has the kernel.
    pub(super) delta: bool,
    /// KDA layers with a bounded gate, where `FlashKDA` has the kernel.
    pub(super) kda: bool,
}

/// `--kv-cache-dtype-skip-layers`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SkipLayers {
    /// By index.
    pub(super) indexes: Vec<u32>,
    /// Every layer with a window.
    pub(super) windows: bool,
}

impl SpecRules {
    /// The distinct specs and their layers.
    pub(super) fn buckets(&self, kv: KvType) -> Vec<Bucket> {
        let kv = self.resolve(kv);
        let needs = BlockNeeds {
            fp8: kv.block() == (1, 1),
            ..self.needs
        };
        if needs.kind == CacheKind::Compressed {
            return self.compressed_buckets(needs);
        }
        let kernel = needs.block_size(None);
        let block = self.aligned_block(kv, needs.block_size(self.declared_block), kernel);
        let mut buckets = Vec::with_capacity(self.layout.groups.len());
        for group in &self.layout.groups {
            let (kept, quantized): (Vec<u32>, Vec<u32>) = group
                .layers
                .iter()
                .partition(|layer| self.keeps_dtype(kv, &group.cache, **layer));
            for (layers, kv) in [(quantized, kv), (kept, self.resolve(KvType::Auto))] {
                if let Some(spec) = self.spec(&group.cache, kv, block).filter(|_| !layers.is_empty()) {
                    buckets.push(Bucket { spec, layers });
                }
            }
        }
        pad_states(&mut buckets);
        buckets
    }

    /// `auto` is the model's dtype; plain integers mean vLLM's per-head integers.
    fn resolve(&self, kv: KvType) -> KvType {
        match kv {
            _ if self.ignores_kv_type && kv != KvType::Auto => self.resolve(KvType::Auto),
            KvType::Auto if self.dtype_bytes == 4 => KvType::F32,
            KvType::Auto => KvType::Bf16,
            KvType::Int8 => KvType::Int8PerTokenHead,
            KvType::Int4 => KvType::Int4PerTokenHead,
            other => other,
        }
    }

    /// Turboquant leaves the first and last two layers of models without states as they are.
    fn keeps_dtype(&self, kv: KvType, cache: &Cache, layer: u32) -> bool {
        let window = matches!(
            cache,
            Cache::Attention {
                reach: Reach::Window(_),
                ..
            }
        );
        let edge = || {
            let last = self.layout.num_layers.saturating_sub(2);
            kv.is_turboquant() && !self.has_states() && (layer < 2 || u64::from(layer) >= last)
        };
        (window && self.skip.windows) || self.skip.indexes.contains(&layer) || edge()
    }

    fn has_states(&self) -> bool {
        let state = |cache: &Cache| matches!(cache, Cache::Recurrent { .. });
        self.layout.groups.iter().any(|group| state(&group.cache))
    }

    fn spec(&self, cache: &Cache, kv: KvType, block: u64) -> Option<Spec> {
        let page = |bytes: u64| bytes.saturating_mul(block);
        Some(match *cache {
            Cache::Attention {
                kv_heads,
                k_dim,
                v_dim,
                reach,
            } => {
                let heads = self.sharding.kv_heads(kv_heads);
                Spec {
                    family: Family::Attention,
                    demand: match reach {
                        Reach::Full => Demand::Full,
                        Reach::Window(tokens) => Demand::Window(tokens),
                        Reach::Chunk(tokens) => Demand::Chunk(tokens),
                    },
                    shape: [heads, k_dim, v_dim, kv.head_bytes(k_dim, v_dim)],
                    block,
                    page: page(heads.saturating_mul(kv.head_bytes(k_dim, v_dim))),
                }
            }
            Cache::Latent { rank, rope_dim } => {
                let bytes = self.latent_bytes(kv, rank, rope_dim);
                latent(block, bytes)
            }
            Cache::Indexer { head_dim } => latent(block, indexer_bytes(head_dim)),
            Cache::Compressed { .. } | Cache::CompressedIndexer { .. } | Cache::Ring { .. } => return None,
            Cache::Cross {
                kv_heads,
                k_dim,
                v_dim,
                encoder_tokens,
            } => {
                let heads = self.sharding.kv_heads(kv_heads);
                Spec {
                    family: Family::Attention,
                    demand: Demand::Encoder(encoder_tokens),
                    shape: [heads, k_dim, v_dim, kv.head_bytes(k_dim, v_dim)],
                    block,
                    page: page(heads.saturating_mul(kv.head_bytes(k_dim, v_dim))),
                }
            }
            Cache::Recurrent {
                state,
                state_element_bytes,
            } => Spec {
                family: Family::State,
                demand: self.state_demand(&state),
                shape: [0, 0, 0, self.state_page(&state, state_element_bytes)],
                block,
                page: self.state_page(&state, state_element_bytes),
            },
        })
    }

    /// Bytes of one latent vector. Sparse backends keep fp8 with scales and a 16-bit rotary part (`fp8_ds_mla`:
    /// 512 + 4 x 4 + 64 x 2), except `FlashInfer`'s on SM100
    /// (`layers/attention/mla_attention.py::_canonicalize_sparse_mla_kv_cache_dtype`), and a packed 4-bit form (`nvfp4_ds_mla`:
    /// 512 / 2 + 512 / 16 + 64).
    fn latent_bytes(&self, kv: KvType, rank: u64, rope_dim: u64) -> u64 {
        let sparse = self.needs.kind == CacheKind::Sparse;
        let major = self.needs.capability.map_or(0, |(major, _)| major);
        // SM120 has no other form: 16-bit types are served in this one.
        let packed = match kv {
            KvType::Fp8 => major != 10,
            KvType::F16 | KvType::Bf16 => major == 12,
            _ => false,
        };
        match kv {
            _ if sparse && packed => rank
                .saturating_add(rank.div_ceil(128).saturating_mul(4))
                .saturating_add(rope_dim.saturating_mul(2)),
            KvType::Nvfp4 if sparse => (rank / 2).saturating_add(rank / 16).saturating_add(rope_dim),
            _ => kv.row_bytes(rank.saturating_add(rope_dim)),
        }
    }

    /// Blocks of one request on a recurrent layer: the running state, in mode `align` the state of the last
    /// whole block and, where the kernel writes checkpoints, one more; and one a drafted token.
    fn state_demand(&self, state: &State) -> Demand {
        let checkpoint = match state {
            State::Mamba2 { .. } => u64::from(self.states.checkpoints.mamba2),
            State::DeltaNet { key_dim, .. } => u64::from(self.delta_checkpoints(*key_dim)),
            State::Kda { head_dim, .. } => u64::from(self.kda_checkpoints(*head_dim)),
            _ => 0,
        };
        let drafted = self.states.drafted;
        match self.states.prefixes {
            PrefixStates::None => Demand::Blocks(drafted.saturating_add(1)),
            PrefixStates::Every(_) if is_mamba(state) => Demand::EveryBlock(drafted),
            _ => Demand::Blocks(drafted.saturating_add(2 + checkpoint)),
        }
    }

    /// `FlashInfer`'s gated-delta prefill runs on SM90, and on SM100 and SM120 for keys of 128
    /// (`layers/mamba/gdn/qwen_gdn_linear_attn.py::_resolve_gdn_prefill_backend`).
    fn delta_checkpoints(&self, key_dim: u64) -> bool {
        let major = self.needs.capability.map_or(0, |(major, _)| major);
        self.states.checkpoints.delta && (major == 9 || (matches!(major, 10 | 12) && key_dim == 128))
    }

    /// `FlashKDA` runs on the same devices for heads of 128 (`models/kimi_k3/nvidia/kda.py`).
    fn kda_checkpoints(&self, head_dim: u64) -> bool {
        let major = self.needs.capability.map_or(0, |(major, _)| major);
        self.states.checkpoints.kda && matches!(major, 9 | 10 | 12) && head_dim == 128
    }

    /// Bytes of one rank's state of one sequence on one layer.
    fn state_page(&self, state: &State, fixed: Option<u64>) -> u64 {
        let (conv, recurrent) = rank_elements(state, self.sharding.tensor, self.states.drafted);
        let state_bytes = self.states.state_bytes.or(fixed).unwrap_or(match state {
            State::Kda { .. } => 4,
            _ => self.states.default_state_bytes.unwrap_or(self.states.conv_bytes),
        });
        product(&[conv, self.states.conv_bytes]).saturating_add(product(&[recurrent, state_bytes]))
    }

    /// The block size of models with states beside attention: raised until an attention page holds a state.
    fn aligned_block(&self, kv: KvType, block: u64, kernel: u64) -> u64 {
        let mut state = 0;
        let (mut attention, mut latent, mut delta, mut chunk) = (0, false, false, None);
        for group in &self.layout.groups {
            match &group.cache {
                Cache::Recurrent {
                    state: kind,
                    state_element_bytes,
                } => {
                    state = state.max(self.state_page(kind, *state_element_bytes));
                    if let State::DeltaNet { key_dim, .. } = kind {
                        delta |= self.delta_checkpoints(*key_dim);
                    }
                    if let PrefixStates::Every(tokens) = self.states.prefixes {
                        chunk = chunk.or(is_mamba(kind).then_some(tokens));
                    }
                }
                Cache::Cross { .. } => {}
                cache => {
                    latent |= matches!(cache, Cache::Latent { .. });
                    attention = attention.max(self.spec(cache, kv, 1).map_or(0, |spec| spec.page));
                }
            }
        }
        if state == 0 || attention == 0 {
            return block;
        }
        let mut step = kernel.max(block);
        if latent {
            step = step.max(128);
        }
        if self.states.prefixes == PrefixStates::Last && delta {
            step = least_common_multiple(step, 64);
        }
        if let Some(chunk) = chunk {
            step = least_common_multiple(step, chunk);
        }
        let needed = step.saturating_mul(state.div_ceil(step.saturating_mul(attention).max(1)));
        needed.max(block)
    }

    /// DeepSeek-V4: window caches on every layer, entries and index keys that stand for runs of tokens, and the
    /// rings in which the compressors gather tokens (`models/deepseek_v4/compressor.py`).
    fn compressed_buckets(&self, needs: BlockNeeds) -> Vec<Bucket> {
        let block = needs.block_size(self.declared_block);
        let entries = |ratio: u64, bytes: u64| Spec {
            shape: [ratio, bytes, 0, 0],
            page: compressed_page((block / ratio.max(1)).saturating_mul(bytes)),
            ..latent(block, 0)
        };
        let window = |window: u64, tokens: u64, bytes: u64| Spec {
            demand: Demand::Window(window),
            page: compressed_page(tokens.saturating_mul(bytes)),
            ..latent(tokens, bytes)
        };
        let spec = |cache: &Cache| match *cache {
            Cache::Attention {
                reach: Reach::Window(tokens),
                ..
            } => Some(window(tokens, 64, COMPRESSED_ENTRY)),
            Cache::Compressed { ratio, .. } => Some(entries(ratio, COMPRESSED_ENTRY)),
            Cache::CompressedIndexer { ratio, head_dim } => Some(entries(ratio, indexer_bytes(head_dim))),
            // Blocks of 4 tokens where runs overlap, of 8 where they do not; fp32.
            Cache::Ring { width, tokens } => {
                let block = if tokens < 64 { 4 } else { 8 };
                Some(window(tokens, block, width.saturating_mul(4)))
            }
            _ => None,
        };
        let bucket = |group: &LayerGroup| {
            Some(Bucket {
                spec: spec(&group.cache)?,
                layers: group.layers.clone(),
            })
        };
        self.layout.groups.iter().filter_map(bucket).collect()
    }
}

/// A page of DeepSeek-V4, padded.
fn compressed_page(bytes: u64) -> u64 {
    round_up(bytes, COMPRESSED_PAGE_STEP)
}

/// States fill the attention page of the same block.
fn pad_states(buckets: &mut [Bucket]) {
    let attention = |bucket: &&Bucket| bucket.spec.family != Family::State;
    let page = buckets
        .iter()
        .filter(attention)
        .map(|bucket| bucket.spec.page)
        .max();
    for bucket in buckets
        .iter_mut()
        .filter(|bucket| bucket.spec.family == Family::State)
    {
        bucket.spec.page = bucket.spec.page.max(page.unwrap_or(0));
    }
}

/// Layers whose prefixes were cached block by block before 0.28 (`SupportsMambaPrefixCaching`).
fn is_mamba(state: &State) -> bool {
    matches!(state, State::Mamba1 { .. } | State::Mamba2 { .. })
}

/// A spec of one vector a token, not split over ranks.
fn latent(block: u64, bytes: u64) -> Spec {
    Spec {
        family: Family::Latent,
        demand: Demand::Full,
        shape: [1, bytes, 0, 0],
        block,
        page: bytes.saturating_mul(block),
    }
}

/// Bytes of one index key: one an element and a scale of four for every 128.
fn indexer_bytes(head_dim: u64) -> u64 {
    head_dim.saturating_add(head_dim.div_ceil(128).saturating_mul(4))
}

/// Elements of the convolution's memory and of the state that one tensor-parallel rank holds, with room for
/// `drafted` more convolution steps (`MambaStateShapeCalculator`).
fn rank_elements(state: &State, tensor: u64, drafted: u64) -> (u64, u64) {
    let steps = |kernel: u64| kernel.saturating_sub(1).saturating_add(drafted);
    let share = |count: u64| count.div_ceil(tensor.max(1));
    match *state {
        State::Mamba1 {
            inner,
            state,
            conv_kernel,
        } => (
            product(&[share(inner), conv_kernel.saturating_sub(1)]),
            product(&[share(inner), state]),
        ),
        State::Mamba2 {
            inner,
            groups,
            state,
            heads,
            head_dim,
            conv_kernel,
        } => {
            // Groups that do not divide are copied until every rank has one.
            let divides = groups.is_multiple_of(tensor.max(1));
            let groups = if divides { groups } else { tensor };
            let width = inner.saturating_add(product(&[2, groups, state]));
            (
                product(&[share(width), steps(conv_kernel)]),
                product(&[share(heads), head_dim, state]),
            )
        }
        State::DeltaNet {
            key_heads,
            key_dim,
            value_heads,
            value_dim,
            conv_kernel,
        } => {
            let width = product(&[2, key_heads, key_dim]).saturating_add(product(&[value_heads, value_dim]));
            (
                product(&[share(width), steps(conv_kernel)]),
                product(&[share(value_heads), value_dim, key_dim]),
            )
        }
        State::Kda {
            heads,
            head_dim,
            conv_kernel,
        } => (
            product(&[3, share(product(&[heads, head_dim])), steps(conv_kernel)]),
            product(&[share(heads), head_dim, head_dim]),
        ),
        State::Lightning { heads, head_dim } => (0, product(&[share(heads), head_dim, head_dim])),
        State::ShortConv { width, kernel } => (product(&[share(width), kernel.saturating_sub(1)]), 0),
        State::RgLru { .. } | State::Rwkv { .. } => {
            let (conv, recurrent) = state.elements();
            (share(conv), share(recurrent))
        }
    }
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a.checked_div(x).unwrap_or(0).saturating_mul(b)
}
