//! What each layer is: full attention, a window, a chunk, a recurrent mixer, both, or nothing that caches.
//!
//! Configs say it in a dozen notations. Each notation is one function here, tried from the most explicit to the
//! least; the first one that a config uses decides.

use crate::fact::Fact;
use crate::memory::layout::Reach;
use crate::model::Refusal;
use crate::model::config::fields::{Fields, Found};
use crate::source::Span;
use crate::source::tree::{Node, Shape};

use super::dims;

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Attention over so much of the past.
    Attention(Reach),
    /// Attention whose tokens are chosen by an indexer with keys of its own.
    Indexed,
    /// A mixer with a state of fixed size.
    Recurrent,
    /// Attention and such a mixer side by side.
    Both,
    /// Attention over an image's tokens only.
    Cross,
    /// Feed-forward only.
    Nothing,
}

type Reading = Option<Result<Vec<Kind>, Refusal>>;

/// The kinds of `layers` layers.
pub(crate) fn kinds(fields: &Fields<'_>, layers: u64) -> Result<Vec<Kind>, Refusal> {
    let readings = [
        by_letters,
        by_names,
        by_numbers,
        by_repeated_block,
        by_listed_layers,
        by_period,
        by_recurrence_alone,
        by_chunks,
        by_window,
    ];
    readings
        .iter()
        .find_map(|reading| reading(fields, layers))
        .unwrap_or_else(|| Ok(every(layers, |_| Kind::Attention(Reach::Full))))
}

/// The window of the layers that slide, if the model uses one.
pub(super) fn window(fields: &Fields<'_>) -> Option<Fact<u64>> {
    if fields.switch("use_sliding_window") == Some(false) {
        return None;
    }
    declared_window(fields)
}

/// The window in tokens, the current one counted. `sliding_window_size` counts those before it only.
///
/// Source: transformers 5.20 `configuration_mimo_v2_flash.py`, `__post_init__`.
fn declared_window(fields: &Fields<'_>) -> Option<Fact<u64>> {
    let before = fields
        .count(&["sliding_window_size"])
        .map(|fact| fact.map(|tokens| tokens.saturating_add(1)));
    before
        .or_else(|| fields.count(&["sliding_window", "attention_window_size"]))
        .filter(|fact| fact.value > 0)
}

fn every(layers: u64, kind: impl Fn(u64) -> Kind) -> Vec<Kind> {
    (0..layers).map(kind).collect()
}

/// `hybrid_override_pattern: "M-M*E"` (Nemotron-H): Mamba, MLP, attention, experts.
fn by_letters(fields: &Fields<'_>, layers: u64) -> Reading {
    let node = fields.declared("hybrid_override_pattern")?;
    let text = node.text()?;
    let letter = |letter| match letter {
        'M' => Ok(Kind::Recurrent),
        '*' => Ok(Kind::Attention(Reach::Full)),
        '-' | 'E' => Ok(Kind::Nothing),
        other => Err(Refusal {
            reason: format!("the letter {other:?} of hybrid_override_pattern is not a known kind of layer"),
            span: Some(node.span()),
        }),
    };
    let kinds: Result<Vec<Kind>, Refusal> = text.chars().map(letter).collect();
    Some(kinds.and_then(|kinds| fitted(fields, kinds, layers, "hybrid_override_pattern", node)))
}

/// `layer_types` and its older names: one word a layer.
fn by_names(fields: &Fields<'_>, layers: u64) -> Reading {
    let (key, node) = ["layer_types", "layers_block_type", "attention_layers"]
        .iter()
        .find_map(|key| Some((*key, fields.declared(key)?)))
        .filter(|(_, node)| node.shape() == Shape::Sequence && node.items().next().is_some())?;
    let kinds: Result<Vec<Kind>, Refusal> = node.items().map(|item| named(fields, key, item)).collect();
    let kinds = kinds.and_then(|kinds| fitted(fields, kinds, layers, key, node));
    Some(kinds.map(|mut kinds| {
        if fields.flag("last_layer_full")
            && let Some(last) = kinds.last_mut()
        {
            // Gemma 4 makes its last layer global whatever the list says.
            *last = Kind::Attention(Reach::Full);
        }
        kinds
    }))
}

