//! Tensors that only one family has. One function each, named for the family.

use crate::memory::layout::Reach;
use crate::model::Component;
use crate::model::census::{Batch, Split, Tally};
use crate::model::layout::{self, Kind};
use crate::source::tree::Node;

use super::recipe::Family;
use super::{Plan, blocks, mixers};

/// What a layer of some families holds beside attention, feed-forward and norms.
pub(super) fn layer_extras(plan: &Plan<'_, '_>, batch: &mut Batch, kind: Kind) {
    match plan.recipe.family {
        Family::Gemma3n => {
            gemma3n_layer(plan, batch);
            per_layer_input(plan, batch);
        }
        Family::Gemma4 => {
            gemma4_experts(plan, batch);
            per_layer_input(plan, batch);
        }
        Family::Mllama if kind == Kind::Cross => mllama_gates(plan, batch),
        _ => {}
    }
}

/// What some families hold beside the embeddings.
pub(super) fn embedding_extras(plan: &Plan<'_, '_>, batch: &mut Batch) {
    match plan.recipe.family {
        Family::Gemma3n => {
            per_layer_embeddings(plan, batch);
            let inputs = plan.fields.number(&["altup_num_inputs"], 4);
            let between = inputs.saturating_sub(1).saturating_mul(2);
            batch.linear(
                Component::Other,
                plan.width,
                plan.width,
                Split::Replicated,
                between,
            );
        }
        Family::Gemma4 => per_layer_embeddings(plan, batch),
        // Eight rows for the image token and its kin.
        Family::Mllama => batch.table(Component::Embedding, 8, plan.width, Split::Replicated),
        _ => {}
    }
}

/// Falcon: two norms, or one where attention and feed-forward run side by side.
///
/// Source: transformers 5.20 `modeling_falcon.py::FalconDecoderLayer`.
pub(super) fn falcon_norms(plan: &Plan<'_, '_>) -> u64 {
    let fields = plan.fields;
    let parallel = fields.flag("parallel_attn");
    let grouped = fields.flag("new_decoder_architecture");
    match fields.count(&["num_ln_in_parallel_attn"]) {
        Some(norms) if grouped => norms.value,
        _ if grouped => 2,
        _ if parallel => 1,
        _ => 2,
    }
}

/// Embeddings that enter at each layer (Gemma 3n, Gemma 4 E-models).
fn per_layer_embeddings(plan: &Plan<'_, '_>, batch: &mut Batch) {
    let inner = plan.fields.number(&["hidden_size_per_layer_input"], 0);
    if inner == 0 {
        return;
    }
    let all = inner.saturating_mul(plan.layers);
    let rows = plan.fields.number(&["vocab_size_per_layer_input"], plan.vocab);
    batch.table(Component::Embedding, rows, all, Split::Vocab);
    batch.plain(Component::Other, plan.width, all, Split::Replicated);
    batch.other(Component::Other, inner, Split::Replicated);
}

fn per_layer_input(plan: &Plan<'_, '_>, batch: &mut Batch) {
    let inner = plan.fields.number(&["hidden_size_per_layer_input"], 0);
    if inner > 0 {
        batch.linear(Component::Other, plan.width, inner, Split::Replicated, 1);
        batch.linear(Component::Other, inner, plan.width, Split::Replicated, 1);
        batch.other(Component::Other, plan.width, Split::Replicated);
    }
}

/// Alternating updates and the low-rank residual.
fn gemma3n_layer(plan: &Plan<'_, '_>, batch: &mut Batch) {
    let part = Component::Other;
    let width = plan.width;
    let inputs = plan.fields.number(&["altup_num_inputs"], 4);
    let square = inputs.saturating_mul(inputs);
    batch.other(
        part,
        square.saturating_add(square.saturating_mul(inputs)),
        Split::Replicated,
    );
    batch.wide(part, width, Split::Replicated);
    batch.other(part, width, Split::Replicated);
    batch.plain(part, width, inputs, Split::Replicated);
    let rank = plan.fields.number(&["laurel_rank"], 64);
    batch.linear(part, width, rank, Split::Replicated, 1);
    batch.linear(part, rank, width, Split::Replicated, 1);
    batch.other(part, width, Split::Replicated);
}

