//! The grammar of shell scripts, as far as it takes to find commands: words with ranges, operators, here-documents.
//!
//! In: a text. Out: [`Item`]s in the order of the text, words still unexpanded. Nothing is evaluated here and no
//! script is refused: what is not understood is passed over, an unclosed quote ends with the text. Every pass is
//! linear in the text.

use std::ops::Range;

use super::interpolation::{Reference, Syntax, braced, name_at};
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
    fn bare<'t>(&self, value: &'t str) -> Option<&'t str> {
        match self.segments.as_slice() {
            [(Segment::Plain(range), false)] if self.elements.is_none() => value.get(range.clone()),
            _ => None,
        }
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
    /// `if`, `case`, `while`, `until`: what follows may or may not run.
    Open,
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
        redirects: Vec::new(),
    };
    Script {
        items: vec![Item::Command(simple)],
        problems: lexer.problems,
    }
}

#[derive(Debug)]
enum Token {
    Word(RawWord),
    Redirect(Redirect),
    /// `;` and the like, with its first character.
    Operator(&'static str, usize),
    Newline,
}

struct Lexer<'t> {
    text: &'t Text,
    value: &'t str,
    bytes: &'t [u8],
    /// True where a part of the text is sealed.
    sealed: bool,
    /// True for a line that no shell sees: operators are characters.
    line: bool,
    at: usize,
    tokens: Vec<Token>,
    /// Here-documents whose lines have not come yet: the token, the delimiter, whether tabs are stripped.
    pending: Vec<(usize, String, bool)>,
    problems: Vec<(Range<usize>, String)>,
}

/// Longest first.
const OPERATORS: [&str; 13] = [
    ";;&", ";;", ";&", "&&", "||", "|&", "&>>", "&>", ";", "&", "|", "(", ")",
];
const REDIRECTS: [&str; 9] = ["<<<", "<<-", "<<", "<&", "<>", ">>", ">&", ">|", ">"];

