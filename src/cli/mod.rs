//! The command line: what was typed, one file a command. What it means is settled in [`check`]; the work is
//! done in the library.

mod check;
mod describe;
mod explain;
mod init;
mod inspect;
mod lock;
mod output;
mod repair;
mod table;
mod trial;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Nothing at or above the threshold.
pub const CLEAN: u8 = 0;
/// Findings at or above the threshold.
pub const FINDINGS: u8 = 1;
/// The tool could not do its job: usage, unreadable path, invalid settings or rules.
pub const FAILED: u8 = 2;
/// Nothing to check.
pub const NOTHING: u8 = 3;

/// Catches LLM deployments that will not fit, or will not start, before anyone deploys them.
///
/// oomlint reads a repository, finds models and the files that deploy them, works out what memory the named
/// engine reserves on the named machine, and says where in which file the problem is, why, and what would fit.
#[derive(Debug, Parser)]
#[command(
    name = "oomlint",
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true
)]
#[command(
    after_help = "Exit codes: 0 clean, 1 findings at or above --fail-on, 2 the tool could not do its job, \
                        3 nothing to check.\n`oomlint` alone is `oomlint check .`"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check manifests and models; `-` reads a manifest from the standard input
    Check(check::CheckArguments),
    /// Print the matrix: every model on every machine at every context, with bytes and verdict
    Table(table::TableArguments),
    /// Show one model: its layout, weights, and an estimate for the machines and contexts given
    Inspect(inspect::InspectArguments),
    /// Explain a rule: what it finds, why, and its sources
    Explain(explain::ExplainArguments),
    /// List the rules
    Rules(explain::ListArguments),
    /// List the machines of the catalog
    Machines(explain::ListArguments),
    /// Run the example trees of rules
    Test(trial::TestArguments),
    /// Write a settings file and a first rule with its trees
    Init(init::InitArguments),
    /// Record the facts of hub-named models in oomlint.lock, so that every other command works offline
    Lock(lock::LockArguments),
    /// Print the JSON schema of the report, or of another file format by its name
    Schema(describe::SchemaArguments),
    /// Print the completion script for a shell
    Completions(describe::CompletionsArguments),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe is no reason to fail: help and usage errors are all that is printed here.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILED } else { CLEAN });
        }
    };
    let code = match arguments
        .command
        .unwrap_or_else(|| Command::Check(check::CheckArguments::here()))
    {
        Command::Check(arguments) => check::run(&arguments),
        Command::Table(arguments) => table::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Rules(arguments) => explain::rules(&arguments),
        Command::Machines(arguments) => explain::machines(&arguments),
        Command::Test(arguments) => trial::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Lock(arguments) => lock::run(&arguments),
        Command::Schema(arguments) => describe::schema(&arguments),
        Command::Completions(arguments) => describe::completions(&arguments),
    };
    ExitCode::from(code)
}
