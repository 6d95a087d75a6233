#!/usr/bin/env python3
"""Scores what oomlint reads from real deployment files against labels written by hand.

    tests/corpus/score.py [BINARY] [-v]

Runs one `check` over ../shared/corpus, lines the deployments of the report up with those of INDEX.jsonl, and prints
recall, precision and each field's share of right values, for every format and in all, and every miss. Exits 1 where
a figure is below what the project demands of itself. Without the corpus it says so and exits 0.
"""

import collections
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CORPUS = os.path.join(ROOT, "..", "shared", "corpus")

# Names of engines that the labels spell otherwise.
ENGINES = {"llamacpp": "llama.cpp", "trtllm": "tensorrt-llm"}
# Field of the report -> keys of the label, the first that is there.
FIELDS = {
    "engine": ["engine"],
    "model": ["model"],
    "context": ["max_model_len"],
    "tensor_parallel": ["tp"],
    "pipeline_parallel": ["pp"],
    "data_parallel": ["dp"],
    "accelerators": ["gpu_count"],
    "accelerator_type": ["gpu_type"],
    "quantization": ["quantization"],
    "kv_cache": ["kv_dtype"],
    "memory_fraction": ["gpu_mem_util", "mem_fraction_static", "kv_cache_fraction"],
    "max_sequences": ["max_num_seqs"],
}
# Read as well, but not part of what is demanded.
EXTRA = {"replicas": ["replicas"], "nodes": ["nodes"]}


def label_of(label, keys):
    for key in keys:
        if label.get(key) is not None:
            return label[key]
    return None


def expected(row):
    if row["format"] == "negative":
        return []
    return row["deployments"] if row.get("deployments") is not None else [row]


def found_model(deployment):
    name, revision = deployment["model"], deployment["model_revision"]
    # A revision inside the name (`hf://org/name@rev`) is part of what the file says.
    return {name, f"{name}@{revision}"} if revision else {name}


def agrees(field, want, deployment):
    got = deployment[field]
    if field == "model":
        return want in found_model(deployment)
    if field == "engine":
        return got == ENGINES.get(want, want)
    if isinstance(want, (int, float)) and isinstance(got, (int, float)):
        return abs(want - got) < 1e-9
    return got == want


def likeness(label, deployment):
    score = 3 * (label.get("service") is not None and label["service"] == deployment["name"])
    for field, keys in FIELDS.items():
        want = label_of(label, keys)
        score += want is not None and agrees(field, want, deployment)
    return score


def line_up(labels, deployments):
    pairs, left = [], list(deployments)
    ranked = sorted(
        ((likeness(label, d), -i, -j) for i, label in enumerate(labels) for j, d in enumerate(deployments)),
        reverse=True,
    )
    used_labels, used = set(), set()
    for _, i, j in ranked:
        if -i not in used_labels and -j not in used:
            used_labels.add(-i)
            used.add(-j)
            pairs.append((labels[-i], deployments[-j]))
    missed = [label for i, label in enumerate(labels) if i not in used_labels]
    left = [d for j, d in enumerate(deployments) if j not in used]
    return pairs, missed, left


