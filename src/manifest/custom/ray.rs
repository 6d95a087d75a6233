//! Ray Serve LLM: `RayService` with its `serveConfigV2`, Serve configs and LLM configs by themselves, and the files
//! of the older ray-llm, in ConfigMaps too.
//!
//! Source: ray-project/ray python/ray/llm/_internal/serve (LLMConfig); ray-llm's `models/` of 0.3.

use super::ray_pods::{self, Workers};
use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::command::{Environment, Words};
use crate::manifest::container::Container;
use crate::manifest::keys::{self, is_object};
use crate::manifest::{AcceleratorKind, Count, Declared, Deployment, Format, Input};
use crate::source::tree::{Node, Shape, Tree};

/// The label under which `catalog/machines` knows Ray's accelerator types.
const TYPES: &str = "ray.io/accelerator-type";

/// True for such an object or file.
pub fn recognizes(input: &Input<'_>) -> bool {
    let root = input.root;
    if is_object(root, "ray.io", &["RayService"]) {
        return root.at(&["spec", "serveConfigV2"]).is_some();
    }
    if root.get("kind").and_then(Node::text) == Some("ConfigMap") {
        return texts(root).any(|(_, text)| text.text().is_some_and(mentions_models));
    }
    root.get("kind").is_none() && holds_models(root)
}

/// True for a text that may hold an LLM config.
fn mentions_models(text: &str) -> bool {
    ["llm_configs", "model_loading_config", "engine_config"]
        .iter()
        .any(|key| text.contains(key))
}

/// True for a Serve config with LLM configs, or one LLM config by itself.
fn holds_models(root: Node<'_>) -> bool {
    let one = root.get("model_loading_config").is_some();
    let old = root.get("engine_config").is_some() && root.get("scaling_config").is_some();
    one || old
        || root
            .get("llm_configs")
            .is_some_and(|list| list.shape() == Shape::Sequence)
        || root
            .get("applications")
            .into_iter()
            .flat_map(Node::items)
            .any(|application| application.at(&["args", "llm_configs"]).is_some())
}

/// The texts of a ConfigMap.
fn texts(map: Node<'_>) -> impl Iterator<Item = (Node<'_>, Node<'_>)> {
    map.get("data").map(Node::entries).unwrap_or_default().into_iter()
}

/// Reads such an object or file.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let root = input.root;
    if let Some(config) = root.at(&["spec", "serveConfigV2"]) {
        let workers = ray_pods::of_cluster(root.at(&["spec", "rayClusterConfig"]), input);
        if config.shape() == Shape::Mapping {
            serve_config(&mut declared, input, config, &workers);
        } else {
            let tree = Tree::embedded(input.source(), config);
            for document in &tree.documents {
                serve_config(&mut declared, input, document.root(), &workers);
            }
        }
    } else if root.get("kind").and_then(Node::text) == Some("ConfigMap") {
        for (_, text) in texts(root).filter(|(_, text)| text.text().is_some_and(mentions_models)) {
            let tree = Tree::embedded(input.source(), text);
            for document in &tree.documents {
                if holds_models(document.root()) {
                    serve_config(&mut declared, input, document.root(), &Workers::default());
                }
            }
        }
    } else {
        serve_config(&mut declared, input, root, &Workers::default());
    }
    declared
}

/// A Serve config, or one LLM config.
fn serve_config(declared: &mut Declared, input: &Input<'_>, root: Node<'_>, workers: &Workers) {
    if root.get("model_loading_config").is_some() || root.get("engine_config").is_some() {
        llm(declared, input, root, workers);
    }
    for config in root.get("llm_configs").into_iter().flat_map(Node::items) {
        llm(declared, input, config, workers);
    }
    for application in root.get("applications").into_iter().flat_map(Node::items) {
        match application.at(&["args", "llm_configs"]) {
            Some(configs) => {
                for config in configs.items() {
                    llm(declared, input, config, workers);
                }
            }
            None => application_of_ones_own(declared, input, application, workers),
        }
    }
}

/// One LLM config. A text in its place is the path of a file, which is read by itself.
fn llm(declared: &mut Declared, input: &Input<'_>, config: Node<'_>, workers: &Workers) {
    if config.shape() != Shape::Mapping {
        return;
    }
    let loading = config
        .get("model_loading_config")
        .or_else(|| config.get("engine_config"));
    let Some(loading) = loading else { return };
    let id = loading.get("model_id");
    let name = id.and_then(keys::written);
    let name = name.unwrap_or_else(|| Fact::derived(String::new(), [config.span()]));
    let kwargs = config
        .get("engine_kwargs")
        .or_else(|| loading.get("engine_kwargs"));
    let mut container = Container::new(name, config.span());
    keys::add_environment(
        &mut container.environment,
        config.at(&["runtime_env", "env_vars"]),
        input,
    );
    container.arguments = kwargs.map(|kwargs| Words::List(keys::flags(kwargs, input)));
    container.host_memory_bytes.clone_from(&workers.host_memory_bytes);
    let mut served = keys::serve(container, input, Format::RayServe, Engine::Vllm);
    let deployment = &mut served.deployment;
    let source = ["model_source", "hf_model_id"]
        .iter()
        .find_map(|key| loading.get(key).filter(|source| source.shape() == Shape::Scalar));
    keys::set_model(deployment, input, source.or(id));
    if source.is_some() {
        keys::hint(deployment, id);
    }
    keys::hint(deployment, loading.at(&["model_source", "bucket_uri"]));
    keys::set(deployment, input, "context", loading.get("max_total_tokens"));
    keys::set(
        deployment,
        input,
        "replicas",
        config.at(&["deployment_config", "num_replicas"]),
    );
    accelerators(deployment, config, kwargs, workers);
    served.add_to(declared);
}

