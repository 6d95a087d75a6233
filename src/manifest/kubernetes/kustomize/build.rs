//! One kustomization built: its resources, and what its patches, images, replicas and generators make of them.
//!
//! In: files of the tree. Out: every object, whether it was changed, and what was not in the tree. The order of the
//! transformations is that of kustomize (kubernetes-sigs/kustomize api/internal/target `configureBuiltinTransformers`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::images::images;
use super::target::{selects, selects_or_is};
use super::variables::{generate, inline};
use super::{FILES, change};
use crate::fact::Fact;
use crate::manifest::kubernetes::kind_of;
use crate::manifest::kubernetes::merge::{Lists, applied, merged, operations};
use crate::manifest::{Parsed, World};
use crate::source::tree::{Document, Node, Shape, Tree};
use crate::source::{FileId, Span};

/// Deepest way from a kustomization to its bases.
const MAX_DEPTH: usize = 10;
/// Most kustomizations that one may take in, counted each time.
const MAX_BUILDS: usize = 128;
/// Most objects of one.
const MAX_OBJECTS: usize = 4096;

/// What a kustomization makes.
#[derive(Debug, Default)]
pub(super) struct Built<'w> {
    pub(super) objects: Vec<Made<'w>>,
    /// Files that are applied as patches.
    pub(super) patches: Vec<FileId>,
    /// Resources that are not in the tree, as written.
    pub(super) missing: Vec<Fact<String>>,
    /// Images that take the place of others.
    pub(super) images: Vec<Fact<String>>,
    /// Data of generated ConfigMaps by name: keys and values.
    pub(super) maps: BTreeMap<String, Vec<(String, Fact<String>)>>,
    builds: usize,
}

/// An object.
#[derive(Debug)]
pub(super) struct Made<'w> {
    now: Now<'w>,
    pub(super) kind: String,
    /// Its names, the first as written, the last as deployed.
    pub(super) names: Vec<Fact<String>>,
    /// The namespace that the kustomization gives it.
    pub(super) namespace: Option<Fact<String>>,
    /// True when a patch or the like made it another.
    pub(super) changed: bool,
    /// Where it stands in the tree; `None` for one whose base is elsewhere.
    pub(super) origin: Option<Span>,
}

#[derive(Debug)]
enum Now<'w> {
    AsWritten(Node<'w>),
    Changed(Arc<Document>),
}

impl Made<'_> {
    /// The object as it is now.
    pub(super) fn root(&self) -> Node<'_> {
        match &self.now {
            Now::AsWritten(node) => *node,
            Now::Changed(document) => document.root(),
        }
    }

    pub(super) fn become_changed(&mut self, document: Document) {
        self.now = Now::Changed(Arc::new(document));
        self.changed = true;
    }

    pub(super) fn goes_by(&self, name: &str) -> bool {
        self.names.iter().any(|known| known.value == name)
    }
}

/// The name of what a file deploys, where only the file tells one: that of its folder.
pub(super) fn name_of(root: Node<'_>, file: &Parsed) -> Fact<String> {
    let span = crate::manifest::kubernetes::start_of(root);
    let folder = file
        .folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = match folder {
        Some(folder) if !folder.is_empty() => folder,
        _ => file.name().split('.').next().unwrap_or_default().to_owned(),
    };
    Fact::derived(name, [span])
}

/// The kustomizations that one builds on.
pub(super) fn bases(world: &World, file: &Parsed) -> Vec<FileId> {
    let Some(root) = root_of(file) else {
        return Vec::new();
    };
    let entries = ["resources", "bases", "components"]
        .into_iter()
        .flat_map(|key| texts(root, key));
    let folders = entries.filter_map(|entry| folder_of(world, file, entry.text()?));
    folders.map(|base| base.source.id()).collect()
}

/// Builds a kustomization.
pub(super) fn build<'w>(world: &'w World, file: &'w Parsed) -> Built<'w> {
    let mut built = Built::default();
    take_in(world, file, &mut built, 0);
    inline(&mut built);
    built
}

fn root_of(file: &Parsed) -> Option<Node<'_>> {
    file.tree.documents.first().map(Document::root)
}

pub(super) fn texts<'t>(root: Node<'t>, key: &str) -> Vec<Node<'t>> {
    let list = root.get(key).into_iter().flat_map(Node::items);
    list.filter(|item| item.text().is_some()).collect()
}

