use super::*;
use crate::fact::Fact;
use crate::manifest::Deployment;
use crate::model::record::{Parts, RecordedWeights};
use std::fs;

const CONFIG: &str = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 100, "torch_dtype": "bfloat16"}"#;

/// A scratch tree with an empty hub cache.
struct Tree {
    root: tempfile::TempDir,
    settings: Settings,
    found: Found,
    sources: Sources,
}

impl Tree {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.hub_cache = Some(root.path().join("cache"));
        Self {
            root,
            settings,
            found: Found::default(),
            sources: Sources::default(),
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn lock(&mut self, text: &str) {
        self.write(LOCK_FILE, text);
        self.found.lock_files.push(self.root.path().join(LOCK_FILE));
    }

    /// The model that a deployment in an own-format file means, and the findings.
    fn load(&self, name: &str) -> (Option<Model>, Vec<Finding>) {
        let text = serde_json::json!({"oomlint": 1, "deployments": [{"name": "d", "model": name}]});
        let file = self.sources.add("deploy.yaml", text.to_string());
        let tree = crate::source::tree::Tree::parse(&file);
        let declared = crate::manifest::own::read(file.id(), tree.documents[0].root());
        let deployment = declared.deployments[0].clone();
        let declaration = Declaration::new(deployment, self.root.path().to_path_buf());
        let models = load(&self.found, &[declaration], &self.settings, &self.sources);
        (models.of(0).map(|(_, model)| model.clone()), models.findings)
    }

    fn source(&self, name: &str) -> Option<ModelSource> {
        self.load(name).0.map(|model| model.source)
    }

    fn severity(&self, name: &str) -> Option<Severity> {
        let (model, findings) = self.load(name);
        assert!(model.is_none(), "{name} was found");
        findings.first().map(|finding| finding.severity)
    }
}

fn locked(name: &str, bytes: u64) -> Record {
    let parts = Parts {
        name,
        source: "a test",
        config_json: CONFIG,
        ..Parts::default()
    };
    Record {
        weights: Some(RecordedWeights {
            bytes,
            exact: true,
            ..RecordedWeights::default()
        }),
        ..Record::from_parts(&parts).unwrap()
    }
}

fn lock_text(records: &[Record]) -> String {
    serde_json::json!({"version": 1, "models": records}).to_string()
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_snapshot_of_the_hub_cache_is_found_by_its_branch_and_by_its_commit() {
    let tree = Tree::new();
    tree.write("cache/models--org--tiny/refs/main", COMMIT);
    tree.write(
        &format!("cache/models--org--tiny/snapshots/{COMMIT}/config.json"),
        CONFIG,
    );
    let (model, _) = tree.load("org/tiny");
    let model = model.unwrap();
    assert_eq!(
        (model.name.as_str(), model.source),
        ("org/tiny", ModelSource::HubCache)
    );
    assert_eq!(
        tree.source(&format!("org/tiny@{COMMIT}")),
        Some(ModelSource::HubCache)
    );
    assert_eq!(
        tree.source("org/tiny@v2"),
        None,
        "another revision is another model"
    );
}

#[cfg(unix)]
#[test]
fn links_of_a_snapshot_into_blobs_are_followed() {
    let tree = Tree::new();
    tree.write("cache/models--org--tiny/refs/main", &format!("{COMMIT}\n"));
    tree.write("cache/models--org--tiny/blobs/abc", CONFIG);
    let snapshot = tree
        .root
        .path()
        .join(format!("cache/models--org--tiny/snapshots/{COMMIT}"));
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink("../../blobs/abc", snapshot.join("config.json")).unwrap();
    assert_eq!(tree.source("hf://org/tiny"), Some(ModelSource::HubCache));
}

#[test]
fn a_revision_never_leads_out_of_the_cache() {
    let tree = Tree::new();
    tree.write("outside/config.json", CONFIG);
    tree.write("cache/models--org--tiny/refs/main", "../../../outside");
    assert_eq!(tree.source("org/tiny"), None);
    assert_eq!(tree.source("org/tiny@../../../outside"), None);
}

#[test]
fn the_lock_file_comes_before_cache_and_catalog() {
    let mut tree = Tree::new();
    tree.lock(&lock_text(&[locked("Qwen/Qwen3-8B", 4096)]));
    tree.write("cache/models--Qwen--Qwen3-8B/refs/main", COMMIT);
    tree.write(
        &format!("cache/models--Qwen--Qwen3-8B/snapshots/{COMMIT}/config.json"),
        CONFIG,
    );
    let (model, _) = tree.load("Qwen/Qwen3-8B");
    let model = model.unwrap();
    assert_eq!(
        (model.source, model.weights.bytes),
        (ModelSource::Lock, Some(4096))
    );
}

#[test]
fn a_broken_lock_file_is_said_and_stops_nothing() {
    let mut tree = Tree::new();
    tree.lock("{\"version\": 1, \"models\": [");
    let (model, findings) = tree.load("Qwen/Qwen3-8B");
    assert_eq!(model.unwrap().source, ModelSource::Catalog);
    assert_eq!(&*findings[0].rule, "file-unreadable");
}

#[test]
fn the_tree_comes_before_everything_recorded() {
    let mut tree = Tree::new();
    tree.lock(&lock_text(&[locked("Qwen/Qwen3-8B", 4096)]));
    tree.write("Qwen/Qwen3-8B/config.json", CONFIG);
    assert_eq!(tree.source("Qwen/Qwen3-8B"), Some(ModelSource::Directory));
}

#[test]
fn what_is_assumed_is_said_with_the_model() {
    let tree = Tree::new();
    let (model, _) = tree.load("/models/Qwen3-32B");
    let model = model.unwrap();
    assert_eq!(model.source, ModelSource::Catalog);
    assert_eq!(
        model.assumptions,
        ["/models/Qwen3-32B is taken for Qwen/Qwen3-32B by its name"]
    );
    assert!(tree.load("Qwen/Qwen3-32B").0.unwrap().assumptions.is_empty());
}

#[test]
fn how_bad_an_unknown_model_is_depends_on_who_could_know_it() {
    let tree = Tree::new();
    assert_eq!(tree.severity("./models/absent"), Some(Severity::Error));
    assert_eq!(tree.severity("nobody/knows-this"), Some(Severity::Warning));
    assert_eq!(tree.severity("nobody-knows:7b"), Some(Severity::Warning));
    assert_eq!(tree.severity("/srv/weights/own-thing"), Some(Severity::Info));
    assert_eq!(tree.severity("s3://bucket/own-thing"), Some(Severity::Info));
    assert_eq!(tree.severity("$(MODEL)"), None);
}

#[test]
fn a_misspelt_path_is_never_taken_for_a_checkpoint_of_its_name() {
    let tree = Tree::new();
    tree.write("models/other/config.json", CONFIG);
    assert_eq!(tree.severity("./models/Qwen3-32B"), Some(Severity::Error));
    assert_eq!(tree.severity("models/Qwen3-32B"), Some(Severity::Error));
    assert_eq!(
        tree.source("checkpoints/Qwen3-32B"),
        Some(ModelSource::Catalog),
        "no such folder: a hub name"
    );
}

impl Tree {
    /// A pod's declaration of a model at a path, with other names beside it.
    fn mounted(&self, written: &str, hints: &[&str]) -> Declaration {
        let file = self.sources.add("pod.yaml", written);
        let span = file.span(0..written.len());
        let name = Fact::at(written.to_owned(), span);
        let mut deployment = Deployment::new(name.clone(), file.id(), span, Format::Kubernetes);
        deployment.model = Some(name);
        deployment.model_hints = hints
            .iter()
            .map(|hint| Fact::at((*hint).to_owned(), span))
            .collect();
        Declaration::new(deployment, self.root.path().to_path_buf())
    }

    fn assumption(&self, written: &str, hints: &[&str]) -> Option<String> {
        let declaration = self.mounted(written, hints);
        let models = load(&self.found, &[declaration], &self.settings, &self.sources);
        models.of(0)?.1.assumptions.last().cloned()
    }
}

#[test]
fn a_path_of_the_container_is_known_by_what_stands_beside_it() {
    let tree = Tree::new();
    let taken = |hint: &str| {
        Some(format!(
            "/mnt/models is taken for {hint}, which its file names beside it"
        ))
    };
    let found = tree.assumption(
        "/mnt/models",
        &["chat", "/srv/unheard-of", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B"],
    );
    assert_eq!(found, taken("Qwen/Qwen3-8B"));
    let found = tree.assumption("/mnt/models", &["llama", "qwen3-8b"]);
    assert!(
        found.is_some_and(|words| words.contains("taken for qwen3-8b")),
        "the exact name of a checkpoint"
    );
    assert_eq!(
        tree.assumption("/mnt/models", &["chat", "llama", "nobody/knows"]),
        None
    );
    let named = tree.assumption("nobody/knows", &["Qwen/Qwen3-8B"]);
    assert_eq!(named, None, "a name of its own is no path");
}

#[test]
fn two_files_may_mount_different_models_at_one_path() {
    let tree = Tree::new();
    let declarations = ["Qwen/Qwen3-8B", "Qwen/Qwen3-32B"].map(|hint| tree.mounted("/mnt/models", &[hint]));
    let models = load(&tree.found, &declarations, &tree.settings, &tree.sources);
    let name = |at| models.of(at).map(|(_, model)| model.name.clone());
    assert_eq!(name(0).as_deref(), Some("Qwen/Qwen3-8B"));
    assert_eq!(name(1).as_deref(), Some("Qwen/Qwen3-32B"));
}

#[test]
fn only_what_lies_in_the_tree_needs_no_lock() {
    let tree = Tree::new();
    tree.write("Qwen/Qwen3-32B/config.json", CONFIG);
    let declarations = ["Qwen/Qwen3-8B", "Qwen/Qwen3-32B"].map(|name| tree.mounted(name, &[]));
    let names = names_elsewhere(&tree.found, &declarations, &tree.settings);
    assert_eq!(names, [Some(("Qwen/Qwen3-8B".to_owned(), false)), None]);
}

#[test]
fn settings_say_what_a_path_means() {
    let mut tree = Tree::new();
    tree.write(
        "settings.yaml",
        "models:\n  /models/own-*: Qwen/Qwen3-8B\n  chat: weights\n",
    );
    tree.write("weights/config.json", CONFIG);
    let (settings, findings) = crate::config::read(&tree.root.path().join("settings.yaml"), &tree.sources);
    assert!(findings.is_empty());
    tree.settings = settings;
    assert_eq!(tree.source("/models/own-7"), Some(ModelSource::Catalog));
    assert_eq!(tree.source("chat"), Some(ModelSource::Directory));
    assert_eq!(tree.source("/models/other"), None);
}

#[test]
fn the_hub_cache_is_where_the_environment_says() {
    let at = |set: &[(&str, &str)]| {
        let value = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        crate::config::hub_cache(value).map(|path| path.display().to_string())
    };
    let all = [
        ("HF_HUB_CACHE", "/a"),
        ("HF_HOME", "/b"),
        ("XDG_CACHE_HOME", "/c"),
        ("HOME", "/d"),
    ];
    assert_eq!(at(&all).as_deref(), Some("/a"));
    assert_eq!(at(&all[1..]).as_deref(), Some("/b/hub"));
    assert_eq!(at(&all[2..]).as_deref(), Some("/c/huggingface/hub"));
    assert_eq!(at(&all[3..]).as_deref(), Some("/d/.cache/huggingface/hub"));
    assert_eq!(at(&[("HF_HOME", "")]), None);
}
