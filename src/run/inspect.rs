//! `oomlint inspect`: the pipeline for one model that no manifest deploys.

use std::path::PathBuf;
use std::sync::Arc;

use super::deploy::{self, Declaration, Declarations};
use super::{deployed, finish, models};
use crate::config::Settings;
use crate::engine::{Engine, KvType};
use crate::fact::Fact;
use crate::finding::Severity;
use crate::manifest::{Deployment, Format, WeightFormat};
use crate::report::{Report, Summary};
use crate::rule::Rules;
use crate::scenario::{self, Subject};
use crate::source::Sources;
use crate::walk::{Found, LOCK_FILE};

/// What to look at. Machines and contexts are the defaults of the settings.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// A directory, a GGUF file, or a name to look up in the model roots.
    pub model: String,
    /// The engine; mlx when not given.
    pub engine: Option<Engine>,
    /// Its release.
    pub engine_version: Option<String>,
    /// Concurrent sequences.
    pub batch: Vec<u64>,
    /// KV element types.
    pub kv_cache: Vec<KvType>,
    /// Weight format.
    pub quantization: Option<String>,
    /// The engine's own arguments.
    pub args: Vec<String>,
}

/// Loads the model and, where machines are given, estimates it on them. Findings are those of reading.
///
/// # Errors
/// In words, when there is no such model or machine.
pub fn inspect(
    inspection: &Inspection,
    settings: &Settings,
    sources: &Arc<Sources>,
    rules: &Rules,
) -> Result<Report, String> {
    // The command line is a text like any other: its words have places, and mistakes in them can be shown.
    let line = CommandLine::new(inspection, sources);
    let mut declared = Declarations::of(
        Declaration::new(line.deployment, PathBuf::new()),
        settings,
        sources,
    );
    let found = Found {
        lock_files: vec![PathBuf::from(LOCK_FILE)],
        ..Found::default()
    };
    let models = models::load(&found, &declared.items, settings, sources);
    if let Some(missing) = models
        .findings
        .iter()
        .find(|finding| &*finding.rule == "model-not-found")
    {
        return Err(missing.message.clone());
    }
    if settings.default_machines.is_empty() {
        declared
            .items
            .iter_mut()
            .for_each(|item| item.deployment.machines.clear());
    }
    let machines = deploy::machines(&declared, settings);
    if let Some(unknown) = machines
        .findings
        .iter()
        .find(|finding| &*finding.rule == "machine-unknown")
    {
        let hint = unknown
            .primary
            .as_ref()
            .map_or(String::new(), |label| format!(" ({})", label.text));
        return Err(format!("{}{hint}", unknown.message));
    }
    let places = machines.of(0);
    let item = declared.items.first().ok_or("no model was given")?;
    let subject = Subject {
        index: 0,
        deployment: &item.deployment,
        model: models.of(0),
        machines: &places,
    };
    let built = scenario::build(&subject);
    let mut findings = super::contradictions(&subject, &built);
    findings.extend(declared.findings);
    findings.extend(models.findings);
    let findings = finish::sorted(findings, sources);
    let sized = !built.scenarios.is_empty();
    let summary = Summary {
        models: models.models.len(),
        deployments: usize::from(sized),
        scenarios: built.scenarios.len(),
        errors: finish::count(&findings, Severity::Error),
        warnings: finish::count(&findings, Severity::Warning),
        infos: finish::count(&findings, Severity::Info),
        ..Summary::default()
    };
    let deployments = if sized {
        deployed(declared.items, &models.of_deployment)
    } else {
        Vec::new()
    };
    Ok(Report {
        sources: Arc::clone(sources),
        summary,
        models: models.models,
        deployments,
        machines: machines.machines,
        scenarios: built.scenarios,
        findings,
        rules: rules.summaries(),
    })
}

/// The inspection as a deployment whose values lie in a text: the command line.
struct CommandLine {
    deployment: Deployment,
}

impl CommandLine {
    fn new(inspection: &Inspection, sources: &Sources) -> Self {
        let mut words = vec![inspection.model.clone()];
        words.extend(inspection.args.iter().cloned());
        let mut text = String::new();
        let mut places = Vec::new();
        for word in &words {
            let start = text.len();
            text.push_str(word);
            places.push(start..text.len());
            text.push(' ');
        }
        let file = sources.add("<command line>", text);
        let mut facts = words
            .into_iter()
            .zip(places)
            .map(|(word, place)| Fact::at(word, file.span(place)));
        let model = facts.next();
        let given = "given on the command line";
        let quantization = inspection.quantization.as_ref().map(|name| match name.as_str() {
            "auto" => WeightFormat::Auto,
            "as-published" => WeightFormat::AsPublished,
            name => WeightFormat::Named(name.to_ascii_lowercase()),
        });
        let name = Fact::default(inspection.model.clone(), given);
        let deployment = Deployment {
            engine: inspection.engine.map(|engine| Fact::default(engine, given)),
            engine_version: inspection
                .engine_version
                .clone()
                .map(|version| Fact::default(version, given)),
            model,
            batch: inspection
                .batch
                .iter()
                .map(|batch| Fact::default(*batch, given))
                .collect(),
            kv_cache: inspection
                .kv_cache
                .iter()
                .map(|kv| Fact::default(*kv, given))
                .collect(),
            quantization: quantization.map(|format| Fact::default(format, given)),
            args: facts.collect(),
            ..Deployment::new(name, file.id(), file.span(0..file.text().len()), Format::Own)
        };
        Self { deployment }
    }
}
