//! Recurrent mixers: the tensors around a state.

use crate::memory::layout::{Cache, State};
use crate::model::Component;
use crate::model::census::{Batch, Split};
use crate::model::layout;

use super::{Family, Plan};

/// The mixer that the model's state belongs to.
pub(super) fn recurrent(plan: &Plan<'_, '_>, batch: &mut Batch) -> Option<()> {
    let Ok(Cache::Recurrent { state, .. }) = layout::state_cache(plan.fields, plan.dims) else {
        return None;
    };
    match state {
        State::Mamba1 { .. } => mamba1(plan, batch, state),
        State::Mamba2 { .. } => mamba2(plan, batch, state),
        State::DeltaNet { .. } => delta_net(plan, batch, state),
        State::Kda { .. } => kda(plan, batch, state),
        State::Lightning { heads, head_dim } => lightning(plan, batch, heads.saturating_mul(head_dim)),
        State::ShortConv { kernel, .. } => short_conv(plan, batch, kernel),
        State::RgLru { width, conv_kernel } => rg_lru(plan, batch, width, conv_kernel),
        State::Rwkv { .. } => return None,
    }
    Some(())
}

const PART: Component = Component::Recurrent;

fn conv_bias(plan: &Plan<'_, '_>) -> bool {
    let declared = ["use_conv_bias", "mamba_conv_bias"]
        .iter()
        .find_map(|key| plan.fields.switch(key));
    // Zamba 2 ignores the key and has a bias all the same.
    plan.recipe.family == Family::Zamba || declared.unwrap_or(true)
}

fn projection_bias(plan: &Plan<'_, '_>) -> bool {
    ["use_bias", "mamba_proj_bias", "add_bias_linear"]
        .iter()
        .any(|key| plan.fields.flag(key))
}

fn mamba1(plan: &Plan<'_, '_>, batch: &mut Batch, state: State) {
    let State::Mamba1 {
        inner,
        state,
        conv_kernel,
    } = state
    else {
        return;
    };
    let width = plan.width;
    let rank = plan
        .fields
        .count(&["time_step_rank"])
        .or_else(|| {
            plan.fields
                .count(&["mamba_dt_rank"])
                .filter(|fact| fact.value > 0)
        })
        .map_or_else(|| width.div_ceil(16), |fact| fact.value);
    batch.linear(PART, width, inner.saturating_mul(2), Split::Even, 1);
    batch.other(PART, inner.saturating_mul(conv_kernel), Split::Even);
    if conv_bias(plan) {
        batch.other(PART, inner, Split::Even);
    }
    batch.linear(
        PART,
        inner,
        rank.saturating_add(state.saturating_mul(2)),
        Split::Even,
        1,
    );
    batch.linear(PART, rank, inner, Split::Even, 1);
    batch.other(PART, inner, Split::Even);
    batch.wide(PART, inner.saturating_mul(state), Split::Even);
    batch.other(PART, inner, Split::Even);
    batch.linear(PART, inner, width, Split::Even, 1);
    if projection_bias(plan) {
        batch.other(
            PART,
            inner.saturating_mul(2).saturating_add(width),
            Split::Replicated,
        );
    }
    // Jamba norms the step sizes and both projections of the state.
    if plan.fields.model_type() == "jamba" {
        for elements in [rank, state, state] {
            batch.other(PART, elements, Split::Replicated);
        }
    }
}

fn mamba2(plan: &Plan<'_, '_>, batch: &mut Batch, state: State) {
    let State::Mamba2 {
        inner,
        groups,
        state,
        heads,
        conv_kernel,
        ..
    } = state
    else {
        return;
    };
    let shared = groups.saturating_mul(state).saturating_mul(2);
    let conv = inner.saturating_add(shared);
    let width = plan.width;
    let split = mamba_split(groups, shared);
    batch.linear(
        PART,
        width,
        inner.saturating_mul(2).saturating_add(heads),
        Split::Even,
        1,
    );
    batch.linear(PART, width, shared, split, 1);
    batch.other(PART, inner.saturating_mul(conv_kernel), Split::Even);
    batch.other(PART, shared.saturating_mul(conv_kernel), split);
    if conv_bias(plan) {
        batch.other(PART, inner, Split::Even);
        batch.other(PART, shared, split);
    }
    batch.wide(PART, heads, Split::Even);
    batch.other(PART, heads, Split::Even);
    batch.other(PART, heads, Split::Even);
    // Falcon-H1 leaves the norm out unless asked.
    if plan.fields.switch("mamba_rms_norm").unwrap_or(true) {
        batch.other(PART, inner, Split::Even);
    }
    batch.linear(PART, inner, width, Split::Even, 1);
    if projection_bias(plan) {
        let projected = inner.saturating_add(conv).saturating_add(heads);
        batch.other(PART, projected, Split::Even);
    }
    // Falcon-H1 has a flag of its own for the way out.
    let out_bias = plan.fields.switch("projectors_bias");
    if out_bias.unwrap_or_else(|| projection_bias(plan)) {
        batch.other(PART, width, Split::Replicated);
    }
}

