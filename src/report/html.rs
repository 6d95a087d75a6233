//! One HTML page that stands on its own: no script, no font, no picture from anywhere.
//!
//! In: a report. Out: the verdict, every finding with its lines of source, and the matrix of scenarios. Every text
//! from a file is escaped, and a content policy forbids the page to load or run anything.

use std::fmt::Write as _;

use super::Report;
use super::place::Place;
use super::table::Words;
use super::units::{count, plural};
use crate::finding::{Finding, Label, Severity};
use crate::source::sanitize;

/// Rows of scenarios at most: a browser draws no million rows.
const MOST_SCENARIOS: usize = 5000;
/// Lines of source around a place.
const AROUND: usize = 1;
/// Characters of source before, in and after a place.
const MOST_CHARACTERS: usize = 300;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1f2328;background:#fff}\
h1{font-size:1.4rem}article{border:1px solid #d0d7de;border-left-width:5px;border-radius:6px;padding:.6rem 1rem;margin:1rem 0}\
.error{border-left-color:#cf222e}.warning{border-left-color:#bf8700}.info{border-left-color:#0969da}\
.suppressed{opacity:.6}pre{background:#f6f8fa;padding:.6rem;overflow-x:auto;border-radius:6px}mark{background:#ffebe9}\
table{border-collapse:collapse;font-size:.9rem}td,th{border:1px solid #d0d7de;padding:.2rem .5rem;text-align:left}\
.n{text-align:right}small{color:#59636e}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}pre{background:#161b22}mark{background:#67060c;color:inherit}}";

/// The page.
pub(super) fn render(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>oomlint</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>oomlint</h1>\n<p>{}</p>\n",
        verdict(report)
    );
    for finding in &report.findings {
        add_finding(&mut page, report, finding);
    }
    add_scenarios(&mut page, report);
    page.push_str("</body>\n</html>\n");
    page
}

fn verdict(report: &Report) -> String {
    let summary = &report.summary;
    format!(
        "<strong>{}, {}, {}</strong>, {} suppressed; {}, {} and {} checked",
        plural(summary.errors, "error"),
        plural(summary.warnings, "warning"),
        plural(summary.infos, "info"),
        summary.suppressed,
        plural(summary.models, "model"),
        plural(summary.deployments, "deployment"),
        plural(summary.scenarios, "scenario"),
    )
}

fn add_finding(page: &mut String, report: &Report, finding: &Finding) {
    let class = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let suppressed = if finding.suppressed.is_some() {
        " suppressed"
    } else {
        ""
    };
    let _ = writeln!(
        page,
        "<article class=\"{class}{suppressed}\">\n<p>{class} <code>{}</code><br><strong>{}</strong></p>",
        escape(&finding.rule),
        escape(&finding.message)
    );
    if let Some(reason) = &finding.suppressed {
        let _ = writeln!(page, "<p><small>suppressed: {}</small></p>", escape(reason));
    }
    if let Some(path) = finding.path.as_deref().filter(|path| !path.is_empty()) {
        let _ = writeln!(page, "<p><code>{}</code></p>", escape(path));
    }
    for label in finding.primary.iter().chain(&finding.related) {
        add_label(page, report, label);
    }
    if let Some(help) = &finding.help {
        let _ = writeln!(page, "<pre>help: {}</pre>", escape(help.trim_end()));
    }
    page.push_str("</article>\n");
}

/// The lines around a place, with its characters marked.
fn add_label(page: &mut String, report: &Report, label: &Label) {
    let Some(place) = Place::of(&report.sources, label.span).map(Place::trimmed) else {
        return;
    };
    let _ = writeln!(
        page,
        "<p><code>{}:{}:{}</code> {}</p>",
        escape(place.path()),
        place.start.line,
        place.start.column,
        escape(&label.text)
    );
    let file = &place.file;
    let first = place.start.line.saturating_sub(AROUND).max(1);
    // A declaration of a hundred lines is shown by its beginning.
    let shown_end = place.end.line.min(place.start.line + 8);
    let last = (shown_end + AROUND).min(file.line_count());
    let from = file.line_start(first);
    let to = file.line_start(last + 1);
    let end = place.end.byte.min(file.line_start(shown_end + 1));
    let part = |from: usize, to: usize| file.text().get(from..to).unwrap_or("");
    let _ = writeln!(
        page,
        "<pre>{}<mark>{}</mark>{}</pre>",
        escape(&last_of(part(from, place.start.byte))),
        escape(&first_of(part(place.start.byte, end))),
        escape(first_of(part(end, to)).trim_end())
    );
}

/// The beginning of a text: a generated file can be one line of a megabyte.
fn first_of(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
        None => text.to_owned(),
    }
}

/// The end of a text.
fn last_of(text: &str) -> String {
    match text.char_indices().rev().nth(MOST_CHARACTERS) {
        Some((at, _)) => format!("…{}", text.get(at..).unwrap_or("")),
        None => text.to_owned(),
    }
}

fn add_scenarios(page: &mut String, report: &Report) {
    if report.scenarios.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<h2>{}</h2>\n<table>\n<tr>",
        plural(report.scenarios.len(), "scenario")
    );
    for heading in [
        "model",
        "machine",
        "context",
        "batch",
        "KV cache",
        "weights",
        "recommended",
        "needs",
        "has",
        "verdict",
    ] {
        let _ = write!(page, "<th>{heading}</th>");
    }
    page.push_str("</tr>\n");
    for scenario in report.scenarios.iter().take(MOST_SCENARIOS) {
        let words = Words::of(report, scenario);
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&words.model),
            escape(&words.machine),
            count(scenario.context),
            count(scenario.batch),
            escape(scenario.kv_cache.name()),
            escape(&words.quantization),
            escape(&words.recommended),
            escape(&words.needs),
            escape(&words.has),
            escape(&words.verdict),
        );
    }
    page.push_str("</table>\n");
    if report.scenarios.len() > MOST_SCENARIOS {
        let rest = report.scenarios.len() - MOST_SCENARIOS;
        let _ = writeln!(page, "<p>and {} more</p>", plural(rest, "scenario"));
    }
    page.push_str("<p><small>Bytes are per accelerator, of the worst rank; what is needed holds the likely overhead, an estimate.</small></p>\n");
}

/// Text as HTML shows it, in elements and in attributes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in sanitize(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' => safe.push_str("    "),
            c => safe.push(c),
        }
    }
    safe
}
