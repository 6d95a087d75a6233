//! The settings of a run: `.oomlint.yaml`, found from the current directory up to the repository root.
//!
//! In: the file's text. Out: [`Settings`], every value read, wrong ones reported with their place. The command
//! line and the environment are laid over it by `cli`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::engine::{Band, Engine};
use crate::fact::Fact;
use crate::finding::{Finding, Severity};
use crate::machine::Machine;
use crate::machine::quantity::parse_bytes;
use crate::manifest::own;
use crate::manifest::read::Reader;
use crate::nearest::nearest;
use crate::rule::Rules;
use crate::source::tree::{Node, Shape, Tree};
use crate::source::{SourceFile, Sources};

/// The name of the settings file.
pub const FILE_NAME: &str = ".oomlint.yaml";

/// What a severity setting says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Report with this severity.
    At(Severity),
    /// Do not report.
    Off,
}

impl Level {
    /// Reads `error`, `warning`, `info` or `off`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "error" => Self::At(Severity::Error),
            "warning" => Self::At(Severity::Warning),
            "info" => Self::At(Severity::Info),
            "off" => Self::Off,
            _ => return None,
        })
    }
}

/// From when on findings make a run fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailOn {
    /// From this severity on.
    From(Severity),
    /// Never.
    Never,
}

impl FailOn {
    /// Reads `error`, `warning`, `info` or `never`.
    pub fn parse(text: &str) -> Option<Self> {
        match (text, Level::parse(text)) {
            ("never", _) => Some(Self::Never),
            (_, Some(Level::At(severity))) => Some(Self::From(severity)),
            _ => None,
        }
    }

    /// True when a finding of a severity makes the run fail.
    pub fn includes(self, severity: Severity) -> bool {
        matches!(self, Self::From(threshold) if severity >= threshold)
    }
}

/// Findings that a team has decided to live with.
#[derive(Debug, Clone)]
pub struct Ignore {
    /// The rule.
    pub rule: String,
    /// Paths it is ignored in; every path when none are given.
    paths: Option<Gitignore>,
    /// Why.
    pub reason: String,
}

impl Ignore {
    /// True when a finding of `rule` in `path` is ignored.
    pub fn covers(&self, rule: &str, path: &str) -> bool {
        self.rule == rule && self.paths.as_ref().is_none_or(|paths| matches(paths, path))
    }
}

/// What holds for some paths.
#[derive(Debug, Clone)]
pub struct Override {
    paths: Gitignore,
    /// Severities by rule id.
    pub severity: BTreeMap<String, Level>,
    /// Rules, groups or beginnings of ids that are not reported there.
    pub ignore: Vec<String>,
    /// Machines for deployments there that declare none.
    pub machines: Vec<String>,
    /// Contexts in tokens for deployments there that declare none.
    pub contexts: Vec<u64>,
}

impl Override {
    /// True when it holds for a path (as reports print it).
    pub fn covers(&self, path: &str) -> bool {
        matches(&self.paths, path)
    }
}

/// The settings of a run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The file they come from.
    pub file: Option<PathBuf>,
    /// Severities by rule id.
    pub severity: BTreeMap<String, Level>,
    /// Severities by rule id that the command line gives: they go before every other.
    pub severity_typed: BTreeMap<String, Level>,
    /// Ignored findings.
    pub ignore: Vec<Ignore>,
    /// Severities, ignored rules, machines and contexts for some paths; of several that cover a path the last one counts.
    pub overrides: Vec<Override>,
    /// Paths that are never read.
    exclude: Option<Gitignore>,
    /// Folders in which model names are looked up.
    pub model_roots: Vec<PathBuf>,
    /// Which model a name or a path means.
    named_models: Vec<NamedModel>,
    /// The local hub cache; no file says it, the environment does.
    pub hub_cache: Option<PathBuf>,
    /// Machines beside the catalog's.
    pub machines: Vec<Machine>,
    /// Folders with rule files.
    pub rules: Vec<PathBuf>,
    /// Machines for deployments that declare none.
    pub default_machines: Vec<String>,
    /// Contexts in tokens for deployments that declare none.
    pub default_contexts: Vec<u64>,
    /// From when on a run fails.
    pub fail_on: Option<FailOn>,
    /// Overheads in the place of the estimates.
    pub overhead: Overheads,
}

