//! Which objects a patch is for: the `target` of a kustomization.

use super::build::Made;
use crate::source::tree::Node;

pub(super) fn selects_or_is(named_by: Node<'_>, object: &Made<'_>) -> bool {
    match named_by.at(&["metadata", "name"]).and_then(Node::text) {
        Some(name) => named_by.get("kind").and_then(Node::text) == Some(&object.kind) && object.goes_by(name),
        None => selects(named_by, object),
    }
}

/// True for an object that a target selects: every key it has must fit.
pub(super) fn selects(target: Node<'_>, object: &Made<'_>) -> bool {
    let text = |key: &str| target.get(key).and_then(Node::text);
    let fits = |pattern: Option<&str>, is: &mut dyn FnMut(&str) -> bool| pattern.is_none_or(is);
    let version = object.root().get("apiVersion").and_then(Node::text).unwrap_or("");
    let (group, release) = version.split_once('/').unwrap_or(("", version));
    let named = fits(text("name"), &mut |pattern| {
        object.names.iter().any(|name| matches(pattern, &name.value))
    });
    // What a partial object says of its group is made up here.
    let is_partial = object.origin.is_none();
    fits(text("kind"), &mut |pattern| matches(pattern, &object.kind))
        && named
        && (is_partial || fits(text("group"), &mut |pattern| matches(pattern, group)))
        && (is_partial || fits(text("version"), &mut |pattern| matches(pattern, release)))
        && (is_partial
            || fits(text("labelSelector"), &mut |selector| {
                has_labels(selector, object, "labels")
            }))
        && (is_partial
            || fits(text("annotationSelector"), &mut |selector| {
                has_labels(selector, object, "annotations")
            }))
}

/// True for labels of which each `key=value` of a selector holds. Other selectors select nothing here.
fn has_labels(selector: &str, object: &Made<'_>, key: &str) -> bool {
    let labels = object.root().at(&["metadata", key]);
    selector.split(',').all(|part| {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) if !name.ends_with('!') => (name, Some(value.trim_start_matches('='))),
            Some(_) => return false,
            None => (part, None),
        };
        let held = labels
            .and_then(|labels| labels.get(name.trim()))
            .and_then(Node::text);
        held.is_some() && value.is_none_or(|value| held == Some(value.trim()))
    })
}

/// A target's pattern: a regular expression for the whole name, of which `.*` and `|` are known here.
fn matches(pattern: &str, name: &str) -> bool {
    let bare = pattern.trim_start_matches('^').trim_end_matches('$');
    let inner = bare
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(bare);
    inner.is_empty() || inner.split('|').any(|one| glob(one, name))
}

fn glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split(".*");
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_objects_by_simple_patterns() {
        for (pattern, name, fits) in [
            ("vllm", "vllm", true),
            ("vllm", "vllm-2", false),
            ("vllm.*", "vllm-2", true),
            (".*", "anything", true),
            ("^(a|b-.*)$", "b-1", true),
            (".*-server", "llm-server", true),
            (".*-server", "llm-servers", false),
            ("a.*b.*c", "a-b-b-c", true),
            ("a.*b.*c", "a-c", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
