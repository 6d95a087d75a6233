//! What a tensor belongs to, told from its name.
//!
//! In: a tensor's name, and where the extra layers of next-token prediction begin. Out: a [`Component`]. Names
//! are those that transformers and the original repositories write; a name that fits nothing is
//! [`Component::Other`].

use super::Component;

/// Where a checkpoint keeps next-token-prediction layers among its `layers.N`: after the model's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtraLayers {
    /// The first of them: the number of the model's own layers.
    pub first: u64,
    /// How many; 0 for a checkpoint without.
    pub count: u64,
}

impl ExtraLayers {
    fn contain(self, layer: u64) -> bool {
        layer >= self.first && layer - self.first < self.count
    }
}

const MULTIMODAL: &[&str] = &[
    "vision",
    "visual",
    "vit",
    "vpm",
    "apm",
    "resampler",
    "audio",
    "image",
    "projector",
    "mlp1",
    "sound",
    "video",
    "talker",
    "token2wav",
    "code2wav",
    "aligner",
    "vqmodel",
    "connector",
    "perceiver",
    "modality",
];
const RECURRENT: &[&str] = &[
    "mamba",
    "ssm",
    "linear_attn",
    "conv",
    "short_conv",
    "conv1d",
    "A_log",
    "dt_bias",
    "dt_proj",
    "x_proj",
    "D",
    "A",
    "time_mix",
    "mixer",
    "recurrent",
    "rwkv",
    "temporal_block",
];
const EMBEDDING: &[&str] = &[
    "embed_tokens",
    "tok_embeddings",
    "wte",
    "wpe",
    "word_embeddings",
    "embed_in",
    "embeddings",
    "embedding",
    "embed",
    "shared",
    "embed_positions",
    "embed_tokens_per_layer",
    "position_embeddings",
    "word_embeddings_layernorm",
];
const LM_HEAD: &[&str] = &["lm_head", "embed_out", "output_layer", "output", "head"];
const FEED_FORWARD: &[&str] = &[
    "mlp",
    "feed_forward",
    "ffn",
    "block_sparse_moe",
    "moe",
    "fc1",
    "fc2",
    "gate_proj",
    "up_proj",
    "down_proj",
    "w1",
    "w2",
    "w3",
    "DenseReluDense",
    "shared_mlp",
    "shared_experts",
    "shared_expert",
    "router",
];

/// What the tensor `name` belongs to.
pub fn of(name: &str, extra: ExtraLayers) -> Component {
    let parts: Vec<&str> = name.split('.').collect();
    let has = |words: &[&str]| parts.iter().any(|part| words.contains(part));
    let layer = layer_of(&parts);
    let in_layer = layer.is_some();
    if is_multimodal(&parts) {
        Component::Multimodal
    } else if layer.is_some_and(|layer| extra.contain(layer)) || is_next_n(&parts) {
        Component::NextN
    } else if is_routed_expert(&parts) {
        Component::Experts
    } else if !in_layer && has(LM_HEAD) {
        Component::LmHead
    } else if !in_layer && has(EMBEDDING) {
        Component::Embedding
    } else if !in_layer {
        Component::Other
    } else {
        of_layer(&parts)
    }
}

/// What a tensor inside a numbered layer belongs to.
fn of_layer(parts: &[&str]) -> Component {
    let has = |words: &[&str]| parts.iter().any(|part| words.contains(part));
    // Nemotron-H calls every block `mixer`, so the projections decide first.
    let attends = parts.iter().any(|part| {
        let part = part.to_ascii_lowercase();
        part == "attn" || part.contains("attention") || part.ends_with("_attn") || part.starts_with("attn_")
    });
    let projects = has(&[
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "qkv_proj",
        "query_key_value",
        "Wqkv",
        "c_attn",
    ]);
    if parts.iter().any(|part| part.starts_with("time_"))
        || (has(RECURRENT) && !projects && !has(FEED_FORWARD))
    {
        Component::Recurrent
    } else if has(FEED_FORWARD)
        || parts
            .iter()
            .any(|part| part.contains("feedforward") || *part == "ln_2")
    {
        Component::Mlp
    } else if attends || projects || parts.iter().any(|part| part.contains("norm") || *part == "ln_1") {
        Component::Attention
    } else {
        Component::Other
    }
}

