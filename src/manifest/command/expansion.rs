//! Words as written turned into the words that a program gets: variables, arrays, sums and the few substitutions that
//! the files answer. What they do not answer stays as written, sealed (see [`super::interpolation`]).

use std::ops::Range;

use super::interpolation::{self, MAX_BYTES, Syntax};
use super::script::{MAX_DEPTH, Shell};
use super::shell::{self, Item, RawWord, Redirect, Segment};
use super::sums;
use super::text::Text;
use crate::fact::Fact;
use crate::source::Span;

/// A word as a program gets it.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub text: Text,
    /// Its place where that is more than the characters of `text`: quotes, several parts.
    written: Option<Span>,
}

impl Word {
    pub(super) fn new(text: Text) -> Self {
        Self { text, written: None }
    }

    pub(super) fn value(&self) -> &str {
        self.text.value()
    }

    pub(super) fn fact(&self) -> Fact<String> {
        match self.written {
            Some(span) => Fact::at(self.value().to_owned(), span),
            None => self.text.fact(),
        }
    }

    /// The word from a byte on.
    pub(super) fn tail(&self, from: usize) -> Self {
        Self::new(self.text.slice(from..self.value().len()))
    }
}

/// Turns written words into the words that a program gets.
pub(super) struct Expansion<'e> {
    text: &'e Text,
    shell: &'e Shell,
    file: &'e dyn Fn(&str) -> Option<Text>,
    done: Vec<Word>,
    current: Text,
    /// A word has begun, though it may have no characters yet.
    begun: bool,
    /// The value of a reference ended a word: what is written around it is not one word's any more.
    broken: bool,
}

/// What a part of a word stands for.
enum Value {
    One(Text),
    Many(Vec<Word>),
    Open,
}

impl<'e> Expansion<'e> {
    pub(super) fn new(text: &'e Text, shell: &'e Shell, file: &'e dyn Fn(&str) -> Option<Text>) -> Self {
        Self {
            text,
            shell,
            file,
            done: Vec::new(),
            current: Text::default(),
            begun: false,
            broken: false,
        }
    }

    /// The words that one written word becomes; characters before `from` are left out.
    pub(super) fn word(mut self, raw: &RawWord, from: usize) -> Vec<Word> {
        self.segments(raw, from, true);
        let whole = !self.broken && raw.segments.len() > 1;
        self.finish();
        if whole && let [only] = self.done.as_mut_slice() {
            only.written = self.text.place(raw.range.clone());
        }
        self.done
    }

    /// The same without splitting.
    pub(super) fn joined(mut self, raw: &RawWord, from: usize) -> Text {
        self.segments(raw, from, false);
        self.current
    }

    fn segments(&mut self, raw: &RawWord, from: usize, splits: bool) {
        for (segment, quoted) in &raw.segments {
            let range = segment.range();
            if range.end < from || (range.end == from && !range.is_empty()) {
                continue;
            }
            if let Segment::Plain(range) = segment {
                self.begun = true;
                self.current.push(self.text, range.start.max(from)..range.end);
                continue;
            }
            match self.value(segment) {
                Value::Open => {
                    self.begun = true;
                    self.current.push_sealed(self.text, range);
                }
                Value::Many(words) if *quoted && splits => self.spread(&words),
                Value::Many(words) => {
                    let joined = joined(&words);
                    self.put(&joined, &range, *quoted || !splits);
                }
                Value::One(text) => self.put(&text, &range, *quoted || !splits),
            }
        }
    }

    fn put(&mut self, value: &Text, range: &Range<usize>, whole: bool) {
        let room = self.current.value().len() + value.value().len() <= MAX_BYTES;
        if !room {
            self.current.push_sealed(self.text, range.clone());
        } else if whole {
            self.begun = true;
            self.current.push_value(value, self.text, range);
        } else {
            self.split(value, range);
        }
    }

    /// Puts a value that ends words at its blanks.
    fn split(&mut self, value: &Text, range: &Range<usize>) {
        let mut at = 0;
        while at < value.value().len() {
            let rest = value.value().get(at..).unwrap_or("");
            let blank = rest
                .find(char::is_whitespace)
                .map_or(value.value().len(), |len| at + len);
            let end = value
                .sealed_until(at)
                .unwrap_or_else(|| value.next_sealed(at, blank));
            if end > at {
                self.begun = true;
                self.current.push_value(&value.slice(at..end), self.text, range);
                at = end;
                continue;
            }
            self.broken = true;
            self.finish();
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }

    /// `"$@"`: each word is one, the first and last joined to what stands around.
    fn spread(&mut self, words: &[Word]) {
        self.broken = true;
        for (at, word) in words.iter().enumerate() {
            if at > 0 {
                self.finish();
            }
            if self.current.is_empty() && at > 0 || !self.begun {
                self.finish();
                self.done.push(word.clone());
                self.begun = false;
                if at + 1 == words.len() {
                    return;
                }
                continue;
            }
            self.begun = true;
            self.current.push(&word.text, 0..word.value().len());
        }
    }

    fn finish(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.done.push(Word::new(std::mem::take(&mut self.current)));
        }
    }

