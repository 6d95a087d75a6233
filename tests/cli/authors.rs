//! For those who write rules: what they are told of a rule that is not one, `explain`, `test` and `init`.

use std::fmt::Write;

use super::{oomlint, write};

/// A rule file that loads, with lines replaced or added.
fn told(lines: &str) -> super::Ran {
    let folder = tempfile::tempdir().unwrap();
    let mut rule = "id: mine\nseverity: error\nscope: deployment\n".to_owned();
    for (key, line) in [
        ("when:", "when: deployment.name == 'x'\n"),
        ("message:", "message: found\n"),
    ] {
        if !lines.contains(key) {
            rule.push_str(line);
        }
    }
    write(folder.path(), "rules/mine.yaml", rule + lines);
    oomlint(
        folder.path(),
        &["check", ".", "--rules", "rules", "--color", "never"],
    )
}

#[test]
fn each_mistake_in_a_rule_is_drawn_at_its_characters_and_ends_the_run() {
    let mistakes = [
        ("a misspelt setting", "when: setting.tensor_paralel > 1\n"),
        ("a misspelt fact", "when: deployment.nam == 'x'\n"),
        ("a wrong unit", "message: \"{deployment.memory_fraction:GiB}\"\n"),
        ("an unknown key", "mesage: x\n"),
        ("no condition", "when: setting.tensor_parallel + 1\n"),
        (
            "a loop in a loop",
            "when: deployment.args.all(a, deployment.settings.exists(b, a == b))\n",
        ),
        (
            "types that do not match",
            "when: setting.tensor_parallel == 'two'\n",
        ),
        ("a fact of another scope", "when: machine.count > 1\n"),
        ("no release", "when: version_at_least('newest')\n"),
        (
            "a release that is worked out",
            "when: version_at_least(engine.version)\n",
        ),
        ("a fix that is none", "fix: {setting: x}\n"),
        ("a fix with another key", "fix: {remove: setting.dtype, to: x}\n"),
        (
            "a fix of the wrong type",
            "fix: {set: setting.tensor_parallel, to: \"'two'\"}\n",
        ),
        ("a flag that is none", "fix: {insert_arg: max-model-len}\n"),
        ("a fix for a list", "fix: {set: deployment.args, to: \"'x'\"}\n"),
    ];
    let mut all = String::new();
    for (what, lines) in mistakes {
        let ran = told(lines);
        assert_eq!(ran.code, 2, "{what}: {}{}", ran.out, ran.err);
        let _ = writeln!(all, "== {what}\n{}{}", ran.out, ran.err);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn facts_are_listed_with_type_and_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let all = oomlint(folder.path(), &["explain", "--facts"]);
    assert_eq!(all.code, 0);
    for line in [
        "- `engine.version_known` (bool)",
        "- `estimate.kv_cache_bytes` (double, bytes)",
        "- `tensor_parallel` (int): vllm `--tensor-parallel-size`",
        "- `given.<id>`",
    ] {
        assert!(all.out.contains(line), "{line}");
    }
    let some = oomlint(folder.path(), &["explain", "--facts", "tensor_parallel"]);
    assert!(
        some.out.len() < 2500 && some.out.contains("deployment.tensor_parallel"),
        "{}",
        some.out
    );
    assert_eq!(oomlint(folder.path(), &["explain"]).code, 2);
}

#[test]
fn a_first_rule_is_written_once_and_its_trees_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(oomlint(path, &["init"]).code, 0);
    let again = oomlint(path, &["init"]);
    assert_eq!(again.code, 2);
    assert!(
        again.err.contains("is there already; nothing was written"),
        "{}",
        again.err
    );
    let ran = oomlint(path, &["test"]);
    assert_eq!(
        (ran.code, ran.out.lines().last()),
        (0, Some("2 of 2 trees as expected"))
    );
    // The trees are wrong on purpose: a check of the repository passes them by.
    assert_eq!(oomlint(path, &["check", "--allow-empty"]).code, 0);
    // The rule itself is in force.
    write(
        path,
        "deploy.yaml",
        "oomlint: 1\ndeployments:\n  - {name: a, model: m, engine: vllm}\n",
    );
    assert!(
        oomlint(path, &["check"])
            .out
            .contains("a does not say which release of vllm it runs")
    );
}

#[test]
fn a_tree_that_is_not_as_expected_is_told_with_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    oomlint(path, &["init"]);
    assert!(
        oomlint(path, &["test", "--update"])
            .out
            .contains("2 written anew")
    );
    assert_eq!(oomlint(path, &["test"]).code, 0);
    let tree = "oomlint-rules/tests/engine-version-is-declared";
    let text = std::fs::read_to_string(path.join(tree).join("fail-no-version/oomlint.yaml")).unwrap();
    write(
        path,
        &format!("{tree}/fail-no-version/oomlint.yaml"),
        text.replace("name: chat", "name: talk"),
    );
    let ran = oomlint(path, &["test"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out
            .contains("FAIL engine-version-is-declared/fail-no-version\n--- expected.txt"),
        "{}",
        ran.out
    );
    write(path, &format!("{tree}/pass-version/oomlint.yaml"), text);
    assert!(
        oomlint(path, &["test"])
            .out
            .contains("`engine-version-is-declared` speaks here")
    );
    assert_eq!(oomlint(path, &["test", "nowhere"]).code, 2);
    std::fs::create_dir(path.join("empty")).unwrap();
    assert_eq!(oomlint(path, &["test", "empty"]).code, 2);
}

#[test]
fn a_rule_about_settings_needs_neither_machine_nor_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let rule = "id: mine\nseverity: error\nscope: deployment\n\
                when: engine.name == 'vllm' && effective.max_sequences > 100 && !given.enforce_eager\n\
                message: \"{effective.max_sequences} sequences, tensor parallel {setting.tensor_parallel}\"\n\
                labels: {effective.max_sequences: here, setting.tensor_parallel: of this}\n";
    write(path, "rules/mine.yaml", rule);
    let check = |args: &str| {
        write(
            path,
            "a.yaml",
            format!("oomlint: 1\ndeployments:\n  - {{name: a, model: org/x, engine: vllm, args: {args}}}\n"),
        );
        let ran = oomlint(
            path,
            &[
                "check", "a.yaml", "--rules", "rules", "--select", "mine", "--output", "short",
            ],
        );
        (ran.out, ran.code)
    };
    assert_eq!(
        check("[-tp, \"2\", --max-num-seqs, \"256\"]"),
        (
            "a.yaml:3:76: error[mine]: 256 sequences, tensor parallel 2\n".to_owned(),
            1
        )
    );
    assert_eq!(check("[-tp, \"2\", --max-num-seqs, \"64\"]").1, 0);
    assert_eq!(
        check("[-tp, \"2\", --max-num-seqs, \"256\", --enforce-eager]").1,
        0
    );
    assert_eq!(
        check("[-tp, \"$TP\", --max-num-seqs, \"256\"]").1,
        0,
        "a variable is no number to print"
    );
}
