//! The catalog of overhead coefficients by engine and release, and the load that a request puts on an engine.
//!
//! Data: `catalog/engines/overheads.yaml`. Arithmetic: [`crate::memory::overhead`].

use std::sync::OnceLock;

use serde_json::Value;

use super::sharding::Sharding;
use super::{Band, Engine, Request, Settings, Version};
use crate::machine::MachineKind;
use crate::memory::GIB;
use crate::memory::overhead::{Coefficients, Load, Overhead};

const CATALOG: &str = include_str!("../../catalog/engines/overheads.yaml");

/// One row as written. GiB and ratios.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    engine: String,
    since: String,
    #[serde(default)]
    base_gib: f64,
    #[serde(default)]
    doubling_gib: f64,
    #[serde(default)]
    unified_gib: f64,
    #[serde(default)]
    amd_gib: f64,
    #[serde(default)]
    multimodal_gib: f64,
    #[serde(default)]
    logits_copies: f64,
    #[serde(default)]
    ffn_copies: f64,
    #[serde(default)]
    hidden_copies: f64,
    #[serde(default)]
    graph_gib: f64,
    low_share: f64,
    high_share: f64,
    #[serde(default)]
    high_gib: f64,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "provenance, for readers of the catalog")
    )]
    source: String,
}

/// The rows, read once. A catalog that cannot be read is empty; a test keeps it readable.
fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| serde_saphyr::from_str(CATALOG).unwrap_or_default())
}

/// The setting that holds an overhead the user gives: `low/likely/high` in bytes.
pub const GIVEN: &str = "overhead";

/// The overhead that the user gives in the place of the estimate.
pub(super) fn given(settings: &Settings) -> Option<Band> {
    Band::parse(settings.text(GIVEN)?)
}

impl Band {
    /// An amount known to the byte.
    pub fn exactly(bytes: u64) -> Self {
        Self {
            low: bytes,
            likely: bytes,
            high: bytes,
        }
    }

    /// Reads what the display writes: three amounts in bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(|part| part.parse().ok());
        Some(Self {
            low: parts.next()??,
            likely: parts.next()??,
            high: parts.next()??,
        })
    }
}

impl std::fmt::Display for Band {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.low, self.likely, self.high)
    }
}

/// The coefficients for a request: what the user gives, else those of its release.
pub(super) fn of(engine: Engine, version: Option<Version>, settings: &Settings) -> Coefficients {
    Coefficients {
        given: given(settings).map(|band| Overhead {
            low: band.low,
            likely: band.likely,
            high: band.high,
        }),
        ..coefficients(engine, version)
    }
}

/// The coefficients of an engine's release; of its newest row where no release is declared.
fn coefficients(engine: Engine, version: Option<Version>) -> Coefficients {
    let holds = |row: &&Row| {
        let since = Version::parse(&row.since).unwrap_or_default();
        row.engine == engine.name() && version.is_none_or(|version| version >= since)
    };
    rows()
        .iter()
        .rfind(holds)
        .map_or_else(Coefficients::default, Row::coefficients)
}

impl Row {
    fn coefficients(&self) -> Coefficients {
        let bytes = |gib: f64| gib * GIB as f64;
        Coefficients {
            base_bytes: bytes(self.base_gib),
            doubling_bytes: bytes(self.doubling_gib),
            unified_bytes: bytes(self.unified_gib),
            amd_bytes: bytes(self.amd_gib),
            multimodal_bytes: bytes(self.multimodal_gib),
            logits_copies: self.logits_copies,
            ffn_copies: self.ffn_copies,
            hidden_copies: self.hidden_copies,
            graph_bytes: bytes(self.graph_gib),
            low_share: self.low_share,
            high_share: self.high_share,
            high_bytes: bytes(self.high_gib),
            given: None,
        }
    }
}

impl From<Overhead> for Band {
    fn from(overhead: Overhead) -> Self {
        Self {
            low: overhead.low,
            likely: overhead.likely,
            high: overhead.high,
        }
    }
}

