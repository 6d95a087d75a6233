//! Reads candidate files: which of them are manifests, and what they declare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::finding::{Finding, Label, Severity};
use crate::manifest::own::{self, Declared};
use crate::source::tree::{Comment, Tree};
use crate::source::{SourceFile, Sources};
use crate::walk::{Candidate, plain};

/// The name under which a manifest from the standard input is reported.
pub(super) const STDIN: &str = "<stdin>";

/// A file that declares deployments.
#[derive(Debug)]
pub(super) struct Manifest {
    /// The folder that relative paths in it are relative to.
    pub(super) folder: PathBuf,
    /// One for each of its documents in our format.
    pub(super) declared: Vec<Declared>,
}

/// Everything read.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// In the order of their paths.
    pub(super) manifests: Vec<Manifest>,
    /// Comments of the manifests, for suppression.
    pub(super) comments: Vec<(Arc<SourceFile>, Vec<Comment>)>,
    /// What could not be read.
    pub(super) findings: Vec<Finding>,
    /// Named files that could not be read.
    pub(super) unreachable: Vec<Finding>,
    /// Files opened.
    pub(super) files: usize,
}

/// Reads every candidate, and the standard input where it was asked for.
pub(super) fn manifests(
    candidates: &BTreeMap<String, Candidate>,
    stdin: Option<&[u8]>,
    sources: &Sources,
) -> Manifests {
    let opened: Vec<_> = candidates
        .par_iter()
        .map(|(shown, candidate)| (candidate, shown, open(&candidate.path)))
        .map(|(candidate, shown, bytes)| match bytes {
            Ok(bytes) => read(shown, &candidate.path, &bytes, candidate.named, sources),
            Err(why) => Opened::unreadable(shown, &why, candidate.named),
        })
        .collect();
    let mut all = Manifests {
        files: opened.len(),
        ..Manifests::default()
    };
    let input = stdin.map(|bytes| read(STDIN, Path::new("."), bytes, true, sources));
    for file in opened.into_iter().chain(input) {
        all.findings.extend(file.findings);
        all.unreachable.extend(file.unreachable);
        if let Some((source, comments, manifest)) = file.manifest {
            all.comments.push((source, comments));
            all.manifests.push(manifest);
        }
    }
    all
}

#[derive(Default)]
struct Opened {
    manifest: Option<(Arc<SourceFile>, Vec<Comment>, Manifest)>,
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

/// Reads one file. A file that is not in our format is left alone, unless it was named or cannot be told.
fn read(shown: &str, path: &Path, bytes: &[u8], named: bool, sources: &Sources) -> Opened {
    let mentions_us = bytes.windows(7).any(|window| window == b"oomlint");
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if named || mentions_us => return not_utf8(shown, bytes, error.valid_up_to(), sources),
        Err(_) => return Opened::default(),
    };
    // A template is not YAML before it is rendered; only a file that claims to be ours is held to it.
    let template = text.contains("{{");
    if !named && !mentions_us && template {
        return Opened::default();
    }
    let file = sources.add(shown, text);
    let tree = Tree::parse(&file);
    let ours: Vec<_> = tree
        .documents
        .iter()
        .filter(|document| own::recognizes(document.root()))
        .collect();
    let ours_or_named = named || mentions_us || !ours.is_empty();
    let severity = if ours_or_named {
        Severity::Error
    } else {
        Severity::Info
    };
    let mut opened = Opened::default();
    opened.findings.extend(tree.problems.iter().map(|problem| {
        let label = Label {
            span: problem.span,
            text: "reading stopped here".to_owned(),
        };
        let message = format!("a document of this file is not valid YAML: {}", problem.message);
        Finding::at("yaml-invalid", severity, message, label)
            .with_help("the other documents of the file were read; this one was not")
    }));
    if ours.is_empty() {
        if named && tree.problems.is_empty() {
            let message = "the file declares no deployment that oomlint can read";
            let finding = Finding::about("no-deployment-found", Severity::Info, message, shown)
                .with_help("a document in oomlint's own format has the top-level key `oomlint: 1`");
            opened.findings.push(finding);
        }
        return opened;
    }
    for span in ours.iter().flat_map(|document| document.root().unknown_aliases()) {
        let label = Label {
            span,
            text: "no anchor of this name before it".to_owned(),
        };
        let message = format!("unknown alias {}", file.slice(span));
        opened
            .findings
            .push(Finding::at("yaml-invalid", Severity::Error, message, label));
    }
    let declared = ours
        .iter()
        .map(|document| own::read(file.id(), document.root()))
        .collect();
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    opened.manifest = Some((file, tree.comments, Manifest { folder, declared }));
    opened
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
