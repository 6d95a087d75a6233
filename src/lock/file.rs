//! The lock file: the records of models by name, in bytes that depend on nothing but the records.
//!
//! Pretty JSON and not YAML: it is written by a program and read by people in diffs. JSON has one spelling for each
//! value, no rule that turns `no` or `1e3` into something else, and needs no second writer. Lists of plain values
//! stand on one line, so that a pattern of 94 layers is one line of a review.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::record::Record;
use crate::walk::{LOCK_FILE, plain};

/// The version of the format.
const VERSION: u64 = 1;

/// Bytes of a lock file at most; a record takes some 2 KB.
const MAX_BYTES: u64 = 64 << 20;

/// The content of a lock file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LockFile {
    /// Records by name and by the revision that manifests ask for.
    models: BTreeMap<(String, Option<String>), Record>,
}

/// The file as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u64,
    models: Vec<Record>,
}

impl LockFile {
    /// Reads a lock file; one that does not exist is empty.
    ///
    /// # Errors
    /// In words that begin with the file's name.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = crate::walk::display(path);
        let length = match path.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("{shown} cannot be read: {}", plain(&error))),
            Ok(metadata) if !metadata.is_file() => return Err(format!("{shown} is not a file")),
            Ok(metadata) => metadata.len(),
        };
        if length > MAX_BYTES {
            return Err(format!(
                "{shown} is larger than {} MiB, so it is no lock file",
                MAX_BYTES >> 20
            ));
        }
        let text =
            std::fs::read(path).map_err(|error| format!("{shown} cannot be read: {}", plain(&error)))?;
        Self::parse(&text).map_err(|why| format!("{shown} {why}"))
    }

    /// Reads the text of a lock file.
    ///
    /// # Errors
    /// In words that follow the file's name.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Any {
            version: u64,
        }
        let broken = |error: serde_json::Error| {
            format!(
                "is not a lock file: {error}. After a merge that left both sides in it, take either side and run \
                 `oomlint lock`"
            )
        };
        let any: Any = serde_json::from_slice(text).map_err(broken)?;
        if any.version != VERSION {
            return Err(format!(
                "has version {}; this oomlint knows version {VERSION}",
                any.version
            ));
        }
        let written: Written = serde_json::from_slice(text).map_err(broken)?;
        let mut file = Self::default();
        for record in written.models {
            let name = record.name.clone();
            if file.insert(record).is_some() {
                return Err(format!("has two records of {name} for one revision"));
            }
        }
        Ok(file)
    }

    /// The record that was made for this name and revision, word for word.
    pub fn of(&self, repository: &str, revision: Option<&str>) -> Option<&Record> {
        let key = (repository.to_owned(), revision.map(str::to_owned));
        self.models.get(&key)
    }

    /// Takes the records of another file for what this one does not hold.
    pub fn add(&mut self, other: Self) {
        for (key, record) in other.models {
            self.models.entry(key).or_insert(record);
        }
    }

    /// All records, by name.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.models.values()
    }

    /// Puts a record in the place of the one that answers the same name; gives that one.
    pub fn insert(&mut self, record: Record) -> Option<Record> {
        let key = (record.name.clone(), record.requested.clone());
        self.models.insert(key, record)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// In words, where a record holds what JSON cannot say.
    pub fn to_text(&self) -> Result<String, String> {
        let written = Written {
            version: VERSION,
            models: self.models.values().cloned().collect(),
        };
        let value = serde_json::to_value(&written).map_err(|error| error.to_string())?;
        let mut text = String::new();
        put(&mut text, &value, 0);
        text.push('\n');
        Ok(text)
    }

    /// Writes the file, all of it or nothing, and only if it changes. Tells whether it did.
    ///
    /// # Errors
    /// In words that begin with the file's name.
    pub fn write(&self, path: &Path) -> Result<bool, String> {
        let failed = |why: String| format!("{} cannot be written: {why}", crate::walk::display(path));
        let text = self.to_text().map_err(failed)?;
        if std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(false);
        }
        replace(path, text.as_bytes()).map_err(|error| failed(plain(&error)))?;
        Ok(true)
    }
}

/// Puts new bytes in the place of a file. Whoever reads meanwhile sees the old ones or the new ones.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Renaming over a link would leave its target as it was.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| std::fs::rename(&beside, &path));
    if moved.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    moved
}

/// The lock file that holds for a directory: the nearest one, no further up than the repository root.
pub fn discover(directory: &Path) -> Option<PathBuf> {
    let start = directory.canonicalize().ok()?;
    for folder in start.ancestors() {
        let candidate = folder.join(LOCK_FILE);
        if candidate.is_file() {
            return Some(candidate);
        }
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

/// Writes a value with two spaces a level; a list of plain values on one line.
fn put(text: &mut String, value: &Value, level: usize) {
    let new_line = |text: &mut String, level: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", level));
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('{');
            for (at, (key, value)) in fields.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                new_line(text, level + 1);
                let _ = write!(text, "{}: ", Value::from(key.as_str()));
                put(text, value, level + 1);
            }
            new_line(text, level);
            text.push('}');
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                new_line(text, level + 1);
                put(text, item, level + 1);
            }
            new_line(text, level);
            text.push(']');
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            let _ = write!(text, "[{}]", items.join(", "));
        }
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, requested: Option<&str>, revision: &str) -> Record {
        Record {
            name: name.to_owned(),
            requested: requested.map(str::to_owned),
            revision: Some(revision.to_owned()),
            source: "a test".to_owned(),
            ..Record::default()
        }
    }

    #[test]
    fn the_order_of_insertion_leaves_no_trace() {
        let records = [
            record("b/b", None, "2"),
            record("a/a", Some("v1"), "1"),
            record("a/a", None, "0"),
        ];
        let text = |order: [usize; 3]| {
            let mut file = LockFile::default();
            for at in order {
                file.insert(records[at].clone());
            }
            file.to_text().unwrap()
        };
        let one = text([0, 1, 2]);
        assert_eq!(one, text([2, 1, 0]));
        assert_eq!(LockFile::parse(one.as_bytes()).unwrap().to_text().unwrap(), one);
    }

    #[test]
    fn lists_of_plain_values_stand_on_one_line() {
        let mut text = String::new();
        let value = serde_json::json!({"a": [1, 2, 3], "b": [[1], {"c": 1.5}], "d": {}, "e": []});
        put(&mut text, &value, 0);
        assert_eq!(
            text,
            "{\n  \"a\": [1, 2, 3],\n  \"b\": [\n    [1],\n    {\n      \"c\": 1.5\n    }\n  ],\n  \"d\": {},\n  \
             \"e\": []\n}"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn files_that_are_no_lock_say_why() {
        for (text, words) in [
            ("", "is not a lock file"),
            ("<<<<<<< HEAD\n", "take either side"),
            (
                r#"{"version": 2, "models": [{"later": 1}]}"#,
                "this oomlint knows version 1",
            ),
            (
                r#"{"version": 1, "models": [{"name": "a/a", "source": "", "sauce": 1}]}"#,
                "sauce",
            ),
            (
                r#"{"version": 1, "models": [{"name": "a/a", "source": ""}, {"name": "a/a", "source": ""}]}"#,
                "two records of a/a",
            ),
        ] {
            let error = LockFile::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn writing_the_same_again_leaves_the_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        let mut file = LockFile::read(&path).unwrap();
        file.insert(record("a/a", None, "0"));
        assert!(file.write(&path).unwrap());
        assert!(!file.write(&path).unwrap());
        assert_eq!(LockFile::read(&path).unwrap(), file);
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary file stays behind");
    }
}
