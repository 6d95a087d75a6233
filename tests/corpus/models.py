#!/usr/bin/env python3
"""Does every model that the labelled deployment files name resolve offline?

    tests/corpus/models.py [BINARY]

Asks the built-in catalog alone: the hub cache is an empty folder, and there is no lock file. Names of nothing (a
variable, a placeholder, a bare mount point such as /model) are left out. Prints what each name is taken for, then
those that are not known, and fails below 85 %. Without ../shared there is nothing to ask.
"""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
INDEX = ROOT.parent / "shared/corpus/INDEX.jsonl"
WANTED = 0.85
# Where something is mounted, or filled in by whoever deploys.
NAMELESS = {"/model", "/models", "/models/target", "/data", "/mnt/models", "/model-store"}
MARKS = ("$", "<", "{{", "V_MODEL")


def labels():
    """Every model that a deployment names, with how often."""
    found = collections.Counter()
    for line in INDEX.read_text().splitlines():
        row = json.loads(line)
        for deployment in row.get("deployments") or [row]:
            model = deployment.get("model")
            if model and model not in NAMELESS and not any(mark in model for mark in MARKS):
                found[model] += 1
    return found


def resolve(binary, names):
    """What each name is taken for: one manifest, one deployment a name."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = {"oomlint": 1, "deployments": [
            {"name": f"d{at}", "model": name, "engine": "vllm", "machines": ["h200"]} for at, name in enumerate(names)
        ]}
        (pathlib.Path(folder) / "deploy.yaml").write_text(json.dumps(manifest))
        environment = {"HF_HOME": f"{folder}/empty", "PATH": "/usr/bin:/bin"}
        done = subprocess.run([binary, "check", "--output", "json", "."], cwd=folder, env=environment,
                              capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)
    models = report["models"]
    taken = {}
    for scenario in report["scenarios"]:
        name = names[scenario["deployment"]]
        model = next((model for model in models if model["name"] == scenario["model"]), None)
        if model is not None:
            taken[name] = (model, scenario)
    return taken


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/debug/oomlint")
    if not INDEX.exists():
        print("skipped: ../shared/corpus is not here")
        return 0
    found = labels()
    taken = resolve(str(pathlib.Path(binary).resolve()), list(found))
    for name in sorted(taken, key=str.lower):
        model, scenario = taken[name]
        billions = (model["parameters"] or 0) / 1e9
        print(f"{name} -> {model['path']}: {billions:.2f} B, {scenario['quantization']}")
    missing = [name for name in found if name not in taken]
    for name in sorted(missing, key=str.lower):
        print(f"NOT KNOWN {name} ({found[name]})")
    share = sum(found[name] for name in taken) / max(1, sum(found.values()))
    distinct = len(taken) / max(1, len(found))
    print(f"{len(taken)} of {len(found)} names resolve offline ({distinct:.1%}); by deployments {share:.1%}")
    return 0 if min(share, distinct) >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
