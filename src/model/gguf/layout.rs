//! What the layers of a GGUF model keep, as llama.cpp reads its metadata.
//!
//! In: metadata by key. Out: a [`Layout`], or what is missing. The keys decide, not the name of the model;
//! where a file leaves a window pattern out, `catalog/gguf_architectures.yaml` holds the architecture's own. Source:
//! `ggml-org/llama.cpp` (2026-10), `llama_model::load_hparams`, `src/models/*.cpp`, `llama-hparams.cpp`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::memory::layout::{Cache, LayerGroup, Layout, Reach, State};
use crate::model::{GgufValue, Refusal};

/// Layers at most; a file that claims more is wrong (`LLAMA_MAX_LAYERS` is 512).
const MAX_LAYERS: u64 = 4096;

/// Tokens of the short runs of DeepSeek-V4 (`DSV4_CSA_RATIO`).
const SPARSE_RATIO: u64 = 4;

/// The layout of a model from its GGUF metadata.
///
/// # Errors
/// A [`Refusal`] that names the missing or senseless key.
pub fn from_metadata(metadata: &BTreeMap<String, GgufValue>) -> Result<Layout, Refusal> {
    let keys = Keys::new(metadata)?;
    let num_layers = keys.main_layers()?;
    let nextn_layers = keys.count("nextn_predict_layers").unwrap_or(0);
    let mut groups = Groups::default();
    if Catalog::built_in().uncached.iter().any(|arch| arch == keys.arch) {
        return Ok(Layout {
            num_layers,
            nextn_layers,
            groups: groups.0,
        });
    }
    let windows = keys.windows(num_layers);
    let recurrent = keys.recurrence(num_layers)?;
    for layer in 0..num_layers {
        let state = recurrent.as_ref().filter(|found| found.layers.contains(layer));
        if let Some(found) = state {
            let cache = Cache::Recurrent {
                state: found.state,
                state_element_bytes: Some(4),
            };
            groups.add(layer, cache);
        }
        let attends = state.is_none() || keys.arch == "falcon-h1";
        if attends && layer < keys.layers_with_kv(num_layers) {
            let reach = windows.reach(layer);
            for cache in keys.attention(layer, reach)? {
                groups.add(layer, cache);
            }
        }
    }
    Ok(Layout {
        num_layers,
        nextn_layers,
        groups: groups.0,
    })
}

/// Groups in the order in which their kinds first appear.
#[derive(Default)]
struct Groups(Vec<LayerGroup>);

impl Groups {
    fn add(&mut self, layer: u64, cache: Cache) {
        let layer = u32::try_from(layer).unwrap_or(u32::MAX);
        match self.0.iter_mut().find(|group| group.cache == cache) {
            Some(group) => group.layers.push(layer),
            None => self.0.push(LayerGroup {
                cache,
                layers: vec![layer],
            }),
        }
    }
}

/// Metadata with the architecture's prefix.
pub(super) struct Keys<'a> {
    metadata: &'a BTreeMap<String, GgufValue>,
    /// `general.architecture`.
    pub(super) arch: &'a str,
}

impl<'a> Keys<'a> {
    pub(super) fn new(metadata: &'a BTreeMap<String, GgufValue>) -> Result<Self, Refusal> {
        match metadata.get("general.architecture") {
            Some(GgufValue::Text(arch)) => Ok(Self { metadata, arch }),
            _ => Err(refusal("the metadata key `general.architecture` is missing")),
        }
    }

