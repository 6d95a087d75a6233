//! Layouts against measured caches: transformers' tensors, vLLM's layer specifications, and every config.json
//! of `../shared/models`. Prints a table; skips where the measurements are absent.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a test that prints its table"
)]

use std::path::{Path, PathBuf};

use oomlint::memory::layout::{Cache, Layout, Reach, State};
use oomlint::model::config::{ConfigFacts, read};
use oomlint::source::{FileId, SourceFile};
use serde_json::Value;

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: ../shared is not there");
    None
}

fn records(path: &str) -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(shared(path)?).unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn facts(config: &str) -> ConfigFacts {
    read(&SourceFile::new(FileId::from_index(0), "config.json", config))
}

/// Elements that transformers holds for one cache of one layer: `W - 1` tokens of a window, whole kernels.
fn transformers_elements(cache: Cache, tokens: u64, encoder: u64) -> u64 {
    match cache {
        Cache::Attention { reach, .. } => {
            let held = match reach {
                Reach::Full => tokens,
                Reach::Window(size) | Reach::Chunk(size) => tokens.min(size - 1),
            };
            cache.elements_per_token() * held
        }
        Cache::Latent { .. } | Cache::Indexer { .. } => cache.elements_per_token() * tokens,
        Cache::Compressed { ratio, head_dim } | Cache::CompressedIndexer { ratio, head_dim } => {
            tokens / ratio * head_dim
        }
        Cache::Cross {
            kv_heads,
            k_dim,
            v_dim,
            ..
        } => kv_heads * (k_dim + v_dim) * encoder,
        Cache::Recurrent { state, .. } => {
            let (conv, recurrent) = state.elements();
            conv_with_whole_kernel(state, conv) + recurrent
        }
        Cache::Ring { .. } => 0,
    }
}

fn conv_with_whole_kernel(state: State, conv: u64) -> u64 {
    let kernel = match state {
        State::Mamba1 { conv_kernel, .. }
        | State::Mamba2 { conv_kernel, .. }
        | State::DeltaNet { conv_kernel, .. }
        | State::Kda { conv_kernel, .. }
        | State::RgLru { conv_kernel, .. } => conv_kernel,
        State::ShortConv { kernel, .. } => kernel,
        State::Lightning { .. } | State::Rwkv { .. } => return conv,
    };
    conv / (kernel - 1) * kernel
}

/// Elements of the measured tensors of one sequence. DeepSeek-V4's buffers of unfinished runs are left out,
/// and so is the second copy that its pure window layers keep of the vector that serves as key and value.
fn measured_elements(tensors: &Value, batch: u64, is_v4: bool) -> u64 {
    let counts = |name: &str| {
        let unfinished = name.starts_with("buffer") || name.starts_with("overlap");
        !(unfinished || (is_v4 && name == "values"))
    };
    let tensors = tensors.as_array().unwrap().iter();
    tensors
        .filter(|tensor| counts(tensor["name"].as_str().unwrap()))
        .map(|tensor| {
            let shape = tensor["shape"].as_array().unwrap();
            shape.iter().map(|n| n.as_u64().unwrap()).product::<u64>() / batch
        })
        .sum()
}

fn layer_elements(layout: &Layout, layer: u32, tokens: u64, encoder: u64) -> u64 {
    let here = layout.groups.iter().filter(|group| group.layers.contains(&layer));
    here.map(|group| transformers_elements(group.cache, tokens, encoder))
        .sum()
}

