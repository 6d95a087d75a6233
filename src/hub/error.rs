//! Why the hub gave no answer, in sentences that say what to do. No sentence repeats what a server wrote or
//! names more of an address than its host: signed addresses and echoed headers are secrets.

use std::fmt;
use std::time::Duration;

use super::url;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `org/name`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A file of it; `None` for the description of the revision.
    pub file: Option<String>,
}

impl Subject {
    /// A revision as a whole.
    pub fn revision(repository: &str, revision: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            file: None,
        }
    }

    /// A file of this revision.
    pub fn file(&self, file: &str) -> Self {
        Self {
            file: Some(file.to_owned()),
            ..self.clone()
        }
    }

    /// Asked of a host.
    pub(super) fn at(&self, host: &str) -> Place {
        Place {
            subject: Box::new(self.clone()),
            host: host.to_owned(),
        }
    }

    /// The path at which the hub gives out the file.
    pub(super) fn path(&self) -> String {
        let file = self.file.as_deref().unwrap_or_default();
        let parts: Vec<String> = file.split('/').map(url::encoded).collect();
        format!(
            "/{}/resolve/{}/{}",
            self.repository,
            url::encoded(&self.revision),
            parts.join("/")
        )
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{file} of {}", self.repository),
            None => write!(f, "{} at revision {}", self.repository, self.revision),
        }
    }
}

/// What was asked for, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What.
    pub subject: Box<Subject>,
    /// The host, with its port.
    pub host: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.host)
    }
}

/// What a hub gives for its reason to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The terms of the model must be accepted first.
    Gated,
    /// The repository has no such revision.
    NoRevision,
    /// There is no such repository, or none that is shown.
    NoRepository,
    /// It says nothing that is understood here.
    Untold,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The environment says that there is to be no network.
    Offline {
        /// The variable that says so.
        variable: &'static str,
    },
    /// A variable of the environment that cannot be used.
    Environment {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it, without its value.
        why: String,
    },
    /// No answer arrived, or not all of it.
    Unreachable {
        /// What was asked for, and whom.
        of: Place,
        /// What happened.
        why: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// 401 or 403 from the hub.
    Refused {
        /// What was asked for, and whom.
        of: Place,
        /// 401 or 403.
        status: u16,
        /// True when a token was sent.
        with_token: bool,
        /// What the hub gave for its reason.
        cause: Cause,
    },
    /// 404 from the hub.
    Absent {
        /// What was asked for, and whom.
        of: Place,
        /// What the hub gave for its reason.
        cause: Cause,
    },
    /// 429 or 5xx to the end.
    Busy {
        /// What was asked for, and whom.
        of: Place,
        /// The last status.
        status: u16,
        /// How often it was tried.
        attempts: u32,
        /// How long the server wants to be left alone, where it says so and it is too long to wait here.
        wait: Option<Duration>,
    },
    /// An answer that is not what was asked for.
    Answer {
        /// What was asked for, and who answered.
        of: Place,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline { variable } => write!(
                f,
                "{variable} says that there is to be no network, and a lock can only be made with one; unset it, or \
                 run this where the hub can be reached and commit the lock file"
            ),
            Self::Environment { variable, why } => write!(f, "{variable} {why}"),
            Self::Unreachable { of, why, attempts } => write!(
                f,
                "{of} {why}{}; run this again, what is finished is kept",
                times(*attempts)
            ),
            Self::Refused {
                of,
                status,
                with_token,
                cause,
            } => refused(f, of, *status, *with_token, *cause),
            Self::Absent { of, cause } => absent(f, of, *cause),
            Self::Busy {
                of,
                status,
                attempts,
                wait,
            } => {
                write!(f, "{of} answered {status}{}", times(*attempts))?;
                match wait {
                    Some(wait) => write!(
                        f,
                        " and asks to be left alone for {} s; run this again then, what is finished is kept",
                        wait.as_secs()
                    ),
                    None => write!(f, "; run this again later, what is finished is kept"),
                }
            }
            Self::Answer { of, why } => write!(f, "{}, from {}: {why}", of.subject, of.host),
        }
    }
}

impl std::error::Error for Error {}

fn times(attempts: u32) -> String {
    match attempts {
        0 | 1 => String::new(),
        more => format!(", {more} times in a row"),
    }
}

/// A hub tells strangers 401 for what is gated, private or not there at all, and 403 to those it knows.
fn refused(
    f: &mut fmt::Formatter<'_>,
    of: &Place,
    status: u16,
    with_token: bool,
    cause: Cause,
) -> fmt::Result {
    write!(f, "{of} answered {status}: ")?;
    match (status, with_token) {
        (_, false) if cause == Cause::Gated => write!(
            f,
            "the model is gated, and no token was sent. Accept its terms on its page and set HF_TOKEN"
        ),
        (401, true) if cause == Cause::NoRepository => write!(
            f,
            "there is no model {}, or it is private and the token's account may not see it",
            of.subject.repository
        ),
        (401, false) => write!(
            f,
            "without a token it shows neither gated and private models nor which names are wrong. If {} is spelt \
             rightly, accept its terms on its page and set HF_TOKEN",
            of.subject.repository
        ),
        (401, true) if cause != Cause::Gated => {
            write!(f, "it does not take the token. Set HF_TOKEN to one that is valid")
        }
        (_, false) => write!(
            f,
            "the model is gated or private, and no token was sent. Accept its terms on its page and set HF_TOKEN"
        ),
        (_, true) => write!(
            f,
            "the token's account may not read it. Accept the terms of the model on its page with that account, and \
             see that the token may read gated repositories"
        ),
    }
}

fn absent(f: &mut fmt::Formatter<'_>, of: &Place, cause: Cause) -> fmt::Result {
    let Place { subject, host } = of;
    let Subject {
        repository, revision, ..
    } = &**subject;
    match (&subject.file, cause) {
        (Some(file), _) => write!(f, "{host} has no file {file} in {repository}"),
        (None, Cause::NoRevision) => write!(f, "{host} has {repository}, but no revision {revision} of it"),
        (None, _) => write!(
            f,
            "{host} has no model {repository}, or no revision {revision} of it; a name is spelt `org/name` or \
             `org/name@revision`"
        ),
    }
}
