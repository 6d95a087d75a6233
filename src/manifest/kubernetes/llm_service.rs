//! KServe's LLMInferenceService, and the configs that it is based on.
//!
//! The spec itself is the workload that decodes (or the only one), `prefill` is a second one. Where no command is
//! given KServe runs `vllm serve /mnt/models` with the words of `VLLM_ADDITIONAL_ARGS` and of `args` (kserve/kserve
//! config/llmisvcconfig/config-llm-template.yaml); the same command stands here in its place.

use super::kserve::{MODEL_PATH, settle_model, with_container};
use super::merge::{Lists, merged};
use super::workload::{Size, Workload, count, set};
use super::{Object, all_of};
use crate::fact::Fact;
use crate::manifest::container::Started;
use crate::manifest::{Deployment, Format, Input};
use crate::source::tree::{Assembly, Document, Node, Part, Shape};

/// The container that serves.
const CONTAINER: &str = "main";
/// The variable whose words KServe's command takes in.
const ARGUMENTS: &str = "VLLM_ADDITIONAL_ARGS";

/// An LLMInferenceService with its `baseRefs`.
pub(super) fn service(object: &Object<'_>, input: &Input<'_>) -> Started {
    let Some(own) = object.spec(&[]) else {
        return Started::default();
    };
    let based = based(own, input);
    let spec = based.as_ref().map_or(own, Document::root);
    read(spec, &parts(spec), object, input)
}

/// An LLMInferenceServiceConfig by itself: what it leaves to the services is unresolved. One that a service in the
/// same folder builds on is read with it.
pub(super) fn config(object: &Object<'_>, input: &Input<'_>) -> Started {
    let Some(spec) = object.spec(&[]) else {
        return Started::default();
    };
    let name = object.name().value;
    let services = input.world.objects_of_kind("LLMInferenceService");
    let used = services.iter().any(|service| {
        let references = service.node.at(&["spec", "baseRefs"]);
        let mut references = references.into_iter().flat_map(Node::items);
        service.file.folder == input.file.folder
            && references.any(|reference| reference.get("name").and_then(Node::text) == Some(&name))
    });
    if used {
        return Started::default();
    }
    let parts = parts(spec);
    let says = |part: &&(Node<'_>, &str)| {
        let main = part.0.get("template").and_then(main_container);
        main.is_some_and(is_engine)
    };
    let parts: Vec<_> = parts.iter().filter(says).copied().collect();
    read(spec, &parts, object, input)
}

/// The workloads of a spec and their names.
fn parts(spec: Node<'_>) -> Vec<(Node<'_>, &'static str)> {
    let prefill = spec
        .get("prefill")
        .filter(|prefill| prefill.shape() == Shape::Mapping);
    let mut parts = vec![(spec, "decode")];
    parts.extend(prefill.map(|prefill| (prefill, "prefill")));
    parts
}

/// True for a container that says how to serve, and not only what to mount or to probe.
fn is_engine(container: Node<'_>) -> bool {
    ["image", "command", "args", "resources"]
        .iter()
        .any(|key| container.get(key).is_some())
        || variable(container, ARGUMENTS).is_some()
}

/// The configs of the tree that a spec builds on, one over the other, and the spec over them.
fn based(own: Node<'_>, input: &Input<'_>) -> Option<Document> {
    let mut whole: Option<Document> = None;
    for reference in own.get("baseRefs").into_iter().flat_map(Node::items) {
        let name = reference.get("name").and_then(Node::text).unwrap_or("");
        let config = input.world.object(input.file, "LLMInferenceServiceConfig", name);
        let Some(spec) = config.and_then(|config| config.node.get("spec")) else {
            continue;
        };
        whole = Some(match &whole {
            Some(below) => merged(below.root(), spec, Lists::ByKey),
            None => merged(spec, spec, Lists::ByKey),
        });
    }
    let whole = whole?;
    Some(merged(whole.root(), own, Lists::ByKey))
}

fn read(spec: Node<'_>, parts: &[(Node<'_>, &str)], object: &Object<'_>, input: &Input<'_>) -> Started {
    let mut all = Started::default();
    for (node, role) in parts.iter().copied() {
        let name = match parts.len() {
            1 => object.name(),
            _ => Fact::derived(role.to_owned(), [start(node, spec)]),
        };
        let pod = pod(node, spec);
        let workload = Workload {
            pod: Some(pod.root()),
            workers: node.get("worker"),
            nodes: nodes(node),
            replicas: count(node, "replicas"),
            ..Workload::new(Format::KserveLlm, name)
        };
        let mut started = all_of([workload], object, input);
        for deployment in &mut started.deployments {
            without_templates(&mut deployment.args);
            parallelism(deployment, node);
            devices(deployment, object.root);
            settle_model(deployment, spec.at(&["model", "uri"]));
            let name = spec.at(&["model", "name"]);
            let name = name.and_then(|name| Some(Fact::at(name.text()?.to_owned(), name.mention())));
            deployment.model_hints.splice(0..0, name);
        }
        all.deployments.append(&mut started.deployments);
        all.findings.append(&mut started.findings);
    }
    all
}

