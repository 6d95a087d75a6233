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
use super::expansion::{Expansion, Word, here, spoken};
use super::interpolation::{self, MAX_BYTES, Syntax};
use super::shell::{self, Item, RawWord, Redirect, Script, Segment, Simple};
use super::sums;
use super::text::Text;
use crate::source::Span;

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
    /// Words that a branch added to an array: they may or may not be there.
    pub doubtful: Vec<Word>,
    /// Scripts inside scripts.
    pub depth: usize,
    pub arrays: BTreeMap<String, Vec<Word>>,
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
#[derive(Default)]
struct Frame {
    /// Variables set inside, with what they were before.
    before: BTreeMap<String, Option<Variable>>,
    /// Arrays set inside, with what they were before.
    arrays: BTreeMap<String, Option<Vec<Word>>>,
    /// A way was surely taken: the others are not.
    done: bool,
    /// A way may or may not have been taken.
    doubtful: bool,
}

/// What a command came to.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// A test, with its answer where the files tell it.
    Test(Option<bool>),
    Unknown,
}

impl Outcome {
    fn decided(self) -> Option<bool> {
        match self {
            Self::Test(decided) => decided,
            Self::Unknown => None,
        }
    }

    /// What follows `&&`: commands are taken to succeed, tests to come to what their words say.
    fn and(self, next: Next) -> Next {
        match self {
            Self::Test(Some(false)) => Next::Skipped,
            Self::Test(None) => Next::Doubtful,
            Self::Test(Some(true)) | Self::Unknown => next,
        }
    }

    /// What follows `||`.
    fn or(self) -> Next {
        match self {
            Self::Test(Some(true)) => Next::Skipped,
            Self::Test(Some(false)) => Next::Runs,
            Self::Test(None) | Self::Unknown => Next::Doubtful,
        }
    }
}