impl<'t> Lexer<'t> {
    fn new(text: &'t Text) -> Self {
        let value = text.value();
        Self {
            text,
            value,
            bytes: value.as_bytes(),
            sealed: text.has_sealed(),
            line: false,
            at: 0,
            tokens: Vec::new(),
            pending: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn starts(&self, what: &str) -> bool {
        self.value
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(what))
    }

    fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\\' if self.line_break_after(1).is_some() => self.skip_continuation(),
                b'\n' => {
                    self.at += 1;
                    self.tokens.push(Token::Newline);
                    self.here_documents();
                }
                b'#' => self.comment(),
                _ => self.token(),
            }
        }
    }

    /// The width of a line break that stands `ahead` bytes from here.
    fn line_break_after(&self, ahead: usize) -> Option<usize> {
        match (self.peek(ahead), self.peek(ahead + 1)) {
            (Some(b'\n'), _) => Some(1),
            (Some(b'\r'), Some(b'\n')) => Some(2),
            _ => None,
        }
    }

    fn skip_continuation(&mut self) {
        self.at += 1 + self.line_break_after(1).unwrap_or(0);
    }

    fn comment(&mut self) {
        let rest = self.value.get(self.at..).unwrap_or("");
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    fn token(&mut self) {
        if self.line {
            let word = self.word(false);
            self.tokens.push(Token::Word(word));
            return;
        }
        let digits = (0..3)
            .take_while(|ahead| self.peek(*ahead).is_some_and(|b| b.is_ascii_digit()))
            .count();
        if matches!(self.peek(digits), Some(b'<' | b'>')) && self.sealed_here().is_none() {
            self.at += digits;
            self.redirect();
            return;
        }
        let start = self.at;
        match OPERATORS.iter().find(|operator| self.starts(operator)) {
            Some(operator @ (&"&>" | &"&>>")) => {
                self.at += operator.len();
                self.target();
            }
            Some(operator) => {
                self.at += operator.len();
                self.tokens.push(Token::Operator(operator, start));
            }
            None => {
                let word = self.word(false);
                // A character that nothing claims must not hold the reading up.
                if self.at == start {
                    self.at += 1;
                    return;
                }
                self.tokens.push(Token::Word(word));
            }
        }
    }

    fn redirect(&mut self) {
        let Some(operator) = REDIRECTS.iter().find(|operator| self.starts(operator)) else {
            // `<(...)` and a plain `<`.
            self.at += 1;
            if self.peek(0) != Some(b'(') {
                self.target_word();
                self.tokens.push(Token::Redirect(Redirect::Other));
            }
            return;
        };
        self.at += operator.len();
        match *operator {
            "<<" | "<<-" => self.here(*operator == "<<-"),
            "<<<" | "<&" | ">&" => {
                self.target_word();
                self.tokens.push(Token::Redirect(Redirect::Other));
            }
            _ => self.target(),
        }
    }

    fn target(&mut self) {
        if let Some(word) = self.target_word() {
            self.tokens.push(Token::Redirect(Redirect::Output(word)));
        }
    }

    fn target_word(&mut self) -> Option<RawWord> {
        while matches!(self.peek(0), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let start = self.at;
        let word = self.word(false);
        (self.at > start).then_some(word)
    }

    fn here(&mut self, tabs: bool) {
        let Some(word) = self.target_word() else { return };
        let mut delimiter = String::new();
        let mut expands = true;
        for (segment, quoted) in &word.segments {
            expands &= !quoted;
            if let Segment::Plain(range) = segment {
                delimiter.push_str(self.value.get(range.clone()).unwrap_or(""));
            }
        }
        self.pending.push((self.tokens.len(), delimiter, tabs));
        let body = Text::default();
        self.tokens
            .push(Token::Redirect(Redirect::Here { body, expands }));
    }

    /// Takes the lines of the here-documents that began on the line before.
    fn here_documents(&mut self) {
        for (token, delimiter, tabs) in std::mem::take(&mut self.pending) {
            let start = self.at;
            let mut lines = Text::default();
            let mut closed = false;
            while self.at < self.value.len() && !closed {
                let rest = self.value.get(self.at..).unwrap_or("");
                let len = rest.find('\n').map_or(rest.len(), |at| at + 1);
                let line = rest.get(..len).unwrap_or("");
                let indent = if tabs {
                    line.len() - line.trim_start_matches('\t').len()
                } else {
                    0
                };
                closed = line
                    .get(indent..)
                    .is_some_and(|line| line.trim_end() == delimiter);
                if !closed {
                    lines.push(self.text, self.at + indent..self.at + len);
                }
                self.at += len;
            }
            if !closed {
                let end = self.value.len();
                self.problems.push((
                    start..end,
                    format!("the here-document never ends with `{delimiter}`"),
                ));
            }
            if let Some(Token::Redirect(Redirect::Here { body, .. })) = self.tokens.get_mut(token) {
                *body = lines;
            }
        }
    }

    fn sealed_here(&self) -> Option<usize> {
        if self.sealed {
            self.text.sealed_until(self.at)
        } else {
            None
        }
    }

    /// One word; inside an array `)` ends it as everywhere.
    fn word(&mut self, element: bool) -> RawWord {
        let mut word = RawWord {
            range: self.at..self.at,
            ..RawWord::default()
        };
        while let Some(byte) = self.peek(0) {
            let start = self.at;
            if let Some(end) = self.sealed_here() {
                word.plain(start..end, true);
                self.at = end;
                continue;
            }
            match byte {
                b'\'' => self.single_quotes(&mut word),
                b'"' => self.double_quotes(&mut word),
                b'\\' => self.escape(&mut word),
                b'$' if matches!(self.peek(1), Some(b'\'' | b'"')) => self.at += 1,
                b'$' => self.dollar(&mut word, false),
                b'`' => self.backticks(&mut word, false),
                b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' if self.line => {
                    self.at += 1;
                    word.plain(start..self.at, false);
                }
                b'(' if !element && self.opens_array(&word) => {
                    word.elements = Some(self.array());
                    break;
                }
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' => break,
                _ => self.characters(&mut word),
            }
        }
        word.range.end = self.at;
        word
    }

    fn opens_array(&self, word: &RawWord) -> bool {
        word.assignment(self.value)
            .is_some_and(|(.., begins)| begins == self.at && word.segments.len() == 1)
    }

    fn array(&mut self) -> Vec<RawWord> {
        let mut elements = Vec::new();
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            match byte {
                b')' => {
                    self.at += 1;
                    break;
                }
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'\\' if self.line_break_after(1).is_some() => self.skip_continuation(),
                b'#' => self.comment(),
                _ => {
                    let start = self.at;
                    let word = self.word(true);
                    if self.at == start {
                        self.at += 1;
                    } else {
                        elements.push(word);
                    }
                }
            }
        }
        elements
    }

    /// Plain characters up to the next one that means something.
    fn characters(&mut self, word: &mut RawWord) {
        let start = self.at;
        let stops = |byte: &u8| {
            matches!(
                byte,
                b' ' | b'\t'
                    | b'\r'
                    | b'\n'
                    | b';'
                    | b'&'
                    | b'|'
                    | b'<'
                    | b'>'
                    | b'('
                    | b')'
                    | b'\''
                    | b'"'
                    | b'\\'
                    | b'$'
                    | b'`'
            )
        };
        while self.bytes.get(self.at).is_some_and(|byte| !stops(byte))
            && (self.at == start || self.sealed_here().is_none())
        {
            self.at += 1;
        }
        word.plain(start..self.at, false);
    }

    fn escape(&mut self, word: &mut RawWord) {
        if self.line_break_after(1).is_some() {
            self.skip_continuation();
            return;
        }
        let start = self.at + 1;
        let width = self
            .value
            .get(start..)
            .and_then(|rest| rest.chars().next())
            .map_or(0, char::len_utf8);
        word.plain(start..start + width, true);
        self.at = start + width;
    }

    fn single_quotes(&mut self, word: &mut RawWord) {
        let start = self.at + 1;
        let rest = self.value.get(start..).unwrap_or("");
        let len = rest.find('\'').unwrap_or_else(|| {
            self.problems.push((
                self.at..self.value.len(),
                "the quote `'` is never closed".to_owned(),
            ));
            rest.len()
        });
        word.plain(start..start + len, true);
        self.at = (start + len + 1).min(self.value.len());
    }

    fn double_quotes(&mut self, word: &mut RawWord) {
        let open = self.at;
        self.at += 1;
        let before = word.segments.len();
        while let Some(byte) = self.peek(0) {
            let start = self.at;
            if let Some(end) = self.sealed_here() {
                word.plain(start..end, true);
                self.at = end;
                continue;
            }
            match byte {
                b'"' => {
                    if word.segments.len() == before {
                        word.plain(start..start, true);
                    }
                    self.at += 1;
                    return;
                }
                b'\\' if matches!(self.peek(1), Some(b'"' | b'\\' | b'$' | b'`' | b'\n' | b'\r')) => {
                    self.escape(word);
                }
                b'$' => self.dollar(word, true),
                b'`' => self.backticks(word, true),
                _ => {
                    self.at += 1;
                    while self
                        .bytes
                        .get(self.at)
                        .is_some_and(|b| !matches!(b, b'"' | b'\\' | b'$' | b'`'))
                    {
                        self.at += 1;
                    }
                    word.plain(start..self.at, true);
                }
            }
        }
        self.problems.push((
            open..self.value.len(),
            "the quote `\"` is never closed".to_owned(),
        ));
    }

    fn dollar(&mut self, word: &mut RawWord, quoted: bool) {
        let start = self.at;
        let segment = match self.peek(1) {
            Some(b'(') if self.peek(2) == Some(b'(') => {
                let end = self.closing(start + 2, b'(', b')');
                let body = start + 3..end.saturating_sub(2).max(start + 3);
                self.at = end;
                Segment::Arithmetic(start..end, body)
            }
            Some(b'(') => {
                let end = self.closing(start + 2, b'(', b')');
                self.at = end;
                Segment::Substitution(start..end, start + 2..end.saturating_sub(1).max(start + 2))
            }
            Some(b'{') => self.braces(start),
            Some(c @ (b'@' | b'*' | b'#' | b'?' | b'$' | b'!' | b'-' | b'0'..=b'9')) => {
                self.at += 2;
                Segment::Positional(start..self.at, char::from(c))
            }
            _ => match name_at(self.value, start + 1, |_| false) {
                Some(name) => {
                    self.at = name.end;
                    let end = name.end;
                    Segment::Reference(
                        start..end,
                        Reference {
                            name,
                            operator: None,
                            end,
                        },
                    )
                }
                None => {
                    self.at += 1;
                    Segment::Plain(start..self.at)
                }
            },
        };
        word.segments.push((segment, quoted));
    }

    fn braces(&mut self, start: usize) -> Segment {
        if let Some(reference) = braced(self.value, start + 2, Syntax::Shell) {
            self.at = reference.end;
            return Segment::Reference(start..reference.end, reference);
        }
        let rest = self.value.get(start + 2..).unwrap_or("");
        let near = rest
            .bytes()
            .take(MAX_OPAQUE)
            .position(|byte| matches!(byte, b'}' | b'\n'));
        let inside = near.filter(|len| rest.as_bytes().get(*len) == Some(&b'}'));
        let Some(len) = inside else {
            self.at += 2;
            return Segment::Opaque(start..self.at);
        };
        self.at = start + len + 3;
        let mut chars = rest.get(..len).unwrap_or("").chars();
        match (chars.next(), chars.next()) {
            (Some(c @ ('@' | '*' | '0'..='9')), None) => Segment::Positional(start..self.at, c),
            _ => Segment::Opaque(start..self.at),
        }
    }

    fn backticks(&mut self, word: &mut RawWord, quoted: bool) {
        let start = self.at;
        let rest = self.value.get(start + 1..).unwrap_or("");
        let len = rest.find('`').unwrap_or(rest.len());
        self.at = (start + len + 2).min(self.value.len());
        let body = start + 1..start + 1 + len;
        word.segments
            .push((Segment::Substitution(start..self.at, body), quoted));
    }

    /// One past the bracket that closes one opened before `from`; the end of the text where none does.
    fn closing(&self, from: usize, open: u8, close: u8) -> usize {
        let (mut at, mut depth) = (from, 1_usize);
        let mut quote = None;
        while let Some(byte) = self.bytes.get(at) {
            at += 1;
            match (*byte, quote) {
                (b'\\', None | Some(b'"')) => at += 1,
                (byte, Some(q)) if byte == q => quote = None,
                (b'\'' | b'"', None) => quote = Some(*byte),
                (byte, None) if byte == open => depth += 1,
                (byte, None) if byte == close => {
                    depth -= 1;
                    if depth == 0 {
                        return at;
                    }
                }
                _ => {}
            }
        }
        self.value.len()
    }
}

