//! Model references as manifests write them: what kind they are, and which checkpoints they can mean.
//!
//! In: a word such as `hf://org/name@rev`, `qwen2.5:7b`, `/models/Qwen3-32B` or `name.Q4_K_M.gguf`. Out: a
//! [`Reference`] with candidate names, the weight format that the word states, and the revision. Only text is
//! looked at; [`catalog`](super::catalog) knows which names exist.

use super::quantization;

mod format;
pub(crate) use format::{Stem, stem};

/// What kind of word a reference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A path of the machine or the container that serves.
    Path,
    /// A name on a model hub.
    Hub,
    /// A name and tag of the Ollama library, or of a registry that follows it.
    Tag,
    /// A GGUF file.
    Gguf,
    /// A container image that holds the model.
    Image,
    /// A place in an object store or a volume.
    Store,
}

/// A reference that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What kind of word it is.
    pub kind: Kind,
    /// Names it can mean, the most telling first: `org/name`, or the name alone.
    pub names: Vec<String>,
    /// The weight format that a tag or a file name states, by its name in `catalog/formats.yaml`.
    pub format: Option<String>,
    /// The revision.
    pub revision: Option<String>,
}

/// Last parts of paths that say nothing of the model in them.
const GENERIC: [&str; 30] = [
    "model", "models", "llm", "data", "mnt", "target", "latest", "main", "snapshots", "hub", "weights", "checkpoint",
    "checkpoints", "huggingface", "cache", ".cache", "hf", "gguf", "hf-cache", "model_cache", "base", "default",
    "app", "root", "home", "workspace", "opt", "srv", "v1", "final",
];

/// Reads a reference; `None` for an empty word and for a placeholder, which names nothing.
pub fn parse(text: &str) -> Option<Reference> {
    let text = text.trim().trim_matches(['"', '\'']);
    if text.is_empty() || is_placeholder(text) {
        return None;
    }
    // KubeAI: a volume, and the Ollama model inside it.
    if let Some((_, model)) = text.split_once("?model=") {
        return parse(model.split('&').next().unwrap_or(model));
    }
    let text = text.split('?').next().unwrap_or(text);
    let reference = match text.split_once("://") {
        Some((scheme, rest)) => with_scheme(&scheme.to_ascii_lowercase(), rest)?,
        None => plain(text)?,
    };
    (!reference.names.is_empty()).then_some(reference)
}

/// Words that stand for a value which someone else fills in.
pub fn is_placeholder(text: &str) -> bool {
    let marks = ["$(", "${", "{{", "}}", "<", ">", "V_MODEL", "..."];
    let words = ["your-model", "your_model", "path/to/", "path-to-", "my-model", "model-name", "model_name", "changeme"];
    let lower = text.to_ascii_lowercase();
    marks.iter().any(|mark| text.contains(mark))
        || text.starts_with('$')
        || words.iter().any(|word| lower.contains(word))
}

fn with_scheme(scheme: &str, rest: &str) -> Option<Reference> {
    match scheme {
        "hf" | "huggingface" | "ms" | "modelscope" => hub(rest),
        "ollama" => Some(tag(rest)),
        "http" | "https" => address(rest),
        "file" => plain(rest),
        "oci" | "docker" => Some(image(rest)),
        _ => path(rest, Kind::Store),
    }
}

/// A word without a scheme.
fn plain(text: &str) -> Option<Reference> {
    let is_path = text.starts_with(['/', '.', '~']) || text.contains('\\');
    if is_path {
        return path(text, Kind::Path);
    }
    if let Some(rest) = ["hf.co/", "huggingface.co/"].iter().find_map(|host| text.strip_prefix(host)) {
        return hub(rest);
    }
    if let Some(rest) = text.strip_prefix("ollama:") {
        return Some(tag(rest));
    }
    let (first, tail) = text.split_once('/').unwrap_or(("", text));
    if first.contains('.') && tail.contains('/') && text.contains(':') {
        return Some(image(text));
    }
    match text.matches('/').count() {
        _ if text.to_ascii_lowercase().ends_with(".gguf") => path(text, Kind::Gguf),
        0 if text.contains(':') => Some(tag(text)),
        0 => Some(Reference::of(Kind::Hub, vec![text.to_owned()])),
        // Docker's own models follow Ollama's tags: `ai/qwen3:8B-Q4_K_M`.
        1 if first == "ai" => Some(tag(tail)),
        1 => hub(text),
        _ => path(text, Kind::Path),
    }
}

