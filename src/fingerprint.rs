//! What stays the same about a finding when lines move.
//!
//! In: a finding and its report. Out: its rule, its file, its deployment and the fact it points at (or the
//! characters, where no fact is behind it), and a hash of the four for tools. Line numbers never count. Baselines
//! and every report that has fingerprints use these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::report::Report;

/// The longest stretch of characters that identifies a finding.
const MAX_CHARACTERS: usize = 120;

/// What identifies a finding. Several findings of a report may share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The file or folder, as reports print it.
    pub path: String,
    /// The rule.
    pub rule: String,
    /// The deployment's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The path of the fact that is pointed at, or the characters.
    pub at: String,
}

impl Fingerprint {
    /// Of one finding.
    pub fn of(report: &Report, finding: &Finding) -> Self {
        let sources = &report.sources;
        let path = match &finding.primary {
            Some(label) => sources.path(label.span),
            None => finding.path.clone().unwrap_or_default(),
        };
        let deployed = finding.deployment.and_then(|at| report.deployments.get(at));
        let characters = || {
            let label = finding.primary.as_ref();
            let text = label.map_or_else(String::new, |label| sources.slice(label.span));
            text.chars().take(MAX_CHARACTERS).collect()
        };
        Self {
            path,
            rule: finding.rule.to_string(),
            deployment: deployed.map(|deployed| deployed.deployment.name.value.clone()),
            at: finding
                .fact
                .map_or_else(characters, std::borrow::ToOwned::to_owned),
        }
    }

    fn hash(&self) -> u64 {
        let deployment = self.deployment.as_deref().unwrap_or("");
        fnv1a(&[&self.rule, &self.path, deployment, &self.at])
    }
}

/// Numbers the findings of one report that share a fingerprint, so that each has one of its own.
#[derive(Debug, Default)]
pub struct Numbering {
    seen: BTreeMap<u64, usize>,
}

impl Numbering {
    /// The fingerprint of the next finding, in the order of the report.
    pub fn next(&mut self, report: &Report, finding: &Finding) -> String {
        let hash = Fingerprint::of(report, finding).hash();
        let number = self.seen.entry(hash).or_insert(0);
        *number += 1;
        format!("{hash:016x}:{number}")
    }
}

/// FNV-1a over parts kept apart by a byte that no text holds. The standard library's hash may change between
/// releases, and fingerprints must not.
fn fnv1a(parts: &[&str]) -> u64 {
    let bytes = parts
        .iter()
        .flat_map(|part| part.bytes().chain(std::iter::once(0xff)));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_keep_their_recipe() {
        assert_eq!(fnv1a(&[]), 0xcbf2_9ce4_8422_2325);
        assert_ne!(fnv1a(&["ab", "c"]), fnv1a(&["a", "bc"]));
    }
}
