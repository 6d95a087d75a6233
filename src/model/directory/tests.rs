//! Checkpoints as they lie on disk: whole, partial and broken.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::advise_quantization;
use crate::memory::GIB;
use crate::memory::recommend::{HardwareCapabilities, QuantFormat};
use crate::model::{Component, Weights};

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 100}"#;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/models")
        .join(name)
}

/// A directory with these files.
fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// A safetensors file of zeros: a name, a type and a shape for each tensor.
fn safetensors(tensors: &[(&str, &str, &[u64])]) -> Vec<u8> {
    let mut json = serde_json::Map::new();
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let bits = crate::model::safetensors::dtype_bits(dtype).unwrap();
        let bytes = shape.iter().product::<u64>() * bits / 8;
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]});
        json.insert((*name).to_owned(), entry);
        end += bytes;
    }
    let header = Value::Object(json).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + usize::try_from(end).unwrap(), 0);
    file
}

fn loaded(dir: &Path) -> (Loaded, Sources) {
    let sources = Sources::default();
    (load(&sources, dir, "m"), sources)
}

fn weights(dir: &Path) -> Weights {
    loaded(dir).0.model.unwrap().weights
}

/// Rule, message and the characters shown of each finding.
fn findings(dir: &Path) -> Vec<(String, String, String)> {
    let (loaded, sources) = loaded(dir);
    let shown = |finding: &Finding| {
        finding
            .primary
            .as_ref()
            .map_or_else(String::new, |label| sources.slice(label.span))
    };
    let findings = loaded.findings.iter();
    findings
        .map(|finding| (finding.rule.to_string(), finding.message.clone(), shown(finding)))
        .collect()
}

fn only(dir: &Path) -> (String, String, String) {
    let mut all = findings(dir);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn headers_give_bytes_parameters_and_components() {
    let shards = [
        safetensors(&[("model.embed_tokens.weight", "BF16", &[100, 64])]),
        safetensors(&[
            ("lm_head.weight", "F32", &[100, 64]),
            ("model.layers.0.mlp.up_proj.weight", "BF16", &[8, 64]),
        ]),
    ];
    let dir = directory(&[
        ("config.json", CONFIG.as_bytes()),
        ("model-00001-of-00002.safetensors", &shards[0]),
        ("model-00002-of-00002.safetensors", &shards[1]),
        ("consolidated.safetensors", &shards[1]),
    ]);
    let (loaded, _) = loaded(dir.path());
    let model = loaded.model.unwrap();
    assert_eq!(loaded.findings, []);
    assert_eq!(model.weights.bytes, Some(12_800 + 25_600 + 1024));
    assert_eq!(
        (model.weights.exact, model.weights.how),
        (true, "safetensors headers")
    );
    assert_eq!(model.weights.by_dtype["BF16"], 13_824);
    assert_eq!(model.weights.by_component[&Component::LmHead], 25_600);
    let parameters = model.parameters.unwrap();
    assert_eq!(
        (parameters.count, parameters.exact, parameters.how),
        (6400 * 2 + 512, true, "tensor shapes")
    );
    assert_eq!((model.name.as_str(), model.path.as_str()), ("m", "m"));
}

#[test]
fn a_checkpoint_of_100_gb_costs_its_header() {
    let header = br#"{"w":{"dtype":"BF16","shape":[50000000000],"data_offsets":[0,100000000000]}}"#;
    let dir = directory(&[("config.json", CONFIG.as_bytes())]);
    let path = dir.path().join("model.safetensors");
    let start = [(header.len() as u64).to_le_bytes().as_slice(), header].concat();
    fs::write(&path, &start).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(start.len() as u64 + 100_000_000_000).unwrap();
    let (loaded, _) = loaded(dir.path());
    let model = loaded.model.unwrap();
    assert_eq!(loaded.findings, []);
    assert_eq!(model.weights.bytes, Some(100_000_000_000));
    assert_eq!(model.bytes_read, (CONFIG.len() + start.len()) as u64);
}

#[test]
fn an_index_alone_gives_the_total_and_is_no_fault() {
    let (loaded, _) = loaded(&fixture("llama-8b-index"));
    let weights = loaded.model.unwrap().weights;
    assert_eq!(
        (weights.bytes, weights.exact, weights.how),
        (Some(16_060_522_496), true, "safetensors index")
    );
    assert_eq!(loaded.findings, []);
}

#[test]
fn pointers_give_the_sizes_they_stand_for() {
    let weights = weights(&fixture("llama-8b-pointers"));
    assert_eq!(
        (weights.bytes, weights.exact, weights.how),
        (Some(16_060_560_000), true, "LFS pointer files")
    );
}

#[test]
fn absent_shards_are_named_where_the_index_names_them() {
    let (rule, message, shown) = only(&fixture("llama-8b-incomplete"));
    assert_eq!(rule, "shard-missing");
    assert_eq!(
        message,
        "1 of 2 weight files are absent: `model-00002-of-00002.safetensors`"
    );
    assert_eq!(shown, "model-00002-of-00002.safetensors");
    assert_eq!(
        weights(&fixture("llama-8b-incomplete")).bytes,
        Some(16_060_522_496)
    );
}

#[test]
fn numbered_shards_without_an_index_still_tell_which_are_absent() {
    let shard = safetensors(&[("w", "BF16", &[4])]);
    let dir = directory(&[
        ("config.json", CONFIG.as_bytes()),
        ("model-00001-of-00005.safetensors", &shard),
    ]);
    let (rule, message, _) = only(dir.path());
    assert_eq!(rule, "shard-missing");
    assert!(
        message.starts_with("4 of 5 weight files are absent") && message.ends_with("and 1 more"),
        "{message}"
    );
    assert_eq!(
        weights(dir.path()).bytes,
        None,
        "a part must not pass for the whole"
    );
}

#[test]
fn files_and_pointers_may_stand_side_by_side() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1000\n";
    let shard = safetensors(&[("w", "BF16", &[4])]);
    let dir = directory(&[
        ("config.json", CONFIG.as_bytes()),
        ("model-00001-of-00002.safetensors", &shard),
        ("model-00002-of-00002.safetensors", pointer),
    ]);
    let weights = weights(dir.path());
    assert_eq!((weights.bytes, weights.by_dtype.len()), (Some(1008), 0));
}