impl RawWord {
    fn plain(&mut self, range: Range<usize>, quoted: bool) {
        if let Some((Segment::Plain(last), same)) = self.segments.last_mut()
            && *same == quoted
            && last.end == range.start
        {
            last.end = range.end;
            return;
        }
        self.segments.push((Segment::Plain(range), quoted));
    }
}

/// Puts tokens together to items.
struct Grammar<'t> {
    value: &'t str,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    items: Vec<Item>,
    /// Constructs that are open.
    open: Vec<Construct>,
    simple: Simple,
}

/// Longest `${...}` that begins with no name, in bytes.
const MAX_OPAQUE: usize = 64;
/// Constructs inside each other that are told apart.
const MAX_NESTING: usize = 100;

/// A construct that some word closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Construct {
    /// `if`, `while`, `until`, `select`.
    Branches,
    Case,
    /// The item of the `for`.
    For(usize),
    /// A `{`, with the item of its function where it is a function's body.
    Brace(Option<usize>),
}

impl<'t> Grammar<'t> {
    fn new(value: &'t str, tokens: Vec<Token>) -> Self {
        Self {
            value,
            tokens: tokens.into_iter().peekable(),
            items: Vec::new(),
            open: Vec::new(),
            simple: Simple::default(),
        }
    }

