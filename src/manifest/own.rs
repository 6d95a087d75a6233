//! oomlint's own format: a YAML document with the top-level key `oomlint: 1`.
//!
//! In: the root of such a document. Out: the machines it adds and the deployments it declares, every value
//! with its characters; findings for whatever is wrong, which never stop the rest.

use super::read::Reader;
use super::{Declared, Deployment, Format, WeightFormat};
use crate::engine::{Engine, KvType};
use crate::fact::Fact;
use crate::machine::catalog::Catalog;
use crate::machine::quantity::parse_bytes;
use crate::machine::{Machine, MachineKind};
use crate::model::quantization;
use crate::nearest::nearest;
use crate::source::tree::{Node, Shape};
use crate::source::{FileId, Span};

/// The version of the format that this build reads.
pub const FORMAT_VERSION: &str = "1";

/// True for a document in our format.
pub fn recognizes(root: Node<'_>) -> bool {
    root.get("oomlint").is_some()
}

/// Reads a document in our format.
pub fn read(file: FileId, root: Node<'_>) -> Declared {
    let mut reader = Reader::default();
    let mut declared = Declared::default();
    for (key, value) in reader.fields(root, "an oomlint file", &["oomlint", "machines", "deployments"]) {
        match key {
            "oomlint" => version(&mut reader, value),
            "machines" => declared.machines = machines(&mut reader, value),
            _ => declared.deployments = deployments(&mut reader, file, value),
        }
    }
    declared.findings = reader.findings;
    declared
}

fn version(reader: &mut Reader, node: Node<'_>) {
    if node.text() != Some(FORMAT_VERSION) {
        let found = node.text().unwrap_or("nothing");
        reader.invalid(
            node.mention(),
            format!("this build reads version {FORMAT_VERSION} of the format, and the file says {found}"),
            format!("expected {FORMAT_VERSION}"),
        );
    }
}

/// Reads a mapping of machine names to their figures; also used for `.oomlint.yaml`.
pub fn machines(reader: &mut Reader, node: Node<'_>) -> Vec<Fact<Machine>> {
    if node.shape() != Shape::Mapping {
        reader.invalid(
            node.mention(),
            "`machines` must map names to machines",
            "expected `name: {memory: ...}`",
        );
        return Vec::new();
    }
    reader.repeated_keys(node, "`machines`");
    let read = |(key, value): (Node<'_>, Node<'_>)| {
        let name = key.text()?.to_owned();
        machine(reader, &name, key.span(), value).map(|machine| Fact::at(machine, key.span()))
    };
    node.entries().into_iter().filter_map(read).collect()
}

const MACHINE_KEYS: [&str; 7] = [
    "memory",
    "kind",
    "chip",
    "compute_capability",
    "macos",
    "working_set",
    "runtime_memory",
];

