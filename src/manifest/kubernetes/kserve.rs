//! KServe: an InferenceService with its ServingRuntime, and runtimes by themselves.
//!
//! A service names a model format, and by it (or by name) the runtime that serves it. Where the runtime is in the
//! tree the two are merged as KServe merges them; where it is not, the format may still tell the server that KServe's
//! own runtimes use for it. Most services are no language models and declare nothing here.

use super::merge::{Lists, merged};
use super::workload::{Size, Workload, count, describe};
use super::{Object, accelerators, all_of, kind_of};
use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::container::Started;
use crate::manifest::{Accelerators, Deployment, Format, Input, World};
use crate::source::tree::{Assembly, Document, Node, Part};

/// Where KServe puts the files of `storageUri`. Source: kserve/kserve pkg/constants `DefaultModelLocalMountPath`.
pub(super) const MODEL_PATH: &str = "/mnt/models";
/// The container that a service's model is merged into. Source: kserve/kserve pkg/constants
/// `InferenceServiceContainerName`.
const CONTAINER: &str = "kserve-container";
const GROUP: &str = "serving.kserve.io";

/// Servers of KServe's own runtimes by model format. Source: kserve/kserve config/runtimes.
const SERVERS: [(&str, &[&str]); 3] = [
    ("huggingface", &["python", "-m", "huggingfaceserver"]),
    ("vllm", &["python", "-m", "vllm.entrypoints.openai.api_server"]),
    ("sglang", &["python", "-m", "sglang.launch_server"]),
];

/// A ServingRuntime or ClusterServingRuntime.
pub(super) fn serving_runtime(object: &Object<'_>, input: &Input<'_>) -> Started {
    if is_served_beside(object, input) {
        return Started::default();
    }
    let workload = Workload {
        pod: object.spec(&[]),
        workers: object.spec(&["workerSpec"]),
        ..Workload::new(Format::KserveRuntime, object.name())
    };
    let mut started = all_of([workload], object, input);
    for deployment in &mut started.deployments {
        settle_model(deployment, None);
    }
    // A general server without a model (Triton, TorchServe) serves whatever its services name.
    started.deployments.retain(|deployment| {
        let is_nim = deployment
            .server
            .as_ref()
            .is_some_and(|server| server.value == "nim");
        deployment.engine.is_some() || is_nim || deployment.model.is_some()
    });
    started
}

/// True for a runtime that a service in the same folder names: the service is what is deployed.
fn is_served_beside(object: &Object<'_>, input: &Input<'_>) -> bool {
    let name = object.name().value;
    let services = input.world.objects_of_kind("InferenceService");
    services.iter().any(|service| {
        let wanted = service.node.at(&["spec", "predictor", "model", "runtime"]);
        let near = service.file.folder == input.file.folder;
        let chosen = || {
            let format = service
                .node
                .at(&["spec", "predictor", "model", "modelFormat", "name"])
                .and_then(Node::text);
            let same = service.file.source.id() == input.file.source.id();
            same && format.is_some_and(|format| supports(object.root, format))
        };
        match wanted.and_then(Node::text) {
            Some(wanted) => near && wanted == name,
            None => near && chosen(),
        }
    })
}

/// An InferenceService.
pub(super) fn inference_service(object: &Object<'_>, input: &Input<'_>) -> Started {
    let Some(predictor) = object.spec(&["predictor"]) else {
        return Started::default();
    };
    let Some(service) = Service::new(predictor, input) else {
        return plain(predictor, object, input);
    };
    let pod = service.pod();
    let mut started = match &pod {
        Some(pod) => deployments(pod.root(), predictor, object, input),
        None => Started::default(),
    };
    if started.deployments.is_empty() {
        started.deployments.extend(service.nim(object, input));
    }
    for deployment in &mut started.deployments {
        if service.is_transformers() {
            deployment.engine = deployment
                .engine
                .take()
                .map(|fact| fact.map(|_| Engine::Transformers));
        }
        settle_model(deployment, service.storage);
        deployment.model_hints.extend(service.names());
    }
    started
}

/// A predictor that is a pod of its own.
fn plain(predictor: Node<'_>, object: &Object<'_>, input: &Input<'_>) -> Started {
    let mut started = deployments(predictor, predictor, object, input);
    let containers = predictor.get("containers").into_iter().flat_map(Node::items);
    let variables = containers.flat_map(|container| container.get("env").into_iter().flat_map(Node::items));
    let storage = variables
        .filter(|variable| variable.get("name").and_then(Node::text) == Some("STORAGE_URI"))
        .find_map(|variable| variable.get("value").filter(|value| value.text().is_some()));
    for deployment in &mut started.deployments {
        let path = deployment
            .model
            .as_ref()
            .is_some_and(|model| is_mounted(&model.value));
        if path && storage.is_some() {
            settle_model(deployment, storage);
        }
    }
    started
}

