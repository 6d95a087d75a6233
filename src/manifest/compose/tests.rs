use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::fixtures::{deployments, one, read, survives, words, world};
use crate::manifest::{Count, Deployment};

const COMPOSE: &str = "compose.yaml";

fn count(deployment: &Deployment) -> Option<Count> {
    deployment.accelerators.count.as_ref().map(|count| count.value)
}

fn model(deployment: &Deployment) -> Option<&str> {
    deployment.model.as_ref().map(|model| model.value.as_str())
}

/// The accelerators of a vLLM service with these lines.
fn asked(lines: &str) -> Option<Count> {
    let text =
        format!("services:\n  llm:\n    image: vllm/vllm-openai:v0.11.0\n    command: --model a/b\n{lines}");
    count(&one(COMPOSE, &text))
}

#[test]
fn a_service_with_an_engine_is_a_deployment() {
    let found = one(
        COMPOSE,
        "services:\n  llm:\n    image: vllm/vllm-openai:v0.11.0\n    command: >-\n      --model Qwen/Qwen3-8B\n      --max-model-len 4096\n  web:\n    image: nginx\n",
    );
    assert_eq!(found.name.value, "llm");
    assert_eq!(
        found.engine.as_ref().map(|engine| engine.value),
        Some(Engine::Vllm)
    );
    assert_eq!(
        found
            .engine_version
            .as_ref()
            .map(|version| version.value.as_str()),
        Some("v0.11.0")
    );
    assert_eq!(
        words(&found),
        ["--model", "Qwen/Qwen3-8B", "--max-model-len", "4096"]
    );
}

#[test]
fn words_keep_their_places_in_folded_text() {
    let text = "services:\n  llm:\n    image: vllm/vllm-openai\n    command: >-\n      --model a/b\n      --max-model-len ${CTX:-4096}\n";
    let world = world(&[(COMPOSE, text)]);
    let found = read(&world, COMPOSE).deployments;
    let source = &world.files()[0].source;
    let shown: Vec<&str> = found[0]
        .args
        .iter()
        .map(|word| source.slice(word.span().unwrap()))
        .collect();
    assert_eq!(shown, ["--model", "a/b", "--max-model-len", "4096"]);
}

#[test]
fn a_client_with_a_models_name_is_no_deployment() {
    let text = "services:\n  web:\n    build: ./web\n    environment: {VLLM_MODEL: a/b, OLLAMA_MODEL: 'llama3.1:405b', OLLAMA_BASE_URL: 'http://x'}\n  vllm-gateway:\n    build: ./gateway\n    environment: [VLLM_BASE_URL=http://x, MODEL=a/b]\n";
    assert!(deployments(COMPOSE, text).is_empty());
}

#[test]
fn reserved_devices_are_counted() {
    let devices = |line: &str| {
        asked(&format!(
            "    deploy: {{resources: {{reservations: {{devices: [{{driver: nvidia, capabilities: [gpu]{line}}}]}}}}}}\n"
        ))
    };
    assert_eq!(devices(", count: 2"), Some(Count::Number(2)));
    assert_eq!(devices(", count: '2'"), Some(Count::Number(2)));
    assert_eq!(devices(", count: all"), Some(Count::All));
    assert_eq!(devices(""), Some(Count::All));
    assert_eq!(devices(", device_ids: ['0', '3']"), Some(Count::Number(2)));
    assert_eq!(
        devices(", device_ids: ['${GPUS:-0,1,2}']"),
        Some(Count::Number(3))
    );
    assert_eq!(devices(", count: '${N:-${M:-4}}'"), Some(Count::Number(4)));
    assert_eq!(devices(", count: '${N}'"), None);
}

