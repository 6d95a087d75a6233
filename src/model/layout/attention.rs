//! How much one attention layer keeps: keys and values of its KV heads, or a latent vector, and an indexer's
//! keys beside them.

use crate::memory::layout::{Cache, Reach};
use crate::model::config::fields::Fields;
use crate::model::{Dims, Refusal};

use super::dims::KV_HEADS;
use super::{Kept, missing};

/// True when the model caches one compressed vector a token instead of keys and values (DeepSeek-V2 and later).
pub(crate) fn is_latent(fields: &Fields<'_>) -> bool {
    fields.number(&["kv_lora_rank"], 0) > 0 && fields.switch("use_mla") != Some(false)
}

/// The caches of one attention layer. `indexed` says that the layer's kind asks for an indexer.
pub(super) fn caches(
    fields: &Fields<'_>,
    dims: &Dims,
    reach: Reach,
    layer: usize,
    indexed: bool,
) -> Result<Kept, Refusal> {
    let latent = is_latent(fields);
    let main = if latent {
        latent_cache(fields)?
    } else {
        key_value_cache(fields, dims, reach, layer)?
    };
    let index_key = fields.number(&["index_head_dim", "sparse_attention_config.sparse_index_dim"], 0);
    let owns = if latent {
        owns_indexer(fields, layer)
    } else {
        indexed
    };
    let index = (index_key > 0 && owns).then_some(Cache::Indexer { head_dim: index_key });
    Ok(std::iter::once(main).chain(index).collect())
}

fn latent_cache(fields: &Fields<'_>) -> Result<Cache, Refusal> {
    let rope = fields
        .count(&["qk_rope_head_dim"])
        .ok_or_else(|| missing(fields, "qk_rope_head_dim"))?;
    Ok(Cache::Latent {
        rank: fields.number(&["kv_lora_rank"], 0),
        rope_dim: rope.value,
    })
}

/// GLM-5.3 lets most layers reuse the choice of an earlier layer's indexer; those keep no index keys.
///
/// Source: transformers 5.20 `configuration_glm_moe_dsa.py`, `__post_init__`.
pub(crate) fn owns_indexer(fields: &Fields<'_>, layer: usize) -> bool {
    if let Some(types) = fields.list("indexer_types") {
        return types.get(layer).and_then(|node| node.text()) != Some("shared");
    }
    if let Some(pattern) = fields.text("index_topk_pattern") {
        return pattern.value.chars().nth(layer) != Some('S');
    }
    let every = fields.number(&["index_topk_freq"], 1).max(1);
    let offset = fields.number(&["index_skip_topk_offset"], 2);
    (layer as u64 + 1).saturating_sub(offset).is_multiple_of(every)
}

fn key_value_cache(fields: &Fields<'_>, dims: &Dims, reach: Reach, layer: usize) -> Result<Cache, Refusal> {
    let shape = shape(fields, dims, reach, layer)?;
    Ok(Cache::Attention {
        kv_heads: shape.kv_heads,
        k_dim: shape.k_dim,
        v_dim: shape.v_dim,
        reach,
    })
}

/// KV heads and head sizes of one layer.
pub(crate) struct Shape {
    /// KV heads.
    pub(crate) kv_heads: u64,
    /// Elements of one key.
    pub(crate) k_dim: u64,
    /// Elements of one value.
    pub(crate) v_dim: u64,
}

/// The shape of one layer: windows and global layers may differ (MiMo, Gemma 4), and so may any two layers.
pub(crate) fn shape(fields: &Fields<'_>, dims: &Dims, reach: Reach, layer: usize) -> Result<Shape, Refusal> {
    let heads = dims.num_kv_heads.as_ref().map(|fact| fact.value);
    let heads = heads.ok_or_else(|| missing(fields, "num_attention_heads"))?;
    let head_dim = dims.head_dim.as_ref().map(|fact| fact.value);
    let head_dim = head_dim.ok_or_else(|| missing(fields, "hidden_size"))?;
    let positive = |key: &'static str| fields.count(&[key]).map(|fact| fact.value).filter(|n| *n > 0);
    let own = |key: &str| own_value(fields, layer, key);
    let slides = matches!(reach, Reach::Window(_));
    let (kind_heads, kind_k, kind_v) = if slides {
        (
            positive("swa_num_key_value_heads"),
            positive("swa_head_dim"),
            positive("swa_v_head_dim"),
        )
    } else {
        let global = positive("num_global_key_value_heads").filter(|_| fields.flag("attention_k_eq_v"));
        (global, positive("global_head_dim"), None)
    };
    let listed = listed_heads(fields, layer)?;
    let k_dim = own("head_dim").or(kind_k).unwrap_or(head_dim);
    Ok(Shape {
        kv_heads: own("num_key_value_heads")
            .or(kind_heads)
            .or(listed)
            .unwrap_or(heads),
        k_dim,
        v_dim: own("v_head_dim")
            .or(kind_v)
            .or_else(|| positive("v_head_dim"))
            .unwrap_or(k_dim),
    })
}

/// What `per_layer_config` says of one layer; transformers 5 writes it for layers that differ, under the layer's
/// number with leading zeros.
fn own_value(fields: &Fields<'_>, layer: usize, key: &str) -> Option<u64> {
    let entries = fields.declared("per_layer_config")?.entries();
    let mut named = entries
        .into_iter()
        .filter(|(name, _)| name.as_u64() == Some(layer as u64));
    let node = named.find_map(|(_, section)| section.get(key))?;
    fields.count_of(key, node).filter(|value| *value > 0)
}

/// KV heads of a layer where the config lists them layer by layer (OpenELM, DeciLM).
fn listed_heads(fields: &Fields<'_>, layer: usize) -> Result<Option<u64>, Refusal> {
    let names = KV_HEADS.iter().chain(&["num_key_value_heads_per_layer"]);
    let Some((key, list)) = names.into_iter().find_map(|key| Some((*key, fields.list(key)?))) else {
        return Ok(None);
    };
    let heads = list.get(layer).and_then(|node| fields.count_of(key, *node));
    heads.map(Some).ok_or_else(|| Refusal {
        reason: format!("{key} lists {} layers, but the model has more", list.len()),
        span: fields.declared(key).map(crate::source::tree::Node::span),
    })
}