fn named(fields: &Fields<'_>, key: &str, item: Node<'_>) -> Result<Kind, Refusal> {
    let name = item.text().unwrap_or("");
    Ok(match name {
        "full_attention" | "attention" | "full" | "global" | "global_attention" => {
            Kind::Attention(Reach::Full)
        }
        "sliding_attention" | "sliding" | "sliding_window" | "sliding_window_attention" => {
            Kind::Attention(sliding(fields, item)?)
        }
        // GPT-Neo masks its local layers but caches them like the others.
        "local" => Kind::Attention(Reach::Full),
        "local_attention" => Kind::Attention(sliding(fields, item)?),
        "chunked_attention" => Kind::Attention(Reach::Chunk(chunk(fields).ok_or_else(|| Refusal {
            reason: "a layer attends in chunks, but there is no attention_chunk_size".to_owned(),
            span: Some(item.span()),
        })?)),
        "linear_attention" | "mamba" | "mamba2" | "recurrent" | "conv" | "short_conv" | "kda" => {
            Kind::Recurrent
        }
        "indexed_attention"
        | "deepseek_sparse_attention"
        | "minimax_m3_sparse"
        | "sparse_attention"
        | "sparse" => Kind::Indexed,
        "hybrid" => Kind::Both,
        "mlp" | "moe" => Kind::Nothing,
        _ => {
            return Err(Refusal {
                reason: format!("{name:?} in {key} is not a known kind of layer"),
                span: Some(item.span()),
            });
        }
    })
}

fn sliding(fields: &Fields<'_>, place: Node<'_>) -> Result<Reach, Refusal> {
    let declared = declared_window(fields);
    declared.map(|fact| Reach::Window(fact.value)).ok_or_else(|| {
        fields.wrong(
            place.span(),
            "a layer slides, but config.json has no sliding_window",
            "this layer needs a window",
        );
        Refusal {
            reason: "a layer slides, but config.json has no sliding_window".to_owned(),
            span: Some(place.span()),
        }
    })
}

fn chunk(fields: &Fields<'_>) -> Option<u64> {
    fields
        .count(&["attention_chunk_size"])
        .map(|fact| fact.value)
        .filter(|size| *size > 0)
}

/// Lists of 0 and 1: `hybrid_layer_pattern` (MiMo: 1 slides), `attn_type_list` (MiniMax-01: 0 is linear),
/// `sparse_attention_config.sparse_attention_freq` (MiniMax-M3: 1 has an indexer).
fn by_numbers(fields: &Fields<'_>, layers: u64) -> Reading {
    let (key, zero, one) = if fields.list("hybrid_layer_pattern").is_some() {
        let slides = window(fields).map_or(Reach::Full, |fact| Reach::Window(fact.value));
        (
            "hybrid_layer_pattern",
            Kind::Attention(Reach::Full),
            Kind::Attention(slides),
        )
    } else if fields.list("attn_type_list").is_some() {
        ("attn_type_list", Kind::Recurrent, Kind::Attention(Reach::Full))
    } else {
        let key = "sparse_attention_config.sparse_attention_freq";
        fields.list(key)?;
        (key, Kind::Attention(Reach::Full), Kind::Indexed)
    };
    let node = fields.declared(key)?;
    let kind = |item| {
        Some(if fields.count_of(key, item)? == 0 {
            zero
        } else {
            one
        })
    };
    let kinds: Option<Vec<Kind>> = node.items().map(kind).collect();
    Some(match kinds {
        Some(kinds) => fitted(fields, kinds, layers, key, node),
        None => Err(Refusal {
            reason: format!("{key} holds something other than counts"),
            span: Some(node.span()),
        }),
    })
}

