//! From tensors to totals: bytes by element type and component, and the parameters behind packed tensors.
//!
//! In: the headers of a complete checkpoint. Out: [`Weights`] and a parameter count, both exact. Scales, zero
//! points, index tables and other tensors that only serve a format are bytes but no parameters; a packed tensor
//! counts as the weights it unpacks to. Formats: engines.md section 12, and the layouts named at each case.

use std::collections::{BTreeMap, HashMap};

use super::component::{self, ExtraLayers};
use super::safetensors::Tensor;
use super::{Component, Weights};

/// How packed words split into weights, where the shapes alone do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// Bits of one weight.
    pub bits: u64,
    /// Weights that share a scale.
    pub group_size: Option<u64>,
}

/// The packings that a checkpoint's config states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packings {
    /// The one stated for all modules, then those of further groups.
    pub general: Vec<Packing>,
    /// Those stated for one module by its name (mlx-lm per-layer overrides).
    pub by_module: HashMap<String, Packing>,
}

impl Packings {
    /// Bits of the weights in a row of `words` 32-bit words which has `scales` scales: the first packing stated
    /// that agrees with both lengths, else the first one stated.
    fn bits(&self, module: &str, words: u64, scales: Option<u64>) -> Option<u64> {
        let agrees = |packing: &&Packing| match (packing.group_size, scales) {
            (Some(group), Some(scales)) => {
                u128::from(words) * 32 == u128::from(scales) * u128::from(group) * u128::from(packing.bits)
            }
            _ => true,
        };
        let stated = || self.by_module.get(module).into_iter().chain(&self.general);
        let chosen = stated().find(agrees).or_else(|| stated().next())?;
        (chosen.bits > 0).then_some(chosen.bits)
    }
}

/// The facts of a config that decide what tensors mean.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Where next-token-prediction layers begin.
    pub extra_layers: ExtraLayers,
    /// `tie_word_embeddings`: an output projection in the files repeats the embeddings.
    pub tied: bool,
    /// How packed words split.
    pub packings: Packings,
}

/// Totals of a complete checkpoint. A name that two files hold counts once.
pub fn total(tensors: &[Tensor], reading: &Reading) -> Totals {
    let by_name: HashMap<&str, &Tensor> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let names = Names { by_name, reading };
    let mut totals = Totals {
        parameters: Some(0),
        ..Totals::default()
    };
    for tensor in tensors {
        // Of a repeated name only the copy that the map kept is counted.
        if !names
            .by_name
            .get(tensor.name.as_str())
            .is_some_and(|kept| std::ptr::eq(*kept, tensor))
        {
            continue;
        }
        totals.add(tensor, &names);
    }
    totals
}

/// What [`total`] finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Of these, bytes of an output projection that repeats the embeddings; no engine loads it.
    pub tied_bytes: u64,
    /// Bytes by element type.
    pub by_dtype: BTreeMap<String, u64>,
    /// Bytes by component.
    pub by_component: BTreeMap<Component, u64>,
    /// Parameters of the model that is served: next-token-prediction layers and repeated embeddings are left
    /// out. `None` when a tensor is packed in a way that its header does not tell.
    pub parameters: Option<u64>,
}

impl Totals {
    fn add(&mut self, tensor: &Tensor, names: &Names<'_>) {
        let component = component::of(&tensor.name, names.reading.extra_layers);
        self.bytes = self.bytes.saturating_add(tensor.bytes);
        match self.by_dtype.get_mut(tensor.dtype.as_ref()) {
            Some(sum) => *sum = sum.saturating_add(tensor.bytes),
            None => drop(self.by_dtype.insert(tensor.dtype.to_string(), tensor.bytes)),
        }
        let sum = self.by_component.entry(component).or_default();
        *sum = sum.saturating_add(tensor.bytes);
        if component == Component::LmHead && names.reading.tied {
            self.tied_bytes = self.tied_bytes.saturating_add(tensor.bytes);
        } else if component != Component::NextN {
            let more = names.parameters(tensor);
            self.parameters = self
                .parameters
                .zip(more)
                .map(|(sum, more)| sum.saturating_add(more));
        }
    }

    /// The totals as a model states them.
    pub fn into_weights(self, how: &'static str) -> Weights {
        Weights {
            bytes: Some(self.bytes),
            exact: true,
            how,
            by_dtype: self.by_dtype,
            by_component: self.by_component,
            tied_bytes: self.tied_bytes,
        }
    }
}

