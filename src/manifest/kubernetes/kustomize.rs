//! kustomize: what is deployed is the base with its patches, so that is what is read.
//!
//! A kustomization that no other one of the tree builds on is built; each object that it changes is read as patched,
//! and no longer where it first stands. Where a base is not in the tree, what the patches and images say is read as
//! far as it goes, and what the base would have said is unresolved. A list of RFC 6902 operations that no
//! kustomization of the tree applies is read the same way.

mod build;
mod change;

use std::collections::HashSet;

use self::build::{Built, Made};
use super::merge;
use crate::engine::args;
use crate::fact::Fact;
use crate::manifest::command::image_engine;
use crate::manifest::container::Container;
use crate::manifest::{Declared, Deployment, Format, Input, Parsed, World, reader_of};
use crate::source::tree::{Document, Node};
use crate::source::{FileId, Span};

/// Names under which kustomize looks for a kustomization in a folder.
const FILES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What the kustomizations of a tree do to its other files.
#[derive(Debug, Default)]
pub(crate) struct Overlays {
    /// Objects (file and first byte) that every kustomization that takes them in changes.
    replaced: HashSet<(FileId, usize)>,
    /// Files that are patches.
    patches: HashSet<FileId>,
    /// Kustomizations that others build on.
    bases: HashSet<FileId>,
}

impl Overlays {
    /// Builds every kustomization of a tree once to see what it touches.
    pub(crate) fn new(world: &World) -> Self {
        let mut all = Self::default();
        let kustomizations: Vec<&Parsed> = world
            .files()
            .iter()
            .filter(|file| is_kustomization_file(file))
            .collect();
        for file in &kustomizations {
            all.bases.extend(build::bases(world, file));
        }
        let mut unchanged = HashSet::new();
        for file in kustomizations {
            let built = build::build(world, file);
            all.patches.extend(built.patches.iter().copied());
            if all.bases.contains(&file.source.id()) {
                continue;
            }
            for object in &built.objects {
                let Some(origin) = object.origin.map(place) else {
                    continue;
                };
                if object.changed {
                    all.replaced.insert(origin);
                } else {
                    unchanged.insert(origin);
                }
            }
        }
        all.replaced.retain(|origin| !unchanged.contains(origin));
        all
    }

    /// True for an object that is read where a kustomization changes it, and for a patch.
    pub(crate) fn replaces(&self, object: Node<'_>) -> bool {
        let span = object.span();
        self.replaced.contains(&place(span)) || self.patches.contains(&span.file())
    }
}

fn place(span: Span) -> (FileId, usize) {
    (span.file(), span.start())
}

fn is_kustomization_file(file: &Parsed) -> bool {
    FILES.contains(&file.name())
        || file
            .tree
            .documents
            .iter()
            .any(|document| is_kustomization(document.root()))
}

/// True for a document of kustomize. Flux has a kind of the same name.
fn is_kustomization(root: Node<'_>) -> bool {
    let version = root.get("apiVersion").and_then(Node::text);
    version.is_some_and(|version| version.starts_with("kustomize.config.k8s.io/"))
}

/// True for a kustomization.
pub(crate) fn recognizes(input: &Input<'_>) -> bool {
    const KEYS: [&str; 5] = ["resources", "bases", "patches", "images", "patchesStrategicMerge"];
    let has_keys = || KEYS.iter().any(|key| input.root.get(key).is_some());
    is_kustomization(input.root) || FILES.contains(&input.file.name()) && has_keys()
}

/// Reads what a kustomization changes.
pub(crate) fn read(input: &Input<'_>) -> Declared {
    let overlays = input.world.overlays();
    if overlays.bases.contains(&input.source().id()) {
        return Declared::default();
    }
    let built = build::build(input.world, input.file);
    let mut all = Declared::default();
    for object in built.objects.iter().filter(|object| object.changed) {
        let document = object.finished();
        let mut declared = of(document.root(), input);
        for deployment in &mut declared.deployments {
            deployment.span = super::start_of(input.root);
            if object.origin.is_none() {
                leave_open(deployment, input);
            }
        }
        all.deployments.append(&mut declared.deployments);
        all.findings.append(&mut declared.findings);
    }
    if all.deployments.is_empty() && !built.missing.is_empty() {
        all.deployments.extend(by_image(&built, input));
    }
    all
}