fn machine(reader: &mut Reader, name: &str, place: Span, node: Node<'_>) -> Option<Machine> {
    let mut machine = Machine {
        id: name.to_owned(),
        kind: MachineKind::Other,
        count: 1,
        memory_bytes: 0,
        runtime_memory_bytes: None,
        unified_memory: false,
        compute_capability: None,
        working_set_bytes: None,
        apple_generation: None,
        macos: None,
        bandwidth: None,
        provenance: "declared in the manifest".to_owned(),
    };
    let before = reader.findings.len();
    for (key, value) in reader.fields(node, &format!("the machine `{name}`"), &MACHINE_KEYS) {
        let Some(text) = reader.text(key, value) else {
            continue;
        };
        let span = value.mention();
        match key {
            "memory" => machine.memory_bytes = memory(reader, key, &text).unwrap_or(0),
            "runtime_memory" => machine.runtime_memory_bytes = memory(reader, key, &text),
            "working_set" => machine.working_set_bytes = memory(reader, key, &text),
            "kind" => match kind(&text.value) {
                Some(kind) => machine.kind = kind,
                None => reader.invalid(span, format!("unknown kind of machine: {}", text.value), KINDS),
            },
            "chip" => match generation(&text.value) {
                Some(number) => machine.apple_generation = Some(number),
                None => reader.invalid(
                    span,
                    format!("unknown chip: {}", text.value),
                    "expected m1, m4-max, ...",
                ),
            },
            "compute_capability" => match pair(&text.value) {
                Some(capability) => machine.compute_capability = Some(capability),
                None => reader.invalid(span, "not a compute capability", "expected \"8.9\" or the like"),
            },
            _ => match pair(&text.value) {
                Some(version) => machine.macos = Some(version),
                None => reader.invalid(span, "not a macOS version", "expected \"26.2\" or the like"),
            },
        }
    }
    if machine.memory_bytes == 0 {
        if reader.findings.len() == before {
            reader.invalid(
                place,
                format!("the machine `{name}` has no memory"),
                "expected `memory: 24GiB`",
            );
        }
        return None;
    }
    machine.unified_memory = machine.kind == MachineKind::AppleSilicon;
    if machine.unified_memory && machine.working_set_bytes.is_none() {
        machine.working_set_bytes = Catalog::builtin().default_working_set(machine.memory_bytes);
    }
    Some(machine)
}

const KINDS: &str = "expected nvidia, amd, apple-silicon, tpu, intel, cpu or other";

fn kind(text: &str) -> Option<MachineKind> {
    Some(match text {
        "nvidia" => MachineKind::Nvidia,
        "amd" => MachineKind::Amd,
        "apple-silicon" | "apple" => MachineKind::AppleSilicon,
        "tpu" => MachineKind::Tpu,
        "intel" => MachineKind::Intel,
        "cpu" => MachineKind::Cpu,
        "other" => MachineKind::Other,
        _ => return None,
    })
}

/// The number after the M of a chip's name.
fn generation(chip: &str) -> Option<u32> {
    let rest = chip.trim().strip_prefix(['m', 'M'])?;
    let digits = rest.split(['-', ' ']).next()?;
    digits.parse().ok().filter(|number| *number > 0)
}

/// `8.9`, `26.2` or `26`.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

fn memory(reader: &mut Reader, key: &str, text: &Fact<String>) -> Option<u64> {
    let bytes = parse_bytes(&text.value).filter(|bytes| *bytes > 0);
    if bytes.is_none()
        && let Some(span) = text.span()
    {
        let message = format!("`{key}` is not an amount of memory: {}", text.value);
        reader.invalid(span, message, "expected 24GiB, 24GB or a number of bytes");
    }
    bytes
}

fn deployments(reader: &mut Reader, file: FileId, node: Node<'_>) -> Vec<Deployment> {
    if node.shape() != Shape::Sequence {
        reader.invalid(
            node.mention(),
            "`deployments` must be a list",
            "expected `- model: ...`",
        );
        return Vec::new();
    }
    node.items()
        .filter_map(|item| deployment(reader, file, item))
        .collect()
}

const DEPLOYMENT_KEYS: [&str; 10] = [
    "name",
    "model",
    "engine",
    "engine_version",
    "machines",
    "context",
    "batch",
    "kv_cache",
    "quantization",
    "args",
];

fn deployment(reader: &mut Reader, file: FileId, node: Node<'_>) -> Option<Deployment> {
    if node.shape() != Shape::Mapping {
        reader.invalid(
            node.mention(),
            "a deployment must be a mapping",
            "expected `model: ...` and its settings",
        );
        return None;
    }
    let unnamed = Fact::derived(String::new(), [node.span()]);
    let mut found = Deployment::new(unnamed, file, node.span(), Format::Own);
    for (key, value) in reader.fields(node, "a deployment", &DEPLOYMENT_KEYS) {
        let before = reader.findings.len();
        field(reader, &mut found, key, value);
        if reader.findings.len() > before {
            found.unresolved.push(key.to_owned());
        }
    }
    if found.name.value.is_empty()
        && let Some(model) = &found.model
    {
        found.name = Fact::derived(model.value.clone(), model.span());
    }
    if found.model.is_none() && !found.unresolved.iter().any(|key| key == "model") {
        let first = node.pairs().next().map_or(node.span(), |(key, _)| key.span());
        reader.invalid_with_help(
            first,
            "the deployment names no model",
            "this deployment has no `model`",
            "add `model:` with a directory, a .gguf file or a hub name",
        );
    }
    Some(found)
}

