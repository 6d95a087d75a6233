//! Option files that engines read beside their command line: vLLM's and SGLang's `--config`, TensorRT-LLM's options.
//!
//! Nothing marks such a file, and its keys are words that others use too. One is taken for an engine's when at least
//! two of its keys are characteristic, one of them the engine's alone, and every key is a flag or an option of the
//! engine. What the keys set is the business of [`super::command::option_file`].

use super::command;
use super::{Declared, Deployment, Format, Input, plain_keys};
use crate::engine::Engine;
use crate::engine::flags::FlagTable;
use crate::fact::Fact;
use crate::source::tree::{Node, Shape};

/// An engine's option files.
struct Kind {
    engine: Engine,
    format: Format,
    /// Keys that only this engine's files have, with `-` for `_`.
    own: &'static [&'static str],
    /// Keys that say as much but that other engines have too.
    shared: &'static [&'static str],
    /// Keys with a structure.
    structured: &'static [&'static str],
}

/// Keys that tell how a model is spread; every engine has them.
const PARALLEL: [&str; 8] = [
    "tensor-parallel-size",
    "pipeline-parallel-size",
    "data-parallel-size",
    "served-model-name",
    "kv-cache-dtype",
    "quantization",
    "trust-remote-code",
    "enable-chunked-prefill",
];

/// In the order in which they are tried. The names are flags of each engine, see `catalog/engines`; TensorRT-LLM's
/// options are fields of `TorchLlmArgs` and `TrtLlmArgs` (`tensorrt_llm/llmapi/llm_args.py`).
const KINDS: [Kind; 3] = [
    Kind {
        engine: Engine::TensorrtLlm,
        format: Format::TrtllmConfig,
        own: &[
            "kv-cache-config",
            "cuda-graph-config",
            "enable-attention-dp",
            "cache-transceiver-config",
            "pytorch-backend-config",
            "moe-config",
            "build-config",
            "moe-expert-parallel-size",
            "moe-tensor-parallel-size",
            "free-gpu-memory-fraction",
            "kv-cache-free-gpu-memory-fraction",
            "disable-overlap-scheduler",
            "enable-chunked-context",
            "max-seq-len",
            "print-iter-log",
            "use-cuda-graph",
            "cuda-graph-batch-sizes",
            "enable-iter-perf-stats",
            "stream-interval",
        ],
        shared: &[
            "tensor-parallel-size",
            "pipeline-parallel-size",
            "max-batch-size",
            "max-num-tokens",
            "enable-chunked-prefill",
            "trust-remote-code",
            "backend",
            "speculative-config",
        ],
        structured: &[
            "kv-cache-config",
            "cuda-graph-config",
            "cache-transceiver-config",
            "pytorch-backend-config",
            "moe-config",
            "build-config",
            "speculative-config",
            "scheduler-config",
            "torch-compile-config",
            "lora-config",
            "quant-config",
            "sparse-attention-config",
            "peft-cache-config",
            "perf-metrics-config",
            "cuda-graph-batch-sizes",
            "attention-dp-config",
            "batching-wait-config",
            "nvfp4-gemm-config",
            "extended-runtime-perf-knob-config",
            "decoding-config",
            "guided-decoding-config",
            "model-kwargs",
            "env-overrides",
        ],
    },
    Kind {
        engine: Engine::Vllm,
        format: Format::VllmConfig,
        own: &[
            "max-model-len",
            "gpu-memory-utilization",
            "max-num-seqs",
            "max-num-batched-tokens",
            "enforce-eager",
            "enable-prefix-caching",
            "no-enable-prefix-caching",
            "disable-log-requests",
            "enable-auto-tool-choice",
            "enable-expert-parallel",
            "limit-mm-per-prompt",
            "compilation-config",
            "kv-transfer-config",
            "swap-space",
        ],
        shared: &PARALLEL,
        structured: &[
            "speculative-config",
            "compilation-config",
            "kv-transfer-config",
            "limit-mm-per-prompt",
            "hf-overrides",
            "override-generation-config",
            "rope-scaling",
            "lora-modules",
            "allowed-origins",
            "allowed-methods",
            "allowed-headers",
            "middleware",
            "served-model-name",
            "mm-processor-kwargs",
            "default-chat-template-kwargs",
            "chat-template-kwargs",
            "cuda-graph-sizes",
            "cudagraph-capture-sizes",
            "additional-config",
            "kv-events-config",
            "model-loader-extra-config",
            "eplb-config",
            "pooler-config",
            "override-pooler-config",
            "ec-transfer-config",
            "structured-outputs-config",
            "attention-config",
        ],
    },
    Kind {
        engine: Engine::Sglang,
        format: Format::SglangConfig,
        own: &[
            "mem-fraction-static",
            "context-length",
            "max-running-requests",
            "model-path",
            "tp-size",
            "tp",
            "chunked-prefill-size",
            "max-total-tokens",
            "disaggregation-mode",
            "enable-dp-attention",
            "moe-runner-backend",
            "cuda-graph-max-bs",
            "disable-radix-cache",
            "max-prefill-tokens",
            "speculative-algorithm",
            "ep-size",
            "dp-size",
        ],
        shared: &PARALLEL,
        structured: &["cuda-graph-bs", "lora-paths", "speculative-config"],
    },
];

