//! A job summary in Markdown, as GitHub and GitLab show it: the verdict, the findings, and folded away the
//! scenarios. Text from files is escaped: it can neither format nor link nor add HTML.

use std::fmt::Write as _;

use super::Report;
use super::place::Place;
use super::table::Words;
use super::units::{count, plural};
use crate::finding::{Finding, Severity};
use crate::source::sanitize;

/// Rows of findings at most: a job summary may hold 1 MiB.
const MOST_FINDINGS: usize = 200;
/// Rows of scenarios at most.
const MOST_SCENARIOS: usize = 500;

/// The summary.
pub(super) fn render(report: &Report) -> String {
    let mut out = format!("## oomlint\n\n{}\n", verdict(report));
    add_findings(&mut out, report);
    add_scenarios(&mut out, report);
    out
}

/// One sentence: is it fine, and what was looked at.
fn verdict(report: &Report) -> String {
    let summary = &report.summary;
    let checked = format!(
        "{}, {} and {} checked",
        plural(summary.models, "model"),
        plural(summary.deployments, "deployment"),
        plural(summary.scenarios, "scenario"),
    );
    let suppressed = match summary.suppressed {
        0 => String::new(),
        number => format!(", {number} suppressed"),
    };
    let found = match (summary.errors, summary.warnings, summary.infos) {
        (0, 0, 0) => "✅ **No problems found**".to_owned(),
        (0, 0, infos) => format!("✅ **{}**", plural(infos, "info")),
        (0, warnings, _) => format!("⚠️ **{}**", plural(warnings, "warning")),
        (errors, 0, _) => format!("❌ **{}**", plural(errors, "error")),
        (errors, warnings, _) => {
            format!(
                "❌ **{}, {}**",
                plural(errors, "error"),
                plural(warnings, "warning")
            )
        }
    };
    format!("{found}{suppressed}; {checked}.")
}

fn add_findings(out: &mut String, report: &Report) {
    let findings: Vec<&Finding> = report.shown().collect();
    if findings.is_empty() {
        return;
    }
    out.push_str("\n| | where | rule | what |\n|---|---|---|---|\n");
    for finding in findings.iter().take(MOST_FINDINGS) {
        let mut what = cell(&finding.message);
        if let Some(help) = &finding.help {
            let _ = write!(what, "<br><sub>{}</sub>", cell(help.trim_end()));
        }
        let _ = writeln!(
            out,
            "| {} | <code>{}</code> | <code>{}</code> | {what} |",
            sign(finding.severity),
            cell(&place(report, finding)),
            cell(&finding.rule),
        );
    }
    add_rest(out, findings.len(), MOST_FINDINGS, "finding");
}

fn add_scenarios(out: &mut String, report: &Report) {
    if report.scenarios.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "\n<details>\n<summary>{}</summary>\n\n\
         | model | machine | context | batch | KV cache | weights | recommended | needs | has | verdict |\n\
         |---|---|--:|--:|---|---|---|--:|--:|---|\n",
        plural(report.scenarios.len(), "scenario"),
    );
    for scenario in report.scenarios.iter().take(MOST_SCENARIOS) {
        let words = Words::of(report, scenario);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            cell(&words.model),
            cell(&words.machine),
            count(scenario.context),
            count(scenario.batch),
            cell(scenario.kv_cache.name()),
            cell(&words.quantization),
            cell(&words.recommended),
            words.needs,
            words.has,
            words.verdict,
        );
    }
    add_rest(out, report.scenarios.len(), MOST_SCENARIOS, "scenario");
    out.push_str(
        "\nBytes are per accelerator, of the worst rank. What is needed holds the likely overhead, \
         an estimate.\n\n</details>\n",
    );
}

fn add_rest(out: &mut String, number: usize, shown: usize, noun: &str) {
    if number > shown {
        let _ = writeln!(out, "\nand {} more", plural(number - shown, noun));
    }
}

fn sign(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "❌ error",
        Severity::Warning => "⚠️ warning",
        Severity::Info => "ℹ️ info",
    }
}

fn place(report: &Report, finding: &Finding) -> String {
    match Place::of_finding(&report.sources, finding) {
        Some(place) => format!("{}:{}", place.path(), place.start.line),
        None => finding.path.clone().unwrap_or_default(),
    }
}

/// Text made safe for one cell of a table: no HTML, no Markdown, no links, no column or line breaks of its own.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in sanitize(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\n' => safe.push_str("<br>"),
            '\t' => safe.push(' '),
            // An entity, since a colon or an @ after a backslash would still make a link or a mention.
            ':' | '@' | '#' => {
                let _ = write!(safe, "&#{};", u32::from(c));
            }
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    // The one kind of link that needs no colon.
    safe.replace("www.", "www&#46;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_keeps_its_borders_and_formats_nothing() {
        assert_eq!(cell("a|b`c`"), "a\\|b\\`c\\`");
        assert_eq!(cell("<img src=x>&"), "&lt;img src=x&gt;&amp;");
        assert_eq!(cell("two\nlines"), "two<br>lines");
        assert_eq!(cell("https://x @you #1"), "https&#58;//x &#64;you &#35;1");
        assert_eq!(cell("www.x.org"), "www&#46;x.org");
        assert_eq!(cell("\u{1b}[31m"), "?\\[31m");
    }
}
