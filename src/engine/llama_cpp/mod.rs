//! llama.cpp: exact KV and state buffers, layer offload, and the automatic fit.
//!
//! Two ways to give the context: with `-c` (setting `ctx_size`) a cell's context is the total of all slots, as
//! llama.cpp counts it, and `-np` (setting `parallel`) divides it; with the manifest's own key it is the context
//! of one sequence, and `batch` sequences get one slot each. The buffers are in [`caches`], the weights in
//! [`placement`], the compute buffer in [`compute`]. Source: `ggml-org/llama.cpp`, commit 0c1e57098 (2026-10-01).

mod caches;
mod compute;
mod placement;

use super::{Band, Cell, Contradiction, KvType, Plan, Request, Reservation, Settings, overheads};
use crate::machine::{Machine, MachineKind};
use crate::memory::MIB;
use crate::memory::layout::{Cache, Layout};
use crate::model::gguf::llama_cpp_slides;
use crate::model::{GgufValue, Model};

pub use caches::{CELL_STEP, ContextUsed, context_used};

use caches::{CacheBytes, Caches, CellOptions, PerLayer};
use compute::Compute;
use placement::{Load, Offload, Placement, SplitMode, WeightParts};

/// Slots of llama-server where `-np` is not given; they share one pool (`tools/server/server.cpp`).
const DEFAULT_SLOTS: u64 = 4;
/// Tokens of a logical batch where `-b` is not given (`common_params::n_batch`).
const DEFAULT_BATCH: u64 = 2048;
/// Tokens of a micro-batch where `-ub` is not given (`common_params::n_ubatch`).
const DEFAULT_UBATCH: u64 = 512;
/// Memory in MiB that `--fit` leaves free on each device (`common/fit.cpp`, `--fit-target`).
const DEFAULT_FIT_TARGET_MIB: u64 = 1024;

/// Layers from which a count stands for all of them: nobody who writes the customary `-ngl 99` wants the rest of
/// a 126-layer model in host memory. What is counted on accelerators is then an upper bound.
const ALL_LAYERS: u64 = 99;

/// Sequences at most (`LLAMA_MAX_SEQ`).
const MOST_SEQUENCES: u64 = 256;

/// Devices at most (`GGML_CUDA_MAX_DEVICES` is 16; more than one backend can be built in).
const MOST_DEVICES: usize = 64;

/// Element types that `-ctk` and `-ctv` take.
const KV_TYPES: [KvType; 9] = [
    KvType::F32,
    KvType::F16,
    KvType::Bf16,
    KvType::Q8_0,
    KvType::Q5_1,
    KvType::Q5_0,
    KvType::Q4_1,
    KvType::Q4_0,
    KvType::Iq4Nl,
];

/// Plans a deployment on llama.cpp.
///
/// # Errors
/// Settings that llama.cpp refuses, each with the two facts that contradict.
pub fn plan(request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    LlamaCpp::new(request, Defaults::default()).map(|plan| Box::new(plan) as Box<dyn Plan>)
}

/// What another program that starts llama.cpp sets differently.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    /// Slots where none are given, and whether they share a pool.
    pub(super) slots: (u64, bool),
    /// Sizes of batches where none are given.
    pub(super) batches: Batches,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            slots: (DEFAULT_SLOTS, true),
            batches: Batches::Fixed {
                batch: DEFAULT_BATCH,
                ubatch: DEFAULT_UBATCH,
            },
        }
    }
}

/// Tokens of a logical batch and of a micro-batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Batches {
    /// The same for every context.
    Fixed {
        /// `-b`.
        batch: u64,
        /// `-ub`.
        ubatch: u64,
    },
    /// Ollama: 512, 1024 above 4096 tokens, 2048 above 32768, while a forecast of file and cache takes at most
    /// 75 and 60 % of the free memory (`llm/llama_server.go`).
    ByContext {
        /// Bytes of the file.
        file_bytes: u64,
        /// Bytes that the forecast counts for one token.
        token_bytes: u64,
        /// Bytes that are free on all devices.
        free_bytes: u64,
    },
}

