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


def words_of_schemes():
    text = (ROOT / "src/model/scheme.rs").read_text()
    lists = (re.search(rf"const {name}: \[&str; \d+\] = \[(.*?)\];", text, re.S) for name in ("LEFT_ALONE", "OUTSIDE"))
    return [re.findall(r'"([^"]+)"', found[1]) for found in lists]


KEPT, WHOLE, ROPE, QUANTIZATION = fields()
LEFT_ALONE, OUTSIDE = words_of_schemes()


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


def section_of(config, beside):
    """What states the quantization: a section of the config, or the file beside it."""
    text = config.get("text_config") or {}
    section = config.get("quantization_config") or config.get("compression_config") or text.get("quantization_config")
    if section is None and beside is not None:
        section = {"quant_method": "modelopt", **beside.get("quantization", beside)}
    return section


def quantization(section):
    """The published format, as src/model/quantization.rs reads the methods that the folders have."""
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


def modules(names):
    """Names of modules under their layers, as src/model/scheme.rs writes and reads them."""
    layers_of, everywhere = {}, []
    for name in names:
        if any(word in name for word in OUTSIDE) or re.search(r"experts\.[1-9]", name):
            continue
        layer = None if name.startswith("re:") else re.search(r"layers\.(\d+)\.?(.*)", name)
        if layer:
            layers_of.setdefault(layer[2] or "*", set()).add(int(layer[1]))
        elif name not in everywhere:
            everywhere.append(name)
    written = {}
    for name in sorted(layers_of):
        written.setdefault(ranges(sorted(layers_of[name])), []).append(name)
    if everywhere:
        written["all"] = everywhere
    return dict(sorted(written.items()))


def ranges(numbers):
    runs = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def scheme(section, config):
    """What a checkpoint stores otherwise than in its one format, as `Scheme::read` of src/model/scheme.rs reads it."""
    if not section:
        return None
    plain = modules(name for key in LEFT_ALONE for name in section.get(key) or [] if isinstance(name, str))
    found, alone = [], False
    for group in (section.get("config_groups") or {}).values():
        targets = group.get("targets") or []
        if targets and "Linear" not in targets and (group.get("weights") or {}).get("num_bits"):
            form = {"method": "compressed-tensors", "bits": float(group["weights"]["num_bits"])}
            if (group["weights"].get("group_size") or 0) > 0:
                form["group_size"] = group["weights"]["group_size"]
            if group["weights"].get("type") == "float":
                form["float"] = True
            found.append({"modules": modules(targets), "format": form})
            alone = True
    by_algorithm = {}
    for name, layer in (section.get("quantized_layers") or {}).items():
        if layer.get("quant_algo"):
            by_algorithm.setdefault(layer["quant_algo"].upper(), []).append(name)
    for algorithm, names in sorted(by_algorithm.items()):
        found.append({"modules": modules(names), "format": floats(algorithm)})
        alone = section.get("quant_method") != "fp8"
    if config.get("expert_dtype") == "fp4" and not found:
        found.append({"modules": {"all": ["*experts*"]}, "format": floats("MXFP4")})
    row = {"plain": plain, "groups": found, "groups_are_all": alone}
    return {key: value for key, value in row.items() if value} or None


def floats(algorithm):
    if "FP4" not in algorithm:
        return {"method": "modelopt", "bits": 8.0, "float": True}
    if "MX" in algorithm:
        return {"method": "mxfp4", "bits": 4.0, "group_size": 32, "float": True}
    return {"method": "modelopt", "bits": 4.0, "group_size": 16, "float": True}


def add_form(row, config, beside):
    section = section_of(config, beside)
    for key, value in (("quantization", quantization(section)), ("scheme", scheme(section, config))):
        if value:
            row[key] = value


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
        add_form(row, config, json.loads(beside.read_text()) if beside.exists() else None)
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
        add_form(row, config, None)
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
        if row.get("scheme") and ("quantization" in shared or row["scheme"] != rows[base].get("scheme")):
            shared["scheme"] = row["scheme"]
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