/// What engines take beside weights and KV cache, as the user says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overheads {
    /// For engines that have none of their own here.
    pub every: Option<Fact<Band>>,
    /// By engine.
    pub by_engine: BTreeMap<Engine, Fact<Band>>,
}

impl Overheads {
    /// The one for an engine.
    pub fn of(&self, engine: Engine) -> Option<&Fact<Band>> {
        self.by_engine.get(&engine).or(self.every.as_ref())
    }

    /// Lays others over these.
    pub fn extend(&mut self, others: Self) {
        if others.every.is_some() {
            // One amount for every engine goes before the file's amount of one.
            self.by_engine.clear();
            self.every = others.every;
        }
        self.by_engine.extend(others.by_engine);
    }
}

/// An amount of memory as a band: `2GiB`, or the low, likely and high one, `1GiB/2GiB/3GiB`.
pub fn overhead_band(text: &str) -> Option<Band> {
    let parts: Option<Vec<u64>> = text.split('/').map(|part| parse_bytes(part.trim())).collect();
    match parts?.as_slice() {
        [one] => Some(Band::exactly(*one)),
        [low, likely, high] if low <= likely && likely <= high => Some(Band {
            low: *low,
            likely: *likely,
            high: *high,
        }),
        _ => None,
    }
}

/// An entry of `models` that says what a name or a path means.
#[derive(Debug, Clone)]
pub struct NamedModel {
    names: Gitignore,
    /// The name as written; a name with a scheme is no path pattern.
    written: String,
    /// A directory, a GGUF file or a hub name.
    pub model: String,
    /// The folder that a directory is relative to.
    pub folder: PathBuf,
}

impl Settings {
    /// What the settings say that a model's name or path means.
    pub fn model_named(&self, name: &str) -> Option<&NamedModel> {
        let path = Path::new(name.trim_start_matches(['/', '.']));
        let means = |entry: &&NamedModel| {
            entry.written == name || (!name.contains("..") && entry.names.matched(path, false).is_ignore())
        };
        self.named_models.iter().find(means)
    }

    /// The machines for deployments of a path that declare none: those of the last override that names some.
    pub fn machines_of(&self, path: &str) -> &[String] {
        let mut here = self.overrides.iter().rev().filter(|one| one.covers(path));
        here.find(|one| !one.machines.is_empty())
            .map_or(&self.default_machines, |one| &one.machines)
    }

    /// The contexts in tokens for deployments of a path that declare none, found in the same way.
    pub fn contexts_of(&self, path: &str) -> &[u64] {
        let mut here = self.overrides.iter().rev().filter(|one| one.covers(path));
        here.find(|one| !one.contexts.is_empty())
            .map_or(&self.default_contexts, |one| &one.contexts)
    }

    /// True when the settings leave out a path (as reports print it).
    pub fn excludes(&self, path: &str) -> bool {
        self.exclude.as_ref().is_some_and(|globs| matches(globs, path)) || self.is_rule_tree(path)
    }

    /// True inside of a tree that rules are tested on, beside those of a folder: it is wrong on purpose.
    fn is_rule_tree(&self, path: &str) -> bool {
        let path = Path::new(path);
        let is_tree = |part: std::path::Component<'_>| {
            let name = part.as_os_str().to_string_lossy();
            name == "tests" || crate::trees::is_case(&name)
        };
        let inside = |folder: &PathBuf| {
            let rest = path.strip_prefix(crate::walk::display(folder));
            rest.is_ok_and(|rest| rest.components().any(is_tree))
        };
        self.rules.iter().any(inside)
    }
}

fn matches(globs: &Gitignore, path: &str) -> bool {
    let path = Path::new(path);
    // Globs are relative to the settings file; a path outside its folder matches none of them.
    let path = path.strip_prefix(globs.path()).unwrap_or(path);
    if path.has_root() || path.starts_with("..") {
        return false;
    }
    globs.matched_path_or_any_parents(path, false).is_ignore()
}

