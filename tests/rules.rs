//! Every rule's trees: `tests/rules/<rule-id>/fail-<case>/` must make the rule speak, `pass-<case>/` must not, and
//! what the tool prints of a tree stands beside it in `expected.txt`.
//!
//! After a change of words, `UPDATE_EXPECTED=1 cargo test --test rules` writes the files anew; read the diff.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use rayon::prelude::*;

use oomlint::trees::{Tree, Verdict, discover};

fn trees() -> Vec<Tree> {
    discover(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules")).unwrap()
}

#[test]
fn every_tree_says_what_stands_beside_it() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let program = Path::new(env!("CARGO_BIN_EXE_oomlint"));
    let judge = |tree: &Tree| {
        let name = format!("{}/{}", tree.rule, tree.case);
        match tree.judge(program, None, update).unwrap() {
            Verdict::Wrong(why) => Some(format!("{name}: {why}")),
            _ if !tree.has_expected() => Some(format!("{name} has no expected.txt")),
            Verdict::Right | Verdict::Updated => None,
        }
    };
    let wrong: Vec<String> = trees().par_iter().filter_map(judge).collect();
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
