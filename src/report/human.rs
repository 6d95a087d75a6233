//! Diagnostics for a person at a terminal, drawn by miette. The only file that names it.
//!
//! miette is given a small sanitised excerpt instead of the whole file: it would print control characters and
//! minified lines as they are, scan the file once a label, and lose labels at the end of a file.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};

use super::excerpt::Excerpts;
use super::place::path_of;
use super::units::plural;
use super::{RenderOptions, Report, RuleSummary, short};
use crate::finding::{Finding, Severity};
use crate::source::sanitize;

/// Every finding that is not suppressed, and a closing line with the counts.
pub(super) fn render(report: &Report, options: &RenderOptions) -> String {
    let handler = handler(options);
    let mut out = String::new();
    for finding in report.shown() {
        let diagnostic = Shown::new(report, finding, options);
        let mut block = String::new();
        // Drawing fails only if an excerpt could not be read back; the words then still appear.
        if handler.render_report(&mut block, &diagnostic).is_err() {
            block = short::line(report, finding) + "\n";
        }
        for line in block.lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out.push('\n');
    }
    out.push_str(&closing_line(report));
    out.push('\n');
    out
}

fn handler(options: &RenderOptions) -> GraphicalReportHandler {
    let theme = if options.color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    GraphicalReportHandler::new_themed(theme)
        .with_urls(options.links)
        .with_width(options.width)
        // miette breaks lines at hyphens, which tears flags apart; the words arrive wrapped.
        .with_wrap_lines(false)
        .with_context_lines(1)
        .without_syntax_highlighting()
}

/// `3 errors, 1 warning in 2 files; 4 models, 3 deployments, 12 scenarios checked`.
fn closing_line(report: &Report) -> String {
    let summary = &report.summary;
    let found: Vec<String> = [
        (summary.errors, "error"),
        (summary.warnings, "warning"),
        (summary.infos, "info"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, noun)| plural(number, noun))
    .collect();
    let mut line = if found.is_empty() {
        "no problems found".to_owned()
    } else {
        let files: BTreeSet<String> = report
            .shown()
            .filter_map(|finding| path_of(&report.sources, finding))
            .collect();
        let place = match files.len() {
            0 => String::new(),
            number => format!(" in {}", plural(number, "file")),
        };
        found.join(", ") + &place
    };
    if summary.suppressed > 0 {
        let _ = write!(line, " ({} suppressed)", summary.suppressed);
    }
    let [models, deployments, scenarios] = [
        plural(summary.models, "model"),
        plural(summary.deployments, "deployment"),
        plural(summary.scenarios, "scenario"),
    ];
    let unknown = report
        .scenarios
        .iter()
        .filter(|scenario| scenario.estimate.is_none())
        .count();
    let caveat = match unknown {
        0 => String::new(),
        number => format!("; {number} of them could not be estimated"),
    };
    format!("{line}; {models}, {deployments}, {scenarios} checked{caveat}")
}

/// A finding as miette asks for it.
#[derive(Debug)]
struct Shown {
    code: String,
    message: String,
    help: Option<String>,
    severity: Severity,
    url: Option<String>,
    source: Excerpted,
}

impl Shown {
    fn new(report: &Report, finding: &Finding, options: &RenderOptions) -> Self {
        let message = match (&finding.primary, &finding.path) {
            (None, Some(path)) if !path.is_empty() => format!("{path}: {}", finding.message),
            _ => finding.message.clone(),
        };
        Self {
            code: sanitize(&format!("{}[{}]", finding.severity.word(), finding.rule)),
            message: wrap(&sanitize(&message), options.width.saturating_sub(4)),
            help: finding
                .help
                .as_deref()
                .map(|help| wrap(&sanitize(help), options.width.saturating_sub(8))),
            severity: finding.severity,
            url: report.rule(&finding.rule).and_then(RuleSummary::url),
            source: Excerpted(Excerpts::of(&report.sources, finding)),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Info => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn url<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.url
            .as_ref()
            .map(|url| Box::new(url) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.source.0.marks.iter().map(|mark| {
            let text = Some(mark.text.clone()).filter(|text| !text.is_empty());
            let span = (mark.range.start, mark.range.len());
            if mark.primary {
                LabeledSpan::new_primary_with_span(text, span)
            } else {
                LabeledSpan::new_with_span(text, span)
            }
        })))
    }
}

/// Excerpts, read by miette as if they were a file. Pieces of several files and far lines stand apart because
/// a span across two pieces cannot be read.
#[derive(Debug)]
struct Excerpted(Excerpts);

impl SourceCode for Excerpted {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        _after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let Excerpts { text, pieces, marks } = &self.0;
        let end = span.offset().saturating_add(span.len());
        let piece = pieces
            .iter()
            .find(|piece| piece.range.contains(&span.offset()) && end <= piece.range.end)
            .ok_or(MietteError::OutOfBounds)?;
        let (range, line, column) = match marks.iter().find(|mark| mark.range.start == span.offset()) {
            // Without context miette only wants to know where the span starts, for the heading.
            Some(mark) if before == 0 => (mark.range.clone(), mark.at.line, mark.at.column),
            _ => (piece.range.clone(), piece.first_line, 1),
        };
        let data = text.get(range.clone()).ok_or(MietteError::OutOfBounds)?;
        Ok(Box::new(MietteSpanContents::new_named(
            piece.path.clone(),
            data.as_bytes(),
            (range.start, range.len()).into(),
            line.saturating_sub(1),
            column.saturating_sub(1),
            piece.lines,
        )))
    }
}

/// Breaks lines at spaces so that they keep within `width` characters. Lines that start with a space or a
/// frame are tables and stay whole, and so does a word longer than a line: flags and paths must stay copyable.
fn wrap(text: &str, width: usize) -> String {
    let mut wrapped = String::with_capacity(text.len() + text.len() / 32);
    for (at, line) in text.trim_end().lines().enumerate() {
        if at > 0 {
            wrapped.push('\n');
        }
        if line.starts_with([' ', '\t', '|', '┌', '│', '├', '└']) {
            wrapped.push_str(line);
            continue;
        }
        let mut used = 0;
        for word in line.split(' ') {
            let length = word.chars().count();
            if used > 0 && used + 1 + length > width {
                wrapped.push('\n');
                used = 0;
            } else if used > 0 {
                wrapped.push(' ');
                used += 1;
            }
            wrapped.push_str(word);
            used += length;
        }
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_never_torn_and_tables_stay_whole() {
        assert_eq!(
            wrap("use --kv-cache-dtype fp8 here", 12),
            "use\n--kv-cache-dtype\nfp8 here"
        );
        assert_eq!(wrap("  a    b    c", 4), "  a    b    c");
        assert_eq!(wrap("a\n\nb\n", 4), "a\n\nb");
    }
}
