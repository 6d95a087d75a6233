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

    fn text(&self, key: &str) -> Text {
        let node = self.tree.documents[0].root().get(key).unwrap();
        Text::of_node(&self.sources, node)
    }

    fn run(&self) -> Vec<Invocation> {
        self.run_with(&Interpolation::None)
    }

    fn run_with(&self, how: &Interpolation<'_>) -> Vec<Invocation> {
        let root = self.tree.documents[0].root();
        let mut environment = Environment::default();
        for (name, value) in root.get("env").map(|env| env.entries()).unwrap_or_default() {
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
