//! Values of keys as deployments hold them: each with its characters, and named as unresolved where it is a
//! variable, a template or a placeholder.

use super::Deployment;
use crate::engine::args::is_placeholder;
use crate::fact::Fact;
use crate::source::tree::Node;

/// The value of a key, as written; `None` where it is absent, empty or no single value.
pub(super) fn text(node: Node<'_>, path: &[&str]) -> Option<Fact<String>> {
    fact(node.at(path)?)
}

/// A single value, as written.
pub(super) fn fact(node: Node<'_>) -> Option<Fact<String>> {
    let text = node.text()?.trim();
    (!text.is_empty()).then(|| Fact::at(text.to_owned(), node.mention()))
}

/// Sets a setting, and names the report's field where the value cannot be known.
pub(super) fn declare(deployment: &mut Deployment, id: &str, value: Fact<String>) {
    if is_placeholder(&value.value) {
        deployment.mark_unresolved(field_of(id));
    }
    deployment.settings.set(id, value);
}

/// Sets what keys declare: pairs of a path of keys and a setting id.
pub(super) fn declare_all(deployment: &mut Deployment, root: Node<'_>, rows: &[(&[&str], &str)]) {
    for (path, id) in rows {
        if let Some(value) = text(root, path) {
            declare(deployment, id, value);
        }
    }
}

/// Sets the model, and names it as unresolved where it is a variable or a placeholder.
pub(super) fn declare_model(deployment: &mut Deployment, model: Fact<String>) {
    if is_placeholder(&model.value) {
        deployment.mark_unresolved("model");
    }
    deployment.model = Some(model);
}

/// The field of a report that a setting stands in.
fn field_of(id: &str) -> &str {
    match id {
        "ctx_size" | "num_ctx" => "context",
        "cache_type_k" | "cache_type_v" | "kv_cache_type" => "kv_cache",
        other => other,
    }
}
