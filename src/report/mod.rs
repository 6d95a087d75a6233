//! Reports: one file per output format, all from the same [`Report`], all written in one run.
//!
//! In: what a run found. Out: text. A renderer never decides anything: severities, suppression and the exit
//! code are settled before.

use std::sync::Arc;

use crate::finding::Finding;
use crate::machine::Machine;
use crate::manifest::Deployment;
use crate::model::Model;
use crate::scenario::Scenario;
use crate::source::Sources;

/// Everything a run found.
#[derive(Debug)]
pub struct Report {
    /// The texts that spans lie in.
    pub sources: Arc<Sources>,
    /// Counts.
    pub summary: Summary,
    /// Models, sorted by path.
    pub models: Vec<Model>,
    /// Deployments, sorted by path and place.
    pub deployments: Vec<Deployed>,
    /// Machines that scenarios name, sorted by id and count.
    pub machines: Vec<Machine>,
    /// Scenarios, by deployment and then in the order of their dimensions.
    pub scenarios: Vec<Scenario>,
    /// Findings, sorted by path, offset and rule; suppressed ones included and marked.
    pub findings: Vec<Finding>,
    /// Metadata of the rules that ran, sorted by id (for SARIF and links).
    pub rules: Vec<RuleSummary>,
}

/// A deployment and the model it resolved to.
#[derive(Debug)]
pub struct Deployed {
    /// As declared.
    pub deployment: Deployment,
    /// The model, by position; `None` when it was not found.
    pub model: Option<usize>,
}

/// What a report says of a rule.
#[derive(Debug, Clone)]
pub struct RuleSummary {
    /// Its id.
    pub id: String,
    /// One line.
    pub summary: String,
    /// Its severity before settings.
    pub severity: crate::finding::Severity,
    /// Why it exists, in Markdown.
    pub why: String,
    /// Sources.
    pub references: Vec<String>,
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files read.
    pub files: usize,
    /// Models found.
    pub models: usize,
    /// Manifests found.
    pub manifests: usize,
    /// Deployments found.
    pub deployments: usize,
    /// Scenarios estimated.
    pub scenarios: usize,
    /// Findings by severity, suppressed ones not counted.
    pub errors: usize,
    /// Warnings.
    pub warnings: usize,
    /// Infos.
    pub infos: usize,
    /// Suppressed findings.
    pub suppressed: usize,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}
