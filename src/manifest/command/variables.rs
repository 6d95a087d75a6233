//! Settings that do not come from an engine's own flags: environment variables, and the flags of wrappers and of
//! servers with parsers of their own.

use super::environment::{Environment, Variable};
use super::expansion::Word;
use super::images::ImageEngine;
use super::programs::Program;
use super::start::variable;
use super::{Invocation, Text};
use crate::engine::args::{self, ParsedArgs};
use crate::engine::flags::{Flag, FlagTable, Takes};
use crate::engine::{Engine, Settings};
use crate::fact::Fact;
use crate::source::Sources;

/// Reads the variables that an engine reads itself.
pub(super) fn of_engine(
    invocation: &mut Invocation,
    engine: Option<Engine>,
    environment: &Environment,
    sources: &Sources,
) {
    let Some(engine) = engine else { return };
    for flag in &FlagTable::of(engine).flags {
        let (Some(name), Some(setting)) = (&flag.env, &flag.setting) else {
            continue;
        };
        match variable(environment, name) {
            Some(Ok(value)) if flag.names.is_empty() => {
                set(
                    &mut invocation.settings,
                    &mut invocation.unresolved,
                    setting,
                    value,
                );
            }
            Some(Ok(value)) => take(invocation, engine, flag, &value, sources),
            Some(Err(())) => invocation.unresolved.push(setting.clone()),
            None => {}
        }
    }
}

/// Sets what a flag would set with a value.
fn take(invocation: &mut Invocation, engine: Engine, flag: &Flag, value: &Fact<String>, sources: &Sources) {
    let Some(name) = flag.names.last() else { return };
    let word = value.clone().map(|_| name.clone());
    let words = match flag.takes {
        Takes::Switch | Takes::Negatable => match value.value.to_ascii_lowercase().as_str() {
            "1" | "true" | "on" | "yes" | "enabled" => vec![word],
            _ => return,
        },
        _ => vec![word, value.clone()],
    };
    let parsed = args::parse(engine, None, &words, sources);
    for (id, fact) in parsed.settings.iter() {
        invocation.settings.set(id, fact.clone());
    }
    invocation.unresolved.extend(parsed.unresolved);
    invocation.problems.extend(parsed.problems);
}

/// Reads the variables that an image's start script reads.
pub(super) fn of_image(invocation: &mut Invocation, image: &ImageEngine, environment: &Environment) {
    for (name, setting) in image.environment {
        let Some(setting) = setting else { continue };
        match variable(environment, name) {
            Some(Ok(value)) => set(
                &mut invocation.settings,
                &mut invocation.unresolved,
                setting,
                value,
            ),
            Some(Err(())) => invocation.unresolved.push(setting.clone()),
            None => {}
        }
    }
}

fn set(settings: &mut Settings, unresolved: &mut Vec<String>, setting: &str, value: Fact<String>) {
    if args::is_placeholder(&value.value) {
        unresolved.push(setting.to_owned());
    }
    settings.set(setting, value);
}

/// Engines whose custom images take flags as variables of this form: `VLLM_MAX_MODEL_LEN` for `--max-model-len`.
const CONTRACTS: [(Engine, &str); 2] = [(Engine::Vllm, "VLLM_"), (Engine::Sglang, "SGLANG_")];

/// Variables named after an engine's flags, with the flags.
fn named_after_flags(engine: Engine, environment: &Environment) -> Vec<(&'static Flag, &str, &Variable)> {
    let Some((_, front)) = CONTRACTS.iter().find(|(known, _)| *known == engine) else {
        return Vec::new();
    };
    let table = FlagTable::of(engine);
    environment
        .iter()
        .filter_map(|(name, variable)| {
            let flag = name.strip_prefix(front)?.to_ascii_lowercase().replace('_', "-");
            let flag = table.flags.iter().find(|known| {
                known
                    .names
                    .iter()
                    .any(|name| name.strip_prefix("--") == Some(&flag))
            })?;
            flag.setting.is_some().then_some((flag, name, variable))
        })
        .collect()
}

/// The engine whose flags the variables are named after: at least two beside the model, since clients name one too.
pub(super) fn engine_of(environment: &Environment) -> Option<Engine> {
    CONTRACTS.iter().map(|(engine, _)| *engine).find(|engine| {
        let named = named_after_flags(*engine, environment);
        named
            .iter()
            .filter(|(flag, ..)| flag.setting.as_deref() != Some("model"))
            .count()
            >= 2
    })
}

/// Reads variables named after flags, as start scripts of custom images do. What is set already stays.
pub(super) fn contract(invocation: &mut Invocation, environment: &Environment) {
    let Some(engine) = invocation.engine.as_ref().map(|engine| engine.value) else {
        return;
    };
    let nothing = Sources::default();
    for (flag, _, variable) in named_after_flags(engine, environment) {
        let Some(setting) = &flag.setting else { continue };
        if invocation.settings.get(setting).is_some() {
            continue;
        }
        match variable {
            Variable::Known(text) if text.is_empty() => {}
            Variable::Known(text) => take(invocation, engine, flag, &text.fact(), &nothing),
            Variable::Unknown { .. } => invocation.unresolved.push(setting.clone()),
        }
    }
    if invocation.model.is_none() {
        invocation.model = invocation.settings.get("model").cloned();
    }
}

/// Parts the words after a program: those that its engine reads, and what its own flags set.
pub(super) fn sift(program: &Program, words: &[Word]) -> (Vec<Fact<String>>, ParsedArgs) {
    let mut passed = Vec::new();
    let mut own = ParsedArgs::default();
    let mut rest = words.iter().peekable();
    let mut after_flag = false;
    while let Some(word) = rest.next() {
        let value = word.value();
        if !value.starts_with('-') {
            if program.passes() {
                passed.push(word.fact());
            } else if !after_flag {
                own.positionals.push(word.fact());
            }
            after_flag = false;
            continue;
        }
        let (name, inline) = match value.split_once('=') {
            Some((name, _)) => (name, Some(word.tail(name.len() + 1).fact())),
            None => (value, None),
        };
        after_flag = inline.is_none();
        let key = name.replace('_', "-");
        let is = |known: &str| known.replace('_', "-") == key;
        let setting = program
            .settings
            .as_ref()
            .and_then(|settings| settings.iter().find(|(known, _)| is(known)))
            .map(|(_, setting)| setting);
        let kept = program.own.as_ref();
        let takes_value =
            setting.is_some() || kept.is_some_and(|kept| kept.value.iter().any(|known| is(known)));
        if takes_value {
            let follows = rest.peek().is_some_and(|next| !next.value().starts_with("--"));
            let given = inline.or_else(|| follows.then(|| rest.next().map(Word::fact)).flatten());
            after_flag = false;
            // A flag without its value is a switch.
            let given = given.unwrap_or_else(|| word.fact().map(|_| "true".to_owned()));
            if let Some(Some(setting)) = setting {
                set(&mut own.settings, &mut own.unresolved, setting, given);
            }
        } else if kept.is_some_and(|kept| kept.switch.iter().any(|known| is(known))) {
            after_flag = false;
        } else if program.passes() {
            passed.push(word.fact());
        }
    }
    (passed, own)
}

/// The words of a text that holds flags only.
pub(super) fn words(text: &Text, environment: &Environment) -> super::SplitWords {
    let shell = super::script::Shell::new(environment.clone(), 0);
    let (words, problems) = super::script::split(text, &shell);
    let problems = problems
        .into_iter()
        .filter_map(|(range, sentence)| Some((text.place(range)?, sentence)))
        .collect();
    (words.iter().map(Word::fact).collect(), problems)
}
