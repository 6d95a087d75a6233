//! What stands around an engine: its pod or service, as far as the files tell it.
//!
//! In: a container with its environment, volumes and the words of its engine. Out: values by id, which rules name as
//! `pod.<id>`; the ids with their types are data in `catalog/surroundings.yaml`. What only Kubernetes or compose know
//! is put in by their readers; here is what follows from a container whoever declares it. Whatever a Secret, a
//! template or an object outside of the tree would tell stays absent: rules are silent without it.

use std::fmt::Display;
use std::sync::OnceLock;

use serde::Deserialize;

use super::command::{Invocation, Text, Variable, Words};
use super::container::Container;
use crate::engine::{Engine, Settings};
use crate::fact::{Fact, Origin};
use crate::source::Span;

/// The rows of `catalog/surroundings.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The facts, by id.
    pub facts: Vec<Row>,
    listeners: Vec<Listener>,
    gated: Vec<Gated>,
}

/// Names that the hub gives only to who accepted their terms.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gated {
    /// How such names begin.
    name: String,
    #[expect(dead_code, reason = "for readers of the file")]
    source: String,
}

/// A fact that may be known of the surroundings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The id, behind `pod.`.
    pub id: String,
    /// The type of its values.
    pub kind: Kind,
    /// One line for people.
    pub meaning: String,
}

/// The type of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Yes or no.
    Bool,
    /// A whole number.
    Count,
    /// An amount of memory.
    Bytes,
    /// A number that may have a fraction.
    Ratio,
    /// Words.
    Text,
}

/// Where a server listens when nothing tells it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listener {
    engine: String,
    host: String,
    port: u16,
    host_variable: Option<String>,
    port_variable: Option<String>,
    image_host: Option<String>,
    #[expect(dead_code, reason = "for readers of the file")]
    source: String,
}

/// The catalog of surroundings.
pub fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| {
        let text = include_str!("../../catalog/surroundings.yaml");
        serde_saphyr::from_str(text).unwrap_or(Catalog {
            facts: Vec::new(),
            listeners: Vec::new(),
            gated: Vec::new(),
        })
    })
}

/// A volume that a container sees.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Where it is mounted.
    pub path: String,
    /// pvc, emptyDir, memory, hostPath, volume or other.
    pub kind: &'static str,
    /// Its size in bytes, where one is declared.
    pub bytes: Option<Fact<u64>>,
    /// Access modes of a claim.
    pub access: Option<Fact<String>>,
    /// False where it is mounted read-only.
    pub writable: bool,
    /// The characters that mount it.
    pub span: Span,
}

/// Sets a value that stands at a place.
pub fn put(found: &mut Settings, id: &str, value: impl Display, span: Span) {
    debug_assert!(is_known(id), "{id} is in no row");
    found.set(id, Fact::at(value.to_string(), span));
}

/// Sets a value that follows from others, or from nothing being said.
pub fn derive(found: &mut Settings, id: &str, value: impl Display, from: impl IntoIterator<Item = Span>) {
    debug_assert!(is_known(id), "{id} is in no row");
    found.set(id, Fact::derived(value.to_string(), from));
}

/// Sets a value with its origin.
pub fn keep(found: &mut Settings, id: &str, value: impl Display, origin: &Origin) {
    debug_assert!(is_known(id), "{id} is in no row");
    found.set(
        id,
        Fact {
            value: value.to_string(),
            origin: origin.clone(),
        },
    );
}

/// Kinds whose controllers make pods exactly as they are written. Others put presets, volumes and probes of their own
/// beneath (KServe's LLMInferenceService mounts /dev/shm), so that what is not said there means nothing.
const PLAIN: [&str; 14] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "Pod",
    "Job",
    "CronJob",
    "LeaderWorkerSet",
    "Rollout",
    "JobSet",
    "RoleBasedGroup",
    "StormService",
    "RoleSet",
    "PodSet",
];

/// Forgets what follows from nothing being said, where a controller may say it.
pub fn settle(found: &mut Settings) {
    let plain = found.text("owner").is_some_and(|owner| PLAIN.contains(&owner));
    if !plain && found.text("platform") != Some("compose") {
        found.retain(|_, fact| fact.is_declared());
    }
}

fn is_known(id: &str) -> bool {
    catalog().facts.iter().any(|row| row.id == id)
}

