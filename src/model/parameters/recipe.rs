//! What config.json does not say about the weights of a family: how many norms a layer has, which projections
//! carry biases, what stands beside the experts. Rows of `catalog/model_types.yaml` under `weights`.

use serde::Deserialize;

use crate::model::config::fields::Fields;

/// The shape of a family; what is absent is as in Llama.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact about a family, as the catalog writes it"
)]
pub(crate) struct Recipe {
    /// Norms of a layer, those inside the attention not counted.
    pub(crate) norms: u64,
    /// The flag under which a layer has one norm, since attention and feed-forward run side by side.
    pub(crate) one_norm_if: Option<String>,
    /// What a norm learns.
    pub(crate) norm: Norm,
    /// A norm follows the last layer.
    pub(crate) final_norm: Switch,
    /// Norms of queries and keys.
    pub(crate) qk_norm: QkNorm,
    /// The flag without which there are none.
    pub(crate) qk_norm_if: Option<String>,
    /// Biases of queries, keys and values.
    pub(crate) qkv_bias: Switch,
    /// False where keys alone have no bias (Whisper).
    pub(crate) key_bias: bool,
    /// The bias of the output projection.
    pub(crate) out_bias: Switch,
    /// Queries come with a gate of their size.
    pub(crate) query_gate: Switch,
    /// The output of each head is weighed by a gate of one number.
    pub(crate) head_gate: bool,
    /// One learned sink a head, in every layer or in those that slide.
    pub(crate) sinks: Sinks,
    /// The feed-forward layer has a gate beside its first projection.
    pub(crate) gated: bool,
    /// Biases of the feed-forward layer.
    pub(crate) mlp_bias: Switch,
    /// Single learned numbers of a feed-forward layer.
    pub(crate) mlp_scalars: u64,
    /// The router has a bias.
    pub(crate) router_bias: Switch,
    /// vLLM computes the router in 32 bits.
    pub(crate) router_wide: bool,
    /// The experts have biases.
    pub(crate) expert_bias: bool,
    /// Scores of experts have a bias: none, a parameter, a buffer, or a buffer where `topk_method` is `noaux_tc`.
    pub(crate) score_bias: ScoreBias,
    /// The shared experts are weighed by a gate of their own.
    pub(crate) shared_gate: bool,
    /// The shared experts are there even where no field counts them.
    pub(crate) shared_always: bool,
    /// The key that counts learned positions.
    pub(crate) positions: Option<String>,
    /// Positions beyond that count.
    pub(crate) positions_extra: u64,
    /// Embeddings pass through a norm.
    pub(crate) embedding_norm: bool,
    /// The output projection has a bias.
    pub(crate) lm_head_bias: Switch,
    /// Tensors that nobody else has.
    pub(crate) family: Family,
}

/// Families with tensors that nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    /// None.
    #[default]
    Common,
    /// BERT: positions, segments, a pooler.
    Bert,
    /// BART and its like: an encoder, a decoder, learned positions.
    Bart,
    /// Blocks from neural architecture search.
    Blocks,
    /// DeepSeek-V4.
    DeepseekV4,
    /// Falcon: one or two norms, by its flags.
    Falcon,
    /// Gemma 3n: alternating updates, low-rank residuals, embeddings for each layer.
    Gemma3n,
    /// Gemma 4: global layers of another size, experts beside the dense layer.
    Gemma4,
    /// LongCat: two attentions and two dense layers around one set of experts.
    Longcat,
    /// Llama-3.2-Vision: gates on cross-attention layers.
    Mllama,
    /// RWKV-4.
    Rwkv,
    /// T5.
    T5,
    /// Whisper.
    Whisper,
    /// Zamba and Zamba 2: attention that several layers share.
    Zamba,
}

/// What a norm learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Norm {
    /// A weight.
    #[default]
    Weight,
    /// A weight and a bias.
    WeightAndBias,
    /// Nothing.
    Nothing,
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum QkNorm {
    /// None.
    #[default]
    None,
    /// One for all heads.
    Head,
    /// One for all heads, with biases.
    HeadWithBias,
    /// A weight for every element of every head.
    Full,
}

/// Which layers have attention sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sinks {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those that slide.
    Sliding,
}

/// What the bias of expert scores is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScoreBias {
    /// There is none.
    #[default]
    None,
    /// A parameter.
    Parameter,
    /// A buffer: on disk and in memory, but not counted.
    Buffer,
    /// A buffer where `topk_method` is `noaux_tc`.
    BufferIfNoaux,
}

/// A flag, or the key of the config that decides.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Switch {
    /// Decided by the family.
    Fixed(bool),
    /// Decided by the config.
    Key(String),
}

impl Switch {
    fn key(name: &str) -> Self {
        Self::Key(name.to_owned())
    }

    /// The answer for one config.
    pub(crate) fn is_on(&self, fields: &Fields<'_>) -> bool {
        match self {
            Self::Fixed(value) => *value,
            Self::Key(key) => fields.flag(key),
        }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            norms: 2,
            one_norm_if: None,
            norm: Norm::default(),
            final_norm: Switch::Fixed(true),
            qk_norm: QkNorm::default(),
            qk_norm_if: None,
            qkv_bias: Switch::key("attention_bias"),
            key_bias: true,
            out_bias: Switch::key("attention_bias"),
            query_gate: Switch::Fixed(false),
            head_gate: false,
            sinks: Sinks::default(),
            gated: true,
            mlp_bias: Switch::key("mlp_bias"),
            mlp_scalars: 0,
            router_bias: Switch::Fixed(false),
            router_wide: false,
            expert_bias: false,
            score_bias: ScoreBias::default(),
            shared_gate: false,
            shared_always: false,
            positions: None,
            positions_extra: 0,
            embedding_norm: false,
            lm_head_bias: Switch::Fixed(false),
            family: Family::default(),
        }
    }
}

impl Norm {
    /// Elements of a norm over `width` elements.
    pub(crate) fn elements(self, width: u64) -> u64 {
        match self {
            Self::Weight => width,
            Self::WeightAndBias => width.saturating_mul(2),
            Self::Nothing => 0,
        }
    }
}
