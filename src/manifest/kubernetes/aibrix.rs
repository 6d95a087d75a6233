//! AIBrix: StormService with its roles, and fleets of Ray clusters (which stand here for Ray clusters of any origin).
//!
//! A role is a deployment of its own. A Ray cluster is one group: the head starts the engine, every worker group adds
//! its pods.

use super::workload::{Size, Workload, count, times};
use super::{Object, all_of};
use crate::fact::Fact;
use crate::manifest::container::Started;
use crate::manifest::{Format, Input};
use crate::source::tree::Node;

/// Variables that tell a pod the size of its group and its place in it. Source: vllm-project/aibrix
/// pkg/controller/constants.
const GROUP_VARIABLES: [&str; 2] = ["POD_GROUP_SIZE", "POD_GROUP_INDEX"];

/// A StormService: copies of a set of roles.
pub(super) fn storm_service(object: &Object<'_>, input: &Input<'_>) -> Started {
    let copies = object.spec(&[]).and_then(|spec| count(spec, "replicas"));
    let set = object.spec(&["template", "spec"]);
    set.map_or_else(Started::default, |set| roles(set, copies.as_ref(), object, input))
}

/// A RoleSet: the roles of one copy.
pub(super) fn role_set(object: &Object<'_>, input: &Input<'_>) -> Started {
    let set = object.spec(&[]);
    set.map_or_else(Started::default, |set| roles(set, None, object, input))
}

/// A PodSet: one group of pods.
pub(super) fn pod_set(object: &Object<'_>, input: &Input<'_>) -> Started {
    let size = object.spec(&["podGroupSize"]).and_then(Size::of);
    let workload = Workload {
        pod: object.spec(&["template", "spec"]),
        ..Workload::new(Format::AiBrix, object.name()).grouped(size, GROUP_VARIABLES)
    };
    workload.deployments(object.root, input)
}

fn roles(set: Node<'_>, copies: Option<&Fact<u64>>, object: &Object<'_>, input: &Input<'_>) -> Started {
    let roles = set.get("roles").into_iter().flat_map(Node::items);
    let workloads = roles.map(|role| {
        let name = role.get("name");
        let name = name.and_then(|name| Some(Fact::at(name.text()?.to_owned(), name.mention())));
        let workload = Workload::new(Format::AiBrix, name.unwrap_or_else(|| object.name()));
        let workload = match role.get("podGroupSize").and_then(Size::of) {
            Some(size) => workload.grouped(Some(size), GROUP_VARIABLES),
            None => workload,
        };
        Workload {
            pod: role.at(&["template", "spec"]),
            replicas: times(copies.cloned(), count(role, "replicas")),
            ..workload
        }
    });
    all_of(workloads, object, input)
}

/// A RayClusterFleet: copies of a Ray cluster.
pub(super) fn ray_cluster_fleet(object: &Object<'_>, input: &Input<'_>) -> Started {
    let copies = object.spec(&[]).and_then(|spec| count(spec, "replicas"));
    let cluster = object.spec(&["template", "spec"]);
    cluster.map_or_else(Started::default, |cluster| {
        ray(cluster, Format::AiBrix, copies, object, input)
    })
}

/// A RayCluster (`ray.io`) whose head starts an engine.
pub(super) fn ray_cluster(object: &Object<'_>, input: &Input<'_>) -> Started {
    let cluster = object.spec(&[]);
    cluster.map_or_else(Started::default, |cluster| {
        ray(cluster, Format::Kubernetes, None, object, input)
    })
}

fn ray(
    cluster: Node<'_>,
    format: Format,
    copies: Option<Fact<u64>>,
    object: &Object<'_>,
    input: &Input<'_>,
) -> Started {
    let workers: Vec<Node<'_>> = cluster
        .get("workerGroupSpecs")
        .into_iter()
        .flat_map(Node::items)
        .filter(|group| group.at(&["template", "spec"]).is_some())
        .collect();
    let workload = Workload {
        pod: cluster.at(&["headGroupSpec", "template", "spec"]),
        workers: workers.first().and_then(|group| group.at(&["template", "spec"])),
        nodes: (!workers.is_empty()).then(|| pods(&workers)),
        replicas: copies,
        ..Workload::new(format, object.name())
    };
    let mut started = workload.deployments(object.root, input);
    // The operator starts Ray in the place of what the image would run: only what a command says counts.
    started
        .deployments
        .retain(|deployment| deployment.model.is_some() || !deployment.args.is_empty());
    started
}

/// The pods of a Ray cluster: the head and those of every worker group (`replicas` times `numOfHosts`, one by
/// default; ray-project/kuberay `WorkerGroupSpec`).
fn pods(groups: &[Node<'_>]) -> Size {
    let number = |group: &Node<'_>, key: &str| group.get(key).and_then(Node::as_u64).unwrap_or(1);
    let workers = groups
        .iter()
        .map(|group| number(group, "replicas").saturating_mul(number(group, "numOfHosts")))
        .fold(0_u64, u64::saturating_add);
    let spans = groups
        .iter()
        .map(|group| group.get("replicas").unwrap_or(*group).span());
    Size::Pods(Fact::derived(workers.saturating_add(1), spans))
}