fn deployments(pod: Node<'_>, predictor: Node<'_>, object: &Object<'_>, input: &Input<'_>) -> Started {
    let workers = predictor.get("workerSpec").or_else(|| pod.get("workerSpec"));
    let nodes = workers
        .and_then(|workers| workers.get("pipelineParallelSize"))
        .and_then(Size::of);
    let workload = Workload {
        pod: Some(pod),
        workers,
        nodes,
        replicas: count(predictor, "minReplicas"),
        ..Workload::new(Format::KserveInference, object.name())
    };
    let mut started = all_of([workload], object, input);
    for (id, key) in [
        ("tensor_parallel", "tensorParallelSize"),
        ("pipeline_parallel", "pipelineParallelSize"),
    ] {
        let size = workers.and_then(|workers| count(workers, key));
        for deployment in &mut started.deployments {
            if let Some(size) = &size {
                super::workload::set(deployment, id, size);
            }
        }
    }
    started
}

/// A service that names a model, and its runtime.
struct Service<'t> {
    predictor: Node<'t>,
    model: Node<'t>,
    format: Node<'t>,
    runtime: Option<Node<'t>>,
    storage: Option<Node<'t>>,
}

impl<'t> Service<'t> {
    fn new(predictor: Node<'t>, input: &Input<'t>) -> Option<Self> {
        // Before v0.8 the format was the key.
        let old = predictor.entry("huggingface");
        let (model, format) = match (predictor.get("model"), old) {
            (Some(model), _) => (model, model.at(&["modelFormat", "name"])?),
            (None, Some((key, model))) => (model, key),
            (None, None) => return None,
        };
        let storage = model
            .get("storageUri")
            .or_else(|| model.at(&["storage", "path"]))
            .filter(|storage| storage.text().is_some());
        Some(Self {
            predictor,
            model,
            format,
            runtime: runtime(model, format.text()?, input),
            storage,
        })
    }

    /// The pod as KServe makes it.
    fn pod(&self) -> Option<Document> {
        let mut assembly = Assembly::default();
        let (container, base) = match self.runtime.and_then(|runtime| runtime.get("spec")) {
            Some(spec) => {
                let main = main_container(spec)?;
                let container = merged(main, self.model, Lists::ArgsAppended);
                let pod = merged(spec, self.predictor, Lists::ByKey);
                let name = main.get("name").and_then(Node::text).map(str::to_owned);
                return Some(with_container(pod.root(), container.root(), name.as_deref()));
            }
            None => (self.of_format(&mut assembly)?, self.predictor),
        };
        let container = assembly.finish(container);
        Some(with_container(base, container.root(), Some(CONTAINER)))
    }

    /// The container of KServe's own runtime for the format.
    fn of_format(&self, assembly: &mut Assembly) -> Option<Part> {
        let format = self.format.text()?.to_ascii_lowercase();
        let (_, server) = SERVERS.iter().find(|(known, _)| *known == format)?;
        let span = self.format.span();
        let mut pairs = Vec::new();
        for (key, value) in self.model.entries() {
            pairs.push((assembly.copy(key), assembly.copy(value)));
        }
        if self.model.get("command").is_none() {
            let words: Vec<Part> = server.iter().map(|word| assembly.scalar(span, word)).collect();
            let command = assembly.scalar(span, "command");
            pairs.push((command, assembly.sequence(span, &words)));
        }
        Some(assembly.mapping(self.model.span(), &pairs))
    }

    /// NIM, which only the name of the format tells.
    fn nim(&self, object: &Object<'_>, input: &Input<'_>) -> Option<Deployment> {
        let format = self.format.text()?;
        let name = ["nvidia-nim-", "nim-"]
            .iter()
            .find_map(|prefix| format.strip_prefix(prefix))?;
        let span = self.format.mention();
        let mut deployment = Deployment::new(
            object.name(),
            input.source().id(),
            self.model.span(),
            Format::KserveInference,
        );
        deployment.server = Some(Fact::at("nim".to_owned(), span));
        deployment.accelerators = self.accelerators();
        deployment.model_hints.push(Fact::at(name.to_owned(), span));
        if let Some(replicas) = count(self.predictor, "minReplicas") {
            super::workload::set(&mut deployment, "replicas", &replicas);
        }
        describe(&mut deployment, object.root);
        Some(deployment)
    }

    fn accelerators(&self) -> Accelerators {
        let resources = self.model.get("resources");
        Accelerators {
            kinds: accelerators::kinds(self.predictor),
            ..resources.map(accelerators::of_resources).unwrap_or_default()
        }
    }

