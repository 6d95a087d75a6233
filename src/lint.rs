//! Linting: scenarios and rules in, findings out.
//!
//! Every rule is evaluated on everything of its scope. A scenario-scoped rule speaks once per deployment: the
//! worst cell in words, the other failing cells as a table below the help. Where a rule speaks of a cell, the
//! rules that it supersedes say nothing of that cell. Deployments are linted in parallel; the findings come in
//! the order of deployments and rules whatever the number of threads.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use rayon::prelude::*;

use crate::finding::{Finding, Label, Severity};
use crate::machine::Machine;
use crate::model::Model;
use crate::report::Deployed;
use crate::rule::facts::{ManifestView, Value, View};
use crate::rule::{FactDefinition, Rule, Rules, Scope, change};
use crate::scenario::{Scenario, Solver};
use crate::source::{Sources, Span};

/// Rows of the table of further cells; more help nobody.
const MAX_CELLS: usize = 12;

/// What is linted: the parts of a report that are known before its findings.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The texts that spans lie in.
    pub sources: &'a Sources,
    /// Models, as scenarios and deployments count them.
    pub models: &'a [Model],
    /// Deployments, as scenarios count them.
    pub deployments: &'a [Deployed],
    /// Machines, as scenarios count them.
    pub machines: &'a [Machine],
    /// Scenarios.
    pub scenarios: &'a [Scenario],
    /// Solves the cell that a finding speaks of; `None` takes the alternatives that scenarios carry.
    pub solver: Option<&'a Solver<'a>>,
}

/// Which rules run, and how bad their findings are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these rules; `None` for all.
    pub select: Option<BTreeSet<String>>,
    /// Not these.
    pub ignore: BTreeSet<String>,
    /// Severities that settings give to rules.
    pub severity: BTreeMap<String, Severity>,
}

impl Selection {
    /// True when a rule runs.
    pub fn runs(&self, rule: &str) -> bool {
        self.select.as_ref().is_none_or(|select| select.contains(rule)) && !self.ignore.contains(rule)
    }

    /// True when nothing is left out, so that a suppression without effect is certainly of no use.
    pub fn runs_all(&self) -> bool {
        self.select.is_none() && self.ignore.is_empty()
    }

    /// Drops the findings of rules that do not run, and gives the others their severity from settings. For
    /// findings that were raised by code; those of [`lint`] have been through it.
    pub fn apply(&self, findings: &mut Vec<Finding>) {
        findings.retain(|finding| self.runs(&finding.rule));
        for finding in findings {
            finding.severity = self
                .severity
                .get(&*finding.rule)
                .copied()
                .unwrap_or(finding.severity);
        }
    }
}

/// The findings of all rules that run.
pub fn lint(subject: &Subject<'_>, rules: &Rules, selection: &Selection) -> Vec<Finding> {
    let running = |scope: Scope| -> Vec<&Rule> {
        let chosen = rules
            .iter()
            .filter(|rule| rule.scope == scope && selection.runs(&rule.id));
        chosen.collect()
    };
    let mut findings = lint_deployments(subject, &running(Scope::Scenario), &running(Scope::Deployment));
    findings.extend(lint_models(subject, &running(Scope::Model)));
    findings.extend(lint_manifests(subject, &running(Scope::Manifest)));
    selection.apply(&mut findings);
    findings
}

fn lint_deployments(subject: &Subject<'_>, on_scenarios: &[&Rule], on_deployments: &[&Rule]) -> Vec<Finding> {
    let mut cells: Vec<Vec<usize>> = vec![Vec::new(); subject.deployments.len()];
    for (at, scenario) in subject.scenarios.iter().enumerate() {
        if let Some(cells) = cells.get_mut(scenario.deployment) {
            cells.push(at);
        }
    }
    let findings: Vec<Vec<Finding>> = cells
        .par_iter()
        .enumerate()
        .map(|(deployment, cells)| {
            let mut findings = lint_scenarios(subject, on_scenarios, cells);
            if let Some(view) = subject.deployment(deployment) {
                findings.extend(lint_view(&view, on_deployments));
            }
            for finding in &mut findings {
                finding.deployment = Some(deployment);
            }
            findings
        })
        .collect();
    findings.into_iter().flatten().collect()
}

