//! Message templates: text with `{path:unit}` placeholders.
//!
//! In: the text of a rule file. Out: a [`Template`] whose every placeholder names a fact that the rule's scope
//! knows, in a unit that the fact has. `{{` and `}}` are braces. A template that names an absent fact renders
//! to nothing at all: half a sentence helps nobody.

use std::borrow::Cow;
use std::ops::Range;

use super::Problem;
use super::facts::{FactDefinition, Kind, Scope, Unit, Value, View};
use super::units;
use crate::nearest::did_you_mean;

/// Text with placeholders, checked.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Fact(&'static FactDefinition, Form),
}

/// How a placeholder prints its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Gib,
    Mib,
    Size,
    Tokens,
    Count,
    Percent,
}

/// The words after the colon of a placeholder.
const FORMS: [(&str, Form); 6] = [
    ("GiB", Form::Gib),
    ("MiB", Form::Mib),
    ("size", Form::Size),
    ("tokens", Form::Tokens),
    ("count", Form::Count),
    ("percent", Form::Percent),
];

impl Form {
    /// True when a fact can be printed so.
    fn prints(self, fact: &FactDefinition) -> bool {
        match self {
            Self::Plain => fact.unit != Unit::Bytes && fact.kind != Kind::List,
            Self::Gib | Self::Mib | Self::Size => fact.unit == Unit::Bytes,
            Self::Tokens => fact.unit == Unit::Tokens,
            Self::Count => matches!(fact.unit, Unit::Count | Unit::Tokens),
            Self::Percent => fact.unit == Unit::Ratio,
        }
    }
}

impl Template {
    /// Reads and checks a text; every problem carries its range in the text.
    pub(super) fn parse(text: &str, scope: Scope) -> Result<Self, Vec<Problem>> {
        let mut parts = Vec::new();
        let mut problems = Vec::new();
        let mut words = String::new();
        let mut at = 0;
        while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
            let rest = text.get(at..).unwrap_or("");
            if rest.starts_with("{{") || rest.starts_with("}}") {
                words.push(c);
                at += 2;
            } else if c == '{' {
                let Some(length) = rest.find('}') else {
                    problems.push(Problem::new(
                        at..text.len(),
                        "this brace is never closed; `{{` is a plain one",
                    ));
                    break;
                };
                match placeholder(rest.get(1..length).unwrap_or(""), at + 1, scope) {
                    Ok(part) => {
                        parts.push(Part::Text(std::mem::take(&mut words)));
                        parts.push(part);
                    }
                    Err(problem) => problems.push(problem),
                }
                at += length + 1;
            } else if c == '}' {
                problems.push(Problem::new(
                    at..at + 1,
                    "this brace closes nothing; `}}` is a plain one",
                ));
                at += 1;
            } else {
                words.push(c);
                at += c.len_utf8();
            }
        }
        parts.push(Part::Text(words));
        if problems.is_empty() {
            Ok(Self { parts })
        } else {
            Err(problems)
        }
    }

    /// The text for a view; `None` when a fact it names is absent.
    pub fn render(&self, view: &View<'_>) -> Option<String> {
        let values = self.values(view)?;
        let decimals = self.decimals(&values);
        let mut text = String::new();
        let mut values = values.iter();
        for part in &self.parts {
            match part {
                Part::Text(words) => text.push_str(words),
                Part::Fact(_, form) => text.push_str(&print(values.next()?, *form, decimals)),
            }
        }
        Some(text)
    }

    /// True when every fact it names is there.
    pub fn is_complete(&self, view: &View<'_>) -> bool {
        self.facts().all(|(fact, _)| fact.read(view).is_some())
    }

    fn facts(&self) -> impl Iterator<Item = (&'static FactDefinition, Form)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Fact(fact, form) => Some((*fact, *form)),
            Part::Text(_) => None,
        })
    }

    fn values<'a>(&self, view: &View<'a>) -> Option<Vec<Value<'a>>> {
        self.facts().map(|(fact, _)| fact.read(view)).collect()
    }

    /// One decimal, or more where two amounts that differ would read the same: "needs 16.0 GiB, has 16.0 GiB"
    /// explains nothing.
    fn decimals(&self, values: &[Value<'_>]) -> usize {
        let mut amounts = Vec::new();
        for ((_, form), value) in self.facts().zip(values) {
            if let (Form::Gib | Form::Size, Value::Double(bytes)) = (form, value) {
                amounts.push(*bytes);
            }
        }
        let distinct = |decimals: &usize| {
            amounts.iter().enumerate().all(|(at, one)| {
                let mut others = amounts.iter().skip(at + 1).filter(|other| differ(*one, **other));
                others.all(|other| units::gib(*one, *decimals) != units::gib(*other, *decimals))
            })
        };
        (1..4).find(distinct).unwrap_or(3)
    }
}

