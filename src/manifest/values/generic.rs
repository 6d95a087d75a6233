//! Values of any chart that runs an engine's image: image, arguments, environment and resources stand under much the
//! same keys everywhere, and settings under the engine's own names in some spelling.
//!
//! The engine is told by the image; by the section's key only where the section holds what a server needs (charts for
//! clients have sections of the same names). Also OPEA's charts, whose environment stands among the values.

use super::Section;
use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::command::{ImageEngine, Text, Words, image_engine};
use crate::manifest::container::Container;
use crate::manifest::custom::nim;
use crate::manifest::keys;
use crate::manifest::kubernetes::accelerators;
use crate::manifest::{Declared, Deployment, Input};
use crate::source::tree::{Node, Shape};

/// Sections beside the image that hold settings of its engine.
const SETTINGS: [&str; 22] = [
    "vllm",
    "vllmconfig",
    "sglang",
    "tgi",
    "llamacpp",
    "llama",
    "engine",
    "engineconfig",
    "engineargs",
    "config",
    "server",
    "serverconfig",
    "serving",
    "inference",
    "model",
    "modelconfig",
    "llm",
    "settings",
    "runtime",
    "parameters",
    "container",
    "app",
];

/// Keys whose value is the engine's arguments: a list, a string or a mapping.
const ARGUMENTS: [&str; 12] = [
    "args",
    "extraargs",
    "extracmdargs",
    "additionalargs",
    "vllmargs",
    "serverargs",
    "engineargs",
    "cmdargs",
    "arguments",
    "vllmextraargs",
    "commandargs",
    "extravllmargs",
];

/// Keys of OPEA's charts that tell a server from a client.
const OPEA: [&str; 4] = [
    "accelDevice",
    "extraCmdArgs",
    "MAX_TOTAL_TOKENS",
    "MAX_INPUT_LENGTH",
];

/// Names of settings in small letters without separators, and the ids that they set.
const NAMES: [(&str, &str); 25] = [
    ("maxmodellen", "context"),
    ("maxmodellength", "context"),
    ("contextlength", "context"),
    ("contextsize", "context"),
    ("ctxsize", "context"),
    ("maxtotaltokens", "context"),
    ("maxseqlen", "context"),
    ("tensorparallelsize", "tensor_parallel"),
    ("tensorparallel", "tensor_parallel"),
    ("tpsize", "tensor_parallel"),
    ("numshard", "tensor_parallel"),
    ("pipelineparallelsize", "pipeline_parallel"),
    ("dataparallelsize", "data_parallel"),
    ("gpumemoryutilization", "memory_fraction"),
    ("memfractionstatic", "memory_fraction"),
    ("maxnumseqs", "max_sequences"),
    ("maxrunningrequests", "max_sequences"),
    ("maxnumbatchedtokens", "max_batched_tokens"),
    ("kvcachedtype", "kv_cache"),
    ("dtype", "dtype"),
    ("quantization", "quantization"),
    ("quantize", "quantization"),
    ("ngpulayers", "gpu_layers"),
    ("gpulayers", "gpu_layers"),
    ("nparallel", "parallel"),
];

/// Keys that name the model, the surest first.
const MODELS: [&str; 14] = [
    "llmmodelid",
    "modelid",
    "hfmodelid",
    "hfmodel",
    "huggingfaceid",
    "huggingfacemodel",
    "hfrepo",
    "modelrepo",
    "modeluri",
    "modelurl",
    "modelpath",
    "modelname",
    "model",
    "modelfile",
];

/// The same inside a section `model`.
const OF_MODEL: [&str; 14] = [
    "id",
    "modelid",
    "huggingfaceid",
    "hfid",
    "hfmodelid",
    "hfrepo",
    "huggingface",
    "repo",
    "repository",
    "uri",
    "url",
    "path",
    "name",
    "file",
];

/// Reads a section that runs an engine, if it is one.
pub(super) fn read(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) {
    let node = section.node;
    let image = node.get("image").and_then(|image| {
        let apart = image.shape() == Shape::Mapping;
        (apart || section.certain).then(|| keys::image(image)).flatten()
    });
    let image =
        image.or_else(|| keys::image(node).filter(|_| node.get("repository").is_some() && section.certain));
    let known = image.as_ref().and_then(image_engine);
    if known
        .as_ref()
        .is_some_and(|known| known.server.as_deref() == Some("nim"))
        || is_nim(image.as_ref())
    {
        let found = nim::service(input, section.format, section.name.clone(), node, node);
        declared.deployments.extend(found);
        return;
    }
    let by_image = known
        .as_ref()
        .filter(|known| known.serves)
        .and_then(|known| known.engine);
    let by_key = || named_engine(section).filter(|_| known.is_none());
    let Some(engine) = by_image.or_else(by_key) else {
        return;
    };
    let found = Found::of(node);
    if !found.serves(node) {
        return;
    }
    deployment(declared, input, section, engine, image, known.as_ref(), &found);
}

