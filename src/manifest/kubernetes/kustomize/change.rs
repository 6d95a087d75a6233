//! Changes of one object that are no patches: a value set, images renamed, variables of generated ConfigMaps put in.

use crate::fact::Fact;
use crate::source::Span;
use crate::source::tree::{Assembly, Document, Node, Part, Shape};

/// Deepest nesting in which containers are looked for.
const MAX_DEPTH: usize = 24;

/// An object of which only kind and name are known.
pub(super) fn empty(span: Span, kind: &str, name: &Fact<String>) -> Document {
    let mut assembly = Assembly::default();
    let named = name.span().unwrap_or(span);
    let mut pair =
        |key: &str, span: Span, value: &str| (assembly.scalar(span, key), assembly.scalar(span, value));
    let version = pair("apiVersion", span, "apps/v1");
    let kind = pair("kind", span, kind);
    let name = pair("name", named, &name.value);
    let key = assembly.scalar(span, "metadata");
    let metadata = assembly.mapping(span, &[name]);
    let root = assembly.mapping(span, &[version, kind, (key, metadata)]);
    assembly.finish(root)
}

/// An object with a text at a path of keys.
pub(super) fn set(root: Node<'_>, path: &[&str], value: &Fact<String>) -> Document {
    let mut assembly = Assembly::default();
    let span = value.span().unwrap_or_else(|| root.span());
    let part = set_below(&mut assembly, Some(root), path, &value.value, span);
    assembly.finish(part)
}

fn set_below(
    assembly: &mut Assembly,
    node: Option<Node<'_>>,
    path: &[&str],
    value: &str,
    span: Span,
) -> Part {
    let Some((step, rest)) = path.split_first() else {
        return assembly.scalar(span, value);
    };
    let mut pairs = Vec::new();
    let mut met = false;
    for (key, below) in node.map(Node::entries).unwrap_or_default() {
        let here = key.text() == Some(step);
        met |= here;
        let below = if here {
            set_below(assembly, Some(below), rest, value, span)
        } else {
            assembly.copy(below)
        };
        pairs.push((assembly.copy(key), below));
    }
    if !met {
        let key = assembly.scalar(span, step);
        pairs.push((key, set_below(assembly, None, rest, value, span)));
    }
    assembly.mapping(node.map_or(span, Node::span), &pairs)
}

/// An object with other containers: `change` is asked for each, and gives the pairs of its mapping, or `None` to
/// leave it as it is. `None` where nothing was changed.
pub(super) fn containers(root: Node<'_>, change: &mut Change<'_>) -> Option<Document> {
    let mut walk = Walk {
        assembly: Assembly::default(),
        change,
        changed: false,
    };
    let part = walk.value(root, 0);
    let changed = walk.changed;
    changed.then(|| walk.assembly.finish(part))
}

/// Gives the pairs of a container's mapping in a new document.
pub(super) type Change<'c> = dyn FnMut(Node<'_>, &mut Assembly) -> Option<Vec<(Part, Part)>> + 'c;

struct Walk<'a, 'c> {
    assembly: Assembly,
    change: &'a mut Change<'c>,
    changed: bool,
}

impl Walk<'_, '_> {
    fn value(&mut self, node: Node<'_>, depth: usize) -> Part {
        if depth > MAX_DEPTH || self.assembly.is_full() {
            return self.assembly.copy(node);
        }
        match node.shape() {
            Shape::Mapping => {
                let mut pairs = Vec::new();
                for (key, value) in node.entries() {
                    let holds = matches!(key.text(), Some("containers" | "initContainers"));
                    let value = if holds {
                        self.list(value)
                    } else {
                        self.value(value, depth + 1)
                    };
                    pairs.push((self.assembly.copy(key), value));
                }
                self.assembly.mapping(node.span(), &pairs)
            }
            Shape::Sequence => {
                let items: Vec<Part> = node.items().map(|item| self.value(item, depth + 1)).collect();
                self.assembly.sequence(node.span(), &items)
            }
            _ => self.assembly.copy(node),
        }
    }

    fn list(&mut self, list: Node<'_>) -> Part {
        let mut items = Vec::new();
        for item in list.items() {
            items.push(match (self.change)(item, &mut self.assembly) {
                Some(pairs) => {
                    self.changed = true;
                    self.assembly.mapping(item.span(), &pairs)
                }
                None => self.assembly.copy(item),
            });
        }
        if items.is_empty() {
            return self.assembly.copy(list);
        }
        self.assembly.sequence(list.span(), &items)
    }
}

/// The pairs of a mapping with one key set, in its place.
pub(super) fn with_key(
    node: Node<'_>,
    assembly: &mut Assembly,
    key: &str,
    span: Span,
    value: Part,
) -> Vec<(Part, Part)> {
    let mut pairs = Vec::new();
    let mut met = false;
    for (known, below) in node.entries() {
        let here = known.text() == Some(key);
        met |= here;
        let below = if here { value } else { assembly.copy(below) };
        pairs.push((assembly.copy(known), below));
    }
    if !met {
        pairs.push((assembly.scalar(span, key), value));
    }
    pairs
}
