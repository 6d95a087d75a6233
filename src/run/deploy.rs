//! From what manifests declare to what can be sized: arguments settled, machines looked up.

use std::path::PathBuf;

use super::read::Manifests;
use super::releases;
use crate::config::Settings;
use crate::engine::{self, Engine, KvType, Version, args};
use crate::fact::{Fact, Origin};
use crate::finding::{Finding, Label, Severity};
use crate::machine::Machine;
use crate::machine::catalog::{Catalog, Unknown};
use crate::manifest::{Deployment, Format, WeightFormat, surroundings};
use crate::model::quantization;
use crate::source::{Sources, Span};

/// A deployment and what its file says of paths and machines.
#[derive(Debug)]
pub(super) struct Declaration {
    /// Its position in the report.
    pub(super) index: usize,
    /// As declared, arguments settled.
    pub(super) deployment: Deployment,
    /// The folder that paths are relative to.
    pub(super) folder: PathBuf,
    /// Machines that its file adds.
    extra: Vec<Machine>,
}

/// The deployments of a run.
#[derive(Debug, Default)]
pub(super) struct Declarations {
    pub(super) items: Vec<Declaration>,
    pub(super) findings: Vec<Finding>,
}

impl Declaration {
    /// A deployment in a folder; it gets its position when it is added to [`Declarations`].
    pub(super) fn new(deployment: Deployment, folder: PathBuf) -> Self {
        Self {
            index: 0,
            deployment,
            folder,
            extra: Vec::new(),
        }
    }
}

impl Declarations {
    /// One deployment, settled.
    pub(super) fn of(declaration: Declaration, settings: &Settings, sources: &Sources) -> Self {
        let mut all = Self::default();
        all.add(declaration, settings, sources);
        all
    }

    /// Adds a deployment: its arguments are settled, the settings fill what it leaves open.
    fn add(&mut self, mut declaration: Declaration, settings: &Settings, sources: &Sources) {
        declaration.index = self.items.len();
        let mut findings = settle(&mut declaration.deployment, sources);
        surroundings::settle(&mut declaration.deployment.surroundings);
        let path = sources
            .get(declaration.deployment.file)
            .map(|file| file.path().to_owned());
        fill(
            &mut declaration.deployment,
            settings,
            path.as_deref().unwrap_or_default(),
        );
        findings.extend(unresolved(&declaration.deployment));
        for finding in &mut findings {
            finding.deployment = Some(declaration.index);
        }
        self.findings.append(&mut findings);
        self.items.push(declaration);
    }
}

/// Collects the deployments of all manifests.
pub(super) fn collect(manifests: &Manifests, settings: &Settings, sources: &Sources) -> Declarations {
    let mut all = Declarations::default();
    for manifest in &manifests.manifests {
        for declared in &manifest.declared {
            all.findings.extend(declared.findings.iter().cloned());
            let extra: Vec<Machine> = declared.machines.iter().map(|fact| fact.value.clone()).collect();
            for deployment in &declared.deployments {
                let folder = manifest.folder.clone();
                let declaration = Declaration {
                    index: 0,
                    deployment: deployment.clone(),
                    folder,
                    extra: extra.clone(),
                };
                all.add(declaration, settings, sources);
            }
        }
    }
    super::shared::add_up(&mut all.items);
    all
}

/// Says which fields of another tool's file could not be checked, because their values are known only later.
fn unresolved(deployment: &Deployment) -> Option<Finding> {
    // A KV type that stands there and is not known has been told.
    let is_told = |field: &str| {
        let given = KV_SETTINGS.iter().find_map(|id| deployment.settings.text(id));
        field == "kv_cache" && given.is_some_and(|value| !args::is_placeholder(value))
    };
    let fields = deployment.unresolved.iter().filter(|field| !is_told(field));
    let fields: Vec<&String> = fields.collect();
    if deployment.format == Format::Own || fields.is_empty() {
        return None;
    }
    let place = |field: &&String| {
        let model = deployment.model.as_ref().filter(|_| *field == "model");
        let setting = SETTINGS_OF_FIELDS
            .iter()
            .filter(|(name, _)| name == *field)
            .find_map(|(_, id)| deployment.settings.get(id))
            .or_else(|| deployment.settings.get(field));
        model.or(setting).and_then(Fact::span)
    };
    let span = fields
        .iter()
        .find_map(place)
        .or_else(|| deployment.name.span())
        .unwrap_or(deployment.span);
    let words: Vec<String> = fields.iter().map(|field| field.replace('_', " ")).collect();
    let message = format!(
        "{} was not checked for its {}: the value is known only when something outside this file fills it in",
        deployment.name.value,
        words.join(", ")
    );
    let label = Label {
        span,
        text: "a variable or a placeholder".to_owned(),
    };
    let help = "give a default (`${NAME:-value}`), or check the rendered file: ... | oomlint check -";
    Some(Finding::at("value-unresolved", Severity::Info, message, label).with_help(help))
}

