//! In which releases of an engine a flag, a variable or a model class exists, as far as samples of them tell.
//!
//! In: the releases that a catalog row names. Out: whether a declared release is known to lack it. Between the newest
//! sample with and the oldest without it nothing is known, and nothing is said.

use super::Version;

/// What samples of an engine's releases tell about one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Releases {
    /// The newest sampled release that has it, where a later one has it no more.
    pub last: Option<Version>,
    /// The oldest sampled release that has it no more.
    pub gone_by: Option<Version>,
    /// The newest sampled release without it, where a later one has it again.
    pub gone_until: Option<Version>,
    /// The newest sampled release before it came.
    pub lacks: Option<Version>,
    /// The oldest sampled release that has it.
    pub since: Option<Version>,
}

/// How a release stands to a thing that it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    /// An earlier release had it.
    Removed,
    /// A later release has it.
    NotYet,
}

impl Releases {
    /// Why `version` lacks it; without a version, why `current` does. `None` where it is there or nothing is known.
    pub fn lacking(&self, version: Option<Version>, current: Option<Version>) -> Option<Lacks> {
        let asked = version.or(current)?;
        let is_back = self.gone_until.is_some_and(|until| asked > until);
        if self.gone_by.is_some_and(|gone| asked >= gone) && !is_back {
            return Some(Lacks::Removed);
        }
        self.lacks
            .is_some_and(|lacks| asked <= lacks)
            .then_some(Lacks::NotYet)
    }

    /// The releases on both sides of the change, in words.
    pub fn history(&self, lacks: Lacks) -> String {
        let then = match self.gone_until {
            Some(until) => format!("has not, nor any up to {until}"),
            None => "has not".to_owned(),
        };
        match (lacks, self.last, self.gone_by, self.since) {
            (Lacks::Removed, Some(last), Some(gone), _) => {
                format!("{last} still had it, {gone} {then}")
            }
            (Lacks::Removed, None, Some(gone), _) => format!("{gone} {then}"),
            (Lacks::NotYet, _, _, Some(since)) => format!("{since} has it"),
            _ => "other releases have it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases(last: &str, gone_by: &str, lacks: &str) -> Releases {
        Releases {
            last: Version::parse(last),
            gone_by: Version::parse(gone_by),
            lacks: Version::parse(lacks),
            ..Releases::default()
        }
    }

    #[test]
    fn between_two_samples_nothing_is_said() {
        let known = releases("0.16.0", "0.17.1", "0.6.6");
        let at = |text| known.lacking(Version::parse(text), None);
        assert_eq!(at("0.6.6"), Some(Lacks::NotYet));
        assert_eq!((at("0.7.0"), at("0.16.0"), at("0.17.0")), (None, None, None));
        assert_eq!(at("0.17.1"), Some(Lacks::Removed));
    }

    #[test]
    fn an_unknown_release_is_taken_for_the_current_one() {
        let known = releases("0.16.0", "0.17.1", "");
        assert_eq!(
            known.lacking(None, Version::parse("0.33.0")),
            Some(Lacks::Removed)
        );
        assert_eq!(known.lacking(None, None), None);
        let back = Releases {
            gone_until: Version::parse("0.24.0"),
            ..known
        };
        assert_eq!(back.lacking(None, Version::parse("0.33.0")), None);
        assert_eq!(back.lacking(Version::parse("0.20.0"), None), Some(Lacks::Removed));
    }
}