/// Leaves out the actions of Go templates that KServe runs (`--tensor-parallel-size {{ .Spec.Parallelism.Tensor }}`),
/// with the flag that takes their value: the spec says it too.
fn without_templates(args: &mut Vec<Fact<String>>) {
    let mut kept: Vec<Fact<String>> = Vec::new();
    let mut inside = false;
    for word in args.drain(..) {
        let value = word.value.as_str();
        if !inside && value.starts_with("{{") {
            let takes_value = |flag: &Fact<String>| flag.value.starts_with("--") && !flag.value.contains('=');
            if !value.starts_with("{{-") && kept.last().is_some_and(takes_value) {
                kept.pop();
            }
            inside = true;
        }
        if inside {
            let (open, close) = (value.rfind("{{"), value.rfind("}}"));
            inside = close.is_none() || open > close;
            continue;
        }
        kept.push(word);
    }
    *args = kept;
}

/// Where a workload is declared.
fn start(node: Node<'_>, spec: Node<'_>) -> crate::source::Span {
    let place = node.get("template").or_else(|| spec.get("model")).unwrap_or(node);
    super::start_of(place)
}

fn main_container(pod: Node<'_>) -> Option<Node<'_>> {
    let containers: Vec<Node<'_>> = pod.get("containers").into_iter().flat_map(Node::items).collect();
    let named = containers
        .iter()
        .find(|container| container.get("name").and_then(Node::text) == Some(CONTAINER));
    named.or(containers.first()).copied()
}

fn variable<'t>(container: Node<'t>, name: &str) -> Option<Node<'t>> {
    let mut all = container.get("env")?.items();
    all.find(|variable| variable.get("name").and_then(Node::text) == Some(name))
}

/// The pod of a workload, with KServe's command where it has none.
fn pod(workload: Node<'_>, spec: Node<'_>) -> Document {
    let template = workload.get("template");
    let main = template.and_then(main_container);
    let mut assembly = Assembly::default();
    let span = main.map_or_else(|| start(workload, spec), Node::span);
    let mut pairs: Vec<(Part, Part)> = Vec::new();
    for (key, value) in main.map(Node::entries).unwrap_or_default() {
        pairs.push((assembly.copy(key), assembly.copy(value)));
    }
    if main.is_none_or(|main| main.get("command").is_none()) {
        // KServe's own script evaluates the variable, so quotes in it count.
        let extra = match main.and_then(|main| variable(main, ARGUMENTS)) {
            Some(_) => format!("eval \"vllm serve {MODEL_PATH} ${{{ARGUMENTS}}}\" '\"$@\"'"),
            None => format!("vllm serve {MODEL_PATH} \"$@\""),
        };
        let words = ["/bin/bash", "-c", &extra, "--"].map(|word| assembly.scalar(span, word));
        let key = assembly.scalar(span, "command");
        pairs.push((key, assembly.sequence(span, &words)));
    }
    let root = assembly.mapping(span, &pairs);
    let container = assembly.finish(root);
    let name = main.and_then(|main| main.get("name")).and_then(Node::text);
    let mut nothing = Assembly::default();
    let empty = nothing.mapping(span, &[]);
    let nothing = nothing.finish(empty);
    with_container(template.unwrap_or_else(|| nothing.root()), container.root(), name)
}

/// How many pods form one engine: the ranks of data parallelism over those of one pod, or the stages of the pipeline
/// where there are workers (kserve/kserve `ParallelismSpec.GetSize`).
fn nodes(workload: Node<'_>) -> Option<Size> {
    let parallelism = workload.get("parallelism")?;
    let number = |key: &str| parallelism.get(key).and_then(Node::as_u64);
    if let (Some(data), Some(local)) = (number("data"), number("dataLocal").filter(|local| *local > 0)) {
        let spans = ["data", "dataLocal"]
            .iter()
            .filter_map(|key| parallelism.get(key));
        let nodes = data.div_ceil(local);
        return Some(Size::Pods(Fact::derived(nodes, spans.map(Node::span))));
    }
    workload.get("worker")?;
    Size::of(parallelism.get("pipeline")?)
}

fn parallelism(deployment: &mut Deployment, workload: Node<'_>) {
    const KEYS: [(&str, &str); 4] = [
        ("tensor", "tensor_parallel"),
        ("pipeline", "pipeline_parallel"),
        ("data", "data_parallel"),
        ("dataLocal", "data_parallel_local"),
    ];
    let Some(parallelism) = workload.get("parallelism") else {
        return;
    };
    for (key, id) in KEYS {
        if let Some(value) = count(parallelism, key) {
            set(deployment, id, &value);
            deployment.unresolved.retain(|field| field != id);
        }
    }
    if let Some(expert) = parallelism
        .get("expert")
        .filter(|expert| expert.as_bool() == Some(true))
    {
        let value = Fact::at("true".to_owned(), expert.mention());
        deployment.settings.set("expert_parallel", value);
    }
}

/// Devices that annotations ask for (kserve/kserve docs/samples/llmisvc/managed-dra).
fn devices(deployment: &mut Deployment, object: Node<'_>) {
    let annotation = |name: &str| {
        let key = format!("serving.kserve.io/exp-dra-device-{name}");
        object
            .at(&["metadata", "annotations", &key])
            .filter(|value| value.text().is_some())
    };
    let Some(class) = annotation("class").filter(|_| deployment.accelerators.count.is_none()) else {
        return;
    };
    let accelerators = &mut deployment.accelerators;
    accelerators.resource = class
        .text()
        .map(|text| Fact::at(text.to_owned(), class.mention()));
    accelerators.count = annotation("count").and_then(|count| {
        let number = crate::manifest::Count::Number(count.as_u64()?);
        Some(Fact::at(number, count.mention()))
    });
}
