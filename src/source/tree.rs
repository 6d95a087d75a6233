//! YAML and JSON as trees whose every value knows its bytes. One parser reads both, since JSON is YAML.
//!
//! In: a [`SourceFile`]. Out: a [`Tree`] of documents, the comments, and the problems of the documents that
//! could not be read; a broken document never hides its neighbours. Aliases stay references, so no input can
//! make a tree larger than itself. What a value means is for the modules that read trees.

mod assembly;

pub use assembly::{Assembly, Part};

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle};

use super::map::ScalarMap;
use super::{SourceFile, Span};

/// A parsed file.
#[derive(Debug, Default)]
pub struct Tree {
    /// The documents that could be read, in order.
    pub documents: Vec<Document>,
    /// Every comment, in order.
    pub comments: Vec<Comment>,
    /// One entry for each document that could not be read.
    pub problems: Vec<SyntaxProblem>,
}

/// A comment, from `#` to the end of its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its characters, with the `#`.
    pub span: Span,
    /// What stands after the `#`.
    pub text: String,
}

/// Why a document could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxProblem {
    /// The character where reading stopped.
    pub span: Span,
    /// The parser's words.
    pub message: String,
}

/// One YAML document or JSON text.
#[derive(Debug)]
pub struct Document {
    nodes: Vec<NodeData>,
    root: u32,
}

#[derive(Debug)]
struct NodeData {
    span: Span,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar { value: Box<str>, style: Style },
    Mapping(Vec<(u32, u32)>),
    Sequence(Vec<u32>),
    Alias(u32),
    Unresolved,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// No quotes: may be a number, a boolean or null.
    Plain,
    /// In quotes: always text.
    Quoted,
    /// `|` block.
    Literal,
    /// `>` block.
    Folded,
}

/// What a node is, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Text, number, boolean.
    Scalar,
    /// No value.
    Null,
    /// Keys and values.
    Mapping,
    /// A list.
    Sequence,
    /// An alias whose anchor is not in the document.
    UnknownAlias,
}

impl Shape {
    /// The word for messages: "a list", "a mapping", ...
    pub fn words(self) -> &'static str {
        match self {
            Self::Scalar => "a single value",
            Self::Null => "nothing",
            Self::Mapping => "a mapping",
            Self::Sequence => "a list",
            Self::UnknownAlias => "an alias without an anchor",
        }
    }
}

/// A node of a document. Aliases are followed when a `Node` is made, so no method ever sees one.
#[derive(Debug, Clone, Copy)]
pub struct Node<'t> {
    document: &'t Document,
    id: u32,
    /// Where the node was mentioned: the alias if it was reached through one.
    mention: u32,
}

impl Tree {
    /// Parses a file. Never fails as a whole: what cannot be read is in [`Tree::problems`].
    pub fn parse(file: &SourceFile) -> Self {
        Builder::new(file).run()
    }

    /// Parses the YAML or JSON text inside a scalar of `file` (`serveConfigV2: |`, a ConfigMap's data). Every span
    /// is one of the file itself.
    pub fn embedded(file: &SourceFile, scalar: Node<'_>) -> Self {
        let value = scalar.text().unwrap_or("");
        let inner = SourceFile::new(file.id(), file.path(), value);
        let mut tree = Builder::new(&inner).run();
        let map = ScalarMap::new(file, scalar.span(), value);
        let outer = |span: &mut Span| *span = map.span(file, span.start()..span.end());
        for node in tree.documents.iter_mut().flat_map(|document| &mut document.nodes) {
            outer(&mut node.span);
        }
        tree.comments
            .iter_mut()
            .for_each(|comment| outer(&mut comment.span));
        tree.problems
            .iter_mut()
            .for_each(|problem| outer(&mut problem.span));
        tree
    }
}

