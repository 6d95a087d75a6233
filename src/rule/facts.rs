//! Facts: what a rule may name, each with its type, its unit, and how to read it and its origin.
//!
//! In: a [`View`], the things one evaluation looks at. Out: [`Value`]s by path, and the places that state
//! them. The schema is the table in [`super::fact_table`]; loading a rule checks every path against it, and
//! `oomlint explain` prints it. Hard logic becomes one more row here, never a feature of the rule language.
//!
//! A fact may be absent (a model without a window, a machine without a default limit). A condition that needs
//! an absent fact is false, and a message that needs one is not said; `has(a.b)` tells.

use std::borrow::Cow;

use crate::fact::Origin;
use crate::machine::Machine;
use crate::manifest::Deployment;
use crate::model::Model;
use crate::scenario::{Estimate, Scenario};
use crate::source::{FileId, Sources, Span};

use super::fact_table;
use super::setting_facts::{self, Family};
use super::surrounding_facts;

/// What one evaluation looks at. A rule's scope says which parts are there.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The texts that spans lie in.
    pub sources: &'a Sources,
    /// The manifest, for rules about a whole file.
    pub manifest: Option<ManifestView>,
    /// The deployment.
    pub deployment: Option<&'a Deployment>,
    /// The model it serves.
    pub model: Option<&'a Model>,
    /// The machine of the scenario.
    pub machine: Option<&'a Machine>,
    /// The scenario.
    pub scenario: Option<&'a Scenario>,
}

/// A file that declares deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestView {
    /// The file.
    pub file: FileId,
    /// The first declaration in it.
    pub span: Span,
    /// The name of its format.
    pub format: &'static str,
    /// How many deployments it declares.
    pub deployments: usize,
}

impl<'a> View<'a> {
    /// A view of nothing yet.
    pub fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            manifest: None,
            deployment: None,
            model: None,
            machine: None,
            scenario: None,
        }
    }

    pub(super) fn estimate(&self) -> Option<&'a Estimate> {
        self.scenario?.estimate.as_ref()
    }
}

/// The value of a fact.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Tokens and counts.
    Int(i64),
    /// Bytes and ratios. Bytes are exact up to 2^53, 8 PiB.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// Words.
    Text(Cow<'a, str>),
    /// A list of words.
    List(Vec<Cow<'a, str>>),
}

/// The type of a fact, as conditions see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Int,
    /// A number that does not mix with whole ones in arithmetic.
    Double,
    /// Yes or no.
    Bool,
    /// Words.
    Text,
    /// A list of words.
    List,
}

impl Kind {
    /// The name in messages and in CEL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Double => "double",
            Self::Bool => "bool",
            Self::Text => "string",
            Self::List => "list of strings",
        }
    }
}

/// What a number counts: decides which placeholders may print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Memory.
    Bytes,
    /// Tokens of context.
    Tokens,
    /// Things.
    Count,
    /// A fraction or another number without a unit.
    Ratio,
    /// Not a number.
    None,
}

/// What a fact, or a rule, speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One cell: deployment, model, machine, context, batch, KV type.
    Scenario,
    /// One deployment and its model.
    Deployment,
    /// One model.
    Model,
    /// One file that declares deployments.
    Manifest,
    /// Raised by the program itself, not by a condition.
    Structural,
}

impl Scope {
    /// Every scope that a rule file may name.
    pub const ALL: [Self; 5] = [
        Self::Scenario,
        Self::Deployment,
        Self::Model,
        Self::Manifest,
        Self::Structural,
    ];

    /// The word in rule files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scenario => "scenario",
            Self::Deployment => "deployment",
            Self::Model => "model",
            Self::Manifest => "manifest",
            Self::Structural => "structural",
        }
    }

    /// True when a rule of this scope can know facts of the other.
    pub fn knows(self, fact: Self) -> bool {
        match self {
            Self::Scenario => matches!(fact, Self::Scenario | Self::Deployment | Self::Model),
            Self::Deployment => matches!(fact, Self::Deployment | Self::Model),
            Self::Model | Self::Manifest => fact == self,
            Self::Structural => false,
        }
    }
}

/// Reads a fact's value; `None` when the view has none.
pub type Read = for<'a> fn(&View<'a>) -> Option<Value<'a>>;
/// Finds where a fact comes from; `None` when nothing declares it.
pub type Place = for<'a> fn(&View<'a>) -> Option<&'a Origin>;