fn transformers_miss(record: &Value) -> Option<String> {
    let facts = facts(&record["config"].to_string());
    let layout = match facts.layout {
        Ok(layout) => layout,
        Err(refusal) => return Some(format!("refused: {}", refusal.reason)),
    };
    let (batch, tokens) = (record["batch"].as_u64()?, record["seq_len"].as_u64()?);
    let measured = record["tensors"].as_object()?;
    let is_v4 = record["model_type"] == "deepseek_v4";
    if record["model_type"] == "rwkv" {
        let ours: u64 = (0..4)
            .map(|layer| layer_elements(&layout, layer, tokens, 0))
            .sum();
        let held: u64 = measured
            .values()
            .map(|tensors| measured_elements(tensors, batch, false))
            .sum();
        return (ours != held).then(|| format!("{ours} elements, measured {held}"));
    }
    measured.iter().find_map(|(layer, tensors)| {
        let cross = tensors
            .as_array()?
            .get(2)
            .and_then(|tensor| tensor["shape"].get(2)?.as_u64());
        let ours = layer_elements(&layout, layer.parse().unwrap(), tokens, cross.unwrap_or(0));
        let held = measured_elements(tensors, batch, is_v4);
        (ours != held).then(|| format!("layer {layer}: {ours} elements, measured {held}"))
    })
}

#[test]
fn layouts_hold_what_transformers_holds() {
    let Some(records) = records("truth/transformers_cache.jsonl") else {
        return;
    };
    let misses: Vec<String> = records
        .iter()
        .filter_map(|record| Some(format!("  {}: {}", record["name"], transformers_miss(record)?)))
        .collect();
    println!(
        "transformers layouts: {} of {} exact",
        records.len() - misses.len(),
        records.len()
    );
    for miss in &misses {
        println!("{miss}");
    }
    assert!(misses.is_empty());
}

/// Our layers in the words of vLLM's specifications.
fn in_vllm_words(layout: &Layout) -> Vec<String> {
    let mut words: Vec<String> = layout
        .groups
        .iter()
        .map(|group| format!("{}x {}", group.count(), cache_in_vllm_words(group.cache)))
        .collect();
    words.sort();
    words
}

fn cache_in_vllm_words(cache: Cache) -> String {
    // One 32-bit scale for each 128 elements of an index key.
    let indexed = |head_dim: u64| head_dim + head_dim / 128 * 4;
    match cache {
        Cache::Attention {
            kv_heads,
            k_dim,
            v_dim,
            reach,
        } => match reach {
            Reach::Full => format!("Full {kv_heads} {k_dim}/{v_dim}"),
            Reach::Window(w) if v_dim == 0 => format!("SlidingWindowMLA {kv_heads} {k_dim} window {w}"),
            Reach::Window(w) => format!("Sliding {kv_heads} {k_dim}/{v_dim} window {w}"),
            Reach::Chunk(c) => format!("Chunked {kv_heads} {k_dim}/{v_dim} chunk {c}"),
        },
        Cache::Latent { rank, rope_dim } => format!("MLA {}", rank + rope_dim),
        Cache::Indexer { head_dim } => format!("MLA {}", indexed(head_dim)),
        Cache::Compressed { ratio, head_dim } => format!("MLA {head_dim} per {ratio}"),
        Cache::CompressedIndexer { ratio, head_dim } => format!("MLA {} per {ratio}", indexed(head_dim)),
        Cache::Ring { width, tokens } => format!("SlidingWindowMLA 1 {width} window {tokens}"),
        Cache::Cross {
            kv_heads,
            k_dim,
            v_dim,
            ..
        } => format!("Cross {kv_heads} {k_dim}/{v_dim}"),
        Cache::Recurrent { state, .. } => {
            let (conv, recurrent) = state.elements();
            format!("Mamba {conv}+{recurrent}")
        }
    }
}

fn vllm_specs(record: &Value) -> Vec<String> {
    let specs = record["layer_specs"].as_array().unwrap().iter();
    let mut words: Vec<String> = specs
        .map(|spec| format!("{}x {}", spec["layers"], spec_in_words(spec)))
        .collect();
    words.sort();
    words
}

