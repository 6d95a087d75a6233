//! How much one recurrent layer keeps, whatever the length of the text.
//!
//! Fields decide which mixer it is: each of the functions below looks for the fields that only its mixer has.
//! Shapes: vLLM 0.33 `model_executor/layers/mamba/mamba_utils.py::MambaStateShapeCalculator`.

use crate::memory::layout::{Cache, State};
use crate::model::config::fields::Fields;
use crate::model::{Dims, Refusal};

use super::dims;

/// The state of the model's recurrent layers.
pub(crate) fn cache(fields: &Fields<'_>, dims: &Dims) -> Result<Cache, Refusal> {
    let readings = [
        kda, delta_net, short_conv, rg_lru, rwkv, mamba1, mamba2, lightning,
    ];
    let state = readings
        .iter()
        .find_map(|reading| reading(fields, dims))
        .ok_or_else(|| Refusal {
            reason: "some layers keep a recurrent state, but no field says how large it is".to_owned(),
            span: None,
        })?;
    Ok(Cache::Recurrent {
        state,
        state_element_bytes: state_element_bytes(fields, state),
    })
}

/// Bytes of one state element where the config fixes them: Qwen3.5 and Nemotron-H name a type, and Kimi delta
/// attention and the RG-LRU are only defined in 32 bits.
fn state_element_bytes(fields: &Fields<'_>, state: State) -> Option<u64> {
    if matches!(state, State::Kda { .. } | State::RgLru { .. }) {
        return Some(4);
    }
    let declared = ["mamba_ssm_dtype", "mamba_ssm_cache_dtype"]
        .iter()
        .find_map(|key| fields.text(key))?;
    crate::model::Dtype::parse(&declared.value).map(|dtype| dtype.bits() / 8)
}

fn value(fields: &Fields<'_>, keys: &[&'static str]) -> Option<u64> {
    fields.count(keys).map(|fact| fact.value).filter(|n| *n > 0)
}

fn hidden(dims: &Dims) -> Option<u64> {
    dims.hidden_size.as_ref().map(|fact| fact.value)
}

fn kda(fields: &Fields<'_>, _: &Dims) -> Option<State> {
    Some(State::Kda {
        heads: value(fields, &["linear_attn_config.num_heads", "linear_num_heads"])?,
        head_dim: value(fields, &["linear_attn_config.head_dim", "linear_head_dim"])?,
        conv_kernel: value(
            fields,
            &[
                "linear_attn_config.short_conv_kernel_size",
                "linear_conv_kernel_dim",
            ],
        )
        .unwrap_or(4),
    })
}

fn delta_net(fields: &Fields<'_>, dims: &Dims) -> Option<State> {
    let conv_kernel = value(fields, &["linear_conv_kernel_dim"])?;
    // Olmo Hybrid derives what it does not declare (transformers 5.20 `configuration_olmo_hybrid.py`).
    let heads = dims.num_heads.as_ref().map(|fact| fact.value);
    let key_heads = value(fields, &["linear_num_key_heads"]).or(heads)?;
    let key_dim = value(fields, &["linear_key_head_dim"])
        .or_else(|| (hidden(dims)?.saturating_mul(3) / 4).checked_div(key_heads))?;
    Some(State::DeltaNet {
        key_heads,
        key_dim,
        value_heads: value(fields, &["linear_num_value_heads"]).or(heads)?,
        value_dim: value(fields, &["linear_value_head_dim"]).unwrap_or(key_dim.saturating_mul(2)),
        conv_kernel,
    })
}

fn short_conv(fields: &Fields<'_>, dims: &Dims) -> Option<State> {
    Some(State::ShortConv {
        kernel: value(fields, &["conv_L_cache"])?,
        width: hidden(dims)?,
    })
}

fn rg_lru(fields: &Fields<'_>, dims: &Dims) -> Option<State> {
    let conv_kernel = value(fields, &["conv1d_width"])?;
    Some(State::RgLru {
        width: value(fields, &["lru_width"]).or_else(|| hidden(dims))?,
        conv_kernel,
    })
}

