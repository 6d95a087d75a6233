//! `oomlint init`: the settings file and a first rule of one's own, with its trees.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output;
use super::{CLEAN, FAILED};

/// The arguments of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The folder to write to
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

const SETTINGS: &str = "\
# Settings of oomlint, for this folder and those below it. The command line goes before them.

# Folders with rules of your own; `oomlint test` runs their trees.
rules: [oomlint-rules]

# For deployments that declare none.
# machine: [h100-sxm-80gb]
# context: [8k]

# Paths that are never read.
# exclude: [vendor/]

# error, warning, info or off; a rule, a group, or the beginning of an id.
# severity: {overhead-decides-fit: info}
# overrides:
#   - {paths: [staging/], severity: {overhead-decides-fit: off}, ignore: [suppression]}
#   - {paths: [edge/], machine: rtx-4090, context: 4k}

# Findings that you decided to live with. `--write-baseline` does it for all there are.
# ignore:
#   - {rule: context-exceeds-model-maximum, path: experiments/, reason: tried on purpose}

# From when on `oomlint check` fails: error, warning, info or never.
# fail-on: error
";

const RULE: &str = "\
id: engine-version-is-declared
group: ours
severity: warning
scope: deployment
summary: Every deployment says which release of its engine it runs
when: \"!engine.version_known\"
message: \"{deployment.name} does not say which release of {engine.name} it runs\"
labels:
  deployment.engine: \"any release\"
help:
  - \"add `engine_version`\"
why: |
  Flags, defaults and memory differ from release to release. What was checked is what is deployed only where both are
  one release.
";

const FAILS: &str = "\
oomlint: 1
deployments:
  - name: chat
    model: org/model
    engine: vllm
    machines: [l4]
";

/// Every file with its text.
fn files() -> [(&'static str, String); 4] {
    let fails = "oomlint-rules/tests/engine-version-is-declared/fail-no-version/oomlint.yaml";
    let passes = "oomlint-rules/tests/engine-version-is-declared/pass-version/oomlint.yaml";
    let passing = FAILS.replace("engine: vllm\n", "engine: vllm\n    engine_version: \"0.33.0\"\n");
    [
        (crate::config::FILE_NAME, SETTINGS.to_owned()),
        ("oomlint-rules/engine-version-is-declared.yaml", RULE.to_owned()),
        (fails, FAILS.to_owned()),
        (passes, passing),
    ]
}

pub(super) fn run(arguments: &InitArguments) -> u8 {
    let said = match init(&arguments.folder) {
        Ok(text) => output::print(&text),
        Err(words) => Err(words),
    };
    match said {
        Ok(()) => CLEAN,
        Err(words) => {
            output::complain(&words);
            FAILED
        }
    }
}

/// Writes the files; none where one of them is there.
fn init(folder: &Path) -> Result<String, String> {
    let files = files();
    if let Some((name, _)) = files.iter().find(|(name, _)| folder.join(name).exists()) {
        let there = folder.join(name);
        return Err(format!(
            "{} is there already; nothing was written",
            there.display()
        ));
    }
    let mut text = String::new();
    for (name, content) in files {
        let path = folder.join(name);
        let folder = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, content))
            .map_err(|error| format!("cannot write {}: {}", path.display(), crate::walk::plain(&error)))?;
        let _ = writeln!(text, "wrote {}", path.display());
    }
    text += "`oomlint test` runs the trees of the rule, `oomlint check` the rule\n";
    Ok(text)
}
