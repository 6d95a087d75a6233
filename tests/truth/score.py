#!/usr/bin/env python3
"""Scores the built program against measured records, the way anybody could: through its own format and its JSON.

    python3 tests/truth/score.py target/release/oomlint [TRUTH_FOLDER]

Every record becomes one deployment of a manifest (or one `inspect`), and the report's figures are compared with
the measured ones. The records lie beside the project in ../shared and are not part of it; without them there is
nothing to score. The script prints a table, then each miss, and fails below the scores that LIMITS demands.
Python's standard library only.
"""

import ast
import collections
import hashlib
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
MIB, GIB = 2**20, 2**30

# The least share of each kind that must be right. Pools: the largest deviation at the median and at nine in ten.
LIMITS = {
    "transformers: bytes of the cache": 1.0,
    "MLX: bytes of the caches": 1.0,
    "llama.cpp: KV buffers": 1.0,
    "llama.cpp: recurrent buffers": 1.0,
    "llama.cpp: KV and recurrent bytes together": 1.0,
    "llama.cpp: context used": 1.0,
    "llama.cpp: refused or not": 1.0,
    "vLLM: needed bytes": 0.99,
    "vLLM: pool tokens": 0.99,
    "vLLM: maximum concurrency": 0.99,
    "vLLM: verdict": 0.99,
    "vLLM: estimated maximum length": 0.99,
    "parameters: exact": 0.98,
    "parameters: within 0.5 %": 1.0,
    "engine logs: verdict, complete flags": 0.95,
    "engine logs: no certain error on what ran": 1.0,
}
POOL_MEDIAN, POOL_NINE_IN_TEN = 0.05, 0.15


class Table:
    """Scores by name, and why each miss is one."""

    def __init__(self):
        self.rows = collections.OrderedDict()
        self.misses = []
        self.notes = []
        self.failed = []

    def add(self, name, right, miss):
        row = self.rows.setdefault(name, [0, 0])
        row[0] += bool(right)
        row[1] += 1
        if not right:
            self.misses.append(f"{name}: {miss}")

    def show(self):
        print(f"\n{'score':52} {'right':>6} {'of':>6}   demanded")
        for name, (right, of) in self.rows.items():
            limit = LIMITS.get(name)
            low = limit is not None and right < limit * of
            if low:
                self.failed.append(name)
            demanded = "" if limit is None else f"{limit:.0%}{'  TOO LOW' if low else ''}"
            print(f"{name:52} {right:6} {of:6}   {demanded}")
        for note in self.notes:
            print(note)
        for miss in self.misses:
            print(f"miss: {miss}")


class Program:
    """The program under test and a folder for the manifests it is given."""

    def __init__(self, binary, folder):
        self.binary = str(pathlib.Path(binary).resolve())
        self.folder = pathlib.Path(folder)

    def run(self, *arguments):
        done = subprocess.run(
            [self.binary, *arguments, "--output", "json"], capture_output=True, text=True, cwd=self.folder
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            sys.exit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr[:2000]}")

    def model(self, config, **more_files):
        """A directory with a config.json, as a path relative to the manifest."""
        text = json.dumps([config, more_files], sort_keys=True)
        path = self.folder / "models" / hashlib.md5(text.encode()).hexdigest()[:12]
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps(config))
        for name, content in more_files.items():
            (path / f"{name}.json").write_text(json.dumps(content))
        return str(path.relative_to(self.folder))

    def check(self, deployments, machines=None):
        """The first scenario of each deployment, and the findings of each."""
        document = {"oomlint": 1, "deployments": deployments}
        if machines:
            document["machines"] = machines
        (self.folder / "oomlint.yaml").write_text(json.dumps(document))
        report = self.run("check", "oomlint.yaml")
        scenarios, findings = {}, collections.defaultdict(list)
        for scenario in report["scenarios"]:
            scenarios.setdefault(scenario["deployment"], scenario)
        for finding in report["findings"]:
            findings[finding.get("deployment")].append(f"{finding['rule']}: {finding['message']}")
        return scenarios, findings


