//! Tiny GGUF files, whole and broken, made in memory.

use std::fs;

use super::*;
use crate::model::Component;

/// Puts the bytes of a GGUF file together.
struct Gguf {
    version: u32,
    entries: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
}

impl Gguf {
    fn llama() -> Self {
        let mut file = Self {
            version: 3,
            entries: Vec::new(),
            tensors: Vec::new(),
        };
        file.text("general.architecture", "llama");
        file.u32("llama.block_count", 2);
        file.u32("llama.context_length", 4096);
        file.u32("llama.embedding_length", 64);
        file.u32("llama.attention.head_count", 4);
        file.u32("llama.attention.head_count_kv", 2);
        file.u32("general.file_type", 15);
        file
    }

    fn string(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn entry(&mut self, key: &str, type_id: u32, value: &[u8]) {
        self.entries
            .push([&Self::string(key)[..], &type_id.to_le_bytes(), value].concat());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.entry(key, 8, &Self::string(value));
    }

    fn u32(&mut self, key: &str, value: u32) {
        self.entry(key, 4, &value.to_le_bytes());
    }

    fn tensor(&mut self, name: &str, dims: &[u64], type_id: u32, offset: u64) {
        let mut row = Self::string(name);
        row.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        for dim in dims {
            row.extend(dim.to_le_bytes());
        }
        row.extend(type_id.to_le_bytes());
        row.extend(offset.to_le_bytes());
        self.tensors.push(row);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        bytes.extend(self.entries.concat());
        bytes.extend(self.tensors.concat());
        bytes
    }
}

fn load_bytes(bytes: &[u8]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    fs::write(&path, bytes).unwrap();
    load(&path, "models/m.gguf")
}

fn refused(bytes: &[u8]) -> String {
    let loaded = load_bytes(bytes);
    assert!(loaded.model.is_none());
    assert_eq!(
        (loaded.findings.len(), &*loaded.findings[0].rule),
        (1, "file-unreadable")
    );
    loaded.findings[0].message.clone()
}

#[test]
fn metadata_and_tensor_table_make_a_model() {
    let mut file = Gguf::llama();
    file.tensor("token_embd.weight", &[64, 100], 1, 0);
    file.tensor("blk.0.attn_k.weight", &[256, 2], 12, 12_800);
    let loaded = load_bytes(&file.bytes());
    assert!(loaded.findings.is_empty(), "{:?}", loaded.findings);
    let model = loaded.model.unwrap();
    assert_eq!(
        (model.name.as_str(), model.path.as_str()),
        ("m.gguf", "models/m.gguf")
    );
    assert_eq!(model.weights.bytes, Some(12_800 + 288));
    assert_eq!(model.weights.by_component[&Component::Attention], 288);
    assert_eq!(model.parameters.unwrap().count, 6400 + 512);
    assert_eq!(model.max_context.unwrap().value, 4096);
    assert_eq!(model.quantization.unwrap().value.name(), "q4_K_M");
    assert_eq!(model.dims.head_dim.unwrap().value, 16);
    assert_eq!(model.bytes_read, file.bytes().len() as u64);
    assert_eq!(model.layout.unwrap().groups[0].layers, [0, 1]);
}

#[test]
fn long_arrays_of_numbers_are_stepped_over_not_read() {
    let mut file = Gguf::llama();
    let count = 1_000_000u64;
    let value = [&6u32.to_le_bytes()[..], &count.to_le_bytes(), &vec![0; 4_000_000]].concat();
    file.entry("tokenizer.ggml.scores", 9, &value);
    let texts = Gguf::string("ab").repeat(5000);
    file.entry(
        "tokenizer.ggml.tokens",
        9,
        &[&8u32.to_le_bytes()[..], &5000u64.to_le_bytes(), &texts].concat(),
    );
    let model = load_bytes(&file.bytes()).model.unwrap();
    assert!(model.bytes_read < 200_000, "{}", model.bytes_read);
    assert_eq!(
        model.gguf.unwrap().metadata["tokenizer.ggml.scores"],
        GgufValue::LongArray(count)
    );
    assert_eq!(model.dims.vocab_size.unwrap().value, 5000);
}

#[test]
fn absurd_lengths_are_findings_not_allocations() {
    let with = |at: usize, value: u64| {
        let mut bytes = Gguf::llama().bytes();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        refused(&bytes)
    };
    assert!(with(8, 1 << 60).contains("claims 1152921504606846976 tensors"));
    assert!(with(16, 1 << 60).contains("claims 1152921504606846976 metadata entries"));
    assert!(with(24, 1 << 60).contains("claims a text of 1152921504606846976 bytes"));
    let mut file = Gguf::llama();
    file.entry(
        "a",
        9,
        &[&4u32.to_le_bytes()[..], &(1u64 << 60).to_le_bytes()].concat(),
    );
    assert!(refused(&file.bytes()).contains("values of an array"));
    let mut file = Gguf::llama();
    file.tensor("t", &[1 << 40, 1 << 40], 0, 0);
    assert!(refused(&file.bytes()).contains("more bytes than can be counted"));
}

#[test]
fn nested_arrays_end_at_a_depth() {
    let mut file = Gguf::llama();
    let nest = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
    file.entry("deep", 9, &nest.repeat(1000));
    assert!(refused(&file.bytes()).contains("nests arrays"));
}

#[test]
fn every_kind_of_wrong_file_says_what_is_wrong() {
    assert!(refused(b"PK\x03\x04 not a model").contains("50 4b 03 04"));
    assert!(refused(b"").contains("ends inside its header"));
    assert!(refused(&Gguf::llama().bytes()[..60]).contains("claims"));
    let mut file = Gguf::llama();
    file.version = 3u32.swap_bytes();
    assert!(refused(&file.bytes()).contains("big-endian"));
    file.version = 1;
    assert!(refused(&file.bytes()).contains("version 1"));
    let mut file = Gguf::llama();
    file.tensor("t", &[31], 2, 0);
    assert!(refused(&file.bytes()).contains("a row of the tensor `t` has 31 elements, which Q4_0"));
    file.tensors.clear();
    file.tensor("t", &[32], 4, 0);
    assert!(refused(&file.bytes()).contains("is of type 4"));
    file.tensors.clear();
    file.u32("llama.block_count", 3);
    assert!(refused(&file.bytes()).contains("stands there twice"));
}

#[test]
fn no_cut_and_no_changed_byte_makes_it_panic() {
    let mut file = Gguf::llama();
    file.tensor("token_embd.weight", &[64, 100], 1, 0);
    let bytes = file.bytes();
    for at in 0..bytes.len() {
        load_bytes(&bytes[..at]);
        let mut changed = bytes.clone();
        changed[at] = 0xff;
        load_bytes(&changed);
    }
}

#[test]
fn missing_metadata_leaves_a_model_without_a_layout() {
    let mut file = Gguf::llama();
    file.entries.remove(1);
    let loaded = load_bytes(&file.bytes());
    assert_eq!(&*loaded.findings[0].rule, "config-incomplete");
    assert!(
        loaded.findings[0]
            .message
            .contains("`llama.block_count` is missing")
    );
    assert!(loaded.model.unwrap().layout.is_err());
}

#[test]
fn parts_of_a_split_set_are_summed_and_absent_ones_named() {
    let folder = tempfile::tempdir().unwrap();
    let part = |at: u32| folder.path().join(format!("m-{at:05}-of-00003.gguf"));
    let mut first = Gguf::llama();
    first.tensor("a", &[32], 0, 0);
    fs::write(part(1), first.bytes()).unwrap();
    let mut second = Gguf::llama();
    second.tensor("b", &[32], 1, 0);
    fs::write(part(2), second.bytes()).unwrap();
    for asked in [1, 2] {
        let loaded = load(&part(asked), "m-00001-of-00003.gguf");
        assert_eq!(loaded.model.unwrap().weights.bytes, Some(128 + 64));
        assert!(loaded.findings[0].message.contains("1 of the 3 parts"));
        assert!(loaded.findings[0].message.contains("m-00003-of-00003.gguf"));
    }
    fs::remove_file(part(1)).unwrap();
    assert!(
        load(&part(2), "m").findings[0]
            .message
            .contains("its first part is absent")
    );
}

#[test]
fn a_file_with_some_of_its_weights_was_not_copied_whole() {
    let mut file = Gguf::llama();
    file.tensor("a", &[1024], 0, 0);
    let mut bytes = file.bytes();
    bytes.resize(bytes.len() + 500, 0);
    let loaded = load_bytes(&bytes);
    assert_eq!(loaded.findings[0].severity, Severity::Warning);
    assert!(loaded.findings[0].message.contains("not copied whole"));
    assert_eq!(loaded.model.unwrap().weights.bytes, Some(4096));
}

#[test]
fn an_lfs_pointer_tells_the_size() {
    let text = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4920734272\n";
    let model = load_bytes(text).model.unwrap();
    assert_eq!(model.weights.bytes, Some(4_920_734_272));
    assert!(!model.weights.exact && model.layout.is_err());
}

#[test]
fn lfs_pointers_of_a_split_set_are_summed() {
    let folder = tempfile::tempdir().unwrap();
    for (at, size) in [(1, 4000), (2, 500)] {
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize {size}\n");
        fs::write(folder.path().join(format!("m-{at:05}-of-00002.gguf")), text).unwrap();
    }
    let loaded = load(
        &folder.path().join("m-00001-of-00002.gguf"),
        "m-00001-of-00002.gguf",
    );
    assert_eq!(
        (loaded.model.unwrap().weights.bytes, loaded.findings.len()),
        (Some(4500), 0)
    );
}

#[test]
fn a_broken_part_is_named_beside_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let name = "m-00001-of-00002.gguf";
    fs::write(folder.path().join(name), Gguf::llama().bytes()).unwrap();
    fs::write(folder.path().join("m-00002-of-00002.gguf"), "no").unwrap();
    let loaded = load(&folder.path().join(name), &format!("models/{name}"));
    assert_eq!(
        loaded.findings[0].path.as_deref(),
        Some("models/m-00002-of-00002.gguf")
    );
    assert!(!loaded.model.unwrap().weights.exact);
}

#[test]
fn folders_and_absent_files_are_findings() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        load(folder.path(), "x").findings[0]
            .message
            .contains("it is not a file")
    );
    assert_eq!(load(&folder.path().join("no.gguf"), "x").findings.len(), 1);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn bytes_of_any_kind_never_panic(tail in proptest::collection::vec(0u8..16, 0..400)) {
        let start = [b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec(), tail].concat();
        load_bytes(&start);
    }
}
