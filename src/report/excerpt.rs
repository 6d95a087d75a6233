//! The lines of source that a diagnostic shows, cut to what a person can read.
//!
//! In: the labels of one finding, in any number of files. Out: one small text made of pieces (runs of whole
//! lines with a line of context), and where each label lies in it. Control characters are replaced, lines of
//! minified JSON are cut to windows around their labels, and long spans point at their first line. Knows
//! nothing of how pieces are drawn.

use std::ops::Range;
use std::sync::Arc;

use crate::finding::{Finding, Label};
use crate::source::{Position, SourceFile, Sources, sanitize, sanitize_keeping_length};

/// Lines shown above and below a label.
const CONTEXT: usize = 1;
/// A label over more lines than this points at its first line only.
const MOST_LINES: usize = 6;
/// A line with more characters than this is cut.
const LONGEST_LINE: usize = 160;
/// Characters kept on either side of a label in a cut line.
const MARGIN: usize = 30;
/// Characters kept of a label in a cut line.
const LONGEST_MARK: usize = 60;
/// Stands for what was cut out of a line.
const GAP: &str = " … ";

/// Pieces of source, one after the other in one text.
#[derive(Debug, Default)]
pub(super) struct Excerpts {
    /// Every piece's characters; each line ends with a line feed.
    pub(super) text: String,
    /// The pieces, in the order of the text: those of the primary label's file first.
    pub(super) pieces: Vec<Piece>,
    /// The labels, in the order of the text within each piece.
    pub(super) marks: Vec<Mark>,
}

/// A run of lines of one file.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its bytes in the text of the [`Excerpts`].
    pub(super) range: Range<usize>,
    /// Path of the file, safe to print.
    pub(super) path: String,
    /// The first line, counted from 1.
    pub(super) first_line: usize,
    /// How many lines.
    pub(super) lines: usize,
}

/// A label as it lies in the text.
#[derive(Debug)]
pub(super) struct Mark {
    /// Its bytes in the text of the [`Excerpts`].
    pub(super) range: Range<usize>,
    /// Where it starts in the file.
    pub(super) at: Position,
    /// What it says, safe to print.
    pub(super) text: String,
    /// True for the place the finding points at.
    pub(super) primary: bool,
}

/// A label on its way into the excerpts, by bytes of its file.
struct Wanted {
    range: Range<usize>,
    first_line: usize,
    last_line: usize,
    text: String,
    primary: bool,
}

impl Excerpts {
    /// Cuts out what the labels of a finding need.
    pub(super) fn of(sources: &Sources, finding: &Finding) -> Self {
        let mut excerpts = Self::default();
        for (file, wanted) in wanted_by_file(sources, finding) {
            let mut rest = wanted.as_slice();
            while let Some((run, after)) = next_run(rest) {
                excerpts.add_piece(&file, run);
                rest = after;
            }
        }
        excerpts
    }

    fn add_piece(&mut self, file: &SourceFile, run: &[Wanted]) {
        let (Some(first), Some(last)) = (
            run.iter().map(|wanted| wanted.first_line).min(),
            run.iter().map(|wanted| wanted.last_line).max(),
        ) else {
            return;
        };
        let first = first.saturating_sub(CONTEXT).max(1);
        let last = (last + CONTEXT).min(last_worth_showing(file, last));
        let start = self.text.len();
        let mut ranges: Vec<Range<usize>> = run.iter().map(|_| start..start).collect();
        for line in first..=last {
            let cut = CutLine::new(file, line, run, self.text.len());
            for (range, wanted) in ranges.iter_mut().zip(run) {
                if wanted.first_line == line {
                    range.start = cut.place(wanted.range.start);
                }
                if wanted.last_line == line {
                    range.end = cut.place(wanted.range.end);
                }
            }
            self.text.push_str(&cut.text);
            self.text.push('\n');
        }
        self.marks
            .extend(run.iter().zip(ranges).map(|(wanted, range)| Mark {
                range: range.start..range.end.max(range.start),
                at: file.position(wanted.range.start),
                text: wanted.text.clone(),
                primary: wanted.primary,
            }));
        self.pieces.push(Piece {
            range: start..self.text.len(),
            path: sanitize(file.path()),
            first_line: first,
            lines: (last + 1).saturating_sub(first),
        });
    }
}

/// The last line that context may reach: the empty line after a final line break is shown only if labelled.
fn last_worth_showing(file: &SourceFile, labelled: usize) -> usize {
    let count = file.line_count();
    let last = if file.line_text(count).is_empty() {
        count.saturating_sub(1)
    } else {
        count
    };
    last.max(labelled)
}

/// The labels of each file, the primary label's file first, each file's labels by place.
fn wanted_by_file(sources: &Sources, finding: &Finding) -> Vec<(Arc<SourceFile>, Vec<Wanted>)> {
    let mut files: Vec<(Arc<SourceFile>, Vec<Wanted>)> = Vec::new();
    let primary = finding.primary.iter().map(|label| (label, true));
    let related = finding.related.iter().map(|label| (label, false));
    for (label, primary) in primary.chain(related) {
        let Some(file) = sources.get(label.span.file()) else {
            continue;
        };
        let wanted = Wanted::new(&file, label, primary);
        match files.iter_mut().find(|(known, _)| known.id() == file.id()) {
            Some((_, labels)) => add_wanted(labels, wanted),
            None => files.push((file, vec![wanted])),
        }
    }
    for (_, labels) in &mut files {
        labels.sort_by_key(|wanted| (wanted.range.start, wanted.range.end));
    }
    files
}

