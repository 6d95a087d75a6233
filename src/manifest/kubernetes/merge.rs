//! Patches: one object laid over another as Kubernetes' strategic merge does it, and the operations of RFC 6902.
//!
//! In: nodes of finished documents. Out: a new document whose parts keep their characters. Which lists merge item by
//! item follows the `patchMergeKey`s of Kubernetes' core/v1 types; any other list is replaced as a whole.

use crate::source::tree::{Assembly, Document, Node, Part, Shape};

/// Lists whose items merge by a key of theirs. Source: `patchMergeKey` tags of `PodSpec` and `Container`,
/// kubernetes/api core/v1 types.go.
const MERGE_KEYS: [(&str, &str); 9] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("ports", "containerPort"),
    ("resourceClaims", "name"),
    ("imagePullSecrets", "name"),
];
/// Deepest nesting that is merged; below it the patch stands as it is.
const MAX_DEPTH: usize = 64;
/// Longest list that an operation may make out of nothing.
const MAX_PADDING: usize = 16;

/// How lists merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// By their keys, as for kinds that Kubernetes has types for.
    ByKey,
    /// By their keys; `args` of a container are those of the base and then those of the patch, as KServe joins a
    /// runtime and a service (`mergeRuntimeContainers`, kserve pkg/controller/v1beta1/inferenceservice/utils).
    ArgsAppended,
    /// Each list is replaced, as for kinds without types (JSON merge patch).
    Replaced,
}

/// `patch` laid over `base`.
pub fn merged(base: Node<'_>, patch: Node<'_>, lists: Lists) -> Document {
    let mut merge = Merge {
        assembly: Assembly::default(),
        lists,
    };
    let root = merge.values("", base, patch, 0);
    merge.assembly.finish(root)
}

struct Merge {
    assembly: Assembly,
    lists: Lists,
}

impl Merge {
    fn values(&mut self, key: &str, base: Node<'_>, patch: Node<'_>, depth: usize) -> Part {
        let deep = depth >= MAX_DEPTH || self.assembly.is_full();
        match (base.shape(), patch.shape()) {
            (Shape::Mapping, Shape::Mapping) if !deep && directive(patch) != Some("replace") => {
                self.mappings(base, patch, depth)
            }
            (Shape::Sequence, Shape::Sequence) if !deep => self.sequences(key, base, patch, depth),
            _ => self.assembly.copy(patch),
        }
    }

    fn mappings(&mut self, base: Node<'_>, patch: Node<'_>, depth: usize) -> Part {
        let mut pairs = Vec::new();
        let of_patch = patch.entries();
        for (key, value) in base.entries() {
            let name = key.text().unwrap_or("");
            let over = of_patch.iter().find(|(key, _)| key.text() == Some(name));
            let value = match over {
                Some((_, over)) if is_removal(*over) => continue,
                Some((_, over)) => self.values(name, value, *over, depth + 1),
                None => self.assembly.copy(value),
            };
            pairs.push((self.assembly.copy(key), value));
        }
        for (key, value) in of_patch {
            let name = key.text().unwrap_or("");
            if base.get(name).is_none() && !is_removal(value) && !name.starts_with('$') {
                pairs.push((self.assembly.copy(key), self.assembly.copy(value)));
            }
        }
        self.assembly.mapping(base.span(), &pairs)
    }

    fn sequences(&mut self, key: &str, base: Node<'_>, patch: Node<'_>, depth: usize) -> Part {
        if key == "args" && self.lists == Lists::ArgsAppended {
            let items: Vec<Part> = base
                .items()
                .chain(patch.items())
                .map(|item| self.assembly.copy(item))
                .collect();
            return self.assembly.sequence(patch.span(), &items);
        }
        let by = MERGE_KEYS
            .iter()
            .find(|(list, _)| *list == key && self.lists != Lists::Replaced);
        let Some((_, by)) = by else {
            return self.assembly.copy(patch);
        };
        if patch.items().any(|item| directive(item) == Some("replace")) {
            return self.assembly.copy(patch);
        }
        let name = |item: Node<'_>| item.get(by).and_then(Node::text).map(str::to_owned);
        let mut items = Vec::new();
        for item in base.items() {
            let over = patch
                .items()
                .find(|over| name(item).is_some() && name(*over) == name(item));
            match over {
                Some(over) if directive(over) == Some("delete") => {}
                Some(over) => items.push(self.values("", item, over, depth + 1)),
                None => items.push(self.assembly.copy(item)),
            }
        }
        for over in patch.items() {
            let known = base.items().any(|item| name(item) == name(over));
            if !known && directive(over).is_none() {
                items.push(self.assembly.copy(over));
            }
        }
        self.assembly.sequence(base.span(), &items)
    }
}

