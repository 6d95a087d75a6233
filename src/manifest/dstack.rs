//! dstack services, and tasks that start an engine.
//!
//! In: commands, variables and a requirement of accelerators. Out: one deployment for each engine started. Source:
//! dstackai/dstack `src/dstack/_internal/core/models/configurations.py`, `resources.py` (GPUSpec.parse).

use super::command::{Environment, Text, Words};
use super::container::Container;
use super::{
    AcceleratorKind, Accelerators, Count, Declared, Deployment, Filled, Format, Input, plain_keys, skypilot,
};
use crate::fact::Fact;
use crate::machine::quantity::parse_bytes;
use crate::source::tree::{Node, Shape};

/// Variables that the platform sets.
const FILLED: [(&str, Filled); 2] = [
    ("DSTACK_GPUS_NUM", Filled::Accelerators),
    ("DSTACK_GPUS_PER_NODE", Filled::AcceleratorsOfNode),
];

/// True for a service, or a task, with commands or an image.
pub fn recognizes(input: &Input<'_>) -> bool {
    let root = input.root;
    let kind = root.get("type").and_then(Node::text);
    let runs = root.get("commands").is_some() || root.get("image").is_some();
    let dstack = ["resources", "port", "ports", "model", "env", "replicas"]
        .iter()
        .any(|key| root.get(key).is_some());
    matches!(kind, Some("service" | "task")) && runs && dstack && root.get("apiVersion").is_none()
}

/// Reads a service.
pub fn read(input: &Input<'_>) -> Declared {
    let container = container(input);
    let started = container.deployments(input, Format::Dstack, &container.name);
    let mut declared = Declared {
        findings: started.findings,
        ..Declared::default()
    };
    for mut deployment in started.deployments {
        deployment
            .model_hints
            .splice(0..0, started.downloads.iter().cloned());
        complete(&mut deployment, input);
        declared.deployments.push(deployment);
    }
    if let Some(commands) = input.root.get("commands") {
        skypilot::install(&mut declared.deployments, &[script(commands, input)]);
    }
    declared
}

fn container(input: &Input<'_>) -> Container {
    let root = input.root;
    let sources = input.world.sources();
    let file = input.file.name();
    let stem = file
        .trim_end_matches(".yaml")
        .trim_end_matches(".yml")
        .trim_end_matches(".dstack");
    let name =
        plain_keys::text(root, &["name"]).unwrap_or_else(|| Fact::derived(stem.to_owned(), [root.span()]));
    let mut container = Container::new(name, root.span());
    container.environment = environment(input);
    container.image = plain_keys::text(root, &["image"]);
    if let Some(entrypoint) = root.get("entrypoint").filter(|node| node.text().is_some()) {
        container.entrypoint = Some(Words::Line(Text::of_node(sources, entrypoint)));
    }
    if let Some(commands) = root.get("commands") {
        let shell = ["bash", "-c"].map(Text::literal).to_vec();
        container.entrypoint.get_or_insert(Words::List(shell));
        container.arguments = Some(Words::List(vec![script(commands, input)]));
    }
    let resources = root.get("resources");
    container.accelerators = resources
        .and_then(|resources| resources.get("gpu"))
        .map(|gpu| accelerators(gpu, input))
        .unwrap_or_default();
    container.shm_bytes = resources
        .and_then(|resources| plain_keys::text(resources, &["shm_size"]))
        .and_then(|size| {
            Some(Fact {
                value: parse_bytes(&size.value)?,
                origin: size.origin,
            })
        });
    container
}

/// The commands as one script.
fn script(commands: Node<'_>, input: &Input<'_>) -> Text {
    let sources = input.world.sources();
    let end = Text::literal("\n");
    let mut script = Text::default();
    for command in commands.items().filter(|command| command.text().is_some()) {
        let command = Text::of_node(sources, command);
        script.push(&command, 0..command.value().len());
        script.push(&end, 0..1);
    }
    script
}

