//! The model hub: what it says of a repository, and the first bytes of the files in it.
//!
//! In: a repository and a revision. Out: the commit, the names and sizes of its files, small texts whole, and of
//! weight files the ranges asked for. Weights are never downloaded: an answer is read as far as it was asked for
//! and then hung up on. Speaks the HTTP API of huggingface.co (`/api/models/{repository}/revision/{revision}` and
//! `/{repository}/resolve/{commit}/{file}`), which mirrors speak too. Knows nothing of models.

mod access;
mod clock;
mod error;
mod url;
mod wire;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;

pub use access::{Access, Token};
pub use clock::{Clock, SystemClock};
pub use error::{Cause, Error, Place, Subject};
use wire::{Ask, Want, Wire};

/// Bytes of a revision's description at most; those of repositories with 10,000 files take some 4 MB.
const MAX_DESCRIPTION_BYTES: u64 = 32 << 20;

/// A hub and how it is reached. Requests of several threads go out side by side.
#[derive(Debug)]
pub struct Hub {
    wire: Wire,
}

/// A commit of a repository and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit, in hexadecimal digits.
    pub commit: String,
    /// Files by path, with their bytes where the hub tells them.
    pub files: BTreeMap<String, Option<u64>>,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The bytes asked for, or as many as the file has.
    pub bytes: Vec<u8>,
    /// Bytes of the whole file, where the answer tells.
    pub file_bytes: Option<u64>,
}

impl Hub {
    /// A hub; nothing is asked yet.
    ///
    /// # Errors
    /// When the environment says that there is to be no network, or the certificates it names cannot be used.
    pub fn new(access: Access, clock: impl Clock + 'static) -> Result<Self, Error> {
        Wire::new(access, Box::new(clock)).map(|wire| Self { wire })
    }

    /// The host of the endpoint, for messages.
    pub fn host(&self) -> String {
        self.wire.host()
    }

    /// What a branch, a tag or a commit of a repository holds.
    ///
    /// # Errors
    /// When the hub cannot be reached, refuses, or answers something else.
    pub fn revision(&self, repository: &str, revision: &str) -> Result<Revision, Error> {
        let subject = Subject::revision(repository, revision);
        let path = format!("/api/models/{repository}/revision/{}", url::encoded(revision));
        let bytes = self.wire.get(&Ask {
            subject: &subject,
            path: &path,
            query: "?blobs=true",
            want: Want::Whole {
                most: MAX_DESCRIPTION_BYTES,
                exactly: None,
            },
        })?;
        let broken = |why: String| Error::Answer {
            of: subject.at(&self.host()),
            why,
        };
        let description: Description = serde_json::from_slice(&bytes.bytes).map_err(|error| {
            broken(format!(
                "the answer is not the JSON of a model: {}",
                plain(&error)
            ))
        })?;
        let commit = description.sha;
        if !is_commit(&commit) {
            return Err(broken("the answer names no commit".to_owned()));
        }
        let size = |file: &Sibling| file.lfs.as_ref().and_then(|lfs| lfs.size).or(file.size);
        let files = description
            .siblings
            .into_iter()
            .map(|file| (file.rfilename.clone(), size(&file)))
            .collect();
        Ok(Revision { commit, files })
    }

    /// A small file, whole. `exactly` is its size where the hub told one; `most` bounds it.
    ///
    /// # Errors
    /// As for [`Hub::revision`], and when the file is longer than it may be.
    pub fn text(&self, of: &Subject, exactly: Option<u64>, most: u64) -> Result<Vec<u8>, Error> {
        let answer = self.wire.get(&Ask {
            subject: of,
            path: &of.path(),
            query: "",
            want: Want::Whole { most, exactly },
        })?;
        Ok(answer.bytes)
    }

    /// The bytes of a file from `range.start` to `range.end`, or to its end if that comes first.
    ///
    /// # Errors
    /// As for [`Hub::revision`], and when the answer is not the range asked for.
    pub fn part(&self, of: &Subject, range: Range<u64>) -> Result<Part, Error> {
        self.wire.get(&Ask {
            subject: of,
            path: &of.path(),
            query: "",
            want: Want::Range(range),
        })
    }
}

/// A model as the API describes it; only what is needed.
#[derive(Deserialize)]
struct Description {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(default)]
    size: Option<u64>,
}

/// A commit id of git: 40 hexadecimal digits, or 64 in a repository of SHA-256 objects.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A name as repositories have them: `org/name`, or the bare `name` of the oldest ones.
///
/// The rules are those of `huggingface_hub` 0.34, `utils/_validators.py::validate_repo_id`.
pub fn is_repository(name: &str) -> bool {
    let segment = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    name.len() <= 96 && name.split('/').count() <= 2 && name.split('/').all(segment)
}

/// What serde says, without the text it quotes: an answer is not ours to repeat.
fn plain(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "it ends early",
        serde_json::error::Category::Data => "a value is of another kind than expected, or absent",
        _ => "its syntax is broken",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_no_repositories() {
        for good in [
            "meta-llama/Llama-3.1-8B-Instruct",
            "gpt2",
            "a/b.c_d-e",
            "01-ai/Yi-34B",
        ] {
            assert!(is_repository(good), "{good}");
        }
        let long = "x".repeat(97);
        for bad in [
            "", "/", "a/", "/b", "a/b/c", "../b", "a/..", "a/b?x", "a/b#c", "a b/c", "a/b%2f", "a/-b",
            "a/b--c", "é/b", "a/b\n", &long,
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
    }

    #[test]
    fn a_commit_is_forty_or_sixty_four_hexadecimal_digits() {
        assert!(is_commit(&"0123456789abcdef".repeat(4)));
        assert!(is_commit(&"a".repeat(40)));
        for other in ["main", "", &"A".repeat(40), &"g".repeat(40), &"a".repeat(39)] {
            assert!(!is_commit(other), "{other}");
        }
    }
}
