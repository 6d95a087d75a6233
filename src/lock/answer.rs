//! What a lock file says to a name of a manifest: the record, with the GGUF file that the name means picked out.

use super::LockFile;
use super::name::{FileWish, Reference};
use super::split::GgufSet;
use crate::model::gguf;
use crate::model::record::{GgufFile, Record, RecordedWeights};

/// The mix of types that llama.cpp takes where none is named (`common/download.cpp`).
pub(super) const DEFAULT_QUANTIZATION: &str = "Q4_K_M";

impl LockFile {
    /// The record of a repository (upper and lower case alike) at a revision. `written` is the whole name as the
    /// manifest has it, which may mean one of the repository's GGUF files; the weights are those of that file.
    pub fn answer(&self, repository: &str, revision: Option<&str>, written: &str) -> Option<Record> {
        let revision = revision.filter(|revision| *revision != "main");
        let is_asked = |record: &&Record| {
            let commit = record.revision.as_deref();
            record.name.eq_ignore_ascii_case(repository)
                && (record.requested.as_deref() == revision || (revision.is_some() && commit == revision))
        };
        let record = self.records().find(is_asked)?;
        let wish = Reference::parse(written, true).and_then(|reference| reference.file);
        if wish.is_none() && !record.config.is_empty() {
            return Some(record.clone());
        }
        let (_, file) = pick(record, wish.as_ref())?;
        Some(with_file(record, file))
    }
}

/// The GGUF file that a wish means; without one, the file that llama.cpp would take.
pub(super) fn pick<'r>(record: &'r Record, wish: Option<&FileWish>) -> Option<(&'r String, &'r GgufFile)> {
    let of_mix = |wished: &str| {
        record.gguf.iter().find(|(_, file)| {
            let mix = file.quantization.as_ref();
            mix.is_some_and(|mix| mix.eq_ignore_ascii_case(wished))
        })
    };
    match wish {
        Some(FileWish::Quantization(wished)) => of_mix(wished),
        Some(FileWish::Path(wished)) => record
            .gguf
            .get_key_value(wished)
            .or_else(|| record.gguf.get_key_value(&GgufSet::first_part(wished)?)),
        None => of_mix(DEFAULT_QUANTIZATION).or_else(|| record.gguf.first_key_value()),
    }
}

/// The record as if the repository held this file alone.
fn with_file(record: &Record, file: &GgufFile) -> Record {
    let mut record = record.clone();
    // Before its header is read, a file is taken for its whole length: a little more than its tensors.
    let length = RecordedWeights {
        bytes: file.bytes,
        exact: false,
        ..RecordedWeights::default()
    };
    record.weights = Some(file.weights.clone().unwrap_or(length));
    record.config.clear();
    let kind = file.quantization.as_deref().and_then(gguf::file_type);
    record
        .gguf_metadata
        .extend(kind.map(|kind| ("general.file_type".to_owned(), kind)));
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GgufValue, ModelSource};

    fn file(bytes: u64, mix: &str, weights: Option<u64>) -> GgufFile {
        GgufFile {
            bytes,
            quantization: Some(mix.to_owned()),
            weights: weights.map(|bytes| RecordedWeights {
                bytes,
                exact: true,
                ..RecordedWeights::default()
            }),
        }
    }

    fn locked() -> LockFile {
        let mut lock = LockFile::default();
        let mut gguf = Record {
            name: "Org/Model-GGUF".to_owned(),
            ..Record::default()
        };
        let arch = GgufValue::Text("llama".to_owned());
        gguf.gguf_metadata.insert("general.architecture".to_owned(), arch);
        let files = [
            ("a-IQ1_S.gguf", file(10, "IQ1_S", None)),
            ("a-Q4_K_M.gguf", file(40, "Q4_K_M", Some(39))),
            ("b/a-UD-Q4_K_XL-00001-of-00002.gguf", file(45, "UD-Q4_K_XL", None)),
        ];
        gguf.gguf = files.map(|(path, file)| (path.to_owned(), file)).into();
        lock.insert(gguf);
        for (requested, revision) in [(None, "c1"), (Some("v2"), "c2")] {
            lock.insert(Record {
                name: "org/model".to_owned(),
                requested: requested.map(str::to_owned),
                revision: Some(revision.to_owned()),
                config: [("hidden_size".to_owned(), 8.into())].into_iter().collect(),
                ..Record::default()
            });
        }
        lock
    }

    #[test]
    fn a_revision_is_answered_by_its_own_record_or_not_at_all() {
        let lock = locked();
        let commit = |revision| {
            lock.answer("Org/Model", revision, "org/model")
                .and_then(|found| found.revision)
        };
        assert_eq!(commit(None).as_deref(), Some("c1"));
        assert_eq!(commit(Some("main")).as_deref(), Some("c1"));
        assert_eq!(commit(Some("v2")).as_deref(), Some("c2"));
        assert_eq!(commit(Some("c2")).as_deref(), Some("c2"));
        assert_eq!(commit(Some("v3")), None);
    }

    #[test]
    fn the_weights_are_those_of_the_file_that_is_meant() {
        let lock = locked();
        let weights = |written: &str| {
            let record = lock.answer("org/model-gguf", None, written)?;
            let model = record.to_model("oomlint.lock", ModelSource::Lock).0;
            let mix = model.quantization.map(|fact| fact.value.method);
            Some((model.weights.bytes?, model.weights.exact, mix?))
        };
        let told = |bytes, exact, mix: &str| Some((bytes, exact, mix.to_owned()));
        assert_eq!(weights("org/model-gguf"), told(39, true, "q4_K_M"));
        assert_eq!(weights("org/model-gguf:iq1_s"), told(10, false, "iq1_S"));
        let part = "hf.co/org/model-gguf/b/a-UD-Q4_K_XL-00002-of-00002.gguf";
        assert_eq!(weights(part), told(45, false, "q4_K_M"));
        assert_eq!(weights("org/model-gguf:Q8_0"), None);
    }
}
