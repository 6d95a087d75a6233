//! Pages of `docs/` that are made from rules and facts: each is what the program would make of it today.
//!
//! After a change, `UPDATE_EXPECTED=1 cargo test --test docs` writes them anew; read the diff.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oomlint::rule::{Rules, page};

/// Every page by its path in `docs/`.
fn pages() -> BTreeMap<PathBuf, String> {
    let rules = Rules::builtin();
    let mut pages: BTreeMap<PathBuf, String> = rules
        .iter()
        .map(|rule| (PathBuf::from(format!("rules/{}.md", rule.id)), rule.explain()))
        .collect();
    pages.insert("rules/README.md".into(), page::index(rules));
    pages.insert("facts.md".into(), page::facts(None));
    pages
}

#[test]
fn pages_are_what_the_program_makes_of_them() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = pages();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let _ = std::fs::remove_dir_all(docs.join("rules"));
        std::fs::create_dir_all(docs.join("rules")).unwrap();
        for (path, text) in &pages {
            std::fs::write(docs.join(path), text).unwrap();
        }
    }
    let mut stale = Vec::new();
    for (path, text) in &pages {
        let there = std::fs::read_to_string(docs.join(path)).unwrap_or_default();
        if there.replace("\r\n", "\n") != *text {
            stale.push(path.display().to_string());
        }
    }
    for entry in std::fs::read_dir(docs.join("rules")).unwrap() {
        let path = Path::new("rules").join(entry.unwrap().file_name());
        if !pages.contains_key(&path) {
            stale.push(format!("{} is no rule's", path.display()));
        }
    }
    assert_eq!(
        stale,
        Vec::<String>::new(),
        "stale pages; `UPDATE_EXPECTED=1 cargo test --test docs` writes them anew"
    );
}