fn rwkv(fields: &Fields<'_>, dims: &Dims) -> Option<State> {
    dims::is_rwkv(fields).then_some(())?;
    Some(State::Rwkv {
        width: value(fields, &["attention_hidden_size"]).or_else(|| hidden(dims))?,
        head_size: 0,
    })
}

const STATE: [&str; 4] = ["ssm_state_size", "mamba_d_state", "state_size", "mamba_state_dim"];
const KERNEL: [&str; 2] = ["conv_kernel", "mamba_d_conv"];
const EXPAND: [&str; 2] = ["expand", "mamba_expand"];
const STATE_HEADS: [&str; 3] = ["mamba_num_heads", "mamba_n_heads", "n_mamba_heads"];

/// Inner width of a Mamba mixer where no heads tell: declared, or a multiple of the hidden size.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "both factors are bounded counts"
)]
fn expanded(fields: &Fields<'_>, dims: &Dims) -> Option<u64> {
    let expand = fields.float(&EXPAND, 2.0).max(0.0);
    Some((hidden(dims)? as f64 * expand) as u64)
}

fn mamba1(fields: &Fields<'_>, dims: &Dims) -> Option<State> {
    let state = value(fields, &STATE)?;
    // Alone, Mamba 1 is the one without heads; beside attention also the one with a rank for its step sizes.
    let is_mamba1 = if dims::is_headless(fields) {
        value(fields, &["num_heads"]).is_none()
    } else {
        fields.at("mamba_dt_rank").is_some()
            || fields.count(&["mamba_dt_rank"]).is_some()
            || value(fields, &STATE_HEADS).is_none()
    };
    is_mamba1.then_some(())?;
    // Mamba and Falcon-Mamba declare the inner width; Jamba's intermediate_size is that of its MLP.
    let declared = dims::is_headless(fields)
        .then(|| value(fields, &["intermediate_size"]))
        .flatten();
    Some(State::Mamba1 {
        inner: declared.or_else(|| expanded(fields, dims))?,
        state,
        conv_kernel: value(fields, &KERNEL)?,
    })
}

fn mamba2(fields: &Fields<'_>, dims: &Dims) -> Option<State> {
    let state = value(fields, &STATE)?;
    let alone = dims::is_headless(fields);
    let own = |key: &'static str| if alone { value(fields, &[key]) } else { None };
    let heads = value(fields, &STATE_HEADS).or_else(|| own("num_heads"))?;
    let declared = value(fields, &["mamba_head_dim", "mamba_d_head", "mamba_headdim"]);
    let head_dim = declared.or_else(|| own("head_dim")).or_else(|| {
        let inner = value(fields, &["mamba_d_ssm"]).or_else(|| expanded(fields, dims))?;
        inner.checked_div(heads)
    })?;
    Some(State::Mamba2 {
        inner: heads.saturating_mul(head_dim),
        groups: value(
            fields,
            &["n_groups", "mamba_n_groups", "mamba_ngroups", "mamba_num_groups"],
        )
        .unwrap_or(1),
        state,
        heads,
        head_dim,
        conv_kernel: value(fields, &KERNEL)?,
    })
}

/// MiniMax-01: plain linear attention with the heads of the full layers.
fn lightning(fields: &Fields<'_>, dims: &Dims) -> Option<State> {
    let keys = [
        "linear_attn_alpha_factor",
        "layernorm_linear_attention_alpha",
        "full_attn_alpha_factor",
    ];
    let is_lightning = keys.iter().any(|key| fields.declared(key).is_some())
        || fields.list("attn_type_list").is_some()
        || fields.model_type() == "minimax";
    is_lightning.then_some(())?;
    Some(State::Lightning {
        heads: dims.num_heads.as_ref()?.value,
        head_dim: dims.head_dim.as_ref()?.value,
    })
}
