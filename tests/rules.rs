//! Every rule's trees: `tests/rules/<rule-id>/fail-<case>/` must make the rule speak, `pass-<case>/` must not, and
//! what the tool prints of a tree stands beside it in `expected.txt`.
//!
//! After a change of words, `UPDATE_EXPECTED=1 cargo test --test rules` writes the files anew; read the diff.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One tree and what it is for.
struct Tree {
    rule: String,
    case: String,
    folder: PathBuf,
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(of)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn trees() -> Vec<Tree> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let mut trees = Vec::new();
    for rule in folders(&root) {
        for folder in folders(&rule) {
            trees.push(Tree {
                rule: name(&rule),
                case: name(&folder),
                folder,
            });
        }
    }
    trees
}

/// What the tool prints of a tree, and the rules that spoke.
fn check(tree: &Tree) -> (String, BTreeSet<String>) {
    // A tree is checked as a whole, unless a file `paths` names what to check.
    let paths = std::fs::read_to_string(tree.folder.join("paths")).unwrap_or_else(|_| ".".to_owned());
    let run = |format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oomlint"));
        command
            .arg("check")
            .args(paths.split_whitespace())
            .args(["--color", "never", "--output", format])
            .current_dir(&tree.folder);
        for variable in [
            "OOMLINT_OUTPUT",
            "OOMLINT_MACHINE",
            "OOMLINT_CONTEXT",
            "OOMLINT_CONFIG",
            "OOMLINT_FAIL_ON",
        ] {
            command.env_remove(variable);
        }
        let output = command.output().unwrap();
        let code = output.status.code().unwrap();
        assert!(code <= 3, "{}/{} ended with {code}", tree.rule, tree.case);
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
            code,
        )
    };
    let (human, errors, code) = run("human");
    let (json, ..) = run("json");
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rules = report["findings"].as_array().unwrap().iter();
    let rules = rules.filter(|finding| finding["suppressed"] != true && !finding["suppressed"].is_string());
    let spoke = rules
        .map(|finding| finding["rule"].as_str().unwrap().to_owned())
        .collect();
    (format!("{human}{errors}exit {code}\n"), spoke)
}

#[test]
fn every_tree_says_what_stands_beside_it() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = Vec::new();
    for tree in trees() {
        let (printed, spoke) = check(&tree);
        let fails = tree.case.starts_with("fail-");
        assert!(
            fails || tree.case.starts_with("pass-"),
            "{}/{} is neither fail nor pass",
            tree.rule,
            tree.case
        );
        if spoke.contains(&tree.rule) != fails {
            wrong.push(format!(
                "{}/{}: the rules that spoke are {spoke:?}",
                tree.rule, tree.case
            ));
        }
        let file = tree.folder.join("expected.txt");
        if update {
            std::fs::write(&file, &printed).unwrap();
        }
        let expected = std::fs::read_to_string(&file)
            .unwrap_or_default()
            .replace("\r\n", "\n");
        if expected != printed {
            wrong.push(format!(
                "{}/{} prints\n{printed}\ninstead of\n{expected}",
                tree.rule, tree.case
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_rule_has_a_tree_that_fails_and_one_that_passes() {
    let trees = trees();
    for rule in oomlint::rule::Rules::builtin().ids() {
        for kind in ["fail-", "pass-"] {
            let has = trees
                .iter()
                .any(|tree| tree.rule == rule && tree.case.starts_with(kind));
            assert!(has, "{rule} has no {kind} tree");
        }
    }
}
