//! BentoVLLM: files of arguments for a Bento that runs vLLM (`bentoml serve --arg-file`).
//!
//! Source: bentoml/BentoVLLM service.py (BentoArgs).

use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::container::Container;
use crate::manifest::keys;
use crate::manifest::{Declared, Format, Input};

/// The name under which `catalog/machines` knows `BentoCloud`'s accelerators.
const GPU_TYPES: &str = "bentocloud";

/// True for such a file: `args` with a model and at least one key that only these files have.
pub fn recognizes(input: &Input<'_>) -> bool {
    let Some(args) = input.root.get("args") else {
        return false;
    };
    let has = |key: &str| args.get(key).is_some();
    has("model_id") && (has("gpu_type") || has("cli_args") || has("tp"))
}

/// Reads such a file.
pub fn read(input: &Input<'_>) -> Declared {
    let mut declared = Declared::default();
    let Some(args) = input.root.get("args") else {
        return declared;
    };
    let name = args
        .get("name")
        .or_else(|| args.get("model_id"))
        .and_then(keys::written);
    let name = name.unwrap_or_else(|| Fact::derived(String::new(), [args.span()]));
    let mut container = Container::new(name, args.span());
    keys::add_environment(&mut container.environment, args.get("envs"), input);
    container.arguments = keys::arguments(args.get("cli_args"), input, &container.environment);
    container.accelerators.kinds = keys::kind_of(GPU_TYPES, args.get("gpu_type"));
    let mut served = keys::serve(container, input, Format::BentoVllm, Engine::Vllm);
    keys::set_model(&mut served.deployment, input, args.get("model_id"));
    let settings = [
        ("tp", "tensor_parallel"),
        ("max_model_len", "context"),
        ("max_num_seqs", "max_sequences"),
        ("revision", "model_revision"),
    ];
    keys::set_all(&mut served.deployment, input, Some(args), &settings);
    served.add_to(&mut declared);
    declared
}
