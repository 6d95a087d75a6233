//! Finds and loads the models of a run: those the walk met and those that deployments name.
//!
//! A name is looked up relative to the manifest, then in the model roots of the settings, then among the
//! directories of the tree. What is found is loaded once, however many deployments name it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::deploy::Declaration;
use crate::config::Settings;
use crate::finding::{Finding, Label, Severity};
use crate::model::{Model, directory, gguf};
use crate::nearest::nearest;
use crate::source::Sources;
use crate::walk::{Found, display};

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
    let mut findings = Vec::new();
    let wanted: Vec<Option<String>> = declarations
        .iter()
        .map(|declaration| {
            let name = declaration.deployment.model.as_ref()?;
            let place = shelf.look_up(&name.value, &declaration.folder);
            if place.is_none() {
                findings.extend(not_found(declaration, &shelf));
            }
            place
        })
        .collect();
    let loaded: Vec<_> = shelf
        .places
        .par_iter()
        .map(|(shown, path)| {
            let (model, findings) = load_one(path, shown, sources);
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

/// By declaration: whether the tree or a model root holds the model it names.
pub(super) fn lie_here(found: &Found, declarations: &[Declaration], settings: &Settings) -> Vec<bool> {
    let mut shelf = Shelf::new(found, settings);
    let mut lies_here = |declaration: &Declaration| {
        let name = declaration.deployment.model.as_ref();
        name.is_some_and(|name| shelf.look_up(&name.value, &declaration.folder).is_some())
    };
    declarations.iter().map(&mut lies_here).collect()
}

fn load_one(path: &Path, shown: &str, sources: &Sources) -> (Option<Model>, Vec<Finding>) {
    if path.is_dir() {
        let loaded = directory::load(sources, path, shown);
        (loaded.model, loaded.findings)
    } else {
        let loaded = gguf::load(path, shown);
        (loaded.model, loaded.findings)
    }
}

/// Every place where a model may lie, by the path that reports print.
struct Shelf<'a> {
    places: BTreeMap<String, PathBuf>,
    settings: &'a Settings,
}

impl<'a> Shelf<'a> {
    fn new(found: &Found, settings: &'a Settings) -> Self {
        let walked = found.model_directories.iter().chain(&found.gguf_files);
        Self {
            places: walked
                .map(|(shown, path)| (shown.clone(), path.clone()))
                .collect(),
            settings,
        }
    }

    /// The place of a model named in a manifest in `folder`, added to the shelf if it is new.
    fn look_up(&mut self, name: &str, folder: &Path) -> Option<String> {
        let name = name.split('@').next().unwrap_or(name);
        let direct = folder.join(name);
        if is_model(&direct) {
            return Some(self.add(&direct));
        }
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
        self.places
            .keys()
            .find(|shown| {
                let folders: Vec<&str> = shown.split('/').collect();
                folders.ends_with(&parts) || folders.last().is_some_and(|last| *last == flat)
            })
            .cloned()
    }

    fn add(&mut self, path: &Path) -> String {
        let path = normal(path);
        let shown = display(&path);
        self.places.entry(shown.clone()).or_insert(path);
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

fn not_found(declaration: &Declaration, shelf: &Shelf<'_>) -> Option<Finding> {
    let name = declaration.deployment.model.as_ref()?;
    let span = name.span()?;
    let near = nearest(&name.value, shelf.places.keys().map(String::as_str));
    let label = match near {
        Some(near) => format!("did you mean {near}?"),
        None => "no such model".to_owned(),
    };
    let (message, help) = if is_hub_name(&name.value) && name.value.contains('/') {
        (
            format!("the model {} is not in this tree", name.value),
            "give the model as a directory with its config.json, or name the folder that holds it under \
             `models:` in .oomlint.yaml; nothing of this deployment was sized",
        )
    } else {
        (
            format!(
                "there is no model at {}",
                display(&declaration.folder.join(&name.value))
            ),
            "the path is relative to this file; it must be a directory with a config.json, or a .gguf file; \
             nothing of this deployment was sized",
        )
    };
    let mut finding = Finding::at(
        "model-not-found",
        Severity::Error,
        message,
        Label { span, text: label },
    );
    finding.deployment = Some(declaration.index);
    Some(finding.with_help(help))
}
