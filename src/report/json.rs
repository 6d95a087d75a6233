//! The JSON contract: `schemas/report.schema.json`, version 1. Every field is always present; `null` is what
//! is not declared or not known.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::group::Group;
use super::place::{Place, path_of};
use super::{Deployed, Report};
use crate::engine::args::is_placeholder;
use crate::fact::{Fact, Origin};
use crate::finding::{Edit, Finding, Fix, Label, Severity};
use crate::manifest::{Count, Deployment, Format};
use crate::model::{Component, Dtype, Model, ModelSource, Quantization};
use crate::scenario::{Scenario, Verdict};
use crate::source::{Position, Sources, is_unsafe};

/// The version of the contract; it changes when a field is renamed, removed or means something else.
const SCHEMA_VERSION: u32 = 1;

/// The whole report as indented JSON.
pub(super) fn render(report: &Report) -> String {
    to_text(&ReportView::new(report))
}

/// Indented JSON that is safe to print: characters which a terminal would obey are written as escapes, which
/// mean the same to a parser.
pub(super) fn to_text(value: &impl Serialize) -> String {
    // Fails only for maps whose keys are not text; the views have none.
    let mut json = serde_json::to_string_pretty(value).unwrap_or_default();
    if !json.contains(is_unsafe) {
        json.push('\n');
        return json;
    }
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_unsafe(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

#[derive(Serialize)]
struct ReportView<'a> {
    schema_version: u32,
    oomlint_version: &'static str,
    summary: SummaryView,
    models: Vec<ModelView<'a>>,
    deployments: Vec<DeploymentView<'a>>,
    scenarios: Vec<ScenarioView<'a>>,
    findings: Vec<FindingView<'a>>,
}

impl<'a> ReportView<'a> {
    fn new(report: &'a Report) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            oomlint_version: env!("CARGO_PKG_VERSION"),
            summary: SummaryView::new(report),
            models: report.models.iter().map(ModelView::new).collect(),
            deployments: report
                .deployments
                .iter()
                .map(|deployed| DeploymentView::new(&report.sources, deployed))
                .collect(),
            scenarios: report
                .scenarios
                .iter()
                .map(|scenario| ScenarioView::new(report, scenario))
                .collect(),
            findings: report
                .findings
                .iter()
                .map(|finding| FindingView::new(&report.sources, finding))
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct SummaryView {
    files: usize,
    models: usize,
    manifests: usize,
    deployments: usize,
    scenarios: usize,
    errors: usize,
    warnings: usize,
    infos: usize,
    suppressed: usize,
    duration_ms: u64,
}

impl SummaryView {
    fn new(report: &Report) -> Self {
        let summary = &report.summary;
        Self {
            files: summary.files,
            models: summary.models,
            manifests: summary.manifests,
            deployments: summary.deployments,
            scenarios: summary.scenarios,
            errors: summary.errors,
            warnings: summary.warnings,
            infos: summary.infos,
            suppressed: summary.suppressed,
            duration_ms: summary.duration_ms,
        }
    }
}

#[derive(Serialize)]
struct ModelView<'a> {
    name: &'a str,
    path: &'a str,
    source: ModelSource,
    architecture: Option<&'a str>,
    model_type: Option<&'a str>,
    parameters: Option<u64>,
    parameters_exact: Option<bool>,
    weight_bytes: Option<u64>,
    weight_bytes_exact: Option<bool>,
    weight_bytes_by_dtype: &'a BTreeMap<String, u64>,
    weight_bytes_by_component: BTreeMap<Component, u64>,
    dtype: Option<Dtype>,
    quantization: Option<String>,
    max_context: Option<u64>,
    layers: Option<u64>,
    layout: Option<Vec<Group>>,
}

impl<'a> ModelView<'a> {
    fn new(model: &'a Model) -> Self {
        let layout = model.layout.as_ref().ok();
        let dims = model.dims.num_layers.as_ref().map(|fact| fact.value);
        Self {
            name: &model.name,
            path: &model.path,
            source: model.source,
            architecture: model.architecture.as_ref().map(|fact| fact.value.as_str()),
            model_type: model.model_type.as_ref().map(|fact| fact.value.as_str()),
            parameters: model.parameters.as_ref().map(|parameters| parameters.count),
            parameters_exact: model.parameters.as_ref().map(|parameters| parameters.exact),
            weight_bytes: model.published_bytes().map(|(bytes, _)| bytes),
            weight_bytes_exact: model.published_bytes().map(|(_, exact)| exact),
            weight_bytes_by_dtype: &model.weights.by_dtype,
            weight_bytes_by_component: model.weights_by_component(),
            dtype: model.dtype.as_ref().map(|fact| fact.value),
            quantization: model
                .quantization
                .as_ref()
                .map(|fact| Quantization::name(&fact.value)),
            max_context: model.max_context.as_ref().map(|fact| fact.value),
            layers: layout.map(|layout| layout.num_layers).or(dims),
            layout: layout.map(|layout| layout.groups.iter().map(Group::new).collect()),
        }
    }
}

#[derive(Serialize)]
struct DeploymentView<'a> {
    name: &'a str,
    file: String,
    line: usize,
    format: &'static str,
    engine: Option<&'a str>,
    engine_version: Option<&'a str>,
    model: Option<&'a str>,
    model_revision: Option<&'a str>,
    context: Value,
    max_sequences: Value,
    kv_cache: Value,
    quantization: Option<&'a str>,
    dtype: Option<&'a str>,
    tensor_parallel: Value,
    pipeline_parallel: Value,
    data_parallel: Value,
    memory_fraction: Option<f64>,
    accelerators: Value,
    accelerator_type: Value,
    nodes: Option<u64>,
    replicas: Option<u64>,
    draft_model: Option<&'a str>,
    shm_bytes: Option<u64>,
    host_memory_bytes: Option<u64>,
    unresolved: &'a [String],
}

impl<'a> DeploymentView<'a> {
    fn new(sources: &Sources, deployed: &'a Deployed) -> Self {
        let deployment = &deployed.deployment;
        let settings = &deployment.settings;
        let place = Place::of(sources, deployment.span);
        let (model, revision) = split_revision(deployment);
        Self {
            name: &deployment.name.value,
            file: place
                .as_ref()
                .map_or_else(String::new, |place| place.path().to_owned()),
            line: place.as_ref().map_or(1, |place| place.start.line),
            format: deployment.format.name(),
            engine: deployment.engine_name(),
            engine_version: deployment.engine_version.as_ref().map(|fact| fact.value.as_str()),
            model,
            model_revision: settings
                .text("revision")
                .or_else(|| settings.text("model_revision"))
                .or(revision),
            context: dimension(
                deployment,
                deployment.context.iter().map(|fact| fact.value.into()),
                &["context", "ctx_size", "num_ctx"],
            ),
            max_sequences: dimension(
                deployment,
                deployment.batch.iter().map(|fact| fact.value.into()),
                &["max_sequences", "num_parallel", "parallel"],
            ),
            kv_cache: dimension(
                deployment,
                deployment.kv_cache.iter().map(|fact| fact.value.name().into()),
                &["kv_cache", "cache_type_k", "kv_cache_type"],
            ),
            quantization: match deployment.format {
                Format::Own => deployment.quantization.as_ref().map(|fact| fact.value.name()),
                _ => None,
            }
            .or_else(|| text(deployment, "quantization")),
            dtype: text(deployment, "dtype"),
            tensor_parallel: setting(deployment, "tensor_parallel"),
            pipeline_parallel: setting(deployment, "pipeline_parallel"),
            data_parallel: setting(deployment, "data_parallel"),
            memory_fraction: settings
                .number("memory_fraction")
                .or_else(|| settings.number("free_memory_fraction")),
            accelerators: accelerators(deployment),
            accelerator_type: accelerator_type(deployment),
            nodes: settings.count("nodes"),
            replicas: settings.count("replicas"),
            draft_model: text(deployment, "draft_model"),
            shm_bytes: settings.count("shm_bytes"),
            host_memory_bytes: settings.count("host_memory_bytes"),
            unresolved: &deployment.unresolved,
        }
    }
}

/// The model as written, and the revision if it is a hub name with one (`org/name@revision`).
fn split_revision(deployment: &Deployment) -> (Option<&str>, Option<&str>) {
    let model = deployment.model.as_ref().map(|fact| fact.value.as_str());
    let Some(model) = model.filter(|model| deployment.format == Format::Own || !is_reference(model)) else {
        return (None, None);
    };
    match model.split_once('@') {
        Some((name, revision)) if name.matches('/').count() == 1 && !name.starts_with('.') => {
            (Some(name), Some(revision))
        }
        _ => (Some(model), None),
    }
}

/// True for a text that is one variable (`$MODEL`, `${MODEL:?}`) and nothing more.
fn is_reference(text: &str) -> bool {
    let Some(rest) = text.trim().strip_prefix('$') else {
        return false;
    };
    match rest.strip_prefix('{') {
        Some(inner) => inner.find('}') == inner.len().checked_sub(1),
        None => rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
    }
}

/// Values of a dimension: the list for oomlint's own format, whose every list is a dimension, and the value as
/// written for the others. In our own format an engine's argument may have set it instead of a key.
fn dimension(deployment: &Deployment, declared: impl Iterator<Item = Value>, ids: &[&str]) -> Value {
    let mut written = ids
        .iter()
        .map(|id| setting(deployment, id))
        .filter(|value| !value.is_null());
    if deployment.format != Format::Own {
        let mut declared = declared;
        return written.next().or_else(|| declared.next()).unwrap_or_default();
    }
    let values: Vec<Value> = declared.collect();
    if !values.is_empty() {
        return Value::Array(values);
    }
    written
        .next()
        .map_or(Value::Null, |value| Value::Array(vec![value]))
}

fn accelerators(deployment: &Deployment) -> Value {
    match deployment.accelerators.count.as_ref().map(|count| count.value) {
        Some(Count::All) => "all".into(),
        Some(Count::Number(number)) => number.into(),
        None => setting(deployment, "accelerators"),
    }
}

/// The kinds as written: the machines in our own format, else one name, or several that are alternatives.
fn accelerator_type(deployment: &Deployment) -> Value {
    let names = |facts: &mut dyn Iterator<Item = &Fact<String>>| -> Vec<Value> {
        let mut names: Vec<Value> = Vec::new();
        for name in facts.map(|name| Value::from(name.value.as_str())) {
            // One kind in several counts is one kind.
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    if deployment.format == Format::Own {
        let machines = names(&mut deployment.machines.iter());
        return if machines.is_empty() {
            Value::Null
        } else {
            Value::Array(machines)
        };
    }
    let mut kinds = names(&mut deployment.accelerators.kinds.iter().map(|kind| &kind.name));
    match kinds.len() {
        0 => Value::Null,
        1 => kinds.swap_remove(0),
        _ => Value::Array(kinds),
    }
}

/// The text of a setting. What only something outside the file knows is not declared; what the platform fills is.
fn text<'a>(deployment: &'a Deployment, id: &str) -> Option<&'a str> {
    let open =
        |text: &&str| deployment.format != Format::Own && is_placeholder(text) && !deployment.is_filled(text);
    deployment.settings.text(id).filter(|text| !open(text))
}

/// A setting as a number where it is one, else as written.
fn setting(deployment: &Deployment, id: &str) -> Value {
    // What a platform sets by itself is not declared.
    if matches!(
        deployment.settings.get(id).map(|fact| &fact.origin),
        Some(Origin::Default(_))
    ) && deployment.format != Format::Own
    {
        return Value::Null;
    }
    match (deployment.settings.count(id), text(deployment, id)) {
        (Some(count), _) => count.into(),
        (None, Some(text)) => text.into(),
        (None, None) => Value::Null,
    }
}

#[derive(Serialize)]
struct ScenarioView<'a> {
    deployment: usize,
    model: Option<&'a str>,
    machine: Option<String>,
    accelerators: Option<u64>,
    context: u64,
    batch: u64,
    kv_cache: &'static str,
    quantization: &'a str,
    weights_bytes: Option<u64>,
    kv_cache_logical_bytes: Option<u64>,
    kv_cache_bytes: Option<u64>,
    state_bytes: Option<u64>,
    overhead_bytes: Option<u64>,
    overhead_low_bytes: Option<u64>,
    overhead_high_bytes: Option<u64>,
    required_bytes: Option<u64>,
    usable_bytes: Option<u64>,
    memory_bytes: Option<u64>,
    verdict: Verdict,
    recommended_quantization: Option<&'a str>,
    recommended_fits: Option<bool>,
    largest_context: Option<u64>,
    kv_cache_tokens: Option<u64>,
    max_concurrency: Option<f64>,
    assumptions: &'a [String],
}

