#!/usr/bin/env python3
"""Turns the dimensions in litgpt's config.py into a folder for generate.py.

    tools/models/litgpt.py path/to/litgpt/config.py COMMIT OUT

litgpt states what its own classes need; the class that publishes each checkpoint and whether it ties its output
projection to its embeddings are facts of that class, given below by the beginning of the checkpoint's name.
"""

import json
import pathlib
import re
import sys

# Beginning of the name -> class, model_type, tied, further fields.
CLASSES = [
    ("stabilityai/stablelm-3b-4e1t", "StableLmForCausalLM", "stablelm", False, {}),
    ("stabilityai/stablelm-zephyr-3b", "StableLmForCausalLM", "stablelm", False, {}),
    ("stabilityai/stable-code-3b", "StableLmForCausalLM", "stablelm", False, {}),
    ("stabilityai/FreeWilly2", "LlamaForCausalLM", "llama", False, {}),
    ("stabilityai/", "GPTNeoXForCausalLM", "gpt_neox", False, {}),
    ("EleutherAI/pythia", "GPTNeoXForCausalLM", "gpt_neox", False, {}),
    ("tiiuae/Falcon3", "LlamaForCausalLM", "llama", False, {}),
    ("tiiuae/falcon-7b", "FalconForCausalLM", "falcon", True, {"multi_query": True, "new_decoder_architecture": False, "parallel_attn": True}),
    ("tiiuae/falcon", "FalconForCausalLM", "falcon", True, {"multi_query": True, "new_decoder_architecture": True, "parallel_attn": True}),
    ("allenai/OLMo-2", "Olmo2ForCausalLM", "olmo2", False, {}),
    ("allenai/OLMo-1B", "OlmoForCausalLM", "olmo", True, {}),
    ("allenai/OLMo", "OlmoForCausalLM", "olmo", False, {}),
    ("google/gemma-2-", "Gemma2ForCausalLM", "gemma2", True, {}),
    ("google/gemma-3-1b", "Gemma3ForCausalLM", "gemma3_text", True, {}),
    ("google/gemma-3-", None, None, None, None),  # with a vision tower that litgpt leaves out
    ("google/", "GemmaForCausalLM", "gemma", True, {}),
    ("microsoft/Phi-4-mini", "Phi3ForCausalLM", "phi3", True, {}),
    ("microsoft/phi-1", "PhiForCausalLM", "phi", False, {}),
    ("microsoft/phi-2", "PhiForCausalLM", "phi", False, {}),
    ("microsoft/Phi-3-mini-4k", "Phi3ForCausalLM", "phi3", False, {"sliding_window": 2047}),
    ("microsoft/", "Phi3ForCausalLM", "phi3", False, {}),
    ("mistralai/Mixtral", "MixtralForCausalLM", "mixtral", False, {}),
    ("mistralai/Mistral-7B-Instruct-v0.1", "MistralForCausalLM", "mistral", False, {"sliding_window": 4096}),
    ("mistralai/", "MistralForCausalLM", "mistral", False, {}),
    ("unsloth/Mistral", "MistralForCausalLM", "mistral", False, {}),
    ("Qwen/Qwen2.5-0.5B", "Qwen2ForCausalLM", "qwen2", True, {}),
    ("Qwen/Qwen2.5-1.5B", "Qwen2ForCausalLM", "qwen2", True, {}),
    ("Qwen/Qwen2.5-3B", "Qwen2ForCausalLM", "qwen2", True, {}),
    ("Qwen/Qwen2.5-Coder-0.5B", "Qwen2ForCausalLM", "qwen2", True, {}),
    ("Qwen/Qwen2.5-Coder-1.5B", "Qwen2ForCausalLM", "qwen2", True, {}),
    ("Qwen/Qwen2.5-Coder-3B", "Qwen2ForCausalLM", "qwen2", True, {}),
    ("Qwen/Qwen2.5-Math-1.5B", "Qwen2ForCausalLM", "qwen2", True, {}),
    ("Qwen/Qwen2.5", "Qwen2ForCausalLM", "qwen2", False, {}),
    ("Qwen/QwQ", "Qwen2ForCausalLM", "qwen2", False, {}),
    ("Qwen/Qwen3-0.6B", "Qwen3ForCausalLM", "qwen3", True, {}),
    ("Qwen/Qwen3-1.7B", "Qwen3ForCausalLM", "qwen3", True, {}),
    ("Qwen/Qwen3-4B", "Qwen3ForCausalLM", "qwen3", True, {}),
    ("Qwen/Qwen3-30B-A3B", "Qwen3MoeForCausalLM", "qwen3_moe", False, {}),
    ("Qwen/Qwen3-235B-A22B", "Qwen3MoeForCausalLM", "qwen3_moe", False, {}),
    ("Qwen/Qwen3", "Qwen3ForCausalLM", "qwen3", False, {}),
    ("meta-llama/Llama-3.2", "LlamaForCausalLM", "llama", True, {}),
    ("HuggingFaceTB/SmolLM2", "LlamaForCausalLM", "llama", True, {}),
    ("", "LlamaForCausalLM", "llama", False, {}),
]