impl Batches {
    /// Batch and micro-batch for a total context.
    fn for_context(self, context: u64) -> (u64, u64) {
        match self {
            Self::Fixed { batch, ubatch } => (batch, ubatch),
            Self::ByContext {
                file_bytes,
                token_bytes,
                free_bytes,
            } => {
                let forecast = file_bytes.saturating_add(token_bytes.saturating_mul(context));
                let leaves = |percent: u64| forecast <= free_bytes / 100 * percent;
                let size = if context > 32_768 && leaves(60) {
                    2048
                } else if context > 4096 && leaves(75) {
                    1024
                } else {
                    512
                };
                (size, size)
            }
        }
    }
}

/// A deployment on llama.cpp, ready for any cell.
#[derive(Debug)]
pub(super) struct LlamaCpp {
    slots: Slots,
    batches: Batches,
    /// `-b` and `-ub`, where given.
    given_batches: (Option<u64>, Option<u64>),
    swa_full: bool,
    value_type: Option<KvType>,
    caches: Caches,
    parts: WeightParts,
    placement: Placement,
    offload: Offload,
    memory: Memory,
    /// False with `--no-kv-offload`.
    kv_offload: bool,
    compute: Compute,
    given_overhead: Option<Band>,
    device_bytes: u64,
    /// Bytes of a device that `--fit` may take.
    fit_bytes: u64,
    max_context: u64,
    assumptions: Vec<String>,
}

/// Where things can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// Host and accelerator share one memory, or there is no accelerator.
    Shared,
    /// Accelerators have memory of their own; `--fit` moves to host memory what has no room there.
    Fitted,
    /// Accelerators have memory of their own, and the settings say what lies where.
    AsSet,
}

impl Memory {
    fn of(machine: &Machine, fits_itself: bool) -> Self {
        if machine.unified_memory || machine.kind == MachineKind::Cpu {
            Self::Shared
        } else if fits_itself {
            Self::Fitted
        } else {
            Self::AsSet
        }
    }

    /// Devices that layers are dealt over.
    fn devices(self, machine: &Machine) -> usize {
        match self {
            Self::Shared => 1,
            Self::Fitted | Self::AsSet => usize::try_from(machine.count)
                .unwrap_or(MOST_DEVICES)
                .min(MOST_DEVICES),
        }
    }
}

/// Among how many sequences llama.cpp divides the context that its settings ask for: `-np` slots of `-c` each get
/// their part, unless they share one pool (`--kv-unified`, or no `-np`).
pub fn sharing_sequences(settings: &Settings) -> u64 {
    let unified = settings.flag("kv_unified").unwrap_or(false);
    let slots = settings
        .count("parallel")
        .filter(|_| settings.get("ctx_size").is_some() && !unified);
    slots.unwrap_or(1).max(1)
}

/// How a cell's context is divided.
#[derive(Debug, Clone, Copy)]
struct Slots {
    /// The cell's context is that of all slots together (`-c`).
    total: bool,
    /// `-np`, where given.
    given: Option<u64>,
    /// `--kv-unified` or `--no-kv-unified`, where given.
    unified: Option<bool>,
    /// Where neither is given.
    default: (u64, bool),
}

impl Slots {
    fn context(self, cell: Cell) -> ContextUsed {
        let batch = cell.batch.max(1);
        let (sequences, unified) = match (self.given, self.total) {
            (Some(slots), _) => (slots, false),
            (None, true) if batch == 1 => self.default,
            (None, _) => (batch, false),
        };
        let total = if self.total {
            cell.context
        } else {
            cell.context.saturating_mul(sequences)
        };
        context_used(total, sequences, self.unified.unwrap_or(unified))
    }
}

