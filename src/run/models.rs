//! Finds and loads the models of a run: those the walk met and those that deployments name.
//!
//! A name is looked up relative to the manifest, by the settings' `models`, among the directories of the tree, in
//! `oomlint.lock`, in the local hub cache and in the built-in catalog, in this order. What is found is loaded once,
//! however many deployments name it. Nothing asks the network.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::deploy::Declaration;
use crate::config::Settings;
use crate::finding::{Finding, Label, Severity};
use crate::lock::{self, LockFile};
use crate::manifest::Format;
use crate::model::catalog::{self, Match};
use crate::model::name::{self, Kind, Reference};
use crate::model::record::Record;
use crate::model::{Model, ModelSource, directory, gguf};
use crate::nearest::nearest;
use crate::source::Sources;
use crate::walk::{Found, LOCK_FILE, display};

/// The models of a run, sorted by path, and which deployment means which.
#[derive(Debug, Default)]
pub(super) struct Models {
    pub(super) models: Vec<Model>,
    /// By deployment.
    pub(super) of_deployment: Vec<Option<usize>>,
    pub(super) findings: Vec<Finding>,
}

impl Models {
    /// The model of a deployment and its position.
    pub(super) fn of(&self, deployment: usize) -> Option<(usize, &Model)> {
        let index = self.of_deployment.get(deployment).copied().flatten()?;
        self.models.get(index).map(|model| (index, model))
    }
}

/// Looks up every name and loads every model.
pub(super) fn load(
    found: &Found,
    declarations: &[Declaration],
    settings: &Settings,
    sources: &Sources,
) -> Models {
    let mut shelf = Shelf::new(found, settings);
    let mut findings = std::mem::take(&mut shelf.findings);
    let wanted: Vec<Option<String>> = declarations
        .iter()
        .map(|declaration| {
            let name = declaration.deployment.model.as_ref()?;
            let place = if means_a_path(declaration) {
                shelf.look_up_here(&name.value, &declaration.folder)
            } else {
                shelf.look_up(&name.value, &declaration.folder)
            };
            let place = place.or_else(|| shelf.look_up_hints(declaration));
            if place.is_none() {
                findings.extend(not_found(declaration, &shelf));
            }
            place
        })
        .collect();
    let loaded: Vec<_> = shelf
        .places
        .par_iter()
        .map(|(shown, place)| {
            let (model, findings) = load_one(place, shown, sources);
            (shown, model, findings)
        })
        .collect();
    let mut models = Models {
        findings,
        ..Models::default()
    };
    let mut positions = BTreeMap::new();
    for (shown, model, found) in loaded {
        models.findings.extend(found);
        if let Some(model) = model {
            positions.insert(shown.clone(), models.models.len());
            models.models.push(model);
        }
    }
    models.of_deployment = wanted
        .iter()
        .map(|place| positions.get(place.as_ref()?).copied())
        .collect();
    models
}

/// By declaration: the name under which a hub has its model, and whether it is surely one of the hub's; `None` where the
/// tree or a model root holds the model, or none is named.
pub(super) fn names_elsewhere(
    found: &Found,
    declarations: &[Declaration],
    settings: &Settings,
) -> Vec<Option<(String, bool)>> {
    let mut shelf = Shelf::new(found, settings);
    let mut elsewhere = |declaration: &Declaration| {
        let written = &declaration.deployment.model.as_ref()?.value;
        // What the catalog or the cache knows is locked all the same: a lock is what a review can see.
        let lies_here = shelf.look_up_here(written, &declaration.folder).is_some();
        // A path of the serving machine, and beside it the address of the hub that it is filled from.
        let hints = declaration.deployment.model_hints.iter().map(|hint| &hint.value);
        let download = || {
            hints
                .into_iter()
                .find(|hint| lock::Reference::names_the_hub(hint))
        };
        let is_name = lock::Reference::parse(written, false).is_some();
        let by_hint = (!is_name).then(download).flatten();
        let meant = settings
            .model_named(written)
            .map(|meant| &meant.model)
            .or(by_hint);
        (!lies_here).then(|| (meant.unwrap_or(written).clone(), meant.is_some()))
    };
    declarations.iter().map(&mut elsewhere).collect()
}

