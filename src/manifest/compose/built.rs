//! Services whose image says nothing: built here, or started by a script that is outside of the file.
//!
//! Which engine they run is told by what they are built from and called; what it is started with by variables that
//! have the names of the engine's flags (`VLLM_MAX_MODEL_LEN`, `MAX_MODEL_LEN`), which is what such scripts read. A
//! client has the model's name and no more, so a name alone is not enough.

use super::project::{Project, Service};
use crate::engine::Engine;
use crate::engine::flags::FlagTable;
use crate::fact::Fact;
use crate::manifest::command::{self, ImageEngine, Variable, Words};
use crate::manifest::container::{Container, Started};
use crate::manifest::{Deployment, Format, plain_keys};
use crate::source::tree::Node;

/// The deployment of a service in which no command was recognized, if it serves a model all the same.
pub(super) fn deployments(service: &Service<'_>, project: &Project<'_>, container: &Container) -> Started {
    let mut started = Started::default();
    let Some(start) = start(container) else {
        return started;
    };
    let Some((engine, certain)) = engine(service, project, container) else {
        return started;
    };
    let contract = engine
        .engine
        .map(|engine| contract(engine, container))
        .unwrap_or_default();
    let asks = container.accelerators.count.is_some() && !container.accelerators.is_cpu();
    let serves = match start {
        Start::Script => certain || asks || contract.declares(),
        // An image that is not known starts what it was made for.
        Start::Image => (asks || contract.declares()) && !certain,
    };
    if serves {
        started
            .deployments
            .push(deployment(container, project, engine, contract));
    }
    started
}

/// How a container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// By the image.
    Image,
    /// By a script that is not in the file.
    Script,
}

/// `None` where the command is there and runs something else.
fn start(container: &Container) -> Option<Start> {
    let words = |words: &Words| match words {
        Words::List(list) => list
            .iter()
            .map(|text| text.value().to_owned())
            .collect::<Vec<_>>(),
        Words::Shell(text) | Words::Line(text) => {
            text.value().split_whitespace().map(str::to_owned).collect()
        }
    };
    let mut all = container.entrypoint.as_ref().map(words).unwrap_or_default();
    all.extend(container.arguments.as_ref().map(words).unwrap_or_default());
    let is_shell = |word: &String| {
        matches!(
            word.rsplit('/').next(),
            Some("sh" | "bash" | "ash" | "tini" | "--" | "-e")
        )
    };
    match all.iter().find(|word| !is_shell(word)) {
        None => Some(Start::Image),
        Some(word) if is_script(word) => Some(Start::Script),
        Some(_) => None,
    }
}

fn is_script(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word).to_ascii_lowercase();
    name.strip_suffix(".sh").is_some() || name.ends_with("entrypoint")
}

/// The engine that an image or the names around it tell, and whether it is the image that tells it.
fn engine(
    service: &Service<'_>,
    project: &Project<'_>,
    container: &Container,
) -> Option<(ImageEngine, bool)> {
    let known = |fact: &Fact<String>| command::image_engine(fact).filter(|found| found.serves);
    if let Some(found) = container.image.as_ref().and_then(known) {
        return Some((found, true));
    }
    let mut found = names(service, project);
    found.push(service.name());
    found.iter().find_map(known).map(|found| (found, false))
}

/// What tells what an image holds: what it is built from, and where.
fn names(service: &Service<'_>, project: &Project<'_>) -> Vec<Fact<String>> {
    let fact = |node: Node<'_>| project.fact(node);
    let last = |path: Fact<String>| {
        path.map(|path| {
            path.trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or("")
                .to_owned()
        })
    };
    let arguments = service
        .at(&["build", "args"])
        .map(Node::entries)
        .unwrap_or_default();
    let mut names: Vec<Fact<String>> = arguments
        .into_iter()
        .filter(|(key, _)| {
            key.text()
                .is_some_and(|key| key.to_ascii_uppercase().contains("IMAGE"))
        })
        .filter_map(|(_, value)| fact(value))
        .collect();
    let context = service.at(&["build", "context"]).or_else(|| service.get("build"));
    let dockerfile = service.at(&["build", "dockerfile"]);
    names.extend(
        [context, dockerfile]
            .into_iter()
            .flatten()
            .filter_map(fact)
            .map(last),
    );
    names.extend(service.get("container_name").and_then(fact));
    names
}

/// Settings that variables with the names of flags declare.
#[derive(Debug, Default)]
struct Contract {
    settings: Vec<(String, Fact<String>)>,
    model: Option<Fact<String>>,
    unresolved: Vec<String>,
}

impl Contract {
    /// True where more than a model is named: nothing that only talks to a server sets how much memory it takes.
    fn declares(&self) -> bool {
        !self.settings.is_empty()
    }
}

/// Names of the variable that holds the model, without the engine's prefix.
const MODEL: [&str; 6] = [
    "MODEL",
    "MODEL_ID",
    "MODEL_NAME",
    "MODEL_PATH",
    "MODEL_NAME_OR_PATH",
    "HF_MODEL_ID",
];

fn contract(engine: Engine, container: &Container) -> Contract {
    let table = FlagTable::of(engine);
    let mut found = Contract::default();
    for (name, variable) in container.environment.iter() {
        let bare = PREFIXES
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        let flag = format!("--{}", bare.to_ascii_lowercase().replace('_', "-"));
        let setting = table.find(&flag).and_then(|(flag, _)| flag.setting.clone());
        let is_model = MODEL.contains(&bare) || setting.as_deref() == Some("model");
        let value = match variable {
            Variable::Known(text) if !text.is_empty() => Some(text.fact()),
            Variable::Known(_) => None,
            Variable::Unknown { .. } => {
                let field = if is_model {
                    Some("model".to_owned())
                } else {
                    setting
                };
                found.unresolved.extend(field);
                continue;
            }
        };
        match (value, setting) {
            (Some(value), _) if is_model => found.model = found.model.or(Some(value)),
            (Some(value), Some(id)) => found.settings.push((id, value)),
            _ => {}
        }
    }
    found
}

/// What such variables begin with.
const PREFIXES: [&str; 7] = [
    "VLLM_",
    "SGLANG_",
    "SGL_",
    "TGI_",
    "OLLAMA_",
    "LLAMA_ARG_",
    "LLAMA_",
];

fn deployment(
    container: &Container,
    project: &Project<'_>,
    engine: ImageEngine,
    contract: Contract,
) -> Deployment {
    let file = project.input().source().id();
    let mut found = Deployment::new(container.name.clone(), file, container.span, Format::Compose);
    let place = container
        .image
        .as_ref()
        .map_or(container.span, |image| image.span().unwrap_or(container.span));
    found.engine = engine.engine.map(|engine| Fact::derived(engine, [place]));
    found.server = engine.server.map(|server| Fact::derived(server, [place]));
    found.engine_version = engine.version;
    found.accelerators = container.accelerators.clone();
    for (id, bytes) in [
        ("host_memory_bytes", &container.host_memory_bytes),
        ("shm_bytes", &container.shm_bytes),
    ] {
        if let Some(bytes) = bytes {
            found
                .settings
                .set(id, bytes.clone().map(|bytes| bytes.to_string()));
        }
    }
    for (id, value) in contract.settings {
        plain_keys::declare(&mut found, &id, value);
    }
    match contract.model {
        Some(model) => plain_keys::declare_model(&mut found, model),
        // It is where the script takes it from.
        None => found.mark_unresolved("model"),
    }
    for field in contract.unresolved {
        found.mark_unresolved(&field);
    }
    found
}
