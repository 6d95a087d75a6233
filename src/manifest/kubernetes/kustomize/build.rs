//! One kustomization built: its resources, and what its patches, images, replicas and generators make of them.
//!
//! In: files of the tree. Out: every object, whether it was changed, and what was not in the tree. The order of the
//! transformations is that of kustomize (kubernetes-sigs/kustomize api/internal/target `configureBuiltinTransformers`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{FILES, change};
use crate::fact::Fact;
use crate::manifest::kubernetes::kind_of;
use crate::manifest::kubernetes::merge::{Lists, applied, merged, operations};
use crate::manifest::{Parsed, World};
use crate::source::tree::{Assembly, Document, Node, Part, Shape, Tree};
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
    maps: BTreeMap<String, Vec<(String, Fact<String>)>>,
    builds: usize,
}

/// An object.
#[derive(Debug)]
pub(super) struct Made<'w> {
    now: Now<'w>,
    kind: String,
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

    fn become_changed(&mut self, document: Document) {
        self.now = Now::Changed(Arc::new(document));
        self.changed = true;
    }

    fn goes_by(&self, name: &str) -> bool {
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

fn texts<'t>(root: Node<'t>, key: &str) -> Vec<Node<'t>> {
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

/// ConfigMaps that the kustomization makes of literals and files of variables.
fn generate(world: &World, file: &Parsed, root: Node<'_>, built: &mut Built<'_>) {
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

fn selects_or_is(named_by: Node<'_>, object: &Made<'_>) -> bool {
    match named_by.at(&["metadata", "name"]).and_then(Node::text) {
        Some(name) => named_by.get("kind").and_then(Node::text) == Some(&object.kind) && object.goes_by(name),
        None => selects(named_by, object),
    }
}

/// True for an object that a target selects: every key it has must fit.
fn selects(target: Node<'_>, object: &Made<'_>) -> bool {
    let text = |key: &str| target.get(key).and_then(Node::text);
    let fits = |pattern: Option<&str>, is: &mut dyn FnMut(&str) -> bool| pattern.is_none_or(is);
    let version = object.root().get("apiVersion").and_then(Node::text).unwrap_or("");
    let (group, release) = version.split_once('/').unwrap_or(("", version));
    let named = fits(text("name"), &mut |pattern| {
        object.names.iter().any(|name| matches(pattern, &name.value))
    });
    // What a partial object says of its group is made up here.
    let is_partial = object.origin.is_none();
    fits(text("kind"), &mut |pattern| matches(pattern, &object.kind))
        && named
        && (is_partial || fits(text("group"), &mut |pattern| matches(pattern, group)))
        && (is_partial || fits(text("version"), &mut |pattern| matches(pattern, release)))
        && (is_partial
            || fits(text("labelSelector"), &mut |selector| {
                has_labels(selector, object, "labels")
            }))
        && (is_partial
            || fits(text("annotationSelector"), &mut |selector| {
                has_labels(selector, object, "annotations")
            }))
}

/// True for labels of which each `key=value` of a selector holds. Other selectors select nothing here.
fn has_labels(selector: &str, object: &Made<'_>, key: &str) -> bool {
    let labels = object.root().at(&["metadata", key]);
    selector.split(',').all(|part| {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) if !name.ends_with('!') => (name, Some(value.trim_start_matches('='))),
            Some(_) => return false,
            None => (part, None),
        };
        let held = labels
            .and_then(|labels| labels.get(name.trim()))
            .and_then(Node::text);
        held.is_some() && value.is_none_or(|value| held == Some(value.trim()))
    })
}

/// A target's pattern: a regular expression for the whole name, of which `.*` and `|` are known here.
fn matches(pattern: &str, name: &str) -> bool {
    let bare = pattern.trim_start_matches('^').trim_end_matches('$');
    let inner = bare
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(bare);
    inner.is_empty() || inner.split('|').any(|one| glob(one, name))
}

fn glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split(".*");
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
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

/// One entry of `images`.
struct Image {
    name: String,
    new: Option<Fact<String>>,
    tag: Option<Fact<String>>,
    separator: char,
}