    fn get(&self, key: &str) -> Option<&'a GgufValue> {
        self.metadata.get(&format!("{}.{key}", self.arch))
    }

    /// A count that is the same for every layer; for an array its first value.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.count_at(key, 0)
    }

    fn required(&self, key: &str) -> Result<u64, Refusal> {
        self.count(key)
            .ok_or_else(|| refusal(format!("the metadata key `{}.{key}` is missing", self.arch)))
    }

    /// A count for one layer: a scalar holds for all of them.
    fn count_at(&self, key: &str, layer: u64) -> Option<u64> {
        let value = match self.get(key)? {
            GgufValue::Array(values) => values.get(usize::try_from(layer).ok()?)?,
            scalar => scalar,
        };
        integer(value)
    }

    /// An array of flags, or of counts that stand for flags.
    fn flags(&self, key: &str) -> Option<Vec<bool>> {
        let GgufValue::Array(values) = self.get(key)? else {
            return None;
        };
        let flag = |value: &GgufValue| match value {
            GgufValue::Bool(flag) => Some(*flag),
            other => integer(other).map(|count| count != 0),
        };
        values.iter().map(flag).collect()
    }

    /// Layers that run without speculative decoding: for encoder-decoders those of the decoder.
    pub(super) fn main_layers(&self) -> Result<u64, Refusal> {
        if self.arch == "clip" {
            return Err(refusal(
                "it is a projector for images or sound, not a language model",
            ));
        }
        let all = match self.count("decoder_block_count") {
            Some(count) => count,
            None => self.required("block_count")?,
        };
        let main = all.saturating_sub(self.count("nextn_predict_layers").unwrap_or(0));
        if main == 0 || all > MAX_LAYERS {
            return Err(refusal(format!(
                "`{}.block_count` of {all} makes no model",
                self.arch
            )));
        }
        Ok(main)
    }

    /// The first so many layers own a KV cache; the others use one of these.
    fn layers_with_kv(&self, num_layers: u64) -> u64 {
        match self.arch {
            // llama.cpp sets this number itself, whatever the file says.
            "gemma3n" => num_layers.min(20),
            _ => num_layers.saturating_sub(self.count("attention.shared_kv_layers").unwrap_or(0)),
        }
    }

    pub(super) fn heads(&self) -> Result<u64, Refusal> {
        self.required("attention.head_count")
    }

    pub(super) fn kv_heads(&self, layer: u64) -> Result<u64, Refusal> {
        if self.get("attention.head_count_kv").is_none() {
            return match self.count_at("attention.head_count", layer) {
                Some(heads) => Ok(heads),
                None => self.heads(),
            };
        }
        self.count_at("attention.head_count_kv", layer).ok_or_else(|| {
            refusal(format!(
                "`{}.attention.head_count_kv` has no value for layer {layer}",
                self.arch
            ))
        })
    }

    /// Elements of a key (`key`) or value (`value`) of one head.
    pub(super) fn head_dim(&self, side: &str, slides: bool) -> Result<u64, Refusal> {
        let window = slides
            .then(|| self.count(&format!("attention.{side}_length_swa")))
            .flatten();
        if let Some(dim) = window.or_else(|| self.count(&format!("attention.{side}_length"))) {
            return Ok(dim);
        }
        let heads = self.heads()?;
        let width = self.required("embedding_length")?;
        width.checked_div(heads).ok_or_else(|| {
            refusal(format!(
                "`{}.attention.head_count` is 0 and no head length is given",
                self.arch
            ))
        })
    }

    /// What an attention layer keeps: its tokens, perhaps index keys, perhaps summaries of runs of tokens.
    fn attention(&self, layer: u64, reach: Reach) -> Result<Vec<Cache>, Refusal> {
        let kv_heads = self.kv_heads(layer)?;
        if kv_heads == 0 {
            return Ok(Vec::new());
        }
        let slides = !matches!(reach, Reach::Full);
        let k_dim = self.head_dim("key", slides)?;
        if let Some(ratio) = self.count_at("attention.compress_ratios", layer) {
            return Ok(self.compressed(ratio, k_dim, reach));
        }
        if self
            .count("attention.key_length_mla")
            .is_some_and(|length| length > 0)
        {
            let width = kv_heads.saturating_mul(k_dim);
            let rank = self.required("attention.kv_lora_rank")?.min(width);
            let latent = Cache::Latent {
                rank,
                rope_dim: width.saturating_sub(rank),
            };
            return Ok([Some(latent), self.indexer(layer)]
                .into_iter()
                .flatten()
                .collect());
        }
        Ok(vec![Cache::Attention {
            kv_heads,
            k_dim,
            v_dim: self.head_dim("value", slides)?,
            reach,
        }])
    }

    /// The keys of a sparse-attention indexer, where the layer has one of its own.
    fn indexer(&self, layer: u64) -> Option<Cache> {
        let head_dim = self
            .count("attention.indexer.key_length")
            .filter(|dim| *dim > 0)?;
        let own = self.flags("attention.indexer.types").is_none_or(|flags| {
            usize::try_from(layer)
                .ok()
                .and_then(|at| flags.get(at).copied())
                .unwrap_or(true)
        });
        own.then_some(Cache::Indexer { head_dim })
    }

    /// DeepSeek-V4: keys of a window, and of runs of `ratio` tokens, each with what its compressor has not
    /// summarised yet; runs of 4 overlap and are indexed too. No values.
    fn compressed(&self, ratio: u64, k_dim: u64, reach: Reach) -> Vec<Cache> {
        let is_sparse = ratio == SPARSE_RATIO;
        let overlap = if is_sparse { 2 } else { 1 };
        let ring = |head_dim: u64| Cache::Ring {
            width: head_dim.saturating_mul(2 * overlap),
            tokens: ratio.saturating_mul(overlap),
        };
        let mut kept = vec![Cache::Attention {
            kv_heads: 1,
            k_dim,
            v_dim: 0,
            reach,
        }];
        if ratio > 0 {
            kept.extend([
                Cache::Compressed {
                    ratio,
                    head_dim: k_dim,
                },
                ring(k_dim),
            ]);
        }
        if let Some(head_dim) = self.count("attention.indexer.key_length").filter(|_| is_sparse) {
            kept.extend([Cache::CompressedIndexer { ratio, head_dim }, ring(head_dim)]);
        }
        kept
    }

    /// Which layers slide.
    fn windows(&self, num_layers: u64) -> Windows {
        let full = Windows {
            reach: Reach::Full,
            slides: Vec::new(),
        };
        let known = Catalog::built_in().architectures.get(self.arch);
        let pattern = self.flags("attention.sliding_window_pattern");
        let scalar = self.get("attention.sliding_window_pattern").and_then(integer);
        let declared = self.count("attention.sliding_window");
        if self.arch == "deepseek4" {
            return Windows::from(declared, false, vec![true; capped(num_layers)]);
        }
        let Some(known) = known else {
            // A pattern that the file spells out is honoured for architectures that are new to the catalog too.
            let ignored = matches!(self.arch, "phi3" | "llama");
            return match pattern {
                Some(slides) if !ignored => Windows::from(declared, false, slides),
                _ => full,
            };
        };
        if known.only_layers.is_some_and(|only| only != num_layers) || (known.needs_key && declared.is_none())
        {
            return full;
        }
        let slides = pattern.unwrap_or_else(|| known.pattern(num_layers, scalar));
        // A window of 0 turns sliding off even where the engine would force its own.
        if declared == Some(0) {
            return full;
        }
        Windows::from(
            known.forced_window.or(declared).or(known.window),
            known.chunked,
            slides,
        )
    }

    /// The recurrent layers and their state.
    fn recurrence(&self, num_layers: u64) -> Result<Option<Recurrence>, Refusal> {
        let Some(state) = self.state()? else {
            return Ok(None);
        };
        let flags = self.flags("attention.recurrent_layers");
        let every = |period: u64| {
            let layers = (0..num_layers).map(|layer| !(layer + 1).is_multiple_of(period.max(1)));
            Layers::Some(layers.collect())
        };
        let layers = match (flags, self.arch) {
            (Some(flags), _) => Layers::Some(flags),
            (None, "minimax-01") => every(self.count("full_attention_interval").unwrap_or(8)),
            (None, "qwen3next" | "qwen35" | "qwen35moe") => {
                every(self.count("full_attention_interval").unwrap_or(4))
            }
            (None, "falcon-h1") => Layers::All,
            (None, arch) => {
                // A layer without KV heads is recurrent, except where it may be a feed-forward layer alone.
                let alone = arch.starts_with("nemotron_h");
                let is_recurrent = |layer: u64| {
                    let kv_heads = self.kv_heads(layer).unwrap_or(0);
                    let feeds = self.count_at("feed_forward_length", layer).unwrap_or(0);
                    kv_heads == 0 && !(alone && feeds > 0)
                };
                let attends = self.count("attention.head_count").unwrap_or(0) > 0;
                let hybrid = self.get("attention.head_count_kv").is_some() && attends;
                if hybrid {
                    Layers::Some((0..num_layers).map(is_recurrent).collect())
                } else {
                    Layers::All
                }
            }
        };
        Ok(Some(Recurrence { state, layers }))
    }

    /// The state of one recurrent layer, in the order in which llama.cpp looks for it
    /// (`llama_hparams::n_embd_r`, `n_embd_s`).
    fn state(&self) -> Result<Option<State>, Refusal> {
        if let Some(head_size) = self.count("wkv.head_size").filter(|size| *size > 0) {
            let width = self.required("embedding_length")?;
            return Ok(Some(State::Rwkv { width, head_size }));
        }
        if let Some(kernel) = self.count("shortconv.l_cache").filter(|length| *length > 0) {
            let width = self.required("embedding_length")?;
            return Ok(Some(State::ShortConv { width, kernel }));
        }
        if let Some(head_dim) = self.count("kda.head_dim").filter(|dim| *dim > 0) {
            return Ok(Some(State::Kda {
                heads: self.heads()?,
                head_dim,
                conv_kernel: self.required("ssm.conv_kernel")?,
            }));
        }
        if self.arch == "minimax-01" {
            return Ok(Some(State::Lightning {
                heads: self.heads()?,
                head_dim: self.head_dim("key", false)?,
            }));
        }
        let Some(state) = self.count("ssm.state_size") else {
            return Ok(None);
        };
        let inner = self.required("ssm.inner_size")?;
        let conv_kernel = self.required("ssm.conv_kernel")?;
        let groups = self.count("ssm.group_count").unwrap_or(0);
        if groups == 0 {
            return Ok(Some(State::Mamba1 {
                inner,
                state,
                conv_kernel,
            }));
        }
        let heads = self.required("ssm.time_step_rank")?.max(1);
        Ok(Some(self.grouped_state(inner, groups, state, heads, conv_kernel)))
    }

    /// Mamba 2 and the gated delta net share keys, and sizes too; their names differ for readers.
    fn grouped_state(&self, inner: u64, groups: u64, state: u64, heads: u64, conv_kernel: u64) -> State {
        let delta = matches!(self.arch, "qwen3next" | "qwen35" | "qwen35moe");
        if delta && inner.is_multiple_of(heads) {
            return State::DeltaNet {
                key_heads: groups,
                key_dim: state,
                value_heads: heads,
                value_dim: inner / heads,
                conv_kernel,
            };
        }
        let (heads, head_dim) = if inner.is_multiple_of(heads) {
            (heads, inner / heads)
        } else {
            (1, inner)
        };
        State::Mamba2 {
            inner,
            groups,
            state,
            heads,
            head_dim,
            conv_kernel,
        }
    }
}

