//! What a pod says of the surroundings of its engine: resources, probes, volumes, users, the network; and what the
//! object that makes the pods and the Services beside it add.
//!
//! In: a pod spec and one of its containers, then the object. Out: values by the ids of `catalog/surroundings.yaml`.

use crate::engine::{Engine, Settings};
use crate::fact::Fact;
use crate::machine::quantity::parse_bytes;
use crate::manifest::container::Container;
use crate::manifest::surroundings::{Volume, derive, put};
use crate::manifest::{Deployment, Input};
use crate::source::tree::{Node, Shape};

/// Puts what a pod says into one of its containers.
pub(super) fn read(spec: Node<'_>, node: Node<'_>, input: &Input<'_>, container: &mut Container) {
    container.volumes = volumes(spec, node, input);
    container.volumes_open = is_open(spec.get("volumes")) || is_open(node.get("volumeMounts"));
    container.environment_open = has_open_environment(node, input);
    container.has_downloads = spec
        .get("initContainers")
        .is_some_and(|list| list.items().next().is_some());
    let mut found = Settings::default();
    let place = spec.entry("containers").map(|(key, _)| key.span());
    let stay = spec.get("containers").map_or(0, |list| list.items().count());
    let sidecars = spec.get("initContainers").map_or(0, |list| {
        let always = |item: &Node<'_>| item.get("restartPolicy").and_then(Node::text) == Some("Always");
        list.items().filter(always).count()
    });
    if let Some(place) = place {
        put(&mut found, "platform", "kubernetes", place);
        put(&mut found, "containers", stay + sidecars, place);
    }
    resources(spec, node, &mut found);
    shared_memory(spec, container, &mut found);
    for probe in PROBES {
        self::probe(node, probe, &mut found);
    }
    user(spec, node, container, &mut found);
    flag(&mut found, "host_network", spec.get("hostNetwork"));
    let grace = spec.get("terminationGracePeriodSeconds");
    match grace.and_then(|grace| Some((grace, grace.as_u64()?))) {
        Some((grace, seconds)) => put(&mut found, "termination_grace_seconds", seconds, grace.span()),
        None if grace.is_none() => derive(&mut found, "termination_grace_seconds", 30, []),
        None => {}
    }
    gpu_node(spec, &mut found);
    container.surroundings = found;
}

/// True for what a template fills.
fn is_open(node: Option<Node<'_>>) -> bool {
    node.is_some_and(|node| {
        node.shape() == Shape::Scalar || node.items().any(|item| item.shape() == Shape::Scalar)
    })
}

/// A switch that is off where it is not given, and absent where it is no yes or no.
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

/// True where a Secret, or a ConfigMap that is not in the tree, gives variables.
fn has_open_environment(node: Node<'_>, input: &Input<'_>) -> bool {
    let listed = |source: Node<'_>| {
        let name = source.at(&["configMapRef", "name"]).and_then(Node::text);
        name.is_none_or(|name| input.world.object(input.file, "ConfigMap", name).is_none())
    };
    let sources = node.get("envFrom");
    is_open(sources) || is_open(node.get("env")) || sources.into_iter().flat_map(Node::items).any(listed)
}

fn resources(spec: Node<'_>, node: Node<'_>, found: &mut Settings) {
    let resources = node.get("resources");
    for (kind, gpus, memory) in [
        ("limits", "gpu_limit", "memory_limit_bytes"),
        ("requests", "gpu_request", "memory_request_bytes"),
    ] {
        let Some(list) = resources.and_then(|resources| resources.get(kind)) else {
            continue;
        };
        if let Some(gpu) = list.get("nvidia.com/gpu").or_else(|| list.get("amd.com/gpu")) {
            match gpu.text().and_then(|text| text.trim().parse::<u64>().ok()) {
                Some(count) => put(found, gpus, count, gpu.span()),
                None if gpu.as_f64().is_some() => put(found, "gpu_fractional", true, gpu.span()),
                None => {}
            }
        }
        bytes(found, memory, list.get("memory"));
    }
    let limit = |key: &str| resources?.at(&["limits", key]);
    bytes(found, "ephemeral_storage_limit_bytes", limit("ephemeral-storage"));
    if let Some(cpu) = limit("cpu")
        && let Some(count) = cpus(cpu)
    {
        put(found, "cpu_limit", count, cpu.span());
    }
    derive(
        found,
        "accelerator_resource_open",
        may_get_accelerators(spec, node),
        [],
    );
}

