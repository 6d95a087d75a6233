//! The table of facts, sorted by path. A new fact is one row.
//!
//! Bytes are those of the worst rank on one accelerator. Rows that end in words ("on each accelerator") exist
//! so that messages can be one template for one machine and for many.

use std::borrow::Cow;

use crate::engine::args::is_placeholder;
use crate::engine::flags::FlagTable;
use crate::engine::llama_cpp::sharing_sequences;
use crate::engine::{Engine, Version, architectures};
use crate::fact::{Fact, Origin};
use crate::machine::MachineKind;
use crate::manifest::{Deployment, Format, WeightFormat};
use crate::memory::MIB;
use crate::memory::layout::{Cache, Reach};
use crate::memory::recommend::HardwareCapabilities;
use crate::model::{Model, ModelSource};
use crate::scenario::{Estimate, wanted};

use super::deployment_facts as deployment;
use super::facts::Scope::{
    Deployment as OfDeployment, Manifest as OfManifest, Model as OfModel, Scenario as Cell,
};
use super::facts::{FactDefinition, Kind, Place, Read, Scope, Source, Unit, Value, View};
use super::{sharding_facts, units};

/// The most items of a list that rules see: a condition may go through a list inside a list.
const MAX_ITEMS: usize = 1000;

const BYTES: (Kind, Unit) = (Kind::Double, Unit::Bytes);
const TOKENS: (Kind, Unit) = (Kind::Int, Unit::Tokens);
const COUNT: (Kind, Unit) = (Kind::Int, Unit::Count);
const RATIO: (Kind, Unit) = (Kind::Double, Unit::Ratio);
const TEXT: (Kind, Unit) = (Kind::Text, Unit::None);
const BOOL: (Kind, Unit) = (Kind::Bool, Unit::None);
const LIST: (Kind, Unit) = (Kind::List, Unit::None);

const fn row(
    path: &'static str,
    (kind, unit): (Kind, Unit),
    scope: Scope,
    meaning: &'static str,
    read: Read,
    origin: Place,
) -> FactDefinition {
    FactDefinition {
        path,
        kind,
        unit,
        scope,
        meaning,
        source: Source::Row { read, origin },
    }
}

