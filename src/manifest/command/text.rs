//! A text that knows the place of each of its characters.
//!
//! Values reach a command by several ways: as they stand, through escapes and folding of YAML, through variables
//! with their own places. A [`Text`] keeps all of them, so that a word cut out of it can be pointed at: where it
//! was set if it is wholly one variable's, else where it is written.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::fact::{Fact, Origin};
use crate::source::map::ScalarMap;
use crate::source::tree::Node;
use crate::source::{SourceFile, Sources, Span};

/// A text with the place of each of its characters.
#[derive(Debug, Clone, Default)]
pub struct Text {
    value: String,
    /// In order, without gaps.
    pieces: Vec<Piece>,
    /// Where the whole text is written; for a text without characters the only place it has.
    whole: Option<Place>,
}

/// Characters that share one way to their place.
#[derive(Debug, Clone)]
struct Piece {
    /// One past its last byte in the text.
    end: usize,
    place: Option<Place>,
    /// The reference that brought the characters here, if one did.
    mention: Option<Arc<Mention>>,
    /// A reference without a value: later readers leave it as it is.
    sealed: bool,
}

/// Characters of a file.
#[derive(Debug, Clone)]
struct Place {
    file: Arc<SourceFile>,
    range: Range<usize>,
    /// Each byte of the piece is the byte of the file at the same distance.
    linear: bool,
}

/// Where a reference to a variable is written.
#[derive(Debug)]
struct Mention {
    place: Option<Place>,
    outer: Option<Arc<Mention>>,
}

impl Place {
    /// The place of a part of a piece, `part` measured from the piece's first byte.
    fn part(&self, part: Range<usize>) -> Range<usize> {
        if !self.linear {
            return self.range.clone();
        }
        let end = self.range.end.min(self.range.start.saturating_add(part.end));
        self.range.start.saturating_add(part.start).min(end)..end
    }
}

impl Mention {
    /// The characters of the reference, or of the one that led to it.
    fn written(&self) -> Option<(&Arc<SourceFile>, Range<usize>)> {
        match (&self.place, &self.outer) {
            (Some(place), _) => Some((&place.file, place.range.clone())),
            (None, Some(outer)) => outer.written(),
            (None, None) => None,
        }
    }

    /// The mentions that lead to one, outermost first.
    fn chain(innermost: Option<&Arc<Self>>) -> Vec<&Arc<Self>> {
        let mut chain = Vec::new();
        let mut next = innermost;
        while let Some(mention) = next {
            chain.push(mention);
            next = mention.outer.as_ref();
        }
        chain.reverse();
        chain
    }
}

/// Longest way of references that is kept; what lies deeper is shown at this depth.
const MAX_DEPTH: usize = 16;

impl Text {
    /// The text of a scalar, each character at its place through quotes, escapes, folding and indentation.
    pub fn of_node(sources: &Sources, node: Node<'_>) -> Self {
        let value = node.text().unwrap_or("");
        let Some(file) = sources.get(node.span().file()) else {
            return Self::literal(value);
        };
        Self::mapped(&file, node.span(), value)
    }

    /// A text from a value and its characters. Where the two differ the value is read as a scalar of YAML.
    pub fn of_fact(sources: &Sources, fact: &Fact<String>) -> Self {
        let place = fact
            .span()
            .and_then(|span| Some((sources.get(span.file())?, span)));
        match place {
            Some((file, span)) => Self::mapped(&file, span, &fact.value),
            None => Self::literal(&fact.value),
        }
    }

    /// A whole file.
    pub fn of_source(file: &Arc<SourceFile>) -> Self {
        Self::linear(file, 0, file.text())
    }

    /// A text that stands in no file.
    pub fn literal(value: &str) -> Self {
        let mut text = Self::default();
        text.append(value, None, None, false);
        text
    }

    fn linear(file: &Arc<SourceFile>, start: usize, value: &str) -> Self {
        let place = Place {
            file: Arc::clone(file),
            range: start..start + value.len(),
            linear: true,
        };
        let mut text = Self {
            whole: Some(Place {
                linear: false,
                ..place.clone()
            }),
            ..Self::default()
        };
        text.append(value, Some(place), None, false);
        text
    }

