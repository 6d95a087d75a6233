//! What a service says of the surroundings of its engine: shared memory, volumes, ports, the network, the devices
//! that it pins.
//!
//! In: a service and its container as far as it is read. Out: values by the ids of `catalog/surroundings.yaml`.
//! Source of the keys: compose-spec `05-services.md` and `deploy.md`.

use super::project::{Project, Service};
use super::{amount, listed, memory, mounts};
use crate::engine::Settings;
use crate::fact::Fact;
use crate::manifest::command::Variable;
use crate::manifest::container::Container;
use crate::manifest::surroundings::{Volume, derive, keep, put};
use crate::source::tree::Node;

/// Puts what a service says into its container.
pub(super) fn read(service: &Service<'_>, project: &Project<'_>, container: &mut Container) {
    volumes(service, project, container);
    container.environment_open = service.items("env_file").iter().any(|(path, folder)| {
        let path = path.get("path").unwrap_or(*path);
        let file = project.fact(path);
        file.is_none_or(|file| project.companion(folder, &file.value).is_none())
    });
    let mut found = Settings::default();
    derive(&mut found, "platform", "compose", [service.key().span()]);
    if let Some(bytes) = memory(service, project) {
        keep(&mut found, "memory_limit_bytes", bytes.value, &bytes.origin);
    }
    shared_memory(service, project, container, &mut found);
    flag(&mut found, "read_only_root", service.get("read_only"));
    user(service, project, container, &mut found);
    let host = service
        .get("network_mode")
        .filter(|mode| mode.text().is_some_and(|mode| mode != "bridge"));
    switch(&mut found, "host_network", host);
    let other_ways = ["runtime", "devices", "device_cgroup_rules", "privileged", "gpus"];
    let open = other_ways.iter().any(|key| service.get(key).is_some())
        || service.at(&["deploy", "resources", "reservations"]).is_some()
        || container
            .environment
            .iter()
            .any(|(name, _)| name.ends_with("_VISIBLE_DEVICES"));
    derive(&mut found, "accelerator_resource_open", open, []);
    published(service, project, &mut found);
    pinned(service, project, container, &mut found);
    let profiles: Vec<&str> = service
        .get("profiles")
        .map(listed)
        .unwrap_or_default()
        .into_iter()
        .filter_map(Node::text)
        .collect();
    derive(&mut found, "profiles", profiles.join(","), []);
    container.surroundings = found;
}

fn flag(found: &mut Settings, id: &str, node: Option<Node<'_>>) {
    match node {
        None => derive(found, id, false, []),
        Some(node) => {
            if let Some(value) = node.as_bool() {
                put(found, id, value, node.span());
            }
        }
    }
}

fn switch(found: &mut Settings, id: &str, node: Option<Node<'_>>) {
    match node {
        None => derive(found, id, false, []),
        Some(node) => put(found, id, true, node.span()),
    }
}

/// Docker gives 64 MiB of shared memory where the service does not say (moby `container/container_unix.go`,
/// `DefaultSHMSize`).
fn shared_memory(service: &Service<'_>, project: &Project<'_>, container: &Container, found: &mut Settings) {
    let shared = service.get("ipc").filter(|ipc| {
        let text = ipc.text().unwrap_or("");
        text == "host" || text.contains(':') || text.contains('$')
    });
    switch(found, "ipc_host", shared);
    let mounted = container
        .volumes
        .iter()
        .find(|volume| volume.path.trim_end_matches('/') == "/dev/shm");
    if let Some(volume) = mounted {
        put(found, "shm_declared", true, volume.span);
        return;
    }
    let Some(size) = service.get("shm_size") else {
        derive(found, "shm_declared", false, []);
        derive(found, "shm_bytes", 64 * 1024 * 1024, []);
        return;
    };
    put(found, "shm_declared", true, size.span());
    if let Some(bytes) = project.fact(size).and_then(amount) {
        keep(found, "shm_bytes", bytes.value, &bytes.origin);
        keep(found, "shm_limit_bytes", bytes.value, &bytes.origin);
    }
}

fn user(service: &Service<'_>, project: &Project<'_>, container: &mut Container, found: &mut Settings) {
    let Some(user) = service.get("user").and_then(|user| project.fact(user)) else {
        return;
    };
    let number = user.value.split(':').next().unwrap_or("");
    container.user_is_root = matches!(number, "0" | "root");
    if let Ok(number) = number.parse::<u32>() {
        keep(found, "run_as_user", number, &user.origin);
    }
}

