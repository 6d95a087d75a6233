//! A compose project: its services with everything that they are merged from, and the variables of its `.env`.
//!
//! In: one document of a compose file, and the world for what it extends. Out: [`Service`]s, each a list of layers of
//! which the first that has a key counts, as compose merges single values. Texts come with `${VAR}` put in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{dotenv, listed};
use crate::fact::Fact;
use crate::manifest::command::{Environment, Interpolation, Text};
use crate::manifest::{Input, Parsed};
use crate::source::tree::{Node, Shape};
use crate::source::{SourceFile, Span};

/// A compose file and what belongs to it.
pub(super) struct Project<'t> {
    input: &'t Input<'t>,
    environment: Environment,
    services: HashMap<&'t str, Node<'t>>,
    /// The file that compose lays over this one by its name, and its services.
    over: Option<(&'t Parsed, HashMap<&'t str, Node<'t>>)>,
}

/// A service with what it is merged from.
pub(super) struct Service<'t> {
    key: Node<'t>,
    /// The layer that counts most comes first.
    layers: Vec<Layer<'t>>,
}

#[derive(Clone, Copy)]
struct Layer<'t> {
    node: Node<'t>,
    file: &'t Parsed,
}

/// Longest chain of services that extend each other.
const MAX_EXTENDS: usize = 16;

impl<'t> Project<'t> {
    pub(super) fn new(input: &'t Input<'t>) -> Self {
        let mut project = Self {
            input,
            environment: Environment::default(),
            services: services_of(input.root),
            over: None,
        };
        if let Some(file) = project.companion(&input.file.folder, ".env") {
            dotenv::read(&file, &mut project.environment);
        }
        project.over = override_of(input);
        project
    }

    pub(super) fn input(&self) -> &'t Input<'t> {
        self.input
    }

    /// The variables of `.env`.
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The services in the order of the text. Of a file that compose lays over another one the services of that other
    /// are left out: they are read there, with both.
    pub(super) fn services(&self) -> Vec<Service<'t>> {
        let base = base_of(self.input);
        let known = base.map(|file| services_of_file(file)).unwrap_or_default();
        let entries = self
            .input
            .root
            .get("services")
            .map(Node::entries)
            .unwrap_or_default();
        entries
            .into_iter()
            .filter(|(key, _)| key.text().is_some_and(|name| !known.contains_key(name)))
            .map(|(key, node)| self.service(key, node))
            .collect()
    }

    fn service(&self, key: Node<'t>, node: Node<'t>) -> Service<'t> {
        let mut layers = Vec::new();
        if let Some((file, services)) = &self.over
            && let Some(node) = key.text().and_then(|name| services.get(name))
        {
            layers.push(Layer { node: *node, file });
        }
        let mut next = Some(Layer {
            node,
            file: self.input.file,
        });
        while let Some(layer) = next.take().filter(|_| layers.len() < MAX_EXTENDS) {
            layers.push(layer);
            next = self.extended(layer);
        }
        Service { key, layers }
    }

    /// The service that another one extends, in its own file or in another of the tree.
    fn extended(&self, layer: Layer<'t>) -> Option<Layer<'t>> {
        let extends = layer.node.get("extends")?;
        let name = extends.get("service").unwrap_or(extends).text()?;
        let file = match extends.get("file") {
            Some(file) => self
                .input
                .world
                .file(&layer.file.folder, &self.fact(file)?.value)?,
            None => layer.file,
        };
        let node = if std::ptr::eq(file, self.input.file) {
            *self.services.get(name)?
        } else {
            *services_of_file(file).get(name)?
        };
        Some(Layer { node, file })
    }

    /// The text of a value with its variables put in.
    pub(super) fn text(&self, node: Node<'_>) -> Text {
        let text = Text::of_node(self.input.world.sources(), node);
        Interpolation::Compose.apply(&text, &self.environment)
    }

    /// The same with its place; `None` for what is no single value.
    pub(super) fn fact(&self, node: Node<'_>) -> Option<Fact<String>> {
        node.text()?;
        Some(self.text(node).fact())
    }

    /// A file of variables.
    pub(super) fn companion(&self, folder: &Path, path: &str) -> Option<Arc<SourceFile>> {
        let world = self.input.world;
        world.source(world.companion(folder, path)?.id())
    }
}

impl<'t> Service<'t> {
    /// Its name with its place.
    pub(super) fn name(&self) -> Fact<String> {
        Fact::at(self.key.text().unwrap_or("").to_owned(), self.key.span())
    }

    /// The key that names it.
    pub(super) fn key(&self) -> Node<'t> {
        self.key
    }

    /// The characters of its declaration.
    pub(super) fn span(&self) -> Span {
        let own = self
            .layers
            .iter()
            .find(|layer| layer.node.span().file() == self.key.span().file());
        own.map_or_else(|| self.key.span(), |layer| layer.node.span())
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<Node<'t>> {
        self.at(&[key])
    }

    /// The value at a path of keys.
    pub(super) fn at(&self, path: &[&str]) -> Option<Node<'t>> {
        let mut found = self.layers.iter().filter_map(|layer| layer.node.at(path));
        found.find(|node| node.shape() != Shape::Null)
    }

    /// The values of a key that compose adds up, with the folder that paths in them are relative to.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = (Node<'t>, &'t Path)> {
        let values = |layer: &Layer<'t>| Some((layer.node.get(key)?, layer.file.folder.as_path()));
        self.layers.iter().filter_map(values)
    }

    /// The items of all lists of a key.
    pub(super) fn items(&self, key: &str) -> Vec<(Node<'t>, &'t Path)> {
        self.all(key)
            .flat_map(|(node, folder)| listed(node).into_iter().map(move |item| (item, folder)))
            .collect()
    }
}

fn services_of(root: Node<'_>) -> HashMap<&str, Node<'_>> {
    let entries = root.get("services").map(Node::entries).unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|(key, node)| Some((key.text()?, node)))
        .collect()
}

fn services_of_file(file: &Parsed) -> HashMap<&str, Node<'_>> {
    let root = file
        .tree
        .documents
        .first()
        .map(crate::source::tree::Document::root);
    root.map(services_of).unwrap_or_default()
}

/// The names of the file that compose reads by itself, and of the one that it lays over it.
const PAIRS: [(&str, &str); 4] = [
    ("compose.yaml", "compose.override.yaml"),
    ("compose.yml", "compose.override.yml"),
    ("docker-compose.yaml", "docker-compose.override.yaml"),
    ("docker-compose.yml", "docker-compose.override.yml"),
];

fn override_of<'t>(input: &Input<'t>) -> Option<(&'t Parsed, HashMap<&'t str, Node<'t>>)> {
    let (_, over) = PAIRS.iter().find(|(name, _)| *name == input.file.name())?;
    let file = input.world.file(&input.file.folder, over)?;
    Some((file, services_of_file(file)))
}

fn base_of<'t>(input: &Input<'t>) -> Option<&'t Parsed> {
    let (base, _) = PAIRS.iter().find(|(_, over)| *over == input.file.name())?;
    input.world.file(&input.file.folder, base)
}