/// Which layers slide, and how far they look.
struct Windows {
    reach: Reach,
    slides: Vec<bool>,
}

impl Windows {
    fn from(window: Option<u64>, chunked: bool, slides: Vec<bool>) -> Self {
        let reach = match window {
            None | Some(0) => Reach::Full,
            Some(tokens) if chunked => Reach::Chunk(tokens),
            Some(tokens) => Reach::Window(tokens),
        };
        Self { reach, slides }
    }

    fn reach(&self, layer: u64) -> Reach {
        let slides = usize::try_from(layer).ok().and_then(|at| self.slides.get(at));
        if slides == Some(&true) {
            self.reach
        } else {
            Reach::Full
        }
    }
}

struct Recurrence {
    state: State,
    layers: Layers,
}

enum Layers {
    All,
    Some(Vec<bool>),
}

impl Layers {
    fn contains(&self, layer: u64) -> bool {
        match self {
            Self::All => true,
            Self::Some(flags) => usize::try_from(layer)
                .ok()
                .and_then(|at| flags.get(at))
                .copied()
                .unwrap_or(false),
        }
    }
}

/// `catalog/gguf_architectures.yaml`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    #[expect(dead_code, reason = "provenance for readers of the file")]
    source: String,
    patterned_model_types: Vec<String>,
    uncached: Vec<String>,
    architectures: BTreeMap<String, Sliding>,
}

