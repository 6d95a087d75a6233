//! `oomlint check`: from what was typed, the environment and the settings file to one run and its exit code.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::output::{self, Color, Output};
use super::repair::{Known, Repair};
use super::{CLEAN, FAILED, FINDINGS, NOTHING};
use crate::config::{self, FailOn, Level, Overheads, Settings};
use crate::engine::settings::parse_count;
use crate::engine::{Band, Engine};
use crate::fact::Fact;
use crate::finding::{Finding, Severity};
use crate::report::{OutputFormat, Report, Summary};
use crate::rule::Rules;
use crate::run::{self, Outcome, Run, Selection};
use crate::source::Sources;

/// The arguments of `check`.
#[derive(Debug, Default, Args)]
pub(super) struct CheckArguments {
    /// Files and directories to check; `-` is the standard input
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,

    /// Write a report: human, short, json, sarif, github, gitlab, junit, markdown or html, to the terminal or to FILE. Repeatable
    #[arg(
        long,
        value_name = "FORMAT[=FILE]",
        env = "OOMLINT_OUTPUT",
        value_delimiter = ','
    )]
    output: Vec<Output>,

    #[command(flatten)]
    judgement: Judgement,

    #[command(flatten)]
    repair: Repair,

    #[command(flatten)]
    known: Known,

    #[command(flatten)]
    pub(super) scope: Scope,

    /// Exit with 0 when there is nothing to check, instead of 3
    #[arg(long)]
    allow_empty: bool,

    /// When to use colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
}

/// Which findings count.
#[derive(Debug, Default, Args)]
struct Judgement {
    /// Report only these rules: ids, groups, or beginnings of ids (`kv-cache`, `kv-*`)
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    select: Vec<String>,

    /// Leave out these rules: ids, groups, or beginnings of ids
    #[arg(long, value_name = "RULES", value_delimiter = ',')]
    ignore: Vec<String>,

    /// Set the severity of a rule: error, warning, info or off. Repeatable
    #[arg(long, value_name = "RULE=LEVEL", value_parser = severity)]
    severity: Vec<(String, SeverityLevel)>,

    /// Fail from this severity on
    #[arg(long, value_name = "error|warning|info|never", env = "OOMLINT_FAIL_ON", value_parser = fail_on)]
    fail_on: Option<FailOn>,
}

/// What every command that sizes deployments takes.
#[derive(Debug, Default, Args)]
pub(super) struct Scope {
    /// Check deployments that declare no machine on this one. Repeatable
    #[arg(long, value_name = "MACHINE", env = "OOMLINT_MACHINE", value_delimiter = ',')]
    pub(super) machine: Vec<String>,

    /// Check deployments that declare no context with this one: 8192, 8k. Repeatable
    #[arg(long, value_name = "TOKENS", env = "OOMLINT_CONTEXT", value_delimiter = ',', value_parser = count)]
    pub(super) context: Vec<u64>,

    /// Read the settings from FILE instead of looking for .oomlint.yaml
    #[arg(long, value_name = "FILE", env = "OOMLINT_CONFIG")]
    config: Option<PathBuf>,

    /// Read no settings file
    #[arg(long, conflicts_with = "config")]
    no_config: bool,
    /// What the engine takes beside weights and KV cache, instead of the estimate: 2GiB, vllm=2GiB, or low, likely
    /// and high as 1GiB/2GiB/3GiB. Repeatable
    #[arg(long, value_name = "[ENGINE=]AMOUNT", env = "OOMLINT_OVERHEAD", value_delimiter = ',', value_parser = overhead)]
    overhead: Vec<GivenOverhead>,

    /// Take the rule files of DIR too. Repeatable
    #[arg(long, value_name = "DIR")]
    rules: Vec<PathBuf>,

