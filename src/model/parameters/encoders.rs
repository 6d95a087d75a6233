//! Models with an encoder: BERT, BART, Whisper, T5.

use crate::model::Component;
use crate::model::census::{Batch, Split, Tally};

use super::recipe::Family;
use super::{Plan, Purpose};

/// BERT and `RoBERTa`: embeddings of words, positions and segments, then post-norm layers and a pooler.
pub(super) fn bert(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let fields = plan.fields;
    let width = plan.width;
    let mut batch = Batch::first();
    batch.table(Component::Embedding, plan.vocab, width, Split::Vocab);
    let positions = fields.count(&["max_position_embeddings"])?.value;
    batch.table(Component::Embedding, positions, width, Split::Replicated);
    let segments = fields.number(&["type_vocab_size"], 2);
    batch.table(Component::Embedding, segments, width, Split::Replicated);
    batch.other(Component::Embedding, width.saturating_mul(2), Split::Replicated);
    tally.put(batch);
    let inner = fields.count(&["intermediate_size"])?.value;
    for index in 0..plan.layers {
        let mut batch = Batch::layer(u32::try_from(index).ok()?);
        attention(&mut batch, width, width, true, true);
        feed_forward(&mut batch, width, inner);
        norms(&mut batch, width, 2);
        tally.put(batch);
    }
    let mut batch = Batch::last();
    match plan.purpose() {
        Purpose::Generation => return None,
        purpose => {
            batch.plain(Component::Other, width, width, Split::Replicated);
            batch.other(Component::Other, width, Split::Replicated);
            if purpose == Purpose::Classification {
                let labels = labels(plan);
                batch.plain(Component::Other, width, labels, Split::Replicated);
                batch.other(Component::Other, labels, Split::Replicated);
            }
        }
    }
    tally.put(batch);
    Some(())
}

/// A single label is a score; `id2label` names it.
fn labels(plan: &Plan<'_, '_>) -> u64 {
    let named = plan.fields.root().get("id2label");
    named.map_or(2, |labels| labels.pairs().count() as u64)
}

/// BART, mBART and Whisper.
pub(super) fn bart(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let fields = plan.fields;
    let width = plan.width;
    let is_whisper = plan.recipe.family == Family::Whisper;
    let number = |key: &'static str| fields.count(&[key]).map(|fact| fact.value);
    let mut batch = Batch::first();
    batch.table(Component::Embedding, plan.vocab, width, Split::Vocab);
    if is_whisper {
        let bands = number("num_mel_bins")?;
        let first = bands.saturating_mul(3).saturating_add(1);
        let second = width.saturating_mul(3).saturating_add(1);
        let convolutions = first.saturating_add(second).saturating_mul(width);
        batch.other(Component::Other, convolutions, Split::Replicated);
        batch.table(
            Component::Embedding,
            number("max_source_positions")?,
            width,
            Split::Replicated,
        );
        batch.table(
            Component::Embedding,
            number("max_target_positions")?,
            width,
            Split::Replicated,
        );
    } else {
        let positions = number("max_position_embeddings")?.saturating_add(2);
        for _ in 0..2 {
            batch.table(Component::Embedding, positions, width, Split::Replicated);
        }
    }
    // Either way two norms: BART norms its embeddings, Whisper its last layers, mBART both.
    norms(&mut batch, width, 2);
    if fields.model_type() == "mbart" || fields.flag("add_final_layer_norm") {
        norms(&mut batch, width, 2);
    }
    let encoder_inner = number("encoder_ffn_dim")?;
    batch.times(number("encoder_layers")?, |batch| {
        attention(batch, width, width, true, !is_whisper);
        feed_forward(batch, width, encoder_inner);
        norms(batch, width, 2);
    });
    if !plan.is_tied() {
        // Untied, BART's encoder and decoder have embeddings of their own too.
        let tables = if is_whisper { 1 } else { 3 };
        batch.times(tables, |batch| {
            batch.table(Component::LmHead, plan.vocab, width, Split::Vocab);
        });
    }
    tally.put(batch);
    for index in 0..plan.layers {
        let mut batch = Batch::layer(u32::try_from(index).ok()?);
        for _ in 0..2 {
            attention(&mut batch, width, width, true, !is_whisper);
        }
        feed_forward(&mut batch, width, number("decoder_ffn_dim")?);
        norms(&mut batch, width, 3);
        tally.put(batch);
    }
    Some(())
}

/// T5: no biases, weights-only norms, relative positions. transformers 5 always ties its output projection.
pub(super) fn t5(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let fields = plan.fields;
    let width = plan.width;
    let inner = plan.heads.saturating_mul(plan.dims.head_dim.as_ref()?.value);
    let feed = fields.count(&["d_ff"])?.value;
    let kind = fields.text("feed_forward_proj");
    let gated = kind.is_some_and(|fact| fact.value.starts_with("gated")) || fields.flag("is_gated_act");
    let projections = if gated { 2 } else { 1 };
    let buckets = fields.number(&["relative_attention_num_buckets"], 32);
    let relative = buckets.saturating_mul(plan.heads);
    let every_layer = fields.model_type() == "umt5";
    let half = |batch: &mut Batch, attentions: u64, is_first: bool| {
        batch.times(attentions, |batch| attention(batch, width, inner, false, false));
        if is_first || every_layer {
            batch.other(Component::Attention, relative, Split::Even);
        }
        batch.linear(Component::Mlp, width, feed, Split::Even, projections);
        batch.linear(Component::Mlp, feed, width, Split::Even, 1);
        batch.times(attentions + 1, |batch| {
            batch.other(Component::Attention, width, Split::Replicated);
        });
    };
    let mut batch = Batch::first();
    batch.table(Component::Embedding, plan.vocab, width, Split::Vocab);
    batch.other(Component::Other, width.saturating_mul(2), Split::Replicated);
    let layers = fields.count(&["num_layers"])?.value;
    half(&mut batch, 1, true);
    batch.times(layers.saturating_sub(1), |batch| half(batch, 1, false));
    tally.put(batch);
    for index in 0..plan.layers {
        let mut batch = Batch::layer(u32::try_from(index).ok()?);
        half(&mut batch, 2, index == 0);
        tally.put(batch);
    }
    Some(())
}

/// Four projections; the bias of the keys is a question of its own.
fn attention(batch: &mut Batch, width: u64, inner: u64, has_bias: bool, key_bias: bool) {
    let part = Component::Attention;
    batch.linear(part, width, inner, Split::Even, 3);
    batch.linear(part, inner, width, Split::Even, 1);
    if has_bias {
        let biased = if key_bias { 3 } else { 2 };
        batch.other(part, inner.saturating_mul(biased), Split::Even);
        batch.other(part, width, Split::Replicated);
    }
}

fn feed_forward(batch: &mut Batch, width: u64, inner: u64) {
    batch.linear(Component::Mlp, width, inner, Split::Even, 1);
    batch.linear(Component::Mlp, inner, width, Split::Even, 1);
    batch.other(Component::Mlp, inner, Split::Even);
    batch.other(Component::Mlp, width, Split::Replicated);
}

fn norms(batch: &mut Batch, width: u64, count: u64) {
    batch.times(count, |batch| {
        batch.other(Component::Other, width.saturating_mul(2), Split::Replicated);
    });
}