/// Groups that do not divide among the ranks are repeated.
fn mamba_split(groups: u64, shared: u64) -> Split {
    if shared == 0 {
        Split::Even
    } else {
        Split::Heads(groups)
    }
}

fn delta_net(plan: &Plan<'_, '_>, batch: &mut Batch, state: State) {
    let State::DeltaNet {
        key_heads,
        key_dim,
        value_heads,
        value_dim,
        conv_kernel,
    } = state
    else {
        return;
    };
    let keys = key_heads.saturating_mul(key_dim);
    let values = value_heads.saturating_mul(value_dim);
    let conv = keys.saturating_mul(2).saturating_add(values);
    batch.linear(PART, plan.width, conv.saturating_add(values), Split::Even, 1);
    batch.linear(PART, plan.width, value_heads.saturating_mul(2), Split::Even, 1);
    batch.other(PART, conv.saturating_mul(conv_kernel), Split::Even);
    batch.wide(PART, value_heads, Split::Even);
    batch.other(PART, value_heads, Split::Even);
    batch.other(PART, value_dim, Split::Replicated);
    batch.linear(PART, values, plan.width, Split::Even, 1);
}

fn kda(plan: &Plan<'_, '_>, batch: &mut Batch, state: State) {
    let State::Kda {
        heads,
        head_dim,
        conv_kernel,
    } = state
    else {
        return;
    };
    let inner = heads.saturating_mul(head_dim);
    batch.linear(PART, plan.width, inner, Split::Even, 3);
    batch.other(
        PART,
        inner.saturating_mul(3).saturating_mul(conv_kernel),
        Split::Even,
    );
    // The forget gate is of low rank; the output gate too, unless the config asks for the whole.
    let whole_gate = plan.fields.flag("linear_attn_config.use_full_rank_gate");
    let narrow = if whole_gate { 1 } else { 2 };
    batch.linear(PART, plan.width, head_dim, Split::Replicated, narrow);
    batch.linear(PART, head_dim, inner, Split::Even, narrow);
    if whole_gate {
        batch.linear(PART, plan.width, inner, Split::Even, 1);
    }
    batch.wide(PART, inner, Split::Even);
    batch.wide(PART, heads, Split::Even);
    batch.plain(PART, plan.width, heads, Split::Even);
    batch.other(PART, head_dim, Split::Replicated);
    batch.linear(PART, inner, plan.width, Split::Even, 1);
}

fn lightning(plan: &Plan<'_, '_>, batch: &mut Batch, inner: u64) {
    batch.linear(PART, plan.width, inner.saturating_mul(3), Split::Even, 1);
    batch.linear(PART, plan.width, inner, Split::Even, 1);
    batch.linear(PART, inner, plan.width, Split::Even, 1);
    batch.other(PART, inner, Split::Even);
}

fn short_conv(plan: &Plan<'_, '_>, batch: &mut Batch, kernel: u64) {
    let width = plan.width;
    batch.linear(PART, width, width.saturating_mul(3), Split::Even, 1);
    batch.other(PART, width.saturating_mul(kernel), Split::Even);
    batch.linear(PART, width, width, Split::Even, 1);
    if plan.fields.flag("conv_bias") {
        batch.other(PART, width.saturating_mul(5), Split::Even);
    }
}

fn rg_lru(plan: &Plan<'_, '_>, batch: &mut Batch, inner: u64, kernel: u64) {
    let width = plan.width;
    batch.linear(PART, width, inner, Split::Even, 2);
    batch.other(PART, inner.saturating_mul(2), Split::Even);
    batch.linear(PART, inner, width, Split::Even, 1);
    batch.other(PART, width, Split::Replicated);
    batch.other(PART, inner.saturating_mul(kernel.saturating_add(1)), Split::Even);
    // Input and recurrence gates: a square block for each head, with biases; one constant an element.
    let block = inner.checked_div(plan.heads.max(1)).unwrap_or(0);
    let gates = inner.saturating_mul(block.saturating_add(1)).saturating_mul(2);
    batch.other(PART, gates.saturating_add(inner), Split::Even);
}