/// What is known of the surroundings of one engine that a container starts: what its reader found, and what follows
/// from its environment, its volumes and its words. Nothing where the reader found nothing.
pub(super) fn of(container: &Container, invocation: &Invocation) -> Settings {
    let mut found = container.surroundings.clone();
    if found.iter().next().is_none() {
        return found;
    }
    let engine = invocation.engine.as_ref().map(|engine| engine.value);
    if let Some(image) = &container.image {
        keep(&mut found, "image", &image.value, &image.origin);
        derive(
            &mut found,
            "image_official",
            is_official(&image.value),
            image.span(),
        );
    }
    derive(&mut found, "cpu_platform", is_for_cpus(container), []);
    mounted(container, &mut found);
    hub(container, invocation, &mut found);
    if let Some(engine) = engine.filter(|_| invocation.server.is_none()) {
        listener(container, invocation, engine, &mut found);
        cache(container, invocation, engine, &mut found);
    }
    found
}

fn mounted(container: &Container, found: &mut Settings) {
    let other = container
        .volumes
        .iter()
        .find(|volume| !volume.path.starts_with("/dev/"));
    derive(found, "mounted", other.is_some(), other.map(|volume| volume.span));
}

/// Images that the engines' own projects publish.
fn is_official(image: &str) -> bool {
    const NAMES: [&str; 8] = [
        "vllm/vllm-openai",
        "lmsysorg/sglang",
        "ggml-org/llama.cpp",
        "ggerganov/llama.cpp",
        "ollama/ollama",
        "huggingface/text-generation-inference",
        "nvidia/tensorrt-llm/release",
        "vllm/vllm-openai-rocm",
    ];
    let path = image.split('@').next().unwrap_or(image);
    let path = match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path,
        _ => path,
    };
    NAMES.iter().any(|name| {
        path.strip_suffix(name)
            .is_some_and(|before| before.is_empty() || before.ends_with('/'))
    })
}

/// True where the container is plainly none for a GPU of NVIDIA's or AMD's.
fn is_for_cpus(container: &Container) -> bool {
    const WORDS: [&str; 9] = [
        "cpu", "xpu", "openvino", "neuron", "tpu", "gaudi", "hpu", "ascend", "sim",
    ];
    let image = container
        .image
        .as_ref()
        .map_or("", |image| image.value.as_str())
        .to_ascii_lowercase();
    let mut parts = image.split(|c: char| !c.is_ascii_alphanumeric());
    let named = parts.any(|part| WORDS.contains(&part));
    let variables = container
        .environment
        .iter()
        .any(|(name, _)| name.starts_with("VLLM_CPU_") || name == "VLLM_TARGET_DEVICE");
    named
        || variables
        || ["--device", "cpu", "xla"]
            .iter()
            .any(|word| says(container, word))
}

/// True where one of the words of its command is this.
fn says(container: &Container, word: &str) -> bool {
    texts(container).any(|text| {
        text.value()
            .split(|c: char| c.is_whitespace() || c == '=')
            .any(|part| part == word)
    })
}

fn texts(container: &Container) -> impl Iterator<Item = &Text> {
    [&container.entrypoint, &container.arguments]
        .into_iter()
        .flatten()
        .flat_map(|words| match words {
            Words::List(list) => list.as_slice(),
            Words::Shell(text) | Words::Line(text) => std::slice::from_ref(text),
        })
}

/// Variables under which `huggingface_hub` finds a token (`huggingface_hub/utils/_auth.py`).
const TOKENS: [&str; 4] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_API_TOKEN",
];

