//! Values of the vLLM production-stack chart: `servingEngineSpec.modelSpec[]`.
//!
//! The chart reads the engine's settings under `vllmConfig` only: beside `modelURL` they do nothing, which is worth a
//! finding. Source: vllm-project/production-stack helm/templates/deployment-vllm-multi.yaml, ray-cluster.yaml.

use super::Section;
use crate::engine::Engine;
use crate::fact::Fact;
use crate::finding::{Finding, Label, Severity};
use crate::manifest::container::Container;
use crate::manifest::keys;
use crate::manifest::kubernetes::accelerators;
use crate::manifest::{Declared, Deployment, Format, Input};
use crate::source::tree::Node;

/// Keys of `vllmConfig`, and what they set.
const VLLM_CONFIG: [(&str, &str); 9] = [
    ("maxModelLen", "context"),
    ("maxNumSeqs", "max_sequences"),
    ("gpuMemoryUtilization", "memory_fraction"),
    ("tensorParallelSize", "tensor_parallel"),
    ("pipelineParallelSize", "pipeline_parallel"),
    ("dtype", "dtype"),
    ("maxLoras", "max_loras"),
    ("enableChunkedPrefill", "chunked_prefill"),
    ("enablePrefixCaching", "prefix_caching"),
];

/// Reads every model of the values.
pub(super) fn read(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) {
    let Some(spec) = section.node.get("servingEngineSpec") else {
        return;
    };
    if spec.get("enableEngine").and_then(Node::as_bool) == Some(false) {
        return;
    }
    let format = section.format_or(Format::ProductionStack);
    for model in spec.get("modelSpec").into_iter().flat_map(Node::items) {
        if model.get("enabled").and_then(Node::as_bool) == Some(false) {
            continue;
        }
        let container = container(model, spec, input);
        let mut served = keys::serve(container, input, format, Engine::Vllm);
        complete(&mut served.deployment, input, model);
        served.add_to(declared);
        declared.findings.extend(ignored(model));
    }
}

fn container(model: Node<'_>, spec: Node<'_>, input: &Input<'_>) -> Container {
    let name = model.get("name").and_then(keys::written);
    let name = name.unwrap_or_else(|| Fact::derived(String::new(), [model.span()]));
    let mut container = Container::new(name, model.span());
    container.image = keys::image(model);
    for holder in [spec, model] {
        keys::add_environment(&mut container.environment, holder.get("env"), input);
    }
    let extra = model.at(&["vllmConfig", "extraArgs"]);
    container.arguments = keys::arguments(extra, input, &container.environment);
    keys::set_resources(&mut container, model.get("resources"));
    container.accelerators.kinds = accelerators::kinds(model);
    if container.accelerators.kinds.is_empty() {
        container.accelerators.kinds = accelerators::expressions(model.get("nodeSelectorTerms"));
    }
    let memory = ["limitMemory", "requestMemory"]
        .iter()
        .find_map(|key| model.get(key));
    container.host_memory_bytes = container
        .host_memory_bytes
        .or_else(|| memory.and_then(keys::bytes));
    container.shm_bytes = model.get("shmSize").and_then(keys::bytes);
    container
}

fn complete(deployment: &mut Deployment, input: &Input<'_>, model: Node<'_>) {
    keys::set_model(deployment, input, model.get("modelURL"));
    keys::set(deployment, input, "model_revision", model.get("modelRevision"));
    keys::set_all(deployment, input, model.get("vllmConfig"), &VLLM_CONFIG);
    keys::set_count(deployment, input, model.get("requestGPU"));
    if deployment.accelerators.count.is_some() {
        keys::set_resource(&mut deployment.accelerators, model.get("requestGPUType"));
    }
    let workers = model.get("replicaCount");
    let ray = model
        .at(&["raySpec", "enabled"])
        .is_some_and(|on| on.as_bool() == Some(true));
    match workers.and_then(|count| Some((count, count.as_u64()?))) {
        // A Ray cluster has that many workers and a head, and they serve one copy.
        Some((count, workers)) if ray => {
            let nodes = workers.saturating_add(1).to_string();
            deployment
                .settings
                .set("nodes", Fact::derived(nodes, [count.mention()]));
        }
        _ => keys::set(deployment, input, "replicas", workers),
    }
}

/// Settings that stand beside `modelURL`, where the chart does not look.
fn ignored(model: Node<'_>) -> Vec<Finding> {
    let known = VLLM_CONFIG.iter().map(|(key, _)| *key).chain(["extraArgs"]);
    let finding = |key: &str| {
        let (name, _) = model.entry(key)?;
        let message = format!("the chart does not read `{key}` here, so it has no effect");
        let text = "belongs under `vllmConfig`".to_owned();
        let label = Label {
            span: name.span(),
            text,
        };
        let finding = Finding::at("key-ignored", Severity::Warning, message, label);
        Some(finding.with_help(format!("move it: `vllmConfig: {{{key}: ...}}`")))
    };
    known.filter_map(finding).collect()
}
