//! Text as it lies on disk, and places in it.
//!
//! A [`SourceFile`] is one decoded text with its line index; a [`Span`] is a range of bytes in one such file
//! that can always be sliced; [`Sources`] owns every text of a run. Trees with spans are in [`tree`].
//! Nothing here knows what a file means.

pub mod map;
pub mod tree;

use std::ops::Range;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Which file of a run a [`Span`] lies in. Not ordered: ids depend on which thread read a file first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(u32);

impl FileId {
    /// The position of the file in its [`Sources`].
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// An id for a file at `index` of a [`Sources`] that is being put together.
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }
}

/// A range of bytes in one file. Made by [`SourceFile::span`] only, so it lies inside the text and on
/// character boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    file: FileId,
    start: u32,
    end: u32,
}

impl Span {
    /// The file it lies in.
    pub fn file(self) -> FileId {
        self.file
    }

    /// First byte.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// One past the last byte.
    pub fn end(self) -> usize {
        self.end as usize
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.end().saturating_sub(self.start())
    }

    /// True for a place without characters.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// A place as people and reports name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in Unicode code points, counted from 1. A byte-order mark at the start of a file counts as none.
    pub column: usize,
    /// Byte offset from the start of the file, counted from 0.
    pub byte: usize,
}

/// One text file of a run.
#[derive(Debug)]
pub struct SourceFile {
    id: FileId,
    path: String,
    text: String,
    line_starts: Vec<u32>,
    tree: OnceLock<tree::Tree>,
}

impl SourceFile {
    /// The largest text read, in bytes. Spans are 32-bit and no manifest or config.json comes near it.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// Takes a decoded text. `path` is how reports name the file: relative where possible, with `/`.
    pub fn new(id: FileId, path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let mut line_starts = vec![0];
        for (at, byte) in text.bytes().enumerate() {
            if byte == b'\n' {
                line_starts.push(u32::try_from(at + 1).unwrap_or(u32::MAX));
            }
        }
        Self {
            id,
            path: path.into(),
            text,
            line_starts,
            tree: OnceLock::new(),
        }
    }

    /// The file as YAML or JSON, read on first use and kept.
    pub fn tree(&self) -> &tree::Tree {
        self.tree.get_or_init(|| tree::Tree::parse(self))
    }

    /// Its id.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// The path that reports print.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole text, with a byte-order mark if the file has one.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A span over `range`, moved inside the text and outwards to character boundaries.
    pub fn span(&self, range: Range<usize>) -> Span {
        let len = self.text.len();
        let mut start = range.start.min(len);
        let mut end = range.end.clamp(start, len);
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        Span {
            file: self.id,
            start: u32::try_from(start).unwrap_or(u32::MAX),
            end: u32::try_from(end).unwrap_or(u32::MAX),
        }
    }

    /// The characters of a span; empty when the span belongs to another file.
    pub fn slice(&self, span: Span) -> &str {
        if span.file != self.id {
            return "";
        }
        self.text.get(span.start()..span.end()).unwrap_or("")
    }

    /// Line, column and byte of an offset; an offset past the end is the end.
    pub fn position(&self, byte: usize) -> Position {
        let byte = byte.min(self.text.len());
        let line = self.line_of(byte);
        let start = self.line_start(line);
        let before = self.text.get(start..byte).unwrap_or("");
        let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
        Position { line, column, byte }
    }

    /// The line, counted from 1, that holds an offset.
    pub fn line_of(&self, byte: usize) -> usize {
        self.line_starts
            .partition_point(|start| *start as usize <= byte)
            .max(1)
    }

    /// The number of lines; a text that ends with a line break has an empty last line.
    pub fn line_count(&self) -> usize {
        self.line_starts.len()
    }

    /// Offset of the first byte of a line counted from 1; the end of the text for lines past it.
    pub fn line_start(&self, line: usize) -> usize {
        self.line_starts
            .get(line.saturating_sub(1))
            .map_or(self.text.len(), |start| *start as usize)
    }

