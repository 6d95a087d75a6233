//! Taking the linter up in a tree that has findings: baselines, changed lines, paths with settings of their own.

use std::path::Path;
use std::process::Command;

use super::{CONFIG, FITS, findings, oomlint, report, write};

const RULE: &str = "recommended-quantization-does-not-fit";

/// A tree whose one deployment asks for too much.
fn failing() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m/config.json", CONFIG);
    write(folder.path(), "deploy.yaml", manifest("chat"));
    folder
}

fn manifest(name: &str) -> String {
    FITS.replace("24gb", "16gb")
        .replace("8k", "128k")
        .replace("name: good", &format!("name: {name}"))
}

/// One more deployment of the same name: a second finding of the same kind.
fn twice() -> String {
    let one = manifest("chat");
    let (_, item) = one.split_once("deployments:\n").unwrap();
    format!("{one}{item}")
}

#[test]
fn a_baseline_hides_what_was_there_wherever_its_lines_go() {
    let folder = failing();
    let path = folder.path();
    assert_eq!(oomlint(path, &["check"]).code, 1);
    assert_eq!(
        oomlint(path, &["check", "--write-baseline", "known.json"]).code,
        0
    );
    let written = std::fs::read_to_string(path.join("known.json")).unwrap();
    assert!(
        written.contains("\"at\": \"scenario.context\"") && !written.contains("\"line\""),
        "{written}"
    );
    write(path, "deploy.yaml", format!("# moved\n\n\n{}", manifest("chat")));
    let (moved, code) = report(path, &["check", "--baseline", "known.json"]);
    assert_eq!(
        (code, moved["findings"][0]["suppressed"].as_str()),
        (0, Some("baseline"))
    );
    oomlint(
        path,
        &[
            "check",
            "--baseline",
            "known.json",
            "--write-baseline",
            "again.json",
        ],
    );
    assert_eq!(std::fs::read_to_string(path.join("again.json")).unwrap(), written);
}

#[test]
fn a_second_finding_of_a_kind_is_new_and_one_less_is_stale() {
    let folder = failing();
    let path = folder.path();
    oomlint(path, &["check", "--write-baseline", "one.json"]);
    write(path, "deploy.yaml", twice());
    assert_eq!(oomlint(path, &["check", "--baseline", "one.json"]).code, 1);
    oomlint(path, &["check", "--write-baseline", "two.json"]);
    assert!(
        std::fs::read_to_string(path.join("two.json"))
            .unwrap()
            .contains("\"count\": 2")
    );
    assert_eq!(oomlint(path, &["check", "--baseline", "two.json"]).code, 0);
    write(path, "deploy.yaml", manifest("chat"));
    let (stale, code) = report(path, &["check", "--baseline", "two.json"]);
    assert_eq!(code, 0);
    assert!(
        findings(&stale).contains(&"baseline-stale two.json".to_owned()),
        "{stale}"
    );
    let strict = oomlint(
        path,
        &[
            "check",
            "--baseline",
            "two.json",
            "--severity",
            "baseline-stale=error",
        ],
    );
    assert_eq!(strict.code, 1);
    // What was not looked at is not known to be gone.
    let (part, _) = report(path, &["check", "--baseline", "two.json", "--select", "fit"]);
    assert!(!findings(&part).contains(&"baseline-stale two.json".to_owned()));
}

#[test]
fn a_baseline_that_cannot_be_read_is_told_with_words() {
    let folder = failing();
    write(
        folder.path(),
        "broken.json",
        "{\"oomlint_baseline\": 1, \"finding\": []}",
    );
    for (file, words) in [
        ("missing.json", "cannot read the baseline"),
        ("broken.json", "is no baseline: unknown field"),
    ] {
        let ran = oomlint(folder.path(), &["check", "--baseline", file]);
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains(words), "{}", ran.err);
    }
}

fn git(folder: &Path, arguments: &[&str]) -> bool {
    Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(folder)
        .output()
        .is_ok_and(|output| output.status.success())
}

