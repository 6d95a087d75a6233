//! Baselines: the findings that a team had when it began, so that only new ones count.
//!
//! In: a report, and the file that an earlier run wrote. Out: the report with known findings marked as suppressed,
//! and an info for every entry that nothing matches any more. An entry says how many findings of a kind there
//! were: one more of the same kind is new. Lines play no part, see [`crate::fingerprint`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::fingerprint::Fingerprint;
use crate::report::Report;
use crate::rule::Rules;

/// The rule id of findings about entries that match nothing any more.
pub const BASELINE_STALE: &str = "baseline-stale";

/// The reason that findings of a baseline are suppressed for.
pub const REASON: &str = "baseline";

/// The version of the file's format.
const VERSION: u32 = 1;

/// Known findings, with how many there were of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    counts: BTreeMap<Fingerprint, usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    oomlint_baseline: u32,
    findings: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    rule: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deployment: Option<String>,
    at: String,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    count: usize,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_one(count: &usize) -> bool {
    *count == 1
}

impl Baseline {
    /// The findings of a report that nothing suppresses, or that a baseline does.
    pub fn of(report: &Report) -> Self {
        let mut counts = BTreeMap::new();
        for finding in &report.findings {
            if finding
                .suppressed
                .as_deref()
                .is_none_or(|reason| reason == REASON)
            {
                *counts.entry(Fingerprint::of(report, finding)).or_insert(0) += 1;
            }
        }
        Self { counts }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Why the text is no baseline, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file.oomlint_baseline != VERSION {
            return Err(format!(
                "it has version {}, and this is for version {VERSION}",
                file.oomlint_baseline
            ));
        }
        let mut counts = BTreeMap::new();
        for entry in file.findings {
            let fingerprint = Fingerprint {
                path: entry.path,
                rule: entry.rule,
                deployment: entry.deployment,
                at: entry.at,
            };
            let count: &mut usize = counts.entry(fingerprint).or_insert(0);
            *count = count.saturating_add(entry.count);
        }
        Ok(Self { counts })
    }

    /// The file: sorted, one entry for each kind, the same bytes for the same findings.
    pub fn to_text(&self) -> String {
        let entry = |(fingerprint, count): (&Fingerprint, &usize)| Entry {
            path: fingerprint.path.clone(),
            rule: fingerprint.rule.clone(),
            deployment: fingerprint.deployment.clone(),
            at: fingerprint.at.clone(),
            count: *count,
        };
        let file = File {
            oomlint_baseline: VERSION,
            findings: self.counts.iter().map(entry).collect(),
        };
        // The types have no way to fail; an empty file would be refused when it is read.
        serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
    }

    /// Marks the findings that were known. `complete` tells whether a file was looked at as a whole: only of such a
    /// file is it certain that an entry matches nothing, and `path` of the baseline is where that is said.
    pub fn apply(&self, report: &mut Report, path: &str, rules: &Rules, complete: &dyn Fn(&str) -> bool) {
        let mut left = self.counts.clone();
        let known: Vec<bool> = report
            .findings
            .iter()
            .map(|finding| {
                let is_open = finding.suppressed.is_none();
                let count = left
                    .get_mut(&Fingerprint::of(report, finding))
                    .filter(|_| is_open);
                match count {
                    Some(count) if *count > 0 => {
                        *count -= 1;
                        true
                    }
                    _ => false,
                }
            })
            .collect();
        for (finding, known) in report.findings.iter_mut().zip(known) {
            if known {
                finding.suppressed = Some(REASON.to_owned());
            }
        }
        let stale = left
            .iter()
            .filter(|(of, count)| **count > 0 && complete(&of.path));
        report
            .findings
            .extend(stale.map(|(of, count)| complaint(of, *count, path, rules)));
        crate::run::settle(report);
    }
}

fn complaint(of: &Fingerprint, count: usize, path: &str, rules: &Rules) -> Finding {
    let deployment = of.deployment.as_ref();
    let whose = deployment.map_or_else(String::new, |name| format!(" of the deployment {name}"));
    let times = match count {
        1 => String::new(),
        many => format!(" {many} times"),
    };
    let message = format!(
        "the baseline holds `{}` at {}{whose} in {}{times}, which is no longer found",
        of.rule, of.at, of.path
    );
    Finding::about(BASELINE_STALE, rules.severity(BASELINE_STALE), message, path)
        .with_help("write the baseline anew with `--write-baseline`, so that it cannot hide the next one")
}
