//! Reading typed values from nodes, for every file whose keys are ours (manifests in our own format and
//! `.oomlint.yaml`): a wrong type, an unknown key or a repeated key becomes a finding with its place, and the
//! rest of the file is read on.

use crate::fact::Fact;
use crate::finding::{Finding, Label, Severity};
use crate::nearest::nearest;
use crate::source::Span;
use crate::source::tree::{Node, Shape};

/// Collects what is wrong while a file is read.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was wrong, in the order it was met.
    pub findings: Vec<Finding>,
}

impl Reader {
    /// Reports a value of the wrong type or range.
    pub fn invalid(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.report("value-invalid", span, message, label, None);
    }

    /// Reports a value of the wrong type or range, with the way out.
    pub fn invalid_with_help(
        &mut self,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.report("value-invalid", span, message, label, Some(help.into()));
    }

    fn report(
        &mut self,
        rule: &str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: Option<String>,
    ) {
        let label = Label {
            span,
            text: label.into(),
        };
        let mut finding = Finding::at(rule, Severity::Error, message, label);
        finding.help = help;
        self.findings.push(finding);
    }

    /// The pairs of a mapping whose keys are all in `known`; other keys and repeated keys are reported. A node
    /// that is not a mapping is reported and has no pairs.
    pub fn fields<'t>(&mut self, node: Node<'t>, what: &str, known: &[&str]) -> Vec<(&'t str, Node<'t>)> {
        if node.shape() != Shape::Mapping {
            let message = format!("{what} must be a mapping, and this is {}", node.shape().words());
            self.invalid(node.mention(), message, "expected keys and values");
            return Vec::new();
        }
        self.repeated_keys(node, what);
        let mut fields = Vec::new();
        for (key, value) in node.entries() {
            let name = key.text().unwrap_or("null");
            if known.contains(&name) {
                fields.push((name, value));
            } else {
                self.unknown_key(key.span(), what, name, known);
            }
        }
        fields
    }

    /// Reports keys that one mapping has twice.
    pub fn repeated_keys(&mut self, node: Node<'_>, what: &str) {
        for (first, later) in node.repeated_keys() {
            let name = later.text().unwrap_or("null");
            let message = format!("{what} has the key `{name}` twice");
            let label = Label {
                span: later.span(),
                text: "this one counts".to_owned(),
            };
            let finding = Finding::at("yaml-invalid", Severity::Error, message, label)
                .with_related(first.span(), "this one is ignored")
                .with_help(format!("remove one of the two `{name}` keys"));
            self.findings.push(finding);
        }
    }

    fn unknown_key(&mut self, span: Span, what: &str, name: &str, known: &[&str]) {
        let message = format!("{what} has no key `{name}`");
        let (label, help) = match nearest(name, known.iter().copied()) {
            Some(near) => (format!("did you mean `{near}`?"), None),
            None => (
                "unknown key".to_owned(),
                Some(format!("the keys are {}", known.join(", "))),
            ),
        };
        self.report("unknown-key", span, message, label, help);
    }

    /// The text of a single value; anything else is reported.
    pub fn text(&mut self, key: &str, node: Node<'_>) -> Option<Fact<String>> {
        let Some(text) = node.text() else {
            let shape = node.shape().words();
            self.invalid(
                node.mention(),
                format!("`{key}` must be a single value, and this is {shape}"),
                "expected text",
            );
            return None;
        };
        if text.trim().is_empty() {
            self.invalid(node.mention(), format!("`{key}` is empty"), "expected text");
            return None;
        }
        Some(Fact::at(text.to_owned(), node.mention()))
    }

    /// One value or a list of them, each read by `read`. An empty list is reported.
    pub fn one_or_many<T>(
        &mut self,
        key: &str,
        node: Node<'_>,
        mut read: impl FnMut(&mut Self, Node<'_>) -> Option<Fact<T>>,
    ) -> Vec<Fact<T>> {
        if node.shape() != Shape::Sequence {
            return read(self, node).into_iter().collect();
        }
        let items: Vec<_> = node.items().collect();
        if items.is_empty() {
            self.invalid(
                node.mention(),
                format!("`{key}` is an empty list"),
                "expected at least one value",
            );
        }
        items.into_iter().filter_map(|item| read(self, item)).collect()
    }

    /// A count of at least 1, with the suffixes of [`parse_count`](crate::engine::settings::parse_count).
    pub fn count(&mut self, key: &str, node: Node<'_>) -> Option<Fact<u64>> {
        let text = self.text(key, node)?;
        match crate::engine::settings::parse_count(&text.value) {
            Some(0) => {
                self.invalid(node.mention(), format!("`{key}` is 0"), "expected at least 1");
                None
            }
            Some(count) => Some(text.map(|_| count)),
            None => {
                let message = format!("`{key}` is not a count: {}", text.value);
                let help = "write a whole number, or one with k or m: 8192 and 8k are the same";
                self.invalid_with_help(node.mention(), message, "expected a whole number", help);
                None
            }
        }
    }
}
