//! What config.json may say, rightly and wrongly.

use super::class::{Class, Value};
use super::*;
use crate::fact::Origin;
use crate::memory::layout::{Cache, Reach, State};
use crate::source::FileId;

fn file(text: &str) -> SourceFile {
    SourceFile::new(FileId::from_index(0), "config.json", text)
}

fn facts(text: &str) -> ConfigFacts {
    read(&file(text))
}

fn layout(text: &str) -> Layout {
    facts(text).layout.unwrap()
}

/// The message of the only finding, and the characters of its places.
fn complaint(text: &str) -> (String, Vec<String>) {
    let source = file(text);
    let facts = read(&source);
    assert_eq!(facts.findings.len(), 1, "{:?}", facts.findings);
    assert!(facts.layout.is_err(), "a model with a mistake has no size");
    let finding = &facts.findings[0];
    assert_eq!(&*finding.rule, "config-incomplete");
    let labels = finding.primary.iter().chain(&finding.related);
    let places = labels.map(|label| source.slice(label.span).to_owned()).collect();
    (finding.message.clone(), places)
}

const SMALL: &str = r#"{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
  "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
  "max_position_embeddings": 512, "torch_dtype": "bfloat16"
}"#;

fn small_with(field: &str) -> String {
    SMALL.replace("\"torch_dtype\"", &format!("{field}, \"torch_dtype\""))
}

#[test]
fn a_declared_value_knows_its_characters() {
    let source = file(SMALL);
    let facts = read(&source);
    let kv_heads = facts.dims.num_kv_heads.unwrap();
    assert_eq!((kv_heads.value, source.slice(kv_heads.span().unwrap())), (2, "2"));
    assert_eq!(facts.dtype.unwrap().value, Dtype::Bfloat16);
    assert_eq!(facts.max_context.unwrap().value, 512);
    let attention = Cache::Attention {
        kv_heads: 2,
        k_dim: 16,
        v_dim: 16,
        reach: Reach::Full,
    };
    let layout = facts.layout.unwrap();
    assert_eq!((layout.groups[0].cache, layout.groups[0].count()), (attention, 4));
}

