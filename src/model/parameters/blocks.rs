//! The parts that most decoders are made of: attention over heads or over a latent vector, dense feed-forward
//! layers, routed and shared experts.

use crate::memory::layout::Reach;
use crate::model::Component;
use crate::model::census::{Batch, Split};
use crate::model::config::fields::Fields;
use crate::model::layout;
use crate::source::tree::Node;

use super::Plan;
use super::recipe::{QkNorm, ScoreBias, Sinks};

const EXPERT_WIDTH: [&str; 6] = [
    "moe_intermediate_size",
    "expert_ffn_hidden_size",
    "ffn_config.ffn_hidden_size",
    "expert_intermediate_size",
    "moe_ffn_hidden_size",
    "intermediate_size",
];
const MLP_WIDTH: [&str; 9] = [
    "intermediate_size_mlp",
    "dense_intermediate_size",
    "intermediate_size",
    "block_ff_dim",
    "ffn_hidden_size",
    "ffn_dim",
    "n_inner",
    "d_ff",
    "ff_intermediate_size",
];

/// Queries, keys, values and output of one layer, with their norms and biases.
pub(super) fn attention(plan: &Plan<'_, '_>, batch: &mut Batch, reach: Reach, layer: usize) -> Option<()> {
    if layout::is_latent(plan.fields) {
        latent_attention(plan, batch, layer);
        return Some(());
    }
    let shape = layout::shape(plan.fields, plan.dims, reach, layer).ok()?;
    let heads = plan.heads;
    let part = Component::Attention;
    let input = attention_input(plan);
    let queries = if plan.recipe.query_gate.is_on(plan.fields) {
        2
    } else {
        1
    };
    let query_width = heads.saturating_mul(shape.k_dim);
    batch.linear(part, input, query_width.saturating_mul(queries), Split::Even, 1);
    batch.linear(
        part,
        heads.saturating_mul(shape.v_dim),
        plan.width,
        Split::Even,
        1,
    );
    let bias = plan.recipe.qkv_bias.is_on(plan.fields);
    if bias {
        batch.other(part, query_width.saturating_mul(queries), Split::Even);
    }
    if plan.recipe.out_bias.is_on(plan.fields) {
        batch.other(part, plan.width, Split::Replicated);
    }
    if plan.recipe.head_gate {
        batch.linear(part, plan.width, heads, Split::Even, 1);
    }
    sinks(plan, batch, reach);
    let own_keys = !layout::reads_anothers_cache(plan.fields, plan.layers, layer);
    qk_norms(plan, batch, query_width, &shape, own_keys);
    if own_keys {
        keys_and_values(plan, batch, reach, &shape, bias);
    }
    sparse_indexer(plan, batch, layer);
    Some(())
}

/// Zamba's attention reads the embeddings beside the residual stream.
fn attention_input(plan: &Plan<'_, '_>) -> u64 {
    let multiple = plan.fields.number(&["attention_hidden_multiple"], 1);
    plan.width.saturating_mul(multiple)
}

fn keys_and_values(
    plan: &Plan<'_, '_>,
    batch: &mut Batch,
    reach: Reach,
    shape: &layout::Shape,
    has_bias: bool,
) {
    let part = Component::Attention;
    let split = Split::Heads(shape.kv_heads);
    let (keys, values) = (
        shape.kv_heads.saturating_mul(shape.k_dim),
        shape.kv_heads.saturating_mul(shape.v_dim),
    );
    let input = attention_input(plan);
    batch.linear(part, input, keys, split, 1);
    batch.linear(part, input, values, split, 1);
    if plan.fields.flag("attention_k_eq_v") && reach == Reach::Full {
        // Gemma 4's global layers use their keys as values; vLLM loads them into both places.
        batch.uncount_last();
    }
    if has_bias {
        if plan.recipe.key_bias {
            batch.other(part, keys, split);
        }
        batch.other(part, values, split);
    }
}

fn sinks(plan: &Plan<'_, '_>, batch: &mut Batch, reach: Reach) {
    let has_sinks = match plan.recipe.sinks {
        Sinks::None => false,
        Sinks::All => true,
        Sinks::Sliding => matches!(reach, Reach::Window(_)),
    };
    if has_sinks {
        batch.other(Component::Attention, plan.heads, Split::Even);
    }
}

