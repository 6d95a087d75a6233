//! The accelerators that a service asks for. Compose files never name their kind.
//!
//! In: a service. Out: how many it gets: of reserved devices, of `gpus`, of the runtime, of device files. Source:
//! compose-spec `deploy.md` (devices), `05-services.md` (gpus, runtime, devices).

use super::project::{Project, Service};
use super::{listed, mounts};
use crate::fact::Fact;
use crate::manifest::command::Environment;
use crate::manifest::{Accelerators, Count};
use crate::source::tree::{Node, Shape};

/// What a service asks for.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// As far as it is known.
    pub(super) asked: Accelerators,
    /// True where the number is a variable without a value.
    pub(super) unresolved: bool,
}

/// Runtimes that give a container every accelerator of the host, and the variables that narrow them.
const RUNTIMES: [(&str, &str); 4] = [
    ("nvidia", "NVIDIA_VISIBLE_DEVICES"),
    ("habana", "HABANA_VISIBLE_DEVICES"),
    ("ascend", "ASCEND_VISIBLE_DEVICES"),
    ("amd", "AMD_VISIBLE_DEVICES"),
];

/// The accelerators of a service.
pub(super) fn accelerators(
    service: &Service<'_>,
    project: &Project<'_>,
    environment: &Environment,
) -> Devices {
    let mut devices = Devices::default();
    let reserved: Vec<Node<'_>> = service
        .at(&["deploy", "resources", "reservations", "devices"])
        .map(|node| node.items().filter(|item| is_gpu(*item, project)).collect())
        .unwrap_or_default();
    if !reserved.is_empty() {
        devices.requests(&reserved, project);
    } else if let Some(gpus) = service.get("gpus") {
        devices.gpus(gpus, project);
    } else if let Some(count) = generic(service, project).or_else(|| files(service, project)) {
        devices.asked.count = Some(count);
    } else if let Some(count) = runtime(service, project, environment) {
        devices.asked.count = Some(count);
    }
    let narrowed = narrowed(&devices.asked, environment);
    if narrowed.is_some() {
        devices.asked.count = narrowed;
    }
    devices
}

impl Devices {
    /// `gpus: all`, `gpus: 2`, or a list of requests.
    fn gpus(&mut self, gpus: Node<'_>, project: &Project<'_>) {
        if gpus.shape() == Shape::Sequence {
            let requests: Vec<Node<'_>> = gpus.items().collect();
            self.requests(&requests, project);
        } else if let Some(count) = project.fact(gpus) {
            self.asked.count = self.count(count);
        }
    }

