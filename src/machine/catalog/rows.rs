//! The files of `catalog/machines` as they are written.
//!
//! Typed rows that refuse unknown keys, and what each row becomes. Nothing here looks a name up.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::{Machine, MachineKind};
use super::{Basis, Confidence, Entry, GIB};

pub(super) static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/catalog/machines");

const MIB: u64 = 1 << 20;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a catalog figure; casts of floats saturate"
)]
pub(super) fn bytes_per_second(gb_per_second: f64) -> Option<u64> {
    (gb_per_second > 0.0).then_some((gb_per_second * 1e9).round() as u64)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a catalog figure; casts of floats saturate"
)]
pub(super) fn gib(amount: f64) -> u64 {
    (amount * GIB as f64).round() as u64
}

pub(super) fn parse<T: DeserializeOwned>(file: &str) -> Result<T, String> {
    let text = FILES
        .get_file(file)
        .and_then(|file| file.contents_utf8())
        .ok_or_else(|| format!("{file}: missing"))?;
    serde_saphyr::from_str(text).map_err(|error| format!("{file}: {error}"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VendorFile {
    pub(super) vendor: String,
    pub(super) kind: MachineKind,
    pub(super) machines: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    id: String,
    #[serde(default)]
    common: bool,
    memory_mib: u64,
    basis: Basis,
    #[serde(default)]
    unified_memory: bool,
    runtime_gib: Option<f64>,
    marketed_gb: u64,
    compute_capability: Option<String>,
    architecture: Option<String>,
    bandwidth_gb_s: Option<f64>,
    driver_names: Vec<String>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    resources: Vec<String>,
    source: String,
    confidence: Confidence,
    #[expect(dead_code, reason = "for the reader of the row")]
    runtime_source: Option<String>,
    #[expect(dead_code, reason = "for the reader of the row")]
    bandwidth_source: Option<String>,
    note: Option<String>,
}

impl Row {
    pub(super) fn entry(self, vendor: &str, kind: MachineKind) -> Entry {
        let basis = match self.basis {
            Basis::Driver => "as the driver reports it",
            Basis::Runtime => "as the runtime reports it",
            Basis::Specified => "the marketed size taken as GiB, of which a driver may report less",
        };
        let machine = Machine {
            provenance: format!("{basis}; {} (confidence {})", self.source, self.confidence.name()),
            id: self.id,
            kind,
            count: 1,
            memory_bytes: self.memory_mib.saturating_mul(MIB),
            runtime_memory_bytes: self.runtime_gib.map(gib),
            unified_memory: self.unified_memory,
            compute_capability: self.compute_capability.as_deref().and_then(capability),
            working_set_bytes: None,
            apple_generation: None,
            macos: None,
            bandwidth: self.bandwidth_gb_s.and_then(bytes_per_second),
        };
        Entry {
            machine,
            vendor: vendor.to_owned(),
            common: self.common,
            driver_names: self.driver_names,
            aliases: self.aliases,
            labels: self.labels,
            resources: self.resources,
            marketed_gb: self.marketed_gb,
            architecture: self.architecture,
            basis: self.basis,
            source: self.source,
            confidence: self.confidence,
            note: self.note,
        }
    }
}

/// Major and minor of `8.9`.
pub(super) fn capability(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppleFile {
    pub(super) source: String,
    pub(super) confidence: Confidence,
    pub(super) chips: Vec<Chip>,
    pub(super) working_sets: Vec<WorkingSet>,
}

/// An Apple chip: `m4-max`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chip {
    #[serde(rename = "chip")]
    pub(super) name: String,
    pub(super) memory_gb: Vec<u64>,
    pub(super) bandwidth_gb_s: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkingSet {
    pub(super) memory_gb: u64,
    pub(super) share: (u64, u64),
    #[cfg_attr(not(test), expect(dead_code, reason = "what `share` was read from"))]
    pub(super) measured_mib: f64,
    #[expect(dead_code, reason = "for the reader of the row")]
    pub(super) macos: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the reader of the row"))]
    pub(super) source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstanceGroup {
    #[expect(dead_code, reason = "for the reader of the row")]
    cloud: String,
    source: String,
    confidence: Confidence,
    #[serde(default)]
    accelerators: BTreeMap<String, BTreeMap<String, u64>>,
    #[serde(default)]
    shares: BTreeMap<String, BTreeMap<String, u64>>,
}

impl InstanceGroup {
    pub(super) fn instances(self) -> Vec<Instance> {
        let whole = self
            .accelerators
            .into_iter()
            .map(|(id, types)| (id, types, false));
        let shares = self.shares.into_iter().map(|(id, types)| (id, types, true));
        let mut instances = Vec::new();
        for (accelerator, types, share) in whole.chain(shares) {
            for (name, number) in types {
                instances.push(Instance {
                    name,
                    accelerator: accelerator.clone(),
                    count: if share { 1 } else { number },
                    parts: if share { number } else { 1 },
                    source: self.source.clone(),
                    confidence: self.confidence,
                });
            }
        }
        instances
    }
}

/// What a cloud instance type holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) accelerator: String,
    pub(super) count: u64,
    /// One of so many parts of a device; 1 for whole devices.
    pub(super) parts: u64,
    pub(super) source: String,
    pub(super) confidence: Confidence,
}