fn qk_norms(plan: &Plan<'_, '_>, batch: &mut Batch, query_width: u64, shape: &layout::Shape, has_keys: bool) {
    let wanted = plan.recipe.qk_norm_if.as_deref();
    if !wanted.is_none_or(|key| plan.fields.flag(key)) {
        return;
    }
    let (query, key) = match plan.recipe.qk_norm {
        QkNorm::None => return,
        QkNorm::Head => (shape.k_dim, shape.k_dim),
        QkNorm::HeadWithBias => (shape.k_dim.saturating_mul(2), shape.k_dim.saturating_mul(2)),
        QkNorm::Full => (query_width, shape.kv_heads.saturating_mul(shape.k_dim)),
    };
    batch.other(Component::Attention, query, Split::Replicated);
    if has_keys {
        batch.other(Component::Attention, key, Split::Replicated);
    }
}

/// Multi-head latent attention (DeepSeek-V2 and later).
pub(super) fn latent_attention(plan: &Plan<'_, '_>, batch: &mut Batch, layer: usize) {
    let fields = plan.fields;
    let part = Component::Attention;
    let number = |key: &'static str| fields.number(&[key], 0);
    let (rank, rope, nope) = (
        number("kv_lora_rank"),
        number("qk_rope_head_dim"),
        number("qk_nope_head_dim"),
    );
    let (value, query_rank) = (number("v_head_dim"), number("q_lora_rank"));
    let heads = plan.heads;
    let query = heads.saturating_mul(nope.saturating_add(rope));
    if query_rank > 0 {
        batch.linear(part, plan.width, query_rank, Split::Replicated, 1);
        batch.other(part, query_rank, Split::Replicated);
        batch.linear(part, query_rank, query, Split::Even, 1);
    } else {
        batch.linear(part, plan.width, query, Split::Even, 1);
    }
    batch.linear(part, plan.width, rank.saturating_add(rope), Split::Replicated, 1);
    batch.other(part, rank, Split::Replicated);
    batch.linear(
        part,
        rank,
        heads.saturating_mul(nope.saturating_add(value)),
        Split::Even,
        1,
    );
    batch.linear(part, heads.saturating_mul(value), plan.width, Split::Even, 1);
    if fields.flag("attention_bias") {
        let query_bias = query_rank;
        batch.other(part, query_bias, Split::Replicated);
        batch.other(part, rank.saturating_add(rope), Split::Replicated);
        batch.other(part, plan.width, Split::Replicated);
    }
    if fields.flag("mla_use_output_gate") {
        batch.linear(part, plan.width, heads.saturating_mul(value), Split::Even, 1);
    }
    let index = number("index_head_dim");
    if index > 0 && query_rank > 0 && layout::owns_indexer(fields, layer) {
        let index_heads = number("index_n_heads");
        batch.linear(
            part,
            query_rank,
            index_heads.saturating_mul(index),
            Split::Replicated,
            1,
        );
        batch.linear(part, plan.width, index, Split::Replicated, 1);
        batch.wide(part, index.saturating_mul(2), Split::Replicated);
        batch.plain(part, plan.width, index_heads, Split::Replicated);
    }
}

/// MiniMax-M3's indexer beside ordinary heads: queries for a few heads, one key, and a norm for each.
fn sparse_indexer(plan: &Plan<'_, '_>, batch: &mut Batch, layer: usize) {
    let fields = plan.fields;
    let dim = fields.number(&["sparse_attention_config.sparse_index_dim"], 0);
    let heads = fields.number(&["sparse_attention_config.sparse_num_index_heads"], 0);
    let listed = fields.list("sparse_attention_config.sparse_attention_freq");
    let here = listed.is_some_and(|list| list.get(layer).and_then(|node| node.as_u64()) == Some(1));
    if dim > 0 && here {
        let part = Component::Attention;
        batch.linear(part, plan.width, heads.saturating_mul(dim), Split::Replicated, 1);
        batch.linear(part, plan.width, dim, Split::Replicated, 1);
        batch.other(part, dim, Split::Replicated);
        batch.other(part, dim, Split::Replicated);
    }
}

/// A dense feed-forward layer.
pub(super) fn mlp(plan: &Plan<'_, '_>, batch: &mut Batch, inner: u64, part: Component) {
    let projections = if plan.recipe.gated { 2 } else { 1 };
    batch.linear(part, plan.width, inner, Split::Even, projections);
    batch.linear(part, inner, plan.width, Split::Even, 1);
    if plan.recipe.mlp_bias.is_on(plan.fields) {
        batch.other(part, inner.saturating_mul(projections), Split::Even);
        batch.other(part, plan.width, Split::Replicated);
    }
    batch.other(part, plan.recipe.mlp_scalars, Split::Replicated);
}