    fn run(mut self) -> Vec<Item> {
        while let Some(token) = self.tokens.next() {
            match token {
                Token::Word(word) => self.word(word),
                Token::Redirect(redirect) => self.simple.redirects.push(redirect),
                Token::Newline => self.end(Item::Next),
                Token::Operator(operator, at) => self.operator(operator, at),
            }
        }
        self.end(Item::Next);
        for construct in std::mem::take(&mut self.open).into_iter().rev() {
            self.close_at(construct);
        }
        self.items
    }

    /// Ends the command that is being read.
    fn end(&mut self, after: Item) {
        let simple = std::mem::take(&mut self.simple);
        if !simple.words.is_empty() || !simple.redirects.is_empty() {
            self.items.push(Item::Command(simple));
            self.items.push(after);
        } else if !matches!(after, Item::Next) {
            self.items.push(after);
        }
    }

    fn word(&mut self, word: RawWord) {
        let bare = if self.simple.words.is_empty() {
            word.bare(self.value)
        } else {
            None
        };
        match bare {
            Some(bare) if self.keyword(bare) => {}
            Some("[[") => {
                self.simple.words.push(word);
                self.double_brackets();
            }
            Some(name) if matches!(self.tokens.peek(), Some(Token::Operator("(", _))) => {
                self.tokens.next();
                if matches!(self.tokens.peek(), Some(Token::Operator(")", _))) {
                    self.tokens.next();
                    self.function(name.to_owned());
                }
            }
            _ => self.simple.words.push(word),
        }
    }

