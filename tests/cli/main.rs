//! The program from outside: hostile trees, exit codes, settings, and the same bytes on any number of threads.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod adoption;
mod authors;
mod fixes;
mod hostile;
mod settings;

use std::path::Path;
use std::process::{Command, Stdio};

/// What a run printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    out: String,
    err: String,
    code: i32,
}

/// Runs the program in a folder, without the settings of the environment.
fn oomlint(folder: &Path, arguments: &[&str]) -> Ran {
    oomlint_with(folder, arguments, b"")
}

fn oomlint_with(folder: &Path, arguments: &[&str], stdin: &[u8]) -> Ran {
    use std::io::Write;
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomlint"));
    command.args(arguments).current_dir(folder);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OOMLINT_")) {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(!err.contains("panicked"), "{err}");
    Ran {
        out: String::from_utf8(output.stdout).unwrap(),
        err,
        code: output.status.code().unwrap(),
    }
}

/// The report of a run as JSON.
fn report(folder: &Path, arguments: &[&str]) -> (serde_json::Value, i32) {
    let ran = oomlint(folder, &[arguments, &["--output", "json"]].concat());
    let json =
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.err));
    (json, ran.code)
}

/// `rule path:line` of every finding.
fn findings(report: &serde_json::Value) -> Vec<String> {
    let place = |finding: &serde_json::Value| match finding["start"]["line"].as_u64() {
        Some(line) => format!("{}:{line}", finding["file"].as_str().unwrap()),
        None => finding["file"].as_str().unwrap_or("").to_owned(),
    };
    let all = report["findings"].as_array().unwrap().iter();
    all.map(|finding| format!("{} {}", finding["rule"].as_str().unwrap(), place(finding)))
        .collect()
}

/// Writes a file and the folders above it.
fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A small model of 32 layers with 8 KV heads of 128: 128 KiB a token.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
 "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
 "head_dim": 128, "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16"}"#;

/// A manifest of one deployment that fits.
const FITS: &str = "oomlint: 1\ndeployments:\n  - {name: good, model: m, machines: [m4-24gb], context: 8k}\n";

#[test]
fn one_thread_and_many_print_the_same_bytes_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..12 {
        write(folder.path(), &format!("models/m{number}/config.json"), CONFIG);
        let machines = "[m4-16gb, m4-24gb, l4, a100-sxm-80gb, nonsense]";
        let manifest = format!(
            "oomlint: 1\ndeployments:\n  - {{model: models/m{number}, machines: {machines}, context: [8k, 128k, 256k]}}\n  \
             - {{model: models/none{number}, machines: [l4]}}\n"
        );
        write(folder.path(), &format!("deploy/{number}.yaml"), manifest);
    }
    for format in ["human", "short", "json", "sarif", "github", "markdown"] {
        let one = oomlint(
            folder.path(),
            &["check", ".", "--threads", "1", "--output", format],
        );
        assert_eq!(one.code, 1);
        for threads in ["2", "7"] {
            let many = oomlint(
                folder.path(),
                &["check", ".", "--threads", threads, "--output", format],
            );
            assert_eq!(timeless(&one), timeless(&many), "{format} on {threads} threads");
        }
    }
}

/// What a run printed, without the one figure that is no function of its input: how long it took.
fn timeless(run: &Ran) -> (i32, String, &str) {
    let field = "\"duration_ms\":";
    let text = match run.out.split_once(field) {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
            format!("{before}{field}{rest}")
        }
        None => run.out.clone(),
    };
    (run.code, text, &run.err)
}

#[test]
fn exit_codes_tell_clean_findings_failure_and_nothing_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(oomlint(path, &[]).code, 3, "nothing to check");
    assert_eq!(oomlint(path, &["check", "--allow-empty"]).code, 0);
    write(path, "m/config.json", CONFIG);
    write(path, "deploy.yaml", FITS);
    assert_eq!(oomlint(path, &[]).code, 0, "clean");
    write(
        path,
        "deploy.yaml",
        FITS.replace("8k", "130k").replace("24gb", "16gb"),
    );
    assert_eq!(oomlint(path, &[]).code, 1, "findings");
    assert_eq!(oomlint(path, &["check", "--fail-on", "never"]).code, 0);
    assert_eq!(
        oomlint(path, &["check", "nowhere"]).code,
        2,
        "a path that does not exist"
    );
    assert_eq!(oomlint(path, &["check", "--no-such-flag"]).code, 2, "usage");
    assert_eq!(oomlint(path, &["check", "--select", "no-such-rule"]).code, 2);
    assert_eq!(
        oomlint(path, &["check", "--output", "json=no/such/folder/x.json"]).code,
        2
    );
    assert_eq!(
        oomlint(path, &["--version"]).out,
        format!("oomlint {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_named_path_that_is_missing_is_said_and_the_rest_is_still_checked() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m/config.json", CONFIG);
    write(folder.path(), "deploy.yaml", FITS.replace("8k", "100000k"));
    let (report, code) = report(folder.path(), &["check", "nowhere.yaml", "deploy.yaml"]);
    assert_eq!(code, 2);
    let found = findings(&report);
    assert!(
        found.contains(&"file-unreadable nowhere.yaml".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"recommended-quantization-does-not-fit deploy.yaml:3".to_owned()),
        "{found:?}"
    );
}

#[test]
fn a_manifest_comes_from_the_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m/config.json", CONFIG);
    let ran = oomlint_with(
        folder.path(),
        &["check", "-", "--output", "short"],
        FITS.replace("8k", "900k").as_bytes(),
    );
    assert_eq!(ran.code, 1);
    assert!(ran.out.starts_with("<stdin>:3:"), "{}", ran.out);
}

#[test]
fn several_reports_are_written_in_one_run() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m/config.json", CONFIG);
    write(folder.path(), "deploy.yaml", FITS.replace("8k", "900k"));
    let outputs = [
        "--output",
        "github",
        "--output",
        "sarif=a.sarif",
        "--output",
        "markdown=a.md",
        "--output",
        "json=a.json",
    ];
    let ran = oomlint(folder.path(), &[&["check"], &outputs[..]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.out.starts_with("::error "), "{}", ran.out);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("a.sarif").contains("\"2.1.0\""));
    assert!(read("a.md").contains("recommended-quantization-does-not-fit"));
    assert!(read("a.json").contains("\"schema_version\""));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_oomlint"))
        .arg("machines")
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
