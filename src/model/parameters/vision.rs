//! Vision towers and their projectors. Quantizers leave them in 16 bits.
//!
//! Each tower is described by the few numbers in which they differ ([`Tower`]); a config with a tower that is
//! not known here has no exact count, so none is given.

use crate::model::Component;
use crate::model::census::{Batch, Split, Tally};
use crate::model::config::class::Class;
use crate::model::config::fields::Fields;
use crate::source::tree::{Node, Shape};

use super::Plan;
use super::recipe::Norm;

/// Sections of a config that describe something beside the text model.
const SECTIONS: [&str; 14] = [
    "vision_config",
    "thinker_config",
    "talker_config",
    "gen_vision_config",
    "aligner_config",
    "vision_encoder",
    "decoder",
    "audio_config",
    "img_processor",
    "visual",
    "mm_vision_tower",
    "vision_tower",
    "speech_config",
    "encoder_config",
];

/// A transformer over image patches.
struct Tower {
    width: u64,
    layers: u64,
    inner: u64,
    gated: bool,
    attention_bias: bool,
    mlp_bias: bool,
    norm: Norm,
    /// Single tensors of a layer beside these.
    extra: u64,
}

/// Adds the towers that the config declares; `None` when one of them is not known.
pub(super) fn towers(plan: &Plan<'_, '_>, tally: &mut Tally) -> Option<()> {
    let root = plan.fields.root();
    let is_there = |key: &&str| root.get(key).is_some_and(|node| !node.is_null());
    let declared: Vec<&str> = SECTIONS.iter().copied().filter(is_there).collect();
    let whole = root.get("model_type").and_then(Node::text).unwrap_or("");
    match declared.as_slice() {
        // A class with a tower builds it from its defaults; those are not what anyone published.
        [] => (Class::of(whole).vision.is_none() || generates_text_only(root)).then_some(()),
        ["vision_config"] => {
            let node = root
                .get("vision_config")
                .filter(|node| node.shape() == Shape::Mapping)?;
            let name = tower_name(node, whole)?;
            let mut batch = Batch::first();
            let vision = Fields::new(root, node, &name);
            tower(plan, &mut batch, &name, whole, &vision)?;
            tally.put(batch);
            Some(())
        }
        _ => None,
    }
}

/// Which tower it is: the class of the whole knows, unless that class takes any tower (`LLaVA`).
fn tower_name(node: Node<'_>, whole: &str) -> Option<String> {
    let named = node.get("model_type").and_then(Node::text).map(str::to_owned);
    let usual = Class::of(whole).vision;
    let takes_any = usual
        .as_deref()
        .is_none_or(|name| matches!(name, "clip_vision_model" | "siglip_vision_model" | "pixtral"));
    if takes_any { named.or(usual) } else { usual }
}

fn generates_text_only(root: Node<'_>) -> bool {
    let class = root.get("architectures").and_then(|list| list.items().next());
    class
        .and_then(Node::text)
        .is_some_and(|name| name.ends_with("ForCausalLM"))
}

fn tower(plan: &Plan<'_, '_>, batch: &mut Batch, name: &str, whole: &str, vision: &Fields<'_>) -> Option<()> {
    match name {
        "qwen2_vl_vision" => qwen2(plan, batch, vision),
        "qwen2_5_vl_vision" => qwen25(plan, batch, vision),
        "qwen3_vl_vision" | "qwen3_vl_moe_vision" | "qwen3_5_vision" | "qwen3_5_moe_vision" => {
            qwen3(plan, batch, vision)
        }
        "siglip_vision_model"
        | "siglip2_vision_model"
        | "clip_vision_model"
        | "idefics3_vision"
        | "smolvlm_vision" => {
            clip(batch, vision, name)?;
            projector(plan, batch, vision, whole)
        }
        "pixtral" => {
            pixtral(batch, vision)?;
            projector(plan, batch, vision, whole)
        }
        "llama4_vision_model" => llama4(plan, batch, vision),
        "mllama_vision_model" => mllama(plan, batch, vision),
        "gemma4_vision" => gemma4(plan, batch, vision),
        "kimi_k25_vision" => kimi(plan, batch, vision),
        "minimax_m3_vl_vision" => minimax_m3(plan, batch, vision),
        "glm4v_vision" | "glm4v_moe_vision" => glm4v(plan, batch, vision),
        _ => None,
    }
}

const PART: Component = Component::Multimodal;