impl<'a> ScenarioView<'a> {
    fn new(report: &'a Report, scenario: &'a Scenario) -> Self {
        let machine = report.machine_of(scenario);
        let estimate = scenario.estimate.as_ref();
        let recommended = scenario.recommended.as_ref();
        Self {
            deployment: scenario.deployment,
            model: report.model_of(scenario).map(|model| model.name.as_str()),
            machine: machine.map(crate::machine::Machine::name),
            accelerators: machine.map(|machine| machine.count),
            context: scenario.context,
            batch: scenario.batch,
            kv_cache: scenario.kv_cache.name(),
            quantization: &scenario.quantization,
            weights_bytes: estimate.map(|estimate| estimate.weights_bytes),
            kv_cache_logical_bytes: estimate.map(|estimate| estimate.kv_cache_logical_bytes),
            kv_cache_bytes: estimate.map(|estimate| estimate.kv_cache_bytes),
            state_bytes: estimate.map(|estimate| estimate.state_bytes),
            overhead_bytes: estimate.map(|estimate| estimate.overhead.likely),
            overhead_low_bytes: estimate.map(|estimate| estimate.overhead.low),
            overhead_high_bytes: estimate.map(|estimate| estimate.overhead.high),
            required_bytes: estimate.map(|estimate| estimate.required_bytes),
            usable_bytes: estimate.map(|estimate| estimate.usable_bytes),
            memory_bytes: estimate.map(|estimate| estimate.memory_bytes),
            verdict: scenario.verdict(),
            recommended_quantization: recommended.map(|recommended| recommended.name.as_str()),
            recommended_fits: recommended.map(|recommended| recommended.fits),
            largest_context: scenario.largest_context,
            kv_cache_tokens: estimate.and_then(|estimate| estimate.kv_cache_tokens),
            max_concurrency: estimate.and_then(|estimate| estimate.max_concurrency),
            assumptions: &scenario.assumptions,
        }
    }
}