/// Experts beside the dense layer, with three more norms and two learned scales.
fn gemma4_experts(plan: &Plan<'_, '_>, batch: &mut Batch) {
    if !plan.fields.flag("enable_moe_block") {
        return;
    }
    let (Some(count), Some(inner)) = (&plan.dims.num_experts, blocks::expert_width(plan.fields)) else {
        return;
    };
    let part = Component::Experts;
    let count = count.value;
    batch.linear(part, plan.width, inner, Split::Expert, count.saturating_mul(2));
    batch.linear(part, inner, plan.width, Split::Expert, count);
    batch.plain(part, plan.width, count, Split::Replicated);
    batch.other(
        part,
        plan.width.saturating_mul(4).saturating_add(count),
        Split::Replicated,
    );
}

/// Norms of queries and keys, and the two gates, on the layers that look at images.
fn mllama_gates(plan: &Plan<'_, '_>, batch: &mut Batch) {
    let head_dim = plan.dims.head_dim.as_ref().map_or(0, |fact| fact.value);
    batch.other(
        Component::Attention,
        head_dim.saturating_mul(2).saturating_add(2),
        Split::Replicated,
    );
}

/// Blocks from neural architecture search: attention and feed-forward differ by layer, or are left out.
///
/// Source: `modeling_decilm.py` of Nemotron Super: the width is `2/3 * ffn_mult * hidden`, up to 256.
pub(super) fn blocks(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let list = plan.fields.list("block_configs")?;
    for (index, block) in list.iter().enumerate() {
        let mut batch = Batch::layer(u32::try_from(index).ok()?);
        let is_set = |half: &str, key: &str| block.at(&[half, key]).and_then(Node::as_bool) == Some(true);
        if is_set("attention", "replace_with_linear") {
            batch.linear(Component::Attention, plan.width, plan.width, Split::Even, 1);
        } else if !is_set("attention", "no_op") {
            let group = block
                .at(&["attention", "n_heads_in_group"])
                .and_then(Node::as_u64)?;
            block_attention(plan, &mut batch, plan.heads.checked_div(group)?);
        }
        if is_set("ffn", "replace_with_linear") {
            batch.linear(Component::Mlp, plan.width, plan.width, Split::Even, 1);
        } else if !is_set("ffn", "no_op") {
            blocks::mlp(plan, &mut batch, block_width(plan, *block)?, Component::Mlp);
        }
        for half in ["attention", "ffn"] {
            if !is_set(half, "no_op") {
                batch.other(Component::Attention, plan.width, Split::Replicated);
            }
        }
        tally.put(batch);
    }
    Some(())
}

fn block_attention(plan: &Plan<'_, '_>, batch: &mut Batch, kv_heads: u64) {
    let head_dim = plan.dims.head_dim.as_ref().map_or(0, |fact| fact.value);
    let part = Component::Attention;
    let inner = plan.heads.saturating_mul(head_dim);
    batch.linear(part, plan.width, inner, Split::Even, 1);
    batch.linear(part, inner, plan.width, Split::Even, 1);
    let keys = kv_heads.saturating_mul(head_dim);
    batch.linear(part, plan.width, keys, Split::Heads(kv_heads), 2);
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bounded count times a small factor"
)]
fn block_width(plan: &Plan<'_, '_>, block: Node<'_>) -> Option<u64> {
    if let Some(width) = block.at(&["ffn", "intermediate_size"]).and_then(Node::as_u64) {
        return Some(width);
    }
    let factor = block.at(&["ffn", "ffn_mult"]).and_then(Node::as_f64)?;
    let width = (2.0 * factor.clamp(0.0, 1e3) * plan.width as f64 / 3.0) as u64;
    Some(width.div_ceil(256).saturating_mul(256))
}

