//! What an image holds, by its name. The names are data in `catalog/images.yaml`.
//!
//! In: an image as a manifest names it. Out: engine or server, what it runs, and the engine's release. Names are
//! compared part by part from their end, so that mirrors in private registries are recognised.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::engine::Engine;
use crate::fact::Fact;

/// What an image's name says.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of an image, named in the data"
)]
pub struct ImageEngine {
    /// The engine whose sizing applies.
    pub engine: Option<Engine>,
    /// The server's name where it is none of oomlint's engines, or wraps one.
    pub server: Option<String>,
    /// False for an image that serves no model: routers, clients, embedding servers.
    pub serves: bool,
    /// The engine's release, from the tag.
    pub version: Option<Fact<String>>,
    /// What runs in front of the arguments.
    pub entrypoint: Vec<String>,
    /// What runs where no arguments are given.
    pub command: Vec<String>,
    /// True for an image that serves nothing until a command says what.
    pub idle: bool,
    /// Variables that the image's start script reads, by the setting they set.
    pub environment: &'static BTreeMap<String, Option<String>>,
    /// True where the image is the model.
    pub is_model: bool,
    /// True for an image that only a word of its name tells of: somebody's own build, perhaps of a fork.
    pub is_own_build: bool,
}

/// What is known of an image by its name, private mirrors of public images included.
pub fn image_engine(image: &Fact<String>) -> Option<ImageEngine> {
    let name = Name::parse(&image.value);
    let catalog = catalog();
    if let Some(row) = catalog.images.iter().find(|row| row.matches(&name)) {
        return Some(ImageEngine {
            engine: row.engine.as_deref().and_then(Engine::parse),
            server: row.server.clone(),
            serves: row.serves,
            version: row.release(&name).map(|version| image.clone().map(|_| version)),
            entrypoint: row.entrypoint.clone(),
            command: row.command.clone(),
            idle: row.idle,
            environment: &row.env,
            is_model: row.model.as_deref() == Some("image"),
            is_own_build: false,
        });
    }
    let engine = catalog.engine_in(&name)?;
    Some(ImageEngine {
        engine: Some(engine),
        server: None,
        serves: true,
        version: release_of(engine, &name).map(|version| image.clone().map(|_| version)),
        entrypoint: Vec::new(),
        command: Vec::new(),
        idle: false,
        environment: no_variables(),
        is_model: false,
        is_own_build: true,
    })
}

fn no_variables() -> &'static BTreeMap<String, Option<String>> {
    static NONE: BTreeMap<String, Option<String>> = BTreeMap::new();
    &NONE
}

/// An image's name in its parts, lower case.
#[derive(Debug)]
struct Name {
    /// Registry and path, split at `/`.
    parts: Vec<String>,
    tag: Option<String>,
}

impl Name {
    fn parse(image: &str) -> Self {
        let image = image.trim().to_ascii_lowercase();
        let image = ["docker://", "docker:", "oci://"]
            .iter()
            .find_map(|scheme| image.strip_prefix(scheme))
            .unwrap_or(&image);
        let image = image.split('@').next().unwrap_or(image);
        let slash = image.rfind('/').map_or(0, |at| at + 1);
        // A variable's default may hold a colon of its own; what is left of a tag then says nothing.
        let colon = image
            .get(slash..)
            .and_then(|last| last.find(':'))
            .map(|at| slash + at);
        let (path, tag) = match colon {
            Some(at) => (image.get(..at).unwrap_or(image), image.get(at + 1..)),
            None => (image, None),
        };
        Self {
            parts: path.split('/').map(str::to_owned).collect(),
            tag: tag.map(str::to_owned),
        }
    }
}

/// A row of the catalog.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    names: Vec<String>,
    tag: Option<String>,
    engine: Option<String>,
    server: Option<String>,
    #[serde(default = "yes")]
    serves: bool,
    version: Option<String>,
    #[serde(default)]
    idle: bool,
    #[serde(default)]
    entrypoint: Vec<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, Option<String>>,
    model: Option<String>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for those who read the file; a test wants it filled")
    )]
    source: String,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    images: Vec<Row>,
    words: BTreeMap<String, String>,
    besides: Vec<String>,
}

fn read() -> Result<Catalog, String> {
    serde_saphyr::from_str(include_str!("../../../catalog/images.yaml")).map_err(|error| error.to_string())
}

fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    // The file is part of the program and tested; were it broken, no image would be known.
    CATALOG.get_or_init(|| read().unwrap_or_default())
}

impl Row {
    fn matches(&self, name: &Name) -> bool {
        let tag = name.tag.as_deref().unwrap_or("");
        self.tag.as_deref().is_none_or(|pattern| glob(pattern, tag))
            && self.names.iter().any(|pattern| matches(pattern, &name.parts))
    }

    fn release(&self, name: &Name) -> Option<String> {
        let tag = name.tag.as_deref()?;
        match self.version.as_deref()? {
            "release" => dotted(tag),
            "build" => build(tag),
            other => {
                let word = other.strip_prefix("after ")?;
                let at = tag.find(word)? + word.len();
                dotted(tag.get(at..)?)
            }
        }
    }
}

impl Catalog {
    /// The engine that a word of the image's last part names.
    fn engine_in(&self, name: &Name) -> Option<Engine> {
        let last = name.parts.last()?;
        // `${VLLM_IMAGE}` names its engine as well as `vllm-custom` does.
        let last = last.trim_start_matches(['$', '{']).trim_end_matches('}');
        let words: Vec<&str> = last.split(['-', '_', '.']).collect();
        if words
            .iter()
            .any(|word| self.besides.iter().any(|known| known == word))
        {
            return None;
        }
        let named = |wanted: &str| {
            let wanted: Vec<&str> = wanted.split(['-', '_', '.']).collect();
            words.windows(wanted.len()).any(|window| window == wanted)
        };
        let (_, engine) = self.words.iter().find(|(word, _)| named(word))?;
        Engine::parse(engine)
    }
}

