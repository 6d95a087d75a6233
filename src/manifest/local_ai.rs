//! LocalAI: model files, and gallery entries that hold one as a text.
//!
//! In: such a file. Out: one deployment with the engine that its backend runs; backends for speech and pictures are
//! none of ours. Source: mudler/LocalAI `core/config/model_config.go` (ModelConfig, LLMConfig), `core/gallery`.

use super::command;
use super::{Declared, Deployment, Format, Input, plain_keys};
use crate::engine::Engine;
use crate::fact::Fact;
use crate::source::tree::{Node, Shape, Tree};

/// Keys beside `parameters.model` that model files have.
const KEYS: [&str; 14] = [
    "backend",
    "context_size",
    "gpu_layers",
    "f16",
    "mmap",
    "mmproj",
    "template",
    "stopwords",
    "known_usecases",
    "max_model_len",
    "roles",
    "function",
    "download_files",
    "options",
];

/// What keys declare, for every backend.
const SETTINGS: [(&[&str], &str); 11] = [
    (&["tensor_parallel_size"], "tensor_parallel"),
    (&["gpu_memory_utilization"], "memory_fraction"),
    (&["quantization"], "quantization"),
    (&["dtype"], "dtype"),
    (&["cache_type_k"], "cache_type_k"),
    (&["cache_type_v"], "cache_type_v"),
    (&["gpu_layers"], "gpu_layers"),
    (&["mmproj"], "mmproj"),
    (&["draft_model"], "draft_model"),
    (&["flash_attention"], "flash_attention"),
    (&["tensor_split"], "tensor_split"),
];

/// True for a model file, and for a gallery entry with one inside.
pub fn recognizes(input: &Input<'_>) -> bool {
    is_model_file(input.root) || embedded(input).is_some()
}

/// Reads a model file or a gallery entry.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    match embedded(input) {
        Some(tree) => {
            let roots = tree.documents.iter().map(crate::source::tree::Document::root);
            let outer = plain_keys::text(input.root, &["name"]);
            declared
                .deployments
                .extend(roots.filter_map(|root| deployment(root, outer.clone(), input)));
        }
        None => declared.deployments.extend(deployment(input.root, None, input)),
    }
    declared
}

/// The model file inside a gallery entry.
fn embedded(input: &Input<'_>) -> Option<Tree> {
    let scalar = input.root.get("config_file")?;
    let text = scalar.text()?;
    if !KEYS.iter().any(|key| text.contains(key)) {
        return None;
    }
    let tree = Tree::embedded(input.source(), scalar);
    let known = tree.documents.iter().any(|document| is_template(document.root()));
    known.then_some(tree)
}

fn is_model_file(root: Node<'_>) -> bool {
    let has = |key: &&str| root.get(key).is_some();
    root.at(&["parameters", "model"]).and_then(Node::text).is_some()
        && root.get("apiVersion").is_none()
        && (root.get("name").is_some() || root.get("backend").is_some())
        && KEYS.iter().filter(|key| has(key)).count() >= 1
}

/// True for what stands in `config_file`: a model file, the model of which may be named elsewhere.
fn is_template(root: Node<'_>) -> bool {
    root.shape() == Shape::Mapping && KEYS.iter().filter(|key| root.get(key).is_some()).count() >= 2
        || is_model_file(root)
}

fn deployment(root: Node<'_>, outer: Option<Fact<String>>, input: &Input<'_>) -> Option<Deployment> {
    let model = plain_keys::text(root, &["parameters", "model"]);
    let backend = plain_keys::text(root, &["backend"]);
    let runs = runs(backend.as_ref(), model.as_ref())?;
    // A template for models that are named elsewhere serves none.
    let model = model?;
    let name = plain_keys::text(root, &["name"])
        .or(outer)
        .unwrap_or_else(|| model.clone());
    let mut found = Deployment::new(name.clone(), input.source().id(), root.span(), Format::LocalAi);
    let place = backend.and_then(|backend| backend.span()).unwrap_or(root.span());
    match runs {
        Runs::Engine(engine) => found.engine = Some(Fact::derived(engine, [place])),
        Runs::Server(server) => found.server = Some(Fact::derived(server, [place])),
    }
    settings(&mut found, root);
    plain_keys::declare_model(&mut found, model);
    downloads(&mut found, root);
    found.model_hints.push(name);
    Some(found)
}

/// What the keys declare. The context has a key of its own in vLLM, where `context_size` has no effect
/// (`backend/python/vllm/backend.py`).
fn settings(found: &mut Deployment, root: Node<'_>) {
    let engine = found.engine.as_ref().map(|engine| engine.value);
    let (key, id) = match engine {
        Some(Engine::LlamaCpp) => ("context_size", "ctx_size"),
        Some(Engine::Vllm | Engine::Sglang) => ("max_model_len", "context"),
        _ => ("context_size", "context"),
    };
    plain_keys::declare_all(found, root, &[(&[key], id)]);
    plain_keys::declare_all(found, root, &SETTINGS);
    if let (Some(engine), Some(options)) = (engine, root.get("engine_args")) {
        for (id, value) in command::option_file(engine, options).settings.iter() {
            plain_keys::declare(found, id, value.clone());
        }
    }
    // `options: [parallel:4]` (backend/cpp/llama-cpp/grpc-server.cpp, `params_parse`).
    for option in root
        .get("options")
        .into_iter()
        .flat_map(Node::items)
        .filter_map(plain_keys::fact)
    {
        if let Some(("parallel" | "n_parallel", count)) = option.value.split_once(':') {
            let count = count.to_owned();
            found.settings.set("parallel", option.map(|_| count));
        }
    }
}