/// The first port that is published on every address of the host.
fn published(service: &Service<'_>, project: &Project<'_>, found: &mut Settings) {
    for (item, _) in service.items("ports") {
        if let Some(port) = item.get("published") {
            let everywhere = item
                .get("host_ip")
                .and_then(|ip| project.fact(ip))
                .is_none_or(|ip| ip.value == "0.0.0.0");
            if let Some(port) = project.fact(port).filter(|_| everywhere) {
                keep(found, "host_port", &port.value, &port.origin);
                return;
            }
            continue;
        }
        let Some(port) = project.fact(item) else { continue };
        let parts: Vec<&str> = port.value.split(':').collect();
        let everywhere = match parts.as_slice() {
            [_, _] => true,
            [host, _, _] => *host == "0.0.0.0",
            _ => false,
        };
        if everywhere {
            keep(found, "host_port", &port.value, &port.origin);
            return;
        }
    }
}

/// Devices by number, where the service pins them: ids that it reserves, or the variable that narrows all of them.
fn pinned(service: &Service<'_>, project: &Project<'_>, container: &Container, found: &mut Settings) {
    let reserved = service
        .at(&["deploy", "resources", "reservations", "devices"])
        .or_else(|| service.get("gpus"));
    let ids: Vec<Fact<String>> = reserved
        .into_iter()
        .flat_map(Node::items)
        .filter_map(|request| request.get("device_ids"))
        .flat_map(listed)
        .filter_map(|id| project.fact(id))
        .collect();
    let variable = ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"]
        .iter()
        .find_map(|name| container.environment.get(name))
        .and_then(Variable::fact);
    let (text, place) = match (ids.as_slice(), variable) {
        // Numbers inside of a container that has only some devices are none of the host.
        ([], Some(list)) => (list.value.clone(), list.span()),
        ([first, ..], None) => {
            let names: Vec<&str> = ids.iter().map(|id| id.value.as_str()).collect();
            (names.join(","), first.span())
        }
        _ => return,
    };
    let numbers: Option<Vec<u16>> = text.split(',').map(|id| id.trim().parse().ok()).collect();
    if let Some(numbers) = numbers {
        let words: Vec<String> = numbers.iter().map(u16::to_string).collect();
        derive(found, "pinned_devices", words.join(","), place);
    }
}

fn volumes(service: &Service<'_>, project: &Project<'_>, container: &mut Container) {
    for (item, _) in service.items("volumes") {
        let Some((source, target)) = mounts::sides(item, project) else {
            container.volumes_open = true;
            continue;
        };
        container.volumes_open |= target.contains('$');
        let path = source.value.starts_with(['.', '/', '~', '$']);
        let kind = match item.get("type").and_then(Node::text) {
            Some("tmpfs") => "memory",
            _ if path => "hostPath",
            _ => "volume",
        };
        container.volumes.push(Volume {
            path: target,
            kind,
            bytes: None,
            access: None,
            writable: true,
            span: item.mention(),
        });
    }
    for (item, _) in service.items("tmpfs") {
        if let Some(path) = project.fact(item) {
            container.volumes.push(Volume {
                path: path.value.split(':').next().unwrap_or("").to_owned(),
                kind: "memory",
                bytes: None,
                access: None,
                writable: true,
                span: item.mention(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::fixtures::deployments;

    fn known(keys: &str, id: &str) -> Option<String> {
        let text = format!(
            "services:\n  chat:\n    image: vllm/vllm-openai:v0.11.0\n    command: --model a/b\n    {keys}\n"
        );
        let found = deployments("compose.yaml", &text);
        found.first()?.surroundings.text(id).map(str::to_owned)
    }

    #[test]
    fn only_ports_on_every_address_are_published_to_the_network() {
        assert_eq!(
            known("ports: [\"80:8000\"]", "host_port").as_deref(),
            Some("80:8000")
        );
        assert_eq!(known("ports: [\"127.0.0.1:80:8000\"]", "host_port"), None);
        assert_eq!(
            known(
                "ports: [{published: 80, target: 8000, host_ip: 127.0.0.1}]",
                "host_port"
            ),
            None
        );
    }

    #[test]
    fn numbers_inside_of_a_container_are_no_devices_of_the_host() {
        let reserved = "gpus: [{driver: nvidia, device_ids: [\"2\"]}]";
        assert_eq!(known(reserved, "pinned_devices").as_deref(), Some("2"));
        let narrowed = format!("{reserved}\n    environment: {{CUDA_VISIBLE_DEVICES: \"0\"}}");
        assert_eq!(known(&narrowed, "pinned_devices"), None);
    }

    #[test]
    fn docker_gives_64_mib_of_shared_memory() {
        assert_eq!(known("restart: always", "shm_bytes").as_deref(), Some("67108864"));
        assert_eq!(known("shm_size: 2g", "shm_bytes").as_deref(), Some("2147483648"));
        assert_eq!(known("ipc: host", "ipc_host").as_deref(), Some("true"));
    }
}