def run(binary):
    with tempfile.TemporaryDirectory() as empty:
        environment = dict(os.environ, HF_HOME=empty, HF_HUB_CACHE=empty, NO_COLOR="1")
        start = time.monotonic()
        done = subprocess.run(
            [binary, "check", ".", "--output", "json"],
            capture_output=True, text=True, cwd=CORPUS, env=environment,
        )
        took = time.monotonic() - start
    if done.returncode not in (0, 1, 2):
        sys.exit(f"check ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout), took


def main():
    arguments = [a for a in sys.argv[1:] if not a.startswith("-")]
    verbose = "-v" in sys.argv
    binary = os.path.abspath(arguments[0] if arguments else os.path.join(ROOT, "target", "release", "oomlint"))
    if not os.path.isdir(CORPUS):
        print("corpus: skipped, ../shared/corpus is not here")
        return 0
    rows = [json.loads(line) for line in open(os.path.join(CORPUS, "INDEX.jsonl"), encoding="utf-8")]
    report, took = run(binary)
    by_file = collections.defaultdict(list)
    for deployment in report["deployments"]:
        by_file[deployment["file"]].append(deployment)

    tally = collections.defaultdict(collections.Counter)
    fields, declared, extra = collections.Counter(), collections.Counter(), collections.Counter()
    misses = []
    for row in rows:
        labels, got = expected(row), by_file.get(row["file"], [])
        pairs, missed, left = line_up(labels, got)
        kind = tally[row["format"]]
        kind["labels"] += len(labels)
        kind["found"] += len(got)
        kind["matched"] += len(pairs)
        misses += [(row["file"], "not found", label.get("service"), label.get("engine"), label.get("model")) for label in missed]
        misses += [(row["file"], "not labelled", d["name"], d["engine"], d["model"]) for d in left]
        for label, deployment in pairs:
            for field, keys in FIELDS.items():
                if not any(key in label for key in keys):
                    continue
                want = label_of(label, keys)
                right = agrees(field, want, deployment)
                fields[field, right] += 1
                kind["right" if right else "wrong"] += 1
                if want is not None:
                    declared[field, right] += 1
                if not right:
                    misses.append((row["file"], label.get("service"), field, "is", deployment[field], "should be", want))
            for field, keys in EXTRA.items():
                want = label_of(label, keys)
                if want is not None:
                    extra[field, agrees(field, want, deployment)] += 1
                    if verbose and not agrees(field, want, deployment):
                        misses.append((row["file"], label.get("service"), field, "is", deployment[field], "should be", want))

    print(f"{'format':24}{'labels':>8}{'found':>8}{'matched':>9}{'fields':>9}{'right':>8}")
    total = collections.Counter()
    for name, kind in sorted(tally.items()):
        total.update(kind)
        checked = kind["right"] + kind["wrong"]
        share = f"{100 * kind['right'] / checked:.1f}" if checked else "-"
        print(f"{name:24}{kind['labels']:8}{kind['found']:8}{kind['matched']:9}{checked:9}{share:>8}")
    recall = total["matched"] / max(total["labels"], 1)
    precision = total["matched"] / max(total["found"], 1)
    print(f"\ndeployments: recall {100 * recall:.1f} %, precision {100 * precision:.1f} %")
    print(f"\n{'field':22}{'labels':>8}{'right %':>9}{'declared':>10}{'right %':>9}")
    lowest = []
    for field in FIELDS:
        counted = fields[field, True] + fields[field, False]
        stated = declared[field, True] + declared[field, False]
        share = fields[field, True] / counted if counted else 1
        lowest.append((share, field))
        of_declared = 100 * declared[field, True] / stated if stated else 100
        print(f"{field:22}{counted:8}{100 * share:9.1f}{stated:10}{of_declared:9.1f}")
    for field in EXTRA:
        print(f"{field:22}{extra[field, True] + extra[field, False]:8}  right {extra[field, True]} (not demanded)")
    right = total["right"] / max(total["right"] + total["wrong"], 1)
    print(f"all fields: {100 * right:.2f} % right")

    negatives = {row["file"] for row in rows if row["format"] == "negative"}
    alarms = [f for f in report["findings"] if f["file"] in negatives and f["severity"] != "info"]
    print(f"findings above info on files that declare nothing: {len(alarms)}")
    print(f"one check over the corpus: {1000 * took:.0f} ms")
    levels = collections.Counter((f["severity"], f["rule"]) for f in report["findings"])
    print("findings:", ", ".join(f"{count} {severity} {rule}" for (severity, rule), count in sorted(levels.items())))
    if misses:
        print("\nmisses:")
    for miss in misses:
        print("  ", *miss)
    for alarm in alarms:
        print("   false alarm:", alarm["file"], alarm["rule"], alarm["message"])

    demands = [
        (recall >= 0.98, "recall below 98 %"),
        (precision >= 0.98, "precision below 98 %"),
        (not alarms, "findings on files that declare nothing"),
    ] + [(share >= 0.97, f"{field} below 97 %") for share, field in lowest]
    failed = [words for holds, words in demands if not holds]
    for words in failed:
        print("demand not met:", words)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
