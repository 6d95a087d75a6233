//! The JSON texts of a checkpoint: read once, decoded, checked for syntax.
//!
//! In: a path on disk and the path that reports print. Out: the text in [`Sources`], with a finding for
//! everything that keeps Python's `json` from reading it, which is how every engine reads it.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::finding::{Finding, Label, Severity};
use crate::source::{SourceFile, Sources};

/// The rule of files that cannot be read.
pub(super) const FILE_UNREADABLE: &str = "file-unreadable";
/// The rule of texts that are not YAML, or not JSON.
pub(super) const YAML_INVALID: &str = "yaml-invalid";
/// The rule of checkpoints that lack something.
pub(super) const CONFIG_INCOMPLETE: &str = "config-incomplete";

/// A text, its value, and what keeps engines from reading it.
pub(super) struct JsonText {
    pub(super) file: Arc<SourceFile>,
    /// Bytes read from disk.
    pub(super) bytes: u64,
    /// The value; `None` when the syntax is broken. Non-numbers are 0.
    pub(super) json: Option<Value>,
    pub(super) findings: Vec<Finding>,
}

/// Opens a regular file: a directory or a pipe would block or fail later, with less clear words.
pub(super) fn open(path: &Path, display: &str) -> Result<(File, u64), Box<Finding>> {
    let unreadable =
        |words: String| Box::new(Finding::about(FILE_UNREADABLE, Severity::Error, words, display));
    let failed = |error: io::Error| unreadable(format!("`{display}` cannot be read: {}", reason(&error)));
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() {
            "a directory"
        } else {
            "not a regular file"
        };
        return Err(unreadable(format!("`{display}` is {kind}; expected a file")));
    }
    let file = File::open(path).map_err(failed)?;
    Ok((file, metadata.len()))
}

/// The system's words without its error number.
pub(super) fn reason(error: &io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or(&words).to_lowercase()
}

/// All bytes of a file of at most [`SourceFile::MAX_BYTES`].
pub(super) fn bytes(path: &Path, display: &str) -> Result<Vec<u8>, Box<Finding>> {
    let (file, length) = open(path, display)?;
    let unreadable =
        |words: String| Box::new(Finding::about(FILE_UNREADABLE, Severity::Error, words, display));
    let most = SourceFile::MAX_BYTES;
    if length > most {
        return Err(unreadable(format!(
            "`{display}` holds {length} bytes; at most {most} are read"
        )));
    }
    let mut bytes = Vec::new();
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(format!("`{display}` cannot be read: {}", reason(&error))))?;
    Ok(bytes)
}

/// Reads a JSON text and checks it.
pub(super) fn read(sources: &Sources, path: &Path, display: &str) -> Result<JsonText, Box<Finding>> {
    let bytes = bytes(path, display)?;
    let bad_byte = std::str::from_utf8(&bytes).err().map(|error| error.valid_up_to());
    let file = sources.add(display, String::from_utf8_lossy(&bytes));
    let not_utf8 = bad_byte.map(|at| not_utf8(&file, at, &bytes));
    let (json, problem) = parse(&file);
    Ok(JsonText {
        file,
        bytes: bytes.len() as u64,
        json,
        findings: not_utf8.into_iter().chain(problem).collect(),
    })
}

fn not_utf8(file: &SourceFile, at: usize, bytes: &[u8]) -> Finding {
    let byte = bytes.get(at).copied().unwrap_or_default();
    let label = Label {
        span: file.span(at..at + 1),
        text: format!("byte {byte:#04x} at offset {at}"),
    };
    let message = format!("`{}` is not UTF-8", file.path());
    Finding::at(FILE_UNREADABLE, Severity::Error, message, label)
}