fn is_nim(image: Option<&Fact<String>>) -> bool {
    image.is_some_and(|image| image.value.starts_with("nvcr.io/nim/"))
}

/// The engine that a section is named for, where it holds what only a server needs.
fn named_engine(section: &Section<'_>) -> Option<Engine> {
    let key = section.key().to_ascii_lowercase();
    let engine = ["vllm", "tgi", "sglang", "ollama"]
        .iter()
        .find(|name| key == **name || key.starts_with(&format!("{name}-")))?;
    let node = section.node;
    let opea = OPEA.iter().any(|key| node.get(key).is_some());
    // OPEA's umbrella charts switch a server on and name its model; those for clients have an address.
    let switched = node.get("LLM_MODEL_ID").is_some() && node.get("enabled").is_some();
    let served = node.get("resources").is_some() && !Found::of(node).models.is_empty();
    (opea || switched || served)
        .then(|| Engine::parse(engine))
        .flatten()
}

/// A name without what spellings differ in.
fn plain(key: &str) -> String {
    let letters = key.chars().filter(|c| !matches!(c, '_' | '-' | '.'));
    letters.flat_map(char::to_lowercase).collect()
}

/// What a section and the sections for settings below it hold.
struct Found<'t> {
    /// Words of the arguments, in the order of the text.
    arguments: Vec<Node<'t>>,
    /// Values by setting id.
    settings: Vec<(&'static str, Node<'t>)>,
    /// Names of the model, the surest first.
    models: Vec<Node<'t>>,
}

impl<'t> Found<'t> {
    fn of(node: Node<'t>) -> Self {
        let mut found = Self {
            arguments: Vec::new(),
            settings: Vec::new(),
            models: Vec::new(),
        };
        let mut models: Vec<(usize, Node<'t>)> = Vec::new();
        found.add(node, &MODELS, &mut models);
        for (key, below) in node.entries() {
            let name = plain(key.text().unwrap_or(""));
            let settings = SETTINGS.contains(&name.as_str()) && below.get("image").is_none();
            if below.shape() == Shape::Mapping && settings {
                let names: &[&str] = if matches!(name.as_str(), "model" | "modelconfig") {
                    &OF_MODEL
                } else {
                    &MODELS
                };
                found.add(below, names, &mut models);
            }
        }
        models.sort_by_key(|(rank, _)| *rank);
        found.models = models.into_iter().map(|(_, node)| node).collect();
        found
    }

    fn add(&mut self, node: Node<'t>, names: &[&str], models: &mut Vec<(usize, Node<'t>)>) {
        for (key, value) in node.entries() {
            let key = plain(key.text().unwrap_or(""));
            if ARGUMENTS.contains(&key.as_str()) {
                self.arguments.push(value);
            }
            if value.shape() != Shape::Scalar {
                continue;
            }
            if let Some((_, id)) = NAMES.iter().find(|(name, _)| *name == key) {
                self.settings.push((id, value));
            }
            if let Some(rank) = names.iter().position(|name| *name == key)
                && keys::written(value).is_some()
            {
                models.push((rank, value));
            }
        }
    }

    /// True for a section with anything that a server is told; an image alone is a default of the chart.
    fn serves(&self, node: Node<'_>) -> bool {
        let given = |key: &str| {
            node.get(key).is_some_and(|value| match value.shape() {
                Shape::Mapping => value.pairs().next().is_some(),
                Shape::Sequence => value.items().next().is_some(),
                Shape::Scalar => true,
                _ => false,
            })
        };
        let told = !self.models.is_empty() || !self.settings.is_empty() || !self.arguments.is_empty();
        let asks = node
            .get("resources")
            .is_some_and(|resources| accelerators::of_resources(resources).count.is_some());
        told || asks || given("command") || OPEA.iter().any(|key| given(key))
    }
}