    fn value(&self, segment: &Segment) -> Value {
        let value = self.text.value();
        let text = |found: Option<Text>| found.map_or(Value::Open, Value::One);
        match segment {
            Segment::Plain(range) => Value::One(self.text.slice(range.clone())),
            Segment::Opaque(_) => Value::Open,
            Segment::Reference(_, reference) => {
                let name = value.get(reference.name.clone()).unwrap_or("");
                if let Some(words) = self.shell.arrays.get(name) {
                    let all = reference
                        .operator
                        .as_ref()
                        .and_then(|(_, word)| value.get(word.clone()));
                    return match all {
                        Some("[@]" | "[*]") => Value::Many(words.clone()),
                        None => text(words.first().map(|word| word.text.clone())),
                        Some(_) => Value::Open,
                    };
                }
                let look = |name: &str| self.shell.variables.look_up(name);
                text(interpolation::resolve(
                    self.text,
                    reference,
                    Syntax::Shell,
                    &look,
                    0,
                ))
            }
            Segment::Positional(_, '@' | '*') => Value::Many(self.shell.positional.clone()),
            Segment::Positional(_, '#') => {
                Value::One(Text::literal(&self.shell.positional.len().to_string()))
            }
            Segment::Positional(_, c) => {
                let at = c.to_digit(10).and_then(|digit| (digit as usize).checked_sub(1));
                let word = at.and_then(|at| self.shell.positional.get(at));
                text(word.map(|word| word.text.clone()))
            }
            Segment::Arithmetic(_, body) => {
                let sum = sums::arithmetic(&self.text.slice(body.clone()), &self.shell.variables);
                text(sum.map(|number| Text::literal(&number.to_string())))
            }
            Segment::Substitution(_, body) => text(self.substitution(body)),
        }
    }

    /// `$(cat FILE)`, `$(cat <<END ...)` and `$(echo WORDS)`; what another command prints only a run would tell.
    fn substitution(&self, body: &Range<usize>) -> Option<Text> {
        let inner = self.text.slice(body.clone());
        if self.shell.depth >= MAX_DEPTH
            || !matches!(inner.value().split_whitespace().next(), Some("cat" | "echo"))
        {
            return None;
        }
        let script = shell::read(&inner);
        let mut commands = script.items.iter().filter(|item| !matches!(item, Item::Next));
        let (Some(Item::Command(simple)), None) = (commands.next(), commands.next()) else {
            return None;
        };
        let mut deeper = self.shell.clone();
        deeper.depth += 1;
        let expand = |raw: &RawWord| Expansion::new(&inner, &deeper, self.file).word(raw, raw.range.start);
        let words: Vec<Word> = simple.words.iter().flat_map(expand).collect();
        if words.iter().any(|word| word.text.has_sealed()) {
            return None;
        }
        let input = simple.redirects.iter().find_map(|redirect| match redirect {
            Redirect::Here { body, expands } => Some((body, *expands)),
            _ => None,
        });
        match (words.first()?.value(), input) {
            ("cat", Some((body, expands))) => Some(here(body, expands, self.shell)),
            ("cat", None) => (self.file)(words.get(1)?.value()),
            _ => Some(spoken(&words)),
        }
    }
}

/// Words as one, blanks between them.
pub(super) fn joined(words: &[Word]) -> Text {
    let mut text = Text::default();
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            text.push(&Text::literal(" "), 0..1);
        }
        text.push(&word.text, 0..word.value().len());
    }
    text
}

/// What `echo` says.
pub(super) fn spoken(words: &[Word]) -> Text {
    let mut said = Text::default();
    let words = words
        .iter()
        .skip(1)
        .skip_while(|word| matches!(word.value(), "-n" | "-e" | "-ne" | "-en"));
    for (at, word) in words.enumerate() {
        if at > 0 {
            said.push(&Text::literal(" "), 0..1);
        }
        said.push(&word.text, 0..word.value().len());
    }
    said
}

/// The text of a here-document.
pub(super) fn here(body: &Text, expands: bool, shell: &Shell) -> Text {
    if !expands {
        return body.clone();
    }
    let look = |name: &str| shell.variables.look_up(name);
    interpolation::expand(body, Syntax::Here, &look)
}
