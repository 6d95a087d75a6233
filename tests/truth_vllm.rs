//! Scores vLLM's plan against its own planner, record by record.
//!
//! The records (`../shared/truth/vllm_kv.jsonl`) are not part of the project; without them the test prints a
//! line and passes. What a model's layers keep is taken from the records' own layer specs (of the record
//! without tensor parallelism), so that the score is the allocator's alone.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a record of another shape must fail the test"
)]

use std::collections::BTreeMap;

use oomlint::engine::{Cell, KvType, Request, Reservation, Settings, Version, sglang, vllm};
use oomlint::fact::Fact;
use oomlint::machine::{Machine, MachineKind};
use oomlint::memory::layout::{Cache, LayerGroup, Layout, Reach, State};
use oomlint::memory::{MIB, solve};
use oomlint::model::{Dims, Dtype, Model, ModelSource, Weights};
use oomlint::scenario::Verdict;
use serde_json::Value;

#[test]
fn plans_equal_those_of_the_engine() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/truth/vllm_kv.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no truth data");
        return;
    };
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut score: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut whole = 0;
    for record in &records {
        let checks = compare(record, &records);
        for (what, right) in &checks {
            let entry = score.entry(what).or_default();
            *entry = (entry.0 + usize::from(*right), entry.1 + 1);
        }
        let missed: Vec<_> = checks
            .iter()
            .filter(|(_, right)| !right)
            .map(|(what, _)| *what)
            .collect();
        if missed.is_empty() {
            whole += 1;
        } else {
            println!(
                "{} on {} {}: {}",
                record["name"],
                record["gpu"],
                record["flags"],
                missed.join(", ")
            );
        }
    }
    for (what, (right, of)) in &score {
        println!("vLLM {what}: {right} of {of}");
    }
    println!("vLLM records exact in all: {whole} of {}", records.len());
    assert!(whole * 100 >= records.len() * 99);
}

