//! What stands after a program: the engine's words, and the settings that variables, option files and flags of
//! wrappers add to them.
//!
//! Settings are read in the order in which the engines let them win: environment, option file, arguments. The
//! arguments themselves stay words, for [`crate::engine::args`] to read once more with the whole deployment.

use super::expansion::Word;
use super::images::ImageEngine;
use super::options;
use super::programs::Program;
use super::script::Shell;
use super::text::Text;
use super::{Invocation, devices, variables};
use crate::engine::args::{self, ParsedArgs};
use crate::engine::{Engine, Settings, Version};
use crate::fact::Fact;
use crate::source::Sources;

/// What is at hand when arguments are read.
pub(super) struct Reading<'a> {
    pub sources: &'a Sources,
    pub files: &'a dyn Fn(&str) -> Option<Text>,
    /// What the image holds.
    pub holds: Option<&'a ImageEngine>,
}

impl Reading<'_> {
    /// Reads what stands after a program, and what environment and option files add.
    pub(super) fn arguments(
        &self,
        invocation: &mut Invocation,
        program: Option<&Program>,
        words: &[Word],
        positional: bool,
        shell: &Shell,
    ) {
        let engine = invocation.engine.as_ref().map(|engine| engine.value);
        variables::of_engine(invocation, engine, &shell.variables, self.sources);
        if let Some(holds) = self.holds {
            variables::of_image(invocation, holds, &shell.variables);
        }
        let own = program.map(|program| variables::sift(program, words));
        let (words, own) = match own {
            Some(parted) => parted,
            None => (words.iter().map(Word::fact).collect(), ParsedArgs::default()),
        };
        let parsed = match engine {
            Some(engine) if !words.is_empty() => {
                let version = invocation
                    .version
                    .as_ref()
                    .and_then(|version| Version::parse(&version.value));
                args::parse(engine, version, &words, self.sources)
            }
            _ => ParsedArgs::default(),
        };
        self.option_files(invocation, engine, &parsed, &own, shell);
        for (id, fact) in own.settings.iter() {
            invocation.settings.set(id, fact.clone());
        }
        let from_settings = model_of(engine, &invocation.settings);
        let from_args = model_of(engine, &parsed.settings);
        let first = parsed
            .positionals
            .first()
            .or_else(|| own.positionals.first())
            .cloned();
        let first = first.filter(|_| positional);
        let open = first
            .as_ref()
            .is_some_and(|word| args::is_placeholder(&word.value));
        invocation.model = match (first, from_args) {
            (Some(first), None) => Some(first),
            (Some(first), Some(_)) if !open => Some(first),
            (_, named) => named.or(from_settings),
        };
        // What a variable leaves open an argument may have settled.
        let settled = |id: &str| parsed.settings.get(id).is_some() || own.settings.get(id).is_some();
        invocation.unresolved.retain(|id| !settled(id));
        invocation.unresolved.extend(parsed.unresolved);
        invocation.unresolved.extend(own.unresolved);
        if let Some(engine) = engine {
            let doubtful: Vec<_> = shell.doubtful.iter().map(Word::fact).collect();
            let doubtful = args::parse(engine, None, &doubtful, self.sources);
            invocation
                .unresolved
                .extend(doubtful.settings.iter().map(|(id, _)| id.to_owned()));
        }
        invocation.args = words;
        invocation.visible_devices = devices::visible(&shell.variables);
    }

    fn option_files(
        &self,
        invocation: &mut Invocation,
        engine: Option<Engine>,
        parsed: &ParsedArgs,
        own: &ParsedArgs,
        shell: &Shell,
    ) {
        let Some(engine) = engine else { return };
        let path = parsed
            .settings
            .get("config_file")
            .or_else(|| own.settings.get("config_file"));
        let Some(path) = path else { return };
        let text = shell
            .written
            .get(&path.value)
            .cloned()
            .or_else(|| (self.files)(&path.value));
        match text {
            Some(text) => {
                let file = options::option_text(engine, &text);
                for (id, fact) in file.settings.iter() {
                    invocation.settings.set(id, fact.clone());
                }
                invocation.unresolved.extend(file.unresolved);
                invocation.problems.extend(file.problems);
            }
            None => invocation.unresolved.push("config_file".to_owned()),
        }
    }
}

/// The model among settings, by each engine's rules.
fn model_of(engine: Option<Engine>, settings: &Settings) -> Option<Fact<String>> {
    let ids: &[&str] = match engine {
        Some(Engine::LlamaCpp) => &["hf_repo", "model", "model_url"],
        _ => &["model", "hf_repo"],
    };
    ids.iter().find_map(|id| settings.get(id)).cloned()
}

/// True where words are an engine's flags more likely than a script's own.
pub(super) fn looks_like_flags(engine: Engine, words: &[Fact<String>], sources: &Sources) -> bool {
    let parsed = args::parse(engine, None, words, sources);
    let known = parsed.settings.iter().count();
    known > 0 && parsed.unknown.len() <= known
}

/// The engine whose parser knows the flags best, where at least one says more than a model's name.
pub(super) fn guess(words: &[Fact<String>], sources: &Sources) -> Option<Engine> {
    const COMMON: [&str; 6] = [
        "model",
        "tokenizer",
        "dtype",
        "model_revision",
        "served_model_name",
        "config_file",
    ];
    const ORDER: [Engine; 5] = [
        Engine::Vllm,
        Engine::Sglang,
        Engine::LlamaCpp,
        Engine::Tgi,
        Engine::TensorrtLlm,
    ];
    let score = |engine: Engine| {
        let parsed = args::parse(engine, None, words, sources);
        let telling = parsed
            .settings
            .iter()
            .filter(|(id, _)| !COMMON.contains(id))
            .count();
        let readable = parsed.unknown.is_empty() && parsed.problems.is_empty();
        (telling > 0 && readable && words.iter().any(is_of_engines)).then_some((telling, engine))
    };
    let mut best: Option<(usize, Engine)> = None;
    for (telling, engine) in ORDER.into_iter().filter_map(score) {
        if best.is_none_or(|(most, _)| telling > most) {
            best = Some((telling, engine));
        }
    }
    best.map(|(_, engine)| engine)
}

/// True for a flag that only engines have: `-c`, `--device` and `--model` are flags of many programs.
fn is_of_engines(word: &Fact<String>) -> bool {
    const FLAGS: [&str; 20] = [
        "--gpu-memory-utilization",
        "--max-model-len",
        "--tensor-parallel",
        "--pipeline-parallel",
        "--data-parallel-size",
        "--max-num-seq",
        "--max-num-batched-token",
        "--kv-cache-dtype",
        "--mem-frac",
        "--context-length",
        "--tp-size",
        "--max-running-requests",
        "--n-gpu-layers",
        "--gpu-layers",
        "--ctx-size",
        "--cache-type-k",
        "--cache-type-v",
        "--num-shard",
        "--max-total-tokens",
        "--max-batch-prefill-tokens",
    ];
    let flag = word.value.replace('_', "-");
    FLAGS.iter().any(|known| flag.starts_with(known))
}
