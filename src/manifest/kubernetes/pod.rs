//! A Kubernetes pod: its containers with commands, environment, accelerators and memory, and the machines that its
//! node selection allows.
//!
//! In: a pod spec, wherever an object keeps it. Out: the deployments that its containers start. Whatever an object
//! adds (replicas, nodes, a model named elsewhere) it sets on these.

use super::{accelerators, around, claims};
use crate::fact::Fact;
use crate::machine::quantity::parse_bytes;
use crate::manifest::command::{Environment, Interpolation, Text, Variable, Words};
use crate::manifest::container::{Container, Started};
use crate::manifest::{Format, Input};
use crate::source::tree::{Node, Shape};

/// The deployments of a pod spec. Downloads of its init containers count for all its engines: a container that
/// serves a path serves what was downloaded beside it.
pub fn deployments(spec: Node<'_>, input: &Input<'_>, format: Format, name: &Fact<String>) -> Started {
    deployments_with(spec, input, format, name, &Environment::default())
}

/// The same, with variables that the object's controller puts into every container. The container's own win.
pub fn deployments_with(
    spec: Node<'_>,
    input: &Input<'_>,
    format: Format,
    name: &Fact<String>,
    injected: &Environment,
) -> Started {
    let mut all = Started::default();
    let mut names: Vec<Fact<String>> = Vec::new();
    for (node, stays) in nodes(spec) {
        let container = placed(spec, node, input, injected);
        let mut started = container.deployments(input, format, name);
        if stays {
            names.extend(started.deployments.iter().map(|_| container.name.clone()));
            all.deployments.append(&mut started.deployments);
        }
        all.downloads.append(&mut started.downloads);
        all.findings.append(&mut started.findings);
    }
    // Several engines in one pod go by the names of their containers.
    let several = names.windows(2).any(|pair| pair.first() != pair.last());
    for (deployment, container) in all.deployments.iter_mut().zip(names) {
        if several && !container.value.is_empty() {
            deployment.name = container;
        }
        deployment.model_hints.splice(0..0, all.downloads.iter().cloned());
    }
    all
}

/// The containers of a pod spec, init containers first (those prepare, and some stay).
pub fn containers(spec: Node<'_>, input: &Input<'_>) -> Vec<Container> {
    let all = nodes(spec).into_iter();
    all.map(|(node, _)| placed(spec, node, input, &Environment::default()))
        .collect()
}

/// The containers of a pod spec, and whether each stays: init containers end before the others start, but for those
/// with `restartPolicy: Always`.
fn nodes(spec: Node<'_>) -> Vec<(Node<'_>, bool)> {
    let listed = |key: &str| {
        spec.get(key)
            .into_iter()
            .flat_map(Node::items)
            .collect::<Vec<_>>()
    };
    let stays = |node: Node<'_>| node.get("restartPolicy").and_then(Node::text) == Some("Always");
    let first = listed("initContainers")
        .into_iter()
        .map(|node| (node, stays(node)));
    let then = listed("containers").into_iter().map(|node| (node, true));
    first
        .chain(then)
        .filter(|(node, _)| node.shape() == Shape::Mapping)
        .collect()
}

/// A container with what its pod gives it.
fn placed(spec: Node<'_>, node: Node<'_>, input: &Input<'_>, injected: &Environment) -> Container {
    let mut container = container_with(node, input, injected);
    container.accelerators.kinds = accelerators::kinds(spec);
    if accelerators::is_kind_open(spec) {
        container.unresolved.push("accelerator_type");
    }
    claims::read(spec, node, input, &mut container);
    mounts(spec, node, input, &mut container);
    around::read(spec, node, input, &mut container);
    container
}

/// A container by itself: everything but what its pod says.
pub fn container(node: Node<'_>, input: &Input<'_>) -> Container {
    container_with(node, input, &Environment::default())
}

fn container_with(node: Node<'_>, input: &Input<'_>, injected: &Environment) -> Container {
    let name = match node.get("name").filter(|name| name.text().is_some()) {
        Some(name) => Fact::at(name.text().unwrap_or("").to_owned(), name.mention()),
        None => Fact::derived(String::new(), [node.span()]),
    };
    let mut container = Container::new(name, node.span());
    container.environment = environment_with(node, input, injected);
    container.image = node
        .get("image")
        .and_then(|image| Some(Fact::at(image.text()?.to_owned(), image.mention())));
    container.entrypoint = words(node.get("command"), input, &container.environment);
    container.arguments = words(node.get("args"), input, &container.environment);
    if let Some(resources) = node.get("resources") {
        container.accelerators = accelerators::of_resources(resources);
        container.unresolved.extend(accelerators::unresolved(resources));
        container.host_memory_bytes = memory(resources);
    }
    container
}

/// Words of a list, with Kubernetes' `$(NAME)` put in. A single text is taken as a list of one, which is what a chart
/// that writes it so makes of it.
pub fn words(node: Option<Node<'_>>, input: &Input<'_>, environment: &Environment) -> Option<Words> {
    let node = node?;
    let text = |node: Node<'_>| {
        let text = Text::of_node(input.world.sources(), node);
        Interpolation::Kubernetes.apply(&text, environment)
    };
    match node.shape() {
        Shape::Sequence => Some(Words::List(
            node.items()
                .filter(|item| item.text().is_some())
                .map(text)
                .collect(),
        )),
        Shape::Scalar => Some(Words::Shell(text(node))),
        _ => None,
    }
}

