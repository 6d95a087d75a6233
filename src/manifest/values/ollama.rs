//! Values of the ollama chart (otwld/ollama-helm), by itself or under open-webui: `ollama.gpu`, `ollama.models`.

use super::Section;
use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::container::Container;
use crate::manifest::keys;
use crate::manifest::kubernetes::accelerators;
use crate::manifest::{Count, Declared, Input};
use crate::source::tree::{Node, Shape};

/// True for values with a section of the chart.
pub(super) fn recognizes(node: Node<'_>) -> bool {
    node.get("ollama").is_some_and(|ollama| {
        let models = ollama
            .get("models")
            .is_some_and(|models| models.shape() == Shape::Mapping || models.shape() == Shape::Sequence);
        let gpu = ollama.get("gpu").is_some_and(|gpu| gpu.shape() == Shape::Mapping);
        models || gpu
    })
}

/// Reads the server that the chart starts. One that is told of no model and no accelerator is left alone.
pub(super) fn read(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) {
    let node = section.node;
    let Some(ollama) = node.get("ollama") else { return };
    if ollama.get("enabled").and_then(Node::as_bool) == Some(false) {
        return;
    }
    let gpu = ollama.get("gpu");
    let on = gpu.and_then(|gpu| gpu.get("enabled")).and_then(Node::as_bool) == Some(true);
    let models = models(ollama);
    if models.is_empty() && !on {
        return;
    }
    let mut container = Container::new(section.name.clone(), node.span());
    container.image = node.get("image").and_then(keys::image);
    for key in ["extraEnv", "env"] {
        keys::add_environment(&mut container.environment, node.get(key), input);
    }
    keys::set_resources(&mut container, node.get("resources"));
    container.accelerators.kinds = accelerators::kinds(node);
    let mut served = keys::serve(container, input, section.format, Engine::Ollama);
    let deployment = &mut served.deployment;
    if deployment.accelerators.count.is_none() {
        gpus(&mut deployment.accelerators, gpu);
    }
    if let [only] = models.as_slice() {
        deployment.model = Some(only.clone());
    } else {
        deployment.model_hints.extend(models);
    }
    keys::set(deployment, input, "replicas", node.get("replicaCount"));
    served.add_to(declared);
}

/// The models that the server keeps loaded, else those that it pulls or creates.
fn models(ollama: Node<'_>) -> Vec<Fact<String>> {
    let Some(models) = ollama.get("models") else {
        return Vec::new();
    };
    // Before 1.0 the chart had one list.
    if models.shape() == Shape::Sequence {
        return models.items().filter_map(keys::written).collect();
    }
    let listed = |key: &str| -> Vec<Fact<String>> {
        let items = models.get(key).into_iter().flat_map(Node::items);
        items
            .filter_map(|item| item.get("name").or(Some(item)).and_then(keys::written))
            .collect()
    };
    ["run", "pull", "create"]
        .iter()
        .map(|key| listed(key))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

fn gpus(asked: &mut crate::manifest::Accelerators, gpu: Option<Node<'_>>) {
    let Some(gpu) = gpu else { return };
    if let Some(off) = gpu.get("enabled").filter(|on| on.as_bool() != Some(true)) {
        asked.count = Some(Fact::at(Count::Number(0), off.mention()));
        return;
    }
    let mig = gpu.at(&["mig", "devices"]).map(Node::entries).unwrap_or_default();
    let sliced = gpu.at(&["mig", "enabled"]).and_then(Node::as_bool) == Some(true);
    if let (true, Some((profile, count))) = (sliced, mig.first()) {
        let name = format!("nvidia.com/mig-{}", profile.text().unwrap_or(""));
        asked.resource = Some(Fact::at(name, profile.span()));
        asked.count = count
            .as_u64()
            .map(|number| Fact::at(Count::Number(number), count.mention()));
        return;
    }
    asked.count = gpu
        .get("number")
        .and_then(|number| Some(Fact::at(Count::Number(number.as_u64()?), number.mention())));
    if let Some(kind) = gpu.get("type").filter(|kind| kind.text() == Some("amd")) {
        asked.resource = Some(Fact::at("amd.com/gpu".to_owned(), kind.mention()));
    } else {
        keys::set_resource(asked, gpu.get("nvidiaResource"));
    }
}
