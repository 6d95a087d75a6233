//! Accelerators of a pod: the resources that count them, and the node labels that tell their kind.

use crate::engine::args::is_placeholder;
use crate::fact::Fact;
use crate::machine::catalog::Catalog;
use crate::manifest::{AcceleratorKind, Accelerators, Count};
use crate::source::tree::Node;

/// Resources that count accelerators. A name that ends in `-` or `*` is the beginning of several. Sources: the device
/// plugins of the vendors, as `../shared/reference/formats.md` lists them.
const RESOURCES: [&str; 20] = [
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/mig-",
    "amd.com/gpu",
    "habana.ai/gaudi",
    "gpu.intel.com/xe",
    "gpu.intel.com/i915",
    "google.com/tpu",
    "aws.amazon.com/neuron",
    "aws.amazon.com/neuroncore",
    "aws.amazon.com/neurondevice",
    "huawei.com/Ascend*",
    "huawei.com/npu",
    "cambricon.com/mlu",
    "intel.com/gpu",
    "squat.ai/*",
    "devic.es/*",
    "metax-tech.com/gpu",
    "vke.volcengine.com/mgpu",
    "aliyun.com/gpu",
];

/// True for a resource that counts accelerators.
fn counts_accelerators(name: &str) -> bool {
    RESOURCES.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None if known.ends_with('-') => name.starts_with(known),
        None => name == *known,
    })
}

/// Names under which a node's kind of machine is declared that are no label of an accelerator.
const INSTANCE_LABELS: [&str; 3] = [
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "karpenter.k8s.aws/instance-type",
];

/// What `resources` ask for: the first accelerator of the limits, else of the requests.
pub fn of_resources(resources: Node<'_>) -> Accelerators {
    let mut found = Accelerators::default();
    for kind in ["limits", "requests"] {
        for (key, value) in resources.get(kind).map(Node::entries).unwrap_or_default() {
            let Some(name) = key.text().map(str::trim) else {
                continue;
            };
            if !counts_accelerators(name) {
                continue;
            }
            let Some(count) = value.as_u64() else { continue };
            found.count = Some(Fact::at(Count::Number(count), value.mention()));
            if name != "nvidia.com/gpu" {
                found.resource = Some(Fact::at(name.to_owned(), key.span()));
            }
            return found;
        }
    }
    found
}

/// The field that cannot be known because `resources` give a variable or a template for a count.
pub fn unresolved(resources: Node<'_>) -> Option<&'static str> {
    let open = ["limits", "requests"].iter().any(|kind| {
        let entries = resources.get(kind).map(Node::entries).unwrap_or_default();
        entries.iter().any(|(key, value)| {
            let counts = key.text().is_some_and(|name| counts_accelerators(name.trim()));
            counts && value.as_u64().is_none() && value.text().is_some()
        })
    });
    open.then_some("accelerators")
}

/// The kinds that a pod spec allows by `nodeSelector` and required node affinity.
pub fn kinds(spec: Node<'_>) -> Vec<AcceleratorKind> {
    let mut found = selected(spec.get("nodeSelector"));
    if found.is_empty() {
        found = required(spec);
    }
    found
}

/// The kind that a map of labels names. A label of the accelerator wins over the instance type.
pub fn selected(labels: Option<Node<'_>>) -> Vec<AcceleratorKind> {
    let entries = labels.map(Node::entries).unwrap_or_default();
    let of = |wanted: fn(&str) -> bool| {
        entries.iter().find_map(|(key, value)| {
            let label = key.text().filter(|label| wanted(label))?;
            kind(label, *value)
        })
    };
    of(is_accelerator_label)
        .or_else(|| of(|label| INSTANCE_LABELS.contains(&label)))
        .into_iter()
        .collect()
}

/// A kind by the label that names it; `None` for a variable or a template.
pub fn kind(label: &str, value: Node<'_>) -> Option<AcceleratorKind> {
    let name = value.text().filter(|name| !is_placeholder(name))?;
    Some(AcceleratorKind {
        label: Some(label.to_owned()),
        name: Fact::at(name.to_owned(), value.mention()),
        count: None,
    })
}

/// True where a pod spec selects its nodes by a label of accelerators whose value is a variable or a template.
pub fn is_kind_open(spec: Node<'_>) -> bool {
    let entries = spec.get("nodeSelector").map(Node::entries).unwrap_or_default();
    entries.iter().any(|(key, value)| {
        key.text()
            .is_some_and(|label| is_accelerator_label(label) || INSTANCE_LABELS.contains(&label))
            && value.text().is_some_and(is_placeholder)
    })
}

/// Alternatives of `requiredDuringSchedulingIgnoredDuringExecution`: terms are alternatives, and so are the values
/// of one `In`.
fn required(spec: Node<'_>) -> Vec<AcceleratorKind> {
    let terms = spec.at(&[
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ]);
    expressions(terms)
}

/// The kinds that a list of node selector terms allows.
pub fn expressions(terms: Option<Node<'_>>) -> Vec<AcceleratorKind> {
    let mut found: Vec<AcceleratorKind> = Vec::new();
    for term in terms.into_iter().flat_map(Node::items) {
        let all: Vec<Node<'_>> = term
            .get("matchExpressions")
            .into_iter()
            .flat_map(Node::items)
            .collect();
        let of = |wanted: fn(&str) -> bool| {
            all.iter().find_map(|expression| {
                let label = expression.get("key")?.text().filter(|label| wanted(label))?;
                let is_in = expression.get("operator").and_then(Node::text) == Some("In");
                is_in.then_some((label, *expression))
            })
        };
        let chosen = of(is_accelerator_label).or_else(|| of(|label| INSTANCE_LABELS.contains(&label)));
        let Some((label, expression)) = chosen else {
            continue;
        };
        for value in expression.get("values").into_iter().flat_map(Node::items) {
            found.extend(kind(label, value));
        }
    }
    found
}

/// True for a label whose value names an accelerator.
fn is_accelerator_label(label: &str) -> bool {
    const NUMBERS: [&str; 5] = [
        "nvidia.com/gpu.memory",
        "nvidia.com/gpu.count",
        "cloud.google.com/gke-accelerator-count",
        "cloud.google.com/gke-tpu-topology",
        "karpenter.k8s.aws/instance-gpu-memory",
    ];
    let other = [
        "cloud.google.com/compute-class",
        "kubernetes.azure.com/accelerator",
    ];
    !NUMBERS.contains(&label)
        && !other.contains(&label)
        && !INSTANCE_LABELS.contains(&label)
        && Catalog::builtin()
            .label_keys()
            .iter()
            .any(|known| known.key == label)
}