/// Every fact that rules may name.
#[rustfmt::skip]
pub(super) static FACTS: &[FactDefinition] = &[
    row("deployment.accelerators", COUNT, OfDeployment, "accelerators of one pod, container or node; absent where all of the host's are asked for",
        |v| int(sharding_facts::accelerators(v.deployment?)?), accelerators_origin),
    row("deployment.accelerators_total", COUNT, OfDeployment, "those of all the pods or nodes that serve one copy together",
        |v| int(sharding_facts::accelerators_total(v.deployment?)?), accelerators_origin),
    row("deployment.args", LIST, OfDeployment, "the engine's own arguments, word by word",
        |v| Some(words(v.deployment?.args.iter().map(|fact| fact.value.as_str()))), |v| first(&v.deployment?.args)),
    row("deployment.asks_for_accelerators", BOOL, OfDeployment, "true where it asks for at least one accelerator, or for all of the host's",
        |v| Some(Value::Bool(v.deployment?.accelerators.count.is_some() && !v.deployment?.accelerators.is_cpu())), accelerators_origin),
    row("deployment.attention_ranks", COUNT, OfDeployment, "ranks that share the attention heads of a layer; absent where a size is a variable",
        |v| int(sharding_facts::attention_ranks(v.deployment?)?), |v| setting_origin(v, "tensor_parallel")),
    row("deployment.chooses_offload", BOOL, OfDeployment, "true where arguments say what stays in host memory",
        |v| Some(Value::Bool(v.deployment?.settings.offload().is_some())), |v| origin(v.deployment?.settings.offload())),
    row("deployment.context", TOKENS, OfDeployment, "longest declared context, else the model's maximum where the engine takes that",
        |v| int(deployment::context(v)?), deployment::context_origin),
    row("deployment.data_parallel", COUNT, OfDeployment, "replicas that the engine runs side by side",
        |v| setting_count(v, "data_parallel"), |v| setting_origin(v, "data_parallel")),
    row("deployment.engine", TEXT, OfDeployment, "the engine's name; in oomlint's own format mlx where none is given",
        |v| text(engine(v.deployment?)?.name()), |v| origin(v.deployment?.engine.as_ref())),
    row("deployment.engine_version", TEXT, OfDeployment, "the engine's release as written",
        |v| text(&v.deployment?.engine_version.as_ref()?.value), |v| origin(v.deployment?.engine_version.as_ref())),
    row("deployment.file", TEXT, OfDeployment, "path of the file that declares it",
        |v| Some(Value::Text(v.sources.get(v.deployment?.file)?.path().to_owned().into())), nowhere),
    row("deployment.format", TEXT, OfDeployment, "format of the file that declares it",
        |v| text(v.deployment?.format.name()), nowhere),
    row("deployment.has_batch", BOOL, OfDeployment, "true where a number of sequences is declared",
        |v| Some(Value::Bool(!v.deployment?.batch.is_empty())), |v| first(&v.deployment?.batch)),
    row("deployment.has_context", BOOL, OfDeployment, "true where a context is declared",
        |v| Some(Value::Bool(!v.deployment?.context.is_empty())), |v| first(&v.deployment?.context)),
    row("deployment.has_kv_cache", BOOL, OfDeployment, "true where a KV type is declared",
        |v| Some(Value::Bool(!v.deployment?.kv_cache.is_empty())), |v| first(&v.deployment?.kv_cache)),
    row("deployment.has_machine", BOOL, OfDeployment, "true where a machine is declared",
        |v| Some(Value::Bool(!v.deployment?.machines.is_empty())), |v| first(&v.deployment?.machines)),
    row("deployment.host_memory_bytes", BYTES, OfDeployment, "host memory that the pod or container may use",
        |v| bytes(v.deployment?.settings.count("host_memory_bytes")?), |v| setting_origin(v, "host_memory_bytes")),
    row("deployment.host_reserved_bytes", BYTES, OfDeployment, "host memory that settings reserve: offloaded weights, swapped and tiered KV cache",
        |v| bytes(deployment::host_reserved(v)?), deployment::host_reserved_origin),
    row("deployment.image", TEXT, OfDeployment, "the image of its container, with its tag",
        |v| text(&v.deployment?.image.as_ref()?.value), |v| origin(v.deployment?.image.as_ref())),
    row("deployment.image_moves", BOOL, OfDeployment, "true for an image without a tag or with one that moves (latest, nightly, main); absent without an image",
        |v| Some(Value::Bool(image_moves(&v.deployment?.image.as_ref()?.value)?)), |v| origin(v.deployment?.image.as_ref())),
    row("deployment.joins_uncounted_pods", BOOL, OfDeployment, "true where words of the declaration say that pods which it does not count take part (Ray, a launcher)",
        |v| Some(Value::Bool(sharding_facts::joins_uncounted_pods(v)?)), nowhere),
    row("deployment.kv_copies", COUNT, OfDeployment, "times that every token is stored over the ranks: attention ranks for each KV head; 1 where none is repeated",
        |v| int(sharding_facts::kv_copies(v)?), |v| setting_origin(v, "tensor_parallel")),
    row("deployment.max_sequences", COUNT, OfDeployment, "sequences that the engine may run at once",
        |v| setting_count(v, "max_sequences"), |v| setting_origin(v, "max_sequences")),
    row("deployment.memory_fraction", RATIO, OfDeployment, "share of the memory that the engine may take",
        |v| Some(Value::Double(v.deployment?.settings.number("memory_fraction")?)), |v| setting_origin(v, "memory_fraction")),
    row("deployment.model", TEXT, OfDeployment, "the model as written",
        |v| text(&v.deployment?.model.as_ref()?.value), |v| origin(v.deployment?.model.as_ref())),
    row("deployment.model_is_hub_name", BOOL, OfDeployment, "true for owner/name that is no path of the tree",
        |v| Some(Value::Bool(is_hub_name(v)?)), |v| origin(v.deployment?.model.as_ref())),
    row("deployment.name", TEXT, OfDeployment, "its name",
        |v| text(&v.deployment?.name.value), |v| origin(Some(&v.deployment?.name))),
    row("deployment.nodes", COUNT, OfDeployment, "pods or nodes that serve one copy together, 1 where none are declared",
        |v| int(sharding_facts::nodes(v.deployment?)), |v| setting_origin(v, "nodes")),
    row("deployment.pipeline_parallel", COUNT, OfDeployment, "stages that the layers are split into",
        |v| setting_count(v, "pipeline_parallel"), |v| setting_origin(v, "pipeline_parallel")),
    row("deployment.quantization", TEXT, OfDeployment, "the weight format asked for: auto, as-published, or a name",
        |v| Some(Value::Text(asked_format(v)?.name().to_owned().into())), |v| origin(v.deployment?.quantization.as_ref())),
    row("deployment.server", TEXT, OfDeployment, "what serves the model, where that goes by another name than its engine: nim, vllm-omni, ...",
        |v| text(&v.deployment?.server.as_ref()?.value), |v| origin(v.deployment?.server.as_ref())),
    row("deployment.settings", LIST, OfDeployment, "ids of every setting that is declared, in order",
        |v| Some(words(v.deployment?.settings.iter().map(|(id, _)| id))), nowhere),
    row("deployment.suitable_tensor_parallel", TEXT, OfDeployment, "the tensor-parallel sizes that the heads of the model and the accelerators allow, in words",
        |v| Some(Value::Text(sharding_facts::suitable_words(v)?.into())), nowhere),
    row("deployment.suitable_tensor_parallel_below", COUNT, OfDeployment, "the largest of those that is no more than the declared size",
        |v| int(sharding_facts::largest_suitable(v)?), nowhere),
    row("deployment.tensor_parallel", COUNT, OfDeployment, "accelerators that each layer is split over",
        |v| setting_count(v, "tensor_parallel"), |v| setting_origin(v, "tensor_parallel")),
    row("deployment.tokens_per_slot", TOKENS, OfDeployment, "llama.cpp: what each of several slots gets of the context, where they do not share it",
        |v| int(deployment::tokens_per_slot(v)?), |v| setting_origin(v, "parallel")),
    row("deployment.uneven_kv_heads", COUNT, OfDeployment, "KV heads that the attention ranks neither divide nor are a multiple of; absent where all is even",
        |v| int(sharding_facts::uneven_kv_heads(v)?), |v| setting_origin(v, "tensor_parallel")),
    row("deployment.unresolved", LIST, OfDeployment, "fields whose value is a variable or a placeholder",
        |v| Some(words(v.deployment?.unresolved.iter().map(String::as_str))), nowhere),
    row("deployment.world_size", COUNT, OfDeployment, "accelerators that the engine's processes here need: tensor x pipeline x local data parallel; absent where one is a variable",
        |v| int(sharding_facts::world_size(v.deployment?)?), |v| setting_origin(v, "tensor_parallel").or_else(|| setting_origin(v, "pipeline_parallel")).or_else(|| setting_origin(v, "data_parallel"))),

    row("engine.architecture_history", TEXT, OfDeployment, "which release loads the model's class, where the declared one does not: \"0.10.2 has it\"",
        |v| Some(Value::Text(architecture_history(v)?.into())), version_origin),
    row("engine.image", TEXT, OfDeployment, "the container image that the engine runs in, as written",
        |v| text(&v.deployment?.image.as_ref()?.value), |v| origin(v.deployment?.image.as_ref())),
    row("engine.name", TEXT, OfDeployment, "the engine's name; in oomlint's own format mlx where none is given",
        |v| text(engine(v.deployment?)?.name()), |v| origin(v.deployment?.engine.as_ref())),
    row("engine.tool_parsers", LIST, OfDeployment, "the names of tool-call parsers that any release looked at takes; absent where they are not known",
        tool_parsers, nowhere),
    row("engine.version", TEXT, OfDeployment, "the engine's release as written, where it can be read as one",
        |v| engine_version(v).and_then(|_| text(&v.deployment?.engine_version.as_ref()?.value)), version_origin),
    row("engine.version_known", BOOL, OfDeployment, "true where a release is declared that can be read; never absent",
        |v| v.deployment.map(|_| Value::Bool(engine_version(v).is_some())), version_origin),

    row("estimate.basis", TEXT, Cell, "which parts of the sum are exact and which are estimated, in words",
        |v| Some(Value::Text(basis(v)?.into())), nowhere),
    row("estimate.cache_bytes", BYTES, Cell, "KV cache and recurrent states",
        |v| bytes(caches(v.estimate()?)), nowhere),
    row("estimate.cache_name", TEXT, Cell, "what the caches are: KV cache, recurrent states, or both",
        |v| text(cache_name(v.estimate()?)), nowhere),
    row("estimate.certain_bytes", BYTES, Cell, "weights, KV cache and states: what is needed without any overhead",
        |v| bytes(certain(v.estimate()?)), nowhere),
    row("estimate.draft_weights_bytes", BYTES, Cell, "one rank's share of a draft model that the catalog knows",
        |v| bytes(draft_weights(v)?), |v| setting_origin(v, "draft_model")),
    row("estimate.host_bytes", BYTES, Cell, "weights and KV cache that the engine leaves in host memory",
        |v| bytes(v.estimate()?.host_bytes), nowhere),
    row("estimate.kv_budget_bytes", BYTES, Cell, "what the weights leave for KV cache and states; 0 when nothing",
        |v| v.estimate().and_then(|e| bytes(e.usable_bytes.saturating_sub(e.weights_bytes))), nowhere),
    row("estimate.kv_cache_bytes", BYTES, Cell, "KV cache as the engine reserves it",
        |v| bytes(v.estimate()?.kv_cache_bytes), nowhere),
    row("estimate.kv_cache_logical_bytes", BYTES, Cell, "KV cache as the model needs it, whatever the engine",
        |v| bytes(v.estimate()?.kv_cache_logical_bytes), nowhere),
    row("estimate.kv_cache_tokens", TOKENS, Cell, "tokens of the pool that the engine takes",
        |v| int(v.estimate()?.kv_cache_tokens?), nowhere),
    row("estimate.left_for_system_bytes", BYTES, Cell, "unified memory left for the system at estimate.wired_limit_mib",
        |v| bytes(v.machine?.memory_bytes.saturating_sub(wired_limit_mib(v)?.saturating_mul(MIB))), nowhere),
    row("estimate.max_concurrency", RATIO, Cell, "requests of this context that the engine's pool holds",
        |v| Some(Value::Double(v.estimate()?.max_concurrency?)), nowhere),
    row("estimate.max_sequences", COUNT, Cell, "sequences that the engine would run at once, declared or by default",
        |v| int(v.estimate()?.max_sequences?), |v| setting_origin(v, "max_sequences")),
    row("estimate.memory_bytes", BYTES, Cell, "memory of the accelerator",
        |v| bytes(v.estimate()?.memory_bytes), nowhere),
    row("estimate.over_bytes", BYTES, Cell, "how much more is needed than may be used; 0 when it fits",
        |v| v.estimate().and_then(|e| bytes(e.required_bytes.saturating_sub(e.usable_bytes))), nowhere),
    row("estimate.overhead_bytes", BYTES, Cell, "activations, graphs, runtime: the likely amount, an estimate",
        |v| bytes(v.estimate()?.overhead.likely), nowhere),
    row("estimate.overhead_high_bytes", BYTES, Cell, "overhead at most",
        |v| bytes(v.estimate()?.overhead.high), nowhere),
    row("estimate.overhead_low_bytes", BYTES, Cell, "overhead at least",
        |v| bytes(v.estimate()?.overhead.low), nowhere),
    row("estimate.required_bytes", BYTES, Cell, "weights, KV cache, states and the likely overhead",
        |v| bytes(v.estimate()?.required_bytes), nowhere),
    row("estimate.spare_bytes", BYTES, Cell, "what weights, KV cache and states leave for overhead; 0 when nothing",
        |v| v.estimate().and_then(|e| bytes(e.usable_bytes.saturating_sub(certain(e)))), nowhere),
    row("estimate.state_bytes", BYTES, Cell, "recurrent states",
        |v| bytes(v.estimate()?.state_bytes), nowhere),
    row("estimate.state_slots", COUNT, Cell, "vLLM: sequences whose recurrent states the pool has room for, where graphs insist on it",
        |v| int(v.estimate()?.state_slots?), nowhere),
    row("estimate.state_slots_at_most", COUNT, Cell, "the same with the lowest overhead",
        |v| int(v.estimate()?.state_slots_at_most?), nowhere),
    row("estimate.unused_pool_bytes", BYTES, Cell, "what the pool holds beyond as many requests of the context as the engine may run at once",
        |v| Some(Value::Double(unused_pool(v)?)), nowhere),
    row("estimate.usable_bytes", BYTES, Cell, "what the engine may use of the accelerator",
        |v| bytes(v.estimate()?.usable_bytes), nowhere),
    row("estimate.weights_bytes", BYTES, Cell, "weights",
        |v| bytes(v.estimate()?.weights_bytes), nowhere),
    row("estimate.wired_limit_mib", COUNT, Cell, "the macOS GPU limit in MiB under which it all fits, in whole GiB",
        |v| int(wired_limit_mib(v)?), nowhere),

    row("machine.apple_generation", COUNT, Cell, "Apple: the number after the M",
        |v| int(v.machine?.apple_generation?.into()), machine_origin),
    row("machine.capability", TEXT, Cell, "CUDA compute capability in words: 7.0",
        |v| v.machine?.compute_capability.map(|(major, minor)| Value::Text(format!("{major}.{minor}").into())), machine_origin),
    row("machine.compute_capability", RATIO, Cell, "CUDA compute capability, such as 8.9",
        |v| v.machine?.compute_capability.map(|(major, minor)| Value::Double(f64::from(major) + f64::from(minor) / 10.0)), machine_origin),
    row("machine.count", COUNT, Cell, "how many accelerators",
        |v| int(v.machine?.count), machine_origin),
    row("machine.each", TEXT, Cell, "its name, or \"each accelerator of 2x l4\" where there are several",
        |v| Some(Value::Text(each(v.machine?).into())), machine_origin),
    row("machine.id", TEXT, Cell, "its id without the count",
        |v| text(&v.machine?.id), machine_origin),
    row("machine.kind", TEXT, Cell, "nvidia, amd, apple-silicon, tpu, intel, other or cpu",
        |v| text(machine_kind(v.machine?.kind)), machine_origin),
    row("machine.memory_bytes", BYTES, Cell, "memory of one accelerator; all of it where it is unified",
        |v| bytes(v.machine?.memory_bytes), machine_origin),
    row("machine.name", TEXT, Cell, "its name: m4-24gb, 2x l4",
        |v| Some(Value::Text(v.machine?.name().into())), machine_origin),
    row("machine.neural_accelerator", BOOL, Cell, "true for an M5 or later, unless it is known to run a macOS before 26.2",
        |v| Some(Value::Bool(has_neural_accelerator(v.machine?))), machine_origin),
    row("machine.on_each", TEXT, Cell, "the words \" on each accelerator\" where there are several, else nothing",
        |v| text(if v.machine?.count > 1 { " on each accelerator" } else { "" }), machine_origin),
    row("machine.unified_memory", BOOL, Cell, "true where the accelerator shares its memory with the host",
        |v| Some(Value::Bool(v.machine?.unified_memory)), machine_origin),
    row("machine.usable_bytes", BYTES, Cell, "what the engine may use of one accelerator",
        |v| bytes(v.estimate().map_or(v.machine?.memory_bytes, |e| e.usable_bytes)), machine_origin),
    row("machine.working_set_bytes", BYTES, Cell, "GPU memory limit that macOS sets by default",
        |v| bytes(v.machine?.working_set_bytes?), machine_origin),

    row("manifest.deployments", COUNT, OfManifest, "deployments that the file declares",
        |v| int(v.manifest?.deployments as u64), nowhere),
    row("manifest.format", TEXT, OfManifest, "the file's format",
        |v| text(v.manifest?.format), nowhere),
    row("manifest.path", TEXT, OfManifest, "the file's path",
        |v| Some(Value::Text(v.sources.get(v.manifest?.file)?.path().to_owned().into())), nowhere),

    row("model.all_layers_slide", BOOL, OfModel, "true where every layer that keeps keys and values has a window",
        |v| Some(Value::Bool(all_layers_slide(v.model?)?)), |v| origin(v.model?.dims.sliding_window.as_ref())),
    row("model.architecture", TEXT, OfModel, "the class that loads it",
        |v| text(&v.model?.architecture.as_ref()?.value), |v| origin(v.model?.architecture.as_ref())),
    row("model.assumption", TEXT, OfModel, "what was assumed to know it by its name; absent for a model that is known for certain",
        |v| text(v.model?.assumptions.first()?), nowhere),
    row("model.dtype", TEXT, OfModel, "element type of the unquantized weights",
        |v| text(v.model?.dtype.as_ref()?.value.name()), |v| origin(v.model?.dtype.as_ref())),
    row("model.fp8_variant", TEXT, OfModel, "a published FP8 copy of this checkpoint, where the catalog has one",
        |v| text(fp8_variant(v.model?)?), |v| origin(v.deployment?.model.as_ref())),
    row("model.has_recurrent_layers", BOOL, OfModel, "true for layers that keep a state of fixed size",
        |v| Some(Value::Bool(sharding_facts::has_recurrent_layers(v.model?)?)), nowhere),
    row("model.head_dim", COUNT, OfModel, "elements of one attention head",
        |v| count(v.model?.dims.head_dim.as_ref()), |v| origin(v.model?.dims.head_dim.as_ref())),
    row("model.hidden_size", COUNT, OfModel, "width of the residual stream",
        |v| count(v.model?.dims.hidden_size.as_ref()), |v| origin(v.model?.dims.hidden_size.as_ref())),
    row("model.intermediate_size", COUNT, OfModel, "width of a dense feed-forward layer, as config.json gives it",
        |v| int(sharding_facts::config_count(v.model?, &["intermediate_size", "ffn_dim", "n_inner"])?), nowhere),
    row("model.is_assumed", BOOL, OfModel, "true where the model is known only by what its name says, so that nothing about it is certain",
        |v| Some(Value::Bool(!v.model?.assumptions.is_empty())), nowhere),
    row("model.is_gguf", BOOL, OfModel, "true for a GGUF file",
        |v| Some(Value::Bool(v.model?.source == crate::model::ModelSource::Gguf)), nowhere),
    row("model.is_mla", BOOL, OfModel, "true where one latent is cached for all heads",
        |v| Some(Value::Bool(sharding_facts::is_mla(v.model?)?)), nowhere),
    row("model.is_pooling", BOOL, OfModel, "true where the class that loads it pools instead of generating",
        |v| Some(Value::Bool(sharding_facts::is_pooling(v.model?)?)), |v| origin(v.model?.architecture.as_ref())),
    row("model.longest_context", TOKENS, OfModel, "longest context that engines accept; more than `model.max_context` under LongRoPE",
        |v| count(longest_context(v.model?)), |v| origin(longest_context(v.model?))),
    row("model.max_context", TOKENS, OfModel, "longest context the model was made for",
        |v| count(v.model?.max_context.as_ref()), |v| origin(v.model?.max_context.as_ref())),
    row("model.media_item_tokens", TOKENS, OfModel, "tokens of one image or clip that are scheduled in one step; absent where they may be split",
        |v| int(media_item_tokens(v.model?)?), nowhere),
    row("model.model_type", TEXT, OfModel, "model_type of the text model",
        |v| text(&v.model?.model_type.as_ref()?.value), |v| origin(v.model?.model_type.as_ref())),
    row("model.moe_intermediate_size", COUNT, OfModel, "width of one expert, as config.json gives it",
        |v| int(sharding_facts::config_count(v.model?, &["moe_intermediate_size"])?), nowhere),
    row("model.name", TEXT, OfModel, "its name",
        |v| text(&v.model?.name), |v| origin(v.deployment?.model.as_ref())),
    row("model.num_experts", COUNT, OfModel, "routed experts",
        |v| count(v.model?.dims.num_experts.as_ref()), |v| origin(v.model?.dims.num_experts.as_ref())),
    row("model.num_heads", COUNT, OfModel, "attention heads",
        |v| count(v.model?.dims.num_heads.as_ref()), |v| origin(v.model?.dims.num_heads.as_ref())),
    row("model.num_kv_heads", COUNT, OfModel, "KV heads",
        |v| count(v.model?.dims.num_kv_heads.as_ref()), |v| origin(v.model?.dims.num_kv_heads.as_ref())),
    row("model.num_layers", COUNT, OfModel, "layers",
        |v| count(v.model?.dims.num_layers.as_ref()), |v| origin(v.model?.dims.num_layers.as_ref())),
    row("model.parameters", COUNT, OfModel, "parameters",
        |v| int(v.model?.parameters.as_ref()?.count), nowhere),
    row("model.parameters_billions", RATIO, OfModel, "parameters in billions",
        |v| Some(Value::Double(v.model?.parameters.as_ref()?.count as f64 / 1e9)), nowhere),
    row("model.path", TEXT, OfModel, "path of its directory or file",
        |v| text(&v.model?.path), nowhere),
    row("model.published_bytes", BYTES, OfModel, "bytes of the published weights: as read, or counted from the config where nothing could be read",
        |v| bytes(v.model?.published_bytes()?.0), nowhere),
    row("model.quantization", TEXT, OfModel, "how the published weights are quantized; absent where they are not",
        |v| Some(Value::Text(v.model?.quantization.as_ref()?.value.name().into())), |v| origin(v.model?.quantization.as_ref())),
    row("model.quantization_bits", RATIO, OfModel, "bits of one published quantized weight, scales not counted",
        |v| Some(Value::Double(v.model?.quantization.as_ref()?.value.bits)), |v| origin(v.model?.quantization.as_ref())),
    row("model.quantization_group_size", COUNT, OfModel, "weights that share a scale",
        |v| int(v.model?.quantization.as_ref()?.value.group_size?), |v| origin(v.model?.quantization.as_ref())),
    row("model.quantization_method", TEXT, OfModel, "quant_method of the published weights: awq, gptq, fp8, ...; absent where only the model's name tells",
        |v| text(&sharding_facts::stated_quantization(v.model?)?.method), |v| origin(v.model?.quantization.as_ref())),
    row("model.sharded_kv_heads", COUNT, OfModel, "the most KV heads of any layer",
        |v| int(sharding_facts::sharded_kv_heads(v.model?)?), |v| origin(v.model?.dims.num_kv_heads.as_ref())),
    row("model.sliding_window", TOKENS, OfModel, "the window of its sliding layers",
        |v| count(v.model?.dims.sliding_window.as_ref()), |v| origin(v.model?.dims.sliding_window.as_ref())),
    row("model.vision", BOOL, OfModel, "true where config.json has a vision tower",
        |v| Some(Value::Bool(sharding_facts::has_vision(v.model?)?)), nowhere),
    row("model.weight_block_size", COUNT, OfModel, "rows, and columns, of a block of FP8 weights that shares a scale",
        |v| int(sharding_facts::weight_block(v.model?)?), |v| origin(v.model?.quantization.as_ref())),
    row("model.weight_bytes", BYTES, OfModel, "bytes of the published weights",
        |v| bytes(v.model?.weights.bytes?), nowhere),
    row("model.weight_bytes_exact", BOOL, OfModel, "true where those bytes come from headers, an index or pointer files",
        |v| Some(Value::Bool(v.model?.weights.exact)), nowhere),

    row("pod.least_startup_seconds", COUNT, OfDeployment, "seconds that the engine needs to start at best: 500 MB/s where the weights are downloaded, else 2 GB/s, and 40 s",
        |v| int(least_startup_seconds(v)?), nowhere),

    row("recommendation.available_bytes", BYTES, Cell, "what the recommendation was held against",
        |v| bytes(v.scenario?.recommended.as_ref()?.available_bytes), nowhere),
    row("recommendation.fits", BOOL, Cell, "false when even the recommended format does not fit",
        |v| Some(Value::Bool(v.scenario?.recommended.as_ref()?.fits)), |v| origin(v.deployment?.quantization.as_ref())),
    row("recommendation.needed_bytes", BYTES, Cell, "weights and KV cache in the recommended format, as the decision counts them",
        |v| bytes(v.scenario?.recommended.as_ref()?.needed_bytes), nowhere),
    row("recommendation.over_bytes", BYTES, Cell, "how much more the recommendation needs than there is; 0 when it fits",
        |v| v.scenario?.recommended.as_ref().and_then(|r| bytes(r.needed_bytes.saturating_sub(r.available_bytes))), |v| origin(v.deployment?.quantization.as_ref())),
    row("recommendation.quantization", TEXT, Cell, "the recommended weight format",
        |v| text(&v.scenario?.recommended.as_ref()?.name), |v| origin(v.deployment?.quantization.as_ref())),

    row("scenario.batch", COUNT, Cell, "concurrent sequences",
        |v| int(v.scenario?.batch), |v| chosen(&v.deployment?.batch, &v.scenario?.batch)),
    row("scenario.concurrency", TEXT, Cell, "\"4 requests at once\"; absent for a single one",
        |v| Some(Value::Text(concurrency(v.scenario?.batch)?.into())), |v| chosen(&v.deployment?.batch, &v.scenario?.batch)),
    row("scenario.context", TOKENS, Cell, "context of one sequence",
        |v| int(v.scenario?.context), |v| chosen(&v.deployment?.context, &v.scenario?.context)),
    row("scenario.context_of_one", TOKENS, Cell, "context that one sequence can reach; less than `scenario.context` where llama.cpp's `-np` slots divide it",
        |v| int(v.scenario?.context / slots(v)), |v| chosen(&v.deployment?.context, &v.scenario?.context)),
    row("scenario.kv_cache", TEXT, Cell, "KV element type",
        |v| text(v.scenario?.kv_cache.name()), |v| chosen(&v.deployment?.kv_cache, &v.scenario?.kv_cache)),
    row("scenario.quantization", TEXT, Cell, "weight format of the estimate",
        |v| text(&v.scenario?.quantization), |v| origin(v.deployment?.quantization.as_ref())),
    row("scenario.requests_need", TEXT, Cell, "the requests and their verb: \"one request of 8,192 tokens needs\"",
        |v| Some(Value::Text(requests_need(v)?.into())), |v| chosen(&v.deployment?.context, &v.scenario?.context)),
    row("scenario.slots", COUNT, Cell, "sequences that divide `scenario.context` among them (llama.cpp's `-np`); absent where one has it all",
        |v| Some(slots(v)).filter(|slots| *slots > 1).and_then(int), |v| origin(v.deployment?.settings.get("parallel"))),
    row("scenario.verdict", TEXT, Cell, "fits, likely_fits, likely_exceeds, exceeds or unknown",
        |v| text(v.scenario?.estimate.as_ref().map_or("unknown", |e| e.verdict.word())), nowhere),

    row("solve.context_of_model", TOKENS, Cell, "context with which every sequence reaches `model.longest_context`",
        |v| int(longest_context(v.model?)?.value.saturating_mul(slots(v))), nowhere),
    row("solve.largest_batch", COUNT, Cell, "largest number of concurrent sequences of the context, where it is fewer",
        |v| positive(v.scenario?.alternatives.as_ref()?.largest_batch), nowhere),
    row("solve.largest_context", TOKENS, Cell, "largest context that fits with all else as it is; absent when none does",
        |v| positive(v.scenario?.alternatives.as_ref().and_then(|other| other.largest_context).or(v.scenario?.largest_context)), nowhere),
    row("solve.other_kv_cache", TEXT, Cell, "another KV type that helps",
        |v| text(&v.scenario?.alternatives.as_ref()?.kv_cache.as_ref()?.0), nowhere),
    row("solve.other_kv_cache_context", TOKENS, Cell, "largest context with that KV type",
        |v| positive(Some(v.scenario?.alternatives.as_ref()?.kv_cache.as_ref()?.1)), nowhere),
    row("solve.other_kv_cache_words", TEXT, Cell, "how that KV type is asked for: a key of our own format, else the engine's arguments",
        other_kv_cache_words, nowhere),
    row("solve.other_machine", TEXT, Cell, "the smallest machine on which all of it fits",
        |v| text(&v.scenario?.alternatives.as_ref()?.machine.as_ref()?.0), nowhere),
    row("solve.other_machine_memory_bytes", BYTES, Cell, "memory of one accelerator of that machine",
        |v| bytes(v.scenario?.alternatives.as_ref()?.machine.as_ref()?.1), nowhere),
    row("solve.other_memory_fraction", RATIO, Cell, "the least memory fraction with which all of it fits",
        |v| Some(Value::Double(v.scenario?.alternatives.as_ref()?.memory_fraction?)), nowhere),
    row("solve.other_quantization", TEXT, Cell, "another weight format that helps",
        |v| text(&v.scenario?.alternatives.as_ref()?.quantization.as_ref()?.0), nowhere),
    row("solve.other_quantization_bytes", BYTES, Cell, "weights in that format",
        |v| bytes(v.scenario?.alternatives.as_ref()?.quantization.as_ref()?.1), nowhere),
    row("solve.other_quantization_context", TOKENS, Cell, "largest context with those weights",
        |v| positive(Some(v.scenario?.alternatives.as_ref()?.quantization.as_ref()?.2)), nowhere),
    row("solve.other_tensor_parallel", COUNT, Cell, "another tensor-parallel size that helps",
        |v| int(v.scenario?.alternatives.as_ref()?.tensor_parallel?.0), nowhere),
    row("solve.other_tensor_parallel_context", TOKENS, Cell, "largest context with that size",
        |v| positive(Some(v.scenario?.alternatives.as_ref()?.tensor_parallel?.1)), nowhere),
];