/// The load of a request with so many `sequences` and `tokens` in a step, without graphs.
pub(super) fn load(request: &Request<'_>, sharding: &Sharding, sequences: u64, tokens: u64) -> Load {
    let dims = &request.model.dims;
    let value = |fact: &Option<crate::fact::Fact<u64>>| fact.as_ref().map_or(0, |fact| fact.value);
    let hidden = value(&dims.hidden_size);
    let config = request.model.config.as_ref();
    Load {
        sequences,
        tokens,
        vocabulary: value(&dims.vocab_size),
        hidden,
        ffn: config.map_or(hidden.saturating_mul(4), |config| ffn_width(config, hidden))
            / sharding.tensor.max(1),
        dtype_bytes: 2,
        tensor: sharding.tensor,
        largest_graph: 0,
        unified: request.machine.unified_memory,
        amd: request.machine.kind == MachineKind::Amd,
        multimodal: config.is_some_and(is_multimodal),
        adapter_bytes: adapter_bytes(request, sharding, hidden),
    }
}

/// The text model's part of config.json.
fn text_config(config: &Value) -> &Value {
    ["text_config", "llm_config", "language_config"]
        .iter()
        .find_map(|key| config.get(*key).filter(|nested| nested.is_object()))
        .unwrap_or(config)
}

fn is_multimodal(config: &Value) -> bool {
    ["vision_config", "audio_config", "vision_tower", "mm_vision_tower"]
        .iter()
        .any(|key| config.get(*key).is_some_and(|value| !value.is_null()))
}

/// The widest feed-forward row of one token: the dense layer's, or all experts a token visits.
fn ffn_width(config: &Value, hidden: u64) -> u64 {
    let text = text_config(config);
    let number = |key: &str| text.get(key).and_then(Value::as_u64);
    let experts = number("num_experts_per_tok").zip(number("moe_intermediate_size"));
    let routed = experts.map(|(experts, width)| experts.saturating_mul(width));
    let dense = ["intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"]
        .iter()
        .find_map(|key| number(key));
    dense.max(routed).unwrap_or_else(|| hidden.saturating_mul(4))
}

/// Adapter (`LoRA`) slots reserved up front: for each wrapped matrix `max_loras * rank * (in + out)` elements, the outer
/// side of each split over tensor ranks (vLLM `lora/layers/base_linear.py`, 0.33).
fn adapter_bytes(request: &Request<'_>, sharding: &Sharding, hidden: u64) -> u64 {
    let settings = request.settings;
    let declared = settings.count("max_loras");
    let slots = match settings.flag("enable_lora") {
        Some(true) => declared.unwrap_or(1),
        Some(false) => 0,
        None => declared.unwrap_or(0),
    };
    let rank = settings.count("max_lora_rank").unwrap_or(16);
    let dims = &request.model.dims;
    let value = |fact: &Option<crate::fact::Fact<u64>>| fact.as_ref().map_or(0, |fact| fact.value);
    let config = request.model.config.as_ref();
    let ffn = config.map_or(hidden.saturating_mul(4), |config| ffn_width(config, hidden));
    let heads = |count: u64| count.saturating_mul(value(&dims.head_dim));
    let (query, key) = (heads(value(&dims.num_heads)), heads(value(&dims.num_kv_heads)));
    let split = |width: u64| width / sharding.tensor.max(1);
    // q, k, v and the output; gate, up and down.
    let attention = hidden
        .saturating_mul(4)
        .saturating_add(split(query.saturating_add(key).saturating_mul(2)));
    let feed_forward = hidden
        .saturating_mul(3)
        .saturating_add(split(ffn.saturating_mul(3)));
    let layers = value(&dims.num_layers) / sharding.pipeline.max(1);
    crate::memory::product(&[slots, rank, attention.saturating_add(feed_forward), layers, 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_well_formed_and_names_its_source() {
        let rows: Vec<Row> = serde_saphyr::from_str(CATALOG).unwrap();
        assert!(rows.len() >= 6);
        for row in &rows {
            assert!(Engine::parse(&row.engine).is_some(), "{}", row.engine);
            assert!(Version::parse(&row.since).is_some(), "{}", row.since);
            assert!(row.low_share <= 1.0 && row.high_share >= 1.0, "{}", row.engine);
            assert!(row.source.len() > 20, "{}", row.engine);
        }
    }

    #[test]
    fn graphs_count_only_in_releases_that_subtract_them() {
        let graph = |version| coefficients(Engine::Vllm, version).graph_bytes;
        assert!(graph(Version::parse("0.12.0")) == 0.0);
        assert!(graph(Version::parse("0.25.1")) > 0.0);
        assert!(graph(None) > 0.0, "an undeclared release is the newest");
    }
}