/// The settings file that holds for a directory: the nearest one, no further up than the repository root.
pub fn discover(directory: &Path) -> Option<PathBuf> {
    let start = directory.canonicalize().ok()?;
    for folder in start.ancestors() {
        let candidate = folder.join(FILE_NAME);
        if candidate.is_file() {
            return Some(candidate);
        }
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

/// Reads a settings file. Relative paths in it are relative to its folder.
pub fn read(path: &Path, sources: &Sources) -> (Settings, Vec<Finding>) {
    let shown = crate::walk::display(path);
    let text = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            return (
                Settings::default(),
                vec![unreadable("the file is not UTF-8 text", &shown)],
            );
        }
        Err(error) => {
            return (
                Settings::default(),
                vec![unreadable(&crate::walk::plain(&error), &shown)],
            );
        }
    };
    let folder = path.parent().unwrap_or(Path::new(".")).to_path_buf();
    let file = sources.add(shown, text);
    let (mut settings, findings) = parse(&file, &folder);
    settings.file = Some(path.to_path_buf());
    (settings, findings)
}

fn unreadable(why: &str, path: &str) -> Finding {
    let message = format!("cannot read the settings file: {why}");
    Finding::about("file-unreadable", Severity::Error, message, path)
}

const KEYS: [&str; 11] = [
    "severity",
    "ignore",
    "overrides",
    "exclude",
    "models",
    "machines",
    "rules",
    "machine",
    "context",
    "fail-on",
    "overhead",
];

const OVERRIDE_KEYS: [&str; 5] = ["paths", "severity", "ignore", "machine", "context"];

fn parse(file: &Arc<SourceFile>, folder: &Path) -> (Settings, Vec<Finding>) {
    let tree = Tree::parse(file);
    let mut reader = Reader::default();
    for problem in &tree.problems {
        let label = crate::finding::Label {
            span: problem.span,
            text: "here".to_owned(),
        };
        let message = format!("the settings file is not valid YAML: {}", problem.message);
        reader
            .findings
            .push(Finding::at("yaml-invalid", Severity::Error, message, label));
    }
    let mut settings = Settings::default();
    for document in &tree.documents {
        if document.root().is_null() {
            continue;
        }
        for (key, value) in reader.fields(document.root(), "the settings file", &KEYS) {
            field(&mut reader, &mut settings, folder, key, value);
        }
    }
    (settings, reader.findings)
}

fn field(reader: &mut Reader, settings: &mut Settings, folder: &Path, key: &str, value: Node<'_>) {
    let texts = |reader: &mut Reader| -> Vec<String> {
        reader
            .one_or_many(key, value, |reader, node| reader.text(key, node))
            .into_iter()
            .map(|f| f.value)
            .collect()
    };
    match key {
        "severity" => settings.severity = severities(reader, value),
        "overrides" => {
            settings.overrides = value
                .items()
                .filter_map(|item| overridden(reader, folder, item))
                .collect();
            if value.items().next().is_none() {
                reader.invalid(
                    value.mention(),
                    "`overrides` must be a list",
                    "expected `- paths: ...`",
                );
            }
        }
        "ignore" => {
            settings.ignore = value
                .items()
                .filter_map(|item| ignored(reader, folder, item))
                .collect();
            if value.items().next().is_none() {
                reader.invalid(
                    value.mention(),
                    "`ignore` must be a list",
                    "expected `- rule: ...`",
                );
            }
        }
        "exclude" => {
            let globs = texts(reader);
            settings.exclude = build_globs(reader, folder, value, &globs);
        }
        "models" if value.shape() == Shape::Mapping => {
            settings.named_models = named_models(reader, folder, value);
        }
        "models" => settings.model_roots = texts(reader).iter().map(|path| folder.join(path)).collect(),
        "rules" => settings.rules = texts(reader).iter().map(|path| folder.join(path)).collect(),
        "machines" => {
            settings.machines = own::machines(reader, value)
                .into_iter()
                .map(|fact| fact.value)
                .collect();
        }
        "machine" => settings.default_machines = texts(reader),
        "context" => settings.default_contexts = counts(reader, key, value),
        "overhead" => settings.overhead = overheads(reader, value),
        _ => settings.fail_on = fail_on(reader, value),
    }
}

