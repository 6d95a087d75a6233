//! GitLab's Code Quality report: a JSON list that merge requests show beside the changed lines.
//!
//! In: a report. Out: one object for each finding that nothing suppresses, with a fingerprint that does not move
//! with lines. A finding that no file holds is left out: GitLab refuses a list with an empty path.

use serde::Serialize;

use super::Report;
use super::json::to_text;
use super::place::{Place, path_of};
use crate::finding::{Finding, Severity};
use crate::fingerprint::Numbering;
use crate::source::sanitize;

/// The whole list.
pub(super) fn render(report: &Report) -> String {
    let mut numbering = Numbering::default();
    let issue = |finding: &Finding| Issue::new(report, finding, numbering.next(report, finding));
    let issues: Vec<Issue<'_>> = report.shown().filter_map(issue).collect();
    to_text(&issues)
}

#[derive(Serialize)]
struct Issue<'a> {
    description: String,
    check_name: String,
    fingerprint: String,
    severity: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: usize,
    end: usize,
}

impl Issue<'_> {
    fn new(report: &Report, finding: &Finding, fingerprint: String) -> Option<Self> {
        let place = Place::of_finding(&report.sources, finding).map(Place::trimmed);
        let lines = place.map_or(Lines { begin: 1, end: 1 }, |place| Lines {
            begin: place.start.line,
            end: place.end.line,
        });
        let description = match &finding.help {
            Some(help) => format!("{}\nhelp: {}", finding.message, help.trim_end()),
            None => finding.message.clone(),
        };
        Some(Self {
            description: sanitize(&description),
            check_name: finding.rule.to_string(),
            fingerprint,
            severity: match finding.severity {
                Severity::Error => "critical",
                Severity::Warning => "minor",
                Severity::Info => "info",
            },
            location: Location {
                path: path_of(&report.sources, finding)?,
                lines,
            },
        })
    }
}
