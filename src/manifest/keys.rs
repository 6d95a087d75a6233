//! Keys of charts and custom resources as what they set in a deployment.
//!
//! In: nodes whose meaning a format knows. Out: settings, models, images, accelerators and words with their places.
//! A value that is a variable without a default, a template or a placeholder sets nothing: its field is named as
//! unresolved. What an engine makes of the words is the business of [`super::command`].

use super::command::{Environment, Interpolation, Text, Variable, Words, image_engine};
use super::container::{Container, Started};
use super::kubernetes::accelerators::{self, kind};
use super::kubernetes::pod;
use super::{AcceleratorKind, Accelerators, Count, Declared, Deployment, Format, Input};
use crate::engine::Engine;
use crate::engine::args::is_placeholder;
use crate::fact::Fact;
use crate::machine::quantity::parse_bytes;
use crate::source::tree::{Node, Shape};

/// The object's own name, else a name that points at the object.
pub(super) fn object_name(object: Node<'_>) -> Fact<String> {
    let name = object.at(&["metadata", "name"]).and_then(written);
    name.unwrap_or_else(|| Fact::derived(String::new(), [object.span()]))
}

/// True for an object of this kind whose group ends in `group` (`inference.llmkube.dev`, any version).
pub(super) fn is_object(root: Node<'_>, group: &str, kinds: &[&str]) -> bool {
    let text = |key: &str| root.get(key).and_then(Node::text);
    let of_group = text("apiVersion").is_some_and(|version| {
        let name = version.split('/').next().unwrap_or("");
        version.contains('/') && name.ends_with(group)
    });
    of_group && text("kind").is_some_and(|found| kinds.contains(&found))
}

/// A single value as written, without the spaces around it; `None` for one without characters.
pub(super) fn written(node: Node<'_>) -> Option<Fact<String>> {
    let text = node.text()?.trim();
    (!text.is_empty()).then(|| Fact::at(text.to_owned(), node.mention()))
}

/// What a value is once the defaults of its references are put in.
enum Value {
    Known(Fact<String>),
    /// Only something outside of the file knows it.
    Open,
}

fn value(node: Node<'_>, input: &Input<'_>) -> Option<Value> {
    let fact = written(node)?;
    let fact = if fact.value.contains("${") {
        let text = Text::of_node(input.world.sources(), node);
        let fact = Interpolation::Compose
            .apply(&text, &Environment::default())
            .fact();
        fact.map(|value| value.trim().to_owned())
    } else {
        fact
    };
    Some(if is_open(&fact.value) {
        Value::Open
    } else {
        Value::Known(fact)
    })
}

/// True for a value that a person or a tool has still to fill in.
fn is_open(value: &str) -> bool {
    is_placeholder(value) || value.is_empty()
}

/// The field of a report that a setting stands in.
fn field_of(id: &str) -> &str {
    match id {
        "ctx_size" | "num_ctx" => "context",
        "cache_type_k" | "cache_type_v" | "kv_cache_type" => "kv_cache",
        "parallel" => "max_sequences",
        other => other,
    }
}

/// Sets what a key declares. Keys that are absent, empty or no single value set nothing.
pub(super) fn set(deployment: &mut Deployment, input: &Input<'_>, id: &str, node: Option<Node<'_>>) {
    match node.and_then(|node| value(node, input)) {
        Some(Value::Known(fact)) => {
            deployment.settings.set(id, fact);
        }
        Some(Value::Open) => deployment.mark_unresolved(field_of(id)),
        None => {}
    }
}

/// Sets what the keys of one mapping declare: pairs of key and setting id.
pub(super) fn set_all(
    deployment: &mut Deployment,
    input: &Input<'_>,
    parent: Option<Node<'_>>,
    keys: &[(&str, &str)],
) {
    for (key, id) in keys {
        set(deployment, input, id, parent.and_then(|parent| parent.get(key)));
    }
}

/// Names the model; one that is still to be filled in is unresolved.
pub(super) fn set_model(deployment: &mut Deployment, input: &Input<'_>, node: Option<Node<'_>>) {
    match node.and_then(|node| value(node, input)) {
        Some(Value::Known(fact)) => deployment.model = Some(fact),
        Some(Value::Open) => {
            deployment.model = None;
            deployment.mark_unresolved("model");
        }
        None => {}
    }
}

