//! References to variables in a text: how each kind of file writes them, and what replaces them.
//!
//! A reference whose variable has no value in the files stays as it is written, sealed: a later reader (the shell)
//! takes it for plain characters, and whoever reads the value sees that it is open. By the convention of
//! `${NAME:-default}` a variable that nothing declares counts as unset.

use std::collections::BTreeMap;
use std::ops::Range;

use super::environment::{Environment, Variable};
use super::text::Text;

/// How a file writes references, before any shell sees the text.
#[derive(Debug, Clone, Copy)]
pub enum Interpolation<'a> {
    /// `$(NAME)` from the container's own environment; `$$` is a dollar.
    Kubernetes,
    /// `$NAME`, `${NAME}` and its operators, from the environment of compose (`.env`); `$$` is a dollar.
    Compose,
    /// `${name}` of llama-swap.
    Macros(&'a BTreeMap<String, Text>),
    /// None.
    None,
}

impl Interpolation<'_> {
    /// Replaces what `environment` knows.
    pub fn apply(&self, text: &Text, environment: &Environment) -> Text {
        let look = |name: &str| environment.look_up(name);
        match self {
            Self::Kubernetes => expand(text, Syntax::Kubernetes, &look),
            Self::Compose => expand(text, Syntax::Compose, &look),
            Self::Macros(macros) => expand(text, Syntax::Macros, &|name| match macros.get(name) {
                Some(value) => Found::Known(value.clone()),
                None => Found::Unset,
            }),
            Self::None => text.clone(),
        }
    }
}

/// Which references a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Kubernetes,
    Compose,
    Macros,
    /// `$(A)` and `${A}`, for variables that refer to each other.
    Either,
    /// Inside `${...}` of a shell.
    Shell,
    /// A here-document: a shell's references without its quotes.
    Here,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// This value.
    Known(Text),
    /// A value that the files do not hold.
    Unknown,
    /// Nothing declares it.
    Unset,
}

impl Environment {
    /// What a name stands for.
    pub(super) fn look_up(&self, name: &str) -> Found {
        match self.get(name) {
            Some(Variable::Known(text)) => Found::Known(text.clone()),
            Some(Variable::Unknown { .. }) => Found::Unknown,
            None => Found::Unset,
        }
    }
}

/// One reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// Its name.
    pub name: Range<usize>,
    /// What stands after the name, with its word.
    pub operator: Option<(Operator, Range<usize>)>,
    /// One past its last character.
    pub end: usize,
}

/// What a reference does beside giving the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// `:-`, `:=`: the word where the variable is unset or empty.
    DefaultIfEmpty,
    /// `-`, `=`: the word where it is unset.
    Default,
    /// `:+`: the word where it is set and not empty.
    AlternativeIfFull,
    /// `+`: the word where it is set.
    Alternative,
    /// `:?`, `?`: refuses to go on where it is unset.
    Required,
    /// Anything else: `%.*`, `:0:3`, ...
    Other,
}

/// Longest text that references may make, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 15;
/// Longest reference, in bytes: a brace that nobody closes must not be looked for again and again.
const MAX_REFERENCE: usize = 1024;
/// Deepest nesting of references in references that is followed.
const MAX_DEPTH: usize = 12;

/// The names that a text refers to as [`Syntax::Either`].
pub(super) fn names(text: &Text) -> Vec<String> {
    let value = text.value();
    value
        .match_indices('$')
        .filter(|(at, _)| text.sealed_until(*at).is_none())
        .filter_map(|(at, _)| reference(value, at, Syntax::Either))
        .filter_map(|found| value.get(found.name).map(str::to_owned))
        .collect()
}

/// Replaces the references of a text.
pub(super) fn expand(text: &Text, syntax: Syntax, look: &dyn Fn(&str) -> Found) -> Text {
    expand_at(text, syntax, look, 0)
}

fn expand_at(text: &Text, syntax: Syntax, look: &dyn Fn(&str) -> Found, depth: usize) -> Text {
    let value = text.value();
    let mut out = Text::default();
    let (mut kept, mut at) = (0, 0);
    while let Some(dollar) = value
        .get(at..)
        .and_then(|rest| rest.find('$'))
        .map(|found| at + found)
    {
        if let Some(end) = text.sealed_until(dollar) {
            at = end;
            continue;
        }
        if value.get(dollar + 1..).is_some_and(|rest| rest.starts_with('$'))
            && matches!(syntax, Syntax::Kubernetes | Syntax::Compose)
        {
            out.push(text, kept..dollar + 1);
            at = dollar + 2;
            kept = at;
            continue;
        }
        let Some(reference) = reference(value, dollar, syntax) else {
            at = dollar + 1;
            continue;
        };
        out.push(text, kept..dollar);
        let range = dollar..reference.end;
        match resolve(text, &reference, syntax, look, depth) {
            Some(value) if out.value().len() + value.value().len() <= MAX_BYTES => {
                out.push_value(&value, text, &range);
            }
            // A shell may yet run `$(date)`.
            None if syntax == Syntax::Kubernetes => out.push(text, range),
            _ => out.push_sealed(text, range),
        }
        at = reference.end;
        kept = at;
    }
    if kept == 0 {
        return text.clone();
    }
    out.push(text, kept..value.len());
    out
}