#[test]
fn other_ways_to_ask_for_accelerators_are_known() {
    assert_eq!(asked("    gpus: all\n"), Some(Count::All));
    assert_eq!(asked("    gpus: 2\n"), Some(Count::Number(2)));
    assert_eq!(
        asked("    gpus: [{driver: nvidia, count: 3}]\n"),
        Some(Count::Number(3))
    );
    assert_eq!(asked("    runtime: nvidia\n"), Some(Count::All));
    assert_eq!(asked("    runtime: runc\n"), None);
    assert_eq!(asked("    devices: [/dev/kfd, /dev/dri]\n"), Some(Count::All));
    assert_eq!(
        asked("    devices: ['/dev/dri/card1:/dev/dri/card1', '/dev/dri/renderD129:/dev/dri/renderD129']\n"),
        Some(Count::Number(1))
    );
    assert_eq!(asked("    devices: [nvidia.com/gpu=all]\n"), Some(Count::All));
    assert_eq!(asked("    devices: [/dev/snd]\n"), None);
}

#[test]
fn visible_devices_narrow_what_is_given() {
    let narrowed = |line: &str| asked(&format!("    runtime: nvidia\n    environment: [{line}]\n"));
    assert_eq!(narrowed("NVIDIA_VISIBLE_DEVICES=0"), Some(Count::Number(1)));
    assert_eq!(narrowed("NVIDIA_VISIBLE_DEVICES=all"), Some(Count::All));
    assert_eq!(narrowed("'CUDA_VISIBLE_DEVICES=2,3'"), Some(Count::Number(2)));
    assert_eq!(narrowed("CUDA_VISIBLE_DEVICES"), Some(Count::All));
}

#[test]
fn a_count_without_a_value_is_named() {
    let found = one(
        COMPOSE,
        "services:\n  llm:\n    image: vllm/vllm-openai\n    command: --model a/b\n    gpus: ${GPUS}\n",
    );
    assert_eq!(found.unresolved, ["accelerators"]);
}

#[test]
fn blocks_merged_in_count() {
    let text = "x-gpu: &gpu\n  image: vllm/vllm-openai\n  gpus: all\nservices:\n  llm:\n    <<: *gpu\n    command: --model a/b\n";
    let found = one(COMPOSE, text);
    assert_eq!((model(&found), count(&found)), (Some("a/b"), Some(Count::All)));
}

#[test]
fn a_service_extends_one_of_another_file() {
    let world = world(&[
        (
            "common/base.yaml",
            "services:\n  vllm:\n    image: vllm/vllm-openai\n    gpus: 2\n    environment: {A: base, B: base}\n",
        ),
        (
            COMPOSE,
            "services:\n  llm:\n    extends: {file: common/base.yaml, service: vllm}\n    command: --model ${A:-x}/$$B\n    environment: {B: own}\n",
        ),
    ]);
    let found = &read(&world, COMPOSE).deployments[0];
    assert_eq!(count(found), Some(Count::Number(2)));
    assert_eq!(found.name.value, "llm");
}

#[test]
fn services_that_extend_each_other_end() {
    let text = "services:\n  a: {image: vllm/vllm-openai, command: --model a/b, extends: b}\n  b: {extends: {service: a}}\n";
    assert_eq!(deployments(COMPOSE, text).len(), 2);
}

#[test]
fn an_override_is_laid_over_its_base_and_not_read_twice() {
    let over = "docker-compose.override.yml";
    let world = world(&[
        (
            over,
            "services:\n  llm:\n    gpus: all\n  extra:\n    image: ollama/ollama\n",
        ),
        (
            "docker-compose.yml",
            "services:\n  llm:\n    image: vllm/vllm-openai\n    command: --model a/b\n",
        ),
    ]);
    let base = read(&world, "docker-compose.yml").deployments;
    assert_eq!(base.iter().map(count).collect::<Vec<_>>(), [Some(Count::All)]);
    let own: Vec<String> = read(&world, over)
        .deployments
        .into_iter()
        .map(|found| found.name.value)
        .collect();
    assert_eq!(own, ["extra"]);
}

#[test]
fn variables_come_from_the_env_file_beside_it() {
    let world = world(&[
        (
            ".env",
            "# models\nexport MODEL='a/b' # the small one\nCTX=8192 # tokens\nBOTH=${MODEL}@$CTX\n",
        ),
        (
            COMPOSE,
            "services:\n  llm:\n    image: vllm/vllm-openai\n    command: --model ${MODEL} --max-model-len ${CTX} --served-model-name ${BOTH}\n",
        ),
    ]);
    let found = &read(&world, COMPOSE).deployments[0];
    assert_eq!(
        words(found),
        [
            "--model",
            "a/b",
            "--max-model-len",
            "8192",
            "--served-model-name",
            "a/b@8192"
        ]
    );
    let place = found.args[1].span().unwrap();
    assert_eq!(world.source(place.file()).unwrap().path(), ".env");
}

