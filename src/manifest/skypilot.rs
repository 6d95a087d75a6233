//! SkyPilot tasks that serve a model.
//!
//! In: `resources` with accelerators, variables and a script. Out: one deployment for each engine that the script
//! starts, with every kind of accelerator that it may run on. The number of accelerators of a node is a variable of
//! the platform: what a script does with it differs from alternative to alternative and is worked out on each.
//! Source: skypilot-org/skypilot `sky/resources.py` (`_set_accelerators`), `sky/task.py`, `docs/source/reference/yaml-spec.rst`.

use super::command::{Environment, Text, Words};
use super::container::Container;
use super::{AcceleratorKind, Accelerators, Count, Declared, Deployment, Filled, Format, Input, plain_keys};
use crate::engine::Engine;
use crate::fact::Fact;
use crate::source::tree::{Node, Shape};

/// Variables that the platform sets on each node (`sky/skylet/constants.py`).
const FILLED: [(&str, Filled); 1] = [("SKYPILOT_NUM_GPUS_PER_NODE", Filled::AcceleratorsOfNode)];

/// True for a task: a script, and resources with accelerators.
pub fn recognizes(input: &Input<'_>) -> bool {
    let root = input.root;
    let asks = |node: Node<'_>| ["accelerators", "gpus"].iter().any(|key| node.get(key).is_some());
    let Some(resources) = root
        .get("resources")
        .filter(|node| node.shape() == Shape::Mapping)
    else {
        return false;
    };
    root.get("run").and_then(Node::text).is_some()
        && (asks(resources) || alternatives(resources).any(asks))
        && root.get("apiVersion").is_none()
}

/// Reads a task.
pub fn read(input: &Input<'_>) -> Declared {
    let root = input.root;
    let mut declared = Declared::default();
    let container = container(input);
    let started = container.deployments(input, Format::SkyPilot, &container.name);
    declared.findings = started.findings;
    for mut deployment in started.deployments {
        deployment
            .model_hints
            .splice(0..0, started.downloads.iter().cloned());
        complete(&mut deployment, root);
        declared.deployments.push(deployment);
    }
    let text = |script| Text::of_node(input.world.sources(), script);
    let scripts: Vec<Text> = ["setup", "run"]
        .into_iter()
        .filter_map(|key| root.get(key))
        .map(text)
        .collect();
    install(&mut declared.deployments, &scripts);
    declared
}

fn container(input: &Input<'_>) -> Container {
    let root = input.root;
    let sources = input.world.sources();
    let mut container = Container::new(name(input), root.span());
    container.environment = environment(input);
    container.accelerators = root
        .get("resources")
        .map(|resources| accelerators(resources, input))
        .unwrap_or_default();
    if let Some(image) = plain_keys::text(root, &["resources", "image_id"]) {
        let bare = image
            .value
            .strip_prefix("docker:")
            .unwrap_or(&image.value)
            .to_owned();
        container.image = Some(image.map(|_| bare));
    }
    if let Some(run) = root.get("run") {
        // The script runs in the image and not by its entrypoint.
        let shell = ["bash", "-c"].map(Text::literal).to_vec();
        container.entrypoint = Some(Words::List(shell));
        container.arguments = Some(Words::List(vec![Text::of_node(sources, run)]));
    }
    container.host_memory_bytes = memory(root);
    container
}

/// The task's name, else that of its file.
fn name(input: &Input<'_>) -> Fact<String> {
    plain_keys::text(input.root, &["name"]).unwrap_or_else(|| {
        let file = input.file.name();
        let stem = file
            .trim_end_matches(".yaml")
            .trim_end_matches(".yml")
            .trim_end_matches(".sky");
        Fact::derived(stem.to_owned(), [input.root.span()])
    })
}