/// Requests beyond those that the engine runs at once are never in the pool.
fn unused_pool(view: &View<'_>) -> Option<f64> {
    let (scenario, estimate) = (view.scenario?, view.estimate()?);
    let spare = estimate.max_concurrency? - estimate.max_sequences? as f64;
    let request = estimate.kv_cache_bytes as f64 / scenario.batch.max(1) as f64;
    (spare > 0.0).then_some(spare * request)
}

/// A draft model is split over the ranks as the model is (vLLM `draft_tensor_parallel_size` defaults to that size;
/// `config/speculative.py`, 0.33).
fn draft_weights(view: &View<'_>) -> Option<u64> {
    let settings = &view.deployment?.settings;
    let record = crate::model::catalog::record(settings.text("draft_model")?)?;
    let (draft, _) = record.to_model(&record.name, crate::model::ModelSource::Catalog);
    let (whole, _) = draft.published_bytes()?;
    Some(whole / settings.count("tensor_parallel").unwrap_or(1).max(1))
}

/// `None` for models that keep no keys and values, or of which nobody knows what they keep.
fn all_layers_slide(model: &Model) -> Option<bool> {
    let groups = &model.layout.as_ref().ok()?.groups;
    let slides = |cache: &Cache| {
        matches!(
            cache,
            Cache::Attention {
                reach: Reach::Window(_),
                ..
            }
        )
    };
    (!groups.is_empty()).then(|| groups.iter().all(|group| slides(&group.cache)))
}

