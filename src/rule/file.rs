//! The rule as written: a YAML file with every value's characters.
//!
//! In: one source file. Out: a [`RuleFile`], or findings for what is not a rule file: unknown and repeated
//! keys, missing keys, values of the wrong shape. What the texts mean is checked by [`super::load`]. It reads
//! the tree of [`crate::source::tree`] rather than typed serde structs, since every key and every character of
//! a condition may have to be pointed at, and since all problems of a file are told at once.

use crate::finding::{Finding, Label, Severity};
use crate::nearest::did_you_mean;
use crate::source::tree::{Node, Shape, Tree};
use crate::source::{SourceFile, Span};

/// The rule id of findings about rule files.
pub const RULE_INVALID: &str = "rule-invalid";

/// Every key of a rule file.
const KEYS: [&str; 17] = [
    "id",
    "group",
    "severity",
    "severity_when",
    "since",
    "scope",
    "summary",
    "when",
    "message",
    "labels",
    "worst",
    "cells",
    "help",
    "fix",
    "supersedes",
    "why",
    "references",
];

/// A text and its characters.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) span: Span,
}

/// One line of `help`: said always, or only where a condition holds.
#[derive(Debug, Clone)]
pub(super) struct WrittenClause {
    pub(super) when: Option<Written>,
    pub(super) say: Written,
}

/// One of `{set: path, to: expression}`, `{remove: path}`, `{rename: path, to: flag}`,
/// `{insert_arg: flag, value: expression}` and `{insert_key: key, value: expression, beside: path}`, with `safe`
/// and `when`.
#[derive(Debug, Clone)]
pub(super) struct WrittenFix {
    pub(super) when: Option<Written>,
    pub(super) form: FixForm,
    /// What is set, removed, renamed or inserted.
    pub(super) what: Written,
    /// `to` or `value`.
    pub(super) value: Option<Written>,
    pub(super) beside: Option<Written>,
    pub(super) safe: bool,
}

/// What a fix does, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FixForm {
    Set,
    Remove,
    Rename,
    InsertArg,
    InsertKey,
}

impl FixForm {
    /// Each form with its key, and the key of its value where it needs one.
    const ALL: [(Self, &'static str, Option<&'static str>); 5] = [
        (Self::Set, "set", Some("to")),
        (Self::Remove, "remove", None),
        (Self::Rename, "rename", Some("to")),
        (Self::InsertArg, "insert_arg", None),
        (Self::InsertKey, "insert_key", Some("value")),
    ];

    /// The keys that a fix of this form may have.
    fn keys(self, own: &'static str) -> Vec<&'static str> {
        let more: &[&str] = match self {
            Self::Set | Self::Rename => &["to"],
            Self::Remove => &[],
            Self::InsertArg => &["value"],
            Self::InsertKey => &["value", "beside"],
        };
        [&[own, "safe", "when"], more].concat()
    }
}

/// The rule as its file says it.
#[derive(Debug, Clone, Default)]
pub(super) struct RuleFile {
    pub(super) id: Option<Written>,
    pub(super) group: Option<Written>,
    pub(super) severity: Option<Written>,
    pub(super) severity_when: Vec<(Written, Written)>,
    pub(super) since: Option<Written>,
    pub(super) scope: Option<Written>,
    pub(super) summary: Option<Written>,
    pub(super) when: Option<Written>,
    pub(super) message: Option<Written>,
    pub(super) labels: Vec<(Written, Written)>,
    pub(super) worst: Option<Written>,
    pub(super) cells: Vec<(Written, Written)>,
    pub(super) help: Vec<WrittenClause>,
    pub(super) fix: Vec<WrittenFix>,
    pub(super) supersedes: Vec<Written>,
    pub(super) why: Option<Written>,
    pub(super) references: Vec<Written>,
}

/// A finding about a rule file.
pub(super) fn invalid(span: Span, message: impl Into<String>) -> Finding {
    let text = String::new();
    Finding::at(RULE_INVALID, Severity::Error, message, Label { span, text })
}

impl RuleFile {
    /// Reads a file; every problem becomes a finding.
    pub(super) fn read(file: &SourceFile, problems: &mut Vec<Finding>) -> Self {
        let tree = Tree::parse(file);
        for problem in &tree.problems {
            problems.push(invalid(problem.span, format!("not YAML: {}", problem.message)));
        }
        let mut rule = Self::default();
        match tree.documents.as_slice() {
            [only] => Reader { problems }.rule(only.root(), &mut rule),
            [_, second, ..] => problems.push(invalid(second.root().span(), "a rule file holds one rule")),
            [] if tree.problems.is_empty() => problems.push(invalid(file.span(0..0), "the file is empty")),
            [] => {}
        }
        rule
    }
}

struct Reader<'p> {
    problems: &'p mut Vec<Finding>,
}

