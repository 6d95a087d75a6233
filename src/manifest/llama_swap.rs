//! llama-swap: a table of models, each with the command that serves it.
//!
//! In: its configuration. Out: one deployment a model. Macros are put in, comment lines of a command are dropped and
//! its line breaks are blanks, as llama-swap itself does (`proxy/config`, `SanitizeCommand`). No machine is named
//! here but by the devices that a model is shown.

use std::collections::BTreeMap;

use super::command::{Environment, Interpolation, Text, Words};
use super::container::Container;
use super::{Declared, Format, Input};
use crate::fact::Fact;
use crate::source::tree::{Node, Shape};

/// True for `models` whose values have a command.
pub fn recognizes(input: &Input<'_>) -> bool {
    let root = input.root;
    if root.get("services").is_some() || root.get("apiVersion").is_some() {
        return false;
    }
    let Some(models) = root.get("models").filter(|node| node.shape() == Shape::Mapping) else {
        return false;
    };
    models
        .pairs()
        .take(64)
        .any(|(_, model)| model.get("cmd").and_then(Node::text).is_some())
}

/// Reads a llama-swap configuration.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let mut macros = macros(input.root, input);
    let models = input.root.get("models").map(Node::entries).unwrap_or_default();
    for (key, model) in models {
        let Some(name) = key.text() else { continue };
        let name = Fact::at(name.to_owned(), key.span());
        let Some(container) = container(&name, model, &mut macros, input) else {
            continue;
        };
        let started = container.deployments(input, Format::LlamaSwap, &name);
        declared.findings.extend(started.findings);
        for mut deployment in started.deployments {
            deployment.model_hints.extend(started.downloads.iter().cloned());
            deployment.model_hints.push(name.clone());
            declared.deployments.push(deployment);
        }
    }
    declared
}

type Macros = BTreeMap<String, Text>;

/// What a model starts. Its own macros hold for it alone.
fn container(
    name: &Fact<String>,
    model: Node<'_>,
    macros: &mut Macros,
    input: &Input<'_>,
) -> Option<Container> {
    let sources = input.world.sources();
    let command = model.get("cmd").filter(|command| command.text().is_some())?;
    let mut own = self::macros(model, input);
    own.insert("MODEL_ID".to_owned(), Text::of_fact(sources, name));
    let hidden: Vec<(String, Option<Text>)> = own
        .into_iter()
        .map(|(name, value)| (name.clone(), macros.insert(name, value)))
        .collect();
    let mut container = Container::new(name.clone(), model.span());
    container.environment = environment(model, macros, input);
    let command = expanded(&Text::of_node(sources, command), macros);
    container.arguments = Some(Words::Line(one_line(&command)));
    for (name, before) in hidden {
        match before {
            Some(value) => macros.insert(name, value),
            None => macros.remove(&name),
        };
    }
    Some(container)
}

/// The macros of a mapping.
fn macros(node: Node<'_>, input: &Input<'_>) -> Macros {
    let entries = node.get("macros").map(Node::entries).unwrap_or_default();
    let text = |node| Text::of_node(input.world.sources(), node);
    entries
        .into_iter()
        .filter(|(_, value)| value.text().is_some())
        .filter_map(|(key, value)| Some((key.text()?.to_owned(), text(value))))
        .collect()
}

/// Deepest nesting of macros in macros; what lies deeper stays as written.
const MAX_DEPTH: usize = 8;

/// A text with its macros put in, and theirs.
fn expanded(text: &Text, macros: &Macros) -> Text {
    let mut text = text.clone();
    for _ in 0..MAX_DEPTH {
        let next = Interpolation::Macros(macros).apply(&text, &Environment::default());
        if next.value() == text.value() {
            break;
        }
        text = next;
    }
    text
}

/// `env`, a list of `NAME=value`.
fn environment(model: Node<'_>, macros: &Macros, input: &Input<'_>) -> Environment {
    let mut environment = Environment::default();
    for item in model.get("env").into_iter().flat_map(Node::items) {
        if item.text().is_none() {
            continue;
        }
        let text = expanded(&Text::of_node(input.world.sources(), item), macros);
        if let Some((name, _)) = text.value().split_once('=') {
            let value = text.slice(name.len() + 1..text.value().len());
            environment.set_text(name.trim(), value);
        }
    }
    environment
}

/// A command as one line: comment lines are dropped, a backslash at the end of a line with it.
fn one_line(command: &Text) -> Text {
    let blank = Text::literal(" ");
    let value = command.value();
    let mut line = Text::default();
    let mut start = 0;
    for part in value.split_inclusive('\n') {
        let end = start + part.len();
        let body = part.trim();
        if !body.starts_with('#') {
            let kept = part.trim_end();
            let kept = kept.strip_suffix('\\').unwrap_or(kept);
            line.push(command, start..start + kept.len());
            line.push(&blank, 0..1);
        }
        start = end;
    }
    line
}
