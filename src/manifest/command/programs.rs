//! Which programs serve or fetch models, and which run other programs: `catalog/servers.yaml`.
//!
//! In: the words of one command. Out: the [`Program`] they begin with and how many words name it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::engine::Engine;

/// A program that serves models.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    names: Vec<String>,
    /// The server whose image must hold the program, where its name alone says too little.
    within: Option<String>,
    engine: Option<String>,
    /// The server's name where it is none of oomlint's engines, or wraps one.
    pub server: Option<String>,
    /// False for programs of an engine that serve no model.
    #[serde(default = "yes")]
    pub serves: bool,
    /// The first word without a flag is the model.
    #[serde(default)]
    pub positional: bool,
    /// Flags of a wrapper that the engine does not see.
    pub own: Option<OwnFlags>,
    /// Flags of a parser of its own, by the setting they set.
    pub settings: Option<BTreeMap<String, Option<String>>>,
    /// True where words that are neither `own` nor in `settings` are the engine's.
    #[serde(default)]
    passes: bool,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for those who read the file; a test wants it filled")
    )]
    source: String,
}

fn yes() -> bool {
    true
}

/// Flags that a wrapper keeps for itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OwnFlags {
    /// With a value.
    pub value: Vec<String>,
    /// Without.
    pub switch: Vec<String>,
}

/// A program that fetches models.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Download {
    names: Vec<String>,
    /// The flag that names the model; else the first word without a flag does.
    pub flag: Option<String>,
    /// Flags that name the directory.
    #[serde(default)]
    pub directory: Vec<String>,
    /// Flags with a value.
    #[serde(default)]
    pub value: Vec<String>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for those who read the file; a test wants it filled")
    )]
    source: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    #[expect(dead_code, reason = "for those who read the file")]
    source: String,
    programs: Vec<Program>,
    downloads: Vec<Download>,
    wrappers: Vec<String>,
    helpers: Vec<String>,
}

fn read() -> Result<Catalog, String> {
    serde_saphyr::from_str(include_str!("../../../catalog/servers.yaml")).map_err(|error| error.to_string())
}

fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    // The file is part of the program and tested; were it broken, no program would be known.
    CATALOG.get_or_init(|| read().unwrap_or_default())
}

impl Program {
    /// The engine whose sizing applies.
    pub(super) fn engine(&self) -> Option<Engine> {
        self.engine.as_deref().and_then(Engine::parse)
    }

    /// True where the words after the program are the engine's own.
    pub(super) fn passes(&self) -> bool {
        self.engine.is_some() && (self.settings.is_none() || self.passes)
    }
}

/// The program that a command begins with, and how many words name it. `server` is the server that the image holds.
pub(super) fn program(words: &[&str], server: Option<&str>) -> Option<(&'static Program, usize)> {
    let named = Named::new(words);
    let fits = |program: &&'static Program| {
        program
            .within
            .as_deref()
            .is_none_or(|within| Some(within) == server)
    };
    let longest = catalog()
        .programs
        .iter()
        .filter(fits)
        .filter_map(|program| Some((program, named.longest(&program.names)?)))
        .max_by_key(|(_, len)| *len)?;
    Some((longest.0, named.skipped + longest.1))
}

/// The download that a command begins with, and how many words name it.
pub(super) fn download(words: &[&str]) -> Option<(&'static Download, usize)> {
    let named = Named::new(words);
    let found = catalog()
        .downloads
        .iter()
        .find_map(|download| Some((download, named.longest(&download.names)?)))?;
    Some((found.0, named.skipped + found.1))
}

/// The program of a server that an image runs without a command of its own.
pub(super) fn of_server(server: &str) -> Option<&'static Program> {
    catalog()
        .programs
        .iter()
        .find(|program| program.server.as_deref() == Some(server) && program.serves)
}

/// True for a program that runs the words after it.
pub(super) fn is_wrapper(word: &str) -> bool {
    catalog().wrappers.iter().any(|known| known == base(word))
}

/// True for a script that is known to start no engine.
pub(super) fn is_harmless(word: &str) -> bool {
    catalog().helpers.iter().any(|known| known == base(word))
}

/// A path's last part.
pub(super) fn base(word: &str) -> &str {
    word.rsplit(['/', '\\']).next().unwrap_or(word)
}

