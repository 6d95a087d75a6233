use super::super::name;
use super::*;
use std::path::Path;

/// Rows that are known to lack a size: their families cannot be counted and no figure was found.
const UNSIZED: [&str; 1] = ["moonshotai/Kimi-K3"];

fn look_up(written: &str) -> Option<Match> {
    find(&name::parse(written)?, written)
}

/// The row that a reference is taken for, and the format it states.
fn taken(written: &str) -> String {
    look_up(written).map_or("nothing".to_owned(), |found| match found.format {
        Some(format) => format!("{} in {format}", found.record.name),
        None => found.record.name,
    })
}

#[test]
fn every_row_is_well_formed_sourced_and_sized() {
    assert!(names().len() > 700);
    for name in names() {
        let record = record(name).unwrap_or_else(|| panic!("{name} or the row it refers to cannot be read"));
        assert!(!record.source.is_empty() && !record.config.is_empty(), "{name}");
        let (model, findings) = record.to_model(name, ModelSource::Catalog);
        assert!(model.layout.is_ok(), "{name}: {:?}", model.layout);
        assert_eq!(findings, [], "{name}");
        let is_sized = model.parameters.is_some() || model.weights.bytes.is_some();
        assert!(is_sized || UNSIZED.contains(&name), "{name} has no size");
    }
}

#[test]
fn rows_hold_only_what_sizing_reads() {
    for (name, text) in rows().values() {
        let row: Row = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        for config in [row.config, row.changes] {
            let text = Value::Object(config.clone()).to_string();
            if config.is_empty() {
                continue;
            }
            let parts = crate::model::record::Parts {
                config_json: &text,
                ..crate::model::record::Parts::default()
            };
            assert_eq!(Record::from_parts(&parts).unwrap().config, config, "{name}");
        }
    }
}

#[test]
fn every_file_of_rows_is_yaml_too() {
    for file in FILES.files() {
        let rows: BTreeMap<String, Row> = serde_saphyr::from_str(file.contents_utf8().unwrap()).unwrap();
        assert!(!rows.is_empty());
    }
}

#[test]
fn every_short_name_means_a_row() {
    let names: Names = serde_saphyr::from_str(NAMES).unwrap();
    for target in names
        .aliases
        .values()
        .chain(names.ollama.values().flat_map(BTreeMap::values))
    {
        assert!(!target.contains('/') || record(target).is_some(), "{target}");
    }
}

#[test]
fn rows_agree_with_the_published_configs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    let Ok(entries) = std::fs::read_dir(&root) else {
        println!("skipped: {} is not here", root.display());
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(path.join("config.json")) else {
            continue;
        };
        let name = path.file_name().unwrap().to_string_lossy().replacen("--", "/", 1);
        let beside = std::fs::read_to_string(path.join("hf_quant_config.json")).ok();
        let parts = crate::model::record::Parts {
            config_json: &text,
            quantizer_file: beside.as_deref().map(|text| ("hf_quant_config.json", text)),
            ..crate::model::record::Parts::default()
        };
        let (published, _) = Record::from_parts(&parts)
            .unwrap()
            .to_model("", ModelSource::Catalog);
        let (row, _) = record(&name)
            .unwrap_or_else(|| panic!("{name} has no row"))
            .to_model("", ModelSource::Catalog);
        assert_eq!(row.layout, published.layout, "{name}");
        assert_eq!(row.census, published.census, "{name}");
        let context = |model: &Model| model.max_context.as_ref().map(|fact| fact.value);
        assert_eq!(context(&row), context(&published), "{name}");
        let element = |model: &Model| model.quantization.as_ref().map(|fact| fact.value.element());
        assert_eq!(element(&row), element(&published), "{name}");
    }
}

#[test]
fn a_name_of_the_hub_means_its_own_row_without_any_assumption() {
    for written in ["Qwen/Qwen3-32B", "hf://qwen/qwen3-32b", "Qwen/Qwen3-32B@main"] {
        let found = look_up(written).unwrap();
        assert_eq!(
            (found.record.name.as_str(), found.assumption),
            ("Qwen/Qwen3-32B", None),
            "{written}"
        );
    }
}

#[test]
fn a_path_is_taken_for_the_checkpoint_of_its_name_and_says_so() {
    let found = look_up("/models/Qwen3-32B").unwrap();
    assert_eq!(
        found.assumption.unwrap(),
        "/models/Qwen3-32B is taken for Qwen/Qwen3-32B by its name"
    );
}

