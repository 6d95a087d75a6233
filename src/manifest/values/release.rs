//! Releases with inline values: Flux `HelmRelease`, Argo CD `Application` and `ApplicationSet`, k3s `HelmChart`.
//!
//! The values are handed to the charts' readers; a text of values is read as the YAML it is.

use super::{Declared, of_chart};
use crate::manifest::keys::{self, is_object};
use crate::manifest::{Format, Input};
use crate::source::tree::{Node, Shape, Tree};

/// True for a release whose inline values deploy something that is known.
pub(super) fn recognizes(input: &Input<'_>) -> bool {
    is_release(input.root) && !read(input).deployments.is_empty()
}

fn is_release(root: Node<'_>) -> bool {
    is_object(root, "helm.toolkit.fluxcd.io", &["HelmRelease"])
        || is_object(root, "argoproj.io", &["Application", "ApplicationSet"])
        || is_object(root, "helm.cattle.io", &["HelmChart", "HelmChartConfig"])
}

/// Reads a release.
pub(super) fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let root = input.root;
    let Some(spec) = root.get("spec") else {
        return declared;
    };
    // An ApplicationSet makes applications of a template.
    let spec = match root.get("kind").and_then(Node::text) {
        Some("ApplicationSet") => spec.at(&["template", "spec"]).unwrap_or(spec),
        _ => spec,
    };
    let mut sources: Vec<Node<'_>> = spec.get("source").into_iter().collect();
    sources.extend(spec.get("sources").into_iter().flat_map(Node::items));
    let helm = sources.into_iter().filter_map(|source| source.get("helm"));
    let of_argo = helm.flat_map(|helm| [helm.get("valuesObject"), helm.get("values")]);
    let values = [spec.get("values"), spec.get("valuesContent")]
        .into_iter()
        .chain(of_argo)
        .flatten();
    for node in values {
        let name = keys::object_name(root);
        let mut found = match node.shape() {
            Shape::Mapping => of_chart(input, node, name, Format::HelmRelease, true),
            Shape::Scalar => {
                let tree = Tree::embedded(input.source(), node);
                let Some(document) = tree.documents.first() else {
                    continue;
                };
                of_chart(input, document.root(), name, Format::HelmRelease, true)
            }
            _ => continue,
        };
        declared.deployments.append(&mut found.deployments);
        declared.findings.append(&mut found.findings);
    }
    declared
}
