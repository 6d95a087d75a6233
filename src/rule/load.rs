//! From the rule as written to the rule that can run: every check that can be made before anything is linted.
//!
//! In: rule files. Out: rules, and a finding for every problem at its exact characters. Nothing that passes
//! here can fail later for a reason that the author of the rule could have been told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::{Change, FixTemplate};
use super::condition::{self, Condition, Formula};
use super::facts::{self, FactDefinition, Kind, Scope, Unit};
use super::file::{FixForm, RuleFile, Written, WrittenFix, invalid};
use super::template::Template;
use super::{Clause, Problem, Rule, Rules, named_fact};
use crate::finding::{Finding, Severity};
use crate::nearest::did_you_mean;
use crate::source::map::ScalarMap;
use crate::source::{SourceFile, Sources, Span};

/// The fact that tells the worst cell where a rule does not say.
const WORST: &str = "estimate.over_bytes";

/// The columns of the table of further cells where a rule does not say.
const CELLS: [(&str, &str); 6] = [
    ("machine", "{machine.name}"),
    ("context", "{scenario.context:count}"),
    ("batch", "{scenario.batch}"),
    ("KV", "{scenario.kv_cache}"),
    ("needs", "{estimate.required_bytes:GiB}"),
    ("has", "{estimate.usable_bytes:GiB}"),
];

/// Adds the rules of `files` to `known`. Files with problems add nothing.
pub(super) fn load(
    known: &Rules,
    files: impl Iterator<Item = (String, String)>,
    sources: &Sources,
) -> (Rules, Vec<Finding>) {
    let mut problems = Vec::new();
    let mut rules = known.clone();
    let mut superseded = Vec::new();
    let mut places: BTreeMap<Arc<str>, Span> = BTreeMap::new();
    for (path, text) in files {
        let file = sources.add(path, text);
        let before = problems.len();
        let written = RuleFile::read(&file, &mut problems);
        superseded.extend(written.supersedes.iter().cloned());
        let Some(id) = written.id.clone() else {
            if problems.len() == before {
                problems.push(invalid(file.span(0..1), "`id` is missing"));
            }
            continue;
        };
        // An id counts as taken even where the rest of its file has problems.
        let name: Arc<str> = id.text.as_str().into();
        if known.get(&name).is_some() {
            let message = format!("`{name}` is a built-in rule; a rule of your own needs an id of its own");
            problems.push(invalid(id.span, message));
        } else if let Some(first) = places.insert(Arc::clone(&name), id.span) {
            let twice = invalid(id.span, format!("two rules are called `{name}`"));
            problems.push(twice.with_related(first, "the other one"));
        } else if let Some(rule) = Loader::new(&file, &mut problems).rule(written, &id) {
            rules.by_id.insert(name, Arc::new(rule));
        }
    }
    for name in superseded {
        if rules.get(&name.text).is_none() && !places.contains_key(name.text.as_str()) {
            let hint = did_you_mean(&name.text, rules.ids());
            problems.push(invalid(
                name.span,
                format!("no rule is called `{}`{hint}", name.text),
            ));
        }
    }
    (rules, problems)
}

struct Loader<'l> {
    file: &'l SourceFile,
    problems: &'l mut Vec<Finding>,
}

impl<'l> Loader<'l> {
    fn new(file: &'l SourceFile, problems: &'l mut Vec<Finding>) -> Self {
        Self { file, problems }
    }

    /// The rule, or `None` with at least one problem told.
    fn rule(&mut self, written: RuleFile, id: &Written) -> Option<Rule> {
        let before = self.problems.len();
        self.id(id);
        let severity = self
            .required(written.severity.as_ref(), id, "severity")
            .and_then(|s| self.severity(&s));
        let scope = self
            .required(written.scope.as_ref(), id, "scope")
            .and_then(|s| self.scope(&s));
        let scope = scope?;
        let when = match &written.when {
            _ if scope == Scope::Structural => self.refuse_expressions(&written),
            Some(when) => self.condition(when, scope),
            None => self.missing(id, "when"),
        };
        let message = match &written.message {
            _ if scope == Scope::Structural => None,
            Some(message) => self.one_line(message, scope),
            None => self.missing(id, "message"),
        };
        let rule = Rule {
            id: id.text.as_str().into(),
            group: written
                .group
                .as_ref()
                .map_or_else(|| "custom".to_owned(), |group| group.text.clone()),
            severity: severity.unwrap_or(Severity::Error),
            severity_when: self.severity_when(&written.severity_when, scope),
            since: written
                .since
                .as_ref()
                .map_or_else(String::new, |since| since.text.clone()),
            scope,
            summary: summary(&written),
            when,
            message,
            labels: self.labels(&written.labels, scope),
            worst: self.worst(written.worst.as_ref(), scope)?,
            cells: self.cells(&written.cells, scope),
            help: self.help(&written, scope),
            fix: written
                .fix
                .iter()
                .filter_map(|fix| self.fix(fix, scope))
                .collect(),
            supersedes: written
                .supersedes
                .iter()
                .map(|id| id.text.as_str().into())
                .collect(),
            why: written.why.map_or_else(String::new, |why| why.text),
            references: written
                .references
                .into_iter()
                .map(|reference| reference.text)
                .collect(),
        };
        (self.problems.len() == before).then_some(rule)
    }

