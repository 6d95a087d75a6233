//! Measured llama.cpp records (`../shared/truth/llamacpp.jsonl`) against our plan: buffers, contexts, refusals.
//! Skips with a printed line where the records are absent.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test that scores and prints"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oomlint::engine::llama_cpp::{context_used, plan};
use oomlint::engine::{Cell, KvType, Request, Settings};
use oomlint::fact::Fact;
use oomlint::machine::{Machine, MachineKind};
use oomlint::model::gguf::{from_metadata, load};
use oomlint::model::{Dims, GgufFacts, GgufValue, Model, ModelSource, config};
use oomlint::source::{FileId, SourceFile};
use serde_json::Value;

fn truth(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/truth")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: ../shared/truth/{name} is absent");
    None
}

fn records(name: &str) -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(truth(name)?).unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn metadata(header: &Value) -> BTreeMap<String, GgufValue> {
    fn value(json: &Value) -> GgufValue {
        match json {
            Value::Bool(flag) => GgufValue::Bool(*flag),
            Value::Number(number) => number.as_i64().map_or_else(
                || GgufValue::Float(number.as_f64().unwrap()),
                |whole| GgufValue::Integer(whole.into()),
            ),
            Value::String(text) => GgufValue::Text(text.clone()),
            Value::Array(values) => GgufValue::Array(values.iter().map(value).collect()),
            other => panic!("{other}"),
        }
    }
    header
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, json)| (key.clone(), value(json)))
        .collect()
}

fn model(record: &Value) -> Model {
    let metadata = metadata(&record["gguf"]);
    let arch = record["arch"].as_str().unwrap();
    let name = record["name"].as_str().unwrap();
    let mut model = Model::bare(name, "", ModelSource::Gguf, from_metadata(&metadata));
    model.architecture = Some(Fact::derived(arch.to_owned(), []));
    model.dims = dims(&metadata, arch);
    model.gguf = Some(GgufFacts {
        metadata,
        num_tensors: 0,
    });
    model
}

fn dims(metadata: &BTreeMap<String, GgufValue>, arch: &str) -> Dims {
    let count = |key: &str| match metadata.get(&format!("{arch}.{key}")) {
        Some(GgufValue::Integer(number)) => Some(Fact::derived(u64::try_from(*number).unwrap(), [])),
        _ => None,
    };
    Dims {
        hidden_size: count("embedding_length"),
        vocab_size: count("vocab_size"),
        num_heads: count("attention.head_count"),
        ..Dims::default()
    }
}

