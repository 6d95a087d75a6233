//! What a rule's `fix` changes, as edits on the characters of one finding.
//!
//! In: a checked fix and the view that its rule speaks of. Out: edits that keep quotes, indentation and the style of
//! the list or mapping they change, or nothing where the place is written in a way that no edit is sure of.
//! Nothing here writes: [`crate::fix`] makes the edits and holds the result against the text before.

use std::sync::Arc;

use super::condition::{Condition, Formula};
use super::facts::{FactDefinition, View};
use crate::engine::Engine;
use crate::engine::flags::FlagTable;
use crate::fact::{Fact, Origin};
use crate::finding::{Edit, Fix};
use crate::manifest::{Deployment, Format};
use crate::source::tree::{Node, Shape, Style};
use crate::source::{SourceFile, Sources, Span};

/// A change that mends a finding.
#[derive(Debug)]
pub struct FixTemplate {
    /// Proposed only where this holds.
    pub when: Option<Condition>,
    /// What changes.
    pub change: Change,
    /// True when it cannot change what the author meant.
    pub safe: bool,
}

/// What a fix changes.
#[derive(Debug)]
pub enum Change {
    /// The characters that state a fact get another value.
    Set(&'static FactDefinition, Formula),
    /// The flag with its values, or the key, that states a fact goes.
    Remove(&'static FactDefinition),
    /// The flag that states a fact gets another name.
    Rename(&'static FactDefinition, String),
    /// A flag of the engine is added behind the others.
    InsertArg(String, Option<Formula>),
    /// A key is added beside the one that states a fact; without one, beside those of the deployment.
    InsertKey(String, Formula, Option<&'static FactDefinition>),
}

/// The first change that can be made.
pub(crate) fn propose(view: &View<'_>, fixes: &[FixTemplate]) -> Option<Fix> {
    fixes.iter().find_map(|fix| {
        if fix.when.as_ref().is_some_and(|when| !when.holds(view)) {
            return None;
        }
        let edits = edits(view, &fix.change)?;
        if edits.iter().any(|edit| is_there(view, edit)) {
            return None;
        }
        Some(Fix {
            safe: fix.safe,
            edits,
        })
    })
}

/// True where what would be inserted stands there already: whatever reads the file did not take it for what it is, and
/// another one would not help.
fn is_there(view: &View<'_>, edit: &Edit) -> bool {
    let Some(file) = view.sources.get(edit.span.file()) else {
        return true;
    };
    let (before, after) = file
        .text()
        .split_at_checked(edit.span.start())
        .unwrap_or_default();
    let text = edit.text.trim_end();
    edit.span.is_empty() && (after.starts_with(text) || before.trim_end().ends_with(text))
}

fn edits(view: &View<'_>, change: &Change) -> Option<Vec<Edit>> {
    match change {
        Change::Set(fact, to) => set(view, fact, &to.text(view)?),
        Change::Remove(fact) => remove(view, fact),
        Change::Rename(fact, to) => rename(view, fact, to),
        Change::InsertArg(flag, value) => {
            let value = match value {
                Some(value) => Some(value.text(view)?),
                None => None,
            };
            insert_arg(view, flag, value.as_deref())
        }
        Change::InsertKey(key, value, beside) => insert_key(view, key, &value.text(view)?, *beside),
    }
}

/// The characters that state a fact themselves.
fn stated(view: &View<'_>, fact: &FactDefinition) -> Option<Span> {
    match fact.origin(view)? {
        Origin::At(span) if !span.is_empty() => Some(*span),
        _ => None,
    }
}

fn set(view: &View<'_>, fact: &FactDefinition, value: &str) -> Option<Vec<Edit>> {
    let span = stated(view, fact)?;
    let file = view.sources.get(span.file())?;
    let scalar = Place::of(&file, span)?;
    let old = file.slice(span);
    let text = if scalar.node.span() != span {
        word(value)?
    } else if Argument::of(view, fact).is_some() && !is_special(old) {
        as_text(&file, value, quote_of(old))?
    } else {
        quoted(&file, value, quote_of(old))?
    };
    // A value that is right already was not read as the author of the rule thought.
    (file.slice(span) != text).then(|| vec![Edit { span, text }])
}

fn rename(view: &View<'_>, fact: &FactDefinition, to: &str) -> Option<Vec<Edit>> {
    let argument = Argument::of(view, fact)?;
    let flag = argument.words.first()?;
    let name = flag.value.split('=').next()?;
    let span = flag.span()?;
    let file = view.sources.get(span.file())?;
    let start = span.start() + file.slice(span).find(name)?;
    let span = file.span(start..start + name.len());
    (name != to).then(|| {
        let text = to.to_owned();
        vec![Edit { span, text }]
    })
}

/// A flag and its values among a deployment's arguments.
struct Argument<'a> {
    words: &'a [Fact<String>],
}

impl<'a> Argument<'a> {
    /// The argument that states a fact; `None` where none does.
    fn of(view: &View<'a>, fact: &FactDefinition) -> Option<Self> {
        let span = stated(view, fact)?;
        let deployment = view.deployment?;
        let holds = |word: &Fact<String>| word.span().is_some_and(|word| contains(word, span));
        let at = deployment.args.iter().position(holds)?;
        let is_flag = |word: &Fact<String>| {
            word.value.starts_with('-') && !word.value.starts_with(|c: char| c.is_ascii_digit())
        };
        let values = |from: usize| {
            let rest = deployment.args.get(from..).unwrap_or(&[]);
            rest.iter()
                .take_while(|word| !word.value.starts_with('-'))
                .count()
        };
        if deployment.args.get(at).is_some_and(is_flag) {
            return Some(Self {
                words: deployment.args.get(at..=at)?,
            });
        }
        let flag = deployment.args.get(..at)?.iter().rposition(is_flag)?;
        let engine = deployment.engine.as_ref().map(|engine| engine.value);
        let name = &deployment.args.get(flag)?.value;
        let end = if takes_many(engine, name) {
            at + values(at)
        } else {
            at + 1
        };
        Some(Self {
            words: deployment.args.get(flag..end)?,
        })
    }
}

fn takes_many(engine: Option<Engine>, name: &str) -> bool {
    engine.is_some_and(|engine| FlagTable::of(engine).takes_many(name))
}

fn contains(outer: Span, inner: Span) -> bool {
    outer.file() == inner.file() && outer.start() <= inner.start() && inner.end() <= outer.end()
}

fn remove(view: &View<'_>, fact: &FactDefinition) -> Option<Vec<Edit>> {
    let Some(argument) = Argument::of(view, fact) else {
        return remove_key(view, stated(view, fact)?);
    };
    remove_words(view.sources, argument.words)
}

/// Takes words that stand behind one another out of a command line.
pub(crate) fn remove_words(sources: &Sources, words: &[Fact<String>]) -> Option<Vec<Edit>> {
    let spans: Option<Vec<Span>> = words.iter().map(Fact::span).collect();
    let (first, last) = (*spans.as_ref()?.first()?, *spans.as_ref()?.last()?);
    let file = sources.get(first.file())?;
    let (one, first) = Place::of_word(&file, first)?;
    let (other, last) = Place::of_word(&file, last)?;
    if one.node.span() == other.node.span() && one.node.span() != first {
        return Some(vec![cut_words(&file, one.node, first.start(), last.end())?]);
    }
    let (items, from) = one.item()?;
    let (same, to) = other.item()?;
    if items.span() != same.span() || one.node.span() != first || other.node.span() != last {
        return None;
    }
    let items: Vec<Span> = items.items().map(Node::mention).collect();
    if from == 0 && to + 1 == items.len() {
        return Some(vec![one.up(1)?.cut_pair(&file)?]);
    }
    Some(vec![cut_items(&file, &items, from, to)?])
}

fn remove_key(view: &View<'_>, span: Span) -> Option<Vec<Edit>> {
    let file = view.sources.get(span.file())?;
    let place = Place::of(&file, span)?;
    // An item of a list is a value, and which key it stands under would have to be guessed.
    (place.node.span() == span).then_some(())?;
    place.cut_pair(&file).map(|edit| vec![edit])
}

/// Words of a text of several, with the blank before them; a line that held nothing else goes whole.
fn cut_words(file: &SourceFile, scalar: Node<'_>, start: usize, end: usize) -> Option<Edit> {
    let text = file.text();
    let line = file.line_start(file.line_of(start));
    let before = text.get(line..start)?;
    let after = text.get(end..)?;
    let rest = after.split('\n').next().unwrap_or("");
    let continued = rest.trim() == "\\" || rest.trim().is_empty();
    let is_block = matches!(scalar.style(), Some(Style::Literal | Style::Folded));
    if before.trim().is_empty() && continued && is_block {
        if rest.trim() == "\\" {
            return Some(cut(file, line, end + (rest.len() + 1).min(after.len())));
        }
        // The line before a last one goes on no longer: its `\` would take in what follows.
        let above = text.get(..line)?.trim_end_matches(['\n', '\r']);
        let kept = above
            .trim_end()
            .strip_suffix('\\')
            .map_or(above.len(), |kept| kept.trim_end().len());
        return Some(cut(file, kept, end + rest.trim_end_matches('\r').len()));
    }
    let blanks = before.len() - before.trim_end_matches([' ', '\t']).len();
    if blanks > 0 && start - blanks > scalar.span().start() {
        return Some(cut(file, start - blanks, end));
    }
    let following = after.len() - after.trim_start_matches([' ', '\t']).len();
    Some(cut(file, start, end + following))
}

fn cut(file: &SourceFile, start: usize, end: usize) -> Edit {
    let (span, text) = (file.span(start..end), String::new());
    Edit { span, text }
}

/// Items of a list: whole lines of a block, or what stands between commas.
fn cut_items(file: &SourceFile, items: &[Span], from: usize, to: usize) -> Option<Edit> {
    let (first, last) = (items.get(from)?, items.get(to)?);
    if is_block_item(file, *first) {
        let start = file.line_start(file.line_of(first.start()));
        let end = file.line_start(file.line_of(last.end()) + 1);
        return Some(cut(file, start, end));
    }
    let previous = from.checked_sub(1).and_then(|at| items.get(at));
    let range = match (items.get(to + 1), previous) {
        (Some(next), _) => first.start()..next.start(),
        (None, Some(previous)) => previous.end()..last.end(),
        (None, None) => return None,
    };
    // A comment between items is about what stays as likely as about what goes.
    let comment = between(file, range.start, range.end)?.contains('#');
    (!comment).then(|| cut(file, range.start, range.end))
}

fn between(file: &SourceFile, start: usize, end: usize) -> Option<&str> {
    file.text().get(start..end)
}

/// True where an item has its line to itself behind `- `.
fn is_block_item(file: &SourceFile, item: Span) -> bool {
    let line = file.line_start(file.line_of(item.start()));
    between(file, line, item.start()).is_some_and(|before| before.trim() == "-")
}

/// A value or a key in its tree, with what is around it.
struct Place<'t> {
    node: Node<'t>,
    /// From the root down to the node: each collection, and the position of the child that leads on.
    path: Vec<(Node<'t>, usize)>,
}

impl<'t> Place<'t> {
    /// The scalar that holds some characters.
    fn of(file: &'t SourceFile, span: Span) -> Option<Self> {
        let tree = file.tree();
        let at = tree
            .documents
            .partition_point(|document| document.root().span().start() <= span.start());
        let mut node = tree.documents.get(at.checked_sub(1)?)?.root();
        let mut path = Vec::new();
        loop {
            let begins = |child: &Node<'_>| child.mention().start() <= span.start();
            let next = match node.shape() {
                Shape::Mapping => node
                    .pairs()
                    .enumerate()
                    .take_while(|(_, (key, _))| begins(key))
                    .last()
                    .map(|(at, (_, value))| (at, value)),
                Shape::Sequence => node
                    .items()
                    .enumerate()
                    .take_while(|(_, item)| begins(item))
                    .last(),
                _ => break,
            };
            let (at, child) = next?;
            path.push((node, at));
            let key = node.pairs().nth(at).map(|(key, _)| key);
            if let Some(key) = key.filter(|key| contains(key.span(), span) && !contains(child.span(), span)) {
                return Some(Self { node: key, path });
            }
            // What an alias stands for is declared elsewhere.
            (child.mention() == child.span()).then_some(())?;
            node = child;
        }
        contains(node.span(), span).then_some(Self { node, path })
    }

    /// The scalar that holds a word of a command line, and all characters of the word: the whole scalar where it is one
    /// word, `${PORT:-8000}` included; else the word with its quotes. `None` where the characters are a part of a
    /// word, since nothing can be put behind a part.
    fn of_word(file: &'t SourceFile, span: Span) -> Option<(Self, Span)> {
        let place = Self::of(file, span)?;
        let scalar = place.node.span();
        let quotes = usize::from(quote_of(file.slice(scalar)).is_some());
        let inner = scalar.start() + quotes..scalar.end() - quotes;
        // An item of a list may be one word, whatever blanks it holds (JSON).
        let is_all = span.start() <= inner.start && span.end() >= inner.end;
        if is_all || !place.node.text()?.contains(char::is_whitespace) {
            return Some((place, scalar));
        }
        let (mut start, mut end) = (span.start().max(inner.start), span.end().min(inner.end));
        let before = |at: usize| between(file, inner.start, at).and_then(|text| text.chars().next_back());
        let after = |at: usize| between(file, at, inner.end).and_then(|text| text.chars().next());
        if let (Some(open @ ('"' | '\'')), Some(close)) = (before(start), after(end))
            && open == close
        {
            (start, end) = (start - 1, end + 1);
        }
        let free = |c: Option<char>| c.is_none_or(char::is_whitespace);
        (free(before(start)) && free(after(end))).then(|| (place, file.span(start..end)))
    }

    /// The list that the value is an item of, and its position.
    fn item(&self) -> Option<(Node<'t>, usize)> {
        let last = self.path.last().copied();
        last.filter(|(list, _)| list.shape() == Shape::Sequence)
    }

    /// The collection so many levels up.
    fn up(&self, levels: usize) -> Option<Self> {
        let keep = self.path.len().checked_sub(levels)?;
        Some(Self {
            node: self.path.get(keep)?.0,
            path: self.path.get(..keep)?.to_vec(),
        })
    }

    /// Takes the key away whose value this is.
    fn cut_pair(&self, file: &SourceFile) -> Option<Edit> {
        let (mapping, at) = self.path.last().copied()?;
        (mapping.shape() == Shape::Mapping).then_some(())?;
        let pairs: Vec<(Node<'_>, Node<'_>)> = mapping.pairs().collect();
        (pairs.len() > 1).then_some(())?;
        let (key, value) = *pairs.get(at)?;
        let line = file.line_start(file.line_of(key.span().start()));
        let before = between(file, line, key.span().start())?;
        if before.trim().is_empty() && !is_flow(file, mapping) {
            let end = file.line_start(file.line_of(end_of(file, value)) + 1);
            return Some(cut(file, line, end));
        }
        if let Some((next, _)) = pairs.get(at + 1) {
            let gap = between(file, end_of(file, value), next.span().start())?;
            return (!gap.contains('#')).then(|| cut(file, key.span().start(), next.span().start()));
        }
        let (_, previous) = pairs.get(at.checked_sub(1)?)?;
        let (start, end) = (end_of(file, *previous), end_of(file, value));
        let comment = between(file, start, end)?.contains('#');
        (is_flow(file, mapping) && !comment).then(|| cut(file, start, end))
    }
}

fn is_flow(file: &SourceFile, collection: Node<'_>) -> bool {
    file.slice(collection.span()).starts_with(['{', '['])
}

/// Where a value ends: a block reaches to the next key, so its last leaf tells.
fn end_of(file: &SourceFile, value: Node<'_>) -> usize {
    let mut node = value;
    loop {
        let last = match node.shape() {
            _ if node.mention() != node.span() || is_flow(file, node) => None,
            Shape::Mapping => node.pairs().last().map(|(_, value)| value),
            Shape::Sequence => node.items().last(),
            _ => None,
        };
        match last {
            Some(last) => node = last,
            None => return node.mention().end(),
        }
    }
}

fn insert_arg(view: &View<'_>, flag: &str, value: Option<&str>) -> Option<Vec<Edit>> {
    let deployment = view.deployment?;
    let same = |word: &Fact<String>| word.value.split('=').next() == Some(flag);
    if deployment.args.iter().any(same) {
        return None;
    }
    if deployment.args.is_empty() {
        return first_arg(view, deployment, flag, value);
    }
    let spans = deployment.args.iter().filter_map(|word| match word.origin {
        Origin::At(span) => Some(span),
        _ => None,
    });
    let last = spans.max_by_key(|span| span.end())?;
    let file = view.sources.get(last.file())?;
    let (place, last) = Place::of_word(&file, last)?;
    let joined = joins_values(&deployment.args);
    if place.node.span() != last {
        let words = match value {
            Some(value) if joined => format!(" {flag}={}", word(value)?),
            Some(value) => format!(" {flag} {}", word(value)?),
            None => format!(" {flag}"),
        };
        return Some(vec![insertion(&file, last.end(), words)]);
    }
    place.item()?;
    let words = match value {
        Some(value) if joined => vec![format!("{flag}={value}")],
        Some(value) => vec![flag.to_owned(), value.to_owned()],
        None => vec![flag.to_owned()],
    };
    let quote = quote_of(file.slice(last));
    let words: Option<Vec<String>> = words.iter().map(|word| as_text(&file, word, quote)).collect();
    items_after(&file, last, &words?).map(|edit| vec![edit])
}

/// True where the arguments write `--flag=value`.
fn joins_values(args: &[Fact<String>]) -> bool {
    let flags = args
        .iter()
        .rev()
        .find(|word| word.value.starts_with("--") && (word.value.contains('=') || word.value.len() > 2));
    flags.is_some_and(|word| word.value.contains('='))
}

/// Items behind one of a list, in the list's style.
fn items_after(file: &Arc<SourceFile>, item: Span, words: &[String]) -> Option<Edit> {
    if !is_block_item(file, item) {
        return Some(insertion(file, item.end(), format!(", {}", words.join(", "))));
    }
    let start = file.line_start(file.line_of(item.start()));
    let lead = between(file, start, item.start())?;
    let end = line_break(file);
    let lines = words.join(&format!("{end}{lead}"));
    Some(lines_after(file, item.end(), format!("{lead}{lines}{end}")))
}

/// Whole lines behind the line of a place.
fn lines_after(file: &SourceFile, place: usize, lines: String) -> Edit {
    let line = file.line_of(place);
    if line < file.line_count() {
        return insertion(file, file.line_start(line + 1), lines);
    }
    // The last line has no line break of its own.
    let trimmed = lines.trim_end_matches(['\r', '\n']);
    let text = format!("{}{trimmed}", line_break(file));
    insertion(file, file.text().len(), text)
}

fn line_break(file: &SourceFile) -> &'static str {
    if file.text().contains("\r\n") {
        "\r\n"
    } else {
        "\n"
    }
}

fn insertion(file: &SourceFile, at: usize, text: String) -> Edit {
    let span = file.span(at..at);
    Edit { span, text }
}

/// `args: [...]` for a deployment of oomlint's own format that has none.
fn first_arg(view: &View<'_>, deployment: &Deployment, flag: &str, value: Option<&str>) -> Option<Vec<Edit>> {
    (deployment.format == Format::Own).then_some(())?;
    let span = own_key(deployment)?;
    let file = view.sources.get(span.file())?;
    let words: Option<Vec<String>> = std::iter::once(flag)
        .chain(value)
        .map(|word| as_text(&file, word, Some('"')))
        .collect();
    pair_beside(view, span, "args", &format!("[{}]", words?.join(", ")))
}

fn insert_key(
    view: &View<'_>,
    key: &str,
    value: &str,
    beside: Option<&'static FactDefinition>,
) -> Option<Vec<Edit>> {
    let span = match beside {
        Some(fact) => stated(view, fact)?,
        None => {
            let deployment = view.deployment?;
            (deployment.format == Format::Own).then_some(())?;
            own_key(deployment)?
        }
    };
    let file = view.sources.get(span.file())?;
    pair_beside(view, span, key, &quoted(&file, value, None)?)
}

/// A value of one of the deployment's own keys, beside which further keys can stand.
fn own_key(deployment: &Deployment) -> Option<Span> {
    let keys = [
        deployment.model.as_ref().and_then(Fact::span),
        deployment.engine.as_ref().and_then(Fact::span),
        deployment.name.span(),
    ];
    keys.into_iter().flatten().next()
}

fn pair_beside(view: &View<'_>, span: Span, key: &str, value: &str) -> Option<Vec<Edit>> {
    let file = view.sources.get(span.file())?;
    let place = Place::of(&file, span)?;
    let (mapping, at) = place.path.last().copied()?;
    let (known, _) = mapping.pairs().nth(at)?;
    if mapping.shape() != Shape::Mapping || mapping.pairs().any(|(known, _)| known.text() == Some(key)) {
        return None;
    }
    let (_, beside) = mapping.pairs().nth(at)?;
    let end = end_of(&file, beside);
    let key = quoted(&file, key, quote_of(file.slice(known.span())))?;
    if is_flow(&file, mapping) {
        return Some(vec![insertion(&file, end, format!(", {key}: {value}"))]);
    }
    let line = file.line_start(file.line_of(known.span().start()));
    let lead = between(&file, line, known.span().start())?;
    let plain = lead.trim_start_matches('\u{feff}');
    plain.chars().all(|c| matches!(c, ' ' | '-')).then_some(())?;
    let indent = " ".repeat(plain.len());
    let text = format!("{indent}{key}: {value}{}", line_break(&file));
    // Behind a block of many lines comments may follow that belong to it: the new key goes before it, and before the
    // comments on it.
    let is_block = file.line_of(end) > file.line_of(known.span().start());
    if is_block && lead.trim().is_empty() {
        let is_comment = |number: &usize| file.line_text(*number).trim_start().starts_with('#');
        let number = file.line_of(line);
        let comments = (1..number).rev().take_while(is_comment).count();
        return Some(vec![insertion(&file, file.line_start(number - comments), text)]);
    }
    (!is_block).then(|| vec![lines_after(&file, end, text)])
}

/// The quote that some characters begin and end with.
fn quote_of(characters: &str) -> Option<char> {
    let quote = characters.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    (characters.len() > 1 && characters.ends_with(quote)).then_some(quote)
}

/// A value in the quotes that the old one had; plain where it had none and the value can stand so.
fn quoted(file: &SourceFile, value: &str, quote: Option<char>) -> Option<String> {
    (!value.chars().any(char::is_control)).then_some(())?;
    Some(match quote {
        Some('\'') => format!("'{}'", value.replace('\'', "''")),
        None if is_plain(value) && (!is_json(file) || is_special(value)) => value.to_owned(),
        _ => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
    })
}

/// A word that must be read as text: in quotes where YAML would read a number, a boolean or nothing.
fn as_text(file: &SourceFile, value: &str, quote: Option<char>) -> Option<String> {
    quoted(file, value, quote.or_else(|| is_special(value).then_some('"')))
}

/// True for what YAML reads as a number, a boolean or nothing.
fn is_special(value: &str) -> bool {
    let word = matches!(
        value.to_ascii_lowercase().as_str(),
        "" | "~" | "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    word || value.parse::<f64>().is_ok() || value.starts_with("0x") || value.starts_with("0o")
}

/// JSON has no plain words.
fn is_json(file: &SourceFile) -> bool {
    file.path().to_ascii_lowercase().ends_with(".json")
}

/// True for a text that YAML reads as it stands wherever a value can be, flow lists included.
fn is_plain(value: &str) -> bool {
    let first = value
        .chars()
        .next()
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_'))
        || (value.starts_with('-') && value.len() > 1 && !value.starts_with("- "));
    first
        && !value.ends_with([' ', ':'])
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '@' | '=' | ':'))
        && !value.contains(": ")
}

/// A value as a word of a command line.
fn word(value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return Some(value.to_owned());
    }
    // Quotes inside quotes of YAML would need to know the shell that reads them.
    let quotable = !value.contains(['\'', '"', '\\', '\n', '$', '`']);
    quotable.then(|| format!("'{value}'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::args;
    use crate::rule::facts::{self, Scope};
    use crate::rule::world::World;

    /// A view of a deployment of vLLM whose arguments are the words after `serve` in a text, each with its
    /// characters; the change made, or nothing where it is not proposed.
    fn changed(text: &str, change: Change) -> Option<String> {
        let mut world = World::new();
        let file = world.sources.add("k.yaml", text);
        let start = text.find("serve").unwrap() + "serve".len();
        let end = text[start..].find("# end").map_or(text.len(), |at| start + at);
        let mut words = Vec::new();
        for part in text[start..end].split_whitespace() {
            let bare = part.trim_matches(['"', '\'']);
            if !bare.is_empty() && bare != "\\" && bare != "-" {
                let at = start + (bare.as_ptr() as usize - text[start..].as_ptr() as usize);
                words.push(Fact::at(bare.to_owned(), file.span(at..at + bare.len())));
            }
        }
        let parsed = args::parse(Engine::Vllm, None, &words, &world.sources);
        let deployment = &mut world.deployments[0].deployment;
        deployment.engine = Some(Fact::default(Engine::Vllm, "test"));
        deployment.args = words;
        deployment.settings = parsed.settings;
        let view = View {
            deployment: Some(&world.deployments[0].deployment),
            ..View::new(&world.sources)
        };
        let template = FixTemplate {
            when: None,
            change,
            safe: true,
        };
        let fix = propose(&view, &[template])?;
        let fixed = crate::fix::fix_file(&file, &[&fix]);
        assert_eq!(fixed.refused, Vec::<String>::new(), "{fix:?}");
        Some(fixed.after)
    }

    fn fact(path: &str) -> &'static FactDefinition {
        facts::find(path).unwrap()
    }

    fn formula(text: &str) -> Formula {
        Formula::compile(text, Scope::Deployment).unwrap()
    }

    const BLOCK: &str = "command:\n  - sh\n  - |\n    exec vllm serve m \\\n      --max-num-seqs 16 \\\n      \
                         --enforce-eager \\\n      --dtype half\n# end\nother: 1\n";

    #[test]
    fn words_of_a_command_in_a_block_are_set_removed_renamed_and_added() {
        let set = changed(BLOCK, Change::Set(fact("setting.max_sequences"), formula("8"))).unwrap();
        assert_eq!(set, BLOCK.replace("16", "8"));
        let removed = changed(BLOCK, Change::Remove(fact("setting.max_sequences"))).unwrap();
        assert_eq!(removed, BLOCK.replace("      --max-num-seqs 16 \\\n", ""));
        let last = changed(BLOCK, Change::Remove(fact("setting.dtype"))).unwrap();
        assert_eq!(last, BLOCK.replace(" \\\n      --dtype half", ""));
        let renamed = changed(BLOCK, Change::Rename(fact("setting.dtype"), "--type".to_owned())).unwrap();
        assert_eq!(renamed, BLOCK.replace("--dtype", "--type"));
        let added = changed(
            BLOCK,
            Change::InsertArg("--max-model-len".to_owned(), Some(formula("8192"))),
        );
        assert_eq!(
            added.unwrap(),
            BLOCK.replace("--dtype half", "--dtype half --max-model-len 8192")
        );
    }

    #[test]
    fn words_of_a_command_in_one_line_are_changed_in_their_quotes() {
        let line = "command: \"vllm serve m --max-num-seqs=16 --enforce-eager\"  # end\n";
        let set = changed(line, Change::Set(fact("setting.max_sequences"), formula("8"))).unwrap();
        assert_eq!(set, line.replace("16", "8"));
        let removed = changed(line, Change::Remove(fact("setting.max_sequences"))).unwrap();
        assert_eq!(removed, line.replace(" --max-num-seqs=16", ""));
        let switch = changed(line, Change::Remove(fact("setting.enforce_eager"))).unwrap();
        assert_eq!(switch, line.replace(" --enforce-eager", ""));
        let added = changed(
            line,
            Change::InsertArg("--dtype".to_owned(), Some(formula("'half'"))),
        )
        .unwrap();
        assert_eq!(
            added,
            line.replace("-eager", "-eager --dtype=half")
                .replace("--dtype=half", "--dtype half")
        );
        let unsafe_word = Change::Set(fact("setting.max_sequences"), formula("\"a'b\""));
        assert_eq!(
            changed(line, unsafe_word),
            None,
            "quotes in quotes are left alone"
        );
    }

    #[test]
    fn nothing_is_put_into_a_part_of_a_word() {
        let text = "args:\n  - --port\n  - ${PORT:-8000}\n  - run ${N:-7}x\n  - sh 'a b'\n";
        let file = SourceFile::new(crate::source::FileId::from_index(0), "k.yaml", text);
        let whole = |part: &str| {
            let at = text.find(part).unwrap();
            let found = Place::of_word(&file, file.span(at..at + part.len()));
            found.map(|(_, span)| file.slice(span).to_owned())
        };
        assert_eq!(whole("8000").as_deref(), Some("${PORT:-8000}"));
        assert_eq!(whole("--port").as_deref(), Some("--port"));
        assert_eq!(whole("7"), None);
        assert_eq!(whole("run").as_deref(), Some("run"));
        assert_eq!(whole("a b").as_deref(), Some("'a b'"));
    }

    #[test]
    fn a_key_is_added_before_a_block_whose_key_states_the_fact() {
        let text = "spec:\n  serve: 1\n  # ours\n  containers:\n    - name: a\n      image: b\n  restartPolicy: Never\n";
        let mut world = World::new();
        let file = world.sources.add("k.yaml", text);
        let at = text.find("containers").unwrap();
        let span = file.span(at..at + "containers".len());
        world.deployments[0].deployment.model = Some(Fact::at("b".to_owned(), span));
        let view = View {
            deployment: Some(&world.deployments[0].deployment),
            ..View::new(&world.sources)
        };
        let change = Change::InsertKey(
            "enableServiceLinks".to_owned(),
            formula("false"),
            Some(fact("deployment.model")),
        );
        let edits = edits(&view, &change).unwrap();
        let fixed = crate::fix::fix_file(&file, &[&Fix { safe: true, edits }]);
        assert_eq!(
            fixed.after,
            text.replace("  # ours", "  enableServiceLinks: false\n  # ours")
        );
    }

    #[test]
    fn a_folded_command_and_the_last_lines_of_a_list_are_changed_too() {
        let folded = "args:\n  - >-\n    serve m --max-num-seqs 16\n    --dtype half\n# end\n";
        let set = changed(folded, Change::Set(fact("setting.dtype"), formula("'auto'"))).unwrap();
        assert_eq!(set, folded.replace("half", "auto"));
        let removed = changed(folded, Change::Remove(fact("setting.dtype"))).unwrap();
        assert_eq!(removed, folded.replace("    --dtype half\n", ""));
    }
}
