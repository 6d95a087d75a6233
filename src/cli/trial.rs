//! `oomlint test`: the example trees of rules.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::output;
use super::{CLEAN, FAILED, FINDINGS};
use crate::trees::{self, Tree, Verdict};

/// The arguments of `test`.
#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// The folder of the rules; its trees are DIR/RULE/{fail,pass}-CASE, also below DIR/tests
    #[arg(value_name = "DIR", default_value = "oomlint-rules")]
    folder: PathBuf,

    /// Write what is printed to `expected.txt` of each tree
    #[arg(long)]
    update: bool,
}

pub(super) fn run(arguments: &TestArguments) -> u8 {
    match test(arguments) {
        Ok((text, wrong)) => match output::print(&text) {
            Ok(()) if wrong == 0 => CLEAN,
            Ok(()) => FINDINGS,
            Err(words) => fail(&words),
        },
        Err(words) => fail(&words),
    }
}

fn fail(words: &str) -> u8 {
    output::complain(words);
    FAILED
}

/// What is told, and how many trees are not as they should be.
fn test(arguments: &TestArguments) -> Result<(String, usize), String> {
    use rayon::prelude::*;
    let shown = arguments.folder.display();
    let folder = std::fs::canonicalize(&arguments.folder)
        .map_err(|error| format!("cannot read {shown}: {}", crate::walk::plain(&error)))?;
    let program = std::env::current_exe().map_err(|error| format!("cannot find the program: {error}"))?;
    let trees = trees::discover(&folder)?;
    if trees.is_empty() {
        return Err(format!(
            "no tree was found: {shown}/RULE/fail-CASE, or {shown}/tests/RULE/fail-CASE"
        ));
    }
    let judge = |tree: &Tree| tree.judge(&program, Some(&folder), arguments.update);
    let verdicts: Result<Vec<Verdict>, String> = trees.par_iter().map(judge).collect();
    let mut text = String::new();
    let (mut wrong, mut updated) = (0, 0);
    for (tree, verdict) in trees.iter().zip(verdicts?) {
        let (word, why) = match verdict {
            Verdict::Right => ("ok  ", String::new()),
            Verdict::Updated => {
                updated += 1;
                ("new ", String::new())
            }
            Verdict::Wrong(why) => {
                wrong += 1;
                ("FAIL", format!("{}\n", crate::source::sanitize(why.trim_end())))
            }
        };
        let _ = write!(text, "{word} {}/{}\n{why}", tree.rule, tree.case);
    }
    let right = trees.len() - wrong;
    let _ = write!(text, "{right} of {} trees as expected", trees.len());
    if updated > 0 {
        let _ = write!(text, ", {updated} written anew");
    }
    text.push('\n');
    Ok((text, wrong))
}