/// True for `python3`, `/opt/venv/bin/python3.12` and the like.
pub(super) fn is_python(word: &str) -> bool {
    let rest = base(word)
        .strip_prefix("python")
        .or_else(|| base(word).strip_prefix("pypy"));
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// The words of a command as the catalog writes them: without directories, interpreters and their flags.
struct Named<'w> {
    words: Vec<&'w str>,
    /// Words left out at the beginning.
    skipped: usize,
}

impl<'w> Named<'w> {
    fn new(words: &[&'w str]) -> Self {
        let skipped = match words.first() {
            // `${PYTHON} -m vllm...`
            Some(first) if is_python(first) || first.starts_with('$') && words.get(1) == Some(&"-m") => {
                1 + interpreter_flags(words.get(1..).unwrap_or(&[]))
            }
            _ => 0,
        };
        let mut rest: Vec<&str> = words.iter().skip(skipped).take(4).copied().collect();
        if let Some(first) = rest.first_mut() {
            *first = base(first);
        }
        Self { words: rest, skipped }
    }

    /// How many words the longest of `names` takes that the command begins with.
    fn longest(&self, names: &[String]) -> Option<usize> {
        names.iter().filter_map(|name| self.begins(name)).max()
    }

    fn begins(&self, name: &str) -> Option<usize> {
        let mut len = 0;
        for wanted in name.split(' ') {
            let word = self.words.get(len)?;
            let fits = match wanted.strip_suffix('*') {
                Some(front) => word.starts_with(front),
                None => *word == wanted,
            };
            if !fits {
                return None;
            }
            len += 1;
        }
        Some(len)
    }
}

/// How many words in front of a module or script are the interpreter's.
fn interpreter_flags(words: &[&str]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match *word {
            "-m" | "-c" => return at,
            "-W" | "-X" => at += 2,
            word if word.starts_with('-') => at += 1,
            _ => return at,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(command: &str) -> Option<(Option<Engine>, Option<&'static str>, usize)> {
        let words: Vec<&str> = command.split(' ').collect();
        let (program, len) = program(&words, None)?;
        Some((program.engine(), program.server.as_deref(), len))
    }

    #[test]
    fn every_row_is_well_formed_and_has_a_source() {
        let catalog = read().unwrap();
        for program in &catalog.programs {
            assert!(
                !program.names.is_empty() && !program.source.is_empty(),
                "{program:?}"
            );
            assert!(
                program
                    .engine
                    .as_deref()
                    .is_none_or(|engine| Engine::parse(engine).is_some())
            );
            assert!(
                !program.serves || program.engine.is_some() || program.server.is_some(),
                "{program:?}"
            );
        }
        assert!(catalog.downloads.iter().all(|row| !row.source.is_empty()));
    }

    #[test]
    fn programs_are_found_behind_directories_and_interpreters() {
        assert_eq!(found("vllm serve x"), Some((Some(Engine::Vllm), None, 2)));
        assert_eq!(
            found("/usr/bin/python3.12 -u -m sglang.launch_server"),
            Some((Some(Engine::Sglang), None, 4))
        );
        assert_eq!(
            found("python3 koboldcpp.py --model x"),
            Some((Some(Engine::LlamaCpp), Some("koboldcpp"), 2))
        );
        assert_eq!(
            found("/app/llama-server -m x"),
            Some((Some(Engine::LlamaCpp), None, 1))
        );
        assert_eq!(
            found("trtllm-serve org/x"),
            Some((Some(Engine::TensorrtLlm), None, 1))
        );
        assert_eq!(
            found("trtllm-serve serve org/x"),
            Some((Some(Engine::TensorrtLlm), None, 2))
        );
        assert_eq!(found("vllm bench serve"), None);
        assert_eq!(found("python3 -m dynamo.frontend"), None);
        assert_eq!(found("python3 -m planner_sla --backend=vllm"), None);
    }

    #[test]
    fn a_name_that_says_little_counts_in_its_own_image_only() {
        let words = ["python3", "server.py", "--model", "x"];
        assert!(program(&words, None).is_none());
        assert!(program(&words, Some("text-generation-webui")).is_some());
    }
}