/// `block_types: [recurrent, recurrent, attention]` (RecurrentGemma), repeated over the layers.
fn by_repeated_block(fields: &Fields<'_>, layers: u64) -> Reading {
    let is_recurrent_gemma = fields.count(&["attention_window_size"]).is_some();
    let declared = fields.list("block_types").or_else(|| fields.list("_block_types"));
    let attends = match declared {
        Some(items) if !items.is_empty() => items
            .iter()
            .map(|item| item.text() == Some("attention"))
            .collect(),
        _ if is_recurrent_gemma => vec![false, false, true],
        _ => return None,
    };
    let reach = window(fields).map_or(Reach::Full, |fact| Reach::Window(fact.value));
    let kinds = attends.iter().cycle().take(usize::try_from(layers).unwrap_or(0));
    Some(Ok(kinds
        .map(|attends| {
            if *attends {
                Kind::Attention(reach)
            } else {
                Kind::Recurrent
            }
        })
        .collect()))
}

/// Lists of layer numbers: which attend (LFM2, Bamba, Kimi Linear), are hybrid (Zamba) or look at images.
fn by_listed_layers(fields: &Fields<'_>, layers: u64) -> Reading {
    let full = Kind::Attention(Reach::Full);
    let notations = [
        ("linear_attn_config.full_attn_layers", full, Kind::Recurrent),
        ("full_attn_idxs", full, Kind::Recurrent),
        ("attn_layer_indices", full, Kind::Recurrent),
        ("cross_attention_layers", Kind::Cross, full),
        ("hybrid_layer_ids", Kind::Both, Kind::Recurrent),
    ];
    let (key, listed, inside, outside) = notations
        .into_iter()
        .find_map(|(key, inside, outside)| Some((key, fields.counts(key)?, inside, outside)))?;
    // Kimi Linear counts layers from 1.
    let first = u64::from(key == "linear_attn_config.full_attn_layers");
    if let Some(beyond) = listed
        .iter()
        .find(|layer| **layer >= layers + first || **layer < first)
    {
        return Some(Err(beyond_the_last(fields, key, *beyond, layers)));
    }
    Some(Ok(every(layers, |layer| {
        if listed.contains(&(layer + first)) {
            inside
        } else {
            outside
        }
    })))
}

fn beyond_the_last(fields: &Fields<'_>, key: &str, named: u64, layers: u64) -> Refusal {
    let reason = format!("{key} names layer {named}, but the model has {layers} layers");
    let span = fields.declared(key).map(Node::span);
    if let Some(span) = span {
        let label = format!("names layer {named}");
        fields.contradiction(span, &reason, &label, layer_count(fields, layers).as_ref());
    }
    Refusal { reason, span }
}

/// Where the config counts its layers.
fn layer_count(fields: &Fields<'_>, layers: u64) -> Option<(Span, String)> {
    ["num_hidden_layers", "n_layer", "num_layers"]
        .iter()
        .find_map(|key| fields.declared(key))
        .map(|node| (node.span(), format!("{layers} layers")))
}

/// Every n-th layer attends, the others keep a state: Qwen3-Next, Jamba; or every layer does both: Falcon-H1.
fn by_period(fields: &Fields<'_>, layers: u64) -> Reading {
    let full = Kind::Attention(Reach::Full);
    let pick = |attends: bool| if attends { full } else { Kind::Recurrent };
    if let Some(interval) = fields.positive(&["full_attention_interval"]) {
        let interval = interval.value;
        let offset = fields.number(&["full_attention_offset"], interval.saturating_sub(1));
        return Some(Ok(every(layers, |layer| pick(layer % interval == offset))));
    }
    if let Some(period) = fields.positive(&["attn_layer_period"]) {
        let offset = fields.number(&["attn_layer_offset"], 0);
        return Some(Ok(every(layers, |layer| pick(layer % period.value == offset))));
    }
    let both = fields.switch("mamba_rms_norm").is_some() || fields.declared("mamba_d_ssm").is_some();
    if both {
        return Some(Ok(every(layers, |_| Kind::Both)));
    }
    // Granite hybrids and Bamba without any list are all Mamba.
    let mamba = fields.count(&["mamba_n_heads"]).is_some() && fields.count(&["mamba_d_state"]).is_some();
    mamba.then(|| Ok(every(layers, |_| Kind::Recurrent)))
}

