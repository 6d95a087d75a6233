//! NVIDIA Dynamo: `DynamoGraphDeployment` (services by name, or a list of components in later versions), one
//! component by itself, and requests that name a model and leave the rest to a profiler.
//!
//! Frontends, planners and routers run the same images as workers: only what a command, the old
//! `DYN_DEPLOYMENT_CONFIG` or the kind of component tells to be a worker is one. Source: ai-dynamo/dynamo
//! deploy/operator/api, recipes.

use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::command::{Environment, Words, image_engine};
use crate::manifest::container::Container;
use crate::manifest::keys::{self, is_object};
use crate::manifest::kubernetes::{accelerators, pod};
use crate::manifest::{Declared, Deployment, Format, Input};
use crate::source::tree::{Node, Shape, Tree};

/// The variable that held every component's settings until 0.3.
const OLD_CONFIG: &str = "DYN_DEPLOYMENT_CONFIG";

/// The name under which `catalog/machines` knows the SKUs of requests.
const SKUS: &str = "dynamo";

/// True for such an object.
pub fn recognizes(input: &Input<'_>) -> bool {
    let kinds = [
        "DynamoGraphDeployment",
        "DynamoComponentDeployment",
        "DynamoGraphDeploymentRequest",
    ];
    is_object(input.root, "nvidia.com", &kinds)
}

/// Reads such an object.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let Some(spec) = input.root.get("spec") else {
        return declared;
    };
    match input.root.get("kind").and_then(Node::text) {
        Some("DynamoGraphDeploymentRequest") => request(&mut declared, input, spec),
        Some("DynamoComponentDeployment") => {
            component(&mut declared, input, spec, keys::object_name(input.root), spec);
        }
        _ => graph(&mut declared, input, spec),
    }
    declared
}

fn graph(declared: &mut Declared, input: &Input<'_>, spec: Node<'_>) {
    for (key, service) in spec.get("services").map(Node::entries).unwrap_or_default() {
        let name = Fact::at(key.text().unwrap_or("").to_owned(), key.span());
        component(declared, input, spec, name, service);
    }
    for listed in spec.get("components").into_iter().flat_map(Node::items) {
        let name = ["name", "componentName"]
            .iter()
            .find_map(|key| listed.get(key).and_then(keys::written));
        let name = name.unwrap_or_else(|| Fact::derived(String::new(), [listed.span()]));
        component(declared, input, spec, name, listed);
    }
}

/// What kind of component it is, in lower case.
fn role(service: Node<'_>) -> String {
    ["componentType", "type"]
        .iter()
        .find_map(|key| service.get(key).and_then(Node::text))
        .unwrap_or("")
        .to_ascii_lowercase()
}

/// One component of a graph; `graph` is the spec that it stands in.
fn component(
    declared: &mut Declared,
    input: &Input<'_>,
    graph: Node<'_>,
    name: Fact<String>,
    service: Node<'_>,
) {
    let role = role(service);
    if matches!(
        role.as_str(),
        "frontend" | "main" | "planner" | "router" | "epp" | "default"
    ) {
        return;
    }
    let mut environment = Environment::default();
    keys::add_environment(&mut environment, graph.get("envs"), input);
    keys::add_environment(&mut environment, graph.get("env"), input);
    keys::add_environment(&mut environment, service.get("envs"), input);
    let mut found = Declared::default();
    for mut container in containers(service, &environment, input) {
        container.name = name.clone();
        container.span = service.span();
        if container.entrypoint.is_none() && container.arguments.is_none() {
            continue;
        }
        let started = container.deployments(input, Format::Dynamo, &name);
        keys::add_started(&mut found, started);
    }
    if found.deployments.is_empty() {
        let old = old_config(&environment, input, graph, &name, service);
        found.deployments.extend(old);
    }
    for deployment in &mut found.deployments {
        let nodes = service
            .at(&["multinode", "nodeCount"])
            .or_else(|| service.get("nodeCount"));
        keys::set(deployment, input, "nodes", nodes);
        keys::set(deployment, input, "replicas", service.get("replicas"));
        let shm = service.at(&["sharedMemory", "size"]);
        keys::set_bytes(
            deployment,
            "shm_bytes",
            shm.or_else(|| service.get("sharedMemorySize")),
        );
    }
    declared.deployments.append(&mut found.deployments);
    declared.findings.append(&mut found.findings);
}

/// The containers of a component: its main one, or those of a pod template.
fn containers(service: Node<'_>, around: &Environment, input: &Input<'_>) -> Vec<Container> {
    let mut all = match service
        .get("podTemplate")
        .and_then(|template| template.get("spec"))
    {
        Some(spec) => pod::containers(spec, input),
        None => Vec::new(),
    };
    if let Some(extra) = service.get("extraPodSpec") {
        if let Some(main) = extra.get("mainContainer") {
            let mut container = pod::container(main, input);
            container.accelerators.kinds = accelerators::kinds(extra);
            pod::mounts(extra, main, input, &mut container);
            all.push(container);
        }
        all.extend(pod::containers(extra, input));
    }
    for container in &mut all {
        for (name, variable) in around.iter() {
            if container.environment.get(name).is_none() {
                container.environment.set(name, variable.clone());
            }
        }
        if let Some(resources) = service.get("resources") {
            resource(container, resources);
        }
    }
    all
}

