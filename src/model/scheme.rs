//! Which layers of a quantized checkpoint are stored how: what quantizers left at 16 bit, and checkpoints that
//! mix formats.
//!
//! In: the section of config.json or `hf_quant_config.json` that states the quantization. Out: a [`Scheme`],
//! which says for the modules of one layer whether they are stored otherwise than the checkpoint's format says.
//! It knows names of modules, not tensors; sizes are the [census](super::census)' business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Quantization;

/// How the modules of a checkpoint are stored, where not all are in its format. It is written in a few lines
/// however long the section was: layers with the same names are one range.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Modules at 16 bit.
    #[serde(default, skip_serializing_if = "Modules::is_empty")]
    plain: Modules,
    /// Modules in a format of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Group>,
    /// True where what no group names is at 16 bit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    groups_are_all: bool,
}

/// Modules that share a format of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    modules: Modules,
    format: Quantization,
}

/// How one module is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// In the model's 16-bit type.
    Plain,
    /// In a format of its own.
    As(Quantization),
}

/// Patterns of module names, by layer. Written as lists of patterns under their layers: `0-3,7` or `all`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
struct Modules {
    of_layer: BTreeMap<u64, Vec<String>>,
    of_any: Vec<String>,
}

/// [`Modules`] as a record holds them.
type Written = BTreeMap<String, Vec<String>>;

/// The layers of names that hold for every layer.
const ALL_LAYERS: &str = "all";
/// More layers than any model has: a bound on what a record can make of a range.
const MOST_LAYERS: u64 = 100_000;

/// Keys under which quantizers list modules that they leave alone: compressed-tensors and `modelopt`, its own
/// file, transformers, AWQ.
const LEFT_ALONE: [&str; 4] = [
    "ignore",
    "exclude_modules",
    "modules_to_not_convert",
    "ignored_layers",
];
/// Parts of names that lie outside the layers of the text model.
const OUTSIDE: [&str; 7] = ["vision", "visual", "audio", "mtp", "projector", "embed", "talker"];
/// Alternatives of one regular expression that are tried.
const MOST_ALTERNATIVES: usize = 16;

impl Scheme {
    /// Reads a section; `None` where all linear layers are stored alike.
    pub fn read(section: &Value, config: &Value) -> Option<Self> {
        let mut scheme = Self::default();
        let lists = LEFT_ALONE.iter().filter_map(|key| section.get(key)?.as_array());
        for name in lists.flatten().filter_map(Value::as_str) {
            scheme.plain.add(name);
        }
        scheme.add_groups(section);
        scheme.add_layers(section);
        // DeepSeek-V4: routed experts in 4-bit floats with a scale for 32, whatever the rest is in.
        if config.get("expert_dtype").and_then(Value::as_str) == Some("fp4") && scheme.groups.is_empty() {
            let mut experts = Modules::default();
            experts.add("*experts*");
            scheme.groups.push(Group {
                modules: experts,
                format: float(4.0, Some(32)),
            });
        }
        let says_something = scheme.plain != Modules::default() || !scheme.groups.is_empty();
        says_something.then_some(scheme)
    }

    /// compressed-tensors' `config_groups` that name their modules.
    fn add_groups(&mut self, section: &Value) {
        let groups = section.get("config_groups").and_then(Value::as_object);
        for group in groups.into_iter().flatten().map(|(_, group)| group) {
            let targets: Vec<&str> = group
                .get("targets")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            // A class of layers stands for all of them.
            if targets.is_empty() || targets.contains(&"Linear") {
                continue;
            }
            let mut modules = Modules::default();
            for target in targets {
                modules.add(target);
            }
            if let Some(format) = group.get("weights").and_then(weights) {
                self.groups.push(Group { modules, format });
                self.groups_are_all = true;
            }
        }
    }