fn count(vision: &Fields<'_>, keys: &[&'static str]) -> Option<u64> {
    vision.count(keys).map(|fact| fact.value)
}

/// A linear layer of a tower; towers keep the model's type.
fn linear(batch: &mut Batch, input: u64, output: u64, has_bias: bool) {
    batch.plain(PART, input, output, Split::Even);
    if has_bias {
        batch.other(PART, output, Split::Replicated);
    }
}

fn other(batch: &mut Batch, elements: u64) {
    batch.other(PART, elements, Split::Replicated);
}

fn blocks(batch: &mut Batch, tower: &Tower) {
    batch.times(tower.layers, |batch| {
        batch.times(4, |batch| {
            linear(batch, tower.width, tower.width, tower.attention_bias);
        });
        let inward = if tower.gated { 2 } else { 1 };
        batch.times(inward, |batch| {
            linear(batch, tower.width, tower.inner, tower.mlp_bias);
        });
        linear(batch, tower.inner, tower.width, tower.mlp_bias);
        batch.times(2, |batch| other(batch, tower.norm.elements(tower.width)));
        other(batch, tower.extra);
    });
}

/// Elements of the convolution that turns pixels into patches.
fn patches(vision: &Fields<'_>, width: u64) -> Option<u64> {
    let side = count(vision, &["patch_size"])?;
    let channels = vision.number(&["in_channels", "num_channels", "in_chans"], 3);
    let frames = vision.number(&["temporal_patch_size"], 1);
    Some(crate::memory::product(&[width, channels, frames, side, side]))
}

/// Patches that are merged into one token, as a factor on the width.
fn merged(vision: &Fields<'_>) -> u64 {
    let side = vision.number(&["spatial_merge_size"], 2);
    side.saturating_mul(side)
}

/// Two linear layers with biases from the merged patches to the text model.
fn merger(batch: &mut Batch, input: u64, output: u64) {
    linear(batch, input, input, true);
    linear(batch, input, output, true);
}

fn qwen2(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["embed_dim"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["depth"])?,
            inner: width.saturating_mul(count(vision, &["mlp_ratio"])?),
            gated: false,
            attention_bias: true,
            mlp_bias: true,
            norm: Norm::WeightAndBias,
            extra: 0,
        },
    );
    other(batch, patches(vision, width)?);
    other(batch, width.saturating_mul(2));
    merger(batch, width.saturating_mul(merged(vision)), plan.width);
    Some(())
}

fn qwen25(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["depth"])?,
            inner: count(vision, &["intermediate_size"])?,
            gated: true,
            attention_bias: true,
            mlp_bias: true,
            norm: Norm::Weight,
            extra: 0,
        },
    );
    other(batch, patches(vision, width)?);
    other(batch, width);
    let output = vision.number(&["out_hidden_size"], plan.width);
    merger(batch, width.saturating_mul(merged(vision)), output);
    Some(())
}

fn qwen3(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["depth"])?,
            inner: count(vision, &["intermediate_size"])?,
            gated: false,
            attention_bias: true,
            mlp_bias: true,
            norm: Norm::WeightAndBias,
            extra: 0,
        },
    );
    other(batch, patches(vision, width)?.saturating_add(width));
    other(
        batch,
        count(vision, &["num_position_embeddings"])?.saturating_mul(width),
    );
    let output = vision.number(&["out_hidden_size"], plan.width);
    let input = width.saturating_mul(merged(vision));
    other(batch, width.saturating_mul(2));
    merger(batch, input, output);
    // Qwen3-VL hands intermediate layers to the text model, each through a merger of its own.
    let deep = vision.list("deepstack_visual_indexes").map_or_else(
        || {
            vision
                .counts("deepstack_visual_indexes")
                .unwrap_or_default()
                .len()
        },
        |list| list.len(),
    );
    for _ in 0..deep {
        other(batch, input.saturating_mul(2));
        merger(batch, input, output);
    }
    Some(())
}

/// `SigLIP` and CLIP, which has a class token and a norm before its layers.
fn clip(batch: &mut Batch, vision: &Fields<'_>, name: &str) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["num_hidden_layers"])?,
            inner: count(vision, &["intermediate_size"])?,
            gated: false,
            attention_bias: true,
            mlp_bias: true,
            norm: Norm::WeightAndBias,
            extra: 0,
        },
    );
    if vision.declared("vision_use_head").and_then(Node::as_bool) == Some(true) {
        return None;
    }
    other(batch, patches(vision, width)?);
    other(batch, width.saturating_mul(2));
    let positions = if name == "siglip2_vision_model" {
        count(vision, &["num_patches"])?
    } else {
        let side = count(vision, &["image_size"])?.checked_div(count(vision, &["patch_size"])?)?;
        side.saturating_mul(side)
    };
    if name == "clip_vision_model" {
        other(batch, width.saturating_mul(positions.saturating_add(1)));
        other(batch, width.saturating_mul(3));
    } else {
        other(batch, width.saturating_mul(positions.saturating_add(1)));
    }
    Some(())
}

