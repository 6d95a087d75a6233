//! `oomlint lock`: from the names in manifests, or those typed, to the lock file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;

use super::check::{self, Prepared, Scope};
use super::output::{self, Color};
use super::{CLEAN, FAILED, NOTHING};
use crate::engine::Engine;
use crate::hub::{Access, Hub, SystemClock};
use crate::lock::{self, Change, LockFile, Reference, Request, Step};
use crate::model::name::is_placeholder;
use crate::run::names::{self, Names};
use crate::source::sanitize;
use crate::walk::LOCK_FILE;

/// The arguments of `lock`.
#[derive(Debug, Args)]
pub(super) struct LockArguments {
    /// Files and directories whose models to lock; `-` is the standard input
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,

    /// Ask again where branches and tags stand, and move the records of those that moved
    #[arg(long)]
    update: bool,

    /// Lock this model, whether or not a manifest names it, and no other: org/name, org/name@revision. Repeatable
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = reference)]
    model: Vec<Reference>,

    /// The lock file; else the nearest oomlint.lock up to the repository root, else one here
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,

    /// Read the settings from FILE instead of looking for .oomlint.yaml
    #[arg(long, value_name = "FILE", env = "OOMLINT_CONFIG")]
    config: Option<PathBuf>,
}

fn reference(text: &str) -> Result<Reference, String> {
    Reference::parse(text, true).ok_or_else(|| {
        "expected a model of the hub: org/name, org/name@revision, org/name:Q4_K_M or org/name/file.gguf"
            .to_owned()
    })
}

