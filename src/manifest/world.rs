//! The files of a run as one place to look things up in: a ConfigMap in another document, a runtime in another file,
//! the base of a kustomization.
//!
//! In: parsed files. Out: objects by kind and name, files by path. Whoever asks gets the nearest match: the same
//! file first, then the same folder, then the only one there is. Two candidates equally near are no match, since
//! taking one of them would be a guess.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::kubernetes::kustomize::Overlays;
use crate::source::tree::{Document, Node, Shape, Tree};
use crate::source::{FileId, SourceFile, Sources};

/// One file that was read and parsed.
#[derive(Debug)]
pub struct Parsed {
    /// The path that reports print.
    pub path: String,
    /// The folder that relative paths in it are relative to.
    pub folder: PathBuf,
    /// Its text.
    pub source: Arc<SourceFile>,
    /// Its documents.
    pub tree: Tree,
}

impl Parsed {
    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Every file of a run.
#[derive(Debug, Default)]
pub struct World {
    sources: Arc<Sources>,
    files: Vec<Parsed>,
    /// Positions of files by normalized path.
    by_path: HashMap<PathBuf, usize>,
    /// Objects of Kubernetes by kind and name: positions of file, document and, inside a `List`, item.
    objects: HashMap<(String, String), Vec<Address>>,
    /// The same by kind alone, in the order of files and documents.
    kinds: HashMap<String, Vec<Address>>,
    /// Texts that are no manifests but that manifests read: `.env` files, by normalized path.
    companions: BTreeMap<PathBuf, Arc<SourceFile>>,
    /// What kustomizations do to other files, once somebody asks.
    overlays: OnceLock<Overlays>,
}

#[derive(Debug, Clone, Copy)]
struct Address {
    file: usize,
    document: usize,
    item: Option<usize>,
}

/// An object, and the file it stands in.
#[derive(Debug, Clone, Copy)]
pub struct Object<'t> {
    /// The object.
    pub node: Node<'t>,
    /// Its file.
    pub file: &'t Parsed,
}

impl World {
    /// A world of these files, which come sorted by path.
    pub fn new(
        sources: Arc<Sources>,
        files: Vec<Parsed>,
        companions: BTreeMap<PathBuf, Arc<SourceFile>>,
    ) -> Self {
        let mut world = Self {
            sources,
            files: Vec::new(),
            by_path: HashMap::new(),
            objects: HashMap::new(),
            kinds: HashMap::new(),
            companions,
            overlays: OnceLock::new(),
        };
        for (position, file) in files.iter().enumerate() {
            world
                .by_path
                .insert(normal(&file.folder.join(file.name())), position);
            for (at, document) in file.tree.documents.iter().enumerate() {
                for (item, node) in objects_of(document) {
                    if let Some(key) = identity(node) {
                        let address = Address {
                            file: position,
                            document: at,
                            item,
                        };
                        world.kinds.entry(key.0.clone()).or_default().push(address);
                        world.objects.entry(key).or_default().push(address);
                    }
                }
            }
        }
        world.files = files;
        world
    }

    /// What the kustomizations of the run do to its other files.
    pub(crate) fn overlays(&self) -> &Overlays {
        self.overlays.get_or_init(|| Overlays::new(self))
    }

    /// Every text of the run.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Every file, sorted by path.
    pub fn files(&self) -> &[Parsed] {
        &self.files
    }

    /// The text of a span.
    pub fn source(&self, file: FileId) -> Option<Arc<SourceFile>> {
        self.sources.get(file)
    }

    /// The file at a path, relative to `folder`.
    pub fn file(&self, folder: &Path, path: &str) -> Option<&Parsed> {
        let position = self.by_path.get(&normal(&folder.join(path)))?;
        self.files.get(*position)
    }

    /// A text that is no manifest (`.env`), relative to `folder`.
    pub fn companion(&self, folder: &Path, path: &str) -> Option<&SourceFile> {
        self.companions.get(&normal(&folder.join(path))).map(Arc::as_ref)
    }

