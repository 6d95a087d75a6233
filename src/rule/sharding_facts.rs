//! Facts about how a deployment is spread over accelerators, and what its model allows.
//!
//! In: a deployment and, where it was found, its model. Out: numbers that rules compare. A number is absent where
//! anything that it is made of is a variable: a rule then says nothing. What the settings mean for each engine is
//! in [`crate::engine::sharding`]; nothing here knows machines.

use crate::engine::Engine;
use crate::fact::Origin;
use crate::manifest::Deployment;
use crate::memory::layout::Cache;
use crate::model::{Model, Quantization};

use super::facts::View;

/// Resources whose unit is one device of the engine's. A Neuron device has several cores, a TPU host several chips.
const ONE_DEVICE_EACH: [&str; 2] = ["nvidia.com/", "amd.com/"];

/// Words by which a file says that an engine works together with pods or nodes that it does not count.
const JOINS_OTHERS: [&str; 20] = [
    "--data-parallel-address",
    "--dist-init-addr",
    "--headless",
    "--nnodes",
    "--node-rank",
    "KUBERAY",
    "LWS_LEADER",
    "MASTER_ADDR",
    "RAY_ADDRESS",
    "RayCluster",
    "RayService",
    "distributed-executor-backend",
    "distributed_executor_backend",
    "external_launcher",
    "mpirun",
    "multi-node-serving",
    "ray start",
    "raySpec",
    "run_cluster",
    "workerSpec",
];

/// Accelerators of one pod, container or node, where they are devices of the engine's.
pub(super) fn accelerators(deployment: &Deployment) -> Option<u64> {
    let resource = deployment.accelerators.resource.as_ref();
    let counts_devices = |name: &str| ONE_DEVICE_EACH.iter().any(|known| name.starts_with(known));
    let is_known = resource.is_none_or(|resource| counts_devices(&resource.value));
    deployment.accelerators.number().filter(|_| is_known)
}

/// Pods or nodes that serve one copy together, as far as the declaration counts them.
pub(super) fn nodes(deployment: &Deployment) -> u64 {
    deployment.settings.count("nodes").unwrap_or(1).max(1)
}

/// Accelerators of all the nodes together.
pub(super) fn accelerators_total(deployment: &Deployment) -> Option<u64> {
    accelerators(deployment)?.checked_mul(nodes(deployment))
}

/// True where one copy is served together with others that the declaration does not count.
pub(super) fn joins_uncounted_pods(view: &View<'_>) -> Option<bool> {
    let deployment = view.deployment?;
    if nodes(deployment) > 1 {
        return Some(false);
    }
    let source = view.sources.get(deployment.file)?;
    // Another object of the file may start the cluster, and arguments may come from a file of their own.
    let says_so = |text: &str| JOINS_OTHERS.iter().any(|word| text.contains(word));
    Some(says_so(source.text()) || deployment.args.iter().any(|word| says_so(&word.value)))
}

/// A degree of parallelism; 1 where none is declared, absent where it is a variable.
fn degree(deployment: &Deployment, id: &str) -> Option<u64> {
    match deployment.settings.get(id) {
        None => Some(1),
        Some(_) => deployment.settings.count(id).filter(|count| *count > 0),
    }
}

/// Accelerators that the engine's processes here need: one copy of the model, times the replicas that run beside it
/// in the same pod. vLLM `config/parallel.py` (0.33), SGLang `server_args.py` (0.5.23).
pub(super) fn world_size(deployment: &Deployment) -> Option<u64> {
    let engine = deployment.sized_as()?;
    if !matches!(
        engine,
        Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorrtLlm
    ) {
        return None;
    }
    let copy = ["tensor_parallel", "pipeline_parallel", "prefill_context_parallel"]
        .iter()
        .try_fold(1_u64, |product, id| product.checked_mul(degree(deployment, id)?))?;
    copy.checked_mul(local_replicas(deployment, engine)?)
}

/// Replicas of the model in one pod.
fn local_replicas(deployment: &Deployment, engine: Engine) -> Option<u64> {
    let replicas = degree(deployment, "data_parallel")?;
    let shares_ranks = deployment.settings.flag("dp_attention") == Some(true)
        || deployment.settings.get("attention_data_parallel").is_some();
    let placed_elsewhere = nodes(deployment) > 1
        || deployment.args.iter().any(|word| {
            let word = word.value.as_str();
            word.starts_with("--data-parallel-") && !word.starts_with("--data-parallel-size")
        });
    match engine {
        Engine::Vllm
            if deployment.settings.get("data_parallel_local").is_some() && nodes(deployment) == 1 =>
        {
            degree(deployment, "data_parallel_local")
        }
        Engine::Vllm if placed_elsewhere => Some(1),
        Engine::Sglang if shares_ranks || nodes(deployment) > 1 => Some(1),
        Engine::Vllm | Engine::Sglang => Some(replicas),
        _ => Some(1),
    }
}

/// Ranks that share the attention heads of a layer.
pub(super) fn attention_ranks(deployment: &Deployment) -> Option<u64> {
    let tensor = degree(deployment, "tensor_parallel")?;
    match deployment.sized_as()? {
        Engine::Vllm | Engine::Tgi | Engine::TensorrtLlm => Some(tensor),
        Engine::Sglang => {
            let groups = if deployment.settings.flag("dp_attention") == Some(true) {
                degree(deployment, "data_parallel")?
            } else {
                degree(deployment, "attention_data_parallel")?
            };
            let contexts = degree(deployment, "attention_context_parallel")?;
            Some((tensor / groups.checked_mul(contexts)?.max(1)).max(1))
        }
        _ => None,
    }
}

