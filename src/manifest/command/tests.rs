use super::*;
use crate::source::SourceFile;
use crate::source::tree::Tree;
use std::sync::Arc;

/// A container written as YAML: `image`, `entrypoint`, `arguments` (list or script), `line`, `env`.
struct Case {
    sources: Sources,
    file: Arc<SourceFile>,
    tree: Tree,
}

impl Case {
    fn new(yaml: &str) -> Self {
        let sources = Sources::default();
        let file = sources.add("case.yaml", yaml);
        let tree = Tree::parse(&file);
        Self { sources, file, tree }
    }

    fn run(&self) -> Vec<Invocation> {
        self.run_with(&Interpolation::None)
    }

    fn run_with(&self, how: &Interpolation<'_>) -> Vec<Invocation> {
        let root = self.tree.documents[0].root();
        let mut environment = Environment::default();
        for (name, value) in root
            .get("env")
            .map(crate::source::tree::Node::entries)
            .unwrap_or_default()
        {
            let name = name.text().unwrap();
            if value.is_null() {
                environment.set_unknown(name, "a secret", Some(value.span()));
            } else {
                environment.set_text(name, Text::of_node(&self.sources, value));
            }
        }
        environment.resolve_references();
        let words = |key: &str| {
            let node = root.get(key)?;
            let text = |node| how.apply(&Text::of_node(&self.sources, node), &environment);
            Some(match node.text() {
                Some(_) => Words::Shell(text(node)),
                None => Words::List(node.items().map(text).collect()),
            })
        };
        let line = root
            .get("line")
            .map(|node| Words::Line(how.apply(&Text::of_node(&self.sources, node), &environment)));
        let launch = Launch {
            image: root
                .get("image")
                .map(|node| Fact::at(node.text().unwrap().to_owned(), node.span())),
            entrypoint: words("entrypoint"),
            arguments: words("arguments").or(line),
            environment: &environment,
            sources: &self.sources,
            files: &|path| {
                let files = root.get("files")?;
                Some(Text::of_node(&self.sources, files.get(path)?))
            },
        };
        invocations(&launch)
    }

    fn only(&self) -> Invocation {
        self.only_with(&Interpolation::None)
    }

