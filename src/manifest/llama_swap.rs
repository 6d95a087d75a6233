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
            deployment
                .model_hints
                .splice(0..0, started.downloads.iter().cloned());
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

#[cfg(test)]
mod tests {
    use crate::engine::Engine;
    use crate::manifest::Count;
    use crate::manifest::fixtures::{deployments, one, survives, words};

    const CONFIG: &str = "macros:\n  port: --port ${PORT}\n  srv: llama-server ${port} -ngl 99\n  ctx: 65536\nmodels:\n  coder:\n    macros: {ctx: 32768}\n    cmd: |\n      ${srv}\n      # the small one\n      -m /m/coder-Q4_K_M.gguf \\\n      -c ${ctx}\n    env: [CUDA_VISIBLE_DEVICES=1]\n    aliases: [gpt]\n  chat:\n    cmd: ${srv} -m /m/${MODEL_ID}.gguf -c ${ctx}\n";

    #[test]
    fn macros_are_put_in_and_a_models_own_win_for_it_alone() {
        let found = deployments("config.yaml", CONFIG);
        assert_eq!(
            words(&found[0]),
            [
                "--port",
                "${PORT}",
                "-ngl",
                "99",
                "-m",
                "/m/coder-Q4_K_M.gguf",
                "-c",
                "32768"
            ]
        );
        assert_eq!(
            words(&found[1]),
            [
                "--port",
                "${PORT}",
                "-ngl",
                "99",
                "-m",
                "/m/chat.gguf",
                "-c",
                "65536"
            ]
        );
        assert_eq!(found[0].name.value, "coder");
        assert_eq!(
            found[0].engine.as_ref().map(|engine| engine.value),
            Some(Engine::LlamaCpp)
        );
    }

    #[test]
    fn devices_that_a_model_is_shown_are_counted() {
        let found = deployments("config.yaml", CONFIG);
        let count = |at: usize| found[at].accelerators.count.as_ref().map(|count| count.value);
        assert_eq!((count(0), count(1)), (Some(Count::Number(1)), None));
    }

    #[test]
    fn a_container_in_a_command_is_followed() {
        let text = "models:\n  a:\n    cmd: docker run --rm --gpus all -v /m:/m ghcr.io/ggml-org/llama.cpp:server-cuda -m /m/a.gguf -c 4096\n    proxy: http://x\n";
        assert_eq!(
            words(&one("config.yaml", text)),
            ["-m", "/m/a.gguf", "-c", "4096"]
        );
    }

    #[test]
    fn macros_that_refer_to_each_other_end() {
        let text = "macros: {a: '${b} ${b}', b: '${a} ${a}'}\nmodels: {m: {cmd: 'llama-server -m x.gguf --alias ${a}'}}\n";
        assert_eq!(deployments("config.yaml", text).len(), 1);
    }

    #[test]
    fn other_tables_of_models_are_left_alone() {
        for text in [
            "models: {a: {model: b}}\n",
            "models: [a]\n",
            "services: {a: {image: x}}\nmodels: {a: {cmd: llama-server}}\n",
        ] {
            assert!(deployments("config.yaml", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn no_mutation_panics() {
        survives("config.yaml", CONFIG);
    }
}
