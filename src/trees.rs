//! Example trees of rules: folders that must make a rule speak, and folders that must not.
//!
//! In: a folder with `<rule-id>/{fail,pass}-<case>/`. Out: for each tree whether the rule spoke as it should, and how
//! what the program prints differs from `expected.txt` beside it, where there is one. Each tree is checked by the
//! program itself, run in the tree: paths in reports are then those that its author sees. `oomlint test` and the
//! project's own test of its rules are this module.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is expected of a tree, beside it.
const EXPECTED: &str = "expected.txt";

/// Environment variables that would change what a run says.
const VARIABLES: [&str; 6] = [
    "OOMLINT_OUTPUT",
    "OOMLINT_MACHINE",
    "OOMLINT_CONTEXT",
    "OOMLINT_CONFIG",
    "OOMLINT_FAIL_ON",
    "OOMLINT_THREADS",
];

/// One tree and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The rule.
    pub rule: String,
    /// `fail-...` or `pass-...`.
    pub case: String,
    /// Where it lies.
    pub folder: PathBuf,
}

/// What a tree came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Right,
    /// In words what is wrong, with a diff where the output differs.
    Wrong(String),
    /// `expected.txt` was written anew.
    Updated,
}

/// True for the name of a tree's folder.
pub fn is_case(name: &str) -> bool {
    name.starts_with("fail-") || name.starts_with("pass-")
}

/// Every tree below a folder, sorted: `<rule-id>/<case>/`, also below `tests/`.
///
/// # Errors
///
/// Why a folder cannot be listed, in words.
pub fn discover(root: &Path) -> Result<Vec<Tree>, String> {
    let mut trees = Vec::new();
    for rule in folders(root)? {
        for folder in folders(&rule)? {
            let (rule, case) = (name(&rule), name(&folder));
            if is_case(&case) {
                trees.push(Tree { rule, case, folder });
            }
        }
    }
    let below = root.join("tests");
    if below.is_dir() {
        trees.extend(discover(&below)?);
    }
    Ok(trees)
}

fn folders(of: &Path) -> Result<Vec<PathBuf>, String> {
    let told =
        |error: &std::io::Error| format!("cannot list {}: {}", of.display(), crate::walk::plain(error));
    let entries: Result<Vec<_>, _> = fs::read_dir(of).map_err(|error| told(&error))?.collect();
    let paths = entries
        .map_err(|error| told(&error))?
        .into_iter()
        .map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What the program prints of a tree, and the rules that spoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Diagnostics, messages and the exit code.
    pub printed: String,
    /// Rules with a finding that nothing suppresses.
    pub spoke: BTreeSet<String>,
}

impl Tree {
    /// Runs the program in the tree, with the rules of a folder where one is given.
    ///
    /// # Errors
    ///
    /// Why it could not be run, in words.
    pub fn run(&self, program: &Path, rules: Option<&Path>) -> Result<Ran, String> {
        // One run gives both: what people read on the terminal, what programs read in a file that is gone after.
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("oomlint-tree-{}-{number}.json", std::process::id()));
        let ran = self.output(program, rules, &file);
        let json = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        let (human, errors, code) = ran?;
        let report: serde_json::Value =
            serde_json::from_str(&json).map_err(|error| format!("{error}: {json}"))?;
        let findings = report.get("findings").and_then(serde_json::Value::as_array);
        let text = |finding: &serde_json::Value, key: &str| Some(finding.get(key)?.as_str()?.to_owned());
        let open = findings
            .into_iter()
            .flatten()
            .filter(|finding| text(finding, "suppressed").is_none());
        Ok(Ran {
            spoke: open.filter_map(|finding| text(finding, "rule")).collect(),
            printed: format!("{human}{errors}exit {code}\n"),
        })
    }

    /// What a run prints, the words on the standard error, and its exit code; its JSON report goes to a file.
    fn output(
        &self,
        program: &Path,
        rules: Option<&Path>,
        json: &Path,
    ) -> Result<(String, String, i32), String> {
        // A tree is checked as a whole, unless a file `paths` names what to check.
        let paths = fs::read_to_string(self.folder.join("paths")).unwrap_or_else(|_| ".".to_owned());
        let mut command = Command::new(program);
        command
            .arg("check")
            .args(paths.split_whitespace())
            .args(["--color", "never", "--output", "human", "--output"])
            .arg(format!("json={}", json.display()))
            .current_dir(&self.folder);
        if !self.folder.join(crate::config::FILE_NAME).exists() {
            command.arg("--no-config");
        }
        if let Some(rules) = rules {
            command.arg("--rules").arg(rules);
        }
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        let output = command
            .output()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let code = output.status.code().filter(|code| (0..=3).contains(code));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let errors = text(output.stderr);
        let code = code.ok_or_else(|| format!("the program ended with {}: {errors}", output.status))?;
        Ok((text(output.stdout), errors, code))
    }

    /// Holds a tree against what is expected of it.
    ///
    /// # Errors
    ///
    /// Why it could not be run or `expected.txt` not be written, in words.
    pub fn judge(&self, program: &Path, rules: Option<&Path>, update: bool) -> Result<Verdict, String> {
        let ran = self.run(program, rules)?;
        let should = self.case.starts_with("fail-");
        if ran.spoke.contains(&self.rule) != should {
            let rule = &self.rule;
            let what = if should {
                "keeps silent here"
            } else {
                "speaks here"
            };
            return Ok(Verdict::Wrong(format!("`{rule}` {what}:\n{}", ran.printed)));
        }
        let file = self.folder.join(EXPECTED);
        let expected = fs::read_to_string(&file)
            .ok()
            .map(|text| text.replace("\r\n", "\n"));
        if expected.as_ref() == Some(&ran.printed) {
            return Ok(Verdict::Right);
        }
        if update {
            fs::write(&file, &ran.printed).map_err(|error| {
                format!("cannot write {}: {}", file.display(), crate::walk::plain(&error))
            })?;
            return Ok(Verdict::Updated);
        }
        let Some(expected) = expected else {
            return Ok(Verdict::Right);
        };
        let diff = similar::TextDiff::from_lines(&expected, &ran.printed)
            .unified_diff()
            .header(EXPECTED, "what is printed")
            .to_string();
        Ok(Verdict::Wrong(diff))
    }

    /// True where `expected.txt` stands beside it.
    pub fn has_expected(&self) -> bool {
        self.folder.join(EXPECTED).is_file()
    }
}
