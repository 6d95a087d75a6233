//! Annotations of a GitHub workflow run: `::error file=…,line=…::message`.
//!
//! GitHub shows only a handful of annotations of a step, so the worst come first.

use std::cmp::Reverse;

use super::Report;
use super::place::{Place, path_of};
use crate::finding::{Finding, Severity};
use crate::source::sanitize;

/// Every finding that is not suppressed, most severe first.
pub(super) fn render(report: &Report) -> String {
    let mut findings: Vec<&Finding> = report.shown().collect();
    findings.sort_by_key(|finding| Reverse(finding.severity));
    findings
        .into_iter()
        .map(|finding| annotation(report, finding) + "\n")
        .collect()
}

fn annotation(report: &Report, finding: &Finding) -> String {
    let command = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "notice",
    };
    let mut properties = Vec::new();
    if let Some(path) = path_of(&report.sources, finding) {
        properties.push(format!("file={}", property(&path)));
    }
    if let Some(place) = Place::of_finding(&report.sources, finding).map(Place::trimmed) {
        properties.push(format!("line={},endLine={}", place.start.line, place.end.line));
        // GitHub rejects columns on an annotation over several lines.
        if place.start.line == place.end.line {
            properties.push(format!(
                "col={},endColumn={}",
                place.start.column, place.end.column
            ));
        }
    }
    properties.push(format!("title={}", property(&finding.rule)));
    let mut message = finding.message.clone();
    if let Some(help) = &finding.help {
        message += "\nhelp: ";
        message += help.trim_end();
    }
    format!("::{command} {}::{}", properties.join(","), data(&message))
}

/// Escapes the text after `::`, as the runner decodes it (actions/toolkit, `command.ts`, `escapeData`).
fn data(text: &str) -> String {
    sanitize(text)
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Escapes a property's value (actions/toolkit, `command.ts`, `escapeProperty`).
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_neither_end_a_property_nor_start_a_command() {
        assert_eq!(
            property("a:b,c%0A\n::error::x"),
            "a%3Ab%2Cc%250A%0A%3A%3Aerror%3A%3Ax"
        );
        assert_eq!(data("50%\r\nnext"), "50%25?%0Anext");
    }
}
