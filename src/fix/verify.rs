//! Holds a fixed text against the one before: only what the edits say may differ.
//!
//! In: a text and sorted edits that do not overlap. Out: the new text, or why it is refused. Both texts are read as
//! trees and walked side by side; a value may differ where an edit lies in it, an entry may go where an edit
//! deletes it and come where an edit inserts it, and a comment may go only with the lines that go.

use crate::finding::Edit;
use crate::source::tree::{Node, Shape, Style, Tree};
use crate::source::{SourceFile, Span};

/// The most pairs of nodes compared; a file larger than that is not fixed.
const MAX_NODES: usize = 2_000_000;

/// The text with the edits made, if that changes nothing else.
pub(super) fn verified(file: &SourceFile, edits: &[Edit]) -> Result<String, String> {
    let (text, inserted) = edited(file, edits);
    let new = SourceFile::new(file.id(), file.path(), text);
    let (before, after) = (file.tree(), Tree::parse(&new));
    let refused = |why: &str| Err(format!("a fix of {} was not made: {why}", file.path()));
    if let Some(problem) = after.problems.get(before.problems.len()) {
        return refused(&format!("the file would not be valid YAML, {}", problem.message));
    }
    if before.documents.len() != after.documents.len() {
        return refused("the file would have another number of documents");
    }
    let kept = before
        .comments
        .iter()
        .filter(|comment| !deleted(edits, comment.span));
    if !kept.map(|c| &c.text).eq(after.comments.iter().map(|c| &c.text)) {
        return refused("a comment would change");
    }
    let mut walk = Walk {
        old: file,
        edits,
        inserted: &inserted,
        nodes: 0,
    };
    for (before, after) in before.documents.iter().zip(&after.documents) {
        if let Err(why) = walk.same(before.root(), after.root(), 0) {
            return refused(&why);
        }
    }
    Ok(new.text().to_owned())
}

/// The text with the edits made, and where in it what they insert stands.
fn edited(file: &SourceFile, edits: &[Edit]) -> (String, Vec<std::ops::Range<usize>>) {
    let mut text = String::with_capacity(file.text().len());
    let mut inserted = Vec::with_capacity(edits.len());
    let mut at = 0;
    for edit in edits {
        text.push_str(file.text().get(at..edit.span.start()).unwrap_or(""));
        let start = text.len();
        text.push_str(&edit.text);
        inserted.push(start..text.len());
        at = edit.span.end();
    }
    text.push_str(file.text().get(at..).unwrap_or(""));
    (text, inserted)
}

/// True where an edit takes the characters away. Edits are sorted and do not overlap, so one can only be the last
/// that begins before them.
fn deleted(edits: &[Edit], span: Span) -> bool {
    let after = edits.partition_point(|edit| edit.span.start() <= span.start());
    let last = after.checked_sub(1).and_then(|at| edits.get(at));
    !span.is_empty() && last.is_some_and(|edit| edit.text.is_empty() && span.end() <= edit.span.end())
}

struct Walk<'w> {
    old: &'w SourceFile,
    edits: &'w [Edit],
    /// Where in the new text the edits' texts stand.
    inserted: &'w [std::ops::Range<usize>],
    nodes: usize,
}