/// Whether the next command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Runs,
    Skipped,
    Doubtful,
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
        // What the last command came to, and whether the next runs.
        let (mut outcome, mut next) = (Outcome::Unknown, Next::Runs);
        while let Some(item) = script.items.get(at).filter(|_| at < range.end) {
            if !self.visitor.spend() {
                return;
            }
            match item {
                Item::Command(simple) => outcome = self.guarded(simple, next, outcome, shell),
                Item::And => next = outcome.and(next),
                Item::Or => next = outcome.or(),
                Item::Pipe | Item::Next => next = Next::Runs,
                Item::Then => {
                    at = if self.enters(outcome.decided()) {
                        at + 1
                    } else {
                        self.end_of_way(at + 1)
                    };
                    continue;
                }
                Item::Other if self.frames.last().is_some_and(|frame| frame.done) => {
                    at = self.end_of_way(at + 1);
                    continue;
                }
                Item::Open(decides) => {
                    self.open(shell);
                    if !decides {
                        self.doubt();
                    }
                }
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

    /// Runs a command, or does not; and what the list of commands came to after it.
    fn guarded(&mut self, simple: &Simple, next: Next, before: Outcome, shell: &mut Shell) -> Outcome {
        match next {
            Next::Skipped => before,
            Next::Runs => {
                self.command(simple, shell);
                self.outcome(simple, shell)
            }
            Next::Doubtful => {
                self.open(shell);
                self.doubt();
                self.command(simple, shell);
                self.close(shell);
                Outcome::Test(None)
            }
        }
    }

    fn outcome(&self, simple: &Simple, shell: &Shell) -> Outcome {
        let value = self.text.value();
        let first = simple
            .words
            .first()
            .and_then(|word| value.get(word.range.clone()));
        if !matches!(first, Some("[" | "[[" | "test")) {
            return Outcome::Unknown;
        }
        let words: Vec<Word> = simple
            .words
            .iter()
            .skip(1)
            .flat_map(|raw| self.expand(raw, shell))
            .collect();
        let open = words.iter().any(|word| word.text.has_sealed());
        let words: Vec<&str> = words
            .iter()
            .map(Word::value)
            .filter(|word| !matches!(*word, "]" | "]]"))
            .collect();
        let came = if open { None } else { sums::test(&words) };
        Outcome::Test(came.map(|came| came != simple.negated))
    }

    /// Goes the way that a `then` begins, unless it is known not to be gone.
    fn enters(&mut self, decided: Option<bool>) -> bool {
        if decided == Some(false) {
            return false;
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.done |= decided == Some(true);
            frame.doubtful |= decided.is_none();
        }
        true
    }

    /// The item that ends the way in which `from` lies: the next way, or the end of the branch.
    fn end_of_way(&self, from: usize) -> usize {
        let mut depth = 0_usize;
        let rest = self.script.items.iter().enumerate().skip(from);
        for (at, item) in rest {
            match item {
                Item::Open(_) => depth += 1,
                Item::Other | Item::Close if depth == 0 => return at,
                Item::Close => depth -= 1,
                _ => {}
            }
        }
        self.script.items.len()
    }

    /// Nobody knows whether the innermost branch is taken.
    fn doubt(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.doubtful = true;
        }
    }

    fn open(&mut self, shell: &mut Shell) {
        shell.branches.set(shell.branches.get() + 1);
        shell.path.push((shell.branches.get(), 0));
        self.frames.push(Frame::default());
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
        for (name, before) in &frame.arrays {
            shell
                .arrays
                .insert(name.clone(), before.clone().unwrap_or_default());
        }
    }

    fn close(&mut self, shell: &mut Shell) {
        shell.path.pop();
        let Some(frame) = self.frames.pop() else { return };
        if !frame.doubtful {
            if let Some(outer) = self.frames.last_mut() {
                for (name, before) in frame.before {
                    outer.before.entry(name).or_insert(before);
                }
                for (name, before) in frame.arrays {
                    outer.arrays.entry(name).or_insert(before);
                }
            }
            return;
        }
        for (name, before) in frame.before {
            let now = shell.variables.text(&name).cloned();
            let (Some(Variable::Known(before)), Some(now)) = (before, now) else {
                self.set(&name, unknown("a branch of a script"), shell);
                continue;
            };
            // Words that were added may or may not be there; those before them are.
            if now.value().starts_with(before.value()) {
                let added = now.slice(before.value().len()..now.value().len());
                shell.doubtful.extend(split(&added, &Shell::default()).0);
                self.set(&name, Variable::Known(before), shell);
            } else {
                self.set(&name, unknown("a branch of a script"), shell);
            }
        }
        for (name, before) in frame.arrays {
            let now = shell.arrays.remove(&name).unwrap_or_default();
            let before = before.unwrap_or_default();
            shell.doubtful.extend(now.into_iter().skip(before.len()));
            self.set_array(&name, before, shell);
        }
    }

    fn set_array(&mut self, name: &str, words: Vec<Word>, shell: &mut Shell) {
        let before = shell.arrays.insert(name.to_owned(), words);
        if let Some(frame) = self.frames.last_mut() {
            frame.arrays.entry(name.to_owned()).or_insert(before);
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
        self.doubt();
        if words.is_empty() || words.len() > MAX_TURNS || words.iter().any(|word| word.text.has_sealed()) {
            self.set(name, unknown("a loop"), shell);
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
            Redirect::Here { body, expands } => Some(here(body, *expands, shell)),
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
                let mut before = shell.arrays.get(name).cloned().unwrap_or_default();
                before.append(&mut words);
                words = before;
            }
            self.set_array(name, words, shell);
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
                    self.set(word.value(), unknown("input"), shell);
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

fn unknown(why: &'static str) -> Variable {
    Variable::Unknown { why, span: None }
}

fn restore(variables: &mut Environment, name: &str, before: Option<Variable>) {
    match before {
        Some(variable) => {
            variables.set(name, variable);
        }
        None => variables.remove(name),
    }
}
