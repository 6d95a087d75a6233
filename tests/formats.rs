//! What each format's reader makes of small files: `tests/formats/<format>/<case>/` is checked as a folder (or, where
//! it holds a file `stdin`, that file is piped into `check -`), and what was read stands beside it in `expected.txt`:
//! every declared field of every deployment, and what was said of the files' form. Sizing has tests of its own.
//!
//! `UPDATE_EXPECTED=1 cargo test --test formats` writes the files anew; read the diff.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Findings that readers raise. Those of later stages change with catalogs and rules that are tested elsewhere.
const OF_READERS: [&str; 9] = [
    "command-invalid",
    "file-unreadable",
    "key-ignored",
    "no-deployment-found",
    "not-checkable",
    "template-not-rendered",
    "unused-suppression",
    "value-invalid",
    "yaml-invalid",
];

fn folders(of: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(of)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

/// The report of one case as JSON.
fn report(case: &Path) -> Value {
    let stdin = std::fs::read(case.join("stdin")).ok();
    let path = if stdin.is_some() { "-" } else { "." };
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomlint"));
    command
        .args(["check", path, "--output", "json"])
        .current_dir(case);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OOMLINT_")) {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&stdin.unwrap_or_default())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{}: {errors}", case.display());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{}: {error}: {errors}", case.display()))
}

/// A value without the quotes of JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn is_declared(value: &Value) -> bool {
    !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty())
}

/// The deployments of a report with what they declare, and the findings about the files' form.
fn listing(report: &Value) -> String {
    let mut text = String::new();
    for deployment in report["deployments"].as_array().unwrap() {
        let (file, line) = (plain(&deployment["file"]), &deployment["line"]);
        let (format, name) = (plain(&deployment["format"]), plain(&deployment["name"]));
        writeln!(text, "{file}:{line} {format} {name}").unwrap();
        let fields = deployment.as_object().unwrap().iter();
        let heading = |key: &&String| ["name", "file", "line", "format"].contains(&key.as_str());
        for (key, value) in fields.filter(|(key, value)| !heading(key) && is_declared(value)) {
            writeln!(text, "  {key}: {}", plain(value)).unwrap();
        }
    }
    for finding in report["findings"].as_array().unwrap() {
        if OF_READERS.contains(&finding["rule"].as_str().unwrap()) {
            let place = match finding["start"]["line"].as_u64() {
                Some(line) => format!("{}:{line}", plain(&finding["file"])),
                None => plain(&finding["file"]),
            };
            let (severity, rule) = (plain(&finding["severity"]), plain(&finding["rule"]));
            let silenced = finding["suppressed"].as_str();
            let silenced = silenced.map_or_else(String::new, |reason| format!(" (suppressed: {reason})"));
            let message = plain(&finding["message"]);
            writeln!(text, "{severity}[{rule}] {place}: {message}{silenced}").unwrap();
        }
    }
    text
}

#[test]
fn every_case_reads_as_stands_beside_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let cases: Vec<PathBuf> = folders(&root).iter().flat_map(|format| folders(format)).collect();
    let mut wrong = Vec::new();
    for case in cases {
        let read = listing(&report(&case));
        let file = case.join("expected.txt");
        if update {
            std::fs::write(&file, &read).unwrap();
        }
        let expected = std::fs::read_to_string(&file)
            .unwrap_or_default()
            .replace("\r\n", "\n");
        if expected != read {
            let case = case.strip_prefix(&root).unwrap().display();
            wrong.push(format!("{case} reads as\n{read}\ninstead of\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
