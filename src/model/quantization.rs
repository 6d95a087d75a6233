//! How published weights are quantized, and what named weight formats really take per weight.
//!
//! In: the tree of config.json, and of `hf_quant_config.json` where a checkpoint has one. Out: a
//! [`Quantization`] with the place that decides it. The bits of named formats are data, in
//! `catalog/formats.yaml`.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::fact::Fact;
use crate::source::Span;
use crate::source::tree::{Node, Shape};

/// A weight format with the numbers that decide its bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// The method as engines name it: `gptq`, `awq`, `fp8`, `compressed-tensors`, `modelopt`, `mxfp4`,
    /// `bitsandbytes`, `mlx`, `q4_K_M`, ...
    pub method: String,
    /// Bits of one quantized weight, scales not counted. Of a checkpoint that mixes formats the fewest; 16 when
    /// a method is named without its bits, so that nothing is taken to be smaller than it is.
    pub bits: f64,
    /// Weights that share a scale (16,384 for blocks of 128 x 128); `None` for per-tensor and per-channel
    /// scales.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_size: Option<u64>,
    /// True for float elements (fp8, nvfp4, mxfp4), false for integers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub float: bool,
}

impl Quantization {
    /// A short name for reports: `awq int4`, `compressed-tensors fp8`, `modelopt nvfp4`, `q4_K_M`.
    pub fn name(&self) -> String {
        let method = &self.method;
        // A method with a digit (`fp8`, `mxfp4`, `q4_K_M`) says its format itself.
        if method.contains(|c: char| c.is_ascii_digit()) {
            return method.clone();
        }
        format!("{method} {}", self.element())
    }

    /// The element alone: `int4`, `fp8`, `nvfp4`, `mxfp4`.
    pub fn element(&self) -> String {
        let bits = self.bits;
        match (self.float, self.group_size) {
            (true, Some(16)) if bits <= 4.0 => "nvfp4".to_owned(),
            (true, Some(32)) => format!("mxfp{bits}"),
            (true, _) => format!("fp{bits}"),
            (false, _) => format!("int{bits}"),
        }
    }

    /// Bits of one weight with its share of scales and zero points (engines.md sections 8 and 12).
    pub fn real_bits_per_weight(&self) -> f64 {
        let Some(group) = self.group_size.filter(|group| *group > 0) else {
            return self.bits;
        };
        let per_group = match (self.method.as_str(), self.float) {
            ("gptq" | "awq" | "auto-round", false) => 16.0 + self.bits,
            // mlx: a 16-bit scale and a 16-bit bias. bitsandbytes: a 32-bit absmax.
            ("mlx", false) | ("bitsandbytes", _) => 32.0,
            ("bitsandbytes-double", _) => 8.0 + 32.0 / 256.0,
            // One byte a scale in the block formats, a 32-bit float for a block of 128 x 128.
            (_, true) if group > 32 => 32.0,
            (_, true) => 8.0,
            _ => 16.0,
        };
        self.bits + per_group / group as f64
    }
}

/// Keys under which a config nests its text model (engines.md section 11).
const NESTED: &[&[&str]] = &[
    &[],
    &["text_config"],
    &["llm_config"],
    &["language_config"],
    &["thinker_config", "text_config"],
];