    fn only_with(&self, how: &Interpolation<'_>) -> Invocation {
        let mut found = self.run_with(how);
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// The characters that a fact points at.
    fn at<T>(&self, fact: &Fact<T>) -> &str {
        self.file.slice(fact.span().unwrap())
    }
}

fn engine(invocation: &Invocation) -> Option<Engine> {
    invocation.engine.as_ref().map(|engine| engine.value)
}

fn model(invocation: &Invocation) -> Option<&str> {
    invocation.model.as_ref().map(|model| model.value.as_str())
}

fn args(invocation: &Invocation) -> Vec<&str> {
    invocation.args.iter().map(|word| word.value.as_str()).collect()
}

#[test]
fn an_exec_list_gives_engine_model_and_words_with_their_places() {
    let case = Case::new(
        "image: vllm/vllm-openai:v0.11.0\nentrypoint: [vllm, serve]\narguments: [org/m, '--max-model-len', 8192]\n",
    );
    let found = case.only();
    assert_eq!(engine(&found), Some(Engine::Vllm));
    assert_eq!(model(&found), Some("org/m"));
    assert_eq!(found.version.as_ref().unwrap().value, "v0.11.0");
    assert_eq!(args(&found), ["org/m", "--max-model-len", "8192"]);
    assert_eq!(case.at(&found.args[2]), "8192");
}

#[test]
fn the_images_entrypoint_stands_in_front_of_arguments() {
    let found = Case::new("image: vllm/vllm-openai\narguments: [org/m, -tp, '2']\n").only();
    assert_eq!(
        (engine(&found), model(&found)),
        (Some(Engine::Vllm), Some("org/m"))
    );
    let found = Case::new("image: ollama/ollama:0.5.7\nenv: {OLLAMA_NUM_PARALLEL: '4'}\n").only();
    assert_eq!(engine(&found), Some(Engine::Ollama));
    assert_eq!(found.settings.text("num_parallel"), Some("4"));
}

#[test]
fn a_script_in_a_block_is_followed_through_wrappers_and_line_ends() {
    let case = Case::new(
        "entrypoint: [bash, -lc, --]\narguments:\n- |\n  set -e\n  export CTX=4096   # tokens\n  echo \"starting\" && sleep 1\n  exec env A=b python3 -m sglang.launch_server \\\n    --model-path org/m \\\n    --context-length $CTX --tp \"2\" 2>&1 | tee log &\n",
    );
    let found = case.only();
    assert_eq!(
        (engine(&found), model(&found)),
        (Some(Engine::Sglang), Some("org/m"))
    );
    assert_eq!(
        args(&found),
        ["--model-path", "org/m", "--context-length", "4096", "--tp", "2"]
    );
    assert_eq!(case.at(&found.args[3]), "4096");
    assert_eq!(case.at(&found.args[5]), "2");
}

#[test]
fn words_after_the_script_are_its_arguments() {
    let case = Case::new(
        "entrypoint: [bash, -c, 'if x; then exec vllm serve \"$@\"; else exec vllm serve --a \"$@\"; fi', --]\narguments: [--model, org/m, --max-num-seqs, '4']\n",
    );
    let found = case.only();
    assert_eq!(model(&found), Some("org/m"));
    assert_eq!(case.at(&found.args[3]), "'4'".trim_matches('\''));
}

#[test]
fn defaults_of_compose_are_values_with_their_own_places() {
    let case = Case::new(
        "line: >-\n  vllm serve ${MODEL:-org/m} --max-model-len ${CTX:-${LEN:-32768}}\n  --port ${PORT} ${EXTRA:-}\n",
    );
    let found = case.only_with(&Interpolation::Compose);
    assert_eq!(
        args(&found),
        ["org/m", "--max-model-len", "32768", "--port", "${PORT}"]
    );
    assert_eq!(case.at(&found.args[0]), "org/m");
    assert_eq!(case.at(&found.args[2]), "32768");
}

#[test]
fn a_variable_without_a_value_stays_as_written_and_is_named() {
    let case = Case::new(
        "entrypoint: [vllm, serve]\narguments: ['--model=$(MODEL)', --max-model-len, $(LEN)]\nenv: {MODEL: , LEN: 4096}\n",
    );
    let found = case.only_with(&Interpolation::Kubernetes);
    assert_eq!(model(&found), Some("$(MODEL)"));
    assert_eq!(found.unresolved, ["model"]);
    assert_eq!(found.args[2].value, "4096");
    assert_eq!(case.at(&found.args[2]), "4096");
}

#[test]
fn a_word_that_is_partly_a_variable_points_at_the_word() {
    let case =
        Case::new("entrypoint: [vllm, serve]\narguments: ['--model=/m/$(NAME)']\nenv: {NAME: llama}\n");
    let found = case.only_with(&Interpolation::Kubernetes);
    assert_eq!(found.args[0].value, "--model=/m/llama");
    assert_eq!(case.at(&found.args[0]), "--model=/m/$(NAME)");
}

#[test]
fn a_here_document_is_the_option_file_that_a_flag_names() {
    let case = Case::new(
        "entrypoint: [/bin/bash, -c]\narguments:\n- |\n  cat <<'EOF' > /tmp/o.yaml\n  max_batch_size: 16\n  kv_cache_config:\n    free_gpu_memory_fraction: 0.85\n  EOF\n  trtllm-serve serve /models/q --extra_llm_api_options /tmp/o.yaml\n",
    );
    let found = case.only();
    assert_eq!(
        (engine(&found), model(&found)),
        (Some(Engine::TensorrtLlm), Some("/models/q"))
    );
    assert_eq!(found.settings.text("max_sequences"), Some("16"));
    let fraction = found.settings.get("free_memory_fraction").unwrap();
    assert_eq!((fraction.value.as_str(), case.at(fraction)), ("0.85", "0.85"));
}

#[test]
fn a_pull_beside_a_server_names_its_model() {
    let case = Case::new(
        "image: ollama/ollama\nentrypoint: [/bin/sh, -c]\narguments:\n- |\n  ollama serve &\n  sleep 5\n  ollama pull qwen2.5:7b\n  wait\n",
    );
    let found = case.run();
    assert_eq!(found.len(), 2);
    assert_eq!(model(&found[0]), Some("qwen2.5:7b"));
    assert!(matches!(found[1].role, Role::Downloads { .. }));
}

#[test]
fn docker_run_is_a_container_of_its_own() {
    let case = Case::new(
        "line: docker run --rm -it --gpus '\"device=0,1\"' -v /m:/m -e HF_TOKEN=x --shm-size=1g vllm/vllm-openai:v0.9.0 --model org/m -tp 2\n",
    );
    let found = case.only();
    assert_eq!(
        (engine(&found), model(&found)),
        (Some(Engine::Vllm), Some("org/m"))
    );
    assert_eq!(found.visible_devices.as_ref().unwrap().value, 2);
    assert_eq!(args(&found), ["--model", "org/m", "-tp", "2"]);
}

#[test]
fn what_is_no_engine_gives_nothing() {
    for yaml in [
        "image: vllm/vllm-openai\nentrypoint: [sleep, infinity]\n",
        "image: nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.8\nentrypoint: [python3, -m, planner_sla]\narguments: [--backend=vllm]\n",
        "image: lmcache/lmstack-router\narguments: [--port, '1']\n",
        "image: vllm/vllm-openai\nentrypoint: [sh, -c, 'bash /x/multi-node-serving.sh worker']\n",
        "image: postgres\n",
        "image: vllm/vllm-openai\narguments: [sleep, infinity]\n",
        "arguments: pip install vllm && echo vllm serve\n",
    ] {
        let found = Case::new(yaml).run();
        assert!(found.is_empty(), "{yaml}{found:#?}");
    }
}

#[test]
fn a_script_in_no_file_leaves_the_images_engine_and_open_fields() {
    let found = Case::new("image: vllm/vllm-openai:latest\nentrypoint: [/bin/sh, /run.sh]\n").only();
    assert_eq!(engine(&found), Some(Engine::Vllm));
    assert_eq!(found.unresolved, ["model", "context"]);
}

#[test]
fn arrays_functions_and_branches_are_followed() {
    let case = Case::new(
        "arguments: |\n  ARGS=(--model org/m)\n  if [ -n \"$X\" ]; then LEN=1; else LEN=2; fi\n  ARGS+=(--max-num-seqs \"8\" --max-model-len $LEN)\n  serve() {\n    python -m vllm.entrypoints.openai.api_server \"$@\"\n  }\n  serve \"${ARGS[@]}\"\n",
    );
    let found = case.only();
    assert_eq!(
        args(&found),
        [
            "--model",
            "org/m",
            "--max-num-seqs",
            "8",
            "--max-model-len",
            "$LEN"
        ]
    );
    assert_eq!(found.unresolved, ["context"]);
}

#[test]
fn sums_of_known_variables_are_computed_and_others_stay_open() {
    let case = Case::new(
        "env: {GPUS: 4}\narguments: |\n  TP=$((GPUS * 2))\n  vllm serve org/m -tp $TP -pp $((NODES + 1)) --max-model-len $(cat /len)\n",
    );
    let found = case.only();
    assert_eq!(
        args(&found),
        [
            "org/m",
            "-tp",
            "8",
            "-pp",
            "$((NODES + 1))",
            "--max-model-len",
            "$(cat /len)"
        ]
    );
    assert_eq!(
        found.unresolved,
        ["pipeline_parallel", "context"].map(str::to_owned)
    );
}

#[test]
fn a_variable_that_splits_gives_words_that_point_into_its_value() {
    let case = Case::new("env: {ARGS: '--model org/m -tp 2'}\nentrypoint: [sh, -c, 'vllm serve $ARGS']\n");
    let found = case.only();
    assert_eq!(args(&found), ["--model", "org/m", "-tp", "2"]);
    assert_eq!(case.at(&found.args[1]), "org/m");
    assert_eq!(model(&found), Some("org/m"));
}

#[test]
fn places_hold_inside_folded_and_quoted_scalars() {
    let case = Case::new(
        "arguments:\n  \"vllm serve org/m\n   --speculative-config '{\\\"model\\\": \\\"org/d\\\"}' --max-num-seqs 7\"\n",
    );
    let found = case.only();
    assert_eq!(args(&found)[2], "{\"model\": \"org/d\"}");
    assert_eq!(case.at(&found.args[4]), "7");
}

#[test]
fn a_loop_over_known_words_is_turned() {
    let case =
        Case::new("arguments: |\n  ollama serve &\n  for m in a:1b b:2b; do\n    ollama pull $m\n  done\n");
    let found = case.run();
    let pulled: Vec<_> = found.iter().skip(1).map(|one| model(one).unwrap()).collect();
    assert_eq!(pulled, ["a:1b", "b:2b"]);
    assert_eq!(model(&found[0]), None);
}

#[test]
fn visible_devices_come_from_the_environment_or_the_line() {
    let found = Case::new(
        "arguments: CUDA_VISIBLE_DEVICES=0,1 vllm serve org/m\nenv: {NVIDIA_VISIBLE_DEVICES: all}\n",
    )
    .only();
    assert_eq!(found.visible_devices.as_ref().unwrap().value, 2);
}

#[test]
fn flags_of_wrappers_do_not_reach_the_engine() {
    let found = Case::new("entrypoint: [python3, -m, dynamo.vllm]\narguments: [--model, org/m, --is-prefill-worker, --migration-limit=3, --max-model-len=8192]\n").only();
    assert_eq!(args(&found), ["--model", "org/m", "--max-model-len=8192"]);
    let found = Case::new("image: kserve/huggingfaceserver:v0.15\narguments: [--model_name=x, --model_id=org/m, --max_model_len=4096, --backend=vllm]\n").only();
    assert_eq!(
        (model(&found), args(&found)),
        (Some("org/m"), vec!["--max_model_len=4096"])
    );
    assert_eq!(found.server.as_ref().unwrap().value, "huggingfaceserver");
}

#[test]
fn a_server_of_another_kind_gives_settings_and_no_words() {
    let found = Case::new("image: koboldai/koboldcpp\narguments: [--model, /m/x.gguf, --contextsize, '8192', --gpulayers, '99', --usecublas]\n").only();
    assert_eq!((model(&found), args(&found)), (Some("/m/x.gguf"), vec![]));
    assert_eq!(
        (found.settings.text("ctx_size"), found.settings.text("gpu_layers")),
        (Some("8192"), Some("99"))
    );
}

#[test]
fn variables_of_a_custom_image_count_where_no_command_is_given() {
    let found =
        Case::new("env: {VLLM_MODEL: org/m, VLLM_MAX_MODEL_LEN: 4096, VLLM_TENSOR_PARALLEL_SIZE: 2}\n")
            .only();
    assert_eq!(
        (engine(&found), model(&found)),
        (Some(Engine::Vllm), Some("org/m"))
    );
    assert_eq!(found.settings.text("context"), Some("4096"));
    assert!(
        Case::new("env: {VLLM_MODEL: org/m, VLLM_BASE_URL: x}\n")
            .run()
            .is_empty()
    );
}

#[test]
fn an_unclosed_quote_and_a_variable_of_itself_are_named() {
    let found = Case::new("arguments: |\n  vllm serve org/m --served-model-name \"x\n").only();
    assert!(
        found.problems[0].1.contains("never closed"),
        "{:?}",
        found.problems
    );
    let found = Case::new("arguments: [vllm, serve, $(A)]\nenv: {A: $(B), B: $(A)}\n")
        .only_with(&Interpolation::Kubernetes);
    assert_eq!(found.unresolved, ["model"]);
}

#[test]
fn scripts_in_known_files_are_followed() {
    let case = Case::new(
        "files: {/run.sh: \"#!/bin/sh\\nexec vllm serve $1 --max-num-seqs 3\"}\nentrypoint: [/run.sh, org/m]\n",
    );
    let found = case.only();
    assert_eq!(args(&found), ["org/m", "--max-num-seqs", "3"]);
}

#[test]
fn nesting_and_length_are_bounded() {
    let mut script = "vllm serve org/m".to_owned();
    for _ in 0..40 {
        script = format!("sh -c '{}'", script.replace('\'', "'\\''"));
        if script.len() > 100_000 {
            break;
        }
    }
    let sources = Sources::default();
    let long = format!("vllm serve org/m {}", "--x ".repeat(100_000));
    let braces = "${a".repeat(50_000);
    let opens = "if { ( for x in a b; do case ".repeat(5_000);
    let heres = "cat <<A <<B <<C\n".repeat(5_000);
    let laughs = format!("A=x; {} vllm serve $A", "A=\"$A$A\";".repeat(60));
    let assigned = "A=b ".repeat(50_000);
    let wrapped = "env nice ".repeat(50_000);
    for text in [script, long, braces, opens, heres, laughs, assigned, wrapped] {
        let launch = Launch {
            image: None,
            entrypoint: None,
            arguments: Some(Words::Shell(Text::literal(&text))),
            environment: &Environment::default(),
            sources: &sources,
            files: &|_| None,
        };
        assert!(invocations(&launch).len() < 3);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_fail(text in "[ \\n\\\\a-c$(){}\"'`;&|<>=#@\\-\\[\\]0é]{0,80}") {
        let sources = Sources::default();
        let mut environment = Environment::default();
        environment.set_text("a", Text::literal("$b x"));
        environment.set_text("b", Text::literal("${a} $(c)"));
        environment.resolve_references();
        let file = sources.add("x", text.clone());
        for how in [Interpolation::Compose, Interpolation::Kubernetes, Interpolation::None] {
            let written = how.apply(&Text::of_source(&file), &environment);
            for words in [Words::Shell(written.clone()), Words::Line(written.clone())] {
                let launch = Launch {
                    image: Some(Fact::default(text.clone(), "test")),
                    entrypoint: Some(Words::List(vec![Text::literal("sh"), Text::literal("-c")])),
                    arguments: Some(words),
                    environment: &environment,
                    sources: &sources,
                    files: &|_| None,
                };
                for invocation in invocations(&launch) {
                    for word in &invocation.args {
                        if let Some(span) = word.span() {
                            proptest::prop_assert!(file.text().get(span.start()..span.end()).is_some());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn plain_words_come_back_as_they_are(words in proptest::collection::vec("[a-z0-9./:,-]{1,12}", 1..8)) {
        let sources = Sources::default();
        let line = words.join(" ");
        let file = sources.add("x", line);
        let (split, problems) = super::words(&Text::of_source(&file), &Environment::default());
        let values: Vec<&str> = split.iter().map(|word| word.value.as_str()).collect();
        proptest::prop_assert_eq!(values, words.iter().map(String::as_str).collect::<Vec<_>>());
        proptest::prop_assert!(problems.is_empty());
        for word in &split {
            proptest::prop_assert_eq!(file.slice(word.span().unwrap()), &word.value);
        }
    }
}

#[test]
fn a_test_that_the_files_answer_decides_the_way() {
    let case = Case::new(
        "env: {MODE: fp8}\narguments: |\n  LEN=1\n  EXTRA=()\n  if [ \"$MODE\" = fp8 ]; then LEN=2; elif [ -n \"$MODE\" ]; then LEN=3; else LEN=4; fi\n  if [[ -n \"${MAX:-}\" ]]; then EXTRA+=(--max-num-seqs \"${MAX}\"); fi\n  [ -z \"${MAX:-}\" ] && EXTRA+=(-tp 2)\n  ! [ -z \"$MODE\" ] || EXTRA+=(-pp 9)\n  vllm serve org/m --max-model-len $LEN \"${EXTRA[@]}\"\n",
    );
    let found = case.only();
    assert_eq!(args(&found), ["org/m", "--max-model-len", "2", "-tp", "2"]);
    assert!(found.unresolved.is_empty());
}

#[test]
fn flags_that_a_branch_may_add_are_open() {
    let case = Case::new(
        "arguments: |\n  ARGS=(-tp 2)\n  if nvidia-smi; then ARGS+=(--max-model-len 9); fi\n  vllm serve org/m \"${ARGS[@]}\"\n",
    );
    let found = case.only();
    assert_eq!(args(&found), ["org/m", "-tp", "2"]);
    assert_eq!(found.unresolved, ["context"]);
}

#[test]
fn paths_of_windows_keep_their_backslashes() {
    let found = Case::new("line: C:\\llama\\llama-server.exe -m C:\\m\\x.gguf -c 4096\n").only();
    assert_eq!(
        (engine(&found), model(&found)),
        (Some(Engine::LlamaCpp), Some("C:\\m\\x.gguf"))
    );
}

#[test]
fn a_flag_that_begins_a_line_goes_on_and_is_named() {
    let found = Case::new("arguments: |\n  set -e\n  vllm serve org/m\n    --max-model-len 4096\n").only();
    assert_eq!(args(&found), ["org/m", "--max-model-len", "4096"]);
    assert!(
        found.problems[0].1.contains("does not end with"),
        "{:?}",
        found.problems
    );
    let found = Case::new("line: >-\n  vllm serve org/m \\\n  --max-model-len 4096\n").only();
    assert_eq!(args(&found), ["org/m", "--max-model-len", "4096"]);
    assert!(found.problems[0].1.contains("folded"), "{:?}", found.problems);
}

#[test]
fn an_argument_settles_what_a_secret_leaves_open() {
    let found = Case::new(
        "image: ghcr.io/huggingface/text-generation-inference:3\nenv: {MODEL_ID: , MAX_TOTAL_TOKENS: }\narguments: [--model-id, org/m]\n",
    )
    .only();
    assert_eq!(
        (model(&found), found.unresolved.as_slice()),
        (Some("org/m"), ["context".to_owned()].as_slice())
    );
}

#[test]
fn an_image_may_be_the_model() {
    let found =
        Case::new("image: nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.5\nenv: {NIM_MAX_MODEL_LEN: 4096}\n")
            .only();
    assert_eq!(
        model(&found),
        Some("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.5")
    );
    assert_eq!(found.server.as_ref().unwrap().value, "nim");
    assert_eq!(found.settings.text("context"), Some("4096"));
}

#[test]
fn an_item_that_holds_several_words_is_read_as_meant_and_named() {
    let case = Case::new(
        "image: vllm/vllm-openai\narguments: [--model org/m, '--max-model-len 8192', '--chat-template=a b']\n",
    );
    let found = case.only();
    assert_eq!(
        args(&found),
        [
            "--model",
            "org/m",
            "--max-model-len",
            "8192",
            "--chat-template=a b"
        ]
    );
    assert_eq!(found.problems.len(), 2);
    assert_eq!(case.at(&found.args[3]), "8192");
}

#[test]
fn the_release_that_a_script_installs_is_the_engines() {
    let case = Case::new("arguments: |\n  uv pip install 'vllm[audio]==0.8.3' gradio\n  vllm serve org/m\n");
    let version = case.only().version.unwrap();
    assert_eq!((version.value.as_str(), case.at(&version)), ("0.8.3", "0.8.3"));
}

#[test]
fn a_string_of_flags_is_put_together_along_tests() {
    let case = Case::new(
        "env: {MODEL: org/m, LEN: 4096, TOK: ''}\narguments: |\n  F=\"--model-path $MODEL --tp 1\"\n  if [ \"$X\" = a ] || [[ \"$MODEL\" == *.gguf ]]; then\n    F=\"$F --load-format gguf\"\n  fi\n  if [ \"$TOK\" = a ] || [[ \"$MODEL\" == *.gguf ]]; then F=\"$F --dtype half\"; fi\n  if [ -n \"$LEN\" ]; then F=\"$F --context-length $LEN\"; fi\n  exec python3 -m sglang.launch_server $F\n",
    );
    let found = case.only();
    assert_eq!(
        args(&found),
        ["--model-path", "org/m", "--tp", "1", "--context-length", "4096"]
    );
    assert_eq!(found.unresolved, ["load_format"]);
    assert_eq!(case.at(&found.args[5]), "4096");
}

#[test]
fn a_custom_image_with_a_model_and_flags_runs_its_engine() {
    let found =
        Case::new("image: example-vllm:local\narguments: [serve, org/m, --max-model-len, '4096']\n").only();
    assert_eq!(
        (engine(&found), model(&found)),
        (Some(Engine::Vllm), Some("org/m"))
    );
    assert!(
        Case::new("image: example-vllm:local\narguments: [migrate, --now]\n")
            .run()
            .is_empty()
    );
}

#[test]
fn a_name_in_angle_brackets_is_a_value_to_be_filled_in() {
    let script = "vllm serve --model <model-path> --max-model-len=<CTX> --dtype auto > log.txt 2>&1";
    let found = Case::new(&format!("entrypoint: [sh, -c]\narguments: ['{script}']\n")).only();
    assert_eq!(
        args(&found),
        [
            "--model",
            "<model-path>",
            "--max-model-len=<CTX>",
            "--dtype",
            "auto"
        ]
    );
    assert!(found.unresolved.contains(&"model".to_owned()));
    assert!(found.unresolved.contains(&"context".to_owned()));
    let read =
        Case::new("entrypoint: [sh, -c]\narguments: ['vllm serve org/m <in >out --dtype auto']\n").only();
    assert_eq!(args(&read), ["org/m", "--dtype", "auto"]);
}

#[test]
fn a_script_that_no_shell_reads_is_told_where_the_image_serves() {
    let broken = "entrypoint: [sh, -c]\narguments: ['echo \"starting\nvllm serve org/m']\n";
    let found = Case::new(&format!("image: vllm/vllm-openai:v0.11.0\n{broken}")).only();
    assert_eq!(engine(&found), Some(Engine::Vllm));
    assert_eq!(found.unresolved, ["model", "context"]);
    assert_eq!(found.problems.len(), 1);
    assert!(
        Case::new(&format!("image: busybox\n{broken}"))
            .run_with(&Interpolation::None)
            .is_empty()
    );
}

#[test]
fn a_worker_of_dynamo_is_its_engine() {
    let found =
        Case::new("entrypoint: [python3, -m, dynamo.trtllm]\narguments: [--model-path, org/m]\n").only();
    assert_eq!(engine(&found), Some(Engine::TensorrtLlm));
    assert_eq!((found.server.is_none(), model(&found)), (true, Some("org/m")));
}