/// Lays the defaults of the settings under what a deployment declares.
fn fill(deployment: &mut Deployment, settings: &Settings, path: &str) {
    let why = "the default of the settings";
    // On how many nodes nobody knows, nothing can be said of the fit.
    let countable = !deployment.unresolved.iter().any(|field| field == "nodes");
    if countable && deployment.machines.is_empty() && !deployment.accelerators.is_cpu() {
        let kinds = &deployment.accelerators.kinds;
        deployment.machines = kinds.iter().map(|kind| kind.name.clone()).collect();
    }
    if countable && deployment.machines.is_empty() && !deployment.accelerators.is_cpu() {
        deployment.machines = settings
            .machines_of(path)
            .iter()
            .map(|name| Fact::default(name.clone(), why))
            .collect();
    }
    let overhead = settings.overhead.of(deployment.engine_or_default());
    if let Some(overhead) = overhead {
        let text = overhead.clone().map(|band| band.to_string());
        deployment.settings.set(engine::overheads::GIVEN, text);
    }
    if deployment.context.is_empty() {
        deployment.context = settings
            .contexts_of(path)
            .iter()
            .map(|count| Fact::default(*count, why))
            .collect();
    }
}

/// Reads the arguments and takes what they set; a setting that is also given by a key must agree with it.
fn settle(deployment: &mut Deployment, sources: &Sources) -> Vec<Finding> {
    let Some(engine) = deployment.sized_as() else {
        return Vec::new();
    };
    let version = deployment
        .engine_version
        .as_ref()
        .and_then(|text| Version::parse(&text.value));
    let parsed = args::parse(engine, version, &deployment.args, sources);
    let mut settled = Settled {
        findings: Vec::new(),
        engine,
        foreign: deployment.format != Format::Own,
        unknown_spelling: unknown_spelling(deployment, engine, version),
    };
    for unknown in &parsed.unknown {
        settled.unknown(unknown);
    }
    // What wraps an engine counts its own releases.
    let engines = version.filter(|_| deployment.server.is_none());
    releases::findings(
        engine,
        engines,
        deployment,
        &parsed,
        sources,
        &mut settled.findings,
    );
    for (span, problem) in &parsed.problems {
        settled.invalid(*span, problem.clone(), "cannot be read");
    }
    for (span, doubt) in &parsed.doubts {
        let label = Label {
            span: *span,
            text: "which release is it?".to_owned(),
        };
        let finding = Finding::at("value-invalid", Severity::Info, doubt.clone(), label);
        settled.findings.push(finding);
    }
    for (first, last) in &parsed.repeated {
        settled.conflict("an argument", first, last, "the last one counts");
    }
    for (id, value) in parsed.settings.iter() {
        deployment.settings.set(id, value.clone());
    }
    // Nothing is computed from the name that clients use.
    for id in parsed.unresolved.iter().filter(|id| *id != "served_model_name") {
        deployment.mark_unresolved(field_of(id));
    }
    deployment.settle_filled();
    settled.model(deployment);
    settled.context(deployment);
    settled.kv_cache(deployment);
    settled.quantization(deployment);
    settled.findings
}

/// Fields of a report and settings of engines that give them under another name.
const SETTINGS_OF_FIELDS: [(&str, &str); 5] = [
    ("context", "ctx_size"),
    ("context", "num_ctx"),
    ("kv_cache", "cache_type_k"),
    ("kv_cache", "cache_type_v"),
    ("kv_cache", "kv_cache_type"),
];

/// The field of a report that a setting stands in.
fn field_of(id: &str) -> &str {
    let named = SETTINGS_OF_FIELDS.iter().find(|(_, setting)| *setting == id);
    named.map_or(id, |(field, _)| field)
}