    /// `[[ ... ]]` is one command whatever stands in it.
    fn double_brackets(&mut self) {
        for token in self.tokens.by_ref() {
            match token {
                Token::Word(word) => {
                    let last = word.bare(self.value) == Some("]]");
                    self.simple.words.push(word);
                    if last {
                        return;
                    }
                }
                Token::Newline => return,
                Token::Redirect(_) | Token::Operator(..) => {}
            }
        }
    }

    /// True when a word at the beginning of a command is one of the grammar's.
    fn keyword(&mut self, word: &str) -> bool {
        match word {
            "if" | "while" | "until" => self.begin(Construct::Branches),
            "then" | "do" | "!" | "time" => {}
            "else" | "elif" => self.items.push(Item::Other),
            "fi" => self.close(|open| open == Construct::Branches),
            "done" => self.close(|open| matches!(open, Construct::Branches | Construct::For(_))),
            "esac" => self.close(|open| open == Construct::Case),
            "{" => {
                self.push(Construct::Brace(None));
            }
            "}" => self.close(|open| matches!(open, Construct::Brace(_))),
            "for" | "select" => self.for_loop(),
            "case" => self.case(),
            "function" => {
                if let Some(name) = self.next_bare() {
                    while matches!(self.tokens.peek(), Some(Token::Operator("(" | ")", _))) {
                        self.tokens.next();
                    }
                    self.function(name);
                }
            }
            _ => return false,
        }
        true
    }

    fn begin(&mut self, construct: Construct) {
        if self.push(construct) {
            self.items.push(Item::Open);
        }
    }

    /// False where constructs are nested deeper than anyone writes; the deepest are then not told apart.
    fn push(&mut self, construct: Construct) -> bool {
        let room = self.open.len() < MAX_NESTING;
        if room {
            self.open.push(construct);
        }
        room
    }

    /// Closes the innermost construct that `matches`, and what was left open inside of it.
    fn close(&mut self, matches: impl Fn(Construct) -> bool) {
        let Some(at) = self.open.iter().rposition(|open| matches(*open)) else {
            return;
        };
        for construct in self.open.split_off(at).into_iter().rev() {
            self.close_at(construct);
        }
    }

