//! Groups of pods that serve one model together: LeaderWorkerSet, and the roles of a RoleBasedGroup.
//!
//! One group is one deployment. The leader starts the engine, the workers give it their accelerators; where no
//! template is kept for the leader, its pods are those of the workers.

use super::merge::{Lists, merged};
use super::workload::{Size, Workload, count, times};
use super::{Object, all_of};
use crate::fact::Fact;
use crate::manifest::container::Started;
use crate::manifest::{Format, Input};
use crate::source::tree::{Document, Node};

/// Variables that tell a pod of a LeaderWorkerSet the size of its group and its place in it. Source:
/// kubernetes-sigs/lws pkg/utils/pod `AddLWSVariables`.
const LWS_VARIABLES: [&str; 2] = ["LWS_GROUP_SIZE", "LWS_WORKER_INDEX"];
/// The same of a RoleBasedGroup. Source: sgl-project/rbg api/workloads/constants/env.go.
const RBG_VARIABLES: [&str; 2] = ["RBG_LWP_GROUP_SIZE", "RBG_LWP_WORKER_INDEX"];

/// A LeaderWorkerSet (`leaderworkerset.x-k8s.io/v1`).
pub(super) fn leader_worker_set(object: &Object<'_>, input: &Input<'_>) -> Started {
    let template = object.spec(&["leaderWorkerTemplate"]);
    let part = |key: &str| template?.at(&[key, "spec"]);
    let (leader, worker) = (part("leaderTemplate"), part("workerTemplate"));
    let size = template.and_then(|template| Size::of(template.get("size")?));
    let workload = Workload {
        pod: leader.or(worker),
        workers: leader.and(worker),
        replicas: object.spec(&[]).and_then(|spec| count(spec, "replicas")),
        ..Workload::new(Format::LeaderWorkerSet, object.name()).grouped(size, LWS_VARIABLES)
    };
    workload.deployments(object.root, input)
}

/// A RoleBasedGroup (`workloads.x-k8s.io/v1alpha1` and `v1alpha2`).
pub(super) fn role_based_group(object: &Object<'_>, input: &Input<'_>) -> Started {
    match object.spec(&[]) {
        Some(spec) => roles(spec, None, object, input),
        None => Started::default(),
    }
}

/// A RoleBasedGroupSet: copies of a group. The group's spec stands at `template` in v1alpha1 and at
/// `groupTemplate.spec` in v1alpha2.
pub(super) fn role_based_group_set(object: &Object<'_>, input: &Input<'_>) -> Started {
    let group = object
        .spec(&["groupTemplate", "spec"])
        .or_else(|| object.spec(&["template"]));
    let copies = object.spec(&[]).and_then(|spec| count(spec, "replicas"));
    group.map_or_else(Started::default, |group| {
        roles(group, copies.as_ref(), object, input)
    })
}

fn roles(spec: Node<'_>, copies: Option<&Fact<u64>>, object: &Object<'_>, input: &Input<'_>) -> Started {
    let mut all = Started::default();
    for node in spec.get("roles").into_iter().flat_map(Node::items) {
        let role = Role::new(node, spec);
        let workload = role.workload(node, copies.cloned(), object);
        let mut started = all_of([workload], object, input);
        all.deployments.append(&mut started.deployments);
        all.findings.append(&mut started.findings);
    }
    all
}

/// The pod templates of a role, patches applied.
struct Role<'t> {
    /// The template of every pod.
    shared: Option<Node<'t>>,
    /// That template with the role's own patch.
    own: Option<Document>,
    /// That with the patch of the leader, and with that of the workers.
    leader: Option<Document>,
    worker: Option<Document>,
    size: Option<Size>,
    is_group: bool,
    components: Vec<Node<'t>>,
}

impl<'t> Role<'t> {
    fn new(role: Node<'t>, spec: Node<'t>) -> Self {
        // v1alpha1 has the keys of the patterns in the role itself, by other names.
        let group = role.get("leaderWorkerPattern");
        let pattern = role.get("standalonePattern").or(group).unwrap_or(role);
        let old_group = role.get("leaderWorkerSet");
        let reference = pattern.get("templateRef");
        let shared = pattern
            .get("template")
            .or_else(|| named_template(spec, reference?.get("name")?.text()?));
        let patch = reference
            .and_then(|reference| reference.get("patch"))
            .or_else(|| role.get("templatePatch"));
        let laid =
            |base: Option<Node<'_>>, patch: Option<Node<'_>>| Some(merged(base?, patch?, Lists::ByKey));
        let own = laid(shared, patch);
        let base = own.as_ref().map(Document::root).or(shared);
        let of_group = |new: &str, old: &str| {
            group
                .and_then(|group| group.get(new))
                .or_else(|| old_group?.get(old))
        };
        let leader = laid(base, of_group("leaderTemplatePatch", "patchLeaderTemplate"));
        let worker = laid(base, of_group("workerTemplatePatch", "patchWorkerTemplate"));
        let components = role
            .at(&["customComponentsPattern", "components"])
            .or_else(|| role.get("components"));
        Self {
            shared,
            leader,
            worker,
            own,
            size: of_group("size", "size").and_then(Size::of),
            is_group: group.or(old_group).is_some(),
            components: components.into_iter().flat_map(Node::items).collect(),
        }
    }

    fn workload<'a>(&'a self, role: Node<'a>, copies: Option<Fact<u64>>, object: &Object<'a>) -> Workload<'a>
    where
        't: 'a,
    {
        let name = role.get("name");
        let name = name.and_then(|name| Some(Fact::at(name.text()?.to_owned(), name.mention())));
        let workload = Workload {
            replicas: times(copies, count(role, "replicas")),
            ..Workload::new(Format::RoleBasedGroup, name.unwrap_or_else(|| object.name()))
        };
        let pod = |document: &'a Option<Document>| document.as_ref()?.root().get("spec");
        let base = pod(&self.own).or_else(|| self.shared?.get("spec"));
        if !self.components.is_empty() {
            return self.of_components(workload);
        }
        if !self.is_group {
            return Workload {
                pod: base,
                ..workload
            };
        }
        Workload {
            pod: pod(&self.leader).or(base),
            workers: pod(&self.worker),
            ..workload.grouped(self.size.clone(), RBG_VARIABLES)
        }
    }

    /// Components are pods of several shapes: the first leads.
    fn of_components<'a>(&'a self, workload: Workload<'a>) -> Workload<'a>
    where
        't: 'a,
    {
        let pod = |at: usize| self.components.get(at)?.at(&["template", "spec"]);
        let sizes = self
            .components
            .iter()
            .map(|component| component.get("size").and_then(Node::as_u64).unwrap_or(1));
        let size = sizes.fold(0_u64, u64::saturating_add);
        let spans = self.components.iter().map(|component| component.span());
        Workload {
            pod: pod(0),
            workers: pod(1),
            ..workload.grouped(Some(Size::Pods(Fact::derived(size, spans))), RBG_VARIABLES)
        }
    }
}

/// The template that roles share by a name.
fn named_template<'t>(spec: Node<'t>, name: &str) -> Option<Node<'t>> {
    let mut templates = spec.get("roleTemplates")?.items();
    templates
        .find(|template| template.get("name").and_then(Node::text) == Some(name))?
        .get("template")
}
