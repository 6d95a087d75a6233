//! Which releases of an engine load a model class.
//!
//! Data: `catalog/engines/architectures.yaml`, from the registries of sampled releases. A class that no row names, and
//! an engine without rows, are not judged.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use super::releases::Releases;
use super::{Engine, Version};

const CATALOG: &str = include_str!("../../catalog/engines/architectures.yaml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "provenance, for readers of the catalog")
    )]
    source: String,
    rows: Vec<Row>,
}

/// One row as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    engine: String,
    #[serde(default)]
    lacks: Option<String>,
    #[serde(default)]
    since: Option<String>,
    /// The last release with the class, as far as known.
    #[serde(default)]
    last: Option<String>,
    /// The oldest sampled release that has it no more.
    #[serde(default)]
    gone_by: Option<String>,
    names: Vec<String>,
}

type Table = BTreeMap<(Engine, String), Releases>;

fn read() -> Result<Table, String> {
    let file: File = serde_saphyr::from_str(CATALOG).map_err(|error| error.to_string())?;
    let version = |text: &Option<String>| text.as_deref().and_then(Version::parse);
    let mut table = Table::new();
    for row in &file.rows {
        let engine = Engine::parse(&row.engine).ok_or_else(|| format!("no engine: {}", row.engine))?;
        for name in &row.names {
            let known = table.entry((engine, name.clone())).or_default();
            known.lacks = known.lacks.or(version(&row.lacks));
            known.since = known.since.or(version(&row.since));
            known.last = known.last.or(version(&row.last));
            known.gone_by = known.gone_by.or(version(&row.gone_by));
        }
    }
    Ok(table)
}

/// What is known of the releases that load a class. A catalog that cannot be read knows nothing; a test keeps it
/// readable.
pub fn releases_of(engine: Engine, architecture: &str) -> Option<Releases> {
    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(|| read().unwrap_or_default());
    table.get(&(engine, architecture.to_owned())).copied()
}

/// Which release loads a class where this one does not, in words: `0.10.2 has it`. `None` where it does or nothing is known.
pub fn history(engine: Engine, architecture: &str, version: Version) -> Option<String> {
    let known = releases_of(engine, architecture)?;
    let lacks = known.lacking(Some(version), None)?;
    Some(known.history(lacks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, version: &str) -> Option<String> {
        history(Engine::Vllm, name, Version::parse(version).unwrap())
    }

    #[test]
    fn every_row_is_well_formed() {
        let file: File = serde_saphyr::from_str(CATALOG).unwrap();
        assert!(file.source.len() > 20);
        for row in &file.rows {
            assert!(Engine::parse(&row.engine).is_some());
            assert_eq!(row.lacks.is_some(), row.since.is_some());
            assert_eq!(row.last.is_some(), row.gone_by.is_some());
            assert!(row.lacks.is_some() || row.last.is_some());
        }
        let table = read().unwrap();
        assert!(table.len() > 150);
        for (name, known) in &table {
            assert!(known.lacks.is_none() || known.lacks < known.since, "{name:?}");
            assert!(known.last.is_none() || known.lacks < known.last, "{name:?}");
            assert!(known.last.is_none() || known.last < known.gone_by, "{name:?}");
        }
    }

    #[test]
    fn a_release_before_the_first_sample_with_a_class_lacks_it() {
        assert_eq!(at("Qwen3ForCausalLM", "0.7.3").as_deref(), Some("0.8.5 has it"));
        assert_eq!(at("Qwen3ForCausalLM", "0.8.0"), None);
        assert_eq!(at("LlamaForCausalLM", "0.6.0"), None);
    }

    #[test]
    fn a_class_that_was_dropped_names_its_last_release() {
        assert_eq!(
            at("MllamaForConditionalGeneration", "0.33.0").as_deref(),
            Some("0.10.2 still had it, 0.11.0 has not")
        );
        assert_eq!(at("MllamaForConditionalGeneration", "0.10.2"), None);
    }
}