/// The name that publishers give an FP8 copy, where the catalog knows one of that name.
fn fp8_variant(model: &Model) -> Option<&'static str> {
    if model.quantization.is_some() || !model.name.contains('/') {
        return None;
    }
    crate::model::catalog::written(&format!("{}-FP8", model.name))
}

/// Models whose images attend both ways, so that vLLM schedules an item whole (`v1/core/encoder_cache_manager.py`,
/// `compute_mm_encoder_budget`, 0.33): Gemma 3 with the tokens that config.json gives, Gemma 4 with those of a
/// video, Whisper with the positions of its encoder.
fn media_item_tokens(model: &Model) -> Option<u64> {
    let key = |name: &str| model.config.as_ref()?.get(name)?.as_u64();
    match model.architecture.as_ref()?.value.as_str() {
        "Gemma3ForConditionalGeneration" => Some(key("mm_tokens_per_image").unwrap_or(256)),
        "Gemma4ForConditionalGeneration" => Some(2496),
        "WhisperForConditionalGeneration" => key("max_source_positions"),
        _ => None,
    }
}

/// What a start takes at best. The hub's servers rarely give one client more than 500 MB/s, a fast local disk gives
/// 2 GB/s, and importing the engine and capturing its graphs took no less than 40 s in the threads that report times.
fn least_startup_seconds(view: &View<'_>) -> Option<u64> {
    let (bytes, _) = view.model?.published_bytes()?;
    let downloads = view.deployment?.surroundings.flag("downloads_model")?;
    let rate = if downloads { 500_000_000 } else { 2_000_000_000 };
    Some((bytes / rate).saturating_add(40))
}

