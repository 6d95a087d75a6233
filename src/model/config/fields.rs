//! Reading fields of config.json with their places, their class defaults and their mistakes.
//!
//! In: the mapping of the text model and its class. Out: facts. A field that is there but cannot be right
//! (a word where a count belongs, a negative window, a layer count of 2^63) is reported with its place and
//! remembered as the reason why the model cannot be sized.

use std::cell::RefCell;

use crate::fact::Fact;
use crate::finding::{Finding, Label, Severity};
use crate::model::Refusal;
use crate::source::Span;
use crate::source::tree::{Node, Shape, Style};

use super::class::{Class, Value};

/// The largest count that a field may hold. No dimension of any model comes near it, and the products that are
/// made of such counts stay far from overflow.
const LARGEST_COUNT: u64 = 1 << 40;

/// A mapping of config.json with the defaults of its class.
pub(crate) struct Fields<'t> {
    root: Node<'t>,
    node: Node<'t>,
    class: Class,
    model_type: String,
    findings: RefCell<Vec<Finding>>,
    refusal: RefCell<Option<Refusal>>,
}

/// What a look-up found.
pub(crate) enum Found<'t, 'c> {
    /// The file declares it.
    Here(&'static str, Node<'t>),
    /// The file says that there is none.
    Null,
    /// The class supplies it.
    Class(&'c Value),
    /// Nobody says.
    Nowhere,
}

impl<'t> Fields<'t> {
    /// The fields of `node`, a model of type `model_type`, in the file whose top is `root`.
    pub(crate) fn new(root: Node<'t>, node: Node<'t>, model_type: &str) -> Self {
        Self {
            root,
            node,
            class: Class::of(model_type),
            model_type: model_type.to_owned(),
            findings: RefCell::default(),
            refusal: RefCell::default(),
        }
    }

    /// The top of the file.
    pub(crate) fn root(&self) -> Node<'t> {
        self.root
    }

