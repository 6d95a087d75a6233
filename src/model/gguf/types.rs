//! What a tensor type takes, and what a tensor belongs to.
//!
//! The types are data (`catalog/ggml_types.yaml`); the components follow from the names that llama.cpp gives
//! its tensors (`gguf-py/gguf/constants.py`, `TENSOR_NAMES`).

use std::sync::OnceLock;

use super::header::{Broken, Tensor};
use crate::model::Component;

/// `catalog/ggml_types.yaml`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalog {
    /// Where the figures come from.
    #[expect(dead_code, reason = "provenance for readers of the file")]
    source: String,
    types: Vec<TensorType>,
    file_types: Vec<FileType>,
}

/// A block format.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorType {
    id: u32,
    /// The name in ggml: `Q4_K`.
    pub(super) name: String,
    /// Elements of a block.
    elements: u64,
    /// Bytes of a block.
    bytes: u64,
}

/// A value of `general.file_type`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileType {
    id: u32,
    /// The name in file names and tags: `q4_K_M`.
    pub(super) name: String,
    /// Bits of a quantized weight without scales; `None` for 16 and 32 bits.
    pub(super) bits: Option<u32>,
}

impl Catalog {
    /// The catalog; empty if the file that was built in cannot be read, which a test rules out.
    pub(super) fn built_in() -> &'static Self {
        static CATALOG: OnceLock<Catalog> = OnceLock::new();
        CATALOG.get_or_init(|| {
            serde_saphyr::from_str(include_str!("../../../catalog/ggml_types.yaml")).unwrap_or(Self {
                source: String::new(),
                types: Vec::new(),
                file_types: Vec::new(),
            })
        })
    }

    /// The type of a tensor.
    pub(super) fn tensor(&self, id: u32) -> Option<&TensorType> {
        self.types.iter().find(|kind| kind.id == id)
    }

    /// The type of a file.
    pub(super) fn file(&self, id: i128) -> Option<&FileType> {
        self.file_types.iter().find(|kind| i128::from(kind.id) == id)
    }

    /// The number of a file's type by its name, upper and lower case alike.
    pub(super) fn file_named(&self, name: &str) -> Option<i128> {
        let kind = self
            .file_types
            .iter()
            .find(|kind| kind.name.eq_ignore_ascii_case(name));
        kind.map(|kind| i128::from(kind.id))
    }
}

/// Elements and bytes of a tensor, and its type.
pub(super) fn measure(tensor: &Tensor) -> Result<(u64, u64, &'static TensorType), Broken> {
    let Some(kind) = Catalog::built_in().tensor(tensor.type_id) else {
        return Err(format!(
            "the tensor `{}` is of type {}, which is not known",
            tensor.name, tensor.type_id
        ));
    };
    let row = tensor.dims.first().copied().unwrap_or(1);
    if !row.is_multiple_of(kind.elements) {
        return Err(format!(
            "a row of the tensor `{}` has {row} elements, which {} cannot hold: it stores blocks of {}",
            tensor.name, kind.name, kind.elements
        ));
    }
    let elements = tensor
        .dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim));
    elements
        .and_then(|elements| {
            Some((
                elements,
                (elements / kind.elements).checked_mul(kind.bytes)?,
                kind,
            ))
        })
        .ok_or_else(|| {
            format!(
                "the tensor `{}` claims more bytes than can be counted",
                tensor.name
            )
        })
}

/// What a tensor belongs to. `main_layers` are the layers that run without speculative decoding.
pub(super) fn component(name: &str, main_layers: u64) -> Component {
    if let Some((layer, part)) = layer_part(name) {
        if part.starts_with("nextn") || layer >= main_layers {
            return Component::NextN;
        }
        return layer_component(part);
    }
    let stem = name.split('.').next().unwrap_or(name);
    match stem {
        "token_embd" | "position_embd" | "per_layer_token_embd" | "token_types" => Component::Embedding,
        "output" => Component::LmHead,
        "v" | "mm" | "a" | "resampler" => Component::Multimodal,
        _ => Component::Other,
    }
}

/// `blk.7.attn_k.weight`, also below `enc.` and `dec.`, as 7 and `attn_k.weight`.
fn layer_part(name: &str) -> Option<(u64, &str)> {
    let rest = ["blk.", "enc.blk.", "dec.blk."]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))?;
    let (layer, part) = rest.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

fn layer_component(part: &str) -> Component {
    let stem = part.split('.').next().unwrap_or(part);
    if stem.ends_with("_exps") || stem.starts_with("ffn_gate_inp") || stem.starts_with("exp_probs") {
        Component::Experts
    } else if stem.starts_with("ffn") || stem == "layer_output_norm" {
        Component::Mlp
    } else if ["ssm", "shortconv", "time_mix", "channel_mix"]
        .iter()
        .any(|prefix| stem.starts_with(prefix))
    {
        Component::Recurrent
    } else if stem.starts_with("attn") || stem.starts_with("cross_attn") || stem.starts_with("indexer") {
        Component::Attention
    } else {
        Component::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_catalog_is_sane_and_unique() {
        let types = Catalog::built_in();
        assert_eq!((types.types.len(), types.file_types.len()), (35, 34));
        for (at, kind) in types.types.iter().enumerate() {
            assert!(kind.elements.is_power_of_two() && kind.bytes > 0, "{}", kind.name);
            let twin = types
                .types
                .iter()
                .skip(at + 1)
                .find(|other| other.id == kind.id || other.name == kind.name);
            assert!(twin.is_none(), "{}", kind.name);
        }
        for (at, kind) in types.file_types.iter().enumerate() {
            assert!(
                types
                    .file_types
                    .iter()
                    .skip(at + 1)
                    .all(|other| other.id != kind.id),
                "{}",
                kind.name
            );
        }
    }

    #[test]
    fn tensors_are_told_apart_by_name() {
        for (name, expected) in [
            ("token_embd.weight", Component::Embedding),
            ("output.weight", Component::LmHead),
            ("output_norm.weight", Component::Other),
            ("blk.3.attn_k.weight", Component::Attention),
            ("dec.blk.3.cross_attn_k.weight", Component::Attention),
            ("blk.3.ffn_down.weight", Component::Mlp),
            ("blk.3.ffn_down_exps.weight", Component::Experts),
            ("blk.3.ffn_down_shexp.weight", Component::Mlp),
            ("blk.3.ssm_in.weight", Component::Recurrent),
            ("blk.4.attn_k.weight", Component::NextN),
            ("v.blk.0.attn_k.weight", Component::Multimodal),
        ] {
            assert_eq!(component(name, 4), expected, "{name}");
        }
    }
}
