//! The settings file and the flags that lie over it.

use super::{CONFIG, FITS, findings, oomlint, report, write};

/// A tree whose deployment asks for too much.
fn failing() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m/config.json", CONFIG);
    write(
        folder.path(),
        "deploy.yaml",
        FITS.replace("24gb", "16gb").replace("8k", "128k"),
    );
    folder
}

const RULE: &str = "recommended-quantization-does-not-fit";

#[test]
fn severities_and_ignores_come_from_the_file_and_flags_go_before_it() {
    let folder = failing();
    assert_eq!(oomlint(folder.path(), &[]).code, 1);
    write(
        folder.path(),
        ".oomlint.yaml",
        format!("severity: {{{RULE}: warning}}\n"),
    );
    assert_eq!(oomlint(folder.path(), &[]).code, 0);
    assert_eq!(
        oomlint(folder.path(), &["check", "--severity", &format!("{RULE}=error")]).code,
        1
    );
    write(
        folder.path(),
        ".oomlint.yaml",
        format!("severity: {{{RULE}: off}}\n"),
    );
    let (clean, _) = report(folder.path(), &["check"]);
    assert_eq!(findings(&clean), Vec::<String>::new());
    write(
        folder.path(),
        ".oomlint.yaml",
        format!("ignore:\n  - {{rule: {RULE}, path: \"deploy*\", reason: agreed}}\n"),
    );
    let (ignored, code) = report(folder.path(), &["check"]);
    assert_eq!((code, ignored["summary"]["suppressed"].as_u64()), (0, Some(1)));
    write(
        folder.path(),
        ".oomlint.yaml",
        format!("ignore:\n  - {{rule: {RULE}, path: \"other*\", reason: agreed}}\n"),
    );
    assert_eq!(oomlint(folder.path(), &[]).code, 1);
}

#[test]
fn a_comment_suppresses_on_its_line_or_the_line_above() {
    let folder = failing();
    let manifest = format!(
        "oomlint: 1\ndeployments:\n  - name: chat\n    model: m\n    machines: [m4-16gb]\n    \
         # oomlint: ignore[{RULE}] swap is fine here\n    context: 128k\n"
    );
    write(folder.path(), "deploy.yaml", manifest);
    let (report, code) = report(folder.path(), &["check"]);
    assert_eq!((code, report["summary"]["suppressed"].as_u64()), (0, Some(1)));
    assert_eq!(report["findings"][0]["rule"], RULE);
}

#[test]
fn model_roots_machines_and_defaults_fill_what_manifests_leave_open() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "store/org/big/config.json", CONFIG);
    write(
        folder.path(),
        "repo/deploy.yaml",
        "oomlint: 1\ndeployments:\n  - {model: org/big}\n",
    );
    let settings = "models: [../store]\nmachines: {lab: {memory: 8GiB, kind: apple-silicon, chip: m4}}\n\
                    machine: lab\ncontext: 64k\n";
    write(folder.path(), "repo/.oomlint.yaml", settings);
    let (report, code) = report(&folder.path().join("repo"), &["check"]);
    assert_eq!(code, 1);
    let cell = &report["scenarios"][0];
    assert_eq!(
        (cell["machine"].as_str(), cell["context"].as_u64()),
        (Some("lab"), Some(65_536))
    );
    let flags = [
        "check",
        "--machine",
        "m4-max-64gb",
        "--context",
        "1k",
        "--output",
        "json",
    ];
    assert_eq!(
        oomlint(&folder.path().join("repo"), &flags).code,
        0,
        "flags go before the file"
    );
}

#[test]
fn mistakes_in_the_settings_are_shown_at_their_place_and_nothing_is_checked() {
    let folder = failing();
    write(
        folder.path(),
        ".oomlint.yaml",
        "severty: {}\nseverity: {kv-cache-does-not-fti: error}\nfail-on: sometimes\n",
    );
    let ran = oomlint(folder.path(), &["check", "--output", "short"]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.out.lines().count(), 3, "{}", ran.out);
    assert!(
        ran.out.contains(".oomlint.yaml:1:1: error[unknown-key]"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains(".oomlint.yaml:2:12: error[value-invalid]"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains(".oomlint.yaml:3:10: error[value-invalid]"),
        "{}",
        ran.out
    );
}

#[test]
fn excluded_paths_are_never_read() {
    let folder = failing();
    write(folder.path(), ".oomlint.yaml", "exclude: [deploy.yaml]\n");
    let (report, _) = report(folder.path(), &["check"]);
    assert_eq!(report["summary"]["deployments"], 0);
}

#[test]
fn rules_of_a_team_are_applied_with_their_own_words() {
    let folder = failing();
    let rule = "id: no-long-contexts\ngroup: house\nseverity: warning\nscope: scenario\nsummary: Long contexts\n\
                when: scenario.context > 65536\nmessage: \"{scenario.context:tokens} are more than we serve\"\n\
                labels: {scenario.context: \"too long\"}\nwhy: Because.\n";
    write(folder.path(), "house/no-long-contexts.yaml", rule);
    let ran = oomlint(folder.path(), &["check", "--rules", "house", "--output", "short"]);
    assert!(
        ran.out
            .contains("warning[no-long-contexts]: 131,072 tokens are more than we serve"),
        "{}",
        ran.out
    );
    let ran = oomlint(
        folder.path(),
        &["explain", "no-long-contexts", "--rules", "house"],
    );
    assert!(ran.out.contains("Because."), "{}", ran.out);
}

#[test]
fn an_overhead_that_is_given_replaces_the_estimate_and_flags_go_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m/config.json", CONFIG);
    write(
        folder.path(),
        "deploy.yaml",
        "oomlint: 1\ndeployments:\n  - {name: chat, model: m, engine: vllm, machines: [h100-sxm-80gb], context: 8k}\n",
    );
    let bands = |arguments: &[&str]| {
        let (json, _) = report(folder.path(), &[&["check"], arguments].concat());
        let gib = |key: &str| json["scenarios"][0][key].as_u64().unwrap() >> 30;
        ["overhead_low_bytes", "overhead_bytes", "overhead_high_bytes"].map(gib)
    };
    assert_eq!(bands(&["--overhead", "7GiB"]), [7, 7, 7]);
    assert_eq!(bands(&["--overhead", "vllm=1GiB/2GiB/4GiB"]), [1, 2, 4]);
    assert_ne!(bands(&["--overhead", "mlx=7GiB"]), [7, 7, 7]);
    write(
        folder.path(),
        ".oomlint.yaml",
        "overhead:\n  vllm: {low: 3GiB, likely: 4GiB, high: 5GiB}\n",
    );
    assert_eq!(bands(&[]), [3, 4, 5]);
    assert_eq!(bands(&["--overhead", "7GiB"]), [7, 7, 7]);
    write(
        folder.path(),
        ".oomlint.yaml",
        "overhead: {low: 3GiB, likely: 2GiB}\n",
    );
    let wrong = oomlint(folder.path(), &["check", "--output", "short"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.out.contains("not an overhead"), "{}", wrong.out);
}