/// `env` as a list of `NAME=value` (a name alone is given when the service is started) or as a mapping.
fn environment(input: &Input<'_>) -> Environment {
    let sources = input.world.sources();
    let mut environment = Environment::default();
    let Some(env) = input.root.get("env") else {
        return environment;
    };
    for (key, value) in env.entries() {
        let Some(name) = key.text() else { continue };
        if value.text().is_some() {
            environment.set_text(name, Text::of_node(sources, value));
        } else {
            environment.set_unknown(name, "given when the service is started", Some(key.span()));
        }
    }
    for item in env.items().filter(|item| item.text().is_some()) {
        let text = Text::of_node(sources, item);
        match text.value().split_once('=') {
            Some((name, _)) => {
                let value = text.slice(name.len() + 1..text.value().len());
                environment.set_text(name.trim(), value);
            }
            None => {
                let name = text.value().trim();
                environment.set_unknown(name, "given when the service is started", Some(item.span()));
            }
        }
    }
    environment
}

fn complete(deployment: &mut Deployment, input: &Input<'_>) {
    let root = input.root;
    for (variable, filled) in FILLED {
        deployment.fill(variable, filled);
    }
    plain_keys::declare_all(deployment, root, &[(&["nodes"], "nodes")]);
    let replicas = plain_keys::text(root, &["replicas"]).and_then(|replicas| {
        let least = replicas.value.split("..").next().unwrap_or("").to_owned();
        least.parse::<u64>().is_ok().then(|| replicas.map(|_| least))
    });
    if let Some(replicas) = replicas {
        deployment.settings.set("replicas", replicas);
    }
    let model = root.get("model").map(|model| model.get("name").unwrap_or(model));
    deployment.model_hints.extend(model.and_then(plain_keys::fact));
}

/// `gpu`: a number, `H100:8`, `nvidia:A100,H100:80GB:2`, `24GB..`, or a mapping of the same.
fn accelerators(gpu: Node<'_>, input: &Input<'_>) -> Accelerators {
    let mut found = Accelerators::default();
    let text = |node| Text::of_node(input.world.sources(), node);
    match gpu.shape() {
        Shape::Scalar => {
            let text = text(gpu);
            let mut start = 0;
            let mut parts = text.value().split(':').peekable();
            while let Some(part) = parts.next() {
                let mut end = start + part.len();
                // `A100:80GB` is one name: there is an A100 of another size too.
                let is_name = part.contains(|c: char| c.is_ascii_alphabetic()) && !is_memory(part);
                if let Some(memory) = parts.next_if(|next| is_name && is_memory(next) && !next.contains(".."))
                {
                    end += 1 + memory.len();
                }
                requirement(&text, start..end, &mut found);
                start = end + 1;
            }
        }
        Shape::Mapping => {
            let names = gpu.get("name").into_iter().flat_map(|name| match name.shape() {
                Shape::Sequence => name.items().collect(),
                _ => vec![name],
            });
            for name in names.chain(gpu.get("count")).filter(|node| node.text().is_some()) {
                let text = text(name);
                requirement(&text, 0..text.value().len(), &mut found);
            }
            let least = gpu
                .at(&["count", "min"])
                .and_then(Node::as_u64)
                .zip(gpu.get("count"));
            if let Some((least, node)) = least {
                found.count = Some(Fact::at(Count::Number(least), node.mention()));
            }
        }
        Shape::Sequence | Shape::Null | Shape::UnknownAlias => {}
    }
    if found.count.is_none() {
        found.count = Some(Fact::at(Count::Number(1), gpu.mention()));
    }
    found
}

