//! LLMKube: an `InferenceService` of its group, joined to the `Model` that it names. (`KServe` has a kind of the same
//! name in another group.)
//!
//! Typed keys come first on the command line and `extraArgs` last, so those win. Source: defilantech/LLMKube
//! api/v1alpha1 (`inferenceservice_types.go`, `model_types.go`).

use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::command::Words;
use crate::manifest::container::Container;
use crate::manifest::keys::{self, is_object};
use crate::manifest::kubernetes::accelerators;
use crate::manifest::{Count, Declared, Deployment, Format, Input};
use crate::source::tree::Node;

const GROUP: &str = "inference.llmkube.dev";

/// True for such an object.
pub fn recognizes(input: &Input<'_>) -> bool {
    is_object(input.root, GROUP, &["InferenceService"])
}

/// Reads such an object.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let Some(spec) = input.root.get("spec") else {
        return declared;
    };
    let container = container(spec, input);
    let model = model_of(spec, input);
    match runtime(spec, model) {
        Runtime::Engine(engine) => {
            let mut served = keys::serve(container, input, Format::LlmKube, engine);
            complete(&mut served.deployment, input, spec, model, engine);
            served.add_to(&mut declared);
        }
        Runtime::Command => {
            let name = container.name.clone();
            let mut started = container.deployments(input, Format::LlmKube, &name);
            for deployment in &mut started.deployments {
                let engine = deployment
                    .engine
                    .as_ref()
                    .map_or(Engine::LlamaCpp, |engine| engine.value);
                let named = deployment.model.take();
                complete(deployment, input, spec, model, engine);
                // The command's own model counts; the object's is what lies at its path.
                if let Some(named) = named {
                    deployment.model_hints.extend(deployment.model.replace(named));
                }
            }
            keys::add_started(&mut declared, started);
        }
        Runtime::Other => {}
    }
    declared
}

enum Runtime {
    /// One that the operator puts the command together for.
    Engine(Engine),
    /// The container's own command.
    Command,
    /// None that holds a language model's KV cache.
    Other,
}

fn runtime(spec: Node<'_>, model: Option<Node<'_>>) -> Runtime {
    let format = model.and_then(|model| model.get("format")).and_then(Node::text);
    match spec.get("runtime").and_then(Node::text) {
        None if format == Some("mlx") => Runtime::Engine(Engine::Mlx),
        None | Some("llamacpp" | "llamacpp-router") => Runtime::Engine(Engine::LlamaCpp),
        Some("generic") => Runtime::Command,
        Some("omlx" | "mlx-server") => Runtime::Engine(Engine::Mlx),
        Some("vllm-swift") => Runtime::Engine(Engine::Vllm),
        Some(name) => Engine::parse(name).map_or(Runtime::Other, Runtime::Engine),
    }
}

fn container(spec: Node<'_>, input: &Input<'_>) -> Container {
    let mut container = Container::new(keys::object_name(input.root), input.root.span());
    container.image = spec.get("image").and_then(keys::image);
    keys::add_environment(&mut container.environment, spec.get("env"), input);
    let generic = spec.get("runtime").and_then(Node::text) == Some("generic");
    let environment = &container.environment;
    let own: Option<Words> = if generic {
        keys::words(spec.get("args"), input, environment)
    } else {
        None
    };
    let extra = keys::arguments(spec.get("extraArgs"), input, environment);
    let arguments = keys::joined(own, extra, input, environment);
    if generic {
        container.entrypoint = keys::words(spec.get("command"), input, environment);
    }
    container.arguments = arguments;
    container.accelerators.kinds = accelerators::kinds(spec);
    let resources = spec.get("resources");
    container.host_memory_bytes = ["hostMemory", "memory"]
        .iter()
        .find_map(|key| resources?.get(key))
        .and_then(keys::bytes);
    container.shm_bytes = shm(spec).and_then(keys::bytes);
    container
}