    /// `modelopt`'s algorithm of each layer.
    fn add_layers(&mut self, section: &Value) {
        let layers = section.get("quantized_layers").and_then(Value::as_object);
        let mut by_algorithm: BTreeMap<String, Modules> = BTreeMap::new();
        for (name, layer) in layers.into_iter().flatten() {
            if let Some(algorithm) = layer.get("quant_algo").and_then(Value::as_str) {
                by_algorithm
                    .entry(algorithm.to_ascii_uppercase())
                    .or_default()
                    .add(name);
            }
        }
        for (algorithm, modules) in by_algorithm {
            let format = if algorithm.contains("FP4") {
                float(4.0, Some(if algorithm.contains("MX") { 32 } else { 16 }))
            } else {
                float(8.0, None)
            };
            self.groups.push(Group { modules, format });
            self.groups_are_all = section.get("quant_method").and_then(Value::as_str) != Some("fp8");
        }
    }

    /// How the module with one of these names is stored in a layer; `None` where as the rest.
    pub fn of(&self, layer: u64, names: &[&str]) -> Option<Stored> {
        let own = self.groups.iter().find(|group| group.modules.hold(layer, names));
        if let Some(group) = own {
            return Some(Stored::As(group.format.clone()));
        }
        (self.groups_are_all || self.plain.hold(layer, names)).then_some(Stored::Plain)
    }
}

fn float(bits: f64, group_size: Option<u64>) -> Quantization {
    let method = match group_size {
        Some(32) => "mxfp4",
        _ => "modelopt",
    };
    Quantization {
        method: method.to_owned(),
        bits,
        group_size,
        float: true,
    }
}

fn weights(weights: &Value) -> Option<Quantization> {
    Some(Quantization {
        method: "compressed-tensors".to_owned(),
        bits: weights.get("num_bits")?.as_f64()?,
        group_size: weights
            .get("group_size")
            .and_then(Value::as_u64)
            .filter(|size| *size > 0),
        float: weights.get("type").and_then(Value::as_str) == Some("float"),
    })
}

impl Modules {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, pattern: &str) {
        let globs = match pattern.strip_prefix("re:") {
            Some(expression) => globs(expression),
            None => vec![pattern.to_owned()],
        };
        for glob in globs {
            if OUTSIDE.iter().any(|word| glob.contains(word)) || names_another_expert(&glob) {
                continue;
            }
            match layer(&glob) {
                Some((Some(layer), rest)) => {
                    self.of_layer.entry(layer).or_default().push(rest.to_owned());
                }
                Some((None, rest)) => self.of_any.push(rest.to_owned()),
                None => self.of_any.push(glob),
            }
        }
    }

    fn hold(&self, layer: u64, names: &[&str]) -> bool {
        let here = self
            .of_layer
            .get(&layer)
            .into_iter()
            .flatten()
            .chain(&self.of_any);
        let mut here = here.map(String::as_str);
        here.any(|glob| names.iter().any(|name| holds(glob, name)))
    }
}

impl From<Modules> for Written {
    fn from(modules: Modules) -> Self {
        let mut layers_of: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (layer, names) in modules.of_layer {
            for name in names {
                let layers = layers_of.entry(name).or_default();
                if layers.last() != Some(&layer) {
                    layers.push(layer);
                }
            }
        }
        let mut written = Self::new();
        for (name, layers) in layers_of {
            written.entry(ranges(&layers)).or_default().push(name);
        }
        if !modules.of_any.is_empty() {
            written.insert(ALL_LAYERS.to_owned(), modules.of_any);
        }
        written
    }
}

impl TryFrom<Written> for Modules {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let mut modules = Self::default();
        for (layers, names) in written {
            if layers == ALL_LAYERS {
                for name in &names {
                    modules.add(name);
                }
                continue;
            }
            for range in layers.split(',') {
                let bounds = bounds(range).ok_or_else(|| format!("`{range}` is no range of layers"))?;
                for layer in bounds {
                    modules
                        .of_layer
                        .entry(layer)
                        .or_default()
                        .extend(names.iter().cloned());
                }
            }
        }
        Ok(modules)
    }
}

