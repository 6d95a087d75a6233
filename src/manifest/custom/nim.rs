//! The NIM operator: `NIMService`, the services of a `NIMPipeline`, and the `NIMCache` that a service mounts.
//!
//! The image is the model, unless the generic image is told one by `NIM_MODEL_NAME`. What a NIM reserves is its own
//! business: nothing is sized, but its accelerators are known. Source: NVIDIA/k8s-nim-operator api/apps/v1alpha1.

use crate::fact::Fact;
use crate::manifest::command::Environment;
use crate::manifest::keys::{self, is_object};
use crate::manifest::kubernetes::{accelerators, pod};
use crate::manifest::{Declared, Deployment, Format, Input};
use crate::source::tree::Node;

/// True for such an object.
pub fn recognizes(input: &Input<'_>) -> bool {
    is_object(input.root, "apps.nvidia.com", &["NIMService", "NIMPipeline"])
}

/// Reads such an object.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let Some(spec) = input.root.get("spec") else {
        return declared;
    };
    if input.root.get("kind").and_then(Node::text) == Some("NIMService") {
        let name = keys::object_name(input.root);
        declared
            .deployments
            .extend(service(input, Format::NimOperator, name, input.root, spec));
        return declared;
    }
    for entry in spec.get("services").into_iter().flat_map(Node::items) {
        if entry.get("enabled").and_then(Node::as_bool) == Some(false) {
            continue;
        }
        let name = entry.get("name").and_then(keys::written);
        let name = name.unwrap_or_else(|| Fact::derived(String::new(), [entry.span()]));
        let spec = entry.get("spec");
        let found = spec.and_then(|spec| service(input, Format::NimOperator, name, entry, spec));
        declared.deployments.extend(found);
    }
    declared
}

/// One service: the spec of an object, or the values of the NIM chart, which have the same keys.
pub fn service(
    input: &Input<'_>,
    format: Format,
    name: Fact<String>,
    whole: Node<'_>,
    spec: Node<'_>,
) -> Option<Deployment> {
    let image = spec.get("image").and_then(keys::image)?;
    let mut deployment = Deployment::new(name, input.source().id(), whole.span(), format);
    let because = image.span().unwrap_or_else(|| spec.span());
    deployment.server = Some(Fact::derived("nim".to_owned(), [because]));
    let mut environment = Environment::default();
    keys::add_environment(&mut environment, spec.get("env"), input);
    model(&mut deployment, &environment, image);
    for (variable, id) in [
        ("NIM_MAX_MODEL_LEN", "context"),
        ("NIM_TENSOR_PARALLEL_SIZE", "tensor_parallel"),
        ("NIM_PIPELINE_PARALLEL_SIZE", "pipeline_parallel"),
        ("NIM_KV_CACHE_DTYPE", "kv_cache"),
    ] {
        keys::set_variable(&mut deployment, &environment, variable, id);
    }
    if let Some(resources) = spec.get("resources") {
        deployment.accelerators = accelerators::of_resources(resources);
        if let Some(memory) = pod::memory(resources) {
            let memory = memory.map(|bytes| bytes.to_string());
            deployment.settings.set("host_memory_bytes", memory);
        }
    }
    deployment.accelerators.kinds = accelerators::kinds(spec);
    cache(&mut deployment, input, spec);
    let parallelism = spec.at(&["multiNode", "parallelism"]);
    let sizes = [("tensor", "tensor_parallel"), ("pipeline", "pipeline_parallel")];
    keys::set_all(&mut deployment, input, parallelism, &sizes);
    // The operator starts one pod for each stage of the pipeline.
    let nodes = spec
        .at(&["multiNode", "size"])
        .or_else(|| parallelism.and_then(|sizes| sizes.get("pipeline")));
    keys::set(&mut deployment, input, "nodes", nodes);
    let replicas = spec.get("replicas").or_else(|| spec.get("replicaCount"));
    keys::set(&mut deployment, input, "replicas", replicas);
    Some(deployment)
}

/// The model by `NIM_MODEL_NAME`, else the image. A path says nothing of what lies there.
fn model(deployment: &mut Deployment, environment: &Environment, image: Fact<String>) {
    let named = keys::variable(environment, "NIM_MODEL_NAME");
    let served = keys::variable(environment, "NIM_SERVED_MODEL_NAME");
    deployment.engine_version = tag(&image);
    let (model, other) = match named {
        Some(named) if named.value.starts_with('/') => (image, Some(named)),
        Some(named) => (named, Some(image)),
        None => (image, None),
    };
    if crate::engine::args::is_placeholder(&model.value) {
        deployment.mark_unresolved("model");
    } else {
        deployment.model = Some(model);
    }
    deployment.model_hints.extend(other.into_iter().chain(served));
}

fn tag(image: &Fact<String>) -> Option<Fact<String>> {
    let name = image.value.rsplit('/').next()?;
    let (_, tag) = name.split('@').next()?.split_once(':')?;
    Some(image.clone().map(|_| tag.to_owned()))
}

/// What the cache that the service mounts was made for.
fn cache(deployment: &mut Deployment, input: &Input<'_>, spec: Node<'_>) {
    let name = spec
        .at(&["storage", "nimCache", "name"])
        .and_then(Node::text)
        .and_then(|name| input.world.object(input.file, "NIMCache", name));
    let Some(source) = name.and_then(|cache| cache.node.at(&["spec", "source"])) else {
        return;
    };
    let model = source.at(&["ngc", "model"]);
    keys::set_all(
        deployment,
        input,
        model,
        &[("tensorParallelism", "tensor_parallel")],
    );
    let hub = source.get("hf").or_else(|| source.get("dataStore"));
    let text = |key: &str| hub.and_then(|hub| hub.get(key)).and_then(keys::written);
    if let (Some(namespace), Some(model)) = (text("namespace"), text("modelName")) {
        let places = namespace.span().into_iter().chain(model.span());
        let name = Fact::derived(format!("{}/{}", namespace.value, model.value), places);
        deployment.model_hints.push(name);
    }
}
