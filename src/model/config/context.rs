//! The longest context that a model was made for, as vLLM derives it from config.json.
//!
//! Source: vLLM 0.33 `transformers_utils/model_arch_config_convertor.py::derive_max_model_len_and_key` and
//! `config/model.py::_get_and_verify_max_len`.

use crate::fact::{Fact, Origin};
use crate::source::tree::{Node, Shape};

use super::fields::{Fields, Found};

/// The keys that vLLM looks at; the smallest value counts.
const KEYS: [&str; 9] = [
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
];

/// Rope types whose factor is already counted in the declared length.
const COUNTED_ROPE: [&str; 7] = [
    "default",
    "su",
    "longrope",
    "llama3",
    "yarn",
    "deepseek_yarn",
    "deepseek_llama_scaling",
];

/// The length that vLLM assumes when no key tells.
const UNDECLARED: u64 = 2048;

/// The context that vLLM takes when nobody asks for one, and the longest that it lets anyone ask for; they
/// differ under LongRoPE, which serves its original length unless told otherwise.
pub(super) fn contexts(fields: &Fields<'_>) -> (Fact<u64>, Fact<u64>) {
    let base = declared_length(fields)
        .unwrap_or_else(|| Fact::default(UNDECLARED, "what vLLM assumes when config.json names no length"));
    match scaling(fields) {
        Some(Scaling::Original(length)) if length.value > 0 => (length, base),
        Some(Scaling::Factor(factor)) if factor.value > 1.0 => {
            let stretched = stretch(&base, &factor);
            (stretched.clone(), stretched)
        }
        _ => (base.clone(), base),
    }
}

fn declared_length(fields: &Fields<'_>) -> Option<Fact<u64>> {
    let full = fields.count(&["model_max_length"]).filter(|fact| fact.value > 0);
    full.or_else(|| {
        KEYS.iter()
            .filter_map(|key| fields.count(&[key]))
            .filter(|fact| fact.value > 0)
            .min_by_key(|fact| fact.value)
    })
}

enum Scaling {
    Factor(Fact<f64>),
    Original(Fact<u64>),
}

/// How the rope section changes the length.
fn scaling(fields: &Fields<'_>) -> Option<Scaling> {
    // Gemma 3 publishes lengths that already count its factor, and vLLM leaves them alone.
    if fields.model_type().starts_with("gemma3") {
        return None;
    }
    let section = ["rope_scaling", "rope_parameters"]
        .iter()
        .find_map(|key| fields.declared(key))?;
    let per_layer_type = section
        .entries()
        .into_iter()
        .map(|(_, value)| value)
        .filter(|value| value.shape() == Shape::Mapping);
    std::iter::once(section)
        .chain(per_layer_type)
        .find_map(|rope| scaling_of(fields, rope))
}

fn scaling_of(fields: &Fields<'_>, rope: Node<'_>) -> Option<Scaling> {
    let kind = rope.get("rope_type").or_else(|| rope.get("type"))?.text()?;
    if matches!(kind, "longrope" | "su") {
        let inside = rope.get("original_max_position_embeddings");
        return match (fields.find(&["original_max_position_embeddings"]), inside) {
            (Found::Here(_, node), _) | (_, Some(node)) => {
                Some(Scaling::Original(Fact::at(node.as_u64()?, node.span())))
            }
            _ => None,
        };
    }
    if COUNTED_ROPE.contains(&kind) {
        return None;
    }
    let factor = rope.get("factor")?;
    Some(Scaling::Factor(Fact::at(factor.as_f64()?, factor.span())))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, as a context of more than 2^63 tokens is no context"
)]
fn stretch(base: &Fact<u64>, factor: &Fact<f64>) -> Fact<u64> {
    let value = (base.value as f64 * factor.value) as u64;
    let spans = base.span().into_iter().chain(factor.span());
    Fact {
        value,
        origin: Origin::Derived(spans.collect()),
    }
}
