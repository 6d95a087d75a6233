//! Baseten truss: `config.yaml` of a model that a container or TensorRT-LLM serves.
//!
//! In: the file. Out: a deployment of what `docker_server` starts, or of the engine that `trt_llm` builds. A model
//! that is Python code declares nothing. `model_metadata` is for readers and not used. Source: basetenlabs/truss
//! `truss/base/truss_config.py`, `truss/base/trt_llm_config.py`.

use super::command::{self, Environment, Text, Words};
use super::container::Container;
use super::{
    AcceleratorKind, Accelerators, Count, Declared, Deployment, Format, Input, WeightFormat, plain_keys,
};
use crate::engine::{Engine, KvType};
use crate::fact::Fact;
use crate::machine::quantity::parse_bytes;
use crate::source::tree::{Node, Shape};

/// True for a truss that names a machine, a container or TensorRT-LLM.
pub fn recognizes(input: &Input<'_>) -> bool {
    let root = input.root;
    let is_map = |key: &str| root.get(key).is_some_and(|node| node.shape() == Shape::Mapping);
    let accelerator = root.at(&["resources", "accelerator"]).is_some();
    (root.get("model_name").is_some() && accelerator || is_map("trt_llm") || is_map("docker_server"))
        && root.get("apiVersion").is_none()
        && root.get("services").is_none()
}

/// Reads a truss.
pub fn read(input: &Input<'_>) -> Declared {
    let root = input.root;
    let mut declared = Declared::default();
    if let Some(trt_llm) = root.get("trt_llm").filter(|node| node.shape() == Shape::Mapping) {
        declared.deployments.push(built(trt_llm, input));
    } else if root.at(&["docker_server", "start_command"]).is_some() {
        let started = container(input).deployments(input, Format::Truss, &name(root));
        declared.findings = started.findings;
        declared.deployments = started.deployments;
        for deployment in &mut declared.deployments {
            deployment
                .model_hints
                .splice(0..0, started.downloads.iter().cloned());
            cached(deployment, root);
        }
    } else if let Some(arguments) = root.at(&["model_metadata", "engine_args"]) {
        declared.deployments.extend(engine_args(arguments, input));
    }
    declared
}

fn name(root: Node<'_>) -> Fact<String> {
    plain_keys::text(root, &["model_name"])
        .unwrap_or_else(|| Fact::derived("truss".to_owned(), [root.span()]))
}

fn container(input: &Input<'_>) -> Container {
    let root = input.root;
    let sources = input.world.sources();
    let mut container = Container::new(name(root), root.span());
    container.environment = environment(root, input);
    container.image = plain_keys::text(root, &["base_image", "image"]);
    if let Some(command) = root.at(&["docker_server", "start_command"]) {
        container.entrypoint = Some(Words::Line(Text::of_node(sources, command)));
    }
    container.accelerators = accelerators(root, input);
    container.host_memory_bytes = memory(root);
    container
}

fn environment(root: Node<'_>, input: &Input<'_>) -> Environment {
    let mut environment = Environment::default();
    let entries = root
        .get("environment_variables")
        .map(Node::entries)
        .unwrap_or_default();
    for (key, value) in entries {
        let Some(name) = key.text() else { continue };
        if value.text().is_some() {
            environment.set_text(name, Text::of_node(input.world.sources(), value));
        } else {
            environment.set_unknown(name, "given when the model is deployed", Some(key.span()));
        }
    }
    environment
}

/// `resources.accelerator`: a name, and a count after a colon; one where none is given.
fn accelerators(root: Node<'_>, input: &Input<'_>) -> Accelerators {
    let mut found = Accelerators::default();
    let node = root
        .at(&["resources", "accelerator"])
        .filter(|node| node.text().is_some());
    let Some(node) = node else { return found };
    let text = Text::of_node(input.world.sources(), node);
    let value = text.value();
    let (kind, count) = match value.rsplit_once(':') {
        Some((kind, count)) => (kind, count.trim().parse().ok()),
        None => (value, None),
    };
    found.count = Some(Fact::at(Count::Number(count.unwrap_or(1)), node.mention()));
    let start = kind.len() - kind.trim_start().len();
    found.kinds.push(AcceleratorKind {
        label: Some("truss".to_owned()),
        name: text.part(start..start + kind.trim().len()),
        count: None,
    });
    found
}

fn memory(root: Node<'_>) -> Option<Fact<u64>> {
    let memory = plain_keys::text(root, &["resources", "memory"])?;
    let bytes = parse_bytes(&memory.value)?;
    Some(memory.map(|_| bytes))
}