/// The value, and what Python's `json.loads` refuses: broken syntax, or a byte-order mark before it.
fn parse(file: &SourceFile) -> (Option<Value>, Option<Finding>) {
    let text = file.text();
    let mark = if text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    };
    let body = text.get(mark..).unwrap_or("");
    let finding = |severity, message: &str, range: Range<usize>, words: &str| {
        let label = Label {
            span: file.span(range),
            text: words.to_owned(),
        };
        Finding::at(
            YAML_INVALID,
            severity,
            format!("`{}` {message}", file.path()),
            label,
        )
    };
    match python_json(body) {
        Ok(value) if mark == 0 => (Some(value), None),
        Ok(value) => {
            let message = "starts with a byte-order mark, which Python's json refuses";
            (
                Some(value),
                Some(finding(Severity::Warning, message, 0..mark, "byte-order mark")),
            )
        }
        Err(_) if body.trim().is_empty() => {
            let message = "is empty; expected a JSON object";
            (
                None,
                Some(finding(Severity::Error, message, 0..text.len(), "nothing here")),
            )
        }
        Err(error) => {
            let words = if error.is_eof() {
                "the text ends before its last bracket".to_owned()
            } else {
                without_place(&error)
            };
            let at = place(file, mark, &error);
            (
                None,
                Some(finding(
                    Severity::Error,
                    &format!("is not valid JSON: {words}"),
                    at..at + 1,
                    &words,
                )),
            )
        }
    }
}

/// `serde_json`'s words without its line and column, which the finding shows itself.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let words = error.to_string();
    words.split(" at line").next().unwrap_or(&words).to_owned()
}

/// The offset of a syntax error; that of a text that ends too early is its last visible character.
pub(super) fn place(file: &SourceFile, mark: usize, error: &serde_json::Error) -> usize {
    let first = if error.line() == 1 { mark } else { 0 };
    let at = file.line_start(error.line()) + first + error.column().saturating_sub(1);
    at.min(file.text().trim_end().len().saturating_sub(1))
}

/// A value by the grammar that Python reads: JSON with `NaN`, `Infinity` and `-Infinity`, which become 0.
fn python_json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| {
        if text.contains("NaN") || text.contains("Infinity") {
            serde_json::from_str(&without_non_numbers(text))
        } else {
            Err(error)
        }
    })
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside strings, so that every other byte keeps its place.
fn without_non_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            out.extend(std::iter::once('0').chain(std::iter::repeat_n(' ', word.len() - 1)));
            rest = rest.get(word.len()..).unwrap_or("");
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        out.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or("");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileId;
    use proptest::prelude::*;

    fn problem(text: &str) -> Option<(String, String)> {
        let file = SourceFile::new(FileId::from_index(0), "config.json", text);
        let finding = parse(&file).1?;
        let span = finding.primary.as_ref().unwrap().span;
        Some((finding.message, file.slice(span).to_owned()))
    }

    #[test]
    fn what_python_reads_is_no_problem() {
        for text in [
            "{}",
            "{\"a\": NaN, \"b\": [-Infinity, Infinity]}",
            "{\"a\": \"NaN \\\" Infinity\"}\r\n",
        ] {
            assert_eq!(problem(text), None, "{text}");
        }
        assert_eq!(python_json("{\"a\": NaN}").unwrap()["a"], 0);
    }

    #[test]
    fn what_python_refuses_is_shown_where_it_breaks() {
        let (message, place) = problem("{\"a\": 1, \"b\": [1, 2").unwrap();
        assert_eq!(
            (message.as_str(), place.as_str()),
            (
                "`config.json` is not valid JSON: the text ends before its last bracket",
                "2"
            )
        );
        let (message, place) = problem("{\"a\": 1,\n}").unwrap();
        assert_eq!(
            (message.as_str(), place.as_str()),
            ("`config.json` is not valid JSON: trailing comma", "}")
        );
        assert!(problem("{\"a\": 'x'}").is_some() && problem("a: 1").is_some());
        assert_eq!(
            problem("  \n").unwrap().0,
            "`config.json` is empty; expected a JSON object"
        );
        assert_eq!(problem("\u{feff}{}").unwrap().1, "\u{feff}");
        assert!(problem(&"[".repeat(100_000)).is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_checked_without_a_panic(text in "\\PC{0,60}") {
            drop(problem(&text));
            prop_assert_eq!(without_non_numbers(&text).len(), text.len());
        }
    }
}
