//! From the fields of config.json to the KV layout: what each layer keeps between tokens.
//!
//! In: the fields of the text model. Out: a [`Layout`], or the reason why there is none. Fields decide, not
//! names: a family needs code here only when its fields mean something new. Each step is a file: [`kinds`]
//! says what every layer is, [`attention`] and [`state`] how much such a layer keeps, [`blocks`] and
//! [`compressed`] read the two notations that say both at once.

mod attention;
mod blocks;
mod compressed;
mod dims;
mod encoder;
mod kinds;
mod state;
mod unknown;

use crate::fact::{Fact, Origin};
use crate::memory::layout::{Cache, LayerGroup, Layout, Reach};
use crate::model::{Dims, Refusal};

use super::config::fields::Fields;

pub(crate) use attention::{Shape, is_latent, owns_indexer, shape};
pub(crate) use compressed::ratios;
pub(crate) use dims::dims;
pub(crate) use kinds::{Kind, kinds};
pub(crate) use state::cache as state_cache;
pub(crate) use unknown::hints_at_memory;

/// What one layer keeps: nothing, one cache, or several.
type Kept = Vec<Cache>;

/// The layout of the text model.
pub(crate) fn build(fields: &Fields<'_>, dims: &Dims) -> Result<Layout, Refusal> {
    let kept = match &dims.num_layers {
        Some(layers) if is_left_out(layers, dims) => Err(left_out(fields, layers.value)),
        Some(layers) => keep(fields, dims, layers.value),
        None => Err(missing(fields, "num_hidden_layers")),
    };
    // A field that cannot be right explains more than what follows from it.
    if let Some(refusal) = fields.refusal() {
        return Err(refusal);
    }
    let kept = kept?;
    Ok(Layout {
        num_layers: kept.len() as u64,
        nextn_layers: fields.number(
            &[
                "num_nextn_predict_layers",
                "num_mtp_modules",
                "mtp_num_hidden_layers",
                "mtp_num_layers",
            ],
            0,
        ),
        groups: group(&kept),
    })
}

fn keep(fields: &Fields<'_>, dims: &Dims, layers: u64) -> Result<Vec<Kept>, Refusal> {
    if encoder::caches_nothing(fields) {
        return Ok(vec![Kept::new(); usize::try_from(layers).unwrap_or(0)]);
    }
    unknown::refuse_what_is_not_understood(fields)?;
    let mut kept = if fields.declared("block_configs").is_some() {
        blocks::layers(fields, dims)?
    } else if compressed::applies(fields) {
        compressed::layers(fields, dims, layers)?
    } else {
        by_kind(fields, dims, layers)?
    };
    if encoder::is_beside(fields) {
        let cross = encoder::cross_cache(fields, dims)?;
        for layer in &mut kept {
            layer.push(cross);
        }
    }
    for (index, layer) in kept.iter_mut().enumerate() {
        if reads_anothers_cache(fields, layers, index) {
            layer.clear();
        }
    }
    Ok(kept)
}

/// Layers that say what they are, each with what such a layer keeps.
fn by_kind(fields: &Fields<'_>, dims: &Dims, layers: u64) -> Result<Vec<Kept>, Refusal> {
    let kinds = kinds(fields, layers)?;
    let state = kinds
        .iter()
        .any(|kind| matches!(kind, Kind::Recurrent | Kind::Both))
        .then(|| state::cache(fields, dims))
        .transpose()?;
    kinds
        .iter()
        .enumerate()
        .map(|(layer, kind)| {
            let mut kept = match *kind {
                Kind::Attention(reach) => attention::caches(fields, dims, reach, layer, false)?,
                Kind::Indexed => attention::caches(fields, dims, Reach::Full, layer, true)?,
                Kind::Both => attention::caches(fields, dims, Reach::Full, layer, false)?,
                Kind::Cross => vec![encoder::image_cache(fields, dims)?],
                Kind::Recurrent | Kind::Nothing => Kept::new(),
            };
            if matches!(kind, Kind::Recurrent | Kind::Both) {
                kept.extend(state);
            }
            Ok(kept)
        })
        .collect()
}

/// True for a layer that reads another layer's keys and values and keeps none: the last
/// `num_kv_shared_layers` (Gemma 3n and 4), or all but every `cla_share_factor`-th (Hunyuan).
pub(crate) fn reads_anothers_cache(fields: &Fields<'_>, layers: u64, layer: usize) -> bool {
    let layer = layer as u64;
    let tail = fields.number(&["num_kv_shared_layers"], 0);
    let every = fields.number(&["cla_share_factor"], 1).max(1);
    layer >= layers.saturating_sub(tail) || (fields.flag("use_cla") && !layer.is_multiple_of(every))
}

/// Layers that keep the same thing, together, in the order in which they first appear.
fn group(kept: &[Kept]) -> Vec<LayerGroup> {
    let mut groups: Vec<LayerGroup> = Vec::new();
    for (index, layer) in kept.iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        for cache in layer {
            match groups.iter_mut().find(|group| group.cache == *cache) {
                Some(group) => group.layers.push(index),
                None => groups.push(LayerGroup {
                    cache: *cache,
                    layers: vec![index],
                }),
            }
        }
    }
    groups
}

/// The refusal for a field that nobody supplies.
/// True where a config gives its widths but not its layers. A config that leaves all to its class means the
/// class's number; one that leaves out the number alone has lost it.
fn is_left_out(layers: &Fact<u64>, dims: &Dims) -> bool {
    let declared = |fact: &Option<Fact<u64>>| fact.as_ref().is_some_and(Fact::is_declared);
    matches!(layers.origin, Origin::Default(_)) && declared(&dims.hidden_size) && declared(&dims.num_heads)
}

fn left_out(fields: &Fields<'_>, default: u64) -> Refusal {
    let class = fields.model_type();
    Refusal {
        reason: format!(
            "config.json gives hidden_size and num_attention_heads but no num_hidden_layers; the {default} layers \
             that the class of {class} would take are a guess"
        ),
        span: None,
    }
}

fn missing(fields: &Fields<'_>, what: &str) -> Refusal {
    let model_type = fields.model_type();
    let whose = match (model_type, fields.class().known) {
        ("", _) => "and there is no model_type whose defaults could be used".to_owned(),
        (name, true) => format!("and the class of {name} has no default for it"),
        (name, false) => format!("and {name} is not a model_type with known defaults"),
    };
    Refusal {
        reason: format!("config.json has no {what}, {whose}"),
        span: None,
    }
}