/// One count or a list of them.
fn counts(reader: &mut Reader, key: &str, value: Node<'_>) -> Vec<u64> {
    let counts = reader.one_or_many(key, value, |reader, node| reader.count(key, node));
    counts.into_iter().map(|fact| fact.value).collect()
}

/// `name-or-path: directory-or-hub-name`.
fn named_models(reader: &mut Reader, folder: &Path, node: Node<'_>) -> Vec<NamedModel> {
    let entry = |(key, value): (Node<'_>, Node<'_>)| {
        let written = key.text()?.to_owned();
        let model = reader.text(&written, value)?.value;
        let mut builder = GitignoreBuilder::new("");
        if let Err(error) = builder.add_line(None, &written) {
            reader.invalid(
                key.span(),
                format!("not a path pattern: {error}"),
                "expected a glob",
            );
            return None;
        }
        Some(NamedModel {
            names: builder.build().ok()?,
            written,
            model,
            folder: folder.to_path_buf(),
        })
    };
    node.entries().into_iter().filter_map(entry).collect()
}

/// Where `huggingface_hub` keeps what it has fetched, by the variables that it reads (0.34, `constants.py`):
/// `HF_HUB_CACHE` or its older names, `HF_HOME/hub`, `XDG_CACHE_HOME/huggingface/hub`, `~/.cache/huggingface/hub`.
pub fn hub_cache(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(set("HF_HOME")?.join("hub")))
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(set("HOME")?.join(".cache/huggingface/hub")))
}

fn fail_on(reader: &mut Reader, value: Node<'_>) -> Option<FailOn> {
    let text = reader.text("fail-on", value)?;
    let read = FailOn::parse(&text.value);
    if read.is_none() {
        let label = "expected error, warning, info or never";
        reader.invalid(
            value.mention(),
            format!("unknown threshold: {}", text.value),
            label,
        );
    }
    read
}

/// One amount for every engine, or a mapping by engine; an amount is one text or `{low, likely, high}`.
fn overheads(reader: &mut Reader, value: Node<'_>) -> Overheads {
    let mut overheads = Overheads::default();
    let by_engine = value
        .entries()
        .iter()
        .any(|(key, _)| key.text().and_then(Engine::parse).is_some());
    if value.shape() != Shape::Mapping || !by_engine {
        overheads.every = overhead(reader, value);
        return overheads;
    }
    for (key, amount) in value.entries() {
        let name = key.text().unwrap_or_default();
        match Engine::parse(name) {
            Some(engine) => {
                if let Some(band) = overhead(reader, amount) {
                    overheads.by_engine.insert(engine, band);
                }
            }
            None => {
                let label = format!("the engines are {}", Engine::ALL.map(Engine::name).join(", "));
                reader.invalid(key.span(), format!("there is no engine `{name}`"), label);
            }
        }
    }
    overheads
}

fn overhead(reader: &mut Reader, value: Node<'_>) -> Option<Fact<Band>> {
    let text = if value.shape() == Shape::Mapping {
        let mut amounts = BTreeMap::new();
        for (key, amount) in reader.fields(value, "an overhead", &["low", "likely", "high"]) {
            amounts.insert(key.to_owned(), reader.text(key, amount)?.value);
        }
        let likely = amounts.get("likely").cloned().unwrap_or_default();
        let bound = |key: &str| amounts.get(key).cloned().unwrap_or_else(|| likely.clone());
        format!("{}/{likely}/{}", bound("low"), bound("high"))
    } else {
        reader.text("overhead", value)?.value
    };
    let band = overhead_band(&text);
    if band.is_none() {
        let label = "expected an amount (2GiB), or low, likely and high in that order";
        reader.invalid(value.mention(), format!("not an overhead: {text}"), label);
    }
    Some(Fact::at(band?, value.span()))
}