/// Setting ids by which engines' arguments give the context.
const CONTEXT_SETTINGS: [&str; 3] = ["context", "ctx_size", "num_ctx"];
/// Setting ids by which engines' arguments give the KV type.
const KV_SETTINGS: [&str; 3] = ["kv_cache", "cache_type_k", "kv_cache_type"];

/// How bad a value is that no release of the engine known here takes: certain in our own format and for a release that
/// is known, else a newer release may take it, and a fork may take anything.
fn unknown_spelling(deployment: &Deployment, engine: Engine, version: Option<Version>) -> Severity {
    let is_known = version.is_some_and(|version| {
        engine::flags::FlagTable::of(engine)
            .version
            .is_some_and(|read| version <= read)
    });
    match () {
        () if deployment.format == Format::Own || is_known && !deployment.is_own_build => Severity::Error,
        () if deployment.is_own_build => Severity::Info,
        () => Severity::Warning,
    }
}

struct Settled {
    findings: Vec<Finding>,
    engine: Engine,
    /// How bad a value is that the engine is not known to take.
    unknown_spelling: Severity,
    /// True for files that other tools read too: a flag that we do not know may be one of a fork.
    foreign: bool,
}

impl Settled {
    fn invalid(&mut self, span: Span, message: String, label: &str) {
        let label = Label {
            span,
            text: label.to_owned(),
        };
        self.findings
            .push(Finding::at("value-invalid", Severity::Error, message, label));
    }

    fn unknown(&mut self, unknown: &args::UnknownFlag) {
        let Some(span) = unknown.flag.span() else { return };
        let message = format!("{} has no argument {}", self.engine.name(), unknown.flag.value);
        let text = match &unknown.suggestion {
            Some(near) => format!("did you mean {near}?"),
            None => "unknown argument".to_owned(),
        };
        let severity = if self.foreign && unknown.suggestion.is_none() {
            Severity::Info
        } else {
            Severity::Warning
        };
        let finding = Finding::at("unknown-argument", severity, message, Label { span, text });
        self.findings
            .push(finding.with_help("it was left out of the estimate"));
    }

    /// Two places that give one setting different values.
    fn conflict(&mut self, what: &str, first: &Fact<String>, last: &Fact<String>, label: &str) {
        let (Some(one), Some(two)) = (first.span(), last.span()) else {
            return;
        };
        let message = format!(
            "{what} is given twice with different values: {} and {}",
            first.value, last.value
        );
        let label = Label {
            span: two,
            text: label.to_owned(),
        };
        let finding = Finding::at("setting-conflict", Severity::Error, message, label)
            .with_related(one, format!("{} here", first.value))
            .with_help("keep one of the two");
        self.findings.push(finding);
    }

    /// Takes the model from the arguments where no key names it. A variable names none.
    fn model(&mut self, deployment: &mut Deployment) {
        // A reader that found the path of a mount, and nothing of what is mounted, has said so.
        let is_open = deployment.unresolved.iter().any(|field| field == "model");
        if deployment.model.is_none() && !is_open {
            deployment.model = deployment.settings.get("model").cloned();
        }
        if self.foreign
            && deployment
                .model
                .as_ref()
                .is_some_and(|model| args::is_placeholder(&model.value))
        {
            deployment.mark_unresolved("model");
        }
    }

    fn context(&mut self, deployment: &mut Deployment) {
        let Some(given) = CONTEXT_SETTINGS
            .iter()
            .find_map(|id| deployment.settings.get(id))
            .cloned()
        else {
            return;
        };
        match engine::settings::parse_count(&given.value) {
            // 0 and `auto` ask the engine for the model's maximum.
            Some(0) => {}
            _ if args::is_placeholder(&given.value) => {}
            Some(context) => {
                let given = given.clone().map(|_| context);
                self.take("the context", &mut deployment.context, given, u64::to_string);
            }
            None if matches!(given.value.as_str(), "auto" | "-1") => {}
            None => {
                if let Some(span) = given.span() {
                    self.invalid(
                        span,
                        format!("not a context length: {}", given.value),
                        "expected a count",
                    );
                }
            }
        }
    }