#[derive(Serialize)]
struct FindingView<'a> {
    rule: &'a str,
    severity: Severity,
    message: &'a str,
    help: Option<&'a str>,
    file: Option<String>,
    start: Option<PositionView>,
    end: Option<PositionView>,
    related: Vec<RelatedView<'a>>,
    deployment: Option<usize>,
    scenarios: &'a [usize],
    fix: Option<FixView<'a>>,
    suppressed: Option<&'a str>,
}

impl<'a> FindingView<'a> {
    fn new(sources: &Sources, finding: &'a Finding) -> Self {
        let place = Place::of_finding(sources, finding);
        Self {
            rule: &finding.rule,
            severity: finding.severity,
            message: &finding.message,
            help: finding.help.as_deref(),
            file: path_of(sources, finding),
            start: place.as_ref().map(|place| place.start.into()),
            end: place.as_ref().map(|place| place.end.into()),
            related: finding
                .related
                .iter()
                .filter_map(|label| RelatedView::new(sources, label))
                .collect(),
            deployment: finding.deployment,
            scenarios: &finding.scenarios,
            fix: finding.fix.as_ref().map(|fix| FixView::new(sources, fix)),
            suppressed: finding.suppressed.as_deref(),
        }
    }
}

/// Line and column count from 1, columns in code points; bytes count from 0.
#[derive(Serialize)]
struct PositionView {
    line: usize,
    column: usize,
    byte: usize,
}

