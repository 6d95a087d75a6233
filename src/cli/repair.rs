//! `check --fix`, `--diff`, baselines and `--changed-since`: what happens to findings between the run and the reports.

use std::path::{Path, PathBuf};

use clap::Args;

use super::check::Prepared;
use super::output;
use crate::baseline::Baseline;
use crate::changed::Changed;
use crate::fix::{self, Wanted};
use crate::run::{Outcome, Selection};

/// How often fixes are made and the tree checked anew: fixes that overlap wait for the next time.
const MAX_ROUNDS: usize = 10;

/// Which findings are mended.
#[derive(Debug, Default, Args)]
#[group(skip)]
pub(super) struct Repair {
    /// Make the fixes that cannot change what was meant, then report what is left
    #[arg(long)]
    pub(super) fix: bool,

    /// Make the suggested fixes too
    #[arg(long)]
    unsafe_fixes: bool,

    /// Print the fixes as a unified diff and change nothing
    #[arg(long)]
    pub(super) diff: bool,
}

/// Which findings are old.
#[derive(Debug, Default, Args)]
#[group(skip)]
pub(super) struct Known {
    /// Suppress the findings that FILE holds; others of the same kind still count
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Write the findings of this run to FILE, and suppress them
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,

    /// Report only what has to do with lines that differ from this git revision
    #[arg(long, value_name = "REV")]
    changed_since: Option<String>,
}

impl Repair {
    /// Why the fixes asked for cannot be made; `None` when they can.
    pub(super) fn refusal(&self, paths: &[PathBuf]) -> Option<&'static str> {
        if self.unsafe_fixes && !self.fix && !self.diff {
            return Some("--unsafe-fixes says which fixes to make: add --fix or --diff");
        }
        let stdin = paths.iter().any(|path| path == Path::new("-"));
        (stdin && (self.fix || self.diff))
            .then_some("the standard input cannot be fixed: give the file's path instead of `-`")
    }

    fn wanted(&self) -> Wanted {
        if self.unsafe_fixes {
            Wanted::All
        } else {
            Wanted::Safe
        }
    }

    /// The fixes of a run as a diff.
    pub(super) fn diff_of(&self, outcome: &Outcome) -> String {
        let report = &outcome.report;
        let fixed = fix::fix(&report.sources, report.findings.iter(), self.wanted());
        for why in fixed.iter().flat_map(|file| &file.refused) {
            output::complain(why);
        }
        fixed.iter().map(fix::Fixed::diff).collect()
    }

    /// Makes the fixes of a run until none is left to make, and gives the last run.
    pub(super) fn mend(
        &self,
        mut outcome: Outcome,
        again: &dyn Fn() -> Result<Outcome, String>,
    ) -> Result<Outcome, String> {
        let (mut made, mut files) = (0, std::collections::BTreeSet::new());
        let mut refused = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let report = &outcome.report;
            let fixed = fix::fix(&report.sources, report.findings.iter(), self.wanted());
            refused = fixed.iter().flat_map(|file| file.refused.clone()).collect();
            let mut changed = fixed.iter().filter(|file| file.before != file.after).peekable();
            if changed.peek().is_none() {
                break;
            }
            for file in changed {
                fix::write(file)?;
                made += file.made;
                files.insert(file.path.clone());
            }
            outcome = again()?;
        }
        for why in refused {
            output::complain(&why);
        }
        let plural = |count: usize, noun: &str| match count {
            1 => format!("1 {noun}"),
            many => format!("{many} {noun}s"),
        };
        let words = match made {
            0 => "nothing to fix".to_owned(),
            made => format!("made {} in {}", fixes(made), plural(files.len(), "file")),
        };
        output::complain(&words);
        Ok(outcome)
    }
}

fn fixes(count: usize) -> String {
    if count == 1 {
        "1 fix".to_owned()
    } else {
        format!("{count} fixes")
    }
}

impl Known {
    /// Takes the old findings out of a report.
    pub(super) fn apply(
        &self,
        outcome: &mut Outcome,
        prepared: &Prepared,
        selection: &Selection,
    ) -> Result<(), String> {
        let report = &mut outcome.report;
        if let Some(file) = &self.write_baseline {
            let written = Baseline::of(report);
            write(file, &written.to_text())?;
            written.apply(report, &crate::walk::display(file), &prepared.rules, &|_| false);
        }
        if let Some(file) = &self.baseline {
            let baseline = read(file)?;
            let everything = selection.is_everything();
            let sources = std::sync::Arc::clone(&report.sources);
            let complete = |path: &str| everything && (sources.has(path) || !Path::new(path).exists());
            baseline.apply(report, &crate::walk::display(file), &prepared.rules, &complete);
            crate::run::level(report, &prepared.settings, &prepared.rules);
        }
        if let Some(revision) = &self.changed_since {
            Changed::since(revision)?.keep(report);
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Baseline, String> {
    let shown = crate::walk::display(file);
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read the baseline {shown}: {}", crate::walk::plain(&error)))?;
    Baseline::read(&text).map_err(|why| format!("{shown} is no baseline: {why}"))
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| {
        let shown = crate::walk::display(file);
        format!(
            "cannot write the baseline {shown}: {}",
            crate::walk::plain(&error)
        )
    })
}