fn deployment(
    declared: &mut Declared,
    input: &Input<'_>,
    section: &Section<'_>,
    engine: Engine,
    image: Option<Fact<String>>,
    known: Option<&ImageEngine>,
    found: &Found<'_>,
) {
    let node = section.node;
    let mut container = Container::new(section.name.clone(), node.span());
    container.image = image;
    environment(&mut container, node, input);
    let mut words = None;
    for arguments in &found.arguments {
        let more = keys::arguments(Some(*arguments), input, &container.environment);
        words = keys::joined(words, more, input, &container.environment);
    }
    container.arguments = words;
    container.entrypoint = command(node, input, &container);
    resources(&mut container, node);
    let mut served = keys::serve(container, input, section.format, engine);
    let deployment = &mut served.deployment;
    if let Some(server) = known
        .and_then(|known| known.server.as_ref())
        .filter(|_| deployment.server.is_none())
    {
        deployment.server = Some(Fact::derived(server.clone(), [node.span()]));
    }
    settings(deployment, input, engine, found);
    gpus(deployment, input, node);
    let replicas = node.get("replicaCount").or_else(|| node.get("replicas"));
    keys::set(deployment, input, "replicas", replicas);
    served.add_to(declared);
}

/// `env` and its like; in OPEA's charts also the keys in capitals.
fn environment(container: &mut Container, node: Node<'_>, input: &Input<'_>) {
    for (key, value) in node.entries() {
        let name = key.text().unwrap_or("");
        if matches!(
            plain(name).as_str(),
            "env" | "extraenv" | "extraenvvars" | "environment" | "envvars" | "extraenvs" | "envs"
        ) {
            keys::add_environment(&mut container.environment, Some(value), input);
        }
        let capitals = name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if capitals && name.len() > 3 && value.text().is_some_and(|text| !text.is_empty()) {
            let text = Text::of_node(input.world.sources(), value);
            container.environment.set_text(name, text);
        }
    }
    container.environment.resolve_references();
}

/// What replaces the image's entrypoint, where that starts an engine.
fn command(node: Node<'_>, input: &Input<'_>, container: &Container) -> Option<Words> {
    let given = node
        .get("command")
        .or_else(|| node.at(&["image", "command"]))
        .or_else(|| node.at(&["container", "command"]))?;
    keys::words(Some(given), input, &container.environment).filter(|words| match words {
        Words::List(list) => !list.is_empty(),
        Words::Shell(text) | Words::Line(text) => !text.is_empty(),
    })
}

fn resources(container: &mut Container, node: Node<'_>) {
    keys::set_resources(container, node.get("resources"));
    container.accelerators.kinds = accelerators::kinds(node);
    if container.accelerators.kinds.is_empty() {
        // The values of vLLM's own chart, which makes an affinity of them. Its default is a placeholder.
        let models = node.get("gpuModels").into_iter().flat_map(Node::items);
        container.accelerators.kinds = models
            .filter(|model| model.text() != Some("TYPE_GPU_USED"))
            .filter_map(|model| accelerators::kind("nvidia.com/gpu.product", model))
            .collect();
    }
    container.shm_bytes = ["shmSize", "shm", "sharedMemorySize"]
        .iter()
        .find_map(|key| node.get(key))
        .and_then(keys::bytes);
}

fn settings(deployment: &mut Deployment, input: &Input<'_>, engine: Engine, found: &Found<'_>) {
    for (id, value) in &found.settings {
        let id = match (*id, engine) {
            ("context", Engine::LlamaCpp) => "ctx_size",
            ("context", Engine::Ollama) => "num_ctx",
            (id, _) => id,
        };
        keys::set(deployment, input, id, Some(*value));
    }
    let named = deployment.model.is_some();
    for model in &found.models {
        if deployment.model.is_none() && !deployment.unresolved.iter().any(|field| field == "model") {
            keys::set_model(deployment, input, Some(*model));
        } else if !named {
            keys::hint(deployment, Some(*model));
        }
    }
}

/// A count under a key of its own, where resources give none.
fn gpus(deployment: &mut Deployment, input: &Input<'_>, node: Node<'_>) {
    if deployment.accelerators.count.is_some() {
        return;
    }
    let gpu = node.get("gpu").filter(|gpu| {
        gpu.get("enabled")
            .is_none_or(|enabled| enabled.as_bool() != Some(false))
    });
    let inside = ["count", "number", "num"]
        .iter()
        .find_map(|key| gpu.and_then(|gpu| gpu.get(key)));
    let outside = ["gpuCount", "gpus", "numGpus", "gpu", "requestGPU"]
        .iter()
        .find_map(|key| node.get(key).filter(|count| count.as_u64().is_some()));
    keys::set_count(deployment, input, inside.or(outside));
}