/// Kind and number for one engine replica: what it shards over, one where nothing is sharded.
fn accelerators(deployment: &mut Deployment, config: Node<'_>, kwargs: Option<Node<'_>>, workers: &Workers) {
    let kind = config.get("accelerator_type");
    deployment.accelerators.kinds = keys::kind_of(TYPES, kind);
    if deployment.accelerators.kinds.is_empty() {
        deployment.accelerators.kinds = custom_resource(config);
    }
    if deployment.accelerators.kinds.is_empty() {
        deployment.accelerators.kinds.clone_from(&workers.kinds);
    }
    let scaling = config.get("scaling_config");
    let size = |key: &str| kwargs.and_then(|kwargs| kwargs.get(key));
    let scaled = |key: &str| scaling.and_then(|scaling| scaling.get(key));
    let shards: Vec<Node<'_>> = match (scaled("num_gpus_per_worker"), scaled("num_workers")) {
        (Some(each), workers) => [Some(each), workers].into_iter().flatten().collect(),
        (None, _) => ["tensor_parallel_size", "pipeline_parallel_size"]
            .iter()
            .filter_map(|key| size(key))
            .collect(),
    };
    let numbers: Option<Vec<u64>> = shards.iter().map(|shard| shard.as_u64()).collect();
    let count = match numbers.as_deref() {
        Some([]) => (kind.is_some() || workers.accelerators).then_some(1),
        Some(numbers) => numbers
            .iter()
            .try_fold(1_u64, |all, number| all.checked_mul(*number)),
        None => None,
    };
    let places: Vec<_> = shards
        .iter()
        .map(|shard| shard.mention())
        .chain(kind.map(Node::mention))
        .collect();
    deployment.accelerators.count = count.map(|count| Fact::derived(Count::Number(count), places));
    deployment.accelerators.resource.clone_from(&workers.resource);
}

/// ray-llm names the accelerator in a resource of its own: `accelerator_type_l4: 0.01`.
fn custom_resource(config: Node<'_>) -> Vec<AcceleratorKind> {
    let holders = [
        config.at(&["scaling_config", "resources_per_worker"]),
        config.at(&["deployment_config", "ray_actor_options", "resources"]),
    ];
    let named = holders
        .into_iter()
        .flatten()
        .flat_map(Node::entries)
        .find_map(|(key, _)| Some((key, key.text()?.strip_prefix("accelerator_type")?)));
    let Some((key, name)) = named else {
        return Vec::new();
    };
    // Ray's own names are in capitals with dashes (`A100-40G`); resources were written in small letters.
    let name = name
        .trim_start_matches(['_', ':'])
        .replace('_', "-")
        .to_ascii_uppercase();
    vec![AcceleratorKind {
        label: Some(TYPES.to_owned()),
        name: Fact::at(name, key.span()),
        count: None,
    }]
}

/// An application of one's own around vLLM that takes its settings from the environment, as the samples of Kuberay
/// do. Anything else is no language model for all that the file says.
fn application_of_ones_own(
    declared: &mut Declared,
    input: &Input<'_>,
    application: Node<'_>,
    workers: &Workers,
) {
    let Some(path) = application
        .get("import_path")
        .filter(|path| path.text().is_some_and(|path| path.contains("vllm")))
    else {
        return;
    };
    let mut environment = Environment::default();
    keys::add_environment(
        &mut environment,
        application.at(&["runtime_env", "env_vars"]),
        input,
    );
    if environment.get("MODEL_ID").is_none() {
        return;
    }
    let name = keys::object_name(input.root);
    let mut deployment = Deployment::new(name, input.source().id(), application.span(), Format::RayServe);
    deployment.engine = Some(Fact::derived(Engine::Vllm, [path.mention()]));
    for (variable, id) in [
        ("MODEL_ID", "model"),
        ("MAX_MODEL_LEN", "context"),
        ("TENSOR_PARALLELISM", "tensor_parallel"),
        ("TENSOR_PARALLEL_SIZE", "tensor_parallel"),
        ("PIPELINE_PARALLELISM", "pipeline_parallel"),
        ("PIPELINE_PARALLEL_SIZE", "pipeline_parallel"),
        ("DTYPE", "dtype"),
        ("GPU_MEMORY_UTILIZATION", "memory_fraction"),
        ("MAX_NUM_SEQS", "max_sequences"),
    ] {
        keys::set_variable(&mut deployment, &environment, variable, id);
    }
    deployment.model = deployment.settings.get("model").cloned();
    deployment.accelerators.kinds.clone_from(&workers.kinds);
    deployment.accelerators.count.clone_from(&workers.each);
    deployment.accelerators.resource.clone_from(&workers.resource);
    declared.deployments.push(deployment);
}
