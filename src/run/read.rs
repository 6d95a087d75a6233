//! Reads candidate files: which of them are manifests, and what they declare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::finding::{Finding, Label, Severity};
use crate::manifest::{self, Declared, Input, Parsed, World, own};
use crate::source::tree::{Node, Tree};
use crate::source::{SourceFile, Sources};
use crate::suppress::Remarks;
use crate::walk::{Candidate, Found, plain};

/// The name under which a manifest from the standard input is reported.
pub(super) const STDIN: &str = "<stdin>";

/// A file that declares deployments.
#[derive(Debug)]
pub(super) struct Manifest {
    /// The folder that relative paths in it are relative to.
    pub(super) folder: PathBuf,
    /// One for each of its documents in a format that declares deployments.
    pub(super) declared: Vec<Declared>,
}

/// Everything read.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// In the order of their paths.
    pub(super) manifests: Vec<Manifest>,
    /// Comments and annotations of the manifests, for suppression.
    pub(super) remarks: Vec<Remarks>,
    /// What could not be read.
    pub(super) findings: Vec<Finding>,
    /// Named files that could not be read.
    pub(super) unreachable: Vec<Finding>,
    /// Files opened.
    pub(super) files: usize,
}

/// Reads every candidate, and the standard input where it was asked for.
pub(super) fn manifests(found: &Found, stdin: Option<&[u8]>, sources: &Arc<Sources>) -> Manifests {
    let opened: Vec<Opened> = found
        .manifests
        .par_iter()
        .map(|(shown, candidate)| match open(&candidate.path) {
            Ok(bytes) => parse(shown, candidate, &bytes, sources),
            Err(why) => Opened::unreadable(shown, &why, candidate.named),
        })
        .collect();
    let mut all = Manifests {
        files: opened.len(),
        ..Manifests::default()
    };
    let input = stdin.map(|bytes| {
        let candidate = Candidate {
            path: PathBuf::from(STDIN),
            named: true,
        };
        parse(STDIN, &candidate, bytes, sources)
    });
    let (mut files, mut named) = (Vec::new(), Vec::new());
    for file in opened.into_iter().chain(input) {
        all.findings.extend(file.findings);
        all.unreachable.extend(file.unreachable);
        if let Some(parsed) = file.parsed {
            files.push(parsed);
            named.push(file.named);
        }
    }
    let world = World::new(Arc::clone(sources), files, companions(found, sources));
    let read: Vec<Read> = world
        .files()
        .par_iter()
        .zip(&named)
        .map(|(file, named)| read(file, *named, &world))
        .collect();
    for (file, read) in world.files().iter().zip(read) {
        all.findings.extend(read.findings);
        if !read.declared.is_empty() {
            let (source, comments) = (Arc::clone(&file.source), file.tree.comments.clone());
            all.remarks
                .push(Remarks::new(source, comments, &file.tree.documents));
            all.manifests.push(Manifest {
                folder: file.folder.clone(),
                declared: read.declared,
            });
        }
    }
    all
}

/// Texts that manifests read beside themselves. One that cannot be read is as if it were not there: its variables
/// stay unresolved, and that is said where they are used.
fn companions(found: &Found, sources: &Sources) -> BTreeMap<PathBuf, Arc<SourceFile>> {
    let read = |(shown, path): (&String, &PathBuf)| {
        let text = String::from_utf8(open(path).ok()?).ok()?;
        Some((manifest::normal(path), sources.add(shown, text)))
    };
    found.companions.iter().filter_map(read).collect()
}

#[derive(Default)]
struct Opened {
    parsed: Option<Parsed>,
    named: bool,
    findings: Vec<Finding>,
    unreachable: Option<Finding>,
}

impl Opened {
    fn unreadable(shown: &str, why: &str, named: bool) -> Self {
        let finding = Finding::about(
            "file-unreadable",
            Severity::Error,
            format!("cannot read the file: {why}"),
            shown,
        );
        if named {
            Self {
                unreachable: Some(finding),
                ..Self::default()
            }
        } else {
            Self {
                findings: vec![finding],
                ..Self::default()
            }
        }
    }
}

fn open(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = path.metadata().map_err(|error| plain(&error))?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    if metadata.len() > SourceFile::MAX_BYTES {
        return Err(format!("larger than {} MiB", SourceFile::MAX_BYTES >> 20));
    }
    std::fs::read(path).map_err(|error| plain(&error))
}

/// Parses one file. A file that is not UTF-8 is left alone, unless it was named or is ours.
fn parse(shown: &str, candidate: &Candidate, bytes: &[u8], sources: &Sources) -> Opened {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if candidate.named || mentions_us(bytes) => {
            return not_utf8(shown, bytes, error.valid_up_to(), sources);
        }
        Err(_) => return Opened::default(),
    };
    let source = sources.add(shown, text);
    let tree = if manifest::text_reader(shown).is_some() {
        Tree {
            comments: manifest::modelfile::comments(&source),
            ..Tree::default()
        }
    } else {
        Tree::parse(&source)
    };
    let folder = candidate.path.parent().map(Path::to_path_buf).unwrap_or_default();
    let parsed = Parsed {
        path: shown.to_owned(),
        folder,
        source,
        tree,
    };
    Opened {
        parsed: Some(parsed),
        named: candidate.named,
        ..Opened::default()
    }
}

fn mentions_us(bytes: &[u8]) -> bool {
    bytes.windows(7).any(|window| window == b"oomlint")
}

/// What a file declares.
#[derive(Default)]
struct Read {
    declared: Vec<Declared>,
    findings: Vec<Finding>,
}