/// True when llama.cpp runs checkpoints of this `model_type` (config.json) with sliding-window layers; for all
/// others it caches every layer in full, whatever window their config names.
pub fn llama_cpp_slides(model_type: &str) -> bool {
    let catalog = Catalog::built_in();
    let named = |names: &Vec<String>| names.iter().any(|name| name == model_type);
    named(&catalog.patterned_model_types)
        || catalog
            .architectures
            .values()
            .any(|known| named(&known.model_types))
}

/// How an architecture slides where its file does not say.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sliding {
    period: u64,
    full: Place,
    window: Option<u64>,
    forced_window: Option<u64>,
    only_layers: Option<u64>,
    #[serde(default)]
    chunked: bool,
    #[serde(default)]
    needs_key: bool,
    model_types: Vec<String>,
}

/// Where in a period the layer stands that looks at everything.
#[derive(serde::Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Place {
    First,
    Last,
}

impl Catalog {
    /// The catalog; empty if the file that was built in cannot be read, which a test rules out.
    fn built_in() -> &'static Self {
        static CATALOG: OnceLock<Catalog> = OnceLock::new();
        CATALOG.get_or_init(|| {
            serde_saphyr::from_str(include_str!("../../../catalog/gguf_architectures.yaml")).unwrap_or(Self {
                source: String::new(),
                patterned_model_types: Vec::new(),
                uncached: Vec::new(),
                architectures: BTreeMap::new(),
            })
        })
    }
}