    /// The object of a kind and name that is nearest to a file.
    pub fn object(&self, from: &Parsed, kind: &str, name: &str) -> Option<Object<'_>> {
        let found = self.objects.get(&(kind.to_owned(), name.to_owned()))?;
        let objects: Vec<Object<'_>> = found.iter().filter_map(|at| self.resolve(*at)).collect();
        let same_file = |object: &&Object<'_>| object.file.source.id() == from.source.id();
        let same_folder = |object: &&Object<'_>| object.file.folder == from.folder;
        if let Some(object) = objects.iter().find(same_file) {
            return Some(*object);
        }
        let mut near = objects.iter().filter(same_folder);
        match (near.next(), near.next()) {
            (Some(only), None) => Some(*only),
            (None, _) if objects.len() == 1 => objects.first().copied(),
            _ => None,
        }
    }

    /// Every object of a kind, in the order of files and documents.
    pub fn objects_of_kind(&self, kind: &str) -> Vec<Object<'_>> {
        let found = self.kinds.get(kind).into_iter().flatten();
        found.filter_map(|at| self.resolve(*at)).collect()
    }

    fn resolve(&self, at: Address) -> Option<Object<'_>> {
        let file = self.files.get(at.file)?;
        let document = file.tree.documents.get(at.document)?;
        let (_, node) = objects_of(document)
            .into_iter()
            .find(|(item, _)| *item == at.item)?;
        Some(Object { node, file })
    }
}

/// The objects of a document: itself, or the items of a `List`.
fn objects_of(document: &Document) -> Vec<(Option<usize>, Node<'_>)> {
    let root = document.root();
    match root.get("items") {
        Some(items) if is_list(root) => items
            .items()
            .enumerate()
            .map(|(at, item)| (Some(at), item))
            .collect(),
        _ => vec![(None, root)],
    }
}

/// True for a Kubernetes `List` (and `DeploymentList` and the like).
fn is_list(root: Node<'_>) -> bool {
    let kind = root.get("kind").and_then(Node::text);
    kind.is_some_and(|kind| kind.ends_with("List"))
        && root
            .get("items")
            .is_some_and(|items| items.shape() == Shape::Sequence)
}

fn identity(node: Node<'_>) -> Option<(String, String)> {
    let kind = node.get("kind")?.text()?;
    let name = node.at(&["metadata", "name"])?.text()?;
    Some((kind.to_owned(), name.to_owned()))
}

/// A path without `.` and, where it can be told from the text, without `..`.
pub(crate) fn normal(path: &Path) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn world(files: &[(&str, &str)]) -> World {
        let sources = Arc::new(Sources::default());
        let parsed = files.iter().map(|(path, text)| {
            let source = sources.add(*path, *text);
            let tree = Tree::parse(&source);
            Parsed {
                path: (*path).to_owned(),
                folder: Path::new(path).parent().unwrap().to_path_buf(),
                source,
                tree,
            }
        });
        let parsed = parsed.collect();
        World::new(Arc::clone(&sources), parsed, BTreeMap::new())
    }

    fn map(data: &str) -> String {
        format!("kind: ConfigMap\nmetadata: {{name: env}}\ndata: {{a: {data}}}\n")
    }

    fn found(world: &World, from: usize) -> Option<&str> {
        let object = world.object(&world.files()[from], "ConfigMap", "env")?;
        object.node.at(&["data", "a"])?.text()
    }

    #[test]
    fn the_nearest_object_is_taken_and_never_one_of_two() {
        let (own, near, far) = (map("own"), map("near"), map("far"));
        let both = world(&[("a/x.yaml", &own), ("a/y.yaml", &near), ("b/z.yaml", &far)]);
        assert_eq!(found(&both, 0), Some("own"));
        let neighbours = world(&[("a/x.yaml", "b: 1"), ("a/y.yaml", &near), ("b/z.yaml", &far)]);
        assert_eq!(found(&neighbours, 0), Some("near"));
        let distant = world(&[("a/x.yaml", "b: 1"), ("b/z.yaml", &far)]);
        assert_eq!(found(&distant, 0), Some("far"));
        let two = world(&[("a/x.yaml", "b: 1"), ("b/z.yaml", &far), ("c/z.yaml", &near)]);
        assert_eq!(found(&two, 0), None);
    }

    #[test]
    fn items_of_a_list_are_objects() {
        let text = "kind: List\nitems:\n- kind: ConfigMap\n  metadata: {name: env}\n  data: {a: inside}\n";
        assert_eq!(found(&world(&[("x.yaml", text)]), 0), Some("inside"));
    }

    #[test]
    fn files_are_found_by_relative_paths() {
        let world = world(&[("a/base/x.yaml", "b: 1"), ("a/over/k.yaml", "b: 2")]);
        let file = world.file(Path::new("a/over"), "../base/./x.yaml");
        assert_eq!(file.map(|file| file.path.as_str()), Some("a/base/x.yaml"));
        assert!(world.file(Path::new("a/over"), "y.yaml").is_none());
    }
}