    /// True where the service chooses transformers over vLLM (`--backend=huggingface`; kserve/kserve
    /// python/huggingfaceserver/huggingfaceserver/__main__.py).
    fn is_transformers(&self) -> bool {
        let words: Vec<&str> = self
            .model
            .get("args")
            .into_iter()
            .flat_map(Node::items)
            .filter_map(Node::text)
            .collect();
        let joined = words.join(" ").replace('=', " ");
        joined.contains("--backend huggingface")
    }

    /// Names that the arguments give the model.
    fn names(&self) -> Vec<Fact<String>> {
        let words = self.model.get("args").into_iter().flat_map(Node::items);
        let named = words.filter_map(|word| {
            let name = word
                .text()?
                .strip_prefix("--model_name=")
                .or_else(|| word.text()?.strip_prefix("--model-name="))?;
            Some(Fact::at(name.to_owned(), word.mention()))
        });
        named.collect()
    }
}

/// The runtime of a model: by name, or the only one in the same file that supports its format.
fn runtime<'t>(model: Node<'t>, format: &str, input: &Input<'t>) -> Option<Node<'t>> {
    const KINDS: [&str; 2] = ["ServingRuntime", "ClusterServingRuntime"];
    let world: &'t World = input.world;
    if let Some(name) = model.get("runtime").and_then(Node::text) {
        let found = KINDS.iter().find_map(|kind| world.object(input.file, kind, name));
        return found.map(|object| object.node).filter(|node| is_kserve(*node));
    }
    let mut fitting = KINDS
        .iter()
        .flat_map(|kind| world.objects_of_kind(kind))
        .filter(|object| object.file.source.id() == input.file.source.id())
        .map(|object| object.node)
        .filter(|node| is_kserve(*node) && supports(*node, format));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

fn is_kserve(runtime: Node<'_>) -> bool {
    kind_of(runtime).is_some_and(|kind| kind.group == GROUP)
}

/// True for a runtime that may serve a format.
fn supports(runtime: Node<'_>, format: &str) -> bool {
    let formats = runtime.at(&["spec", "supportedModelFormats"]);
    formats
        .into_iter()
        .flat_map(Node::items)
        .any(|known| known.get("name").and_then(Node::text) == Some(format))
}

/// The container of a runtime that serves.
fn main_container(spec: Node<'_>) -> Option<Node<'_>> {
    let containers: Vec<Node<'_>> = spec.get("containers").into_iter().flat_map(Node::items).collect();
    let named = containers
        .iter()
        .find(|container| container.get("name").and_then(Node::text) == Some(CONTAINER));
    named.or(containers.first()).copied()
}

/// A pod with a container in the place of the one of its name, else beside the others.
pub(super) fn with_container(pod: Node<'_>, container: Node<'_>, name: Option<&str>) -> Document {
    let mut assembly = Assembly::default();
    let named = |node: Node<'_>| node.get("name").and_then(Node::text) == name;
    let mut containers = Vec::new();
    let mut placed = false;
    for other in pod.get("containers").into_iter().flat_map(Node::items) {
        if named(other) && !placed {
            containers.push(assembly.copy(container));
            placed = true;
        } else {
            containers.push(assembly.copy(other));
        }
    }
    if !placed {
        containers.push(assembly.copy(container));
    }
    let mut pairs = Vec::new();
    for (key, value) in pod.entries() {
        if key.text() != Some("containers") {
            pairs.push((assembly.copy(key), assembly.copy(value)));
        }
    }
    let span = container.span();
    let key = assembly.scalar(span, "containers");
    let list = assembly.sequence(span, &containers);
    pairs.push((key, list));
    let root = assembly.mapping(pod.span(), &pairs);
    assembly.finish(root)
}

fn is_mounted(path: &str) -> bool {
    path == MODEL_PATH
        || path
            .strip_prefix(MODEL_PATH)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// Names the model by the storage that KServe mounts for it. A mounted path without a storage says nothing.
pub(super) fn settle_model(deployment: &mut Deployment, storage: Option<Node<'_>>) {
    deployment.unresolved.retain(|field| field != "model");
    let is_nim = deployment
        .server
        .as_ref()
        .is_some_and(|server| server.value == "nim");
    let path = deployment.model.as_ref().map(|model| model.value.clone());
    let open = path
        .as_ref()
        .is_none_or(|path| is_mounted(path) || crate::engine::args::is_placeholder(path));
    if is_nim || !open {
        return;
    }
    deployment.model =
        storage.and_then(|storage| Some(Fact::at(storage.text()?.to_owned(), storage.mention())));
    let known = deployment
        .model
        .as_ref()
        .is_some_and(|model| !crate::engine::args::is_placeholder(&model.value));
    if !known {
        deployment.mark_unresolved("model");
    }
}