fn load_one(place: &Place, shown: &str, sources: &Sources) -> (Option<Model>, Vec<Finding>) {
    match place {
        Place::Path(path) if path.is_dir() => {
            let loaded = directory::load(sources, path, shown);
            (loaded.model, loaded.findings)
        }
        Place::Path(path) => {
            let loaded = gguf::load(path, shown);
            (loaded.model, loaded.findings)
        }
        Place::Snapshot { path, name } => {
            let loaded = directory::load(sources, path, shown);
            let model = loaded.model.map(|model| Model {
                name: name.clone(),
                source: ModelSource::HubCache,
                ..model
            });
            (model, loaded.findings)
        }
        Place::Locked(record) => {
            let (model, findings) = record.to_model(shown, ModelSource::Lock);
            (Some(model), findings)
        }
        Place::Catalog(found) => {
            let (model, findings) = found.to_model(shown);
            (Some(model), findings)
        }
        Place::Hinted {
            place,
            name,
            assumption,
        } => {
            let (model, findings) = load_one(place, name, sources);
            let model = model.map(|mut model| {
                model.assumptions.push(assumption.clone());
                model
            });
            (model, findings)
        }
    }
}

/// Where a model lies.
#[derive(Debug, Clone)]
enum Place {
    /// A directory or a GGUF file.
    Path(PathBuf),
    /// A snapshot in the hub cache, and the name it was fetched by.
    Snapshot { path: PathBuf, name: String },
    /// An entry of `oomlint.lock`.
    Locked(Box<Record>),
    /// A row of the built-in catalog.
    Catalog(Box<Match>),
    /// The place of another name that the file holds beside a path of the serving machine.
    Hinted {
        place: Box<Place>,
        name: String,
        assumption: String,
    },
}

/// Every place where a model may lie, by the path or name that reports print.
struct Shelf<'a> {
    places: BTreeMap<String, Place>,
    /// What lock files hold.
    locked: LockFile,
    settings: &'a Settings,
    findings: Vec<Finding>,
}

impl<'a> Shelf<'a> {
    fn new(found: &Found, settings: &'a Settings) -> Self {
        let walked = found.model_directories.iter().chain(&found.gguf_files);
        let mut shelf = Self {
            places: walked
                .map(|(shown, path)| (shown.clone(), Place::Path(path.clone())))
                .collect(),
            locked: LockFile::default(),
            settings,
            findings: Vec::new(),
        };
        let beside_settings = settings.file.as_ref().map(|file| file.with_file_name(LOCK_FILE));
        let lock_files = found.lock_files.iter().cloned().chain(beside_settings);
        let lock_files: Vec<_> = lock_files.chain(lock::discover(Path::new("."))).collect();
        for path in lock_files.iter().filter(|path| path.is_file()) {
            shelf.read_lock(path);
        }
        shelf
    }

    /// Adds what a lock file holds; of two files that lock a model the first one counts.
    fn read_lock(&mut self, path: &Path) {
        match LockFile::read(path) {
            Ok(file) => self.locked.add(file),
            Err(why) => {
                let finding = Finding::about("file-unreadable", Severity::Error, why, display(path));
                self.findings.push(finding);
            }
        }
    }

    /// The place of a model named in a manifest in `folder`, added to the shelf if it is new.
    fn look_up(&mut self, written: &str, folder: &Path) -> Option<String> {
        self.look_up_here(written, folder)
            .or_else(|| self.look_up_records(written))
    }

    /// The place of a model whose files are here: at the path, where the settings say, or under its name in the tree.
    fn look_up_here(&mut self, written: &str, folder: &Path) -> Option<String> {
        let direct = folder.join(written.split('@').next().unwrap_or(written));
        if is_model(&direct) {
            return Some(self.add(&direct));
        }
        let settings = self.settings;
        if let Some(meant) = settings.model_named(written) {
            let path = meant.folder.join(&meant.model);
            if is_model(&path) {
                return Some(self.add(&path));
            }
        }
        let reference = name::parse(self.meant(written))?;
        reference.names.iter().find_map(|name| self.on_disk(name))
    }

    /// The place of a model that was recorded or fetched before: lock file, hub cache, catalog.
    fn look_up_records(&mut self, written: &str) -> Option<String> {
        let (shown, place) = self.recorded(written)?;
        self.places.entry(shown.clone()).or_insert(place);
        Some(shown)
    }