def records(name):
    path = TRUTH / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def total(scenario):
    """KV cache and states of a scenario; None without an estimate."""
    if not scenario or scenario["kv_cache_bytes"] is None:
        return None
    return scenario["kv_cache_bytes"] + (scenario["state_bytes"] or 0)


# transformers and MLX: `context` is the length of the sequence, and the bytes are equal.


def transformers(program, table):
    rows = records("transformers_cache.jsonl")
    scenarios, findings = program.check([
        {
            "name": str(at), "model": program.model(row["config"]), "engine": "transformers",
            "machines": ["h100-sxm-80gb"], "context": row["seq_len"], "batch": row["batch"],
            **encoder_tokens(row),
        }
        for at, row in enumerate(rows)
    ])
    for at, row in enumerate(rows):
        got = total(scenarios.get(at))
        table.add(
            "transformers: bytes of the cache", got == row["total_bytes"],
            f"{row['name']} ({row['cache_class']}), {row['seq_len']} tokens: {got}, measured {row['total_bytes']} "
            f"{findings[at][:1]}",
        )


def encoder_tokens(row):
    """What an encoder read: T5's config states no limit, and the record tells it only by its tensors, of which the
    second pair of a layer is the cross-attention's."""
    first = next(iter(row.get("tensors", {}).values()), [])
    if row["cache_class"] == "EncoderDecoderCache" and len(first) == 4:
        return {"args": ["--encoder-tokens", str(first[2]["shape"][-2])]}
    return {}


def mlx(program, table):
    rows = [row for row in records("mlx_cache.jsonl") if row["level"] == "model"]
    scenarios, findings = program.check([
        {
            "name": str(at), "model": program.model(row["config"]), "engine": "mlx", "machines": ["m4-24gb"],
            "context": sum(row["updates"]), "kv_cache": "bf16",
        }
        for at, row in enumerate(rows)
    ])
    for at, row in enumerate(rows):
        got, want = total(scenarios.get(at)), row["total_nbytes"]
        what = f"{row['name']}, updates {row['updates']}: {got}, measured {want} {findings[at][:1]}"
        if len(row["updates"]) == 1:
            table.add("MLX: bytes of the caches", got == want, what)
        else:
            # After single tokens a rotating cache is cut to its window again. A scenario states the peak, which is
            # when its context was read as one prompt; only models with windows differ.
            table.add("MLX: the same after single tokens (the peak)", got == want, what)
    skipped = sum(row["level"] == "class" for row in records("mlx_cache.jsonl"))
    table.notes.append(f"MLX: {skipped} records of single cache classes have no model (cargo test scores them)")


# llama.cpp: sizes are printed at 0.01 MiB, one for each buffer, so a sum of n of them is right within n x 0.005.


def llama_cpp(program, table):
    files = {path.stem: path for path in sorted(TRUTH.glob("gguf/*/*.gguf"))}
    full = {path.stem: path for path in sorted(TRUTH.glob("gguf/full_headers/*.gguf"))}
    rows, deployments, absent = [], [], 0
    for row in records("llamacpp.jsonl"):
        file = full.get(row["name"]) if row["kind"] == "full" else files.get(row["name"])
        if file is None:
            absent += 1
            continue
        rows.append(row)
        deployments.append({
            "name": str(len(rows)), "model": str(file), "engine": "llama.cpp", "machines": ["h100-sxm-80gb"],
            "args": llama_arguments(row["flags"]),
        })
    if absent:
        table.notes.append(f"llama.cpp: {absent} records have no GGUF file in the folder (cargo test scores them)")
    scenarios, findings = program.check(deployments)
    for at, row in enumerate(rows):
        scenario, what = scenarios.get(at), f"{row['name']} {row['flags']}"
        sized = total(scenario) is not None
        table.add("llama.cpp: refused or not", sized == row["ok"], f"{what}: {findings[at][:1]} {row.get('error')}")
        if not (sized and row["ok"]):
            continue
        for name, key, caches, printed in (
            ("KV buffers", "kv_cache_bytes", "kv_caches", "kv_buffer_mib"),
            ("recurrent buffers", "state_bytes", "rs_caches", "rs_buffer_mib"),
        ):
            got, want = scenario[key] / MIB, row[printed] or 0
            slack = 0.005 * len(row[caches]) + 1e-6
            table.add(f"llama.cpp: {name}", abs(got - want) <= slack, f"{what}: {got:.4f} MiB, printed {want}")
        table.add(
            "llama.cpp: KV and recurrent bytes together", total(scenario) == row["context_bytes"],
            f"{what}: {total(scenario)}, measured {row['context_bytes']}",
        )
        table.add(
            "llama.cpp: context used", scenario["kv_cache_tokens"] == row["n_ctx"],
            f"{what}: {scenario['kv_cache_tokens']}, used {row['n_ctx']}",
        )