/// The flags of a record as the settings that `-c -np -b -ub -ctk -ctv -fa --swa-full --kv-unified -ngl` set.
fn settings(flags: &Value) -> Settings {
    let mut settings = Settings::default();
    for (id, key) in [
        ("ctx_size", "n_ctx"),
        ("parallel", "n_seq_max"),
        ("batch_size", "n_batch"),
        ("ubatch_size", "n_ubatch"),
        ("cache_type_k", "type_k"),
        ("cache_type_v", "type_v"),
        ("flash_attention", "flash_attn"),
        ("swa_full", "swa_full"),
        ("kv_unified", "kv_unified"),
    ] {
        let text = match &flags[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        settings.set(id, Fact::default(text, "the record"));
    }
    settings.set("gpu_layers", Fact::default("99".into(), "the mapping"));
    settings
}

fn cpu() -> Machine {
    Machine {
        id: "cpu".into(),
        kind: MachineKind::Cpu,
        count: 1,
        memory_bytes: 1 << 40,
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

#[derive(Default)]
struct Score {
    total: usize,
    exact: usize,
    misses: Vec<String>,
}

impl Score {
    fn note(&mut self, right: bool, miss: impl FnOnce() -> String) {
        self.total += 1;
        self.exact += usize::from(right);
        if !right {
            self.misses.push(miss());
        }
    }

    fn print(&self, what: &str) {
        println!("{what:<28} {:>5} / {}", self.exact, self.total);
        for miss in &self.misses {
            println!("    {miss}");
        }
    }
}

#[test]
fn buffers_and_contexts_are_those_that_llama_cpp_reports() {
    let Some(records) = records("llamacpp.jsonl") else {
        return;
    };
    let [mut context, mut kv, mut state, mut refused] = [(); 4].map(|()| Score::default());
    let mut ratios: Vec<f64> = Vec::new();
    for record in &records {
        let flags = &record["flags"];
        let count = |key: &str| flags[key].as_u64().unwrap();
        let name = format!("{} {}", record["name"], flags);
        let (model, settings) = (model(record), settings(flags));
        let machine = cpu();
        let request = Request {
            model: &model,
            machine: &machine,
            version: None,
            settings: &settings,
            weights_bytes: 0,
            format: None,
        };
        let runs = record["ok"].as_bool().unwrap();
        let planned = plan(&request);
        refused.note(planned.is_ok() == runs, || {
            format!(
                "{name}: {} {:?} {:?}",
                record["error"],
                planned.as_ref().err(),
                model.layout.as_ref().err()
            )
        });
        let Ok(planned) = planned else { continue };
        if !runs {
            continue;
        }
        let used = context_used(
            count("n_ctx"),
            count("n_seq_max"),
            flags["kv_unified"].as_bool().unwrap(),
        );
        context.note(
            used.n_ctx == record["n_ctx"].as_u64().unwrap()
                && used.n_ctx_seq == record["n_ctx_seq"].as_u64().unwrap(),
            || format!("{name}: {used:?}"),
        );
        let taken = planned.reserve(Cell {
            context: count("n_ctx"),
            batch: 1,
            kv: KvType::parse(flags["type_k"].as_str().unwrap()).unwrap(),
        });
        // The printed figures have two decimals, and each buffer is rounded on its own: the sum must be exact.
        let printed = |key: &str| record[key].as_f64().unwrap();
        let near = |bytes: u64, mib: f64| (bytes as f64 / f64::from(1 << 20) - mib).abs() < 0.02;
        let whole = taken.kv_cache_bytes + taken.state_bytes == record["context_bytes"].as_u64().unwrap();
        kv.note(
            whole && near(taken.kv_cache_bytes, printed("kv_buffer_mib")),
            || {
                format!(
                    "{name}: {} is not {}",
                    taken.kv_cache_bytes, record["context_bytes"]
                )
            },
        );
        state.note(near(taken.state_bytes, printed("rs_buffer_mib")), || {
            format!(
                "{name}: {} is not {} MiB",
                taken.state_bytes, record["rs_buffer_mib"]
            )
        });
        if record["kind"] == "full" {
            let measured = record["compute_bytes_total"].as_f64().unwrap();
            let (low, high) = (taken.overhead.low as f64, taken.overhead.high as f64);
            ratios.push(taken.overhead.likely as f64 / measured);
            if measured < low || measured > high {
                println!("outside the band: {name}: {measured} not in {low}..{high}");
            }
        }
    }
    context.print("context used");
    kv.print("KV buffers, to the byte");
    state.print("state buffers");
    refused.print("starts or is refused");
    ratios.sort_by(f64::total_cmp);
    let quantile = |share: f64| ratios[((ratios.len() - 1) as f64 * share) as usize];
    println!(
        "compute buffer, estimate / measured on the CPU backend ({}): 1 % {:.2}, 10 % {:.2}, median {:.2}, 90 % {:.2}, 99 % {:.2}",
        ratios.len(),
        quantile(0.01),
        quantile(0.1),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99)
    );
    for score in [context, kv, state, refused] {
        assert_eq!(score.exact, score.total);
    }
}

/// Configs by record name: tiny ones as transformers ran them, full ones as published.
fn configs(file: &str) -> Option<BTreeMap<String, String>> {
    let named = |record: &Value| Some((record["name"].as_str()?.to_owned(), record["config"].to_string()));
    Some(records(file)?.iter().filter_map(named).collect())
}

#[test]
fn a_directory_gives_the_same_buffers_as_its_gguf_file() {
    let (Some(tiny), Some(full)) = (configs("transformers_cache.jsonl"), configs("params.jsonl")) else {
        return;
    };
    let Some(records) = records("llamacpp.jsonl") else {
        return;
    };
    let mut score = Score::default();
    for record in records.iter().filter(|record| record["ok"] == true) {
        let name = record["config_name"].as_str().unwrap();
        let known = if record["kind"] == "tiny" { &tiny } else { &full };
        let Some(text) = known.get(name) else { continue };
        let file = SourceFile::new(FileId::from_index(0), "config.json", text.as_str());
        let facts = config::read(&file);
        if facts
            .layout
            .as_ref()
            .is_err_and(|refusal| refusal.reason == "stand-in")
        {
            println!("skipped: config.json cannot be read yet");
            return;
        }
        let mut model = Model::bare(name, "", ModelSource::Directory, facts.layout);
        model.model_type = facts.model_type;
        let flags = &record["flags"];
        let (machine, settings) = (cpu(), settings(flags));
        let request = Request {
            model: &model,
            machine: &machine,
            version: None,
            settings: &settings,
            weights_bytes: 0,
            format: None,
        };
        let cell = Cell {
            context: flags["n_ctx"].as_u64().unwrap(),
            batch: 1,
            kv: KvType::parse(flags["type_k"].as_str().unwrap()).unwrap(),
        };
        let taken = plan(&request).ok().map(|plan| plan.reserve(cell));
        let bytes = taken.map(|taken| taken.kv_cache_bytes + taken.state_bytes);
        score.note(bytes == record["context_bytes"].as_u64(), || {
            format!("{name} {flags}: {bytes:?} is not {}", record["context_bytes"])
        });
    }
    score.print("buffers from config.json");
    assert_eq!(score.exact, score.total);
}

#[test]
fn headers_of_real_files_give_exact_weights_and_parameters() {
    let (Some(records), Some(folder)) = (records("llamacpp.jsonl"), truth("gguf")) else {
        return;
    };
    let [mut weights, mut parameters, mut tensors] = [(); 3].map(|()| Score::default());
    for (kind, folders) in [
        ("full", &["full_headers"][..]),
        ("tiny", &["tiny", "tiny_headers"]),
    ] {
        let mut seen = BTreeMap::new();
        for record in records.iter().filter(|record| record["kind"] == kind) {
            seen.entry(record["name"].as_str().unwrap()).or_insert(record);
        }
        for (name, record) in seen {
            let files = folders
                .iter()
                .map(|sub| folder.join(sub).join(format!("{name}.gguf")));
            for path in files.filter(|path| path.exists()) {
                let loaded = load(&path, name);
                assert!(loaded.findings.is_empty(), "{:?}", loaded.findings);
                let model = loaded.model.unwrap();
                let count = |key: &str| record[key].as_u64();
                weights.note(model.weights.bytes == count("model_bytes"), || {
                    format!(
                        "{kind} {name}: {:?} is not {:?}",
                        model.weights.bytes,
                        count("model_bytes")
                    )
                });
                let counted = model.parameters.map(|parameters| parameters.count);
                parameters.note(counted == count("n_params"), || {
                    format!("{kind} {name}: {counted:?} is not {:?}", count("n_params"))
                });
                let listed = model.gguf.map(|facts| facts.num_tensors);
                tensors.note(listed == count("n_tensors"), || {
                    format!("{kind} {name}: {listed:?} is not {:?}", count("n_tensors"))
                });
            }
        }
    }
    weights.print("weight bytes");
    parameters.print("parameters");
    tensors.print("tensors");
    for score in [weights, parameters, tensors] {
        assert_eq!(score.exact, score.total);
    }
}

#[test]
fn every_header_has_a_layout() {
    let Some(folder) = truth("gguf") else { return };
    let mut score = Score::default();
    for sub in ["full_headers", "tiny", "tiny_headers"] {
        for entry in std::fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            let loaded = load(&path, &path.to_string_lossy());
            let sized = loaded.model.as_ref().is_some_and(|model| model.layout.is_ok());
            score.note(sized && loaded.findings.is_empty(), || {
                format!("{path:?}: {:?}", loaded.findings)
            });
        }
    }
    score.print("headers with a layout");
    assert_eq!(score.exact, score.total);
}
