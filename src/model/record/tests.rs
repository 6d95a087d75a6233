use super::*;
use crate::source::Sources;
use std::path::{Path, PathBuf};

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512,
    "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2,
    "vocab_size": 1000, "max_position_embeddings": 4096, "torch_dtype": "bfloat16", "rope_theta": 1e6,
    "bos_token_id": 1, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}"#;

fn parts(config_json: &str) -> Parts<'_> {
    Parts {
        name: "org/tiny",
        source: "a test",
        config_json,
        ..Parts::default()
    }
}

/// What must be the same whether files or a record were read.
fn facts(model: &Model) -> impl PartialEq + std::fmt::Debug {
    let value = |fact: &Option<Fact<u64>>| fact.as_ref().map(|fact| fact.value);
    let dims = &model.dims;
    (
        model.layout.as_ref().ok().cloned(),
        model
            .parameters
            .as_ref()
            .map(|parameters| (parameters.count, parameters.exact)),
        (model.weights.bytes, model.weights.exact, model.weights.tied_bytes),
        (model.weights.by_dtype.clone(), model.weights.by_component.clone()),
        model.census.clone(),
        [
            value(&model.max_context),
            value(&model.longest_context),
            value(&dims.num_layers),
        ],
        [
            value(&dims.hidden_size),
            value(&dims.num_heads),
            value(&dims.num_kv_heads),
        ],
        [
            value(&dims.head_dim),
            value(&dims.vocab_size),
            value(&dims.num_experts),
        ],
        model.dtype.as_ref().map(|fact| fact.value),
        model.quantization.as_ref().map(|fact| fact.value.clone()),
    )
}

fn assert_same_as_directory(dir: &Path) {
    let loaded = directory::load(&Sources::default(), dir, "model").model;
    let Some(model) = loaded else { return };
    let record = Record::from_model(&model, "org/name", "a test");
    let text = serde_json::to_string(&record).unwrap();
    let record: Record = serde_json::from_str(&text).unwrap();
    let (again, _) = record.to_model("org/name", ModelSource::Lock);
    assert_eq!(facts(&again), facts(&model), "{}", dir.display());
}

fn folders(of: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(of);
    let Ok(entries) = std::fs::read_dir(&root) else {
        println!("skipped: {} is not here", root.display());
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.join("config.json").exists()).collect()
}

#[test]
fn a_record_gives_the_model_that_its_directory_gives() {
    let fixtures = folders("tests/models");
    assert!(!fixtures.is_empty());
    for dir in fixtures.iter().chain(&folders("../shared/models")) {
        assert_same_as_directory(dir);
    }
}

#[test]
fn headers_give_exact_weights_and_parameters() {
    let tensor = |name: &str, dtype: &'static str, shape: &[u64], bytes| Tensor {
        name: name.into(),
        dtype: dtype.into(),
        shape: shape.to_vec(),
        bytes,
    };
    let tensors = [
        tensor("model.embed_tokens.weight", "BF16", &[1000, 512], 1_024_000),
        tensor("model.layers.0.mlp.up_proj.qweight", "I32", &[512, 128], 262_144),
        tensor("model.layers.0.mlp.up_proj.qzeros", "I32", &[4, 128], 2048),
        tensor("model.layers.0.mlp.up_proj.scales", "F16", &[4, 1024], 8192),
    ];
    let record = Record::from_parts(&Parts {
        tensors: Some(&tensors),
        ..parts(CONFIG)
    })
    .unwrap();
    let weights = record.weights.as_ref().unwrap();
    assert_eq!((weights.bytes, weights.exact), (1_296_384, true));
    let counted = RecordedParameters {
        count: 1000 * 512 + 512 * 1024,
        exact: true,
    };
    assert_eq!(record.parameters, Some(counted));
    let (model, _) = record.to_model("org/tiny", ModelSource::Lock);
    assert_eq!(model.weights.how, "oomlint.lock");
    assert_eq!(model.quantization.unwrap().value.name(), "awq int4");
}

#[test]
fn what_a_quantizer_wrote_beside_the_config_counts_where_the_config_is_silent() {
    let beside = r#"{"quantization": {"quant_algo": "NVFP4", "group_size": 16}}"#;
    let silent = CONFIG.replace("quantization_config", "other");
    let of = |config_json| {
        let quantizer_file = Some(("hf_quant_config.json", beside));
        let parts = Parts {
            quantizer_file,
            ..parts(config_json)
        };
        Record::from_parts(&parts).unwrap().quantization.unwrap().name()
    };
    assert_eq!([of(&silent), of(CONFIG)], ["modelopt nvfp4", "awq int4"]);
}

#[test]
fn facts_of_a_record_point_into_no_file() {
    let record = Record::from_parts(&parts(CONFIG)).unwrap();
    let (model, findings) = record.to_model("org/tiny", ModelSource::Catalog);
    assert_eq!(model.dims.num_layers.as_ref().unwrap().span(), None);
    assert_eq!(model.dims.head_dim.as_ref().unwrap().span(), None);
    assert_eq!(model.quantization.as_ref().unwrap().span(), None);
    assert!(findings.is_empty());
    let lost = CONFIG.replace("\"num_attention_heads\": 8", "\"num_attention_heads\": 7");
    let (model, findings) = Record::from_parts(&parts(&lost))
        .unwrap()
        .to_model("org/tiny", ModelSource::Lock);
    assert_eq!(model.layout.unwrap_err().span, None);
    assert!(
        findings
            .iter()
            .all(|finding| finding.primary.is_none() && finding.path.is_some())
    );
    assert!(!findings.is_empty());
}

#[test]
fn a_record_is_written_without_what_it_lacks_and_read_strictly() {
    let record = Record::from_parts(&parts(CONFIG)).unwrap();
    let text = serde_json::to_string(&record).unwrap();
    assert!(
        text.starts_with(r#"{"name":"org/tiny","source":"a test","config":{"architectures""#),
        "{text}"
    );
    assert!(!text.contains("variants") && !text.contains("rope_theta"));
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    let yaml: Record = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(yaml, record, "JSON is YAML");
    assert!(serde_json::from_str::<Record>(&text.replace("\"source\"", "\"sorce\"")).is_err());
}

#[test]
fn a_config_that_is_no_object_makes_no_record() {
    for text in ["", "[]", "{", "1"] {
        assert!(Record::from_parts(&parts(text)).is_err(), "{text}");
    }
}

#[test]
fn a_repository_of_gguf_files_is_described_by_their_metadata() {
    let number = |n: i128| GgufValue::Integer(n);
    let metadata = [
        ("general.architecture", GgufValue::Text("llama".into())),
        ("llama.block_count", number(4)),
        ("llama.embedding_length", number(512)),
        ("llama.attention.head_count", number(8)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.context_length", number(4096)),
    ];
    let record = Record {
        name: "org/tiny-GGUF".into(),
        source: "a test".into(),
        gguf_metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
        ..Record::default()
    };
    let text = serde_json::to_string(&record).unwrap();
    let record: Record = serde_json::from_str(&text).unwrap();
    let (model, _) = record.to_model("org/tiny-GGUF", ModelSource::Lock);
    assert!(model.layout.is_ok() && model.gguf.is_some());
    assert_eq!(model.max_context.unwrap().value, 4096);
}