/// The quantization that a checkpoint publishes. `config` is the top of config.json, `hf_quant` that of
/// `hf_quant_config.json`, which counts only when config.json says nothing, as in vLLM 0.33
/// (`transformers_utils/config.py`, `get_config`).
pub fn read(config: Node<'_>, hf_quant: Option<Node<'_>>) -> Option<Fact<Quantization>> {
    for path in NESTED {
        let Some(model) = config.at(path) else { continue };
        let mlx = model
            .get("quantization")
            .filter(|node| node.shape() == Shape::Mapping);
        let section = |key| {
            model
                .get(key)
                .filter(|node: &Node<'_>| node.shape() == Shape::Mapping)
        };
        let found = section("quantization_config")
            .or_else(|| section("compression_config"))
            .and_then(|node| read_section(node, "mlx"))
            .or_else(|| mlx.and_then(|node| read_section(node, "mlx")));
        if found.is_some() {
            return found;
        }
    }
    let section = hf_quant?;
    read_section(section.get("quantization").unwrap_or(section), "modelopt")
}

/// One section. `unnamed` is the method of a section that states bits and no method: mlx-lm writes such a
/// `quantization_config`, `AutoGPTQ` such a `quantize_config.json`.
pub fn read_section(section: Node<'_>, unnamed: &str) -> Option<Fact<Quantization>> {
    let named = section.get("quant_method").filter(|node| node.text().is_some());
    if let Some(algorithm) = section.get("quant_algo").filter(|node| node.text().is_some()) {
        return modelopt(section, algorithm);
    }
    let method = match named.and_then(Node::text) {
        Some(text) => text
            .to_ascii_lowercase()
            .replace("compressed_tensors", "compressed-tensors"),
        None if section.get("w_bit").is_some() => "awq".to_owned(),
        None if section.get("config_groups").is_some() => "compressed-tensors".to_owned(),
        None if section
            .get("load_in_4bit")
            .or(section.get("load_in_8bit"))
            .is_some() =>
        {
            "bitsandbytes".to_owned()
        }
        None if section.get("desc_act").is_some() => "gptq".to_owned(),
        None if section.get("bits").is_some() => unnamed.to_owned(),
        None => return None,
    };
    let fallback = named.map_or_else(|| section.span(), Node::span);
    let format = match method.as_str() {
        "compressed-tensors" => fewest_bits(groups(section)),
        "bitsandbytes" => bitsandbytes(section),
        "fp8" => Some(fp8_blocks(section, fallback)),
        "mxfp4" => Some(Format::float(4.0, Some(32), fallback)),
        "quark" => quark(section),
        _ => stated(section).or_else(|| elsewhere(section)),
    };
    let format = format.or_else(|| by_name(&method, fallback)).unwrap_or(Format {
        bits: 16.0,
        group_size: None,
        float: false,
        span: fallback,
    });
    Some(format.of(method))
}

/// Bits, group and kind, and the characters that decide them.
#[derive(Debug, Clone, Copy)]
struct Format {
    bits: f64,
    group_size: Option<u64>,
    float: bool,
    span: Span,
}

impl Format {
    fn int(bits: f64, group_size: Option<u64>, span: Span) -> Self {
        Self {
            bits,
            group_size,
            float: false,
            span,
        }
    }

    fn float(bits: f64, group_size: Option<u64>, span: Span) -> Self {
        Self {
            float: true,
            ..Self::int(bits, group_size, span)
        }
    }

    fn of(self, method: String) -> Fact<Quantization> {
        let quantization = Quantization {
            method,
            bits: self.bits,
            group_size: self.group_size,
            float: self.float,
        };
        Fact::at(quantization, self.span)
    }
}

fn fewest_bits(formats: impl Iterator<Item = Format>) -> Option<Format> {
    formats.reduce(|fewest, next| if next.bits < fewest.bits { next } else { fewest })
}

/// `-1` and null mean one scale a channel.
fn group_size(section: Node<'_>) -> Option<u64> {
    ["group_size", "q_group_size"]
        .iter()
        .find_map(|key| section.get(key)?.as_u64())
        .filter(|group| *group > 0)
}

/// `bits` and its other spellings beside `group_size`: GPTQ, AWQ, mlx, HQQ, `AutoRound`, EXL2.
fn stated(section: Node<'_>) -> Option<Format> {
    let bits = ["bits", "w_bit", "num_bits", "weight_bits", "nbits"]
        .iter()
        .find_map(|key| section.get(key).filter(|node| sensible(*node).is_some()))?;
    let mode = section.get("mode").and_then(Node::text).unwrap_or("");
    let kind = section.get("data_type").and_then(Node::text).unwrap_or("");
    let float = mode.contains("fp") || kind.contains("fp");
    Some(Format {
        float,
        ..Format::int(sensible(bits)?, group_size(section), bits.span())
    })
}

/// Where other methods of transformers keep their bits: HQQ, quanto, torchao.
fn elsewhere(section: Node<'_>) -> Option<Format> {
    let hqq = || stated(section.at(&["quant_config", "weight_quant_params"])?);
    let named = |path: &[&str], group| {
        let node = section.at(path)?;
        let format = by_name(node.text()?, node.span())?;
        Some(Format {
            group_size: format.group_size.or(group),
            ..format
        })
    };
    let group = section
        .at(&["quant_type", "default", "_data"])
        .and_then(group_size);
    hqq()
        .or_else(|| named(&["weights"], None))
        .or_else(|| named(&["quant_type", "default", "_type"], group))
        .or_else(|| named(&["quant_type"], None))
}

fn sensible(bits: Node<'_>) -> Option<f64> {
    bits.as_f64().filter(|bits| *bits > 0.0 && *bits <= 64.0)
}

/// The weights of each of compressed-tensors' `config_groups`.
fn groups(section: Node<'_>) -> impl Iterator<Item = Format> {
    let groups = section.get("config_groups");
    let formats = groups
        .into_iter()
        .flat_map(Node::entries)
        .filter_map(|(_, group)| {
            let weights = group.get("weights")?;
            let bits = weights.get("num_bits")?;
            let float = weights.get("type").and_then(Node::text) == Some("float");
            // `block_structure: [128, 128]` shares a scale between all weights of the block.
            let group = group_size(weights).or_else(|| area(weights.get("block_structure")?));
            Some(Format {
                float,
                ..Format::int(sensible(bits)?, group, bits.span())
            })
        });
    formats.collect::<Vec<_>>().into_iter()
}

fn area(sides: Node<'_>) -> Option<u64> {
    let sides: Option<Vec<u64>> = sides.items().map(Node::as_u64).collect();
    let area = sides
        .filter(|sides| !sides.is_empty())?
        .iter()
        .fold(1, |area: u64, side| area.saturating_mul(*side));
    (area > 0).then_some(area)
}

fn fp8_blocks(section: Node<'_>, fallback: Span) -> Format {
    let blocks = section.get("weight_block_size");
    let span = blocks.filter(|node| !node.is_null()).map_or(fallback, Node::span);
    Format::float(8.0, blocks.and_then(area), span)
}

fn bitsandbytes(section: Node<'_>) -> Option<Format> {
    let on = |key: &str| section.get(key).filter(|node| node.as_bool() == Some(true));
    // bitsandbytes `Linear4bit`: blocks of 64; `Linear8bitLt`: a scale a row.
    let four = on("load_in_4bit").or_else(|| on("_load_in_4bit")).map(|node| {
        let quant_type = section
            .get("bnb_4bit_quant_type")
            .and_then(Node::text)
            .unwrap_or("");
        Format {
            float: quant_type == "fp4",
            ..Format::int(4.0, Some(64), node.span())
        }
    });
    let eight = || on("load_in_8bit").or_else(|| on("_load_in_8bit"));
    four.or_else(|| eight().map(|node| Format::int(8.0, None, node.span())))
}

/// AMD Quark: `global_quant_config.weight {dtype, group_size}`.
fn quark(section: Node<'_>) -> Option<Format> {
    let weight = section.at(&["global_quant_config", "weight"])?;
    // A list of two stages (fp8 over int4) is as wide as its narrower one.
    let stages: Vec<_> = if weight.shape() == Shape::Sequence {
        weight.items().collect()
    } else {
        vec![weight]
    };
    fewest_bits(stages.into_iter().filter_map(|stage| {
        let dtype = stage.get("dtype")?;
        let format = by_name(dtype.text()?, dtype.span())?;
        Some(Format {
            group_size: group_size(stage),
            ..format
        })
    }))
}

/// NVIDIA `modelopt`: `quant_algo`, or the algorithm of each layer where it says `MIXED_PRECISION`.
fn modelopt(section: Node<'_>, algorithm: Node<'_>) -> Option<Fact<Quantization>> {
    let of = |node: Node<'_>, group| algorithm_format(node.text()?, group, node.span());
    let layers = section
        .get("quantized_layers")
        .into_iter()
        .flat_map(Node::entries);
    let layers = layers.filter_map(|(_, layer)| of(layer.get("quant_algo")?, group_size(layer)));
    let format = of(algorithm, group_size(section))
        .or_else(|| fewest_bits(layers))
        .or_else(|| fewest_bits(groups(section)))?;
    Some(format.of("modelopt".to_owned()))
}

/// Its names (`modelopt/torch/export/quant_utils.py`). The group of the block formats is fixed.
fn algorithm_format(name: &str, group: Option<u64>, span: Span) -> Option<Format> {
    let name = name.to_ascii_uppercase();
    Some(match name.as_str() {
        "FP8_PB_WO" | "FP8_PB_REAL" => Format::float(8.0, Some(128 * 128), span),
        _ if name.contains("NVFP4") => Format::float(4.0, Some(16), span),
        _ if name.contains("MXFP4") => Format::float(4.0, Some(32), span),
        _ if name.contains("MXFP8") => Format::float(8.0, Some(32), span),
        _ if name.starts_with("W4") || name.starts_with("INT4") => {
            Format::int(4.0, group.or(Some(128)), span)
        }
        _ if name.starts_with("W8") || name.starts_with("INT8") => Format::int(8.0, None, span),
        _ if name.contains("FP8") => Format::float(8.0, None, span),
        _ => return None,
    })
}

/// A format that a method's or a type's name states: `fbgemm_fp8`, `experts_int8`, `int4_awq`, `petit_nvfp4`.
fn by_name(name: &str, span: Span) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let has = |word: &str| name.contains(word);
    Some(match () {
        () if has("nvfp4") => Format::float(4.0, Some(16), span),
        () if has("mxfp4") => Format::float(4.0, Some(32), span),
        () if has("fp4") || has("nf4") => Format::float(4.0, None, span),
        () if has("int4") => Format::int(4.0, None, span),
        () if has("fp8") || has("float8") => Format::float(8.0, None, span),
        () if has("int8") || has("eetq") => Format::int(8.0, None, span),
        () if has("bitnet") => Format::int(2.0, None, span),
        () => return None,
    })
}

