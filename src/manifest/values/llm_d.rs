//! llm-d: scenarios of llm-d-benchmark, values of the model service chart and of the older deployer, and the
//! `ModelService` object. Each deploys vLLM as decode and prefill.
//!
//! Source: llm-d/llm-d-benchmark config/scenarios, llm-d-incubation/llm-d-modelservice charts.

use super::Section;
use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::command::{Text, Words, image_engine};
use crate::manifest::container::Container;
use crate::manifest::keys::{self, is_object};
use crate::manifest::kubernetes::{accelerators, pod};
use crate::manifest::{AcceleratorKind, Declared, Deployment, Format, Input};
use crate::source::tree::{Node, Shape};

/// The parts of a disaggregated model.
const ROLES: [&str; 2] = ["decode", "prefill"];

/// True for a file or an object of llm-d.
pub(super) fn recognizes(input: &Input<'_>) -> bool {
    let root = input.root;
    if is_object(root, "llm-d.ai", &["ModelService"]) {
        return true;
    }
    if root.get("kind").is_some() {
        return false;
    }
    is_model_service(root)
        || root
            .get("scenario")
            .into_iter()
            .flat_map(Node::items)
            .any(|scenario| {
                scenario.at(&["common", "model"]).is_some() || scenario.get("modelservice").is_some()
            })
        || root.at(&["sampleApplication", "model"]).is_some()
}

/// True for values of the model service chart.
pub(super) fn is_model_service(node: Node<'_>) -> bool {
    node.get("modelArtifacts").is_some() && ROLES.iter().any(|role| node.get(role).is_some())
}

/// Reads such a file or object.
pub(super) fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let root = input.root;
    for scenario in root.get("scenario").into_iter().flat_map(Node::items) {
        self::scenario(&mut declared, input, scenario);
    }
    if let Some(sample) = root.get("sampleApplication") {
        sample_application(&mut declared, input, sample);
    }
    let service = if root.get("kind").is_some() {
        root.get("spec")
    } else {
        Some(root)
    };
    if let Some(service) = service.filter(|service| is_model_service(*service)) {
        let section = Section {
            node: service,
            name: Fact::derived(String::new(), [service.span()]),
            format: Format::LlmD,
            certain: true,
            depth: 0,
        };
        model_service(&mut declared, input, &section);
    }
    declared
}

/// True for what is switched off.
fn off(node: Node<'_>) -> bool {
    ["enabled", "create"]
        .iter()
        .any(|key| node.get(key).and_then(Node::as_bool) == Some(false))
}

/// The parts that a mapping has and that are not switched off, with their names.
fn roles<'t>(node: Node<'t>) -> impl Iterator<Item = (Fact<String>, Node<'t>)> {
    ROLES.iter().filter_map(move |role| {
        let (key, part) = node.entry(role)?;
        let there = part.shape() == Shape::Mapping && !off(part);
        there.then(|| (Fact::at((*role).to_owned(), key.span()), part))
    })
}

/// Values of the model service chart, or the spec of its object.
pub(super) fn model_service(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) {
    let node = section.node;
    let artifacts = node.get("modelArtifacts");
    for (name, part) in roles(node) {
        let format = section.format_or(Format::LlmD);
        for container in part.get("containers").into_iter().flat_map(Node::items) {
            let Some(container) = engine_container(container, node, part, &name, input) else {
                continue;
            };
            let mut served = keys::serve(container, input, format, Engine::Vllm);
            let deployment = &mut served.deployment;
            let named = deployment.model.take();
            keys::set_model(deployment, input, artifacts.and_then(|all| all.get("uri")));
            keys::hint(deployment, artifacts.and_then(|all| all.get("name")));
            deployment.model_hints.extend(named);
            parallelism(deployment, input, part);
            keys::set(deployment, input, "replicas", part.get("replicas"));
            served.add_to(declared);
        }
    }
}