/// Routed experts, their router, and the experts that every token passes.
pub(super) fn experts(plan: &Plan<'_, '_>, batch: &mut Batch) -> Option<()> {
    let fields = plan.fields;
    let count = plan.dims.num_experts.as_ref()?.value;
    let inner = expert_width(fields)?;
    // Nemotron 3 and Kimi K3 squeeze the stream before the experts and widen it after them.
    let squeezed = fields
        .count(&["moe_latent_size", "routed_expert_hidden_size"])
        .filter(|fact| fact.value > 0);
    let stream = squeezed.as_ref().map_or(plan.width, |fact| fact.value);
    if squeezed.is_some() {
        batch.linear(Component::Experts, plan.width, stream, Split::Replicated, 1);
        batch.linear(Component::Experts, stream, plan.width, Split::Replicated, 1);
        if fields.flag("latent_moe_use_norm") {
            batch.other(Component::Experts, stream, Split::Replicated);
        }
    }
    routed(plan, batch, count, stream, inner);
    router(plan, batch, count);
    shared(plan, batch, inner);
    Some(())
}

fn routed(plan: &Plan<'_, '_>, batch: &mut Batch, count: u64, stream: u64, inner: u64) {
    let part = Component::Experts;
    let projections = if plan.recipe.gated { 2 } else { 1 };
    let each = count.saturating_mul(projections);
    batch.linear(part, stream, inner, Split::Expert, each);
    batch.linear(part, inner, stream, Split::Expert, count);
    if plan.recipe.expert_bias {
        batch.other(part, each.saturating_mul(inner), Split::Even);
        batch.other(part, count.saturating_mul(stream), Split::Replicated);
    }
}

fn router(plan: &Plan<'_, '_>, batch: &mut Batch, count: u64) {
    let part = Component::Experts;
    batch.plain(part, plan.width, count, Split::Replicated);
    if plan.recipe.router_wide {
        batch.widen_last();
    }
    if plan.recipe.router_bias.is_on(plan.fields) {
        batch.other(part, count, Split::Replicated);
    }
    let noaux = plan
        .fields
        .text("topk_method")
        .is_some_and(|fact| fact.value == "noaux_tc");
    match plan.recipe.score_bias {
        ScoreBias::Parameter => batch.other(part, count, Split::Replicated),
        ScoreBias::Buffer => {
            batch.wide(part, count, Split::Replicated);
            batch.uncount_last();
        }
        ScoreBias::BufferIfNoaux if noaux => {
            batch.wide(part, count, Split::Replicated);
            batch.uncount_last();
        }
        ScoreBias::BufferIfNoaux | ScoreBias::None => {}
    }
}

/// The experts that every token passes: one feed-forward layer of their common width.
fn shared(plan: &Plan<'_, '_>, batch: &mut Batch, expert_width: u64) {
    let Some(inner) = shared_width(plan, expert_width).filter(|inner| *inner > 0) else {
        return;
    };
    mlp(plan, batch, inner, Component::Mlp);
    if plan.recipe.shared_gate {
        batch.plain(Component::Mlp, plan.width, 1, Split::Replicated);
    }
}

/// Width of the shared experts: declared as such, or a number of experts.
pub(super) fn shared_width(plan: &Plan<'_, '_>, expert_width: u64) -> Option<u64> {
    let fields = plan.fields;
    let count = fields.count(&[
        "n_shared_experts",
        "num_shared_experts",
        "moe_num_shared_experts",
        "num_shared_expert",
    ]);
    let declared = fields.count(&[
        "shared_expert_intermediate_size",
        "moe_shared_expert_intermediate_size",
        "shared_intermediate_size",
        "share_expert_dim",
    ]);
    match (declared, count) {
        (Some(width), Some(count)) => Some(width.value.saturating_mul(count.value)),
        (Some(width), None) => Some(width.value),
        (None, Some(count)) => Some(expert_width.saturating_mul(count.value)),
        (None, None) => plan.recipe.shared_always.then_some(expert_width),
    }
}

/// Width of one routed expert.
pub(super) fn expert_width(fields: &Fields<'_>) -> Option<u64> {
    EXPERT_WIDTH
        .iter()
        .find_map(|key| fields.count(&[key]))
        .map(|fact| fact.value)
}

