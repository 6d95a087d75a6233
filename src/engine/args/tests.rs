//! How each engine's command line is read.

use proptest::prelude::*;

use super::*;

/// Parses the words of `line`, which stand in a file one after the other; a word in single quotes is one word.
fn parse_line(engine: Engine, version: Option<&str>, line: &str) -> (ParsedArgs, Sources) {
    let sources = Sources::default();
    let file = sources.add("args", line);
    let mut words = Vec::new();
    let mut at = 0;
    for (quoted, piece) in line.split('\'').enumerate() {
        let pieces: Vec<&str> = if quoted % 2 == 1 {
            vec![piece]
        } else {
            piece.split(' ').collect()
        };
        for word in pieces.into_iter().filter(|word| !word.is_empty()) {
            let start = at + line[at..].find(word).unwrap();
            at = start + word.len();
            words.push(Fact::at(word.to_owned(), file.span(start..at)));
        }
    }
    (
        parse(engine, version.and_then(Version::parse), &words, &sources),
        sources,
    )
}

fn vllm(line: &str) -> ParsedArgs {
    parse_line(Engine::Vllm, None, line).0
}

fn sentences(parsed: &ParsedArgs) -> Vec<&str> {
    parsed
        .problems
        .iter()
        .map(|(_, sentence)| sentence.as_str())
        .collect()
}

#[test]
fn values_stand_after_a_space_or_an_equals_sign() {
    let (parsed, sources) = parse_line(
        Engine::Vllm,
        None,
        "serve org/model --tensor-parallel-size 2 --max-model-len=32768 -q awq --enforce-eager",
    );
    assert_eq!(parsed.settings.count("tensor_parallel"), Some(2));
    assert_eq!(parsed.settings.count("context"), Some(32_768));
    assert_eq!(parsed.settings.text("quantization"), Some("awq"));
    assert_eq!(parsed.settings.flag("enforce_eager"), Some(true));
    let words: Vec<&str> = parsed
        .positionals
        .iter()
        .map(|word| word.value.as_str())
        .collect();
    assert_eq!(words, ["serve", "org/model"]);
    assert!(parsed.unknown.is_empty() && parsed.problems.is_empty() && parsed.repeated.is_empty());
    // The span is that of the value alone.
    let context = parsed.settings.get("context").and_then(Fact::span).unwrap();
    assert_eq!(sources.slice(context), "32768");
    assert_eq!(
        context.start(),
        "serve org/model --tensor-parallel-size 2 --max-model-len=".len()
    );
}