fn bytes(found: &mut Settings, id: &str, node: Option<Node<'_>>) {
    if let Some(node) = node
        && let Some(bytes) = node.text().and_then(parse_bytes)
    {
        put(found, id, bytes, node.span());
    }
}

/// CPUs: `4`, `0.5`, `500m`.
fn cpus(node: Node<'_>) -> Option<f64> {
    let text = node.text()?.trim();
    let count = match text.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().ok()? / 1000.0,
        None => text.parse().ok()?,
    };
    (count.is_finite() && count > 0.0).then_some(count)
}

/// True where accelerators may come by another way than `nvidia.com/gpu` and its like.
fn may_get_accelerators(spec: Node<'_>, node: Node<'_>) -> bool {
    let resources = node.get("resources");
    let extended = ["limits", "requests"].into_iter().any(|kind| {
        let list = resources.and_then(|resources| resources.get(kind));
        list.map(Node::entries)
            .unwrap_or_default()
            .iter()
            .any(|(key, _)| key.text().is_some_and(|name| name.contains(['/', '{', '$'])))
    });
    let templated = resources.is_some_and(|resources| {
        resources.shape() == Shape::Scalar
            || resources
                .entries()
                .iter()
                .any(|(_, value)| value.shape() == Shape::Scalar)
    });
    let claims = resources.is_some_and(|resources| resources.get("claims").is_some());
    let privileged = node
        .at(&["securityContext", "privileged"])
        .and_then(Node::as_bool)
        == Some(true);
    let visible = node.get("env").into_iter().flat_map(Node::items).any(|entry| {
        let name = entry.get("name").and_then(Node::text).unwrap_or("");
        name.ends_with("_VISIBLE_DEVICES")
    });
    let device = spec
        .get("volumes")
        .into_iter()
        .flat_map(Node::items)
        .any(|volume| {
            let path = volume.at(&["hostPath", "path"]).and_then(Node::text);
            path.is_some_and(|path| path.starts_with("/dev") || path.contains("nvidia"))
        });
    let anywhere = spec.get("runtimeClassName").is_some() || spec.get("resourceClaims").is_some();
    extended || templated || claims || privileged || visible || device || anywhere
}

/// `/dev/shm`: what is mounted there, else the 64 MiB that container runtimes give (containerd
/// `oci/spec.go` and CRI-O mount a tmpfs of 65536k).
fn shared_memory(spec: Node<'_>, container: &Container, found: &mut Settings) {
    flag(found, "ipc_host", spec.get("hostIPC"));
    let at = |volume: &&Volume| volume.path.trim_end_matches('/') == "/dev/shm";
    match container.volumes.iter().find(at) {
        Some(volume) => {
            put(found, "shm_declared", true, volume.span);
            if let Some(bytes) = &volume.bytes {
                let span = bytes.span().unwrap_or(volume.span);
                put(found, "shm_bytes", bytes.value, span);
                if volume.kind == "memory" {
                    put(found, "shm_limit_bytes", bytes.value, span);
                }
            }
        }
        None if container.volumes_open => {}
        None => {
            derive(found, "shm_declared", false, []);
            derive(found, "shm_bytes", 64 * 1024 * 1024, []);
        }
    }
}

/// A probe: its key, and the ids of what it says.
#[derive(Clone, Copy)]
struct Probe {
    key: &'static str,
    path: &'static str,
    port: &'static str,
    timeout: &'static str,
    budget: Option<&'static str>,
}