    /// What was recorded of a model, and the name that reports print.
    fn recorded(&self, written: &str) -> Option<(String, Place)> {
        let written = self.meant(written);
        let reference = name::parse(written)?;
        let place = self
            .in_lock(&reference, written)
            .or_else(|| self.in_hub_cache(&reference))
            .or_else(|| Some(Place::Catalog(Box::new(catalog::find(&reference, written)?))))?;
        let shown = match &place {
            Place::Catalog(found) if found.assumption.is_none() => found.record.name.clone(),
            // Else the name says which file or revision it is: another model than under another name.
            Place::Locked(record) if record.gguf.is_empty() && record.requested.is_none() => {
                record.name.clone()
            }
            _ => written.to_owned(),
        };
        Some((shown, place))
    }

    /// The place of a model whose path only the serving machine has, by the other names that its file holds.
    fn look_up_hints(&mut self, declaration: &Declaration) -> Option<String> {
        let deployment = &declaration.deployment;
        let written = deployment.model.as_ref()?.value.as_str();
        let is_path = written.starts_with(['/', '.', '~']) || written.contains("://");
        let is_file = name::parse(written).is_some_and(|reference| reference.kind == Kind::Gguf);
        if deployment.format == Format::Own || !(is_path || is_file) {
            return None;
        }
        let hints = deployment.model_hints.iter().map(|hint| hint.value.as_str());
        let (name, place) = hints
            .filter(|hint| *hint != written && may_name_a_model(hint))
            .find_map(|hint| self.hinted(hint, &declaration.folder))?;
        let assumption = format!("{written} is taken for {name}, which its file names beside it");
        // Two files may mount different models at one path.
        let key = format!("{written} ({name})");
        let place = Place::Hinted {
            place: Box::new(place),
            name,
            assumption,
        };
        self.places.entry(key.clone()).or_insert(place);
        Some(key)
    }

    fn hinted(&mut self, hint: &str, folder: &Path) -> Option<(String, Place)> {
        let holds_model = |place: &Place| match place {
            Place::Path(path) => path.is_file() || path.join("config.json").is_file(),
            _ => true,
        };
        // An absolute path is one of the host that serves, never of the one that checks.
        let is_relative = !hint.starts_with(['/', '~']);
        let here = is_relative.then(|| self.look_up_here(hint, folder)).flatten();
        let place = here.and_then(|shown| Some((self.places.get(&shown)?.clone(), shown)));
        match place.filter(|(place, _)| holds_model(place)) {
            Some((place, shown)) => Some((shown, place)),
            None => self.recorded(hint),
        }
    }

    /// The name that the settings put in the place of another.
    fn meant<'w>(&self, written: &'w str) -> &'w str
    where
        'a: 'w,
    {
        let settings: &'a Settings = self.settings;
        settings
            .model_named(written)
            .map_or(written, |meant| &meant.model)
    }

    /// A directory of a model root or of the tree that bears the name.
    fn on_disk(&mut self, name: &str) -> Option<String> {
        if !is_hub_name(name) {
            return None;
        }
        let flat = name.replace('/', "--");
        for root in &self.settings.model_roots {
            for candidate in [root.join(name), root.join(&flat)] {
                if is_model(&candidate) {
                    return Some(self.add(&candidate));
                }
            }
        }
        let parts: Vec<&str> = name.split('/').collect();
        let bears_name = |(shown, place): &(&String, &Place)| {
            let folders: Vec<&str> = shown.split('/').collect();
            matches!(place, Place::Path(_))
                && (folders.ends_with(&parts) || folders.last().is_some_and(|last| *last == flat))
        };
        self.places
            .iter()
            .find(bears_name)
            .map(|(shown, _)| shown.clone())
    }

    fn in_lock(&self, reference: &Reference, written: &str) -> Option<Place> {
        let revision = reference.revision.as_deref();
        let record = reference
            .names
            .iter()
            .find_map(|name| self.locked.answer(name, revision, written))?;
        Some(Place::Locked(Box::new(record)))
    }

    /// A snapshot of the local hub cache that has a config: the revision asked for, else that of `main`.
    ///
    /// Source: `huggingface_hub` 0.34 `file_download.py`, `constants.py`: `models--org--name/refs/main` holds the
    /// commit, `snapshots/<commit>/` the files.
    fn in_hub_cache(&self, reference: &Reference) -> Option<Place> {
        let cache = self.settings.hub_cache.as_ref()?;
        let snapshot = |name: &String| {
            let folder = cache.join(format!("models--{}", name.replace('/', "--")));
            let revision = reference.revision.as_deref().unwrap_or("main");
            let commit = std::fs::read_to_string(folder.join("refs").join(revision)).ok();
            let commit = commit.as_deref().map_or(revision, str::trim);
            // The revision is a word of a manifest: it must not lead out of the cache.
            let is_plain = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let path = folder.join("snapshots").join(commit);
            (is_plain && path.join("config.json").is_file()).then(|| Place::Snapshot {
                path,
                name: name.clone(),
            })
        };
        reference
            .names
            .iter()
            .filter(|name| name.contains('/') && is_hub_name(name))
            .find_map(snapshot)
    }

    fn add(&mut self, path: &Path) -> String {
        let path = normal(path);
        let shown = display(&path);
        self.places.entry(shown.clone()).or_insert(Place::Path(path));
        shown
    }
}

