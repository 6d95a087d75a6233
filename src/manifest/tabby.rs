//! tabbyAPI: `config.yml`, a model and its draft model on ExLlama.
//!
//! In: the file. Out: one deployment with the server's name; its engine is none that oomlint sizes. Source:
//! theroyallab/tabbyAPI `common/config_models.py` (ModelConfig, DraftModelConfig).

use super::{Declared, Deployment, Format, Input, plain_keys};
use crate::fact::Fact;
use crate::source::tree::{Node, Shape};

/// Keys of `model` that no other file has there.
const KEYS: [&str; 14] = [
    "model_name",
    "model_dir",
    "max_seq_len",
    "cache_size",
    "cache_mode",
    "gpu_split",
    "gpu_split_auto",
    "autosplit_reserve",
    "tensor_parallel",
    "chunk_size",
    "max_batch_size",
    "prompt_template",
    "use_dummy_models",
    "inline_model_loading",
];

/// What keys of `model` declare.
const SETTINGS: [(&[&str], &str); 6] = [
    (&["model", "max_seq_len"], "context"),
    (&["model", "cache_size"], "cache_size"),
    (&["model", "cache_mode"], "kv_cache"),
    (&["model", "max_batch_size"], "max_sequences"),
    (&["model", "gpu_split"], "gpu_split"),
    (&["draft_model", "draft_model_name"], "draft_model"),
];

/// True for a `model` with several of tabbyAPI's keys.
pub fn recognizes(input: &Input<'_>) -> bool {
    let model = input
        .root
        .get("model")
        .filter(|model| model.shape() == Shape::Mapping);
    model.is_some_and(|model| KEYS.iter().filter(|key| model.get(key).is_some()).count() >= 2)
        && input.root.get("apiVersion").is_none()
}

/// Reads a configuration of tabbyAPI.
pub fn read(input: &Input<'_>) -> Declared {
    let root = input.root;
    let named = plain_keys::text(root, &["model", "model_name"]);
    let name = named
        .clone()
        .unwrap_or_else(|| Fact::derived("tabbyapi".to_owned(), [root.span()]));
    let mut found = Deployment::new(name, input.source().id(), root.span(), Format::TabbyConfig);
    let place = root
        .entry("model")
        .map_or(root.span(), |(key, _): (Node<'_>, _)| key.span());
    found.server = Some(Fact::derived("tabbyapi".to_owned(), [place]));
    if let Some(model) = named {
        plain_keys::declare_model(&mut found, model);
    }
    plain_keys::declare_all(&mut found, root, &SETTINGS);
    Declared {
        deployments: vec![found],
        ..Declared::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::fixtures::{deployments, one, survives};

    const CONFIG: &str = "network: {port: 5000}\nmodel:\n  model_dir: models\n  model_name: Qwen3-32B-exl3\n  max_seq_len: 65536\n  cache_size: 131072\n  cache_mode: 8,6\n  max_batch_size: 4\n  tensor_parallel: true\ndraft_model:\n  draft_model_name: Qwen3-0.6B-exl3\n";

    #[test]
    fn a_model_and_its_cache_are_read() {
        let found = one("config.yml", CONFIG);
        assert_eq!(found.engine_name(), Some("tabbyapi"));
        assert_eq!(found.settings.count("context"), Some(65536));
        assert_eq!(found.settings.text("kv_cache"), Some("8,6"));
        assert_eq!(found.settings.count("max_sequences"), Some(4));
        assert_eq!(found.settings.text("draft_model"), Some("Qwen3-0.6B-exl3"));
    }

    #[test]
    fn a_switch_is_no_size() {
        assert_eq!(one("config.yml", CONFIG).settings.text("tensor_parallel"), None);
    }

    #[test]
    fn other_models_are_left_alone() {
        for text in [
            "model: {name: a, max_seq_len: 1}\n",
            "model: a\n",
            "model: {model_name: a}\n",
        ] {
            assert!(deployments("config.yml", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn no_mutation_panics() {
        survives("config.yml", CONFIG);
    }
}
