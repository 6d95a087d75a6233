//! `oomlint table`: the matrix of every cell.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::check::{self, Scope};
use super::output::{self, Color};
use super::{CLEAN, FAILED, NOTHING};
use crate::run::Selection;

/// The arguments of `table`.
#[derive(Debug, Args)]
pub(super) struct TableArguments {
    /// Files and directories; `-` is the standard input
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    scope: Scope,

    /// When to use colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
}

pub(super) fn run(arguments: &TableArguments) -> u8 {
    let prepared = match arguments.scope.prepare() {
        Ok(prepared) => prepared,
        Err(mistakes) => return check::give_up(mistakes, &check::human(), arguments.color),
    };
    let outcome = match check::execute(
        &arguments.paths,
        &prepared,
        &Selection::default(),
        std::sync::Arc::clone(&prepared.sources),
    ) {
        Ok(outcome) => outcome,
        Err(words) => {
            output::complain(&words);
            return FAILED;
        }
    };
    let report = &outcome.report;
    // A table that goes to a file or a pipe has no width to keep to.
    let width = if std::io::stdout().is_terminal() {
        output::options(arguments.color).width
    } else {
        0
    };
    if let Err(words) = output::print(&crate::report::table::table(report, width)) {
        output::complain(&words);
        return FAILED;
    }
    if outcome.incomplete {
        output::complain("a path could not be read; `oomlint check` says which");
        return FAILED;
    }
    if report.scenarios.is_empty() {
        output::complain("no deployment was found, so there is no cell to show");
        return NOTHING;
    }
    CLEAN
}
