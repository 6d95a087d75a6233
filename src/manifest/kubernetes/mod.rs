//! Kubernetes objects: where each kind keeps its pods, and what it adds to them.
//!
//! In: a document with `apiVersion` and `kind`. Out: the deployments that its pods start. Kinds that keep pods in a
//! way of their own have a row in [`KINDS`]; every other kind is searched for pod templates (`template.spec` with
//! containers), which finds those of Deployments as well as those of kinds that nobody here has heard of.

pub mod accelerators;
mod aibrix;
mod around;
mod claims;
mod groups;
mod kserve;
pub(crate) mod kustomize;
mod llm_service;
pub mod merge;
mod ome;
pub mod pod;
mod templates;
mod workload;

use self::workload::Workload;
use super::container::Started;
use super::{Declared, Input};
use crate::fact::Fact;
use crate::source::Span;
use crate::source::tree::{Node, Shape};

/// How the objects of one kind are read.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// The API group, or the domain that the groups of several releases end in.
    group: &'static str,
    kind: &'static str,
    read: fn(&Object<'_>, &Input<'_>) -> Started,
}

/// An object of Kubernetes.
#[derive(Debug, Clone, Copy)]
struct Object<'t> {
    root: Node<'t>,
}

impl<'t> Object<'t> {
    /// `metadata.name`.
    fn name(&self) -> Fact<String> {
        let name = self.root.at(&["metadata", "name"]);
        match name.and_then(|name| Some((name.text()?, name))) {
            Some((text, node)) => Fact::at(text.to_owned(), node.mention()),
            None => Fact::derived(String::new(), [start_of(self.root)]),
        }
    }

    /// A part of its spec.
    fn spec(&self, path: &[&str]) -> Option<Node<'t>> {
        self.root.get("spec")?.at(path)
    }
}

/// The first characters of a node that stand on one line.
fn start_of(node: Node<'_>) -> Span {
    let first = node.pairs().next();
    first.map_or_else(|| node.span(), |(key, _)| key.span())
}

/// True for characters inside others.
fn holds(outer: Span, inner: Span) -> bool {
    outer.file() == inner.file() && outer.start() <= inner.start() && inner.start() <= outer.end()
}

const KINDS: &[Kind] = &[
    row(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        groups::leader_worker_set,
    ),
    row("workloads.x-k8s.io", "RoleBasedGroup", groups::role_based_group),
    row(
        "workloads.x-k8s.io",
        "RoleBasedGroupSet",
        groups::role_based_group_set,
    ),
    row("aibrix.ai", "StormService", aibrix::storm_service),
    row("aibrix.ai", "RoleSet", aibrix::role_set),
    row("aibrix.ai", "PodSet", aibrix::pod_set),
    row("aibrix.ai", "RayClusterFleet", aibrix::ray_cluster_fleet),
    row("aibrix.ai", "RayClusterReplicaSet", aibrix::ray_cluster_fleet),
    row("ray.io", "RayCluster", aibrix::ray_cluster),
    row("serving.kserve.io", "InferenceService", kserve::inference_service),
    row(
        "serving.kubeflow.org",
        "InferenceService",
        kserve::inference_service,
    ),
    row("serving.kserve.io", "ServingRuntime", kserve::serving_runtime),
    row(
        "serving.kserve.io",
        "ClusterServingRuntime",
        kserve::serving_runtime,
    ),
    row("serving.kserve.io", "LLMInferenceService", llm_service::service),
    row(
        "serving.kserve.io",
        "LLMInferenceServiceConfig",
        llm_service::config,
    ),
    row("ome.io", "ServingRuntime", ome::serving_runtime),
    row("ome.io", "ClusterServingRuntime", ome::serving_runtime),
    row("ome.io", "InferenceService", ome::inference_service),
];

const fn row(group: &'static str, kind: &'static str, read: fn(&Object<'_>, &Input<'_>) -> Started) -> Kind {
    Kind { group, kind, read }
}

/// The row of an object's kind.
fn kind_of(root: Node<'_>) -> Option<&'static Kind> {
    let kind = root.get("kind")?.text()?;
    let group = root.get("apiVersion")?.text()?.split('/').next()?;
    KINDS.iter().find(|row| {
        let same_group = group == row.group
            || group
                .strip_suffix(row.group)
                .is_some_and(|left| left.ends_with('.'));
        row.kind == kind && same_group
    })
}

/// True for the group and version of an object.
fn is_object(root: Node<'_>) -> bool {
    let text = |key: &str| root.get(key).and_then(Node::text);
    text("apiVersion").is_some() && text("kind").is_some()
}

/// True for an object that keeps pods, and for a list of objects.
pub fn recognizes(input: &Input<'_>) -> bool {
    let root = input.root;
    is_object(root) && (kind_of(root).is_some() || templates::has_pods(root))
}

/// Reads one object.
pub fn read(input: &Input<'_>) -> Declared {
    let object = Object { root: input.root };
    let mut started = match kind_of(input.root) {
        Some(kind) => (kind.read)(&object, input),
        None => templates::read(&object, input),
    };
    for deployment in &mut started.deployments {
        // One whose pod comes from another object is still declared here.
        if !holds(input.root.span(), deployment.span) {
            deployment.span = start_of(input.root);
        }
    }
    Declared {
        deployments: started.deployments,
        findings: started.findings,
        ..Declared::default()
    }
}

/// True for a `List` (or `DeploymentList` and the like) of objects.
pub fn recognizes_list(input: &Input<'_>) -> bool {
    let kind = input.root.get("kind").and_then(Node::text);
    let is_list = |items: Node<'_>| items.shape() == Shape::Sequence;
    kind.is_some_and(|kind| kind.ends_with("List")) && input.root.get("items").is_some_and(is_list)
}

/// Reads every object of a list by the format that recognizes it.
pub fn read_list(input: &Input<'_>) -> Declared {
    let mut all = Declared::default();
    for item in input.root.get("items").into_iter().flat_map(Node::items) {
        let one = Input { root: item, ..*input };
        // A list in a list is no list of objects.
        if recognizes_list(&one) || input.world.overlays().replaces(item) {
            continue;
        }
        if let Some(reader) = super::reader_of(&one) {
            let mut declared = (reader.read)(&one);
            all.machines.append(&mut declared.machines);
            all.deployments.append(&mut declared.deployments);
            all.findings.append(&mut declared.findings);
        }
    }
    all
}

/// The deployments of several workloads of one object.
fn all_of<'t>(
    workloads: impl IntoIterator<Item = Workload<'t>>,
    object: &Object<'_>,
    input: &Input<'_>,
) -> Started {
    let mut all = Started::default();
    for workload in workloads {
        let mut started = workload.deployments(object.root, input);
        all.deployments.append(&mut started.deployments);
        all.findings.append(&mut started.findings);
    }
    all
}

#[cfg(test)]
mod tests;