#[test]
fn copies_in_other_formats_are_their_base_in_that_format() {
    for (written, expected) in [
        (
            "TheBloke/Mistral-7B-Instruct-v0.2-AWQ",
            "mistralai/Mistral-7B-Instruct-v0.2 in awq-int4",
        ),
        (
            "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic",
            "meta-llama/Llama-3.3-70B-Instruct in fp8",
        ),
        (
            "nvidia/Llama-3.1-8B-Instruct-FP8",
            "meta-llama/Llama-3.1-8B-Instruct in fp8",
        ),
        (
            "unsloth/Qwen3.6-35B-A3B-GGUF:UD-Q4_K_M",
            "Qwen/Qwen3.6-35B-A3B in q4_K_M",
        ),
        (
            "/models/Qwen3-Embedding-4B-Q8_0.gguf",
            "Qwen/Qwen3-Embedding-4B in q8_0",
        ),
        (
            "mlx-community/Llama-3.2-3B-Instruct-4bit",
            "meta-llama/Llama-3.2-3B-Instruct in int4",
        ),
    ] {
        let expected = expected.replace("meta-llama/Llama-3.1", "meta-llama/Meta-Llama-3.1");
        assert_eq!(
            taken(written).replace("meta-llama/Llama-3.1", "meta-llama/Meta-Llama-3.1"),
            expected
        );
    }
}

#[test]
fn a_copy_that_states_the_format_of_its_base_changes_nothing() {
    assert_eq!(
        taken("/models/gpt-oss-120b-mxfp4-00001-of-00003.gguf"),
        "openai/gpt-oss-120b"
    );
    assert_eq!(
        taken("someone/DeepSeek-R1-0528-FP8"),
        "deepseek-ai/DeepSeek-R1-0528"
    );
}

#[test]
fn a_quantized_copy_is_never_taken_for_its_larger_original() {
    assert_eq!(
        taken("org/NVIDIA-Nemotron-3.5-Lightning-30B-A3B"),
        "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4 in bf16"
    );
    let (model, _) = look_up("org/NVIDIA-Nemotron-3.5-Lightning-30B-A3B")
        .unwrap()
        .to_model("x");
    assert!(model.quantization.is_none() && model.weights.bytes.is_none());
}

#[test]
fn library_tags_have_a_size_a_format_and_a_default() {
    for (written, expected) in [
        ("qwen2.5:7b", "Qwen/Qwen2.5-7B-Instruct in q4_K_M"),
        ("qwen3.5:35b", "Qwen/Qwen3.5-35B-A3B in q4_K_M"),
        (
            "llama3.2:1b-instruct-q8_0",
            "meta-llama/Llama-3.2-1B-Instruct in q8_0",
        ),
        (
            "deepseek-r1:1.5b",
            "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B in q4_K_M",
        ),
        (
            "deepseek-coder-v2",
            "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct in q4_K_M",
        ),
        ("gpt-oss:20b", "openai/gpt-oss-20b"),
    ] {
        assert_eq!(taken(written), expected, "{written}");
    }
}

#[test]
fn fine_tunes_are_taken_for_the_base_in_their_name() {
    assert_eq!(taken("someone/dolphin-2.9-gemma-2-9b"), "google/gemma-2-9b");
    assert_eq!(
        taken("org/Breeze-Qwen2.5-7B-Instruct-v1"),
        "Qwen/Qwen2.5-7B-Instruct"
    );
}

#[test]
fn another_size_or_another_kind_of_model_is_never_taken_for_a_known_one() {
    for written in [
        "Qwen/Qwen3-33B",
        "org/Llama-3.1-9B",
        "yuhuili/EAGLE-LLaMA3.1-Instruct-8B",
        "org/Llama-3.1-8B-Vision",
        "org/Qwen3-8B-speculator.eagle3",
        "org/Mixtral-9x7B",
        "org/zephyr-7b-gemma",
        "org/my-finetune-7b",
        "/models/model",
        "qwen2.5:8b",
        "org/Qwen2.5-7B-exl2-4bpw",
    ] {
        assert_eq!(taken(written), "nothing", "{written}");
    }
}

#[test]
fn the_active_parameters_may_be_left_out_where_one_model_has_the_size() {
    assert_eq!(taken("org/Qwen3-30B"), "Qwen/Qwen3-30B-A3B");
}

#[test]
fn weights_in_another_format_are_estimates() {
    let (model, _) = look_up("/m/Qwen3-32B-Q4_K_M.gguf").unwrap().to_model("shown");
    let bytes = model.weights.bytes.unwrap();
    assert!((19_000_000_000..21_000_000_000).contains(&bytes), "{bytes}");
    assert!(!model.weights.exact && model.name == "shown" && model.assumptions.len() == 1);
    let (model, _) = look_up("Qwen/Qwen3-32B").unwrap().to_model("Qwen/Qwen3-32B");
    assert!(model.assumptions.is_empty() && model.weights.bytes.is_none() && model.census.is_some());
}
