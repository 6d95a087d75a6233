//! A script followed command by command, as a shell would run it, without running anything.
//!
//! In: a text, the environment, the words after the script. Out: every command with its words expanded, handed to a
//! [`Visitor`]. Variables set on the way hold from there on; what a branch sets is unknown after the branch, since
//! only a run would tell. Files that the script writes can be read by what it starts. All work is bounded.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::environment::{Environment, Variable};
use super::interpolation::{self, MAX_BYTES, Syntax};
use super::shell::{self, Item, RawWord, Redirect, Script, Segment, Simple};
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

/// What gets the commands of a script.
pub(super) trait Visitor {
    /// One command: its words, what its process sees, and the script it reads from its input.
    fn command(&mut self, words: &[Word], shell: &Shell, input: Option<&Text>);
    /// Something is wrong with the text.
    fn problem(&mut self, span: Option<Span>, sentence: String);
    /// A file that the script may read.
    fn file(&self, path: &str) -> Option<Text>;
    /// False when enough has been done.
    fn spend(&mut self) -> bool;
}

/// What a shell knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Shell {
    pub variables: Environment,
    /// `$1` and what follows.
    pub positional: Vec<Word>,
    /// Files that were written on the way.
    pub written: BTreeMap<String, Text>,
    /// Which way was taken at each branch: the branch and the way.
    pub path: Vec<(usize, usize)>,
    /// Scripts inside scripts.
    pub depth: usize,
    arrays: BTreeMap<String, Vec<Word>>,
    /// How many branches there were, inner scripts included.
    branches: Rc<Cell<usize>>,
}

impl Shell {
    pub(super) fn new(variables: Environment, depth: usize) -> Self {
        Self {
            variables,
            depth,
            ..Self::default()
        }
    }

    /// The shell of a script that this one starts.
    pub(super) fn inside(&self, positional: &[Word]) -> Self {
        Self {
            depth: self.depth + 1,
            positional: positional.to_vec(),
            ..self.clone()
        }
    }
}

/// Deepest nesting of scripts, functions and loops that is followed.
pub(super) const MAX_DEPTH: usize = 12;
/// Turns of a loop that are followed.
const MAX_TURNS: usize = 64;

/// Follows a script.
pub(super) fn follow(text: &Text, shell: &mut Shell, visitor: &mut dyn Visitor) {
    if shell.depth >= MAX_DEPTH {
        return;
    }
    let script = shell::read(text);
    for (range, sentence) in &script.problems {
        visitor.problem(text.place(range.clone()), sentence.clone());
    }
    let mut run = Run {
        text,
        script: &script,
        functions: BTreeMap::new(),
        frames: Vec::new(),
        visitor,
    };
    run.items(0..script.items.len(), shell);
}

/// Splits a line as a shell would; operators are not looked for.
pub(super) fn split(text: &Text, shell: &Shell) -> (Vec<Word>, Vec<(Range<usize>, String)>) {
    let script = shell::read_line(text);
    let words = script.items.iter().flat_map(|item| match item {
        Item::Command(simple) => simple.words.as_slice(),
        _ => &[],
    });
    let nothing = |_: &str| None;
    let words = words
        .flat_map(|raw| Expansion::new(text, shell, &nothing).word(raw, raw.range.start))
        .collect();
    (words, script.problems)
}

/// A branch or loop whose end has not come.
struct Frame {
    /// Variables set inside, with what they were before.
    before: BTreeMap<String, Option<Variable>>,
}

struct Run<'r> {
    text: &'r Text,
    script: &'r Script,
    functions: BTreeMap<String, Range<usize>>,
    frames: Vec<Frame>,
    visitor: &'r mut dyn Visitor,
}

