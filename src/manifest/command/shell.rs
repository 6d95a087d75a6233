//! The grammar of shell scripts, as far as it takes to find commands: words with ranges, operators, here-documents.
//!
//! In: a text. Out: [`Item`]s in the order of the text, words still unexpanded. Nothing is evaluated here and no
//! script is refused: what is not understood is passed over, an unclosed quote ends with the text. Every pass is
//! linear in the text.

use std::ops::Range;

use super::grammar::Grammar;
use super::interpolation::{Reference, name_at};
use super::lexer::{Lexer, Token};
use super::text::Text;

/// A part of a word.
#[derive(Debug, Clone)]
pub(super) enum Segment {
    /// Characters as they stand.
    Plain(Range<usize>),
    /// `$NAME`, `${NAME...}`.
    Reference(Range<usize>, Reference),
    /// `$1`, `$@`, `$#`, ...
    Positional(Range<usize>, char),
    /// `$(...)` and `` `...` ``, with the body.
    Substitution(Range<usize>, Range<usize>),
    /// `$((...))`, with the body.
    Arithmetic(Range<usize>, Range<usize>),
    /// A reference that is not understood.
    Opaque(Range<usize>),
}

impl Segment {
    /// Its characters.
    pub(super) fn range(&self) -> Range<usize> {
        match self {
            Self::Plain(range)
            | Self::Reference(range, _)
            | Self::Positional(range, _)
            | Self::Substitution(range, _)
            | Self::Arithmetic(range, _)
            | Self::Opaque(range) => range.clone(),
        }
    }
}

/// A word as written.
#[derive(Debug, Clone, Default)]
pub(super) struct RawWord {
    /// Its parts, each with whether it stands in quotes.
    pub segments: Vec<(Segment, bool)>,
    /// All its characters, quotes included.
    pub range: Range<usize>,
    /// The elements of `NAME=(...)`.
    pub elements: Option<Vec<RawWord>>,
}

impl RawWord {
    /// The word where it is plain characters without quotes.
    pub(super) fn bare<'t>(&self, value: &'t str) -> Option<&'t str> {
        match self.segments.as_slice() {
            [(Segment::Plain(range), false)] if self.elements.is_none() => value.get(range.clone()),
            _ => None,
        }
    }

    /// Adds characters.
    pub(super) fn plain(&mut self, range: Range<usize>, quoted: bool) {
        if let Some((Segment::Plain(last), same)) = self.segments.last_mut()
            && *same == quoted
            && last.end == range.start
        {
            last.end = range.end;
            return;
        }
        self.segments.push((Segment::Plain(range), quoted));
    }

    /// `NAME=` or `NAME+=` at the beginning of the word: the name, whether it adds, and where the value begins.
    pub(super) fn assignment(&self, value: &str) -> Option<(String, bool, usize)> {
        let (Segment::Plain(range), false) = self.segments.first()? else {
            return None;
        };
        let name = name_at(value, range.start, |_| false)?;
        let rest = value.get(name.end..range.end)?;
        let (adds, width) = match rest {
            _ if rest.starts_with("+=") => (true, 2),
            _ if rest.starts_with('=') => (false, 1),
            _ => return None,
        };
        Some((value.get(name.clone())?.to_owned(), adds, name.end + width))
    }
}

/// `> FILE`, `<< END` and the like.
#[derive(Debug, Clone)]
pub(super) enum Redirect {
    /// To a file.
    Output(RawWord),
    /// A here-document: its lines, and whether references in it are replaced.
    Here { body: Text, expands: bool },
    /// From a file, or between descriptors.
    Other,
}

/// One command without its operators.
#[derive(Debug, Clone, Default)]
pub(super) struct Simple {
    pub words: Vec<RawWord>,
    pub redirects: Vec<Redirect>,
    /// `!` stands in front.
    pub negated: bool,
}

/// A piece of a script.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Command(Simple),
    /// `|`
    Pipe,
    /// `||`
    Or,
    /// `&&`
    And,
    /// `;`, `&` and line ends.
    Next,
    /// `if`, `case`, `while`, `until`: what follows may or may not run. True for an `if`, whose test may decide.
    Open(bool),
    /// `then`: what stands before it decides.
    Then,
    /// `else`, `elif`, the next pattern of a `case`.
    Other,
    /// The end of the innermost `Open`.
    Close,
    /// `for NAME in WORDS`; the body goes up to the item `end`.
    For {
        name: String,
        words: Vec<RawWord>,
        end: usize,
    },
    /// `done` of a `for`.
    Done,
    /// `NAME() {`; the body goes up to the item `end`.
    Function {
        name: String,
        end: usize,
    },
}

/// A script read.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub items: Vec<Item>,
    /// Places and sentences.
    pub problems: Vec<(Range<usize>, String)>,
}

/// Reads a script.
pub(super) fn read(text: &Text) -> Script {
    let mut lexer = Lexer::new(text);
    lexer.run();
    let problems = std::mem::take(&mut lexer.problems);
    let items = Grammar::new(text.value(), lexer.tokens).run();
    Script { items, problems }
}

/// Reads one line that no shell sees: words and quotes mean what they mean in a script, the rest is characters.
/// Line ends are blanks, and lines that begin with `#` are left out.
pub(super) fn read_line(text: &Text) -> Script {
    let mut lexer = Lexer::new(text);
    lexer.line = true;
    lexer.run();
    let words = lexer.tokens.into_iter().filter_map(|token| match token {
        Token::Word(word) => Some(word),
        _ => None,
    });
    let simple = Simple {
        words: words.collect(),
        ..Simple::default()
    };
    Script {
        items: vec![Item::Command(simple)],
        problems: lexer.problems,
    }
}