impl From<Position> for PositionView {
    fn from(position: Position) -> Self {
        Self {
            line: position.line,
            column: position.column,
            byte: position.byte,
        }
    }
}

#[derive(Serialize)]
struct RelatedView<'a> {
    message: &'a str,
    file: String,
    start: PositionView,
    end: PositionView,
}

impl<'a> RelatedView<'a> {
    fn new(sources: &Sources, label: &'a Label) -> Option<Self> {
        let place = Place::of(sources, label.span)?;
        Some(Self {
            message: &label.text,
            file: place.path().to_owned(),
            start: place.start.into(),
            end: place.end.into(),
        })
    }
}

#[derive(Serialize)]
struct FixView<'a> {
    safe: bool,
    edits: Vec<EditView<'a>>,
}

impl<'a> FixView<'a> {
    fn new(sources: &Sources, fix: &'a Fix) -> Self {
        Self {
            safe: fix.safe,
            edits: fix
                .edits
                .iter()
                .filter_map(|edit| EditView::new(sources, edit))
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct EditView<'a> {
    file: String,
    start: PositionView,
    end: PositionView,
    text: &'a str,
}

impl<'a> EditView<'a> {
    fn new(sources: &Sources, edit: &'a Edit) -> Option<Self> {
        let place = Place::of(sources, edit.span)?;
        Some(Self {
            file: place.path().to_owned(),
            start: place.start.into(),
            end: place.end.into(),
            text: &edit.text,
        })
    }
}