/// What keys of `trt_llm` declare: those of the first inference stack and those of the second.
const BUILT: [(&[&str], &str); 15] = [
    (&["build", "max_seq_len"], "context"),
    (&["runtime", "max_seq_len"], "context"),
    (&["build", "max_batch_size"], "max_sequences"),
    (&["runtime", "max_batch_size"], "max_sequences"),
    (&["build", "max_num_tokens"], "max_batched_tokens"),
    (&["runtime", "max_num_tokens"], "max_batched_tokens"),
    (&["build", "tensor_parallel_count"], "tensor_parallel"),
    (&["runtime", "tensor_parallel_size"], "tensor_parallel"),
    (&["build", "pipeline_parallel_count"], "pipeline_parallel"),
    (&["build", "quantization_type"], "quantization"),
    (&["build", "checkpoint_repository", "revision"], "model_revision"),
    (
        &["build", "speculator", "checkpoint_repository", "repo"],
        "draft_model",
    ),
    (
        &["runtime", "kv_cache_free_gpu_mem_fraction"],
        "free_memory_fraction",
    ),
    (
        &[
            "runtime",
            "patch_kwargs",
            "kv_cache_config",
            "free_gpu_memory_fraction",
        ],
        "free_memory_fraction",
    ),
    (
        &["runtime", "patch_kwargs", "kv_cache_config", "dtype"],
        "kv_cache",
    ),
];

/// The deployment that TensorRT-LLM is built for.
fn built(trt_llm: Node<'_>, input: &Input<'_>) -> Deployment {
    let root = input.root;
    let mut found = Deployment::new(name(root), input.source().id(), root.span(), Format::Truss);
    let place = root.entry("trt_llm").map_or(root.span(), |(key, _)| key.span());
    found.engine = Some(Fact::derived(Engine::TensorrtLlm, [place]));
    found.accelerators = accelerators(root, input);
    plain_keys::declare_all(&mut found, trt_llm, &BUILT);
    if let Some(bytes) = memory(root) {
        found
            .settings
            .set("host_memory_bytes", bytes.map(|bytes| bytes.to_string()));
    }
    let repository = plain_keys::text(trt_llm, &["build", "checkpoint_repository", "repo"]);
    let cached = caches(root).into_iter().next().map(|cache| cache.source);
    // The second stack needs a repository where the weights come from the cache: people give an empty one.
    let empty = repository
        .as_ref()
        .is_some_and(|repository| repository.value.ends_with("/empty-model"));
    let model = if empty {
        cached.or(repository)
    } else {
        repository.or(cached)
    };
    if let Some(model) = model {
        plain_keys::declare_model(&mut found, model);
    }
    quantized(&mut found);
    found
}

/// `fp8_kv` is FP8 weights with an FP8 KV cache (`TrussTRTLLMQuantizationType`).
fn quantized(found: &mut Deployment) {
    let Some(given) = found.settings.get("quantization").cloned() else {
        return;
    };
    if let Some(weights) = given.value.strip_suffix("_kv").map(str::to_owned) {
        found.kv_cache.push(given.clone().map(|_| KvType::Fp8));
        found.quantization = Some(given.map(|_| WeightFormat::Named(weights)));
    }
}

/// `model_metadata.engine_args`, which the Python code of older examples hands to vLLM.
fn engine_args(arguments: Node<'_>, input: &Input<'_>) -> Option<Deployment> {
    let root = input.root;
    let model = plain_keys::text(arguments, &["model"])?;
    let mut found = Deployment::new(name(root), input.source().id(), root.span(), Format::Truss);
    found.engine = Some(Fact::derived(Engine::Vllm, [arguments.span()]));
    found.accelerators = accelerators(root, input);
    for (id, value) in command::option_file(Engine::Vllm, arguments).settings.iter() {
        plain_keys::declare(&mut found, id, value.clone());
    }
    plain_keys::declare_model(&mut found, model);
    Some(found)
}

/// Weights that the platform puts into the container.
struct Cache {
    source: Fact<String>,
    revision: Option<Fact<String>>,
    /// Where they are.
    folder: Option<String>,
}

/// `model_cache` and `weights`.
fn caches(root: Node<'_>) -> Vec<Cache> {
    let items = |key: &str| {
        root.get(key)
            .into_iter()
            .flat_map(Node::items)
            .collect::<Vec<_>>()
    };
    let cached = items("model_cache").into_iter().filter_map(|item| {
        let folder = plain_keys::text(item, &["volume_folder"]);
        Some(Cache {
            source: plain_keys::text(item, &["repo_id"])?,
            revision: plain_keys::text(item, &["revision"]),
            folder: folder.map(|folder| format!("/app/model_cache/{}", folder.value.trim_matches('/'))),
        })
    });
    let weights = items("weights").into_iter().filter_map(|item| {
        Some(Cache {
            source: plain_keys::text(item, &["source"])?,
            revision: None,
            folder: plain_keys::text(item, &["mount_location"]).map(|folder| folder.value),
        })
    });
    cached.chain(weights).collect()
}

