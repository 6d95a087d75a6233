//! What has changed since a revision: `--changed-since`.
//!
//! In: a revision. Out: the files that differ from it in the work tree, new files included, each with the lines
//! that differ; or in words why git could not say. A finding counts as changed where one of its places, or the
//! declaration of its deployment, has a changed line, or where a file of its model has changed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::finding::Finding;
use crate::report::Report;
use crate::source::Span;

/// The lines of a file that is new, or has none.
const EVERY_LINE: Range<usize> = 0..usize::MAX;

/// Changed lines by absolute path.
#[derive(Debug, Default)]
pub struct Changed {
    files: BTreeMap<PathBuf, Vec<Range<usize>>>,
}

impl Changed {
    /// Asks git in the current folder.
    ///
    /// # Errors
    ///
    /// Why git could not say, in words.
    pub fn since(revision: &str) -> Result<Self, String> {
        if revision.is_empty() || revision.starts_with('-') {
            return Err(format!("`{revision}` is no revision"));
        }
        let root = git(&["rev-parse", "--show-toplevel"])?;
        let root = PathBuf::from(root.trim_end_matches(['\r', '\n']));
        let commit = git(&[
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("{revision}^{{commit}}"),
        ])
        .map_err(|_| format!("git knows no revision `{revision}`"))?;
        let diff = git(&[
            "diff",
            "--unified=0",
            "--no-color",
            "--no-ext-diff",
            "--no-renames",
            "--no-prefix",
            commit.trim(),
            "--",
            ":/",
        ])?;
        let mut changed = Self::default();
        changed.read(&root, &diff);
        let new = git(&[
            "ls-files",
            "--others",
            "--exclude-standard",
            "--full-name",
            "-z",
            ":/",
        ])?;
        for path in new.split('\0').filter(|path| !path.is_empty()) {
            changed.files.insert(root.join(path), Vec::from([EVERY_LINE]));
        }
        Ok(changed)
    }

    /// Reads a diff without context.
    fn read(&mut self, root: &Path, diff: &str) {
        let mut file = None;
        for line in diff.lines() {
            if let Some(path) = line.strip_prefix("+++ ") {
                file = Some(root.join(unquoted(path)));
                // A file without a text, such as a shard of weights, has no hunks.
            } else if let Some(names) = line.strip_prefix("Binary files ") {
                let path = names.split(" and ").last().unwrap_or("");
                let path = root.join(unquoted(path.trim_end_matches(" differ")));
                self.files.insert(path, Vec::from([EVERY_LINE]));
            } else if let Some(hunk) = line.strip_prefix("@@ ")
                && let (Some(file), Some(range)) = (&file, lines(hunk))
            {
                self.files.entry(file.clone()).or_default().push(range);
            }
        }
    }

    /// Leaves the findings that have to do with what changed.
    pub fn keep(&self, report: &mut Report) {
        let kept: Vec<bool> = report
            .findings
            .iter()
            .map(|finding| self.concerns(report, finding))
            .collect();
        let mut kept = kept.into_iter();
        report.findings.retain(|_| kept.next().unwrap_or(true));
        crate::run::settle(report);
    }

    fn concerns(&self, report: &Report, finding: &Finding) -> bool {
        let labels = finding.primary.iter().chain(&finding.related);
        let mut spans: Vec<Span> = labels.map(|label| label.span).collect();
        let deployed = finding.deployment.and_then(|at| report.deployments.get(at));
        spans.extend(deployed.map(|deployed| deployed.deployment.span));
        let model = deployed.and_then(|deployed| report.models.get(deployed.model?));
        let folders = model
            .map(|model| model.path.as_str())
            .into_iter()
            .chain(finding.path.as_deref());
        spans.into_iter().any(|span| self.touches(report, span))
            || folders.into_iter().any(|path| self.holds(path))
    }

    /// True where a line of some characters has changed.
    fn touches(&self, report: &Report, span: Span) -> bool {
        let Some(file) = report.sources.get(span.file()) else {
            return false;
        };
        let Some(ranges) = absolute(file.path()).and_then(|path| self.files.get(&path)) else {
            return false;
        };
        let end = span.start() + file.slice(span).trim_end().len();
        let (first, last) = (file.line_of(span.start()), file.line_of(end));
        ranges
            .iter()
            .any(|range| range.start <= last && first < range.end)
    }

    /// True where a file or one in a folder has changed.
    fn holds(&self, path: &str) -> bool {
        absolute(path).is_some_and(|path| self.files.keys().any(|file| file.starts_with(&path)))
    }
}

fn absolute(path: &str) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

/// `-3,2 +4,0 @@` as lines of the new text. Lines that are gone are those around the place they stood at.
fn lines(hunk: &str) -> Option<Range<usize>> {
    let new = hunk.split(' ').find_map(|part| part.strip_prefix('+'))?;
    let (start, count) = new.split_once(',').unwrap_or((new, "1"));
    let (start, count): (usize, usize) = (start.parse().ok()?, count.parse().ok()?);
    Some(match count {
        0 => start..start.saturating_add(2),
        _ => start..start.saturating_add(count),
    })
}

/// Git puts names with control characters or quotes between quotes.
fn unquoted(path: &str) -> String {
    let path = path.trim_end_matches('\t');
    match path.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => path.to_owned(),
    }
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .args(["-c", "core.quotepath=off"])
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot run git: {}", crate::walk::plain(&error)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("git says: {}", words.lines().next().unwrap_or("nothing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_without_context_gives_the_lines_that_differ() {
        let mut changed = Changed::default();
        let diff = "--- a.yaml\n+++ a.yaml\n@@ -3 +3,2 @@ x\n-a\n+b\n+c\n@@ -9,2 +9,0 @@\n--- /dev/null\n\
                    +++ \"b \\\"q.yaml\"\n@@ -0,0 +1,4 @@\nBinary files w.bin and w.bin differ\n";
        changed.read(Path::new("/r"), diff);
        let told = format!("{:?}", changed.files);
        assert_eq!(
            told,
            r#"{"/r/a.yaml": [3..5, 9..11], "/r/b \"q.yaml": [1..5], "/r/w.bin": [0..18446744073709551615]}"#
        );
    }
}