/// Another name of the model.
pub(super) fn hint(deployment: &mut Deployment, node: Option<Node<'_>>) {
    let name = node.and_then(written).filter(|name| !is_open(&name.value));
    deployment.model_hints.extend(name);
}

/// Sets an amount of bytes.
pub(super) fn set_bytes(deployment: &mut Deployment, id: &str, node: Option<Node<'_>>) {
    if let Some(bytes) = node.and_then(bytes) {
        deployment.settings.set(id, bytes.map(|bytes| bytes.to_string()));
    }
}

/// What `resources` ask for: accelerators and memory. Kinds stay as they are.
pub(super) fn set_resources(container: &mut Container, resources: Option<Node<'_>>) {
    let Some(resources) = resources else { return };
    let asked = accelerators::of_resources(resources);
    container.accelerators.count = asked.count;
    container.accelerators.resource = asked.resource;
    container.unresolved.extend(accelerators::unresolved(resources));
    container.host_memory_bytes = pod::memory(resources);
}

/// An amount of bytes (`16Gi`).
pub(super) fn bytes(node: Node<'_>) -> Option<Fact<u64>> {
    Some(Fact::at(parse_bytes(node.text()?)?, node.mention()))
}

/// A count of accelerators by a key of its own. One that is still to be filled in is unresolved.
pub(super) fn set_count(deployment: &mut Deployment, input: &Input<'_>, node: Option<Node<'_>>) {
    match node.and_then(|node| value(node, input)) {
        Some(Value::Known(fact)) => {
            if let Ok(count) = fact.value.parse() {
                deployment.accelerators.count = Some(fact.map(|_| Count::Number(count)));
            }
        }
        Some(Value::Open) => deployment.mark_unresolved("accelerators"),
        None => {}
    }
}

/// The resource that counts accelerators, where it is not the usual one.
pub(super) fn set_resource(accelerators: &mut Accelerators, node: Option<Node<'_>>) {
    accelerators.resource = node
        .and_then(written)
        .filter(|name| name.value != "nvidia.com/gpu" && !is_open(&name.value))
        .or(accelerators.resource.take());
}

/// A kind of accelerator by a key whose values `catalog/machines` knows under `label`.
pub(super) fn kind_of(label: &str, node: Option<Node<'_>>) -> Vec<AcceleratorKind> {
    let named = node.filter(|node| written(*node).is_some_and(|name| !is_open(&name.value)));
    named.and_then(|node| kind(label, node)).into_iter().collect()
}

/// An image: a text, or `registry`, `repository` (or `name`) and `tag` (or `digest`) apart.
pub(super) fn image(node: Node<'_>) -> Option<Fact<String>> {
    if node.shape() == Shape::Scalar {
        return written(node);
    }
    let part = |key: &str| node.get(key).and_then(written);
    let repository = part("repository").or_else(|| part("name"))?;
    let mut name = repository.value.clone();
    let mut places: Vec<_> = repository.span().into_iter().collect();
    if let Some(registry) = part("registry") {
        name = format!("{}/{name}", registry.value.trim_end_matches('/'));
        places.extend(registry.span());
    }
    match (part("tag"), part("digest")) {
        (Some(tag), _) => {
            // Flux lets `tag` carry the digest too: `1.2@sha256:...`.
            name = format!("{name}:{}", tag.value);
            places.extend(tag.span());
        }
        (None, Some(digest)) => {
            name = format!("{name}@{}", digest.value);
            places.extend(digest.span());
        }
        (None, None) => return Some(repository.map(|_| name)),
    }
    Some(Fact::derived(name, places))
}

/// Flags: a list, a string that a chart puts on a command line, or a mapping from flag to value
/// (`max-model-len: 4096`).
pub(super) fn arguments(
    node: Option<Node<'_>>,
    input: &Input<'_>,
    environment: &Environment,
) -> Option<Words> {
    let words = words(node, input, environment)?;
    Some(Words::List(listed(words, input, environment)))
}

/// Words of a list, of a text that a shell splits, or of a mapping from flag to value.
pub(super) fn words(node: Option<Node<'_>>, input: &Input<'_>, environment: &Environment) -> Option<Words> {
    let node = node?;
    match node.shape() {
        Shape::Mapping => Some(Words::List(flags(node, input))),
        _ => pod::words(Some(node), input, environment),
    }
}