/// Every figure of a record, and whether the plan gives the same.
fn compare(record: &Value, records: &[Value]) -> Vec<(&'static str, bool)> {
    let model = model(record, layout(record, records));
    let machine = machine(record["gpu"].as_str().unwrap());
    let settings = settings(record);
    let request = Request {
        model: &model,
        machine: &machine,
        version: Version::parse("0.33.0"),
        settings: &settings,
        weights_bytes: record["weights_bytes_per_rank"].as_u64().unwrap(),
        format: None,
    };
    let Ok(plan) = vllm::plan(&request) else {
        return vec![("plan", false)];
    };
    let kv = record["flags"]["kv_cache_dtype"].as_str().and_then(KvType::parse);
    let reserve = |context| {
        plan.reserve(Cell {
            context,
            batch: 1,
            kv: kv.unwrap_or(KvType::Auto),
        })
    };
    let verdict = |reservation: &Reservation| {
        Verdict::judge(
            reservation.certain_bytes(),
            reservation.overhead,
            reservation.usable_bytes,
        )
    };
    let context = number(record, "max_model_len");
    let reservation = reserve(context);
    let ok = record["ok"] == true;
    let block = reservation.extra_reserved_bytes;
    let mut checks = vec![
        ("bytes per block", block == number(record, "bytes_per_block")),
        (
            "needed bytes",
            reservation.kv_cache_bytes == number(record, "needed_bytes_for_max_len"),
        ),
        (
            "verdict",
            (verdict(&reservation) == Verdict::Fits) == ok
                && (verdict(&reservation) == Verdict::Exceeds) != ok,
        ),
    ];
    if ok {
        let blocks = number(record, "available_bytes").checked_div(block);
        checks.push(("blocks", blocks == Some(number(record, "num_blocks"))));
        checks.push((
            "tokens",
            reservation.kv_cache_tokens == Some(number(record, "kv_tokens")),
        ));
        checks.push((
            "concurrency",
            reservation.max_concurrency == record["max_concurrency"].as_f64(),
        ));
    } else if let Some(estimated) = record["estimated_max_len"].as_u64() {
        let largest = solve::largest(context, |tokens| verdict(&reserve(tokens)) != Verdict::Exceeds);
        checks.push(("estimated length", largest == Some(estimated)));
    }
    checks
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn fact<T>(value: T) -> Fact<T> {
    Fact::default(value, "the record's")
}

fn settings(record: &Value) -> Settings {
    let mut settings = Settings::default();
    let mut set = |id: &str, value: String| {
        settings.set(id, fact(value));
    };
    for (flag, value) in record["flags"].as_object().unwrap() {
        match flag.as_str() {
            "block_size" => set("block_size", value.to_string()),
            "tensor_parallel_size" => set("tensor_parallel", value.to_string()),
            "max_num_batched_tokens" => set("max_batched_tokens", value.to_string()),
            "async_scheduling" => set("async_scheduling", value.to_string()),
            "enable_prefix_caching" => set("prefix_caching", value.to_string()),
            "disable_hybrid_kv_cache_manager" => set("hybrid_kv_cache_manager", (value != true).to_string()),
            "max_model_len" | "kv_cache_dtype" => {}
            other => panic!("unknown flag {other}"),
        }
    }
    set(
        "kv_cache_memory_bytes",
        number(record, "available_bytes").to_string(),
    );
    settings
}

/// The accelerators that the records stand in for, with the memory that their drivers report.
fn machine(gpu: &str) -> Machine {
    let (id, mib, capability) = match gpu {
        "NVIDIA H100 80GB HBM3" => ("h100-sxm-80gb", 81_559, (9, 0)),
        "NVIDIA B200" => ("b200", 183_359, (10, 0)),
        "NVIDIA A100-SXM4-80GB" => ("a100-sxm-80gb", 81_920, (8, 0)),
        "NVIDIA GeForce RTX 4090" => ("rtx-4090", 24_564, (8, 9)),
        other => panic!("unknown accelerator {other}"),
    };
    Machine {
        id: id.to_owned(),
        kind: MachineKind::Nvidia,
        count: 1,
        memory_bytes: mib * MIB,
        runtime_memory_bytes: None,
        unified_memory: false,
        compute_capability: Some(capability),
        working_set_bytes: None,
        apple_generation: None,
        macos: None,
        bandwidth: None,
        provenance: String::new(),
    }
}

/// The model of a record. This is the one place where the layout comes from.
fn model(record: &Value, layout: Layout) -> Model {
    let config = &record["config"];
    let heads = config["num_attention_heads"].as_u64();
    Model {
        assumptions: Vec::new(),
        name: record["name"].as_str().unwrap().to_owned(),
        path: String::new(),
        source: ModelSource::Directory,
        architecture: None,
        model_type: record["model_type"].as_str().map(|name| fact(name.to_owned())),
        dims: Dims {
            num_heads: heads.map(fact),
            ..Dims::default()
        },
        dtype: config["torch_dtype"].as_str().and_then(Dtype::parse).map(fact),
        max_context: None,
        longest_context: None,
        census: None,
        quantization: None,
        layout: Ok(layout),
        parameters: None,
        weights: Weights::default(),
        gguf: None,
        config: Some(config.clone()),
        bytes_read: 0,
    }
}

/// The layout that a record's layer specs tell. Specs of a rank hide the heads of the whole, so they are read
/// from the record of the same model without tensor parallelism.
fn layout(record: &Value, records: &[Value]) -> Layout {
    let whole = records
        .iter()
        .find(|other| other["name"] == record["name"] && other["flags"]["tensor_parallel_size"].is_null())
        .unwrap_or(record);
    let config = &record["config"];
    let mut groups = Vec::new();
    let mut first = 0;
    for spec in whole["layer_specs"].as_array().unwrap() {
        let count = u32::try_from(number(spec, "layers")).unwrap();
        groups.push(LayerGroup {
            cache: cache(spec, config),
            layers: (first..first + count).collect(),
        });
        first += count;
    }
    Layout {
        num_layers: u64::from(first),
        nextn_layers: 0,
        groups,
    }
}

fn cache(spec: &Value, config: &Value) -> Cache {
    let attention = |reach| Cache::Attention {
        kv_heads: number(spec, "num_kv_heads"),
        k_dim: number(spec, "head_size"),
        v_dim: number(spec, "head_size_v"),
        reach,
    };
    let ratio = || spec["tokens_per_state"].as_str().unwrap().parse().unwrap();
    match spec["type"].as_str().unwrap() {
        "FullAttentionSpec" => attention(Reach::Full),
        "SlidingWindowMLASpec" if spec["dtype"] == "torch.float32" => Cache::Ring {
            width: number(spec, "head_size"),
            tokens: number(spec, "sliding_window"),
        },
        "SlidingWindowSpec" | "SlidingWindowMLASpec" => {
            attention(Reach::Window(number(spec, "sliding_window")))
        }
        "ChunkedLocalAttentionSpec" => attention(Reach::Chunk(number(spec, "attention_chunk_size"))),
        "CrossAttentionSpec" => Cache::Cross {
            kv_heads: number(spec, "num_kv_heads"),
            k_dim: number(spec, "head_size"),
            v_dim: number(spec, "head_size_v"),
            encoder_tokens: number(config, "max_source_positions"),
        },
        "MLAAttentionSpec" if spec["state_content_bytes"].is_u64() => Cache::Compressed {
            ratio: ratio(),
            head_dim: number(spec, "head_size"),
        },
        "MLAAttentionSpec" if spec["tokens_per_state"].is_string() => Cache::CompressedIndexer {
            ratio: ratio(),
            head_dim: 128,
        },
        "MLAAttentionSpec" if number(spec, "head_size") == 132 => Cache::Indexer { head_dim: 128 },
        "MLAAttentionSpec" => Cache::Latent {
            rank: number(config, "kv_lora_rank"),
            rope_dim: number(config, "qk_rope_head_dim"),
        },
        "MambaSpec" => Cache::Recurrent {
            state: state(spec, config),
            state_element_bytes: None,
        },
        other => panic!("unknown spec {other}"),
    }
}

fn state(spec: &Value, config: &Value) -> State {
    let field = |keys: &[&str]| {
        keys.iter()
            .map(|key| number(config, key))
            .find(|n| *n > 0)
            .unwrap_or(1)
    };
    let shapes: Vec<Vec<u64>> = serde_json::from_value(spec["shapes"].clone()).unwrap();
    let kernel = shapes[0][0] + 1;
    match shapes[1].as_slice() {
        [inner, state] => State::Mamba1 {
            inner: *inner,
            state: *state,
            conv_kernel: kernel,
        },
        [value_heads, value_dim, key_dim] if number(config, "linear_num_key_heads") > 0 => State::DeltaNet {
            key_heads: number(config, "linear_num_key_heads"),
            key_dim: *key_dim,
            value_heads: *value_heads,
            value_dim: *value_dim,
            conv_kernel: kernel,
        },
        [heads, head_dim, state] => State::Mamba2 {
            inner: heads * head_dim,
            groups: field(&["n_groups", "mamba_ngroups", "mamba_n_groups"]),
            state: *state,
            heads: *heads,
            head_dim: *head_dim,
            conv_kernel: kernel,
        },
        other => panic!("unknown state {other:?}"),
    }
}

/// Vocabulary, hidden size, widest feed-forward row and whether images are read, for the models of the logs.
const LOGGED: [(&str, u64, u64, u64, bool); 22] = [
    ("Llama-3", 128_256, 4096, 14_336, false),
    ("gpt-oss-20b", 201_088, 2880, 4 * 2880, false),
    ("gpt-oss-120b", 201_088, 2880, 4 * 2880, false),
    ("Qwen3-Coder-30B", 151_936, 2048, 8 * 768, false),
    ("Qwen3-30B", 151_936, 2048, 8 * 768, false),
    ("Qwen3-14B", 151_936, 5120, 17_408, false),
    ("gemma-3-27b", 262_208, 5376, 21_504, true),
    ("gemma-3-12b", 262_208, 3840, 15_360, true),
    ("gemma-4-26B", 262_144, 2816, 8 * 704, true),
    ("Qwen3.5-4B", 248_320, 2560, 9216, true),
    ("Qwen3.5-9B", 248_320, 4096, 12_288, true),
    ("Qwen3.5-27B", 248_320, 5120, 17_408, true),
    ("Qwen3.8-27B", 248_320, 5120, 17_408, true),
    ("Qwen3.6-35B", 248_320, 2048, 8 * 512, true),
    ("Phi-3-mini", 32_064, 3072, 8192, false),
    ("GLM-5.1", 154_880, 6144, 8 * 2048, false),
    ("Laguna", 100_352, 3072, 10 * 1024, false),
    ("Qwen2.5-1.5B", 151_936, 1536, 8960, false),
    ("Qwen2.5-3B", 151_936, 2048, 11_008, false),
    ("Qwen2-7B", 152_064, 3584, 18_944, false),
    ("Qwen2.5-32B", 152_064, 5120, 27_648, false),
    ("Qwen2.5-72B", 152_064, 8192, 29_568, false),
];

/// GiB that torch reports, for accelerators whose logs do not print them.
const TOTALS: [(&str, f64, MachineKind, (u32, u32)); 13] = [
    ("H200", 139.7, MachineKind::Nvidia, (9, 0)),
    ("H100", 79.18, MachineKind::Nvidia, (9, 0)),
    ("GB10", 119.7, MachineKind::Nvidia, (12, 1)),
    ("RTX 5090", 31.36, MachineKind::Nvidia, (12, 0)),
    ("RTX 4090", 23.55, MachineKind::Nvidia, (8, 9)),
    ("RTX 3090", 23.58, MachineKind::Nvidia, (8, 6)),
    ("RTX 5000 Ada", 31.5, MachineKind::Nvidia, (8, 9)),
    ("RTX PRO 6000", 94.97, MachineKind::Nvidia, (12, 0)),
    ("L40S", 44.47, MachineKind::Nvidia, (8, 9)),
    ("A100 80GB", 79.25, MachineKind::Nvidia, (8, 0)),
    ("A100 40GB", 39.44, MachineKind::Nvidia, (8, 0)),
    ("R9700", 31.86, MachineKind::Amd, (0, 0)),
    ("A40", 47.74, MachineKind::Nvidia, (8, 6)),
];

const GIB: f64 = (1u64 << 30) as f64;

/// A log line's deployment as a request, and what its pool took.
struct Logged {
    model: Model,
    machine: Machine,
    settings: Settings,
    version: Option<Version>,
    weights_bytes: u64,
    available: f64,
    name: String,
    complete: bool,
    /// Bytes that one request of the declared length needs, where the log tells.
    need: Option<f64>,
    ran: bool,
}

/// Pools are compared in bytes, so that any layout will do.
fn one_layer() -> Layout {
    let cache = Cache::Attention {
        kv_heads: 8,
        k_dim: 128,
        v_dim: 128,
        reach: Reach::Full,
    };
    Layout {
        num_layers: 1,
        nextn_layers: 0,
        groups: vec![LayerGroup {
            cache,
            layers: vec![0],
        }],
    }
}

fn logged(record: &Value) -> Option<Logged> {
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let log = &record["logged"];
    if record["engine"] != "vllm" {
        return None;
    }
    let available = log["available_kv_gib"].as_f64().filter(|gib| *gib > 0.0)? * GIB;
    let rank_weights = log["weights_gib"].as_f64()? * GIB;
    let dims = LOGGED.iter().find(|row| text("model").contains(row.0))?;
    let gpu = TOTALS.iter().find(|row| text("gpu").contains(row.0));
    let total = record["gpu_total_gib_torch"].as_f64().or_else(|| Some(gpu?.1))? * GIB;
    let ranks = record["tensor_parallel"].as_f64().unwrap_or(1.0);
    let mut settings = Settings::default();
    for (key, id) in [
        ("tensor_parallel", "tensor_parallel"),
        ("gpu_memory_utilization", "memory_fraction"),
        ("max_num_seqs", "max_sequences"),
        ("max_num_batched_tokens", "max_batched_tokens"),
        ("enforce_eager", "enforce_eager"),
    ] {
        if !record[key].is_null() {
            settings.set(id, fact(record[key].to_string()));
        }
    }
    // Other flags are printed as a Python dictionary.
    let other = text("other_flags");
    for (key, id) in [
        ("'num_speculative_tokens': ", "num_speculative_tokens"),
        ("'max_cudagraph_capture_size': ", "max_cudagraph_capture_size"),
    ] {
        let after = other.split(key).nth(1).unwrap_or_default();
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() {
            settings.set(id, fact(digits));
        }
    }
    let mut machine = machine("NVIDIA B200");
    machine.id = text("gpu").to_lowercase().replace(' ', "-");
    machine.kind = gpu.map_or(MachineKind::Nvidia, |row| row.2);
    machine.compute_capability = gpu.map(|row| row.3);
    machine.memory_bytes = total as u64;
    machine.runtime_memory_bytes = Some(total as u64);
    machine.unified_memory = machine.id.contains("gb10");
    let mut config = serde_json::json!({"intermediate_size": dims.3});
    if dims.4 {
        config["vision_config"] = serde_json::json!({});
    }
    let stub = serde_json::json!({"name": record["model"], "model_type": "any", "config": config});
    let mut model = model(&stub, one_layer());
    model.dims.vocab_size = Some(fact(dims.1));
    model.dims.hidden_size = Some(fact(dims.2));
    let needed = log["kv_needed_gib"].as_f64().map(|gib| gib * GIB);
    let served = log["max_concurrency"]
        .as_f64()
        .map(|requests| available / requests);
    Some(Logged {
        model,
        machine,
        settings,
        version: Version::parse(&text("engine_version")),
        weights_bytes: (rank_weights * ranks) as u64,
        available,
        name: format!("{} {} on {}", text("engine_version"), text("model"), text("gpu")),
        complete: record["flags_complete"] == true,
        need: needed.or(served),
        ran: record["outcome"] == "fits",
    })
}

#[test]
fn pools_come_close_to_those_of_start_up_logs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/truth/engine_logs.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no truth data");
        return;
    };
    let (mut complete, mut all) = (Vec::new(), Vec::new());
    let (mut judged, mut right) = (0, 0);
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let Some(log) = logged(&record) else { continue };
        let request = Request {
            model: &log.model,
            machine: &log.machine,
            version: log.version,
            settings: &log.settings,
            weights_bytes: log.weights_bytes,
            format: None,
        };
        let plan = vllm::plan(&request).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        let context = record["max_model_len"].as_u64().unwrap_or(8192);
        let reservation = plan.reserve(Cell {
            context,
            batch: 1,
            kv: KvType::Auto,
        });
        let given = reservation.usable_bytes as f64 - reservation.weights_bytes as f64;
        let (taken, overhead) = (given - log.available, reservation.overhead);
        let error = (given - overhead.likely as f64) / log.available - 1.0;
        println!(
            "| {} | {} | {:.2} | {:.2} ({:.2} to {:.2}) | {:+.1} % |",
            log.name,
            if log.complete { "yes" } else { "no" },
            taken / GIB,
            overhead.likely as f64 / GIB,
            overhead.low as f64 / GIB,
            overhead.high as f64 / GIB,
            error * 100.0
        );
        all.push(error.abs());
        if log.complete {
            complete.push(error.abs());
        }
        if let Some(need) = log.need {
            let certain = reservation.weights_bytes + need as u64;
            let verdict = Verdict::judge(certain, overhead, reservation.usable_bytes);
            let fits = matches!(verdict, Verdict::Fits | Verdict::LikelyFits);
            judged += 1;
            right += usize::from(fits == log.ran);
            assert!(!(log.ran && verdict == Verdict::Exceeds), "{} ran", log.name);
            if fits != log.ran {
                println!("  verdict {verdict:?}, ran {}", log.ran);
            }
        }
    }
    for (what, errors) in [("complete flags", &mut complete), ("all", &mut all)] {
        errors.sort_by(f64::total_cmp);
        let at = |share: f64| errors[((errors.len() - 1) as f64 * share).round() as usize] * 100.0;
        let within = |limit: f64| errors.iter().filter(|error| **error <= limit).count();
        println!(
            "pools, {what}: {} records, median {:.1} %, nine in ten {:.1} %, within 15 % {}",
            errors.len(),
            at(0.5),
            at(0.9),
            within(0.15)
        );
    }
    println!("verdicts: {right} of {judged}");
}

