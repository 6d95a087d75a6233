//! SARIF 2.1.0, for code scanning and editors.
//!
//! Paths are relative to the folder the run started in, regions count Unicode code points, and suppressed
//! findings stay in with their reason. Fingerprints do not depend on lines, so a finding keeps its identity
//! when the text above it changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::json::to_text;
use super::place::{Place, path_of};
use super::{Report, RuleSummary};
use crate::finding::{Edit, Finding, Label, Severity};
use crate::fingerprint::Numbering;
use crate::source::{Sources, Span};

/// The schema that the output follows.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The name that relative paths hang on.
const ROOT: &str = "SRCROOT";
/// The name of our fingerprint; a new recipe gets a new number.
const FINGERPRINT: &str = "oomlint/v2";

/// The whole report as one SARIF run.
pub(super) fn render(report: &Report) -> String {
    let rules = Rules::of(report);
    let mut numbering = Numbering::default();
    let results = report
        .findings
        .iter()
        .map(|finding| ResultView::new(report, &rules, finding, &mut numbering))
        .collect();
    to_text(&Log {
        schema: SCHEMA,
        version: "2.1.0",
        runs: [Run {
            tool: Tool {
                driver: Driver {
                    name: "oomlint",
                    semantic_version: env!("CARGO_PKG_VERSION"),
                    information_uri: env!("CARGO_PKG_REPOSITORY"),
                    rules: rules.descriptors,
                },
            },
            invocations: [Invocation {
                execution_successful: true,
            }],
            original_uri_base_ids: BTreeMap::from([(
                ROOT,
                BaseId {
                    description: Text::new("the folder that oomlint ran in"),
                },
            )]),
            column_kind: "unicodeCodePoints",
            results,
        }],
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Log<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    tool: Tool<'a>,
    invocations: [Invocation; 1],
    original_uri_base_ids: BTreeMap<&'static str, BaseId>,
    column_kind: &'static str,
    results: Vec<ResultView<'a>>,
}

#[derive(Serialize)]
struct Tool<'a> {
    driver: Driver<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver<'a> {
    name: &'static str,
    semantic_version: &'static str,
    information_uri: &'static str,
    rules: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
}

#[derive(Serialize)]
struct BaseId {
    description: Text,
}

#[derive(Serialize)]
struct Text {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    markdown: Option<String>,
}

impl Text {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            markdown: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    short_description: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_configuration: Option<Configuration>,
}

#[derive(Serialize)]
struct Configuration {
    level: &'static str,
}

impl<'a> Descriptor<'a> {
    fn of_rule(rule: &'a RuleSummary) -> Self {
        let text = if rule.why.trim().is_empty() {
            &rule.summary
        } else {
            &rule.why
        };
        Self {
            id: &rule.id,
            short_description: Some(Text::new(rule.summary.clone())),
            help: Some(Text {
                text: text.clone(),
                markdown: Some(help_markdown(rule, text)),
            }),
            help_uri: rule.url(),
            default_configuration: Some(Configuration {
                level: level(rule.severity),
            }),
        }
    }

    fn of_unknown(id: &'a str) -> Self {
        Self {
            id,
            short_description: None,
            help: None,
            help_uri: None,
            default_configuration: None,
        }
    }
}

fn help_markdown(rule: &RuleSummary, text: &str) -> String {
    let mut markdown = text.trim_end().to_owned();
    if !rule.references.is_empty() {
        markdown += "\n\nSources:\n";
        for reference in &rule.references {
            let _ = writeln!(markdown, "- <{reference}>");
        }
    }
    markdown
}

/// The rules of the run, and the position of each: `ruleIndex`.
struct Rules<'a> {
    descriptors: Vec<Descriptor<'a>>,
    index: BTreeMap<&'a str, usize>,
}