/// One part of a requirement: a vendor, a memory size, a count, or names. Of a range of counts the least is what the
/// service must run on.
fn requirement(text: &Text, part: std::ops::Range<usize>, found: &mut Accelerators) {
    const VENDORS: [&str; 6] = ["nvidia", "amd", "google", "intel", "tpu", "tenstorrent"];
    let value = text.value().get(part.clone()).unwrap_or("");
    let trimmed = value.trim();
    let least = trimmed.split("..").next().unwrap_or("");
    let is_range = trimmed.chars().all(|c| c.is_ascii_digit() || c == '.');
    if trimmed.is_empty() || is_memory(trimmed) || VENDORS.contains(&trimmed.to_ascii_lowercase().as_str()) {
        return;
    }
    if is_range {
        if let Ok(count) = least.parse() {
            found.count = Some(text.part(part).map(|_| Count::Number(count)));
        }
        return;
    }
    let mut start = part.start;
    for name in value.split(',') {
        let from = start + (name.len() - name.trim_start().len());
        let name_text = text.part(from..from + name.trim().len());
        if !name_text.value.is_empty() && found.kinds.len() < MAX_KINDS {
            found.kinds.push(AcceleratorKind {
                label: Some("dstack".to_owned()),
                name: name_text,
                count: None,
            });
        }
        start += name.len() + 1;
    }
}

/// True for a size of memory or a range of sizes.
fn is_memory(part: &str) -> bool {
    let upper = part.trim().to_ascii_uppercase();
    upper.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && ["GB", "MB", "TB"].iter().any(|unit| upper.contains(unit))
}

/// Most alternatives that are kept.
const MAX_KINDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::fixtures::{deployments, one, survives, words};

    const SERVICE: &str = "type: service\nname: chat\nmodel: org/chat\nimage: vllm/vllm-openai:v0.9.2\nenv:\n  - HF_TOKEN\n  - MODEL=org/model\ncommands:\n  - pip install x\n  - |\n    vllm serve $MODEL \\\n      --tensor-parallel-size $DSTACK_GPUS_NUM\nport: 8000\nresources:\n  gpu: MI300X:8\n  shm_size: 32GB\nreplicas: 1..4\n";

    fn gpu(requirement: &str) -> (Vec<String>, Option<u64>) {
        let text = format!(
            "type: service\nport: 1\ncommands: [vllm serve a/b]\nresources: {{gpu: {requirement}}}\n"
        );
        let accelerators = one(".dstack.yml", &text).accelerators;
        let names = accelerators
            .kinds
            .iter()
            .map(|kind| kind.name.value.clone())
            .collect();
        (names, accelerators.number())
    }

    #[test]
    fn a_service_is_a_deployment() {
        let found = one(".dstack.yml", SERVICE);
        assert_eq!(words(&found)[0], "org/model");
        assert_eq!(found.accelerators.number(), Some(8));
        assert_eq!(found.settings.count("replicas"), Some(1));
        assert_eq!(found.settings.count("shm_bytes"), Some(32_000_000_000));
        assert_eq!(
            found.model_hints.last().map(|hint| hint.value.as_str()),
            Some("org/chat")
        );
    }

    #[test]
    fn requirements_have_many_notations() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(gpu("H100"), (names(&["H100"]), Some(1)));
        assert_eq!(gpu("'nvidia:A100,L40S:2'"), (names(&["A100", "L40S"]), Some(2)));
        assert_eq!(gpu("'A100:80GB:4'"), (names(&["A100:80GB"]), Some(4)));
        assert_eq!(gpu("24GB.."), (names(&[]), Some(1)));
        assert_eq!(gpu("2"), (names(&[]), Some(2)));
        assert_eq!(gpu("'H100:2..8'"), (names(&["H100"]), Some(2)));
        assert_eq!(
            gpu("{name: [H100, H200], count: 8, memory: 80GB..}"),
            (names(&["H100", "H200"]), Some(8))
        );
    }

    #[test]
    fn the_platforms_count_is_known_on_each_machine() {
        let mut found = one(".dstack.yml", SERVICE);
        found.settings.set(
            "tensor_parallel",
            Fact::derived("${DSTACK_GPUS_NUM}".to_owned(), []),
        );
        assert_eq!(found.settings_on(8).count("tensor_parallel"), Some(8));
    }

    #[test]
    fn other_tasks_are_left_alone() {
        for text in [
            "type: task\ncommands: [python train.py]\nresources: {gpu: 1}\n",
            "type: service\nname: x\n",
            "type: fleet\nnodes: 2\n",
        ] {
            assert!(deployments(".dstack.yml", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn no_mutation_panics() {
        survives(".dstack.yml", SERVICE);
    }
}