/// The deployments of an object that a kustomization made.
fn of(root: Node<'_>, input: &Input<'_>) -> Declared {
    let made = Input { root, ..*input };
    let mut declared = match reader_of(&made) {
        Some(reader) if !recognizes(&made) => (reader.read)(&made),
        _ => Declared::default(),
    };
    for deployment in &mut declared.deployments {
        deployment.format = Format::Kustomize;
    }
    declared
}

/// What only the base tells.
fn leave_open(deployment: &mut Deployment, input: &Input<'_>) {
    let settings = &deployment.settings;
    let arguments = deployment
        .engine
        .as_ref()
        .map(|engine| args::parse(engine.value, None, &deployment.args, input.world.sources()));
    let given = |id: &str| {
        arguments
            .as_ref()
            .is_some_and(|parsed| parsed.settings.get(id).is_some())
    };
    let has = |id: &str| settings.get(id).is_some() || given(id);
    let accelerators = &deployment.accelerators;
    let open = [
        ("model", deployment.model.is_none()),
        ("context", !has("context") && !has("ctx_size")),
        ("tensor_parallel", !has("tensor_parallel")),
        ("accelerators", accelerators.count.is_none()),
        ("accelerator_type", accelerators.kinds.is_empty()),
        (
            "engine",
            deployment.engine.is_none() && deployment.server.is_none(),
        ),
    ];
    for (field, _) in open.into_iter().filter(|(_, open)| *open) {
        deployment.mark_unresolved(field);
    }
}

/// A kustomization whose base is elsewhere, and which names the engine's image.
fn by_image(built: &Built<'_>, input: &Input<'_>) -> Option<Deployment> {
    let image = built.images.iter().find(|image| {
        let holds = image_engine(image);
        holds.is_some_and(|holds| holds.serves && (holds.engine.is_some() || holds.server.is_some()))
    })?;
    let name = build::name_of(input.root, input.file);
    let mut container = Container::new(name.clone(), super::start_of(input.root));
    container.image = Some(image.clone());
    let started = container.deployments(input, Format::Kustomize, &name);
    let mut deployment = started.deployments.into_iter().next().or_else(|| {
        let holds = image_engine(image)?;
        let span = image.span();
        let mut deployment = Deployment::new(
            name.clone(),
            input.source().id(),
            super::start_of(input.root),
            Format::Kustomize,
        );
        deployment.engine = holds.engine.map(|engine| Fact::derived(engine, span));
        deployment.server = holds.server.map(|server| Fact::derived(server, span));
        deployment.engine_version = holds.version;
        Some(deployment)
    })?;
    leave_open(&mut deployment, input);
    Some(deployment)
}

/// True for a list of operations by itself.
pub(crate) fn recognizes_operations(input: &Input<'_>) -> bool {
    merge::operations(input.root).is_some_and(|operations| {
        operations.iter().any(|operation| {
            operation
                .path
                .text()
                .is_some_and(|path| path.starts_with("/spec/"))
        })
    })
}

/// Reads what a list of operations sets in the pods of an object that is elsewhere.
pub(crate) fn read_operations(input: &Input<'_>) -> Declared {
    let name = build::name_of(input.root, input.file);
    let mut document = change::empty(input.root.span(), "Deployment", &name);
    for operation in merge::operations(input.root).unwrap_or_default() {
        document = merge::applied(document.root(), operation);
    }
    let mut declared = of(document.root(), input);
    for deployment in &mut declared.deployments {
        leave_open(deployment, input);
    }
    declared
}

impl Made<'_> {
    /// The object with the names that the kustomization gives it.
    fn finished(&self) -> Document {
        let mut document = merge::merged(self.root(), self.root(), merge::Lists::Replaced);
        if let Some(name) = self.names.last() {
            document = change::set(document.root(), &["metadata", "name"], name);
        }
        if let Some(namespace) = &self.namespace {
            document = change::set(document.root(), &["metadata", "namespace"], namespace);
        }
        document
    }
}