impl<'a> Rules<'a> {
    fn of(report: &'a Report) -> Self {
        let mut rules = Self {
            descriptors: report.rules.iter().map(Descriptor::of_rule).collect(),
            index: BTreeMap::new(),
        };
        for (at, rule) in report.rules.iter().enumerate() {
            rules.index.entry(&rule.id).or_insert(at);
        }
        for finding in &report.findings {
            let id: &str = &finding.rule;
            if !rules.index.contains_key(id) {
                rules.index.insert(id, rules.descriptors.len());
                rules.descriptors.push(Descriptor::of_unknown(id));
            }
        }
        rules
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultView<'a> {
    rule_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_index: Option<usize>,
    level: &'static str,
    message: Text,
    locations: Vec<Location>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_locations: Vec<Location>,
    partial_fingerprints: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressions: Option<[Suppression<'a>; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixes: Vec<FixView<'a>>,
}

impl<'a> ResultView<'a> {
    fn new(report: &'a Report, rules: &Rules<'a>, finding: &'a Finding, numbering: &mut Numbering) -> Self {
        let sources = &report.sources;
        let related = finding.related.iter().enumerate();
        Self {
            rule_id: &finding.rule,
            rule_index: rules.index.get(&*finding.rule).copied(),
            level: level(finding.severity),
            message: Text::new(message(finding)),
            locations: Location::of_finding(sources, finding).into_iter().collect(),
            related_locations: related
                .filter_map(|(id, label)| Location::of_label(sources, label, Some(id)))
                .collect(),
            partial_fingerprints: BTreeMap::from([(FINGERPRINT, numbering.next(report, finding))]),
            suppressions: finding.suppressed.as_deref().map(|reason| {
                [Suppression {
                    kind: "inSource",
                    justification: reason,
                }]
            }),
            fixes: FixView::of(sources, finding),
        }
    }
}

fn message(finding: &Finding) -> String {
    match &finding.help {
        Some(help) => format!("{}\n\nhelp: {}", finding.message, help.trim_end()),
        None => finding.message.clone(),
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

#[derive(Serialize)]
struct Suppression<'a> {
    kind: &'static str,
    justification: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    #[serde(rename = "physicalLocation")]
    physical: PhysicalLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Text>,
}

impl Location {
    fn of_finding(sources: &Sources, finding: &Finding) -> Option<Self> {
        match &finding.primary {
            Some(label) => Self::of_label(sources, label, None),
            None => Some(Self {
                id: None,
                physical: PhysicalLocation {
                    artifact_location: ArtifactLocation::new(&path_of(sources, finding)?),
                    region: None,
                },
                message: None,
            }),
        }
    }

    fn of_label(sources: &Sources, label: &Label, id: Option<usize>) -> Option<Self> {
        let place = Place::of(sources, label.span)?;
        Some(Self {
            id,
            physical: PhysicalLocation {
                artifact_location: ArtifactLocation::new(place.path()),
                region: Some(Region::new(&place, label.span)),
            },
            message: Some(&label.text)
                .filter(|text| !text.is_empty())
                .map(|text| Text::new(text.clone())),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactLocation {
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri_base_id: Option<&'static str>,
}

impl ArtifactLocation {
    fn new(path: &str) -> Self {
        let absolute = path.starts_with('/');
        let uri = percent_encode(path);
        Self {
            uri: if absolute { format!("file://{uri}") } else { uri },
            uri_base_id: (!absolute).then_some(ROOT),
        }
    }
}

/// A path as a URI: all but unreserved characters and `/` as `%XX`.
fn percent_encode(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    start_column: usize,
    end_line: usize,
    end_column: usize,
    byte_offset: usize,
    byte_length: usize,
}

impl Region {
    fn new(place: &Place, span: Span) -> Self {
        Self {
            start_line: place.start.line,
            start_column: place.start.column,
            end_line: place.end.line,
            end_column: place.end.column,
            byte_offset: place.start.byte,
            byte_length: span.len(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FixView<'a> {
    description: Text,
    artifact_changes: Vec<ArtifactChange<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactChange<'a> {
    artifact_location: ArtifactLocation,
    replacements: Vec<Replacement<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Replacement<'a> {
    deleted_region: Region,
    inserted_content: InsertedContent<'a>,
}

#[derive(Serialize)]
struct InsertedContent<'a> {
    text: &'a str,
}

impl<'a> FixView<'a> {
    /// The finding's fix, its edits gathered by file; nothing when it has none.
    fn of(sources: &Sources, finding: &'a Finding) -> Vec<Self> {
        let Some(fix) = &finding.fix else {
            return Vec::new();
        };
        let mut files: BTreeMap<String, Vec<Replacement<'a>>> = BTreeMap::new();
        for edit in &fix.edits {
            if let Some((path, replacement)) = replacement(sources, edit) {
                files.entry(path).or_default().push(replacement);
            }
        }
        if files.is_empty() {
            return Vec::new();
        }
        let description = if fix.safe {
            "a change that keeps what the author meant"
        } else {
            "a change of what is deployed: read it before you take it"
        };
        vec![Self {
            description: Text::new(description),
            artifact_changes: files
                .into_iter()
                .map(|(path, replacements)| ArtifactChange {
                    artifact_location: ArtifactLocation::new(&path),
                    replacements,
                })
                .collect(),
        }]
    }
}

fn replacement<'a>(sources: &Sources, edit: &'a Edit) -> Option<(String, Replacement<'a>)> {
    let place = Place::of(sources, edit.span)?;
    let replacement = Replacement {
        deleted_region: Region::new(&place, edit.span),
        inserted_content: InsertedContent { text: &edit.text },
    };
    Some((place.path().to_owned(), replacement))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris_that_survive_spaces_and_signs() {
        assert_eq!(percent_encode("a b/ü#1?%.yaml"), "a%20b/%C3%BC%231%3F%25.yaml");
        assert_eq!(ArtifactLocation::new("/etc/x.yaml").uri, "file:///etc/x.yaml");
        assert_eq!(ArtifactLocation::new("/etc/x.yaml").uri_base_id, None);
    }
}
