//! What must hold for every reader of charts and custom resources: no text makes one panic, whatever stands where,
//! and no text makes one run on and on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::{Declared, Input, Parsed, World, reader_of};
use crate::source::Sources;
use crate::source::tree::Tree;

/// What one file declares, each document by the reader that takes it.
fn read(name: &str, text: &str) -> Vec<Declared> {
    let sources = Arc::new(Sources::default());
    let source = sources.add(name, text);
    let tree = Tree::parse(&source);
    let parsed = Parsed {
        path: name.to_owned(),
        folder: PathBuf::new(),
        source,
        tree,
    };
    let world = World::new(Arc::clone(&sources), vec![parsed], BTreeMap::new());
    let file = &world.files()[0];
    let documents = file.tree.documents.iter();
    let inputs = documents.map(|document| Input {
        root: document.root(),
        file,
        world: &world,
    });
    inputs
        .filter_map(|input| Some((reader_of(&input)?.read)(&input)))
        .collect()
}

/// The fixtures of these formats.
fn fixtures() -> Vec<(String, String)> {
    const FORMATS: [&str; 13] = [
        "bentovllm",
        "dynamo",
        "flux-helmrelease",
        "helm-other",
        "helm-production-stack",
        "kaito",
        "kubeai",
        "llm-d",
        "llmaz",
        "llmkube",
        "nim-operator",
        "rayserve",
        "vllmruntime-cr",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let mut found = Vec::new();
    for format in FORMATS {
        for case in std::fs::read_dir(root.join(format)).unwrap() {
            for file in std::fs::read_dir(case.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "yaml") {
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    found.push((name, std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
    }
    assert!(found.len() > 30);
    found
}

#[test]
fn no_line_of_another_shape_makes_a_reader_panic() {
    const SHAPES: [&str; 9] = [
        "",
        " []",
        " {}",
        " [[1], {a: b}]",
        " {a: {b: [c]}}",
        " 99999999999999999999",
        " -1",
        " \"${X} {{ y }}\"",
        " |\n  - [broken",
    ];
    for (name, text) in fixtures() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((key, _)) = line.split_once(':') else {
                continue;
            };
            let shape = SHAPES[at % SHAPES.len()];
            for replaced in [format!("{key}:{shape}"), String::new()] {
                let mut mutated = lines.clone();
                mutated[at] = &replaced;
                read(&name, &mutated.join("\n"));
            }
        }
    }
}

#[test]
fn text_that_ends_anywhere_makes_no_reader_panic() {
    for (name, text) in fixtures() {
        for end in (0..text.len())
            .step_by(97)
            .filter(|end| text.is_char_boundary(*end))
        {
            read(&name, &text[..end]);
        }
    }
}

#[test]
fn aliases_that_multiply_sections_are_given_up_on() {
    let mut text = "a0: &a0 {image: {repository: vllm/vllm-openai}, model: org/m}\n".to_owned();
    for level in 1..8 {
        let aliases = vec![format!("*a{}", level - 1); 40].join(", ");
        writeln!(text, "a{level}: &a{level} {{l: [{aliases}]}}").unwrap();
    }
    let declared = read("values.yaml", &text);
    assert!(declared.iter().map(|one| one.deployments.len()).sum::<usize>() <= 4_000);
}

#[test]
fn files_of_other_tools_declare_nothing() {
    for text in [
        // A workflow with a service container.
        "on: push\njobs:\n  test:\n    container: {image: 'vllm/vllm-openai:latest', env: {MODEL: org/m}}\n",
        // Values of a client, and of a chart whose default is off.
        "vllm: {model: org/m, baseUrl: 'http://vllm:8000'}\nimage: {repository: example/app}\n",
        "ollama: {gpu: {enabled: false}, models: {pull: [], run: []}}\nimage: {repository: ollama/ollama}\n",
        // An object of a group that only sounds alike.
        "apiVersion: example.com/v1\nkind: Model\nmetadata: {name: a}\nspec: {url: 'hf://a/b', engine: VLLM}\n",
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec: {modelRef: a, runtime: vllm}\n",
        "kind: Service\napiVersion: v1\nspec: {ports: [{port: 80}]}\n",
        // A bridge whose arguments have flags that engines have too.
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec: {values: {controllers: {main: {containers: \
         {main: {image: {repository: example/bridge}, args: [-c, /etc/x, --device, a, --model, b]}}}}}}\n",
    ] {
        let deployments: usize = read("values.yaml", text)
            .iter()
            .map(|one| one.deployments.len())
            .sum();
        assert_eq!(deployments, 0, "{text}");
    }
}
