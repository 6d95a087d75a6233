//! The fields of config.json that sizing reads: what a record keeps of a config.
//!
//! One list for all depths, since a field means the same in a nested text model as at the top. A test holds it
//! against the code that reads configs, so a new reader that is not listed here fails the build. Fields that only
//! hint at memory are kept too: without them a model that nobody knows would pass for plain attention.

use serde_json::{Map, Value};

use crate::model::layout;

/// Sections with keys of their own making (names of layer types, of groups): everything below is kept.
const WHOLE: [&str; 4] = [
    "block_configs",
    "per_layer_config",
    "compress_rates",
    "supported_aspect_ratios",
];

/// Sections whose parts go by the names of layer types.
const ROPE: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// Keys under which configs state a quantization; a record holds that in a field of its own.
const QUANTIZATION: [&str; 3] = ["quantization_config", "compression_config", "quantization"];

/// The fields, sorted.
const FIELDS: [&str; 339] = [
    "_block_types",
    "_sliding_window_pattern",
    "adapter_rank",
    "add_bias_linear",
    "add_final_layer_norm",
    "add_qkv_bias",
    "aligner_config",
    "altup_num_inputs",
    "architectures",
    "attention",
    "attention_bias",
    "attention_chunk_size",
    "attention_head_dim",
    "attention_hidden_multiple",
    "attention_hidden_size",
    "attention_k_eq_v",
    "attention_layers",
    "attention_out_bias",
    "attention_window_size",
    "attentions_per_layer",
    "attn_config",
    "attn_layer_indices",
    "attn_layer_offset",
    "attn_layer_period",
    "attn_type_list",
    "audio_config",
    "bias",
    "block_auto_adjust_ff_dim",
    "block_configs",
    "block_ff_dim",
    "block_ffn_dim_multiplier",
    "block_multiple_of",
    "block_types",
    "chunk_size",
    "cla_share_factor",
    "compress_rates",
    "compress_ratio_csa",
    "compress_ratios",
    "conv1d_width",
    "conv_L_cache",
    "conv_bias",
    "conv_kernel",
    "cross_attention_hidden_size",
    "cross_attention_layers",
    "d_ff",
    "d_kv",
    "d_model",
    "decoder",
    "decoder_attention_heads",
    "decoder_ffn_dim",
    "decoder_head_dim",
    "decoder_key_value_heads",
    "decoder_layers",
    "decoder_sparse_step",
    "deepstack_visual_indexes",
    "dense_intermediate_size",
    "depth",
    "dim",
    "do_layer_norm_before",
    "downsample_factor",
    "dtype",
    "embed_dim",
    "enable_bias",
    "enable_moe_block",
    "encoder_config",
    "encoder_ffn_dim",
    "encoder_layers",
    "expand",
    "expansion_ratio",
    "expert_ffn_hidden_size",
    "expert_intermediate_size",
    "expert_layer_offset",
    "expert_layer_period",
    "factor",
    "feed_forward_proj",
    "ff_intermediate_size",
    "ffn",
    "ffn_config",
    "ffn_dim",
    "ffn_hidden_size",
    "ffn_mult",
    "first_k_dense_replace",
    "first_layer_full",
    "full_attention_interval",
    "full_attention_offset",
    "full_attn_alpha_factor",
    "full_attn_idxs",
    "full_attn_layers",
    "full_layer_phase",
    "gate_lower_bound",
    "gen_vision_config",
    "global_head_dim",
    "hc_mult",
    "head_dim",
    "hidden_dim",
    "hidden_size",
    "hidden_size_per_layer_input",
    "hybrid_layer_ids",
    "hybrid_layer_pattern",
    "hybrid_override_pattern",
    "id2label",
    "image_size",
    "img_processor",
    "img_token_compression_config",
    "in_channels",
    "in_chans",
    "index_head_dim",
    "index_n_heads",
    "index_skip_topk_offset",
    "index_topk_freq",
    "index_topk_pattern",
    "indexer_types",
    "init_pos_emb_height",
    "init_pos_emb_width",
    "interleave_moe_layer_step",
    "intermediate_layers_indices",
    "intermediate_size",
    "intermediate_size_mlp",
    "is_decoder",
    "is_encoder_decoder",
    "is_gated_act",
    "kv_channels",
    "kv_lora_rank",
    "kv_n_heads",
    "language_config",
    "last_layer_full",
    "latent_moe_use_norm",
    "laurel_rank",
    "layer_types",
    "layernorm_linear_attention_alpha",
    "layers_block_type",
    "linear_attn_alpha_factor",
    "linear_attn_config",
    "linear_conv_kernel_dim",
    "linear_head_dim",
    "linear_key_head_dim",
    "linear_num_heads",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_value_head_dim",
    "llm_config",
    "lm_head_bias",
    "lru_width",
    "mamba_chunk_size",
    "mamba_conv_bias",
    "mamba_d_conv",
    "mamba_d_head",
    "mamba_d_ssm",
    "mamba_d_state",
    "mamba_dt_rank",
    "mamba_expand",
    "mamba_head_dim",
    "mamba_headdim",
    "mamba_n_groups",
    "mamba_n_heads",
    "mamba_ngroups",
    "mamba_num_groups",
    "mamba_num_heads",
    "mamba_proj_bias",
    "mamba_rms_norm",
    "mamba_ssm_cache_dtype",
    "mamba_ssm_dtype",
    "mamba_state_dim",
    "max_encoder_position_embeddings",
    "max_num_tiles",
    "max_position_embeddings",
    "max_seq_len",
    "max_seq_length",
    "max_sequence_length",
    "max_source_positions",
    "max_target_positions",
    "max_window_layers",
    "mla_use_output_gate",
    "mlp_bias",
    "mlp_layer_types",
    "mlp_only_layers",
    "mlp_ratio",
    "mm_vision_tower",
    "model_dim",
    "model_max_length",
    "model_type",
    "moe_ffn_hidden_size",
    "moe_intermediate_size",
    "moe_latent_size",
    "moe_layer_end_index",
    "moe_layer_freq",
    "moe_layer_interval",
    "moe_layer_start_index",
    "moe_layers",
    "moe_num_experts",
    "moe_num_shared_experts",
    "moe_shared_expert_intermediate_size",
    "moe_topk",
    "mtp_num_hidden_layers",
    "mtp_num_layers",
    "multi_query",
    "multi_query_attention",
    "multi_query_group_num",
    "multimodal_projector_bias",
    "n_embd",
    "n_embed",
    "n_groups",
    "n_head",
    "n_head_kv",
    "n_heads",
    "n_heads_in_group",
    "n_inner",
    "n_layer",
    "n_layers",
    "n_mamba_heads",
    "n_positions",
    "n_routed_experts",
    "n_shared_experts",
    "new_decoder_architecture",
    "no_op",
    "no_rope_layer_interval",
    "no_rope_layers",
    "num_attention_groups",
    "num_attention_heads",
    "num_channels",
    "num_decoder_layers",
    "num_dense_layers",
    "num_experts",
    "num_experts_per_tok",
    "num_experts_per_token",
    "num_global_key_value_heads",
    "num_global_layers",
    "num_hash_layers",
    "num_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_key_value_heads_per_layer",
    "num_kv_heads",
    "num_kv_shared_layers",
    "num_labels",
    "num_layers",
    "num_ln_in_parallel_attn",
    "num_local_experts",
    "num_mel_bins",
    "num_mem_blocks",
    "num_mtp_modules",
    "num_nextn_predict_layers",
    "num_patches",
    "num_position_embeddings",
    "num_query_groups",
    "num_routed_experts",
    "num_shared_expert",
    "num_shared_experts",
    "o_groups",
    "o_lora_rank",
    "original_max_position_embeddings",
    "out_hidden_size",
    "output_hidden_states",
    "padded_vocab_size",
    "parallel_attn",
    "patch_size",
    "per_layer_config",
    "pos_emb_height",
    "pos_emb_width",
    "position_embedding_size",
    "projector_bias",
    "projector_hidden_size",
    "projector_input_dim",
    "projector_output_dim",
    "projector_use_layernorm",
    "projectors_bias",
    "q_lora_rank",
    "qk_layernorm",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "qkv_bias",
    "relative_attention_num_buckets",
    "replace_with_linear",
    "rope_parameters",
    "rope_scaling",
    "rope_type",
    "routed_expert_hidden_size",
    "router_bias",
    "scale_factor",
    "seq_len",
    "seq_length",
    "share_expert_dim",
    "shared_expert_intermediate_size",
    "shared_intermediate_size",
    "short_conv_kernel_size",
    "sliding_window",
    "sliding_window_pattern",
    "sliding_window_size",
    "sparse_attention_config",
    "sparse_attention_freq",
    "sparse_index_dim",
    "sparse_num_index_heads",
    "spatial_merge_size",
    "speech_config",
    "ssm_state_size",
    "state_size",
    "supported_aspect_ratios",
    "swa_head_dim",
    "swa_num_key_value_heads",
    "swa_v_head_dim",
    "talker_config",
    "temporal_patch_size",
    "text_config",
    "thinker_config",
    "tie_embedding",
    "tie_word_embeddings",
    "time_step_rank",
    "topk_method",
    "torch_dtype",
    "type",
    "type_vocab_size",
    "use_bias",
    "use_bidirectional_attention",
    "use_cla",
    "use_conv_bias",
    "use_double_wide_mlp",
    "use_full_rank_gate",
    "use_mla",
    "use_parallel_residual",
    "use_qk_norm",
    "use_qkv_bias",
    "use_shared_attention_adapter",
    "use_sliding_window",
    "v_head_dim",
    "vision_config",
    "vision_encoder",
    "vision_feature_layer",
    "vision_output_dim",
    "vision_tower",
    "vision_use_head",
    "visual",
    "vocab_size",
    "vocab_size_per_layer_input",
    "vt_hidden_size",
    "vt_intermediate_size",
    "vt_num_hidden_layers",
    "window_length",
    "word_embed_proj_dim",
    "zero_expert_num",
];