const PROBES: [Probe; 3] = [
    Probe {
        key: "startupProbe",
        path: "startup_path",
        port: "startup_port",
        timeout: "startup_timeout_seconds",
        budget: Some("startup_budget_seconds"),
    },
    Probe {
        key: "livenessProbe",
        path: "liveness_path",
        port: "liveness_port",
        timeout: "liveness_timeout_seconds",
        budget: Some("liveness_budget_seconds"),
    },
    Probe {
        key: "readinessProbe",
        path: "readiness_path",
        port: "readiness_port",
        timeout: "readiness_timeout_seconds",
        budget: None,
    },
];

/// What a probe says. Defaults: period 10 s, 3 failures, timeout 1 s, no initial delay (core/v1 `Probe`).
fn probe(container: Node<'_>, probe: Probe, found: &mut Settings) {
    let Some((key, node)) = container
        .entry(probe.key)
        .filter(|(_, node)| node.shape() == Shape::Mapping)
    else {
        return;
    };
    let number = |name: &str, default: u64| match node.get(name) {
        None => Some((default, None)),
        Some(value) => value.as_u64().map(|number| (number, Some(value.span()))),
    };
    match number("timeoutSeconds", 1) {
        Some((seconds, Some(span))) => put(found, probe.timeout, seconds, span),
        Some((seconds, None)) => derive(found, probe.timeout, seconds, [key.span()]),
        None => {}
    }
    let parts = (
        number("initialDelaySeconds", 0),
        number("periodSeconds", 10),
        number("failureThreshold", 3),
    );
    if let (Some(id), (Some(delay), Some(period), Some(failures))) = (probe.budget, parts) {
        let budget = delay
            .0
            .saturating_add(period.0.max(1).saturating_mul(failures.0.max(1)));
        let spans = [failures.1, period.1, delay.1, Some(key.span())];
        derive(found, id, budget, spans.into_iter().flatten());
    }
    let action = node.get("httpGet");
    if let Some(path) = action.and_then(|action| action.get("path"))
        && let Some(text) = path.text()
    {
        put(found, probe.path, text, path.span());
    }
    let port = action
        .or_else(|| node.get("tcpSocket"))
        .and_then(|action| action.get("port"));
    if let Some(port) = port
        && let Some(number) = port_number(container, port)
    {
        put(found, probe.port, number, port.span());
    }
}

/// A port by number, or by the name that the container gives it.
fn port_number(container: Node<'_>, port: Node<'_>) -> Option<u16> {
    let text = port.text()?;
    if let Ok(number) = text.trim().parse() {
        return Some(number);
    }
    let mut ports = container.get("ports")?.items();
    let named = ports.find(|item| item.get("name").and_then(Node::text) == Some(text))?;
    named.get("containerPort")?.text()?.trim().parse().ok()
}

/// Who runs it, and whether it can write where the hub's files go.
fn user(spec: Node<'_>, node: Node<'_>, container: &mut Container, found: &mut Settings) {
    let context = |key: &str| {
        node.at(&["securityContext", key])
            .or_else(|| spec.at(&["securityContext", key]))
    };
    flag(
        found,
        "read_only_root",
        node.at(&["securityContext", "readOnlyRootFilesystem"]),
    );
    flag(found, "run_as_non_root", context("runAsNonRoot"));
    let uid = context("runAsUser");
    if let Some(uid) = uid
        && let Some(number) = uid.as_u64()
    {
        put(found, "run_as_user", number, uid.span());
    }
    let root = match uid {
        Some(uid) => uid.as_u64() == Some(0),
        None => context("runAsNonRoot").is_none_or(|node| node.as_bool() == Some(false)),
    };
    container.user_is_root = root;
    let read_only = node
        .at(&["securityContext", "readOnlyRootFilesystem"])
        .and_then(Node::as_bool)
        == Some(true);
    let environment = &container.environment;
    let set = [
        "HOME",
        "HF_HOME",
        "XDG_CACHE_HOME",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
    ]
    .iter()
    .find_map(|name| environment.get(name));
    if set.is_some() || !container.environment_open {
        derive(found, "home_set", set.is_some(), []);
    }
    if container.environment_open || container.volumes_open {
        return;
    }
    let covered = |path: &str| {
        let near = |volume: &Volume| volume.path.starts_with(path) || path.starts_with(volume.path.as_str());
        container
            .volumes
            .iter()
            .any(|volume| volume.writable && near(volume))
    };
    let writable = match set {
        // Where a user who is not root may write outside of his home is the image's business.
        Some(_) if !read_only => return,
        Some(variable) => match variable.fact() {
            Some(path) => covered(&path.value),
            None => return,
        },
        // A number without a name in the image has / for its home (runc `user.GetExecUser`).
        None if !root => covered("/.cache"),
        None => !read_only || covered("/root/.cache"),
    };
    derive(found, "cache_writable", writable, uid.map(Node::span));
}

