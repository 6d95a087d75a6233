//! Finds what may hold models or deployments: YAML files, directories with a config.json, GGUF files.
//!
//! In: the paths of the command line. Out: sorted [`Found`] and what could not be reached. `.gitignore` is
//! honoured below a directory, but a path that is named is always taken. Nothing is opened here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::WalkBuilder;

use crate::config::Settings;
use crate::finding::{Finding, Severity};

/// The file in which the facts of models are locked.
pub const LOCK_FILE: &str = "oomlint.lock";

/// The files and directories of a run. Keys are the paths that reports print; they order the run.
#[derive(Debug, Default)]
pub struct Found {
    /// YAML files, and any file that was named. The flag says whether the path itself was named.
    pub manifests: BTreeMap<String, Candidate>,
    /// Directories with a config.json.
    pub model_directories: BTreeMap<String, PathBuf>,
    /// GGUF files.
    pub gguf_files: BTreeMap<String, PathBuf>,
    /// Texts that manifests read beside themselves: `.env` files.
    pub companions: BTreeMap<String, PathBuf>,
    /// Lock files at the top of named directories, and beside named files.
    pub lock_files: Vec<PathBuf>,
    /// Directories and files below a named path that could not be reached.
    pub findings: Vec<Finding>,
    /// Named paths that could not be reached: the run could not do its job.
    pub unreachable: Vec<Finding>,
}

/// A file that may be a manifest.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Where it is.
    pub path: PathBuf,
    /// True when the command line names the file itself.
    pub named: bool,
}

/// Walks every path, without what the settings exclude.
pub fn walk(paths: &[PathBuf], settings: &Arc<Settings>) -> Found {
    let mut found = Found::default();
    for path in paths {
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                found.lock_files.push(path.join(LOCK_FILE));
                directory(path, settings, &mut found);
            }
            Ok(_) => {
                found.lock_files.push(path.with_file_name(LOCK_FILE));
                file(path, true, &mut found);
            }
            Err(error) => {
                let message = format!("cannot read the path: {}", plain(&error));
                found.unreachable.push(Finding::about(
                    "file-unreadable",
                    Severity::Error,
                    message,
                    display(path),
                ));
            }
        }
    }
    found
}

fn directory(root: &Path, settings: &Arc<Settings>, found: &mut Found) {
    let settings = Arc::clone(settings);
    let walker = WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .follow_links(true)
        .filter_entry(move |entry| {
            entry.depth() == 0 || (entry.file_name() != ".git" && !settings.excludes(&display(entry.path())))
        })
        .build();
    for entry in walker {
        match entry {
            Ok(entry) => {
                if !entry.file_type().is_some_and(|kind| kind.is_dir()) {
                    file(entry.path(), false, found);
                }
            }
            Err(error) if is_idle_link(&error) => {}
            Err(error) => unreachable(&error, found),
        }
    }
}

fn file(path: &Path, named: bool, found: &mut Found) {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let extension = path
        .extension()
        .map(|text| text.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    let owned = path.to_path_buf();
    match extension.as_str() {
        "gguf" => {
            found.gguf_files.insert(display(path), owned);
        }
        "json" if name == "config.json" => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
            found.model_directories.insert(display(&directory), directory);
        }
        "yaml" | "yml" => {
            found
                .manifests
                .insert(display(path), Candidate { path: owned, named });
        }
        _ if crate::manifest::text_reader(&name).is_some() => {
            found
                .manifests
                .insert(display(path), Candidate { path: owned, named });
        }
        "env" => {
            found.companions.insert(display(path), owned);
        }
        _ if name == ".env" || name.starts_with(".env.") => {
            found.companions.insert(display(path), owned);
        }
        _ if named => {
            found
                .manifests
                .insert(display(path), Candidate { path: owned, named });
        }
        _ => {}
    }
}

/// A link loop or a directory without permission below a named path: said, and the walk goes on.
fn unreachable(error: &ignore::Error, found: &mut Found) {
    let (path, message) = describe(error);
    let message = format!("cannot be read and was left out: {message}");
    found.findings.push(Finding::about(
        "file-unreadable",
        Severity::Warning,
        message,
        path,
    ));
}

/// True for a link to nowhere that could not have led to anything of ours: by its name it is no manifest, no model and
/// no folder.
fn is_idle_link(error: &ignore::Error) -> bool {
    let mut inner = error;
    let mut path = None;
    loop {
        match inner {
            ignore::Error::WithPath { path: at, err } => {
                path = Some(at);
                inner = err;
            }
            ignore::Error::WithDepth { err, .. } => inner = err,
            _ => break,
        }
    }
    let Some(path) = path else { return false };
    let is_dangling = path.is_symlink() && !path.exists();
    let mut ours = Found::default();
    file(path, false, &mut ours);
    let is_ours =
        !(ours.manifests.is_empty() && ours.model_directories.is_empty() && ours.gguf_files.is_empty());
    is_dangling && !is_ours
}

fn describe(error: &ignore::Error) -> (String, String) {
    match error {
        ignore::Error::WithPath { path, err } => (display(path), describe(err).1),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => describe(err),
        ignore::Error::Loop { ancestor, child } => (
            display(child),
            format!("a symbolic link leads back to {}", display(ancestor)),
        ),
        ignore::Error::Io(error) => (String::from("."), plain(error)),
        other => (String::from("."), other.to_string()),
    }
}

/// An I/O error without its number, which says nothing to a reader.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text).to_owned();
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => words,
    }
}

/// A path as reports print it: `/` between names, without a leading `./`, relative to the current directory
/// where it lies below it.
pub fn display(path: &Path) -> String {
    let relative = match std::env::current_dir() {
        Ok(here) if path.is_absolute() => path.strip_prefix(&here).unwrap_or(path).to_path_buf(),
        _ => path.to_path_buf(),
    };
    let mut parts = Vec::new();
    for part in relative.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir
                if parts.last().is_some_and(|last| last != ".." && last != "/") =>
            {
                parts.pop();
            }
            other => parts.push(other.as_os_str().to_string_lossy().into_owned()),
        }
    }
    let text = match parts.split_first() {
        Some((root, rest)) if root == "/" => format!("/{}", rest.join("/")),
        _ => parts.join("/"),
    };
    if text.is_empty() { ".".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_printed_short_with_forward_slashes() {
        assert_eq!(display(Path::new("./a/./b.yaml")), "a/b.yaml");
        assert_eq!(display(Path::new("a/../b")), "b");
        assert_eq!(display(Path::new("../b")), "../b");
        assert_eq!(display(Path::new(".")), ".");
        assert_eq!(display(&std::env::current_dir().unwrap().join("x")), "x");
        assert_eq!(display(Path::new("/nowhere/x")), "/nowhere/x");
    }
}