#[test]
fn env_files_of_a_service_are_its_environment_only() {
    let world = world(&[
        ("llm.env", "MODEL=a/b\nLLAMA_ARG_CTX_SIZE=4096\n"),
        (
            COMPOSE,
            "services:\n  llm:\n    image: ghcr.io/ggml-org/llama.cpp:server-cuda\n    env_file: [{path: llm.env, required: false}]\n    command: -m ${MODEL}\n",
        ),
    ]);
    let found = &read(&world, COMPOSE).deployments[0];
    assert_eq!(found.settings.text("ctx_size"), Some("4096"));
    assert_eq!(found.unresolved, ["model"]);
}

#[test]
fn the_host_side_of_a_mount_names_the_model() {
    let text = "services:\n  llm:\n    image: vllm/vllm-openai\n    command: --model /model/x\n    volumes: ['${ROOT:-/srv}/qwen3-8b:/model:ro', {type: bind, source: /tmp, target: /other}]\n";
    let hints: Vec<String> = one(COMPOSE, text)
        .model_hints
        .into_iter()
        .map(|hint| hint.value)
        .collect();
    assert_eq!(hints, ["/srv/qwen3-8b/x"]);
}

#[test]
fn an_option_file_that_is_mounted_is_read() {
    let world = world(&[
        ("conf/vllm.yaml", "max-model-len: 2048\ntensor-parallel-size: 2\n"),
        (
            COMPOSE,
            "services:\n  llm:\n    image: vllm/vllm-openai\n    command: --model a/b --config /conf/vllm.yaml\n    volumes: [./conf:/conf:ro]\n  other:\n    image: vllm/vllm-openai\n    command: --model a/b --config /c.yaml\n    configs: [{source: c, target: /c.yaml}]\nconfigs: {c: {content: 'max-model-len: 1024'}}\n",
        ),
    ]);
    let found = read(&world, COMPOSE).deployments;
    assert_eq!(found[0].settings.count("context"), Some(2048));
    assert_eq!(found[0].settings.count("tensor_parallel"), Some(2));
    assert_eq!(found[1].settings.count("context"), Some(1024));
}

#[test]
fn an_ollama_server_serves_what_is_pulled_beside_it() {
    let own = "services:\n  ollama:\n    image: ollama/ollama\n    entrypoint: [sh, -c]\n    command: ['ollama serve & sleep 5; ollama pull qwen3:8b; wait']\n    environment: [OLLAMA_CONTEXT_LENGTH=16384, OLLAMA_NUM_PARALLEL=2, OLLAMA_KV_CACHE_TYPE=q8_0]\n";
    let found = one(COMPOSE, own);
    assert_eq!(model(&found), Some("qwen3:8b"));
    assert_eq!(found.settings.text("num_ctx"), Some("16384"));
    assert_eq!(found.settings.text("kv_cache_type"), Some("q8_0"));
    let beside = "services:\n  ollama: {image: ollama/ollama}\n  pull:\n    image: ollama/ollama\n    entrypoint: [sh, -c, 'ollama pull qwen3:8b']\n    environment: {OLLAMA_HOST: 'ollama:11434'}\n";
    assert_eq!(model(&one(COMPOSE, beside)), Some("qwen3:8b"));
}

#[test]
fn of_several_pulled_models_none_is_guessed() {
    let text = "services:\n  ollama:\n    image: ollama/ollama\n    entrypoint: [sh, -c, 'ollama serve & ollama pull a; ollama pull b; wait']\n";
    let found = one(COMPOSE, text);
    assert_eq!(model(&found), None);
    assert_eq!(found.model_hints.len(), 2);
}