#[test]
fn a_class_default_says_whose_it_is() {
    let facts = facts(r#"{"model_type": "mistral", "num_hidden_layers": 2}"#);
    let window = facts.dims.sliding_window.unwrap();
    assert_eq!(window.value, 4096);
    let why = Origin::Default("the default of mistral in transformers 5.20".into());
    assert_eq!(window.origin, why);
    assert_eq!(facts.dims.num_kv_heads.unwrap().value, 8);
}

#[test]
fn null_is_not_the_class_default() {
    let layout = layout(r#"{"model_type": "mistral", "sliding_window": null, "num_hidden_layers": 2}"#);
    let Cache::Attention { reach, .. } = layout.groups[0].cache else {
        panic!("expected attention");
    };
    assert_eq!(reach, Reach::Full);
}

#[test]
fn broken_json_is_reported_with_its_place() {
    let facts = facts("{\"model_type\": \"llama\",\n \"hidden_size\": [1, 2");
    assert_eq!(&*facts.findings[0].rule, "yaml-invalid");
    assert!(facts.findings[0].message.contains("not valid JSON"));
    assert!(
        facts.findings[0].message.contains("line 2"),
        "{}",
        facts.findings[0].message
    );
}

#[test]
fn text_that_holds_no_object_is_refused() {
    for text in ["", "[]", "3", "\"x\"", "null", "\u{feff}"] {
        assert!(facts(text).layout.is_err(), "{text:?}");
        assert_eq!(facts(text).findings.len(), 1, "{text:?}");
    }
    assert!(facts(&"[".repeat(100_000)).layout.is_err());
}

#[test]
fn bare_infinity_and_nan_are_null_and_do_no_harm() {
    let facts = facts(&small_with(r#""time_step_limit": [0.0, Infinity], "x": NaN"#));
    assert!(facts.layout.is_ok());
    assert_eq!(facts.json["time_step_limit"][1], serde_json::Value::Null);
    assert_eq!(facts.json["x"], serde_json::Value::Null);
    assert_eq!(facts.json["num_hidden_layers"], 4);
}

#[test]
fn counts_that_cannot_be_are_named() {
    let with_layers = |value: &str| {
        SMALL.replace(
            "\"num_hidden_layers\": 4",
            &format!("\"num_hidden_layers\": {value}"),
        )
    };
    let cases = [
        (
            with_layers("9223372036854775808"),
            "num_hidden_layers is larger than any model has",
        ),
        (with_layers("200000"), "200000 layers are more than any model has"),
        (with_layers("-4"), "num_hidden_layers is negative"),
        (with_layers("4.5"), "num_hidden_layers is not a whole number"),
        (with_layers("\"many\""), "num_hidden_layers is not a number"),
        (
            with_layers("{}"),
            "num_hidden_layers holds a mapping, expected a number",
        ),
        (
            with_layers("0"),
            "num_hidden_layers is 0: a model has at least one",
        ),
        (
            SMALL.replace("\"num_attention_heads\": 4", "\"num_attention_heads\": 0"),
            "num_attention_heads is 0: a model has at least one",
        ),
        (small_with("\"sliding_window\": -1"), "sliding_window is negative"),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(&text).0, expected);
    }
}

#[test]
fn a_missing_field_is_named_with_its_file() {
    let facts = facts(r#"{"model_type": "nobody_knows", "hidden_size": 64}"#);
    let finding = &facts.findings[0];
    assert_eq!(finding.path.as_deref(), Some("config.json"));
    assert_eq!(
        finding.message,
        "config.json has no num_hidden_layers, and nobody_knows is not a model_type with known defaults"
    );
}

#[test]
fn heads_that_do_not_divide_the_hidden_size_are_shown_beside_it() {
    let text = SMALL.replace("\"hidden_size\": 64", "\"hidden_size\": 66");
    let (message, places) = complaint(&text);
    assert_eq!(
        message,
        "4 attention heads do not divide the hidden size 66, and there is no head_dim"
    );
    assert_eq!(places, ["4", "66"]);
}

#[test]
fn kv_heads_that_do_not_divide_the_heads_are_shown_beside_them() {
    let text = SMALL.replace("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3");
    let (message, places) = complaint(&text);
    assert_eq!(message, "4 attention heads cannot share 3 KV heads evenly");
    assert_eq!(places, ["3", "4"]);
}

#[test]
fn a_layer_list_of_the_wrong_length_is_shown_beside_the_layer_count() {
    let (message, places) = complaint(&small_with(
        r#""layer_types": ["full_attention", "full_attention"]"#,
    ));
    assert_eq!(message, "layer_types names 2 layers, but the model has 4");
    assert_eq!(places[1], "4");
}

#[test]
fn a_sliding_layer_needs_a_window() {
    let types =
        r#""layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]"#;
    let (message, places) = complaint(&small_with(types));
    assert_eq!(message, "a layer slides, but config.json has no sliding_window");
    assert_eq!(places, ["\"sliding_attention\""]);
}

#[test]
fn an_unknown_family_is_plain_attention_unless_a_field_hints_at_more() {
    let unknown = |field: &str| small_with(field).replace("\"llama\"", "\"nobody_knows\"");
    assert!(facts(&unknown("\"x\": 1")).layout.is_ok());
    assert!(facts(&unknown("\"x\": 1")).parameters.is_none());
    for field in [
        "ssm_width",
        "recurrent_dim",
        "kv_compress_ratio",
        "conv_kernel_size",
        "linear_attn_dim",
    ] {
        let source = file(&unknown(&format!("\"{field}\": 8")));
        let refusal = read(&source).layout.unwrap_err();
        assert!(refusal.reason.contains(field), "{}", refusal.reason);
        assert_eq!(source.slice(refusal.span.unwrap()), format!("\"{field}\""));
    }
    let refusal = facts(&unknown("\"ssm_state_size\": 8")).layout.unwrap_err();
    assert!(
        refusal.reason.contains("speaks of recurrent states"),
        "{}",
        refusal.reason
    );
    let refusal = facts(&unknown("\"sliding_window\": 8")).layout.unwrap_err();
    assert!(refusal.reason.contains("which layers slide"));
    assert!(
        facts(&unknown("\"window_dim\": null, \"use_ssm\": false"))
            .layout
            .is_ok()
    );
}

#[test]
fn a_layer_kind_that_nobody_knows_is_refused_at_its_place() {
    let text =
        small_with(r#""layer_types": ["full_attention", "quantum", "full_attention", "full_attention"]"#);
    let source = file(&text);
    let refusal = read(&source).layout.unwrap_err();
    assert_eq!(source.slice(refusal.span.unwrap()), "\"quantum\"");
}

#[test]
fn layers_that_read_anothers_keys_keep_none() {
    let layout = layout(
        r#"{"model_type": "gemma3n_text", "num_hidden_layers": 10, "num_kv_shared_layers": 4,
            "intermediate_size": 64, "sliding_window": 16}"#,
    );
    let kept: u64 = layout
        .groups
        .iter()
        .map(crate::memory::layout::LayerGroup::count)
        .sum();
    assert_eq!((layout.num_layers, kept), (10, 6));
}

#[test]
fn indexers_that_reuse_a_choice_keep_no_keys() {
    let layout = layout(
        r#"{"model_type": "glm_moe_dsa", "num_hidden_layers": 4, "indexer_types": ["full", "shared", "shared", "full"]}"#,
    );
    let indexer = layout
        .groups
        .iter()
        .find(|group| matches!(group.cache, Cache::Indexer { .. }));
    assert_eq!(indexer.unwrap().layers, [0, 3]);
}

#[test]
fn letters_make_mamba_attention_and_nothing() {
    let layout = layout(
        r#"{"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*E", "hidden_size": 64,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "mamba_num_heads": 8,
            "mamba_head_dim": 16, "ssm_state_size": 32, "n_groups": 2, "conv_kernel": 4}"#,
    );
    assert_eq!(layout.num_layers, 5);
    assert_eq!(layout.groups[0].layers, [0, 2]);
    let Cache::Recurrent { state, .. } = layout.groups[0].cache else {
        panic!("expected a state");
    };
    assert!(matches!(
        state,
        State::Mamba2 {
            inner: 128,
            groups: 2,
            ..
        }
    ));
    assert_eq!(layout.groups[1].layers, [3]);
}

#[test]
fn a_list_that_names_a_layer_too_many_is_shown_beside_the_layer_count() {
    let text = SMALL
        .replace("\"llama\"", "\"lfm2\"")
        .replace("\"vocab_size\"", "\"full_attn_idxs\": [1, 4], \"vocab_size\"");
    let (message, places) = complaint(&text);
    assert_eq!(
        message,
        "full_attn_idxs names layer 4, but the model has 4 layers"
    );
    assert_eq!(places[1], "4");
}

#[test]
fn searched_blocks_keep_what_each_of_them_says() {
    let layout = layout(
        r#"{"model_type": "nemotron-nas", "hidden_size": 64, "num_attention_heads": 8, "vocab_size": 10,
            "num_hidden_layers": 3, "block_configs": [
              {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 1.0}},
              {"attention": {"no_op": true}, "ffn": {"ffn_mult": 1.0}},
              {"attention": {"n_heads_in_group": 8}, "ffn": {"no_op": true}}]}"#,
    );
    let heads = |group: &crate::memory::layout::LayerGroup| match group.cache {
        Cache::Attention { kv_heads, .. } => kv_heads,
        _ => 0,
    };
    let kept: Vec<_> = layout
        .groups
        .iter()
        .map(|group| (heads(group), group.layers.clone()))
        .collect();
    assert_eq!(kept, [(2, vec![0]), (1, vec![2])]);
}

#[test]
fn an_encoder_keeps_nothing() {
    let layout = layout(r#"{"model_type": "bert", "num_hidden_layers": 3}"#);
    assert_eq!((layout.num_layers, layout.groups.len()), (3, 0));
}

#[test]
fn a_decoder_keeps_its_encoders_tokens_too() {
    let layout = layout(r#"{"model_type": "whisper", "decoder_layers": 2, "max_source_positions": 1500}"#);
    let cross = layout.groups.iter().find_map(|group| match group.cache {
        Cache::Cross { encoder_tokens, .. } => Some((encoder_tokens, group.count())),
        _ => None,
    });
    assert_eq!(cross, Some((1500, 2)));
}

#[test]
fn a_nested_decoder_keeps_its_encoders_tokens_too() {
    let layout = layout(
        r#"{"is_encoder_decoder": true, "model_type": "pair", "encoder": {},
            "decoder": {"model_type": "llama", "num_hidden_layers": 2}}"#,
    );
    assert!(
        layout
            .groups
            .iter()
            .any(|group| matches!(group.cache, Cache::Cross { .. }))
    );
}

#[test]
fn a_layer_may_have_a_shape_of_its_own() {
    let layout = layout(&small_with(
        r#""per_layer_config": {"01": {"head_dim": 32, "num_key_value_heads": 1}}"#,
    ));
    let shapes: Vec<_> = layout
        .groups
        .iter()
        .map(|group| (group.cache, group.layers.clone()))
        .collect();
    assert_eq!(shapes.len(), 2);
    let own = Cache::Attention {
        kv_heads: 1,
        k_dim: 32,
        v_dim: 32,
        reach: Reach::Full,
    };
    assert_eq!(shapes[1], (own, vec![1]));
}

#[test]
fn next_token_layers_are_counted_beside_the_layout() {
    let layout = layout(&small_with("\"num_nextn_predict_layers\": 1"));
    assert_eq!((layout.num_layers, layout.nextn_layers), (4, 1));
}

#[test]
fn a_nested_text_model_is_found_and_defaults_are_its_own() {
    let facts = facts(
        r#"{"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "num_hidden_layers": 12,
            "sliding_window": 64}}"#,
    );
    let layout = facts.layout.unwrap();
    assert_eq!(
        layout
            .groups
            .iter()
            .map(crate::memory::layout::LayerGroup::count)
            .collect::<Vec<_>>(),
        [10, 2]
    );
    assert_eq!(facts.model_type.unwrap().value, "gemma3_text");
    assert_eq!(facts.max_context.unwrap().value, 131_072);
}