/// Bits per weight of a named serving format, group scales counted: `int4` is 4.5 on mlx (group 64). For the
/// GGUF mixes (`q4_K_M`) it is an *estimate*, the average that llama.cpp publishes for Llama-3.1-8B; other
/// shapes differ by some hundredths. Upper and lower case are the same. `None` for a name that the catalog
/// does not have.
pub fn real_bits_per_weight(format_name: &str) -> Option<f64> {
    serving_format(format_name).map(|format| format.bits)
}

/// The row of a named serving format, or of one of its aliases.
pub fn serving_format(name: &str) -> Option<&'static ServingFormat> {
    static FORMATS: OnceLock<HashMap<String, ServingFormat>> = OnceLock::new();
    let formats = FORMATS.get_or_init(|| {
        let rows = catalog().unwrap_or_default().into_iter();
        let names = |row: ServingFormat| {
            let names: Vec<_> = row
                .aliases
                .iter()
                .chain([&row.name])
                .map(|name| name.to_ascii_lowercase())
                .collect();
            names.into_iter().map(move |name| (name, row.clone()))
        };
        rows.flat_map(names).collect()
    });
    formats.get(name.trim().to_ascii_lowercase().as_str())
}

/// The names of every serving format, in the order of the catalog.
pub fn format_names() -> Vec<String> {
    catalog()
        .unwrap_or_default()
        .into_iter()
        .map(|row| row.name)
        .collect()
}