/// The environment of a container: `env`, and ConfigMaps of the tree that `envFrom` and `configMapKeyRef` name.
pub fn environment(node: Node<'_>, input: &Input<'_>) -> Environment {
    environment_with(node, input, &Environment::default())
}

fn environment_with(node: Node<'_>, input: &Input<'_>, injected: &Environment) -> Environment {
    let sources = input.world.sources();
    let mut environment = injected.clone();
    for source in node.get("envFrom").into_iter().flat_map(Node::items) {
        let name = source.at(&["configMapRef", "name"]).and_then(Node::text);
        let map = name.and_then(|name| input.world.object(input.file, "ConfigMap", name));
        for (key, value) in map
            .and_then(|map| map.node.get("data"))
            .map(Node::entries)
            .unwrap_or_default()
        {
            if let Some(key) = key.text().filter(|_| value.text().is_some()) {
                environment.set_text(key, Text::of_node(sources, value));
            }
        }
    }
    for entry in node.get("env").into_iter().flat_map(Node::items) {
        let Some(name) = entry.get("name").and_then(Node::text) else {
            continue;
        };
        environment.set(name, variable(entry, input));
    }
    environment.resolve_references();
    environment
}

/// One entry of `env`.
fn variable(entry: Node<'_>, input: &Input<'_>) -> Variable {
    let sources = input.world.sources();
    if let Some(value) = entry.get("value").filter(|value| value.text().is_some()) {
        return Variable::Known(Text::of_node(sources, value));
    }
    let reference = entry.at(&["valueFrom", "configMapKeyRef"]);
    let data = reference.and_then(|reference| {
        let map = reference.get("name")?.text()?;
        let key = reference.get("key")?.text()?;
        let object = input.world.object(input.file, "ConfigMap", map)?;
        object.node.get("data")?.get(key)
    });
    match data.filter(|value| value.text().is_some()) {
        Some(value) => Variable::Known(Text::of_node(sources, value)),
        None if entry.get("valueFrom").is_some() => Variable::Unknown {
            why: "its value comes from the cluster",
            span: Some(entry.span()),
        },
        None => Variable::Known(Text::default()),
    }
}

/// The memory limit, else the request, in bytes.
pub fn memory(resources: Node<'_>) -> Option<Fact<u64>> {
    let value = ["limits", "requests"].iter().find_map(|kind| {
        resources
            .at(&[kind, "memory"])
            .filter(|node| node.text().is_some())
    })?;
    Some(Fact::at(parse_bytes(value.text()?)?, value.mention()))
}

/// What the pod's volumes put into the container: shared memory, files of ConfigMaps, models.
pub fn mounts(spec: Node<'_>, node: Node<'_>, input: &Input<'_>, container: &mut Container) {
    let volumes: Vec<Node<'_>> = spec.get("volumes").into_iter().flat_map(Node::items).collect();
    for mount in node.get("volumeMounts").into_iter().flat_map(Node::items) {
        let name = mount.get("name").and_then(Node::text);
        let path = mount.get("mountPath").and_then(Node::text);
        let named = |volume: &&Node<'_>| volume.get("name").and_then(Node::text) == name;
        let (Some(path), Some(volume)) = (path, volumes.iter().find(named)) else {
            continue;
        };
        if path.trim_end_matches('/') == "/dev/shm" {
            container.shm_bytes = volume
                .at(&["emptyDir", "sizeLimit"])
                .and_then(|limit| Some(Fact::at(parse_bytes(limit.text()?)?, limit.mention())));
        }
        if let Some(source) = mounted(*volume, mount) {
            container.mounts.push((path.to_owned(), source));
        }
        config_map(*volume, mount, path, input, container);
    }
}

/// What a volume holds, by the name it has outside the container.
fn mounted(volume: Node<'_>, mount: Node<'_>) -> Option<Fact<String>> {
    const NAMED: [&[&str]; 3] = [&["hostPath", "path"], &["nfs", "path"], &["image", "reference"]];
    let part = mount.get("subPath").filter(|part| part.text().is_some());
    let whole = NAMED
        .iter()
        .find_map(|path| volume.at(path).filter(|node| node.text().is_some()));
    let text = |node: Node<'_>| node.text().unwrap_or("").trim_end_matches('/').to_owned();
    match (whole, part) {
        (Some(whole), Some(part)) => {
            let joined = format!("{}/{}", text(whole), text(part));
            Some(Fact::derived(joined, [part.mention(), whole.mention()]))
        }
        (Some(one), None) | (None, Some(one)) => Some(Fact::at(text(one), one.mention())),
        (None, None) => None,
    }
}

/// The files of a ConfigMap of the tree.
fn config_map(volume: Node<'_>, mount: Node<'_>, path: &str, input: &Input<'_>, container: &mut Container) {
    let map = volume.at(&["configMap", "name"]).and_then(Node::text);
    let data = map
        .and_then(|map| input.world.object(input.file, "ConfigMap", map))
        .and_then(|object| object.node.get("data"));
    let part = mount.get("subPath").and_then(Node::text);
    for (key, value) in data.map(Node::entries).unwrap_or_default() {
        let Some(key) = key.text() else { continue };
        let place = match part {
            Some(part) if part == key => path.to_owned(),
            Some(_) => continue,
            None => format!("{}/{key}", path.trim_end_matches('/')),
        };
        let text = Text::of_node(input.world.sources(), value);
        container.files.push((place, text));
    }
}