def llama_arguments(flags):
    arguments = [
        "-c", flags["n_ctx"], "-b", flags["n_batch"], "-ub", flags["n_ubatch"], "-np", flags["n_seq_max"],
        "-ctk", flags["type_k"], "-ctv", flags["type_v"], "-fa", flags["flash_attn"], "-ngl", 99,
        "--kv-unified" if flags.get("kv_unified") else "--no-kv-unified",
    ]
    return [str(argument) for argument in arguments] + (["--swa-full"] if flags.get("swa_full") else [])


# vLLM's planner: the available bytes are given as --kv-cache-memory-bytes.


def vllm(program, table):
    rows = records("vllm_kv.jsonl")
    deployments = []
    for at, row in enumerate(rows):
        flags = row["flags"]
        ranks = flags.get("tensor_parallel_size", 1) * flags.get("pipeline_parallel_size", 1)
        deployments.append({
            "name": str(at), "model": program.model(row["config"]), "engine": "vllm", "engine_version": row["vllm"],
            "machines": [f"{ranks}x {row['gpu']}" if ranks > 1 else row["gpu"]],
            "args": ["--kv-cache-memory-bytes", str(row["available_bytes"]), *arguments(flags)],
        })
    scenarios, findings = program.check(deployments)
    for at, row in enumerate(rows):
        scenario, what = scenarios.get(at) or {}, f"{row['name']} on {row['gpu']} {row['flags']}"

        def compare(name, key, want, right=None):
            got = scenario.get(key)
            right = got == want if right is None else right(got)
            table.add(f"vLLM: {name}", right, f"{what}: {got}, planned {want} {findings[at][:1]}")

        fits = scenario.get("verdict") in ("fits", "likely_fits")
        compare("verdict", "verdict", row["ok"], lambda _: fits == row["ok"])
        if row.get("needed_bytes_for_max_len") is not None:
            compare("needed bytes", "kv_cache_bytes", row["needed_bytes_for_max_len"])
        if row.get("kv_tokens") is not None:
            compare("pool tokens", "kv_cache_tokens", row["kv_tokens"])
            compare(
                "maximum concurrency", "max_concurrency", row["max_concurrency"],
                lambda got: got is not None and abs(got - row["max_concurrency"]) < 1e-9,
            )
        if row.get("estimated_max_len") is not None:
            compare("estimated maximum length", "largest_context", row["estimated_max_len"])


def arguments(flags):
    """vLLM's arguments from the fields of its EngineArgs."""
    words = []
    for key, value in flags.items():
        flag = "--" + key.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is False:
            words.append("--no-" + key.replace("_", "-"))
        elif isinstance(value, (dict, list)):
            words += [flag, json.dumps(value)]
        elif value is not None:
            words += [flag, str(value)]
    return words


def parameters(program, table):
    for row in records("params.jsonl"):
        report = program.run("inspect", program.model(row["config"]))
        got = report["models"][0]["parameters"] if report["models"] else None
        want = row["total_params"]
        what = f"{row['name']}: {got}, counted {want}"
        table.add("parameters: exact", got == want, what)
        table.add("parameters: within 0.5 %", got and abs(got - want) <= 0.005 * want, what)