    /// The characters of a line counted from 1, without its line break.
    pub fn line_text(&self, line: usize) -> &str {
        let text = self
            .text
            .get(self.line_start(line)..self.line_start(line + 1))
            .unwrap_or("");
        text.trim_end_matches(['\n', '\r'])
    }
}

/// Every text of a run. Files may be added from several threads; ids then come in any order, so reports sort by
/// path and offset and never by id.
#[derive(Debug, Default)]
pub struct Sources {
    files: RwLock<Vec<Arc<SourceFile>>>,
}

impl Sources {
    /// Adds a text under the path that reports print.
    pub fn add(&self, path: impl Into<String>, text: impl Into<String>) -> Arc<SourceFile> {
        let (path, text) = (path.into(), text.into());
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let file = Arc::new(SourceFile::new(FileId::from_index(files.len()), path, text));
        files.push(Arc::clone(&file));
        file
    }

    /// One file; `None` for an id of another run.
    pub fn get(&self, id: FileId) -> Option<Arc<SourceFile>> {
        self.files
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id.index())
            .cloned()
    }

    /// True when a text of a path was read.
    pub fn has(&self, path: &str) -> bool {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.iter().any(|file| file.path() == path)
    }

    /// The characters of a span.
    pub fn slice(&self, span: Span) -> String {
        self.get(span.file())
            .map_or_else(String::new, |file| file.slice(span).to_owned())
    }

    /// The path of the file of a span.
    pub fn path(&self, span: Span) -> String {
        self.get(span.file())
            .map_or_else(String::new, |file| file.path().to_owned())
    }
}

/// Text from a file made safe for a terminal: control characters (including ESC and C1), bidirectional
/// overrides and zero-width characters become visible replacements. Tabs and line breaks stay.
pub fn sanitize(text: &str) -> String {
    text.chars()
        .map(|c| if is_unsafe(c) { replacement(c) } else { c })
        .collect()
}

/// Like [`sanitize`], but every character keeps its length in bytes, so that spans still fit.
pub fn sanitize_keeping_length(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match (is_unsafe(c), c.len_utf8()) {
            (false, _) => safe.push(c),
            (true, 3) => safe.push('\u{fffd}'),
            (true, 2) => safe.push('\u{00bf}'),
            (true, n) => safe.extend(std::iter::repeat_n('?', n)),
        }
    }
    safe
}

/// True for a character that must not reach a terminal as it is.
pub(crate) fn is_unsafe(c: char) -> bool {
    match c {
        '\t' | '\n' => false,
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

fn replacement(c: char) -> char {
    if c.is_ascii() { '?' } else { '\u{fffd}' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_moved_inside_the_text_and_onto_character_boundaries() {
        let file = SourceFile::new(FileId(0), "a", "aé漢");
        assert_eq!(file.slice(file.span(2..4)), "é漢");
        assert_eq!(file.slice(file.span(4..900)), "漢");
        assert_eq!(file.slice(file.span(70..80)), "");
    }

    #[test]
    fn columns_count_code_points_and_skip_a_byte_order_mark() {
        let file = SourceFile::new(FileId(0), "a", "\u{feff}é: 1\r\nb: 漢 2\n");
        assert_eq!(
            file.position(5),
            Position {
                line: 1,
                column: 2,
                byte: 5
            }
        );
        let two = file.text().rfind('2').unwrap();
        assert_eq!(
            file.position(two),
            Position {
                line: 2,
                column: 6,
                byte: two
            }
        );
        assert_eq!(file.line_text(1), "\u{feff}é: 1");
        assert_eq!(file.line_count(), 3);
    }

    #[test]
    fn control_characters_never_survive_and_lengths_can_be_kept() {
        let hostile = "a\u{1b}[31mb\u{202e}c\u{9b}d\r\ne\tf\u{e0041}";
        assert_eq!(sanitize(hostile), "a?[31mb\u{fffd}c\u{fffd}d?\ne\tf\u{fffd}");
        let kept = sanitize_keeping_length(hostile);
        assert_eq!(kept.len(), hostile.len());
        assert!(!kept.chars().any(|c| c.is_control() && c != '\t' && c != '\n'));
    }
}
