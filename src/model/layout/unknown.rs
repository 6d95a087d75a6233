//! A model that nobody knows is sized as plain attention only when nothing hints at more: a field about states,
//! windows or latent vectors that is not understood means that the plain formula may count too little.

use crate::model::Refusal;
use crate::model::config::fields::Fields;
use crate::source::tree::{Node, Shape};

/// Parts of field names that speak of memory between tokens.
const HINTS: [&str; 21] = [
    "ssm",
    "mamba",
    "conv",
    "linear_attn",
    "linear_attention",
    "window",
    "lora_rank",
    "state",
    "recurrent",
    "compress",
    "retention",
    "delta",
    "kda",
    "latent",
    "hybrid",
    "layer_types",
    "block_type",
    "kv_share",
    "shared_kv",
    "cross_attention",
    "rwkv",
];

/// Fields that contain a hint and are understood, or have nothing to do with caches.
const UNDERSTOOD: [&str; 19] = [
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "sliding_window_pattern",
    "layer_types",
    "layers_block_type",
    "kv_lora_rank",
    "q_lora_rank",
    "o_lora_rank",
    "hybrid_override_pattern",
    "hybrid_layer_pattern",
    "mamba_n_groups",
    "num_kv_shared_layers",
    "cross_attention_layers",
    "compress_ratios",
    "compress_rates",
    "output_hidden_states",
    "mlp_layer_types",
    "cross_attention_hidden_size",
];

/// Fields that recurrent layers have.
const STATES: [&str; 13] = [
    "linear_attn_config",
    "linear_conv_kernel_dim",
    "conv_L_cache",
    "state_size",
    "ssm_state_size",
    "conv_kernel",
    "mamba_d_state",
    "mamba_d_conv",
    "mamba_n_heads",
    "mamba_num_heads",
    "mamba_head_dim",
    "mamba_d_head",
    "mamba_expand",
];

/// Refuses a `model_type` without a row in the catalog when one of its fields hints at something unknown, or
/// when it slides without saying which layers do.
pub(super) fn refuse_what_is_not_understood(fields: &Fields<'_>) -> Result<(), Refusal> {
    if fields.class().known {
        return Ok(());
    }
    let name = match fields.model_type() {
        "" => "a model without model_type",
        name => name,
    };
    for (key, value) in fields.node().entries() {
        let Some(text) = key.text() else { continue };
        if hints_at_memory(text) && says_something(value) {
            return Err(Refusal {
                reason: format!(
                    "{name} is not a model_type that oomlint knows, and its field {text} hints at memory \
                     that plain attention does not have"
                ),
                span: Some(key.span()),
            });
        }
    }
    slides_somewhere(fields, name)
}

/// True for a field whose name speaks of memory between tokens in a way that nobody here understands.
pub(crate) fn hints_at_memory(field: &str) -> bool {
    let lower = field.to_ascii_lowercase();
    HINTS.iter().any(|hint| lower.contains(hint))
        && !UNDERSTOOD.contains(&field)
        && !STATES.contains(&field)
        && !lower.ends_with("token_id")
}

/// Fields about states are understood where something says which layers have them. An unknown family that has
/// such fields, and layers that are all plain attention, keeps more than was counted.
pub(super) fn refuse_states_left_out(fields: &Fields<'_>, has_states: bool) -> Result<(), Refusal> {
    if fields.class().known || has_states {
        return Ok(());
    }
    let left = STATES
        .iter()
        .find_map(|key| fields.declared(key).map(|value| (key, value)));
    match left {
        Some((key, value)) if says_something(value) => Err(Refusal {
            reason: format!(
                "{} is not a model_type that oomlint knows: its field {key} speaks of recurrent states, and nothing \
                 says which layers keep them",
                fields.model_type()
            ),
            span: Some(value.span()),
        }),
        _ => Ok(()),
    }
}

/// A window without a pattern may mean every layer, some or none: counting all of them as sliding would count
/// too little.
fn slides_somewhere(fields: &Fields<'_>, name: &str) -> Result<(), Refusal> {
    let says_where = [
        "layer_types",
        "sliding_window_pattern",
        "hybrid_layer_pattern",
        "max_window_layers",
    ]
    .iter()
    .any(|key| fields.declared(key).is_some());
    match super::kinds::window(fields) {
        Some(window) if !says_where => Err(Refusal {
            reason: format!(
                "{name} is not a model_type that oomlint knows, and its sliding_window does not say which layers slide"
            ),
            span: window.span(),
        }),
        _ => Ok(()),
    }
}

/// A field that is not switched off.
fn says_something(value: Node<'_>) -> bool {
    match value.shape() {
        Shape::Null | Shape::UnknownAlias => false,
        Shape::Scalar => value.as_bool() != Some(false) && value.as_f64() != Some(0.0),
        Shape::Mapping => value.pairs().next().is_some(),
        Shape::Sequence => value.items().next().is_some(),
    }
}