/// `0-3,7` for ascending numbers.
fn ranges(layers: &[u64]) -> String {
    let runs = layers.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    let written: Vec<String> = runs
        .filter_map(|run| match run {
            [] => None,
            [only] => Some(only.to_string()),
            [first, .., last] => Some(format!("{first}-{last}")),
        })
        .collect();
    written.join(",")
}

fn bounds(range: &str) -> Option<std::ops::RangeInclusive<u64>> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < MOST_LAYERS).then_some(first..=last)
}

/// The first expert of a layer stands for all: nobody asks for another, and lists name hundreds.
fn names_another_expert(glob: &str) -> bool {
    let number = glob.split_once("experts.").map(|(_, rest)| rest);
    number.is_some_and(|rest| rest.starts_with(|first: char| matches!(first, '1'..='9')))
}

/// A name is meant by a pattern that matches it, its beginning up to a dot, or its end after one.
fn holds(glob: &str, name: &str) -> bool {
    let heads = name.match_indices('.').filter_map(|(at, _)| name.get(..at));
    let tails = name.match_indices('.').filter_map(|(at, _)| name.get(at + 1..));
    std::iter::once(name)
        .chain(heads)
        .chain(tails)
        .any(|part| matches(glob.as_bytes(), part.as_bytes()))
        || glob
            .strip_prefix("*.")
            .is_some_and(|rest| matches(rest.as_bytes(), name.as_bytes()))
}

/// The layer that a pattern names (`None` within for all) and what follows: `model.layers.12.mlp*`.
fn layer(glob: &str) -> Option<(Option<u64>, &str)> {
    let (_, rest) = glob.split_once("layers.")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let number = rest.get(..digits)?.parse().ok();
    let tail = rest.get(digits..)?;
    let tail = if number.is_none() {
        tail.trim_start_matches('*')
    } else {
        tail
    };
    // `layers.0*` means all of layer 0.
    let tail = tail.strip_prefix('.').unwrap_or(tail);
    Some((number, if tail.is_empty() { "*" } else { tail }))
}

/// What the regular expressions of compressed-tensors amount to as patterns: they are matched at the beginning.
fn globs(expression: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut rest = expression.trim_start_matches('^');
    while let Some(next) = rest.chars().next() {
        let (pieces, length): (Vec<String>, usize) = match next {
            '(' => {
                let inside = rest.get(1..).unwrap_or("").split(')').next().unwrap_or("");
                let alternatives = inside.trim_start_matches("?:").split('|');
                (
                    alternatives.map(|one| one.replace('\\', "")).collect(),
                    inside.len() + 2,
                )
            }
            '[' => (
                vec!["*".to_owned()],
                rest.find(']').map_or(rest.len(), |at| at + 1),
            ),
            '\\' if rest.starts_with("\\d") => (vec!["*".to_owned()], 2),
            '\\' => (vec![rest.chars().nth(1).map(String::from).unwrap_or_default()], 2),
            '.' if rest.starts_with(".*") || rest.starts_with(".+") => (vec!["*".to_owned()], 2),
            '+' | '?' | '*' | '$' => (vec![String::new()], 1),
            other => (vec![other.to_string()], other.len_utf8()),
        };
        rest = rest.get(length.min(rest.len())..).unwrap_or("");
        all = all
            .iter()
            .flat_map(|head| pieces.iter().map(move |piece| format!("{head}{piece}")))
            .take(MOST_ALTERNATIVES)
            .collect();
    }
    if !expression.ends_with('$') {
        for glob in &mut all {
            glob.push('*');
        }
    }
    all
}

