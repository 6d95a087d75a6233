//! Names of models on a hub, as manifests and people write them.
//!
//! In: `org/name`, `org/name@revision`, `org/name:Q4_K_M` (llama.cpp, Ollama), `org/name/file.gguf`, with or
//! without `hf://`, `hf.co/` or the address of the hub before it. Out: a [`Reference`], or nothing for a path.

use std::fmt;

use crate::hub::is_repository;

/// A model on a hub.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// `org/name`.
    pub repository: String,
    /// The branch, tag or commit asked for; `None` for the main branch.
    pub revision: Option<String>,
    /// Which of its GGUF files, where that is said.
    pub file: Option<FileWish>,
}

/// One of a repository's GGUF files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileWish {
    /// The one with this mix of types: `Q4_K_M`.
    Quantization(String),
    /// The one at this path in the repository.
    Path(String),
}

impl fmt::Display for FileWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantization(name) => write!(f, "of quantization {name}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        self.revision
            .as_ref()
            .map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// What may stand before a name. The hub's own prefixes also say that the name is one, whatever the engine.
const PREFIXES: [&str; 5] = [
    "hf://",
    "https://huggingface.co/",
    "https://hf.co/",
    "huggingface.co/",
    "hf.co/",
];

impl Reference {
    /// Reads a name. A single word is a repository of the hub's first days only where `bare` allows it: in
    /// manifests it is far more often a name that the engine gives.
    pub fn parse(text: &str, bare: bool) -> Option<Self> {
        let text = text.trim();
        let text = PREFIXES
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix))
            .unwrap_or(text)
            .trim_end_matches('/');
        let (text, revision) = match text.split_once('@') {
            Some((_, "")) => return None,
            Some((text, revision)) => (text, Some(revision)),
            None => (text, None),
        };
        // `@revision:QUANT` and `:QUANT@revision` both occur.
        let (text, quantization) = cut(text, ':');
        let (revision, late) = revision.map_or((None, None), |revision| {
            let (revision, late) = cut(revision, ':');
            (Some(revision), late)
        });
        let wish = quantization.or(late).filter(|name| *name != "latest");
        let (repository, path) = split_file(text)?;
        let usable = is_repository(repository) && (repository.contains('/') || bare);
        let file = path
            .map(|path| FileWish::Path(path.to_owned()))
            .or_else(|| wish.map(|name| FileWish::Quantization(name.to_owned())));
        let revision = revision.filter(|revision| *revision != "main").map(str::to_owned);
        let plain = |text: &String| !text.is_empty() && !text.contains(|c: char| c.is_control() || c == ' ');
        (usable && revision.as_ref().is_none_or(plain)).then(|| Self {
            repository: repository.to_owned(),
            revision,
            file,
        })
    }

    /// True for a name that begins with the hub's own address.
    pub fn names_the_hub(text: &str) -> bool {
        PREFIXES.iter().any(|prefix| text.trim().starts_with(prefix))
    }
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(text, rest)| {
        (text, Some(rest).filter(|rest| !rest.is_empty()))
    })
}

/// `org/name` and, below it, the path of a GGUF file.
fn split_file(text: &str) -> Option<(&str, Option<&str>)> {
    let mut slashes = text.match_indices('/');
    let Some((second, _)) = slashes.nth(1) else {
        // A file here, not a repository whose name ends so.
        return (!is_gguf(text)).then_some((text, None));
    };
    let (repository, path) = text.split_at(second);
    let path = path.trim_start_matches('/');
    let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (is_gguf(path) && inside).then_some((repository, Some(path)))
}

/// True for a name that ends in `.gguf`.
pub(super) fn is_gguf(name: &str) -> bool {
    name.len() > 5
        && name
            .get(name.len() - 5..)
            .is_some_and(|end| end.eq_ignore_ascii_case(".gguf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, Option<String>)> {
        let reference = Reference::parse(text, false)?;
        let file = reference.file.as_ref().map(ToString::to_string);
        Some((reference.to_string(), file))
    }

    #[test]
    fn names_are_read_as_engines_write_them() {
        for (text, name, file) in [
            ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B", None),
            ("org/name@v1.0", "org/name@v1.0", None),
            ("org/name@main", "org/name", None),
            ("org/name@refs/pr/3", "org/name@refs/pr/3", None),
            ("hf://org/name", "org/name", None),
            (
                "hf.co/org/name-GGUF:Q4_K_M",
                "org/name-GGUF",
                Some("of quantization Q4_K_M"),
            ),
            ("org/name-GGUF:latest", "org/name-GGUF", None),
            (
                "org/name-GGUF:IQ4_XS@v1",
                "org/name-GGUF@v1",
                Some("of quantization IQ4_XS"),
            ),
            (
                "org/name-GGUF/sub/a-Q8_0.gguf",
                "org/name-GGUF",
                Some("sub/a-Q8_0.gguf"),
            ),
            ("https://huggingface.co/org/name/", "org/name", None),
        ] {
            let expected = (name.to_owned(), file.map(str::to_owned));
            assert_eq!(read(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn paths_and_other_stores_are_no_names() {
        for text in [
            "/models/llama",
            "./models/llama",
            "../llama",
            "~/llama",
            "models/a/b",
            "models/llama.gguf",
            "s3://bucket/llama",
            "gs://bucket",
            "https://example.com/org/name",
            "llama3.1:8b",
            "gpt2",
            "${MODEL}",
            "org/${NAME}",
            "org/name@",
            "org/name/../x.gguf",
            "org/name@a b",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(Reference::parse("gpt2", true).is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_word_of_a_manifest_leads_out_of_its_repository(text in "[a-zA-Z0-9/:@.%?#\\\\ ${}_-]{0,40}|.{0,40}") {
            if let Some(reference) = Reference::parse(&text, true) {
                proptest::prop_assert!(is_repository(&reference.repository));
                if let Some(FileWish::Path(path)) = reference.file {
                    proptest::prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
                }
            }
        }
    }
}