#[test]
fn only_findings_of_changed_lines_are_told_since_a_revision() {
    let folder = failing();
    let path = folder.path();
    if !git(path, &["init"]) {
        println!("no git here: nothing to test");
        return;
    }
    write(
        path,
        "old/deploy.yaml",
        manifest("old").replace("model: m", "model: ../m"),
    );
    assert!(git(path, &["add", "."]) && git(path, &["commit", "-m", "x"]));
    let told = |arguments: &[&str]| {
        let (report, _) = report(path, &[&["check", "--changed-since", "HEAD"], arguments].concat());
        findings(&report)
    };
    assert_eq!(told(&[]), Vec::<String>::new());
    write(path, "deploy.yaml", manifest("chat").replace("128k", "120k"));
    assert_eq!(told(&[]), [format!("{RULE} deploy.yaml:3")]);
    write(path, "new.yaml", manifest("new"));
    assert_eq!(told(&["new.yaml"]), [format!("{RULE} new.yaml:3")]);
    // The model of a deployment has changed: what is said of the deployment may have.
    write(path, "m/config.json", CONFIG.replace("4096", "4095"));
    assert!(
        told(&["old"])
            .iter()
            .any(|finding| finding.contains("old/deploy.yaml"))
    );
    for (revision, words) in [("nowhere", "git knows no revision"), ("--all", "is no revision")] {
        let ran = oomlint(path, &["check", &format!("--changed-since={revision}")]);
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains(words), "{}", ran.err);
    }
}

#[test]
fn a_folder_that_is_no_repository_is_told_with_words() {
    let folder = failing();
    let ran = oomlint(folder.path(), &["check", "--changed-since", "HEAD"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("git"), "{}", ran.err);
}

#[test]
fn paths_have_machines_and_contexts_of_their_own_and_the_command_line_goes_before_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "m/config.json", CONFIG);
    for place in ["edge", "lab"] {
        let manifest =
            format!("oomlint: 1\ndeployments:\n  - {{name: {place}, model: ../m, engine: vllm}}\n");
        write(path, &format!("{place}/deploy.yaml"), manifest);
    }
    let settings = "machine: h100-sxm-80gb\noverrides:\n  - {paths: [edge/], machine: l4, context: 4k}\n";
    write(path, ".oomlint.yaml", settings);
    let machines = |arguments: &[&str]| {
        let (report, _) = report(path, arguments);
        let cells = report["scenarios"].as_array().unwrap().clone();
        let cell =
            |cell: &serde_json::Value| format!("{} {}", cell["machine"].as_str().unwrap(), cell["context"]);
        cells.iter().map(cell).collect::<Vec<_>>()
    };
    let by_settings = machines(&["check"]);
    assert_eq!(by_settings[0], "l4 4096");
    assert!(by_settings[1].starts_with("h100-sxm-80gb "), "{by_settings:?}");
    let typed = machines(&["check", "--machine", "a100-sxm-80gb", "--context", "8k"]);
    assert_eq!(typed, ["a100-sxm-80gb 8192", "a100-sxm-80gb 8192"]);
}

#[test]
fn paths_have_severities_of_their_own_and_the_command_line_goes_before_them() {
    let folder = failing();
    let path = folder.path();
    write(
        path,
        "staging/deploy.yaml",
        manifest("staged").replace("model: m", "model: ../m"),
    );
    let settings = format!(
        "overrides:\n  - {{paths: [staging/], severity: {{{RULE}: info}}}}\n  - {{paths: [\"/deploy*\"], ignore: [fit]}}\n"
    );
    write(path, ".oomlint.yaml", settings);
    let (report, code) = report(path, &["check"]);
    assert_eq!(code, 0);
    let summary = &report["summary"];
    assert_eq!(
        (summary["errors"].as_u64(), summary["infos"].as_u64()),
        (Some(0), Some(1))
    );
    assert_eq!(findings(&report), [format!("{RULE} staging/deploy.yaml:3")]);
    assert_eq!(
        oomlint(path, &["check", "--severity", &format!("{RULE}=error")]).code,
        1
    );
    write(path, ".oomlint.yaml", "overrides:\n  - {severity: {x: off}}\n");
    let ran = oomlint(path, &["check"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.out.contains("an override needs the paths it is for"),
        "{}",
        ran.out
    );
}

#[test]
fn rules_are_chosen_by_id_group_and_beginning() {
    let folder = failing();
    let told =
        |arguments: &[&str]| findings(&report(folder.path(), &[&["check"], arguments].concat()).0).len();
    for names in [RULE, "fit", "recommended", "recommended-quantization", "recom*"] {
        assert_eq!(told(&["--select", names]), 1, "{names}");
        assert_eq!(told(&["--ignore", names]), 0, "{names}");
    }
    assert_eq!(told(&["--select", "files,kv-*"]), 0);
    for names in ["recom", "fitt", "zzz*"] {
        assert_eq!(
            oomlint(folder.path(), &["check", "--select", names]).code,
            2,
            "{names}"
        );
    }
    assert_eq!(
        oomlint(folder.path(), &["check", "--severity", "fit=warning"]).code,
        0
    );
}
