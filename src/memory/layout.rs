//! What each layer of a model keeps between tokens: the input of every byte count.
//!
//! A [`Layout`] is made by `model/` from config.json or GGUF metadata and read by the engines. It holds plain
//! numbers; where they come from is told by the model's facts.

/// The caches of a model, grouped so that layers which cache alike stand together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Layers of the model, those that keep nothing included.
    pub num_layers: u64,
    /// Next-token-prediction layers beside them. They stand in no group: engines load them, and cache for
    /// them, only for speculative decoding.
    pub nextn_layers: u64,
    /// What the layers keep. A layer that keeps two things (attention and a recurrent state, a latent and an
    /// indexer) stands in two groups; a layer that keeps nothing of its own stands in none.
    pub groups: Vec<LayerGroup>,
}

/// Layers that cache alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerGroup {
    /// What each of them keeps.
    pub cache: Cache,
    /// Which layers, counted from 0, ascending.
    pub layers: Vec<u32>,
}

/// What one layer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Keys and values of past tokens: MHA, GQA and MQA alike.
    Attention {
        /// KV heads of the whole model (before any tensor parallel split).
        kv_heads: u64,
        /// Elements of one key of one head.
        k_dim: u64,
        /// Elements of one value of one head.
        v_dim: u64,
        /// How far back it looks.
        reach: Reach,
    },
    /// One compressed vector a token (multi-head latent attention): no heads, no values.
    Latent {
        /// `kv_lora_rank`: elements of the compressed vector.
        rank: u64,
        /// `qk_rope_head_dim`: elements of the rotary key beside it.
        rope_dim: u64,
    },
    /// The keys of a sparse-attention indexer: beside the latent of the same layer (DeepSeek-V3.2, GLM-5), or
    /// beside its keys and values (MiniMax-M3). One head, whole on every rank.
    Indexer {
        /// `index_head_dim`: elements of one index key.
        head_dim: u64,
    },
    /// Keys and values that summarise runs of `ratio` tokens (DeepSeek-V4), beside a window of the same layer.
    Compressed {
        /// Tokens that one entry stands for.
        ratio: u64,
        /// Elements of one entry.
        head_dim: u64,
    },
    /// Index keys of an indexer that looks at summaries of `ratio` tokens (DeepSeek-V4).
    CompressedIndexer {
        /// Tokens that one entry stands for.
        ratio: u64,
        /// `index_head_dim`: elements of one index key.
        head_dim: u64,
    },
    /// What a compressor holds of the tokens that it has not summarised yet (DeepSeek-V4): a ring of fixed
    /// size for each sequence, in 32-bit floats.
    Ring {
        /// Elements of one entry: key and gate, twice where neighbouring runs overlap.
        width: u64,
        /// Tokens that it holds.
        tokens: u64,
    },
    /// Keys and values of the encoder's tokens: they grow with the encoder's input, not with the context.
    Cross {
        /// KV heads of the whole model.
        kv_heads: u64,
        /// Elements of one key of one head.
        k_dim: u64,
        /// Elements of one value of one head.
        v_dim: u64,
        /// Encoder tokens at most.
        encoder_tokens: u64,
    },
    /// A state of fixed size for each sequence.
    Recurrent {
        /// Its tensors.
        state: State,
        /// Bytes of one element of the recurrent state where the model's config fixes them.
        state_element_bytes: Option<u64>,
    },
}

/// How far back an attention layer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every token of the context.
    Full,
    /// The last so many tokens.
    Window(u64),
    /// The tokens of the same chunk of so many.
    Chunk(u64),
}

