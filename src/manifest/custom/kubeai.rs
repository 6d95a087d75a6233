//! `Model` of KubeAI.
//!
//! `resourceProfile: NAME:COUNT` names both machine and count. Models for speech and embeddings run in engines that
//! hold no KV cache and are left alone. Source: kubeai-project/kubeai api/k8s/v1/model_types.go.

use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::container::Container;
use crate::manifest::keys::{self, is_object};
use crate::manifest::{AcceleratorKind, Count, Declared, Deployment, Format, Input};
use crate::source::tree::Node;

/// The name under which `catalog/machines` knows resource profiles.
const PROFILES: &str = "kubeai";

/// True for such an object.
pub fn recognizes(input: &Input<'_>) -> bool {
    is_object(input.root, "kubeai.org", &["Model"])
}

/// Reads such an object.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    if let Some(spec) = input.root.get("spec") {
        add(
            &mut declared,
            input,
            Format::KubeAi,
            keys::object_name(input.root),
            spec,
        );
    }
    declared
}

/// Adds one model: the `spec` of an object, or an entry of the catalog in the values of the chart `models`.
pub fn add(declared: &mut Declared, input: &Input<'_>, format: Format, name: Fact<String>, spec: Node<'_>) {
    let engine = match spec.get("engine").and_then(Node::text) {
        Some("VLLM") => Engine::Vllm,
        Some("OLlama") => Engine::Ollama,
        _ => return,
    };
    let mut container = Container::new(name, spec.span());
    container.image = spec.get("image").and_then(keys::image);
    keys::add_environment(&mut container.environment, spec.get("env"), input);
    container.arguments = keys::arguments(spec.get("args"), input, &container.environment);
    let mut served = keys::serve(container, input, format, engine);
    let deployment = &mut served.deployment;
    keys::set_model(deployment, input, spec.get("url"));
    if let Some(profile) = spec.get("resourceProfile").and_then(keys::written) {
        set_profile(deployment, &profile);
    }
    keys::set(deployment, input, "replicas", spec.get("replicas"));
    served.add_to(declared);
}

fn set_profile(deployment: &mut Deployment, profile: &Fact<String>) {
    let (name, count) = match profile.value.rsplit_once(':') {
        Some((name, count)) => (name, count.trim().parse().ok()),
        None => (profile.value.as_str(), None),
    };
    let is_cpu = name == "cpu" || name.starts_with("cpu-");
    let count = if is_cpu { Some(0) } else { count };
    deployment.accelerators.count = count.map(|count| profile.clone().map(|_| Count::Number(count)));
    deployment.accelerators.kinds = vec![AcceleratorKind {
        label: Some(PROFILES.to_owned()),
        name: profile.clone().map(|_| name.to_owned()),
        count: None,
    }];
}
