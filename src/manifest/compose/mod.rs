//! Docker compose: services that start engines.
//!
//! In: a compose file, with the files that it is merged with and its `.env`. Out: one deployment for each engine that
//! a service starts. Clients, proxies and databases beside the engines are none; a service that only pulls models
//! names those of the Ollama server beside it.

mod around;
mod built;
mod devices;
mod dotenv;
mod mounts;
mod project;
mod runner;

#[cfg(test)]
mod tests;

use self::project::{Project, Service};
use super::command::{Environment, Text, Words};
use super::container::{Container, Started};
use super::{Accelerators, Declared, Deployment, Format, Input, plain_keys};
use crate::engine::Engine;
use crate::fact::Fact;
use crate::source::tree::{Node, Shape};

/// Keys of a service one of which every service has (compose-spec, `service.build`, `service.image`, ...).
const SERVICE_KEYS: [&str; 7] = [
    "image",
    "build",
    "extends",
    "provider",
    "deploy",
    "command",
    "container_name",
];

/// True for a compose file: `services` whose values are services.
pub fn recognizes(input: &Input<'_>) -> bool {
    let root = input.root;
    if root.get("apiVersion").is_some() || root.get("kind").is_some() {
        return false;
    }
    let Some(services) = root.get("services").filter(|node| node.shape() == Shape::Mapping) else {
        return false;
    };
    let is_service = |node: Node<'_>| SERVICE_KEYS.iter().any(|key| node.get(key).is_some());
    services.pairs().take(64).any(|(_, service)| is_service(service))
}

/// Reads a compose file.
pub fn read(input: &Input<'_>) -> Declared {
    let project = Project::new(input);
    let mut declared = Declared::default();
    let mut pulled: Vec<Fact<String>> = Vec::new();
    for service in project.services() {
        let started = deployments(&service, &project);
        declared.findings.extend(started.findings);
        if started.deployments.is_empty() {
            pulled.extend(started.downloads);
        }
        declared.deployments.extend(started.deployments);
    }
    give_pulled(&mut declared.deployments, &pulled);
    declared.deployments.extend(runner::deployments(&project));
    declared
}

/// What a service starts.
fn deployments(service: &Service<'_>, project: &Project<'_>) -> Started {
    let environment = environment(service, project);
    let devices = devices::accelerators(service, project, &environment);
    let container = container(service, project, environment, devices.asked);
    let name = service.name();
    let input = project.input();
    let mut started = container.deployments(input, Format::Compose, &name);
    if started.deployments.is_empty() && started.downloads.is_empty() {
        started = built::deployments(service, project, &container);
    }
    for deployment in &mut started.deployments {
        if let [only] = started.downloads.as_slice()
            && serves_pulled(deployment)
        {
            plain_keys::declare_model(deployment, only.clone());
        }
        deployment
            .model_hints
            .splice(0..0, started.downloads.iter().cloned());
        mounts::hint(service, project, deployment);
        replicas(service, project, deployment);
        if devices.unresolved && deployment.accelerators.count.is_none() {
            deployment.mark_unresolved("accelerators");
        }
    }
    started
}

/// An Ollama server serves what is pulled beside it; others serve what their arguments name.
fn serves_pulled(deployment: &Deployment) -> bool {
    deployment.model.is_none()
        && deployment
            .engine
            .as_ref()
            .is_some_and(|engine| engine.value == Engine::Ollama)
}

/// Models that services without a server pull belong to the one Ollama server of the file.
fn give_pulled(deployments: &mut [Deployment], pulled: &[Fact<String>]) {
    let mut servers = deployments
        .iter_mut()
        .filter(|deployment| serves_pulled(deployment));
    let (Some(server), None) = (servers.next(), servers.next()) else {
        return;
    };
    if let [only] = pulled {
        plain_keys::declare_model(server, only.clone());
    }
    server.model_hints.extend(pulled.iter().cloned());
}