    fn report(&mut self, span: Span, message: impl Into<String>) {
        self.problems.push(invalid(span, message));
    }

    /// Tells the problems of a text at their characters in the file.
    fn report_in(&mut self, written: &Written, problems: Vec<Problem>) {
        let map = ScalarMap::new(self.file, written.span, &written.text);
        // The line break that ends a block scalar is no place to point at.
        let last = written.text.trim_end().len();
        for Problem { range, message } in problems {
            let end = range.end.min(last).max(range.start);
            self.report(map.span(self.file, range.start..end), message);
        }
    }

    fn missing<T>(&mut self, id: &Written, key: &str) -> Option<T> {
        self.report(id.span, format!("this rule has no `{key}`"));
        None
    }

    fn required(&mut self, value: Option<&Written>, id: &Written, key: &str) -> Option<Written> {
        value.cloned().or_else(|| self.missing(id, key))
    }

    fn id(&mut self, id: &Written) {
        let kebab = id.text.split('-').all(|word| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        });
        if !kebab {
            return self.report(
                id.span,
                format!("`{}` is not kebab-case, such as `weights-do-not-fit`", id.text),
            );
        }
        let name = self.file.path().rsplit(['/', '\\']).next().unwrap_or("");
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        if stem != id.text {
            self.report(
                id.span,
                format!(
                    "the rule `{}` lies in a file called `{name}`; both have one name",
                    id.text
                ),
            );
        }
    }

    fn severity(&mut self, written: &Written) -> Option<Severity> {
        let all = [Severity::Error, Severity::Warning, Severity::Info];
        let found = all.into_iter().find(|severity| severity.word() == written.text);
        if found.is_none() {
            let hint = did_you_mean(&written.text, all.map(Severity::word));
            self.report(
                written.span,
                format!(
                    "a severity is error, warning or info, not `{}`{hint}",
                    written.text
                ),
            );
        }
        found
    }

    fn scope(&mut self, written: &Written) -> Option<Scope> {
        let found = Scope::ALL.into_iter().find(|scope| scope.word() == written.text);
        if found.is_none() {
            let words = Scope::ALL.map(Scope::word);
            let hint = did_you_mean(&written.text, words);
            self.report(
                written.span,
                format!(
                    "a scope is one of {}, not `{}`{hint}",
                    words.join(", "),
                    written.text
                ),
            );
        }
        found
    }

    fn condition(&mut self, written: &Written, scope: Scope) -> Option<Condition> {
        match Condition::compile(&written.text, scope) {
            Ok(condition) => Some(condition),
            Err(problems) => {
                self.report_in(written, problems);
                None
            }
        }
    }

    fn template(&mut self, written: &Written, scope: Scope) -> Option<Template> {
        match Template::parse(&written.text, scope) {
            Ok(template) => Some(template),
            Err(problems) => {
                self.report_in(written, problems);
                None
            }
        }
    }

    /// A message is one line in every report; what needs more room is help.
    fn one_line(&mut self, written: &Written, scope: Scope) -> Option<Template> {
        if written.text.trim_end().contains('\n') {
            self.report(
                written.span,
                "a message is one line; further lines belong in `help`",
            );
        }
        self.template(written, scope)
    }

    fn fact(&mut self, written: &Written, scope: Scope) -> Option<&'static FactDefinition> {
        match named_fact(&written.text, scope) {
            Ok(fact) => Some(fact),
            Err(message) => {
                self.report(written.span, message);
                None
            }
        }
    }

    /// A structural rule is raised by the program: a condition or a message in its file would never be read.
    fn refuse_expressions<T>(&mut self, written: &RuleFile) -> Option<T> {
        for text in [&written.when, &written.message].into_iter().flatten() {
            self.report(
                text.span,
                "a structural rule is raised by the program and has neither condition nor message",
            );
        }
        None
    }

    fn severity_when(&mut self, cases: &[(Written, Written)], scope: Scope) -> Vec<(Condition, Severity)> {
        let mut checked = Vec::new();
        for (when, severity) in cases {
            checked.extend(self.condition(when, scope).zip(self.severity(severity)));
        }
        checked
    }

    fn labels(
        &mut self,
        labels: &[(Written, Written)],
        scope: Scope,
    ) -> Vec<(&'static FactDefinition, Template)> {
        let mut checked = Vec::new();
        for (path, text) in labels {
            checked.extend(self.fact(path, scope).zip(self.template(text, scope)));
        }
        checked
    }

    fn worst(&mut self, written: Option<&Written>, scope: Scope) -> Option<&'static FactDefinition> {
        let Some(written) = written else {
            return facts::find(WORST);
        };
        let fact = self.fact(written, scope)?;
        if !matches!(fact.kind, Kind::Int | Kind::Double) {
            self.report(
                written.span,
                format!(
                    "`{}` is no number: the worst cell is the one with the most",
                    fact.path
                ),
            );
        }
        Some(fact)
    }

    fn cells(&mut self, cells: &[(Written, Written)], scope: Scope) -> Vec<(String, Template)> {
        if scope != Scope::Scenario {
            for (heading, _) in cells {
                self.report(heading.span, "only a rule with `scope: scenario` has cells");
            }
            return Vec::new();
        }
        if cells.is_empty() {
            let columns = CELLS
                .iter()
                .map(|(heading, text)| (*heading, Template::parse(text, scope)));
            return columns
                .filter_map(|(heading, text)| Some((heading.to_owned(), text.ok()?)))
                .collect();
        }
        let mut checked = Vec::new();
        for (heading, text) in cells {
            checked.extend(
                self.template(text, scope)
                    .map(|text| (heading.text.clone(), text)),
            );
        }
        checked
    }

    fn help(&mut self, written: &RuleFile, scope: Scope) -> Vec<Clause> {
        let mut checked = Vec::new();
        for clause in &written.help {
            let when = clause.when.as_ref().and_then(|when| self.condition(when, scope));
            let say = self.template(&clause.say, scope);
            checked.extend(say.map(|say| Clause { when, say }));
        }
        checked
    }

    fn fix(&mut self, written: &WrittenFix, scope: Scope) -> Option<FixTemplate> {
        let before = self.problems.len();
        let when = written.when.as_ref().and_then(|when| self.condition(when, scope));
        let what = written.what.text.clone();
        let change = match written.form {
            FixForm::Set => self.set(written, scope),
            FixForm::Remove => self.fact(&written.what, scope).map(Change::Remove),
            FixForm::Rename => {
                let to = written.value.clone()?;
                self.flag(&to);
                self.fact(&written.what, scope)
                    .map(|fact| Change::Rename(fact, to.text))
            }
            FixForm::InsertArg => {
                self.flag(&written.what);
                let value = written
                    .value
                    .as_ref()
                    .and_then(|value| self.formula(value, scope));
                Some(Change::InsertArg(what, value))
            }
            FixForm::InsertKey => {
                let value = self.formula(written.value.as_ref()?, scope);
                let beside = written.beside.as_ref().and_then(|fact| self.fact(fact, scope));
                value.map(|value| Change::InsertKey(what, value, beside))
            }
        };
        let safe = written.safe;
        let change = change.filter(|_| self.problems.len() == before)?;
        Some(FixTemplate { when, change, safe })
    }

    fn set(&mut self, written: &WrittenFix, scope: Scope) -> Option<Change> {
        let fact = self.fact(&written.what, scope)?;
        let to = written.value.as_ref()?;
        let formula = self.formula(to, scope)?;
        if fact.kind == Kind::List || fact.unit == Unit::Bytes {
            let message = format!("`{}` has no value that a file could hold", fact.path);
            self.report(written.what.span, message);
        } else if let Some(other) = formula
            .as_fact()
            .filter(|other| other.unit != fact.unit && fact.kind != Kind::Text)
        {
            let message = format!("`{}` and `{}` are not of one kind", fact.path, other.path);
            self.report(to.span, message);
        } else if !formula.suits(fact.kind) {
            let message = format!(
                "`{}` is {}, and this is {}",
                fact.path,
                condition::words(fact.kind),
                formula.nature()
            );
            self.report(to.span, message);
        }
        Some(Change::Set(fact, formula))
    }

    /// A fix that inserts or renames a flag is made of the flag's name and nothing else.
    fn flag(&mut self, written: &Written) {
        let name = written.text.trim_start_matches('-');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.len() == written.text.len() || name.is_empty() || !name.chars().all(plain) {
            let message = format!("`{}` is no flag, such as `--max-model-len`", written.text);
            self.report(written.span, message);
        }
    }

    fn formula(&mut self, written: &Written, scope: Scope) -> Option<Formula> {
        match Formula::compile(&written.text, scope) {
            Ok(formula) => Some(formula),
            Err(problems) => {
                self.report_in(written, problems);
                None
            }
        }
    }
}

/// The summary, or what comes nearest to one.
fn summary(written: &RuleFile) -> String {
    let first_line = |text: &Written| text.text.lines().next().unwrap_or("").to_owned();
    let nearest = written
        .summary
        .as_ref()
        .or(written.message.as_ref())
        .or(written.why.as_ref());
    nearest.map_or_else(String::new, first_line)
}