/// Mamba and RWKV: no attention at all.
fn by_recurrence_alone(fields: &Fields<'_>, layers: u64) -> Reading {
    dims::is_headless(fields).then(|| Ok(every(layers, |_| Kind::Recurrent)))
}

/// Llama 4: layers without rotary positions see everything, the others one chunk.
fn by_chunks(fields: &Fields<'_>, layers: u64) -> Reading {
    let size = chunk(fields)?;
    let local = |rotary: bool| Kind::Attention(if rotary { Reach::Chunk(size) } else { Reach::Full });
    if let Some(node) = fields.declared("no_rope_layers")
        && node.items().next().is_some()
    {
        let kinds = node.items().map(|item| local(item.as_u64() != Some(0))).collect();
        return Some(fitted(fields, kinds, layers, "no_rope_layers", node));
    }
    let interval = fields.positive(&["no_rope_layer_interval"])?.value;
    Some(Ok(every(layers, |layer| local((layer + 1) % interval != 0))))
}

/// A window on some layers, by whatever rule says on which.
fn by_window(fields: &Fields<'_>, layers: u64) -> Reading {
    let reach = Reach::Window(window(fields)?.value);
    let pick = |slides: bool| Kind::Attention(if slides { reach } else { Reach::Full });
    match fields.find(&["sliding_window_pattern", "_sliding_window_pattern"]) {
        Found::Here(_, node) if node.shape() == Shape::Sequence => {
            let kinds = node
                .items()
                .map(|item| pick(item.as_bool() == Some(true)))
                .collect();
            return Some(fitted(fields, kinds, layers, "sliding_window_pattern", node));
        }
        // "LLLG": local and global layers, repeated.
        Found::Here(_, node) if node.as_u64().is_none() => {
            let letters: Vec<bool> = node.text()?.chars().map(|letter| letter == 'L').collect();
            let cycle = letters.iter().cycle().take(usize::try_from(layers).unwrap_or(0));
            return Some(Ok(cycle.map(|slides| pick(*slides)).collect()));
        }
        _ => {}
    }
    if let Some(pattern) = fields.count(&["sliding_window_pattern", "_sliding_window_pattern"]) {
        let n = pattern.value;
        let phase = fields.number(&["full_layer_phase"], n.saturating_sub(1));
        let ends = [
            ("first_layer_full", 0),
            ("last_layer_full", layers.saturating_sub(1)),
        ];
        let is_end = |layer| ends.iter().any(|(key, end)| *end == layer && fields.flag(key));
        // Every n-th layer is full; 1 or 0 leaves no layer that slides.
        let slides = |layer| n > 1 && layer % n != phase && !is_end(layer);
        return Some(Ok(every(layers, |layer| pick(slides(layer)))));
    }
    if let Some(first) = fields.count(&["max_window_layers"]) {
        return Some(Ok(every(layers, |layer| pick(layer >= first.value))));
    }
    Some(Ok(every(layers, |_| pick(true))))
}

/// A list must name as many layers as the model has; entries for next-token-prediction layers may follow.
fn fitted(
    fields: &Fields<'_>,
    mut kinds: Vec<Kind>,
    layers: u64,
    key: &str,
    node: Node<'_>,
) -> Result<Vec<Kind>, Refusal> {
    let named = kinds.len() as u64;
    let extra = fields.number(&["num_nextn_predict_layers", "num_mtp_modules"], 0);
    if named >= layers && named <= layers.saturating_add(extra) {
        kinds.truncate(usize::try_from(layers).unwrap_or(usize::MAX));
        return Ok(kinds);
    }
    let reason = format!("{key} names {named} layers, but the model has {layers}");
    let count = layer_count(fields, layers);
    fields.contradiction(node.span(), &reason, &format!("{named} layers"), count.as_ref());
    Err(Refusal {
        reason,
        span: Some(node.span()),
    })
}
