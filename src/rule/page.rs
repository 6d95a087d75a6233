//! Pages that are made from rules and facts: what `oomlint explain` prints and what `docs/` holds is one text.
//!
//! In: rules, and the table of facts. Out: Markdown that also reads well in a terminal. A test fails while a page
//! of `docs/` is not what these functions give.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::change::Change;
use super::facts::{self, FactDefinition, Kind, Scope, Unit};
use super::setting_facts::{Family, setting_ids};
use super::surrounding_facts;
use super::{Rule, Rules};

impl Rule {
    /// The rule's page.
    pub fn explain(&self) -> String {
        let mut page = format!("# {}\n\n{}\n\n", self.id, self.summary);
        let since = if self.since.is_empty() {
            String::new()
        } else {
            format!(" Since {}.", self.since)
        };
        let _ = writeln!(
            page,
            "Severity: {}. Group: {}. Scope: {}.{since}",
            self.severity.word(),
            self.group,
            self.scope.word()
        );
        for (when, severity) in &self.severity_when {
            let _ = writeln!(
                page,
                "Severity {} where `{}`.",
                severity.word(),
                one_line(when.text())
            );
        }
        for fix in &self.fix {
            let safety = if fix.safe { "safe" } else { "suggested" };
            let _ = writeln!(page, "Fix ({safety}): {}.", fix.change.words());
        }
        if let Some(when) = &self.when {
            let _ = write!(
                page,
                "\n## When\n\n    {}\n",
                when.text().trim_end().replace('\n', "\n    ")
            );
        }
        if !self.why.is_empty() {
            let _ = write!(page, "\n## Why\n\n{}\n", self.why.trim_end());
        }
        if !self.supersedes.is_empty() {
            let _ = write!(
                page,
                "\nWhere it speaks, these stay silent: {}.\n",
                self.supersedes.join(", ")
            );
        }
        let _ = write!(page, "\nTo silence it: `# oomlint: ignore[{}] reason`\n", self.id);
        if !self.references.is_empty() {
            let _ = write!(page, "\n## References\n\n- {}\n", self.references.join("\n- "));
        }
        page
    }

    /// How it is mended, in one word for lists.
    fn fix_word(&self) -> &'static str {
        match self.fix.iter().map(|fix| fix.safe).max() {
            None => "",
            Some(true) => "safe",
            Some(false) => "suggested",
        }
    }
}

impl Change {
    fn words(&self) -> String {
        match self {
            Self::Set(fact, _) => format!("sets `{}`", fact.path),
            Self::Remove(fact) => format!("removes what gives `{}`", fact.path),
            Self::Rename(fact, to) => format!("renames the flag that gives `{}` to `{to}`", fact.path),
            Self::InsertArg(flag, _) => format!("adds `{flag}`"),
            Self::InsertKey(key, ..) => format!("adds the key `{key}`"),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The page of all rules: `docs/rules/README.md`.
pub fn index(rules: &Rules) -> String {
    let mut page = String::from(
        "# Rules\n\nOne line a rule; each page says when it speaks, why, and how to silence it, as `oomlint explain RULE` \
         does.\nThese pages are made from the files in `rules/`.\n",
    );
    let mut groups: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for rule in rules.iter() {
        groups.entry(&rule.group).or_default().push(rule);
    }
    for (group, rules) in groups {
        let _ = write!(
            page,
            "\n## {group}\n\n| rule | severity | fix | since | what it finds |\n|---|---|---|---|---|\n"
        );
        for rule in rules {
            let _ = writeln!(
                page,
                "| [{0}]({0}.md) | {1} | {2} | {3} | {4} |",
                rule.id,
                rule.severity.word(),
                rule.fix_word(),
                rule.since,
                rule.summary.replace('|', "\\|"),
            );
        }
    }
    page
}

/// The page of all facts: `docs/facts.md`. With a filter only the lines that contain it.
pub fn facts(filter: Option<&str>) -> String {
    let mut page = String::from(
        "# Facts\n\nWhat a rule may name in `when`, in placeholders, as labels and in fixes, with its type and what it \
         counts. How they\nare used is in [writing-rules.md](writing-rules.md). This page is made from the program's own \
         table; `oomlint\nexplain --facts` prints it.\n",
    );
    let mut groups: BTreeMap<&str, Vec<&FactDefinition>> = BTreeMap::new();
    for fact in facts::facts().iter().chain(surrounding_facts::facts()) {
        let group = fact.path.split('.').next().unwrap_or("");
        groups.entry(group).or_default().push(fact);
    }
    let wanted = |line: &str| filter.is_none_or(|text| line.contains(text));
    for (group, facts) in groups {
        let lines: Vec<String> = facts.iter().map(|fact| fact_line(fact)).collect();
        let scope = facts.first().map_or(Scope::Scenario, |fact| fact.scope);
        add_section(
            &mut page,
            &format!("{group}\n\n{}", known_to(scope)),
            lines,
            &wanted,
        );
    }
    let families = Family::ALL.map(|family| format!("- `{}.<id>`: {}", family.word(), family.meaning()));
    let about = format!(
        "settings\n\n{}\nEach setting of an engine has four facts:\n\n{}\n\nThe ids, with the type of `setting` and \
         `effective` (`given` is a bool and `raw` a string), and the flags that\nset them. A key of a setting marked \
         \"object\" can be named too, as a string: `setting.speculative_config.method`.",
        known_to(Scope::Deployment),
        families.join("\n")
    );
    let ids = setting_ids().iter().map(|setting| {
        let object = if setting.is_object { ", object" } else { "" };
        let nature = nature(setting.kind, setting.unit);
        format!(
            "- `{}` ({nature}{object}): {}",
            setting.id,
            setting.flags.join(", ")
        )
    });
    add_section(&mut page, &about, ids.collect(), &wanted);
    page
}

fn add_section(page: &mut String, heading: &str, lines: Vec<String>, wanted: &dyn Fn(&str) -> bool) {
    let lines: Vec<String> = lines.into_iter().filter(|line| wanted(line)).collect();
    if !lines.is_empty() {
        let _ = write!(page, "\n## {heading}\n\n{}\n", lines.join("\n"));
    }
}

fn fact_line(fact: &FactDefinition) -> String {
    format!(
        "- `{}` ({}): {}",
        fact.path,
        nature(fact.kind, fact.unit),
        fact.meaning
    )
}

fn nature(kind: Kind, unit: Unit) -> String {
    let unit = match unit {
        Unit::Bytes => ", bytes",
        Unit::Tokens => ", tokens",
        Unit::Count | Unit::Ratio | Unit::None => "",
    };
    format!("{}{unit}", kind.name())
}

/// Which rules know the facts of a scope.
fn known_to(scope: Scope) -> String {
    let rules = Scope::ALL.into_iter().filter(|rule| rule.knows(scope));
    let words: Vec<String> = rules.map(|rule| format!("`scope: {}`", rule.word())).collect();
    format!("Known to rules with {}.", words.join(", "))
}