/// Two labels on the same characters become one that says both things.
fn add_wanted(labels: &mut Vec<Wanted>, wanted: Wanted) {
    match labels.iter_mut().find(|known| known.range == wanted.range) {
        Some(known) if known.text == wanted.text || wanted.text.is_empty() => {}
        Some(known) if known.text.is_empty() => known.text = wanted.text,
        Some(known) => known.text = format!("{}; {}", known.text, wanted.text),
        None => labels.push(wanted),
    }
}

impl Wanted {
    fn new(file: &SourceFile, label: &Label, primary: bool) -> Self {
        let start = label.span.start();
        // A block of YAML ends with the line break before the next key, which no underline should reach.
        let length = file.slice(label.span).trim_end().len();
        let first_line = file.line_of(start);
        let mut end = start + length;
        let mut last_line = file.line_of(end);
        if last_line - first_line >= MOST_LINES {
            last_line = first_line;
            end = file.line_start(first_line) + file.line_text(first_line).len();
        }
        Self {
            range: start..end.max(start),
            first_line,
            last_line,
            text: sanitize(&label.text).replace('\n', " "),
            primary,
        }
    }
}

/// Splits off the labels whose lines, with context, touch: they are shown in one piece.
fn next_run(wanted: &[Wanted]) -> Option<(&[Wanted], &[Wanted])> {
    let mut last_line = wanted.first()?.last_line;
    let length = wanted
        .iter()
        .take_while(|next| {
            let touches = next.first_line <= last_line + 2 * CONTEXT + 1;
            last_line = last_line.max(next.last_line);
            touches
        })
        .count();
    wanted.split_at_checked(length)
}

/// A line as it is shown, with the way from bytes of the file to bytes of the excerpt.
struct CutLine {
    text: String,
    /// Bytes of the file that are kept, and the byte of the excerpt where each run of them starts.
    kept: Vec<(Range<usize>, usize)>,
    start: usize,
}

impl CutLine {
    fn new(file: &SourceFile, line: usize, run: &[Wanted], start: usize) -> Self {
        let line_start = file.line_start(line);
        let whole = file.line_text(line);
        let text = whole.trim_start_matches('\u{feff}');
        let text_start = line_start + (whole.len() - text.len());
        let labels = run
            .iter()
            .filter(|wanted| (wanted.first_line..=wanted.last_line).contains(&line))
            .map(|wanted| {
                let clamp = |byte: usize| byte.clamp(text_start, text_start + text.len()) - text_start;
                clamp(wanted.range.start)..clamp(wanted.range.end)
            });
        let mut cut = Self {
            text: String::new(),
            kept: Vec::new(),
            start,
        };
        let mut end = 0;
        for range in windows(text, labels) {
            if range.start > end {
                cut.text.push_str(GAP);
            }
            cut.kept.push((
                text_start + range.start..text_start + range.end,
                start + cut.text.len(),
            ));
            end = range.end;
            cut.text
                .push_str(&sanitize_keeping_length(text.get(range).unwrap_or("")));
        }
        if end < text.len() {
            cut.text.push_str(GAP.trim_end());
        }
        cut
    }

    /// The byte of the excerpt that stands for a byte of the file; what was cut out stands at the cut.
    fn place(&self, byte: usize) -> usize {
        self.kept
            .iter()
            .rfind(|(range, _)| range.start <= byte)
            .map_or(self.start, |(range, start)| {
                start + (byte.min(range.end) - range.start)
            })
    }
}

/// The parts of a line to show: all of it, or windows around its labels, or its beginning.
fn windows(line: &str, labels: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    if line.chars().nth(LONGEST_LINE).is_none() {
        return std::iter::once(0..line.len()).collect();
    }
    let mut windows: Vec<Range<usize>> = Vec::new();
    for label in labels {
        let start = back(line, label.start, MARGIN);
        let end = forward(
            line,
            label.end.min(forward(line, label.start, LONGEST_MARK)),
            MARGIN,
        );
        match windows.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => windows.push(start..end),
        }
    }
    if windows.is_empty() {
        windows.push(0..forward(line, 0, LONGEST_LINE / 2));
    }
    windows
}

/// The byte `chars` characters before `at`.
fn back(line: &str, at: usize, chars: usize) -> usize {
    let before = line.get(..at).unwrap_or("");
    before
        .char_indices()
        .rev()
        .take(chars)
        .last()
        .map_or(at, |(start, _)| start)
}

/// The byte `chars` characters after `at`.
fn forward(line: &str, at: usize, chars: usize) -> usize {
    let after = line.get(at..).unwrap_or("");
    after
        .char_indices()
        .nth(chars)
        .map_or(line.len(), |(length, _)| at + length)
}