# Start-up logs of real deployments: arguments, the machine by its GPU, the model from the folder or the catalog.


def engine_logs(program, table):
    rows = [row for row in records("engine_logs.jsonl") if row["model"] and row["gpu"]]
    directories = {path.name.replace("--", "/").lower(): path for path in sorted((SHARED / "models").glob("*--*"))}
    named = [log_deployment(program, row, directories.get(row["model"].lower())) for row in rows]
    scenarios, findings = program.check(named)
    unsized = [at for at in range(len(rows)) if total(scenarios.get(at)) is None]
    stand_ins = {at: stand_in(rows[at], directories) for at in unsized}
    again = [at for at in unsized if stand_ins[at]]
    more, more_findings = program.check([log_deployment(program, rows[at], stand_ins[at]) for at in again])
    for position, at in enumerate(again):
        if total(more.get(position)) is not None:
            scenarios[at], findings[at] = more[position], more_findings[position]

    errors = collections.defaultdict(list)
    for at, row in enumerate(rows):
        scenario = scenarios.get(at)
        by = "stand-in" if at in again and total(more.get(again.index(at))) is not None else "named"
        score_log(table, row, scenario, findings[at], errors, by)
    left = len(records("engine_logs.jsonl")) - len(rows)
    if left:
        table.notes.append(f"engine logs: {left} records name no model or no GPU")
    for kind in (COMPLETE, PARTIAL, BY_NAME):
        pool_errors(table, kind, sorted(errors[kind]), kind == COMPLETE)


COMPLETE, PARTIAL = "complete flags", "flags not all known"
# Checkpoints that are in no folder and no row of the catalog: their sizes are guessed from what the name says, which
# every such scenario states, and nothing about them is certain. What is demanded is demanded of the others.
BY_NAME = "model known by its name alone"


def kind_of(row, scenario):
    if any("is taken for" in assumption for assumption in scenario["assumptions"]):
        return BY_NAME
    return COMPLETE if row["flags_complete"] else PARTIAL


def pool_errors(table, kind, found, demanded):
    if not found:
        return
    median, nine = (found[min(len(found) - 1, int(len(found) * share))] for share in (0.5, 0.9))
    within = sum(error <= POOL_NINE_IN_TEN for error in found)
    table.notes.append(
        f"engine logs: pool tokens, {kind}: {len(found)} records, median {median:.1%}, nine in ten within {nine:.1%}, "
        f"{within} within 15 %"
    )
    if demanded and (median > POOL_MEDIAN or within < 0.9 * len(found)):
        table.failed.append(f"pool tokens, {kind}")


def score_log(table, row, scenario, findings, errors, by):
    what = f"{row['id']} ({row['model']} on {row['gpu_count']}x {row['gpu']}, {row['engine']} {row['engine_version']}, {by})"
    if total(scenario) is None:
        table.notes.append(f"engine logs: not sized: {what} {findings[:2]}")
        if row["outcome"] == "fits" and any(finding.startswith("engine-contradiction") for finding in findings):
            table.add("engine logs: no certain error on what ran", False, f"{what} {findings[:2]}")
        return
    ran, verdict = row["outcome"] == "fits", scenario["verdict"]
    if row["outcome"] in ("fits", "oom_load", "kv_too_small"):
        kind = kind_of(row, scenario)
        table.add(
            f"engine logs: verdict, {kind}", (verdict in ("fits", "likely_fits")) == ran,
            f"{what}: {verdict}, was {row['outcome']} ({row['error'] or row['notes']})",
        )
    if ran:
        table.add("engine logs: no certain error on what ran", verdict != "exceeds", what)
    log = row["logged"]
    want = log.get("kv_tokens") or (log.get("gpu_blocks") or 0) * (row["block_size"] or 16)
    got = scenario["kv_cache_tokens"]
    if want and got and ran:
        error = got / want - 1
        errors[kind_of(row, scenario)].append(abs(error))
        weights = f"weights {scenario['weights_bytes'] / GIB:.2f} (logged {log.get('weights_gib')})"
        table.notes.append(f"  pool {error:+7.1%} {'complete' if row['flags_complete'] else 'partial ':8} {weights:34} {what}")


