//! The counts that every part of oomlint asks for, under the many names that configs give them.

use crate::fact::Fact;
use crate::model::Dims;
use crate::model::config::class::ModelKind;
use crate::model::config::fields::Fields;

/// More layers than this is a mistake, not a model.
const MOST_LAYERS: u64 = 100_000;

pub(super) const HIDDEN: [&str; 7] = [
    "hidden_size",
    "n_embd",
    "n_embed",
    "d_model",
    "model_dim",
    "hidden_dim",
    "dim",
];
pub(super) const HEADS: [&str; 5] = [
    "num_attention_heads",
    "n_head",
    "n_heads",
    "num_heads",
    "decoder_attention_heads",
];
/// In vLLM's order (`model_arch_config_convertor.py::get_total_num_kv_heads`).
pub(super) const KV_HEADS: [&str; 8] = [
    "n_head_kv",
    "num_kv_heads",
    "num_key_value_heads",
    "multi_query_group_num",
    "num_attention_groups",
    "attn_config.kv_n_heads",
    "num_query_groups",
    "decoder_key_value_heads",
];
const EXPERTS: [&str; 6] = [
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "moe_num_experts",
    "ffn_config.moe_num_experts",
    "num_routed_experts",
];

/// The dimensions of the text model.
pub(crate) fn dims(fields: &Fields<'_>) -> Dims {
    let hidden_size = fields.positive(&HIDDEN);
    let num_heads = if is_headless(fields) {
        None
    } else {
        fields.positive(&HEADS)
    };
    Dims {
        num_layers: num_layers(fields),
        head_dim: head_dim(fields, hidden_size.as_ref(), num_heads.as_ref()),
        num_kv_heads: num_kv_heads(fields, num_heads.as_ref()),
        vocab_size: fields.count(&["vocab_size", "padded_vocab_size"]),
        sliding_window: super::kinds::window(fields),
        num_experts: fields.count(&EXPERTS).filter(|fact| fact.value > 0),
        hidden_size,
        num_heads,
    }
}

/// A model of states alone: Mamba counts heads of its own under the names that others use for attention.
pub(super) fn is_headless(fields: &Fields<'_>) -> bool {
    let has = |key: &'static str| fields.count(&[key]).is_some();
    (has("state_size") && has("conv_kernel") && !has("num_attention_heads")) || is_rwkv(fields)
}

/// RWKV names no heads at all, but the layer after which it rescales.
pub(super) fn is_rwkv(fields: &Fields<'_>) -> bool {
    fields.model_type() == "rwkv"
}

fn num_layers(fields: &Fields<'_>) -> Option<Fact<u64>> {
    let keys: &[&'static str] = if fields.class().kind == ModelKind::EncoderDecoder {
        &[
            "num_decoder_layers",
            "decoder_layers",
            "num_layers",
            "num_hidden_layers",
        ]
    } else {
        &[
            "num_hidden_layers",
            "n_layer",
            "n_layers",
            "num_layers",
            "decoder_layers",
        ]
    };
    let layers = keys
        .iter()
        .find_map(|key| fields.positive(&[key]).filter(|_| fields.declared(key).is_some()))
        .or_else(|| keys.iter().find_map(|key| fields.positive(&[key])));
    let per_layer = fields.number(&["attentions_per_layer"], 1);
    // LongCat counts pairs of attention layers under `num_layers`, single ones under `num_hidden_layers`.
    let pairs = per_layer > 1 && fields.declared("num_hidden_layers").is_none();
    let layers = layers
        .map(|fact| {
            fact.map(|value| {
                if pairs {
                    value.saturating_mul(per_layer)
                } else {
                    value
                }
            })
        })
        .filter(|fact| fact.is_declared() || !states_its_layers(fields))
        .or_else(|| length_of_pattern(fields));
    if let Some(fact) = &layers
        && fact.value > MOST_LAYERS
    {
        if let Some(span) = fact.span() {
            let reason = format!("{} layers are more than any model has", fact.value);
            fields.wrong(span, &reason, "expected at most 100,000");
        }
        return None;
    }
    layers
}

fn states_its_layers(fields: &Fields<'_>) -> bool {
    length_of_pattern(fields).is_some()
}