/// One fact that rules may name.
#[derive(Debug, Clone, Copy)]
pub struct FactDefinition {
    /// The path in conditions, placeholders and labels.
    pub path: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// What it belongs to.
    pub scope: Scope,
    /// One line for people.
    pub meaning: &'static str,
    /// Where its value and its origin come from.
    pub source: Source,
}

/// Where a fact comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A row of the table.
    Row {
        /// Reads the value.
        read: Read,
        /// Finds the origin.
        origin: Place,
    },
    /// A setting of the engine, by id.
    Setting(Family, &'static str),
    /// Something of the pod or service around the engine, by id.
    Surrounding(&'static str),
}

impl FactDefinition {
    /// Its value; `None` when the view has none.
    pub fn read<'a>(&self, view: &View<'a>) -> Option<Value<'a>> {
        match self.source {
            Source::Row { read, .. } => read(view),
            Source::Setting(family, id) => family.read(view, id, self.kind),
            Source::Surrounding(id) => surrounding_facts::read(view, id, self.kind),
        }
    }

    /// Where its value comes from; `None` when nothing declares it.
    pub fn origin<'a>(&self, view: &View<'a>) -> Option<&'a Origin> {
        match self.source {
            Source::Row { origin, .. } => origin(view),
            Source::Setting(_, id) => setting_facts::origin(view, id),
            Source::Surrounding(id) => surrounding_facts::origin(view, id),
        }
    }

    /// The characters that state it, if a file does.
    pub fn span(&self, view: &View<'_>) -> Option<Span> {
        self.origin(view)?.span()
    }
}

/// Every fact of the table, sorted by path. Those of engines' settings are listed by
/// [`setting_ids`](super::setting_facts::setting_ids).
pub fn facts() -> &'static [FactDefinition] {
    fact_table::FACTS
}

/// The fact of a path.
pub fn find(path: &str) -> Option<&'static FactDefinition> {
    match fact_table::FACTS.binary_search_by(|fact| fact.path.cmp(path)) {
        Ok(at) => fact_table::FACTS.get(at),
        Err(_) => surrounding_facts::find(path).or_else(|| setting_facts::find(path)),
    }
}

/// The words behind a path that no fact has: the nearest one that there is.
pub(super) fn suggestion(path: &str) -> String {
    let table = fact_table::FACTS.iter().map(|fact| fact.path.to_owned());
    let around = surrounding_facts::facts().iter().map(|fact| fact.path.to_owned());
    let paths: Vec<String> = table.chain(around).chain(setting_facts::paths()).collect();
    crate::nearest::did_you_mean(path, paths.iter().map(String::as_str))
}

/// A fact of a group, where a name is the first part of paths: `estimate`, `machine`, `setting`, ...
pub(super) fn example_of(group: &str) -> Option<&'static str> {
    if Family::ALL.iter().any(|family| family.word() == group) {
        return find(&format!("{group}.tensor_parallel")).map(|fact| fact.path);
    }
    let around = surrounding_facts::facts().iter();
    let mut table = fact_table::FACTS.iter().chain(around).map(|fact| fact.path);
    table.find(|path| path.split('.').next() == Some(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_sorted_and_unique_so_that_look_up_finds_each() {
        for pair in facts().windows(2) {
            assert!(
                pair[0].path < pair[1].path,
                "{} after {}",
                pair[1].path,
                pair[0].path
            );
        }
        for fact in facts() {
            assert_eq!(find(fact.path).map(|found| found.path), Some(fact.path));
            assert!(
                fact.path
                    .split_once('.')
                    .is_some_and(|(_, name)| !name.contains('.'))
            );
        }
    }

    #[test]
    fn units_follow_types_so_that_cel_never_mixes_bytes_with_counts() {
        for fact in facts() {
            let expected = match fact.unit {
                Unit::Bytes | Unit::Ratio => fact.kind == Kind::Double,
                Unit::Tokens | Unit::Count => fact.kind == Kind::Int,
                Unit::None => matches!(fact.kind, Kind::Bool | Kind::Text | Kind::List),
            };
            assert!(
                expected,
                "{} is a {} of {:?}",
                fact.path,
                fact.kind.name(),
                fact.unit
            );
        }
    }

    #[test]
    fn an_empty_view_has_no_facts_and_reading_one_never_fails() {
        let sources = Sources::default();
        let view = View::new(&sources);
        for fact in facts() {
            assert_eq!(fact.read(&view), None, "{}", fact.path);
            assert_eq!(fact.span(&view), None, "{}", fact.path);
        }
    }
}
