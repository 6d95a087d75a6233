//! `docker run` and its like: flags of the runtime up to the image, then what the image runs.

use super::devices;
use super::environment::Environment;
use super::expansion::Word;
use super::programs::base;
use crate::fact::Fact;

/// A container started by a command.
pub(super) struct Container {
    pub image: Word,
    pub entrypoint: Option<Word>,
    pub arguments: Vec<Word>,
    pub environment: Environment,
    /// What `--gpus` says, where that is a number or a list.
    pub accelerators: Option<Fact<u64>>,
}

/// Flags without a value.
const SWITCHES: [&str; 14] = [
    "--rm",
    "--detach",
    "--interactive",
    "--tty",
    "--privileged",
    "--init",
    "--publish-all",
    "--read-only",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--quiet",
    "--replace",
    "--rmi",
    "--sig-proxy",
];

/// True for `docker run`, `sudo`-less.
pub(super) fn is_run(words: &[&str]) -> bool {
    let runtime = words
        .first()
        .is_some_and(|word| matches!(base(word), "docker" | "podman" | "nerdctl"));
    runtime && position_of_run(words).is_some()
}

fn position_of_run(words: &[&str]) -> Option<usize> {
    match words.get(1..)? {
        ["run" | "create", ..] => Some(1),
        ["container", "run" | "create", ..] => Some(2),
        _ => None,
    }
}

/// Reads the command of a container. `outer` are the variables that `-e NAME` passes on.
pub(super) fn run(words: &[Word], outer: &Environment) -> Option<Container> {
    let texts: Vec<&str> = words.iter().map(Word::value).collect();
    let mut rest = words.iter().skip(position_of_run(&texts)? + 1);
    let mut environment = Environment::default();
    let (mut entrypoint, mut accelerators) = (None, None);
    let image = loop {
        let word = rest.next()?;
        let value = word.value();
        if !value.starts_with('-') {
            break word.clone();
        }
        if is_switch(value) {
            continue;
        }
        let (name, given) = match value.split_once('=').filter(|(name, _)| name.starts_with("--")) {
            Some((name, _)) => (name.to_owned(), word.tail(name.len() + 1)),
            // `-eNAME=VALUE`
            None if !value.starts_with("--") && value.len() > 2 => {
                (value.chars().take(2).collect(), word.tail(2))
            }
            None => (value.to_owned(), rest.next()?.clone()),
        };
        match name.as_str() {
            "-e" | "--env" => pass(&given, outer, &mut environment),
            "--entrypoint" => entrypoint = Some(given),
            "--gpus" => accelerators = gpus(&given),
            _ => {}
        }
    };
    Some(Container {
        image,
        entrypoint,
        arguments: rest.cloned().collect(),
        environment,
        accelerators,
    })
}

fn is_switch(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or(word);
    let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    SWITCHES.contains(&name)
        || short.is_some_and(|letters| letters.chars().all(|c| matches!(c, 'd' | 'i' | 't' | 'P' | 'q')))
}

fn pass(given: &Word, outer: &Environment, environment: &mut Environment) {
    match given.value().split_once('=') {
        Some((name, _)) => environment.set_text(name.to_owned(), given.tail(name.len() + 1).text),
        None => {
            if let Some(variable) = outer.get(given.value()) {
                environment.set(given.value().to_owned(), variable.clone());
            }
        }
    }
}

/// `2`, `device=0,1`; nothing for `all`.
fn gpus(given: &Word) -> Option<Fact<u64>> {
    let value = given.value().trim_matches(['"', '\'']);
    let count = match value.strip_prefix("device=") {
        Some(list) => devices::count(list),
        None => value.parse().ok(),
    };
    count.map(|count| given.fact().map(|_| count))
}