impl Reader<'_> {
    fn report(&mut self, span: Span, message: impl Into<String>) {
        self.problems.push(invalid(span, message));
    }

    fn rule(&mut self, root: Node<'_>, rule: &mut RuleFile) {
        if root.shape() != Shape::Mapping {
            return self.report(
                root.span(),
                format!("a rule is a mapping, this is {}", root.shape().words()),
            );
        }
        self.known_keys(root, &KEYS);
        for (key, value) in root.entries() {
            match key.text().unwrap_or("") {
                "id" => rule.id = self.text(value),
                "group" => rule.group = self.text(value),
                "severity" => rule.severity = self.text(value),
                "severity_when" => rule.severity_when = self.severities(value),
                "since" => rule.since = self.text(value),
                "scope" => rule.scope = self.text(value),
                "summary" => rule.summary = self.text(value),
                "when" => rule.when = self.text(value),
                "message" => rule.message = self.text(value),
                "labels" => rule.labels = self.texts_by_key(value),
                "worst" => rule.worst = self.text(value),
                "cells" => rule.cells = self.texts_by_key(value),
                "help" => rule.help = self.help(value),
                "fix" => rule.fix = self.fixes(value),
                "supersedes" => rule.supersedes = self.texts(value),
                "why" => rule.why = self.text(value),
                "references" => rule.references = self.texts(value),
                _ => {}
            }
        }
    }

    fn known_keys(&mut self, mapping: Node<'_>, known: &[&str]) {
        for (key, _) in mapping.entries() {
            let name = key.text().unwrap_or("");
            if !known.contains(&name) {
                let hint = did_you_mean(name, known.iter().copied());
                self.report(key.span(), format!("unknown key `{name}`{hint}"));
            }
        }
        for (_, again) in mapping.repeated_keys() {
            let name = again.text().unwrap_or("");
            self.report(again.span(), format!("`{name}` is given twice"));
        }
    }

    fn text(&mut self, node: Node<'_>) -> Option<Written> {
        let Some(text) = node.text() else {
            self.report(
                node.span(),
                format!("needs a text, this is {}", node.shape().words()),
            );
            return None;
        };
        Some(Written {
            text: text.to_owned(),
            span: node.span(),
        })
    }

    fn texts(&mut self, node: Node<'_>) -> Vec<Written> {
        if node.shape() != Shape::Sequence {
            self.report(
                node.span(),
                format!("needs a list, this is {}", node.shape().words()),
            );
        }
        node.items().filter_map(|item| self.text(item)).collect()
    }

    fn texts_by_key(&mut self, node: Node<'_>) -> Vec<(Written, Written)> {
        if node.shape() != Shape::Mapping {
            self.report(
                node.span(),
                format!("needs a mapping, this is {}", node.shape().words()),
            );
        }
        let mut pairs = Vec::new();
        for (key, value) in node.entries() {
            if let (Some(key), Some(value)) = (self.text(key), self.text(value)) {
                pairs.push((key, value));
            }
        }
        pairs
    }

    /// A value of a small mapping that must be there.
    fn part<'t>(&mut self, mapping: Node<'t>, key: &str) -> Option<Node<'t>> {
        let found = mapping.get(key);
        if found.is_none() {
            self.report(mapping.span(), format!("`{key}` is missing"));
        }
        found
    }

    fn severities(&mut self, node: Node<'_>) -> Vec<(Written, Written)> {
        if node.shape() != Shape::Sequence {
            self.report(node.span(), "needs a list of `{when, severity}`");
        }
        let mut cases = Vec::new();
        for item in node.items() {
            self.known_keys(item, &["when", "severity"]);
            let when = self.part(item, "when").and_then(|when| self.text(when));
            let severity = self
                .part(item, "severity")
                .and_then(|severity| self.text(severity));
            cases.extend(when.zip(severity));
        }
        cases
    }

    fn help(&mut self, node: Node<'_>) -> Vec<WrittenClause> {
        match node.shape() {
            Shape::Sequence => node.items().filter_map(|item| self.clause(item)).collect(),
            _ => self.clause(node).into_iter().collect(),
        }
    }

    fn clause(&mut self, node: Node<'_>) -> Option<WrittenClause> {
        if node.shape() != Shape::Mapping {
            let say = self.text(node)?;
            return Some(WrittenClause { when: None, say });
        }
        self.known_keys(node, &["when", "say"]);
        let when = self.part(node, "when").and_then(|when| self.text(when));
        let say = self.part(node, "say").and_then(|say| self.text(say))?;
        Some(WrittenClause { when, say })
    }

    fn fixes(&mut self, node: Node<'_>) -> Vec<WrittenFix> {
        match node.shape() {
            Shape::Sequence => node.items().filter_map(|item| self.fix(item)).collect(),
            _ => self.fix(node).into_iter().collect(),
        }
    }

    fn fix(&mut self, node: Node<'_>) -> Option<WrittenFix> {
        let form = FixForm::ALL
            .into_iter()
            .find(|(_, key, _)| node.get(key).is_some());
        let Some((form, key, needed)) = form.filter(|_| node.shape() == Shape::Mapping) else {
            let keys = FixForm::ALL.map(|(_, key, _)| format!("`{key}`")).join(", ");
            self.report(node.span(), format!("a fix has one of {keys}"));
            return None;
        };
        self.known_keys(node, &form.keys(key));
        let what = node.get(key).and_then(|what| self.text(what));
        let value = match needed {
            Some(needed) => Some(self.part(node, needed).and_then(|value| self.text(value))?),
            None => node.get("value").and_then(|value| self.text(value)),
        };
        let safe = node.get("safe").map(|safe| (safe.as_bool(), safe.span()));
        if let Some((None, span)) = safe {
            self.report(span, "`safe` is true or false");
        }
        Some(WrittenFix {
            when: node.get("when").and_then(|when| self.text(when)),
            form,
            what: what?,
            value,
            beside: node.get("beside").and_then(|beside| self.text(beside)),
            safe: safe.and_then(|(safe, _)| safe).unwrap_or(false),
        })
    }
}