/// Reads one file: each of its documents by the first format that recognizes it.
fn read(file: &Parsed, named: bool, world: &World) -> Read {
    let mut read = Read::default();
    if let Some(reader) = manifest::text_reader(&file.path) {
        read.declared.push(reader(file, world));
        return read;
    }
    let text = file.source.text();
    let ours = file
        .tree
        .documents
        .iter()
        .any(|document| own::recognizes(document.root()))
        || (named || !file.tree.problems.is_empty()) && mentions_us(text.as_bytes());
    if !ours && is_helm_template(text, !file.tree.problems.is_empty()) {
        read.findings.extend(template_skipped(file));
        return read;
    }
    for document in &file.tree.documents {
        let input = Input {
            root: document.root(),
            file,
            world,
        };
        // What a kustomization changes is read there, as it will be deployed.
        if world.overlays().replaces(input.root) {
            read.declared.push(Declared::default());
            continue;
        }
        if let Some(reader) = manifest::reader_of(&input) {
            read.findings.extend(aliases(document.root(), &file.source));
            read.declared.push((reader.read)(&input));
        }
    }
    // A placeholder that a tool fills in later is no mistake of the file.
    let unrendered = text.contains("{{") || text.contains("{%");
    let severity = if ours || named && !unrendered {
        Severity::Error
    } else {
        Severity::Info
    };
    read.findings.extend(file.tree.problems.iter().map(|problem| {
        let label = Label {
            span: problem.span,
            text: "reading stopped here".to_owned(),
        };
        let message = format!("a document of this file is not valid YAML: {}", problem.message);
        Finding::at("yaml-invalid", severity, message, label)
            .with_help("the other documents of the file were read; this one was not")
    }));
    if named && read.declared.is_empty() && file.tree.problems.is_empty() {
        let message = "the file declares no deployment that oomlint can read";
        let finding = Finding::about("no-deployment-found", Severity::Info, message, &*file.path)
            .with_help("a document in oomlint's own format has the top-level key `oomlint: 1`");
        read.findings.push(finding);
    }
    read
}

/// Aliases without an anchor in a document that declares deployments.
fn aliases(root: Node<'_>, source: &SourceFile) -> Vec<Finding> {
    let finding = |span| {
        let label = Label {
            span,
            text: "no anchor of this name before it".to_owned(),
        };
        let message = format!("unknown alias {}", source.slice(span));
        Finding::at("yaml-invalid", Severity::Error, message, label)
    };
    root.unknown_aliases().into_iter().map(finding).collect()
}

/// True for the source of a chart: actions that only Helm can run, where YAML wants a key or a value. Inside quotes or
/// a longer text they are part of a value, which the chart that gets it fills in (`host: "{{ .Release.Name }}.home"`).
/// Actions that any template has count where they broke the YAML, which they do outside texts.
fn is_helm_template(text: &str, broken: bool) -> bool {
    let helm = [
        ".Values",
        ".Release",
        ".Chart",
        "include \"",
        "include `",
        "template \"",
    ];
    let any = ["{{- if", "{{ if", "{{- range", "{{- with", "{{- end"];
    text.match_indices("{{").any(|(at, _)| {
        let (before, action) = text.split_at(at);
        let action = action.split("}}").next().unwrap_or("");
        let line = before.rsplit('\n').next().unwrap_or("");
        let has = |marks: &[&str]| marks.iter().any(|mark| action.contains(mark));
        (has(&helm) || broken && has(&any)) && wants_a_value(line)
    })
}

/// True where a line ends in front of a key or a value.
fn wants_a_value(line: &str) -> bool {
    let open = |quote: char| line.matches(quote).count() % 2 == 1;
    let told = line.trim();
    let begins = told.is_empty() || told == "-" || line.ends_with("- ");
    !open('"') && !open('\'') && (begins || told.ends_with(':') || told.ends_with("}}"))
}

/// Says once a file that a template has to be rendered first, where it looks like one that serves a model.
fn template_skipped(file: &Parsed) -> Option<Finding> {
    let text = file.source.text();
    let serves = [
        "vllm",
        "sglang",
        "ollama",
        "llama",
        "text-generation",
        "tensorrt",
        "trtllm",
        "nvidia.com/gpu",
    ];
    let lower = text.to_ascii_lowercase();
    if !text.contains("containers:") || !serves.iter().any(|word| lower.contains(word)) {
        return None;
    }
    let at = text.find("{{").unwrap_or(0);
    let label = Label {
        span: file.source.span(at..at + 2),
        text: "Helm fills this in".to_owned(),
    };
    let message = "a Helm template was not checked: its values are known only when it is rendered";
    let finding = Finding::at("template-not-rendered", Severity::Info, message, label);
    Some(finding.with_help("check what it renders to: helm template CHART -f VALUES | oomlint check -"))
}

/// The finding for a text that is not UTF-8, shown in the text as far as it can be shown.
fn not_utf8(shown: &str, bytes: &[u8], valid: usize, sources: &Sources) -> Opened {
    let file = sources.add(shown, String::from_utf8_lossy(bytes));
    let label = Label {
        span: file.span(valid..valid + 1),
        text: "the first byte that is not".to_owned(),
    };
    let finding = Finding::at(
        "file-unreadable",
        Severity::Error,
        "the file is not UTF-8 text",
        label,
    )
    .with_help("save the file as UTF-8; nothing in it was checked");
    Opened {
        findings: vec![finding],
        ..Opened::default()
    }
}
