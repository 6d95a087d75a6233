//! The models that the manifests of a tree name: the first stages of a run, for whoever only needs the names.

use std::path::PathBuf;
use std::sync::Arc;

use super::{deploy, models, read};
use crate::config::Settings;
use crate::engine::Engine;
use crate::finding::{Finding, Severity};
use crate::source::Sources;
use crate::walk;

/// A model as a deployment names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name as written, or as the settings explain it; `None` where the tree or a model root holds the model.
    pub name: Option<String>,
    /// True when the settings explain it.
    pub is_explained: bool,
    /// The engine that is to serve it.
    pub engine: Engine,
}

/// The names of a tree.
#[derive(Debug, Default)]
pub struct Names {
    /// One for each deployment that names a model, in the order of the files.
    pub named: Vec<Named>,
    /// What kept manifests from being read. Where one is an error, names may be missing.
    pub problems: Vec<Finding>,
    /// True when a named path could not be read.
    pub incomplete: bool,
}

/// Reads the manifests below the paths and collects the models they name.
pub fn names(
    paths: &[PathBuf],
    stdin: Option<&[u8]>,
    settings: &Arc<Settings>,
    sources: &Arc<Sources>,
) -> Names {
    let found = walk::walk(paths, settings);
    let manifests = read::manifests(&found, stdin, sources);
    let declared = deploy::collect(&manifests, settings, sources);
    let elsewhere = models::names_elsewhere(&found, &declared.items, settings);
    let named = declared.items.iter().zip(elsewhere).filter_map(|(item, name)| {
        item.deployment.model.as_ref()?;
        let engine = item.deployment.engine_or_default();
        let is_explained = name.as_ref().is_some_and(|(_, by_settings)| *by_settings);
        Some(Named {
            name: name.map(|(name, _)| name),
            is_explained,
            engine,
        })
    });
    let named = named.collect();
    let incomplete = !found.unreachable.is_empty() || !manifests.unreachable.is_empty();
    let mut problems = found.unreachable;
    problems.extend(manifests.unreachable);
    problems.extend(manifests.findings);
    problems.retain(|finding| finding.severity == Severity::Error);
    Names {
        named,
        problems,
        incomplete,
    }
}