fn spec_in_words(spec: &Value) -> String {
    let number = |key: &str| spec[key].as_u64().unwrap_or(0);
    let (heads, k, v) = (number("num_kv_heads"), number("head_size"), number("head_size_v"));
    let size = |shape: &Value| -> u64 {
        let sides = shape.as_array().unwrap().iter();
        sides.map(|n| n.as_u64().unwrap()).product()
    };
    match spec["type"].as_str().unwrap() {
        "FullAttentionSpec" => format!("Full {heads} {k}/{v}"),
        "SlidingWindowSpec" => format!("Sliding {heads} {k}/{v} window {}", number("sliding_window")),
        "ChunkedLocalAttentionSpec" => {
            format!("Chunked {heads} {k}/{v} chunk {}", number("attention_chunk_size"))
        }
        "MLAAttentionSpec" => match spec["tokens_per_state"].as_str() {
            Some(ratio) => format!("MLA {k} per {ratio}"),
            None => format!("MLA {k}"),
        },
        "SlidingWindowMLASpec" => format!("SlidingWindowMLA {heads} {k} window {}", number("sliding_window")),
        "CrossAttentionSpec" => format!("Cross {heads} {k}/{v}"),
        "MambaSpec" => {
            let shapes = spec["shapes"].as_array().unwrap();
            format!("Mamba {}+{}", size(&shapes[0]), shapes.get(1).map_or(0, size))
        }
        other => other.to_owned(),
    }
}

#[test]
fn layouts_and_contexts_are_those_of_vllm() {
    let Some(records) = records("truth/vllm_kv.jsonl") else {
        return;
    };
    let (mut layouts, mut contexts) = (0, 0);
    let (mut layout_misses, mut context_misses) = (Vec::new(), Vec::new());
    for record in records.iter().filter(|record| record["layer_specs"].is_array()) {
        let facts = facts(&record["config"].to_string());
        let name = &record["name"];
        let flags = &record["flags"];
        // With tensor parallelism the specifications are those of one rank.
        if flags["tensor_parallel_size"].as_u64().unwrap_or(1) == 1 {
            layouts += 1;
            let ours = match &facts.layout {
                Ok(layout) => in_vllm_words(layout),
                Err(refusal) => vec![refusal.reason.clone()],
            };
            let theirs = vllm_specs(record);
            if ours != theirs {
                layout_misses.push(format!("  {name} {flags}: {ours:?}, vLLM {theirs:?}"));
            }
        }
        if flags["max_model_len"].is_null() {
            contexts += 1;
            let theirs = record["derived"]["max_model_len"].as_u64();
            let ours = facts.max_context.as_ref().map(|fact| fact.value);
            if ours != theirs {
                context_misses.push(format!("  {name}: context {ours:?}, vLLM {theirs:?}"));
            }
        }
    }
    println!(
        "vLLM layouts: {} of {layouts} exact",
        layouts - layout_misses.len()
    );
    for miss in &layout_misses {
        println!("{miss}");
    }
    println!(
        "vLLM contexts: {} of {contexts} exact",
        contexts - context_misses.len()
    );
    for miss in &context_misses {
        println!("{miss}");
    }
    assert!(layout_misses.is_empty() && context_misses.is_empty());
}

#[test]
fn every_published_config_is_sized_or_refused_with_a_reason() {
    let Some(folder) = shared("models") else {
        return;
    };
    let entries = std::fs::read_dir(folder).unwrap();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let (mut sized, mut refused, mut counted, mut exact) = (0, 0, 0, 0);
    for entry in entries.iter().filter(|entry| entry.is_dir()) {
        let facts = facts(&std::fs::read_to_string(entry.join("config.json")).unwrap());
        let name = entry.file_name().unwrap().to_string_lossy();
        let parameters = facts.parameters.as_ref().map_or_else(String::new, |parameters| {
            counted += 1;
            exact += u32::from(parameters.exact);
            format!(
                "{}{} parameters",
                if parameters.exact { "" } else { "about " },
                parameters.count
            )
        });
        match &facts.layout {
            Ok(layout) => {
                sized += 1;
                let context = facts.max_context.as_ref().map_or(0, |fact| fact.value);
                println!(
                    "{name}: context {context}, {parameters}, {:?}",
                    in_vllm_words(layout)
                );
            }
            Err(refusal) => {
                refused += 1;
                println!("{name}: REFUSED {}", refusal.reason);
            }
        }
        for finding in &facts.findings {
            println!("    {}: {}", finding.rule, finding.message);
        }
    }
    println!("published configs: {sized} sized, {refused} refused; {counted} counted, {exact} exactly");
    assert_eq!(refused, 0);
}
