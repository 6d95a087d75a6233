//! One line a finding: `path:line:col: severity[rule]: message`, for editors, `grep` and agents.

use super::Report;
use super::place::Place;
use crate::finding::Finding;
use crate::source::sanitize;

/// Every finding that is not suppressed.
pub(super) fn render(report: &Report) -> String {
    report
        .shown()
        .map(|finding| line(report, finding) + "\n")
        .collect()
}

/// One finding, without the line break. Findings without a place have the path only, or nothing, before the
/// severity.
pub(super) fn line(report: &Report, finding: &Finding) -> String {
    let place = match Place::of_finding(&report.sources, finding) {
        Some(place) => format!("{}:{}:{}: ", place.path(), place.start.line, place.start.column),
        None => match finding.path.as_deref() {
            Some(path) if !path.is_empty() => format!("{path}: "),
            _ => String::new(),
        },
    };
    let text = format!(
        "{place}{}[{}]: {}",
        finding.severity.word(),
        finding.rule,
        finding.message
    );
    sanitize(&text).replace('\n', " ")
}