impl LlamaCpp {
    pub(super) fn new(request: &Request<'_>, defaults: Defaults) -> Result<Self, Vec<Contradiction>> {
        let settings = request.settings;
        let empty = Layout::default();
        let layout = request.model.layout.as_ref().unwrap_or(&empty);
        let flash_attention = flash_attention(request.model, settings);
        let mut wrong = check_settings(settings);
        let key_type = given_type(settings, "cache_type_k");
        let value_type = value_type(settings);
        wrong.extend(check_types(layout, settings, key_type, value_type));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let (offload, fits_itself) = offload(settings, layout.num_layers);
        let memory = Memory::of(request.machine, fits_itself);
        let device_bytes = request.machine.engine_memory_bytes();
        let margin = settings.count("fit_target").unwrap_or(DEFAULT_FIT_TARGET_MIB);
        Ok(Self {
            slots: Slots {
                total: settings.get("ctx_size").is_some(),
                given: settings.count("parallel").filter(|slots| *slots > 0),
                unified: settings.flag("kv_unified"),
                default: defaults.slots,
            },
            batches: defaults.batches,
            given_batches: (settings.count("batch_size"), settings.count("ubatch_size")),
            swa_full: settings.flag("swa_full").unwrap_or(false),
            value_type,
            caches: Caches::new(
                layout,
                flash_attention,
                slides(request.model),
                token_shifts(request.model),
            ),
            parts: WeightParts::new(request.model, request.weights_bytes, layout.num_layers),
            placement: placement(settings, memory.devices(request.machine), layout.num_layers),
            offload,
            memory,
            kv_offload: settings.flag("kv_offload").unwrap_or(true),
            compute: Compute::new(request.model, request.machine, flash_attention),
            given_overhead: overheads::given(settings),
            device_bytes,
            fit_bytes: device_bytes.saturating_sub(margin.saturating_mul(MIB)),
            max_context: request.model.max_context.as_ref().map_or(4096, |fact| fact.value),
            assumptions: assumptions(settings, request.machine, layout.num_layers),
        })
    }

    /// Works out what a cell needs, before it is placed.
    fn serve(&self, cell: Cell) -> Served<'_> {
        let cell = Cell {
            // `-c 0` is the context the model was made for.
            context: if cell.context == 0 {
                self.max_context
            } else {
                cell.context
            },
            ..cell
        };
        let context = self.slots.context(cell);
        let asked = if self.slots.total {
            cell.context
        } else {
            context.n_ctx
        };
        let (batch, ubatch) = self.batches.for_context(asked);
        let (batch, ubatch) = (
            self.given_batches.0.unwrap_or(batch),
            self.given_batches.1.unwrap_or(ubatch),
        );
        let key = cache_type(cell.kv);
        let options = CellOptions {
            key,
            value: self.value_type.unwrap_or(key),
            ubatch: ubatch.min(batch).min(asked),
            swa_full: self.swa_full,
        };
        Served {
            plan: self,
            context,
            overhead: self
                .given_overhead
                .unwrap_or_else(|| self.compute.band(options.ubatch, self.caches.longest(&context))),
            layers: self.caches.per_layer(&context, &options),
        }
    }
}

/// What a cell needs, layer by layer.
struct Served<'a> {
    plan: &'a LlamaCpp,
    context: ContextUsed,
    overhead: Band,
    layers: PerLayer<'a>,
}