/// Words in the keys of node selection and tolerations that speak of accelerators.
const GPU_KEYS: [&str; 5] = [
    "nvidia.com/",
    "amd.com/gpu",
    "gke-accelerator",
    "gpu",
    "accelerator",
];

fn gpu_node(spec: Node<'_>, found: &mut Settings) {
    let speaks = |text: &str| GPU_KEYS.iter().any(|word| text.contains(word));
    let selector = spec.get("nodeSelector").map(Node::entries).unwrap_or_default();
    let selected = selector
        .iter()
        .find(|(key, value)| key.text().is_some_and(speaks) && value.text() != Some("false"))
        .map(|(key, _)| key.span());
    let mut tolerations = spec.get("tolerations").into_iter().flat_map(Node::items);
    let tolerated = tolerations.find_map(|one| {
        let key = one.get("key")?;
        key.text().is_some_and(speaks).then(|| key.span())
    });
    match selected.or(tolerated) {
        Some(span) => put(found, "gpu_node", true, span),
        None => derive(found, "gpu_node", false, []),
    }
}

/// The volumes that a container mounts.
fn volumes(spec: Node<'_>, node: Node<'_>, input: &Input<'_>) -> Vec<Volume> {
    let all: Vec<Node<'_>> = spec.get("volumes").into_iter().flat_map(Node::items).collect();
    let mounts = node.get("volumeMounts").into_iter().flat_map(Node::items);
    mounts
        .filter_map(|mount| {
            let path = mount.get("mountPath")?;
            let name = mount.get("name").and_then(Node::text);
            let volume = all
                .iter()
                .find(|volume| volume.get("name").and_then(Node::text) == name);
            let mut found = match volume {
                Some(volume) => kind(*volume, path, input),
                // A StatefulSet makes claims from templates that stand outside of the pod.
                None => plain("volume", path),
            };
            path.text()?.clone_into(&mut found.path);
            found.writable = mount.get("readOnly").and_then(Node::as_bool) != Some(true);
            Some(found)
        })
        .collect()
}

fn plain(kind: &'static str, place: Node<'_>) -> Volume {
    Volume {
        path: String::new(),
        kind,
        bytes: None,
        access: None,
        writable: true,
        span: place.mention(),
    }
}

fn size(node: Option<Node<'_>>) -> Option<Fact<u64>> {
    let node = node?;
    Some(Fact::at(parse_bytes(node.text()?)?, node.mention()))
}

fn kind(volume: Node<'_>, place: Node<'_>, input: &Input<'_>) -> Volume {
    if let Some(empty) = volume.get("emptyDir") {
        let memory = empty.get("medium").and_then(Node::text) == Some("Memory");
        let mut found = plain(if memory { "memory" } else { "emptyDir" }, place);
        found.bytes = size(empty.get("sizeLimit"));
        return found;
    }
    let template = volume.at(&["ephemeral", "volumeClaimTemplate", "spec"]);
    let claim = volume
        .at(&["persistentVolumeClaim", "claimName"])
        .and_then(Node::text);
    let object = claim.and_then(|name| input.world.object(input.file, "PersistentVolumeClaim", name));
    if claim.is_some() || template.is_some() {
        let mut found = plain("pvc", place);
        let claimed = object.and_then(|object| object.node.get("spec")).or(template);
        if let Some(spec) = claimed {
            found.bytes = size(spec.at(&["resources", "requests", "storage"]));
            found.access = access(spec);
        }
        return found;
    }
    plain(
        if volume.get("hostPath").is_some() {
            "hostPath"
        } else {
            "other"
        },
        place,
    )
}

