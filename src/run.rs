//! One run, from paths to a report: the pipeline in one screen.
//!
//! Only this module, [`walk`](crate::walk) and the readers of models touch files. Files, models and scenarios
//! are worked on in parallel; results are collected in the order of their paths, so the output is the same
//! bytes on every run and every number of threads.

mod deploy;
mod finish;
pub mod inspect;
mod models;
pub mod names;
mod read;
mod releases;
mod shared;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use crate::config::Settings;
use crate::engine::KvType;
use crate::fact::Fact;
use crate::finding::{Finding, Label, Severity};
use crate::model::{Dims, ModelSource};
use crate::report::{Deployed, Report, Summary};
use crate::rule::Rules;
use crate::scenario::{self, Built, Refused, Solver, Subject};
use crate::source::{Sources, Span};
use crate::{lint, walk};

/// What to check, and how.
#[derive(Debug)]
pub struct Run<'a> {
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// A manifest read from the standard input.
    pub stdin: Option<Vec<u8>>,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The rules to apply.
    pub rules: &'a Rules,
    /// Which rules to report.
    pub selection: Selection,
    /// The texts of the run; the settings file and rule files may already be among them.
    pub sources: Arc<Sources>,
}

/// Which rules a run reports.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these, where any are given: ids or groups.
    pub select: Vec<String>,
    /// Not these: ids or groups.
    pub ignore: Vec<String>,
}

impl Selection {
    fn takes(&self, rules: &Rules, id: &str) -> bool {
        let group = rules.get(id).map_or("", |rule| rule.group.as_str());
        let named = |names: &[String]| names.iter().any(|name| Self::names(name, id, group));
        (self.select.is_empty() || named(&self.select)) && !named(&self.ignore)
    }

