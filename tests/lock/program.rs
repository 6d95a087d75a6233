//! The program itself: names from manifests, what it prints, how it ends. Only faults that are final, since the
//! program's own clock really waits.

use std::path::Path;
use std::process::{Command, Stdio};

use super::server::{Fault, File, Server};
use super::{CONFIG, TOKEN, gguf};

struct Ran {
    out: String,
    err: String,
    code: i32,
}

/// Runs the program in a folder with nothing in its environment but the hub and the token.
fn oomlint(folder: &Path, server: &Server, arguments: &[&str]) -> Ran {
    oomlint_with(folder, server, arguments, &[])
}

fn oomlint_with(folder: &Path, server: &Server, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomlint"));
    command.args(arguments).current_dir(folder).env_clear();
    command
        .env("HOME", folder)
        .env("HF_ENDPOINT", server.endpoint())
        .env("HF_TOKEN", TOKEN);
    command.envs(variables.iter().copied());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let ran = Ran {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    };
    let all = format!("{}{}", ran.out, ran.err);
    assert!(!all.contains("panicked"), "{all}");
    assert!(!all.contains(TOKEN), "the token was printed: {all}");
    assert!(
        !all.contains('\r') && !all.contains('\x1b'),
        "a bar without a terminal: {all:?}"
    );
    ran
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A hub with two models, and a tree that names them, one of its own and one that is no name.
fn tree() -> (Server, tempfile::TempDir) {
    let server = Server::start();
    for (name, digit) in [("org/a", 'a'), ("org/b", 'b')] {
        let files = [
            ("config.json", File::text(CONFIG)),
            (
                "model.safetensors",
                File::safetensors(&[("model.norm.weight", &[8])]),
            ),
        ];
        server.publish(name, digit, &files);
    }
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "models/own/config.json", CONFIG);
    write(
        folder.path(),
        "deploy/all.yaml",
        "oomlint: 1\ndeployments:\n  - {name: a, model: org/a, engine: vllm, machines: [l4]}\n  - {name: b, model: \
         org/b, machines: [l4]}\n  - {name: own, model: ../models/own, machines: [l4]}\n  - {name: tag, model: \
         \"mannix/llama3.1:8b\", engine: ollama, machines: [l4]}\n",
    );
    (server, folder)
}

