//! `oomlint lock`: records the facts of the models that manifests name, so that every later run needs no network.
//!
//! In: names and what is locked already. Out: the lock file, with what was added, what moved and what failed. Each
//! model is written as soon as it is known, so a run that is interrupted or fails in part loses nothing. A model
//! that is locked costs no request; under `update` a branch costs the one that tells its commit.

mod answer;
mod fetch;
mod file;
mod name;
mod remote;
mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

pub use file::{LockFile, discover};
pub use name::{FileWish, Reference};

use crate::hub::{Hub, is_commit};
use crate::model::record::Record;
use fetch::Fetch;

/// Requests that are under way at once.
const PARALLEL: usize = 4;

/// What to lock.
#[derive(Debug)]
pub struct Request<'r> {
    /// The models, in any order; a name may come twice.
    pub names: &'r [Reference],
    /// Ask again where branches and tags stand.
    pub update: bool,
    /// The lock file.
    pub path: &'r Path,
}

/// What came of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was not locked.
    Added {
        /// Its commit.
        commit: String,
    },
    /// It is locked at another commit now.
    Moved {
        /// The commit before.
        from: String,
        /// The commit now.
        to: String,
    },
    /// More of its files are recorded now.
    Extended,
    /// It stands where it stood.
    Unchanged,
    /// It could not be locked; what was locked stays.
    Failed {
        /// Why.
        why: String,
    },
}

/// What is happening, for a progress bar.
#[derive(Debug, Clone, Copy)]
pub struct Step<'s> {
    /// Models that are finished.
    pub done: usize,
    /// Models in all.
    pub of: usize,
    /// The one that was just begun or finished.
    pub name: &'s str,
}

/// Locks every name. The changes are sorted by name; those of names that were locked already are left out unless
/// they were asked for anew.
///
/// # Errors
/// In words, when the lock file cannot be read or written. A model that fails is a [`Change`], no error.
pub fn lock(
    request: &Request<'_>,
    hub: &dyn Fn() -> Result<Hub, String>,
    progress: &(dyn Fn(Step<'_>) + Sync),
) -> Result<BTreeMap<String, Change>, String> {
    let before = LockFile::read(request.path)?;
    let todo = todo(request, &before);
    if todo.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Only now: with nothing to ask, neither a network nor its settings are needed.
    let hub = hub()?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(PARALLEL).build();
    let threads = threads.map_err(|error| error.to_string())?;
    let shelf = Shelf {
        path: request.path,
        state: Mutex::new(State {
            file: before.clone(),
            changes: BTreeMap::new(),
            failure: None,
        }),
    };
    let one = |(model, wishes): (&Asked, &BTreeSet<FileWish>)| {
        let name = model.to_string();
        progress(Step {
            done: shelf.done(),
            of: todo.len(),
            name: &name,
        });
        let old = before.of(&model.repository, model.revision.as_deref());
        let outcome = fetch(&hub, model, wishes, old);
        let done = shelf.put(name.clone(), outcome, old);
        progress(Step {
            done,
            of: todo.len(),
            name: &name,
        });
    };
    threads.install(|| todo.par_iter().for_each(one));
    let state = shelf.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failure.map_or(Ok(state.changes), Err)
}

/// A repository at the revision asked for, whatever file of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    repository: String,
    revision: Option<String>,
}

impl Asked {
    fn reference(&self) -> Reference {
        Reference {
            repository: self.repository.clone(),
            revision: self.revision.clone(),
            file: None,
        }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reference().fmt(f)
    }
}

/// The models that the hub must be asked about, with the files that are wished for.
fn todo(request: &Request<'_>, locked: &LockFile) -> BTreeMap<Asked, BTreeSet<FileWish>> {
    let mut all: BTreeMap<Asked, BTreeSet<FileWish>> = BTreeMap::new();
    for name in request.names {
        let asked = Asked {
            repository: name.repository.clone(),
            revision: name.revision.clone(),
        };
        all.entry(asked).or_default().extend(name.file.clone());
    }
    all.retain(|asked, wishes| {
        // Not by its commit alone: the record of a branch that stands there today moves with the branch.
        let record = locked.of(&asked.repository, asked.revision.as_deref());
        let complete = record.is_some_and(|record| wishes.iter().all(|wish| fetch::holds(record, wish)));
        // A commit does not move.
        let may_move = !asked.revision.as_deref().is_some_and(is_commit);
        !complete || (request.update && may_move)
    });
    all
}

/// Asks the hub about one model. `None` where it stands where it stood and nothing more is wished for.
fn fetch(
    hub: &Hub,
    asked: &Asked,
    wishes: &BTreeSet<FileWish>,
    old: Option<&Record>,
) -> Result<Option<Record>, String> {
    let revision = asked.revision.as_deref().unwrap_or("main");
    let found = hub
        .revision(&asked.repository, revision)
        .map_err(|error| error.to_string())?;
    let same = old.filter(|old| old.revision.as_deref() == Some(&*found.commit));
    if same.is_some_and(|old| wishes.iter().all(|wish| fetch::holds(old, wish))) {
        return Ok(None);
    }
    let mut record = Fetch::new(hub, &asked.repository, &found).record(wishes, same)?;
    record.requested.clone_from(&asked.revision);
    Ok(Some(record))
}

/// The lock file while models are put into it.
struct Shelf<'s> {
    path: &'s Path,
    state: Mutex<State>,
}

struct State {
    file: LockFile,
    changes: BTreeMap<String, Change>,
    /// Why the file could not be written.
    failure: Option<String>,
}

impl Shelf<'_> {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self) -> usize {
        self.state().changes.len()
    }

    /// Notes an outcome, writes the file if it changed, and tells how many models are done.
    fn put(&self, name: String, outcome: Result<Option<Record>, String>, old: Option<&Record>) -> usize {
        let mut state = self.state();
        let change = match outcome {
            Err(why) => Change::Failed { why },
            Ok(None) => Change::Unchanged,
            Ok(Some(record)) => {
                let change = change(&record, old);
                state.file.insert(record);
                if let Err(why) = state.file.write(self.path) {
                    state.failure = Some(why);
                }
                change
            }
        };
        state.changes.insert(name, change);
        state.changes.len()
    }
}

fn change(record: &Record, old: Option<&Record>) -> Change {
    let commit = |record: &Record| record.revision.clone().unwrap_or_default();
    match old {
        None => Change::Added {
            commit: commit(record),
        },
        Some(old) if old.revision == record.revision => Change::Extended,
        Some(old) => Change::Moved {
            from: commit(old),
            to: commit(record),
        },
    }
}