/// What a record keeps of a config.
pub(super) fn kept(config: &Map<String, Value>) -> Map<String, Value> {
    let entries = config.iter().filter_map(|(key, value)| {
        let is_section = value.is_object();
        if QUANTIZATION.contains(&key.as_str()) && (is_section || value.is_null()) {
            return None;
        }
        if ROPE.contains(&key.as_str()) {
            return Some((key.clone(), rope(value)));
        }
        let is_kept = FIELDS.binary_search(&key.as_str()).is_ok()
            || WHOLE.contains(&key.as_str())
            || layout::hints_at_memory(key);
        is_kept.then(|| (key.clone(), inside(key, value)))
    });
    entries.collect()
}

fn inside(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(section) if !WHOLE.contains(&key) && key != "id2label" => Value::Object(kept(section)),
        other => other.clone(),
    }
}

/// A rope section: its own fields, and those of each layer type.
fn rope(value: &Value) -> Value {
    let Value::Object(section) = value else {
        return value.clone();
    };
    let entries = section.iter().filter_map(|(key, value)| match value {
        Value::Object(_) => Some((key.clone(), rope(value))),
        other => FIELDS
            .binary_search(&key.as_str())
            .is_ok()
            .then(|| (key.clone(), other.clone())),
    });
    Value::Object(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_list_is_sorted_so_that_it_can_be_searched() {
        assert!(FIELDS.is_sorted());
    }

    /// Words that the readers compare values with, or parts of names: no keys.
    const NO_KEYS: &str = "ChatGLM ForCausalLM ForSequenceClassification LMHeadModel Model auto \
        chunked_attention clip_vision_model compress compressed_sparse_attention conv config \
        deepseek_llama_scaling deepseek_sparse_attention deepseek_yarn default delta dense full full_attention \
        gated gemma3 gemma4_vision glm4v_moe_vision glm4v_vision global global_attention hash_moe \
        heavily_compressed_attention hybrid idefics3 idefics3_vision indexed_attention jamba json kda \
        kimi_k25_vision kv_share latent lfm2_vl linear_attention linear_attn llama3 llama4_vision_model llava \
        llava_next local local_attention longrope lora_rank mamba mamba2 mbart minimax minimax_m3_sparse \
        minimax_m3_vl_vision mistral3 mllama_vision_model mlp moe nemotron_h noaux_tc paligemma pixtral qwen \
        qwen2_5_vl_vision qwen2_vl_vision qwen3_5_moe_vision qwen3_5_vision qwen3_vl_moe_vision \
        qwen3_vl_vision recurrent retention rwkv shared shared_kv short_conv siglip2_vision_model \
        siglip_vision_model sliding sliding_attention sliding_window_attention smolvlm smolvlm_vision sparse \
        sparse_attention ssm state su token_id umt5 vision window yarn block_type cross_attention";

    /// Every quoted word of a reader that looks like a key.
    fn words(text: &str) -> Vec<String> {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
        let lines = code.lines().map(|line| line.split("//").next().unwrap_or(""));
        let quoted = lines.flat_map(|line| {
            line.split('"')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        });
        let is_key = |word: &String| {
            !word.is_empty()
                && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        };
        let keys = quoted.filter(is_key);
        keys.flat_map(|word| word.split('.').map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn every_field_that_the_readers_name_is_kept() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model");
        for folder in ["config", "layout", "parameters"] {
            for entry in std::fs::read_dir(source.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.ends_with("tests.rs") {
                    continue;
                }
                for word in words(&std::fs::read_to_string(&path).unwrap()) {
                    let known = FIELDS.binary_search(&word.as_str()).is_ok()
                        || WHOLE.contains(&word.as_str())
                        || ROPE.contains(&word.as_str())
                        || NO_KEYS.split_whitespace().any(|no| no == word);
                    assert!(
                        known,
                        "{} reads {word}, which records do not keep",
                        path.display()
                    );
                }
            }
        }
    }

    #[test]
    fn what_sizing_never_reads_is_left_out() {
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 64, "bos_token_id": 1, "rope_theta": 1e4,
            "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 32},
            "quantization_config": {"quant_method": "fp8"},
            "text_config": {"num_hidden_layers": 2, "initializer_range": 0.02},
        });
        let left = kept(config.as_object().unwrap());
        let expected = serde_json::json!({
            "model_type": "llama", "hidden_size": 64,
            "rope_scaling": {"rope_type": "yarn", "factor": 2.0},
            "text_config": {"num_hidden_layers": 2},
        });
        assert_eq!(Value::Object(left), expected);
    }

    #[test]
    fn a_hint_at_memory_that_nobody_understands_is_kept() {
        let config = serde_json::json!({"model_type": "new", "ssm_flux": 4, "beam": 2});
        let left = kept(config.as_object().unwrap());
        assert_eq!(left.keys().collect::<Vec<_>>(), ["model_type", "ssm_flux"]);
    }
}