/// DeepSeek-V4: one shared key and value, output in groups of low rank, compressors, and streams that mix.
pub(super) fn deepseek_v4(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let ratios = layout::ratios(plan.fields, plan.layers).ok()?;
    let hashed = plan.fields.number(&["num_hash_layers"], 0);
    let types = plan.fields.list("mlp_layer_types");
    for (index, (ratio, is_sparse)) in ratios.into_iter().enumerate() {
        let mut batch = Batch::layer(u32::try_from(index).ok()?);
        v4_attention(plan, &mut batch, ratio, is_sparse);
        blocks::experts(plan, &mut batch)?;
        let named = types
            .as_ref()
            .map(|list| list.get(index).and_then(|node| node.text()) == Some("hash_moe"));
        if named.unwrap_or((index as u64) < hashed) {
            // The first layers choose experts by a table of token numbers, in 32 bits.
            let chosen = plan.fields.number(&["num_experts_per_tok"], 0);
            batch.wide(
                Component::Experts,
                plan.vocab.saturating_mul(chosen),
                Split::Replicated,
            );
            batch.uncount_last();
        }
        batch.other(Component::Other, plan.width, Split::Replicated);
        batch.other(Component::Other, plan.width, Split::Replicated);
        for _ in 0..2 {
            let streams = plan.fields.number(&["hc_mult"], 4);
            let mixed = streams.saturating_mul(streams.saturating_add(2));
            let elements = mixed.saturating_mul(streams.saturating_mul(plan.width).saturating_add(1));
            batch.wide(Component::Other, elements.saturating_add(3), Split::Replicated);
        }
        tally.put(batch);
    }
    let mut batch = Batch::last();
    let streams = plan.fields.number(&["hc_mult"], 4);
    let elements = streams.saturating_mul(streams.saturating_mul(plan.width).saturating_add(1));
    batch.wide(Component::Other, elements.saturating_add(1), Split::Replicated);
    tally.put(batch);
    Some(())
}

fn v4_attention(plan: &Plan<'_, '_>, batch: &mut Batch, ratio: u64, is_sparse: bool) {
    let fields = plan.fields;
    let part = Component::Attention;
    let head_dim = plan.dims.head_dim.as_ref().map_or(0, |fact| fact.value);
    let number = |key: &'static str| fields.number(&[key], 0);
    let (query_rank, groups) = (number("q_lora_rank"), number("o_groups").max(1));
    let queries = plan.heads.saturating_mul(head_dim);
    let narrow = groups.saturating_mul(number("o_lora_rank"));
    batch.linear(part, plan.width, query_rank, Split::Replicated, 1);
    batch.other(part, query_rank, Split::Replicated);
    batch.linear(part, query_rank, queries, Split::Even, 1);
    batch.linear(part, plan.width, head_dim, Split::Replicated, 1);
    batch.other(part, head_dim, Split::Replicated);
    batch.linear(part, queries / groups, narrow, Split::Even, 1);
    batch.linear(part, narrow, plan.width, Split::Even, 1);
    batch.wide(part, plan.heads, Split::Replicated);
    if ratio == 0 {
        return;
    }
    v4_compressor(plan, batch, ratio, head_dim, is_sparse);
    if is_sparse {
        let index = number("index_head_dim");
        let index_heads = number("index_n_heads");
        v4_compressor(plan, batch, ratio, index, is_sparse);
        batch.linear(
            part,
            query_rank,
            index_heads.saturating_mul(index),
            Split::Replicated,
            1,
        );
        batch.plain(part, plan.width, index_heads, Split::Replicated);
    }
}

/// Key and gate of a compressor, its positions and its norm; sparse ones have two of each.
fn v4_compressor(plan: &Plan<'_, '_>, batch: &mut Batch, ratio: u64, head_dim: u64, is_sparse: bool) {
    let part = Component::Attention;
    let inner = head_dim.saturating_mul(if is_sparse { 2 } else { 1 });
    batch.linear(part, plan.width, inner, Split::Replicated, 2);
    batch.wide(part, ratio.saturating_mul(inner), Split::Replicated);
    batch.other(part, head_dim, Split::Replicated);
}