#[test]
fn the_value_of_a_quoted_word_is_found_inside_the_quotes() {
    let sources = Sources::default();
    let file = sources.add("args", r#"["--max-model-len=8k"]"#);
    let words = [Fact::at("--max-model-len=8k".to_owned(), file.span(1..21))];
    let parsed = parse(Engine::Vllm, None, &words, &sources);
    let span = parsed.settings.get("context").and_then(Fact::span).unwrap();
    assert_eq!(sources.slice(span), "8k");
    let file = sources.add("args", "--max-model-len='8k'");
    let words = [Fact::at("--max-model-len=8k".to_owned(), file.span(0..20))];
    let parsed = parse(Engine::Vllm, None, &words, &sources);
    let span = parsed.settings.get("context").and_then(Fact::span).unwrap();
    assert_eq!((sources.slice(span).as_str(), span.start()), ("8k", 17));
    // A word that the file spells in another way is pointed at as a whole.
    let file = sources.add("args", r#""--max-model-len=\x38k""#);
    let words = [Fact::at("--max-model-len=8k".to_owned(), file.span(0..23))];
    let parsed = parse(Engine::Vllm, None, &words, &sources);
    let span = parsed.settings.get("context").and_then(Fact::span).unwrap();
    assert_eq!((span.start(), span.end()), (0, 23));
}

#[test]
fn underscores_and_beginnings_are_read_as_argparse_does() {
    let parsed = vllm("--tensor_parallel_size 4 --gpu_memory_util=0.8 --max-num-seq 16 -tp 4");
    assert_eq!(parsed.settings.count("tensor_parallel"), Some(4));
    assert_eq!(parsed.settings.number("memory_fraction"), Some(0.8));
    assert_eq!(parsed.settings.count("max_sequences"), Some(16));
    assert!(parsed.unknown.is_empty() && parsed.problems.is_empty() && parsed.repeated.is_empty());
    let ambiguous = vllm("--max-num 16");
    assert!(sentences(&ambiguous)[0].starts_with("`--max-num` may be any of --max-num-active-seqs, "));
    // llama.cpp and TGI take whole names only.
    assert_eq!(parse_line(Engine::LlamaCpp, None, "--ctx 8").0.unknown.len(), 1);
    assert_eq!(
        parse_line(Engine::Tgi, None, "--max_total_tokens 8")
            .0
            .unknown
            .len(),
        1
    );
    assert!(
        parse_line(Engine::LlamaCpp, None, "--ctx_size 8")
            .0
            .unknown
            .is_empty()
    );
}

#[test]
fn switches_are_turned_round_by_their_negations() {
    let parsed = vllm("--no-enable-prefix-caching --disable-hybrid-kv-cache-manager --no-async-scheduling");
    assert_eq!(parsed.settings.flag("prefix_caching"), Some(false));
    assert_eq!(parsed.settings.flag("hybrid_kv_cache_manager"), Some(false));
    assert_eq!(parsed.settings.flag("async_scheduling"), Some(false));
    let parsed = vllm("--disable-chunked-prefill --no-disable-hybrid-kv-cache-manager");
    assert_eq!(parsed.settings.flag("chunked_prefill"), Some(false));
    assert_eq!(parsed.settings.flag("hybrid_kv_cache_manager"), Some(true));
    let parsed = parse_line(Engine::Sglang, None, "--disable-radix-cache --disable-cuda-graph").0;
    assert_eq!(parsed.settings.flag("prefix_caching"), Some(false));
    assert_eq!(parsed.settings.flag("enforce_eager"), Some(true));
    let parsed = parse_line(Engine::LlamaCpp, None, "--no-kv-offload -no-kvu").0;
    assert_eq!(parsed.settings.flag("kv_offload"), Some(false));
    assert_eq!(parsed.settings.flag("kv_unified"), Some(false));
}

#[test]
fn a_value_after_a_switch_is_a_problem_and_still_means_what_it_says() {
    let parsed = vllm("--enable-prefix-caching false --enforce-eager=true --no-async-scheduling=False");
    assert_eq!(parsed.settings.flag("prefix_caching"), Some(false));
    assert_eq!(parsed.settings.flag("enforce_eager"), Some(true));
    assert_eq!(parsed.settings.flag("async_scheduling"), Some(true));
    assert_eq!(
        sentences(&parsed)[0],
        "`--enable-prefix-caching` is a switch and takes no value, `false` is given"
    );
    assert!(parsed.positionals.is_empty());
}

#[test]
fn the_last_value_wins_and_the_earlier_one_is_reported() {
    let parsed = vllm("--tensor-parallel-size 2 -tp 4 --max-num-seqs 8 --max-num-seqs 8");
    assert_eq!(parsed.settings.count("tensor_parallel"), Some(4));
    let [(before, after)] = &parsed.repeated[..] else {
        panic!("{:?}", parsed.repeated)
    };
    assert_eq!((before.value.as_str(), after.value.as_str()), ("2", "4"));
}

#[test]
fn suffixes_mean_what_the_engine_takes_them_for() {
    let context = |engine, line| {
        let parsed = parse_line(engine, None, line).0;
        let id = if engine == Engine::LlamaCpp {
            "ctx_size"
        } else {
            "context"
        };
        (parsed.settings.text(id).map(str::to_owned), parsed.problems.len())
    };
    let number = |text: &str| Some(text.to_owned());
    assert_eq!(context(Engine::Vllm, "--max-model-len 32k"), (number("32000"), 0));
    assert_eq!(context(Engine::Vllm, "--max-model-len 32K"), (number("32768"), 0));
    assert_eq!(
        context(Engine::Vllm, "--max-model-len 25.6k"),
        (number("25600"), 0)
    );
    assert_eq!(context(Engine::Vllm, "--max-model-len -1"), (number("auto"), 0));
    assert_eq!(context(Engine::Vllm, "--max-model-len auto"), (number("auto"), 0));
    assert_eq!(context(Engine::Vllm, "--max-model-len 1.5K"), (number("1.5K"), 1));
    assert_eq!(
        context(Engine::Sglang, "--context-length 1M"),
        (number("1048576"), 0)
    );
    assert_eq!(context(Engine::Tgi, "--max-total-tokens 8k"), (number("8k"), 1));
    assert_eq!(context(Engine::LlamaCpp, "-c 32768"), (number("32768"), 0));
    // std::stoi stops at the letter.
    assert_eq!(context(Engine::LlamaCpp, "-c 32k"), (number("32"), 1));
    let parsed = vllm("--max-num-seqs 8k --kv-cache-memory-bytes 16G --block-size 1_6");
    assert_eq!(
        sentences(&parsed),
        ["`--max-num-seqs` takes a whole number, `8k` is none"]
    );
    assert_eq!(parsed.settings.count("kv_cache_memory_bytes"), Some(16 << 30));
    assert_eq!(parsed.settings.count("block_size"), Some(16));
    let parsed = parse_line(Engine::Mlx, None, "--prompt-cache-bytes 1.5GB").0;
    assert_eq!(parsed.settings.count("prompt_cache_bytes"), Some(1_500_000_000));
}

#[test]
fn negative_numbers_are_values_and_flags_are_not() {
    let parsed = parse_line(Engine::Sglang, None, "--chunked-prefill-size -1 --tp --dp-size 2").0;
    assert_eq!(parsed.settings.text("chunked_prefill_size"), Some("-1"));
    assert_eq!(parsed.settings.count("data_parallel"), Some(2));
    assert_eq!(sentences(&parsed), ["`--tp` needs a value"]);
    assert_eq!(
        sentences(&vllm("--max-model-len")),
        ["`--max-model-len` needs a value"]
    );
}

#[test]
fn lists_go_up_to_the_next_flag() {
    let parsed = vllm("--served-model-name a b --kv-cache-dtype-skip-layers 0 1 --port 80");
    assert_eq!(parsed.settings.text("served_model_name"), Some("a,b"));
    assert_eq!(parsed.settings.text("kv_cache_dtype_skip_layers"), Some("0,1"));
    assert!(parsed.positionals.is_empty() && parsed.unknown.is_empty());
}

#[test]
fn json_is_read_whole_and_key_by_key() {
    let whole = vllm(
        r#"--speculative-config '{"method": "eagle3", "model": "org/draft", "num_speculative_tokens": 3}'"#,
    );
    let dotted = vllm(
        "--speculative-config.method eagle3 --speculative_config.model=org/draft \
         --speculative-config.num_speculative_tokens 3",
    );
    for parsed in [whole, dotted] {
        assert_eq!(parsed.settings.text("speculative_config.method"), Some("eagle3"));
        assert_eq!(parsed.settings.text("draft_model"), Some("org/draft"));
        assert_eq!(parsed.settings.count("num_speculative_tokens"), Some(3));
        let json: Value = serde_json::from_str(parsed.settings.text("speculative_config").unwrap()).unwrap();
        assert_eq!(json["num_speculative_tokens"], 3);
        assert!(parsed.problems.is_empty() && parsed.unknown.is_empty() && parsed.repeated.is_empty());
    }
    let parsed = vllm(
        "--compilation-config.cudagraph_capture_sizes+ 1 --compilation-config.cudagraph_capture_sizes+ 2",
    );
    let json: Value = serde_json::from_str(parsed.settings.text("compilation_config").unwrap()).unwrap();
    assert_eq!(json["cudagraph_capture_sizes"], serde_json::json!([1, 2]));
    let older = vllm("--limit-mm-per-prompt image=4 --compilation-config 3");
    assert!(older.problems.is_empty());
    let later = vllm(r#"--speculative-config '{"model": "$DRAFT"}'"#);
    assert_eq!(later.unresolved, ["draft_model", "speculative_config.model"]);
    let wrong = vllm("--speculative-config '{method: eagle3}'");
    assert!(sentences(&wrong)[0].starts_with("`--speculative-config` takes JSON: "));
}

#[test]
fn one_letter_flags_may_hold_their_value() {
    assert_eq!(vllm("-O3").settings.text("optimization_level"), Some("3"));
    assert_eq!(vllm("-O 2").settings.text("optimization_level"), Some("2"));
    assert_eq!(vllm("-O=1").settings.text("optimization_level"), Some("1"));
}

#[test]
fn an_unknown_flag_is_named_with_the_nearest_known_one() {
    let (parsed, sources) = parse_line(
        Engine::Vllm,
        None,
        "--gpu-memory-utilisation=0.9 --frobnicate 7 --port 1",
    );
    let [first, second] = &parsed.unknown[..] else {
        panic!("{:?}", parsed.unknown)
    };
    assert_eq!(first.suggestion.as_deref(), Some("--gpu-memory-utilization"));
    assert_eq!(
        sources.slice(first.flag.span().unwrap()),
        "--gpu-memory-utilisation"
    );
    assert_eq!(
        (second.flag.value.as_str(), &second.suggestion),
        ("--frobnicate", &None)
    );
    assert!(parsed.positionals.is_empty());
    let parsed = parse_line(Engine::LlamaCpp, None, "--max-model-len 4096 --gpu-layer 99").0;
    assert_eq!(parsed.unknown.len(), 2);
    assert_eq!(parsed.unknown[1].suggestion.as_deref(), Some("--gpu-layers"));
}

#[test]
fn a_flag_that_the_release_no_longer_has_is_told_with_its_value() {
    let swap = |version| {
        let parsed = parse_line(Engine::Vllm, version, "--swap-space 4 --enforce-eager").0;
        assert!(parsed.unknown.is_empty());
        parsed.other_releases
    };
    assert!(swap(Some("0.8.0")).is_empty());
    for found in [swap(Some("0.33.0")), swap(None)] {
        assert_eq!((found.len(), found[0].lacks), (1, Lacks::Removed));
        assert_eq!(found[0].words.len(), 2);
    }
}

#[test]
fn llama_cpp_reads_words_in_its_own_way() {
    let parsed = parse_line(
        Engine::LlamaCpp,
        None,
        "-c 5000 -np 3 -fa -ngl 99 -ctk q8_0 -ctv q8_0 --kv-unified",
    )
    .0;
    assert_eq!(parsed.settings.count("ctx_size"), Some(5000));
    assert_eq!(parsed.settings.count("parallel"), Some(3));
    assert_eq!(parsed.settings.flag("flash_attention"), Some(true));
    assert_eq!(parsed.settings.text("cache_type_k"), Some("q8_0"));
    assert_eq!(parsed.settings.flag("kv_unified"), Some(true));
    assert!(parsed.problems.is_empty() && parsed.unknown.is_empty());
    let parsed = parse_line(
        Engine::LlamaCpp,
        None,
        "-fa off --control-vector-layer-range 1 2 -np -1",
    )
    .0;
    assert_eq!(parsed.settings.text("flash_attention"), Some("off"));
    assert_eq!(parsed.settings.text("parallel"), Some("-1"));
    assert!(parsed.positionals.is_empty());
    let parsed = parse_line(Engine::LlamaCpp, None, "--ctx-size=4096").0;
    assert_eq!(parsed.settings.count("ctx_size"), Some(4096));
    assert_eq!(parsed.problems.len(), 1);
}

#[test]
fn the_mlx_family_chooses_its_cache_by_any_of_three_flags() {
    for flag in ["--kv-cache-mode", "--cache-type-k", "--cache-type-v", "-ctk"] {
        let parsed = parse_line(Engine::Mlx, None, &format!("{flag} int8")).0;
        assert_eq!(parsed.settings.text("kv_cache"), Some("int8"), "{flag}");
    }
    // mlxcel takes llama-server's flags; they set nothing here.
    let parsed = parse_line(
        Engine::Mlx,
        None,
        "-ngl 99 -fa on --ctx-size 8192 --no-mmap --draft 4",
    )
    .0;
    assert!(
        parsed.unknown.is_empty() && parsed.positionals.is_empty(),
        "{parsed:?}"
    );
    assert_eq!(parsed.settings.count("ctx_size"), Some(8192));
}

#[test]
fn values_of_run_time_are_kept_and_named() {
    let parsed = vllm("--max-model-len $CTX --tensor-parallel-size '{{ .Values.tp }}' --max-num-seqs <n>");
    assert_eq!(parsed.unresolved, ["context", "tensor_parallel", "max_sequences"]);
    assert!(parsed.problems.is_empty());
    assert_eq!(parsed.settings.count("context"), None);
}

#[test]
fn everything_after_two_dashes_is_positional() {
    let parsed = vllm("--port 1 -- --tensor-parallel-size 2");
    assert_eq!(parsed.positionals.len(), 2);
    assert_eq!(parsed.settings.count("tensor_parallel"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_words_panic(words in proptest::collection::vec("(--?[a-z.=_-]{0,12}|\\PC{0,12}|-c|--speculative-config[.=]\\PC{0,8})", 0..8)) {
        let sources = Sources::default();
        let file = sources.add("args", words.join(" "));
        let words: Vec<Fact<String>> = words
            .iter()
            .enumerate()
            .map(|(at, word)| Fact::at(word.clone(), file.span(at * 3..at * 3 + word.len())))
            .collect();
        for engine in Engine::ALL {
            let _ = parse(engine, Some(Version::new(0, 33, 0)), &words, &sources);
        }
    }
}

#[test]
fn stand_ins_are_told_from_values() {
    for open in [
        "${MODEL}",
        "{{ .Values.model }}",
        "<YOUR-MODEL>",
        "org/<model>",
        "/gcs/V_MODEL_NAME/V_MODEL_VERSION",
        "YOUR-MODEL-PATH",
        "your_org/m",
        "REPLACE_ME",
        "CHANGEME",
        "replaced-by-kustomize",
        "%MODEL%",
        "@MODEL@",
        "__GPU_MEM_FRACTION__",
        "MODEL_NAME",
    ] {
        assert!(is_placeholder(open), "{open}");
    }
    for value in [
        "meta-llama/Llama-3.1-8B-Instruct",
        "unsloth/Qwen3-GGUF:UD-Q4_K_XL",
        "fp8_e4m3",
        "FLASH_ATTN",
        "{\"a\": \"$b\"}",
        "<|im_end|>",
        "user@host",
        "50%",
    ] {
        assert!(!is_placeholder(value), "{value}");
    }
}

#[test]
fn a_switch_that_once_took_a_value_is_refused_by_the_releases_that_refuse_it() {
    let line = "--enable-chunked-prefill=false";
    let old = parse_line(Engine::Vllm, Some("0.6.3"), line).0;
    let new = parse_line(Engine::Vllm, Some("0.11.0"), line).0;
    let unknown = vllm(line);
    let told = |parsed: &ParsedArgs| (parsed.problems.len(), parsed.doubts.len());
    assert_eq!([told(&old), told(&new), told(&unknown)], [(0, 0), (1, 0), (0, 1)]);
    for parsed in [old, new, unknown] {
        assert_eq!(parsed.settings.flag("chunked_prefill"), Some(false));
    }
}