#[test]
fn pytorch_files_are_an_estimate_and_nothing_at_all_is_nothing() {
    let dir = directory(&[
        ("config.json", CONFIG.as_bytes()),
        ("pytorch_model.bin", &[0; 5000]),
        ("training_args.bin", b"x"),
    ]);
    let found = weights(dir.path());
    assert_eq!((found.bytes, found.exact), (Some(5000), false));
    let dir = directory(&[("config.json", CONFIG.as_bytes())]);
    assert_eq!(weights(dir.path()), Weights::default());
}

#[test]
fn a_gptq_checkpoint_counts_the_parameters_it_unpacks_to() {
    let prefix = "model.layers.0.mlp.up_proj";
    let names = ["qweight", "qzeros", "scales"].map(|leaf| format!("{prefix}.{leaf}"));
    let shard = safetensors(&[
        (&names[0], "I32", &[1024 / 8, 512]),
        (&names[1], "I32", &[8, 512 / 8]),
        (&names[2], "F16", &[8, 512]),
    ]);
    let config = CONFIG.replacen(
        '{',
        r#"{"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},"#,
        1,
    );
    let dir = directory(&[("config.json", config.as_bytes()), ("model.safetensors", &shard)]);
    let model = loaded(dir.path()).0.model.unwrap();
    assert_eq!(model.parameters.unwrap().count, 1024 * 512);
    assert_eq!(model.quantization.unwrap().value.name(), "gptq int4");
}

#[test]
fn quantizations_written_beside_config_json_are_found() {
    let hf = br#"{"producer": {}, "quantization": {"quant_algo": "FP8"}}"#;
    let dir = directory(&[("config.json", CONFIG.as_bytes()), ("hf_quant_config.json", hf)]);
    let (loaded, sources) = loaded(dir.path());
    let quantization = loaded.model.unwrap().quantization.unwrap();
    assert_eq!(quantization.value.name(), "modelopt fp8");
    assert_eq!(
        sources.path(quantization.span().unwrap()),
        "m/hf_quant_config.json"
    );
    let legacy = br#"{"bits": 4, "group_size": 128, "desc_act": true}"#;
    let dir = directory(&[
        ("config.json", CONFIG.as_bytes()),
        ("quantize_config.json", legacy),
    ]);
    assert_eq!(
        super::load(&sources, dir.path(), "m")
            .model
            .unwrap()
            .quantization
            .unwrap()
            .value
            .name(),
        "gptq int4"
    );
}