fn access(claim: Node<'_>) -> Option<Fact<String>> {
    let modes = claim.get("accessModes")?;
    let words: Vec<&str> = modes.items().filter_map(Node::text).collect();
    let place = modes.items().next().map_or_else(|| modes.span(), Node::span);
    (!words.is_empty()).then(|| Fact::at(words.join(" "), place))
}

/// What the object that makes the pods adds, and the Services beside it.
pub(super) fn of_object(
    deployment: &mut Deployment,
    object: Node<'_>,
    spec: Option<Node<'_>>,
    input: &Input<'_>,
) {
    if deployment.surroundings.get("platform").is_none() {
        return;
    }
    let kind = object.get("kind");
    if let Some(kind) = kind
        && let Some(text) = kind.text()
    {
        put(&mut deployment.surroundings, "owner", text, kind.span());
        if text == "Deployment" {
            rollout(deployment, object);
        }
    }
    if let Some(spec) = spec {
        service_variable(deployment, object, spec, input);
    }
}

/// The update strategy of a Deployment: 25 % of the pods each, added pods rounded up and missing ones down
/// (kubernetes `pkg/controller/deployment/util` `ResolveFenceposts`).
fn rollout(deployment: &mut Deployment, object: Node<'_>) {
    let found = &mut deployment.surroundings;
    let replicas = match object.at(&["spec", "replicas"]) {
        Some(node) => {
            let Some(count) = node.as_u64() else { return };
            put(found, "replicas", count, node.span());
            count
        }
        None => {
            derive(found, "replicas", 1, []);
            1
        }
    };
    let strategy = object.at(&["spec", "strategy", "type"]);
    let name = strategy.and_then(Node::text);
    match (strategy, name) {
        (Some(node), Some(name)) => put(found, "strategy", name, node.span()),
        (Some(_), None) => return,
        (None, _) => derive(found, "strategy", "RollingUpdate", []),
    }
    if name.is_some_and(|name| name != "RollingUpdate") {
        return;
    }
    let rolling = |key: &str| object.at(&["spec", "strategy", "rollingUpdate", key]);
    let (surge, unavailable) = (rolling("maxSurge"), rolling("maxUnavailable"));
    let (Some(added), Some(missing)) = (share(surge, replicas, true), share(unavailable, replicas, false))
    else {
        return;
    };
    // Neither may be zero together; Kubernetes takes one pod away then.
    let missing = if added == 0 { missing.max(1) } else { missing };
    derive(found, "surge_pods", added, surge.map(Node::span));
    derive(found, "unavailable_pods", missing, unavailable.map(Node::span));
    if let Some(gpus) = found.count("gpu_limit").or_else(|| found.count("gpu_request")) {
        let place = surge.or(strategy).map(Node::span);
        derive(found, "surge_gpus", added.saturating_mul(gpus), place);
    }
}

fn share(node: Option<Node<'_>>, replicas: u64, up: bool) -> Option<u64> {
    let text = match node {
        None => "25%",
        Some(node) => node.text()?.trim(),
    };
    match text.strip_suffix('%') {
        Some(percent) => {
            let part = replicas.checked_mul(percent.trim().parse().ok()?)?;
            Some(if up { part.div_ceil(100) } else { part / 100 })
        }
        None => text.parse().ok(),
    }
}

/// Variables that engines read and that a Service's links can set: `{NAME}_PORT` of a Service called so
/// (vllm `envs.py`, `get_vllm_port`, refuses an address).
const LINKED: [(Engine, &str, &str); 1] = [(Engine::Vllm, "vllm", "VLLM_PORT")];

