//! Reports: one file per output format, all from the same [`Report`], all written in one run.
//!
//! In: what a run found. Out: text. A renderer never decides anything: severities, suppression and the exit
//! code are settled before.

mod excerpt;
mod github;
mod gitlab;
mod group;
mod html;
mod human;
pub mod inspect;
mod json;
mod junit;
mod markdown;
mod place;
mod sarif;
mod short;
pub mod table;
pub mod units;

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
    /// Wall time in milliseconds, whole seconds only: reports of one tree are the same bytes on every run.
    pub duration_ms: u64,
}

impl Report {
    /// The findings that people see: those that nothing suppresses.
    pub fn shown(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.suppressed.is_none())
    }

    /// The metadata of a rule; `None` for a rule that did not run.
    pub fn rule(&self, id: &str) -> Option<&RuleSummary> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// The model of a scenario.
    pub fn model_of(&self, scenario: &Scenario) -> Option<&Model> {
        self.models.get(scenario.model?)
    }

    /// The machine of a scenario.
    pub fn machine_of(&self, scenario: &Scenario) -> Option<&Machine> {
        self.machines.get(scenario.machine?)
    }

    /// The deployment of a scenario.
    pub fn deployment_of(&self, scenario: &Scenario) -> Option<&Deployment> {
        self.deployments
            .get(scenario.deployment)
            .map(|deployed| &deployed.deployment)
    }
}

impl RuleSummary {
    /// The first source that can be opened in a browser and printed as it is.
    pub fn url(&self) -> Option<String> {
        self.references
            .iter()
            .find(|url| {
                let web = url.starts_with("https://") || url.starts_with("http://");
                web && url.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .cloned()
    }
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputFormat {
    /// Diagnostics with source, for a terminal.
    Human,
    /// One line a finding.
    Short,
    /// The JSON contract of `schemas/report.schema.json`.
    Json,
    /// SARIF 2.1.0.
    Sarif,
    /// Annotations of a GitHub workflow run.
    Github,
    /// GitLab's Code Quality report.
    Gitlab,
    /// `JUnit` XML.
    Junit,
    /// A job summary.
    Markdown,
    /// One page for a browser.
    Html,
}

impl OutputFormat {
    /// Every format, in the order of the help text.
    pub const ALL: [Self; 9] = [
        Self::Human,
        Self::Short,
        Self::Json,
        Self::Sarif,
        Self::Github,
        Self::Gitlab,
        Self::Junit,
        Self::Markdown,
        Self::Html,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Short => "short",
            Self::Json => "json",
            Self::Sarif => "sarif",
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Junit => "junit",
            Self::Markdown => "markdown",
            Self::Html => "html",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == text)
    }
}

/// What a renderer may assume of the place its text goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderOptions {
    /// ANSI colours.
    pub color: bool,
    /// Columns to wrap at.
    pub width: usize,
    /// Terminal hyperlinks (OSC 8).
    pub links: bool,
}

impl Default for RenderOptions {
    /// What suits a file or a pipe.
    fn default() -> Self {
        Self {
            color: false,
            width: 100,
            links: false,
        }
    }
}

/// Writes a report in one format. The same report gives the same bytes.
pub fn render(report: &Report, format: OutputFormat, options: &RenderOptions) -> String {
    match format {
        OutputFormat::Human => human::render(report, options),
        OutputFormat::Short => short::render(report),
        OutputFormat::Json => json::render(report),
        OutputFormat::Sarif => sarif::render(report),
        OutputFormat::Github => github::render(report),
        OutputFormat::Gitlab => gitlab::render(report),
        OutputFormat::Junit => junit::render(report),
        OutputFormat::Markdown => markdown::render(report),
        OutputFormat::Html => html::render(report),
    }
}