/// A path without `.` and, where it can be told from the text, without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

fn is_model(path: &Path) -> bool {
    if path.is_dir() {
        return true;
    }
    path.is_file()
        && path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// `org/name`, and not a path.
fn is_hub_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() <= 2 && !name.starts_with(['.', '/', '~']) && parts.iter().all(|part| !part.is_empty())
}

/// True for another name of a model that says enough: a path, `org/name`, or the name of a checkpoint that is known. A
/// service called `chat` says nothing, and one called `llama` should not.
fn may_name_a_model(hint: &str) -> bool {
    let is_checkpoint = |known: &str| {
        known
            .rsplit('/')
            .next()
            .is_some_and(|last| last.eq_ignore_ascii_case(hint))
    };
    hint.contains('/') || catalog::names().into_iter().any(is_checkpoint)
}

/// True where oomlint's own format names a path beside the file: if nothing is there, it is misspelt.
fn means_a_path(declaration: &Declaration) -> bool {
    let Some(name) = &declaration.deployment.model else {
        return false;
    };
    let written = name.value.as_str();
    let first = written.split('/').next().unwrap_or(written);
    let names_folder = written.contains('/') && !first.is_empty() && declaration.folder.join(first).is_dir();
    declaration.deployment.format == Format::Own
        && !written.contains("://")
        && (written.starts_with("./") || written.starts_with("../") || names_folder)
}

/// What to say of a name that is nowhere: a mistake where the manifest is oomlint's own and names a path beside it,
/// a warning for a name that could be locked, and a mere note for a place that only the serving machine has.
fn not_found(declaration: &Declaration, shelf: &Shelf<'_>) -> Option<Finding> {
    let name = declaration.deployment.model.as_ref()?;
    let span = name.span()?;
    let written = name.value.as_str();
    let reference = name::parse(written)?;
    let near = || {
        let known = shelf.places.keys().map(String::as_str);
        nearest(written, known).or_else(|| nearest(written, catalog::names()))
    };
    let is_own = declaration.deployment.format == Format::Own;
    let is_relative = !written.starts_with(['/', '~']) && !written.contains("://");
    let is_path = matches!(reference.kind, Kind::Path | Kind::Gguf);
    let is_bare = reference.kind == Kind::Hub && !written.contains('/');
    let is_misspelt = means_a_path(declaration) || (is_own && is_relative && (is_path || is_bare));
    let (severity, message, help) = if is_misspelt {
        (
            Severity::Error,
            format!(
                "there is no model at {}",
                display(&declaration.folder.join(written))
            ),
            "the path is relative to this file; it must be a directory with a config.json, or a .gguf file; \
             nothing of this deployment was sized",
        )
    } else if reference.is_name() {
        (
            Severity::Warning,
            format!("the facts of the model {written} are not known here"),
            "run `oomlint lock` to record them once, or name a folder with its config.json under `models:` in \
             .oomlint.yaml; nothing of this deployment was sized",
        )
    } else {
        (
            Severity::Info,
            format!(
                "the model at {written} was not sized: the place is not in this tree, and its name says no \
                     known model"
            ),
            "say which model it is under `models:` in .oomlint.yaml, as `path: org/name` or `path: folder`",
        )
    };
    let text = match near().filter(|_| severity > Severity::Info) {
        Some(near) => format!("did you mean {near}?"),
        None => "no such model".to_owned(),
    };
    let mut finding = Finding::at("model-not-found", severity, message, Label { span, text });
    finding.deployment = Some(declaration.index);
    Some(finding.with_help(help))
}

#[cfg(test)]
mod tests;
