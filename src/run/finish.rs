//! The last stage before reports: severities of the settings, suppression, order, counts.

use std::collections::BTreeMap;

use super::Selection;
use crate::config::{Level, Override, Settings};
use crate::finding::{Finding, Severity};
use crate::rule::Rules;
use crate::source::Sources;
use crate::suppress;

/// What decides over findings after the rules have spoken.
pub(super) struct Verdicts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) rules: &'a Rules,
    pub(super) remarks: &'a [suppress::Remarks],
    pub(super) selected: &'a dyn Fn(&str) -> bool,
    pub(super) all_rules_ran: bool,
    pub(super) sources: &'a Sources,
}

/// Drops what was not asked for, sets severities, marks what is suppressed, and sorts.
pub(super) fn finish(mut findings: Vec<Finding>, verdicts: &Verdicts<'_>) -> Vec<Finding> {
    suppress::apply(
        &mut findings,
        verdicts.remarks,
        verdicts.rules,
        verdicts.all_rules_ran,
    );
    findings.retain(|finding| (verdicts.selected)(&finding.rule));
    level(&mut findings, verdicts.settings, verdicts.rules, verdicts.sources);
    for finding in &mut findings {
        let path = path(finding, verdicts.sources);
        let ignored = verdicts
            .settings
            .ignore
            .iter()
            .find(|ignore| ignore.covers(&finding.rule, &path));
        if let (None, Some(ignored)) = (&finding.suppressed, ignored) {
            finding.suppressed = Some(ignored.reason.clone());
        }
    }
    sorted(findings, verdicts.sources)
}

/// Gives findings the levels of the settings, and drops those that are off.
pub(super) fn level(findings: &mut Vec<Finding>, settings: &Settings, rules: &Rules, sources: &Sources) {
    findings.retain_mut(|finding| match level_of(finding, settings, rules, sources) {
        Some(Level::Off) => false,
        Some(Level::At(severity)) => {
            finding.severity = severity;
            true
        }
        None => true,
    });
}

/// The level that the command line gives a finding, or else the last override of its path, or else the settings.
fn level_of(finding: &Finding, settings: &Settings, rules: &Rules, sources: &Sources) -> Option<Level> {
    let rule = &*finding.rule;
    let group = rules.get(rule).map_or("", |rule| rule.group.as_str());
    // The id itself goes before its group or a beginning of it.
    let in_levels = |levels: &BTreeMap<String, Level>| {
        let mut wider = levels
            .iter()
            .filter(|(name, _)| Selection::names(name, rule, group));
        levels
            .get(rule)
            .or_else(|| wider.next_back().map(|(_, level)| level))
            .copied()
    };
    if let Some(level) = in_levels(&settings.severity_typed) {
        return Some(level);
    }
    let path = path(finding, sources);
    let level = |one: &Override| {
        let off = one.ignore.iter().any(|name| Selection::names(name, rule, group));
        off.then_some(Level::Off).or_else(|| in_levels(&one.severity))
    };
    let mut here = settings.overrides.iter().rev().filter(|one| one.covers(&path));
    here.find_map(level).or_else(|| in_levels(&settings.severity))
}

/// The file of a finding as reports print it.
fn path(finding: &Finding, sources: &Sources) -> String {
    match &finding.primary {
        Some(label) => sources.path(label.span),
        None => finding.path.clone().unwrap_or_default(),
    }
}

/// By path, offset, rule and words; what is said twice of one place is said once.
pub(super) fn sorted(mut findings: Vec<Finding>, sources: &Sources) -> Vec<Finding> {
    findings.sort_by_cached_key(|finding| {
        let place = finding
            .primary
            .as_ref()
            .map_or((0, 0), |label| (label.span.start(), label.span.end()));
        (
            path(finding, sources),
            place,
            finding.rule.to_string(),
            finding.message.clone(),
            finding.deployment,
        )
    });
    findings.dedup_by(|later, first| {
        later.rule == first.rule
            && later.primary == first.primary
            && later.message == first.message
            && later.path == first.path
    });
    findings
}

/// Counts the findings that are not suppressed, by severity.
pub(super) fn count(findings: &[Finding], severity: Severity) -> usize {
    findings
        .iter()
        .filter(|finding| finding.suppressed.is_none() && finding.severity == severity)
        .count()
}
