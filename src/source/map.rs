//! Where the characters of a decoded scalar stand in the file.
//!
//! A scalar's value may differ from its source: escapes, line folding, the indentation of a block. A
//! [`ScalarMap`] leads from an offset in the value back to the byte of the file, so that a message can point
//! at one word inside a quoted or folded text.

use std::ops::Range;

use super::{SourceFile, Span};

/// Leads from offsets in a scalar's value to spans in its file.
#[derive(Debug)]
pub struct ScalarMap {
    /// For each byte of the value (and one past it) the byte of the file.
    places: Vec<usize>,
}

impl ScalarMap {
    /// Lines `value` up with its source characters. Each character of the value is looked for from where the
    /// last one ended; a folded space or line break stands for the line break it came from, and a character
    /// that an escape made stands at the escape.
    pub fn new(file: &SourceFile, span: Span, value: &str) -> Self {
        let source = file.slice(span);
        let quote = quote_of(source, value);
        let mut at = usize::from(quote.is_some());
        let mut places = Vec::with_capacity(value.len() + 1);
        for c in value.chars() {
            at = seek(source, at, c, quote);
            let width = source.get(at..).map_or(0, |rest| consumed(rest, quote));
            places.extend(std::iter::repeat_n(span.start() + at, c.len_utf8()));
            at += width;
        }
        places.push(span.start() + at);
        Self { places }
    }

    /// The byte of the value that stands at a byte of the file, or the next one where that byte is none of its.
    pub fn offset(&self, place: usize) -> Option<usize> {
        let at = self.places.partition_point(|known| *known < place);
        (at < self.places.len()).then_some(at)
    }

    /// The span of a range of the value, measured in bytes of the value.
    pub fn span(&self, file: &SourceFile, range: Range<usize>) -> Span {
        let last = self.places.last().copied().unwrap_or(0);
        let place = |offset: usize| self.places.get(offset).copied().unwrap_or(last);
        let start = place(range.start);
        // The end follows the last character of the range, not the next one: indentation may lie between.
        let end = if range.end > range.start {
            let before = place(range.end - 1);
            let width = file
                .text()
                .get(before..)
                .and_then(|rest| rest.chars().next())
                .map_or(0, char::len_utf8);
            (before + width).max(start)
        } else {
            start
        };
        file.span(start..end)
    }
}

/// The quote a scalar is written in. A plain or block scalar may begin with a quote of its own, which is then
/// the first character of the value too; in a quoted scalar that character would be escaped.
fn quote_of(source: &str, value: &str) -> Option<char> {
    let quote = source.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let escaped = if quote == '"' { "\"\\" } else { "'''" };
    (!value.starts_with(quote) || source.starts_with(escaped)).then_some(quote)
}

/// Where in `source`, from `at` on, the character `c` of the value comes from.
fn seek(source: &str, at: usize, c: char, quote: Option<char>) -> usize {
    let Some(rest) = source.get(at..) else { return at };
    if rest.starts_with(c) || (quote == Some('"') && rest.starts_with('\\')) {
        return at;
    }
    if c == ' ' || c == '\n' {
        // Folding turned a line break into this character; trailing blanks before it are dropped.
        return rest.find('\n').map_or(at, |offset| at + offset);
    }
    // Only line breaks, indentation and comment-free blanks can lie between two characters of a value.
    let skipped = rest
        .find(|other: char| !other.is_whitespace())
        .unwrap_or(rest.len());
    at + skipped
}

/// How many bytes of the source one character of the value takes.
fn consumed(rest: &str, quote: Option<char>) -> usize {
    let mut chars = rest.chars();
    match chars.next() {
        Some('\\') if quote == Some('"') => match chars.next() {
            Some('x') => 4,
            Some('u') => 6,
            Some('U') => 10,
            Some(escaped) => 1 + escaped.len_utf8(),
            None => 1,
        },
        Some('\'') if quote == Some('\'') && rest.starts_with("''") => 2,
        Some(first) => first.len_utf8(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{FileId, tree::Tree};

    fn word(text: &str, needle: &str) -> String {
        let file = SourceFile::new(FileId::from_index(0), "t", text);
        let tree = Tree::parse(&file);
        let node = tree.documents[0].root().get("a").unwrap();
        let value = node.text().unwrap();
        let at = value.find(needle).unwrap();
        let map = ScalarMap::new(&file, node.span(), value);
        file.slice(map.span(&file, at..at + needle.len())).to_owned()
    }

    #[test]
    fn a_word_is_found_in_every_style_of_scalar() {
        assert_eq!(word("a: one two three\n", "two"), "two");
        assert_eq!(word("a: 'it''s two'\n", "two"), "two");
        assert_eq!(word("a: \"t\\tab \\u00e9 two\"\n", "two"), "two");
        assert_eq!(word("a: |\n  one\n  two three\n", "two"), "two");
        assert_eq!(word("a: >-\n  one\n  two three\n  four\n", "four"), "four");
        assert_eq!(word("a: one\n  two\n  three\n", "three"), "three");
    }

    #[test]
    fn quotes_and_backslashes_of_a_block_are_characters_like_any_other() {
        assert_eq!(word("a: >-\n  'é' == '' &&\n  two three\n", "two"), "two");
        assert_eq!(word("a: |\n  '' \\n \\\\ two\n", "two"), "two");
        assert_eq!(word("a: '''one'' two'\n", "two"), "two");
        assert_eq!(word("a: \"\\\"one\\\" two\"\n", "two"), "two");
    }
}