/// `envs` and `secrets`; what is null is given when the task is started.
fn environment(input: &Input<'_>) -> Environment {
    let sources = input.world.sources();
    let mut environment = Environment::default();
    for (key, why) in [
        ("secrets", "a secret"),
        ("envs", "given when the task is started"),
    ] {
        for (name, value) in input.root.get(key).map(Node::entries).unwrap_or_default() {
            let Some(name) = name.text() else { continue };
            match value.text() {
                Some(_) => environment.set_text(name, Text::of_node(sources, value)),
                None => {
                    environment.set_unknown(name, why, Some(value.span()));
                }
            }
        }
    }
    let nodes = input
        .root
        .get("num_nodes")
        .filter(|nodes| nodes.as_u64().is_some());
    let nodes = nodes.map_or_else(|| Text::literal("1"), |nodes| Text::of_node(sources, nodes));
    environment.set_text("SKYPILOT_NUM_NODES", nodes);
    environment
}

/// What the task says beside its script.
fn complete(deployment: &mut Deployment, root: Node<'_>) {
    for (variable, filled) in FILLED {
        deployment.fill(variable, filled);
    }
    plain_keys::declare_all(deployment, root, &[(&["num_nodes"], "nodes")]);
    let service = root.get("service");
    let replicas = ["replicas", "replica_policy"].iter().find_map(|key| {
        let value = service?.get(key)?;
        plain_keys::fact(value.get("min_replicas").unwrap_or(value))
    });
    if let Some(replicas) = replicas.filter(|replicas| replicas.value.parse::<u64>().is_ok()) {
        deployment.settings.set("replicas", replicas);
    }
    if deployment
        .accelerators
        .kinds
        .iter()
        .any(|kind| crate::engine::args::is_placeholder(&kind.name.value))
    {
        deployment.accelerators = Accelerators::default();
        deployment.mark_unresolved("accelerators");
        deployment.mark_unresolved("accelerator_type");
    }
}

/// Gives deployments without a release the one that a script installs.
pub(super) fn install(deployments: &mut [Deployment], scripts: &[Text]) {
    // A script may start an engine many times; each engine is looked for once.
    let mut known: Vec<(Engine, Option<Fact<String>>)> = Vec::new();
    for deployment in deployments {
        let Some(engine) = deployment.engine.as_ref().map(|engine| engine.value) else {
            continue;
        };
        if deployment.engine_version.is_some() {
            continue;
        }
        if !known.iter().any(|(one, _)| *one == engine) {
            let found = scripts.iter().find_map(|script| pinned(script, engine));
            known.push((engine, found));
        }
        let found = known.iter().find(|(one, _)| *one == engine);
        deployment.engine_version = found.and_then(|(_, release)| release.clone());
    }
}

/// The release that a script installs with pip (`vllm==0.6.1`).
fn pinned(script: &Text, engine: Engine) -> Option<Fact<String>> {
    let value = script.value();
    let package = match engine {
        Engine::Vllm => "vllm",
        Engine::Sglang => "sglang",
        Engine::TensorrtLlm => "tensorrt-llm",
        Engine::Mlx => "mlx-lm",
        Engine::Transformers => "transformers",
        Engine::LlamaCpp | Engine::Ollama | Engine::Tgi => return None,
    };
    value.match_indices(package).find_map(|(at, _)| {
        let before = value.get(..at)?.chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '.')) {
            return None;
        }
        let rest = value.get(at + package.len()..)?;
        // Extras: `sglang[all]==0.4.6`.
        let extras = rest
            .strip_prefix('[')
            .and_then(|rest| rest.find(']'))
            .map_or(0, |end| end + 2);
        let release = rest.get(extras..)?.strip_prefix("==")?;
        let len = release
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(release.len());
        let start = at + package.len() + extras + 2;
        (len > 0).then(|| script.part(start..start + len))
    })
}

/// `memory: 32+`, in GiB.
fn memory(root: Node<'_>) -> Option<Fact<u64>> {
    let memory = plain_keys::text(root, &["resources", "memory"])?;
    let digits = memory.value.trim_end_matches('+');
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << 30)?;
    Some(memory.map(|_| bytes))
}

/// The lists of resources that may be taken instead of each other.
fn alternatives(resources: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    ["any_of", "ordered"]
        .into_iter()
        .filter_map(move |key| resources.get(key))
        .flat_map(Node::items)
}

