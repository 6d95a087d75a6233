//! Documents put together from parts of others: an overlay laid over its base, a runtime under its service.
//!
//! Every part keeps the characters of the file that it stands in, so whatever is read from the whole can still be
//! pointed at. Nothing is changed in place: a part of a finished document is copied into a new one.

use std::collections::HashMap;

use super::{Document, Kind, Node, NodeData, Shape, Style};
use crate::source::Span;

/// Most nodes that one assembled document may have; what comes after is left out.
const MAX_NODES: usize = 1 << 18;
/// Deepest nesting that is copied; what lies deeper is left out.
const MAX_DEPTH: usize = 128;

/// A document in the making.
#[derive(Debug, Default)]
pub struct Assembly {
    nodes: Vec<NodeData>,
}

/// A part of a document in the making.
#[derive(Debug, Clone, Copy)]
pub struct Part(u32);

impl Assembly {
    /// A copy of a node with everything below it.
    pub fn copy(&mut self, node: Node<'_>) -> Part {
        self.copy_below(node, &mut HashMap::new(), 0)
    }

    /// Each node of the source is copied once, however many aliases lead to it.
    fn copy_below(&mut self, node: Node<'_>, known: &mut HashMap<u32, Part>, depth: usize) -> Part {
        if let Some(part) = known.get(&node.id) {
            return *part;
        }
        if depth >= MAX_DEPTH {
            return self.null(node.span());
        }
        let kind = match node.shape() {
            Shape::Mapping => {
                let mut pairs = Vec::new();
                for (key, value) in node.pairs() {
                    let key = self.copy_below(key, known, depth + 1);
                    pairs.push((key.0, self.copy_below(value, known, depth + 1).0));
                }
                Kind::Mapping(pairs)
            }
            Shape::Sequence => {
                let items: Vec<Node<'_>> = node.items().collect();
                let copies = items
                    .into_iter()
                    .map(|item| self.copy_below(item, known, depth + 1).0);
                Kind::Sequence(copies.collect())
            }
            Shape::Scalar | Shape::Null => Kind::Scalar {
                value: node.raw().unwrap_or("").into(),
                style: node.style().unwrap_or(Style::Plain),
            },
            Shape::UnknownAlias => Kind::Unresolved,
        };
        let part = self.add(node.span(), kind);
        known.insert(node.id, part);
        part
    }

    /// A mapping of these keys and values.
    pub fn mapping(&mut self, span: Span, pairs: &[(Part, Part)]) -> Part {
        let pairs = pairs.iter().map(|(key, value)| (key.0, value.0)).collect();
        self.add(span, Kind::Mapping(pairs))
    }

    /// A list of these items.
    pub fn sequence(&mut self, span: Span, items: &[Part]) -> Part {
        let items = items.iter().map(|item| item.0).collect();
        self.add(span, Kind::Sequence(items))
    }

    /// A text.
    pub fn scalar(&mut self, span: Span, value: &str) -> Part {
        let style = Style::Quoted;
        let value = value.into();
        self.add(span, Kind::Scalar { value, style })
    }

    /// Nothing.
    pub fn null(&mut self, span: Span) -> Part {
        let style = Style::Plain;
        let value = "".into();
        self.add(span, Kind::Scalar { value, style })
    }

    /// True where no more parts are taken.
    pub fn is_full(&self) -> bool {
        self.nodes.len() >= MAX_NODES
    }

    fn add(&mut self, span: Span, kind: Kind) -> Part {
        let kind = if self.is_full() { Kind::Unresolved } else { kind };
        // One node past the limit stands for all that is left out.
        if self.nodes.len() <= MAX_NODES {
            self.nodes.push(NodeData { span, kind });
        }
        Part(u32::try_from(self.nodes.len().saturating_sub(1)).unwrap_or(u32::MAX))
    }

    /// The document whose top is `root`.
    pub fn finish(self, root: Part) -> Document {
        Document {
            nodes: self.nodes,
            root: root.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::Arc;

    use super::*;
    use crate::source::tree::Tree;
    use crate::source::{SourceFile, Sources};

    fn parsed(text: &str) -> (Arc<SourceFile>, Tree) {
        let file = Sources::default().add("x.yaml", text);
        let tree = Tree::parse(&file);
        (file, tree)
    }

    #[test]
    fn parts_keep_the_characters_of_the_file_they_come_from() {
        let (file, tree) = parsed("a: &x {b: deep}\nc: *x\n");
        let root = tree.documents[0].root();
        let mut assembly = Assembly::default();
        let part = assembly.copy(root);
        let copy = assembly.finish(part);
        let b = copy.root().at(&["c", "b"]).unwrap();
        assert_eq!((b.text(), file.slice(b.span())), (Some("deep"), "deep"));
    }

    #[test]
    fn aliases_are_copied_once() {
        let mut text = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..60 {
            let below = level - 1;
            writeln!(text, "a{level}: &a{level} [*a{below}, *a{below}]").unwrap();
        }
        let (_, tree) = parsed(&text);
        let mut assembly = Assembly::default();
        assembly.copy(tree.documents[0].root());
        assert!(assembly.nodes.len() < 500);
    }

    #[test]
    fn nesting_past_the_limit_is_left_out() {
        let (_, tree) = parsed(&format!("a: {}1{}\n", "[".repeat(200), "]".repeat(200)));
        let mut assembly = Assembly::default();
        for document in &tree.documents {
            assembly.copy(document.root());
        }
        assert!(assembly.nodes.len() <= 200);
    }
}
