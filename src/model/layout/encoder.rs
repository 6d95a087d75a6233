//! Models with an encoder: those that are nothing else and cache nothing, and those whose decoder keeps the
//! encoder's tokens too.

use crate::memory::layout::{Cache, Reach};
use crate::model::config::class::ModelKind;
use crate::model::config::fields::Fields;
use crate::model::{Dims, Refusal};
use crate::source::tree::Node;

use super::missing;

/// True for BERT and its like: they read a text once. Segment embeddings mark families that nobody listed.
pub(super) fn caches_nothing(fields: &Fields<'_>) -> bool {
    let segments = fields.declared("type_vocab_size").is_some() && !fields.flag("is_decoder");
    fields.class().kind == ModelKind::Encoder || (!fields.class().known && segments)
}

/// True when the decoder looks at an encoder's tokens; the top of the file may say it of a nested decoder.
pub(super) fn is_beside(fields: &Fields<'_>) -> bool {
    let whole = fields.root().get("is_encoder_decoder").and_then(Node::as_bool);
    fields.class().kind == ModelKind::EncoderDecoder
        || whole == Some(true)
        || fields.flag("is_encoder_decoder")
}

/// What each decoder layer keeps of the encoder's tokens.
pub(super) fn cross_cache(fields: &Fields<'_>, dims: &Dims) -> Result<Cache, Refusal> {
    let tokens = fields
        .count(&[
            "max_source_positions",
            "n_positions",
            "max_encoder_position_embeddings",
        ])
        .or_else(|| fields.count(&["max_position_embeddings"]));
    let tokens = match tokens {
        Some(fact) => fact.value,
        // T5 has no limit of its own; its published checkpoints were trained on 512 tokens.
        None => 512,
    };
    let shape = super::attention::shape(fields, dims, Reach::Full, 0)?;
    Ok(Cache::Cross {
        kv_heads: shape.kv_heads,
        k_dim: shape.k_dim,
        v_dim: shape.v_dim,
        encoder_tokens: tokens,
    })
}

/// What a cross-attention layer of Llama-3.2-Vision keeps: the tokens of one image in all its tiles.
///
/// Source: transformers 5.20 `modeling_mllama.py`: `max_num_tiles * ((image_size / patch_size)^2 + 1)`.
pub(super) fn image_cache(fields: &Fields<'_>, dims: &Dims) -> Result<Cache, Refusal> {
    let vision = fields.root().get("vision_config");
    let count = |key: &str, default: u64| {
        vision
            .and_then(|node| node.get(key))
            .and_then(|node| fields.count_of(key, node))
            .unwrap_or(default)
    };
    let side = count("image_size", 448)
        .checked_div(count("patch_size", 14))
        .ok_or_else(|| missing(fields, "patch_size above 0"))?;
    let tokens = crate::memory::product(&[
        count("max_num_tiles", 4),
        side.saturating_mul(side).saturating_add(1),
    ]);
    let shape = super::attention::shape(fields, dims, Reach::Full, 0)?;
    Ok(Cache::Cross {
        kv_heads: shape.kv_heads,
        k_dim: shape.k_dim,
        v_dim: shape.v_dim,
        encoder_tokens: tokens,
    })
}