/// The weight format asked for; of a GGUF file that is the file's own.
fn asked_format(view: &View<'_>) -> Option<WeightFormat> {
    let deployment = view.deployment?;
    let of_model = view.model.map(|model| wanted(deployment, model));
    Some(of_model.unwrap_or_else(|| deployment.weight_format()))
}

/// Sequences that divide the context among them; at least 1.
fn slots(view: &View<'_>) -> u64 {
    let divided = view
        .deployment
        .filter(|deployment| deployment.engine_or_default() == Engine::LlamaCpp);
    divided.map_or(1, |deployment| sharing_sequences(&deployment.settings))
}

fn longest_context(model: &Model) -> Option<&Fact<u64>> {
    model.longest_context.as_ref().or(model.max_context.as_ref())
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a row's reader")]
fn text(words: &str) -> Option<Value<'_>> {
    Some(Value::Text(Cow::Borrowed(words)))
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a row's reader")]
fn bytes<'a>(count: u64) -> Option<Value<'a>> {
    Some(Value::Double(count as f64))
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a row's reader")]
fn int<'a>(count: u64) -> Option<Value<'a>> {
    Some(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// A context of no tokens is no way out: the clause that would offer it is left unsaid.
fn positive<'a>(count: Option<u64>) -> Option<Value<'a>> {
    int(count.filter(|count| *count > 0)?)
}

fn count<'a>(fact: Option<&Fact<u64>>) -> Option<Value<'a>> {
    int(fact?.value)
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> Value<'a> {
    Value::List(words.take(MAX_ITEMS).map(Cow::Borrowed).collect())
}

fn other_kv_cache_words<'a>(view: &View<'a>) -> Option<Value<'a>> {
    let kv = &view.scenario?.alternatives.as_ref()?.kv_cache.as_ref()?.0;
    let deployment = view.deployment?;
    let words = match (deployment.format, deployment.sized_as()?) {
        (Format::Own, _) | (_, Engine::Mlx | Engine::Transformers) => format!("kv_cache: {kv}"),
        (_, Engine::LlamaCpp) => format!("-ctk {kv} -ctv {kv}"),
        (_, Engine::Ollama) => format!("OLLAMA_KV_CACHE_TYPE={kv}"),
        (_, Engine::TensorrtLlm) => format!("kv_cache_config: {{dtype: {kv}}}"),
        (_, Engine::Vllm | Engine::Sglang | Engine::Tgi) => format!("--kv-cache-dtype {kv}"),
    };
    Some(Value::Text(words.into()))
}

fn setting_count<'a>(view: &View<'a>, id: &str) -> Option<Value<'a>> {
    int(view.deployment?.settings.count(id)?)
}