impl Sliding {
    fn pattern(&self, num_layers: u64, period: Option<u64>) -> Vec<bool> {
        let period = period.unwrap_or(self.period).max(1);
        let full = if self.full == Place::First { 0 } else { period - 1 };
        (0..num_layers).map(|layer| layer % period != full).collect()
    }
}

fn capped(layers: u64) -> usize {
    usize::try_from(layers.min(MAX_LAYERS)).unwrap_or(0)
}

fn integer(value: &GgufValue) -> Option<u64> {
    match value {
        GgufValue::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn refusal(reason: impl Into<String>) -> Refusal {
    Refusal {
        reason: reason.into(),
        span: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(arch: &str, entries: &[(&str, GgufValue)]) -> BTreeMap<String, GgufValue> {
        let mut metadata: BTreeMap<_, _> = entries
            .iter()
            .map(|(key, value)| (format!("{arch}.{key}"), value.clone()))
            .collect();
        metadata.insert("general.architecture".into(), GgufValue::Text(arch.into()));
        metadata
    }

    fn int(value: i128) -> GgufValue {
        GgufValue::Integer(value)
    }

    fn plain(layers: i128) -> Vec<(&'static str, GgufValue)> {
        vec![
            ("block_count", int(layers)),
            ("embedding_length", int(64)),
            ("attention.head_count", int(4)),
            ("attention.head_count_kv", int(2)),
        ]
    }

    #[test]
    fn the_catalog_of_windows_can_be_read() {
        assert_eq!(Catalog::built_in().architectures.len(), 13);
    }

    #[test]
    fn heads_default_to_all_and_head_length_to_its_share_of_the_width() {
        let mut entries = plain(3);
        entries.remove(3);
        let layout = from_metadata(&metadata("gpt2", &entries)).unwrap();
        let expected = Cache::Attention {
            kv_heads: 4,
            k_dim: 16,
            v_dim: 16,
            reach: Reach::Full,
        };
        assert_eq!((layout.groups.len(), layout.groups[0].cache), (1, expected));
        assert_eq!(layout.groups[0].layers, [0, 1, 2]);
    }

    #[test]
    fn phi3_ignores_its_window_and_gemma3_slides_five_of_six() {
        let mut entries = plain(12);
        entries.push(("attention.sliding_window", int(512)));
        assert_eq!(
            from_metadata(&metadata("phi3", &entries)).unwrap().groups.len(),
            1
        );
        let layout = from_metadata(&metadata("gemma3", &entries)).unwrap();
        let full: Vec<_> = layout
            .groups
            .iter()
            .filter(|group| {
                matches!(
                    group.cache,
                    Cache::Attention {
                        reach: Reach::Full,
                        ..
                    }
                )
            })
            .flat_map(|group| group.layers.clone())
            .collect();
        assert_eq!(full, [5, 11]);
    }

    #[test]
    fn layers_without_kv_heads_are_recurrent_and_feed_forward_ones_keep_nothing() {
        let mut entries = plain(4);
        entries[3] = (
            "attention.head_count_kv",
            GgufValue::Array([0, 2, 0, 0].map(int).to_vec()),
        );
        entries.extend([
            (
                "feed_forward_length",
                GgufValue::Array([0, 0, 128, 0].map(int).to_vec()),
            ),
            ("ssm.state_size", int(16)),
            ("ssm.inner_size", int(128)),
            ("ssm.conv_kernel", int(4)),
            ("ssm.group_count", int(1)),
            ("ssm.time_step_rank", int(8)),
        ]);
        let layers = |arch: &str| -> Vec<Vec<u32>> {
            let layout = from_metadata(&metadata(arch, &entries)).unwrap();
            layout.groups.into_iter().map(|group| group.layers).collect()
        };
        assert_eq!(layers("nemotron_h"), [vec![0, 3], vec![1]]);
        assert_eq!(layers("granitehybrid"), [vec![0, 2, 3], vec![1]]);
    }

    #[test]
    fn missing_keys_are_named() {
        let reason = |entries: &[_]| from_metadata(&metadata("llama", entries)).unwrap_err().reason;
        assert_eq!(reason(&[]), "the metadata key `llama.block_count` is missing");
        assert_eq!(
            reason(&plain(2)[..2]),
            "the metadata key `llama.attention.head_count` is missing"
        );
        assert!(reason(&[("block_count", int(1 << 63))]).contains("makes no model"));
    }
}
