//! Measured caches of transformers and mlx-lm (`../shared/truth`) against our plans. Skips with a printed line
//! where the records are absent.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that scores and prints"
)]

use std::path::{Path, PathBuf};

use oomlint::engine::{Cell, KvType, Plan, Request, Reservation, Settings, mlx, transformers};
use oomlint::fact::Fact;
use oomlint::machine::{Machine, MachineKind};
use oomlint::memory::kv::kv_cache_bytes;
use oomlint::memory::layout::{Cache, LayerGroup, Layout, Reach};
use oomlint::model::{Model, ModelSource, config};
use oomlint::source::{FileId, SourceFile};
use serde_json::Value;

fn records(name: &str) -> Option<Vec<Value>> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/truth")
        .join(name);
    if !path.exists() {
        println!("skipped: ../shared/truth/{name} is absent");
        return None;
    }
    let text = std::fs::read_to_string(path).unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

/// The one place where a record's config becomes a model.
fn model(config: &Value) -> Model {
    let file = SourceFile::new(FileId::from_index(0), "config.json", config.to_string());
    let facts = config::read(&file);
    let mut model = Model::bare("m", "m", ModelSource::Directory, facts.layout);
    model.model_type = facts.model_type;
    model.dims = facts.dims;
    model.dtype = facts.dtype;
    model.config = Some(facts.json);
    model
}

/// True while config.json cannot be read yet.
fn is_stand_in(model: &Model) -> bool {
    model
        .layout
        .as_ref()
        .is_err_and(|refusal| refusal.reason == "stand-in")
}

fn machine() -> Machine {
    Machine {
        id: "machine".into(),
        kind: MachineKind::Cpu,
        count: 1,
        memory_bytes: 1 << 40,
        runtime_memory_bytes: None,
        unified_memory: true,
        compute_capability: None,
        working_set_bytes: None,
        apple_generation: None,
        macos: None,
        bandwidth: None,
        provenance: String::new(),
    }
}