impl Run<'_> {
    fn items(&mut self, range: Range<usize>, shell: &mut Shell) {
        let script = self.script;
        let mut at = range.start;
        // What follows `||`, and `&&` after a test, may or may not run.
        let (mut doubtful, mut tested) = (false, false);
        while let Some(item) = script.items.get(at).filter(|_| at < range.end) {
            if !self.visitor.spend() {
                return;
            }
            match item {
                Item::Command(simple) => {
                    tested = self.is_test(simple);
                    if doubtful {
                        self.open(shell);
                        self.command(simple, shell);
                        self.close(shell);
                    } else {
                        self.command(simple, shell);
                    }
                }
                Item::Or => doubtful = true,
                Item::And => doubtful |= tested,
                Item::Pipe | Item::Next => doubtful = false,
                Item::Open => self.open(shell),
                Item::Other => self.other(shell),
                Item::Close => self.close(shell),
                Item::Done => {}
                Item::For { name, words, end } => {
                    let end = (*end).min(range.end);
                    self.turns(name, words, at + 1..end, shell);
                    at = end.max(at);
                }
                Item::Function { name, end } => {
                    let end = (*end).min(range.end);
                    self.functions.insert(name.clone(), at + 1..end);
                    at = end.max(at + 1);
                    continue;
                }
            }
            at += 1;
        }
    }

    fn is_test(&self, simple: &Simple) -> bool {
        let first = simple
            .words
            .first()
            .and_then(|word| self.text.value().get(word.range.clone()));
        matches!(first, Some("[" | "[[" | "test"))
    }

    fn open(&mut self, shell: &mut Shell) {
        shell.branches.set(shell.branches.get() + 1);
        shell.path.push((shell.branches.get(), 0));
        self.frames.push(Frame {
            before: BTreeMap::new(),
        });
    }

    /// The next way of a branch: what the last one set is not set here.
    fn other(&mut self, shell: &mut Shell) {
        if let Some((_, way)) = shell.path.last_mut() {
            *way += 1;
        }
        let Some(frame) = self.frames.last() else { return };
        for (name, before) in &frame.before {
            restore(&mut shell.variables, name, before.clone());
        }
    }

    fn close(&mut self, shell: &mut Shell) {
        shell.path.pop();
        let Some(frame) = self.frames.pop() else { return };
        for (name, before) in frame.before {
            let same = match (&before, shell.variables.text(&name)) {
                (Some(Variable::Known(before)), Some(now)) => before.value() == now.value(),
                _ => false,
            };
            if !same {
                self.set(
                    &name,
                    Variable::Unknown {
                        why: "a branch of a script",
                        span: None,
                    },
                    shell,
                );
            }
        }
    }

    /// Sets a variable, and remembers what it was before the branch.
    fn set(&mut self, name: &str, variable: Variable, shell: &mut Shell) {
        let before = shell.variables.set(name, variable);
        if let Some(frame) = self.frames.last_mut() {
            frame.before.entry(name.to_owned()).or_insert(before);
        }
        shell.arrays.remove(name);
    }

    fn turns(&mut self, name: &str, words: &[RawWord], body: Range<usize>, shell: &mut Shell) {
        if shell.depth >= MAX_DEPTH {
            return;
        }
        shell.depth += 1;
        let words: Vec<Word> = words.iter().flat_map(|word| self.expand(word, shell)).collect();
        self.open(shell);
        if words.is_empty() || words.len() > MAX_TURNS || words.iter().any(|word| word.text.has_sealed()) {
            self.set(
                name,
                Variable::Unknown {
                    why: "a loop",
                    span: None,
                },
                shell,
            );
            self.items(body, shell);
        } else {
            for word in words {
                self.set(name, Variable::Known(word.text), shell);
                self.items(body.clone(), shell);
            }
        }
        self.close(shell);
        shell.depth -= 1;
    }

    fn expand(&self, raw: &RawWord, shell: &Shell) -> Vec<Word> {
        let file = |path: &str| {
            shell
                .written
                .get(path)
                .cloned()
                .or_else(|| self.visitor.file(path))
        };
        Expansion::new(self.text, shell, &file).word(raw, raw.range.start)
    }

    /// The value of an assignment, which is never split.
    fn value(&self, raw: &RawWord, begins: usize, shell: &Shell) -> Text {
        let file = |path: &str| {
            shell
                .written
                .get(path)
                .cloned()
                .or_else(|| self.visitor.file(path))
        };
        Expansion::new(self.text, shell, &file).joined(raw, begins)
    }

    fn command(&mut self, simple: &Simple, shell: &mut Shell) {
        let value = self.text.value();
        let mut assigned = Vec::new();
        let mut rest = simple.words.as_slice();
        while let Some((raw, (name, adds, begins))) =
            rest.first().and_then(|raw| Some((raw, raw.assignment(value)?)))
        {
            assigned.push((raw, name, adds, begins));
            rest = rest.get(1..).unwrap_or(&[]);
        }
        if rest.is_empty() {
            for (raw, name, adds, begins) in assigned {
                self.assign(raw, &name, adds, begins, shell);
            }
            return;
        }
        let words: Vec<Word> = rest.iter().flat_map(|raw| self.expand(raw, shell)).collect();
        let input = simple.redirects.iter().find_map(|redirect| match redirect {
            Redirect::Here { body, expands } => Some(self.here(body, *expands, shell)),
            _ => None,
        });
        if self.builtin(rest, &words, shell) {
            return;
        }
        self.write(&words, simple, input.as_ref(), shell);
        if assigned.is_empty() {
            self.pass_on(&words, shell, input.as_ref());
            return;
        }
        let mut inner = shell.clone();
        for (raw, name, _, begins) in assigned {
            let value = self.value(raw, begins, shell);
            inner.variables.set_text(name, value);
        }
        self.pass_on(&words, &mut inner, input.as_ref());
    }

    /// Calls a function of the script, or hands the command on.
    fn pass_on(&mut self, words: &[Word], shell: &mut Shell, input: Option<&Text>) {
        let Some(first) = words.first() else { return };
        let Some(body) = self.functions.get(first.value()).cloned() else {
            self.visitor.command(words, shell, input);
            return;
        };
        if shell.depth >= MAX_DEPTH {
            return;
        }
        shell.depth += 1;
        let arguments = words.get(1..).unwrap_or(&[]).to_vec();
        let outer = std::mem::replace(&mut shell.positional, arguments);
        self.items(body, shell);
        shell.positional = outer;
        shell.depth -= 1;
    }

    fn assign(&mut self, raw: &RawWord, name: &str, adds: bool, begins: usize, shell: &mut Shell) {
        if let Some(elements) = &raw.elements {
            let mut words: Vec<Word> = elements.iter().flat_map(|raw| self.expand(raw, shell)).collect();
            if adds {
                let mut before = shell.arrays.remove(name).unwrap_or_default();
                before.append(&mut words);
                words = before;
            }
            shell.arrays.insert(name.to_owned(), words);
            return;
        }
        let mut value = self.value(raw, begins, shell);
        if adds && let Some(before) = shell.variables.text(name) {
            let mut both = before.clone();
            if both.value().len() + value.value().len() <= MAX_BYTES {
                both.push(&value, 0..value.value().len());
            }
            value = both;
        }
        self.set(name, Variable::Known(value), shell);
    }

    /// Commands that change the shell itself.
    fn builtin(&mut self, raws: &[RawWord], words: &[Word], shell: &mut Shell) -> bool {
        let value = self.text.value();
        match words.first().map(Word::value) {
            Some("export" | "declare" | "local" | "readonly" | "typeset") => {
                for raw in raws.get(1..).unwrap_or(&[]) {
                    if let Some((name, adds, begins)) = raw.assignment(value) {
                        self.assign(raw, &name, adds, begins, shell);
                    }
                }
            }
            Some("unset") => {
                for word in words.get(1..).unwrap_or(&[]) {
                    shell.variables.remove(word.value());
                }
            }
            Some("read") => {
                for word in words
                    .get(1..)
                    .unwrap_or(&[])
                    .iter()
                    .filter(|word| !word.value().starts_with('-'))
                {
                    self.set(
                        word.value(),
                        Variable::Unknown {
                            why: "input",
                            span: None,
                        },
                        shell,
                    );
                }
            }
            Some("set") => {
                let start = words.iter().position(|word| word.value() == "--");
                if let Some(start) = start {
                    shell.positional = words.get(start + 1..).unwrap_or(&[]).to_vec();
                }
            }
            Some("shift") => {
                let by = words
                    .get(1)
                    .and_then(|word| word.value().parse().ok())
                    .unwrap_or(1_usize);
                shell.positional.drain(..by.min(shell.positional.len()));
            }
            // `: ${NAME:=default}`
            Some(":") => self.defaults(raws, shell),
            _ => return false,
        }
        true
    }

    fn defaults(&mut self, raws: &[RawWord], shell: &mut Shell) {
        for (segment, _) in raws.iter().flat_map(|raw| &raw.segments) {
            let Segment::Reference(range, reference) = segment else {
                continue;
            };
            let assigns = reference.operator.is_some()
                && self
                    .text
                    .value()
                    .get(reference.name.end..)
                    .is_some_and(|rest| rest.starts_with([':', '=']));
            let name = self
                .text
                .value()
                .get(reference.name.clone())
                .unwrap_or("")
                .to_owned();
            let look = |name: &str| shell.variables.look_up(name);
            if assigns
                && let Some(value) = interpolation::resolve(self.text, reference, Syntax::Shell, &look, 0)
            {
                let mut text = Text::default();
                text.push_value(&value, self.text, range);
                self.set(&name, Variable::Known(text), shell);
            }
        }
    }

    fn here(&self, body: &Text, expands: bool, shell: &Shell) -> Text {
        if !expands {
            return body.clone();
        }
        let look = |name: &str| shell.variables.look_up(name);
        interpolation::expand(body, Syntax::Here, &look)
    }

    /// Remembers what `cat`, `tee`, `echo` and `printf` write to a file.
    fn write(&mut self, words: &[Word], simple: &Simple, input: Option<&Text>, shell: &mut Shell) {
        let mut targets: Vec<String> = Vec::new();
        for redirect in &simple.redirects {
            if let Redirect::Output(raw) = redirect {
                targets.extend(
                    self.expand(raw, shell)
                        .first()
                        .map(|word| word.value().to_owned()),
                );
            }
        }
        let content = match (words.first().map(Word::value), input) {
            (Some("cat"), Some(input)) => input.clone(),
            (Some("tee"), Some(input)) => {
                let files = words.iter().skip(1).filter(|word| !word.value().starts_with('-'));
                targets.extend(files.map(|word| word.value().to_owned()));
                input.clone()
            }
            (Some("echo" | "printf"), _) if !targets.is_empty() => spoken(words),
            _ => return,
        };
        for target in targets {
            shell.written.insert(target, content.clone());
        }
    }
}

