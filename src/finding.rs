//! What a rule says of a file: the one type that every report renders.
//!
//! A finding knows rule, severity, words and places; it knows nothing of terminals or formats.

use std::sync::Arc;

use crate::source::Span;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; never fails a run by default.
    Info,
    /// Likely to fail or to disappoint.
    Warning,
    /// Certain to fail.
    Error,
}

impl Severity {
    /// The word used in reports and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Characters and what to say about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The characters.
    pub span: Span,
    /// A short phrase.
    pub text: String,
}

/// A change to one file that mends a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// True when applying it cannot change what the author meant.
    pub safe: bool,
    /// The replacements.
    pub edits: Vec<Edit>,
}

/// Characters and what takes their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The characters replaced.
    pub span: Span,
    /// The new text.
    pub text: String,
}

/// One thing that one rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's id.
    pub rule: Arc<str>,
    /// How bad.
    pub severity: Severity,
    /// One line with the two numbers that collide.
    pub message: String,
    /// The way out, with numbers; may have several lines.
    pub help: Option<String>,
    /// The place. `None` only for findings about something that is not a text, such as a missing folder; then
    /// [`Finding::path`] names it.
    pub primary: Option<Label>,
    /// The file or folder when there is no place in a text.
    pub path: Option<String>,
    /// Evidence elsewhere, in this file or another.
    pub related: Vec<Label>,
    /// The path of the fact that the place states.
    pub fact: Option<&'static str>,
    /// The deployment it speaks of, by position in the report.
    pub deployment: Option<usize>,
    /// The scenarios it speaks of, by position in the report.
    pub scenarios: Vec<usize>,
    /// A change that mends it.
    pub fix: Option<Fix>,
    /// The reason given when a comment or a setting silences it.
    pub suppressed: Option<String>,
}

impl Finding {
    /// A finding at a place.
    pub fn at(rule: &str, severity: Severity, message: impl Into<String>, label: Label) -> Self {
        let primary = Some(label);
        Self {
            primary,
            ..Self::about(rule, severity, message, String::new()).without_path()
        }
    }

    /// A finding about a file or folder as a whole.
    pub fn about(
        rule: &str,
        severity: Severity,
        message: impl Into<String>,
        path: impl Into<String>,
    ) -> Self {
        Self {
            rule: rule.into(),
            severity,
            message: message.into(),
            help: None,
            primary: None,
            path: Some(path.into()),
            related: Vec::new(),
            fact: None,
            deployment: None,
            scenarios: Vec::new(),
            fix: None,
            suppressed: None,
        }
    }

    fn without_path(self) -> Self {
        Self { path: None, ..self }
    }

    /// The same finding with a way out.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// The same finding with one more piece of evidence.
    #[must_use]
    pub fn with_related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.push(Label {
            span,
            text: text.into(),
        });
        self
    }
}
