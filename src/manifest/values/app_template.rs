//! Values of the bjw-s app-template chart: `controllers.<name>.containers.<name>`, each written much like a
//! container of Kubernetes, with mappings where that has lists.
//!
//! Source: bjw-s-labs/helm-charts charts/library/common (values of 2.x to 4.x).

use super::Section;
use crate::fact::Fact;
use crate::manifest::command::Text;
use crate::manifest::container::{Container, Started};
use crate::manifest::keys;
use crate::manifest::kubernetes::accelerators;
use crate::manifest::{AcceleratorKind, Declared, Input};
use crate::source::tree::Node;

/// True for values with at least one container below a controller.
pub(super) fn recognizes(section: &Section<'_>) -> bool {
    let controllers = section.node.get("controllers");
    controllers.is_some_and(|all| all.pairs().any(|(_, one)| one.get("containers").is_some()))
}

/// Reads every controller.
pub(super) fn read(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) {
    let root = section.node;
    let controllers = root.get("controllers").map(Node::entries).unwrap_or_default();
    for (key, controller) in controllers {
        if controller.get("enabled").and_then(Node::as_bool) == Some(false) {
            continue;
        }
        let name = match key.text() {
            // The only controller of a release bears the release's name in the end.
            Some("main") | None => section.name.clone(),
            Some(name) => Fact::at(name.to_owned(), key.span()),
        };
        let mut started = Started::default();
        let mut names = Vec::new();
        for (list, stays) in [("initContainers", false), ("containers", true)] {
            for (key, node) in controller.get(list).map(Node::entries).unwrap_or_default() {
                if node.get("enabled").and_then(Node::as_bool) == Some(false) {
                    continue;
                }
                let container = container(root, controller, key, node, &name, input);
                let mut own = container.deployments(input, section.format, &name);
                started.downloads.append(&mut own.downloads);
                started.findings.append(&mut own.findings);
                // A server in an init container is there to download, and ends.
                if stays {
                    let name = Fact::at(key.text().unwrap_or("").to_owned(), key.span());
                    names.extend(own.deployments.iter().map(|_| name.clone()));
                    started.deployments.append(&mut own.deployments);
                }
            }
        }
        // Several engines of one pod go by the names of their containers.
        let several = names.windows(2).any(|pair| pair.first() != pair.last());
        for (deployment, container) in started.deployments.iter_mut().zip(names) {
            if several {
                deployment.name = container;
            }
            keys::set(deployment, input, "replicas", controller.get("replicas"));
        }
        keys::add_started(declared, started);
    }
}

fn container(
    root: Node<'_>,
    controller: Node<'_>,
    key: Node<'_>,
    node: Node<'_>,
    name: &Fact<String>,
    input: &Input<'_>,
) -> Container {
    let mut container = Container::new(name.clone(), node.span());
    container.image = node.get("image").and_then(keys::image);
    let default = root.at(&["defaultPodOptions", "env"]);
    for env in [default, node.get("env")] {
        keys::add_environment(&mut container.environment, env, input);
    }
    container.environment.resolve_references();
    container.entrypoint = keys::words(node.get("command"), input, &container.environment);
    container.arguments = keys::words(node.get("args"), input, &container.environment);
    keys::set_resources(&mut container, node.get("resources"));
    container.accelerators.kinds = kinds(root, controller);
    volumes(root, controller, key, input, &mut container);
    container
}

/// The controller's own selection of nodes, else that of all pods.
fn kinds(root: Node<'_>, controller: Node<'_>) -> Vec<AcceleratorKind> {
    let own = controller.get("pod").map(accelerators::kinds).unwrap_or_default();
    if !own.is_empty() {
        return own;
    }
    let all = root.get("defaultPodOptions");
    all.map(accelerators::kinds).unwrap_or_default()
}

/// Shared memory, and files of the values' own ConfigMaps.
fn volumes(
    root: Node<'_>,
    controller: Node<'_>,
    key: Node<'_>,
    input: &Input<'_>,
    container: &mut Container,
) {
    let controllers = root.get("controllers").map(Node::entries).unwrap_or_default();
    let own = controllers
        .iter()
        .find(|(_, one)| one.span() == controller.span())
        .and_then(|(key, _)| key.text());
    for (id, volume) in root.get("persistence").map(Node::entries).unwrap_or_default() {
        let global = volume.get("globalMounts");
        let advanced = own
            .zip(key.text())
            .and_then(|(own, key)| volume.at(&["advancedMounts", own, key]));
        let mounts: Vec<Node<'_>> = [global, advanced]
            .into_iter()
            .flatten()
            .flat_map(Node::items)
            .collect();
        let kind = volume.get("type").and_then(Node::text);
        for mount in mounts {
            let Some(path) = mount.get("path").and_then(Node::text) else {
                continue;
            };
            match kind {
                Some("emptyDir") if path.trim_end_matches('/') == "/dev/shm" => {
                    container.shm_bytes = volume.get("sizeLimit").and_then(keys::bytes);
                }
                Some("configMap") => files(root, id, volume, mount, path, input, container),
                _ => {}
            }
        }
    }
}

/// The files that one mount of a ConfigMap shows.
fn files(
    root: Node<'_>,
    id: Node<'_>,
    volume: Node<'_>,
    mount: Node<'_>,
    path: &str,
    input: &Input<'_>,
    container: &mut Container,
) {
    let named = volume.get("identifier").and_then(Node::text);
    let name = volume.get("name").and_then(Node::text);
    let own = named
        .or(id.text())
        .and_then(|name| root.at(&["configMaps", name, "data"]));
    let data = own.or_else(|| {
        let object = input.world.object(input.file, "ConfigMap", name?)?;
        object.node.get("data")
    });
    let part = mount.get("subPath").and_then(Node::text);
    for (key, text) in data.map(Node::entries).unwrap_or_default() {
        let Some(key) = key.text() else { continue };
        let place = match part {
            Some(part) if part == key => path.to_owned(),
            Some(_) => continue,
            None => format!("{}/{key}", path.trim_end_matches('/')),
        };
        let text = Text::of_node(input.world.sources(), text);
        container.files.push((place, text));
    }
}