/// The flags that a mapping stands for: a true switch is its flag alone, a false one is none.
pub(super) fn flags(node: Node<'_>, input: &Input<'_>) -> Vec<Text> {
    let mut words = Vec::new();
    for (key, value) in node.entries() {
        let Some(name) = key.text().map(|name| name.trim_start_matches('-')) else {
            continue;
        };
        let dashes = if name.chars().count() == 1 { "-" } else { "--" };
        let flag = Text::literal(&format!("{dashes}{name}"));
        match value.as_bool() {
            Some(true) => words.push(flag),
            Some(false) => {}
            None => match value.shape() {
                Shape::Null => words.push(flag),
                Shape::Scalar => words.extend([flag, Text::of_node(input.world.sources(), value)]),
                Shape::Sequence => {
                    words.push(flag);
                    let items = value.items().filter(|item| item.text().is_some());
                    words.extend(items.map(|item| Text::of_node(input.world.sources(), item)));
                }
                _ => {}
            },
        }
    }
    words
}

/// Words that no file holds: the executable that a chart or an operator puts in front.
pub(super) fn literal(words: &[&str]) -> Words {
    Words::List(words.iter().map(|word| Text::literal(word)).collect())
}

/// One list of words after another. A shell string is split as a shell would.
pub(super) fn joined(
    first: Option<Words>,
    then: Option<Words>,
    input: &Input<'_>,
    environment: &Environment,
) -> Option<Words> {
    match (first, then) {
        (None, words) | (words, None) => words,
        (Some(first), Some(then)) => {
            let mut all = listed(first, input, environment);
            all.extend(listed(then, input, environment));
            Some(Words::List(all))
        }
    }
}

/// Words as a list.
pub(super) fn listed(words: Words, input: &Input<'_>, environment: &Environment) -> Vec<Text> {
    match words {
        Words::List(list) => list,
        Words::Shell(text) | Words::Line(text) => {
            let (facts, _) = super::command::words(&text, environment);
            facts
                .iter()
                .map(|fact| Text::of_fact(input.world.sources(), fact))
                .collect()
        }
    }
}

/// Adds an environment as charts write it: a list of `name` and `value`, or a mapping from name to value, to
/// `{value: ...}` or to `{valueFrom: ...}`.
pub(super) fn add_environment(environment: &mut Environment, node: Option<Node<'_>>, input: &Input<'_>) {
    let Some(node) = node else { return };
    if node.shape() == Shape::Sequence {
        for entry in node.items() {
            if let Some(name) = entry.get("name").and_then(Node::text) {
                add_variable(environment, name, entry, input);
            }
        }
    }
    for (key, value) in node.entries() {
        let Some(name) = key.text() else { continue };
        if value.text().is_some() {
            environment.set_text(name, Text::of_node(input.world.sources(), value));
        } else {
            add_variable(environment, name, value, input);
        }
    }
}

fn add_variable(environment: &mut Environment, name: &str, entry: Node<'_>, input: &Input<'_>) {
    let known = entry.get("value").filter(|value| value.text().is_some());
    let from_map = || {
        let reference = entry.at(&["valueFrom", "configMapKeyRef"])?;
        let map = input
            .world
            .object(input.file, "ConfigMap", reference.get("name")?.text()?)?;
        let value = map.node.get("data")?.get(reference.get("key")?.text()?)?;
        value.text().is_some().then_some(value)
    };
    match known.or_else(from_map) {
        Some(value) => environment.set_text(name, Text::of_node(input.world.sources(), value)),
        None if entry.get("valueFrom").is_some() => {
            environment.set_unknown(name, "its value comes from the cluster", Some(entry.span()));
        }
        None => {}
    }
}

/// The value of a variable with its place, where the files hold it.
pub(super) fn variable(environment: &Environment, name: &str) -> Option<Fact<String>> {
    environment
        .get(name)
        .and_then(Variable::fact)
        .filter(|fact| !fact.value.is_empty())
}