/// One deployment: which rules speak of which cells, and then one finding for each rule that speaks.
fn lint_scenarios(subject: &Subject<'_>, rules: &[&Rule], cells: &[usize]) -> Vec<Finding> {
    let mut failing: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
    for at in cells {
        let Some(view) = subject.cell(*at) else { continue };
        let speaking = speaking(&view, rules);
        for (rule, failing) in rules.iter().zip(&mut failing) {
            let silenced = |other: &&Rule| other.supersedes.contains(&rule.id);
            if speaking.iter().any(|other| other.id == rule.id) && !speaking.iter().any(silenced) {
                failing.push(*at);
            }
        }
    }
    let spoken = rules.iter().zip(&failing).filter(|(_, cells)| !cells.is_empty());
    spoken
        .filter_map(|(rule, cells)| finding_of_cells(subject, rule, cells))
        .collect()
}

/// The rules whose condition holds and whose message can be said.
fn speaking<'r>(view: &View<'_>, rules: &[&'r Rule]) -> Vec<&'r Rule> {
    let speaks = |rule: &&&Rule| {
        rule.when.as_ref().is_some_and(|when| when.holds(view))
            && rule
                .message
                .as_ref()
                .is_some_and(|message| message.is_complete(view))
    };
    rules.iter().filter(speaks).copied().collect()
}

fn finding_of_cells(subject: &Subject<'_>, rule: &Rule, cells: &[usize]) -> Option<Finding> {
    let worst = worst(subject, rule.worst, cells)?;
    let view = subject.cell(worst)?;
    let solved = view
        .scenario
        .zip(subject.solver)
        .map(|(scenario, solver)| Scenario {
            alternatives: Some(Box::new(solver.alternatives(scenario))),
            ..scenario.clone()
        });
    let view = View {
        scenario: solved.as_ref().or(view.scenario),
        ..view
    };
    let mut finding = finding(&view, rule)?;
    let table = table(subject, rule, worst, cells);
    finding.help = match (finding.help, table) {
        (Some(help), Some(table)) => Some(format!("{help}\n{table}")),
        (help, table) => help.or(table),
    };
    finding.scenarios = cells.to_vec();
    Some(finding)
}

/// The cell with the most of a fact; of equals the first.
fn worst(subject: &Subject<'_>, by: &FactDefinition, cells: &[usize]) -> Option<usize> {
    let mut worst: Option<(f64, usize)> = None;
    for at in cells {
        let amount = match subject.cell(*at).and_then(|view| by.read(&view)) {
            Some(Value::Int(count)) => count as f64,
            Some(Value::Double(amount)) => amount,
            _ => 0.0,
        };
        if worst.is_none_or(|(most, _)| amount > most) {
            worst = Some((amount, *at));
        }
    }
    worst.map(|(_, at)| at)
}

/// The other failing cells, one line each; cells that read the same are one line.
fn table(subject: &Subject<'_>, rule: &Rule, worst: usize, cells: &[usize]) -> Option<String> {
    let row = |at: usize| -> Option<Vec<String>> {
        let view = subject.cell(at)?;
        rule.cells.iter().map(|(_, text)| text.render(&view)).collect()
    };
    // Of rows that are only counted a hash is kept: a matrix can have a million cells.
    let mut seen = HashSet::from([hash(&row(worst)?)]);
    let mut rows = vec![rule.cells.iter().map(|(heading, _)| heading.clone()).collect()];
    for row in cells.iter().filter_map(|at| row(*at)) {
        if seen.insert(hash(&row)) && rows.len() <= MAX_CELLS {
            rows.push(row);
        }
    }
    let others = seen.len() - 1;
    if others == 0 {
        return None;
    }
    let noun = if others == 1 { "cell" } else { "cells" };
    let mut lines = vec![format!("the same for {others} more {noun}:")];
    lines.extend(aligned(&rows));
    if others > MAX_CELLS {
        lines.push(format!("  and {} more", others - MAX_CELLS));
    }
    Some(lines.join("\n"))
}

fn hash(row: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

/// Rows as lines whose columns stand below each other.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let length = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| length(row, column)).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("  {cell:<width$}"));
        padded.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn lint_models(subject: &Subject<'_>, rules: &[&Rule]) -> Vec<Finding> {
    let view = |model| View {
        model: Some(model),
        ..View::new(subject.sources)
    };
    subject
        .models
        .iter()
        .flat_map(|model| lint_view(&view(model), rules))
        .collect()
}

/// Once per file that declares deployments, in the order of their first deployment.
fn lint_manifests(subject: &Subject<'_>, rules: &[&Rule]) -> Vec<Finding> {
    let mut manifests: Vec<ManifestView> = Vec::new();
    for deployed in subject.deployments {
        let deployment = &deployed.deployment;
        match manifests
            .iter_mut()
            .find(|manifest| manifest.file == deployment.file)
        {
            Some(manifest) => manifest.deployments += 1,
            None => manifests.push(ManifestView {
                file: deployment.file,
                span: deployment.span,
                format: deployment.format.name(),
                deployments: 1,
            }),
        }
    }
    let view = |manifest| View {
        manifest: Some(manifest),
        ..View::new(subject.sources)
    };
    manifests
        .into_iter()
        .flat_map(|manifest| lint_view(&view(manifest), rules))
        .collect()
}

/// The findings of rules on one view, superseded ones left out.
fn lint_view(view: &View<'_>, rules: &[&Rule]) -> Vec<Finding> {
    let speaking = speaking(view, rules);
    let loud = speaking
        .iter()
        .filter(|rule| !speaking.iter().any(|other| other.supersedes.contains(&rule.id)));
    loud.filter_map(|rule| finding(view, rule)).collect()
}

/// What a rule says of a view.
fn finding(view: &View<'_>, rule: &Rule) -> Option<Finding> {
    let message = rule.message.as_ref()?.render(view)?;
    let special = rule.severity_when.iter().find(|(when, _)| when.holds(view));
    let severity = special.map_or(rule.severity, |(_, severity)| *severity);
    let mut labels = labels(view, rule).into_iter();
    let mut finding = match labels.next() {
        None => about(view, rule, severity, message),
        Some((fact, label)) => Finding {
            fact: Some(fact),
            ..Finding::at(&rule.id, severity, message, label)
        },
    };
    finding.related = labels.map(|(_, label)| label).collect();
    let spoken = rule
        .help
        .iter()
        .filter(|clause| clause.when.as_ref().is_none_or(|when| when.holds(view)));
    let lines: Vec<String> = spoken.filter_map(|clause| clause.say.render(view)).collect();
    finding.help = (!lines.is_empty()).then(|| lines.join("\n"));
    finding.fix = change::propose(view, &rule.fix);
    Some(finding)
}

/// The labels whose fact a file states, each place once.
fn labels(view: &View<'_>, rule: &Rule) -> Vec<(&'static str, Label)> {
    let mut labels: Vec<(&'static str, Label)> = Vec::new();
    for (fact, text) in &rule.labels {
        let label = fact
            .span(view)
            .zip(text.render(view))
            .map(|(span, text)| Label { span, text });
        let new = label.filter(|label| labels.iter().all(|(_, other)| other.span != label.span));
        labels.extend(new.map(|label| (fact.path, label)));
    }
    labels
}

/// A finding none of whose facts a file states: shown at the name of what it is about.
fn about(view: &View<'_>, rule: &Rule, severity: Severity, message: String) -> Finding {
    let at = |span: Span| Label {
        span,
        text: String::new(),
    };
    let deployment = view
        .deployment
        .map(|deployment| deployment.name.span().unwrap_or(deployment.span));
    match deployment.or(view.manifest.map(|manifest| manifest.span)) {
        Some(span) => Finding::at(&rule.id, severity, message, at(span)),
        None => Finding::about(
            &rule.id,
            severity,
            message,
            view.model.map_or("", |model| &model.path),
        ),
    }
}

impl<'a> Subject<'a> {
    fn deployment(&self, at: usize) -> Option<View<'a>> {
        let deployed = self.deployments.get(at)?;
        Some(View {
            deployment: Some(&deployed.deployment),
            model: deployed.model.and_then(|model| self.models.get(model)),
            ..View::new(self.sources)
        })
    }

    fn cell(&self, at: usize) -> Option<View<'a>> {
        let scenario = self.scenarios.get(at)?;
        let view = self.deployment(scenario.deployment)?;
        Some(View {
            model: scenario.model.and_then(|model| self.models.get(model)),
            machine: scenario.machine.and_then(|machine| self.machines.get(machine)),
            scenario: Some(scenario),
            ..view
        })
    }
}