fn pixtral(batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["num_hidden_layers"])?,
            inner: count(vision, &["intermediate_size"])?,
            gated: true,
            attention_bias: false,
            mlp_bias: false,
            norm: Norm::Weight,
            extra: 0,
        },
    );
    other(batch, patches(vision, width)?.saturating_add(width));
    Some(())
}

/// From a plain tower to the text model, as the class of the whole does it.
fn projector(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>, whole: &str) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    let root = plan.fields.root();
    let whole_fields = Fields::new(root, root, whole);
    match whole {
        "gemma3" => {
            batch.plain(PART, width, plan.width, Split::Replicated);
            other(batch, width);
        }
        "paligemma" => linear(batch, width, plan.width, true),
        "idefics3" | "smolvlm" => {
            let scale = whole_fields.number(&["scale_factor"], 2);
            let input = width.saturating_mul(scale.saturating_mul(scale));
            linear(batch, input, plan.width, false);
        }
        "llava" | "llava_next" => {
            if whole == "llava_next" {
                other(batch, plan.width);
            }
            let has_bias = whole_fields.switch("multimodal_projector_bias").unwrap_or(true);
            let layers = whole_fields
                .list("vision_feature_layer")
                .map_or(1, |list| list.len() as u64);
            linear(batch, width.saturating_mul(layers), plan.width, has_bias);
            linear(batch, plan.width, plan.width, has_bias);
        }
        "mistral3" => {
            let has_bias = whole_fields.flag("multimodal_projector_bias");
            let side = whole_fields.number(&["spatial_merge_size"], 2);
            other(batch, width);
            batch.plain(
                PART,
                width.saturating_mul(side.saturating_mul(side)),
                width,
                Split::Replicated,
            );
            linear(batch, width, plan.width, has_bias);
            linear(batch, plan.width, plan.width, has_bias);
        }
        "lfm2_vl" => {
            let factor = whole_fields.number(&["downsample_factor"], 2);
            let input = width.saturating_mul(factor.saturating_mul(factor));
            let inner = whole_fields.number(&["projector_hidden_size"], plan.width);
            let has_bias = whole_fields.switch("projector_bias").unwrap_or(true);
            if whole_fields.flag("projector_use_layernorm") {
                other(batch, input.saturating_mul(2));
            }
            linear(batch, input, inner, has_bias);
            linear(batch, inner, plan.width, has_bias);
        }
        _ => return None,
    }
    Some(())
}

fn llama4(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    let inner = count(vision, &["intermediate_size"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["num_hidden_layers"])?,
            inner,
            gated: false,
            attention_bias: true,
            mlp_bias: true,
            norm: Norm::WeightAndBias,
            extra: 0,
        },
    );
    let side = count(vision, &["image_size"])?.checked_div(count(vision, &["patch_size"])?)?;
    other(batch, patches(vision, width)?);
    // Positions, the class token and two norms.
    other(
        batch,
        width.saturating_mul(side.saturating_mul(side).saturating_add(6)),
    );
    let (input, output) = (
        count(vision, &["projector_input_dim"])?,
        vision.number(&["projector_output_dim"], 4096),
    );
    linear(batch, inner, input, false);
    linear(batch, input, output, false);
    linear(
        batch,
        vision.number(&["vision_output_dim"], 4096),
        plan.width,
        false,
    );
    Some(())
}

