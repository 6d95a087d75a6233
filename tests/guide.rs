//! The rules of `docs/writing-rules.md` load, speak and keep silent as the guide says.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
 "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
 "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16"}"#;

/// The rule files of the guide: id and text.
fn rules() -> Vec<(String, String)> {
    let guide = include_str!("../docs/writing-rules.md").replace("\r\n", "\n");
    let blocks = guide.split("```yaml\n").skip(1);
    let texts = blocks.map(|block| block.split("```").next().unwrap().to_owned());
    let id = |text: &str| text.split_whitespace().nth(1).unwrap().to_owned();
    texts.map(|text| (id(&text), text)).collect()
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The rules of the guide that speak of a deployment, and the exit code.
fn spoken(file: &str, lines: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    for (id, text) in rules() {
        write(&folder.path().join(format!("oomlint-rules/{id}.yaml")), &text);
    }
    write(&folder.path().join(".oomlint.yaml"), "rules: [oomlint-rules]\n");
    write(&folder.path().join("m/config.json"), CONFIG);
    let manifest = format!(
        "oomlint: 1\ndeployments:\n  - name: chat\n    model: {}m\n{lines}",
        "../".repeat(file.matches('/').count())
    );
    write(&folder.path().join(file), &manifest);
    let output = Command::new(env!("CARGO_BIN_EXE_oomlint"))
        .args(["check", file, "--output", "json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let own: BTreeSet<String> = rules().into_iter().map(|(id, _)| id).collect();
    let findings = report["findings"].as_array().unwrap().iter();
    let spoken = findings.map(|finding| finding["rule"].as_str().unwrap().to_owned());
    spoken.filter(|rule| own.contains(rule)).collect()
}

fn set<const N: usize>(rules: [&str; N]) -> BTreeSet<String> {
    rules.map(str::to_owned).into()
}

#[test]
fn the_guide_has_rules_and_each_has_a_name() {
    assert_eq!(rules().len(), 5);
}

#[test]
fn production_keeps_its_memory_free_and_other_folders_need_not() {
    let full = "    engine: vllm\n    machines: [l4]\n    context: 16k\n    quantization: as-published\n";
    assert_eq!(
        spoken("production/chat.yaml", full),
        set(["production-keeps-memory-free"])
    );
    assert_eq!(spoken("staging/chat.yaml", full), set([]));
    let roomy = full.replace("l4", "h100-sxm-80gb");
    assert_eq!(spoken("production/chat.yaml", &roomy), set([]));
}

#[test]
fn long_contexts_want_fp8() {
    let long = "    engine: vllm\n    machines: [h100-sxm-80gb]\n    context: 128k\n";
    assert_eq!(spoken("a.yaml", long), set(["long-contexts-in-fp8"]));
    assert_eq!(spoken("a.yaml", &format!("{long}    kv_cache: fp8\n")), set([]));
}

#[test]
fn machines_that_are_not_on_the_list_are_told() {
    let lines = "    engine: vllm\n    machines: [l4, a100-sxm-80gb]\n    context: 16k\n";
    assert_eq!(spoken("a.yaml", lines), set(["approved-machines-only"]));
}

#[test]
fn a_release_that_is_unknown_makes_a_warning_and_an_old_one_nothing() {
    let lines = |version: &str| {
        format!(
            "    engine: vllm\n    context: 16k\n    machines: [l4]\n{version}    args: [\"--swap-space\", \"4\"]\n"
        )
    };
    let gone = set(["swap-space-gone"]);
    assert_eq!(spoken("a.yaml", &lines("")), gone);
    assert_eq!(spoken("a.yaml", &lines("    engine_version: \"0.20.0\"\n")), gone);
    assert_eq!(
        spoken("a.yaml", &lines("    engine_version: \"0.16.0\"\n")),
        set([])
    );
}

#[test]
fn the_first_rule_of_the_guide_speaks_of_short_contexts() {
    let lines = "    engine: vllm\n    machines: [l4]\n    context: 8k\n";
    assert_eq!(spoken("a.yaml", lines), set(["prompts-need-room"]));
}
