//! OME: serving runtimes, and the services that name one with a model.
//!
//! A runtime keeps one container (`runner`) for the engine and, where prefill and decode are apart, one for the
//! decoder; over several nodes each has a leader and workers. The model is a path that the controller puts into
//! `MODEL_PATH`; a service whose runtime and model are in the tree tells it.

use super::kserve::with_container;
use super::merge::{Lists, merged};
use super::workload::{Size, Workload, count};
use super::{Object, all_of, kind_of, pod};
use crate::fact::Fact;
use crate::manifest::command::Text;
use crate::manifest::container::Started;
use crate::manifest::{Format, Input};
use crate::source::tree::{Document, Node};

const GROUP: &str = "ome.io";
const RUNTIMES: [&str; 2] = ["ServingRuntime", "ClusterServingRuntime"];
const MODELS: [&str; 2] = ["BaseModel", "ClusterBaseModel"];
/// Parts of a runtime and of a service, and the names of their deployments.
const PARTS: [(&str, &str, &str); 2] = [
    ("engineConfig", "engine", "engine"),
    ("decoderConfig", "decoder", "decoder"),
];

/// A ServingRuntime or ClusterServingRuntime. One that a service in the same folder names is read with it.
pub(super) fn serving_runtime(object: &Object<'_>, input: &Input<'_>) -> Started {
    let name = object.name().value;
    let services = input.world.objects_of_kind("InferenceService");
    let used = services.iter().any(|service| {
        let runtime = service.node.at(&["spec", "runtime", "name"]);
        service.file.folder == input.file.folder
            && is_ome(service.node)
            && runtime.and_then(Node::text) == Some(&name)
    });
    match object.spec(&[]) {
        Some(spec) if !used => read(spec, object, input, None),
        _ => Started::default(),
    }
}

/// An InferenceService: its runtime, if it is in the tree, with what it changes, and its model.
pub(super) fn inference_service(object: &Object<'_>, input: &Input<'_>) -> Started {
    let named = |path: &[&str], kinds: [&str; 2]| {
        let name = object.spec(path)?.text()?;
        let found = kinds
            .iter()
            .find_map(|kind| input.world.object(input.file, kind, name))?;
        Some(found.node).filter(|node| is_ome_object(*node))
    };
    let runtime = named(&["runtime", "name"], RUNTIMES).and_then(|runtime| runtime.get("spec"));
    let model = named(&["model", "name"], MODELS);
    let Some(own) = object.spec(&[]) else {
        return Started::default();
    };
    let storage = model.and_then(|model| model.at(&["spec", "storage", "storageUri"]));
    let service = Service {
        spec: own,
        storage: storage.filter(|uri| uri.text().is_some()),
    };
    let mut started = read(runtime.unwrap_or(own), object, input, Some(&service));
    let name = object.spec(&["model", "name"]);
    let name = name.and_then(|name| Some(Fact::at(name.text()?.to_owned(), name.mention())));
    for deployment in &mut started.deployments {
        deployment.model_hints.extend(name.clone());
    }
    started
}

/// What a service adds to its runtime.
struct Service<'t> {
    spec: Node<'t>,
    /// Where its model comes from.
    storage: Option<Node<'t>>,
}

fn is_ome(object: Node<'_>) -> bool {
    kind_of(object).is_some_and(|kind| kind.group == GROUP)
}

fn is_ome_object(object: Node<'_>) -> bool {
    let version = object.get("apiVersion").and_then(Node::text);
    version.is_some_and(|version| version.starts_with("ome.io/"))
}

/// The deployments of a runtime's spec, what a service says laid over it.
fn read(spec: Node<'_>, object: &Object<'_>, input: &Input<'_>, service: Option<&Service<'_>>) -> Started {
    let part = |config: &str, over: &str| -> Option<(Option<Document>, Option<Node<'_>>)> {
        let base = spec.get(config);
        let over = service.and_then(|service| service.spec.get(over));
        match (base, over) {
            (Some(base), Some(over)) => Some((Some(merged(base, over, Lists::ByKey)), None)),
            (None, None) => None,
            (base, over) => Some((None, base.or(over))),
        }
    };
    let parts: Vec<_> = PARTS
        .iter()
        .filter_map(|(config, over, name)| Some((part(config, over)?, *name)))
        .collect();
    let several = parts.len() > 1;
    let mut all = Started::default();
    for ((made, found), role) in &parts {
        let Some(node) = made.as_ref().map(Document::root).or(*found) else {
            continue;
        };
        let name = if several {
            Fact::derived((*role).to_owned(), [super::start_of(node)])
        } else {
            object.name()
        };
        let storage = service.and_then(|service| service.storage);
        let mut started = component(node, name, object, input, storage);
        all.deployments.append(&mut started.deployments);
        all.findings.append(&mut started.findings);
    }
    // Runtimes of the first releases were pods themselves.
    if parts.is_empty() && service.is_none() {
        let workload = Workload {
            pod: Some(spec),
            workers: spec.get("workers"),
            ..Workload::new(Format::Ome, object.name())
        };
        return all_of([workload], object, input);
    }
    all
}

/// One engine: a runner, or a leader and its workers.
fn component(
    node: Node<'_>,
    name: Fact<String>,
    object: &Object<'_>,
    input: &Input<'_>,
    storage: Option<Node<'_>>,
) -> Started {
    let runner = |part: Option<Node<'_>>| {
        let part = part?;
        let container = part.get("runner")?;
        let name = container.get("name").and_then(Node::text);
        Some(with_container(part, container, name))
    };
    let (leader, worker) = (node.get("leader"), node.get("worker"));
    let lead = runner(leader).or_else(|| runner(Some(node)));
    let work = runner(worker);
    // `size` counts the workers; the leader comes on top (sgl-project/ome pkg/apis/ome/v1beta1 `WorkerSpec`).
    let size = worker.and_then(|worker| count(worker, "size"));
    let size = size.map(|size| Size::Pods(size.map(|size| size.saturating_add(1))));
    let workload = Workload {
        pod: lead.as_ref().map(Document::root),
        workers: work.as_ref().map(Document::root),
        replicas: count(node, "minReplicas"),
        ..Workload::new(Format::Ome, name)
    };
    let mut workload = match size {
        Some(size) => workload.grouped(Some(size), ["LWS_GROUP_SIZE", "LWS_WORKER_INDEX"]),
        None => workload,
    };
    if let Some(storage) = storage {
        let path = Text::of_node(input.world.sources(), storage);
        workload.injected.set_text("MODEL_PATH", path);
    }
    if let Some(size) = parallelism(&workload, input) {
        workload
            .injected
            .set_text("PARALLELISM_SIZE", Text::literal(&size.to_string()));
    }
    all_of([workload], object, input)
}

/// The accelerators of all pods of a group, which the controller tells them in `PARALLELISM_SIZE` (sgl-project/ome
/// pkg/controller/v1beta1/inferenceservice/components/engine.go `setParallelismEnvVarForEngine`).
fn parallelism(workload: &Workload<'_>, input: &Input<'_>) -> Option<u64> {
    let pods = match &workload.nodes {
        Some(Size::Pods(pods)) => pods.value,
        _ => return None,
    };
    let most = pod::containers(workload.pod?, input)
        .iter()
        .filter_map(|container| container.accelerators.number())
        .max()?;
    Some(pods.saturating_mul(most))
}
