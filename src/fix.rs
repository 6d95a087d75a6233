//! Fixes: edits on spans, applied, re-read and compared before anything is written.
//!
//! In: a text and the fixes that findings propose for it. Out: the new text, which reads as the same tree but for
//! the values that were to change; whatever else would change is refused in words and the text stays as it was.
//! Of fixes that overlap the first is made, the others are left for the next run. What a rule says
//! becomes edits in `rule::change`; nothing here knows rules.

mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use crate::finding::{Edit, Finding, Fix};
use crate::source::{SourceFile, Sources};

/// Which fixes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those that cannot change what the author meant.
    Safe,
    /// The suggested ones too.
    All,
}

/// What came of the fixes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The path that reports print.
    pub path: String,
    /// The text as it was.
    pub before: String,
    /// The text with the fixes made.
    pub after: String,
    /// How many were made.
    pub made: usize,
    /// Why others were not.
    pub refused: Vec<String>,
}

impl Fixed {
    /// The change as a unified diff.
    pub fn diff(&self) -> String {
        similar::TextDiff::from_lines(&self.before, &self.after)
            .unified_diff()
            .context_radius(3)
            .header(&format!("a/{}", self.path), &format!("b/{}", self.path))
            .to_string()
    }
}

/// The new texts of the files that findings propose to change, by path. Suppressed findings propose nothing.
pub fn fix<'f>(sources: &Sources, findings: impl Iterator<Item = &'f Finding>, wanted: Wanted) -> Vec<Fixed> {
    let mut by_file: BTreeMap<String, (std::sync::Arc<SourceFile>, Vec<&Fix>)> = BTreeMap::new();
    for finding in findings.filter(|finding| finding.suppressed.is_none()) {
        let Some(fix) = finding
            .fix
            .as_ref()
            .filter(|fix| fix.safe || wanted == Wanted::All)
        else {
            continue;
        };
        let file = fix.edits.first().and_then(|edit| sources.get(edit.span.file()));
        let Some(file) = file else { continue };
        if fix.edits.iter().any(|edit| edit.span.file() != file.id()) {
            continue;
        }
        let path = file.path().to_owned();
        by_file
            .entry(path)
            .or_insert_with(|| (file, Vec::new()))
            .1
            .push(fix);
    }
    by_file
        .into_values()
        .map(|(file, fixes)| fix_file(&file, &fixes))
        .collect()
}

/// The new text of one file.
pub fn fix_file(file: &SourceFile, fixes: &[&Fix]) -> Fixed {
    let mut chosen = Vec::new();
    let mut refused = Vec::new();
    keep_good(file, &mut chosen, &without_overlap(fixes), &mut refused);
    let checked = verify::verified(file, &edits(&chosen));
    let before = file.text().to_owned();
    let (after, made) = match checked {
        Ok(after) => (after, chosen.len()),
        Err(why) => {
            refused.push(why);
            (before.clone(), 0)
        }
    };
    Fixed {
        path: file.path().to_owned(),
        before,
        after,
        made,
        refused,
    }
}

/// Adds the candidates that can be made beside those chosen: one bad fix is no reason to leave the good ones. Halving
/// finds it with few readings of the file.
fn keep_good<'f>(
    file: &SourceFile,
    chosen: &mut Vec<&'f Fix>,
    candidates: &[&'f Fix],
    refused: &mut Vec<String>,
) {
    let all = [chosen.as_slice(), candidates].concat();
    match (verify::verified(file, &edits(&all)), candidates) {
        (_, []) => {}
        (Ok(_), _) => *chosen = all,
        (Err(why), [_]) => refused.push(why),
        (Err(_), _) => {
            let (first, second) = candidates.split_at(candidates.len() / 2);
            keep_good(file, chosen, first, refused);
            keep_good(file, chosen, second, refused);
        }
    }
}

/// The fixes in the order of their places, without those that touch one before them.
fn without_overlap<'f>(fixes: &[&'f Fix]) -> Vec<&'f Fix> {
    let mut sorted: Vec<&Fix> = fixes.to_vec();
    let start = |fix: &Fix| fix.edits.iter().map(|edit| edit.span.start()).min();
    sorted.sort_by_key(|fix| start(fix));
    let mut chosen: Vec<&Fix> = Vec::new();
    for fix in sorted {
        let touches = |other: &Edit| fix.edits.iter().any(|edit| overlap(edit, other));
        if !chosen.iter().flat_map(|other| &other.edits).any(touches) {
            chosen.push(fix);
        }
    }
    chosen
}

/// Two edits at one place overlap also where one of them is an insertion: their order would be a guess.
fn overlap(one: &Edit, two: &Edit) -> bool {
    one.span.start() <= two.span.end() && two.span.start() <= one.span.end()
}

fn edits(fixes: &[&Fix]) -> Vec<Edit> {
    let mut edits: Vec<Edit> = fixes.iter().flat_map(|fix| fix.edits.iter().cloned()).collect();
    edits.sort_by_key(|edit| edit.span.start());
    edits
}

/// Writes a fixed file: beside it first, then in its place, with the mode it had. A file that is no longer what
/// was read is left alone.
///
/// # Errors
///
/// Why it could not be written, in words.
pub fn write(fixed: &Fixed) -> Result<(), String> {
    let told = |error: &std::io::Error| format!("cannot write {}: {}", fixed.path, crate::walk::plain(error));
    // A link stays a link: what it leads to is written.
    let path = fs::canonicalize(&fixed.path).map_err(|error| told(&error))?;
    let now = fs::read(&path).map_err(|error| told(&error))?;
    if now != fixed.before.as_bytes() {
        return Err(format!(
            "{} has changed since it was read, so it was not fixed",
            fixed.path
        ));
    }
    replace(&path, fixed.after.as_bytes()).map_err(|error| told(&error))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mode = fs::metadata(path)?.permissions();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.oomlint-{}", std::process::id()));
    let written = fs::File::create_new(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_permissions(mode)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&beside, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&beside);
    }
    replaced
}

#[cfg(test)]
mod tests;
