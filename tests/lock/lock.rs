//! From names to the lock file: what is recorded, what is asked for again, and what one failure leaves standing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oomlint::hub::{Access, Hub, Token};
use oomlint::lock::{Change, LockFile, Reference, Request, lock};
use oomlint::model::ModelSource;
use tempfile::TempDir;

use super::server::{Fault, File, Server};
use super::{CONFIG, TOKEN, Written, gguf};

/// A hub and a folder to lock into.
struct Bench {
    server: Server,
    folder: TempDir,
}

/// The tensors of [`CONFIG`], in two halves.
const TENSORS: [&[(&str, &[u64])]; 2] = [
    &[
        ("model.embed_tokens.weight", &[10, 8]),
        ("lm_head.weight", &[10, 8]),
    ],
    &[
        ("model.layers.0.mlp.up_proj.weight", &[16, 8]),
        ("model.norm.weight", &[8]),
    ],
];
/// Bytes of both halves.
const WEIGHT_BYTES: u64 = 2 * (80 + 80 + 128 + 8);

fn both() -> Vec<(&'static str, &'static [u64])> {
    TENSORS.concat()
}

impl Bench {
    fn new() -> Self {
        Self {
            server: Server::start(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Publishes a model in one safetensors file.
    fn publish(&self, name: &str, digit: char) {
        let files = [
            ("config.json", File::text(CONFIG)),
            ("model.safetensors", File::safetensors(&both())),
            ("README.md", File::text("not asked for")),
        ];
        self.server.publish(name, digit, &files);
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("oomlint.lock")
    }

    fn run(&self, names: &[&str], update: bool) -> BTreeMap<String, Change> {
        let names: Vec<Reference> = names
            .iter()
            .map(|name| Reference::parse(name, true).unwrap())
            .collect();
        let hub = || {
            let access = Access::new(&self.server.endpoint(), Token::new(TOKEN).unwrap()).unwrap();
            Hub::new(access, Written::default()).map_err(|error| error.to_string())
        };
        let request = Request {
            names: &names,
            update,
            path: &self.path(),
        };
        let changes = lock(&request, &hub, &|_| {}).unwrap();
        if self.path().exists() {
            assert!(!self.text().contains(TOKEN), "the token is in the lock file");
        }
        assert!(!format!("{changes:?}").contains(TOKEN), "{changes:?}");
        changes
    }

    fn lock(&self, names: &[&str]) -> BTreeMap<String, Change> {
        self.run(names, false)
    }

    /// Locks one name that fails; says why.
    fn failure(&self, name: &str) -> String {
        match self.lock(&[name]).remove(name) {
            Some(Change::Failed { why }) => why,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn file(&self) -> LockFile {
        LockFile::read(&self.path()).unwrap()
    }
}

fn added(digit: char) -> Change {
    Change::Added {
        commit: String::from(digit).repeat(40),
    }
}

#[test]
fn a_single_file_is_locked_from_its_header() {
    let bench = Bench::new();
    bench.publish("org/one", 'a');
    assert_eq!(
        bench.lock(&["org/one"]),
        BTreeMap::from([("org/one".to_owned(), added('a'))])
    );
    let file = bench.file();
    let record = file.of("org/one", None).unwrap();
    assert_eq!(record.revision.as_deref(), Some(&*"a".repeat(40)));
    let weights = record.weights.as_ref().unwrap();
    assert_eq!((weights.bytes, weights.exact), (WEIGHT_BYTES, true));
    assert_eq!(record.parameters.unwrap().count, WEIGHT_BYTES / 2);
    assert_eq!(record.config.get("hidden_size"), Some(&8.into()));
    assert!(
        !record.config.contains_key("bos_token_id"),
        "sizing has no use for it"
    );
    let (model, findings) = record.to_model("oomlint.lock", ModelSource::Lock);
    assert!(model.layout.is_ok() && findings.is_empty(), "{findings:?}");
    assert_eq!(
        bench.server.take_paths(),
        [
            "/api/models/org/one/revision/main?blobs=true".to_owned(),
            format!("/org/one/resolve/{}/config.json", "a".repeat(40)),
            format!("/org/one/resolve/{}/model.safetensors", "a".repeat(40)),
        ]
    );
}

#[test]
fn shards_are_summed_and_a_long_header_takes_two_ranges() {
    let bench = Bench::new();
    // 2,000 tensors of 64 bytes: a header of some 150 KB.
    let names: Vec<String> = (0..2000)
        .map(|number| format!("model.layers.1.other.{number}.weight"))
        .collect();
    let many: Vec<(&str, &[u64])> = names.iter().map(|name| (name.as_str(), &[4u64, 8][..])).collect();
    let index = r#"{"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00003.safetensors",
        "b": "model-00002-of-00003.safetensors", "c": "model-00003-of-00003.safetensors"}}"#;
    let files = [
        ("config.json", File::text(CONFIG)),
        ("model.safetensors.index.json", File::text(index)),
        ("model-00001-of-00003.safetensors", File::safetensors(TENSORS[0])),
        ("model-00002-of-00003.safetensors", File::safetensors(TENSORS[1])),
        ("model-00003-of-00003.safetensors", File::safetensors(&many)),
        ("consolidated.safetensors", File::safetensors(&both())),
    ];
    bench.server.publish("org/shards", 'b', &files);
    assert_eq!(bench.lock(&["org/shards"])["org/shards"], added('b'));
    let file = bench.file();
    let weights = file.of("org/shards", None).unwrap().weights.as_ref().unwrap();
    assert_eq!(
        weights.bytes,
        WEIGHT_BYTES + 2000 * 64,
        "not the total that the index claims"
    );
    let paths = bench.server.take_paths();
    let times = |name: &str| paths.iter().filter(|path| path.ends_with(name)).count();
    assert_eq!(times("00001-of-00003.safetensors"), 1);
    assert_eq!(times("00003-of-00003.safetensors"), 2);
    assert_eq!(
        times("/consolidated.safetensors"),
        0,
        "a copy of the same weights"
    );
}

#[test]
fn weights_are_never_downloaded() {
    let bench = Bench::new();
    let files = [
        ("config.json", File::text(CONFIG)),
        (
            "model.safetensors",
            File::safetensors(&[("model.embed_tokens.weight", &[1 << 30, 64])]),
        ),
    ];
    bench.server.publish("org/large", 'a', &files);
    bench.lock(&["org/large"]);
    assert!(
        bench.server.sent() < 128 << 10,
        "{} bytes of 128 GB were sent",
        bench.server.sent()
    );
    assert_eq!(
        bench
            .file()
            .of("org/large", None)
            .unwrap()
            .weights
            .as_ref()
            .unwrap()
            .bytes,
        1 << 37
    );

    bench.server.fail(
        "model.safetensors",
        [Fault::Always(Box::new(Fault::IgnoreRangeUnbounded))],
    );
    bench.server.publish("org/large", 'b', &files);
    assert!(matches!(
        bench.run(&["org/large"], true)["org/large"],
        Change::Moved { .. }
    ));
    assert!(
        bench.server.sent() < 64 << 20,
        "{} bytes of 128 GB were sent",
        bench.server.sent()
    );
}

#[test]
fn a_gguf_repository_is_locked_with_all_sizes_and_the_header_that_is_asked_for() {
    let bench = Bench::new();
    let files = [
        ("m-Q4_K_M.gguf", gguf::file(20_000, 1000)),
        ("m-Q8_0.gguf", gguf::file(20_000, 2000)),
        ("big/m-BF16-00001-of-00002.gguf", gguf::file(20_000, 3000)),
        ("big/m-BF16-00002-of-00002.gguf", gguf::file(0, 4000)),
        ("mmproj-m-f16.gguf", File::text("no model")),
    ];
    bench.server.publish("org/m-GGUF", 'c', &files);
    let name = "org/m-GGUF";
    assert_eq!(bench.lock(&["org/m-GGUF:q8_0"])[name], added('c'));
    let file = bench.file();
    let record = file.of(name, None).unwrap();
    assert_eq!(record.gguf.len(), 3);
    let bytes = |record: &oomlint::model::record::Record, path: &str| {
        record.gguf[path].weights.as_ref().map(|weights| weights.bytes)
    };
    assert_eq!(bytes(record, "m-Q8_0.gguf"), Some(64 * 2000 * 2));
    assert_eq!(bytes(record, "m-Q4_K_M.gguf"), None);
    assert!(record.gguf["m-Q4_K_M.gguf"].bytes > 64 * 1000 * 2);
    assert_eq!(record.parameters.unwrap().count, 64 * 2000);
    let (model, _) = record.to_model("oomlint.lock", ModelSource::Lock);
    assert!(model.layout.is_ok(), "{:?}", model.layout);
    assert_eq!(model.dims.vocab_size.map(|fact| fact.value), Some(20_000));
    assert!(!bench.text().contains("template"));

    // Another file of it is wanted later: what is known stays.
    bench.server.take_paths();
    let both = [
        "org/m-GGUF:q8_0",
        "hf.co/org/m-GGUF/big/m-BF16-00001-of-00002.gguf",
    ];
    assert_eq!(bench.lock(&both)[name], Change::Extended);
    let file = bench.file();
    let record = file.of(name, None).unwrap();
    assert_eq!(bytes(record, "m-Q8_0.gguf"), Some(64 * 2000 * 2));
    assert_eq!(
        bytes(record, "big/m-BF16-00001-of-00002.gguf"),
        Some(64 * 7000 * 2)
    );
    assert!(bench.lock(&both).is_empty());
}

#[test]
fn a_repository_of_both_kinds_keeps_both() {
    let bench = Bench::new();
    let files = [
        ("config.json", File::text(CONFIG)),
        ("model.safetensors", File::safetensors(&both())),
        ("m-Q8_0.gguf", gguf::file(10, 20)),
    ];
    bench.server.publish("org/both", 'a', &files);
    bench.lock(&["org/both"]);
    assert!(bench.file().of("org/both", None).unwrap().gguf.is_empty());
    assert_eq!(
        bench.lock(&["org/both", "org/both:Q8_0"])["org/both"],
        Change::Extended
    );
    let file = bench.file();
    let record = file.of("org/both", None).unwrap();
    assert_eq!(record.weights.as_ref().unwrap().bytes, WEIGHT_BYTES);
    assert_eq!(
        record.gguf["m-Q8_0.gguf"].weights.as_ref().unwrap().bytes,
        64 * 20 * 2
    );
}

#[test]
fn without_a_wish_the_gguf_file_that_llama_cpp_would_take_is_read() {
    let bench = Bench::new();
    let files = [
        ("m-IQ1_S.gguf", gguf::file(10, 10)),
        ("m-Q4_K_M.gguf", gguf::file(10, 20)),
    ];
    bench.server.publish("org/m-GGUF", 'a', &files);
    bench.lock(&["org/m-GGUF"]);
    let file = bench.file();
    let read = file
        .of("org/m-GGUF", None)
        .unwrap()
        .gguf
        .iter()
        .filter(|(_, file)| file.weights.is_some());
    assert_eq!(
        read.map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
        ["m-Q4_K_M.gguf"]
    );
}

#[test]
fn a_gguf_file_that_is_not_there_is_answered_with_those_that_are() {
    let bench = Bench::new();
    bench
        .server
        .publish("org/m-GGUF", 'a', &[("m-Q4_K_M.gguf", gguf::file(10, 10))]);
    bench.publish("org/one", 'b');
    let why = |name: &str, key: &str| match bench.lock(&[name]).remove(key) {
        Some(Change::Failed { why }) => why,
        other => panic!("{other:?}"),
    };
    let words = why("org/m-GGUF:Q9_K", "org/m-GGUF");
    assert!(
        words.contains("no GGUF file of quantization Q9_K; it has Q4_K_M"),
        "{words}"
    );
    let words = why("org/one:Q4_K_M", "org/one");
    assert!(
        words.contains("no GGUF file of quantization Q4_K_M, nor any other"),
        "{words}"
    );
}

#[test]
fn pickles_give_their_lengths_and_say_that_they_are_not_exact() {
    let bench = Bench::new();
    let files = [
        ("config.json", File::text(CONFIG)),
        (
            "pytorch_model-00001-of-00002.bin",
            File::beginning(Vec::new(), 1 << 33),
        ),
        (
            "pytorch_model-00002-of-00002.bin",
            File::beginning(Vec::new(), 1 << 32),
        ),
        ("training_args.bin", File::beginning(Vec::new(), 1000)),
    ];
    bench.server.publish("org/old", 'a', &files);
    bench.lock(&["org/old"]);
    let file = bench.file();
    let weights = file.of("org/old", None).unwrap().weights.as_ref().unwrap();
    assert_eq!((weights.bytes, weights.exact), (3 << 32, false));
}

#[test]
fn a_quantizer_that_wrote_beside_the_config_is_heard() {
    let bench = Bench::new();
    let files = [
        ("config.json", File::text(CONFIG)),
        (
            "quantize_config.json",
            File::text(r#"{"bits": 4, "group_size": 128}"#),
        ),
        ("model.safetensors", File::safetensors(&both())),
    ];
    bench.server.publish("org/gptq", 'a', &files);
    bench.lock(&["org/gptq"]);
    let file = bench.file();
    let quantization = file.of("org/gptq", None).unwrap().quantization.clone().unwrap();
    assert_eq!(
        (quantization.method.as_str(), quantization.group_size),
        ("gptq", Some(128))
    );
}

#[test]
fn what_is_locked_costs_no_request_and_leaves_the_file_alone() {
    let bench = Bench::new();
    bench.publish("org/one", 'a');
    bench.publish("org/two", 'b');
    bench.lock(&["org/one", "org/two"]);
    let text = bench.text();
    bench.server.take_paths();
    // Not even a hub that could be asked is needed.
    let names = [
        Reference::parse("org/one", false).unwrap(),
        Reference::parse("org/two", false).unwrap(),
    ];
    let request = Request {
        names: &names,
        update: false,
        path: &bench.path(),
    };
    let changes = lock(&request, &|| Err("no network".to_owned()), &|_| {}).unwrap();
    assert!(changes.is_empty() && bench.server.take_paths().is_empty());
    assert_eq!(bench.text(), text);
}

#[test]
fn an_update_asks_once_for_what_stands_still_and_moves_what_moved() {
    let bench = Bench::new();
    bench.publish("org/still", 'a');
    bench.publish("org/moves", 'b');
    bench.lock(&["org/still", "org/moves"]);
    let text = bench.text();
    bench.publish("org/moves", 'c');
    bench.server.take_paths();
    assert!(
        bench.lock(&["org/still", "org/moves"]).is_empty(),
        "without update nothing moves"
    );
    assert_eq!(bench.text(), text);

    let changes = bench.run(&["org/still", "org/moves"], true);
    assert_eq!(changes["org/still"], Change::Unchanged);
    let (from, to) = ("b".repeat(40), "c".repeat(40));
    assert_eq!(changes["org/moves"], Change::Moved { from, to });
    let paths = bench.server.take_paths();
    assert_eq!(
        paths.iter().filter(|path| path.contains("org/still")).count(),
        1,
        "{paths:?}"
    );
    assert_eq!(bench.text(), text.replace(&"b".repeat(40), &"c".repeat(40)));
}

#[test]
fn a_commit_is_never_asked_about_again() {
    let bench = Bench::new();
    bench.publish("org/one", 'a');
    let pinned = format!("org/one@{}", "a".repeat(40));
    bench.lock(&[&pinned]);
    bench.server.take_paths();
    assert!(bench.run(&[&pinned], true).is_empty());
    assert!(bench.server.take_paths().is_empty());
}

#[test]
fn a_branch_and_the_main_branch_are_two_records() {
    let bench = Bench::new();
    bench.publish("org/one", 'a');
    bench.lock(&["org/one", "org/one@v1"]);
    let file = bench.file();
    let told: Vec<_> = file
        .records()
        .map(|record| (record.name.as_str(), record.requested.as_deref()))
        .collect();
    assert_eq!(told, [("org/one", None), ("org/one", Some("v1"))]);
}

#[test]
fn one_model_that_fails_keeps_the_rest_and_the_next_run_takes_it_up() {
    let bench = Bench::new();
    for (name, digit) in [("org/a", 'a'), ("org/b", 'b'), ("org/c", 'c')] {
        bench.publish(name, digit);
    }
    let names = ["org/a", "org/b", "org/c"];
    bench
        .server
        .fail("org/b/resolve", [Fault::Always(Box::new(Fault::Status(503, "")))]);
    let changes = bench.lock(&names);
    assert_eq!((&changes["org/a"], &changes["org/c"]), (&added('a'), &added('c')));
    let Change::Failed { why } = &changes["org/b"] else {
        panic!("{changes:?}")
    };
    assert!(why.contains("org/b") && why.contains("503"), "{why}");
    assert_eq!(bench.file().records().count(), 2);

    bench.server.recover();
    bench.server.take_paths();
    let changes = bench.lock(&names);
    assert_eq!(changes, BTreeMap::from([("org/b".to_owned(), added('b'))]));
    assert!(
        bench
            .server
            .take_paths()
            .iter()
            .all(|path| path.contains("org/b"))
    );

    // However it came about, the file is the same.
    let other = Bench {
        server: bench.server.clone(),
        folder: tempfile::tempdir().unwrap(),
    };
    other.lock(&["org/c", "org/b", "org/a"]);
    assert_eq!(other.text(), bench.text());
}

#[test]
fn no_more_than_four_requests_are_under_way_at_once() {
    let bench = Bench::new();
    let names: Vec<String> = (0..30).map(|number| format!("org/m{number}")).collect();
    for name in &names {
        bench.publish(name, 'a');
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(bench.lock(&names).len(), 30);
    assert!(
        (1..=4).contains(&bench.server.busiest()),
        "{}",
        bench.server.busiest()
    );
}

#[test]
fn a_model_that_fails_to_update_keeps_its_record() {
    let bench = Bench::new();
    bench.publish("org/one", 'a');
    bench.lock(&["org/one"]);
    let text = bench.text();
    bench.publish("org/one", 'b');
    bench
        .server
        .fail("config.json", [Fault::Always(Box::new(Fault::Truncate(9)))]);
    assert!(matches!(
        bench.run(&["org/one"], true)["org/one"],
        Change::Failed { .. }
    ));
    assert_eq!(bench.text(), text);
}

#[test]
fn answers_that_make_no_sense_name_the_file() {
    let cases: [(&str, Fault, &str); 9] = [
        ("config.json", Fault::Body("<html>"), "config.json of org/one"),
        ("config.json", Fault::Body("[]"), "config.json of org/one"),
        ("config.json", Fault::Body(""), "config.json of org/one"),
        (
            "model.safetensors",
            Fault::ContentRange("bytes 8-71/900"),
            "model.safetensors of org/one",
        ),
        (
            "model.safetensors",
            Fault::NoContentRange,
            "model.safetensors of org/one",
        ),
        (
            "model.safetensors",
            Fault::Status(404, ""),
            "no file model.safetensors in org/one",
        ),
        (
            "model.safetensors",
            Fault::Status(403, ""),
            "model.safetensors of org/one",
        ),
        ("/api/", Fault::Body("{"), "org/one at revision main"),
        ("/api/", Fault::Status(404, ""), "no model org/one"),
    ];
    for (part, fault, words) in cases {
        let bench = Bench::new();
        bench.publish("org/one", 'a');
        bench.server.fail(part, [Fault::Always(Box::new(fault.clone()))]);
        let why = bench.failure("org/one");
        assert!(why.contains(words), "{fault:?}: {why}");
        assert!(!bench.path().exists(), "nothing was finished");
    }
}

#[test]
fn texts_that_are_published_broken_name_the_file() {
    for (name, text) in [
        ("config.json", "<html>"),
        ("config.json", "{\"model_type\": "),
        ("config.json", "[]"),
        ("config.json", ""),
        ("model.safetensors.index.json", "{]"),
        ("model.safetensors.index.json", "{\"weight_map\": 7}"),
    ] {
        let bench = Bench::new();
        let files = [
            (
                "config.json",
                File::text(if name == "config.json" { text } else { CONFIG }),
            ),
            ("model.safetensors", File::safetensors(&both())),
            (name, File::text(text)),
        ];
        bench.server.publish("org/one", 'a', &files);
        let why = bench.failure("org/one");
        assert!(why.contains(&format!("{name} of org/one")), "{text}: {why}");
    }
}

#[test]
fn hostile_headers_are_refused_by_name_without_being_fetched() {
    let header = |length: u64, json: &str| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes
    };
    let good = r#"{"a":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}"#;
    for (head, size, words) in [
        (
            header(1 << 60, "{}"),
            1 << 61,
            "claims a header length of 1152921504606846976",
        ),
        (header(u64::MAX, "{}"), u64::MAX / 2, "claims a header length"),
        (
            header(90_000_000, "{}"),
            5000,
            "claims a header length of 90000000",
        ),
        (header(2, "{]"), 1000, "not valid JSON"),
        (
            header(good.len() as u64, good),
            1 << 40,
            "its header describes 71 bytes",
        ),
        (b"abc".to_vec(), 3, "fewer than the 8"),
    ] {
        let bench = Bench::new();
        let files = [
            ("config.json", File::text(CONFIG)),
            ("model.safetensors", File::beginning(head, size)),
        ];
        bench.server.publish("org/one", 'a', &files);
        let why = bench.failure("org/one");
        assert!(
            why.contains(words) && why.contains("model.safetensors of org/one"),
            "{why}"
        );
        assert!(bench.server.sent() < 1 << 20);
    }
}

#[test]
fn hostile_gguf_headers_are_refused_by_name() {
    let entries = |count: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes
    };
    for (head, size, words) in [
        (
            b"<html>".to_vec(),
            1 << 30,
            "does not begin with the letters GGUF",
        ),
        (
            entries(1 << 60),
            1 << 40,
            "claims 1152921504606846976 metadata entries",
        ),
        (entries(60_000), 1 << 40, "cannot be read"),
        (b"GGUF".to_vec(), 4, "ends inside its header"),
    ] {
        let bench = Bench::new();
        bench
            .server
            .publish("org/one", 'a', &[("m-Q8_0.gguf", File::beginning(head, size))]);
        let why = bench.failure("org/one");
        assert!(
            why.contains(words) && why.contains("m-Q8_0.gguf of org/one"),
            "{why}"
        );
        assert!(bench.server.sent() < 16 << 20);
    }
}

#[test]
fn a_gguf_range_that_fails_is_told_in_the_words_of_the_hub() {
    let bench = Bench::new();
    bench
        .server
        .publish("org/one", 'a', &[("m-Q8_0.gguf", gguf::file(20_000, 10))]);
    bench
        .server
        .fail("m-Q8_0", [Fault::Status(500, ""), Fault::Status(403, "")]);
    let why = bench.failure("org/one");
    assert!(why.starts_with("m-Q8_0.gguf of org/one: 127.0.0.1"), "{why}");
    assert!(why.contains("answered 403"), "{why}");
}

#[test]
fn a_repository_without_a_model_is_said() {
    let bench = Bench::new();
    bench
        .server
        .publish("org/data", 'a', &[("README.md", File::text("x"))]);
    let why = bench.failure("org/data");
    assert!(why.contains("neither a config.json nor GGUF files"), "{why}");
}

#[test]
fn an_index_cannot_lead_out_of_the_repository() {
    let bench = Bench::new();
    let index = r#"{"weight_map": {"a": "../../other/resolve/main/x.safetensors", "b": "/etc/passwd"}}"#;
    let files = [
        ("config.json", File::text(CONFIG)),
        ("model.safetensors.index.json", File::text(index)),
    ];
    bench.server.publish("org/one", 'a', &files);
    bench.lock(&["org/one"]);
    let paths = bench.server.take_paths();
    assert_eq!(paths.len(), 3, "{paths:?}");
}

#[test]
fn a_lock_file_that_cannot_be_read_or_written_is_an_error() {
    let bench = Bench::new();
    bench.publish("org/one", 'a');
    let names = [Reference::parse("org/one", false).unwrap()];
    let run = |path: &Path| {
        let hub = || {
            let access = Access::new(&bench.server.endpoint(), None).unwrap();
            Hub::new(access, Written::default()).map_err(|error| error.to_string())
        };
        let request = Request {
            names: &names,
            update: false,
            path,
        };
        lock(&request, &hub, &|_| {})
    };
    let error = run(&bench.folder.path().join("no/such/folder/oomlint.lock")).unwrap_err();
    assert!(error.contains("cannot be written"), "{error}");
    std::fs::write(bench.path(), "<<<<<<< ours\n").unwrap();
    let error = run(&bench.path()).unwrap_err();
    assert!(error.contains("is not a lock file"), "{error}");
    assert_eq!(bench.text(), "<<<<<<< ours\n");
}

/// The folders below a path of this repository that hold a config.json; none where the path is not there.
fn checkpoints(below: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let Ok(entries) = std::fs::read_dir(&root) else {
        println!("skipped: {} is not here", root.display());
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = paths.filter(|path| path.join("config.json").is_file()).collect();
    folders.sort();
    folders
}

#[test]
fn a_lock_gives_the_models_that_their_directories_give() {
    let mut folders = checkpoints("tests/models");
    assert!(!folders.is_empty());
    // Every third of the published ones: unoptimized, all of them would take longer than all other tests here.
    folders.extend(checkpoints("../shared/models").into_iter().step_by(3));
    let bench = Bench::new();
    let mut names = Vec::new();
    for folder in &folders {
        let files: Vec<(String, File)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "json"))
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    File::text(std::fs::read(entry.path()).unwrap()),
                )
            })
            .collect();
        let files: Vec<_> = files
            .iter()
            .map(|(name, file)| (name.as_str(), file.clone()))
            .collect();
        let name = folder
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replacen("--", "/", 1);
        bench.server.publish(&name, 'a', &files);
        names.push(name);
    }
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let changes = bench.lock(&asked);
    let file = bench.file();
    for (folder, name) in folders.iter().zip(&names) {
        assert_eq!(changes[name], added('a'), "{name}");
        let (locked, _) = file
            .of(name, None)
            .unwrap()
            .to_model("oomlint.lock", ModelSource::Lock);
        let loaded = oomlint::model::directory::load(&oomlint::source::Sources::default(), folder, "model");
        let loaded = loaded.model.unwrap();
        assert_eq!(locked.layout.ok(), loaded.layout.ok(), "{name}");
        assert_eq!(locked.census, loaded.census, "{name}");
        let quantization = |model: Option<oomlint::fact::Fact<_>>| model.map(|fact| fact.value);
        assert_eq!(
            quantization(locked.quantization),
            quantization(loaded.quantization),
            "{name}"
        );
        if loaded.weights.how == "safetensors index" {
            assert_eq!(locked.weights.bytes, loaded.weights.bytes, "{name}");
        }
    }
    println!(
        "{} models, {} bytes of lock file",
        names.len(),
        bench.text().len()
    );
}