impl Document {
    /// The top node.
    pub fn root(&self) -> Node<'_> {
        self.node(self.root)
    }

    fn node(&self, id: u32) -> Node<'_> {
        let target = match self.nodes.get(id as usize).map(|data| &data.kind) {
            Some(Kind::Alias(target)) => *target,
            _ => id,
        };
        Node {
            document: self,
            id: target,
            mention: id,
        }
    }
}

impl<'t> Node<'t> {
    fn data(self) -> Option<&'t NodeData> {
        self.document.nodes.get(self.id as usize)
    }

    /// The characters of the value itself. A node without characters has the span of its key.
    pub fn span(self) -> Span {
        #[expect(
            clippy::indexing_slicing,
            reason = "ids come from the document that is indexed"
        )]
        self.document.nodes[self.id as usize].span
    }

    /// The characters where the file mentions the value: the alias if it is one, else the value.
    pub fn mention(self) -> Span {
        #[expect(
            clippy::indexing_slicing,
            reason = "ids come from the document that is indexed"
        )]
        self.document.nodes[self.mention as usize].span
    }

    /// What kind of node it is.
    pub fn shape(self) -> Shape {
        match self.data().map(|data| &data.kind) {
            Some(Kind::Mapping(_)) => Shape::Mapping,
            Some(Kind::Sequence(_)) => Shape::Sequence,
            Some(Kind::Scalar { .. }) if self.is_null() => Shape::Null,
            Some(Kind::Scalar { .. }) => Shape::Scalar,
            _ => Shape::UnknownAlias,
        }
    }

    /// The text of a scalar, as written (numbers and booleans too); `None` for null and collections.
    pub fn text(self) -> Option<&'t str> {
        if self.is_null() { None } else { self.raw() }
    }

    /// The text of a scalar, null included.
    fn raw(self) -> Option<&'t str> {
        match self.data().map(|data| &data.kind) {
            Some(Kind::Scalar { value, .. }) => Some(value),
            _ => None,
        }
    }

    /// How a scalar is written.
    pub fn style(self) -> Option<Style> {
        match self.data().map(|data| &data.kind) {
            Some(Kind::Scalar { style, .. }) => Some(*style),
            _ => None,
        }
    }

    /// True for an empty value, `~` and `null`.
    pub fn is_null(self) -> bool {
        self.style() == Some(Style::Plain) && matches!(self.raw(), Some("" | "~" | "null" | "Null" | "NULL"))
    }

    /// A whole number; also one in quotes, as Kubernetes and compose files have them.
    pub fn as_u64(self) -> Option<u64> {
        self.text()?.trim().replace('_', "").parse().ok()
    }

    /// A finite number; also one in quotes.
    pub fn as_f64(self) -> Option<f64> {
        self.text()?
            .trim()
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
    }

    /// A boolean in one of YAML's spellings, unquoted.
    pub fn as_bool(self) -> Option<bool> {
        if self.style() != Some(Style::Plain) {
            return None;
        }
        match self.raw()? {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "on" | "On" => Some(true),
            "false" | "False" | "FALSE" | "no" | "No" | "off" | "Off" => Some(false),
            _ => None,
        }
    }

    /// The items of a sequence; empty for anything else.
    pub fn items(self) -> impl Iterator<Item = Node<'t>> {
        let items: &'t [u32] = match self.data().map(|data| &data.kind) {
            Some(Kind::Sequence(items)) => items,
            _ => &[],
        };
        items.iter().map(move |id| self.document.node(*id))
    }

    /// The pairs of a mapping exactly as written: repeated keys repeat, and `<<` is a key like any other.
    pub fn pairs(self) -> impl Iterator<Item = (Node<'t>, Node<'t>)> {
        let pairs: &'t [(u32, u32)] = match self.data().map(|data| &data.kind) {
            Some(Kind::Mapping(pairs)) => pairs,
            _ => &[],
        };
        pairs
            .iter()
            .map(move |(key, value)| (self.document.node(*key), self.document.node(*value)))
    }

    /// The pairs of a mapping as they hold: `<<` merges are resolved (own keys win, then earlier merges), and
    /// of a repeated key the last one counts, in the place of the first.
    pub fn entries(self) -> Vec<(Node<'t>, Node<'t>)> {
        let mut entries: Vec<(Node<'t>, Node<'t>)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        let mut visited = std::collections::HashSet::new();
        let mut open = vec![self];
        while let Some(mapping) = open.pop() {
            if !visited.insert(mapping.id) {
                continue;
            }
            let mut own = std::collections::HashSet::new();
            let mut merges = Vec::new();
            for (key, value) in mapping.pairs() {
                let Some(name) = key.raw() else { continue };
                if name == "<<" && key.style() == Some(Style::Plain) {
                    match value.shape() {
                        Shape::Sequence => merges.extend(value.items()),
                        _ => merges.push(value),
                    }
                    continue;
                }
                match places.get(name) {
                    None => {
                        places.insert(name, entries.len());
                        own.insert(name);
                        entries.push((key, value));
                    }
                    Some(at) if own.contains(name) => {
                        if let Some(entry) = entries.get_mut(*at) {
                            *entry = (key, value);
                        }
                    }
                    Some(_) => {}
                }
            }
            merges.reverse();
            open.extend(merges);
        }
        entries
    }

    /// The value of a key, merges included.
    pub fn get(self, key: &str) -> Option<Node<'t>> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Key and value, merges included.
    pub fn entry(self, key: &str) -> Option<(Node<'t>, Node<'t>)> {
        let mut found = None;
        let mut merged = false;
        for (name, value) in self.pairs() {
            match name.raw() {
                Some(raw) if raw == key => found = Some((name, value)),
                Some("<<") => merged = true,
                _ => {}
            }
        }
        if found.is_none() && merged {
            return self
                .entries()
                .into_iter()
                .find(|(name, _)| name.raw() == Some(key));
        }
        found
    }

    /// The node at a path of keys.
    pub fn at(self, path: &[&str]) -> Option<Node<'t>> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Keys that a mapping repeats: the first and the later key.
    pub fn repeated_keys(self) -> Vec<(Node<'t>, Node<'t>)> {
        let mut seen: std::collections::HashMap<&str, Node<'t>> = std::collections::HashMap::new();
        let mut repeated = Vec::new();
        for (key, _) in self.pairs() {
            if let Some(name) = key.raw().filter(|name| *name != "<<")
                && let Some(first) = seen.insert(name, key)
            {
                repeated.push((first, key));
            }
        }
        repeated
    }

    /// Every mapping below and including this node, aliases not followed, in the order of the text.
    pub fn mappings(self) -> Vec<Node<'t>> {
        let mut found = Vec::new();
        let mut open = vec![self.id];
        while let Some(id) = open.pop() {
            match self.document.nodes.get(id as usize).map(|data| &data.kind) {
                Some(Kind::Mapping(pairs)) => {
                    found.push(Node {
                        document: self.document,
                        id,
                        mention: id,
                    });
                    open.extend(pairs.iter().rev().map(|(_, value)| *value));
                }
                Some(Kind::Sequence(items)) => open.extend(items.iter().rev()),
                _ => {}
            }
        }
        found
    }

    /// The aliases without an anchor below and including this node.
    pub fn unknown_aliases(self) -> Vec<Span> {
        let unresolved = |data: &&NodeData| matches!(data.kind, Kind::Unresolved);
        self.document
            .nodes
            .iter()
            .filter(unresolved)
            .map(|data| data.span)
            .collect()
    }
}

