//! What `oomlint inspect` prints: a model's numbers, its layout group by group, and for each scenario a bar
//! that splits the machine's memory.

use std::fmt::Write as _;

use super::Report;
use super::group::Group;
use super::table::{Words, one_line};
use super::units::{bytes, count, parameters, plural};
use crate::model::Model;
use crate::scenario::{Estimate, Scenario};

/// Bytes of one 16-bit element, in which bytes per token are shown.
const FP16_BYTES: u64 = 2;
/// A bar is no wider than this, however wide the terminal.
const WIDEST_BAR: usize = 72;

/// Every model of the report with the scenarios that use it, in at most `width` columns.
pub fn inspect(report: &Report, width: usize) -> String {
    let mut out = String::new();
    for (at, model) in report.models.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        add_model(&mut out, model);
        for scenario in report.scenarios.iter().filter(|cell| cell.model == Some(at)) {
            out.push('\n');
            add_scenario(&mut out, report, scenario, width);
        }
    }
    out
}

fn add_model(out: &mut String, model: &Model) {
    let _ = writeln!(out, "{}", one_line(&model.name));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<13} {value}");
    };
    let text = |fact: &Option<crate::fact::Fact<String>>| fact.as_ref().map(|fact| one_line(&fact.value));
    line("path", one_line(&model.path));
    line("architecture", known(text(&model.architecture)));
    if let Some(model_type) = text(&model.model_type) {
        line("model type", model_type);
    }
    line(
        "parameters",
        known(model.parameters.as_ref().map(parameter_words)),
    );
    line("weights", weights(model));
    for (dtype, amount) in &model.weights.by_dtype {
        line("", format!("{:<12} {:>12}", one_line(dtype), bytes(*amount)));
    }
    for (component, amount) in &model.weights.by_component {
        line(
            "",
            format!("{:<12} {:>12}", component_name(*component), bytes(*amount)),
        );
    }
    line(
        "dtype",
        known(model.dtype.as_ref().map(|fact| fact.value.name().to_owned())),
    );
    if let Some(quantization) = &model.quantization {
        line("quantization", one_line(&quantization.value.name()));
    }
    line(
        "max context",
        known(
            model
                .max_context
                .as_ref()
                .map(|fact| format!("{} tokens", count(fact.value))),
        ),
    );
    add_layout(out, model);
}

fn add_layout(out: &mut String, model: &Model) {
    let layout = match &model.layout {
        Ok(layout) => layout,
        Err(refusal) => {
            let _ = writeln!(
                out,
                "  {:<13} unknown: {}",
                "KV layout",
                one_line(&refusal.reason)
            );
            return;
        }
    };
    let layers = usize::try_from(layout.num_layers).unwrap_or(usize::MAX);
    let _ = writeln!(out, "  {:<13} {}", "KV layout", plural(layers, "layer"));
    for group in layout.groups.iter().map(Group::new) {
        let _ = writeln!(
            out,
            "    {:>4} x {:<16} {}",
            count(group.layers),
            group.kind,
            group.shape()
        );
    }
    let per_token = layout.elements_per_token().saturating_mul(FP16_BYTES);
    let _ = writeln!(out, "  {:<13} {} at fp16", "KV per token", bytes(per_token));
}

fn known(value: Option<String>) -> String {
    value.unwrap_or_else(|| "unknown".to_owned())
}

fn parameter_words(known: &crate::model::Parameters) -> String {
    let exact = if known.exact { "exact" } else { "estimated" };
    let (short, long) = (parameters(known.count), count(known.count));
    format!("{short} ({long}, {exact}, from {})", known.how)
}

fn weights(model: &Model) -> String {
    let Some(amount) = model.weights.bytes else {
        return "unknown".to_owned();
    };
    let exact = if model.weights.exact { "exact" } else { "estimated" };
    format!("{} ({exact}, from {})", bytes(amount), model.weights.how)
}

fn component_name(component: crate::model::Component) -> String {
    serde_json::to_value(component)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn add_scenario(out: &mut String, report: &Report, scenario: &Scenario, width: usize) {
    let words = Words::of(report, scenario);
    let _ = writeln!(
        out,
        "  {}, {} tokens x {}, KV {}, weights {} (recommended {}): {}",
        words.machine,
        count(scenario.context),
        count(scenario.batch),
        scenario.kv_cache.name(),
        words.quantization,
        words.recommended,
        words.verdict,
    );
    if let Some(estimate) = &scenario.estimate {
        add_bar(out, estimate, width);
    }
    if let Some(context) = scenario.largest_context {
        let _ = writeln!(out, "  largest context that fits: {} tokens", count(context));
    }
    for assumption in scenario.assumptions.iter() {
        let _ = writeln!(out, "  assumed: {}", one_line(assumption));
    }
}

/// The parts of an accelerator's memory as one bar, and a line for each part. A scenario that needs more than
/// there is has its bar drawn to what it needs.
fn add_bar(out: &mut String, estimate: &Estimate, width: usize) {
    let free = estimate.memory_bytes.saturating_sub(estimate.required_bytes);
    let parts = [
        ('█', "weights", estimate.weights_bytes),
        ('▓', "KV cache", estimate.kv_cache_bytes),
        ('▒', "state", estimate.state_bytes),
        ('░', "overhead", estimate.overhead.likely),
        ('·', "free", free),
    ];
    let whole = estimate.memory_bytes.max(estimate.required_bytes).max(1);
    let cells = width.saturating_sub(4).clamp(10, WIDEST_BAR);
    out.push_str("  [");
    let mut drawn = 0;
    let mut reached: u64 = 0;
    for (fill, _, amount) in parts {
        reached = reached.saturating_add(amount);
        let upto = cells_of(reached, whole, cells);
        out.extend(std::iter::repeat_n(fill, upto.saturating_sub(drawn)));
        drawn = drawn.max(upto);
    }
    out.push_str("]\n");
    for (fill, name, amount) in parts {
        let band = match name {
            "overhead" if estimate.overhead.low == estimate.overhead.high => "(as given)".to_owned(),
            "overhead" => format!(
                "  (estimate: {} to {})",
                bytes(estimate.overhead.low),
                bytes(estimate.overhead.high)
            ),
            _ => String::new(),
        };
        if amount > 0 {
            let _ = writeln!(out, "   {fill} {name:<9} {:>12}{band}", bytes(amount));
        }
    }
    let _ = writeln!(
        out,
        "     {:<9} {:>12}  of {} that the engine may use; {} in all",
        "needs",
        bytes(estimate.required_bytes),
        bytes(estimate.usable_bytes),
        bytes(estimate.memory_bytes),
    );
}

/// How many of `cells` an amount fills, rounded.
fn cells_of(amount: u64, whole: u64, cells: usize) -> usize {
    let whole = u128::from(whole.max(1));
    let filled = (u128::from(amount) * cells as u128 + whole / 2) / whole;
    usize::try_from(filled).unwrap_or(cells).min(cells)
}
