//! From the commands of a container to the engines they start: wrappers looked through, shells and container
//! runtimes entered, environment and option files read.
//!
//! What a command is is decided by its words alone; the image is asked where the words say nothing.

use std::collections::BTreeSet;

use super::arguments::{self, Reading};
use super::environment::{Environment, Variable};
use super::expansion::{self, Word};
use super::images::{ImageEngine, image_engine};
use super::interpolation;
use super::programs::{self, Download, Program};
use super::script::{self, Shell, Visitor};
use super::shell::{self, Item};
use super::text::Text;
use super::{Invocation, Launch, Role, Words, docker, variables};
use crate::engine::args;
use crate::engine::{Engine, Settings};
use crate::fact::Fact;
use crate::source::{Sources, Span};

/// Pieces of scripts that are looked at in one launch.
const MAX_PIECES: usize = 20_000;
/// Problems that are kept of one launch.
const MAX_PROBLEMS: usize = 20;

/// Follows one launch.
pub(super) struct Start<'a> {
    sources: &'a Sources,
    files: &'a dyn Fn(&str) -> Option<Text>,
    image: Option<Fact<String>>,
    holds: Option<ImageEngine>,
    found: Vec<(Invocation, Vec<(usize, usize)>)>,
    problems: Vec<(Span, String)>,
    /// Releases that the script installs.
    installed: Vec<(Engine, Fact<String>)>,
    /// The words of a script that is in no file.
    unseen: Option<(Vec<Word>, Environment)>,
    left: usize,
    depth: usize,
}

/// Everything that a launch starts.
pub(super) fn start(launch: &Launch<'_>) -> Vec<Invocation> {
    start_at(launch, 0)
}

fn start_at(launch: &Launch<'_>, depth: usize) -> Vec<Invocation> {
    let mut start = Start {
        sources: launch.sources,
        files: launch.files,
        image: launch.image.clone(),
        holds: launch.image.as_ref().and_then(image_engine),
        found: Vec::new(),
        problems: Vec::new(),
        installed: Vec::new(),
        unseen: None,
        left: MAX_PIECES,
        depth,
    };
    start.launch(launch);
    start.finish()
}