fn release_of(engine: Engine, name: &Name) -> Option<String> {
    let tag = name.tag.as_deref()?;
    if engine == Engine::LlamaCpp {
        build(tag)
    } else {
        None
    }
}

/// True where the last parts of a path are those of a pattern.
fn matches(pattern: &str, parts: &[String]) -> bool {
    if let Some((above, last)) = pattern.split_once("/**") {
        let above: Vec<&str> = above.split('/').collect();
        let last = last.strip_prefix('/').unwrap_or("*");
        let below = |at: usize| {
            let window = parts.get(at..at + above.len());
            let inside = window.is_some_and(|window| all(&above, window));
            inside
                && parts
                    .get(at + above.len()..)
                    .is_some_and(|rest| rest.last().is_some_and(|end| glob(last, end)))
        };
        return (0..parts.len()).any(below);
    }
    let wanted: Vec<&str> = pattern.split('/').collect();
    let Some(start) = parts.len().checked_sub(wanted.len()) else {
        return false;
    };
    parts.get(start..).is_some_and(|end| all(&wanted, end))
}

fn all(patterns: &[&str], parts: &[String]) -> bool {
    patterns
        .iter()
        .zip(parts)
        .all(|(pattern, part)| glob(pattern, part))
}

/// `*` stands for any characters.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or(""),
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The first number with a dot in it, `v` and `.post1` included: `v0.5.1.post3` of `v0.5.1.post3-cu126`.
fn dotted(tag: &str) -> Option<String> {
    let word = tag.split(['-', '_', '+']).find(|word| {
        let digits = word.strip_prefix('v').unwrap_or(word);
        let major = digits.split('.').next().unwrap_or("");
        digits.contains('.') && !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit())
    })?;
    Some(word.to_owned())
}

/// `b10488` of `server-cuda-b10488`.
fn build(tag: &str) -> Option<String> {
    let is_build = |word: &&str| {
        word.strip_prefix('b')
            .is_some_and(|digits| digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    tag.split(['-', '_']).find(is_build).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(image: &str) -> Option<(Option<Engine>, Option<String>, Option<String>)> {
        let found = image_engine(&Fact::default(image.to_owned(), "test"))?;
        found.serves.then(|| {
            (
                found.engine,
                found.server,
                found.version.map(|version| version.value),
            )
        })
    }

    fn engine(image: &str) -> Option<Engine> {
        known(image).and_then(|(engine, ..)| engine)
    }

    fn version(image: &str) -> Option<String> {
        known(image).and_then(|(.., version)| version)
    }

    #[test]
    fn every_row_is_well_formed_and_has_a_source() {
        let catalog = read().unwrap();
        for row in &catalog.images {
            assert!(!row.names.is_empty() && !row.source.is_empty());
            assert!(
                row.engine
                    .as_deref()
                    .is_none_or(|engine| Engine::parse(engine).is_some())
            );
            assert!(
                row.names.iter().all(|name| *name == name.to_ascii_lowercase()),
                "{:?}",
                row.names
            );
        }
        assert!(
            catalog
                .words
                .values()
                .all(|engine| Engine::parse(engine).is_some())
        );
    }

    #[test]
    fn mirrors_and_custom_builds_are_recognised_by_whole_parts_of_the_name() {
        for image in [
            "vllm/vllm-openai",
            "docker.io/vllm/vllm-openai:v0.10.0",
            "registry.example.com:5000/mirror/vllm/vllm-openai:latest",
            "docker:vllm/vllm-openai:nightly-f849",
            "example-vllm:local",
            "us-docker.pkg.dev/vertex-ai/model-garden/pytorch-vllm-serve:20250801",
            "${VLLM_IMAGE_NAME}",
        ] {
            assert_eq!(engine(image), Some(Engine::Vllm), "{image}");
        }
        assert_eq!(engine("ghcr.io/example/llama-cpp:server"), Some(Engine::LlamaCpp));
        assert_eq!(engine("example/novllmhere:1"), None);
    }

    #[test]
    fn routers_and_clients_are_no_engines() {
        for image in [
            "lmcache/lmstack-router:latest",
            "ghcr.io/open-webui/open-webui:main",
            "ghcr.io/huggingface/text-embeddings-inference:1.5",
            "example/vllm-router:1",
            "example/ollama-exporter",
            "example/gradio-rag-vllm-openai:2",
        ] {
            assert_eq!(known(image), None, "{image}");
        }
    }

    #[test]
    fn the_release_is_the_engines_own_or_none() {
        assert_eq!(version("vllm/vllm-openai:v0.11.0").as_deref(), Some("v0.11.0"));
        assert_eq!(
            version("lmsysorg/sglang:v0.5.1.post3-cu126").as_deref(),
            Some("v0.5.1.post3")
        );
        assert_eq!(
            version("ghcr.io/ggml-org/llama.cpp:server-cuda-b4719").as_deref(),
            Some("b4719")
        );
        assert_eq!(
            version("rocm/vllm:rocm6.4.1_vllm_0.9.1_20250715").as_deref(),
            Some("0.9.1")
        );
        for image in [
            "vllm/vllm-openai:latest",
            "vllm/vllm-openai:nightly-f849",
            "nvcr.io/nvidia/vllm:25.09-py3",
            "vllm/vllm-openai@sha256:00ff",
            "vllm/vllm-openai:${TAG}",
        ] {
            assert_eq!(version(image), None, "{image}");
        }
    }
}