fn field(reader: &mut Reader, found: &mut Deployment, key: &str, value: Node<'_>) {
    match key {
        "name" => {
            if let Some(name) = reader.text(key, value) {
                found.name = name;
            }
        }
        "model" => found.model = reader.text(key, value),
        "engine" => found.engine = engine(reader, value),
        "engine_version" => found.engine_version = reader.text(key, value),
        "machines" => found.machines = reader.one_or_many(key, value, |reader, node| reader.text(key, node)),
        "context" => found.context = reader.one_or_many(key, value, |reader, node| reader.count(key, node)),
        "batch" => found.batch = reader.one_or_many(key, value, |reader, node| reader.count(key, node)),
        "kv_cache" => found.kv_cache = reader.one_or_many(key, value, kv_type),
        "quantization" => found.quantization = weight_format(reader, value),
        _ => found.args = args(reader, value),
    }
}

fn engine(reader: &mut Reader, node: Node<'_>) -> Option<Fact<Engine>> {
    let text = reader.text("engine", node)?;
    if let Some(engine) = Engine::parse(&text.value) {
        return Some(text.map(|_| engine));
    }
    let names = Engine::ALL.map(Engine::name);
    let label = match nearest(&text.value, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "unknown engine".to_owned(),
    };
    let help = format!("the engines are {}", names.join(", "));
    reader.invalid_with_help(
        node.mention(),
        format!("unknown engine: {}", text.value),
        label,
        help,
    );
    None
}

fn kv_type(reader: &mut Reader, node: Node<'_>) -> Option<Fact<KvType>> {
    let text = reader.text("kv_cache", node)?;
    if let Some(kv) = KvType::parse(&text.value) {
        return Some(text.map(|_| kv));
    }
    let names = KvType::ALL.map(KvType::name);
    let help = format!("the KV-cache types are {}", names.join(", "));
    reader.invalid_with_help(
        node.mention(),
        format!("unknown KV-cache type: {}", text.value),
        "unknown type",
        help,
    );
    None
}

fn weight_format(reader: &mut Reader, node: Node<'_>) -> Option<Fact<WeightFormat>> {
    let text = reader.text("quantization", node)?;
    let name = text.value.trim().to_ascii_lowercase();
    let format = match name.as_str() {
        "auto" => WeightFormat::Auto,
        "as-published" => WeightFormat::AsPublished,
        _ if quantization::real_bits_per_weight(&name).is_some() => WeightFormat::Named(name),
        _ => {
            let known = quantization::format_names();
            let help = format!("the formats are auto, as-published, {}", known.join(", "));
            let message = format!("unknown quantization: {}", text.value);
            reader.invalid_with_help(node.mention(), message, "unknown format", help);
            return None;
        }
    };
    Some(text.map(|_| format))
}

fn args(reader: &mut Reader, node: Node<'_>) -> Vec<Fact<String>> {
    if node.shape() != Shape::Sequence {
        reader.invalid_with_help(
            node.mention(),
            format!(
                "`args` must be a list of words, and this is {}",
                node.shape().words()
            ),
            "expected a list",
            "write each word as its own item: args: [\"--tensor-parallel-size\", \"2\"]",
        );
        return Vec::new();
    }
    let read = |item: Node<'_>| match item.text() {
        Some(word) => Some(Fact::at(word.to_owned(), item.mention())),
        None => {
            reader.invalid(
                item.mention(),
                format!("an argument must be a word, and this is {}", item.shape().words()),
                "expected a word",
            );
            None
        }
    };
    node.items().filter_map(read).collect()
}
