//! Scores the grouping alone against vLLM's own planner on synthetic mixes of layers.
//!
//! The records are not part of the project; without them the test prints a line and passes.

use serde_json::Value;

use super::groups::{Bucket, Demand, Family, Flight, Pool, Spec};
use crate::memory::solve;

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// The layers of a record, counted through in the order of its kinds.
fn buckets(record: &Value) -> Vec<Bucket> {
    let mut first = 0;
    let mut buckets = Vec::new();
    for layer in record["layers"].as_array().unwrap() {
        let (block, heads, size) = (
            number(layer, "block_size"),
            number(layer, "num_kv_heads"),
            number(layer, "head_size"),
        );
        let element = if layer["dtype"] == "uint8" { 1 } else { 2 };
        let (family, demand, page) = match layer["type"].as_str().unwrap() {
            "MLAAttentionSpec" => (Family::Latent, Demand::Full, heads * size * element * block),
            "MambaSpec" => (
                Family::State,
                Demand::Blocks(1),
                number(layer, "page_size_padded"),
            ),
            kind => {
                let demand = match kind {
                    "SlidingWindowSpec" => Demand::Window(number(layer, "sliding_window")),
                    "ChunkedLocalAttentionSpec" => Demand::Chunk(number(layer, "attention_chunk_size")),
                    _ => Demand::Full,
                };
                (Family::Attention, demand, heads * size * 2 * element * block)
            }
        };
        let count = u32::try_from(number(layer, "count")).unwrap();
        buckets.push(Bucket {
            spec: Spec {
                family,
                demand,
                shape: [heads, size, element, 0],
                block,
                page,
            },
            layers: (first..first + count).collect(),
        });
        first += count;
    }
    buckets
}

/// What differs from the record; empty when all agrees.
fn differences(record: &Value) -> Vec<String> {
    let hybrid = record["disable_hybrid_kv_cache_manager"] != true;
    let planned = Pool::of(
        buckets(record),
        hybrid,
        false,
        std::slice::from_ref(&(0..u64::MAX)),
    );
    if record["unsupported"] == true {
        return planned
            .ok()
            .map(|_| String::from("accepted"))
            .into_iter()
            .collect();
    }
    let Ok(pool) = planned else {
        return vec![String::from("refused")];
    };
    let flight = Flight {
        under_way: number(record, "max_in_flight_tokens"),
        batched: number(record, "max_num_batched_tokens"),
        context_ranks: 1,
        extra: 0,
    };
    let need = |context| pool.blocks(context, flight) * pool.bytes_per_block;
    let fits = |context| need(context) + pool.bytes_per_block <= number(record, "available_bytes");
    let context = number(record, "max_model_len");
    let mut pairs = vec![
        ("bytes_per_block", pool.bytes_per_block),
        ("needed_bytes_for_max_len", need(context)),
    ];
    if record["ok"] == true {
        pairs.push((
            "num_blocks",
            number(record, "available_bytes") / pool.bytes_per_block,
        ));
    } else if record["estimated_max_len"].is_u64() {
        pairs.push(("estimated_max_len", solve::largest(context, fits).unwrap_or(0)));
    }
    let mut wrong: Vec<String> = pairs
        .into_iter()
        .filter(|(key, value)| number(record, key) != *value)
        .map(|(key, value)| format!("{key} {} not {value}", record[key]))
        .collect();
    // A record that shortened its own context states the shortened one.
    let resolved = record["resolved_max_model_len"].as_u64().unwrap_or(context);
    if fits(context) != (record["ok"] == true && resolved == context) {
        wrong.push(String::from("verdict"));
    }
    wrong
}

#[test]
fn synthetic_mixes_group_as_the_engine_groups_them() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/truth/vllm_kv_synthetic.jsonl"
    );
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no truth data");
        return;
    };
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut right = 0;
    for record in &records {
        let wrong = differences(record);
        if wrong.is_empty() {
            right += 1;
        } else {
            println!(
                "{} {} {}: {}",
                record["spec_kind"],
                record["layout"],
                record["layers"],
                wrong.join(", ")
            );
        }
    }
    println!("synthetic mixes: {right} of {} agree", records.len());
    assert!(right * 100 >= records.len() * 99, "{right} of {}", records.len());
}
