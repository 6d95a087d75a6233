//! `block_configs`: one mapping for each layer, as neural architecture search leaves it (Nemotron Super).

use crate::memory::layout::{Cache, Reach};
use crate::model::config::fields::Fields;
use crate::model::{Dims, Refusal};
use crate::source::tree::Node;

use super::{Kept, missing};

/// What each block keeps.
pub(super) fn layers(fields: &Fields<'_>, dims: &Dims) -> Result<Vec<Kept>, Refusal> {
    let blocks = fields.list("block_configs").unwrap_or_default();
    blocks.iter().map(|block| layer(fields, dims, *block)).collect()
}

fn layer(fields: &Fields<'_>, dims: &Dims, block: Node<'_>) -> Result<Kept, Refusal> {
    let Some(attention) = block.get("attention") else {
        return Err(Refusal {
            reason: "a block of block_configs says nothing of its attention".to_owned(),
            span: Some(block.span()),
        });
    };
    let is_set = |key: &str| attention.get(key).and_then(Node::as_bool) == Some(true);
    if is_set("no_op") || is_set("replace_with_linear") {
        return Ok(Kept::new());
    }
    let count = |key: &str| {
        let node = attention.get(key).filter(|node| !node.is_null())?;
        fields.count_of(key, node)
    };
    let heads = dims.num_heads.as_ref().map(|fact| fact.value);
    let heads = heads.ok_or_else(|| missing(fields, "num_attention_heads"))?;
    let head_dim = dims.head_dim.as_ref().map(|fact| fact.value);
    let head_dim = head_dim.ok_or_else(|| missing(fields, "hidden_size"))?;
    let kv_heads = count("num_key_value_heads").or_else(|| heads.checked_div(count("n_heads_in_group")?));
    let kv_heads = kv_heads.ok_or_else(|| Refusal {
        reason: "a block of block_configs does not say how many query heads share a KV head".to_owned(),
        span: Some(attention.span()),
    })?;
    Ok(vec![Cache::Attention {
        kv_heads,
        k_dim: head_dim,
        v_dim: head_dim,
        reach: count("window_length").map_or(Reach::Full, Reach::Window),
    }])
}
