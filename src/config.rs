//! The settings of a run: `.oomlint.yaml`, found from the current directory up to the repository root.
//!
//! In: the file's text. Out: [`Settings`], every value read, wrong ones reported with their place. The command
//! line and the environment are laid over it by `cli`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::finding::{Finding, Severity};
use crate::machine::Machine;
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

/// The settings of a run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The file they come from.
    pub file: Option<PathBuf>,
    /// Severities by rule id.
    pub severity: BTreeMap<String, Level>,
    /// Ignored findings.
    pub ignore: Vec<Ignore>,
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

    /// True when the settings leave out a path (as reports print it).
    pub fn excludes(&self, path: &str) -> bool {
        self.exclude.as_ref().is_some_and(|globs| matches(globs, path))
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

const KEYS: [&str; 9] = [
    "severity", "ignore", "exclude", "models", "machines", "rules", "machine", "context", "fail-on",
];

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
        "severity" => severities(reader, settings, value),
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
        "context" => {
            let contexts = reader.one_or_many(key, value, |reader, node| reader.count(key, node));
            settings.default_contexts = contexts.into_iter().map(|fact| fact.value).collect();
        }
        _ => settings.fail_on = fail_on(reader, value),
    }
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

fn severities(reader: &mut Reader, settings: &mut Settings, value: Node<'_>) {
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
                settings.severity.insert(rule.to_owned(), level);
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