/// Tensor-parallel sizes of at most `most` that divide the attention heads and suit the KV heads.
fn suitable(model: &Model, most: u64) -> Option<Vec<u64>> {
    let heads = model.dims.num_heads.as_ref()?.value;
    let kv_heads = model.dims.num_kv_heads.as_ref().map_or(heads, |fact| fact.value);
    let kv_suits =
        |ranks: u64| kv_heads.is_multiple_of(ranks) || (kv_heads > 0 && ranks.is_multiple_of(kv_heads));
    let most = most.min(heads).min(256);
    let sizes = (1..=most)
        .filter(|ranks| heads.is_multiple_of(*ranks) && (is_mla(model) == Some(true) || kv_suits(*ranks)));
    Some(sizes.collect())
}

/// What may be asked for in the place of the declared size: as many as there are accelerators, else at most 16.
fn most(view: &View<'_>) -> Option<u64> {
    Some(
        accelerators_total(view.deployment?)
            .filter(|count| *count > 0)
            .unwrap_or(16),
    )
}

/// The sizes that work, in words: "1, 2, 4 or 7".
pub(super) fn suitable_words(view: &View<'_>) -> Option<String> {
    let sizes = suitable(view.model?, most(view)?)?;
    let words: Vec<String> = sizes.iter().map(u64::to_string).collect();
    Some(match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    })
}

/// The largest size that works and is no more than the declared one.
pub(super) fn largest_suitable(view: &View<'_>) -> Option<u64> {
    let declared = degree(view.deployment?, "tensor_parallel")?;
    suitable(view.model?, most(view)?.min(declared))?.last().copied()
}

/// The most KV heads of any layer: more ranks than that store copies in every layer.
pub(super) fn sharded_kv_heads(model: &Model) -> Option<u64> {
    let layout = model.layout.as_ref().ok()?;
    layout
        .groups
        .iter()
        .filter_map(|group| match group.cache {
            Cache::Attention { kv_heads, .. } => Some(kv_heads),
            _ => None,
        })
        .max()
}

/// Times that every token is stored: ranks for each KV head. 1 where the heads suffice.
pub(super) fn kv_copies(view: &View<'_>) -> Option<u64> {
    let ranks = attention_ranks(view.deployment?)?;
    let heads = sharded_kv_heads(view.model?)?;
    ranks.checked_div(heads).map(|copies| copies.max(1))
}

/// KV heads of the layers that neither divide over the ranks nor are divided by them.
pub(super) fn uneven_kv_heads(view: &View<'_>) -> Option<u64> {
    let ranks = attention_ranks(view.deployment?)?;
    let layout = view.model?.layout.as_ref().ok()?;
    layout.groups.iter().find_map(|group| match group.cache {
        Cache::Attention { kv_heads, .. }
            if kv_heads > 0 && !kv_heads.is_multiple_of(ranks) && !ranks.is_multiple_of(kv_heads) =>
        {
            Some(kv_heads)
        }
        _ => None,
    })
}

/// True for models that cache one latent for all heads.
pub(super) fn is_mla(model: &Model) -> Option<bool> {
    let layout = model.layout.as_ref().ok()?;
    Some(
        layout
            .groups
            .iter()
            .any(|group| matches!(group.cache, Cache::Latent { .. })),
    )
}

/// True for models with layers that keep a state of fixed size.
pub(super) fn has_recurrent_layers(model: &Model) -> Option<bool> {
    let layout = model.layout.as_ref().ok()?;
    Some(
        layout
            .groups
            .iter()
            .any(|group| matches!(group.cache, Cache::Recurrent { .. })),
    )
}

/// Sections of config.json that hold the text model.
const TEXT_SECTIONS: [&str; 5] = [
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "model",
];

/// A count of the text model's config.
pub(super) fn config_count(model: &Model, keys: &[&str]) -> Option<u64> {
    let config = model.config.as_ref()?;
    let sections = TEXT_SECTIONS.iter().filter_map(|section| config.get(section));
    let mut places = sections.chain([config]);
    places.find_map(|place| keys.iter().find_map(|key| place.get(key)?.as_u64()))
}

/// How the weights are quantized, where a config says so. What a name alone tells (`...-AWQ`) may be wrong about the
/// method, though not about the bits.
pub(super) fn stated_quantization(model: &Model) -> Option<&Quantization> {
    let stated = model.quantization.as_ref();
    Some(
        &stated
            .filter(|fact| !matches!(fact.origin, Origin::Derived(_)))?
            .value,
    )
}

/// Rows and columns of a block of FP8 weights that share a scale.
pub(super) fn weight_block(model: &Model) -> Option<u64> {
    let format = &model.quantization.as_ref()?.value;
    let area = format.group_size.filter(|_| format.method == "fp8")?;
    Some(area.isqrt())
}

/// Endings of the classes that pool instead of generating (vLLM 0.33 `config/model.py`, `_SUFFIX_TO_DEFAULTS`).
const POOLING: [&str; 9] = [
    "ForTextEncoding",
    "EmbeddingModel",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForAudioClassification",
    "ForImageClassification",
    "ForVideoClassification",
    "ClassificationModel",
    "ForRewardModeling",
];

/// True where the class that loads the model pools.
pub(super) fn is_pooling(model: &Model) -> Option<bool> {
    let architecture = &model.architecture.as_ref()?.value;
    let pools = |end: &str| architecture.ends_with(end);
    Some(POOLING.iter().any(|end| pools(end)) || architecture.ends_with("RewardModel"))
}

/// True where the config has a vision tower.
pub(super) fn has_vision(model: &Model) -> Option<bool> {
    let config = model.config.as_ref()?;
    Some(
        ["vision_config", "visual", "vision_tower", "mm_vision_tower"]
            .iter()
            .any(|key| config.get(key).is_some()),
    )
}