fn differ(one: f64, other: f64) -> bool {
    (one - other).abs() >= 1.0
}

fn placeholder(inside: &str, start: usize, scope: Scope) -> Result<Part, Problem> {
    let (path, unit) = inside
        .split_once(':')
        .map_or((inside, None), |(path, unit)| (path, Some(unit)));
    let path_range = start..start + path.len();
    let fact = super::named_fact(path, scope).map_err(|message| Problem::new(path_range.clone(), message))?;
    let Some(unit) = unit else {
        if Form::Plain.prints(fact) {
            return Ok(Part::Fact(fact, Form::Plain));
        }
        let message = match fact.kind {
            Kind::List => format!("`{path}` is a list; a message cannot print it"),
            _ => format!("`{path}` is a number of bytes: say in what, such as `{{{path}:GiB}}`"),
        };
        return Err(Problem::new(path_range, message));
    };
    let unit_range: Range<usize> = start + path.len() + 1..start + inside.len();
    let names = || FORMS.iter().map(|(name, _)| *name);
    let Some((_, form)) = FORMS.iter().find(|(name, _)| *name == unit) else {
        let known = names().collect::<Vec<_>>().join(", ");
        let message = format!(
            "no unit `{unit}`{}; there are {known}",
            did_you_mean(unit, names())
        );
        return Err(Problem::new(unit_range, message));
    };
    if !form.prints(fact) {
        let message = format!("`{path}` is {}: it cannot be printed as {unit}", nature(fact));
        return Err(Problem::new(unit_range, message));
    }
    Ok(Part::Fact(fact, *form))
}

/// What a fact is, for messages.
fn nature(fact: &FactDefinition) -> &'static str {
    match (fact.unit, fact.kind) {
        (Unit::Bytes, _) => "a number of bytes",
        (Unit::Tokens, _) => "a number of tokens",
        (Unit::Count, _) => "a count",
        (Unit::Ratio, _) => "a plain number",
        (Unit::None, Kind::Bool) => "true or false",
        (Unit::None, Kind::List) => "a list",
        (Unit::None, _) => "text",
    }
}

fn print<'v>(value: &'v Value<'_>, form: Form, decimals: usize) -> Cow<'v, str> {
    match (value, form) {
        (Value::Double(bytes), Form::Gib) => units::gib(*bytes, decimals).into(),
        (Value::Double(bytes), Form::Mib) => units::mib(*bytes, 0).into(),
        (Value::Double(bytes), Form::Size) => units::size_with(*bytes, decimals).into(),
        (Value::Double(ratio), Form::Percent) => units::percent(*ratio).into(),
        (Value::Double(number), _) => units::plain(*number).into(),
        (Value::Int(count), Form::Tokens) => units::tokens(count.unsigned_abs()).into(),
        (Value::Int(count), Form::Count) => units::thousands(count.unsigned_abs()).into(),
        (Value::Int(count), _) => count.to_string().into(),
        (Value::Bool(truth), _) => truth.to_string().into(),
        (Value::Text(words), _) => Cow::Borrowed(words),
        (Value::List(words), _) => words.join(", ").into(),
    }
}