#[test]
fn a_script_with_flags_as_variables_is_read() {
    let text = "services:\n  vllm:\n    build: {context: ../services/vllm}\n    environment: [VLLM_MODEL=a/b, VLLM_MAX_MODEL_LEN=4096, VLLM_TENSOR_PARALLEL_SIZE=2, VLLM_PORT=8000]\n    gpus: 2\n";
    let found = one(COMPOSE, text);
    assert_eq!(
        found.engine.as_ref().map(|engine| engine.value),
        Some(Engine::Vllm)
    );
    assert_eq!(model(&found), Some("a/b"));
    assert_eq!(found.settings.text("context"), Some("4096"));
    assert_eq!(found.settings.text("tensor_parallel"), Some("2"));
}

#[test]
fn an_engine_behind_a_script_outside_of_the_file_has_an_unresolved_model() {
    let text = "services:\n  vllm:\n    image: vllm/vllm-openai\n    entrypoint: [/bin/sh, /run.sh]\n    gpus: all\n";
    let found = one(COMPOSE, text);
    assert!(found.unresolved.contains(&"model".to_owned()));
}

#[test]
fn an_engines_image_that_runs_something_else_is_none() {
    let text = "services:\n  bench:\n    image: vllm/vllm-openai\n    entrypoint: [python3, /bench/run.py]\n    gpus: all\n";
    assert!(deployments(COMPOSE, text).is_empty());
}

#[test]
fn models_of_the_model_runner_are_deployments() {
    let text = "services:\n  app: {image: app, models: [llm]}\n  coder:\n    provider: {type: model, options: {model: ai/qwen2.5, context_size: 8192}}\nmodels:\n  llm:\n    model: ai/smollm2\n    context_size: 4096\n    runtime_flags: [--no-mmap]\n";
    let found = deployments(COMPOSE, text);
    assert_eq!(
        found.iter().map(model).collect::<Vec<_>>(),
        [Some("ai/smollm2"), Some("ai/qwen2.5")]
    );
    assert_eq!(found[0].engine_name(), Some("docker-model-runner"));
    assert_eq!(found[0].settings.text("ctx_size"), Some("4096"));
}

#[test]
fn amounts_of_memory_are_binary() {
    let text = "services:\n  llm:\n    image: vllm/vllm-openai\n    command: --model a/b\n    shm_size: ${SHM:-16gb}\n    mem_limit: 512m\n";
    let found = one(COMPOSE, text);
    assert_eq!(found.settings.count("shm_bytes"), Some(16 << 30));
    assert_eq!(found.settings.count("host_memory_bytes"), Some(512 << 20));
    let bytes = |text: &str| super::amount(Fact::derived(text.to_owned(), [])).map(|fact| fact.value);
    assert_eq!(bytes("1.5g"), Some(3 << 29));
    assert_eq!(bytes("99999999999t"), None);
    assert_eq!(bytes("lots"), None);
}

#[test]
fn services_of_other_tools_are_left_alone() {
    for text in [
        "services:\n  _defaults: {autowire: true}\n  App\\: {resource: ../src}\n",
        "services: [docker]\n",
        "apiVersion: v1\nkind: X\nservices: {a: {image: vllm/vllm-openai}}\n",
        "services: {a: ~, b: 1}\n",
    ] {
        assert!(deployments(COMPOSE, text).is_empty(), "{text}");
    }
}

#[test]
fn no_mutation_of_a_service_panics() {
    survives(
        COMPOSE,
        "x-gpu: &gpu\n  deploy:\n    resources:\n      limits:\n        memory: 4g\n      reservations:\n        devices:\n        - driver: nvidia\n          count: 1\n          capabilities: [gpu]\nservices:\n  llm:\n    <<: *gpu\n    extends: base\n    image: vllm/vllm-openai:v0.11.0\n    entrypoint: [vllm, serve]\n    command: a/b --max-model-len ${CTX:-4096}\n    shm_size: 2g\n    env_file: x.env\n    environment:\n      CUDA_VISIBLE_DEVICES: '0'\n    devices:\n    - /dev/dri/card0:/dev/dri/card0\n    volumes:\n    - ./x:/y\n    configs:\n    - source: c\n  base:\n    build:\n      context: ./vllm\n      args:\n        BASE_IMAGE: vllm/vllm-openai\nmodels:\n  m:\n    model: ai/x\n    context_size: 10\nconfigs:\n  c:\n    content: 'a: b'\n",
    );
}