/// Most keys that are looked at: an option file is short.
const MAX_KEYS: usize = 200;

/// True for an option file of an engine.
pub fn recognizes(input: &Input<'_>) -> bool {
    kind_of(input.root).is_some()
}

/// Reads an option file.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    if let Some(kind) = kind_of(input.root) {
        declared.deployments.push(deployment(input, kind));
    }
    declared
}

fn deployment(input: &Input<'_>, kind: &Kind) -> Deployment {
    let root = input.root;
    let name = input.file.name();
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let name = Fact::derived(stem.to_owned(), [root.span()]);
    let mut found = Deployment::new(name, input.source().id(), root.span(), kind.format);
    found.engine = Some(Fact::derived(kind.engine, [root.span()]));
    let options = command::option_file(kind.engine, root);
    for (id, value) in options.settings.iter() {
        plain_keys::declare(&mut found, id, value.clone());
    }
    for id in &options.unresolved {
        found.mark_unresolved(id);
    }
    let model = ["model", "model-path", "model_path", "model_tag"]
        .iter()
        .find_map(|key| plain_keys::text(root, &[key]));
    if let Some(model) = model {
        plain_keys::declare_model(&mut found, model);
    }
    let served = root
        .get("served-model-name")
        .or_else(|| root.get("served_model_name"));
    let names = served.into_iter().flat_map(|node| match node.shape() {
        Shape::Sequence => node.items().collect(),
        _ => vec![node],
    });
    found.model_hints.extend(names.filter_map(plain_keys::fact));
    found
}