/// A container of a part, where it serves: by its command, else by its image.
fn engine_container(
    node: Node<'_>,
    root: Node<'_>,
    part: Node<'_>,
    name: &Fact<String>,
    input: &Input<'_>,
) -> Option<Container> {
    let mut container = pod::container(node, input);
    let custom = match node.get("modelCommand").and_then(Node::text) {
        Some("vllmServe") => false,
        Some("custom") | None => {
            let by_image = container.image.as_ref().and_then(image_engine);
            let other = by_image
                .as_ref()
                .is_some_and(|image| image.engine != Some(Engine::Vllm));
            if other || by_image.is_none() && container.entrypoint.is_none() {
                return None;
            }
            true
        }
        // `imageDefault` runs whatever the image is made for: a simulator, in the chart's own example.
        Some(_) => {
            let by_image = container.image.as_ref().and_then(image_engine)?;
            (by_image.serves && by_image.engine == Some(Engine::Vllm)).then_some(())?;
            false
        }
    };
    container.name = name.clone();
    container.span = part.span();
    if !custom {
        container.entrypoint = Some(keys::executable(Engine::Vllm));
    }
    container.accelerators.kinds = kinds(part, root);
    Some(container)
}

/// Alternatives of `acceleratorTypes`, or a pair of key and value; of the part, else of all.
fn kinds(part: Node<'_>, root: Node<'_>) -> Vec<AcceleratorKind> {
    for holder in [part, root] {
        for key in ["acceleratorTypes", "acceleratorType"] {
            let Some(pair) = holder.get(key) else { continue };
            // Nodes without accelerators are told by their system: `kubernetes.io/os: linux`.
            let label = pair.get("labelKey").and_then(Node::text);
            let Some(label) = label.filter(|label| !label.starts_with("kubernetes.io/")) else {
                continue;
            };
            let values = pair.get("labelValues").into_iter().flat_map(Node::items);
            let values: Vec<AcceleratorKind> = values
                .chain(pair.get("labelValue"))
                .filter(|value| !matches!(value.text(), Some("auto" | "")))
                .filter_map(|value| accelerators::kind(label, value))
                .collect();
            if !values.is_empty() {
                return values;
            }
        }
        let found = accelerators::kinds(holder);
        if !found.is_empty() {
            return found;
        }
        let selected = accelerators::selected(holder.at(&["affinity", "nodeSelector"]));
        if !selected.is_empty() {
            return selected;
        }
    }
    Vec::new()
}

fn parallelism(deployment: &mut Deployment, input: &Input<'_>, part: Node<'_>) {
    let sizes = [
        ("tensor", "tensor_parallel"),
        ("pipeline", "pipeline_parallel"),
        ("data", "data_parallel"),
        ("workers", "nodes"),
    ];
    keys::set_all(deployment, input, part.get("parallelism"), &sizes);
}

/// The values of the older deployer: one model, extra arguments by part.
fn sample_application(declared: &mut Declared, input: &Input<'_>, sample: Node<'_>) {
    if off(sample) {
        return;
    }
    let model = sample.get("model");
    for (name, part) in roles(sample) {
        let mut container = Container::new(name, part.span());
        container.arguments = keys::arguments(part.get("extraArgs"), input, &container.environment);
        if let Some(resources) = sample.get("resources") {
            container.accelerators = accelerators::of_resources(resources);
            container.host_memory_bytes = pod::memory(resources);
        }
        container.accelerators.kinds = kinds(part, sample);
        let mut served = keys::serve(container, input, Format::LlmD, Engine::Vllm);
        let deployment = &mut served.deployment;
        keys::set_model(
            deployment,
            input,
            model.and_then(|model| model.get("modelArtifactURI")),
        );
        keys::hint(deployment, model.and_then(|model| model.get("modelName")));
        parallelism(deployment, input, part);
        keys::set(deployment, input, "replicas", part.get("replicas"));
        served.add_to(declared);
    }
}