/// Sets what a variable holds.
pub(super) fn set_variable(deployment: &mut Deployment, environment: &Environment, name: &str, id: &str) {
    match variable(environment, name) {
        Some(value) if is_open(&value.value) => deployment.mark_unresolved(field_of(id)),
        Some(value) => {
            deployment.settings.set(id, value);
        }
        None if environment
            .get(name)
            .is_some_and(|held| matches!(held, Variable::Unknown { .. })) =>
        {
            deployment.mark_unresolved(field_of(id));
        }
        None => {}
    }
}

/// The words that start an engine, as its image does by itself.
pub(super) fn executable(engine: Engine) -> Words {
    literal(match engine {
        Engine::Vllm => &["vllm", "serve"],
        Engine::Sglang => &["python3", "-m", "sglang.launch_server"],
        Engine::LlamaCpp => &["llama-server"],
        Engine::Ollama => &["ollama", "serve"],
        Engine::Tgi => &["text-generation-launcher"],
        Engine::TensorrtLlm => &["trtllm-serve"],
        Engine::Mlx => &["mlx_lm.server"],
        Engine::Transformers => &["transformers", "serve"],
    })
}

/// The deployment of a container that is known to serve with one engine: the format says so, whatever its image is.
/// What the container downloads beside is among the hints.
pub(super) fn serve(mut container: Container, input: &Input<'_>, format: Format, engine: Engine) -> Served {
    if container.entrypoint.is_none() {
        container.entrypoint = Some(executable(engine));
    }
    let name = container.name.clone();
    let started = container.deployments(input, format, &name);
    let known = started.deployments.into_iter().find(|deployment| {
        deployment
            .engine
            .as_ref()
            .is_none_or(|found| found.value == engine)
    });
    let mut deployment = known.unwrap_or_else(|| bare(&container, input, format));
    let because = container
        .image
        .as_ref()
        .and_then(Fact::span)
        .unwrap_or(container.span);
    deployment
        .engine
        .get_or_insert_with(|| Fact::derived(engine, [because]));
    deployment.model_hints.splice(0..0, started.downloads);
    Served {
        deployment,
        findings: started.findings,
    }
}

/// What a container says without any command of its own.
fn bare(container: &Container, input: &Input<'_>, format: Format) -> Deployment {
    let mut deployment = Deployment::new(
        container.name.clone(),
        input.source().id(),
        container.span,
        format,
    );
    deployment.accelerators = container.accelerators.clone();
    let arguments = container.arguments.clone();
    let words = arguments.map(|words| listed(words, input, &container.environment));
    deployment.args = words.unwrap_or_default().iter().map(Text::fact).collect();
    let image = container.image.as_ref().and_then(image_engine);
    deployment.engine_version = image.and_then(|image| image.version);
    for (id, bytes) in [
        ("host_memory_bytes", &container.host_memory_bytes),
        ("shm_bytes", &container.shm_bytes),
    ] {
        if let Some(bytes) = bytes {
            deployment
                .settings
                .set(id, bytes.clone().map(|bytes| bytes.to_string()));
        }
    }
    deployment
}

/// A deployment, and what is wrong with its command.
#[derive(Debug)]
pub(super) struct Served {
    /// What is served.
    pub(super) deployment: Deployment,
    /// What is wrong with its command.
    pub(super) findings: Vec<crate::finding::Finding>,
}

impl Served {
    /// Adds it to what a document declares.
    pub(super) fn add_to(self, declared: &mut Declared) {
        declared.deployments.push(self.deployment);
        declared.findings.extend(self.findings);
    }
}

/// A server of Ollama is told of no model when it starts: the only one that is pulled for it is the one it serves.
fn pulled(deployment: &mut Deployment, downloads: &[Fact<String>]) {
    let serves = deployment.engine.as_ref().map(|engine| engine.value) == Some(Engine::Ollama);
    let mut names = downloads.iter();
    let Some(first) = names.next() else { return };
    if serves && deployment.model.is_none() && names.all(|name| name.value == first.value) {
        deployment.model = Some(first.clone());
    }
}

/// Adds what a container starts to what a document declares. Downloads beside an engine are names of its model.
pub(super) fn add_started(declared: &mut Declared, mut started: Started) {
    for deployment in &mut started.deployments {
        deployment
            .model_hints
            .splice(0..0, started.downloads.iter().cloned());
        pulled(deployment, &started.downloads);
    }
    declared.deployments.append(&mut started.deployments);
    declared.findings.append(&mut started.findings);
}