impl Plan<'_, '_> {
    /// Width of a dense feed-forward layer. Four times the hidden size where nobody says (GPT-2, Falcon).
    pub(super) fn mlp_width(&self, layer: usize) -> Option<u64> {
        let fields = self.fields;
        if let Some(widths) = fields.list("intermediate_size") {
            return widths.get(layer).and_then(|node| node.as_u64());
        }
        // Granite hybrids without routed experts keep the shared one.
        let shared = fields
            .count(&["shared_intermediate_size"])
            .filter(|fact| fact.value > 0);
        if let (None, Some(shared)) = (&self.dims.num_experts, shared) {
            return Some(shared.value);
        }
        let declared = MLP_WIDTH
            .iter()
            .find_map(|key| fields.count(&[key]))
            .map(|fact| fact.value);
        let factor = || fields.number(&["expansion_ratio"], 4);
        let inner = declared.unwrap_or_else(|| self.width.saturating_mul(factor()));
        let inner = if fields.model_type() == "qwen" {
            inner / 2
        } else {
            inner
        };
        if fields.model_type().starts_with("recurrent") {
            return Some(inner / 2);
        }
        // Gemma 4 E-models widen the layers that have no keys and values of their own.
        if fields.flag("use_double_wide_mlp") && layout::reads_anothers_cache(fields, self.layers, layer) {
            return Some(inner.saturating_mul(2));
        }
        Some(if fields.flag("block_auto_adjust_ff_dim") {
            self.adjusted(inner)
        } else {
            inner
        })
    }

    /// LFM2 shrinks the declared width to two thirds and rounds it up.
    ///
    /// Source: transformers 5.20 `modeling_lfm2.py::Lfm2MLP`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both factors are bounded counts"
    )]
    fn adjusted(&self, inner: u64) -> u64 {
        let two_thirds = inner.saturating_mul(2) / 3;
        let factor = self.fields.float(&["block_ffn_dim_multiplier"], 1.0).max(0.0);
        let scaled = (two_thirds as f64 * factor) as u64;
        let multiple = self.fields.number(&["block_multiple_of"], 256).max(1);
        scaled.div_ceil(multiple).saturating_mul(multiple)
    }
}

/// Which layers have routed experts.
pub(super) fn layers_with_experts(plan: &Plan<'_, '_>) -> Vec<bool> {
    let fields = plan.fields;
    let layers = usize::try_from(plan.layers).unwrap_or(0);
    // A single expert is a dense layer without a router (Jamba 2).
    if plan.dims.num_experts.as_ref().is_none_or(|fact| fact.value < 2) {
        return vec![false; layers];
    }
    if let Some(listed) = by_list(fields, layers) {
        return listed;
    }
    let number = |key: &'static str| fields.count(&[key]).map(|fact| fact.value);
    let skipped = fields.counts("mlp_only_layers").unwrap_or_default();
    let first = number("first_k_dense_replace")
        .or_else(|| number("num_dense_layers"))
        .unwrap_or(0);
    let first = number("moe_layer_start_index").unwrap_or(first);
    let last = number("moe_layer_end_index").unwrap_or(u64::MAX);
    let step = number("decoder_sparse_step").or_else(|| number("interleave_moe_layer_step"));
    let step = step.or_else(|| number("moe_layer_interval")).unwrap_or(1).max(1);
    let frequency = number("moe_layer_freq").unwrap_or(1).max(1);
    let (period, offset) = (
        number("expert_layer_period").unwrap_or(1).max(1),
        number("expert_layer_offset").unwrap_or(0),
    );
    (0..plan.layers)
        .map(|layer| {
            layer >= first
                && layer <= last
                && (layer + 1) % step == 0
                && layer % frequency == 0
                && layer % period == offset % period
                && !skipped.contains(&layer)
        })
        .collect()
}

/// Lists that name each layer, or the layers with experts.
fn by_list(fields: &Fields<'_>, layers: usize) -> Option<Vec<bool>> {
    if let Some(list) = fields.list("mlp_layer_types") {
        let sparse = list.iter().map(|node| node.text() != Some("dense"));
        return Some(sparse.chain(std::iter::repeat(true)).take(layers).collect());
    }
    if let Some(list) = fields.list("moe_layer_freq") {
        return Some(
            list.iter()
                .map(|node| node.as_u64() != Some(0))
                .take(layers)
                .collect(),
        );
    }
    if let Some(list) = fields.list("moe_layers") {
        let named: Vec<u64> = list.iter().filter_map(|node| Node::as_u64(*node)).collect();
        return Some((0..layers as u64).map(|layer| named.contains(&layer)).collect());
    }
    if let Some(list) = fields
        .list("layers_block_type")
        .filter(|_| fields.model_type() == "nemotron_h")
    {
        return Some(list.iter().map(|node| node.text() == Some("moe")).collect());
    }
    let pattern = fields.declared("hybrid_override_pattern")?;
    Some(pattern.text()?.chars().map(|letter| letter == 'E').collect())
}
