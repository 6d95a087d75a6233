//! Rules as data: the file as written, and the rule that can run.
//!
//! In: YAML files, the built-in ones of `rules/` and a user's own. Out: [`Rules`] in which every name, type
//! and unit has been checked, or findings with the exact characters of what is wrong. [`facts`] is the schema
//! of what rules may name; [`crate::lint`] runs them.

pub mod change;
pub mod condition;
mod deployment_facts;
mod evaluate;
mod fact_table;
pub mod facts;
mod file;
mod load;
pub mod page;
pub mod setting_facts;
mod sharding_facts;
mod surrounding_facts;
pub mod template;
#[cfg(test)]
mod tests;
pub(crate) mod units;
#[cfg(test)]
pub(crate) mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use include_dir::{Dir, include_dir};

use crate::finding::{Finding, Severity};
use crate::report::RuleSummary;
use crate::source::Sources;

pub use change::{Change, FixTemplate};
pub use condition::Condition;
pub use facts::{FactDefinition, Scope, View};
pub use file::RULE_INVALID;
pub use template::Template;

static BUILT_IN_FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/rules");

/// A rule that can run.
#[derive(Debug)]
pub struct Rule {
    /// Kebab-case, stable for ever.
    pub id: Arc<str>,
    /// What it belongs to in lists: `fit`, `context`, `files`, ...
    pub group: String,
    /// How bad a finding of it is, before settings and [`Rule::severity_when`].
    pub severity: Severity,
    /// The first condition that holds sets the severity.
    pub severity_when: Vec<(Condition, Severity)>,
    /// The release it came with; empty for a user's own.
    pub since: String,
    /// What it is evaluated on.
    pub scope: Scope,
    /// One line.
    pub summary: String,
    /// When it speaks; `None` for structural rules.
    pub when: Option<Condition>,
    /// What it says in one line; `None` for structural rules.
    pub message: Option<Template>,
    /// The facts to point at, in the order to try, each with a few words.
    pub labels: Vec<(&'static FactDefinition, Template)>,
    /// The fact by which the worst of several cells is chosen.
    pub worst: &'static FactDefinition,
    /// The columns of the table of further cells: heading and content.
    pub cells: Vec<(String, Template)>,
    /// The way out, line by line. A line is left out where a fact it names is absent.
    pub help: Vec<Clause>,
    /// Changes that mend it; the first that can be made is proposed.
    pub fix: Vec<FixTemplate>,
    /// Rules that stay silent where this one speaks.
    pub supersedes: Vec<Arc<str>>,
    /// Why it exists, in Markdown.
    pub why: String,
    /// Sources.
    pub references: Vec<String>,
}

/// A line of help.
#[derive(Debug)]
pub struct Clause {
    /// Said only where this holds.
    pub when: Option<Condition>,
    /// What is said.
    pub say: Template,
}

/// The rules of a run, sorted by id.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    by_id: BTreeMap<Arc<str>, Arc<Rule>>,
}

impl Rules {
    /// The rules that come with the program.
    pub fn builtin() -> &'static Self {
        static BUILT_IN: OnceLock<Rules> = OnceLock::new();
        BUILT_IN.get_or_init(|| {
            // The files are part of the program, and a test loads each: there are no findings to tell here.
            let (rules, _) = load::load(&Self::default(), builtin_files(), &Sources::default());
            rules
        })
    }

    /// The built-in rules and those of further files, given as path for reports and text. The texts join
    /// `sources`, where the spans of the findings lie.
    ///
    /// # Errors
    ///
    /// Every problem of every file, as findings of [`RULE_INVALID`].
    pub fn load<P: Into<String>, T: Into<String>>(
        files: impl Iterator<Item = (P, T)>,
        sources: &Sources,
    ) -> Result<Self, Vec<Finding>> {
        let files = files.map(|(path, text)| (path.into(), text.into()));
        let (rules, problems) = load::load(Self::builtin(), files, sources);
        if problems.is_empty() {
            Ok(rules)
        } else {
            Err(problems)
        }
    }

    /// Every rule, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.by_id.values().map(AsRef::as_ref)
    }

    /// One rule.
    pub fn get(&self, id: &str) -> Option<&Rule> {
        self.by_id.get(id).map(AsRef::as_ref)
    }

    /// The ids of all rules, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(AsRef::as_ref)
    }

    /// What reports say of the rules, by id.
    pub fn summaries(&self) -> Vec<RuleSummary> {
        let summary = |rule: &Rule| RuleSummary {
            id: rule.id.to_string(),
            summary: rule.summary.clone(),
            severity: rule.severity,
            why: rule.why.clone(),
            references: rule.references.clone(),
        };
        self.iter().map(summary).collect()
    }

    /// The severity of a structural rule, for the code that raises its findings.
    pub fn severity(&self, id: &str) -> Severity {
        self.get(id).map_or(Severity::Error, |rule| rule.severity)
    }
}

fn builtin_files() -> impl Iterator<Item = (String, String)> {
    BUILT_IN_FILES.files().filter_map(|file| {
        let path = file.path().to_str()?;
        Some((format!("rules/{path}"), file.contents_utf8()?.to_owned()))
    })
}

/// What is wrong with a text of a rule file, by range in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    range: Range<usize>,
    message: String,
}

impl Problem {
    fn new(range: Range<usize>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { range, message }
    }
}

/// The fact of a path that a rule of a scope may name, or why there is none.
fn named_fact(path: &str, scope: Scope) -> Result<&'static FactDefinition, String> {
    let Some(fact) = facts::find(path) else {
        return Err(format!("no fact is called `{path}`{}", facts::suggestion(path)));
    };
    if scope.knows(fact.scope) {
        return Ok(fact);
    }
    Err(format!(
        "a rule with `scope: {}` does not know `{path}`, which differs from {} to {}",
        scope.word(),
        fact.scope.word(),
        fact.scope.word()
    ))
}