/// The kustomization of a folder.
fn folder_of<'w>(world: &'w World, file: &Parsed, entry: &str) -> Option<&'w Parsed> {
    let folder = file.folder.join(entry);
    FILES.iter().find_map(|name| world.file(&folder, name))
}

/// Adds what a kustomization holds, transformed, to `built`.
fn take_in<'w>(world: &'w World, file: &'w Parsed, built: &mut Built<'w>, depth: usize) {
    built.builds += 1;
    let Some(root) = root_of(file).filter(|_| depth < MAX_DEPTH && built.builds < MAX_BUILDS) else {
        return;
    };
    let mut own = Built {
        builds: built.builds,
        ..Built::default()
    };
    for entry in ["resources", "bases"]
        .into_iter()
        .flat_map(|key| texts(root, key))
    {
        resource(world, file, entry, &mut own, depth);
    }
    generate(world, file, root, &mut own);
    // A component transforms what was taken in so far.
    for entry in texts(root, "components") {
        let name = entry.text().unwrap_or("");
        match folder_of(world, file, name) {
            Some(component) => component_in(world, component, &mut own, depth),
            None => own.missing.push(Fact::at(name.to_owned(), entry.mention())),
        }
    }
    transform(world, file, root, &mut own);
    built.builds = own.builds;
    built.objects.append(&mut own.objects);
    built.patches.append(&mut own.patches);
    built.missing.append(&mut own.missing);
    built.images.append(&mut own.images);
    built.maps.append(&mut own.maps);
}

fn component_in<'w>(world: &'w World, component: &'w Parsed, built: &mut Built<'w>, depth: usize) {
    built.builds += 1;
    let Some(root) = root_of(component).filter(|_| built.builds < MAX_BUILDS) else {
        return;
    };
    for entry in texts(root, "resources") {
        resource(world, component, entry, built, depth);
    }
    generate(world, component, root, built);
    transform(world, component, root, built);
}

fn resource<'w>(world: &'w World, file: &'w Parsed, entry: Node<'w>, built: &mut Built<'w>, depth: usize) {
    let name = entry.text().unwrap_or("");
    if let Some(base) = folder_of(world, file, name) {
        take_in(world, base, built, depth + 1);
    } else if let Some(found) = world.file(&file.folder, name) {
        for document in &found.tree.documents {
            let root = document.root();
            let is_list = root
                .get("items")
                .is_some_and(|items| items.shape() == Shape::Sequence);
            let listed = root.get("items").into_iter().flat_map(Node::items);
            let items: Vec<Node<'w>> = if is_list { listed.collect() } else { vec![root] };
            for item in items {
                add(item, built);
            }
        }
    } else {
        built.missing.push(Fact::at(name.to_owned(), entry.mention()));
    }
}

fn add<'w>(node: Node<'w>, built: &mut Built<'w>) {
    let Some(kind) = node.get("kind").and_then(Node::text) else {
        return;
    };
    if built.objects.len() < MAX_OBJECTS {
        built.objects.push(Made {
            now: Now::AsWritten(node),
            kind: kind.to_owned(),
            names: name(node).into_iter().collect(),
            namespace: None,
            changed: false,
            origin: Some(node.span()),
        });
    }
}

fn name(node: Node<'_>) -> Option<Fact<String>> {
    let name = node.at(&["metadata", "name"])?;
    Some(Fact::at(name.text()?.to_owned(), name.mention()))
}

fn transform<'w>(world: &'w World, file: &'w Parsed, root: Node<'w>, built: &mut Built<'w>) {
    for entry in root
        .get("patchesStrategicMerge")
        .into_iter()
        .flat_map(Node::items)
    {
        patch(world, file, entry, None, built);
    }
    for key in ["patches", "patchesJson6902"] {
        for entry in root.get(key).into_iter().flat_map(Node::items) {
            let target = entry.get("target");
            if let Some(path) = entry.get("path").or_else(|| entry.get("patch")) {
                patch(world, file, path, target, built);
            }
        }
    }
    names(root, built);
    replicas(root, built);
    images(root, built);
}