    fn kv_cache(&mut self, deployment: &mut Deployment) {
        let Some(given) = KV_SETTINGS
            .iter()
            .find_map(|id| deployment.settings.get(id))
            .cloned()
        else {
            self.supported(deployment);
            return;
        };
        match KvType::parse(&given.value) {
            Some(kv) => {
                let given = given.map(|_| kv);
                self.take("the KV-cache type", &mut deployment.kv_cache, given, |kv| {
                    kv.name().to_owned()
                });
            }
            None if args::is_placeholder(&given.value) => {}
            None => {
                self.unknown_kv(&given);
                deployment.mark_unresolved("kv_cache");
            }
        }
        self.supported(deployment);
    }

    /// A KV type without a size that is known here: one that the engine takes, or one that it may not.
    fn unknown_kv(&mut self, given: &Fact<String>) {
        let Some(span) = given.span() else { return };
        let spellings = engine::kv_types(self.engine);
        let name = self.engine.name();
        let value = &given.value;
        let takes = spellings.iter().any(|spelling| spelling.name == *value);
        let (severity, message, text) = match self.unknown_spelling {
            _ if takes => (
                Severity::Info,
                format!("the size of the KV-cache type {value} of {name} is not known here"),
                "nothing was sized that depends on it",
            ),
            Severity::Error => (
                Severity::Error,
                format!("unknown KV-cache type: {value}"),
                "unknown type",
            ),
            severity => (
                severity,
                format!("{value} is a KV-cache type of no {name} release that is known here"),
                "of a fork or of a newer release?",
            ),
        };
        let text = text.to_owned();
        self.findings.push(Finding::at(
            "value-invalid",
            severity,
            message,
            Label { span, text },
        ));
    }

    /// Reports KV types that the engine does not have, and leaves them out.
    fn supported(&mut self, deployment: &mut Deployment) {
        let spellings = engine::kv_types(self.engine);
        let known = |kv: &KvType| spellings.iter().any(|spelling| spelling.kv == Some(*kv));
        let refused: Vec<_> = deployment
            .kv_cache
            .iter()
            .filter(|kv| !known(&kv.value))
            .cloned()
            .collect();
        for kv in refused {
            let Some(span) = kv.span() else { continue };
            let names: Vec<&str> = spellings.iter().map(|spelling| spelling.name.as_str()).collect();
            let message = format!("{} has no KV-cache type {}", self.engine.name(), kv.value.name());
            let label = Label {
                span,
                text: match self.unknown_spelling {
                    Severity::Error => "the engine refuses it",
                    _ => "of a fork or of a newer release?",
                }
                .to_owned(),
            };
            let finding = Finding::at("value-invalid", self.unknown_spelling, message, label);
            self.findings.push(finding.with_help(format!(
                "{} takes {}",
                self.engine.name(),
                names.join(", ")
            )));
        }
        let before = deployment.kv_cache.len();
        deployment.kv_cache.retain(|kv| known(&kv.value));
        if before > 0 && deployment.kv_cache.is_empty() {
            deployment.unresolved.push("kv_cache".to_owned());
        }
    }

    fn quantization(&mut self, deployment: &mut Deployment) {
        let Some(given) = deployment.settings.get("quantization").cloned() else {
            return;
        };
        let name = given.value.to_ascii_lowercase();
        let online = engine::flags::online_format(self.engine, &name);
        if online.is_none() && quantization::real_bits_per_weight(&name).is_none() {
            return;
        }
        match &deployment.quantization {
            Some(declared) if declared.value.name() != name && declared.is_declared() => {
                let declared = declared.clone().map(|format| format.name().to_owned());
                self.conflict("the quantization", &declared, &given, "and here");
            }
            Some(_) => {}
            None => deployment.quantization = Some(given.map(|_| WeightFormat::Named(name))),
        }
    }

    /// Takes a value from the arguments into a dimension, or reports that the key says otherwise.
    fn take<T: PartialEq + Clone>(
        &mut self,
        what: &str,
        dimension: &mut Vec<Fact<T>>,
        given: Fact<T>,
        name: impl Fn(&T) -> String,
    ) {
        let differing = dimension.iter().find(|fact| fact.value != given.value).cloned();
        match differing {
            Some(declared) => {
                let shown = |fact: Fact<T>| {
                    let text = name(&fact.value);
                    fact.map(|_| text)
                };
                self.conflict(what, &shown(declared), &shown(given), "and here");
            }
            None if dimension.is_empty() => dimension.push(given),
            None => {}
        }
    }
}