impl Served<'_> {
    /// Everything, where host and accelerator share their memory.
    fn together(&self) -> Device {
        Device {
            weights: self.plan.parts.total(),
            caches: self.layers.bytes(0, u64::MAX),
        }
    }

    /// What one device holds with an offload.
    fn device(&self, at: usize, offload: Offload) -> Device {
        let load: Load = self.plan.placement.load(at, offload, &self.plan.parts);
        let (from, to) = if self.plan.kv_offload { load.caches } else { (0, 0) };
        let mut caches = self.layers.bytes(from, to);
        caches.kv = caches.kv.div_ceil(load.cache_share);
        Device {
            weights: load.weights,
            caches,
        }
    }

    fn devices(&self, offload: Offload) -> impl Iterator<Item = Device> {
        (0..self.plan.placement.devices()).map(move |at| self.device(at, offload))
    }

    /// The device that holds most.
    fn worst(&self, offload: Offload) -> Device {
        self.devices(offload)
            .max_by_key(Device::total)
            .unwrap_or_default()
    }

    /// Where `--fit` puts things: everything on the accelerators if it can, else experts of as few layers as
    /// possible in host memory, else as few whole layers as possible (`common/fit.cpp`).
    fn offload(&self) -> Offload {
        let asked = self.plan.offload;
        let room = self.plan.fit_bytes.saturating_sub(self.overhead.likely);
        let fits = |offload: Offload| self.devices(offload).all(|device| device.total() <= room);
        if self.plan.memory != Memory::Fitted || fits(asked) {
            return asked;
        }
        let layers = self.plan.placement.num_layers;
        let experts_out = |host_experts| Offload {
            host_experts,
            ..asked
        };
        if fits(experts_out(layers)) {
            return experts_out(least(layers, |count| fits(experts_out(count))));
        }
        let layers_out = |count: u64| Offload {
            gpu_layers: layers.saturating_add(1).saturating_sub(count),
            host_experts: layers,
        };
        layers_out(least(layers.saturating_add(1), |count| fits(layers_out(count))))
    }
}