/// One scenario of the benchmark.
fn scenario(declared: &mut Declared, input: &Input<'_>, scenario: Node<'_>) {
    let Some(common) = scenario.get("common") else {
        return;
    };
    if is_simulated(common) {
        return;
    }
    let service = scenario.get("modelservice");
    if let Some(service) = service.filter(|service| !off(*service)) {
        for (name, part) in roles(service) {
            scenario_part(declared, input, common, name, part);
        }
    }
    let alone = scenario.entry("standalone");
    if let Some((key, part)) =
        alone.filter(|(_, part)| part.get("enabled").and_then(Node::as_bool) == Some(true))
    {
        let name = Fact::at("standalone".to_owned(), key.span());
        scenario_part(declared, input, common, name, part);
    }
}

/// True where the image is the simulator, which loads no model.
fn is_simulated(common: Node<'_>) -> bool {
    let image = common.at(&["images", "vllm"]).and_then(keys::image);
    image.is_some_and(|image| image.value.contains("inference-sim"))
}

fn scenario_part(
    declared: &mut Declared,
    input: &Input<'_>,
    common: Node<'_>,
    name: Fact<String>,
    part: Node<'_>,
) {
    let mut container = Container::new(name, part.span());
    container.image = common.at(&["images", "vllm"]).and_then(keys::image);
    filled_in(&mut container, input, common, part);
    let script = part
        .at(&["vllm", "customCommand"])
        .filter(|script| script.text().is_some());
    if let Some(script) = script {
        let text = Text::of_node(input.world.sources(), script);
        container.entrypoint = Some(keys::literal(&["/bin/bash", "-c"]));
        container.arguments = Some(Words::List(vec![text]));
    } else {
        let extra = part
            .at(&["vllm", "additionalFlags"])
            .or_else(|| part.get("extraArgs"));
        container.arguments = keys::arguments(extra, input, &container.environment);
    }
    keys::set_resources(&mut container, part.get("resources"));
    container.accelerators.kinds = kinds(part, common);
    let mut served = keys::serve(container, input, Format::LlmD, Engine::Vllm);
    let deployment = &mut served.deployment;
    let model = common.get("model");
    keys::set_model(deployment, input, model.and_then(|model| model.get("name")));
    keys::hint(deployment, model.and_then(|model| model.get("huggingfaceId")));
    let settings = [
        ("maxModelLen", "context"),
        ("gpuMemoryUtilization", "memory_fraction"),
        ("maxNumSeq", "max_sequences"),
        ("maxNumBatchedTokens", "max_batched_tokens"),
        ("blockSize", "block_size"),
    ];
    keys::set_all(deployment, input, model, &settings);
    let flags = [("enforceEager", "enforce_eager")];
    keys::set_all(deployment, input, common.at(&["vllmCommon", "flags"]), &flags);
    parallelism(deployment, input, part);
    keys::set_count(deployment, input, part.at(&["accelerator", "count"]));
    keys::set(deployment, input, "replicas", part.get("replicas"));
    served.add_to(declared);
}

/// The variables that the tool sets before it runs a command of the scenario.
fn filled_in(container: &mut Container, input: &Input<'_>, common: Node<'_>, part: Node<'_>) {
    let model = common.get("model");
    let of_model = |key: &str| model.and_then(|model| model.get(key));
    for (name, value) in [
        ("MODEL_NAME", of_model("name")),
        ("MODEL_PATH", of_model("path")),
        ("VLLM_MAX_MODEL_LEN", of_model("maxModelLen")),
        ("VLLM_BLOCK_SIZE", of_model("blockSize")),
        ("VLLM_MAX_NUM_SEQ", of_model("maxNumSeq")),
        ("VLLM_MAX_NUM_BATCHED_TOKENS", of_model("maxNumBatchedTokens")),
        ("VLLM_ACCELERATOR_MEM_UTIL", of_model("gpuMemoryUtilization")),
        ("TP_SIZE", part.at(&["parallelism", "tensor"])),
        ("DP_SIZE", part.at(&["parallelism", "data"])),
        ("DP_SIZE_LOCAL", part.at(&["parallelism", "dataLocal"])),
    ] {
        if let Some(value) = value.filter(|value| value.text().is_some()) {
            let text = Text::of_node(input.world.sources(), value);
            container.environment.set_text(name, text);
        }
    }
    keys::add_environment(&mut container.environment, part.get("extraEnvVars"), input);
}