/// The machines of a run, sorted by name, and which deployment is checked on which.
#[derive(Debug, Default)]
pub(super) struct Machines {
    pub(super) machines: Vec<Machine>,
    /// By deployment, in the order of its machines.
    of_deployment: Vec<Vec<Option<usize>>>,
    pub(super) findings: Vec<Finding>,
}

impl Machines {
    /// The machines of a deployment and their positions; `None` for unknown names.
    pub(super) fn of(&self, deployment: usize) -> Vec<Option<(usize, &Machine)>> {
        let positions = self.of_deployment.get(deployment).map_or(&[][..], Vec::as_slice);
        let machine = |position: &Option<usize>| position.and_then(|at| Some((at, self.machines.get(at)?)));
        positions.iter().map(machine).collect()
    }
}

/// Looks up every machine that a deployment names.
pub(super) fn machines(declarations: &Declarations, settings: &Settings) -> Machines {
    let catalog = Catalog::builtin();
    let mut all = Machines::default();
    let mut resolved: Vec<Vec<Option<Machine>>> = Vec::new();
    for declaration in &declarations.items {
        let extra: Vec<Machine> = declaration
            .extra
            .iter()
            .chain(&settings.machines)
            .cloned()
            .collect();
        let deployment = &declaration.deployment;
        let mut found = Vec::new();
        for (at, name) in deployment.machines.iter().enumerate() {
            match place(deployment, at, name, &extra, catalog) {
                Ok(machine) => found.push(Some(machine)),
                Err(unknown) => {
                    all.findings
                        .push(machine_unknown(declaration, name, &unknown.suggestions));
                    found.push(None);
                }
            }
        }
        if deployment.sized_as().is_none() {
            all.findings.extend(engine_not_sized(declaration));
        }
        let left_open = deployment
            .unresolved
            .iter()
            .any(|key| key == "machines" || key == "nodes");
        if found.is_empty()
            && !left_open
            && deployment.sized_as().is_some()
            && !deployment.accelerators.is_cpu()
        {
            all.findings.push(no_machine(declaration));
        }
        resolved.push(found);
    }
    for machine in resolved.iter().flatten().flatten() {
        if !all.machines.contains(machine) {
            all.machines.push(machine.clone());
        }
    }
    all.machines.sort_by(|a, b| {
        (&a.id, a.count, a.memory_bytes, &a.provenance).cmp(&(&b.id, b.count, b.memory_bytes, &b.provenance))
    });
    let position = |machine: &Machine| all.machines.iter().position(|known| known == machine);
    all.of_deployment = resolved
        .iter()
        .map(|found| {
            found
                .iter()
                .map(|machine| machine.as_ref().and_then(position))
                .collect()
        })
        .collect();
    all
}

/// The machine that a deployment runs on by its name at a position: the kind of accelerator, as many of them as one
/// copy of the model gets over all its nodes.
fn place(
    deployment: &Deployment,
    at: usize,
    name: &Fact<String>,
    extra: &[Machine],
    catalog: &Catalog,
) -> Result<Machine, Unknown> {
    let kind = deployment
        .accelerators
        .kinds
        .get(at)
        .filter(|kind| kind.name == *name);
    let label = kind.and_then(|kind| kind.label.as_deref());
    let own = extra.iter().any(|machine| machine.id == name.value);
    let mut machine = match label {
        Some(label) if !own => catalog.resolve_label(label, &name.value)?,
        _ => catalog.resolve_with(extra, &name.value)?,
    };
    if deployment.format == Format::Own {
        return Ok(machine);
    }
    if let Some(resource) = &deployment.accelerators.resource {
        cut(&mut machine, &resource.value);
    }
    let nodes = deployment.settings.count("nodes").unwrap_or(1).max(1);
    let declared = kind
        .and_then(|kind| kind.count)
        .or_else(|| deployment.accelerators.number())
        .filter(|count| *count > 0);
    machine.count = match (declared, machine.count) {
        // A machine given from outside with a count of its own is what it says.
        (Some(_), count) if kind.is_none() && count > 1 => count,
        (Some(count), _) => count.saturating_mul(nodes),
        // An instance type tells how many it has; where nothing tells, there are as many as the engine asks for.
        (None, count) => {
            let asked = engine::world_size(&deployment.settings);
            count.saturating_mul(nodes).max(if count > 1 { 1 } else { asked })
        }
    };
    Ok(machine)
}