    fn mapped(file: &Arc<SourceFile>, span: Span, value: &str) -> Self {
        if file.slice(span) == value {
            return Self::linear(file, span.start(), value);
        }
        let map = ScalarMap::new(file, span, value);
        let mut text = Self {
            whole: Some(Place {
                file: Arc::clone(file),
                range: span.start()..span.end(),
                linear: false,
            }),
            ..Self::default()
        };
        for (at, c) in value.char_indices() {
            let found = map.span(file, at..at + c.len_utf8());
            let place = Place {
                file: Arc::clone(file),
                range: found.start()..found.end(),
                linear: found.len() == c.len_utf8(),
            };
            text.append(c.encode_utf8(&mut [0; 4]), Some(place), None, false);
        }
        text
    }

    /// The characters.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// True for a text without characters.
    pub fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Where it is set, or else where it is written.
    pub fn span(&self) -> Option<Span> {
        self.place(0..self.value.len())
    }

    /// The whole text with its place.
    pub fn fact(&self) -> Fact<String> {
        self.part(0..self.value.len())
    }

    /// A part of the text, in bytes, with its place: the characters of the variable's value for a part that is
    /// wholly one variable's, else the characters where the part is written.
    pub fn part(&self, range: Range<usize>) -> Fact<String> {
        let value = self.value.get(range.clone()).unwrap_or("").to_owned();
        Fact {
            value,
            origin: self
                .place(range)
                .map_or_else(|| Origin::Derived(Vec::new()), Origin::At),
        }
    }

    /// The place of a part of the text.
    pub fn place(&self, range: Range<usize>) -> Option<Span> {
        let place = self.locate(&range)?;
        Some(place.file.span(place.range))
    }

    fn locate(&self, range: &Range<usize>) -> Option<Place> {
        let parts: Vec<(&Piece, Range<usize>)> = self.overlapping(range).collect();
        let chains: Vec<Vec<&Arc<Mention>>> = parts
            .iter()
            .map(|(piece, _)| Mention::chain(piece.mention.as_ref()))
            .collect();
        let shared = shared_depth(&chains);
        let mut found: Option<Place> = None;
        for ((piece, part), chain) in parts.iter().zip(&chains) {
            // What no file holds (a sum, a word of our own) stands where it is referred to.
            let place = match (chain.get(shared), &piece.place) {
                (None, Some(place)) => Some((&place.file, place.part(part.clone()))),
                (Some(mention), _) => mention.written(),
                (None, None) => chain.last().and_then(|mention| mention.written()),
            };
            let Some((file, range)) = place else { continue };
            match &mut found {
                Some(so_far) if so_far.file.id() == file.id() => {
                    so_far.range = so_far.range.start.min(range.start)..so_far.range.end.max(range.end);
                }
                Some(_) => {}
                None => {
                    found = Some(Place {
                        file: Arc::clone(file),
                        range,
                        linear: false,
                    });
                }
            }
        }
        found.or_else(|| self.whole.clone())
    }

    /// The pieces that `range` touches, each with the touched part measured from the piece's first byte.
    fn overlapping(&self, range: &Range<usize>) -> impl Iterator<Item = (&Piece, Range<usize>)> {
        let range = range.clone();
        let first = self.pieces.partition_point(|piece| piece.end <= range.start);
        let mut start = first
            .checked_sub(1)
            .and_then(|at| self.pieces.get(at))
            .map_or(0, |piece| piece.end);
        let last = range.end;
        self.pieces
            .iter()
            .skip(first)
            .map(move |piece| {
                let begin = start;
                start = piece.end;
                (piece, begin)
            })
            .take_while(move |(_, begin)| *begin < last)
            .map(move |(piece, begin)| {
                let from = range.start.max(begin) - begin;
                (piece, from..(range.end.min(piece.end) - begin).max(from))
            })
    }

