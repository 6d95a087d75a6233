//! Ollama: starts llama.cpp's server as a subprocess, with inputs of its own.
//!
//! A cell's context is `num_ctx`, which each of the parallel requests gets; batch sizes grow with it; the cache
//! type holds for keys and values alike. All the rest is [`llama_cpp`](super::llama_cpp). Source:
//! `ollama/ollama` fb3076099 (2026-08-21), `server/routes.go`, `server/sched.go`, `llm/llama_server.go`,
//! `envconfig/config.go`; read, not measured.

use super::llama_cpp::{Batches, Defaults, LlamaCpp};
use super::{Cell, Contradiction, KvType, Plan, Request, Reservation, Settings};
use crate::fact::Fact;
use crate::machine::Machine;
use crate::memory::{GIB, product};
use crate::model::Model;

/// Default `num_ctx` by the memory of all accelerators together, largest first.
const CONTEXT_TIERS: [(u64, u64); 2] = [(47 * GIB, 262_144), (23 * GIB, 32_768)];

/// Default `num_ctx` below every tier.
const SMALLEST_CONTEXT: u64 = 4096;

/// GGUF architectures that Ollama runs with one request at a time.
const ONE_AT_A_TIME: [&str; 10] = [
    "mllama",
    "qwen3vl",
    "qwen3vlmoe",
    "qwen35",
    "qwen35moe",
    "qwen3next",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
];

/// Settings that mean the same for llama.cpp under another name.
const TRANSLATED: [(&str, &str); 3] = [
    ("num_gpu", "gpu_layers"),
    ("flash_attention", "flash_attention"),
    ("mmproj", "mmproj"),
];

/// The context in tokens that Ollama gives a model where nobody asks for one.
pub fn default_context(machine: &Machine, model: &Model) -> u64 {
    let memory = machine.memory_bytes.saturating_mul(machine.count.max(1));
    let tier = CONTEXT_TIERS.iter().find(|(least, _)| memory >= *least);
    capped(tier.map_or(SMALLEST_CONTEXT, |(_, context)| *context), model)
}

/// No model gets more than the context it was made for.
fn capped(context: u64, model: &Model) -> u64 {
    model
        .max_context
        .as_ref()
        .map_or(context, |most| context.min(most.value.max(1)))
}

/// Plans a deployment on Ollama.
///
/// # Errors
/// What llama.cpp refuses, and cache types that Ollama does not know.
pub fn plan(request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    let settings = request.settings;
    let given_type = settings.text("kv_cache_type").filter(|text| !text.is_empty());
    if let Some(text) = given_type.filter(|text| !matches!(*text, "f16" | "q8_0" | "q4_0")) {
        return Err(vec![Contradiction {
            rule: "kv-cache-dtype-unsupported",
            message: format!("Ollama has no KV cache type `{text}`: f16, q8_0, q4_0"),
            settings: vec!["kv_cache_type"],
        }]);
    }
    let translated = translate(settings);
    let defaults = Defaults {
        slots: (1, false),
        batches: batches(request),
    };
    let server = LlamaCpp::new(
        &Request {
            settings: &translated,
            ..*request
        },
        defaults,
    )?;
    let mut assumptions = server.assumptions().to_vec();
    let quantizes = settings.flag("flash_attention") != Some(false);
    if !quantizes && given_type.is_some_and(|text| text != "f16") {
        assumptions.push("without flash attention Ollama keeps the KV cache in f16".to_owned());
    }
    Ok(Box::new(Ollama {
        server,
        parallel: parallel(request.model, settings),
        max_context: request
            .model
            .max_context
            .as_ref()
            .map_or(u64::MAX, |most| most.value.max(1)),
        quantizes,
        assumptions,
    }))
}

/// A deployment on Ollama, ready for any cell.
struct Ollama {
    server: LlamaCpp,
    /// Requests at once; `None` leaves it to the cell.
    parallel: Option<u64>,
    max_context: u64,
    /// False where quantized cache types fall back to f16.
    quantizes: bool,
    assumptions: Vec<String>,
}

impl Ollama {
    /// The cell that llama.cpp is started for.
    fn served(&self, cell: Cell) -> Cell {
        Cell {
            context: cell.context.min(self.max_context),
            batch: self.parallel.unwrap_or(cell.batch),
            kv: if self.quantizes { cell.kv } else { KvType::F16 },
        }
    }
}

impl Plan for Ollama {
    fn reserve(&self, cell: Cell) -> Reservation {
        self.server.reserve(self.served(cell))
    }

    fn host_bytes(&self, cell: Cell) -> u64 {
        self.server.host_bytes(self.served(cell))
    }

