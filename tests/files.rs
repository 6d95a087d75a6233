//! Files that people keep beside Kubernetes, from outside: what the program makes of whole trees of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A model of 70 billion parameters with 8 KV heads.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8192,
  "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672,
  "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16"}"#;

/// The report of a tree of these files.
fn report(files: &[(&str, &str)]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    check(folder.path())
}

fn check(folder: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomlint"));
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("OOMLINT_") || name.starts_with("HF_"))
    {
        command.env_remove(name);
    }
    let done = command
        .args(["check", ".", "--output", "json"])
        .env("HF_HOME", folder.join("no-cache"))
        .current_dir(folder)
        .output()
        .unwrap();
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn the_tensor_parallel_size_of_skypilot_follows_each_alternative() {
    let task = "resources:\n  accelerators: {L4:8, A100:4, A100-80GB:2}\nrun: |\n  vllm serve ./m --max-model-len 8192 \\\n    --tensor-parallel-size $SKYPILOT_NUM_GPUS_PER_NODE\n";
    let report = report(&[("m/config.json", CONFIG), ("serve.yaml", task)]);
    let deployment = &report["deployments"][0];
    assert_eq!(deployment["tensor_parallel"], "$SKYPILOT_NUM_GPUS_PER_NODE");
    assert_eq!(deployment["unresolved"], serde_json::json!([]));
    assert_eq!(
        deployment["accelerator_type"],
        serde_json::json!(["L4", "A100", "A100-80GB"])
    );
    let cells: Vec<(&Value, &Value, &Value)> = report["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| (&cell["machine"], &cell["accelerators"], &cell["kv_cache_bytes"]))
        .collect();
    // 8 KV heads: 8192 tokens x 80 layers x 2 x 128 x 2 bytes for each head of a rank.
    let of_a_head = 8192_u64 * 80 * 2 * 128 * 2;
    assert_eq!(cells[0], (&"8x l4".into(), &8.into(), &of_a_head.into()));
    assert_eq!(
        cells[1],
        (&"4x a100-sxm-40gb".into(), &4.into(), &(2 * of_a_head).into())
    );
    assert_eq!(
        cells[2],
        (&"2x a100-sxm-80gb".into(), &2.into(), &(4 * of_a_head).into())
    );
}

#[test]
fn an_env_file_beside_a_compose_file_gives_its_values() {
    let compose = "services:\n  llm:\n    image: vllm/vllm-openai\n    command: --model ${MODEL} --max-model-len ${CTX:?}\n    gpus: ${GPUS}\n";
    let report = report(&[
        ("docker-compose.yml", compose),
        (".env", "MODEL=./m\nCTX=4096\nGPUS=2\n"),
        ("m/config.json", CONFIG),
    ]);
    let deployment = &report["deployments"][0];
    assert_eq!(deployment["model"], "./m");
    assert_eq!(deployment["context"], 4096);
    assert_eq!(deployment["accelerators"], 2);
}

#[test]
fn what_only_the_environment_knows_is_said_and_not_guessed() {
    let compose = "services:\n  llm:\n    image: vllm/vllm-openai\n    command: --model ${MODEL} --max-model-len ${CTX}\n";
    let report = report(&[("compose.yaml", compose)]);
    let deployment = &report["deployments"][0];
    assert_eq!(
        (&deployment["model"], &deployment["context"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(deployment["unresolved"], serde_json::json!(["model", "context"]));
}

#[test]
fn a_comment_in_a_modelfile_suppresses() {
    let text =
        "# oomlint: ignore[machine-not-declared] the server decides\nFROM ./m\nPARAMETER num_ctx 8192\n";
    let report = report(&[("Modelfile", text), ("m/config.json", CONFIG)]);
    let finding = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["rule"] == "machine-not-declared")
        .unwrap();
    assert_eq!(finding["suppressed"], "the server decides");
}

#[test]
fn a_chat_template_in_a_model_file_makes_it_no_helm_chart() {
    let text = "name: chat\nbackend: llama-cpp\nparameters: {model: chat.gguf}\ntemplate:\n  chat: |\n    {{ if .System }}{{.Input}}\n    {{- end }}\n";
    let report = report(&[("chat.yaml", text)]);
    assert_eq!(report["deployments"][0]["format"], "localai");
}
