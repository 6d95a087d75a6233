use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fact::Fact;
use crate::manifest::{Declared, Deployment, Input, Parsed, World, reader_of};
use crate::source::Sources;
use crate::source::tree::Tree;

fn world(files: &[(&str, &str)]) -> World {
    let sources = Arc::new(Sources::default());
    let parsed = files.iter().map(|(path, text)| {
        let source = sources.add(*path, *text);
        let tree = Tree::parse(&source);
        Parsed {
            path: (*path).to_owned(),
            folder: Path::new(path).parent().unwrap().to_path_buf(),
            source,
            tree,
        }
    });
    let parsed = parsed.collect();
    World::new(Arc::clone(&sources), parsed, BTreeMap::new())
}

/// Everything that the documents of a world declare.
fn declared(world: &World) -> Vec<Deployment> {
    let mut all = Vec::new();
    for file in world.files() {
        for document in &file.tree.documents {
            let input = Input {
                root: document.root(),
                file,
                world,
            };
            let reader = reader_of(&input).filter(|_| !world.overlays().replaces(input.root));
            let Declared { deployments, .. } = reader.map(|reader| (reader.read)(&input)).unwrap_or_default();
            all.extend(deployments);
        }
    }
    all
}

fn only(text: &str) -> (World, Deployment) {
    let world = world(&[("deploy.yaml", text)]);
    let mut all = declared(&world);
    assert_eq!(all.len(), 1, "{all:?}");
    (world, all.remove(0))
}

fn hints(deployment: &Deployment) -> Vec<&str> {
    let values = deployment.model_hints.iter();
    values.map(|hint| hint.value.as_str()).collect()
}

#[test]
fn names_of_the_model_come_downloads_first_and_the_object_last() {
    let (_, deployment) = only(
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: model-8b-server}\nspec:\n  template:\n    metadata: \
         {labels: {model.aibrix.ai/name: model-8b}}\n    spec:\n      volumes:\n      - {name: w, hostPath: {path: \
         /srv/org/}}\n      initContainers:\n      - {name: get, image: python, command: [huggingface-cli, download, \
         org/model-8b, --local-dir, /models/m]}\n      containers:\n      - name: e\n        image: \
         vllm/vllm-openai\n        args: [--model, /models/m, --served-model-name, chat]\n        volumeMounts: \
         [{name: w, mountPath: /models}]\n",
    );
    assert_eq!(
        hints(&deployment),
        [
            "org/model-8b",
            "/srv/org/m",
            "chat",
            "model-8b",
            "model-8b-server"
        ]
    );
}

#[test]
fn a_part_of_a_volume_names_the_model_that_is_mounted() {
    let (_, deployment) = only(
        "kind: Pod\napiVersion: v1\nmetadata: {name: p}\nspec:\n  volumes: [{name: w, persistentVolumeClaim: \
         {claimName: c}}]\n  containers:\n  - name: e\n    image: vllm/vllm-openai\n    args: [--model, /model]\n    \
         volumeMounts: [{name: w, mountPath: /model, subPath: Qwen/Qwen3-8B}]\n",
    );
    assert_eq!(hints(&deployment), ["Qwen/Qwen3-8B", "p"]);
}

#[test]
fn namespace_and_numbers_keep_their_characters() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: chat, namespace: llm}\nspec:\n  replicas: 3\n  \
                template: {spec: {containers: [{name: e, image: vllm/vllm-openai, args: [org/m]}]}}\n";
    let (world, found) = only(text);
    let file = &world.files()[0].source;
    let shown = |fact: &Fact<String>| file.slice(fact.span().unwrap()).to_owned();
    let setting = |id: &str| found.settings.get(id).map(shown);
    assert_eq!(setting("namespace").as_deref(), Some("llm"));
    assert_eq!(setting("replicas").as_deref(), Some("3"));
    assert_eq!(shown(&found.name), "chat");
    assert_eq!(found.model.as_ref().map(shown).as_deref(), Some("org/m"));
}

#[test]
fn values_of_a_patch_point_into_the_patch_and_others_into_the_base() {
    let base = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: \
                [{name: e, image: vllm/vllm-openai, args: [--model=org/m], env: []}]}}}\n";
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: \
                 [{name: e, resources: {limits: {nvidia.com/gpu: 4}}}]}}}\n";
    let kustomization = "resources: [../base.yaml]\npatches: [{path: patch.yaml}]\n";
    let world = world(&[
        ("base.yaml", base),
        ("over/kustomization.yaml", kustomization),
        ("over/patch.yaml", patch),
    ]);
    let all = declared(&world);
    assert_eq!(all.len(), 1);
    let place = |span: Option<crate::source::Span>| world.sources().path(span.unwrap());
    assert_eq!(place(all[0].model.as_ref().unwrap().span()), "base.yaml");
    assert_eq!(
        place(all[0].accelerators.count.as_ref().unwrap().span()),
        "over/patch.yaml"
    );
    assert_eq!(place(Some(all[0].span)), "over/kustomization.yaml");
}

#[test]
fn a_kustomization_that_takes_in_itself_ends() {
    let text = "resources: [., ../a, ../b, x.yaml]\ncomponents: [.]\npatches: [{path: kustomization.yaml}]\n";
    let world = world(&[("a/kustomization.yaml", text), ("b/kustomization.yaml", text)]);
    assert!(declared(&world).is_empty());
}

/// The fixtures of these formats.
fn fixtures(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            fixtures(&path, found);
        } else if path.extension().is_none_or(|kind| kind != "txt") {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The next of a sequence of numbers that looks random (Knuth's MMIX generator).
fn next(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap()
}

/// A text with one line gone, doubled or with another value.
fn mutated(text: &str, state: &mut u64) -> String {
    const VALUES: [&str; 12] = [
        "",
        "[]",
        "{}",
        "[[1]]",
        "{a: {b: c}}",
        "null",
        "99999999999999999999999",
        "-1",
        "${X",
        "$(MODEL_ID)$(",
        "\"{{ .Values.x }}\"",
        "&x [*x]",
    ];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = next(state) % lines.len().max(1);
    match next(state) % 4 {
        0 => {
            lines.remove(at);
        }
        1 => lines.insert(at, lines[at].clone()),
        _ => {
            let value = VALUES[next(state) % VALUES.len()];
            let line = &lines[at];
            let key = line.find(": ").map_or(line.len(), |colon| colon + 2);
            lines[at] = format!("{}{value}", &line[..key]);
        }
    }
    lines.join("\n")
}

#[test]
fn no_mutation_of_a_fixture_panics() {
    let mut files = Vec::new();
    fixtures(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats"),
        &mut files,
    );
    assert!(files.len() > 10);
    let mut state = 7;
    for round in 0..12 {
        let texts: Vec<(String, String)> = files
            .iter()
            .map(|(path, text)| {
                let mut text = text.clone();
                for _ in 0..=round % 3 {
                    text = mutated(&text, &mut state);
                }
                (path.to_string_lossy().into_owned(), text)
            })
            .collect();
        let borrowed: Vec<(&str, &str)> = texts
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        for deployment in declared(&world(&borrowed)) {
            assert!(deployment.model_hints.len() < 100);
        }
    }
}