fn setting_origin<'a>(view: &View<'a>, id: &str) -> Option<&'a Origin> {
    origin(view.deployment?.settings.get(id))
}

/// The engine's release, where one is declared that can be read.
pub(super) fn engine_version(view: &View<'_>) -> Option<Version> {
    Version::parse(&view.deployment?.engine_version.as_ref()?.value)
}

/// Where the release is declared, or else the engine.
fn version_origin<'a>(view: &View<'a>) -> Option<&'a Origin> {
    let deployment = view.deployment?;
    origin(deployment.engine_version.as_ref()).or_else(|| origin(deployment.engine.as_ref()))
}

/// True for an image whose content changes under its name; `None` where the tag is filled in later.
fn image_moves(image: &str) -> Option<bool> {
    if is_placeholder(image) {
        return None;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    let tag = name.split_once(':').map(|(_, tag)| tag);
    let moving = ["latest", "nightly", "main", "master", "edge"];
    // `nightly-f849ee7...` is the build of one commit.
    let is_commit = |part: &str| part.len() >= 7 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let moves =
        |tag: &str| tag.split('-').any(|part| moving.contains(&part)) && !tag.split('-').any(is_commit);
    Some(!image.contains('@') && tag.is_none_or(moves))
}

/// `None` without a model, or where its name is filled in later.
fn is_hub_name(view: &View<'_>) -> Option<bool> {
    let name = &view.deployment?.model.as_ref()?.value;
    if is_placeholder(name) {
        return None;
    }
    let is_here = |model: &Model| matches!(model.source, ModelSource::Directory | ModelSource::Gguf);
    let parts: Vec<&str> = name.split('/').collect();
    let well_formed =
        |part: &&str| !part.is_empty() && !part.starts_with(['.', '~']) && !part.contains([':', ' ']);
    Some(parts.len() == 2 && parts.iter().all(well_formed) && !view.model.is_some_and(is_here))
}

/// What wraps an engine counts its own releases, so only the engine itself is judged.
fn architecture_history(view: &View<'_>) -> Option<String> {
    let deployment = view.deployment?;
    let name = &view.model?.architecture.as_ref()?.value;
    deployment.server.is_none().then_some(())?;
    architectures::history(engine(deployment)?, name, engine_version(view)?)
}

fn tool_parsers<'a>(view: &View<'a>) -> Option<Value<'a>> {
    let names = &FlagTable::of(engine(view.deployment?)?).tool_parsers;
    (!names.is_empty()).then(|| words(names.iter().map(String::as_str)))
}

