//! What a service mounts: the configuration files that its commands name, and the host's name of a model.

use std::path::Path;

use super::listed;
use super::project::{Project, Service};
use crate::fact::Fact;
use crate::manifest::Deployment;
use crate::manifest::command::Text;
use crate::source::tree::Node;

/// A mount: the host's path, and the container's.
struct Mount {
    source: Fact<String>,
    target: String,
}

/// The host's side of a volume or a device.
pub(super) fn source(item: Node<'_>, project: &Project<'_>) -> Option<Fact<String>> {
    if let Some(source) = item.get("source") {
        return project.fact(source);
    }
    item.text()?;
    let text = project.text(item);
    let end = colons(text.value()).next().unwrap_or(text.value().len());
    Some(text.part(0..end))
}

/// Both sides of a volume: the host's, and the path inside.
pub(super) fn sides(item: Node<'_>, project: &Project<'_>) -> Option<(Fact<String>, String)> {
    if item.get("source").is_none()
        && let Some(target) = item.get("target")
    {
        let target = project.fact(target)?;
        return Some((target.clone().map(|_| String::new()), target.value));
    }
    mount(item, project).map(|mount| (mount.source, mount.target))
}

fn mount(item: Node<'_>, project: &Project<'_>) -> Option<Mount> {
    if let (Some(source), Some(target)) = (item.get("source"), item.get("target")) {
        return Some(Mount {
            source: project.fact(source)?,
            target: project.fact(target)?.value,
        });
    }
    item.text()?;
    let text = project.text(item);
    let value = text.value();
    let mut ends = colons(value);
    let first = ends.next()?;
    let second = ends.next().unwrap_or(value.len());
    Some(Mount {
        source: text.part(0..first),
        target: value.get(first + 1..second)?.to_owned(),
    })
}

/// The colons of a text that are not inside `${...}`.
fn colons(text: &str) -> impl Iterator<Item = usize> {
    let mut depth = 0_usize;
    text.char_indices().filter_map(move |(at, c)| match c {
        '{' => {
            depth += 1;
            None
        }
        '}' => {
            depth = depth.saturating_sub(1);
            None
        }
        ':' if depth == 0 => Some(at),
        _ => None,
    })
}

/// Adds the host's name of a model that is served from a mount.
pub(super) fn hint(service: &Service<'_>, project: &Project<'_>, deployment: &mut Deployment) {
    let named = deployment
        .model
        .as_ref()
        .or_else(|| deployment.settings.get("model"));
    let Some(model) = named.map(|model| model.value.clone()) else {
        return;
    };
    for (item, _) in service.items("volumes") {
        let Some(mount) = mount(item, project) else {
            continue;
        };
        if let Some(rest) = below(&model, &mount.target) {
            let host = mount.source.value.trim_end_matches('/').to_owned();
            let path = if rest.is_empty() {
                host
            } else {
                format!("{host}/{rest}")
            };
            deployment.model_hints.push(mount.source.map(|_| path));
        }
    }
}

/// What remains of a path below a folder.
fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let folder = folder.trim_end_matches('/');
    let rest = path.strip_prefix(folder).filter(|_| !folder.is_empty())?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}

/// The files of the tree that the service sees, by their path inside: mounted ones, and `configs`.
pub(super) fn files(service: &Service<'_>, project: &Project<'_>) -> Vec<(String, Text)> {
    let mut files = Vec::new();
    let commands: Vec<&str> = ["entrypoint", "command"]
        .into_iter()
        .filter_map(|key| service.get(key))
        .flat_map(listed)
        .filter_map(Node::text)
        .collect();
    for (item, folder) in service.items("volumes") {
        let Some(mount) = mount(item, project) else {
            continue;
        };
        let is_path = mount.source.value.starts_with(['.', '/', '~']);
        if is_path && commands.iter().any(|command| command.contains(&mount.target)) {
            mounted(&mount, folder, project, &mut files);
        }
    }
    for (item, _) in service.items("configs") {
        files.extend(config(item, project));
    }
    files
}

fn mounted(mount: &Mount, folder: &Path, project: &Project<'_>, files: &mut Vec<(String, Text)>) {
    let world = project.input().world;
    if let Some(file) = world.file(folder, &mount.source.value) {
        files.push((mount.target.clone(), Text::of_source(&file.source)));
        return;
    }
    let directory = crate::manifest::normal(&folder.join(&mount.source.value));
    if mount.source.value.starts_with(['/', '~']) || directory.as_os_str().is_empty() {
        return;
    }
    for file in world.files().iter().take(MAX_FILES) {
        let path = crate::manifest::normal(&file.folder.join(file.name()));
        if let Ok(rest) = path.strip_prefix(&directory) {
            let inside = format!("{}/{}", mount.target.trim_end_matches('/'), rest.display());
            files.push((inside, Text::of_source(&file.source)));
        }
    }
}

/// Files that are looked through for a mounted folder.
const MAX_FILES: usize = 2000;

/// A config of the file's top level, with its text in the file or beside it.
fn config(item: Node<'_>, project: &Project<'_>) -> Option<(String, Text)> {
    let input = project.input();
    let name = item.get("source").unwrap_or(item).text()?;
    let target = match item.get("target") {
        Some(target) => project.fact(target)?.value,
        None => format!("/{name}"),
    };
    let config = input.root.at(&["configs", name])?;
    if let Some(content) = config.get("content").filter(|content| content.text().is_some()) {
        return Some((target, project.text(content)));
    }
    let path = project.fact(config.get("file")?)?;
    let file = input.world.file(&input.file.folder, &path.value)?;
    Some((target, Text::of_source(&file.source)))
}
