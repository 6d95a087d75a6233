//! Worlds of a few small files, for the tests of the formats.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Declared, Deployment, Input, Parsed, World, normal, reader_of, text_reader};
use crate::source::Sources;
use crate::source::tree::Tree;

/// A world of files; those that end in `.env` are companions.
pub(super) fn world(files: &[(&str, &str)]) -> World {
    let sources = Arc::new(Sources::default());
    let (mut parsed, mut companions) = (Vec::new(), BTreeMap::new());
    for (path, text) in files {
        let source = sources.add(*path, *text);
        if path.rsplit('.').next() == Some("env") {
            companions.insert(normal(Path::new(path)), source);
            continue;
        }
        let tree = match text_reader(path) {
            Some(_) => Tree::default(),
            None => Tree::parse(&source),
        };
        parsed.push(Parsed {
            path: (*path).to_owned(),
            folder: Path::new(path).parent().unwrap().to_path_buf(),
            source,
            tree,
        });
    }
    World::new(sources, parsed, companions)
}

/// What one file of a world declares.
pub(super) fn read(world: &World, path: &str) -> Declared {
    let file = world.files().iter().find(|file| file.path == path).unwrap();
    if let Some(reader) = text_reader(path) {
        return reader(file, world);
    }
    let mut all = Declared::default();
    for document in &file.tree.documents {
        let input = Input {
            root: document.root(),
            file,
            world,
        };
        if let Some(reader) = reader_of(&input) {
            let mut declared = (reader.read)(&input);
            all.deployments.append(&mut declared.deployments);
            all.findings.append(&mut declared.findings);
        }
    }
    all
}

/// The deployments of a world of one file.
pub(super) fn deployments(path: &str, text: &str) -> Vec<Deployment> {
    read(&world(&[(path, text)]), path).deployments
}

/// The only deployment of a world of one file.
pub(super) fn one(path: &str, text: &str) -> Deployment {
    let mut found = deployments(path, text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// The words of a deployment, for short comparisons.
pub(super) fn words(deployment: &Deployment) -> Vec<&str> {
    deployment.args.iter().map(|word| word.value.as_str()).collect()
}

/// Texts that a careless or hostile hand made of another: each line left out, each value replaced.
pub(super) fn mutations(text: &str) -> Vec<String> {
    const VALUES: [&str; 10] = [
        "",
        "~",
        "[]",
        "{}",
        "[[1, {a: b}]]",
        "99999999999999999999",
        "-1",
        "'${X:-${Y:-'",
        "\"{{ .Values.x }}\"",
        "*nowhere",
    ];
    let lines: Vec<&str> = text.lines().collect();
    let mut all = vec![
        String::new(),
        text.replace('\n', "\r\n"),
        text.trim_end().to_owned(),
    ];
    for at in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(at);
        all.push(without.join("\n"));
        all.push(lines[..at].join("\n"));
        let Some((key, _)) = lines[at].split_once(':') else {
            continue;
        };
        for value in VALUES {
            let line = format!("{key}: {value}");
            let mut changed = lines.clone();
            changed[at] = &line;
            all.push(changed.join("\n"));
        }
    }
    all
}

/// Reads every mutation of a text: none may panic.
pub(super) fn survives(path: &str, text: &str) {
    assert!(
        !deployments(path, text).is_empty(),
        "the text itself declares something"
    );
    for mutation in mutations(text) {
        deployments(path, &mutation);
    }
}
