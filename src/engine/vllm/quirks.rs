//! Where vLLM treats a model family differently from what its layers say.
//!
//! Data: `catalog/engines/vllm-models.yaml`, by `model_type`.

use std::sync::OnceLock;

use serde_json::Value;

use crate::engine::Request;

const CATALOG: &str = include_str!("../../../catalog/engines/vllm-models.yaml");

/// One difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Quirk {
    /// The cache stays in the model's dtype, whatever is declared.
    IgnoresKvType,
    /// Attention runs on Triton below SM90.
    TritonBelowSm90,
    /// Image tokens attend both ways.
    PrefixLm,
    /// The same, where `use_bidirectional_attention` says so.
    PrefixLmIfBidirectional,
    /// Its recurrent layers write no checkpoints, though their kind does elsewhere.
    NoCheckpoints,
    /// Recurrent states are 32-bit floats where the config does not say.
    Float32States,
}

/// One row as written.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    model_type: String,
    quirks: Vec<Quirk>,
    /// Least tokens of a step, so that the largest image fits one.
    #[serde(default)]
    step_floor: u64,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "provenance, for readers of the catalog")
    )]
    source: String,
}

/// What holds for one model.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quirks {
    row: Option<&'static Row>,
    /// The row is that of the whole model, not of its text part.
    multimodal: bool,
    bidirectional: bool,
}

fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| serde_saphyr::from_str(CATALOG).unwrap_or_default())
}

impl Quirks {
    pub(super) fn of(request: &Request<'_>) -> Self {
        let config = request.model.config.as_ref();
        let text = request.model.model_type.as_ref().map(|fact| fact.value.as_str());
        let whole = config.and_then(|config| config.get("model_type")?.as_str());
        let named = |row: &&Row| [text, whole].contains(&Some(row.model_type.as_str()));
        let row = rows().iter().find(named);
        Self {
            row,
            multimodal: row.is_some_and(|row| whole == Some(row.model_type.as_str())),
            bidirectional: config.is_some_and(|config| {
                let text = config.get("text_config").unwrap_or(config);
                text.get("use_bidirectional_attention").and_then(Value::as_str) == Some("vision")
            }),
        }
    }

    /// True where the family has the quirk.
    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.row.is_some_and(|row| row.quirks.contains(&quirk))
    }

    /// Image tokens attend both ways (`is_mm_prefix_lm`).
    pub(super) fn is_prefix_lm(&self) -> bool {
        let told = self.has(Quirk::PrefixLmIfBidirectional) && self.bidirectional;
        self.multimodal && (told || self.has(Quirk::PrefixLm))
    }

    /// Least tokens of a step.
    pub(super) fn step_floor(&self) -> u64 {
        self.row
            .filter(|_| self.is_prefix_lm())
            .map_or(0, |row| row.step_floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_readable_and_unique() {
        let rows: Vec<Row> = serde_saphyr::from_str(CATALOG).unwrap();
        let mut names: Vec<_> = rows.iter().map(|row| row.model_type.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len());
        assert!(
            rows.iter()
                .all(|row| row.source.len() > 20 && !row.quirks.is_empty())
        );
    }
}