    /// Threads to use; the result is the same for any number
    #[arg(long, value_name = "N", env = "OOMLINT_THREADS")]
    threads: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct SeverityLevel(Level);

/// An overhead for one engine, or for all.
#[derive(Debug, Clone, Copy)]
struct GivenOverhead(Option<Engine>, Band);

fn overhead(text: &str) -> Result<GivenOverhead, String> {
    let (engine, amount) = match text.split_once('=') {
        Some((name, amount)) => {
            let engine = Engine::parse(name)
                .ok_or_else(|| format!("the engines are {}", Engine::ALL.map(Engine::name).join(", ")))?;
            (Some(engine), amount)
        }
        None => (None, text),
    };
    config::overhead_band(amount)
        .map(|band| GivenOverhead(engine, band))
        .ok_or_else(|| "expected an amount: 2GiB, vllm=2GiB, 1GiB/2GiB/3GiB".to_owned())
}

fn fail_on(text: &str) -> Result<FailOn, String> {
    FailOn::parse(text).ok_or_else(|| "expected error, warning, info or never".to_owned())
}

fn severity(text: &str) -> Result<(String, SeverityLevel), String> {
    let (rule, level) = text.split_once('=').ok_or("expected RULE=LEVEL")?;
    let level = Level::parse(level).ok_or("the levels are error, warning, info and off")?;
    Ok((rule.to_owned(), SeverityLevel(level)))
}

pub(super) fn count(text: &str) -> Result<u64, String> {
    match parse_count(text) {
        Some(0) | None => Err("expected a number of tokens: 8192, 8k".to_owned()),
        Some(count) => Ok(count),
    }
}

/// What a sizing command works with: settings, rules, and the texts they came from.
pub(super) struct Prepared {
    pub(super) settings: Settings,
    pub(super) rules: Rules,
    pub(super) sources: Arc<Sources>,
}

impl Scope {
    fn overheads(&self) -> Overheads {
        let mut overheads = Overheads::default();
        for GivenOverhead(engine, band) in &self.overhead {
            let band = Fact::default(*band, "given on the command line");
            match engine {
                Some(engine) => {
                    overheads.by_engine.insert(*engine, band);
                }
                None => overheads.every = Some(band),
            }
        }
        overheads
    }