    /// A part of the text as a text.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut part = Self {
            whole: if range.is_empty() {
                self.whole.clone()
            } else {
                None
            },
            ..Self::default()
        };
        part.push(self, range);
        part
    }

    /// Adds a part of another text.
    pub fn push(&mut self, other: &Self, range: Range<usize>) {
        self.push_with(other, range, None, false);
    }

    /// Adds the value of a reference that stands at `range` of `written`.
    pub fn push_value(&mut self, value: &Self, written: &Self, range: &Range<usize>) {
        let mention = written.mention(range);
        self.push_with(value, 0..value.value.len(), Some(&mention), false);
    }

    /// Adds a reference without a value, as it is written: nobody after reads it as one again.
    pub fn push_sealed(&mut self, written: &Self, range: Range<usize>) {
        self.push_with(written, range, None, true);
    }

    /// One past the end of the reference without a value that begins at a byte.
    pub(super) fn sealed_until(&self, at: usize) -> Option<usize> {
        let mut end = None;
        let first = self.pieces.partition_point(|piece| piece.end <= at);
        for piece in self.pieces.iter().skip(first).take_while(|piece| piece.sealed) {
            end = Some(piece.end);
        }
        end
    }

    /// The first byte from `at` on, before `end`, where a reference without a value begins; else `end`.
    pub(super) fn next_sealed(&self, at: usize, end: usize) -> usize {
        let first = self.pieces.partition_point(|piece| piece.end <= at);
        let mut start = at;
        for piece in self.pieces.iter().skip(first) {
            if piece.sealed || start >= end {
                break;
            }
            start = piece.end;
        }
        start.min(end)
    }

    /// True when a part of the text is a reference without a value.
    pub(super) fn has_sealed(&self) -> bool {
        self.pieces.iter().any(|piece| piece.sealed)
    }

    /// The reference that stands at `range`.
    fn mention(&self, range: &Range<usize>) -> Arc<Mention> {
        let outer = self
            .overlapping(range)
            .next()
            .and_then(|(piece, _)| piece.mention.clone());
        Arc::new(Mention {
            place: self.locate(range),
            outer,
        })
    }

    fn push_with(&mut self, other: &Self, range: Range<usize>, under: Option<&Arc<Mention>>, seal: bool) {
        let mut moved = HashMap::new();
        let mut at = range.start;
        for (piece, part) in other.overlapping(&range) {
            let len = part.len();
            let value = other.value.get(at..at + len).unwrap_or("");
            at += len;
            let place = piece.place.as_ref().map(|place| Place {
                file: Arc::clone(&place.file),
                range: place.part(part),
                linear: place.linear,
            });
            let mention = match under {
                None => piece.mention.clone(),
                Some(under) => Some(below(under, piece.mention.as_ref(), &mut moved)),
            };
            self.append(value, place, mention, seal || piece.sealed);
        }
        if self.whole.is_none() {
            self.whole = match under {
                Some(mention) => mention.place.clone(),
                None => other.locate(&range),
            };
        }
    }

    /// Adds characters, to the last piece where they go on from it.
    fn append(&mut self, value: &str, place: Option<Place>, mention: Option<Arc<Mention>>, sealed: bool) {
        if value.is_empty() {
            return;
        }
        self.value.push_str(value);
        let end = self.value.len();
        if let Some(last) = self.pieces.last_mut()
            && last.sealed == sealed
            && same(last.mention.as_ref(), mention.as_ref())
            && goes_on(last.place.as_mut(), place.as_ref())
        {
            last.end = end;
            return;
        }
        self.pieces.push(Piece {
            end,
            place,
            mention,
            sealed,
        });
    }
}

fn same(one: Option<&Arc<Mention>>, other: Option<&Arc<Mention>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// Makes `last` longer by `next` where the one follows the other in the file.
fn goes_on(last: Option<&mut Place>, next: Option<&Place>) -> bool {
    match (last, next) {
        (None, None) => true,
        (Some(last), Some(next)) => {
            let follows = last.linear
                && next.linear
                && Arc::ptr_eq(&last.file, &next.file)
                && last.range.end == next.range.start;
            if follows {
                last.range.end = next.range.end;
            }
            follows
        }
        _ => false,
    }
}

/// How many mentions, from the outermost, all chains have in common.
fn shared_depth(chains: &[Vec<&Arc<Mention>>]) -> usize {
    let Some(first) = chains.first() else { return 0 };
    (0..first.len())
        .take_while(|depth| {
            let mine = first.get(*depth);
            chains.iter().all(|chain| match (mine, chain.get(*depth)) {
                (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
                _ => false,
            })
        })
        .count()
}

/// The same chain of mentions with `under` outside of it.
fn below(
    under: &Arc<Mention>,
    innermost: Option<&Arc<Mention>>,
    moved: &mut HashMap<*const Mention, Arc<Mention>>,
) -> Arc<Mention> {
    let mut outer = Arc::clone(under);
    let room = MAX_DEPTH.saturating_sub(Mention::chain(Some(under)).len());
    for mention in Mention::chain(innermost).into_iter().take(room) {
        let moved = moved.entry(Arc::as_ptr(mention)).or_insert_with(|| {
            Arc::new(Mention {
                place: mention.place.clone(),
                outer: Some(Arc::clone(&outer)),
            })
        });
        outer = Arc::clone(moved);
    }
    outer
}
