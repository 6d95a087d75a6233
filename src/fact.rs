//! A value and where it comes from.
//!
//! Everything that a rule can name is a [`Fact`]: labels, suppression, SARIF regions and fixes all follow
//! from its [`Origin`], and a message can always say where a number came from.

use std::borrow::Cow;

use crate::source::Span;

/// A value with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// These characters of a file.
    At(Span),
    /// Nothing was declared; the words say whose default it is.
    Default(Cow<'static, str>),
    /// Computed from other facts; the spans are those of the facts that a file declares.
    Derived(Vec<Span>),
}

impl Origin {
    /// The characters to point at, if a file declares the value or a value it was computed from.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::At(span) => Some(*span),
            Self::Default(_) => None,
            Self::Derived(spans) => spans.first().copied(),
        }
    }
}

impl<T> Fact<T> {
    /// A value that a file declares.
    pub fn at(value: T, span: Span) -> Self {
        Self {
            value,
            origin: Origin::At(span),
        }
    }

    /// A value that nobody declared. `why` completes "…, which is ".
    pub fn default(value: T, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            value,
            origin: Origin::Default(why.into()),
        }
    }

    /// A value computed from others.
    pub fn derived(value: T, from: impl IntoIterator<Item = Span>) -> Self {
        Self {
            value,
            origin: Origin::Derived(from.into_iter().collect()),
        }
    }

    /// The characters to point at.
    pub fn span(&self) -> Option<Span> {
        self.origin.span()
    }

    /// The same origin with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Fact<U> {
        Fact {
            value: change(self.value),
            origin: self.origin,
        }
    }

    /// True when a file declares the value itself.
    pub fn is_declared(&self) -> bool {
        matches!(self.origin, Origin::At(_))
    }
}
