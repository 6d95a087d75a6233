//! llmaz: a `Playground`, or a `Service` with a workload of its own, joined to the `OpenModel`s that it claims.
//!
//! The model's flavors name the accelerator and its limits. Source: `InftyAI/llmaz` api/core/v1alpha1,
//! api/inference/v1alpha1.

use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::command::{Environment, Text};
use crate::manifest::container::Container;
use crate::manifest::keys::{self, is_object};
use crate::manifest::kubernetes::{accelerators, pod};
use crate::manifest::{Declared, Deployment, Format, Input};
use crate::source::tree::Node;

/// The name under which `catalog/machines` knows flavors.
const FLAVORS: &str = "llmaz";

/// True for such an object.
pub fn recognizes(input: &Input<'_>) -> bool {
    is_object(input.root, "inference.llmaz.io", &["Playground", "Service"])
}

/// Reads such an object.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let Some(spec) = input.root.get("spec") else {
        return declared;
    };
    if input.root.get("kind").and_then(Node::text) == Some("Playground") {
        playground(&mut declared, input, spec);
    } else {
        service(&mut declared, input, spec);
    }
    declared
}

/// The claimed models by role; one without a role is the one to serve.
fn claims<'t>(spec: Node<'t>) -> Vec<(Option<&'t str>, Node<'t>)> {
    if let Some(name) = spec.at(&["modelClaim", "modelName"]) {
        return vec![(None, name)];
    }
    let models = spec.at(&["modelClaims", "models"]);
    let claim = |claim: Node<'t>| Some((claim.get("role").and_then(Node::text), claim.get("name")?));
    models
        .into_iter()
        .flat_map(Node::items)
        .filter_map(claim)
        .collect()
}

fn playground(declared: &mut Declared, input: &Input<'_>, spec: Node<'_>) {
    let runtime = spec.get("backendRuntimeConfig");
    let backend = runtime.and_then(|runtime| runtime.get("backendName").or_else(|| runtime.get("name")));
    let engine = match backend.and_then(Node::text) {
        // The operator's default backend.
        None => Engine::Vllm,
        Some(name) => match Engine::parse(name) {
            Some(engine) => engine,
            None => return,
        },
    };
    let mut container = Container::new(keys::object_name(input.root), input.root.span());
    let from = |key: &str| runtime.and_then(|runtime| runtime.get(key));
    keys::add_environment(&mut container.environment, from("envs"), input);
    container.arguments = keys::arguments(from("args"), input, &container.environment);
    let mut served = keys::serve(container, input, Format::Llmaz, engine);
    let deployment = &mut served.deployment;
    claimed(deployment, input, spec);
    if let Some(resources) = from("resources") {
        let asked = accelerators::of_resources(resources);
        if asked.count.is_some() {
            deployment.accelerators.count = asked.count;
            deployment.accelerators.resource = asked.resource;
        }
        if let Some(memory) = pod::memory(resources) {
            let memory = memory.map(|bytes| bytes.to_string());
            deployment.settings.set("host_memory_bytes", memory);
        }
    }
    keys::set(deployment, input, "replicas", spec.get("replicas"));
    served.add_to(declared);
}

/// A workload of leader and workers, as a `LeaderWorkerSet` has it.
fn service(declared: &mut Declared, input: &Input<'_>, spec: Node<'_>) {
    let Some(workload) = spec.get("workloadTemplate") else {
        return;
    };
    let leader = workload
        .get("leaderTemplate")
        .or_else(|| workload.get("workerTemplate"));
    let Some(pod_spec) = leader.and_then(|template| template.get("spec")) else {
        return;
    };
    let name = keys::object_name(input.root);
    // The controller tells every pod how many they are.
    let mut injected = Environment::default();
    if let Some(size) = workload.get("size").filter(|size| size.text().is_some()) {
        injected.set_text("LWS_GROUP_SIZE", Text::of_node(input.world.sources(), size));
    }
    let mut started = pod::deployments_with(pod_spec, input, Format::Llmaz, &name, &injected);
    for deployment in &mut started.deployments {
        let own = deployment.model.take();
        claimed(deployment, input, spec);
        match own {
            Some(own) if deployment.model.is_some() => deployment.model_hints.push(own),
            own => deployment.model = deployment.model.take().or(own),
        }
        keys::set(deployment, input, "nodes", workload.get("size"));
        keys::set(deployment, input, "replicas", spec.get("replicas"));
    }
    keys::add_started(declared, started);
}

/// What the claimed models say: the model, its draft, and the accelerators of the first flavor's limits.
fn claimed(deployment: &mut Deployment, input: &Input<'_>, spec: Node<'_>) {
    for (role, name) in claims(spec) {
        let object = name
            .text()
            .and_then(|name| input.world.object(input.file, "OpenModel", name));
        let Some(model) = object.and_then(|object| object.node.get("spec")) else {
            keys::hint(deployment, Some(name));
            continue;
        };
        match role {
            Some("draft") => {
                if let Some(source) = source(model) {
                    deployment.settings.set("draft_model", source);
                }
            }
            Some("lora") => {}
            _ => {
                target(deployment, input, model);
                flavors(deployment, spec, model);
            }
        }
    }
}

/// Where a model comes from: a hub's id, or a URI.
fn source(model: Node<'_>) -> Option<Fact<String>> {
    let hub = model.at(&["source", "modelHub", "modelID"]);
    hub.or_else(|| model.at(&["source", "uri"]))
        .and_then(keys::written)
}

fn target(deployment: &mut Deployment, input: &Input<'_>, model: Node<'_>) {
    let hub = model.at(&["source", "modelHub"]);
    let named = hub.and_then(|hub| hub.get("modelID"));
    keys::set_model(deployment, input, named.or_else(|| model.at(&["source", "uri"])));
    keys::hint(deployment, hub.and_then(|hub| hub.get("filename")));
    keys::set(
        deployment,
        input,
        "model_revision",
        hub.and_then(|hub| hub.get("revision")),
    );
}

/// The flavors that the claim allows, or all of the model's: alternatives in the order of preference.
fn flavors(deployment: &mut Deployment, spec: Node<'_>, model: Node<'_>) {
    let chosen: Vec<&str> = ["modelClaim", "modelClaims"]
        .iter()
        .filter_map(|claim| spec.at(&[claim, "inferenceFlavors"]))
        .flat_map(Node::items)
        .filter_map(Node::text)
        .collect();
    let all = model
        .at(&["inferenceConfig", "flavors"])
        .or_else(|| model.get("inferenceFlavors"));
    for flavor in all.into_iter().flat_map(Node::items) {
        let Some(name) = flavor.get("name") else { continue };
        if !chosen.is_empty() && !name.text().is_some_and(|name| chosen.contains(&name)) {
            continue;
        }
        let asked = accelerators::of_resources(flavor);
        let count = asked.number();
        if deployment.accelerators.count.is_none() {
            deployment.accelerators.count = asked.count;
            deployment.accelerators.resource = asked.resource;
        }
        let mut kinds = keys::kind_of(FLAVORS, Some(name));
        kinds.iter_mut().for_each(|kind| kind.count = count);
        deployment.accelerators.kinds.append(&mut kinds);
    }
}