/// What a patch says of the value it stands in (`$patch: delete | replace | merge`).
fn directive(node: Node<'_>) -> Option<&str> {
    node.get("$patch")?.text()
}

/// True for a value that takes the key away.
fn is_removal(value: Node<'_>) -> bool {
    value.is_null() || directive(value) == Some("delete")
}

/// One operation of RFC 6902.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'t> {
    /// What it does.
    pub kind: OperationKind,
    /// Where.
    pub path: Node<'t>,
    /// With what.
    pub value: Option<Node<'t>>,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// Sets a key or inserts an item.
    Add,
    /// Takes a key or an item away.
    Remove,
    /// Changes a value.
    Replace,
}

/// The operations of a patch; `None` where the list is none. Tests, moves and copies change nothing that is read here
/// and are left out.
pub fn operations(list: Node<'_>) -> Option<Vec<Operation<'_>>> {
    if list.shape() != Shape::Sequence || list.items().next().is_none() {
        return None;
    }
    let mut found = Vec::new();
    for item in list.items() {
        let path = item.get("path").filter(|path| path.text().is_some())?;
        let kind = match item.get("op")?.text()? {
            "add" => OperationKind::Add,
            "remove" => OperationKind::Remove,
            "replace" => OperationKind::Replace,
            "test" | "move" | "copy" => continue,
            _ => return None,
        };
        let value = item.get("value");
        found.push(Operation { kind, path, value });
    }
    Some(found)
}

/// `base` after one operation. What the path leads through is made where it is missing: a patch without its base
/// still says what it sets.
pub fn applied(base: Node<'_>, operation: Operation<'_>) -> Document {
    let path: Vec<String> = operation
        .path
        .text()
        .unwrap_or("")
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect();
    let mut edit = Edit {
        assembly: Assembly::default(),
        operation,
    };
    let root = edit.at(Some(base), path.get(..MAX_DEPTH).unwrap_or(&path));
    let root = root.unwrap_or_else(|| edit.assembly.null(base.span()));
    edit.assembly.finish(root)
}

struct Edit<'t> {
    assembly: Assembly,
    operation: Operation<'t>,
}