fn mllama(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    let inner = count(vision, &["intermediate_size"])?;
    let local = count(vision, &["num_hidden_layers"])?;
    let global = count(vision, &["num_global_layers"])?;
    for (layers, extra) in [(local, 0), (global, 2)] {
        blocks(
            batch,
            &Tower {
                width,
                layers,
                inner,
                gated: false,
                attention_bias: false,
                mlp_bias: true,
                norm: Norm::WeightAndBias,
                extra,
            },
        );
    }
    let tiles = count(vision, &["max_num_tiles"])?;
    let ratios = vision
        .list("supported_aspect_ratios")
        .map_or(8, |list| list.len() as u64);
    let side = count(vision, &["image_size"])?.checked_div(count(vision, &["patch_size"])?)?;
    let tokens = side.saturating_mul(side).saturating_add(1);
    let tables = ratios
        .saturating_add(1)
        .saturating_mul(tiles)
        .saturating_mul(width);
    other(batch, patches(vision, width)?);
    other(batch, tables.saturating_mul(tokens.saturating_add(2)));
    // Positions, class token, two norms; three gates.
    other(
        batch,
        width.saturating_mul(tokens.saturating_add(5)).saturating_add(3),
    );
    let kept = vision
        .list("intermediate_layers_indices")
        .map_or(5, |list| list.len() as u64);
    linear(
        batch,
        width.saturating_mul(kept.saturating_add(1)),
        plan.width,
        true,
    );
    Some(())
}

fn gemma4(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    let heads = count(vision, &["num_attention_heads"])?;
    let head_dim = count(vision, &["head_dim"]).filter(|dim| heads.saturating_mul(*dim) == width)?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["num_hidden_layers"])?,
            inner: count(vision, &["intermediate_size"])?,
            gated: true,
            attention_bias: false,
            mlp_bias: false,
            norm: Norm::Weight,
            // Two more norms, and one each for queries and keys.
            extra: width.saturating_add(head_dim).saturating_mul(2),
        },
    );
    other(batch, patches(vision, width)?);
    other(
        batch,
        count(vision, &["position_embedding_size"])?
            .saturating_mul(width)
            .saturating_mul(2),
    );
    batch.plain(PART, width, plan.width, Split::Replicated);
    Some(())
}

fn kimi(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["vt_hidden_size", "hidden_size"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["vt_num_hidden_layers", "num_hidden_layers"])?,
            inner: count(vision, &["vt_intermediate_size", "intermediate_size"])?,
            gated: false,
            attention_bias: true,
            mlp_bias: true,
            norm: Norm::WeightAndBias,
            extra: 0,
        },
    );
    other(batch, patches(vision, width)?.saturating_add(width));
    let (high, wide) = (
        count(vision, &["init_pos_emb_height", "pos_emb_height"])?,
        count(vision, &["init_pos_emb_width", "pos_emb_width"])?,
    );
    other(batch, high.saturating_mul(wide).saturating_mul(width));
    // The norm after the layers and the one before the projector.
    other(batch, width.saturating_mul(4));
    merger(batch, width.saturating_mul(4), plan.width);
    Some(())
}

fn glm4v(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    let output = vision.number(&["out_hidden_size"], plan.width);
    let inner = count(vision, &["intermediate_size"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["depth"])?,
            inner: output,
            gated: true,
            attention_bias: vision.flag("attention_bias"),
            mlp_bias: false,
            norm: Norm::Weight,
            extra: 0,
        },
    );
    let side = count(vision, &["image_size"])?.checked_div(count(vision, &["patch_size"])?)?;
    other(batch, width.saturating_mul(side.saturating_mul(side)));
    other(batch, patches(vision, width)?.saturating_add(width));
    other(batch, width.saturating_mul(2));
    other(
        batch,
        crate::memory::product(&[output, width, merged(vision)]).saturating_add(output),
    );
    linear(batch, output, output, false);
    other(batch, output.saturating_mul(2));
    batch.times(3, |batch| {
        linear(batch, output, inner, false);
    });
    Some(())
}

/// MiniMax-M3 projects each patch, then merges neighbours.
fn minimax_m3(plan: &Plan<'_, '_>, batch: &mut Batch, vision: &Fields<'_>) -> Option<()> {
    let width = count(vision, &["hidden_size"])?;
    blocks(
        batch,
        &Tower {
            width,
            layers: count(vision, &["num_hidden_layers"])?,
            inner: count(vision, &["intermediate_size"])?,
            gated: false,
            attention_bias: true,
            mlp_bias: true,
            norm: Norm::WeightAndBias,
            extra: 0,
        },
    );
    other(batch, patches(vision, width)?);
    other(batch, width.saturating_mul(2));
    let side = vision.number(&["img_token_compression_config.spatial_merge_size"], 2);
    linear(batch, width, plan.width, true);
    linear(batch, plan.width, plan.width, true);
    linear(
        batch,
        plan.width.saturating_mul(side.saturating_mul(side)),
        plan.width,
        true,
    );
    linear(batch, plan.width, plan.width, true);
    Some(())
}