fn accelerators(resources: Node<'_>, input: &Input<'_>) -> Accelerators {
    let mut kinds: Vec<AcceleratorKind> = Vec::new();
    for node in alternatives(resources).chain([resources]) {
        for key in ["accelerators", "gpus"] {
            if let Some(value) = node.get(key) {
                read_kinds(value, input, &mut kinds);
            }
        }
    }
    let mut found = Accelerators::default();
    let count = kinds.first().and_then(|kind| kind.count);
    if let Some(first) = kinds.first()
        && kinds.iter().all(|kind| kind.count == count)
    {
        found.count = count.map(|count| first.name.clone().map(|_| Count::Number(count)));
    }
    found.kinds = kinds;
    found
}

/// A name, a name with a count, a list of these, or a map whose keys are names with or without a count.
fn read_kinds(value: Node<'_>, input: &Input<'_>, kinds: &mut Vec<AcceleratorKind>) {
    let text = |node| Text::of_node(input.world.sources(), node);
    match value.shape() {
        Shape::Scalar => {
            let text = text(value);
            for part in parts(text.value()) {
                add(&text, part, None, kinds);
            }
        }
        Shape::Sequence => value
            .items()
            .filter(|item| item.shape() == Shape::Scalar)
            .for_each(|item| read_kinds(item, input, kinds)),
        Shape::Mapping => {
            for (key, count) in value.entries() {
                let text = text(key);
                add(&text, 0..text.value().len(), count.text(), kinds);
            }
        }
        Shape::Null | Shape::UnknownAlias => {}
    }
}

/// The items of a text: one, or several in braces.
fn parts(text: &str) -> Vec<std::ops::Range<usize>> {
    let inner = text
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let Some(inner) = inner.filter(|_| !text.contains("{{")) else {
        return std::iter::once(0..text.len()).collect();
    };
    let mut start = text.find('{').map_or(0, |at| at + 1);
    let mut found = Vec::new();
    for part in inner.split(',') {
        found.push(start..start + part.len());
        start += part.len() + 1;
    }
    found
}

/// Most alternatives that are kept; SkyPilot's own tasks have a dozen.
const MAX_KINDS: usize = 64;

fn add(text: &Text, part: std::ops::Range<usize>, given: Option<&str>, kinds: &mut Vec<AcceleratorKind>) {
    let whole = text.value().get(part.clone()).unwrap_or("");
    let (name, count) = match whole.rsplit_once(':') {
        Some((name, count)) if number(count).is_some() => (name, number(count)),
        _ => (whole, given.and_then(number)),
    };
    let start = part.start + (name.len() - name.trim_start().len());
    let name = text.part(start..start + name.trim().len());
    // A slice of TPUs has its chips in its name.
    let is_slice = name.value.to_ascii_lowercase().starts_with("tpu-");
    let kind = AcceleratorKind {
        label: Some("skypilot".to_owned()),
        name,
        count: count
            .or((!is_slice).then_some(1))
            .filter(|count| !is_slice || *count > 1),
    };
    let known = kinds
        .iter()
        .any(|known| known.name.value == kind.name.value && known.count == kind.count);
    if !known && !kind.name.value.is_empty() && kinds.len() < MAX_KINDS {
        kinds.push(kind);
    }
}

