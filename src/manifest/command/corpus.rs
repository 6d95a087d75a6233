//! Commands of real deployment files against their labels; skipped where the files are not beside the project.
//! Containers are found by their keys alone (`image`, `command`, `args`, `run`): what a format adds is not measured.

use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::engine::args;
use crate::source::tree::{Node, Shape, Tree};

const FOLDERS: [&str; 7] = [
    "compose/",
    "k8s/",
    "lws/",
    "skypilot/",
    "dynamo/",
    "rbg/",
    "aibrix/",
];

/// Every container-like mapping of a tree.
fn launches(sources: &Sources, tree: &Tree, compose: bool) -> Vec<Vec<Invocation>> {
    let mut all = Vec::new();
    for mapping in tree
        .documents
        .iter()
        .flat_map(|document| containers(document.root(), compose))
    {
        let how = if compose {
            Interpolation::Compose
        } else {
            Interpolation::Kubernetes
        };
        let nothing = Environment::default();
        let environment = environment(sources, mapping, &how);
        let context = if compose { &nothing } else { &environment };
        let words = |key: &str| {
            let node = mapping.get(key)?;
            let text = |node| how.apply(&Text::of_node(sources, node), context);
            match node.shape() {
                Shape::Scalar if compose => Some(Words::Line(text(node))),
                Shape::Scalar => Some(Words::Shell(text(node))),
                Shape::Sequence => Some(Words::List(node.items().map(text).collect())),
                _ => None,
            }
        };
        let (front, back) = if compose {
            ("entrypoint", "command")
        } else {
            ("command", "args")
        };
        let script = mapping.get("run");
        let image = mapping.get("image").filter(|image| image.text().is_some());
        if image.is_none() && script.is_none() && mapping.get("build").is_none() {
            continue;
        }
        let launch = Launch {
            image: image.map(|node| how.apply(&Text::of_node(sources, node), context).fact()),
            entrypoint: words(front),
            arguments: words(back).or_else(|| script.map(|node| Words::Shell(Text::of_node(sources, node)))),
            environment: &environment,
            sources,
            files: &|_| None,
        };
        all.push(invocations(&launch));
    }
    all
}

fn containers(root: Node<'_>, compose: bool) -> Vec<Node<'_>> {
    if !compose {
        return root.mappings();
    }
    let services = root.get("services").map(Node::entries).unwrap_or_default();
    services.into_iter().map(|(_, service)| service).collect()
}

fn environment(sources: &Sources, mapping: Node<'_>, how: &Interpolation<'_>) -> Environment {
    let mut environment = Environment::default();
    let nothing = Environment::default();
    let keys = ["environment", "env", "envs", "environment_variables"];
    let Some(node) = keys.iter().find_map(|key| mapping.get(key)) else {
        return environment;
    };
    for (key, value) in node.entries() {
        let text = how.apply(&Text::of_node(sources, value), &nothing);
        environment.set_text(key.text().unwrap_or(""), text);
    }
    for item in node.items() {
        if let Some(name) = item.get("name").and_then(Node::text) {
            match item.get("value") {
                Some(value) => environment.set_text(name, Text::of_node(sources, value)),
                None => environment.set_unknown(name, "a secret", None),
            }
        } else if let Some((name, _)) = item.text().and_then(|text| text.split_once('=')) {
            let text = how.apply(&Text::of_node(sources, item), &nothing);
            environment.set_text(name, text.slice(name.len() + 1..text.value().len()));
        }
    }
    environment.resolve_references();
    environment
}

fn name(invocation: &Invocation) -> String {
    let server = invocation.server.as_ref().map(|server| server.value.as_str());
    let engine = invocation.engine.as_ref().map(|engine| engine.value.name());
    match server.filter(|server| *server != "dynamo").or(engine) {
        Some("llama.cpp") => "llamacpp".to_owned(),
        Some("tensorrt-llm") => "trtllm".to_owned(),
        Some(name) => name.to_owned(),
        None => "null".to_owned(),
    }
}

fn setting(invocation: &Invocation, sources: &Sources, ids: &[&str]) -> Option<String> {
    let engine = invocation.engine.as_ref().map(|engine| engine.value);
    let parsed = engine.map(|engine| args::parse(engine, None, &invocation.args, sources));
    let from = |settings: &Settings| ids.iter().find_map(|id| settings.text(id).map(str::to_owned));
    parsed
        .and_then(|parsed| from(&parsed.settings))
        .or_else(|| from(&invocation.settings))
}

fn label(deployment: &Value, key: &str) -> Option<String> {
    match deployment.get(key)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A label, and the settings that hold the same.
const FIELDS: [(&str, &[&str]); 8] = [
    ("max_model_len", &["context", "ctx_size"]),
    ("tp", &["tensor_parallel"]),
    ("pp", &["pipeline_parallel"]),
    ("quantization", &["quantization"]),
    ("kv_dtype", &["kv_cache", "cache_type_k", "kv_cache_type"]),
    ("max_num_seqs", &["max_sequences", "num_parallel"]),
    ("n_gpu_layers", &["gpu_layers"]),
    ("draft_model", &["draft_model"]),
];

#[test]
fn commands_of_real_files_agree_with_their_labels() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let Ok(index) = std::fs::read_to_string(root.join("INDEX.jsonl")) else {
        println!("skipped: ../shared/corpus is not there");
        return;
    };
    let (mut wanted, mut hits) = (0, 0);
    for line in index.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let path = entry["file"].as_str().unwrap();
        if !FOLDERS.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let sources = Sources::default();
        let file = sources.add(path, std::fs::read_to_string(root.join(path)).unwrap());
        let found: Vec<Invocation> = launches(&sources, &Tree::parse(&file), path.starts_with("compose/"))
            .into_iter()
            .flatten()
            .filter(|invocation| invocation.role == Role::Serves)
            .collect();
        let labels = match entry["deployments"].as_array() {
            Some(list) => list.clone(),
            None => vec![entry.clone()],
        };
        if labels.len() != found.len() {
            println!("{path}: {} deployments, found {}", labels.len(), found.len());
        }
        for (deployment, invocation) in labels.iter().zip(&found) {
            let mut check = |key: &str, want: Option<String>, have: Option<String>| {
                wanted += 1;
                if want == have {
                    hits += 1;
                } else {
                    println!("{path}: {key}: {want:?}, found {have:?}");
                }
            };
            check("engine", label(deployment, "engine"), Some(name(invocation)));
            let open = invocation.unresolved.iter().any(|field| field == "model");
            let model = invocation.model.as_ref().map(|model| model.value.clone());
            let want = label(deployment, "model");
            let model = if open && want.is_none() { None } else { model };
            check("model", want, model);
            for (key, ids) in FIELDS {
                let have = setting(invocation, &sources, ids).filter(|value| !value.contains("${"));
                check(key, label(deployment, key), have);
            }
        }
    }
    println!("{hits} of {wanted}");
    assert!(hits * 100 >= wanted * 98);
}

#[test]
fn files_that_serve_nothing_start_nothing() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/negative");
    let Ok(files) = std::fs::read_dir(&root) else {
        println!("skipped: ../shared/corpus is not there");
        return;
    };
    for file in files.filter_map(Result::ok) {
        let sources = Sources::default();
        let text = String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned();
        let source = sources.add(file.path().to_string_lossy(), text);
        let tree = Tree::parse(&source);
        for compose in [false, true] {
            let found: Vec<Invocation> = launches(&sources, &tree, compose).into_iter().flatten().collect();
            assert!(found.is_empty(), "{}: {found:#?}", source.path());
        }
    }
}