/// LongCat: every two layers of the layout share one set of experts, some of which do nothing.
pub(super) fn longcat(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let fields = plan.fields;
    let inner = fields.count(&["ffn_hidden_size", "intermediate_size"])?.value;
    for index in 0..plan.layers {
        let mut batch = Batch::layer(u32::try_from(index).ok()?);
        blocks::latent_attention(plan, &mut batch, usize::try_from(index).ok()?);
        blocks::mlp(plan, &mut batch, inner, Component::Mlp);
        batch.other(Component::Attention, plan.width, Split::Replicated);
        batch.other(Component::Attention, plan.width, Split::Replicated);
        if index % 2 == 0 {
            blocks::experts(plan, &mut batch)?;
            let idle = fields.number(&["zero_expert_num"], 0);
            batch.plain(Component::Experts, plan.width, idle, Split::Replicated);
        }
        tally.put(batch);
    }
    Some(())
}

/// RWKV-4.
pub(super) fn rwkv(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let part = Component::Recurrent;
    let width = plan.width;
    let mixed = plan.fields.number(&["attention_hidden_size"], width);
    let inner = plan
        .fields
        .number(&["intermediate_size"], width.saturating_mul(4));
    for index in 0..plan.layers {
        let mut batch = Batch::layer(u32::try_from(index).ok()?);
        let norms = if index == 0 { 3 } else { 2 };
        batch.times(norms, |batch| {
            batch.other(part, width.saturating_mul(2), Split::Replicated);
        });
        batch.other(
            part,
            mixed.saturating_mul(2).saturating_add(width.saturating_mul(5)),
            Split::Replicated,
        );
        batch.linear(part, width, mixed, Split::Even, 3);
        batch.linear(part, mixed, width, Split::Even, 1);
        batch.linear(part, width, inner, Split::Even, 1);
        batch.linear(part, inner, width, Split::Even, 1);
        batch.linear(part, width, width, Split::Even, 1);
        tally.put(batch);
    }
    Some(())
}

/// Zamba: Mamba layers, some of which pass through attention blocks that they share.
pub(super) fn zamba(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let kinds = layout::kinds(plan.fields, plan.layers).ok()?;
    let second = plan.fields.count(&["num_mem_blocks"]);
    let mut left = second.as_ref().map_or(1, |fact| fact.value);
    let inner = plan.fields.number(
        &["intermediate_size", "ffn_hidden_size"],
        plan.width.saturating_mul(4),
    );
    for (index, kind) in kinds.iter().enumerate() {
        let mut batch = Batch::layer(u32::try_from(index).ok()?);
        mixers::recurrent(plan, &mut batch)?;
        batch.other(Component::Recurrent, plan.width, Split::Replicated);
        if *kind == Kind::Both {
            batch.linear(Component::Other, plan.width, plan.width, Split::Replicated, 1);
            if second.is_some() {
                zamba2_adapters(plan, &mut batch, inner);
            }
            if left > 0 {
                left -= 1;
                blocks::attention(plan, &mut batch, Reach::Full, index)?;
                blocks::mlp(plan, &mut batch, inner, Component::Mlp);
                batch.other(
                    Component::Attention,
                    plan.width.saturating_mul(3),
                    Split::Replicated,
                );
            }
        }
        tally.put(batch);
    }
    Some(())
}

/// Each use of Zamba 2's shared blocks adapts them by a low-rank difference.
fn zamba2_adapters(plan: &Plan<'_, '_>, batch: &mut Batch, inner: u64) {
    let rank = plan.fields.number(&["adapter_rank"], 128);
    batch.linear(Component::Mlp, plan.width, rank, Split::Replicated, 1);
    batch.linear(Component::Mlp, rank, inner.saturating_mul(2), Split::Even, 1);
    if plan.fields.flag("use_shared_attention_adapter") {
        let wide = plan.width.saturating_mul(2);
        batch.linear(Component::Attention, wide, rank, Split::Replicated, 3);
        batch.linear(Component::Attention, rank, wide, Split::Even, 3);
    }
}