    /// The mapping itself.
    pub(crate) fn node(&self) -> Node<'t> {
        self.node
    }

    /// The row of the catalog.
    pub(crate) fn class(&self) -> &Class {
        &self.class
    }

    /// The `model_type` whose defaults hold.
    pub(crate) fn model_type(&self) -> &str {
        &self.model_type
    }

    /// Everything that was wrong so far.
    pub(crate) fn take_findings(&self) -> Vec<Finding> {
        self.findings.take()
    }

    /// The first mistake that makes sizes impossible.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.borrow().clone()
    }

    /// The first of several spellings of a field: what the file declares wins, then the class default.
    pub(crate) fn find(&self, keys: &[&'static str]) -> Found<'t, '_> {
        let declared = keys.iter().find_map(|key| Some((*key, self.at(key)?)));
        match declared {
            Some((_, node)) if node.is_null() => Found::Null,
            Some((key, node)) => Found::Here(key, node),
            None => keys
                .iter()
                .find_map(|key| self.class.defaults.get(*key))
                .map_or(Found::Nowhere, Found::Class),
        }
    }

    /// The declared value of a field; `a.b` is a key inside a mapping.
    pub(crate) fn at(&self, key: &str) -> Option<Node<'t>> {
        key.split('.').try_fold(self.node, Node::get)
    }

    /// The declared value of a field unless it is null.
    pub(crate) fn declared(&self, key: &str) -> Option<Node<'t>> {
        self.at(key).filter(|node| !node.is_null())
    }

    /// A count, of the file or of the class.
    pub(crate) fn count(&self, keys: &[&'static str]) -> Option<Fact<u64>> {
        match self.find(keys) {
            Found::Here(key, node) => self.count_of(key, node).map(|value| Fact::at(value, node.span())),
            Found::Class(Value::Integer(value)) => Some(self.default(*value)),
            _ => None,
        }
    }

    /// A count that is at least one.
    pub(crate) fn positive(&self, keys: &[&'static str]) -> Option<Fact<u64>> {
        let fact = self.count(keys)?;
        if fact.value > 0 {
            return Some(fact);
        }
        if let Some(span) = fact.span() {
            let name = self.name_of(keys);
            self.wrong(span, &format!("{name} is 0: a model has at least one"), "0");
        }
        None
    }

    /// The value of a count, or `otherwise` when nobody says.
    pub(crate) fn number(&self, keys: &[&'static str], otherwise: u64) -> u64 {
        self.count(keys).map_or(otherwise, |fact| fact.value)
    }

    /// A number that need not be whole.
    pub(crate) fn float(&self, keys: &[&'static str], otherwise: f64) -> f64 {
        match self.find(keys) {
            Found::Here(_, node) => node.as_f64().unwrap_or(otherwise),
            Found::Class(Value::Number(value)) => *value,
            Found::Class(Value::Integer(value)) => *value as f64,
            _ => otherwise,
        }
    }

    /// A flag; absent and null are false.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.switch(key).unwrap_or(false)
    }

    /// A flag that may be absent.
    pub(crate) fn switch(&self, key: &str) -> Option<bool> {
        match self.at(key) {
            Some(node) => node.as_bool().or_else(|| node.as_u64().map(|number| number != 0)),
            None => match self.class.defaults.get(key) {
                Some(Value::Bool(value)) => Some(*value),
                _ => None,
            },
        }
    }

    /// A count under a key that the catalog names.
    pub(crate) fn count_at(&self, key: &str) -> Option<u64> {
        match (self.at(key), self.class.defaults.get(key)) {
            (Some(node), _) => self.count_of(key, node),
            (None, Some(Value::Integer(value))) => Some(*value),
            _ => None,
        }
    }

    /// A word.
    pub(crate) fn text(&self, key: &'static str) -> Option<Fact<String>> {
        match self.find(&[key]) {
            Found::Here(_, node) if node.shape() == Shape::Scalar => {
                Some(Fact::at(node.text()?.to_owned(), node.span()))
            }
            Found::Class(Value::Text(value)) => Some(Fact::default(value.clone(), self.whose())),
            _ => None,
        }
    }

    /// The items of a list that the file declares.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<Node<'t>>> {
        let node = self.declared(key)?;
        (node.shape() == Shape::Sequence).then(|| node.items().collect())
    }

    /// A list of counts, of the file or of the class.
    pub(crate) fn counts(&self, key: &'static str) -> Option<Vec<u64>> {
        match self.find(&[key]) {
            Found::Here(_, node) if node.shape() == Shape::Sequence => {
                Some(node.items().filter_map(|item| self.count_of(key, item)).collect())
            }
            Found::Class(Value::List(values)) => Some(values.clone()),
            _ => None,
        }
    }

    /// A value of the class with its origin.
    pub(crate) fn default<T>(&self, value: T) -> Fact<T> {
        Fact::default(value, self.whose())
    }

    fn whose(&self) -> String {
        format!("the default of {} in transformers 5.20", self.model_type)
    }

    /// The spelling that the file uses, else the first one.
    fn name_of(&self, keys: &[&'static str]) -> &'static str {
        let used = keys.iter().find(|key| self.at(key).is_some());
        used.or(keys.first()).copied().unwrap_or("")
    }

    /// Reads a count from a scalar and reports what cannot be one.
    pub(crate) fn count_of(&self, key: &str, node: Node<'_>) -> Option<u64> {
        // "auto" asks the class to derive the value.
        if node.text() == Some("auto") {
            return None;
        }
        // Some configs repeat one value for every layer.
        if let Some(value) = uniform(node) {
            return Some(value);
        }
        let number = node.as_f64();
        let reason = match (node.shape(), node.as_u64().or_else(|| number.and_then(whole))) {
            (Shape::Scalar, Some(count)) if count <= LARGEST_COUNT => return Some(count),
            (Shape::Scalar, Some(_)) => format!("{key} is larger than any model has"),
            (Shape::Scalar, None) if number.is_some_and(|number| number < 0.0) => {
                format!("{key} is negative")
            }
            (Shape::Scalar, None) if node.style() == Some(Style::Plain) && number.is_some() => {
                format!("{key} is not a whole number")
            }
            (Shape::Scalar, None) => format!("{key} is not a number"),
            (shape, _) => format!("{key} holds {}, expected a number", shape.words()),
        };
        self.wrong(node.span(), &reason, "expected a count");
        None
    }

    /// Reports a mistake at a place and remembers it as the reason why there is no size.
    pub(crate) fn wrong(&self, span: Span, reason: &str, label: &str) {
        self.report(span, reason, label, &[]);
    }

    /// Reports two facts that contradict each other, with both places.
    pub(crate) fn contradiction(
        &self,
        span: Span,
        reason: &str,
        label: &str,
        other: Option<&(Span, String)>,
    ) {
        self.report(span, reason, label, other.map_or(&[], std::slice::from_ref));
    }

    fn report(&self, span: Span, reason: &str, label: &str, related: &[(Span, String)]) {
        let mut findings = self.findings.borrow_mut();
        let known = |finding: &Finding| finding.primary.as_ref().is_some_and(|at| at.span == span);
        if findings.iter().any(known) {
            return;
        }
        let label = Label {
            span,
            text: label.to_owned(),
        };
        let finding = Finding::at("config-incomplete", Severity::Error, reason, label);
        findings.push(related.iter().fold(finding, |finding, (span, text)| {
            finding.with_related(*span, text.clone())
        }));
        self.refusal.borrow_mut().get_or_insert(Refusal {
            reason: reason.to_owned(),
            span: Some(span),
        });
    }
}

/// The value that every item of a list has.
fn uniform(list: Node<'_>) -> Option<u64> {
    let mut items = list.items();
    let first = items.next()?.as_u64().filter(|value| *value <= LARGEST_COUNT)?;
    items.all(|item| item.as_u64() == Some(first)).then_some(first)
}

/// A float that is a whole count, such as `4096.0` or `1e3`.
fn whole(number: f64) -> Option<u64> {
    let fits = number >= 0.0 && number.fract() == 0.0 && number <= LARGEST_COUNT as f64 * 4.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be whole and in range"
    )]
    fits.then_some(number as u64)
        .or((number > LARGEST_COUNT as f64).then_some(u64::MAX))
}