/// Bytes of the pools that an SGLang log states, its memory fraction, weights and the accelerator's total.
fn sglang_pools(record: &Value) -> Option<(f64, f64, f64, f64)> {
    let log = &record["logged"];
    let pool = |pool: &Value, key: &str, value: &str| Some(pool[key].as_f64()? + pool[value].as_f64()?);
    let gib = match log["other"]["kv_pools"].as_array() {
        Some(pools) => pools.iter().map(|one| pool(one, "k_gb", "v_gb").unwrap()).sum(),
        None => pool(log, "k_size_gb", "v_size_gb")?,
    };
    let gpu = TOTALS
        .iter()
        .find(|row| record["gpu"].as_str().unwrap().contains(row.0))?;
    Some((
        gib,
        record["mem_fraction_static"].as_f64()?,
        log["weights_gib"].as_f64()?,
        gpu.1,
    ))
}

#[test]
fn sglang_pools_come_close_to_those_of_start_up_logs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/truth/engine_logs.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no truth data");
        return;
    };
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let Some((pool, fraction, weights, total)) =
            sglang_pools(&record).filter(|_| record["engine"] == "sglang")
        else {
            continue;
        };
        let mut settings = Settings::default();
        settings.set("memory_fraction", fact(fraction.to_string()));
        let mut machine = machine("NVIDIA GeForce RTX 4090");
        machine.memory_bytes = (total * GIB) as u64;
        machine.runtime_memory_bytes = Some(machine.memory_bytes);
        let stub = serde_json::json!({"name": record["model"], "model_type": "any", "config": {}});
        let model = model(&stub, one_layer());
        let request = Request {
            model: &model,
            machine: &machine,
            version: None,
            settings: &settings,
            weights_bytes: (weights * GIB) as u64,
            format: None,
        };
        let plan = sglang::plan(&request).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        let reservation = plan.reserve(Cell {
            context: 1024,
            batch: 1,
            kv: KvType::Auto,
        });
        let given = reservation.usable_bytes - reservation.weights_bytes - reservation.overhead.likely;
        let error = given as f64 / GIB / pool - 1.0;
        println!(
            "| sglang {} on {} | {pool:.2} | {:.2} | {:+.1} % |",
            record["model"],
            record["gpu"],
            given as f64 / GIB,
            error * 100.0
        );
        assert!(error.abs() < 0.05, "{error}");
    }
}
