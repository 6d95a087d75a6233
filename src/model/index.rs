//! Shard indexes (`model.safetensors.index.json`): which files a checkpoint is split into, and its total size.
//!
//! In: the text. Out: a [`ShardIndex`]. Read without a tree, since an index of a large model has 100,000 lines
//! of which only the distinct file names matter.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// What an index says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ShardIndex {
    /// `metadata.total_size`: bytes of all tensors.
    pub total_size: Option<u64>,
    /// The files that `weight_map` names, each once.
    pub shards: BTreeSet<String>,
}

impl ShardIndex {
    /// Reads the text of an index.
    ///
    /// # Errors
    /// When it is not JSON, or has no `weight_map` of names.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let file: IndexFile = serde_json::from_str(text)?;
        Ok(Self {
            total_size: file.metadata.and_then(|metadata| whole(&metadata.total_size)),
            shards: file.weight_map.0,
        })
    }
}

/// Some writers give the size as a float or as text.
fn whole(value: &serde_json::Value) -> Option<u64> {
    let text = match value {
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::String(text) => text.clone(),
        _ => return None,
    };
    text.trim_end_matches(".0").parse().ok()
}

#[derive(Deserialize)]
struct IndexFile {
    #[serde(default)]
    metadata: Option<Metadata>,
    weight_map: FileNames,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    total_size: serde_json::Value,
}

/// The distinct values of `weight_map`.
struct FileNames(BTreeSet<String>);

impl<'de> Deserialize<'de> for FileNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = FileNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FileNames, A::Error> {
                let mut names = BTreeSet::new();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    let name: std::borrow::Cow<'de, str> = map.next_value()?;
                    if !names.contains(name.as_ref()) {
                        names.insert(name.into_owned());
                    }
                }
                Ok(FileNames(names))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_is_named_once_and_the_total_may_be_a_float() {
        let text = r#"{"metadata": {"total_size": 16060522496.0},
            "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}"#;
        let index = ShardIndex::parse(text).unwrap();
        assert_eq!(index.total_size, Some(16_060_522_496));
        assert_eq!(index.shards.len(), 2);
    }

    #[test]
    fn a_negative_or_absent_total_is_none_and_a_broken_map_is_an_error() {
        for metadata in ["{}", "null", r#"{"total_size": -4}"#, r#"{"total_size": 1e99}"#] {
            let index =
                ShardIndex::parse(&format!(r#"{{"metadata": {metadata}, "weight_map": {{}}}}"#)).unwrap();
            assert_eq!(index.total_size, None, "{metadata}");
        }
        assert!(ShardIndex::parse(r#"{"weight_map": {"a": 1}}"#).is_err());
        assert!(ShardIndex::parse("{}").is_err());
    }
}