    fn close_at(&mut self, construct: Construct) {
        match construct {
            Construct::Branches | Construct::Case => self.items.push(Item::Close),
            Construct::For(item) => {
                let end = self.items.len();
                if let Some(Item::For { end: known, .. }) = self.items.get_mut(item) {
                    *known = end;
                }
                self.items.push(Item::Done);
            }
            Construct::Brace(Some(item)) => {
                let end = self.items.len();
                if let Some(Item::Function { end: known, .. }) = self.items.get_mut(item) {
                    *known = end;
                }
            }
            Construct::Brace(None) => {}
        }
    }

    fn function(&mut self, name: String) {
        while matches!(self.tokens.peek(), Some(Token::Newline)) {
            self.tokens.next();
        }
        if self.next_is("{") {
            self.tokens.next();
            if !self.push(Construct::Brace(Some(self.items.len()))) {
                return;
            }
            self.items.push(Item::Function {
                name,
                end: usize::MAX,
            });
        }
    }

    fn next_is(&mut self, wanted: &str) -> bool {
        let value = self.value;
        matches!(self.tokens.peek(), Some(Token::Word(word)) if word.bare(value) == Some(wanted))
    }

    fn next_bare(&mut self) -> Option<String> {
        let value = self.value;
        let bare = match self.tokens.peek() {
            Some(Token::Word(word)) => word.bare(value).map(str::to_owned),
            _ => None,
        };
        if bare.is_some() {
            self.tokens.next();
        }
        bare
    }

    fn for_loop(&mut self) {
        let Some(name) = self.next_bare() else {
            // `for ((...))`
            self.begin(Construct::Branches);
            return;
        };
        let mut words = Vec::new();
        if self.next_is("in") {
            self.tokens.next();
            while let Some(Token::Word(_)) = self.tokens.peek() {
                if let Some(Token::Word(word)) = self.tokens.next() {
                    words.push(word);
                }
            }
        }
        if !self.push(Construct::For(self.items.len())) {
            return;
        }
        let end = usize::MAX;
        self.items.push(Item::For { name, words, end });
    }

    fn case(&mut self) {
        self.begin(Construct::Case);
        while let Some(token) = self.tokens.peek() {
            let value = self.value;
            let last = matches!(token, Token::Word(word) if word.bare(value) == Some("in"));
            if matches!(token, Token::Newline) {
                return;
            }
            self.tokens.next();
            if last {
                break;
            }
        }
        self.pattern();
    }

    /// Passes over the pattern of a `case`, up to its `)`.
    fn pattern(&mut self) {
        while matches!(self.tokens.peek(), Some(Token::Newline)) {
            self.tokens.next();
        }
        if self.next_is("esac") {
            return;
        }
        while let Some(token) = self.tokens.peek() {
            let last = matches!(token, Token::Operator(")", _));
            if matches!(token, Token::Newline) {
                return;
            }
            self.tokens.next();
            if last {
                return;
            }
        }
    }

    fn operator(&mut self, operator: &str, at: usize) {
        match operator {
            "|" | "|&" => self.end(Item::Pipe),
            "||" => self.end(Item::Or),
            "&&" => self.end(Item::And),
            ";;" | ";&" | ";;&" => {
                self.end(Item::Next);
                if self.open.contains(&Construct::Case) {
                    self.items.push(Item::Other);
                    self.pattern();
                }
            }
            "(" if matches!(self.tokens.peek(), Some(Token::Operator("(", next)) if *next == at + 1) => {
                self.end(Item::Next);
                self.arithmetic();
            }
            _ => self.end(Item::Next),
        }
    }

    /// `((...))` as a command holds no commands.
    fn arithmetic(&mut self) {
        let mut depth = 1_usize;
        for token in self.tokens.by_ref() {
            match token {
                Token::Operator("(", _) => depth += 1,
                Token::Operator(")", _) => depth -= 1,
                Token::Newline => return,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}