def multiple(number, of):
    return -(-number // of) * of


def config(entry):
    """One entry as the config.json of its class; None where litgpt does not tell all."""
    hub = entry["hf_config"]
    name = f"{hub.get('org')}/{hub['name']}"
    _, architecture, model_type, tied, further = next(row for row in CLASSES if name.startswith(row[0]))
    if architecture is None:
        return name, None
    width, heads = entry.get("n_embd", 4096), entry.get("n_head", 32)
    vocabulary = entry.get("padded_vocab_size") or multiple(entry.get("vocab_size", 50254), entry.get("padding_multiple", 512))
    row = {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": width,
        "intermediate_size": entry.get("intermediate_size", 4 * width),
        "num_hidden_layers": entry.get("n_layer", 16),
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": entry.get("block_size", 4096),
        "tie_word_embeddings": tied,
        "torch_dtype": "float16" if name.startswith(("EleutherAI", "meta-llama/Llama-2", "stabilityai/FreeWilly2")) else "bfloat16",
    }
    groups = entry.get("n_query_groups", heads)
    if model_type == "falcon":
        row["num_kv_heads"] = groups
        row["bias"] = False
    elif model_type != "gpt_neox":
        row["num_key_value_heads"] = groups
    if "head_size" in entry and model_type not in ("gpt_neox", "falcon"):
        row["head_dim"] = entry["head_size"]
    if model_type == "gpt_neox":
        row["use_parallel_residual"] = entry.get("parallel_residual", True)
    if model_type in ("mistral", "gemma2", "gemma3_text", "phi3", "mixtral"):
        window = entry.get("sliding_window_size")
        row["sliding_window"] = window if window and window < entry.get("block_size", 0) else None
    if entry.get("n_expert"):
        key = "num_local_experts" if model_type == "mixtral" else "num_experts"
        row[key] = entry["n_expert"]
        row["num_experts_per_tok"] = entry["n_expert_per_token"]
        if "moe_intermediate_size" in entry:
            row["moe_intermediate_size"] = entry["moe_intermediate_size"]
    scaling = entry.get("rope_adjustments")
    if model_type == "llama" and scaling and "original_max_seq_len" in scaling:
        row["rope_scaling"] = {"rope_type": "llama3", "factor": scaling["factor"],
                               "original_max_position_embeddings": scaling["original_max_seq_len"]}
    return name, {**row, **further}


def main():
    path, commit, out = sys.argv[1:]
    text = pathlib.Path(path).read_text()
    body = text[text.index("\nconfigs") + 1:text.index("\nname_to_config")]
    found = {}
    exec("from copy import deepcopy\n" + body, found)  # dictionaries in a loop: nothing else can read them
    folder = pathlib.Path(out)
    lines = []
    for entry in found["configs"]:
        name, row = config(entry)
        if row is None or name.startswith("None/"):
            continue
        place = folder / name.replace("/", "--", 1)
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text(json.dumps(row))
        lines.append(f"{name}\tGitHub Lightning-AI/litgpt @{commit[:12]}, litgpt/config.py\n")
    (folder / "sources.tsv").write_text("".join(lines))


if __name__ == "__main__":
    main()