type Planner = fn(&Request<'_>) -> Result<Box<dyn Plan>, Vec<oomlint::engine::Contradiction>>;

fn reserve(plan: Planner, model: &Model, settings: &Settings, cell: Cell) -> Result<Reservation, String> {
    if let Err(refusal) = &model.layout {
        return Err(format!("refused: {}", refusal.reason));
    }
    let request = Request {
        model,
        machine: &machine(),
        version: None,
        settings,
        weights_bytes: 0,
        format: None,
    };
    plan(&request)
        .map(|plan| plan.reserve(cell))
        .map_err(|wrong| wrong[0].message.clone())
}

fn set(settings: &mut Settings, id: &str, value: u64) {
    settings.set(id, Fact::default(value.to_string(), "the record"));
}

#[derive(Default)]
struct Score {
    total: usize,
    exact: usize,
    misses: Vec<String>,
}

impl Score {
    fn note(&mut self, ours: &Result<u64, String>, measured: u64, name: &str) {
        self.total += 1;
        if *ours == Ok(measured) {
            self.exact += 1;
        } else {
            self.misses.push(format!("{name}: {ours:?}, measured {measured}"));
        }
    }

    fn print(&self, what: &str) {
        println!("{what:<40} {:>5} / {}", self.exact, self.total);
        for miss in &self.misses {
            println!("    {miss}");
        }
    }
}

/// Tokens of the encoder in a record: prompts of an encoder are no part of a cell.
fn encoder_tokens(record: &Value) -> Option<u64> {
    record["tensors"]["0"].get(2)?["shape"].get(2)?.as_u64()
}

#[test]
fn transformers_caches_are_exact() {
    let Some(records) = records("transformers_cache.jsonl") else {
        return;
    };
    let mut score = Score::default();
    for record in &records {
        let model = model(&record["config"]);
        if is_stand_in(&model) {
            println!("skipped: config.json cannot be read yet");
            return;
        }
        let mut settings = Settings::default();
        if record["cache_class"] == "EncoderDecoderCache"
            && let Some(tokens) = encoder_tokens(record)
        {
            set(&mut settings, "encoder_tokens", tokens);
        }
        // Every record ran in bfloat16, whatever its config says.
        let cell = Cell {
            context: record["seq_len"].as_u64().unwrap(),
            batch: record["batch"].as_u64().unwrap(),
            kv: KvType::Bf16,
        };
        let ours = reserve(transformers::plan, &model, &settings, cell)
            .map(|taken| taken.kv_cache_bytes + taken.state_bytes);
        let name = format!("{} {cell:?}", record["name"]);
        score.note(&ours, record["total_bytes"].as_u64().unwrap(), &name);
    }
    score.print("transformers caches");
    assert_eq!(score.exact, score.total);
}

/// A cell is a prompt that is prefilled in chunks of 2048 tokens, and its bytes are those of the largest moment.
/// What a rotating cache holds after several updates or single tokens has no cell.
fn is_expressible(rotates: bool, updates: &[u64]) -> bool {
    !rotates || (updates.len() == 1 && updates[0] > 1 && updates[0] <= 2048)
}

#[test]
fn mlx_models_keep_what_was_measured() {
    let Some(records) = records("mlx_cache.jsonl") else {
        return;
    };
    let (mut score, mut without) = (Score::default(), 0);
    for record in records.iter().filter(|record| record["level"] == "model") {
        let model = model(&record["config"]);
        if is_stand_in(&model) {
            println!("skipped: config.json cannot be read yet");
            return;
        }
        let updates: Vec<u64> = record["updates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .collect();
        let rotates = record["caches"]
            .as_array()
            .unwrap()
            .iter()
            .any(|cache| cache["cls"] == "RotatingKVCache");
        let name = format!("{} {updates:?}", record["name"]);
        if !is_expressible(rotates, &updates) {
            without += 1;
            println!("    no cell expresses {name}: single tokens trim a rotating cache");
            continue;
        }
        let cell = Cell {
            context: updates.iter().sum(),
            batch: 1,
            kv: KvType::F16,
        };
        let ours = reserve(mlx::plan, &model, &Settings::default(), cell)
            .map(|taken| taken.kv_cache_bytes + taken.state_bytes);
        score.note(&ours, record["total_nbytes"].as_u64().unwrap(), &name);
    }
    score.print("mlx models");
    println!("mlx models without a cell                {without:>5}");
    assert_eq!(score.exact, score.total);
}

#[test]
fn mlx_cache_classes_keep_what_was_measured() {
    let Some(records) = records("mlx_cache.jsonl") else {
        return;
    };
    let (mut score, mut without) = (Score::default(), 0);
    for record in records.iter().filter(|record| record["level"] == "class") {
        let count = |key: &str| record[key].as_u64();
        let updates: Vec<u64> = record["updates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .collect();
        if !is_expressible(record["cls"] == "RotatingKVCache", &updates) {
            without += 1;
            continue;
        }
        let attention = Cache::Attention {
            kv_heads: count("heads").unwrap(),
            k_dim: count("k_dim").unwrap(),
            v_dim: count("v_dim").unwrap(),
            reach: Reach::Full,
        };
        let mut settings = Settings::default();
        for (id, key) in [
            ("kv_bits", "bits"),
            ("kv_group_size", "group_size"),
            ("max_kv_size", "max_size"),
        ] {
            if let Some(value) = count(key) {
                set(&mut settings, id, value);
            }
        }
        let cell = Cell {
            context: updates.iter().sum(),
            batch: 1,
            kv: KvType::parse(record["dtype"].as_str().unwrap()).unwrap(),
        };
        let ours =
            reserve(mlx::plan, &one_layer(attention), &settings, cell).map(|taken| taken.kv_cache_bytes);
        score.note(
            &ours,
            count("nbytes").unwrap(),
            &format!("{} {cell:?}", record["cls"]),
        );
    }
    score.print("mlx cache classes");
    println!("mlx cache classes without a cell         {without:>5}");
    assert_eq!(score.exact, score.total);
}

fn one_layer(cache: Cache) -> Model {
    let layout = Layout {
        num_layers: 1,
        groups: vec![LayerGroup {
            cache,
            layers: vec![0],
        }],
        ..Layout::default()
    };
    Model::bare("m", "m", ModelSource::Directory, Ok(layout))
}

#[test]
fn plain_attention_on_mlx_is_the_core_formula() {
    let attention = Cache::Attention {
        kv_heads: 8,
        k_dim: 128,
        v_dim: 128,
        reach: Reach::Full,
    };
    let mut model = one_layer(attention);
    if let Ok(layout) = &mut model.layout {
        layout.groups[0].layers = (0..32).collect();
    }
    for context in [1, 255, 256, 257, 8192, 131_072] {
        for batch in [1, 3] {
            for (kv, element_bytes) in [(KvType::F16, 2), (KvType::Int8, 1)] {
                let taken = reserve(
                    mlx::plan,
                    &model,
                    &Settings::default(),
                    Cell { context, batch, kv },
                )
                .unwrap();
                assert_eq!(
                    taken.kv_cache_bytes,
                    kv_cache_bytes(32, 8, 128, element_bytes, context, batch)
                );
            }
        }
    }
}