fn restore(variables: &mut Environment, name: &str, before: Option<Variable>) {
    match before {
        Some(variable) => {
            variables.set(name, variable);
        }
        None => variables.remove(name),
    }
}

/// What `echo` says.
fn spoken(words: &[Word]) -> Text {
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

/// Turns written words into the words that a program gets.
struct Expansion<'e> {
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
    fn new(text: &'e Text, shell: &'e Shell, file: &'e dyn Fn(&str) -> Option<Text>) -> Self {
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
    fn word(mut self, raw: &RawWord, from: usize) -> Vec<Word> {
        self.segments(raw, from, true);
        let whole = !self.broken && raw.segments.len() > 1;
        self.finish();
        if whole && let [only] = self.done.as_mut_slice() {
            only.written = self.text.place(raw.range.clone());
        }
        self.done
    }

    /// The same without splitting.
    fn joined(mut self, raw: &RawWord, from: usize) -> Text {
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
                let sum = arithmetic(&self.text.slice(body.clone()), &self.shell.variables);
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
        let here = simple.redirects.iter().find_map(|redirect| match redirect {
            Redirect::Here { body, expands } => Some((body, *expands)),
            _ => None,
        });
        match (words.first()?.value(), here) {
            ("cat", Some((body, expands))) => {
                let look = |name: &str| self.shell.variables.look_up(name);
                let text = if expands {
                    interpolation::expand(body, Syntax::Here, &look)
                } else {
                    body.clone()
                };
                Some(text)
            }
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

/// Sums and products of whole numbers and known variables.
fn arithmetic(body: &Text, variables: &Environment) -> Option<i64> {
    let expanded = interpolation::expand(body, Syntax::Compose, &|name| variables.look_up(name));
    let value = expanded.value();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = value.get(at..).and_then(|rest| rest.chars().next()) {
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if let Some(name) = interpolation::name_at(value, at, |_| false) {
            tokens.push(
                variables
                    .text(value.get(name.clone())?)?
                    .value()
                    .trim()
                    .to_owned(),
            );
            at = name.end;
        } else if c.is_ascii_digit() {
            let rest = value.get(at..)?;
            let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            tokens.push(rest.get(..len)?.to_owned());
            at += len;
        } else {
            tokens.push(c.to_string());
            at += c.len_utf8();
        }
    }
    let mut sum = Sum {
        tokens: &tokens,
        at: 0,
        depth: 0,
    };
    let result = sum.terms()?;
    (sum.at == tokens.len()).then_some(result)
}

struct Sum<'t> {
    tokens: &'t [String],
    at: usize,
    depth: usize,
}

impl Sum<'_> {
    fn take(&mut self, wanted: &[&str]) -> Option<String> {
        let token = self
            .tokens
            .get(self.at)
            .filter(|token| wanted.contains(&token.as_str()))?;
        self.at += 1;
        Some(token.clone())
    }

    fn terms(&mut self) -> Option<i64> {
        let mut sum = self.factors()?;
        while let Some(operator) = self.take(&["+", "-"]) {
            let next = self.factors()?;
            sum = if operator == "+" {
                sum.checked_add(next)?
            } else {
                sum.checked_sub(next)?
            };
        }
        Some(sum)
    }

    fn factors(&mut self) -> Option<i64> {
        let mut product = self.atom()?;
        while let Some(operator) = self.take(&["*", "/", "%"]) {
            let next = self.atom()?;
            product = match operator.as_str() {
                "*" => product.checked_mul(next)?,
                "/" => product.checked_div(next)?,
                _ => product.checked_rem(next)?,
            };
        }
        Some(product)
    }

    fn atom(&mut self) -> Option<i64> {
        if self.take(&["("]).is_some() {
            self.depth += 1;
            let inner = if self.depth < MAX_DEPTH {
                self.terms()?
            } else {
                return None;
            };
            self.depth -= 1;
            self.take(&[")"])?;
            return Some(inner);
        }
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        token.parse().ok()
    }
}