#[test]
fn rope_scaling_stretches_the_context_only_where_the_length_does_not_count_it() {
    let context = |rope: &str| {
        let facts = facts(&small_with(rope));
        (
            facts.max_context.unwrap().value,
            facts.longest_context.unwrap().value,
        )
    };
    assert_eq!(
        context(r#""rope_scaling": {"type": "linear", "factor": 4.0}"#),
        (2048, 2048)
    );
    assert_eq!(
        context(r#""rope_scaling": {"type": "yarn", "factor": 4.0}"#),
        (512, 512)
    );
    let long = r#""rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 128"#;
    assert_eq!(context(long), (128, 512));
}

/// Every field of every family, one at a time, with values that nobody should write.
#[test]
fn no_value_of_any_field_can_make_it_panic() {
    let wild = ["0", "1099511627776"];
    for (name, class) in Class::all() {
        let defaults: Vec<_> = class.defaults.iter().collect();
        for (key, value) in &defaults {
            if key.contains('.') || matches!(value, Value::Text(_)) {
                continue;
            }
            for value in wild {
                let facts = facts(&format!("{{\"model_type\": \"{name}\", \"{key}\": {value}}}"));
                if let Some(census) = facts.census {
                    census.rank_bytes(3, 2, true, Dtype::Bfloat16);
                }
            }
        }
    }
}

/// The families whose transformers class has defaults for every dimension (5.20): a config.json that leaves them
/// all out still has a layout.
const WITH_DEFAULTS: [&str; 82] = [
    "apertus",
    "bamba",
    "bart",
    "bloom",
    "cohere",
    "cohere2",
    "dbrx",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v4",
    "ernie4_5",
    "ernie4_5_moe",
    "exaone4",
    "falcon",
    "falcon_h1",
    "falcon_mamba",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gemma3n",
    "gemma3n_text",
    "gemma4",
    "gemma4_text",
    "glm",
    "glm4",
    "glm4_moe",
    "glm_moe_dsa",
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "granite",
    "granitemoe",
    "granitemoehybrid",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "jamba",
    "kimi_k2",
    "kimi_linear",
    "lfm2",
    "llama",
    "llama4",
    "longcat_flash",
    "mamba",
    "mamba2",
    "mimo_v2_flash",
    "minimax",
    "minimax_m2",
    "ministral3",
    "mistral",
    "mixtral",
    "mllama",
    "mpt",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "opt",
    "phi",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_next",
    "rwkv",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "t5",
    "whisper",
    "zamba",
    "zamba2",
];

#[test]
fn every_family_with_class_defaults_has_a_layout_without_any_field() {
    let without: Vec<_> = WITH_DEFAULTS
        .iter()
        .filter(|name| facts(&format!(r#"{{"model_type": "{name}"}}"#)).layout.is_err())
        .collect();
    assert!(without.is_empty(), "{without:?}");
}
