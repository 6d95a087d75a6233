//! `VLLMRuntime` of the vLLM production-stack operator.
//!
//! Sections hold the keys (`model`, `vllmConfig`, `deploymentConfig`); an older layout has them all under `spec`.
//! Source: vllm-project/production-stack operator/api/v1alpha1/vllmruntime_types.go.

use crate::engine::Engine;
use crate::manifest::container::Container;
use crate::manifest::keys::{self, is_object};
use crate::manifest::kubernetes::accelerators;
use crate::manifest::{Declared, Format, Input};
use crate::source::tree::Node;

/// True for such an object.
pub fn recognizes(input: &Input<'_>) -> bool {
    is_object(input.root, "production-stack.vllm.ai", &["VLLMRuntime"])
}

/// Reads such an object.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let Some(spec) = input.root.get("spec") else {
        return declared;
    };
    let sections = ["model", "vllmConfig", "deploymentConfig"];
    let find = |key: &str| -> Option<Node<'_>> {
        let mut places = sections.iter().filter_map(|section| spec.get(section));
        places
            .find_map(|section| section.get(key))
            .or_else(|| spec.get(key))
    };
    let mut container = Container::new(keys::object_name(input.root), input.root.span());
    container.image = find("image").and_then(keys::image);
    keys::add_environment(&mut container.environment, find("env"), input);
    container.arguments = keys::arguments(find("extraArgs"), input, &container.environment);
    container.accelerators.kinds = accelerators::expressions(find("nodeSelectorTerms"));
    let resources = find("resources");
    container.host_memory_bytes = resources.and_then(|all| all.get("memory")).and_then(keys::bytes);
    container.shm_bytes = find("shmSize").and_then(keys::bytes);
    let mut served = keys::serve(container, input, Format::VllmRuntime, Engine::Vllm);
    let deployment = &mut served.deployment;
    keys::set_model(deployment, input, find("modelURL"));
    keys::set_count(deployment, input, resources.and_then(|all| all.get("gpu")));
    keys::set_resource(
        &mut deployment.accelerators,
        resources.and_then(|all| all.get("gpuType")),
    );
    for (key, id) in [
        ("maxModelLen", "context"),
        ("dtype", "dtype"),
        ("maxNumSeqs", "max_sequences"),
        ("tensorParallelSize", "tensor_parallel"),
        ("gpuMemoryUtilization", "memory_fraction"),
        ("maxLoras", "max_loras"),
        ("enableChunkedPrefill", "chunked_prefill"),
        ("enablePrefixCaching", "prefix_caching"),
        ("replicas", "replicas"),
    ] {
        keys::set(deployment, input, id, find(key));
    }
    served.add_to(&mut declared);
    declared
}