    fn assumptions(&self) -> &[String] {
        &self.assumptions
    }
}

fn translate(settings: &Settings) -> Settings {
    let mut translated = Settings::default();
    for (own, theirs) in TRANSLATED {
        if let Some(fact) = settings.get(own) {
            translated.set(theirs, fact.clone());
        }
    }
    if let Some(batch) = settings.get("num_batch") {
        let batch: Fact<String> = batch.clone();
        translated.set("batch_size", batch.clone());
        translated.set("ubatch_size", batch);
    }
    translated
}

fn parallel(model: &Model, settings: &Settings) -> Option<u64> {
    let arch = model.architecture.as_ref().map_or("", |fact| fact.value.as_str());
    if ONE_AT_A_TIME.contains(&arch) {
        return Some(1);
    }
    settings.count("num_parallel").filter(|slots| *slots > 0)
}

/// The batch grows with the context while a crude forecast leaves room: the file, and a 16-bit cache of every
/// layer.
fn batches(request: &Request<'_>) -> Batches {
    let dims = &request.model.dims;
    let count = |fact: &Option<Fact<u64>>| fact.as_ref().map_or(0, |fact| fact.value);
    let heads = count(&dims.num_heads).max(1);
    let head_dim = count(&dims.hidden_size) / heads;
    let kv_heads = dims.num_kv_heads.as_ref().map_or(heads, |fact| fact.value);
    Batches::ByContext {
        file_bytes: request.weights_bytes,
        token_bytes: product(&[2, count(&dims.num_layers), kv_heads, head_dim, 2]),
        free_bytes: request
            .machine
            .engine_memory_bytes()
            .saturating_mul(request.machine.count.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineKind;
    use crate::memory::layout::{Cache, LayerGroup, Layout, Reach};
    use crate::model::ModelSource;

    fn model() -> Model {
        let cache = Cache::Attention {
            kv_heads: 8,
            k_dim: 128,
            v_dim: 128,
            reach: Reach::Full,
        };
        let layout = Layout {
            num_layers: 32,
            nextn_layers: 0,
            groups: vec![LayerGroup {
                cache,
                layers: (0..32).collect(),
            }],
        };
        let mut model = Model::bare("m", "m", ModelSource::Gguf, Ok(layout));
        model.max_context = Some(Fact::derived(8192, []));
        model
    }

    fn gpu(gib: u64) -> Machine {
        Machine {
            id: "gpu".into(),
            kind: MachineKind::Nvidia,
            count: 1,
            memory_bytes: gib * GIB,
            runtime_memory_bytes: None,
            unified_memory: false,
            compute_capability: None,
            working_set_bytes: None,
            apple_generation: None,
            macos: None,
            bandwidth: None,
            provenance: String::new(),
        }
    }

    fn kv_bytes(model: &Model, pairs: &[(&str, &str)], context: u64) -> u64 {
        let mut settings = Settings::default();
        for (id, value) in pairs {
            settings.set(*id, Fact::default((*value).to_owned(), "a test"));
        }
        let request = Request {
            model,
            machine: &gpu(80),
            version: None,
            settings: &settings,
            weights_bytes: GIB,
            format: None,
        };
        let kv = KvType::Q8_0;
        plan(&request)
            .unwrap()
            .reserve(Cell {
                context,
                batch: 1,
                kv,
            })
            .kv_cache_bytes
    }

    #[test]
    fn the_default_context_follows_the_memory_and_ends_at_the_model() {
        let mut model = model();
        assert_eq!(
            [8, 24, 48].map(|gib| default_context(&gpu(gib), &model)),
            [4096, 8192, 8192]
        );
        model.max_context = None;
        assert_eq!(
            [24, 48].map(|gib| default_context(&gpu(gib), &model)),
            [32_768, 262_144]
        );
    }

    #[test]
    fn every_parallel_request_gets_the_whole_context() {
        let one = kv_bytes(&model(), &[], 8192);
        assert_eq!(one, GIB / 32 * 17);
        assert_eq!(kv_bytes(&model(), &[("num_parallel", "4")], 8192), 4 * one);
        assert_eq!(kv_bytes(&model(), &[], 1 << 20), one);
        let mut single = model();
        single.architecture = Some(Fact::derived("qwen3next".into(), []));
        assert_eq!(kv_bytes(&single, &[("num_parallel", "4")], 8192), one);
    }

    #[test]
    fn without_flash_attention_the_cache_stays_f16() {
        assert_eq!(kv_bytes(&model(), &[("flash_attention", "0")], 8192), GIB);
    }
}