impl Walk<'_> {
    /// Compares a node with what it became.
    fn same(&mut self, old: Node<'_>, new: Node<'_>, depth: usize) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > 200 {
            return Err("the file is too large to compare".to_owned());
        }
        if old.mention() != old.span() {
            return self.alias(old, new);
        }
        if old.shape() != new.shape() {
            return Err(format!(
                "{} would become {}",
                old.shape().words(),
                new.shape().words()
            ));
        }
        match old.shape() {
            Shape::Mapping => self.mappings(old, new, depth),
            Shape::Sequence => self.sequences(old, new, depth),
            Shape::Scalar => self.scalars(old, new),
            Shape::Null | Shape::UnknownAlias => Ok(()),
        }
    }

    /// An alias stays one; what it stands for must not be what an edit changes, since that would change here too.
    fn alias(&self, old: Node<'_>, new: Node<'_>) -> Result<(), String> {
        if !self.edits_of(old.span()).is_empty() {
            return Err("the value is used in another place too, through an alias".to_owned());
        }
        if new.mention() == new.span() {
            return Err("an alias would change".to_owned());
        }
        Ok(())
    }

    /// The edits inside of some characters, those at their two ends included.
    fn edits_of(&self, span: Span) -> &[Edit] {
        let start = self
            .edits
            .partition_point(|edit| edit.span.start() < span.start());
        let end = self.edits.partition_point(|edit| edit.span.end() <= span.end());
        self.edits.get(start..end).unwrap_or(&[])
    }

    fn mappings(&mut self, old: Node<'_>, new: Node<'_>, depth: usize) -> Result<(), String> {
        let mut after = new.pairs().peekable();
        for (key, value) in old.pairs() {
            if deleted(self.edits, key.mention()) {
                continue;
            }
            self.skip_inserted(&mut after, |(key, _)| *key);
            let Some((new_key, new_value)) = after.next() else {
                return Err(format!("`{}` would be lost", key.text().unwrap_or("a key")));
            };
            self.same(key, new_key, depth + 1)?;
            self.same(value, new_value, depth + 1)?;
        }
        self.skip_inserted(&mut after, |(key, _)| *key);
        match after.next() {
            Some((key, _)) => Err(format!("`{}` would be new", key.text().unwrap_or("a key"))),
            None => Ok(()),
        }
    }

    fn sequences(&mut self, old: Node<'_>, new: Node<'_>, depth: usize) -> Result<(), String> {
        let mut after = new.items().peekable();
        for item in old.items() {
            if deleted(self.edits, item.mention()) {
                continue;
            }
            self.skip_inserted(&mut after, |item| *item);
            let Some(new_item) = after.next() else {
                return Err("an item of a list would be lost".to_owned());
            };
            self.same(item, new_item, depth + 1)?;
        }
        self.skip_inserted(&mut after, |item| *item);
        match after.next() {
            Some(_) => Err("a list would have another item".to_owned()),
            None => Ok(()),
        }
    }

    /// Passes over what stands wholly in an inserted text.
    fn skip_inserted<'t, T>(
        &self,
        items: &mut std::iter::Peekable<impl Iterator<Item = T>>,
        node: impl Fn(&T) -> Node<'t>,
    ) {
        let is_new = |item: &T| {
            let span = node(item).mention();
            let after = self.inserted.partition_point(|range| range.start <= span.start());
            let last = after.checked_sub(1);
            let pair = last.and_then(|at| self.inserted.get(at).zip(self.edits.get(at)));
            pair.is_some_and(|(range, edit)| edit.span.is_empty() && span.end() <= range.end)
        };
        while items.next_if(|item| is_new(item)).is_some() {}
    }

    fn scalars(&self, old: Node<'_>, new: Node<'_>) -> Result<(), String> {
        let edits = self.edits_of(old.span());
        let (before, after) = (old.text().unwrap_or(""), new.text().unwrap_or(""));
        // An insertion right before or after a value need be no part of it.
        if before == after && edits.iter().all(|edit| edit.span.is_empty()) {
            return Ok(());
        }
        if edits.iter().any(|edit| edit.span == old.span()) && !after.trim().is_empty() {
            return Ok(());
        }
        let rewritten = self.rewritten(old, edits);
        // Where lines are folded into one, a line that goes takes its blank along.
        let folds = old.style() != Some(Style::Literal) && self.old.slice(old.span()).contains('\n');
        let alike =
            |text: &String| text == after || (folds && text.split_whitespace().eq(after.split_whitespace()));
        if rewritten.is_some_and(|text| alike(&text)) {
            return Ok(());
        }
        // Insertions at its two ends may be neighbours of the value, where others are parts of it.
        let (start, end) = (old.span().start(), old.span().end());
        let at_end = |edit: &&Edit| edit.span.is_empty() && [start, end].contains(&edit.span.start());
        let inner: Vec<Edit> = edits.iter().filter(|edit| !at_end(edit)).cloned().collect();
        if self.rewritten(old, &inner).is_some_and(|text| alike(&text)) {
            return Ok(());
        }
        Err(format!(
            "`{}` would become `{}`",
            shortened(before),
            shortened(after)
        ))
    }

    /// The value with the edits made in the value instead of in its characters.
    fn rewritten(&self, old: Node<'_>, edits: &[Edit]) -> Option<String> {
        let value = old.text()?;
        let map = crate::source::map::ScalarMap::new(self.old, old.span(), value);
        let mut text = String::new();
        let mut at = 0;
        for edit in edits {
            let (start, end) = (map.offset(edit.span.start())?, map.offset(edit.span.end())?);
            text.push_str(value.get(at..start)?);
            text.push_str(&edit.text);
            at = end;
        }
        text.push_str(value.get(at..)?);
        Some(text)
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
        None => text.to_owned(),
    }
}