    /// With settings from this file, and nothing else given.
    pub(super) fn with_settings(config: Option<PathBuf>) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Reads settings and rules. On mistakes in them, the findings to show before giving up.
    pub(super) fn prepare(&self) -> Result<Prepared, (Arc<Sources>, Vec<Finding>)> {
        if let Some(threads) = self.threads {
            // Only the first call sets the pool; there is one command a process.
            let _ = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global();
        }
        let sources = Arc::new(Sources::default());
        let discovered = || config::discover(Path::new(".")).filter(|_| !self.no_config);
        let file = self
            .config
            .clone()
            .filter(|_| !self.no_config)
            .or_else(discovered);
        let (mut settings, mut mistakes) = match file {
            Some(file) => config::read(&file, &sources),
            None => (Settings::default(), Vec::new()),
        };
        settings.hub_cache = config::hub_cache(|name| std::env::var(name).ok());
        if !self.machine.is_empty() {
            settings.default_machines.clone_from(&self.machine);
            settings.overrides.iter_mut().for_each(|one| one.machines.clear());
        }
        if !self.context.is_empty() {
            settings.default_contexts.clone_from(&self.context);
            settings.overrides.iter_mut().for_each(|one| one.contexts.clear());
        }
        settings.overhead.extend(self.overheads());
        settings.rules.extend(self.rules.iter().cloned());
        match load_rules(&settings.rules, &sources) {
            Ok(rules) if mistakes.is_empty() => Ok(Prepared {
                settings,
                rules,
                sources,
            }),
            Ok(_) => Err((sources, mistakes)),
            Err(more) => {
                mistakes.extend(more);
                Err((sources, mistakes))
            }
        }
    }
}

/// The built-in rules and those of the folders given.
fn load_rules(folders: &[PathBuf], sources: &Sources) -> Result<Rules, Vec<Finding>> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for folder in folders {
        // The settings and the command line may name one folder by two paths.
        if !seen.insert(std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        // The trees that rules are tested on hold manifests, not rules.
        let is_tree = |entry: &walkdir::DirEntry| {
            let name = entry.file_name().to_string_lossy();
            entry.depth() > 0
                && entry.file_type().is_dir()
                && (name == "tests" || crate::trees::is_case(&name))
        };
        let found = walkdir::WalkDir::new(folder)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(move |entry| !is_tree(entry));
        for entry in found {
            let read = entry.map_err(|error| error.to_string()).and_then(|entry| {
                let path = entry.path();
                let is_rule = path
                    .extension()
                    .is_some_and(|text| text == "yaml" || text == "yml");
                if !is_rule || !entry.file_type().is_file() {
                    return Ok(None);
                }
                let text = std::fs::read_to_string(path).map_err(|error| crate::walk::plain(&error))?;
                Ok(Some((crate::walk::display(path), text)))
            });
            match read {
                Ok(file) => files.extend(file),
                Err(why) => {
                    let message = format!("cannot read the rules: {why}");
                    let path = crate::walk::display(folder);
                    return Err(vec![Finding::about(
                        "file-unreadable",
                        Severity::Error,
                        message,
                        path,
                    )]);
                }
            }
        }
    }
    Rules::load(files.into_iter(), sources)
}

/// Shows mistakes in settings or rules, in the formats asked for.
pub(super) fn give_up(mistakes: (Arc<Sources>, Vec<Finding>), outputs: &[Output], color: Color) -> u8 {
    let (sources, findings) = mistakes;
    let summary = Summary {
        errors: findings.len(),
        ..Summary::default()
    };
    let report = Report {
        sources,
        summary,
        models: Vec::new(),
        deployments: Vec::new(),
        machines: Vec::new(),
        scenarios: Vec::new(),
        findings,
        rules: Rules::builtin().summaries(),
    };
    write(&report, outputs, color);
    FAILED
}

/// Runs the command and says how it ended.
pub(super) fn run(arguments: &CheckArguments) -> u8 {
    let outputs = arguments.outputs();
    let mut prepared = match arguments.scope.prepare() {
        Ok(prepared) => prepared,
        Err(mistakes) => return give_up(mistakes, &outputs, arguments.color),
    };
    let judgement = &arguments.judgement;
    if let Some(words) = arguments.repair.refusal(&arguments.paths) {
        output::complain(words);
        return FAILED;
    }
    if let Some(words) = unknown_rule(judgement, &prepared.rules) {
        output::complain(&words);
        return FAILED;
    }
    for (rule, level) in &judgement.severity {
        prepared.settings.severity_typed.insert(rule.clone(), level.0);
    }
    let fail_on = judgement
        .fail_on
        .or(prepared.settings.fail_on)
        .unwrap_or(FailOn::From(Severity::Error));
    let selection = Selection {
        select: judgement.select.clone(),
        ignore: judgement.ignore.clone(),
    };
    let judged = arguments.judge(&prepared, &selection).and_then(|outcome| {
        if arguments.repair.diff {
            output::print(&arguments.repair.diff_of(&outcome))?;
        }
        Ok(outcome)
    });
    let outcome = match judged {
        Ok(outcome) => outcome,
        Err(words) => {
            output::complain(&words);
            return FAILED;
        }
    };
    // A diff is for `git apply`: reports go to files beside it.
    let to_terminal = |output: &Output| output.file.is_none();
    let outputs: Vec<Output> = outputs
        .into_iter()
        .filter(|output| !(arguments.repair.diff && to_terminal(output)))
        .collect();
    let written = write(&outcome.report, &outputs, arguments.color);
    if !written || outcome.incomplete {
        return FAILED;
    }
    exit_code(&outcome, fail_on, arguments.allow_empty)
}

/// Runs with `-` among the paths taken as the standard input.
pub(super) fn execute(
    paths: &[PathBuf],
    prepared: &Prepared,
    selection: &Selection,
    sources: Arc<Sources>,
) -> Result<Outcome, String> {
    let mut stdin = None;
    if paths.iter().any(|path| path == Path::new("-")) {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| format!("cannot read the standard input: {}", crate::walk::plain(&error)))?;
        stdin = Some(bytes);
    }
    let paths = paths
        .iter()
        .filter(|path| *path != Path::new("-"))
        .cloned()
        .collect();
    Ok(run::run(&Run {
        paths,
        stdin,
        settings: Arc::new(prepared.settings.clone()),
        rules: &prepared.rules,
        selection: selection.clone(),
        sources,
    }))
}