impl Start<'_> {
    fn launch(&mut self, launch: &Launch<'_>) {
        let mut shell = Shell::new(launch.environment.clone(), self.depth);
        let Some(entrypoint) = &launch.entrypoint else {
            self.without_entrypoint(launch, &mut shell);
            return;
        };
        let mut words = match entrypoint {
            Words::Shell(text) if launch.arguments.is_none() && !is_flags(text) => {
                script::follow(text, &mut shell, self);
                self.or_image(&shell);
                return;
            }
            Words::Shell(text) | Words::Line(text) => self.split(text, &shell),
            Words::List(list) => self.list(list, true, &shell),
        };
        match &launch.arguments {
            // What follows `sh -c` is one script, however it is written.
            Some(Words::Shell(text) | Words::Line(text)) if waits_for_script(&words) => {
                words.push(Word::new(text.clone()));
            }
            Some(Words::Shell(text) | Words::Line(text)) => words.extend(self.split(text, &shell)),
            Some(Words::List(list)) => words.extend(self.list(list, false, &shell)),
            None => {}
        }
        self.command(&words, &shell, None);
        self.or_image(&shell);
    }

    fn without_entrypoint(&mut self, launch: &Launch<'_>, shell: &mut Shell) {
        let words = match &launch.arguments {
            Some(Words::Shell(text)) => {
                if !is_flags(text) {
                    script::follow(text, shell, self);
                    if !self.found.is_empty() || self.unseen.is_some() || !is_one_command(text) {
                        self.or_image(shell);
                        return;
                    }
                }
                self.split(text, shell)
            }
            Some(Words::Line(text)) => self.split(text, shell),
            Some(Words::List(list)) => self.list(list, true, shell),
            None => Vec::new(),
        };
        let begins_with_flag = words.first().is_some_and(|word| word.value().starts_with('-'));
        if !begins_with_flag {
            self.command(&words, shell, None);
        }
        if !self.found.is_empty() {
            return;
        }
        if !words.first().is_some_and(|word| is_idle(word.value())) {
            self.behind_image(&words, begins_with_flag, shell);
        }
        self.or_image(shell);
    }

    /// Words behind what the image runs by itself.
    fn behind_image(&mut self, words: &[Word], begins_with_flag: bool, shell: &Shell) {
        let Some(holds) = self.holds.clone() else {
            self.image_runs(words, shell);
            return;
        };
        let mut front = holds.entrypoint.clone();
        if words.is_empty() {
            front.extend(holds.command.iter().cloned());
        }
        // `serve` is written by some where the image's entrypoint has it already.
        if front.len() > 1 && front.last().map(String::as_str) == words.first().map(Word::value) {
            front.pop();
        }
        if !front.is_empty() {
            let front = front.iter().map(|word| Word::new(Text::literal(word)));
            let all: Vec<Word> = front.chain(words.iter().cloned()).collect();
            self.command(&all, shell, None);
        }
        if !self.found.is_empty() {
            return;
        }
        // What an image of somebody's own puts in front is not known: a model and flags tell.
        let bare = words.iter().position(|word| word.value() != "serve").unwrap_or(0);
        let rest = words.get(bare..).unwrap_or(&[]);
        let facts: Vec<Fact<String>> = rest.iter().map(Word::fact).collect();
        let engine = holds
            .engine
            .filter(|_| holds.entrypoint.is_empty() && !holds.idle);
        if begins_with_flag || words.is_empty() {
            self.image_runs(words, shell);
        } else if engine.is_some_and(|engine| arguments::looks_like_flags(engine, &facts, self.sources)) {
            self.image_runs(rest, shell);
        }
    }

    fn split(&mut self, text: &Text, shell: &Shell) -> Vec<Word> {
        let (words, problems) = script::split(text, shell);
        for (range, sentence) in problems {
            self.problem(text.place(range), sentence);
        }
        words
    }

    /// The words of a list. An item that holds a flag with its value, or a whole command, is read as it was meant.
    fn list(&mut self, items: &[Text], front: bool, shell: &Shell) -> Vec<Word> {
        let mut words = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            if !is_several(item.value(), front && at == 0) {
                words.push(Word::new(item.clone()));
                continue;
            }
            let sentence = "this is one word to the program: give the flag and its value an item each";
            self.problem(item.span(), sentence.to_owned());
            words.extend(self.split(item, shell));
        }
        words
    }

    /// The image's own server with these arguments, or the engine that flags and variables speak of.
    fn image_runs(&mut self, words: &[Word], shell: &Shell) {
        match self.holds.clone() {
            Some(holds) if holds.idle && words.is_empty() => {}
            Some(holds) if holds.serves && (holds.engine.is_some() || holds.server.is_some()) => {
                self.of_image(&holds, words, shell);
            }
            None if words.first().is_none_or(|word| word.value().starts_with('-')) => {
                self.by_flags(words, shell);
            }
            _ => {}
        }
    }

    fn of_image(&mut self, holds: &ImageEngine, words: &[Word], shell: &Shell) {
        let program = holds.server.as_deref().and_then(programs::of_server);
        let mut invocation = self.blank(holds.engine, holds.server.as_deref(), words);
        self.reading()
            .arguments(&mut invocation, program, words, true, shell);
        if words.is_empty() {
            variables::contract(&mut invocation, &shell.variables);
        }
        self.keep(invocation, shell);
    }

    /// An image that says nothing: flags, or variables of a custom image, may.
    fn by_flags(&mut self, words: &[Word], shell: &Shell) {
        let facts: Vec<Fact<String>> = words.iter().map(Word::fact).collect();
        if let Some(engine) = arguments::guess(&facts, self.sources) {
            let mut invocation = self.blank(Some(engine), None, words);
            self.reading()
                .arguments(&mut invocation, None, words, true, shell);
            self.keep(invocation, shell);
        } else if words.is_empty()
            && let Some(engine) = variables::engine_of(&shell.variables)
        {
            let mut invocation = self.blank(Some(engine), None, words);
            variables::contract(&mut invocation, &shell.variables);
            self.reading()
                .arguments(&mut invocation, None, words, true, shell);
            self.keep(invocation, shell);
        }
    }

    /// An engine's image whose script is in no file still serves something.
    fn or_image(&mut self, shell: &Shell) {
        let serves = self.found.iter().any(|(found, _)| found.role == Role::Serves);
        // A script that a shell cannot read hides what it starts: the engine's image tells that it was meant to.
        if !serves && self.unseen.is_none() && !self.problems.is_empty() {
            self.unseen = Some((Vec::new(), shell.variables.clone()));
        }
        let Some((words, environment)) = self.unseen.take().filter(|_| !serves) else {
            return;
        };
        let Some(holds) = self.holds.clone().filter(|holds| holds.serves) else {
            return;
        };
        let mut invocation = self.blank(holds.engine, holds.server.as_deref(), &words);
        let facts: Vec<Fact<String>> = words.iter().map(Word::fact).collect();
        let looks = holds
            .engine
            .is_some_and(|engine| arguments::looks_like_flags(engine, &facts, self.sources));
        let taken = if looks { words.as_slice() } else { &[] };
        let mut shell = shell.clone();
        shell.variables = environment;
        self.reading()
            .arguments(&mut invocation, None, taken, true, &shell);
        variables::contract(&mut invocation, &shell.variables);
        for field in ["model", "context"] {
            let given = match field {
                "model" => invocation.model.is_some(),
                _ => invocation.settings.get(field).is_some(),
            };
            if !given && !looks {
                invocation.unresolved.push(field.to_owned());
            }
        }
        self.keep(invocation, &shell);
    }

    fn blank(&self, engine: Option<Engine>, server: Option<&str>, words: &[Word]) -> Invocation {
        let of = |words: &[Word]| self.join(words.iter().filter_map(|word| word.fact().span()));
        let span = of(words).or_else(|| self.image.as_ref().and_then(Fact::span));
        let fact = |span: Option<Span>| span.map_or_else(Vec::new, |span| vec![span]);
        let version = self
            .holds
            .as_ref()
            .filter(|holds| holds.engine == engine)
            .and_then(|holds| holds.version.clone());
        let installed = self.installed.iter().rev().find(|(of, _)| Some(*of) == engine);
        let version = installed.map(|(_, release)| release.clone()).or(version);
        Invocation {
            engine: engine.map(|engine| Fact::derived(engine, fact(span))),
            server: server.map(|server| Fact::derived(server.to_owned(), fact(span))),
            version,
            is_own_build: self.holds.as_ref().is_some_and(|holds| holds.is_own_build),
            args: Vec::new(),
            settings: Settings::default(),
            model: None,
            visible_devices: None,
            unresolved: Vec::new(),
            problems: Vec::new(),
            span,
            role: Role::Serves,
        }
    }

    fn reading(&self) -> Reading<'_> {
        Reading {
            sources: self.sources,
            files: self.files,
            holds: self.holds.as_ref(),
        }
    }

    /// The characters from the first span to the last, as far as they lie in one file.
    fn join(&self, spans: impl Iterator<Item = Span>) -> Option<Span> {
        let mut spans = spans.peekable();
        let first = *spans.peek()?;
        let file = self.sources.get(first.file())?;
        let (mut start, mut end) = (first.start(), first.end());
        for span in spans.filter(|span| span.file() == first.file()) {
            start = start.min(span.start());
            end = end.max(span.end());
        }
        Some(file.span(start..end))
    }

    fn keep(&mut self, mut invocation: Invocation, shell: &Shell) {
        if let Some(image) = &self.image
            && image.value.split(':').next().is_some_and(args::is_placeholder)
        {
            invocation.unresolved.push("image".to_owned());
        }
        if invocation
            .model
            .as_ref()
            .is_some_and(|model| args::is_placeholder(&model.value))
        {
            invocation.unresolved.push("model".to_owned());
        }
        if invocation.model.is_none()
            && let (Some(holds), Some(image)) = (&self.holds, &self.image)
            && holds.is_model
        {
            invocation.model = Some(image.clone());
        }
        let mut seen = BTreeSet::new();
        invocation.unresolved.retain(|field| seen.insert(field.clone()));
        self.found.push((invocation, shell.path.clone()));
    }

    fn serve(&mut self, program: &'static Program, len: usize, words: &[Word], shell: &Shell) {
        if !program.serves {
            return;
        }
        // A program of an engine inside another server's image is that server's.
        let holds = self
            .holds
            .as_ref()
            .filter(|holds| holds.engine == program.engine());
        let server = program
            .server
            .clone()
            .or_else(|| holds.and_then(|holds| holds.server.clone()));
        let mut invocation = self.blank(program.engine(), server.as_deref(), words);
        let rest = words.get(len..).unwrap_or(&[]);
        let whole = match (&program.server, &server) {
            (None, Some(server)) => {
                programs::of_server(server).filter(|other| other.engine() == program.engine())
            }
            _ => None,
        };
        let program = whole.unwrap_or(program);
        self.reading()
            .arguments(&mut invocation, Some(program), rest, program.positional, shell);
        self.keep(invocation, shell);
    }

    fn download(&mut self, download: &Download, len: usize, words: &[Word], shell: &Shell) {
        let (mut model, mut directory) = (None, None);
        let mut rest = words.iter().skip(len);
        while let Some(word) = rest.next() {
            if !word.value().starts_with('-') {
                model = model.or_else(|| download.flag.is_none().then(|| word.fact()));
                continue;
            }
            let (name, inline) = match word.value().split_once('=') {
                Some((name, _)) => (name, Some(word.tail(name.len() + 1))),
                None => (word.value(), None),
            };
            if !download.value.iter().any(|known| known == name) {
                continue;
            }
            let Some(value) = inline.or_else(|| rest.next().cloned()) else {
                return;
            };
            if download.directory.iter().any(|known| known == name) {
                directory = Some(value.fact());
            }
            if download.flag.as_deref() == Some(name) {
                model = Some(value.fact());
            }
        }
        let Some(model) = model else { return };
        let is_ollama = words
            .first()
            .is_some_and(|word| programs::base(word.value()) == "ollama");
        let mut invocation = self.blank(is_ollama.then_some(Engine::Ollama), None, words);
        invocation.model = Some(model.clone());
        invocation.role = Role::Downloads { model, directory };
        self.keep(invocation, shell);
    }

    /// The script of `sh -c`, or the file that a shell runs.
    fn shell(&mut self, words: &[Word], shell: &Shell, input: Option<&Text>) {
        let mut inner = shell.inside(&[]);
        match script_of(words) {
            Some((true, at)) => {
                let Some(script) = words.get(at) else { return };
                inner.positional = words.get(at + 2..).unwrap_or(&[]).to_vec();
                script::follow(&script.text, &mut inner, self);
            }
            Some((false, at)) => self.script_file(words.get(at..).unwrap_or(&[]), shell),
            None => {
                if let Some(input) = input {
                    script::follow(input, &mut inner, self);
                }
            }
        }
    }

    /// A script by its path: followed where its text is known.
    fn script_file(&mut self, words: &[Word], shell: &Shell) {
        let Some(path) = words.first() else { return };
        if programs::is_harmless(path.value()) {
            return;
        }
        let text = shell
            .written
            .get(path.value())
            .cloned()
            .or_else(|| (self.files)(path.value()));
        let rest = words.get(1..).unwrap_or(&[]);
        match text {
            Some(text) => {
                let mut inner = shell.inside(rest);
                script::follow(&text, &mut inner, self);
            }
            None if self.unseen.is_none() => self.unseen = Some((rest.to_vec(), shell.variables.clone())),
            None => {}
        }
    }

    /// A program that runs the words after it: looked for where they begin.
    fn wrapped(&mut self, words: &[Word], shell: &Shell) {
        let mut inner = shell.clone();
        for (at, word) in words.iter().enumerate().skip(1).take(200) {
            let rest = words.get(at..).unwrap_or(&[]);
            if self.recognises(rest) {
                self.command(rest, &inner, None);
                return;
            }
            if let Some((name, value)) = assignment(word) {
                inner.variables.set_text(name, value);
            }
        }
    }

    fn recognises(&self, words: &[Word]) -> bool {
        let Some(first) = words.first() else { return false };
        let texts = texts(words);
        programs::program(&texts, self.server()).is_some()
            || programs::download(&texts).is_some()
            || (is_shell(first.value()) && words.len() > 1)
            || docker::is_run(&texts)
            || is_script(first.value())
    }

    fn server(&self) -> Option<&str> {
        let holds = self.holds.as_ref()?;
        holds.server.as_deref().or_else(|| holds.engine.map(Engine::name))
    }

    fn container(&mut self, words: &[Word], shell: &Shell) {
        let Some(run) = docker::run(words, &shell.variables) else {
            return;
        };
        if self.depth >= script::MAX_DEPTH {
            return;
        }
        let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect();
        let launch = Launch {
            image: Some(run.image.fact()),
            entrypoint: run.entrypoint.map(|word| Words::List(vec![word.text])),
            arguments: (!run.arguments.is_empty()).then(|| Words::List(texts(&run.arguments))),
            environment: &run.environment,
            sources: self.sources,
            files: self.files,
        };
        for mut invocation in start_at(&launch, self.depth + 1) {
            if invocation.visible_devices.is_none() {
                invocation.visible_devices.clone_from(&run.accelerators);
            }
            invocation.span = self.join(words.iter().filter_map(|word| word.fact().span()));
            self.found.push((invocation, shell.path.clone()));
        }
    }

    /// One command, by its words.
    fn dispatch(&mut self, words: &[Word], shell: &Shell, input: Option<&Text>) {
        let Some(first) = words.first().map(Word::value) else {
            return;
        };
        let texts = texts(words);
        if let Some((program, len)) = programs::program(&texts, self.server()) {
            self.serve(program, len, words, shell);
        } else if let Some((download, len)) = programs::download(&texts) {
            self.download(download, len, words, shell);
        } else if is_shell(first) {
            self.shell(words, shell, input);
        } else if docker::is_run(&texts) {
            self.container(words, shell);
        } else if first == "eval" {
            let mut inner = shell.inside(&shell.positional);
            script::follow(
                &expansion::joined(words.get(1..).unwrap_or(&[])),
                &mut inner,
                self,
            );
        } else if programs::is_wrapper(first) {
            self.installed.extend(installed(words));
            self.wrapped(words, shell);
        } else if is_script(first) {
            self.script_file(words, shell);
        } else {
            self.installed.extend(installed(words));
        }
    }

    fn finish(self) -> Vec<Invocation> {
        let Self { found, problems, .. } = self;
        let mut kept: Vec<(Invocation, Vec<(usize, usize)>)> = Vec::new();
        for (invocation, path) in found {
            let known = kept
                .iter()
                .any(|(other, other_path)| is_same(&invocation, &path, other, other_path));
            if !known {
                kept.push((invocation, path));
            }
        }
        let mut invocations: Vec<Invocation> = kept.into_iter().map(|(invocation, _)| invocation).collect();
        name_pulled_model(&mut invocations);
        if let Some(first) = invocations.first_mut() {
            first.problems.extend(problems);
            first.problems.truncate(MAX_PROBLEMS);
        }
        invocations
    }
}