/// The tensors of one recurrent layer for one sequence, as counts of the whole model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Mamba 1.
    Mamba1 {
        /// Inner width.
        inner: u64,
        /// State size.
        state: u64,
        /// Width of the convolution.
        conv_kernel: u64,
    },
    /// Mamba 2.
    Mamba2 {
        /// Inner width, `heads * head_dim`.
        inner: u64,
        /// Groups that share B and C.
        groups: u64,
        /// State size.
        state: u64,
        /// Heads.
        heads: u64,
        /// Elements of one head.
        head_dim: u64,
        /// Width of the convolution.
        conv_kernel: u64,
    },
    /// Gated delta net (Qwen3-Next, Qwen3.5).
    DeltaNet {
        /// Key heads.
        key_heads: u64,
        /// Elements of one key.
        key_dim: u64,
        /// Value heads.
        value_heads: u64,
        /// Elements of one value.
        value_dim: u64,
        /// Width of the convolution.
        conv_kernel: u64,
    },
    /// Kimi delta attention.
    Kda {
        /// Heads.
        heads: u64,
        /// Elements of one head.
        head_dim: u64,
        /// Width of the three convolutions.
        conv_kernel: u64,
    },
    /// Lightning (linear) attention (MiniMax-01): one matrix a head.
    Lightning {
        /// Heads.
        heads: u64,
        /// Elements of one head.
        head_dim: u64,
    },
    /// Short convolution (LFM2).
    ShortConv {
        /// Channels.
        width: u64,
        /// Width of the convolution.
        kernel: u64,
    },
    /// Gated linear recurrent unit (RecurrentGemma): one vector, always in 32-bit floats.
    RgLru {
        /// `lru_width`.
        width: u64,
        /// Width of the convolution.
        conv_kernel: u64,
    },
    /// RWKV token shift and matrix state.
    Rwkv {
        /// Hidden size.
        width: u64,
        /// Elements of one head's side; 0 for RWKV-4, whose state is five vectors.
        head_size: u64,
    },
}

impl Cache {
    /// Elements stored for one more token of one sequence, per layer; 0 for states and encoder caches.
    pub fn elements_per_token(&self) -> u64 {
        match *self {
            Self::Attention {
                kv_heads,
                k_dim,
                v_dim,
                ..
            } => kv_heads.saturating_mul(k_dim.saturating_add(v_dim)),
            Self::Latent { rank, rope_dim } => rank.saturating_add(rope_dim),
            Self::Indexer { head_dim } => head_dim,
            Self::Compressed { ratio, head_dim } | Self::CompressedIndexer { ratio, head_dim } => {
                head_dim.div_ceil(ratio.max(1))
            }
            Self::Cross { .. } | Self::Recurrent { .. } | Self::Ring { .. } => 0,
        }
    }
}

impl State {
    /// Elements of the convolution's memory and of the recurrent state, per sequence and layer. The
    /// convolution holds `kernel - 1` steps, as vLLM and MLX keep it.
    pub fn elements(&self) -> (u64, u64) {
        let product = super::product;
        match *self {
            Self::Mamba1 {
                inner,
                state,
                conv_kernel,
            } => (
                product(&[inner, conv_kernel.saturating_sub(1)]),
                product(&[inner, state]),
            ),
            Self::Mamba2 {
                inner,
                groups,
                state,
                heads,
                head_dim,
                conv_kernel,
            } => {
                let width = inner.saturating_add(product(&[2, groups, state]));
                (
                    product(&[width, conv_kernel.saturating_sub(1)]),
                    product(&[heads, head_dim, state]),
                )
            }
            Self::DeltaNet {
                key_heads,
                key_dim,
                value_heads,
                value_dim,
                conv_kernel,
            } => {
                let width =
                    product(&[2, key_heads, key_dim]).saturating_add(product(&[value_heads, value_dim]));
                (
                    product(&[width, conv_kernel.saturating_sub(1)]),
                    product(&[value_heads, value_dim, key_dim]),
                )
            }
            Self::Kda {
                heads,
                head_dim,
                conv_kernel,
            } => (
                product(&[3, heads, head_dim, conv_kernel.saturating_sub(1)]),
                product(&[heads, head_dim, head_dim]),
            ),
            Self::Lightning { heads, head_dim } => (0, product(&[heads, head_dim, head_dim])),
            Self::ShortConv { width, kernel } => (product(&[width, kernel.saturating_sub(1)]), 0),
            Self::RgLru { width, conv_kernel } => (product(&[width, conv_kernel.saturating_sub(1)]), width),
            Self::Rwkv { width, head_size: 0 } => (0, product(&[5, width])),
            Self::Rwkv { width, head_size } => (product(&[2, width]), product(&[width, head_size])),
        }
    }
}

impl LayerGroup {
    /// Number of layers.
    pub fn count(&self) -> u64 {
        self.layers.len() as u64
    }
}

impl Layout {
    /// Elements that one more token adds over all layers, while no window is full.
    pub fn elements_per_token(&self) -> u64 {
        self.groups.iter().fold(0, |sum: u64, group| {
            sum.saturating_add(group.cache.elements_per_token().saturating_mul(group.count()))
        })
    }
}
