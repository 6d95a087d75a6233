//! A workload: pods of one shape that an object makes, alone or as a group of nodes that serve one model together.
//!
//! In: pod specs as the objects of [`super`] find them. Out: deployments with what the object adds: replicas, nodes,
//! namespace, and the names by which the model may be known.

use super::{around, pod};
use crate::engine::args::is_placeholder;
use crate::fact::Fact;
use crate::manifest::command::{Environment, Text};
use crate::manifest::container::Started;
use crate::manifest::{Accelerators, Deployment, Format, Input};
use crate::source::tree::Node;

/// Pods of one shape.
#[derive(Debug)]
pub(super) struct Workload<'t> {
    /// The format it is reported as.
    pub(super) format: Format,
    /// Its name.
    pub(super) name: Fact<String>,
    /// The pod that starts the engine.
    pub(super) pod: Option<Node<'t>>,
    /// The pods beside it, where they are of another shape.
    pub(super) workers: Option<Node<'t>>,
    /// How many pods serve one copy of the model.
    pub(super) nodes: Option<Size>,
    /// How many copies.
    pub(super) replicas: Option<Fact<u64>>,
    /// Variables that the object's controller puts into every container.
    pub(super) injected: Environment,
}

/// How many pods form a group.
#[derive(Debug, Clone)]
pub(super) enum Size {
    /// So many.
    Pods(Fact<u64>),
    /// A variable tells.
    Open,
}

impl Size {
    /// The count that a key gives.
    pub(super) fn of(node: Node<'_>) -> Option<Self> {
        match node.as_u64() {
            Some(count) => Some(Self::Pods(Fact::at(count, node.mention()))),
            None => node
                .text()
                .filter(|text| is_placeholder(text))
                .map(|_| Self::Open),
        }
    }
}

impl Workload<'_> {
    pub(super) fn new(format: Format, name: Fact<String>) -> Self {
        Self {
            format,
            name,
            pod: None,
            workers: None,
            nodes: None,
            replicas: None,
            injected: Environment::default(),
        }
    }

    /// A group of pods whose controller tells each how many they are. `variables` name the size of the group and the
    /// place of a pod in it.
    pub(super) fn grouped(mut self, size: Option<Size>, variables: [&str; 2]) -> Self {
        let [count, place] = variables;
        if let Some(Size::Pods(size)) = &size {
            self.injected
                .set_text(count, Text::literal(&size.value.to_string()));
        }
        self.injected.set_text(place, Text::literal("0"));
        self.nodes = size;
        self
    }

    /// Its deployments. The pod that leads is the one that counts: workers of a group repeat its command, or wait.
    pub(super) fn deployments(&self, object: Node<'_>, input: &Input<'_>) -> Started {
        let start =
            |spec: Node<'_>| pod::deployments_with(spec, input, self.format, &self.name, &self.injected);
        let mut started = self.pod.map(start).unwrap_or_default();
        if started.deployments.is_empty()
            && let Some(workers) = self.workers
        {
            started = start(workers);
        }
        let of_workers = self.workers.and_then(|workers| largest(workers, input));
        for deployment in &mut started.deployments {
            self.adorn(deployment, of_workers.as_ref());
            describe(deployment, object);
            around::of_object(deployment, object, self.pod, input);
        }
        started
    }

    fn adorn(&self, deployment: &mut Deployment, of_workers: Option<&Accelerators>) {
        let mut nodes = self.nodes.clone();
        if let Some(workers) = of_workers {
            let own = &mut deployment.accelerators;
            if own.number().unwrap_or(0) == 0 {
                own.count.clone_from(&workers.count);
                own.resource.clone_from(&workers.resource);
                // A leader without accelerators only directs the others.
                if let Some(Size::Pods(size)) = &mut nodes {
                    size.value = size.value.saturating_sub(1).max(1);
                }
            }
            if own.kinds.is_empty() {
                own.kinds.clone_from(&workers.kinds);
            }
        }
        match nodes {
            Some(Size::Pods(size)) => set(deployment, "nodes", &size),
            Some(Size::Open) => deployment.mark_unresolved("nodes"),
            None => {}
        }
        if let Some(replicas) = &self.replicas {
            set(deployment, "replicas", replicas);
        }
    }
}

/// Sets a number as a setting.
pub(super) fn set(deployment: &mut Deployment, id: &str, value: &Fact<u64>) {
    let text = value.clone().map(|value| value.to_string());
    deployment.settings.set(id, text);
}

/// The accelerators of the container of a pod that has most.
fn largest(spec: Node<'_>, input: &Input<'_>) -> Option<Accelerators> {
    let all = pod::containers(spec, input).into_iter();
    all.map(|container| container.accelerators)
        .filter(|accelerators| accelerators.number().unwrap_or(0) > 0)
        .max_by_key(Accelerators::number)
}

/// Labels by which platforms name the model that a pod serves.
const MODEL_LABELS: [&str; 3] = ["model.aibrix.ai/name", "ai.gke.io/model", "llm-d.ai/model"];

/// What an object says of each of its deployments: the namespace, and names of the model.
pub(super) fn describe(deployment: &mut Deployment, object: Node<'_>) {
    let metadata = object.get("metadata");
    let template = object.at(&["spec", "template", "metadata"]);
    if let Some(namespace) = metadata.and_then(|metadata| metadata.get("namespace"))
        && let Some(text) = namespace.text()
    {
        let namespace = Fact::at(text.to_owned(), namespace.mention());
        deployment.settings.set("namespace", namespace);
    }
    for labels in [template, metadata]
        .into_iter()
        .flatten()
        .filter_map(|metadata| metadata.get("labels"))
    {
        let named = MODEL_LABELS.iter().filter_map(|label| labels.get(label));
        let named = named.filter_map(|name| Some(Fact::at(name.text()?.to_owned(), name.mention())));
        deployment.model_hints.extend(named);
    }
    let name = metadata.and_then(|metadata| metadata.get("name"));
    let name = name.and_then(|name| Some(Fact::at(name.text()?.to_owned(), name.mention())));
    deployment.model_hints.extend(name);
}

/// A count under a key.
pub(super) fn count(node: Node<'_>, key: &str) -> Option<Fact<u64>> {
    let value = node.get(key)?;
    Some(Fact::at(value.as_u64()?, value.mention()))
}

/// Copies of a part of each copy of the whole.
pub(super) fn times(outer: Option<Fact<u64>>, inner: Option<Fact<u64>>) -> Option<Fact<u64>> {
    match (outer, inner) {
        (Some(outer), Some(inner)) if outer.value != 1 => {
            let spans = inner.span().into_iter().chain(outer.span());
            Some(Fact::derived(inner.value.saturating_mul(outer.value), spans))
        }
        (outer, inner) => inner.or(outer),
    }
}
