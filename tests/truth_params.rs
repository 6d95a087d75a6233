//! Parameter counts and weight bytes per rank against measured models. Prints a table; skips where the
//! measurements are absent. `OOMLINT_TRUTH` names another folder with files of the same shape.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that prints its table"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oomlint::model::Dtype;
use oomlint::model::config::{ConfigFacts, read};
use oomlint::source::{FileId, SourceFile};
use serde_json::Value;

fn records(path: &str) -> Option<Vec<Value>> {
    let folder = std::env::var("OOMLINT_TRUTH").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/truth"),
        PathBuf::from,
    );
    let path = folder.join(path);
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: ../shared is not there");
        return None;
    };
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn facts(config: &str) -> ConfigFacts {
    read(&SourceFile::new(FileId::from_index(0), "config.json", config))
}

fn deviation(ours: u64, theirs: u64) -> f64 {
    (ours as f64 - theirs as f64) / theirs as f64 * 100.0
}

#[test]
fn parameter_counts_are_exact() {
    let Some(records) = records("params.jsonl") else {
        return;
    };
    let (mut exact, mut worst) = (0, 0.0_f64);
    let mut misses = Vec::new();
    for record in &records {
        let theirs = record["total_params"].as_u64().unwrap();
        let facts = facts(&record["config"].to_string());
        match facts.parameters {
            Some(parameters) if parameters.count == theirs => exact += 1,
            Some(parameters) => {
                let off = deviation(parameters.count, theirs);
                worst = worst.max(off.abs());
                misses.push(format!(
                    "  {}: {} of {theirs}, {off:+.4} %",
                    record["name"], parameters.count
                ));
            }
            None => misses.push(format!(
                "  {}: no count; layout {:?}",
                record["name"],
                facts.layout.err()
            )),
        }
    }
    println!(
        "parameter counts: {exact} of {} exact, worst deviation {worst:.4} %",
        records.len()
    );
    for miss in &misses {
        println!("{miss}");
    }
    assert!(misses.is_empty());
}

#[test]
fn weight_bytes_of_a_rank_are_those_of_vllm() {
    let Some(records) = records("vllm_kv.jsonl") else {
        return;
    };
    let mut seen = BTreeSet::new();
    let (mut exact, mut worst) = (0, 0.0_f64);
    let mut misses = Vec::new();
    for record in &records {
        let Some(theirs) = record["weights_bytes_per_rank"].as_u64() else {
            continue;
        };
        let tp = record["flags"]["tensor_parallel_size"].as_u64().unwrap_or(1);
        if !seen.insert((record["name"].to_string(), tp)) {
            continue;
        }
        let facts = facts(&record["config"].to_string());
        let ours = facts
            .census
            .map(|census| census.rank_bytes(tp, 1, false, Dtype::Bfloat16));
        match ours {
            Some(ours) if ours == theirs => exact += 1,
            Some(ours) => {
                let off = deviation(ours, theirs);
                worst = worst.max(off.abs());
                misses.push(format!(
                    "  {} tp {tp}: {ours} of {theirs}, {off:+.4} %",
                    record["name"]
                ));
            }
            None => misses.push(format!("  {} tp {tp}: no census", record["name"])),
        }
    }
    println!(
        "weight bytes of a rank: {exact} of {} exact, worst deviation {worst:.4} %",
        seen.len()
    );
    for miss in &misses {
        println!("{miss}");
    }
    assert!(worst < 0.5);
}