/// Shell patterns with `*` alone, without recursion: linear but for the last star.
fn matches(glob: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of, mut star) = (0, 0, None);
    while of < name.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(letter) if name.get(of) == Some(letter) => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                at = back + 1;
                of = taken + 1;
            }
        }
    }
    glob.get(at..)
        .is_some_and(|rest| rest.iter().all(|letter| *letter == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(section: &str) -> Scheme {
        Scheme::read(&serde_json::from_str(section).unwrap(), &Value::Null).unwrap()
    }

    #[test]
    fn layers_named_by_number_or_by_pattern_stay_at_16_bit() {
        let scheme = scheme(
            r#"{"ignore": ["lm_head", "model.layers.0*", "model.layers.12.self_attn*",
                "re:.*shared_experts.*", "re:.*mlp\\.(gate|up)_proj.*"]}"#,
        );
        let plain = |layer, name| scheme.of(layer, &[name]) == Some(Stored::Plain);
        assert!(plain(0, "mlp.experts.0.up_proj"));
        assert!(plain(12, "self_attn.o_proj") && !plain(1, "self_attn.o_proj"));
        assert!(plain(5, "mlp.shared_experts.up_proj") && plain(5, "mlp.up_proj"));
        assert!(!plain(5, "mlp.experts.0.up_proj") && !plain(10, "self_attn.o_proj"));
    }

    #[test]
    fn groups_that_name_their_modules_leave_the_rest_alone() {
        let scheme = scheme(
            r#"{"config_groups": {
                "a": {"targets": ["model.language_model.layers.1.mlp.experts"],
                      "weights": {"num_bits": 4, "type": "float", "group_size": 16}},
                "b": {"targets": ["model.language_model.layers.1.self_attn.o_proj"],
                      "weights": {"num_bits": 8, "type": "float"}}}}"#,
        );
        let bits = |layer, name| match scheme.of(layer, &[name]) {
            Some(Stored::As(format)) => format.element(),
            Some(Stored::Plain) => "plain".to_owned(),
            None => "as the rest".to_owned(),
        };
        let found = [
            bits(1, "mlp.experts.0.up_proj"),
            bits(1, "self_attn.o_proj"),
            bits(2, "self_attn.o_proj"),
        ];
        assert_eq!(found, ["nvfp4", "fp8", "plain"]);
    }

    #[test]
    fn a_scheme_is_written_in_ranges_of_layers_and_read_again() {
        let name = |layer| format!(r#""model.layers.{layer}.self_attn.q_proj""#);
        let names: Vec<String> = (0..40).chain([50]).map(name).collect();
        let section = format!(r#"{{"ignore": [{}, "re:.*mlp\\.gate$"]}}"#, names.join(","));
        let scheme = scheme(&section);
        let written = serde_json::to_string(&scheme).unwrap();
        assert_eq!(
            written,
            r#"{"plain":{"0-39,50":["self_attn.q_proj"],"all":["*mlp.gate"]}}"#
        );
        assert_eq!(serde_json::from_str::<Scheme>(&written).unwrap(), scheme);
        for bad in ["3-1", "x", "", "0-99999999999"] {
            let text = written.replace("0-39", bad);
            assert!(serde_json::from_str::<Scheme>(&text).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_expert_stands_for_the_others() {
        let section = r#"{"ignore": ["layers.1.mlp.experts.0.up_proj", "layers.1.mlp.experts.17.up_proj"]}"#;
        let written = serde_json::to_string(&scheme(section)).unwrap();
        assert_eq!(written, r#"{"plain":{"1":["mlp.experts.0.up_proj"]}}"#);
    }

    #[test]
    fn towers_and_extra_layers_say_nothing_of_the_text_model() {
        let section = r#"{"ignore": ["model.visual.layers.3.self_attn", "mtp.layers.0*", "lm_head"]}"#;
        assert_eq!(scheme(section).of(3, &["self_attn.o_proj"]), None);
        assert_eq!(scheme(section).of(0, &["self_attn.o_proj"]), None);
    }

    #[test]
    fn stars_match_anything_and_nothing() {
        let found = |glob: &str, name: &str| matches(glob.as_bytes(), name.as_bytes());
        assert!(found("a*c", "abbc") && found("a*", "a") && found("*b*", "abc") && found("", ""));
        assert!(!found("a*c", "abcd") && !found("ab", "abc"));
    }
}