/// The engine whose options a document holds.
fn kind_of(root: Node<'_>) -> Option<&'static Kind> {
    if root.shape() != Shape::Mapping || root.pairs().nth(MAX_KEYS).is_some() {
        return None;
    }
    let entries: Vec<(String, Node<'_>)> = root
        .pairs()
        .map(|(key, value)| (normal(key.text().unwrap_or("")), value))
        .collect();
    KINDS.iter().find(|kind| kind.has(&entries))
}

impl Kind {
    fn has(&self, entries: &[(String, Node<'_>)]) -> bool {
        let count = |names: &[&str]| {
            entries
                .iter()
                .filter(|(key, _)| names.contains(&key.as_str()))
                .count()
        };
        let own = count(self.own);
        own >= 1
            && own + count(self.shared) >= 2
            && entries.iter().all(|(key, value)| self.knows(key, *value))
    }

    /// True for a key that the engine reads, with a value in the shape that it has.
    fn knows(&self, key: &str, value: Node<'_>) -> bool {
        if self.structured.contains(&key) {
            return true;
        }
        let known = self.own.contains(&key)
            || self.shared.contains(&key)
            || matches!(key, "model" | "model-tag" | "host" | "port")
            || is_flag(self.engine, key);
        // A list is what a flag with several values takes.
        let plain = |node: Node<'_>| matches!(node.shape(), Shape::Scalar | Shape::Null);
        known && (plain(value) || value.shape() == Shape::Sequence && value.items().all(plain))
    }
}

fn is_flag(engine: Engine, key: &str) -> bool {
    let table = FlagTable::of(engine);
    table.find(&format!("--{key}")).is_some() || table.find(&format!("--{}", key.replace('-', "_"))).is_some()
}

/// A key as it is compared: `_` and `-` are alike.
fn normal(key: &str) -> String {
    key.trim().trim_start_matches("--").replace('_', "-")
}

#[cfg(test)]
mod tests {
    use crate::manifest::Format;
    use crate::manifest::fixtures::{deployments, one, survives};

    const VLLM: &str = "model: Qwen/Qwen3-30B-A3B\nmax-model-len: 32768\ntensor_parallel_size: 2\ngpu-memory-utilization: 0.92\nserved-model-name: [qwen, chat]\nenforce-eager: true\n";
    const SGLANG: &str = "model-path: deepseek-ai/DeepSeek-R1\ncontext-length: \"9600\"\nmem-fraction-static: \"0.9\"\ntp-size: 8\n";
    const TRTLLM: &str = "tensor_parallel_size: 4\nmax_batch_size: 64\nmax_seq_len: 8448\nkv_cache_config:\n  free_gpu_memory_fraction: 0.8\n  dtype: fp8\n";

    #[test]
    fn options_of_vllm_are_read() {
        let found = one("serve.yaml", VLLM);
        assert_eq!(
            (found.format, found.name.value.as_str()),
            (Format::VllmConfig, "serve")
        );
        assert_eq!(
            found.model.as_ref().map(|model| model.value.as_str()),
            Some("Qwen/Qwen3-30B-A3B")
        );
        assert_eq!(found.settings.count("context"), Some(32768));
        assert_eq!(found.settings.count("tensor_parallel"), Some(2));
        assert_eq!(found.model_hints.len(), 2);
    }

    #[test]
    fn options_of_sglang_may_be_texts() {
        let found = one("decode.yaml", SGLANG);
        assert_eq!(found.format, Format::SglangConfig);
        assert_eq!(found.settings.count("context"), Some(9600));
        assert_eq!(found.settings.count("tensor_parallel"), Some(8));
    }

    #[test]
    fn options_of_tensorrt_llm_are_nested() {
        let found = one("agg.yaml", TRTLLM);
        assert_eq!(found.format, Format::TrtllmConfig);
        assert_eq!(found.settings.text("kv_cache"), Some("fp8"));
        assert_eq!(found.settings.text("free_memory_fraction"), Some("0.8"));
    }

    #[test]
    fn files_that_share_words_with_them_are_left_alone() {
        for text in [
            "model: gpt-4o\ntemperature: 0.2\nmax_tokens: 100\n",
            "max_model_len: 4096\n",
            "model: a/b\nmax_model_len: 4096\ngpu_memory_utilization: 0.9\ntemperature: 0.7\nmax_tokens: 64\n",
            "model: a/b\nmax_seq_length: 2048\nlora_r: 16\nlora_alpha: 32\nquantization: nf4\n",
            "base_model: a/b\ntensor_parallel_size: 2\nvllm: {max_model_len: 4096, gpu_memory_utilization: 0.9}\n",
            "model: {name: a}\nmax-model-len: 4096\ngpu-memory-utilization: 0.9\n",
            "- max-model-len: 4096\n  tensor-parallel-size: 2\n",
            "max_batch_size: 8\nbackend: pytorch\n",
        ] {
            assert!(deployments("config.yaml", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn no_mutation_panics() {
        for text in [VLLM, SGLANG, TRTLLM] {
            survives("x.yaml", text);
        }
    }
}
