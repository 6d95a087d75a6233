//! Dynamic resource allocation: the devices that a container claims, told in objects beside the pod.
//!
//! In: a pod spec, one of its containers, and the tree. Out: the count, the device class as the resource, and the
//! kind where a selector names a product. A claim whose template is not in the tree is one whose devices are not
//! known.

use crate::fact::Fact;
use crate::manifest::container::Container;
use crate::manifest::{AcceleratorKind, Count, Input};
use crate::source::tree::Node;

/// Puts what a container claims into it, where its resources count nothing.
pub(super) fn read(spec: Node<'_>, node: Node<'_>, input: &Input<'_>, container: &mut Container) {
    if container.accelerators.count.is_some() {
        return;
    }
    for claim in node
        .at(&["resources", "claims"])
        .into_iter()
        .flat_map(Node::items)
    {
        let Some(name) = claim.get("name").and_then(Node::text) else {
            continue;
        };
        let wanted = claim.get("request").and_then(Node::text);
        match requests(spec, name, input) {
            Some(requests) => take(&requests, wanted, container),
            None => container.unresolved.push("accelerators"),
        }
    }
}

/// The requests of the claim that a pod names.
fn requests<'t>(spec: Node<'t>, name: &str, input: &Input<'t>) -> Option<Vec<Node<'t>>> {
    let claims: Vec<Node<'t>> = spec
        .get("resourceClaims")
        .into_iter()
        .flat_map(Node::items)
        .collect();
    let claim = claims
        .into_iter()
        .find(|claim| claim.get("name").and_then(Node::text) == Some(name))?;
    // Up to v1alpha2 the two names stood under `source`.
    let named = |key: &str| claim.get(key).or_else(|| claim.at(&["source", key]));
    let (kind, path, node): (&str, &[&str], Node<'t>) = match named("resourceClaimTemplateName") {
        Some(node) => (
            "ResourceClaimTemplate",
            &["spec", "spec", "devices", "requests"],
            node,
        ),
        None => (
            "ResourceClaim",
            &["spec", "devices", "requests"],
            named("resourceClaimName")?,
        ),
    };
    let object = input.world.object(input.file, kind, node.text()?)?;
    Some(object.node.at(path)?.items().collect())
}

/// Adds the devices of a claim's requests.
fn take(requests: &[Node<'_>], wanted: Option<&str>, container: &mut Container) {
    for request in requests {
        let name = request.get("name").and_then(Node::text);
        if wanted.is_some() && wanted != name {
            continue;
        }
        // From v1beta2 on a request stands under `exactly`; of `firstAvailable` the first is the one hoped for.
        let first = request.get("firstAvailable").and_then(|list| list.items().next());
        let request = request.get("exactly").or(first).unwrap_or(*request);
        let Some(class) = request
            .get("deviceClassName")
            .filter(|class| is_accelerator(*class))
        else {
            continue;
        };
        let held = container.accelerators.number().unwrap_or(0);
        let count = match (
            request.get("allocationMode").and_then(Node::text),
            request.get("count"),
        ) {
            (Some("All"), _) => Some(Fact::at(Count::All, class.mention())),
            (_, None) => Some(Fact::at(Count::Number(held.saturating_add(1)), class.mention())),
            (_, Some(count)) => count
                .as_u64()
                .map(|number| Fact::at(Count::Number(held.saturating_add(number)), count.mention())),
        };
        if count.is_none() {
            container.unresolved.push("accelerators");
        }
        container.accelerators.count = count;
        container.accelerators.resource = class
            .text()
            .map(|class_name| Fact::at(class_name.to_owned(), class.mention()));
        if container.accelerators.kinds.is_empty() {
            container.accelerators.kinds.extend(product(request));
        }
    }
}

/// True for a class of accelerators. Sources of the names: the DRA drivers of NVIDIA, AMD, Intel, Google and AWS.
fn is_accelerator(class: Node<'_>) -> bool {
    const CLASSES: [&str; 6] = ["gpu", "mig", "tpu", "neuron", "gaudi", "npu"];
    let name = class.text().unwrap_or("");
    let mut words = name.split(['.', '-', '/']);
    words.any(|word| CLASSES.contains(&word))
}

/// The product that a selector demands (`productName == "NVIDIA A100-SXM4-80GB"`).
fn product(request: Node<'_>) -> Option<AcceleratorKind> {
    let selectors = request.get("selectors")?.items();
    selectors.into_iter().find_map(|selector| {
        let expression = selector.at(&["cel", "expression"])?;
        let after = expression.text()?.split_once("productName")?.1;
        let after = after.trim_start().strip_prefix("==")?.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let name = after.strip_prefix(quote)?.split(quote).next()?;
        Some(AcceleratorKind {
            label: None,
            name: Fact::at(name.to_owned(), expression.mention()),
            count: None,
        })
    })
}
