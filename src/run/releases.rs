//! What a deployment gives an engine that its release does not have: flags and variables of other releases.
//!
//! In: the arguments as read, the container's environment, and the release. Out: findings, with the replacement and,
//! where it means the same, a fix. Where the release is unknown the current one is meant and findings are warnings.

use crate::engine::args::{OtherRelease, ParsedArgs};
use crate::engine::flags::{FlagTable, Instead};
use crate::engine::releases::Lacks;
use crate::engine::{Engine, Version};
use crate::fact::Fact;
use crate::finding::{Edit, Finding, Fix, Label, Severity};
use crate::manifest::Deployment;
use crate::rule::change::remove_words;
use crate::source::{Sources, Span};

/// The release that a deployment is held against.
struct Release {
    engine: Engine,
    version: Option<Version>,
    /// Where the file states it.
    place: Option<Span>,
}

/// What the deployment's release does not have.
pub(super) fn findings(
    engine: Engine,
    version: Option<Version>,
    deployment: &Deployment,
    parsed: &ParsedArgs,
    sources: &Sources,
    findings: &mut Vec<Finding>,
) {
    let release = Release {
        engine,
        version,
        place: deployment.engine_version.as_ref().and_then(Fact::span),
    };
    let flags = parsed.other_releases.iter();
    findings.extend(flags.filter_map(|found| release.flag(found, sources)));
    findings.extend(release.variables(deployment));
    findings.extend(overridden(engine, deployment, parsed));
}

impl Release {
    fn name(&self) -> String {
        match self.version {
            Some(version) => format!("{} {version}", self.engine.name()),
            None => self.engine.name().to_owned(),
        }
    }

    fn flag(&self, found: &OtherRelease, sources: &Sources) -> Option<Finding> {
        let span = found.flag.span()?;
        let name = &found.flag.value;
        let known = found.row.releases();
        let (rule, text) = match found.lacks {
            Lacks::Removed => ("engine-flag-removed", "removed"),
            Lacks::NotYet => ("engine-flag-too-new", "not yet there"),
        };
        let severity = match self.version {
            Some(_) => Severity::Error,
            None => Severity::Warning,
        };
        let label = Label {
            span,
            text: text.to_owned(),
        };
        let history = known.history(found.lacks);
        let message = match self.version {
            Some(_) => format!("{} has no argument {name}: {history}", self.name()),
            None => format!("{name} is no argument of {} any more: {history}", self.name()),
        };
        let instead = found
            .row
            .instead
            .as_ref()
            .filter(|_| found.lacks == Lacks::Removed);
        let mut finding = Finding::at(rule, severity, message, label).with_help(self.help(instead));
        if let Some(place) = self
            .place
            .filter(|place| *place != span && self.version.is_some())
        {
            finding = finding.with_related(place, self.name());
        }
        finding.fix = instead
            .filter(|_| !found.negated)
            .and_then(|instead| mended(instead, found, sources, self.version.is_some()));
        Some(finding)
    }

    fn help(&self, instead: Option<&Instead>) -> String {
        let mut lines = Vec::new();
        if let Some(instead) = instead {
            if let Some(flag) = &instead.flag {
                lines.push(format!("write `{flag}`: it means the same"));
            }
            if instead.drop {
                lines.push("leave it out: the engine does without".to_owned());
            }
            lines.extend(instead.say.clone());
        }
        lines.push(match self.version {
            Some(_) => format!("{} refuses to start with arguments that it does not know", self.engine.name()),
            None => "the release is not declared, so this is a warning: name it in the image's tag or as `engine_version`"
                .to_owned(),
        });
        lines.join("\n")
    }

    /// Variables that the release reads no more. It starts all the same, so nobody notices.
    fn variables(&self, deployment: &Deployment) -> Vec<Finding> {
        let table = FlagTable::of(self.engine);
        let gone = |(name, _): &(Fact<String>, Option<Fact<String>>)| {
            let span = name.span()?;
            let row = table.environment.iter().find(|row| row.is_of(&name.value))?;
            let known = row.releases();
            let lacks = known.lacking(self.version, table.version)?;
            let message = format!(
                "{} does not read {}: {}",
                self.name(),
                name.value,
                known.history(lacks)
            );
            let label = Label {
                span,
                text: "without effect".to_owned(),
            };
            let instead = row.instead.as_ref().and_then(|instead| instead.say.as_deref());
            let mut help = instead.map_or_else(|| "leave it out".to_owned(), str::to_owned);
            if self.version.is_none() {
                help.push_str("\nthe release is not declared: earlier ones read it");
            }
            let severity = match self.version {
                Some(_) => Severity::Warning,
                None => Severity::Info,
            };
            Some(Finding::at("engine-env-removed", severity, message, label).with_help(help))
        };
        deployment.environment.iter().filter_map(gone).collect()
    }
}

/// The flag under its new name, or the command line without it. Safe for a known release only: an older one may heed it.
fn mended(instead: &Instead, found: &OtherRelease, sources: &Sources, safe: bool) -> Option<Fix> {
    let edits = match &instead.flag {
        Some(flag) => {
            let span = found.flag.span()?;
            let file = sources.get(span.file())?;
            // An alias or a part that was put together has other characters than the flag.
            (file.slice(span) == found.flag.value).then_some(())?;
            vec![Edit {
                span,
                text: flag.clone(),
            }]
        }
        None if instead.drop => remove_words(sources, &found.words)?,
        None => return None,
    };
    Some(Fix { safe, edits })
}

/// Variables whose setting an argument gives another value: the argument wins.
fn overridden(engine: Engine, deployment: &Deployment, parsed: &ParsedArgs) -> Vec<Finding> {
    let flags = &FlagTable::of(engine).flags;
    let both = |(name, value): &(Fact<String>, Option<Fact<String>>)| {
        let value = value.as_ref()?;
        let span = value.span()?;
        let flag = flags
            .iter()
            .find(|flag| flag.env.as_deref() == Some(name.value.as_str()))?;
        let given = parsed.settings.get(flag.setting.as_deref()?)?;
        let differs = given.value != value.value && !is_same(&given.value, &value.value);
        let place = given.span().filter(|_| differs)?;
        let message = format!(
            "{} is {} and the argument says {}: the argument counts",
            name.value, value.value, given.value
        );
        let label = Label {
            span,
            text: "overridden".to_owned(),
        };
        let finding = Finding::at("env-overrides-flag", Severity::Warning, message, label)
            .with_related(place, "this counts")
            .with_help(format!(
                "keep one of the two: {} reads the variable only where no argument is given",
                engine.name()
            ));
        Some(finding)
    };
    deployment.environment.iter().filter_map(both).collect()
}

/// True for two spellings of one number or truth, and for what is filled in later.
fn is_same(one: &str, other: &str) -> bool {
    let truth = |text: &str| match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "enabled" => Some(true),
        "0" | "false" | "off" | "disabled" => Some(false),
        _ => None,
    };
    let number = |text: &str| text.trim().parse::<f64>().ok();
    crate::engine::args::is_placeholder(one)
        || crate::engine::args::is_placeholder(other)
        || truth(one).is_some() && truth(one) == truth(other)
        || number(one).is_some_and(|number_of_one| {
            number(other)
                .is_some_and(|number_of_other| (number_of_one - number_of_other).abs() < f64::EPSILON)
        })
}
