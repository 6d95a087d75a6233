//! DeepSeek-V4: every layer keeps a short window, and most also keep summaries of longer runs.
//!
//! A layer of ratio 4 (compressed sparse attention) has an indexer with summaries of its own and compressors
//! whose runs overlap; one of ratio 128 (heavily compressed) has neither.
//! Source: transformers 5.20 `modeling_deepseek_v4.py`; vLLM 0.33 `models/deepseek_v4`.

use crate::memory::layout::{Cache, Reach};
use crate::model::config::fields::Fields;
use crate::model::{Dims, Refusal};

use super::{Kept, missing};

const SPARSE: &str = "compressed_sparse_attention";
const HEAVY: &str = "heavily_compressed_attention";

/// True for configs in this notation.
pub(super) fn applies(fields: &Fields<'_>) -> bool {
    ["compress_ratios", "compress_rates"]
        .iter()
        .any(|key| fields.declared(key).is_some())
        || fields.count(&["compress_ratio_csa"]).is_some()
}

/// What each layer keeps.
pub(super) fn layers(fields: &Fields<'_>, dims: &Dims, layers: u64) -> Result<Vec<Kept>, Refusal> {
    let ratios = ratios(fields, layers)?;
    let head_dim = dims.head_dim.as_ref().map(|fact| fact.value);
    let head_dim = head_dim.ok_or_else(|| missing(fields, "head_dim"))?;
    let window = super::kinds::window(fields).ok_or_else(|| missing(fields, "sliding_window"))?;
    let index_dim = fields.number(&["index_head_dim"], 0);
    let near = Cache::Attention {
        kv_heads: 1,
        k_dim: head_dim,
        v_dim: 0,
        reach: Reach::Window(window.value),
    };
    Ok(ratios
        .into_iter()
        .map(|(ratio, is_sparse)| {
            let mut kept = vec![near];
            if ratio > 0 {
                kept.push(Cache::Compressed { ratio, head_dim });
                kept.push(ring(ratio, head_dim, is_sparse));
            }
            if is_sparse && index_dim > 0 {
                kept.push(Cache::CompressedIndexer {
                    ratio,
                    head_dim: index_dim,
                });
                kept.push(ring(ratio, index_dim, is_sparse));
            }
            kept
        })
        .collect())
}

/// Key and gate of the tokens of the run that is not full yet; sparse layers keep two runs, each with two
/// projections.
fn ring(ratio: u64, head_dim: u64, is_sparse: bool) -> Cache {
    let overlap = if is_sparse { 2 } else { 1 };
    Cache::Ring {
        width: head_dim.saturating_mul(2 * overlap),
        tokens: ratio.saturating_mul(overlap),
    }
}

/// For each layer the tokens that one summary stands for (0: no summaries), and whether it is a sparse layer.
pub(crate) fn ratios(fields: &Fields<'_>, layers: u64) -> Result<Vec<(u64, bool)>, Refusal> {
    let rate = |kind: &str, default: u64| {
        let declared = fields.declared("compress_rates").and_then(|node| node.get(kind));
        declared
            .and_then(|node| fields.count_of(kind, node))
            .unwrap_or(default)
    };
    let (sparse, heavy) = (rate(SPARSE, 4), rate(HEAVY, 128));
    let count = usize::try_from(layers).unwrap_or(usize::MAX);
    if let Some(node) = fields.declared("compress_ratios") {
        let listed: Vec<u64> = node
            .items()
            .filter_map(|item| fields.count_of("compress_ratios", item))
            .collect();
        // The list goes on for the next-token-prediction layers.
        let Some(own) = listed.get(..count) else {
            let reason = format!(
                "compress_ratios names {} layers, but the model has {layers}",
                listed.len()
            );
            fields.wrong(node.span(), &reason, "too few layers");
            return Err(Refusal {
                reason,
                span: Some(node.span()),
            });
        };
        return Ok(own.iter().map(|ratio| (*ratio, *ratio == sparse)).collect());
    }
    if let Some(types) = fields.list("layer_types") {
        let of = |name: Option<&str>| match name {
            Some(SPARSE) => (sparse, true),
            Some(HEAVY) => (heavy, false),
            _ => (0, false),
        };
        return Ok(types.iter().take(count).map(|node| of(node.text())).collect());
    }
    // The class default: heavy layers, with every second one sparse from the fourth on.
    let is_sparse = |layer: u64| layer >= 3 && layer % 2 == 1;
    Ok((0..layers)
        .map(|layer| {
            if is_sparse(layer) {
                (sparse, true)
            } else {
                (heavy, false)
            }
        })
        .collect())
}