    /// Requests of devices, which add up.
    fn requests(&mut self, requests: &[Node<'_>], project: &Project<'_>) {
        let mut sum: Option<Fact<Count>> = None;
        for request in requests {
            let Some(count) = self.request(*request, project) else {
                return;
            };
            sum = Some(match (sum, count) {
                (None, count) => count,
                (Some(so_far), count) => so_far.map(|one| added(one, count.value)),
            });
        }
        self.asked.count = sum;
    }

    fn request(&mut self, request: Node<'_>, project: &Project<'_>) -> Option<Fact<Count>> {
        let everything = Some(Fact::at(Count::All, request.span()));
        let ids = request.get("device_ids").map(listed).unwrap_or_default();
        if !ids.is_empty() {
            return self.ids(&ids, project);
        }
        match request.get("count").and_then(|count| project.fact(count)) {
            Some(count) => self.count(count),
            None => everything,
        }
    }

    fn count(&mut self, count: Fact<String>) -> Option<Fact<Count>> {
        let text = count.value.trim();
        if matches!(text, "all" | "-1") {
            return Some(count.map(|_| Count::All));
        }
        if let Ok(number) = text.parse() {
            return Some(count.map(|_| Count::Number(number)));
        }
        self.unresolved = true;
        None
    }

    /// Ids, of which one text may hold several.
    fn ids(&mut self, ids: &[Node<'_>], project: &Project<'_>) -> Option<Fact<Count>> {
        let facts: Vec<Fact<String>> = ids.iter().filter_map(|id| project.fact(*id)).collect();
        let first = facts.first()?.clone();
        let names: Vec<&str> = facts.iter().flat_map(|fact| names(&fact.value)).collect();
        if names.iter().any(|name| name.contains('$')) || names.is_empty() {
            self.unresolved = true;
            return None;
        }
        let all = names.iter().any(|name| *name == "all" || name.ends_with("=all"));
        let count = if all {
            Count::All
        } else {
            Count::Number(names.len() as u64)
        };
        Some(first.map(|_| count))
    }
}

/// The names of a list of devices.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn added(one: Count, other: Count) -> Count {
    match (one, other) {
        (Count::Number(one), Count::Number(other)) => Count::Number(one.saturating_add(other)),
        _ => Count::All,
    }
}

/// True for a reservation of accelerators.
fn is_gpu(device: Node<'_>, project: &Project<'_>) -> bool {
    let driver = device.get("driver").and_then(|node| project.fact(node));
    let driver = driver
        .map(|fact| fact.value.to_ascii_lowercase())
        .unwrap_or_default();
    let words = device.get("capabilities").map(listed).unwrap_or_default();
    let capable = words
        .iter()
        .flat_map(|word| listed(*word))
        .filter_map(Node::text)
        .any(|word| matches!(word, "gpu" | "nvidia" | "amd"));
    capable
        || matches!(
            driver.as_str(),
            "nvidia" | "amd" | "cdi" | "amd.com/gpu" | "nvidia.com/gpu"
        )
}

/// Swarm's generic resources.
fn generic(service: &Service<'_>, project: &Project<'_>) -> Option<Fact<Count>> {
    let resources = service.at(&["deploy", "resources", "reservations", "generic_resources"])?;
    resources.items().find_map(|resource| {
        let specification = resource.get("discrete_resource_spec")?;
        let kind = specification.get("kind")?.text()?.to_ascii_lowercase();
        let value = project.fact(specification.get("value")?)?;
        let number = value.value.parse().ok()?;
        kind.contains("gpu").then(|| value.map(|_| Count::Number(number)))
    })
}

/// A runtime that gives every accelerator of the host.
fn runtime(service: &Service<'_>, project: &Project<'_>, environment: &Environment) -> Option<Fact<Count>> {
    let runtime = project.fact(service.get("runtime")?)?;
    let (_, variable) = RUNTIMES.iter().find(|(name, _)| *name == runtime.value)?;
    let everything = runtime.map(|_| Count::All);
    Some(visible(environment, variable).unwrap_or(everything))
}

/// `NVIDIA_VISIBLE_DEVICES` narrows whatever the container is given.
fn narrowed(asked: &Accelerators, environment: &Environment) -> Option<Fact<Count>> {
    let seen = visible(environment, "NVIDIA_VISIBLE_DEVICES")?;
    let fewer = match (asked.count.as_ref()?.value, seen.value) {
        (Count::All, Count::Number(_)) => true,
        (Count::Number(asked), Count::Number(seen)) => seen < asked,
        (_, Count::All) => false,
    };
    fewer.then_some(seen)
}

/// How many devices a variable lists; `None` for `all`, `none` and what is not known.
fn visible(environment: &Environment, variable: &str) -> Option<Fact<Count>> {
    let list = environment.text(variable)?.fact();
    let known = |name: &&str| !matches!(*name, "all" | "none" | "void") && !name.contains('$');
    let count = names(&list.value).filter(known).count();
    let whole = names(&list.value).count();
    (count > 0 && count == whole).then(|| list.map(|_| Count::Number(count as u64)))
}

/// Device files: all of the host's, or the cards that are named.
fn files(service: &Service<'_>, project: &Project<'_>) -> Option<Fact<Count>> {
    let mut named = std::collections::BTreeSet::new();
    let mut rendered = std::collections::BTreeSet::new();
    let mut place = None;
    let mut everything = None;
    for (item, _) in service.items("devices") {
        let Some(path) = mounts::source(item, project) else {
            continue;
        };
        match device(&path.value) {
            Some(Device::Every) => everything = everything.or_else(|| path.span()),
            Some(Device::One(name)) => {
                named.insert(name);
                place = place.or_else(|| path.span());
            }
            Some(Device::Rendered(name)) => {
                rendered.insert(name);
                place = place.or_else(|| path.span());
            }
            None => {}
        }
    }
    // A card and its render node are two files of one device.
    let count = named.len().max(rendered.len());
    match (count, place, everything) {
        (1.., Some(span), _) => Some(Fact::at(Count::Number(count as u64), span)),
        (_, _, Some(span)) => Some(Fact::at(Count::All, span)),
        _ => None,
    }
}

enum Device {
    Every,
    One(String),
    Rendered(String),
}

/// What a device file of the host is. `/dev/kfd` alone gives no card.
fn device(path: &str) -> Option<Device> {
    let path = path.trim_end_matches('/');
    if let Some(cdi) = path
        .strip_prefix("nvidia.com/gpu=")
        .or_else(|| path.strip_prefix("amd.com/gpu="))
    {
        return Some(if cdi == "all" {
            Device::Every
        } else {
            Device::One(cdi.to_owned())
        });
    }
    match path {
        "/dev/dri" | "/dev/accel" => return Some(Device::Every),
        "/dev/nvidiactl" | "/dev/nvidia-uvm" | "/dev/nvidia-uvm-tools" | "/dev/nvidia-modeset" => {
            return None;
        }
        _ => {}
    }
    if let Some(render) = path.strip_prefix("/dev/dri/renderD") {
        return Some(Device::Rendered(render.to_owned()));
    }
    let card = [
        "/dev/dri/card",
        "/dev/nvidia",
        "/dev/davinci",
        "/dev/neuron",
        "/dev/accel/accel",
    ]
    .iter()
    .find_map(|prefix| path.strip_prefix(prefix))?;
    let one = card.starts_with(|c: char| c.is_ascii_digit() || c == '$');
    one.then(|| Device::One(card.to_owned()))
}
