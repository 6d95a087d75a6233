//! The pods of a Ray cluster: what its worker groups offer to the engines that Serve places on them.

use crate::fact::Fact;
use crate::manifest::kubernetes::{accelerators, pod};
use crate::manifest::{AcceleratorKind, Count, Input};
use crate::source::tree::Node;

/// The worker groups that have accelerators.
#[derive(Debug, Default)]
pub struct Workers {
    /// True where any group has accelerators.
    pub accelerators: bool,
    /// Accelerators of one pod of the first such group.
    pub each: Option<Fact<Count>>,
    /// Kinds that this group runs on.
    pub kinds: Vec<AcceleratorKind>,
    /// The resource that counts them, where it is not `nvidia.com/gpu`.
    pub resource: Option<Fact<String>>,
    /// Memory of one pod in bytes.
    pub host_memory_bytes: Option<Fact<u64>>,
}

/// The worker groups of a `rayClusterConfig`.
pub fn of_cluster(cluster: Option<Node<'_>>, input: &Input<'_>) -> Workers {
    let groups = cluster.and_then(|cluster| cluster.get("workerGroupSpecs"));
    for group in groups.into_iter().flat_map(Node::items) {
        let Some(spec) = group.at(&["template", "spec"]) else {
            continue;
        };
        let kinds = accelerators::kinds(spec);
        let found = pod::containers(spec, input)
            .into_iter()
            .find(|container| container.accelerators.number().is_some_and(|count| count > 0));
        if let Some(container) = found {
            return Workers {
                accelerators: true,
                each: container.accelerators.count,
                kinds,
                resource: container.accelerators.resource,
                host_memory_bytes: container.host_memory_bytes,
            };
        }
    }
    Workers::default()
}
