//! Option files of engines: the YAML of vLLM's and SGLang's `--config`, and of TensorRT-LLM's options.
//!
//! An engine reads such a file as if its keys were flags, and so does this module: keys become words, and the
//! words go through the engine's own parser.

use super::text::Text;
use crate::engine::Engine;
use crate::engine::args::{self, ParsedArgs};
use crate::engine::flags::{FlagTable, Kind, Takes};
use crate::fact::Fact;
use crate::source::tree::{Node, Shape, Tree};
use crate::source::{FileId, SourceFile, Sources};

/// What an option file sets, by setting id.
pub fn option_file(engine: Engine, root: Node<'_>) -> ParsedArgs {
    read(engine, root, &|node| {
        Fact::at(node.text().unwrap_or("").to_owned(), node.mention())
    })
}

/// The same for a file that is part of another (a heredoc, a `ConfigMap`).
pub fn option_text(engine: Engine, text: &Text) -> ParsedArgs {
    // The tree's spans are those of a file of its own; each leads back to the text, and from there to its place.
    let file = SourceFile::new(FileId::from_index(usize::MAX), "", text.value());
    let tree = Tree::parse(&file);
    let Some(document) = tree.documents.first() else {
        return ParsedArgs::default();
    };
    read(engine, document.root(), &|node| {
        let span = node.mention();
        text.part(span.start()..span.end())
            .map(|_| node.text().unwrap_or("").to_owned())
    })
}

/// Deepest nesting of keys.
const MAX_DEPTH: usize = 8;

fn read(engine: Engine, root: Node<'_>, place: &dyn Fn(Node<'_>) -> Fact<String>) -> ParsedArgs {
    let table = FlagTable::of(engine);
    let mut words = Vec::new();
    for (key, value) in root.entries() {
        let Some(name) = key.text() else { continue };
        pair(engine, table, name, key, value, place, &mut words);
    }
    args::parse(engine, None, &words, &Sources::default())
}

fn pair(
    engine: Engine,
    table: &FlagTable,
    name: &str,
    key: Node<'_>,
    value: Node<'_>,
    place: &dyn Fn(Node<'_>) -> Fact<String>,
    words: &mut Vec<Fact<String>>,
) {
    // SGLang's parser wants dashes; its files are written with either.
    let name = if engine == Engine::Sglang {
        name.replace('_', "-")
    } else {
        name.to_owned()
    };
    let flag = format!("--{name}");
    let known = table.find(&flag).map(|(flag, _)| flag);
    let word = |text: String| place(key).map(|_| text);
    match value.shape() {
        Shape::Mapping if known.is_some_and(|flag| flag.kind == Kind::Json) => {
            words.push(word(flag));
            words.push(place(value).map(|_| json(value, 0).to_string()));
        }
        Shape::Mapping if name.matches('.').count() < MAX_DEPTH => {
            for (inner, value) in value.entries() {
                let Some(last) = inner.text() else { continue };
                pair(
                    engine,
                    table,
                    &format!("{name}.{last}"),
                    inner,
                    value,
                    place,
                    words,
                );
            }
        }
        Shape::Sequence if known.is_some_and(|flag| flag.takes == Takes::Many) => {
            words.push(word(flag));
            words.extend(value.items().filter(|item| item.text().is_some()).map(place));
        }
        Shape::Sequence => {
            let items: Vec<&str> = value.items().filter_map(Node::text).collect();
            words.push(word(flag));
            words.push(place(value).map(|_| items.join(",")));
        }
        Shape::Scalar => scalar(&flag, known.map(|flag| flag.takes), key, value, place, words),
        _ => {}
    }
}

/// A key with one value. Keys that are no flags are left out: a file may hold more than the engine's flags.
fn scalar(
    flag: &str,
    takes: Option<Takes>,
    key: Node<'_>,
    value: Node<'_>,
    place: &dyn Fn(Node<'_>) -> Fact<String>,
    words: &mut Vec<Fact<String>>,
) {
    let switch = matches!(takes, Some(Takes::Switch | Takes::Negatable));
    match (takes, value.as_bool()) {
        (None, _) => {}
        (_, Some(true)) if switch => words.push(place(value).map(|_| flag.to_owned())),
        (Some(Takes::Negatable), Some(false)) => {
            words.push(place(value).map(|_| format!("--no-{}", flag.trim_start_matches('-'))));
        }
        (_, Some(false)) if switch => {}
        _ => {
            words.push(place(key).map(|_| flag.to_owned()));
            words.push(place(value));
        }
    }
}

fn json(node: Node<'_>, depth: usize) -> serde_json::Value {
    use serde_json::Value;
    match node.shape() {
        Shape::Mapping if depth < MAX_DEPTH => node
            .entries()
            .into_iter()
            .filter_map(|(key, value)| Some((key.text()?.to_owned(), json(value, depth + 1))))
            .collect::<serde_json::Map<String, Value>>()
            .into(),
        Shape::Sequence if depth < MAX_DEPTH => node
            .items()
            .map(|item| json(item, depth + 1))
            .collect::<Vec<Value>>()
            .into(),
        Shape::Scalar => {
            let text = node.text().unwrap_or("");
            let plain = node.style() == Some(crate::source::tree::Style::Plain);
            match (plain, node.as_bool()) {
                (true, Some(value)) => Value::Bool(value),
                (true, None) => text
                    .parse::<i64>()
                    .map(Value::from)
                    .or_else(|_| text.parse::<f64>().map(Value::from))
                    .unwrap_or_else(|_| Value::String(text.to_owned())),
                (false, _) => Value::String(text.to_owned()),
            }
        }
        _ => Value::Null,
    }
}
