//! What a model's config class supplies when config.json leaves a key out.
//!
//! In: a `model_type`. Out: its row of `catalog/model_types.yaml`. Rows are found by text and parsed one at a
//! time, so that a run pays only for the families it meets.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::parameters::Recipe;

const ROWS: &str = include_str!("../../../catalog/model_types.yaml");

/// One row of the catalog.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Class {
    /// Where the defaults were read.
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the catalog"))]
    source: String,
    /// The `model_type` of a nested text model that names none of its own.
    #[serde(default)]
    pub(crate) text: Option<String>,
    /// The `model_type` of a vision tower that names none of its own.
    #[serde(default)]
    pub(crate) vision: Option<String>,
    /// The `model_type` of an audio tower that names none of its own.
    #[serde(default)]
    #[expect(dead_code, reason = "audio towers are not counted yet")]
    audio: Option<String>,
    /// Another row that supplies whatever this one does not.
    #[serde(default)]
    pub(crate) like: Option<String>,
    /// What kind of model it is; a decoder unless said.
    #[serde(default)]
    pub(crate) kind: ModelKind,
    /// Values by the key of config.json.
    #[serde(default)]
    pub(crate) defaults: BTreeMap<String, Value>,
    /// What the parameter formulas cannot read from the config.
    #[serde(default)]
    pub(crate) weights: Option<Recipe>,
    /// True when the row stands in the catalog.
    #[serde(skip)]
    pub(crate) known: bool,
}

/// Which halves a transformer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ModelKind {
    /// Generates token by token.
    #[default]
    Decoder,
    /// Reads a text once and caches nothing.
    Encoder,
    /// Generates token by token, looking at an encoder's tokens.
    EncoderDecoder,
}

/// A default value.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    /// A flag.
    Bool(bool),
    /// A count.
    Integer(u64),
    /// Any other number.
    Number(f64),
    /// A word.
    Text(String),
    /// Values of a list, such as the layers with cross attention.
    List(Vec<u64>),
}

impl Class {
    /// The row of a `model_type`; an empty row for one that nobody knows.
    pub(crate) fn of(model_type: &str) -> Self {
        let Some(mut class) = Self::own(model_type) else {
            return Self::default();
        };
        if let Some(base) = class.like.as_deref().and_then(Self::own) {
            for (key, value) in base.defaults {
                class.defaults.entry(key).or_insert(value);
            }
            class.weights = class.weights.or(base.weights);
        }
        class
    }

    /// Whether the class ties the output projection to the input embedding.
    pub(crate) fn ties(&self) -> Option<bool> {
        match self.defaults.get("tie_word_embeddings") {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// Every `model_type` of the catalog.
    #[cfg(test)]
    pub(super) fn all() -> BTreeMap<String, Self> {
        serde_saphyr::from_str(ROWS).unwrap()
    }

    fn own(model_type: &str) -> Option<Self> {
        let rows: BTreeMap<String, Self> = serde_saphyr::from_str(row(model_type)?).ok()?;
        let class = rows.into_values().next()?;
        Some(Self { known: true, ..class })
    }
}

/// The lines of one row: from `name:` at the start of a line to the next line that is not indented.
fn row(name: &str) -> Option<&'static str> {
    let is_head = |at: usize| at == 0 || ROWS.as_bytes().get(at.saturating_sub(1)) == Some(&b'\n');
    let head = format!("{name}:");
    let start = ROWS
        .match_indices(&head)
        .map(|(at, _)| at)
        .find(|at| is_head(*at))?;
    let rest = ROWS.get(start..)?;
    let end = rest
        .match_indices('\n')
        .map(|(at, _)| at + 1)
        .find(|at| !matches!(rest.as_bytes().get(*at), Some(b' ')))
        .unwrap_or(rest.len());
    rest.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_catalog_is_well_formed_unique_and_sourced() {
        let rows = Class::all();
        assert!(rows.len() > 150);
        for (name, class) in rows {
            assert!(!class.source.is_empty(), "{name} names no source");
            assert!(Class::of(&name).known, "{name} is not found by its text");
            for nested in class.text.iter().chain(&class.vision) {
                assert!(Class::of(nested).known, "{name} names {nested}, which has no row");
            }
        }
    }

    #[test]
    fn values_keep_their_types() {
        let class = Class::of("mistral");
        assert_eq!(
            class.defaults.get("num_key_value_heads"),
            Some(&Value::Integer(8))
        );
        assert_eq!(
            class.defaults.get("tie_word_embeddings"),
            Some(&Value::Bool(false))
        );
        assert!(!Class::of("no-such-family").known);
        assert!(!Class::of("").known);
    }
}