/// One row of `catalog/formats.yaml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingFormat {
    /// The name in manifests and reports.
    pub name: String,
    /// Other spellings.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Bits per weight, scales and zero points counted.
    pub bits: f64,
    /// How a quantized matrix is stored, where layers that are not quantized can be told apart.
    #[serde(default)]
    pub tensors: Option<TensorFormat>,
    /// True for the average of a file that mixes types; otherwise the bits follow from the format.
    #[serde(default)]
    pub estimate: bool,
    /// Where the bits come from.
    pub source: String,
}

/// How a serving format stores a matrix.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorFormat {
    /// As [`Quantization::method`].
    pub method: String,
    /// As [`Quantization::bits`].
    pub bits: f64,
    /// As [`Quantization::group_size`].
    #[serde(default)]
    pub group_size: Option<u64>,
    /// As [`Quantization::float`].
    #[serde(default)]
    pub float: bool,
}

impl TensorFormat {
    /// The same as what a checkpoint publishes.
    pub fn quantization(&self) -> Quantization {
        let Self {
            method,
            bits,
            group_size,
            float,
        } = self.clone();
        Quantization {
            method,
            bits,
            group_size,
            float,
        }
    }
}

/// The rows of the embedded catalog; a test proves that they can be read.
fn catalog() -> Result<Vec<ServingFormat>, String> {
    serde_saphyr::from_str(include_str!("../../catalog/formats.yaml")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tree::Tree;
    use crate::source::{FileId, SourceFile};

    fn found(config: &str, hf_quant: Option<&str>) -> Option<(String, f64, Option<u64>, String)> {
        let file = |at, text: &str| SourceFile::new(FileId::from_index(at), "config.json", text);
        let (config, hf_quant) = (file(0, config), hf_quant.map(|text| file(1, text)));
        let tree = Tree::parse(&config);
        let hf_tree = hf_quant.as_ref().map(Tree::parse);
        let hf_root = hf_tree.as_ref().map(|tree| tree.documents[0].root());
        let fact = read(tree.documents[0].root(), hf_root)?;
        let span = fact.span().unwrap();
        let place = if span.file() == config.id() {
            &config
        } else {
            hf_quant.as_ref().unwrap()
        };
        Some((
            fact.value.name(),
            fact.value.bits,
            fact.value.group_size,
            place.slice(span).to_owned(),
        ))
    }

    fn case(section: &str, name: &str, bits: f64, group: Option<u64>, place: &str) {
        let config = format!(r#"{{"model_type": "x", "quantization_config": {section}}}"#);
        let expected = (name.to_owned(), bits, group, place.to_owned());
        assert_eq!(found(&config, None), Some(expected), "{section}");
    }

    #[test]
    fn every_published_method_is_read_with_the_place_that_decides_it() {
        case(
            r#"{"quant_method": "gptq", "bits": 4, "group_size": 128}"#,
            "gptq int4",
            4.0,
            Some(128),
            "4",
        );
        case(
            r#"{"bits": 8, "group_size": -1, "desc_act": false}"#,
            "gptq int8",
            8.0,
            None,
            "8",
        );
        case(
            r#"{"w_bit": 4, "q_group_size": 64}"#,
            "awq int4",
            4.0,
            Some(64),
            "4",
        );
        case(
            r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#,
            "fp8",
            8.0,
            Some(16384),
            "[128, 128]",
        );
        case(
            r#"{"quant_method": "fbgemm_fp8"}"#,
            "fbgemm_fp8",
            8.0,
            None,
            "\"fbgemm_fp8\"",
        );
        case(
            r#"{"quant_method": "mxfp4"}"#,
            "mxfp4",
            4.0,
            Some(32),
            "\"mxfp4\"",
        );
        case(
            r#"{"quant_method": "bitsandbytes", "load_in_4bit": true}"#,
            "bitsandbytes int4",
            4.0,
            Some(64),
            "true",
        );
        case(
            r#"{"load_in_4bit": false, "load_in_8bit": true}"#,
            "bitsandbytes int8",
            8.0,
            None,
            "true",
        );
        case(
            r#"{"quant_method": "exl2", "bits": 4.25}"#,
            "exl2",
            4.25,
            None,
            "4.25",
        );
        case(
            r#"{"quant_algo": "W4A8_AWQ"}"#,
            "modelopt int4",
            4.0,
            Some(128),
            "\"W4A8_AWQ\"",
        );
    }

    #[test]
    fn methods_that_keep_their_bits_elsewhere_are_read_there() {
        case(
            r#"{"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}}"#,
            "torchao int4",
            4.0,
            Some(128),
            "\"Int4WeightOnlyConfig\"",
        );
        case(
            r#"{"quant_method": "quanto", "weights": "int8"}"#,
            "quanto int8",
            8.0,
            None,
            "\"int8\"",
        );
        case(
            r#"{"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 3, "group_size": 64}}}"#,
            "hqq int3",
            3.0,
            Some(64),
            "3",
        );
        case(
            r#"{"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}}"#,
            "quark mxfp4",
            4.0,
            Some(32),
            "\"fp4\"",
        );
    }

    #[test]
    fn compressed_tensors_groups_give_element_and_group() {
        let groups = |weights: &str| {
            format!(
                r#"{{"quant_method": "compressed-tensors", "config_groups": {{"g": {{"weights": {weights}}}}}}}"#
            )
        };
        let of = |weights: &str, name: &str, bits, group, place: &str| {
            case(&groups(weights), name, bits, group, place);
        };
        of(
            r#"{"num_bits": 8, "type": "float", "group_size": null}"#,
            "compressed-tensors fp8",
            8.0,
            None,
            "8",
        );
        of(
            r#"{"num_bits": 8, "type": "int"}"#,
            "compressed-tensors int8",
            8.0,
            None,
            "8",
        );
        of(
            r#"{"num_bits": 4, "type": "int", "group_size": 32}"#,
            "compressed-tensors int4",
            4.0,
            Some(32),
            "4",
        );
        of(
            r#"{"num_bits": 4, "type": "float", "group_size": 32}"#,
            "compressed-tensors mxfp4",
            4.0,
            Some(32),
            "4",
        );
        of(
            r#"{"num_bits": 4, "type": "float", "group_size": 16}"#,
            "compressed-tensors nvfp4",
            4.0,
            Some(16),
            "4",
        );
    }

    #[test]
    fn a_mix_is_named_for_its_fewest_bits() {
        case(
            r#"{"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers":
                {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4", "group_size": 16}}}"#,
            "modelopt nvfp4",
            4.0,
            Some(16),
            "\"NVFP4\"",
        );
    }

    #[test]
    fn mlx_sections_have_no_method_and_nested_models_have_their_own() {
        let mlx = r#"{"quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"group_size": 64, "bits": 4}}"#;
        assert_eq!(
            found(mlx, None),
            Some(("mlx int4".into(), 4.0, Some(64), "4".into()))
        );
        let mode = r#"{"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}"#;
        assert_eq!(
            found(mode, None),
            Some(("mlx mxfp4".into(), 4.0, Some(32), "4".into()))
        );
        let nested = r#"{"text_config": {"quantization_config": {"quant_method": "awq", "bits": 4}}}"#;
        assert_eq!(
            found(nested, None),
            Some(("awq int4".into(), 4.0, None, "4".into()))
        );
    }

    #[test]
    fn hf_quant_config_counts_only_where_config_json_is_silent() {
        let hf = r#"{"quantization": {"quant_algo": "NVFP4", "group_size": 16}}"#;
        let nvfp4 = Some(("modelopt nvfp4".to_owned(), 4.0, Some(16), "\"NVFP4\"".to_owned()));
        assert_eq!(found("{}", Some(hf)), nvfp4);
        let fp8 = r#"{"quantization_config": {"quant_method": "fp8"}}"#;
        assert_eq!(found(fp8, Some(hf)).unwrap().0, "fp8");
        assert_eq!(
            found("{}", Some(r#"{"quantization": {"quant_algo": null}}"#)),
            None
        );
    }

    #[test]
    fn a_method_that_states_no_bits_is_never_taken_for_small() {
        case(
            r#"{"quant_method": "torchao"}"#,
            "torchao int16",
            16.0,
            None,
            "\"torchao\"",
        );
        case(
            r#"{"quant_method": "gptq", "bits": "many"}"#,
            "gptq int16",
            16.0,
            None,
            "\"gptq\"",
        );
        assert_eq!(
            found(r#"{"quantization_config": null, "quantization": "int4"}"#, None),
            None
        );
        assert_eq!(found(r#"{"quantization_config": [1]}"#, None), None);
    }

    #[test]
    fn real_bits_count_scales_and_zero_points() {
        let of = |method: &str, bits, group_size, float| {
            let method = method.to_owned();
            Quantization {
                method,
                bits,
                group_size,
                float,
            }
            .real_bits_per_weight()
        };
        assert!((of("mlx", 4.0, Some(64), false) - 4.5).abs() < 1e-9);
        assert!((of("gptq", 4.0, Some(128), false) - 4.156_25).abs() < 1e-9);
        assert!((of("modelopt", 4.0, Some(16), true) - 4.5).abs() < 1e-9);
        assert!((of("mxfp4", 4.0, Some(32), true) - 4.25).abs() < 1e-9);
        assert!((of("fp8", 8.0, None, true) - 8.0).abs() < 1e-9);
    }

    #[test]
    fn every_row_of_the_catalog_is_sound_and_no_name_stands_twice() {
        let mut seen = std::collections::HashSet::new();
        for format in catalog().unwrap() {
            assert!(format.bits > 1.0 && format.bits <= 32.0, "{format:?}");
            assert!(!format.source.is_empty());
            // Formats whose name is a GGUF mix are averages and must say so.
            let mix = format.name.contains("_K_") || format.name.starts_with("iq");
            assert!(!mix || format.estimate, "{format:?}");
            for name in format.aliases.iter().chain([&format.name]) {
                assert!(seen.insert(name.to_ascii_lowercase()), "{name} stands twice");
            }
        }
    }

    #[test]
    fn serving_formats_take_their_group_overhead() {
        for (name, bits) in [
            ("fp16", 16.0),
            ("int8", 8.5),
            ("int4", 4.5),
            ("fp8", 8.0),
            ("mxfp4", 4.25),
            ("NVFP4", 4.5),
            ("Q8_0", 8.5),
        ] {
            assert_eq!(real_bits_per_weight(name), Some(bits), "{name}");
        }
        assert!(real_bits_per_weight("q4_k_m").is_some_and(|bits| (4.5..5.0).contains(&bits)));
        assert_eq!(real_bits_per_weight("int4000"), None);
    }
}