/// What concerns the hub: token, offline switches, whether a model is downloaded at all.
fn hub(container: &Container, invocation: &Invocation, found: &mut Settings) {
    let environment = &container.environment;
    let token = TOKENS
        .iter()
        .find_map(|name| environment.get(name).map(|variable| (name, variable)));
    let elsewhere = container.environment_open
        || container.volumes.iter().any(|volume| volume.kind == "other")
        || ["HF_ENDPOINT", "VLLM_USE_MODELSCOPE", "SGLANG_USE_MODELSCOPE"]
            .iter()
            .any(|name| environment.get(name).is_some())
        || texts(container).any(|text| {
            let text = text.value();
            text.contains("TOKEN") || text.contains("login") || text.contains("-token")
        });
    match token {
        Some((_, variable)) => derive(found, "hf_token", true, place(variable)),
        None if !elsewhere => derive(found, "hf_token", false, []),
        None => {}
    }
    if let Some(text) = environment.text("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION") {
        keep(
            found,
            "health_generates",
            is_true(text.value()),
            &text.fact().origin,
        );
    } else {
        derive(found, "health_generates", true, []);
    }
    let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
        .iter()
        .find_map(|name| {
            let text = environment.text(name)?;
            is_true(text.value()).then(|| text.fact())
        });
    match offline {
        Some(fact) => keep(found, "hub_offline", true, &fact.origin),
        None => derive(found, "hub_offline", false, []),
    }
    if let Some(model) = &invocation.model {
        let fetched = is_hub_name(&model.value) && !container.has_downloads;
        derive(found, "downloads_model", fetched, model.span());
        let mut gated = catalog().gated.iter();
        let gated = gated.any(|row| model.value.starts_with(&row.name));
        derive(found, "gated_model", gated, model.span());
    }
}

/// Values that `huggingface_hub` takes for yes (`constants.py`, `ENV_VARS_TRUE_VALUES`).
fn is_true(text: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&text.trim().to_ascii_lowercase().as_str())
}

fn place(variable: &Variable) -> Option<Span> {
    match variable {
        Variable::Known(text) => text.span(),
        Variable::Unknown { span, .. } => *span,
    }
}

/// A name such as `owner/model`.
fn is_hub_name(name: &str) -> bool {
    let plain = |part: &str| {
        let mut bytes = part.bytes();
        bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    name.split_once('/')
        .is_some_and(|(owner, model)| plain(owner) && plain(model))
}

/// The value of a flag, as `--flag value` or `--flag=value`; the last counts. `Err` for one that cannot be read.
fn argument(invocation: &Invocation, flag: &str) -> Result<Option<Fact<String>>, ()> {
    let mut found = Ok(None);
    let mut words = invocation.args.iter();
    while let Some(word) = words.next() {
        if word.value == flag {
            found = words.next().cloned().map(Some).ok_or(());
        } else if let Some(("", rest)) = word.value.split_once(flag)
            && let Some(value) = rest.strip_prefix('=')
        {
            found = Ok(Some(word.clone().map(|_| value.to_owned())));
        }
    }
    match found {
        Ok(Some(fact)) if fact.value.contains(['$', '{']) => Err(()),
        other => other,
    }
}

/// Address and port of the engine, where both the words and the environment are known.
fn listener(container: &Container, invocation: &Invocation, engine: Engine, found: &mut Settings) {
    let rows = &catalog().listeners;
    let Some(row) = rows.iter().find(|row| row.engine == engine.name()) else {
        return;
    };
    // A file of options or a script may name either.
    if invocation.settings.get("config_file").is_some() || argument(invocation, "--config") != Ok(None) {
        return;
    }
    if let Ok(host) = argument(invocation, "--host") {
        host_of(container, row, host, found);
    }
    if let Ok(port) = argument(invocation, "--port") {
        port_of(container, row, port, found);
    }
}

fn host_of(container: &Container, row: &Listener, given: Option<Fact<String>>, found: &mut Settings) {
    let variable = row
        .host_variable
        .as_deref()
        .map(|name| container.environment.get(name));
    let host = match (given, variable.flatten()) {
        (Some(host), _) => Some(host),
        (None, Some(Variable::Known(text))) => Some(text.fact()),
        (None, Some(Variable::Unknown { .. })) => return,
        (None, None) => None,
    };
    let official = container
        .image
        .as_ref()
        .is_some_and(|image| is_official(&image.value));
    let default = match &row.image_host {
        Some(host) if official => host,
        // Whoever packages such a server elsewhere may set its address in the image too.
        Some(_) if host.is_none() => return,
        _ => &row.host,
    };
    if host.is_none() && row.host_variable.is_some() && container.environment_open {
        return;
    }
    let host = host.unwrap_or_else(|| Fact::default(default.clone(), "the engine's default"));
    let address = host.value.trim().trim_matches(['[', ']']);
    let loopback = address.starts_with("127.") || address.starts_with("localhost") || address == "::1";
    keep(found, "listen_host", address, &host.origin);
    keep(found, "listen_loopback", loopback, &host.origin);
}

fn port_of(container: &Container, row: &Listener, given: Option<Fact<String>>, found: &mut Settings) {
    if let Some(port) = given {
        if let Ok(number) = port.value.trim().parse::<u16>() {
            keep(found, "listen_port", number, &port.origin);
        }
        return;
    }
    let told = [row.port_variable.as_deref(), row.host_variable.as_deref()]
        .into_iter()
        .flatten()
        .any(|name| container.environment.get(name).is_some());
    let open = row.port_variable.is_some() && container.environment_open;
    if !told && !open {
        derive(found, "listen_port", row.port, []);
    }
}

/// Where the engine puts what it downloads; `None` where that is not known.
fn cache_path(container: &Container, invocation: &Invocation, engine: Engine) -> Option<Fact<String>> {
    let environment = &container.environment;
    let by_argument = match engine {
        Engine::Vllm | Engine::Sglang => argument(invocation, "--download-dir"),
        Engine::Tgi => argument(invocation, "--huggingface-hub-cache"),
        _ => Ok(None),
    };
    if let Some(path) = by_argument.ok()? {
        return Some(path);
    }
    let names: &[&str] = match engine {
        Engine::Ollama => &["OLLAMA_MODELS"],
        Engine::LlamaCpp => &["LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"],
        _ => &["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"],
    };
    if let Some(set) = names.iter().find_map(|name| environment.get(name)) {
        return set.fact().filter(|path| path.value.starts_with('/'));
    }
    if container.environment_open {
        return None;
    }
    let home = match environment.get("HOME") {
        None if container.user_is_root => "/root".to_owned(),
        None => return None,
        Some(variable) => variable.fact()?.value,
    };
    let below = |rest: &str| Some(Fact::default(format!("{home}/{rest}"), "the engine's default"));
    match engine {
        Engine::Tgi => Some(Fact::default("/data".to_owned(), "the image's default")),
        Engine::Ollama => below(".ollama"),
        Engine::Vllm | Engine::Sglang if environment.get("XDG_CACHE_HOME").is_none() => {
            below(".cache/huggingface")
        }
        _ => None,
    }
}

/// The volume under a path: the one that is mounted nearest above it, or else one below it.
fn volume_under<'c>(container: &'c Container, path: &str) -> Option<&'c Volume> {
    let within = |inner: &str, outer: &str| {
        let outer = outer.trim_end_matches('/');
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let above = container
        .volumes
        .iter()
        .filter(|volume| within(path, &volume.path))
        .max_by_key(|volume| volume.path.len());
    above.or_else(|| {
        let mut volumes = container.volumes.iter();
        volumes.find(|volume| within(&volume.path, path))
    })
}

