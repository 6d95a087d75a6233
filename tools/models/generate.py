#!/usr/bin/env python3
"""Writes catalog/models/*.yaml: one row a checkpoint, in JSON, which is YAML.

    tools/models/generate.py FOLDER...

FOLDER holds `<org>--<name>/config.json` (perhaps with hf_quant_config.json), and says where each came from:
SOURCE.md with a table `| org/name | ... | ... | source |`, or sources.tsv with `org/name<TAB>source`. Of a config
only the fields that sizing reads are kept (the list in src/model/record/fields.rs). Rows of checkpoints that no
folder holds stay as they are. Beside this script, typed.tsv has configs typed from the sources it names (a folder's
config wins), same.tsv checkpoints with the config of another, and figures.tsv published counts.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CATALOG = ROOT / "catalog/models"
HEAD = """\
# Facts of published checkpoints, one row a line, written by tools/models/generate.py. A row is a record as
# src/model/record.rs reads it; `same_as` names the row whose facts hold where this one has none.
"""
FILES = {  # file -> organisations whose checkpoints it holds
    "alibaba": {"Qwen", "Alibaba-NLP"},
    "deepseek": {"deepseek-ai"},
    "google": {"google", "google-t5", "google-bert"},
    "meta": {"meta-llama", "codellama", "facebook", "huggyllama", "FacebookAI"},
    "microsoft": {"microsoft"},
    "mistral": {"mistralai", "mistral-community"},
    "nvidia": {"nvidia"},
}


def fields():
    """The lists of the record reader: kept fields, and sections kept whole."""
    text = (ROOT / "src/model/record/fields.rs").read_text()
    lists = {}
    for name, body in re.findall(r"const (\w+): \[&str; \d+\] = \[(.*?)\];", text, re.S):
        lists[name] = re.findall(r'"([^"]+)"', body)
    return set(lists["FIELDS"]), set(lists["WHOLE"]), set(lists["ROPE"]), set(lists["QUANTIZATION"])


KEPT, WHOLE, ROPE, QUANTIZATION = fields()


def rope(section):
    if not isinstance(section, dict):
        return section
    return {k: rope(v) for k, v in section.items() if isinstance(v, dict) or k in KEPT}


def kept(config):
    row = {}
    for key, value in config.items():
        if key in QUANTIZATION and (isinstance(value, dict) or value is None):
            continue
        if key in ROPE:
            row[key] = rope(value)
        elif key in KEPT or key in WHOLE:
            inside = isinstance(value, dict) and key not in WHOLE and key != "id2label"
            row[key] = kept(value) if inside else value
    return row


def quantization(config, beside):
    """The published format, as src/model/quantization.rs reads the methods that the folders have."""
    text = config.get("text_config") or {}
    section = config.get("quantization_config") or config.get("compression_config") or text.get("quantization_config")
    if section is None and beside is not None:
        section = {"quant_method": "modelopt", **beside.get("quantization", beside)}
    if not section:
        return None
    method = (section.get("quant_method") or "").lower()
    algorithm = section.get("quant_algo")
    if algorithm or method == "modelopt":
        names = [algorithm] + [layer.get("quant_algo") for layer in section.get("quantized_layers", {}).values()]
        found = [modelopt(name) for name in names if name]
        found = [item for item in found if item]
        found += groups(section)
        return {"method": "modelopt", **min(found, key=lambda item: item["bits"])} if found else None
    if method == "fp8":
        block = section.get("weight_block_size")
        size = {"group_size": block[0] * block[1]} if block else {}
        return {"method": "fp8", "bits": 8.0, **size, "float": True}
    if method == "mxfp4":
        return {"method": "mxfp4", "bits": 4.0, "group_size": 32, "float": True}
    if method.replace("_", "-") == "compressed-tensors" or section.get("config_groups"):
        return {"method": "compressed-tensors", **min(groups(section), key=lambda item: item["bits"])}
    if method == "fbgemm_fp8":
        return {"method": method, "bits": 8.0, "float": True}
    if method in ("gptq", "awq", "auto-round"):
        size = section.get("group_size") or 0
        return {"method": method, "bits": float(section["bits"]), **({"group_size": size} if size > 0 else {})}
    raise SystemExit(f"quantization not understood: {section}")


def modelopt(name):
    name = name.upper()
    if "NVFP4" in name:
        return {"bits": 4.0, "group_size": 16, "float": True}
    if name in ("FP8_PB_WO", "FP8_PB_REAL"):
        return {"bits": 8.0, "group_size": 128 * 128, "float": True}
    if "MXFP8" in name:
        return {"bits": 8.0, "group_size": 32, "float": True}
    if "FP8" in name:
        return {"bits": 8.0, "float": True}
    return None


def groups(section):
    found = []
    for group in (section.get("config_groups") or {}).values():
        weights = group.get("weights") or {}
        size = weights.get("group_size") or 0
        block = weights.get("block_structure")
        if isinstance(block, list) and size <= 0:
            size = block[0] * block[1]
        item = {"bits": float(weights["num_bits"])}
        if size > 0:
            item["group_size"] = size
        if weights.get("type") == "float":
            item["float"] = True
        found.append(item)
    return found


def sources(folder):
    found = {}
    if (folder / "SOURCE.md").exists():
        for line in (folder / "SOURCE.md").read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) >= 4 and "/" in cells[0]:
                found[cells[0]] = cells[3]
    if (folder / "sources.tsv").exists():
        for line in (folder / "sources.tsv").read_text().splitlines():
            name, source = line.split("\t")
            found[name] = source
    return found


def read_folder(folder, rows):
    named = sources(folder)
    found = set()
    for path in sorted(folder.glob("*--*/config.json")):
        name = path.parent.name.replace("--", "/", 1)
        if name not in named:
            raise SystemExit(f"{name} has no source in {folder}")
        config = json.loads(path.read_text())
        beside = path.parent / "hf_quant_config.json"
        row = {"source": named[name], "config": kept(config)}
        form = quantization(config, json.loads(beside.read_text()) if beside.exists() else None)
        if form:
            row["quantization"] = form
        rows[name] = row
        found.add(name)
    return found


def read_typed(rows, from_folders):
    """`name<TAB>source<TAB>config[<TAB>JSON of further facts]`."""
    for line in (pathlib.Path(__file__).parent / "typed.tsv").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, source, config, *more = line.split("\t")
        if name in from_folders:
            continue
        config = json.loads(config)
        row = {"source": source, "config": kept(config), **(json.loads(more[0]) if more else {})}
        form = quantization(config, None)
        if form:
            row["quantization"] = form
        rows[name] = row


def share(rows):
    """Rows with the config of an unquantized row refer to it."""
    first = {}
    plain_first = sorted(rows, key=lambda name: ("quantization" in rows[name], name.count("-"), len(name), name))
    for name in plain_first:
        row = rows[name]
        if "same_as" in row or "config" not in row:
            continue
        key = json.dumps(row["config"], sort_keys=True)
        base = first.setdefault(key, name)
        if base == name or rows[base].get("quantization") not in (None, row.get("quantization")):
            continue
        shared = {"same_as": base, "source": row["source"]}
        if row.get("quantization") and row["quantization"] != rows[base].get("quantization"):
            shared["quantization"] = row["quantization"]
        rows[name] = shared


def add_same(rows, from_folders):
    """`name<TAB>base<TAB>source[<TAB>JSON with what differs]`."""
    for line in (pathlib.Path(__file__).parent / "same.tsv").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, base, source, *more = line.split("\t")
        if base not in rows:
            raise SystemExit(f"same.tsv: {base} has no row")
        if name in from_folders:
            continue
        rows[name] = {"same_as": base, "source": source, **(json.loads(more[0]) if more else {})}


def add_figures(rows):
    """`name<TAB>source<TAB>JSON of parameters or weights`."""
    for line in (pathlib.Path(__file__).parent / "figures.tsv").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, source, more = line.split("\t")
        row = rows[name]
        row.update(json.loads(more))
        if source not in row["source"]:
            row["source"] += f"; figures: {source}"


def check(rows):
    """Names that differ in case alone would be one row."""
    lower = {}
    for name in rows:
        if lower.setdefault(name.lower(), name) != name:
            raise SystemExit(f"{name} and {lower[name.lower()]} are one name")


def file_of(name):
    org = name.split("/")[0]
    return next((file for file, orgs in FILES.items() if org in orgs), "others")


def main():
    rows = {}
    for path in sorted(CATALOG.glob("*.yaml")):
        for line in path.read_text().splitlines():
            if line.startswith('"'):
                name, row = line.split(": ", 1)
                rows[json.loads(name)] = json.loads(row)
    from_folders = set()
    for folder in map(pathlib.Path, sys.argv[1:]):
        from_folders |= read_folder(folder, rows)
    read_typed(rows, from_folders)
    share(rows)
    add_same(rows, from_folders)
    add_figures(rows)
    check(rows)
    by_file = {}
    for name in sorted(rows, key=str.lower):
        line = f"{json.dumps(name)}: {json.dumps(rows[name], separators=(',', ':'))}\n"
        by_file.setdefault(file_of(name), []).append(line)
    for file, lines in by_file.items():
        (CATALOG / f"{file}.yaml").write_text(HEAD + "".join(lines))
    full = sum("config" in row for row in rows.values())
    print(f"{len(rows)} rows, {full} configs, {sum(len(l) for ls in by_file.values() for l in ls)} bytes")


if __name__ == "__main__":
    main()
