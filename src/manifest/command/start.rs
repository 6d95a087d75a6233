//! From the commands of a container to the engines they start: wrappers looked through, shells and container
//! runtimes entered, environment and option files read.
//!
//! What a command is is decided by its words alone; the image is asked where the words say nothing.

use std::collections::BTreeSet;

use super::environment::{Environment, Variable};
use super::images::{ImageEngine, image_engine};
use super::interpolation;
use super::options;
use super::programs::{self, Download, Program};
use super::script::{self, Shell, Visitor, Word};
use super::shell::{self, Item};
use super::text::Text;
use super::{Invocation, Launch, Role, Words, devices, docker, variables};
use crate::engine::args::{self, ParsedArgs};
use crate::engine::{Engine, Settings, Version};
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
            Words::List(list) => list.iter().cloned().map(Word::new).collect(),
        };
        match &launch.arguments {
            // What follows `sh -c` is one script, however it is written.
            Some(Words::Shell(text) | Words::Line(text)) if waits_for_script(&words) => {
                words.push(Word::new(text.clone()));
            }
            Some(Words::Shell(text) | Words::Line(text)) => words.extend(self.split(text, &shell)),
            Some(Words::List(list)) => words.extend(list.iter().cloned().map(Word::new)),
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
            Some(Words::List(list)) => list.iter().cloned().map(Word::new).collect(),
            None => Vec::new(),
        };
        let begins_with_flag = words.first().is_some_and(|word| word.value().starts_with('-'));
        if !begins_with_flag {
            self.command(&words, shell, None);
        }
        if !self.found.is_empty() {
            return;
        }
        let holds = self.holds.clone();
        let mut front: Vec<String> = holds
            .as_ref()
            .map_or_else(Vec::new, |holds| holds.entrypoint.clone());
        if let (true, Some(holds)) = (words.is_empty(), &holds) {
            front.extend(holds.command.iter().cloned());
        }
        // `serve` is written by some where the image's entrypoint has it already.
        if front.len() > 1 && front.last().map(String::as_str) == words.first().map(Word::value) {
            front.pop();
        }
        let mut all: Vec<Word> = front.iter().map(|word| Word::new(Text::literal(word))).collect();
        all.extend(words.iter().cloned());
        if !front.is_empty() {
            self.command(&all, shell, None);
        }
        if self.found.is_empty() && (begins_with_flag || words.is_empty()) {
            self.image_runs(&words, shell);
        }
        self.or_image(shell);
    }

    fn split(&mut self, text: &Text, shell: &Shell) -> Vec<Word> {
        let (words, problems) = script::split(text, shell);
        for (range, sentence) in problems {
            self.problem(text.place(range), sentence);
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
            Some(_) => {}
            None => self.by_flags(words, shell),
        }
    }

    fn of_image(&mut self, holds: &ImageEngine, words: &[Word], shell: &Shell) {
        let program = holds.server.as_deref().and_then(programs::of_server);
        let mut invocation = self.blank(holds.engine, holds.server.as_deref(), words);
        self.read_arguments(&mut invocation, program, words, true, shell);
        if words.is_empty() {
            variables::contract(&mut invocation, &shell.variables);
        }
        self.keep(invocation, shell);
    }

    /// An image that says nothing: flags, or variables of a custom image, may.
    fn by_flags(&mut self, words: &[Word], shell: &Shell) {
        let facts: Vec<Fact<String>> = words.iter().map(Word::fact).collect();
        if let Some(engine) = guess(&facts, self.sources) {
            let mut invocation = self.blank(Some(engine), None, words);
            self.read_arguments(&mut invocation, None, words, true, shell);
            self.keep(invocation, shell);
        } else if words.is_empty()
            && let Some(engine) = variables::engine_of(&shell.variables)
        {
            let mut invocation = self.blank(Some(engine), None, words);
            variables::contract(&mut invocation, &shell.variables);
            self.read_arguments(&mut invocation, None, words, true, shell);
            self.keep(invocation, shell);
        }
    }

    /// An engine's image whose script is in no file still serves something.
    fn or_image(&mut self, shell: &Shell) {
        let serves = self.found.iter().any(|(found, _)| found.role == Role::Serves);
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
            .is_some_and(|engine| looks_like_flags(engine, &facts, self.sources));
        let taken = if looks { words.as_slice() } else { &[] };
        let mut shell = shell.clone();
        shell.variables = environment;
        self.read_arguments(&mut invocation, None, taken, true, &shell);
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
        Invocation {
            engine: engine.map(|engine| Fact::derived(engine, fact(span))),
            server: server.map(|server| Fact::derived(server.to_owned(), fact(span))),
            version,
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

    /// Reads what stands after a program, and what environment and option files add.
    fn read_arguments(
        &mut self,
        invocation: &mut Invocation,
        program: Option<&Program>,
        words: &[Word],
        positional: bool,
        shell: &Shell,
    ) {
        let engine = invocation.engine.as_ref().map(|engine| engine.value);
        variables::of_engine(invocation, engine, &shell.variables, self.sources);
        if let Some(holds) = &self.holds {
            variables::of_image(invocation, holds, &shell.variables);
        }
        let own = program.map(|program| variables::sift(program, words));
        let (passed, own) = match own {
            Some((passed, own)) => (passed, own),
            None => (words.iter().map(Word::fact).collect(), ParsedArgs::default()),
        };
        let parsed = match engine {
            Some(engine) if !passed.is_empty() => {
                let version = invocation
                    .version
                    .as_ref()
                    .and_then(|version| Version::parse(&version.value));
                args::parse(engine, version, &passed, self.sources)
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
        invocation.unresolved.extend(parsed.unresolved);
        invocation.unresolved.extend(own.unresolved);
        invocation.args = passed;
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
        self.read_arguments(&mut invocation, Some(program), rest, program.positional, shell);
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
            script::follow(&script::joined(words.get(1..).unwrap_or(&[])), &mut inner, self);
        } else if programs::is_wrapper(first) {
            self.wrapped(words, shell);
        } else if is_script(first) {
            self.script_file(words, shell);
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
        if let Some(span) = span.filter(|_| self.problems.len() < MAX_PROBLEMS) {
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
    is_file && (base.ends_with(".sh") || base.ends_with(".bash"))
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

/// The model among settings, by each engine's rules.
fn model_of(engine: Option<Engine>, settings: &Settings) -> Option<Fact<String>> {
    let ids: &[&str] = match engine {
        Some(Engine::LlamaCpp) => &["hf_repo", "model", "model_url"],
        _ => &["model", "hf_repo"],
    };
    ids.iter().find_map(|id| settings.get(id)).cloned()
}

/// True where words are an engine's flags more likely than a script's own.
fn looks_like_flags(engine: Engine, words: &[Fact<String>], sources: &Sources) -> bool {
    let parsed = args::parse(engine, None, words, sources);
    let known = parsed.settings.iter().count();
    known > 0 && parsed.unknown.len() <= known
}

/// The engine whose parser knows the flags best, where at least one says more than a model's name.
fn guess(words: &[Fact<String>], sources: &Sources) -> Option<Engine> {
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