fn nowhere<'a>(_: &View<'a>) -> Option<&'a Origin> {
    None
}

fn origin<T>(fact: Option<&Fact<T>>) -> Option<&Origin> {
    fact.map(|fact| &fact.origin)
}

fn first<T>(facts: &[Fact<T>]) -> Option<&Origin> {
    origin(facts.first())
}

/// The declared value that the scenario took; a single declaration stands for whatever it was resolved to
/// (`kv_cache: auto`).
fn chosen<'a, T: PartialEq>(declared: &'a [Fact<T>], value: &T) -> Option<&'a Origin> {
    let same = declared.iter().find(|fact| fact.value == *value);
    match declared {
        [only] => Some(&only.origin),
        _ => origin(same),
    }
}

/// Where the accelerators of a pod are counted.
fn accelerators_origin<'a>(view: &View<'a>) -> Option<&'a Origin> {
    origin(view.deployment?.accelerators.count.as_ref())
}

/// Where the deployment names the machine.
fn machine_origin<'a>(view: &View<'a>) -> Option<&'a Origin> {
    let machines = &view.deployment?.machines;
    match (view.scenario?.machine_name, machines.as_slice()) {
        (Some(at), _) => origin(machines.get(at)),
        (None, [only]) => Some(&only.origin),
        (None, _) => None,
    }
}

