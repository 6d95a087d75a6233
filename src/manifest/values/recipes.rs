//! Values of the charts in AI-Hypercomputer/gpu-recipes.
//!
//! The older charts have `model` with sizes, `job.gpus` (over all nodes) and one section named for its engine with
//! the server's flags; the newer have all in `workload`.

use super::Section;
use crate::engine::Engine;
use crate::engine::args::is_placeholder;
use crate::fact::Fact;
use crate::manifest::command::{Environment, Words, image_engine};
use crate::manifest::container::Container;
use crate::manifest::keys;
use crate::manifest::kubernetes::accelerators;
use crate::manifest::{Declared, Input};
use crate::source::tree::{Node, Shape};

/// Sections that are named for an engine.
const ENGINES: [(&str, Engine); 4] = [
    ("vllm", Engine::Vllm),
    ("sglang", Engine::Sglang),
    ("trtllm", Engine::TensorrtLlm),
    ("tensorrt_llm", Engine::TensorrtLlm),
];

/// True for values of either generation.
pub(super) fn recognizes(node: Node<'_>) -> bool {
    let older = node.at(&["job", "gpus"]).is_some() && node.at(&["model", "name"]).is_some();
    let newer = node.get("workload").is_some_and(|workload| {
        workload.get("framework").is_some()
            && (workload.get("model").is_some() || workload.get("image").is_some())
    });
    older && engine_section(node).is_some() || newer
}

fn engine_section(node: Node<'_>) -> Option<(Engine, Node<'_>, Node<'_>)> {
    ENGINES.iter().find_map(|(key, engine)| {
        let (name, section) = node.entry(key)?;
        (section.shape() == Shape::Mapping).then_some((*engine, name, section))
    })
}

/// Reads values of either generation.
pub(super) fn read(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) {
    match section.node.get("workload") {
        Some(workload) => newer(declared, input, section, workload),
        None => older(declared, input, section),
    }
}

fn older(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) {
    let node = section.node;
    let Some((engine, key, server)) = engine_section(node) else {
        return;
    };
    let name = Fact::at(key.text().unwrap_or("").to_owned(), key.span());
    let mut container = Container::new(name, node.span());
    container.image = node.at(&["job", "image"]).and_then(keys::image);
    container.arguments = keys::arguments(server.get("serverArgs"), input, &Environment::default());
    container.accelerators.kinds = accelerators::kinds(node);
    let mut served = keys::serve(container, input, section.format, engine);
    let deployment = &mut served.deployment;
    let model = node.get("model");
    keys::set_model(deployment, input, model.and_then(|model| model.get("name")));
    let sizes = [("tp_size", "tensor_parallel"), ("pp_size", "pipeline_parallel")];
    keys::set_all(deployment, input, model, &sizes);
    keys::set_count(deployment, input, node.at(&["job", "gpus"]));
    keys::set(deployment, input, "replicas", server.get("replicaCount"));
    served.add_to(declared);
}

fn newer(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>, workload: Node<'_>) {
    let image = workload.get("image").and_then(keys::image);
    let named = workload
        .get("framework")
        .and_then(Node::text)
        .and_then(Engine::parse);
    let engine = named.or_else(|| image.as_ref().and_then(image_engine)?.engine);
    let model = workload
        .at(&["model", "name"])
        .or_else(|| workload.get("model"))
        .filter(|model| keys::written(*model).is_some());
    let Some(engine) =
        engine.filter(|_| model.is_some() || image.is_some() || workload.get("gpus").is_some())
    else {
        return;
    };
    let workers = section.node.get("dynamo").map(workers).unwrap_or_default();
    let parts: Vec<(Fact<String>, Option<Node<'_>>)> = if workers.is_empty() {
        vec![(section.name.clone(), None)]
    } else {
        workers
    };
    for (name, worker) in parts {
        let mut container = Container::new(name, workload.span());
        container.image.clone_from(&image);
        for key in ["envs", "extraEnv"] {
            keys::add_environment(&mut container.environment, workload.get(key), input);
        }
        container.arguments = extra(workload, input, &container.environment);
        container.shm_bytes = workload.get("shmSize").and_then(keys::bytes);
        container.accelerators.kinds = accelerators::kinds(section.node);
        let mut served = keys::serve(container, input, section.format, engine);
        let deployment = &mut served.deployment;
        keys::set_model(deployment, input, model);
        keys::hint(deployment, workload.get("modelPath"));
        let settings = [
            ("nnodes", "nodes"),
            ("tpSize", "tensor_parallel"),
            ("ppSize", "pipeline_parallel"),
            ("dpSize", "data_parallel"),
        ];
        keys::set_all(deployment, input, Some(workload), &settings);
        keys::set_count(deployment, input, workload.get("gpus"));
        let nodes = [("nodeCount", "nodes"), ("replicas", "replicas")];
        keys::set_all(deployment, input, worker, &nodes);
        served.add_to(declared);
    }
}

/// The workers of a disaggregated deployment.
fn workers(dynamo: Node<'_>) -> Vec<(Fact<String>, Option<Node<'_>>)> {
    let worker = |key: &str| {
        let (name, worker) = dynamo.entry(key)?;
        let name = Fact::at(name.text()?.to_owned(), name.span());
        Some((name, Some(worker)))
    };
    ["decodeWorker", "prefillWorker"]
        .iter()
        .filter_map(|key| worker(key))
        .collect()
}

/// Flags of `extraArgs`, and of the file that `configFile` names where that is in the tree.
fn extra(workload: Node<'_>, input: &Input<'_>, environment: &Environment) -> Option<Words> {
    let file = workload
        .get("configFile")
        .and_then(Node::text)
        .filter(|path| !is_placeholder(path))
        .and_then(|path| input.world.file(&input.file.folder, path));
    let flags = file
        .and_then(|file| file.tree.documents.first())
        .map(|document| Words::List(keys::flags(document.root(), input)));
    let extra = keys::arguments(workload.get("extraArgs"), input, environment);
    keys::joined(flags, extra, input, environment)
}