/// A count; a part of an accelerator is one.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(whole) = text.parse() {
        return Some(whole);
    }
    let part: f64 = text.parse().ok()?;
    (part > 0.0 && part < 1.0).then_some(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::fixtures::{deployments, one, survives, words};

    const TASK: &str = "name: qwen\nresources:\n  accelerators: {L4:8, A100:4, A100:8}\n  image_id: docker:vllm/vllm-openai:v0.9.2\n  memory: 64+\nnum_nodes: 2\nenvs:\n  MODEL: Qwen/Qwen3-32B\nsecrets:\n  HF_TOKEN:\nsetup: |\n  pip install vllm==0.6.1\nrun: |\n  vllm serve $MODEL --tensor-parallel-size $SKYPILOT_NUM_GPUS_PER_NODE --pipeline-parallel-size $SKYPILOT_NUM_NODES 2>&1 | tee log\nservice:\n  replica_policy:\n    min_replicas: 2\n";

    fn kinds(accelerators: &str) -> Vec<(String, Option<u64>)> {
        let text = format!("resources:\n  {accelerators}\nrun: vllm serve a/b\n");
        let found = one("x.sky.yaml", &text);
        let kind = |kind: AcceleratorKind| (kind.name.value, kind.count);
        found.accelerators.kinds.into_iter().map(kind).collect()
    }

    #[test]
    fn a_task_that_serves_is_a_deployment() {
        let found = one("x.yaml", TASK);
        assert_eq!(found.name.value, "qwen");
        assert_eq!(words(&found)[..2], ["Qwen/Qwen3-32B", "--tensor-parallel-size"]);
        assert_eq!(found.settings.count("nodes"), Some(2));
        assert_eq!(found.settings.count("replicas"), Some(2));
        assert_eq!(found.settings.count("host_memory_bytes"), Some(64 << 30));
        assert_eq!(words(&found)[3..], ["--pipeline-parallel-size", "2"]);
    }

    #[test]
    fn accelerators_have_many_notations() {
        let one = |name: &str, count| vec![(name.to_owned(), Some(count))];
        assert_eq!(kinds("accelerators: H100:8"), one("H100", 8));
        assert_eq!(kinds("accelerators: H100"), one("H100", 1));
        assert_eq!(kinds("accelerators: {H100: 8}"), one("H100", 8));
        assert_eq!(kinds("accelerators: {H100:8}"), one("H100", 8));
        assert_eq!(kinds("accelerators: {H100}"), one("H100", 1));
        assert_eq!(kinds("accelerators: '{H100:8}'"), one("H100", 8));
        assert_eq!(kinds("gpus: T4:0.5"), one("T4", 1));
        let two = vec![("L4".to_owned(), Some(4)), ("H100".to_owned(), Some(1))];
        assert_eq!(kinds("accelerators: ['L4:4', H100]"), two);
        assert_eq!(
            kinds("any_of: [{accelerators: L4:4}, {accelerators: H100, cloud: gcp}]"),
            two
        );
        assert_eq!(
            kinds("ordered: [{gpus: L4:4}, {gpus: H100:1}, {gpus: H100:1}]"),
            two
        );
        assert_eq!(kinds("accelerators: tpu-v6e-8"), [("tpu-v6e-8".to_owned(), None)]);
    }

    #[test]
    fn alternatives_of_one_count_have_a_count() {
        let found = one(
            "x.yaml",
            "resources: {accelerators: [L4, A10G]}\nrun: vllm serve a/b\n",
        );
        assert_eq!(found.accelerators.number(), Some(1));
        assert_eq!(one("x.yaml", TASK).accelerators.number(), None);
    }

    #[test]
    fn the_tensor_parallel_size_follows_each_alternative() {
        let mut found = one("x.yaml", TASK);
        found.settings.set(
            "tensor_parallel",
            Fact::derived("$SKYPILOT_NUM_GPUS_PER_NODE".to_owned(), []),
        );
        let on = |count: u64| found.settings_on(count).count("tensor_parallel");
        // Two nodes of 8 and of 4.
        assert_eq!((on(16), on(8)), (Some(8), Some(4)));
        assert_eq!(found.settings.count("tensor_parallel"), None);
    }

    #[test]
    fn the_release_is_that_of_the_image_else_of_what_is_installed() {
        assert_eq!(one("x.yaml", TASK).engine_version.unwrap().value, "v0.9.2");
        let text = TASK.replace("  image_id: docker:vllm/vllm-openai:v0.9.2\n", "");
        assert_eq!(one("x.yaml", &text).engine_version.unwrap().value, "0.6.1");
    }

    #[test]
    fn tasks_that_train_are_left_alone() {
        let text = "resources: {accelerators: A100:8}\nrun: torchrun --nproc_per_node 8 train.py\n";
        assert!(deployments("x.yaml", text).is_empty());
    }

    #[test]
    fn no_mutation_panics() {
        survives("x.yaml", TASK);
    }
}