fn service_variable(deployment: &mut Deployment, object: Node<'_>, spec: Node<'_>, input: &Input<'_>) {
    let Some(engine) = deployment.engine.as_ref().map(|engine| engine.value) else {
        return;
    };
    let Some((_, name, variable)) = LINKED.iter().find(|row| row.0 == engine) else {
        return;
    };
    if spec.get("enableServiceLinks").is_some() || sets(spec, variable) {
        return;
    }
    // A kustomization gives its objects other names and namespaces.
    let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    if names
        .iter()
        .any(|name| input.world.file(&input.file.folder, name).is_some())
    {
        return;
    }
    let text = |node: Node<'_>, path: &[&str]| node.at(path).and_then(Node::text).map(str::to_owned);
    let namespace = text(object, &["metadata", "namespace"]);
    for service in input.world.objects_of_kind("Service") {
        let near = service.file.folder == input.file.folder;
        let same = near && text(service.node, &["metadata", "namespace"]) == namespace;
        let linked = text(service.node, &["spec", "clusterIP"]).as_deref() != Some("None")
            && text(service.node, &["spec", "type"]).as_deref() != Some("ExternalName")
            && service.node.at(&["spec", "ports"]).is_some();
        let core = text(service.node, &["apiVersion"]).as_deref() == Some("v1");
        let Some(place) = service.node.at(&["metadata", "name"]) else {
            continue;
        };
        if same && linked && core && place.text() == Some(name) {
            put(
                &mut deployment.surroundings,
                "service_variable",
                variable,
                place.span(),
            );
            return;
        }
    }
}

/// True where a container of the pod sets a variable itself, which wins.
fn sets(spec: Node<'_>, variable: &str) -> bool {
    let containers = spec.get("containers").into_iter().flat_map(Node::items);
    containers
        .flat_map(|container| container.get("env").into_iter().flat_map(Node::items))
        .any(|entry| entry.get("name").and_then(Node::text) == Some(variable))
}

#[cfg(test)]
mod tests {
    use crate::manifest::fixtures::deployments;

    fn pod(rest: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: chat}}\nspec:\n  replicas: 4\n  template:\n    spec:\n\
             {rest}"
        )
    }

    fn known(text: &str, id: &str) -> Option<String> {
        let found = deployments("x.yaml", text);
        found.first()?.surroundings.text(id).map(str::to_owned)
    }

    const ENGINE: &str = "      containers:\n      - name: e\n        image: vllm/vllm-openai:v0.11.0\n        args: [--model, a/b]\n";

    #[test]
    fn a_probe_without_numbers_has_those_of_kubernetes() {
        let text = pod(&format!(
            "{ENGINE}        livenessProbe: {{httpGet: {{path: /health, port: 8000}}}}\n"
        ));
        assert_eq!(known(&text, "liveness_budget_seconds").as_deref(), Some("30"));
        assert_eq!(known(&text, "liveness_timeout_seconds").as_deref(), Some("1"));
        assert_eq!(known(&text, "startup_budget_seconds"), None);
    }

    #[test]
    fn shares_of_an_update_are_rounded_as_kubernetes_rounds_them() {
        let text = pod(&format!(
            "{ENGINE}        resources: {{limits: {{nvidia.com/gpu: 2}}}}\n"
        ));
        assert_eq!(known(&text, "surge_pods").as_deref(), Some("1"));
        assert_eq!(known(&text, "unavailable_pods").as_deref(), Some("1"));
        assert_eq!(known(&text, "surge_gpus").as_deref(), Some("2"));
    }

    #[test]
    fn variables_of_a_secret_leave_the_token_open() {
        let open = pod(&format!(
            "{ENGINE}        envFrom: [{{secretRef: {{name: hub}}}}]\n"
        ));
        assert_eq!(known(&open, "hf_token"), None);
        assert_eq!(known(&pod(ENGINE), "hf_token").as_deref(), Some("false"));
    }

    #[test]
    fn a_templated_port_is_not_known() {
        let text = ENGINE.replace("[--model, a/b]", "[--model, a/b, --port, \"$(PORT)\"]");
        assert_eq!(known(&pod(&text), "listen_port"), None);
        assert_eq!(known(&pod(ENGINE), "listen_port").as_deref(), Some("8000"));
    }
}