/// A collection that is still open while events arrive.
struct Open {
    id: u32,
    /// For mappings: the key that waits for its value.
    key: Option<u32>,
}

struct Builder<'f> {
    file: &'f SourceFile,
    tree: Tree,
    nodes: Vec<NodeData>,
    open: Vec<Open>,
    root: Option<u32>,
    anchors: Vec<(usize, u32)>,
}

impl<'f> Builder<'f> {
    fn new(file: &'f SourceFile) -> Self {
        let tree = Tree {
            documents: Vec::new(),
            comments: Vec::new(),
            problems: Vec::new(),
        };
        Self {
            file,
            tree,
            nodes: Vec::new(),
            open: Vec::new(),
            root: None,
            anchors: Vec::new(),
        }
    }

    fn run(mut self) -> Tree {
        let options = granit_parser::options! {
            emit_unresolved_aliases: true,
            // JSON has no limit on the length of a key; the text itself is bounded.
            simple_key_max_lookahead: 1 << 16,
            max_buffered_comment_events: 1 << 16,
        };
        let mut parser = Parser::new_from_str_with_options(self.file.text(), options);
        loop {
            match parser.next() {
                Some(Ok((event, span))) => {
                    let start = span.start.byte_offset().unwrap_or(0);
                    let end = span.end.byte_offset().unwrap_or(start);
                    self.take(event, start..end);
                }
                Some(Err(error)) => {
                    let at = error.marker().byte_offset().unwrap_or(0);
                    self.fail(at, error.info());
                    match parser.proceed_next_document() {
                        Ok(true) => {}
                        Ok(false) | Err(_) => break,
                    }
                }
                None => break,
            }
        }
        self.tree
    }