/// `resources` of a component: `gpu` counts accelerators, `custom` names a resource.
fn resource(container: &mut Container, resources: Node<'_>) {
    for kind in ["limits", "requests"] {
        let Some(part) = resources.get(kind) else { continue };
        let gpu = part.get("gpu");
        if let (None, Some(count)) = (&container.accelerators.count, gpu.and_then(Node::as_u64)) {
            let span = gpu.map_or_else(|| part.span(), Node::mention);
            container.accelerators.count = Some(Fact::at(crate::manifest::Count::Number(count), span));
            keys::set_resource(&mut container.accelerators, part.get("gpuType"));
        }
    }
    if container.accelerators.count.is_none() {
        let kinds = std::mem::take(&mut container.accelerators.kinds);
        container.accelerators = accelerators::of_resources(resources);
        container.accelerators.kinds = kinds;
    }
    if container.host_memory_bytes.is_none() {
        container.host_memory_bytes = pod::memory(resources);
    }
}

/// A worker of the time when one variable held a JSON text with a section for each component and one for all.
fn old_config(
    environment: &Environment,
    input: &Input<'_>,
    graph: Node<'_>,
    name: &Fact<String>,
    service: Node<'_>,
) -> Option<Deployment> {
    let node = [Some(graph), Some(service)]
        .into_iter()
        .flatten()
        .filter_map(|holder| holder.get("envs"))
        .flat_map(Node::items)
        .find(|entry| entry.get("name").and_then(Node::text) == Some(OLD_CONFIG))?
        .get("value")?;
    let tree = Tree::embedded(input.source(), node);
    let root = tree.documents.first()?.root();
    let section = root.get(&name.value)?;
    let mut container = containers(service, environment, input)
        .into_iter()
        .next()
        .unwrap_or_else(|| Container::new(name.clone(), service.span()));
    container.name = name.clone();
    container.span = service.span();
    let engine = backend(graph, service, name, &container)?;
    let mut words = Vec::new();
    for part in root.get("Common").into_iter().chain([section]) {
        words.extend(keys::flags(part, input));
    }
    container.entrypoint = Some(keys::executable(engine));
    container.arguments = Some(Words::List(words));
    if let Some(resources) = section
        .at(&["ServiceArgs", "resources"])
        .filter(|_| container.accelerators.count.is_none())
    {
        container.accelerators.count = resources.get("gpu").and_then(|gpu| {
            Some(Fact::at(
                crate::manifest::Count::Number(gpu.as_u64()?),
                gpu.mention(),
            ))
        });
    }
    let named = section
        .get("model")
        .or_else(|| root.at(&["Common", "model"]))
        .filter(|model| model.shape() == Shape::Scalar);
    container.accelerators.count.as_ref().or(None)?;
    let mut deployment = keys::serve(container, input, Format::Dynamo, engine).deployment;
    keys::set_model(&mut deployment, input, named);
    Some(deployment)
}

/// The engine by the graph's framework, the component's name or its image.
fn backend(graph: Node<'_>, service: Node<'_>, name: &Fact<String>, container: &Container) -> Option<Engine> {
    let declared = [service, graph]
        .iter()
        .find_map(|holder| holder.get("backendFramework").and_then(Node::text))
        .and_then(Engine::parse);
    let lower = name.value.to_ascii_lowercase();
    let by_name = || {
        [Engine::Vllm, Engine::Sglang]
            .into_iter()
            .find(|engine| lower.contains(engine.name()))
            .or_else(|| {
                (lower.contains("trtllm") || lower.contains("tensorrt")).then_some(Engine::TensorrtLlm)
            })
    };
    let by_image = || container.image.as_ref().and_then(image_engine)?.engine;
    declared.or_else(by_name).or_else(by_image)
}

/// A request: a model, perhaps a backend, and the hardware to profile on.
fn request(declared: &mut Declared, input: &Input<'_>, spec: Node<'_>) {
    let backend = spec.get("backend").or_else(|| spec.get("backendFramework"));
    let engine = backend.and_then(Node::text).and_then(Engine::parse);
    let name = keys::object_name(input.root);
    let mut deployment = Deployment::new(name, input.source().id(), input.root.span(), Format::Dynamo);
    if let (Some(engine), Some(backend)) = (engine, backend) {
        deployment.engine = Some(Fact::at(engine, backend.mention()));
    }
    keys::set_model(&mut deployment, input, spec.get("model"));
    let sku = spec.at(&["hardware", "gpuSku"]);
    deployment.accelerators.kinds = keys::kind_of(SKUS, sku);
    if deployment.model.is_some() || !deployment.unresolved.is_empty() {
        declared.deployments.push(deployment);
    }
}
