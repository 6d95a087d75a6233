//! KAITO: `Workspace`, `InferenceSet` and `MultiRoleInference`.
//!
//! A preset names the model and its engine is vLLM; a ConfigMap holds the engine's options; the instance type tells
//! kind and number of accelerators. Fine-tuning workspaces and RAG engines serve nothing that can be sized.
//! Source: `api/v1beta1/workspace_types.go` of kaito-project/kaito.

use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::command::{Text, Words};
use crate::manifest::container::Container;
use crate::manifest::keys::{self, is_object};
use crate::manifest::kubernetes::pod;
use crate::manifest::{Declared, Deployment, Filled, Format, Input};
use crate::source::tree::{Node, Tree};

/// The label whose values are instance types.
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// True for such an object.
pub fn recognizes(input: &Input<'_>) -> bool {
    let kinds = ["Workspace", "InferenceSet", "MultiRoleInference"];
    is_object(input.root, "kaito.sh", &kinds)
}

/// Reads such an object.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let root = input.root;
    match root.get("kind").and_then(Node::text) {
        Some("MultiRoleInference") => roles(&mut declared, input),
        Some("InferenceSet") => {
            if let Some(template) = root.at(&["spec", "template"]) {
                let replicas = root.at(&["spec", "replicas"]);
                workspace(&mut declared, input, template, replicas);
            }
        }
        _ => workspace(&mut declared, input, root, None),
    }
    declared
}

/// `resource` and `inference`, wherever they stand.
fn workspace(declared: &mut Declared, input: &Input<'_>, node: Node<'_>, replicas: Option<Node<'_>>) {
    let Some(inference) = node.get("inference") else {
        return;
    };
    let name = keys::object_name(input.root);
    let resource = node.get("resource");
    if let Some(spec) = inference.at(&["template", "spec"]) {
        let mut started = pod::deployments(spec, input, Format::Kaito, &name);
        for deployment in &mut started.deployments {
            machines(deployment, input, resource);
        }
        keys::add_started(declared, started);
        return;
    }
    let Some(preset) = inference.at(&["preset", "name"]) else {
        return;
    };
    let mut container = Container::new(name, input.root.span());
    container.arguments = options(inference.get("config"), input);
    let mut served = keys::serve(container, input, Format::Kaito, runtime(input.root));
    let deployment = &mut served.deployment;
    keys::set_model(deployment, input, Some(preset));
    keys::set(deployment, input, "replicas", replicas);
    machines(deployment, input, resource);
    spread(deployment);
    if replicas.is_some() || input.root.get("kind").and_then(Node::text) == Some("InferenceSet") {
        leave_nodes_open(deployment);
    }
    served.add_to(declared);
}

/// The runtime of an annotation; vLLM without one.
fn runtime(root: Node<'_>) -> Engine {
    match root
        .at(&["metadata", "annotations", "kaito.sh/runtime"])
        .and_then(Node::text)
    {
        Some("transformers") => Engine::Transformers,
        _ => Engine::Vllm,
    }
}

/// Instance type, nodes, and the partition that one workload gets.
fn machines(deployment: &mut Deployment, input: &Input<'_>, resource: Option<Node<'_>>) {
    let Some(resource) = resource else { return };
    let kinds = keys::kind_of(INSTANCE_TYPE, resource.get("instanceType"));
    if !kinds.is_empty() {
        deployment.accelerators.kinds = kinds;
    }
    keys::set(deployment, input, "nodes", resource.get("count"));
    let Some(partition) = resource.get("partition") else {
        return;
    };
    match partition.get("mode").and_then(Node::text) {
        Some("mig") => {
            let profile = partition.get("profile").and_then(keys::written);
            deployment.accelerators.resource =
                profile.map(|profile| profile.map(|name| format!("nvidia.com/mig-{name}")));
        }
        _ => keys::set_count(deployment, input, partition.get("count")),
    }
}

/// KAITO splits layers over every accelerator of a node, and the model's depth over the nodes, where its options do
/// not say otherwise (`pkg/model/interface.go`, `buildVLLMInferenceCommand`).
fn spread(deployment: &mut Deployment) {
    const WHY: &str = "what KAITO sets where nothing is declared";
    if deployment.engine.as_ref().map(|engine| engine.value) != Some(Engine::Vllm) {
        return;
    }
    if deployment.settings.get("tensor_parallel").is_none() {
        let every = Fact::default("$KAITO_GPUS_PER_NODE".to_owned(), WHY);
        deployment.settings.set("tensor_parallel", every);
        deployment.fill("KAITO_GPUS_PER_NODE", Filled::AcceleratorsOfNode);
    }
    if let Some(nodes) = deployment.settings.count("nodes").filter(|nodes| *nodes > 1)
        && deployment.settings.get("pipeline_parallel").is_none()
    {
        let stages = Fact::default(nodes.to_string(), WHY);
        deployment.settings.set("pipeline_parallel", stages);
    }
}

/// Sets and roles have as many nodes as KAITO works out for the model, where none are counted.
fn leave_nodes_open(deployment: &mut Deployment) {
    if deployment.settings.get("nodes").is_none() {
        deployment.mark_unresolved("nodes");
    }
}

/// The engine's options in the ConfigMap that `config` names.
fn options(config: Option<Node<'_>>, input: &Input<'_>) -> Option<Words> {
    let map = input.world.object(input.file, "ConfigMap", config?.text()?)?;
    let text = map.node.at(&["data", "inference_config.yaml"])?;
    let tree = Tree::embedded(&map.file.source, text);
    let vllm = tree.documents.first()?.root().get("vllm")?;
    let flags: Vec<Text> = keys::flags(vllm, input);
    Some(Words::List(flags))
}

/// One deployment for each role: prefill, decode.
fn roles(declared: &mut Declared, input: &Input<'_>) {
    let Some(spec) = input.root.get("spec") else {
        return;
    };
    for role in spec.get("roles").into_iter().flat_map(Node::items) {
        let kind = role.get("type").and_then(keys::written);
        let name = kind.unwrap_or_else(|| Fact::derived(String::new(), [role.span()]));
        let mut container = Container::new(name, role.span());
        container.arguments = options(
            role.at(&["inference", "config"]).or_else(|| role.get("config")),
            input,
        );
        let mut served = keys::serve(container, input, Format::Kaito, Engine::Vllm);
        let deployment = &mut served.deployment;
        keys::set_model(deployment, input, spec.at(&["model", "name"]));
        keys::set(deployment, input, "replicas", role.get("replicas"));
        machines(deployment, input, Some(role));
        spread(deployment);
        leave_nodes_open(deployment);
        served.add_to(declared);
    }
}