/// The size of the volume that is mounted as shared memory.
fn shm(spec: Node<'_>) -> Option<Node<'_>> {
    let listed = |key: &str| spec.get(key).into_iter().flat_map(Node::items);
    let mount = listed("extraVolumeMounts")
        .find(|mount| mount.get("mountPath").and_then(Node::text) == Some("/dev/shm"))?;
    let name = mount.get("name")?.text()?;
    let volume =
        listed("extraVolumes").find(|volume| volume.get("name").and_then(Node::text) == Some(name))?;
    volume.at(&["emptyDir", "sizeLimit"])
}

/// The model's object, if it is in the tree and in this group.
fn model_of<'t>(spec: Node<'_>, input: &Input<'t>) -> Option<Node<'t>> {
    let object = input
        .world
        .object(input.file, "Model", spec.get("modelRef")?.text()?)?;
    is_object(object.node, GROUP, &["Model"])
        .then(|| object.node.get("spec"))
        .flatten()
}

/// What the typed keys and the model's object say.
fn complete(
    deployment: &mut Deployment,
    input: &Input<'_>,
    spec: Node<'_>,
    model: Option<Node<'_>>,
    engine: Engine,
) {
    match model {
        Some(model) => {
            keys::set_model(deployment, input, model.get("source"));
            keys::set(deployment, input, "quantization", model.get("quantization"));
        }
        None => keys::hint(deployment, spec.get("modelRef")),
    }
    keys::set(deployment, input, "replicas", spec.get("replicas"));
    match engine {
        Engine::LlamaCpp => llama_cpp(deployment, input, spec),
        Engine::Sglang => sglang(deployment, input, spec),
        Engine::Tgi => tgi(deployment, input, spec),
        _ => vllm(deployment, input, spec),
    }
    draft(deployment, input, spec);
    gpus(deployment, input, spec, model);
}

fn llama_cpp(deployment: &mut Deployment, input: &Input<'_>, spec: Node<'_>) {
    let settings = [
        ("contextSize", "ctx_size"),
        ("parallelSlots", "parallel"),
        ("cacheTypeK", "cache_type_k"),
        ("cacheTypeV", "cache_type_v"),
        ("cacheTypeCustomK", "cache_type_k"),
        ("cacheTypeCustomV", "cache_type_v"),
        ("flashAttention", "flash_attention"),
        ("moeCPUOffload", "cpu_moe"),
        ("moeCPULayers", "n_cpu_moe"),
        ("uBatchSize", "ubatch_size"),
        ("batchSize", "batch_size"),
    ];
    keys::set_all(deployment, input, Some(spec), &settings);
    if let Some(kept) = spec
        .get("noKvOffload")
        .filter(|kept| kept.as_bool() == Some(true))
    {
        let off = Fact::at("false".to_owned(), kept.mention());
        deployment.settings.set("kv_offload", off);
    }
}

fn vllm(deployment: &mut Deployment, input: &Input<'_>, spec: Node<'_>) {
    let shared = [("contextSize", "context"), ("parallelSlots", "max_sequences")];
    keys::set_all(deployment, input, Some(spec), &shared);
    let settings = [
        ("tensorParallelSize", "tensor_parallel"),
        ("maxModelLen", "context"),
        ("quantization", "quantization"),
        ("dtype", "dtype"),
        ("kvCacheDtype", "kv_cache"),
        ("kvCacheCustomDtype", "kv_cache"),
        ("enablePrefixCaching", "prefix_caching"),
        ("enableChunkedPrefill", "chunked_prefill"),
        ("maxNumBatchedTokens", "max_batched_tokens"),
        ("enableExpertParallel", "expert_parallel"),
        ("cpuOffloadGB", "cpu_offload_gb"),
        ("gpuMemoryUtilization", "memory_fraction"),
    ];
    keys::set_all(deployment, input, spec.get("vllmConfig"), &settings);
}

fn sglang(deployment: &mut Deployment, input: &Input<'_>, spec: Node<'_>) {
    let shared = [("contextSize", "context"), ("parallelSlots", "max_sequences")];
    keys::set_all(deployment, input, Some(spec), &shared);
    let settings = [
        ("tensorParallelSize", "tensor_parallel"),
        ("expertParallelSize", "expert_parallel"),
        ("dataParallelSize", "data_parallel"),
        ("contextLength", "context"),
        ("memFractionStatic", "memory_fraction"),
        ("maxRunningRequests", "max_sequences"),
        ("quantization", "quantization"),
        ("kvCacheDtype", "kv_cache"),
        ("kvCacheCustomDtype", "kv_cache"),
    ];
    keys::set_all(deployment, input, spec.get("sglangConfig"), &settings);
}

fn tgi(deployment: &mut Deployment, input: &Input<'_>, spec: Node<'_>) {
    keys::set_all(deployment, input, Some(spec), &[("contextSize", "context")]);
    let settings = [
        ("maxTotalTokens", "context"),
        ("maxInputLength", "max_input_tokens"),
        ("quantize", "quantization"),
        ("dtype", "dtype"),
    ];
    keys::set_all(deployment, input, spec.get("tgiConfig"), &settings);
}

/// The draft model: another object, a companion file, or a name.
fn draft(deployment: &mut Deployment, input: &Input<'_>, spec: Node<'_>) {
    if let Some(speculative) = spec.get("speculativeDecoding") {
        let object = speculative
            .get("draftModelRef")
            .and_then(Node::text)
            .and_then(|name| input.world.object(input.file, "Model", name));
        let named = object.and_then(|object| object.node.at(&["spec", "source"]));
        let named = named.or_else(|| speculative.get("draftModel"));
        keys::set(deployment, input, "draft_model", named);
    }
    let named = ["vllmConfig", "sglangConfig"]
        .iter()
        .find_map(|section| spec.at(&[section, "speculative", "model"]));
    keys::set(deployment, input, "draft_model", named);
}

/// The service's own count, else the model's; none at all where the model says that it needs none.
fn gpus(deployment: &mut Deployment, input: &Input<'_>, spec: Node<'_>, model: Option<Node<'_>>) {
    let hardware = model.and_then(|model| model.get("hardware"));
    let gpu = hardware.and_then(|hardware| hardware.get("gpu"));
    let own = spec.at(&["resources", "gpu"]);
    keys::set_count(
        deployment,
        input,
        own.or_else(|| gpu.and_then(|gpu| gpu.get("count"))),
    );
    keys::set_resource(
        &mut deployment.accelerators,
        gpu.and_then(|gpu| gpu.get("resourceName")),
    );
    let without = gpu
        .and_then(|gpu| gpu.get("enabled"))
        .filter(|enabled| enabled.as_bool() == Some(false))
        .or_else(|| {
            hardware
                .and_then(|hardware| hardware.get("accelerator"))
                .filter(|kind| kind.text() == Some("cpu"))
        });
    if let (Some(without), None) = (without, own) {
        deployment.accelerators.count = Some(Fact::at(Count::Number(0), without.mention()));
    }
    if deployment.settings.get("gpu_layers").is_none() {
        let layers = gpu
            .and_then(|gpu| gpu.get("layers"))
            .filter(|layers| layers.text() != Some("0"));
        keys::set(deployment, input, "gpu_layers", layers);
    }
}