/// Makes a card the slice of it that a resource asks for (`nvidia.com/mig-3g.40gb`). The memory in a profile's name is
/// at least what the slice gets, so nothing is refused that would run.
fn cut(machine: &mut Machine, resource: &str) {
    let Some(profile) = resource.strip_prefix("nvidia.com/mig-") else {
        return;
    };
    let gigabytes = profile.split('.').find_map(|part| part.strip_suffix("gb"));
    let Some(bytes) = gigabytes.and_then(|gigabytes| gigabytes.parse::<u64>().ok()?.checked_mul(1 << 30))
    else {
        return;
    };
    if bytes < machine.memory_bytes {
        machine.id = format!("{}-mig-{profile}", machine.id);
        machine.memory_bytes = bytes;
        machine.runtime_memory_bytes = None;
        machine.provenance = format!("the memory that the profile {profile} names");
    }
}

fn machine_unknown(declaration: &Declaration, name: &Fact<String>, suggestions: &[String]) -> Finding {
    let message = format!("unknown machine: {}", name.value);
    let text = match suggestions {
        [] => "not in the catalog".to_owned(),
        [one] => format!("did you mean {one}?"),
        several => format!("did you mean one of {}?", several.join(", ")),
    };
    let help = "`oomlint machines` lists the catalog; add your own under `machines:` in this file or in \
                .oomlint.yaml";
    // Files of other tools name machines by labels of a cluster's own, which mean nothing to anybody else.
    let severity = match declaration.deployment.format {
        Format::Own => Severity::Error,
        _ => Severity::Info,
    };
    let mut finding = match &name.origin {
        Origin::At(span) => Finding::at("machine-unknown", severity, message, Label { span: *span, text }),
        _ => Finding::at(
            "machine-unknown",
            Severity::Error,
            message,
            Label {
                span: declaration.deployment.span,
                text: "declares no machine of its own".to_owned(),
            },
        ),
    };
    finding.deployment = Some(declaration.index);
    finding.with_help(help)
}

/// Says that a server is known and its memory is not, once a deployment.
fn engine_not_sized(declaration: &Declaration) -> Option<Finding> {
    let deployment = &declaration.deployment;
    let server = deployment.server.as_ref()?;
    let span = server
        .span()
        .or_else(|| deployment.name.span())
        .unwrap_or(deployment.span);
    let name = &deployment.name.value;
    let message = format!(
        "{name} is served by {}, whose memory is not modelled: nothing of it was sized",
        server.value
    );
    let label = Label {
        span,
        text: "no estimate".to_owned(),
    };
    let mut finding = Finding::at("engine-not-sized", Severity::Info, message, label);
    finding.deployment = Some(declaration.index);
    let engines = Engine::ALL.map(Engine::name).join(", ");
    Some(finding.with_help(format!("the engines that are sized are {engines}")))
}

fn no_machine(declaration: &Declaration) -> Finding {
    let deployment = &declaration.deployment;
    let span = deployment.name.span().unwrap_or(deployment.span);
    let message = format!(
        "the deployment {} declares no machine, so its fit was not checked",
        deployment.name.value
    );
    let label = Label {
        span,
        text: "on which machine?".to_owned(),
    };
    let mut finding = Finding::at("machine-not-declared", Severity::Info, message, label);
    finding.deployment = Some(declaration.index);
    let help = match deployment.format {
        Format::Own => "add `machines: [...]`, or run with --machine",
        _ => "run with --machine NAME, or give `machine:` in .oomlint.yaml",
    };
    finding.with_help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_has_the_memory_of_its_profile_and_never_more_than_the_card() {
        let card = || Catalog::builtin().resolve("a100-sxm-80gb").unwrap();
        for (resource, id, gib) in [
            ("nvidia.com/mig-3g.40gb", "a100-sxm-80gb-mig-3g.40gb", 40),
            ("nvidia.com/mig-1g.10gb.me", "a100-sxm-80gb-mig-1g.10gb.me", 10),
        ] {
            let mut machine = card();
            cut(&mut machine, resource);
            assert_eq!((machine.id.as_str(), machine.memory_bytes), (id, gib << 30));
        }
        for resource in [
            "nvidia.com/gpu.shared",
            "nvidia.com/mig-7g.999gb",
            "nvidia.com/mig-",
            "nvidia.com/mig-xgb",
        ] {
            let mut machine = card();
            cut(&mut machine, resource);
            assert_eq!(machine, card(), "{resource}");
        }
    }
}