fn severities(reader: &mut Reader, value: Node<'_>) -> BTreeMap<String, Level> {
    let mut levels = BTreeMap::new();
    let known: Vec<&str> = Rules::builtin().ids().collect();
    for (key, level) in value.entries() {
        let rule = key.text().unwrap_or_default();
        let Some(text) = reader.text(rule, level) else {
            continue;
        };
        match Level::parse(&text.value) {
            Some(level) => {
                // A rule of the user's own is not in the list, so only a near miss is certainly a mistake.
                if !known.contains(&rule)
                    && let Some(near) = nearest(rule, known.iter().copied())
                {
                    let message = format!("there is no rule `{rule}`");
                    reader.invalid(key.span(), message, format!("did you mean `{near}`?"));
                }
                levels.insert(rule.to_owned(), level);
            }
            None => {
                let label = "expected error, warning, info or off";
                reader.invalid(
                    level.mention(),
                    format!("unknown severity: {}", text.value),
                    label,
                );
            }
        }
    }
    levels
}

/// `{paths: [glob], severity: {rule: level}, ignore: [rule], machine: [name], context: [count]}`.
fn overridden(reader: &mut Reader, folder: &Path, node: Node<'_>) -> Option<Override> {
    let (mut paths, mut severity, mut ignore) = (None, BTreeMap::new(), Vec::new());
    let (mut machines, mut contexts) = (Vec::new(), Vec::new());
    for (key, value) in reader.fields(node, "an override", &OVERRIDE_KEYS) {
        match key {
            "severity" => {
                severity = severities(reader, value);
                continue;
            }
            "context" => {
                contexts = counts(reader, key, value);
                continue;
            }
            _ => {}
        }
        let texts = reader.one_or_many(key, value, |reader, node| reader.text(key, node));
        let texts: Vec<String> = texts.into_iter().map(|fact| fact.value).collect();
        match key {
            "paths" => paths = build_globs(reader, folder, value, &texts),
            "machine" => machines = texts,
            _ => ignore = texts,
        }
    }
    let Some(paths) = paths else {
        let message = "an override needs the paths it is for";
        reader.invalid(node.span(), message, "expected `paths: [...]`");
        return None;
    };
    Some(Override {
        paths,
        severity,
        ignore,
        machines,
        contexts,
    })
}

fn ignored(reader: &mut Reader, folder: &Path, node: Node<'_>) -> Option<Ignore> {
    let (mut rule, mut reason, mut paths) = (None, None, None);
    let before = reader.findings.len();
    for (key, value) in reader.fields(node, "an ignored finding", &["rule", "path", "reason"]) {
        match key {
            "rule" => rule = reader.text(key, value),
            "reason" => reason = reader.text(key, value),
            _ => {
                let globs = reader.one_or_many(key, value, |reader, node| reader.text(key, node));
                let globs: Vec<String> = globs.into_iter().map(|fact| fact.value).collect();
                paths = build_globs(reader, folder, value, &globs);
            }
        }
    }
    match (rule, reason) {
        (Some(rule), Some(reason)) => Some(Ignore {
            rule: rule.value,
            paths,
            reason: reason.value,
        }),
        _ => {
            if reader.findings.len() == before {
                let message = "an ignored finding needs a rule and a reason";
                reader.invalid(node.span(), message, "expected `rule: ...` and `reason: ...`");
            }
            None
        }
    }
}

fn build_globs(reader: &mut Reader, folder: &Path, node: Node<'_>, globs: &[String]) -> Option<Gitignore> {
    let root = crate::walk::display(folder);
    let mut builder = GitignoreBuilder::new(if root == "." { "" } else { root.as_str() });
    for glob in globs {
        if let Err(error) = builder.add_line(None, glob) {
            reader.invalid(
                node.mention(),
                format!("not a path pattern: {error}"),
                "expected a glob",
            );
        }
    }
    builder.build().ok()
}