pub(super) fn run(arguments: &LockArguments) -> u8 {
    let wanted = match wanted(arguments) {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    let path = arguments.lock.clone().unwrap_or_else(default_path);
    let bar = Bar::new();
    let request = Request {
        names: &wanted.names,
        update: arguments.update,
        path: &path,
    };
    let outcome = lock::lock(&request, &hub, &|step| bar.show(step));
    bar.clear();
    match outcome {
        Err(words) => {
            output::complain(&words);
            FAILED
        }
        Ok(changes) => tell(&wanted, &changes, &path),
    }
}

/// What to lock, and what was seen on the way.
#[derive(Default)]
struct Wanted {
    names: Vec<Reference>,
    /// Models that the tree holds: they need no lock.
    here: usize,
    /// Names that are none of the hub's.
    elsewhere: usize,
    /// True when a path or a manifest could not be read, so that names may be missing.
    incomplete: bool,
    /// True when the names are all that the repository has.
    is_whole: bool,
}

/// The names typed, else those of the manifests; `Err` with the exit code where settings are broken.
fn wanted(arguments: &LockArguments) -> Result<Wanted, u8> {
    if !arguments.model.is_empty() {
        return Ok(Wanted {
            names: arguments.model.clone(),
            ..Wanted::default()
        });
    }
    let scope = Scope::with_settings(arguments.config.clone());
    let give_up = |mistakes| check::give_up(mistakes, &check::human(), Color::Auto);
    let Prepared {
        settings, sources, ..
    } = scope.prepare().map_err(give_up)?;
    let (piped, paths): (Vec<PathBuf>, Vec<PathBuf>) = arguments
        .paths
        .iter()
        .cloned()
        .partition(|path| path == Path::new("-"));
    let mut stdin = None;
    if !piped.is_empty() {
        let mut bytes = Vec::new();
        if let Err(error) = std::io::stdin().lock().read_to_end(&mut bytes) {
            output::complain(&format!(
                "cannot read the standard input: {}",
                crate::walk::plain(&error)
            ));
            return Err(FAILED);
        }
        stdin = Some(bytes);
    }
    let found = names::names(&paths, stdin.as_deref(), &Arc::new(settings), &sources);
    for problem in &found.problems {
        let place = problem.path.clone().or_else(|| {
            let label = problem.primary.as_ref()?;
            Some(sources.path(label.span))
        });
        let place = place.map_or(String::new(), |place| format!("{place}: "));
        output::complain(&format!("{place}{}", problem.message));
    }
    Ok(Wanted {
        is_whole: paths == [PathBuf::from(".")],
        ..sorted_out(&found)
    })
}

/// Which of the names the hub has.
fn sorted_out(found: &Names) -> Wanted {
    let mut wanted = Wanted {
        incomplete: found.incomplete || !found.problems.is_empty(),
        ..Wanted::default()
    };
    for named in &found.named {
        let Some(name) = &named.name else {
            wanted.here += 1;
            continue;
        };
        // Ollama's own names look like the hub's and are not; nor is a placeholder a name.
        let may_be_hub =
            named.engine != Engine::Ollama || named.is_explained || Reference::names_the_hub(name);
        match Reference::parse(name, false).filter(|_| may_be_hub && !is_placeholder(name)) {
            Some(reference) => wanted.names.push(reference),
            None => wanted.elsewhere += 1,
        }
    }
    wanted.names.sort();
    wanted.names.dedup();
    wanted
}

fn default_path() -> PathBuf {
    lock::discover(Path::new(".")).unwrap_or_else(|| PathBuf::from(LOCK_FILE))
}

fn hub() -> Result<Hub, String> {
    let variable = |name: &str| std::env::var(name).ok();
    let access = Access::from_environment(&variable).map_err(|error| error.to_string())?;
    Hub::new(access, SystemClock).map_err(|error| error.to_string())
}

/// Says what became of every name, and how the command ends.
fn tell(wanted: &Wanted, changes: &BTreeMap<String, Change>, path: &Path) -> u8 {
    let mut text = String::new();
    let mut failed = 0;
    for (name, change) in changes {
        let _ = match change {
            Change::Added { commit } => writeln!(text, "locked {name} at {}", short(commit)),
            Change::Moved { from, to } => {
                writeln!(text, "moved {name} from {} to {}", short(from), short(to))
            }
            Change::Extended => writeln!(text, "recorded more files of {name}"),
            Change::Unchanged => writeln!(text, "{name} stands where it stood"),
            Change::Failed { why } => {
                failed += 1;
                output::complain(why);
                Ok(())
            }
        };
    }
    text.push_str(&summary(wanted, changes, path, failed));
    let printed = output::print(&sanitize(&text));
    if let Err(words) = &printed {
        output::complain(words);
    }
    match (failed, &printed) {
        (0, Ok(())) if wanted.incomplete => FAILED,
        (0, Ok(())) if wanted.names.len() + wanted.here + wanted.elsewhere == 0 => NOTHING,
        (0, Ok(())) => CLEAN,
        _ => FAILED,
    }
}

fn summary(wanted: &Wanted, changes: &BTreeMap<String, Change>, path: &Path, failed: usize) -> String {
    let models = |count: usize| match count {
        1 => "1 model".to_owned(),
        more => format!("{more} models"),
    };
    let shown = crate::walk::display(path);
    let mut text = String::new();
    let names: std::collections::BTreeSet<String> = wanted.names.iter().map(ToString::to_string).collect();
    let _ = match (names.len(), failed) {
        (0, _) => writeln!(text, "no deployment names a model of the hub"),
        (all, 0) if changes.is_empty() => {
            writeln!(
                text,
                "{shown} holds {} already; --update asks for newer commits",
                models(all)
            )
        }
        (all, 0) => writeln!(text, "{shown} holds {}", models(all)),
        (all, failed) if failed == all => writeln!(text, "none of {} could be locked", models(all)),
        (all, failed) => writeln!(
            text,
            "{failed} of {} could not be locked; the others are in {shown}, and the next run asks for these alone",
            models(all)
        ),
    };
    if wanted.here > 0 {
        let _ = writeln!(text, "{} lie in the tree and need no lock", count(wanted.here));
    }
    if wanted.elsewhere > 0 {
        let _ = writeln!(
            text,
            "{} are paths or names of another store",
            count(wanted.elsewhere)
        );
    }
    if wanted.is_whole {
        text.push_str(&unnamed(wanted, path));
    }
    text
}

fn count(deployments: usize) -> String {
    match deployments {
        1 => "the models of 1 deployment".to_owned(),
        more => format!("the models of {more} deployments"),
    }
}

/// Records that no manifest names: perhaps no longer needed, perhaps another part of the repository.
fn unnamed(wanted: &Wanted, path: &Path) -> String {
    let Ok(file) = LockFile::read(path) else {
        return String::new();
    };
    let is_named = |name: &str| wanted.names.iter().any(|wanted| wanted.repository == name);
    let names: Vec<&str> = file
        .records()
        .map(|record| record.name.as_str())
        .filter(|name| !is_named(name))
        .collect();
    if names.is_empty() {
        return String::new();
    }
    format!("no deployment here names {}, locked before\n", names.join(", "))
}

/// The first digits of a commit, as git shows them.
fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// One line on the standard error, where that is a terminal.
struct Bar {
    /// Models done as last shown: answers come in no order, a bar must not go back.
    shown: Mutex<Option<usize>>,
}

impl Bar {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            shown: Mutex::new(terminal.then_some(0)),
        }
    }

    fn show(&self, step: Step<'_>) {
        const WIDTH: usize = 24;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(done) = shown.as_mut() else { return };
        *done = step.done.max(*done);
        let filled = WIDTH.saturating_mul(*done) / step.of.max(1);
        let bar: String = (0..WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
        let name: String = sanitize(step.name).chars().take(40).collect();
        let _ = write!(std::io::stderr(), "\r\x1b[K[{bar}] {done}/{} {name}", step.of);
    }

    fn clear(&self) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
