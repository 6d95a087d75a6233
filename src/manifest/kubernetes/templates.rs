//! Pod templates wherever an object keeps them: Deployments, Jobs in CronJobs and JobSets, Rollouts, and kinds that
//! are not known here.
//!
//! A template is a mapping with `spec.containers` under a key `template`, or the spec of a Pod. The nearest list item
//! with a name around it names it where an object has several.

use super::workload::{Workload, count, times};
use super::{Object, all_of};
use crate::fact::Fact;
use crate::manifest::container::Started;
use crate::manifest::{Format, Input};
use crate::source::tree::{Node, Shape};

/// Deepest nesting of keys that is searched.
const MAX_DEPTH: usize = 9;
/// Most mappings that are searched in one object.
const MAX_VISITS: usize = 4096;

/// Kinds without pods whose text may look as if they had some, or is too long to look.
const WITHOUT_PODS: [&str; 6] = [
    "CustomResourceDefinition",
    "ConfigMap",
    "Secret",
    "ClusterRole",
    "Service",
    "Kustomization",
];

/// A pod template and what stands around it.
struct Template<'t> {
    pod: Node<'t>,
    /// The name of the nearest list item around it.
    name: Option<Node<'t>>,
    /// Copies, of the mapping that holds it and of the list item around it.
    replicas: Option<Fact<u64>>,
}

/// True for an object that keeps pods.
pub(super) fn has_pods(root: Node<'_>) -> bool {
    !find(root, 1).is_empty()
}

/// The deployments of an object's pods.
pub(super) fn read(object: &Object<'_>, input: &Input<'_>) -> Started {
    let templates = find(object.root, usize::MAX);
    let several = templates.len() > 1;
    let workloads = templates.into_iter().map(|template| {
        let own = template.name.filter(|_| several);
        let own = own.and_then(|name| Some(Fact::at(name.text()?.to_owned(), name.mention())));
        Workload {
            pod: Some(template.pod),
            replicas: template.replicas,
            ..Workload::new(Format::Kubernetes, own.unwrap_or_else(|| object.name()))
        }
    });
    all_of(workloads, object, input)
}

/// The templates of an object, at most `most`.
fn find(root: Node<'_>, most: usize) -> Vec<Template<'_>> {
    let kind = root.get("kind").and_then(Node::text).unwrap_or("");
    let Some(spec) = root.get("spec").filter(|_| !WITHOUT_PODS.contains(&kind)) else {
        return Vec::new();
    };
    if kind == "Pod" {
        let pod = is_pod(spec).then_some(Template {
            pod: spec,
            name: None,
            replicas: None,
        });
        return pod.into_iter().collect();
    }
    let mut search = Search {
        found: Vec::new(),
        most,
        visits: 0,
    };
    search.mapping(spec, None, None, 0);
    search.found
}

fn is_pod(spec: Node<'_>) -> bool {
    let containers = spec.get("containers");
    containers.is_some_and(|containers| {
        let mut items = containers.items();
        items.any(|item| item.shape() == Shape::Mapping)
    })
}

struct Search<'t> {
    found: Vec<Template<'t>>,
    most: usize,
    visits: usize,
}

impl<'t> Search<'t> {
    fn mapping(&mut self, node: Node<'t>, name: Option<Node<'t>>, outer: Option<Fact<u64>>, depth: usize) {
        self.visits += 1;
        if depth > MAX_DEPTH || self.visits > MAX_VISITS || self.found.len() >= self.most {
            return;
        }
        let replicas = times(outer, count(node, "replicas"));
        for (key, value) in node.entries() {
            match value.shape() {
                Shape::Mapping if key.text() == Some("template") => {
                    match value.get("spec").filter(|spec| is_pod(*spec)) {
                        Some(pod) => self.found.push(Template {
                            pod,
                            name,
                            replicas: replicas.clone(),
                        }),
                        None => self.mapping(value, name, replicas.clone(), depth + 1),
                    }
                }
                Shape::Mapping => self.mapping(value, name, replicas.clone(), depth + 1),
                Shape::Sequence => {
                    for item in value.items().filter(|item| item.shape() == Shape::Mapping) {
                        let own = item.get("name").filter(|name| name.text().is_some());
                        self.mapping(item, own.or(name), replicas.clone(), depth + 1);
                    }
                }
                _ => {}
            }
        }
    }
}