    /// True when a name is the id of a rule, its group, or a beginning of its id that ends at a hyphen or a `*`.
    pub fn names(name: &str, id: &str, group: &str) -> bool {
        let begins = match name.strip_suffix('*') {
            Some(beginning) => id.starts_with(beginning),
            None => {
                let rest = id.strip_prefix(name.trim_end_matches('-'));
                !name.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            }
        };
        begins || name == group
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.select.is_empty() && self.ignore.is_empty()
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Everything found.
    pub report: Report,
    /// True when a named path could not be read: the run could not do its job.
    pub incomplete: bool,
}

/// Checks everything.
pub fn run(request: &Run<'_>) -> Outcome {
    let start = Instant::now();
    let (settings, sources) = (&request.settings, &request.sources);
    let found = walk::walk(&request.paths, settings);
    let manifests = read::manifests(&found, request.stdin.as_deref(), sources);
    let declared = deploy::collect(&manifests, settings, sources);
    let models = models::load(&found, &declared.items, settings, sources);
    let machines = deploy::machines(&declared, settings);

    let incomplete = !found.unreachable.is_empty() || !manifests.unreachable.is_empty();
    let mut findings = found.findings;
    findings.extend(found.unreachable);
    findings.extend(manifests.findings);
    findings.extend(manifests.unreachable);
    findings.extend(declared.findings);
    findings.extend(models.findings);
    findings.extend(machines.findings.iter().cloned());

    let mut report = Report {
        sources: Arc::clone(sources),
        summary: Summary {
            files: manifests.files,
            manifests: manifests.manifests.len(),
            ..Summary::default()
        },
        models: models.models,
        deployments: deployed(declared.items, &models.of_deployment),
        machines: Vec::new(),
        scenarios: Vec::new(),
        findings: Vec::new(),
        rules: request.rules.summaries(),
    };
    report.machines.clone_from(&machines.machines);
    findings.extend(estimate(&mut report, &machines, request.rules));
    let unsized_models = unsized_models(&report, &findings);
    findings.extend(unsized_models);
    report.findings = finish::finish(
        findings,
        &finish::Verdicts {
            settings,
            rules: request.rules,
            remarks: &manifests.remarks,
            selected: &|id| request.selection.takes(request.rules, id),
            all_rules_ran: request.selection.is_everything(),
            sources,
        },
    );
    report.summary.models = report.models.len();
    report.summary.deployments = report.deployments.len();
    report.summary.scenarios = report.scenarios.len();
    report.summary.duration_ms = start.elapsed().as_secs().saturating_mul(1000);
    settle(&mut report);
    Outcome { report, incomplete }
}

/// Sorts and counts the findings, after some were added, dropped or suppressed.
pub fn settle(report: &mut Report) {
    report.findings = finish::sorted(std::mem::take(&mut report.findings), &report.sources);
    let count = |severity| finish::count(&report.findings, severity);
    let suppressed = report
        .findings
        .iter()
        .filter(|finding| finding.suppressed.is_some());
    report.summary = Summary {
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        infos: count(Severity::Info),
        suppressed: suppressed.count(),
        ..report.summary
    };
}

/// Gives findings that were added after a run the levels of the settings.
pub fn level(report: &mut Report, settings: &Settings, rules: &Rules) {
    finish::level(&mut report.findings, settings, rules, &report.sources);
    settle(report);
}

/// Builds the scenarios of every deployment and applies the rules to them.
fn estimate(report: &mut Report, machines: &deploy::Machines, rules: &Rules) -> Vec<Finding> {
    let places: Vec<_> = (0..report.deployments.len())
        .map(|index| machines.of(index))
        .collect();
    let subjects: Vec<Subject<'_>> = report
        .deployments
        .iter()
        .zip(&places)
        .enumerate()
        .map(|(index, (deployed, machines))| Subject {
            index,
            deployment: &deployed.deployment,
            model: deployed.model.and_then(|at| Some((at, report.models.get(at)?))),
            machines,
        })
        .collect();
    let built: Vec<Built> = subjects.par_iter().map(scenario::build).collect();
    let refused: Vec<Finding> = subjects
        .iter()
        .zip(&built)
        .flat_map(|(subject, built)| contradictions(subject, built))
        .filter(|found| !judged_by_a_rule(found, &report.deployments))
        .collect();
    let scenarios: Vec<_> = built.into_iter().flat_map(|built| built.scenarios).collect();
    let subject = lint::Subject {
        sources: &report.sources,
        models: &report.models,
        deployments: &report.deployments,
        machines: &report.machines,
        scenarios: &scenarios,
        solver: Some(&Solver { subjects: &subjects }),
    };
    let mut findings = lint::lint(&subject, rules, &lint::Selection::default());
    // A rule whose condition has spoken of a deployment says it with more words than the engine's refusal.
    let told: BTreeSet<_> = findings
        .iter()
        .map(|found| (found.deployment, found.rule.clone()))
        .collect();
    let untold = |found: &Finding| !told.contains(&(found.deployment, found.rule.clone()));
    findings.extend(refused.into_iter().filter(untold));
    report.scenarios = scenarios;
    findings
}

/// A file that counts its accelerators has been judged by the rule's own condition, which knows of pods that the
/// file does not count.
fn judged_by_a_rule(found: &Finding, deployments: &[Deployed]) -> bool {
    let deployed = found.deployment.and_then(|at| deployments.get(at));
    &*found.rule == "world-size-exceeds-gpus"
        && deployed.is_some_and(|deployed| deployed.deployment.accelerators.number().is_some())
}

fn deployed(items: Vec<deploy::Declaration>, models: &[Option<usize>]) -> Vec<Deployed> {
    let model = |index: usize| models.get(index).copied().flatten();
    items
        .into_iter()
        .map(|item| Deployed {
            model: model(item.index),
            deployment: item.deployment,
        })
        .collect()
}

/// Why models were not sized: at the deployments that name them, or at the model where none does.
///
/// Where no deployment names the model, what the reader of its config has told already is not said again.
fn unsized_models(report: &Report, told: &[Finding]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, model) in report.models.iter().enumerate() {
        let Some((reason, place)) = unsized_because(model) else {
            continue;
        };
        let name = |deployed: &Deployed| {
            deployed
                .deployment
                .model
                .as_ref()
                .and_then(crate::fact::Fact::span)
        };
        let users: Vec<_> = report
            .deployments
            .iter()
            .filter(|deployed| deployed.model == Some(at))
            .collect();
        if users.is_empty() && told.iter().any(|finding| finding.message == reason) {
            continue;
        }
        let severity = if users.is_empty() {
            Severity::Info
        } else {
            Severity::Warning
        };
        let message = format!("{} cannot be sized: {reason}", model.name);
        let mut finding = match users.first().and_then(|deployed| name(deployed)) {
            Some(span) => {
                let text = "every deployment of this model is unchecked".to_owned();
                Finding::at("config-incomplete", severity, message, Label { span, text })
            }
            None => Finding::about("config-incomplete", severity, message, model.path.clone()),
        };
        if let Some(span) = place {
            finding = finding.with_related(span, "here");
        }
        findings.push(finding);
    }
    findings
}