/// The number after the first `layers`, `h`, `blocks` or `block`.
fn layer_of(parts: &[&str]) -> Option<u64> {
    let pairs = parts.iter().zip(parts.iter().skip(1));
    pairs
        .filter(|(part, _)| matches!(**part, "layers" | "layer" | "h" | "blocks" | "block"))
        .find_map(|(_, number)| number.parse().ok())
}

fn is_multimodal(parts: &[&str]) -> bool {
    parts.iter().any(|part| {
        MULTIMODAL
            .iter()
            .any(|word| *part == *word || part.split('_').any(|piece| piece == *word))
            || part.starts_with("patch_merge")
    })
}

fn is_next_n(parts: &[&str]) -> bool {
    parts
        .iter()
        .any(|part| *part == "mtp" || part.starts_with("mtp_") || part.starts_with("nextn"))
}

fn is_routed_expert(parts: &[&str]) -> bool {
    let stacked = |part: &&str| matches!(*part, "input_linear" | "output_linear" | "switch_mlp");
    let in_moe = parts
        .iter()
        .any(|part| matches!(*part, "block_sparse_moe" | "moe" | "mlp" | "feed_forward"));
    let named = parts.contains(&"experts");
    let step = parts.contains(&"moe") && parts.iter().any(|part| part.ends_with("_proj"));
    named || step || (in_moe && parts.iter().any(stacked))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: ExtraLayers = ExtraLayers { first: 0, count: 0 };

    #[test]
    fn tensors_of_common_families_find_their_component() {
        for (name, expected) in [
            ("model.embed_tokens.weight", Component::Embedding),
            ("transformer.wte.weight", Component::Embedding),
            ("embed.weight", Component::Embedding),
            ("lm_head.weight", Component::LmHead),
            ("language_model.lm_head.weight", Component::LmHead),
            ("output.weight", Component::LmHead),
            ("model.layers.3.self_attn.q_proj.qweight", Component::Attention),
            ("model.layers.3.input_layernorm.weight", Component::Attention),
            ("transformer.h.1.attn.c_attn.weight", Component::Attention),
            ("gpt_neox.layers.0.attention.dense.weight", Component::Attention),
            ("backbone.layers.5.mixer.q_proj.weight", Component::Attention),
            ("model.layers.3.mlp.down_proj.weight", Component::Mlp),
            ("backbone.layers.4.mixer.up_proj.weight", Component::Mlp),
            ("model.layers.3.mlp.shared_experts.up_proj.weight", Component::Mlp),
            ("model.layers.3.mlp.experts.17.up_proj.weight", Component::Experts),
            (
                "model.layers.3.mlp.experts.gate_up_proj_blocks",
                Component::Experts,
            ),
            (
                "model.layers.3.block_sparse_moe.input_linear.weight",
                Component::Experts,
            ),
            ("model.layers.3.mlp.switch_mlp.up_proj.weight", Component::Experts),
            ("backbone.layers.0.mixer.in_proj.weight", Component::Recurrent),
            ("model.layers.0.linear_attn.out_proj.weight", Component::Recurrent),
            ("rwkv.blocks.0.attention.time_decay", Component::Recurrent),
            (
                "model.vision_tower.encoder.layers.0.self_attn.q_proj.weight",
                Component::Multimodal,
            ),
            ("visual.blocks.0.attn.qkv.weight", Component::Multimodal),
            ("multi_modal_projector.linear_1.weight", Component::Multimodal),
            ("mtp.layers.0.self_attn.q_proj.weight", Component::NextN),
            ("model.norm.weight", Component::Other),
        ] {
            assert_eq!(of(name, NONE), expected, "{name}");
        }
    }

    #[test]
    fn layers_past_the_models_own_are_next_token_prediction() {
        let extra = ExtraLayers { first: 61, count: 1 };
        assert_eq!(
            of("model.layers.60.self_attn.o_proj.weight", extra),
            Component::Attention
        );
        assert_eq!(
            of("model.layers.61.mlp.experts.0.up_proj.weight", extra),
            Component::NextN
        );
        assert_eq!(
            of("model.layers.62.self_attn.o_proj.weight", extra),
            Component::Attention
        );
    }
}