/// The value of a reference; `None` where the files do not hold it.
pub(super) fn resolve(
    text: &Text,
    reference: &Reference,
    syntax: Syntax,
    look: &dyn Fn(&str) -> Found,
    depth: usize,
) -> Option<Text> {
    let found = look(text.value().get(reference.name.clone())?);
    let Some((operator, word)) = &reference.operator else {
        return match found {
            Found::Known(value) => Some(value),
            Found::Unknown | Found::Unset => None,
        };
    };
    let word = || {
        if depth >= MAX_DEPTH {
            return None;
        }
        let word = unquoted(&text.slice(word.clone()), syntax);
        Some(expand_at(&word, syntax, look, depth + 1))
    };
    let if_full = matches!(operator, Operator::DefaultIfEmpty | Operator::AlternativeIfFull);
    let counts = |value: &Text| !(if_full && value.is_empty());
    match (operator, found) {
        (Operator::Other, _) | (_, Found::Unknown) | (Operator::Required, Found::Unset) => None,
        (Operator::DefaultIfEmpty | Operator::Default, Found::Known(value)) if counts(&value) => Some(value),
        (Operator::DefaultIfEmpty | Operator::Default, _) => word(),
        (Operator::AlternativeIfFull | Operator::Alternative, Found::Known(value)) if counts(&value) => {
            word()
        }
        (Operator::AlternativeIfFull | Operator::Alternative, _) => Some(Text::default()),
        (Operator::Required, Found::Known(value)) => Some(value),
    }
}

/// The word of an operator without the quotes that a shell would take off it.
fn unquoted(word: &Text, syntax: Syntax) -> Text {
    let value = word.value();
    let quoted = |quote: char| {
        value.len() >= 2
            && value.starts_with(quote)
            && value.ends_with(quote)
            && value.matches(quote).count() == 2
    };
    if syntax == Syntax::Shell && (quoted('"') || quoted('\'')) {
        return word.slice(1..value.len() - 1);
    }
    word.clone()
}

/// The reference that begins with the dollar at `dollar`.
fn reference(value: &str, dollar: usize, syntax: Syntax) -> Option<Reference> {
    let rest = value.get(dollar + 1..)?;
    let start = dollar + 1;
    if rest.starts_with('(') && matches!(syntax, Syntax::Kubernetes | Syntax::Either) {
        let name = name_at(value, start + 1, |c| matches!(c, '.' | '-'))?;
        return (value.as_bytes().get(name.end) == Some(&b')')).then(|| Reference {
            end: name.end + 1,
            name,
            operator: None,
        });
    }
    if syntax == Syntax::Kubernetes {
        return None;
    }
    if rest.starts_with('{') {
        return braced(value, start + 1, syntax);
    }
    if syntax == Syntax::Macros || syntax == Syntax::Either {
        return None;
    }
    let name = name_at(value, start, |_| false)?;
    Some(Reference {
        end: name.end,
        name,
        operator: None,
    })
}

/// `${NAME...}`, `start` being the first character after the brace.
pub(super) fn braced(value: &str, start: usize, syntax: Syntax) -> Option<Reference> {
    let name = name_at(value, start, |c| {
        syntax == Syntax::Macros && matches!(c, '.' | '-')
    })?;
    let rest = value.get(name.end..)?;
    if rest.starts_with('}') {
        return Some(Reference {
            end: name.end + 1,
            name,
            operator: None,
        });
    }
    if matches!(syntax, Syntax::Macros | Syntax::Either) {
        return None;
    }
    let (operator, width) = match rest.as_bytes() {
        [b':', b'-' | b'=', ..] => (Operator::DefaultIfEmpty, 2),
        [b':', b'+', ..] => (Operator::AlternativeIfFull, 2),
        [b':', b'?', ..] => (Operator::Required, 2),
        [b'-' | b'=', ..] => (Operator::Default, 1),
        [b'+', ..] => (Operator::Alternative, 1),
        [b'?', ..] => (Operator::Required, 1),
        _ => (Operator::Other, 0),
    };
    let word = name.end + width;
    let close = closing_brace(value, word, syntax == Syntax::Shell)?;
    Some(Reference {
        name,
        operator: Some((operator, word..close)),
        end: close + 1,
    })
}

/// The brace that ends a reference whose word begins at `from`.
fn closing_brace(value: &str, from: usize, shell: bool) -> Option<usize> {
    let bytes = value.as_bytes();
    let (mut at, mut depth) = (from, 0_usize);
    let mut quote = None;
    while let Some(byte) = bytes.get(at).filter(|_| at - from < MAX_REFERENCE) {
        match (byte, quote) {
            (b'\\', _) if shell && quote != Some(b'\'') => at += 1,
            (b'\'' | b'"', None) if shell => quote = Some(*byte),
            (byte, Some(open)) if *byte == open => quote = None,
            (b'$', None | Some(b'"')) if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            (b'}', None) if depth == 0 => return Some(at),
            (b'}', None | Some(b'"')) if depth > 0 => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The name of a variable at `start`.
pub(super) fn name_at(value: &str, start: usize, also: impl Fn(char) -> bool) -> Option<Range<usize>> {
    let rest = value.get(start..)?;
    let first = rest.chars().next()?;
    if !(first.is_ascii_alphabetic() || first == '_') {
        return None;
    }
    let len = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || also(c)))
        .unwrap_or(rest.len());
    Some(start..start + len)
}