/// Why there is no estimate for a model, and the place in its config if one says so.
fn unsized_because(model: &crate::model::Model) -> Option<(String, Option<crate::source::Span>)> {
    if let Err(refusal) = &model.layout {
        // Without a place in the config the reader has told it already, as GGUF files are told when they are read.
        let told = refusal.span.is_none() || model.source == ModelSource::Gguf;
        return (!told).then(|| (refusal.reason.clone(), refusal.span));
    }
    if model.weights.bytes.is_none() && model.parameters.is_none() {
        let kind = model
            .model_type
            .as_ref()
            .map_or("this kind of model", |kind| &kind.value);
        if matches!(model.source, ModelSource::Catalog | ModelSource::Lock) {
            let reason =
                "nothing records the size of its weights; `oomlint lock` asks the hub for it".to_owned();
            return Some((reason, None));
        }
        let reason = format!(
            "its directory holds no weights, and the parameters of {kind} cannot be counted from config.json; add \
             model.safetensors.index.json or the shards (git-LFS pointer files will do)"
        );
        return Some((reason, None));
    }
    None
}

/// What an engine cannot run, shown at the setting that says so, in the model's config and at the machine.
fn contradictions(subject: &Subject<'_>, built: &Built) -> Vec<Finding> {
    let deployment = subject.deployment;
    let finding = |refused: &Refused| {
        let found = &refused.contradiction;
        let mut places: Vec<_> = found
            .settings
            .iter()
            .filter_map(|id| Some((place_of(subject, refused.kv, id)?, place_words(id))))
            .collect();
        let machine = deployment.machines.get(refused.position);
        places.extend(
            machine
                .and_then(crate::fact::Fact::span)
                .map(|span| (span, "on this machine")),
        );
        places.sort_by_key(|(_, words)| *words == "in the model's config");
        let mut places = places.into_iter();
        let primary = places.next().map_or(deployment.span, |(span, _)| span);
        let text = "this cannot start".to_owned();
        let mut finding = Finding::at(
            found.rule,
            Severity::Error,
            format!(
                "{} cannot serve this: {}",
                deployment.engine_or_default().name(),
                found.message
            ),
            Label { span: primary, text },
        );
        finding.deployment = Some(subject.index);
        for (span, words) in places {
            finding = finding.with_related(span, words);
        }
        finding
    };
    built.contradictions.iter().map(finding).collect()
}

/// Where a setting or a fact of the model was declared.
fn place_of(subject: &Subject<'_>, kv: Option<KvType>, id: &str) -> Option<Span> {
    let deployment = subject.deployment;
    let model = subject.model.map(|(_, model)| model);
    let dims = |of: fn(&Dims) -> &Option<Fact<u64>>| of(&model?.dims).as_ref()?.span();
    match id {
        "model.num_heads" => dims(|dims| &dims.num_heads),
        "model.num_kv_heads" => dims(|dims| &dims.num_kv_heads),
        "model.quantization" => model?.quantization.as_ref()?.span(),
        "kv_cache" => deployment
            .kv_cache
            .iter()
            .find(|fact| kv.is_none_or(|kv| fact.value == kv))
            .and_then(Fact::span)
            .or_else(|| deployment.settings.get(id)?.span()),
        "quantization" => deployment
            .quantization
            .as_ref()
            .and_then(Fact::span)
            .or_else(|| deployment.settings.get(id)?.span()),
        id => deployment.settings.get(id)?.span(),
    }
}

fn place_words(id: &str) -> &'static str {
    if id.starts_with("model.") {
        "in the model's config"
    } else {
        "declared here"
    }
}
