//! A script cut into words, operators, redirections and here-documents.
//!
//! In: a text. Out: [`Token`]s in its order. References without a value (sealed parts of the text) are plain
//! characters here. Every byte is looked at a bounded number of times, whatever the text.

use std::ops::Range;

use super::interpolation::{Reference, Syntax, braced, name_at};
use super::shell::{RawWord, Redirect, Segment};
use super::text::Text;

/// Problems that are kept of one script.
const MAX_PROBLEMS: usize = 20;
/// Longest `${...}` that begins with no name, in bytes.
const MAX_OPAQUE: usize = 64;

/// A piece of a script's text.
#[derive(Debug)]
pub(super) enum Token {
    Word(RawWord),
    Redirect(Redirect),
    /// `;` and the like, with its first character.
    Operator(&'static str, usize),
    Newline,
}

/// Reads tokens.
pub(super) struct Lexer<'t> {
    text: &'t Text,
    value: &'t str,
    bytes: &'t [u8],
    /// True where a part of the text is sealed.
    sealed: bool,
    /// True for a line that no shell sees: operators are characters.
    pub line: bool,
    at: usize,
    pub tokens: Vec<Token>,
    /// Here-documents whose lines have not come yet: the token, the delimiter, whether tabs are stripped.
    pending: Vec<(usize, String, bool)>,
    pub problems: Vec<(Range<usize>, String)>,
}

/// Longest first.
const OPERATORS: [&str; 13] = [
    ";;&", ";;", ";&", "&&", "||", "|&", "&>>", "&>", ";", "&", "|", "(", ")",
];
const REDIRECTS: [&str; 9] = ["<<<", "<<-", "<<", "<&", "<>", ">>", ">&", ">|", ">"];

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t Text) -> Self {
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

    pub(super) fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\\' if self.line_break_after(1).is_some() => self.skip_continuation(),
                b'\\' if self.blank_before_flag() => self.at += 2,
                b'\n' if self.flag_on_next_line() => self.at += 1,
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

    /// The flag that begins `ahead` bytes from here, after blanks.
    fn flag_after(&self, ahead: usize) -> Option<&'t str> {
        let rest = self.value.get(self.at + ahead..)?.trim_start_matches([' ', '\t']);
        let name = rest.trim_start_matches('-');
        (name.len() < rest.len() && name.starts_with(|c: char| c.is_ascii_alphabetic())).then(|| {
            rest.split([' ', '\t', '\r', '\n', '=', '\\'])
                .next()
                .unwrap_or("")
        })
    }

    /// A `\` in front of a blank and a flag is left over from a line that was folded into the next.
    fn blank_before_flag(&mut self) -> bool {
        let Some(flag) = self.flag_after(1).filter(|_| self.peek(1) == Some(b' ')) else {
            return false;
        };
        let sentence =
            format!("a `\\` before a blank makes the blank a part of `{flag}`: folded lines need none");
        self.complain(self.at..self.at + 2, sentence);
        true
    }

    /// No command begins with a flag: a line that does was meant to go on from the one before.
    fn flag_on_next_line(&mut self) -> bool {
        let goes_on = matches!(self.tokens.last(), Some(Token::Word(_))) && self.pending.is_empty();
        let Some(flag) = self.flag_after(1).filter(|_| goes_on) else {
            return false;
        };
        if !self.line {
            let sentence =
                format!("a shell takes `{flag}` for a command: the line before does not end with `\\`");
            self.complain(self.at..self.at + 1, sentence);
        }
        true
    }

    fn complain(&mut self, range: Range<usize>, sentence: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((range, sentence));
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
        let redirects = matches!(self.peek(digits), Some(b'<' | b'>')) && self.stand_in().is_none();
        if redirects && self.sealed_here().is_none() {
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
                self.complain(
                    start..end,
                    format!("the here-document never ends with `{delimiter}`"),
                );
            }
            if let Some(Token::Redirect(Redirect::Here { body, .. })) = self.tokens.get_mut(token) {
                *body = lines;
            }
        }
    }

    /// The end of `<model-path>`, which is a value to be filled in. A shell would read from a file of that name, and
    /// nobody means it to.
    fn stand_in(&self) -> Option<usize> {
        let rest = self.value.get(self.at..)?.strip_prefix('<')?;
        let (name, after) = rest.split_once('>')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        let stands = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(is_name)
            && !after.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '&' | '>' | '$' | '/'));
        stands.then(|| self.at + name.len() + 2)
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
            if let Some(end) = self.stand_in() {
                word.plain(start..end, false);
                self.at = end;
                continue;
            }
            match byte {
                b'\'' => self.single_quotes(&mut word),
                b'"' => self.double_quotes(&mut word),
                b'\\' if self.line && self.is_path_separator() => {
                    self.at += 1;
                    word.plain(start..self.at, false);
                }
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

    /// The backslash of `C:\models\x.gguf`, where no shell would take it for an escape.
    fn is_path_separator(&self) -> bool {
        let word =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.' | b'_' | b'-' | b')');
        let before = self.at.checked_sub(1).and_then(|at| self.bytes.get(at)).copied();
        before.is_some_and(word) && self.peek(1).is_some_and(word)
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
            self.complain(
                self.at..self.value.len(),
                "the quote `'` is never closed".to_owned(),
            );
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
        self.complain(
            open..self.value.len(),
            "the quote `\"` is never closed".to_owned(),
        );
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