/// Applies a patch: a path to a file, or the patch itself.
fn patch<'w>(
    world: &'w World,
    file: &'w Parsed,
    entry: Node<'w>,
    target: Option<Node<'w>>,
    built: &mut Built<'w>,
) {
    let Some(text) = entry.text() else { return };
    if let Some(found) = world.file(&file.folder, text.trim()) {
        built.patches.push(found.source.id());
        for document in &found.tree.documents {
            apply(document.root(), target, built);
        }
    } else if text.contains('\n') || text.trim_start().starts_with(['{', '[']) {
        let tree = Tree::embedded(&file.source, entry);
        for document in &tree.documents {
            apply(document.root(), target, built);
        }
    }
}

fn apply(patch: Node<'_>, target: Option<Node<'_>>, built: &mut Built<'_>) {
    if let Some(operations) = operations(patch) {
        let Some(target) = target else { return };
        partial(patch, target, built);
        for object in built.objects.iter_mut().filter(|object| selects(target, object)) {
            for operation in &operations {
                let document = applied(object.root(), *operation);
                object.become_changed(document);
            }
        }
        return;
    }
    let own = name(patch);
    let kind = patch.get("kind").and_then(Node::text);
    let takes = |object: &Made<'_>| match target {
        Some(target) => selects(target, object),
        None => {
            Some(object.kind.as_str()) == kind && own.as_ref().is_some_and(|own| object.goes_by(&own.value))
        }
    };
    if target.is_none() && !built.missing.is_empty() && !built.objects.iter().any(takes) {
        partial(patch, patch, built);
    }
    if let Some(target) = target {
        partial(patch, target, built);
    }
    for object in built.objects.iter_mut().filter(|object| takes(object)) {
        let lists = match kind_of(object.root()) {
            Some(_) => Lists::Replaced,
            None => Lists::ByKey,
        };
        let document = merged(object.root(), patch, lists);
        object.become_changed(document);
    }
}

/// Adds an object of which only the name is known, where a base that is not in the tree must hold it.
fn partial(patch: Node<'_>, named_by: Node<'_>, built: &mut Built<'_>) {
    let text = |path: &[&str]| named_by.at(path).filter(|node| node.text().is_some());
    let kind = text(&["kind"]).and_then(Node::text).unwrap_or("Deployment");
    let known = built.objects.iter().any(|object| selects_or_is(named_by, object));
    if known || built.missing.is_empty() {
        return;
    }
    let name = text(&["metadata", "name"]).or_else(|| text(&["name"]));
    let name = match name {
        Some(name) => Fact::at(name.text().unwrap_or("").to_owned(), name.mention()),
        None => Fact::derived(kind.to_ascii_lowercase(), [named_by.span()]),
    };
    built.objects.push(Made {
        now: Now::Changed(Arc::new(change::empty(patch.span(), kind, &name))),
        kind: kind.to_owned(),
        names: vec![name],
        namespace: None,
        changed: true,
        origin: None,
    });
}

/// Prefix, suffix and namespace. They change no fit, so an object with another name alone counts as unchanged.
fn names(root: Node<'_>, built: &mut Built<'_>) {
    let text = |key: &str| root.get(key).and_then(Node::text).unwrap_or("");
    let (prefix, suffix) = (text("namePrefix"), text("nameSuffix"));
    let namespace = root.get("namespace").filter(|node| node.text().is_some());
    for object in &mut built.objects {
        if let Some(name) = object
            .names
            .last()
            .filter(|_| !(prefix.is_empty() && suffix.is_empty()))
        {
            let name = name.clone().map(|name| format!("{prefix}{name}{suffix}"));
            object.names.push(name);
        }
        if let Some(namespace) = namespace {
            let text = namespace.text().unwrap_or("").to_owned();
            object.namespace = Some(Fact::at(text, namespace.mention()));
        }
    }
}

fn replicas(root: Node<'_>, built: &mut Built<'_>) {
    for entry in root.get("replicas").into_iter().flat_map(Node::items) {
        let (Some(name), Some(count)) = (entry.get("name").and_then(Node::text), entry.get("count")) else {
            continue;
        };
        let value = Fact::at(count.text().unwrap_or("").to_owned(), count.mention());
        for object in built.objects.iter_mut().filter(|object| object.goes_by(name)) {
            if object.root().at(&["spec", "replicas"]).is_some() || object.root().get("spec").is_some() {
                let document = change::set(object.root(), &["spec", "replicas"], &value);
                object.become_changed(document);
            }
        }
    }
}