/// Nemotron-H counts its layers by the pattern alone.
fn length_of_pattern(fields: &Fields<'_>) -> Option<Fact<u64>> {
    let node = ["hybrid_override_pattern", "layers_block_type", "block_configs"]
        .iter()
        .find_map(|key| fields.declared(key))?;
    let length = match node.text() {
        Some(text) => text.chars().count(),
        None => node.items().count(),
    };
    (length > 0).then(|| Fact::derived(length as u64, [node.span()]))
}

fn num_kv_heads(fields: &Fields<'_>, heads: Option<&Fact<u64>>) -> Option<Fact<u64>> {
    let heads = heads?;
    let multi_query = fields.switch("multi_query").unwrap_or(false);
    let grouped = fields.flag("new_decoder_architecture");
    if multi_query && !grouped {
        return Some(
            fields
                .declared("multi_query")
                .map_or_else(|| fields.default(1), |node| Fact::derived(1, [node.span()])),
        );
    }
    // Falcon without either keeps a head of keys for each head of queries, whatever it declares.
    let is_falcon = fields.switch("new_decoder_architecture").is_some();
    let ungrouped = fields.switch("multi_query_attention") == Some(false) || (is_falcon && !grouped);
    if ungrouped || declares_list(fields) {
        return Some(heads.clone());
    }
    let declared = fields.positive(&KV_HEADS);
    let kv_heads = declared.unwrap_or_else(|| heads.clone());
    if kv_heads.value > heads.value || !heads.value.is_multiple_of(kv_heads.value) {
        contradict_heads(fields, heads, &kv_heads);
    }
    Some(kv_heads)
}

/// KV heads that differ by layer stand in a list; [`super::attention`] reads it.
fn declares_list(fields: &Fields<'_>) -> bool {
    KV_HEADS.iter().any(|key| fields.list(key).is_some())
}

fn contradict_heads(fields: &Fields<'_>, heads: &Fact<u64>, kv_heads: &Fact<u64>) {
    // Models of latent attention carry the field without using it.
    if super::attention::is_latent(fields) {
        return;
    }
    let Some(span) = kv_heads.span().or_else(|| heads.span()) else {
        return;
    };
    let reason = format!(
        "{} attention heads cannot share {} KV heads evenly",
        heads.value, kv_heads.value
    );
    let other = heads
        .span()
        .filter(|other| *other != span)
        .map(|other| (other, format!("{} attention heads", heads.value)));
    fields.contradiction(
        span,
        &reason,
        &format!("{} KV heads", kv_heads.value),
        other.as_ref(),
    );
}

fn head_dim(fields: &Fields<'_>, hidden: Option<&Fact<u64>>, heads: Option<&Fact<u64>>) -> Option<Fact<u64>> {
    let (hidden, heads) = (hidden?, heads?);
    if super::attention::is_latent(fields) {
        let part = |key: &'static str| fields.number(&[key], 0);
        let sum = part("qk_nope_head_dim").saturating_add(part("qk_rope_head_dim"));
        return Some(Fact::derived(sum, heads.span()));
    }
    let explicit = [
        "head_dim",
        "kv_channels",
        "attention_head_dim",
        "d_kv",
        "decoder_head_dim",
    ]
    .iter()
    .find_map(|key| fields.count(&[key]).filter(|fact| fact.value > 0));
    if let Some(fact) = explicit {
        return Some(fact);
    }
    // Zamba's shared attention works on the residual stream and the embeddings side by side.
    let width = hidden
        .value
        .saturating_mul(fields.number(&["attention_hidden_multiple"], 1));
    if !width.is_multiple_of(heads.value) {
        // Where both are defaults the class divides all the same and drops the rest.
        let Some(span) = heads.span().or_else(|| hidden.span()) else {
            return Some(fields.default(width / heads.value));
        };
        let reason = format!(
            "{} attention heads do not divide the hidden size {}, and there is no head_dim",
            heads.value, width
        );
        let other = hidden
            .span()
            .filter(|other| *other != span)
            .map(|other| (other, format!("hidden size {}", hidden.value)));
        fields.contradiction(span, &reason, &format!("{} heads", heads.value), other.as_ref());
        return None;
    }
    Some(Fact::derived(
        width / heads.value,
        hidden.span().into_iter().chain(heads.span()),
    ))
}
