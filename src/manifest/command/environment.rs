//! What a container's environment says, and what it leaves open.

use std::collections::BTreeMap;

use super::interpolation::{self, Found, Syntax};
use super::text::Text;
use crate::fact::Fact;
use crate::source::Span;

/// Variables by name.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, Variable>,
}

/// One variable.
#[derive(Debug, Clone)]
pub enum Variable {
    /// Its value is in the files.
    Known(Text),
    /// It is set to something that the files do not hold.
    Unknown {
        /// What holds the value, in words: "a secret", "the host's environment".
        why: &'static str,
        /// Where the variable is declared.
        span: Option<Span>,
    },
}

impl Variable {
    /// The value with its place, where it is known.
    pub fn fact(&self) -> Option<Fact<String>> {
        match self {
            Self::Known(text) => Some(text.fact()),
            Self::Unknown { .. } => None,
        }
    }
}

impl Environment {
    /// Sets a variable, and returns what it was before.
    pub fn set(&mut self, name: impl Into<String>, variable: Variable) -> Option<Variable> {
        self.variables.insert(name.into(), variable)
    }

    /// Sets a variable whose value is known.
    pub fn set_text(&mut self, name: impl Into<String>, value: Text) {
        self.set(name, Variable::Known(value));
    }

    /// Sets a variable whose value the files do not hold.
    pub fn set_unknown(&mut self, name: impl Into<String>, why: &'static str, span: Option<Span>) {
        self.set(name, Variable::Unknown { why, span });
    }

    /// Forgets a variable.
    pub fn remove(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// A variable.
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.variables.get(name)
    }

    /// The value of a variable, where it is known.
    pub fn text(&self, name: &str) -> Option<&Text> {
        match self.variables.get(name)? {
            Variable::Known(text) => Some(text),
            Variable::Unknown { .. } => None,
        }
    }

    /// Every variable in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.variables
            .iter()
            .map(|(name, variable)| (name.as_str(), variable))
    }

    /// True without variables.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    /// Resolves `$(A)` (and `${A}`) among the variables themselves. A variable that needs itself ends as unknown.
    pub fn resolve_references(&mut self) {
        let mut resolved = BTreeMap::new();
        for name in self.variables.keys() {
            self.resolve(name, &mut resolved, 0);
        }
        for (name, variable) in resolved {
            if let Some(variable) = variable {
                self.variables.insert(name, variable);
            }
        }
    }

    /// Puts the value of one variable into `resolved`; `None` there means that it is being resolved.
    fn resolve(&self, name: &str, resolved: &mut BTreeMap<String, Option<Variable>>, depth: usize) {
        let Some(variable) = self.variables.get(name).filter(|_| !resolved.contains_key(name)) else {
            return;
        };
        resolved.insert(name.to_owned(), None);
        let done = match variable {
            Variable::Known(text) if text.value().contains('$') => self.resolve_text(text, resolved, depth),
            other => other.clone(),
        };
        resolved.insert(name.to_owned(), Some(done));
    }

    fn resolve_text(
        &self,
        text: &Text,
        resolved: &mut BTreeMap<String, Option<Variable>>,
        depth: usize,
    ) -> Variable {
        let span = text.span();
        if depth >= MAX_CHAIN {
            return Variable::Unknown {
                why: "too long a chain of variables",
                span,
            };
        }
        for name in interpolation::names(text) {
            self.resolve(&name, resolved, depth + 1);
        }
        let circular = interpolation::names(text)
            .iter()
            .any(|name| matches!(resolved.get(name), Some(None)));
        if circular {
            return Variable::Unknown {
                why: "a variable that refers to itself",
                span,
            };
        }
        let look = |name: &str| match resolved.get(name) {
            Some(Some(Variable::Known(text))) => Found::Known(text.clone()),
            Some(_) => Found::Unknown,
            None => Found::Unset,
        };
        Variable::Known(interpolation::expand(text, Syntax::Either, &look))
    }
}

/// Longest chain of variables that refer to each other.
const MAX_CHAIN: usize = 32;