#[test]
fn the_hub_names_of_a_tree_are_locked_and_the_second_run_asks_nothing() {
    let (server, folder) = tree();
    let ran = oomlint(folder.path(), &server, &["lock"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(
        ran.out,
        "locked org/a at aaaaaaa\nlocked org/b at bbbbbbb\noomlint.lock holds 2 models\n\
         the models of 1 deployment lie in the tree and need no lock\n\
         the models of 1 deployment are paths or names of another store\n"
    );
    let text = std::fs::read(folder.path().join("oomlint.lock")).unwrap();
    server.take_paths();
    let again = oomlint_with(folder.path(), &server, &["lock"], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(
        (again.code, again.err.as_str()),
        (0, ""),
        "nothing is asked, so offline is no hindrance"
    );
    assert!(again.out.contains("holds 2 models already"), "{}", again.out);
    assert!(server.take_paths().is_empty());
    assert_eq!(std::fs::read(folder.path().join("oomlint.lock")).unwrap(), text);
    assert!(!String::from_utf8(text).unwrap().contains(TOKEN));
}

#[test]
fn one_failure_is_told_with_exit_code_2_and_the_rest_is_locked() {
    let (server, folder) = tree();
    server.fail("org/b/resolve", [Fault::Always(Box::new(Fault::Status(403, "")))]);
    let ran = oomlint(folder.path(), &server, &["lock"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.starts_with("oomlint: config.json of org/b: 127.0.0.1"),
        "{}",
        ran.err
    );
    assert!(
        ran.err.contains("answered 403") && ran.err.lines().count() == 1,
        "{}",
        ran.err
    );
    assert!(ran.out.contains("locked org/a"), "{}", ran.out);
    assert!(
        ran.out.contains("1 of 2 models could not be locked"),
        "{}",
        ran.out
    );
    server.recover();
    let ran = oomlint(folder.path(), &server, &["lock"]);
    assert_eq!(
        (ran.code, ran.out.lines().next()),
        (0, Some("locked org/b at bbbbbbb"))
    );
}

#[test]
fn a_name_on_the_command_line_needs_no_manifest_and_an_update_moves_it() {
    let (server, folder) = tree();
    let lock = folder.path().join("other.lock");
    let arguments = ["lock", "--model", "org/a", "--lock", "other.lock"];
    let ran = oomlint(folder.path(), &server, &arguments);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "locked org/a at aaaaaaa\nother.lock holds 1 model\n")
    );
    assert!(!std::fs::read_to_string(&lock).unwrap().contains("org/b"));
    server.publish("org/a", 'c', &[("config.json", File::text(CONFIG))]);
    let ran = oomlint(folder.path(), &server, &[&arguments[..], &["--update"]].concat());
    assert!(
        ran.out.starts_with("moved org/a from aaaaaaa to ccccccc\n"),
        "{}",
        ran.out
    );
}

#[test]
fn a_record_that_no_manifest_names_is_mentioned_and_kept() {
    let (server, folder) = tree();
    oomlint(folder.path(), &server, &["lock"]);
    let manifest = "oomlint: 1\ndeployments: [{name: a, model: org/a, machines: [l4]}]\n";
    write(folder.path(), "deploy/all.yaml", manifest);
    let ran = oomlint(folder.path(), &server, &["lock"]);
    assert!(
        ran.out.contains("no deployment here names org/b, locked before"),
        "{}",
        ran.out
    );
    assert!(
        std::fs::read_to_string(folder.path().join("oomlint.lock"))
            .unwrap()
            .contains("org/b")
    );
}

#[test]
fn the_lock_of_the_repository_is_found_from_a_folder_inside() {
    let (server, folder) = tree();
    std::fs::create_dir(folder.path().join(".git")).unwrap();
    oomlint(folder.path(), &server, &["lock"]);
    oomlint(
        &folder.path().join("deploy"),
        &server,
        &["lock", "--model", "org/b", "--update"],
    );
    assert!(!folder.path().join("deploy/oomlint.lock").exists());
}

#[test]
fn offline_and_bad_settings_of_the_hub_are_told_in_words() {
    let (server, folder) = tree();
    for (variable, value, words) in [
        (
            "HF_HUB_OFFLINE",
            "1",
            "HF_HUB_OFFLINE says that there is to be no network",
        ),
        ("HF_ENDPOINT", "ftp://hub", "HF_ENDPOINT is not an address"),
        ("HF_TOKEN", "hf_TheSecret OfThisTest", "HF_TOKEN holds no token"),
        (
            "SSL_CERT_FILE",
            "/no/such/file",
            "SSL_CERT_FILE names a file that cannot be read",
        ),
    ] {
        let ran = oomlint_with(folder.path(), &server, &["lock"], &[(variable, value)]);
        assert_eq!(ran.code, 2, "{variable}");
        assert!(ran.err.contains(words), "{}", ran.err);
        assert!(!folder.path().join("oomlint.lock").exists());
    }
}

#[test]
fn nothing_to_lock_ends_with_3_and_broken_names_with_2() {
    let (server, folder) = tree();
    let empty = tempfile::tempdir().unwrap();
    let ran = oomlint(empty.path(), &server, &["lock"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (3, "no deployment names a model of the hub\n")
    );
    assert_eq!(oomlint(folder.path(), &server, &["lock", "nowhere"]).code, 2);
    for name in ["/models/a", "org/a@", "a b/c", "../a"] {
        let ran = oomlint(folder.path(), &server, &["lock", "--model", name]);
        assert_eq!(ran.code, 2, "{name}");
    }
    assert!(server.take_paths().is_empty());
}

#[test]
fn a_broken_manifest_beside_good_ones_does_not_pass_for_all() {
    let (server, folder) = tree();
    write(
        folder.path(),
        "deploy/broken.yaml",
        "oomlint: 1\ndeployments: [\n",
    );
    let ran = oomlint(folder.path(), &server, &["lock"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("deploy/broken.yaml"), "{}", ran.err);
    assert!(ran.out.contains("locked org/a"), "{}", ran.out);
}

#[test]
fn a_path_that_the_settings_explain_is_locked_by_the_name_they_give() {
    let (server, folder) = tree();
    write(
        folder.path(),
        ".oomlint.yaml",
        "models: {\"/models/a-tuned\": org/a, \"team/tag:8b\": org/b}\n",
    );
    let manifest = "oomlint: 1\ndeployments:\n  - {model: /models/a-tuned, machines: [l4]}\n  \
                    - {model: \"team/tag:8b\", engine: ollama, machines: [l4]}\n";
    write(folder.path(), "deploy/all.yaml", manifest);
    let ran = oomlint(folder.path(), &server, &["lock"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        ran.out,
        "locked org/a at aaaaaaa\nlocked org/b at bbbbbbb\noomlint.lock holds 2 models\n"
    );
}

#[test]
fn what_is_locked_is_what_every_other_command_sizes_offline() {
    let (server, folder) = tree();
    let files = [
        ("m-Q4_K_M.gguf", gguf::file(10, 1 << 20)),
        ("m-Q8_0.gguf", gguf::file(10, 1 << 21)),
    ];
    server.publish("org/m-GGUF", 'd', &files);
    let manifest = |names: [&str; 4]| {
        let lines =
            names.map(|name| format!("  - {{model: \"{name}\", engine: llama.cpp, machines: [l4]}}\n"));
        format!("oomlint: 1\ndeployments:\n{}", lines.concat())
    };
    let names = ["org/a", "org/m-GGUF:Q8_0", "org/m-GGUF:q4_k_m", "org/nowhere"];
    write(folder.path(), "deploy/all.yaml", &manifest(names));
    server.fail("org/nowhere", [Fault::Always(Box::new(Fault::Status(404, "")))]);
    assert_eq!(oomlint(folder.path(), &server, &["lock"]).code, 2);
    server.take_paths();
    // Of the whole repository or of a folder of it: the lock is the same.
    for path in [".", "deploy"] {
        let ran = oomlint(folder.path(), &server, &["check", path, "--output", "json"]);
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let models = report["models"].as_array().unwrap().iter();
        let told: Vec<_> = models
            .filter(|model| model["source"] == "lock")
            .map(|model| {
                let text = |key: &str| model[key].as_str().unwrap_or("-").to_owned();
                (
                    text("name"),
                    model["weight_bytes"].as_u64().unwrap(),
                    text("quantization"),
                )
            })
            .collect();
        let row = |name: &str, bytes, mix: &str| (name.to_owned(), bytes, mix.to_owned());
        let expected = [
            row("org/a", 16, "-"),
            row("org/m-GGUF", 1 << 28, "q8_0"),
            row("org/m-GGUF", 1 << 27, "q4_K_M"),
        ];
        assert_eq!(told, expected, "{path}");
        assert!(report["scenarios"].as_array().unwrap().len() >= 3, "{}", ran.out);
    }
    let ran = oomlint(folder.path(), &server, &["inspect", "org/m-GGUF:Q8_0"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(server.take_paths().is_empty(), "only `lock` asks");
}

#[test]
fn completions_and_schemas_are_printed_whole() {
    let (server, folder) = tree();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = oomlint(folder.path(), &server, &["completions", shell]);
        assert!(
            ran.code == 0 && ran.out.contains("inspect"),
            "{shell}: {}",
            ran.err
        );
    }
    assert_eq!(oomlint(folder.path(), &server, &["completions", "tcl"]).code, 2);
    let ran = oomlint(folder.path(), &server, &["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!(schema["properties"]["findings"].is_object());
    let ran = oomlint(folder.path(), &server, &["schema", "nonsense"]);
    assert!(
        ran.code == 2 && ran.err.contains("there is report"),
        "{}",
        ran.err
    );
}