/// The container of a service.
fn container(
    service: &Service<'_>,
    project: &Project<'_>,
    environment: Environment,
    accelerators: Accelerators,
) -> Container {
    let mut container = Container::new(service.name(), service.span());
    container.environment = environment;
    container.accelerators = accelerators;
    container.image = service
        .get("image")
        .and_then(|image| project.fact(image))
        .filter(|image| !image.value.is_empty());
    container.entrypoint = service.get("entrypoint").and_then(|node| words(node, project));
    container.arguments = service.get("command").and_then(|node| words(node, project));
    container.host_memory_bytes = memory(service, project);
    container.shm_bytes = service
        .get("shm_size")
        .and_then(|node| amount(project.fact(node)?));
    container.files = mounts::files(service, project);
    around::read(service, project, &mut container);
    container
}

/// Copies of the service.
fn replicas(service: &Service<'_>, project: &Project<'_>, deployment: &mut Deployment) {
    let replicas = service
        .at(&["deploy", "replicas"])
        .or_else(|| service.get("scale"))
        .and_then(|node| project.fact(node));
    if let Some(replicas) = replicas.filter(|replicas| replicas.value.parse::<u64>().is_ok()) {
        deployment.settings.set("replicas", replicas);
    }
}

/// A command or an entrypoint. A string is split as a shell splits words, but no shell runs it.
fn words(node: Node<'_>, project: &Project<'_>) -> Option<Words> {
    match node.shape() {
        Shape::Sequence => Some(Words::List(
            node.items()
                .filter(|item| item.text().is_some())
                .map(|item| project.text(item))
                .collect(),
        )),
        Shape::Scalar => Some(Words::Line(project.text(node))),
        _ => None,
    }
}

/// The environment of the container: `env_file` first, which `environment` overrides.
fn environment(service: &Service<'_>, project: &Project<'_>) -> Environment {
    let mut environment = Environment::default();
    for (node, folder) in service.all("env_file") {
        for path in listed(node) {
            let path = path.get("path").unwrap_or(path);
            let Some(path) = project.fact(path) else { continue };
            if let Some(file) = project.companion(folder, &path.value) {
                dotenv::read(&file, &mut environment);
            }
        }
    }
    let layers: Vec<_> = service.all("environment").collect();
    for (node, _) in layers.into_iter().rev() {
        for (name, value) in variables(node, project) {
            match value.or_else(|| project.environment().text(&name).cloned()) {
                Some(value) => environment.set_text(name, value),
                // Handed down from the host where the host has it.
                None => environment.remove(&name),
            }
        }
    }
    environment
}

/// `environment` as a mapping or as a list of `NAME=value`; a name alone has no value.
fn variables(node: Node<'_>, project: &Project<'_>) -> Vec<(String, Option<Text>)> {
    if node.shape() == Shape::Mapping {
        return node
            .entries()
            .into_iter()
            .filter_map(|(key, value)| {
                let given = value.text().is_some().then(|| project.text(value));
                Some((key.text()?.to_owned(), given))
            })
            .collect();
    }
    node.items()
        .filter(|item| item.text().is_some())
        .map(|item| {
            let text = project.text(item);
            let value = text.value();
            match value.find('=') {
                Some(at) => {
                    let name = value.get(..at).unwrap_or("").trim().to_owned();
                    (name, Some(text.slice(at + 1..value.len())))
                }
                None => (value.trim().to_owned(), None),
            }
        })
        .collect()
}

/// One item, or each of a list.
fn listed(node: Node<'_>) -> Vec<Node<'_>> {
    match node.shape() {
        Shape::Sequence => node.items().collect(),
        Shape::Null => Vec::new(),
        _ => vec![node],
    }
}

fn memory(service: &Service<'_>, project: &Project<'_>) -> Option<Fact<u64>> {
    let node = service
        .at(&["deploy", "resources", "limits", "memory"])
        .or_else(|| service.get("mem_limit"))?;
    amount(project.fact(node)?)
}

/// An amount of memory in bytes. Every unit is a power of 1024 here (docker/go-units, `RAMInBytes`).
fn amount(fact: Fact<String>) -> Option<Fact<u64>> {
    let text = fact.value.trim().to_ascii_lowercase();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let power = match unit.trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let scale = 1024_u64.checked_pow(power)?;
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale)?,
        Err(_) => fraction(number, scale)?,
    };
    Some(fact.map(|_| bytes))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be positive and below the largest amount"
)]
fn fraction(number: &str, scale: u64) -> Option<u64> {
    let bytes = number.parse::<f64>().ok()? * scale as f64;
    (bytes.is_finite() && (0.0..1e18).contains(&bytes)).then_some(bytes as u64)
}
