//! ConfigMaps that a kustomization generates, and the containers that take variables from them.
//!
//! A pod names a ConfigMap; which one that is only the whole build tells. So the variables of generated and of patched
//! maps are put into the containers themselves.

use std::collections::BTreeMap;

use super::build::{Built, texts};
use super::change;
use crate::fact::Fact;
use crate::manifest::{Parsed, World};
use crate::source::Span;
use crate::source::tree::{Assembly, Node, Part};

/// ConfigMaps that the kustomization makes of literals and files of variables.
pub(super) fn generate(world: &World, file: &Parsed, root: Node<'_>, built: &mut Built<'_>) {
    for generator in root.get("configMapGenerator").into_iter().flat_map(Node::items) {
        let Some(name) = generator.get("name").and_then(Node::text) else {
            continue;
        };
        let mut data = Vec::new();
        for literal in texts(generator, "literals") {
            data.extend(assignment(literal));
        }
        let one = generator.get("env").filter(|env| env.text().is_some());
        for path in texts(generator, "envs").into_iter().chain(one) {
            data.extend(variables(world, file, path.text().unwrap_or("")));
        }
        let behaviour = generator.get("behavior").and_then(Node::text);
        let map = built.maps.entry(name.to_owned()).or_default();
        if behaviour != Some("merge") {
            map.clear();
        }
        map.retain(|(key, _)| !data.iter().any(|(new, _)| new == key));
        map.append(&mut data);
    }
}

/// `NAME=value` of a literal.
fn assignment(literal: Node<'_>) -> Option<(String, Fact<String>)> {
    let (key, value) = literal.text()?.split_once('=')?;
    let bare = value.trim_matches(|c| matches!(c, '"' | '\''));
    Some((key.to_owned(), Fact::at(bare.to_owned(), literal.mention())))
}

/// The lines of a file of variables.
fn variables(world: &World, file: &Parsed, path: &str) -> Vec<(String, Fact<String>)> {
    let Some(source) = world.companion(&file.folder, path) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        let begin = start;
        start += line.len();
        let Some((key, value)) = line
            .split_once('=')
            .filter(|_| !line.trim_start().starts_with('#'))
        else {
            continue;
        };
        let at = begin + key.len() + 1;
        let kept = value.trim_end_matches(['\n', '\r']);
        let span = source.span(at..at + kept.len());
        found.push((key.trim().to_owned(), Fact::at(kept.to_owned(), span)));
    }
    found
}

/// Puts the variables of generated ConfigMaps, and of ConfigMaps that patches changed, into the containers that take
/// them from there.
pub(super) fn inline(built: &mut Built<'_>) {
    let mut maps = built.maps.clone();
    for object in &built.objects {
        if object.changed && object.kind == "ConfigMap" {
            let data = object.root().get("data").map(Node::entries).unwrap_or_default();
            let pairs = data.into_iter().filter_map(|(key, value)| {
                let value = Fact::at(value.text()?.to_owned(), value.span());
                Some((key.text()?.to_owned(), value))
            });
            let pairs: Vec<_> = pairs.collect();
            for name in &object.names {
                maps.insert(name.value.clone(), pairs.clone());
            }
        }
    }
    if maps.is_empty() {
        return;
    }
    for object in &mut built.objects {
        let mut change =
            |container: Node<'_>, assembly: &mut Assembly| variables_in(container, assembly, &maps);
        if let Some(document) = change::containers(object.root(), &mut change) {
            object.become_changed(document);
        }
    }
}

fn variables_in(
    container: Node<'_>,
    assembly: &mut Assembly,
    maps: &BTreeMap<String, Vec<(String, Fact<String>)>>,
) -> Option<Vec<(Part, Part)>> {
    let mut entries: Vec<Part> = Vec::new();
    let mut met = false;
    for source in container.get("envFrom").into_iter().flat_map(Node::items) {
        let name = source.at(&["configMapRef", "name"]).and_then(Node::text);
        let prefix = source.get("prefix").and_then(Node::text).unwrap_or("");
        for (key, value) in name.and_then(|name| maps.get(name)).into_iter().flatten() {
            met = true;
            entries.push(variable(
                assembly,
                &format!("{prefix}{key}"),
                value,
                source.span(),
            ));
        }
    }
    for entry in container.get("env").into_iter().flat_map(Node::items) {
        let reference = entry.at(&["valueFrom", "configMapKeyRef"]);
        let value = reference.and_then(|reference| {
            let key = reference.get("key")?.text()?;
            let map = maps.get(reference.get("name")?.text()?)?;
            map.iter().find(|(known, _)| known == key).map(|(_, value)| value)
        });
        entries.push(match (entry.get("name").and_then(Node::text), value) {
            (Some(name), Some(value)) => {
                met = true;
                variable(assembly, name, value, entry.span())
            }
            _ => assembly.copy(entry),
        });
    }
    if !met {
        return None;
    }
    let list = assembly.sequence(container.span(), &entries);
    Some(change::with_key(
        container,
        assembly,
        "env",
        container.span(),
        list,
    ))
}

fn variable(assembly: &mut Assembly, name: &str, value: &Fact<String>, near: Span) -> Part {
    let span = value.span().unwrap_or(near);
    let name = (assembly.scalar(near, "name"), assembly.scalar(near, name));
    let value = (
        assembly.scalar(span, "value"),
        assembly.scalar(span, &value.value),
    );
    assembly.mapping(near, &[name, value])
}