/// The smallest `n` in `0..=most` for which `holds(n)`; `most` when none does. `holds` must be monotone.
fn least(most: u64, mut holds: impl FnMut(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// What one device holds.
#[derive(Debug, Clone, Copy, Default)]
struct Device {
    weights: u64,
    caches: CacheBytes,
}

impl Device {
    fn total(&self) -> u64 {
        self.weights
            .saturating_add(self.caches.kv)
            .saturating_add(self.caches.state)
    }
}

impl Plan for LlamaCpp {
    fn reserve(&self, cell: Cell) -> Reservation {
        let served = self.serve(cell);
        let device = match self.memory {
            Memory::Shared => served.together(),
            Memory::Fitted | Memory::AsSet => served.worst(served.offload()),
        };
        Reservation {
            weights_bytes: device.weights,
            kv_cache_bytes: device.caches.kv,
            state_bytes: device.caches.state,
            overhead: served.overhead,
            usable_bytes: self.device_bytes,
            kv_cache_tokens: Some(served.context.n_ctx),
            max_concurrency: Some(served.context.sequences as f64),
            ..Reservation::default()
        }
    }

    /// Input embeddings lie in host memory whatever the room, and are not counted.
    fn host_bytes(&self, cell: Cell) -> u64 {
        if self.memory == Memory::Shared {
            return 0;
        }
        let served = self.serve(cell);
        let caches = served.layers.bytes(0, u64::MAX);
        let all = [self.parts.offloadable(), caches.kv, caches.state]
            .into_iter()
            .fold(0, u64::saturating_add);
        let placed = served.devices(served.offload()).map(|device| device.total());
        all.saturating_sub(placed.fold(0, u64::saturating_add))
    }

    fn assumptions(&self) -> &[String] {
        &self.assumptions
    }
}

/// On unless it is switched off; Grok always runs without (`llama_context` refuses it).
fn flash_attention(model: &Model, settings: &Settings) -> bool {
    let is_grok = model
        .architecture
        .as_ref()
        .is_some_and(|arch| arch.value == "grok");
    settings.flag("flash_attention") != Some(false) && !is_grok
}

/// A GGUF layout is llama.cpp's own reading; one from config.json may name windows that it ignores.
fn slides(model: &Model) -> bool {
    model.gguf.is_some()
        || model
            .model_type
            .as_ref()
            .is_some_and(|kind| llama_cpp_slides(&kind.value))
}

/// Shifted tokens that each RWKV layer keeps (`{arch}.token_shift_count`).
fn token_shifts(model: &Model) -> Option<u64> {
    let metadata = &model.gguf.as_ref()?.metadata;
    let GgufValue::Text(arch) = metadata.get("general.architecture")? else {
        return None;
    };
    match metadata.get(&format!("{arch}.token_shift_count"))? {
        GgufValue::Integer(count) => u64::try_from(*count).ok(),
        _ => None,
    }
}

/// The ggml type nearest to what was asked for: an engine-neutral name stands for the 8- or 4-bit type.
fn cache_type(kv: KvType) -> KvType {
    match kv {
        KvType::Auto => KvType::F16,
        KvType::Int8 | KvType::Fp8 => KvType::Q8_0,
        KvType::Int4 | KvType::Nvfp4 => KvType::Q4_0,
        ggml => ggml,
    }
}

/// A type that a flag names, if it can be read.
fn given_type(settings: &Settings, id: &str) -> Option<KvType> {
    KvType::parse(settings.text(id)?).map(cache_type)
}

/// The type of values: that of keys unless a flag says otherwise. Where flags name the keys' type only, values
/// keep llama.cpp's default.
fn value_type(settings: &Settings) -> Option<KvType> {
    given_type(settings, "cache_type_v").or_else(|| settings.get("cache_type_k").map(|_| KvType::F16))
}

fn offload(settings: &Settings, num_layers: u64) -> (Offload, bool) {
    let given = settings.count("gpu_layers");
    let fit = settings.flag("fit").unwrap_or(true);
    let experts = match settings.flag("cpu_moe") {
        Some(true) => u64::MAX,
        _ => settings.count("n_cpu_moe").unwrap_or(0),
    };
    let offload = Offload {
        gpu_layers: given
            .filter(|layers| *layers < ALL_LAYERS)
            .unwrap_or(num_layers.saturating_add(1)),
        host_experts: experts,
    };
    (offload, fit && given.is_none())
}

fn placement(settings: &Settings, devices: usize, num_layers: u64) -> Placement {
    let mode = match settings.text("split_mode") {
        Some("row") => SplitMode::Row,
        Some("tensor") => SplitMode::Tensor,
        Some("none") => SplitMode::None,
        _ => SplitMode::Layer,
    };
    let shares: Vec<f64> = settings.text("tensor_split").map_or_else(Vec::new, |text| {
        let numbers = text.split([',', '/']).map(|part| part.trim().parse::<f64>());
        numbers
            .map(|share| {
                share
                    .ok()
                    .filter(|share| share.is_finite() && *share >= 0.0)
                    .unwrap_or(0.0)
            })
            .collect()
    });
    let main = settings
        .count("main_gpu")
        .and_then(|at| usize::try_from(at).ok())
        .unwrap_or(0);
    Placement::new(mode, devices, &shares, main, num_layers)
}

fn assumptions(settings: &Settings, machine: &Machine, num_layers: u64) -> Vec<String> {
    let mut said = Vec::new();
    let given = settings.count("gpu_layers").unwrap_or(0);
    if (ALL_LAYERS..=num_layers).contains(&given) {
        said.push(format!(
            "{given} offloaded layers are taken for all: llama.cpp leaves {} of {} in host memory",
            num_layers.saturating_add(1).saturating_sub(given),
            num_layers.saturating_add(1)
        ));
    }
    if machine.kind != MachineKind::Cpu && settings.get("gpu_layers").is_none() && !machine.unified_memory {
        said.push("--fit may move layers to host memory: accelerator bytes are those that stay".to_owned());
    }
    for (id, what) in [("mmproj", "the projector"), ("draft_model", "the draft model")] {
        if settings.get(id).is_some() {
            said.push(format!("{what} is not counted"));
        }
    }
    said
}

/// Settings that contradict each other whatever the model is.
fn check_settings(settings: &Settings) -> Vec<Contradiction> {
    let mut wrong = Vec::new();
    for id in ["cache_type_k", "cache_type_v"] {
        let Some(text) = settings.text(id) else { continue };
        if !KvType::parse(text).is_some_and(|kind| KV_TYPES.contains(&kind)) {
            let names: Vec<_> = KV_TYPES.iter().map(|kind| ggml_name(*kind)).collect();
            wrong.push(Contradiction {
                rule: "kv-cache-dtype-unsupported",
                message: format!("llama.cpp has no cache type `{text}`: {}", names.join(", ")),
                settings: vec![id],
            });
        }
    }
    if let Some(slots) = settings.count("parallel").filter(|slots| *slots > MOST_SEQUENCES) {
        wrong.push(Contradiction {
            rule: Contradiction::GENERAL,
            message: format!("llama.cpp runs at most {MOST_SEQUENCES} sequences at once, not {slots}"),
            settings: vec!["parallel"],
        });
    }
    if settings.text("split_mode") == Some("tensor") && settings.flag("flash_attention") == Some(false) {
        wrong.push(Contradiction {
            rule: Contradiction::GENERAL,
            message: "split mode `tensor` needs flash attention, which is switched off".to_owned(),
            settings: vec!["split_mode", "flash_attention"],
        });
    }
    wrong
}

/// Why llama.cpp refuses a type of keys for this model, with the type of values that the settings give.
pub fn kv_contradiction(request: &Request<'_>, kv: KvType) -> Option<Contradiction> {
    let layout = request.model.layout.as_ref().ok()?;
    let found = check_types(layout, request.settings, Some(kv), value_type(request.settings));
    found.into_iter().next().map(|found| Contradiction {
        settings: found
            .settings
            .into_iter()
            .map(|id| if id == "cache_type_k" { "kv_cache" } else { id })
            .collect(),
        ..found
    })
}

/// What llama.cpp refuses of a pair of cache types for a model (`llama_init_from_model`). The keys' type may
/// come from a cell; `None` stands for f16.
pub fn check_types(
    layout: &Layout,
    settings: &Settings,
    key: Option<KvType>,
    value: Option<KvType>,
) -> Vec<Contradiction> {
    let key = key.map_or(KvType::F16, cache_type);
    let value = value.map_or(key, cache_type);
    let off = settings.flag("flash_attention") == Some(false);
    let mut wrong = Vec::new();
    let is_latent = layout
        .groups
        .iter()
        .any(|group| matches!(group.cache, Cache::Latent { .. }));
    if is_latent && key != value {
        wrong.push(Contradiction {
            rule: "llama-kv-block-mismatch",
            message: format!(
                "the model keeps one latent for keys and values, so their types must be the same, not {} and {}",
                ggml_name(key),
                ggml_name(value)
            ),
            settings: vec!["cache_type_v", "cache_type_k"],
        });
    }
    if off && value.block().0 > 1 {
        wrong.push(Contradiction {
            rule: "llama-quantized-v-needs-flash-attn",
            message: format!(
                "values in {} need flash attention, which is switched off",
                ggml_name(value)
            ),
            settings: vec!["cache_type_v", "flash_attention"],
        });
    }
    if !off {
        wrong.extend(check_blocks(layout, key, value));
    }
    wrong
}

/// Flash attention reads whole blocks of one head.
fn check_blocks(layout: &Layout, key: KvType, value: KvType) -> Option<Contradiction> {
    let heads = layout.groups.iter().filter_map(|group| match group.cache {
        Cache::Attention { k_dim, v_dim, .. } => Some((k_dim, v_dim)),
        Cache::Latent { rank, rope_dim } => Some((rank.saturating_add(rope_dim), 0)),
        _ => None,
    });
    let uneven = |dim: u64, kind: KvType| !dim.is_multiple_of(kind.block().0);
    let (dim, kind, id) = heads.into_iter().find_map(|(k_dim, v_dim)| {
        if uneven(k_dim, key) {
            Some((k_dim, key, "cache_type_k"))
        } else {
            uneven(v_dim, value).then_some((v_dim, value, "cache_type_v"))
        }
    })?;
    Some(Contradiction {
        rule: "llama-kv-block-mismatch",
        message: format!(
            "{} stores blocks of {} elements, which do not divide the {dim} elements of a head",
            ggml_name(kind),
            kind.block().0
        ),
        settings: vec![id],
    })
}

/// The name that `-ctk` takes.
fn ggml_name(kind: KvType) -> &'static str {
    match kind {
        KvType::F32 => "f32",
        KvType::F16 => "f16",
        other => other.name(),
    }
}

#[cfg(test)]
mod tests;