    fn fail(&mut self, at: usize, message: String) {
        self.reset();
        let text = self.file.text();
        let width = text
            .get(at..)
            .and_then(|rest| rest.chars().next())
            .map_or(0, char::len_utf8);
        // A problem at the end of the text is shown on its last character, where there is something to see.
        let at = if width == 0 {
            text.trim_end().len().saturating_sub(1)
        } else {
            at
        };
        self.tree.problems.push(SyntaxProblem {
            span: self.file.span(at..at + width.max(1)),
            message,
        });
    }

    fn reset(&mut self) {
        self.nodes.clear();
        self.open.clear();
        self.anchors.clear();
        self.root = None;
    }

    fn take(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::DocumentStart(..) => self.reset(),
            Event::DocumentEnd => self.finish_document(),
            Event::Comment(text, _) => {
                let span = self.file.span(range);
                self.tree.comments.push(Comment {
                    span,
                    text: text.into_owned(),
                });
            }
            Event::Scalar(value, style, anchor, _) => self.scalar(&value, style, anchor, range),
            Event::SequenceStart(_, anchor, _) => self.open(Kind::Sequence(Vec::new()), anchor, range),
            Event::MappingStart(_, anchor, _) => self.open(Kind::Mapping(Vec::new()), anchor, range),
            Event::SequenceEnd | Event::MappingEnd => self.close(range),
            Event::Alias(anchor) => {
                let target = self
                    .anchors
                    .iter()
                    .rev()
                    .find(|(id, _)| *id == anchor)
                    .map(|(_, node)| *node);
                let kind = target.map_or(Kind::Unresolved, Kind::Alias);
                self.leaf(kind, range);
            }
            Event::UnresolvedAlias(_) => {
                self.leaf(Kind::Unresolved, range);
            }
            _ => {}
        }
    }

    fn finish_document(&mut self) {
        let Some(root) = self.root.take() else { return };
        let nodes = std::mem::take(&mut self.nodes);
        self.tree.documents.push(Document { nodes, root });
        self.reset();
    }

    fn scalar(&mut self, value: &str, style: ScalarStyle, anchor: usize, range: Range<usize>) {
        let style = match style {
            ScalarStyle::Plain => Style::Plain,
            ScalarStyle::Literal => Style::Literal,
            ScalarStyle::Folded => Style::Folded,
            _ => Style::Quoted,
        };
        // A block scalar's range runs on to the next token; a plain one may hold trailing blanks.
        let text = self.file.text().get(range.clone()).unwrap_or("");
        let trimmed = range.start..range.start + text.trim_end().len();
        let range = if trimmed.is_empty() {
            self.waiting_key().unwrap_or(trimmed)
        } else {
            trimmed
        };
        let id = self.leaf(
            Kind::Scalar {
                value: value.into(),
                style,
            },
            range,
        );
        self.anchor(anchor, id);
    }

    /// The range of the key that waits for a value: where an empty value is shown.
    fn waiting_key(&self) -> Option<Range<usize>> {
        let key = self.open.last()?.key?;
        let span = self.nodes.get(key as usize)?.span;
        Some(span.start()..span.end())
    }

    fn add(&mut self, kind: Kind, range: Range<usize>) -> u32 {
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(NodeData {
            span: self.file.span(range),
            kind,
        });
        id
    }

    fn anchor(&mut self, anchor: usize, id: u32) {
        if anchor != 0 {
            self.anchors.push((anchor, id));
        }
    }

    fn leaf(&mut self, kind: Kind, range: Range<usize>) -> u32 {
        let id = self.add(kind, range);
        self.attach(id);
        id
    }

    fn open(&mut self, kind: Kind, anchor: usize, range: Range<usize>) {
        let id = self.add(kind, range);
        self.anchor(anchor, id);
        self.open.push(Open { id, key: None });
    }

    fn close(&mut self, range: Range<usize>) {
        let Some(Open { id, .. }) = self.open.pop() else {
            return;
        };
        let start = self
            .nodes
            .get(id as usize)
            .map_or(range.start, |data| data.span.start());
        let text = self.file.text().get(start..range.end).unwrap_or("");
        // The end event of a block collection lies at the next token: the last child ends it.
        let ends_itself = range.end > range.start && text.ends_with([']', '}']);
        let end = if ends_itself {
            range.end
        } else {
            self.last_child_end(id).unwrap_or(range.end)
        };
        let span = self.file.span(start..end);
        if let Some(data) = self.nodes.get_mut(id as usize) {
            data.span = span;
        }
        self.attach(id);
    }

    fn last_child_end(&self, id: u32) -> Option<usize> {
        let children: Vec<u32> = match &self.nodes.get(id as usize)?.kind {
            Kind::Mapping(pairs) => pairs.last().map(|(key, value)| vec![*key, *value])?,
            Kind::Sequence(items) => items.last().map(|item| vec![*item])?,
            _ => return None,
        };
        children
            .iter()
            .filter_map(|child| self.nodes.get(*child as usize))
            .map(|data| data.span.end())
            .max()
    }

    fn attach(&mut self, id: u32) {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(id);
            return;
        };
        match self.nodes.get_mut(parent.id as usize).map(|data| &mut data.kind) {
            Some(Kind::Sequence(items)) => items.push(id),
            Some(Kind::Mapping(pairs)) => match parent.key.take() {
                Some(key) => pairs.push((key, id)),
                None => parent.key = Some(id),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileId;

    fn parse(text: &str) -> (SourceFile, Tree) {
        let file = SourceFile::new(FileId::from_index(0), "test.yaml", text);
        let tree = Tree::parse(&file);
        (file, tree)
    }

    fn slice_at(text: &str, path: &[&str]) -> String {
        let (file, tree) = parse(text);
        let node = tree.documents[0].root().at(path).unwrap();
        file.slice(node.span()).to_owned()
    }

    #[test]
    fn spans_cover_exactly_the_value_with_crlf_bom_comments_and_wide_text() {
        let text = "\u{feff}# é\r\na: 漢字 # note\r\nb:\r\n  - 'x y'\r\n  - {c: 12}\r\n";
        assert_eq!(slice_at(text, &["a"]), "漢字");
        let (file, tree) = parse(text);
        let items: Vec<_> = tree.documents[0].root().get("b").unwrap().items().collect();
        assert_eq!(file.slice(items[0].span()), "'x y'");
        assert_eq!(file.slice(items[1].span()), "{c: 12}");
        assert_eq!(file.slice(items[1].get("c").unwrap().span()), "12");
        assert_eq!(
            file.slice(tree.documents[0].root().get("b").unwrap().span()),
            "- 'x y'\r\n  - {c: 12}"
        );
        assert_eq!(tree.comments.len(), 2);
        assert_eq!(file.slice(tree.comments[1].span), "# note");
    }

    #[test]
    fn an_empty_value_is_shown_at_its_key() {
        assert_eq!(slice_at("a:\n  model:\n  b: 1\n", &["a", "model"]), "model");
    }

    #[test]
    fn a_broken_document_does_not_hide_its_neighbours() {
        let (_, tree) = parse("a: 1\n---\nb: [1, 2\n---\nc: 3\n---\n\"\n---\nd: 4\n");
        assert_eq!(tree.problems.len(), 2);
        let keys: Vec<_> = tree
            .documents
            .iter()
            .map(|d| d.root().entries()[0].0.text().unwrap())
            .collect();
        assert_eq!(keys, ["a", "c", "d"]);
    }

    #[test]
    fn merges_resolve_own_keys_first_and_repeated_keys_are_all_reported() {
        let text =
            "base: &base {x: 1, y: 2}\nmore: &more {y: 5, z: 6}\nuse: {<<: [*base, *more], x: 9, x: 10}\n";
        let (_, tree) = parse(text);
        let node = tree.documents[0].root().get("use").unwrap();
        let entries: Vec<_> = node
            .entries()
            .iter()
            .map(|(k, v)| (k.text().unwrap(), v.text().unwrap()))
            .collect();
        assert_eq!(entries, [("x", "10"), ("y", "2"), ("z", "6")]);
        assert_eq!(node.repeated_keys().len(), 1);
        assert_eq!(node.get("z").unwrap().as_u64(), Some(6));
    }

    #[test]
    fn alias_bombs_and_cycles_cost_no_more_than_their_text() {
        let mut bomb = String::from("a0: &a0 [x]\n");
        for level in 1..40 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb = format!("{bomb}a{level}: &a{level} [{aliases}]\n");
        }
        let (_, tree) = parse(&bomb);
        assert_eq!(tree.documents.len(), 1);
        let (_, tree) = parse("a: &a {<<: *a, b: [*a]}\nc: *missing\n");
        let root = tree.documents[0].root();
        assert_eq!(root.get("a").unwrap().entries().len(), 1);
        assert_eq!(root.unknown_aliases().len(), 1);
    }

    #[test]
    fn deep_nesting_is_a_problem_not_a_crash() {
        let (_, tree) = parse(&"[".repeat(100_000));
        assert_eq!((tree.documents.len(), tree.problems.len()), (0, 1));
        let (_, tree) = parse(&"- ".repeat(20_000));
        assert_eq!((tree.documents.len(), tree.problems.len()), (0, 1));
    }

    #[test]
    fn numbers_booleans_and_null_follow_the_plain_scalar_rules() {
        let (_, tree) = parse("{a: 12, b: '12', c: null, d: 'null', e: NaN, f: true, g: '', h: -3, i: 1e3}");
        let root = tree.documents[0].root();
        assert_eq!(root.get("a").unwrap().as_u64(), Some(12));
        assert_eq!(root.get("b").unwrap().as_u64(), Some(12));
        assert!(root.get("c").unwrap().is_null());
        assert_eq!(root.get("d").unwrap().text(), Some("null"));
        assert_eq!(root.get("e").unwrap().as_f64(), None);
        assert_eq!(root.get("f").unwrap().as_bool(), Some(true));
        assert_eq!(root.get("g").unwrap().text(), Some(""));
        assert_eq!(root.get("h").unwrap().as_u64(), None);
        assert_eq!(root.get("i").unwrap().as_f64(), Some(1000.0));
    }
}