/// `org/name[@revision][:quantization]`, perhaps with a file behind it.
fn hub(text: &str) -> Option<Reference> {
    let (text, revision) = split_revision(text);
    let (text, quant) = match text.split_once(':') {
        Some((name, quant)) => (name, Some(quant)),
        None => (text, None),
    };
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let name = parts.get(..parts.len().min(2))?.join("/");
    let file = parts.get(2..).and_then(<[&str]>::last).filter(|file| file.ends_with(".gguf"));
    let stated = quant.map(str::to_owned).or_else(|| file.map(|file| (*file).to_owned()));
    let mut reference = Reference::of(Kind::Hub, vec![name]);
    reference.format = stated.and_then(|words| stem(&words).format);
    reference.revision = revision.map(str::to_owned);
    Some(reference)
}

fn split_revision(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((name, revision)) => (name, Some(revision).filter(|text| !text.is_empty())),
        None => (text, None),
    }
}

/// `name[:tag]`; the name may stand in a namespace.
fn tag(text: &str) -> Reference {
    let (name, tag) = text.split_once(':').unwrap_or((text, "latest"));
    let mut reference = Reference::of(Kind::Tag, vec![format!("{name}:{tag}")]);
    reference.format = stem(tag).format;
    reference
}

/// `registry/path/name:tag`: the tag is a release, not a size.
fn image(text: &str) -> Reference {
    let name = text.split('@').next().unwrap_or(text);
    let last = name.rsplit('/').next().unwrap_or(name);
    let last = last.split(':').next().unwrap_or(last);
    Reference::of(Kind::Image, vec![last.to_owned()])
}

fn address(rest: &str) -> Option<Reference> {
    let (host, path_on_host) = rest.split_once('/')?;
    if host.contains("huggingface") || host == "hf.co" || host.starts_with("hf-mirror") {
        let trimmed = path_on_host.replace("/resolve/main/", "/").replace("/blob/main/", "/").replace("/tree/main", "");
        return hub(&trimmed);
    }
    if host.contains("modelscope") {
        return hub(path_on_host.strip_prefix("models/").unwrap_or(path_on_host));
    }
    path(path_on_host, Kind::Store)
}

/// A path: its last telling part, with the part before it as the organisation where it could be one.
fn path(text: &str, kind: Kind) -> Option<Reference> {
    let text = text.replace('\\', "/");
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..").collect();
    // The hub cache: `models--org--name/snapshots/<commit>`.
    if let Some(at) = parts.iter().position(|part| part.starts_with("models--")) {
        let name = parts.get(at)?.trim_start_matches("models--").replacen("--", "/", 1);
        let after: Vec<&&str> = parts.iter().skip(at + 1).collect();
        let mut reference = Reference::of(kind, vec![name]);
        if let [word, commit, ..] = after.as_slice()
            && **word == "snapshots"
        {
            reference.revision = Some((**commit).to_owned());
        }
        return Some(reference);
    }
    let telling = |part: &&&str| !GENERIC.contains(&part.to_ascii_lowercase().as_str()) && !is_commit(part);
    let at = parts.iter().rposition(|part| telling(&part))?;
    let last = parts.get(at)?;
    let before = at.checked_sub(1).and_then(|at| parts.get(at)).filter(telling);
    let is_gguf = last.to_ascii_lowercase().ends_with(".gguf");
    let flat = last.contains("--").then(|| last.replacen("--", "/", 1));
    let mut names: Vec<String> = flat.into_iter().collect();
    names.extend(before.map(|org| format!("{org}/{last}")));
    names.push((*last).to_owned());
    // A file or a version folder below a folder that bears the model's name.
    names.extend(before.map(|name| (*name).to_owned()));
    let mut reference = Reference::of(if is_gguf { Kind::Gguf } else { kind }, names);
    if is_gguf {
        reference.format = stem(last).format;
    }
    Some(reference)
}

fn is_commit(part: &str) -> bool {
    part.len() >= 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Reference {
    fn of(kind: Kind, names: Vec<String>) -> Self {
        Self {
            kind,
            names,
            format: None,
            revision: None,
        }
    }

    /// True for a word that names a checkpoint on a hub or in a library, not a place.
    pub fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Hub | Kind::Tag | Kind::Image)
    }
}

/// True for a format whose checkpoints are GGUF files.
pub(crate) fn is_gguf_format(format: &str) -> bool {
    let lower = format.to_ascii_lowercase();
    let starts = ["q2_", "q3_", "q4_", "q5_", "q6_", "q8_", "iq"];
    starts.iter().any(|start| lower.starts_with(start)) && quantization::serving_format(format).is_some()
}

#[cfg(test)]
mod tests;