fn machine_kind(kind: MachineKind) -> &'static str {
    match kind {
        MachineKind::Nvidia => "nvidia",
        MachineKind::Amd => "amd",
        MachineKind::AppleSilicon => "apple-silicon",
        MachineKind::Tpu => "tpu",
        MachineKind::Intel => "intel",
        MachineKind::Other => "other",
        MachineKind::Cpu => "cpu",
    }
}

fn has_neural_accelerator(machine: &crate::machine::Machine) -> bool {
    let chip = machine
        .apple_generation
        .is_some_and(|generation| generation >= HardwareCapabilities::CHIP_WITH_NEURAL_ACCELERATOR);
    let system = machine
        .macos
        .is_none_or(|version| version >= HardwareCapabilities::MACOS_WITH_NEURAL_ACCELERATOR);
    chip && system
}

fn each(machine: &crate::machine::Machine) -> String {
    match machine.count {
        1 => machine.name(),
        _ => format!("each accelerator of {}", machine.name()),
    }
}

fn concurrency(batch: u64) -> Option<String> {
    (batch != 1).then(|| format!("{} requests at once", units::thousands(batch)))
}

/// Only oomlint's own format has an engine where none is given; what another format runs is not guessed.
pub(super) fn engine(deployment: &Deployment) -> Option<Engine> {
    let declared = deployment.engine.as_ref().map(|engine| engine.value);
    declared.or((deployment.format == Format::Own).then_some(Engine::Mlx))
}

fn caches(estimate: &Estimate) -> u64 {
    estimate.kv_cache_bytes.saturating_add(estimate.state_bytes)
}

fn certain(estimate: &Estimate) -> u64 {
    estimate.weights_bytes.saturating_add(caches(estimate))
}

fn cache_name(estimate: &Estimate) -> &'static str {
    match (estimate.kv_cache_bytes, estimate.state_bytes) {
        (_, 0) => "KV cache",
        (0, _) => "recurrent state",
        _ => "KV cache and recurrent state",
    }
}

fn requests_need(view: &View<'_>) -> Option<String> {
    let scenario = view.scenario?;
    let tokens = units::tokens(scenario.context);
    Some(match scenario.batch {
        1 => format!("one request of {tokens} needs"),
        many => format!("{} requests of {tokens} each need", units::thousands(many)),
    })
}

/// What macOS must let the GPU use for all of it to fit: the sum with the likely overhead, in whole GiB, and
/// no more than there is. In MiB, as `iogpu.wired_limit_mb` counts.
fn wired_limit_mib(view: &View<'_>) -> Option<u64> {
    let machine = view.machine.filter(|machine| machine.unified_memory)?;
    let needed = view.estimate()?.required_bytes.div_ceil(MIB);
    Some(crate::memory::round_up(needed, 1024).min(machine.memory_bytes / MIB))
}

fn basis(view: &View<'_>) -> Option<String> {
    let estimate = view.estimate()?;
    let weights = weights_basis(view.model?, estimate.weights_bytes, view.deployment);
    let band = estimate.overhead;
    let overhead = if band.high == 0 {
        "no overhead counted".to_owned()
    } else {
        let size = |bytes: u64| units::size(bytes as f64);
        format!(
            "overhead is an estimate, {} ({} to {})",
            size(band.likely),
            size(band.low),
            size(band.high)
        )
    };
    Some(format!(
        "{} is exact; {weights}; {overhead}",
        cache_name(estimate)
    ))
}

/// Weights are exact when they are served as published and the bytes were read rather than computed.
fn weights_basis(model: &Model, served_bytes: u64, deployment: Option<&Deployment>) -> String {
    let published = deployment
        .is_some_and(|deployment| wanted(deployment, model) == WeightFormat::AsPublished)
        || model.weights.bytes == Some(served_bytes);
    match &model.parameters {
        _ if published && model.weights.exact => format!("weights are exact ({})", model.weights.how),
        Some(parameters) => format!(
            "weights are computed from {:.2} billion parameters ({})",
            parameters.count as f64 / 1e9,
            parameters.how
        ),
        None => "weights are an estimate".to_owned(),
    }
}