impl Image {
    fn new(entry: Node<'_>) -> Option<Self> {
        let fact = |key: &str| {
            let node = entry.get(key)?;
            Some(Fact::at(node.text()?.to_owned(), node.mention()))
        };
        let digest = fact("digest");
        let separator = if digest.is_some() { '@' } else { ':' };
        Some(Self {
            name: entry.get("name")?.text()?.to_owned(),
            new: fact("newName"),
            tag: digest.or_else(|| fact("newTag")),
            separator,
        })
    }

    /// What an image becomes; `None` for another image.
    fn of(&self, image: &str) -> Option<Fact<String>> {
        let end = image
            .find('@')
            .or_else(|| {
                image
                    .rfind(':')
                    .filter(|at| !image.get(*at..).unwrap_or("").contains('/'))
            })
            .unwrap_or(image.len());
        let (name, rest) = image.split_at_checked(end)?;
        (name == self.name).then(|| self.renamed(name, rest))
    }

    fn renamed(&self, name: &str, rest: &str) -> Fact<String> {
        let name = self.new.as_ref().map_or(name, |new| new.value.as_str());
        let text = match &self.tag {
            Some(tag) => format!("{name}{}{}", self.separator, tag.value),
            None => format!("{name}{rest}"),
        };
        let spans = [&self.new, &self.tag]
            .into_iter()
            .flatten()
            .filter_map(Fact::span);
        Fact::derived(text, spans)
    }
}

fn images(root: Node<'_>, built: &mut Built<'_>) {
    let entries = root.get("images").into_iter().flat_map(Node::items);
    let images: Vec<Image> = entries.filter_map(Image::new).collect();
    let named = images.iter().map(|image| image.renamed(&image.name, ""));
    built.images.extend(named);
    if images.is_empty() {
        return;
    }
    let only = match images.as_slice() {
        [only] => Some(only.renamed(&only.name, "")),
        _ => None,
    };
    for object in &mut built.objects {
        let is_partial = object.origin.is_none();
        let mut change = |container: Node<'_>, assembly: &mut Assembly| -> Option<Vec<(Part, Part)>> {
            let image = match container.get("image").and_then(Node::text) {
                Some(image) => images.iter().find_map(|entry| entry.of(image))?,
                // The base would have named the only image that is renamed here.
                None if is_partial => only.clone()?,
                None => return None,
            };
            let span = image.span().unwrap_or_else(|| container.span());
            let value = assembly.scalar(span, &image.value);
            Some(change::with_key(container, assembly, "image", span, value))
        };
        if let Some(document) = change::containers(object.root(), &mut change) {
            object.become_changed(document);
        }
    }
}

/// Puts the variables of generated ConfigMaps, and of ConfigMaps that patches changed, into the containers that take
/// them from there.
fn inline(built: &mut Built<'_>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_objects_by_simple_patterns() {
        for (pattern, name, fits) in [
            ("vllm", "vllm", true),
            ("vllm", "vllm-2", false),
            ("vllm.*", "vllm-2", true),
            (".*", "anything", true),
            ("^(a|b-.*)$", "b-1", true),
            (".*-server", "llm-server", true),
            (".*-server", "llm-servers", false),
            ("a.*b.*c", "a-b-b-c", true),
            ("a.*b.*c", "a-c", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn images_change_by_name_and_keep_what_is_not_given() {
        let image = |new: Option<&str>, tag: Option<&str>| Image {
            name: "host:5000/vllm".to_owned(),
            new: new.map(|name| Fact::default(name.to_owned(), "")),
            tag: tag.map(|tag| Fact::default(tag.to_owned(), "")),
            separator: ':',
        };
        let of = |image: &Image, text: &str| image.of(text).map(|fact| fact.value);
        let both = image(Some("vllm/vllm-openai"), Some("v1"));
        assert_eq!(
            of(&both, "host:5000/vllm:old").as_deref(),
            Some("vllm/vllm-openai:v1")
        );
        assert_eq!(of(&both, "vllm:old"), None);
        let name = image(Some("x"), None);
        assert_eq!(of(&name, "host:5000/vllm:old").as_deref(), Some("x:old"));
        assert_eq!(
            of(&name, "host:5000/vllm@sha256:1").as_deref(),
            Some("x@sha256:1")
        );
    }
}