fn write(report: &Report, outputs: &[Output], color: Color) -> bool {
    match output::write_all(report, outputs, color) {
        Ok(()) => true,
        Err(failed) => {
            for words in &failed {
                output::complain(words);
            }
            false
        }
    }
}

fn exit_code(outcome: &Outcome, fail_on: FailOn, allow_empty: bool) -> u8 {
    let summary = outcome.report.summary;
    if outcome
        .report
        .shown()
        .any(|finding| fail_on.includes(finding.severity))
    {
        return FINDINGS;
    }
    if summary.models == 0 && summary.deployments == 0 && !allow_empty {
        output::complain(
            "nothing to check: no model and no deployment was found (--allow-empty makes this 0)",
        );
        return NOTHING;
    }
    CLEAN
}

/// The words for a rule that does not exist, with the nearest one that does.
fn unknown_rule(judgement: &Judgement, rules: &Rules) -> Option<String> {
    let typed = judgement.select.iter().chain(&judgement.ignore);
    let typed = typed.chain(judgement.severity.iter().map(|(rule, _)| rule));
    let known: Vec<&str> = rules
        .iter()
        .flat_map(|rule| [&*rule.id, rule.group.as_str()])
        .collect();
    let is_known = |name: &str| {
        rules
            .iter()
            .any(|rule| Selection::names(name, &rule.id, &rule.group))
    };
    let unknown = typed.into_iter().find(|name| !is_known(name))?;
    let near = crate::nearest::nearest(unknown, known.iter().copied());
    let hint = near.map_or("`oomlint rules` lists them".to_owned(), |near| {
        format!("did you mean `{near}`?")
    });
    Some(format!("there is no rule `{unknown}`; {hint}"))
}

/// The diagnostics on the terminal: what is written where nothing else is asked for.
pub(super) fn human() -> Vec<Output> {
    vec![Output {
        format: OutputFormat::Human,
        file: None,
    }]
}

impl CheckArguments {
    /// The findings that count: those of the run, or of the last run after fixes, without the old ones.
    fn judge(&self, prepared: &Prepared, selection: &Selection) -> Result<Outcome, String> {
        let once = |sources: Arc<Sources>| {
            let mut outcome = execute(&self.paths, prepared, selection, sources)?;
            self.known.apply(&mut outcome, prepared, selection)?;
            Ok(outcome)
        };
        let outcome = once(Arc::clone(&prepared.sources))?;
        if self.repair.fix && !self.repair.diff {
            return self.repair.mend(outcome, &|| once(Arc::default()));
        }
        Ok(outcome)
    }

    /// What `oomlint` alone means: `oomlint check .`, with the environment's settings.
    pub(super) fn here() -> Self {
        #[derive(clap::Parser)]
        struct Bare {
            #[command(flatten)]
            arguments: CheckArguments,
        }
        <Bare as clap::Parser>::try_parse_from(["oomlint"])
            .map(|bare| bare.arguments)
            .unwrap_or_default()
    }

    fn outputs(&self) -> Vec<Output> {
        if self.output.is_empty() {
            human()
        } else {
            self.output.clone()
        }
    }
}