def log_deployment(program, row, directory):
    machine = row["gpu"]
    if (row["gpu_count"] or 1) > 1:
        machine = f"{row['gpu_count']}x {machine}"
    deployment = {
        "name": row["id"], "model": str(directory or row["model"]), "engine": row["engine"].replace("ik_", ""),
        "machines": [machine], "args": log_arguments(row),
    }
    if row["engine_version"]:
        deployment["engine_version"] = row["engine_version"]
    if directory:
        deployment["model"] = as_quantized(program, row, directory)
    if row["engine"] in ("vllm", "sglang"):
        # A named checkpoint is served as it is.
        deployment["quantization"] = "as-published"
    return deployment


# Fields of a record that are arguments of the engine.
FIELDS = {
    "vllm": {
        "tensor_parallel": "--tensor-parallel-size", "pipeline_parallel": "--pipeline-parallel-size",
        "data_parallel": "--data-parallel-size", "max_model_len": "--max-model-len",
        "gpu_memory_utilization": "--gpu-memory-utilization", "max_num_seqs": "--max-num-seqs",
        "max_num_batched_tokens": "--max-num-batched-tokens", "kv_cache_dtype": "--kv-cache-dtype",
        "block_size": "--block-size", "enforce_eager": "--enforce-eager",
        "enable_prefix_caching": "--enable-prefix-caching", "expert_parallel": "--enable-expert-parallel",
    },
    "sglang": {
        "tensor_parallel": "--tp-size", "pipeline_parallel": "--pp-size", "data_parallel": "--dp-size",
        "max_model_len": "--context-length", "mem_fraction_static": "--mem-fraction-static",
        "max_num_seqs": "--max-running-requests", "kv_cache_dtype": "--kv-cache-dtype", "block_size": "--page-size",
    },
    "tgi": {"tensor_parallel": "--num-shard", "max_model_len": "--max-total-tokens"},
    "llama.cpp": {"max_model_len": "-c", "max_num_seqs": "-np"},
}
# What a log's dictionary of arguments holds beside settings of the engine's memory.
NO_ARGUMENTS = {"model_tag", "model", "host", "port"}


def log_arguments(row):
    """The arguments of a record: its fields, and what `other_flags` adds, in whichever of three forms it is."""
    given = {}
    for key, flag in FIELDS.get(row["engine"], {}).items():
        value = row.get(key)
        if isinstance(value, bool):
            if value or key == "enable_prefix_caching":
                given[flag if value else "--no-" + flag[2:]] = None
        elif value is not None:
            given[flag] = str(value)
    other = row["other_flags"] or ""
    if other.startswith("{"):
        more = python_dictionary(other)
        more = {key: value for key, value in more.items() if key not in NO_ARGUMENTS}
        add(given, arguments(more))
    elif re.match(r"\w+=", other):
        pairs = dict(pair.split("=", 1) for pair in re.split(r",\s*", other) if "=" in pair)
        add(given, arguments(pairs))
    elif "--" in other:
        words = shlex.split(re.sub(r"\(.*?\)", "", other))
        first = next((at for at, word in enumerate(words) if word.startswith("--")), len(words))
        add(given, words[first:])
    speculative = row["speculative"] or ""
    if speculative.startswith("{") and row["engine"] == "vllm":
        given.setdefault("--speculative-config", json.dumps(python_dictionary(speculative)))
    return [word for flag, value in given.items() for word in ([flag] if value is None else [flag, value])]