/// Last parts of names that serve a format and are never weights.
const AUXILIARY: &[&str] = &[
    "qzeros",
    "g_idx",
    "weight_g_idx",
    "weight_zero_point",
    "weight_shape",
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "weight_global_scale",
    "input_scale",
    "input_global_scale",
    "input_zero_point",
    "activation_scale",
    "output_scale",
    "k_scale",
    "v_scale",
    "q_scale",
    "kv_scale",
    "SCB",
    "weight_format",
    "absmax",
    "quant_map",
    "nested_absmax",
    "nested_quant_map",
    "perm",
    // Buffers, not quantization: rotary tables, attention masks, batch-norm statistics.
    "inv_freq",
    "masked_bias",
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "position_ids",
];

/// All tensors of a checkpoint by name, to ask what stands beside one.
struct Names<'t> {
    by_name: HashMap<&'t str, &'t Tensor>,
    reading: &'t Reading,
}

impl<'t> Names<'t> {
    fn beside(&self, module: &str, leaf: &str) -> Option<&'t Tensor> {
        let name = if module.is_empty() {
            leaf.to_owned()
        } else {
            format!("{module}.{leaf}")
        };
        self.by_name.get(name.as_str()).copied()
    }

    /// Parameters that a tensor holds; `None` when it is packed in a way that the header does not tell.
    fn parameters(&self, tensor: &Tensor) -> Option<u64> {
        let name = tensor.name.as_str();
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        if AUXILIARY.contains(&leaf)
            || name.contains(".quant_state.")
            || self.serves_a_neighbour(module, leaf)
        {
            return Some(0);
        }
        match tensor.dtype.as_ref() {
            "I32" | "U32" => self.in_words(tensor, module, leaf),
            "U8" | "I8" => self.in_bytes(tensor, module, leaf),
            // 64-bit integers and flags are tables: token maps, shapes, masks.
            "I64" | "U64" | "BOOL" => Some(0),
            "I16" | "U16" => (tensor.shape.len() < 2).then_some(0),
            _ if is_mask(tensor, leaf) => Some(0),
            _ => Some(tensor.elements()),
        }
    }

    /// True for scales and biases whose names are those of real parameters elsewhere: only the tensor beside
    /// them tells.
    fn serves_a_neighbour(&self, module: &str, leaf: &str) -> bool {
        let packed = |leaf: &str| {
            self.beside(module, leaf)
                .is_some_and(|tensor| is_quantized(&tensor.dtype))
        };
        match leaf {
            "scales" => packed("qweight") || packed("weight"),
            "biases" | "scale" => packed("weight"),
            _ => {
                let scaled = ["_scale_inv", "_scale"]
                    .iter()
                    .find_map(|end| leaf.strip_suffix(end));
                let blocks = leaf.strip_suffix("_scales").map(|base| format!("{base}_blocks"));
                scaled.is_some_and(packed) || blocks.is_some_and(|blocks| packed(&blocks))
            }
        }
    }

    /// 32-bit words: GPTQ and AWQ `qweight`, compressed-tensors `weight_packed`, mlx `weight`.
    fn in_words(&self, tensor: &Tensor, module: &str, leaf: &str) -> Option<u64> {
        let scales = |leaf| self.beside(module, leaf).map(Tensor::columns);
        let stated = |scales| self.reading.packings.bits(module, tensor.columns(), scales);
        let bits = match leaf {
            // Zero points are packed along the outputs, like nothing else in the file: their width tells the
            // bits without the config. GPTQ packs its weights along the inputs, so scales do not line up.
            "qweight" => self
                .beside(module, "qzeros")
                .zip(scales("scales"))
                .and_then(|(zeros, scales)| zeros.columns().checked_mul(32)?.checked_div(scales))
                .filter(|bits| (2..=8).contains(bits))
                .or_else(|| stated(None))?,
            "weight_packed" => stated(scales("weight_scale"))?,
            "weight" => stated(Some(scales("scales")?))?,
            _ if tensor.shape.len() < 2 => return Some(0),
            _ => return None,
        };
        unpacked(tensor.elements(), 32, bits)
    }

    /// Bytes: two 4-bit weights each (NVFP4, MXFP4, bitsandbytes nf4), or one 8-bit integer.
    fn in_bytes(&self, tensor: &Tensor, module: &str, leaf: &str) -> Option<u64> {
        let elements = tensor.elements();
        let scale = ["_scale", "_scale_inv", "_scales"]
            .iter()
            .find_map(|end| self.beside(module, &format!("{leaf}{end}")));
        let nf4 = self.beside(&tensor.name, "absmax").is_some();
        let halves = match leaf {
            "weight_packed" => true,
            _ if nf4 || leaf.ends_with("_blocks") => true,
            "weight" if tensor.dtype == "U8" && self.beside(module, "SCB").is_none() => {
                scale
                    .or_else(|| self.beside(module, "scale"))
                    .or_else(|| self.beside(module, "scales"))?;
                true
            }
            // An 8-bit float scale is one of a 4-bit block format; integer formats scale in 16 or 32 bits.
            _ if scale
                .or_else(|| self.beside(module, "scale"))
                .is_some_and(|scale| scale.dtype.starts_with("F8_")) =>
            {
                true
            }
            _ if tensor.dtype == "U8" && scale.is_none() => return (tensor.shape.len() < 2).then_some(0),
            _ => false,
        };
        Some(if halves {
            elements.saturating_mul(2)
        } else {
            elements
        })
    }
}