/// Where the model's file comes from, as another name of the model.
fn downloads(found: &mut Deployment, root: Node<'_>) {
    let model = found.model.as_ref().map(|model| model.value.clone());
    for file in root.get("download_files").into_iter().flat_map(Node::items) {
        let name = plain_keys::text(file, &["filename"]).map(|name| name.value);
        if name.is_some() && name == model {
            found.model_hints.extend(plain_keys::text(file, &["uri"]));
        }
    }
}

enum Runs {
    Engine(Engine),
    Server(String),
}

/// Backends that serve language models and that oomlint cannot size. The others are for speech, pictures and
/// embeddings (LocalAI `backend/index.yaml`).
const SERVERS: [&str; 6] = ["exllama", "autogptq", "rwkv", "mamba", "tinygrad", "ds4"];

/// Parts of names of backends for other tasks that are built on an engine of ours.
const OTHERS: [&str; 5] = [
    "audio",
    "musicgen",
    "embeddings",
    "sentencetransformers",
    "rerank",
];

/// What a backend runs: its name may carry the device it was built for (`cuda12-llama-cpp`, `vllm-development`). A
/// model without one is run by llama.cpp where it is a GGUF file.
fn runs(backend: Option<&Fact<String>>, model: Option<&Fact<String>>) -> Option<Runs> {
    let Some(backend) = backend else {
        let is_gguf = model.is_some_and(|model| model.value.to_ascii_lowercase().contains("gguf"));
        return Some(if is_gguf {
            Runs::Engine(Engine::LlamaCpp)
        } else {
            Runs::Server("localai".to_owned())
        });
    };
    let name = backend.value.to_ascii_lowercase();
    if OTHERS.iter().any(|other| name.contains(other)) {
        return None;
    }
    let has = |part: &str| name.contains(part);
    Some(if has("llama") {
        Runs::Engine(Engine::LlamaCpp)
    } else if has("vllm") {
        Runs::Engine(Engine::Vllm)
    } else if has("sglang") {
        Runs::Engine(Engine::Sglang)
    } else if has("mlx") {
        Runs::Engine(Engine::Mlx)
    } else if has("transformers") {
        Runs::Engine(Engine::Transformers)
    } else if SERVERS.iter().any(|server| has(server)) {
        Runs::Server(backend.value.clone())
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::fixtures::{deployments, one, read, survives, world};

    const MODEL: &str = "name: chat\nbackend: cuda12-llama-cpp\ncontext_size: 8192\ncache_type_k: q8_0\ngpu_layers: 99\noptions: [use_jinja:true, parallel:4]\nparameters:\n  model: chat-Q4_K_M.gguf\n  max_tokens: 100\ntemplate:\n  chat: |\n    {{ if .System }}{{.Input}}{{ end }}\n";
    const ENTRY: &str = "name: vision\nconfig_file: |\n  backend: vllm\n  parameters:\n    model: org/vision\n  max_model_len: 32768\n  context_size: 5\n  engine_args: {max_num_seqs: 7}\n";

    #[test]
    fn a_model_file_is_read() {
        let found = one("chat.yaml", MODEL);
        assert_eq!(
            found.engine.as_ref().map(|engine| engine.value),
            Some(Engine::LlamaCpp)
        );
        assert_eq!(found.settings.count("ctx_size"), Some(8192));
        assert_eq!(found.settings.count("parallel"), Some(4));
        assert_eq!(found.settings.text("cache_type_k"), Some("q8_0"));
    }

    #[test]
    fn a_gallery_entry_is_read_with_the_places_of_its_own_file() {
        let world = world(&[("vision.yaml", ENTRY)]);
        let found = read_all(&world);
        assert_eq!(found.settings.count("context"), Some(32768));
        assert_eq!(found.settings.count("max_sequences"), Some(7));
        let span = found.model.as_ref().unwrap().span().unwrap();
        assert_eq!(world.source(span.file()).unwrap().slice(span), "org/vision");
    }

    fn read_all(world: &crate::manifest::World) -> Deployment {
        read(world, "vision.yaml").deployments.remove(0)
    }

    #[test]
    fn a_template_without_a_model_and_backends_for_other_tasks_declare_nothing() {
        for text in [
            "name: x\nconfig_file: |\n  context_size: 4096\n  template: {chat: x}\n",
            "name: x\nbackend: whisper\nparameters: {model: ggml-base.bin}\nf16: true\n",
            "name: x\nbackend: diffusers\nparameters: {model: org/sd}\nf16: true\n",
            "parameters: {model: x}\n",
            "name: job\nparameters: {model: x}\n",
        ] {
            assert!(deployments("x.yaml", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_gguf_file_without_a_backend_is_llama_cpps() {
        let found = one(
            "x.yaml",
            "name: a\nf16: true\nparameters: {model: a.Q4_K_M.gguf}\n",
        );
        assert_eq!(found.engine_name(), Some("llama.cpp"));
    }

    #[test]
    fn no_mutation_panics() {
        survives("chat.yaml", MODEL);
        survives("vision.yaml", ENTRY);
    }
}