#[test]
fn a_web_applications_config_is_not_a_model() {
    let dir = directory(&[("config.json", br#"{"port": 8080, "layers": ["a"]}"#)]);
    assert!(!is_model_directory(dir.path()));
    let (loaded, _) = loaded(dir.path());
    assert!(loaded.model.is_none() && loaded.findings.is_empty());
    assert!(is_model_directory(
        directory(&[("config.json", CONFIG.as_bytes())]).path()
    ));
    assert!(is_model_directory(
        directory(&[("config.json", b""), ("model.safetensors", b"")]).path()
    ));
    assert!(!is_model_directory(
        directory(&[("model.safetensors", b"")]).path()
    ));
}

#[test]
fn configs_that_cannot_be_read_say_why_and_where() {
    let config = |bytes: &[u8]| only(directory(&[("config.json", bytes)]).path());
    let (rule, message, shown) = config(br#"{"model_type": "llama", "num_hidden_layers": 3"#);
    assert_eq!((rule.as_str(), shown.as_str()), ("yaml-invalid", "3"));
    assert_eq!(
        message,
        "`m/config.json` is not valid JSON: the text ends before its last bracket"
    );
    assert_eq!(config(b"").1, "`m/config.json` is empty; expected a JSON object");
    let (rule, message, shown) =
        config(b"{\"model_type\": \"llama\", \"num_hidden_layers\": 2, \"_name\": \"\xff\"}");
    assert_eq!(
        (rule.as_str(), message.as_str(), shown.as_str()),
        ("file-unreadable", "`m/config.json` is not UTF-8", "\u{fffd}")
    );
    assert_eq!(config(&b"[".repeat(100_000)).0, "yaml-invalid");
}

#[test]
fn absent_and_misplaced_configs_say_what_to_do() {
    let dir = directory(&[("weights-q4.gguf", b"GGUF")]);
    let (loaded, _) = loaded(dir.path());
    assert_eq!(loaded.findings[0].message, "`m` has no config.json");
    assert_eq!(
        loaded.findings[0].help.as_deref(),
        Some("name the GGUF file itself: `m/weights-q4.gguf`")
    );
    assert_eq!(only(&dir.path().join("absent")).0, "file-unreadable");
    assert!(
        only(&dir.path().join("weights-q4.gguf"))
            .1
            .contains("expected a model directory")
    );
    fs::create_dir(dir.path().join("config.json")).unwrap();
    assert_eq!(
        only(dir.path()).1,
        "`m/config.json` is a directory; expected a file"
    );
}

#[test]
fn wrong_types_never_panic_and_still_give_a_model() {
    for config in [
        r#"{"model_type": 4, "num_hidden_layers": "many", "tie_word_embeddings": 7, "quantization_config": [1]}"#,
        r#"{"architectures": "x", "num_hidden_layers": -1, "text_config": [], "quantization": {"bits": {}}}"#,
        r#"{"model_type": "llama", "num_hidden_layers": 9223372036854775808, "num_key_value_heads": 0}"#,
        r#"{"model_type": "llama", "num_hidden_layers": NaN, "rope_theta": Infinity}"#,
    ] {
        let shard = safetensors(&[("model.layers.99999999999999999999.q.weight", "U32", &[4, 4])]);
        let dir = directory(&[("config.json", config.as_bytes()), ("model.safetensors", &shard)]);
        assert!(loaded(dir.path()).0.model.is_some(), "{config}");
        advise_quantization(dir.path(), &HardwareCapabilities::default(), None);
    }
    for config in ["[]", "3", "null", "\"architectures\""] {
        assert!(
            loaded(directory(&[("config.json", config.as_bytes())]).path())
                .0
                .model
                .is_none()
        );
    }
}

fn shard_problem(content: &[u8]) -> String {
    let dir = directory(&[("config.json", CONFIG.as_bytes()), ("model.safetensors", content)]);
    let (rule, message, _) = only(dir.path());
    assert_eq!(rule, "file-unreadable");
    assert_eq!(
        weights(dir.path()).exact,
        message.contains("its header describes")
    );
    message
}

#[test]
fn broken_weight_files_are_named_with_their_numbers() {
    let cut = safetensors(&[("w", "BF16", &[400])]);
    assert!(shard_problem(&cut[..cut.len() - 100]).contains("is cut off: its header describes"));
    let mut long = cut.clone();
    long.push(0);
    assert!(shard_problem(&long).contains("has bytes after its last tensor"));
    assert!(shard_problem(b"abc").contains("holds 3 bytes"));
    assert!(shard_problem(b"").contains("is empty"));
    let absurd = [(1u64 << 60).to_le_bytes().as_slice(), &[b' '; 3000]].concat();
    assert!(shard_problem(&absurd).contains("header length of 1152921504606846976 bytes"));
    assert!(shard_problem(b"\x04\0\0\0\0\0\0\0{\"a\"").contains("not valid JSON"));
    assert!(
        shard_problem(b"version https://git-lfs.github.com/spec/v1\noid x\n")
            .contains("pointer without a size")
    );
}

#[test]
fn a_directory_named_like_a_weight_file_is_a_finding() {
    let dir = directory(&[("config.json", CONFIG.as_bytes())]);
    fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert_eq!(
        only(dir.path()).1,
        "`m/model.safetensors` is a directory; expected a file"
    );
}

#[test]
fn a_header_without_tensors_weighs_nothing_known_rather_than_zero() {
    let dir = directory(&[
        ("config.json", CONFIG.as_bytes()),
        ("model.safetensors", &safetensors(&[])),
    ]);
    assert_eq!(weights(dir.path()).bytes, None);
}

#[test]
fn broken_indexes_are_shown_and_one_that_leads_outside_is_not_followed() {
    let index = |text: &[u8]| {
        directory(&[
            ("config.json", CONFIG.as_bytes()),
            ("model.safetensors.index.json", text),
        ])
    };
    let (rule, message, _) = only(index(b"{\"weight_map\": {\"a\": 1}}").path());
    assert_eq!(rule, "yaml-invalid");
    assert!(message.contains("is not a shard index"), "{message}");
    let outside = br#"{"weight_map": {"a": "../../x.safetensors", "b": "/etc/passwd"}}"#;
    assert_eq!(findings(index(outside).path()), []);
}

#[cfg(unix)]
#[test]
fn links_that_lead_in_circles_or_nowhere_are_findings() {
    use std::os::unix::fs::symlink;
    let dir = directory(&[("config.json", CONFIG.as_bytes())]);
    symlink("model.safetensors", dir.path().join("model.safetensors")).unwrap();
    symlink(dir.path(), dir.path().join("again")).unwrap();
    let (rule, message, _) = only(dir.path());
    assert_eq!(rule, "file-unreadable");
    assert!(
        message.starts_with("`m/model.safetensors` cannot be read"),
        "{message}"
    );
    let dir = directory(&[]);
    symlink("absent.json", dir.path().join("config.json")).unwrap();
    assert!(only(dir.path()).1.starts_with("`m/config.json` cannot be read"));
}

#[cfg(unix)]
#[test]
fn files_without_permission_are_findings() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory(&[("config.json", CONFIG.as_bytes())]);
    let path = dir.path().join("config.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        println!("skipped: this user may read every file");
        return;
    }
    assert_eq!(
        only(dir.path()).1,
        "`m/config.json` cannot be read: permission denied"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damaged_files_never_panic(file in 0..4usize, at in 0..400usize, bytes in prop::collection::vec(any::<u8>(), 1..4)) {
        let index = br#"{"metadata": {"total_size": 8}, "weight_map": {"w": "model.safetensors"}}"#;
        let hf = br#"{"quantization": {"quant_algo": "FP8"}}"#;
        let shard = safetensors(&[("model.layers.0.mlp.up_proj.weight", "U8", &[4, 2])]);
        let mut files = [
            ("config.json", CONFIG.as_bytes().to_vec()),
            ("model.safetensors.index.json", index.to_vec()),
            ("hf_quant_config.json", hf.to_vec()),
            ("model.safetensors", shard),
        ];
        let damaged = &mut files[file].1;
        let at = at.min(damaged.len());
        damaged.splice(at..(at + bytes.len()).min(damaged.len()), bytes);
        let files = files.each_ref().map(|(name, content)| (*name, content.as_slice()));
        drop(loaded(directory(&files).path()));
    }
}

#[test]
fn advice_follows_bytes_then_config_then_seven_billion() {
    let m4 = HardwareCapabilities::apple(4, 24, (26, 2));
    let advice = advise_quantization(&fixture("llama-8b-index"), &m4, None);
    assert!((advice.params_billions - 8.030_261_248).abs() < 1e-9);
    assert_eq!(
        (advice.kv_cache_bytes, advice.weight_bytes),
        (Some(GIB), Some(16_060_522_496))
    );
    assert!(advice.is_bfloat16);
    assert_eq!(
        (advice.recommendation.format, advice.recommendation.fits),
        (QuantFormat::Fp16, true)
    );
    let overridden = advise_quantization(&fixture("llama-8b-index"), &m4, Some(30.0));
    assert_eq!(overridden.recommendation.format, QuantFormat::Int4);
    let empty = directory(&[]);
    let fallback = advise_quantization(empty.path(), &m4, None);
    assert!((fallback.params_billions - 7.0).abs() < 1e-9);
    assert_eq!(
        (fallback.kv_cache_bytes, fallback.recommendation.kv_cache_gb),
        (None, 2)
    );
}

#[test]
fn every_shared_model_directory_loads_without_a_panic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    let Ok(entries) = fs::read_dir(&root) else {
        println!("skipped: {} is absent", root.display());
        return;
    };
    let (mut models, mut quantized, mut seen) = (0, 0, 0);
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        seen += 1;
        assert!(is_model_directory(&entry.path()), "{}", entry.path().display());
        let (loaded, _) = loaded(&entry.path());
        assert_eq!(loaded.findings, [], "{}", entry.path().display());
        models += usize::from(loaded.model.is_some());
        quantized += usize::from(loaded.model.is_some_and(|model| model.quantization.is_some()));
    }
    println!("{models} of {seen} directories are models, {quantized} of them quantized");
    assert_eq!(models, seen);
}
