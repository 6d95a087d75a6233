use super::*;
use proptest::prelude::*;

fn read(text: &str) -> (Kind, Vec<String>, Option<String>, Option<String>) {
    let reference = parse(text).unwrap_or_else(|| panic!("{text} was not read"));
    (
        reference.kind,
        reference.names,
        reference.format,
        reference.revision,
    )
}

fn case(text: &str, kind: Kind, name: &str, format: Option<&str>) {
    let (read_kind, names, read_format, _) = read(text);
    assert_eq!(
        (
            read_kind,
            names.first().map(String::as_str),
            read_format.as_deref()
        ),
        (kind, Some(name), format),
        "{text}"
    );
}

#[test]
fn names_of_hubs_are_read_in_every_spelling() {
    for text in [
        "org/name",
        "hf://org/name",
        "huggingface://org/name",
        "hf.co/org/name",
        "https://huggingface.co/org/name",
        "https://huggingface.co/org/name/tree/main",
        "ms://org/name",
    ] {
        case(text, Kind::Hub, "org/name", None);
    }
    case(
        "hf.co/org/name-GGUF:Q4_K_M",
        Kind::Hub,
        "org/name-GGUF",
        Some("q4_K_M"),
    );
    case(
        "hf://org/repo/name.Q8_0.gguf",
        Kind::Hub,
        "org/repo",
        Some("q8_0"),
    );
    case("llama-3.1-8b-instruct", Kind::Hub, "llama-3.1-8b-instruct", None);
}

#[test]
fn a_revision_is_no_part_of_the_name() {
    let (_, names, _, revision) = read("hf://org/name@7908d42a");
    assert_eq!(
        (names, revision.as_deref()),
        (vec!["org/name".to_owned()], Some("7908d42a"))
    );
}

#[test]
fn tags_keep_their_size_and_tell_their_format() {
    case("qwen2.5:7b", Kind::Tag, "qwen2.5:7b", None);
    case(
        "llama3.1:8b-instruct-q4_K_M",
        Kind::Tag,
        "llama3.1:8b-instruct-q4_K_M",
        Some("q4_K_M"),
    );
    case("someone/llama3.1:8b", Kind::Tag, "llama3.1:8b", None);
    case("ollama://gemma2", Kind::Tag, "gemma2:latest", None);
    case("ai/qwen3:8B-Q4_K_M", Kind::Tag, "qwen3:8B-Q4_K_M", Some("q4_K_M"));
    case("pvc://models/?model=qwen2:0.5b", Kind::Tag, "qwen2:0.5b", None);
}

#[test]
fn paths_are_known_by_their_last_telling_part() {
    case("/models/Qwen3-32B", Kind::Path, "Qwen3-32B", None);
    case("/models/Qwen/Qwen3-8B/", Kind::Path, "Qwen/Qwen3-8B", None);
    case("/data/gemma-7b/model", Kind::Path, "gemma-7b", None);
    case(
        "s3://bucket/llms/Llama-3.1-8B-Instruct/",
        Kind::Store,
        "llms/Llama-3.1-8B-Instruct",
        None,
    );
    case(
        "/models/x-7b-Q5_K_M-00001-of-00003.gguf",
        Kind::Gguf,
        "x-7b-Q5_K_M-00001-of-00003.gguf",
        Some("q5_K_M"),
    );
    assert!(parse("/model").is_none() && parse("/models/").is_none() && parse("").is_none());
}

#[test]
fn a_snapshot_of_the_hub_cache_tells_name_and_commit() {
    let commit = "9c925d64d72725edaf899c6cb9c377fd0709d9c5";
    let path = format!("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/{commit}");
    let (_, names, _, revision) = read(&path);
    assert_eq!(
        (names, revision.as_deref()),
        (vec!["Qwen/Qwen3-8B".to_owned()], Some(commit))
    );
}

#[test]
fn images_are_known_by_their_name_and_collections_by_their_tag() {
    case(
        "nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.5",
        Kind::Image,
        "llama-3.1-8b-instruct",
        None,
    );
    let (_, names, ..) = read("oci://quay.io/org/modelcar-catalog:granite-3.3-8b-instruct");
    assert_eq!(names, ["modelcar-catalog", "granite-3.3-8b-instruct"]);
}

#[test]
fn placeholders_name_nothing() {
    for text in [
        "$(MODEL)",
        "${MODEL}",
        "<your-model>",
        "/gcs/V_MODEL_NAME/V_MODEL_VERSION",
        "{{ .Values.model }}",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
}

fn words(name: &str) -> (String, Option<String>) {
    let stem = stem(name);
    (stem.words.join(" "), stem.format)
}

#[test]
fn two_spellings_of_a_model_have_the_same_words() {
    for name in [
        "Meta-Llama-3.1-8B",
        "llama3.1:8b",
        "llama-3_1-8b",
        "llama-3-1-8b",
        "meta-llama/Llama-3.1-8B",
    ] {
        assert_eq!(words(name), ("llama 3.1 8b".to_owned(), None), "{name}");
    }
    assert_eq!(words("minicpm-v-4_5").0, "minicpm v 4.5");
    assert_eq!(
        words("Llama-3_3-Nemotron-Super-49B-v1_5").0,
        "llama 3.3 nemotron super 49b v1.5"
    );
}

#[test]
fn formats_in_names_are_told_apart_from_the_model() {
    for (name, format) in [
        ("qwen3-8b-AWQ", "awq-int4"),
        ("qwen3-8b-GPTQ-Int4", "gptq-int4"),
        ("qwen3-8b-GPTQ-Int8", "gptq-int8"),
        ("qwen3-8b-FP8-dynamic", "fp8"),
        ("qwen3-8b-FP8-block", "fp8-block"),
        ("qwen3-8b-quantized.w4a16", "w4a16"),
        ("qwen3-8b-quantized.w8a8", "w8a8-int8"),
        ("qwen3-8b-bnb-4bit", "nf4"),
        ("qwen3-8b-NVFP4", "nvfp4"),
        ("qwen3-8b-int4-AutoRound", "w4a16"),
        ("qwen3-8b-MLX-4bit", "int4"),
        ("mlx-community/qwen3-8b-8bit", "int8"),
        ("qwen3-8b-UD-Q4_K_XL.gguf", "q4_K_M"),
        ("qwen3-8b.Q5_K_M.gguf", "q5_K_M"),
        ("qwen3-8b_Q6_K", "q6_K"),
        ("qwen3-8b-IQ4_XS", "iq4_xs"),
        ("qwen3-8b-GGUF", "q4_K_M"),
        ("qwen3-8b-bf16", "bf16"),
    ] {
        assert_eq!(
            words(name),
            ("qwen 3 8b".to_owned(), Some(format.to_owned())),
            "{name}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,60}") {
        drop(parse(&text));
        drop(stem(&text));
    }

    #[test]
    fn words_like_names_are_read_without_a_panic(text in "[a-z0-9:/@._-]{0,40}(gguf|Q4_K_M|-of-)?") {
        let reference = parse(&text);
        prop_assert!(reference.is_none_or(|reference| !reference.names.is_empty()));
    }
}