/// Names the repository of a model that is served from a cache.
fn cached(deployment: &mut Deployment, root: Node<'_>) {
    let model = deployment
        .model
        .as_ref()
        .map(|model| model.value.clone())
        .unwrap_or_default();
    for cache in caches(root) {
        let folder = cache.folder.as_deref().map(|folder| folder.trim_end_matches('/'));
        let below = |folder: &str| {
            model
                .strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !folder.is_some_and(below) {
            continue;
        }
        if let Some(revision) = cache
            .revision
            .filter(|_| deployment.settings.get("model_revision").is_none())
        {
            deployment.settings.set("model_revision", revision);
        }
        deployment.model_hints.insert(0, cache.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::fixtures::{deployments, one, survives, words};

    const SERVER: &str = "model_name: Chat\nbase_image:\n  image: vllm/vllm-openai:v0.9.2\nmodel_cache:\n  - repo_id: org/chat\n    revision: abc\n    volume_folder: chat\ndocker_server:\n  start_command: sh -c \"truss-transfer-cli && HF_TOKEN=$(cat /secrets/t) vllm serve /app/model_cache/chat --max-model-len 4096\"\nresources:\n  accelerator: H100:2\n  memory: 24Gi\n";
    const BUILT: &str = "model_name: Built\nresources:\n  accelerator: H100\ntrt_llm:\n  build:\n    base_model: decoder\n    checkpoint_repository:\n      repo: org/built\n      source: HF\n    max_seq_len: 32768\n    quantization_type: fp8_kv\n    tensor_parallel_count: 2\n  runtime:\n    kv_cache_free_gpu_mem_fraction: 0.8\n";

    #[test]
    fn a_container_serves_from_its_cache() {
        let found = one("config.yaml", SERVER);
        assert_eq!(found.name.value, "Chat");
        assert_eq!(
            words(&found),
            ["/app/model_cache/chat", "--max-model-len", "4096"]
        );
        assert_eq!(
            found.model_hints.last().map(|hint| hint.value.as_str()),
            Some("org/chat")
        );
        assert_eq!(found.settings.text("model_revision"), Some("abc"));
        assert_eq!(found.accelerators.number(), Some(2));
    }

    #[test]
    fn weights_may_be_mounted() {
        let text = SERVER.replace(
            "model_cache:\n  - repo_id: org/chat\n    revision: abc\n    volume_folder: chat\n",
            "weights:\n  - {source: 'hf://org/chat@abc', mount_location: /app/model_cache/chat}\n",
        );
        let found = one("config.yaml", &text);
        assert_eq!(
            found.model_hints.last().map(|hint| hint.value.as_str()),
            Some("hf://org/chat@abc")
        );
    }

    #[test]
    fn an_engine_is_built_with_its_sizes() {
        let found = one("config.yaml", BUILT);
        assert_eq!(
            found.engine.as_ref().map(|engine| engine.value),
            Some(Engine::TensorrtLlm)
        );
        assert_eq!(
            found.model.as_ref().map(|model| model.value.as_str()),
            Some("org/built")
        );
        assert_eq!(found.settings.count("tensor_parallel"), Some(2));
        assert_eq!(found.settings.text("quantization"), Some("fp8_kv"));
        assert_eq!(found.weight_format().name(), "fp8");
        assert_eq!(found.kv_cache.first().map(|kv| kv.value), Some(KvType::Fp8));
    }

    #[test]
    fn the_second_stack_takes_its_model_from_the_cache() {
        let text = "model_name: V2\nresources: {accelerator: B200:4}\nmodel_cache: [{repo_id: org/v2, volume_folder: v2}]\ntrt_llm:\n  inference_stack: v2\n  build: {checkpoint_repository: {repo: michaelfeil/empty-model, source: HF}}\n  runtime: {max_seq_len: 8192, tensor_parallel_size: 4, patch_kwargs: {kv_cache_config: {dtype: fp8}}}\n";
        let found = one("config.yaml", text);
        assert_eq!(
            found.model.as_ref().map(|model| model.value.as_str()),
            Some("org/v2")
        );
        assert_eq!(found.settings.count("context"), Some(8192));
        assert_eq!(found.settings.text("kv_cache"), Some("fp8"));
    }

    #[test]
    fn a_model_in_python_declares_nothing() {
        let text = "model_name: Code\nmodel_metadata: {repo_id: org/code}\nresources: {accelerator: A10G}\n";
        assert!(deployments("config.yaml", text).is_empty());
    }

    #[test]
    fn no_mutation_panics() {
        survives("config.yaml", SERVER);
        survives("config.yaml", BUILT);
    }
}