impl Edit<'_> {
    /// The value in place of `node`, `path` leading on from there; `None` for one that is taken away.
    fn at(&mut self, node: Option<Node<'_>>, path: &[String]) -> Option<Part> {
        let span = node.map_or_else(|| self.operation.path.span(), Node::span);
        let Some((step, rest)) = path.split_first() else {
            return match (self.operation.kind, self.operation.value) {
                (OperationKind::Remove, _) => None,
                (_, Some(value)) => Some(self.assembly.copy(value)),
                (_, None) => Some(self.assembly.null(span)),
            };
        };
        let is_list = match node.map(Node::shape) {
            Some(Shape::Sequence) => true,
            Some(Shape::Mapping) => false,
            _ => step == "-" || step.parse::<usize>().is_ok(),
        };
        let items: Vec<Node<'_>> = node.into_iter().flat_map(Node::items).collect();
        if is_list {
            let parts = self.list(&items, step, rest);
            return Some(self.assembly.sequence(span, &parts));
        }
        let mut pairs = Vec::new();
        let mut met = false;
        for (key, value) in node.map(Node::entries).unwrap_or_default() {
            let here = key.text() == Some(step);
            met |= here;
            let value = if here {
                self.at(Some(value), rest)
            } else {
                Some(self.assembly.copy(value))
            };
            if let Some(value) = value {
                pairs.push((self.assembly.copy(key), value));
            }
        }
        if !met && let Some(value) = self.at(None, rest) {
            let key = self.assembly.scalar(self.operation.path.span(), step);
            pairs.push((key, value));
        }
        Some(self.assembly.mapping(span, &pairs))
    }

    fn list(&mut self, items: &[Node<'_>], step: &str, rest: &[String]) -> Vec<Part> {
        let index = match step.parse::<usize>() {
            Ok(index) => index.min(items.len().saturating_add(MAX_PADDING)),
            Err(_) => items.len(),
        };
        let inserts = rest.is_empty() && self.operation.kind == OperationKind::Add;
        let mut parts = Vec::new();
        for (at, item) in items.iter().enumerate() {
            if at == index && inserts {
                parts.extend(self.at(None, rest));
            }
            if at == index && !inserts {
                parts.extend(self.at(Some(*item), rest));
            } else {
                parts.push(self.assembly.copy(*item));
            }
        }
        if index >= items.len() && self.operation.kind != OperationKind::Remove {
            while parts.len() < index {
                let nothing = self.assembly.null(self.operation.path.span());
                parts.push(nothing);
            }
            parts.extend(self.at(None, rest));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::source::Sources;
    use crate::source::tree::Tree;

    fn tree(text: &str) -> Tree {
        Tree::parse(&Sources::default().add("x.yaml", text))
    }

    /// A node as one line.
    fn shown(node: Node<'_>) -> String {
        match node.shape() {
            Shape::Mapping => {
                let pairs = node
                    .entries()
                    .into_iter()
                    .map(|(key, value)| format!("{}: {}", key.text().unwrap_or("null"), shown(value)));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
            Shape::Sequence => format!("[{}]", node.items().map(shown).collect::<Vec<_>>().join(", ")),
            _ => node.text().unwrap_or("null").to_owned(),
        }
    }

    fn merge(base: &str, patch: &str, lists: Lists) -> String {
        let (base, patch) = (tree(base), tree(patch));
        let document = merged(base.documents[0].root(), patch.documents[0].root(), lists);
        shown(document.root())
    }

    #[test]
    fn containers_and_variables_merge_by_name() {
        let base =
            "containers: [{name: a, image: i, env: [{name: X, value: 1}, {name: Y, value: 2}]}, {name: b}]";
        let patch = "containers: [{name: a, env: [{name: Y, value: 3}]}, {name: c}]";
        assert_eq!(
            merge(base, patch, Lists::ByKey),
            "{containers: [{name: a, image: i, env: [{name: X, value: 1}, {name: Y, value: 3}]}, {name: b}, {name: c}]}"
        );
        assert_eq!(
            merge(base, patch, Lists::Replaced),
            "{containers: [{name: a, env: [{name: Y, value: 3}]}, {name: c}]}"
        );
    }

    #[test]
    fn arguments_are_replaced_and_appended_only_for_runtimes() {
        let (base, patch) = (
            "containers: [{name: a, args: [x]}]",
            "containers: [{name: a, args: [y]}]",
        );
        assert_eq!(
            merge(base, patch, Lists::ByKey),
            "{containers: [{name: a, args: [y]}]}"
        );
        assert_eq!(
            merge(base, patch, Lists::ArgsAppended),
            "{containers: [{name: a, args: [x, y]}]}"
        );
    }

    #[test]
    fn null_and_directives_take_away() {
        let base = "a: 1\nb: {c: 2, d: 3}\ncontainers: [{name: a}, {name: b}]";
        let patch = "a: null\nb: {$patch: replace, d: 4}\ncontainers: [{name: a, $patch: delete}]";
        assert_eq!(
            merge(base, patch, Lists::ByKey),
            "{b: {$patch: replace, d: 4}, containers: [{name: b}]}"
        );
    }

    fn operate(base: &str, patch: &str) -> String {
        let (base, patch) = (tree(base), tree(patch));
        let mut document = None;
        for operation in operations(patch.documents[0].root()).unwrap() {
            let from = document.as_ref().map_or(base.documents[0].root(), Document::root);
            document = Some(applied(from, operation));
        }
        shown(document.unwrap().root())
    }

    #[test]
    fn operations_add_replace_and_remove() {
        let base = "spec: {replicas: 1, args: [a, b]}";
        let patch = "- {op: add, path: /spec/args/-, value: c}\n- {op: add, path: /spec/args/0, value: first}\n\
                     - {op: replace, path: /spec/replicas, value: 2}\n- {op: remove, path: /spec/args/1}\n\
                     - {op: add, path: /spec/limits/nvidia.com~1gpu, value: 4}\n";
        assert_eq!(
            operate(base, patch),
            "{spec: {replicas: 2, args: [first, b, c], limits: {nvidia.com/gpu: 4}}}"
        );
    }

    #[test]
    fn what_is_missing_on_the_way_is_made() {
        let patch = "- {op: add, path: /spec/containers/1/args/-, value: x}\n\
                     - {op: add, path: /spec/containers/1/args/-, value: y}\n";
        assert_eq!(
            operate("{}", patch),
            "{spec: {containers: [null, {args: [x, y]}]}}"
        );
        let far = "- {op: add, path: /a/99999999999, value: x}";
        assert!(operate("{}", far).len() < 200);
    }

    #[test]
    fn lists_that_are_no_patches_are_told_apart() {
        for text in [
            "[]",
            "- {op: add}",
            "- {path: /a}",
            "- {op: fly, path: /a}",
            "a: 1",
            "- 1",
        ] {
            assert!(operations(tree(text).documents[0].root()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_bomb_of_aliases_on_both_sides_ends() {
        let mut text = "a0: &a0 {x: {y: 1}}\n".to_owned();
        for level in 1..40 {
            let below = level - 1;
            writeln!(text, "a{level}: &a{level} {{l: *a{below}, r: *a{below}}}").unwrap();
        }
        let (base, patch) = (tree(&text), tree(&text));
        merged(base.documents[0].root(), patch.documents[0].root(), Lists::ByKey);
    }
}