impl Visitor for Start<'_> {
    fn command(&mut self, words: &[Word], shell: &Shell, input: Option<&Text>) {
        let assigned: Vec<_> = words.iter().map_while(assignment).collect();
        if assigned.is_empty() {
            self.dispatch(words, shell, input);
            return;
        }
        let rest = words.get(assigned.len()..).unwrap_or(&[]);
        let mut inner = shell.clone();
        for (name, value) in assigned {
            inner.variables.set_text(name, value);
        }
        self.dispatch(rest, &inner, input);
    }

    fn problem(&mut self, span: Option<Span>, sentence: String) {
        let Some(span) = span.filter(|_| self.problems.len() < MAX_PROBLEMS) else {
            return;
        };
        if !self
            .problems
            .iter()
            .any(|known| *known == (span, sentence.clone()))
        {
            self.problems.push((span, sentence));
        }
    }

    fn file(&self, path: &str) -> Option<Text> {
        (self.files)(path)
    }

    fn spend(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
}

/// True for a command that keeps a container up, or that somebody works with inside of it.
fn is_idle(word: &str) -> bool {
    is_shell(word)
        || programs::is_python(word)
        || matches!(programs::base(word), "sleep" | "tail" | "cat" | "true")
}

/// True for an item of a list that is several words: `--flag value`, or a program with its arguments.
fn is_several(item: &str, first: bool) -> bool {
    let Some((front, rest)) = item.trim().split_once(char::is_whitespace) else {
        return false;
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_flag = front
        .strip_prefix('-')
        .is_some_and(|name| name.chars().all(is_name));
    let words: Vec<&str> = item.split_whitespace().take(4).collect();
    (is_flag && !rest.is_empty()) || (first && programs::program(&words, None).is_some())
}

/// The release that `pip install` names of an engine.
fn installed(words: &[Word]) -> Vec<(Engine, Fact<String>)> {
    let installs = words.iter().take(6).any(|word| word.value() == "install")
        && words
            .iter()
            .take(4)
            .any(|word| programs::base(word.value()).starts_with("pip"));
    let release = |word: &Word| {
        let (package, release) = word.value().split_once("==")?;
        let package = package.split('[').next()?;
        let engine = match package {
            "vllm" => Engine::Vllm,
            "sglang" => Engine::Sglang,
            "tensorrt-llm" | "tensorrt_llm" => Engine::TensorrtLlm,
            "mlx-lm" => Engine::Mlx,
            _ => return None,
        };
        let tail = word.tail(word.value().len() - release.len());
        (!args::is_placeholder(release)).then(|| (engine, tail.fact()))
    };
    if installs {
        words.iter().filter_map(release).collect()
    } else {
        Vec::new()
    }
}

/// `NAME=VALUE` in front of a command.
fn assignment(word: &Word) -> Option<(String, Text)> {
    let (name, _) = word.value().split_once('=')?;
    let range = interpolation::name_at(name, 0, |_| false)?;
    (range.len() == name.len()).then(|| (name.to_owned(), word.tail(name.len() + 1).text))
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().take(16).map(Word::value).collect()
}

fn is_shell(word: &str) -> bool {
    matches!(
        programs::base(word),
        "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh"
    )
}

/// A script by its name: what it does is in another file.
fn is_script(word: &str) -> bool {
    let base = programs::base(word);
    let is_file = word.contains('/') || base == word;
    let ending = base.rsplit_once('.').map(|(_, ending)| ending);
    is_file && matches!(ending, Some("sh" | "bash"))
        || word.contains('/') && matches!(base, "entrypoint" | "start" | "run" | "serve" | "launch")
}

/// Where the script of a shell stands: true for the text of `-c`, false for a file.
fn script_of(words: &[Word]) -> Option<(bool, usize)> {
    let mut at = 1;
    let mut text = false;
    while let Some(word) = words.get(at).map(Word::value) {
        match word {
            "--" | "-" => {
                at += 1;
                break;
            }
            _ if word.starts_with("--") => at += 1,
            _ if word.len() > 1 && word.starts_with(['-', '+']) => {
                text |= word.contains('c');
                // `-o pipefail`
                at += if word.ends_with('o') { 2 } else { 1 };
            }
            _ => break,
        }
    }
    (at < words.len()).then_some((text, at))
}

/// True for words like `sh -c`, whose script comes next.
fn waits_for_script(words: &[Word]) -> bool {
    words.first().is_some_and(|word| is_shell(word.value()))
        && words.iter().skip(1).all(|word| word.value().starts_with('-'))
        && words
            .iter()
            .any(|word| word.value().contains('c') && word.value().starts_with('-'))
}

/// True for a script of one command.
fn is_one_command(text: &Text) -> bool {
    let script = shell::read(text);
    let plain = |item: &Item| matches!(item, Item::Command(_) | Item::Next);
    let commands = script
        .items
        .iter()
        .filter(|item| matches!(item, Item::Command(_)));
    commands.count() == 1 && script.items.iter().all(plain)
}

/// True for a text that no shell can mean: a flag cannot begin a command, so its line goes on from the one before.
fn is_flags(text: &Text) -> bool {
    let value = text.value().trim();
    let mut lines = value
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    if lines
        .clone()
        .any(|line| line.ends_with(';') || line.contains(" && ") || line.contains("; "))
    {
        return false;
    }
    let first = lines.next().unwrap_or("");
    let ends = std::iter::once(first).chain(lines.clone());
    let broken = ends
        .zip(lines.clone())
        .any(|(before, line)| line.starts_with('-') && !before.ends_with('\\'));
    first.starts_with('-') || broken && lines.all(|line| line.starts_with('-'))
}

/// True for two commands of which only one runs (the ways of one branch), and for turns of one loop.
fn is_same(
    one: &Invocation,
    path: &[(usize, usize)],
    other: &Invocation,
    other_path: &[(usize, usize)],
) -> bool {
    let model = |invocation: &Invocation| invocation.model.as_ref().map(|model| model.value.clone());
    let kind = |invocation: &Invocation| {
        let engine = invocation.engine.as_ref().map(|engine| engine.value);
        (engine, matches!(invocation.role, Role::Serves))
    };
    if kind(one) != kind(other) || model(one) != model(other) {
        return false;
    }
    let parted = path
        .iter()
        .zip(other_path)
        .any(|((branch, way), (other_branch, other_way))| branch == other_branch && way != other_way);
    parted || one.span == other.span || one.role != Role::Serves
}

/// A server that is given no model serves the one that is pulled beside it.
fn name_pulled_model(invocations: &mut [Invocation]) {
    let is_ollama = |invocation: &Invocation| {
        invocation
            .engine
            .as_ref()
            .is_some_and(|engine| engine.value == Engine::Ollama)
    };
    let mut pulled = invocations
        .iter()
        .filter(|invocation| is_ollama(invocation) && invocation.role != Role::Serves)
        .filter_map(|invocation| invocation.model.clone());
    let (Some(model), None) = (pulled.next(), pulled.next()) else {
        return;
    };
    for invocation in invocations {
        if is_ollama(invocation) && invocation.role == Role::Serves && invocation.model.is_none() {
            if args::is_placeholder(&model.value) {
                invocation.unresolved.push("model".to_owned());
            }
            invocation.model = Some(model.clone());
        }
    }
}

/// The value of a variable as a fact, or that it is open.
pub(super) fn variable(environment: &Environment, name: &str) -> Option<Result<Fact<String>, ()>> {
    match environment.get(name)? {
        Variable::Known(text) if text.is_empty() => None,
        Variable::Known(text) => Some(Ok(text.fact())),
        Variable::Unknown { .. } => Some(Err(())),
    }
}