fn is_quantized(dtype: &str) -> bool {
    matches!(dtype, "U8" | "I8" | "U32" | "I32" | "F4") || dtype.starts_with("F8_")
}

/// The causal mask that old GPT checkpoints store as `attn.bias`, 1 x 1 x n x n.
fn is_mask(tensor: &Tensor, leaf: &str) -> bool {
    leaf == "bias" && matches!(*tensor.shape, [1, 1, rows, columns] if rows == columns)
}

fn unpacked(words: u64, word_bits: u64, bits: u64) -> Option<u64> {
    let weights = (u128::from(words) * u128::from(word_bits)).checked_div(u128::from(bits))?;
    Some(u64::try_from(weights).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::safetensors::dtype_bits;

    fn tensor(name: &str, dtype: &'static str, shape: &[u64]) -> Tensor {
        let elements: u64 = shape.iter().product();
        Tensor {
            name: name.into(),
            dtype: dtype.into(),
            shape: shape.to_vec(),
            bytes: elements * dtype_bits(dtype).unwrap() / 8,
        }
    }

    fn linear(tensors: &[(&str, &'static str, &[u64])], packings: Packings) -> Option<u64> {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(leaf, dtype, shape)| tensor(&format!("model.layers.0.mlp.up_proj.{leaf}"), dtype, shape))
            .collect();
        let reading = Reading {
            packings,
            ..Reading::default()
        };
        total(&tensors, &reading).parameters
    }

    fn stated(bits: u64, group: u64) -> Packings {
        Packings {
            general: vec![Packing {
                bits,
                group_size: Some(group),
            }],
            by_module: HashMap::new(),
        }
    }

    /// Every format of one 512 x 1024 linear layer (1024 inputs).
    const WEIGHTS: Option<u64> = Some(512 * 1024);

    #[test]
    fn gptq_and_awq_words_unpack_without_the_config() {
        let none = Packings::default();
        let gptq: [(&str, &str, &[u64]); 4] = [
            ("qweight", "I32", &[1024 / 8, 512]),
            ("qzeros", "I32", &[8, 512 / 8]),
            ("scales", "F16", &[8, 512]),
            ("g_idx", "I32", &[1024]),
        ];
        assert_eq!(linear(&gptq, none.clone()), WEIGHTS);
        let awq: [(&str, &str, &[u64]); 3] = [
            ("qweight", "I32", &[1024, 512 / 8]),
            ("qzeros", "I32", &[8, 512 / 8]),
            ("scales", "F16", &[8, 512]),
        ];
        assert_eq!(linear(&awq, none), WEIGHTS);
        let three_bits: [(&str, &str, &[u64]); 3] = [
            ("qweight", "I32", &[1024 * 3 / 32, 512]),
            ("qzeros", "I32", &[8, 512 * 3 / 32]),
            ("scales", "F16", &[8, 512]),
        ];
        assert_eq!(linear(&three_bits, stated(4, 128)), WEIGHTS);
    }

    #[test]
    fn compressed_tensors_words_take_the_group_that_fits_the_shapes() {
        let packed: [(&str, &str, &[u64]); 3] = [
            ("weight_packed", "I32", &[512, 1024 / 4]),
            ("weight_scale", "BF16", &[512, 32]),
            ("weight_shape", "I64", &[2]),
        ];
        let mut packings = stated(4, 128);
        packings.general.push(Packing {
            bits: 8,
            group_size: Some(32),
        });
        assert_eq!(linear(&packed, packings), WEIGHTS);
    }

    #[test]
    fn mlx_words_follow_the_modules_own_override() {
        let eight_bit: [(&str, &str, &[u64]); 3] = [
            ("weight", "U32", &[512, 1024 / 4]),
            ("scales", "BF16", &[512, 16]),
            ("biases", "BF16", &[512, 16]),
        ];
        let mut packings = stated(4, 64);
        packings.by_module.insert(
            "model.layers.0.mlp.up_proj".into(),
            Packing {
                bits: 8,
                group_size: Some(64),
            },
        );
        assert_eq!(linear(&eight_bit, packings), WEIGHTS);
        assert_eq!(
            linear(&eight_bit, Packings::default()),
            None,
            "nothing tells the bits"
        );
    }

    #[test]
    fn four_bit_floats_are_two_to_a_byte_and_their_scales_are_no_parameters() {
        let none = Packings::default;
        let modelopt: [(&str, &str, &[u64]); 4] = [
            ("weight", "U8", &[512, 512]),
            ("weight_scale", "F8_E4M3", &[512, 64]),
            ("weight_scale_2", "F32", &[]),
            ("input_scale", "F32", &[]),
        ];
        assert_eq!(linear(&modelopt, none()), WEIGHTS);
        let compressed: [(&str, &str, &[u64]); 3] = [
            ("weight_packed", "U8", &[512, 512]),
            ("weight_scale", "F8_E4M3", &[512, 64]),
            ("weight_global_scale", "F32", &[1]),
        ];
        assert_eq!(linear(&compressed, none()), WEIGHTS);
        let deepseek: [(&str, &str, &[u64]); 2] =
            [("weight", "I8", &[512, 512]), ("scale", "F8_E8M0", &[512, 32])];
        assert_eq!(linear(&deepseek, none()), WEIGHTS);
        let nf4: [(&str, &str, &[u64]); 4] = [
            ("weight", "U8", &[512 * 512, 1]),
            ("weight.absmax", "U8", &[8192]),
            ("weight.quant_map", "F32", &[16]),
            ("weight.quant_state.bitsandbytes__nf4", "U8", &[90]),
        ];
        assert_eq!(linear(&nf4, none()), WEIGHTS);
        let gpt_oss = [
            tensor("model.layers.0.mlp.experts.up_proj_blocks", "U8", &[512, 32, 16]),
            tensor("model.layers.0.mlp.experts.up_proj_scales", "U8", &[512, 32]),
        ];
        assert_eq!(total(&gpt_oss, &Reading::default()).parameters, WEIGHTS);
    }

    #[test]
    fn eight_bit_weights_count_one_each_and_their_scales_none() {
        let none = Packings::default;
        let fp8: [(&str, &str, &[u64]); 2] = [
            ("weight", "F8_E4M3", &[512, 1024]),
            ("weight_scale_inv", "F32", &[4, 8]),
        ];
        assert_eq!(linear(&fp8, none()), WEIGHTS);
        let int8: [(&str, &str, &[u64]); 2] = [
            ("weight", "I8", &[512, 1024]),
            ("weight_scale", "BF16", &[512, 1]),
        ];
        assert_eq!(linear(&int8, none()), WEIGHTS);
        let bnb: [(&str, &str, &[u64]); 3] = [
            ("weight", "I8", &[512, 1024]),
            ("SCB", "F32", &[512]),
            ("weight_format", "U8", &[]),
        ];
        assert_eq!(linear(&bnb, none()), WEIGHTS);
    }

    #[test]
    fn unknown_packings_give_no_count_rather_than_a_wrong_one() {
        let exl2: [(&str, &str, &[u64]); 2] = [("q_weight", "I32", &[100, 512]), ("q_groups", "I16", &[16])];
        assert_eq!(linear(&exl2, Packings::default()), None);
    }

    #[test]
    fn a_scale_that_belongs_to_no_packed_weight_is_a_parameter() {
        let norm: [(&str, &str, &[u64]); 2] = [("weight", "BF16", &[64]), ("scale", "BF16", &[64])];
        assert_eq!(linear(&norm, Packings::default()), Some(128));
    }

    #[test]
    fn masks_and_rotary_tables_are_bytes_but_no_parameters() {
        let tensors = [
            tensor("h.0.attn.bias", "F32", &[1, 1, 64, 64]),
            tensor("h.0.attn.masked_bias", "F32", &[]),
            tensor("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", &[64]),
            tensor("h.0.attn.c_attn.bias", "F32", &[192]),
        ];
        let totals = total(&tensors, &Reading::default());
        assert_eq!(
            (totals.parameters, totals.bytes),
            (Some(192), 4 * (4096 + 1 + 64 + 192))
        );
    }

    #[test]
    fn a_tied_output_and_extra_layers_are_bytes_but_no_parameters() {
        let tensors = [
            tensor("model.embed_tokens.weight", "BF16", &[100, 8]),
            tensor("lm_head.weight", "BF16", &[100, 8]),
            tensor("model.layers.2.mlp.up_proj.weight", "BF16", &[8, 8]),
        ];
        let reading = Reading {
            tied: true,
            extra_layers: ExtraLayers { first: 2, count: 1 },
            ..Reading::default()
        };
        let totals = total(&tensors, &reading);
        assert_eq!(
            (totals.bytes, totals.tied_bytes, totals.parameters),
            (3328, 1600, Some(800))
        );
        assert_eq!(totals.by_component[&Component::NextN], 128);
    }

    #[test]
    fn a_tensor_that_two_files_hold_counts_once() {
        let twice = [tensor("a.weight", "BF16", &[4]), tensor("a.weight", "BF16", &[4])];
        let totals = total(&twice, &Reading::default());
        assert_eq!((totals.bytes, totals.parameters), (8, Some(4)));
    }
}