fn cache(container: &Container, invocation: &Invocation, engine: Engine, found: &mut Settings) {
    let model = invocation.model.as_ref();
    if let Some(model) = model.filter(|model| model.value.starts_with('/'))
        && let Some(access) = volume_under(container, &model.value).and_then(|volume| volume.access.as_ref())
    {
        keep(found, "volume_access", &access.value, &access.origin);
    }
    let Some(path) = cache_path(container, invocation, engine) else {
        return;
    };
    keep(found, "cache_path", &path.value, &path.origin);
    let Some(volume) = volume_under(container, &path.value) else {
        if !container.volumes_open {
            keep(found, "cache_kind", "none", &path.origin);
        }
        return;
    };
    put(found, "cache_kind", volume.kind, volume.span);
    if let Some(bytes) = &volume.bytes {
        keep(found, "cache_bytes", bytes.value, &bytes.origin);
    }
    if let Some(access) = &volume.access {
        keep(found, "volume_access", &access.value, &access.origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_is_read_and_sorted_so_that_no_fact_is_lost() {
        let ids: Vec<&str> = catalog().facts.iter().map(|row| row.id.as_str()).collect();
        assert!(!ids.is_empty());
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        assert!(is_hub_name("meta-llama/Llama-3.1-8B"));
        for other in ["/models/x", "./a/b", "s3://a/b", "a/b/c", "llama3", "${A}/b"] {
            assert!(!is_hub_name(other), "{other}");
        }
    }

    #[test]
    fn images_of_the_projects_are_known_behind_mirrors_too() {
        assert!(is_official("vllm/vllm-openai:v0.9.0"));
        assert!(is_official("registry.local:5000/mirror/ollama/ollama"));
        assert!(!is_official("me/vllm-openai:1"));
        assert!(!is_official("not-ollama/ollama:1"));
    }
}