def add(given, words):
    """Adds arguments that are not given yet, whichever of `-` and `_` they are spelled with."""
    known = {flag.replace("_", "-").removeprefix("--no").strip("-") for flag in given}
    known |= {"tp"} if "--tp-size" in given else set()
    at = 0
    while at < len(words):
        flag, at = words[at], at + 1
        value = None
        if at < len(words) and not words[at].startswith("--"):
            value, at = words[at], at + 1
        if flag.replace("_", "-").removeprefix("--no").strip("-") not in known:
            given[flag] = value


def python_dictionary(text):
    """A printed dictionary, which the records cut at some length: as many of its items as are whole."""
    for end in range(len(text), 0, -1):
        for tail in ("", "}", "}}", "}}}"):
            try:
                return ast.literal_eval(text[:end].rstrip(", ") + tail)
            except (ValueError, SyntaxError, MemoryError):
                continue
        if text[:end].count("{") == 1 and ", '" not in text[:end]:
            break
    return {}


# A checkpoint that is not there is stood in for by one of the same shape: the same name but for tuning and format.

TUNING = r"[-_ ](instruct|it|base|chat|hf|mtp|reasoning|\d{4}|dynamic|gguf|unsloth|ud|\d?bit|\dbit|4bit|8bit|autoround|g\d+|w\da\d+)\b"
FORMATS = r"[-_ (]*(fp8|nvfp4|mxfp4|awq|gptq|int4|int8|bnb|autoround)\b\)?"


def family(name):
    name = name.lower().rsplit("/", 1)[-1].replace("meta-llama", "llama").replace("qwen3-coder-30b", "qwen3-30b")
    name = name.replace("___", ".")
    for _ in range(4):
        name = re.sub(TUNING, "", re.sub(FORMATS, "", name))
    return re.sub(r"[-_ ()]+", "-", name).strip("-")


def stand_in(row, directories):
    wanted = family(row["model"])
    same = [path for name, path in directories.items() if family(name) == wanted]
    alike = [path for path in same if wire_format(path.name) == wire_format(row["model"])]
    plain = [path for path in same if "quantization_config" not in (path / "config.json").read_text()]
    return (alike or plain or [None])[0]


def wire_format(name):
    found = re.search(r"nvfp4|fp8|mxfp4|awq|gptq|int4|int8|4bit|autoround", name.lower())
    return found and found.group()


# What `quantization_config` holds in checkpoints of a format, as their makers publish them.
QUANTIZED = {
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic"},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True},
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16},
}


def as_quantized(program, row, directory):
    """The directory; one that stands in for another with the record's quantization, and without what its own maker
    says of the KV cache."""
    if directory.name.replace("--", "/").lower() == row["model"].lower():
        return str(directory)
    config = json.loads((directory / "config.json").read_text())
    beside = directory / "hf_quant_config.json"
    if "quantization_config" not in config and beside.exists():
        config["quantization_config"] = json.loads(beside.read_text())["quantization"]
    if "quantization_config" in config:
        for key in ("kv_cache_scheme", "kv_cache_quant_algo"):
            config["quantization_config"].pop(key, None)
        return program.model(config)
    wanted = wire_format(row["model"]) or wire_format(row["quantization"] or "")
    wanted = {"4bit": "gptq", "int4": "gptq", "autoround": "gptq"}.get(wanted, wanted)
    if wanted not in QUANTIZED:
        return str(directory)
    return program.model({**config, "quantization_config": QUANTIZED[wanted]})


KINDS = {
    "transformers": transformers,
    "mlx": mlx,
    "llama.cpp": llama_cpp,
    "vllm": vllm,
    "parameters": parameters,
    "logs": engine_logs,
}


def main(binary, kinds):
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        program = Program(binary, folder)
        for kind in kinds or KINDS:
            KINDS[kind](program, table)
    table.show()
    if table.failed:
        print("below what is demanded: " + ", ".join(table.failed))
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: score.py BINARY [KIND...]")
    TRUTH = SHARED / "truth"
    if not TRUTH.is_dir():
        print("skipped: ../shared is absent")
        sys.exit(0)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
