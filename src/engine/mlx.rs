//! mlx-lm and the runtimes that share its caches: growing, rotating, chunked, quantized, recurrent.
//!
//! A cell's context is prefilled in chunks of 2048 tokens; the bytes are those of the largest moment. For plain
//! attention that is the product's core formula, [`kv_cache_bytes`](crate::memory::kv::kv_cache_bytes). Which
//! classes rotate is data in `catalog/mlx_caches.yaml`. Source: `ml-explore/mlx-lm` d78bf58e (2026-08-22),
//! `mlx_lm/models/cache.py`, `mlx_lm/generate.py`; measured with mlx 0.32.4.

use std::sync::OnceLock;

use super::{Band, Cell, Contradiction, KvType, Plan, Request, Reservation, Settings, overheads};
use crate::memory::kv::KV_CACHE_ALLOC_STEP;
use crate::memory::layout::{Cache, LayerGroup, Layout, Reach, State};
use crate::memory::{MIB, product, round_up};
use crate::model::{Dtype, Model};

/// Tokens of a prompt that go through the model at once (`generate_step`, `prefill_step_size`).
const PREFILL_STEP: u64 = 2048;

/// Weights that share a scale where `--kv-group-size` is not given (`generate.py`).
const DEFAULT_KV_GROUP: u64 = 64;

/// What Metal and the runtime take on top at most. Not measured, and nobody publishes a figure: a guess that only
/// widens the upper bound (`docs/overhead.md` says so).
const METAL_HIGH_BYTES: u64 = 512 * MIB;

/// Plans a deployment on MLX.
///
/// # Errors
/// Quantized KV caches that mlx-lm cannot make.
pub fn plan(request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    let model = request.model;
    let empty = Layout::default();
    let layout = model.layout.as_ref().unwrap_or(&empty);
    let class = Class::of(model, request.settings);
    let quantized = Quantized::given(request.settings);
    let caches = class.caches(layout, text_config(model));
    let wrong: Vec<_> = quantized
        .iter()
        .flat_map(|given| given.contradictions(&caches))
        .collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(Box::new(Mlx {
        caches,
        quantized,
        quantized_start: request.settings.count("quantized_kv_start").unwrap_or(0),
        dtype: model.dtype.as_ref().map(|fact| fact.value),
        weights_bytes: request.weights_bytes,
        memory_bytes: request.machine.memory_bytes,
        width: activation_width(model),
        prefill: request
            .settings
            .count("prefill_step_size")
            .unwrap_or(PREFILL_STEP)
            .max(1),
        given_overhead: overheads::given(request.settings),
        assumptions: class.assumptions(),
    }))
}

/// A deployment on MLX, ready for any cell.
struct Mlx {
    caches: Vec<GroupCache>,
    quantized: Option<Quantized>,
    /// Tokens up to which a cache stays unquantized.
    quantized_start: u64,
    dtype: Option<Dtype>,
    weights_bytes: u64,
    memory_bytes: u64,
    given_overhead: Option<Band>,
    /// Elements that one token of a prompt has in flight.
    width: u64,
    prefill: u64,
    assumptions: Vec<String>,
}

/// Layers that cache alike.
struct GroupCache {
    layers: u64,
    kind: Kind,
}

/// What mlx-lm makes for a layer.
#[derive(Clone, Copy)]
enum Kind {
    /// Keys and values of `key` and `value` elements a token and head.
    Tokens {
        heads: u64,
        key: u64,
        value: u64,
        growth: Growth,
    },
    /// Elements in the activations' type, and in 32 bits.
    State { plain: u64, wide: u64 },
}

/// How a cache grows with its tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// `KVCache`: in steps.
    Steps,
    /// `RotatingKVCache`: exact, trimmed to its size before each chunk of a prompt.
    Rotating(u64),
    /// `ChunkedKVCache`: in steps, trimmed to a chunk before each forward.
    Chunked(u64),
    /// One entry for each so many tokens.
    Every(u64),
    /// The same whatever the context.
    Fixed(u64),
}

impl Growth {
    /// Tokens allocated for a prompt at the largest moment of its prefill.
    fn tokens(self, context: u64, prefill: u64) -> u64 {
        let stepped = round_up(context, KV_CACHE_ALLOC_STEP);
        match self {
            Self::Steps => stepped,
            Self::Rotating(size) => rotating_tokens(size, context, prefill),
            Self::Chunked(size) => stepped.min(round_up(size.saturating_add(prefill), KV_CACHE_ALLOC_STEP)),
            Self::Every(ratio) => context / ratio.max(1),
            Self::Fixed(tokens) => tokens,
        }
    }
}

/// The most tokens that a rotating cache holds while a prompt is prefilled: what is kept of the earlier chunks,
/// at most `size - 1`, and the chunk itself (`RotatingKVCache._update_concat`).
fn rotating_tokens(size: u64, context: u64, prefill: u64) -> u64 {
    let kept = size.saturating_sub(1);
    let full_chunks = context.saturating_sub(1) / prefill;
    let before_last = full_chunks.saturating_mul(prefill);
    let at_last = before_last
        .min(kept)
        .saturating_add(context.saturating_sub(before_last));
    if full_chunks == 0 {
        return at_last;
    }
    let at_one_before = before_last
        .saturating_sub(prefill)
        .min(kept)
        .saturating_add(prefill);
    at_last.max(at_one_before)
}

/// How the elements of keys and values are stored.
#[derive(Clone, Copy)]
enum Elements {
    Plain(KvType),
    Grouped { quantized: Quantized, scale_bytes: u64 },
}

impl Elements {
    /// Bytes of one head's key or value.
    fn row(self, elements: u64) -> u64 {
        match self {
            Self::Plain(kind) => kind.row_bytes(elements),
            Self::Grouped {
                quantized,
                scale_bytes,
            } => quantized.row(elements, scale_bytes),
        }
    }
}

/// `QuantizedKVCache`: packed integers, a scale and a bias for each group.
#[derive(Clone, Copy)]
struct Quantized {
    bits: u64,
    group: u64,
}

impl Quantized {
    fn given(settings: &Settings) -> Option<Self> {
        Some(Self {
            bits: settings.count("kv_bits")?,
            group: settings.count("kv_group_size").unwrap_or(DEFAULT_KV_GROUP),
        })
    }

    fn row(self, elements: u64, scale_bytes: u64) -> u64 {
        let packed = elements.saturating_mul(self.bits) / 8;
        let groups = elements.checked_div(self.group).unwrap_or(0);
        packed.saturating_add(product(&[2, groups, scale_bytes]))
    }

    /// What `mx.quantize` and the rotating cache refuse.
    fn contradictions(self, caches: &[GroupCache]) -> Vec<Contradiction> {
        let mut wrong = Vec::new();
        let mut refuse = |message: String, setting| {
            wrong.push(Contradiction {
                rule: Contradiction::GENERAL,
                message,
                settings: vec![setting, "kv_bits"],
            });
        };
        if !matches!(self.bits, 2 | 3 | 4 | 5 | 6 | 8) {
            refuse(
                format!("MLX quantizes to 2, 3, 4, 5, 6 or 8 bits, not {}", self.bits),
                "kv_bits",
            );
        }
        if !matches!(self.group, 32 | 64 | 128) {
            refuse(
                format!("MLX quantizes in groups of 32, 64 or 128, not {}", self.group),
                "kv_group_size",
            );
            return wrong;
        }
        for cache in caches {
            let Kind::Tokens {
                key, value, growth, ..
            } = cache.kind
            else {
                continue;
            };
            if matches!(growth, Growth::Rotating(_)) {
                refuse(
                    "mlx-lm cannot quantize the rotating cache of window layers".to_owned(),
                    "kv_bits",
                );
                break;
            }
            if let Some(uneven) = [key, value]
                .into_iter()
                .find(|dim| !dim.is_multiple_of(self.group))
            {
                let group = self.group;
                refuse(
                    format!("groups of {group} do not divide the {uneven} elements of a head"),
                    "kv_group_size",
                );
                break;
            }
        }
        wrong
    }
}

impl Mlx {
    /// The type of activations, in which MLX keeps its caches: that of the cell where it is a float type, else
    /// the checkpoint's.
    fn activation_bytes(&self, kv: KvType) -> u64 {
        let kind = match kv {
            KvType::F32 | KvType::F16 | KvType::Bf16 => kv,
            _ => KvType::Auto,
        };
        kind.resolve(self.dtype).row_bytes(1)
    }

    fn elements(&self, kv: KvType) -> Elements {
        let scale_bytes = self.activation_bytes(kv);
        match (self.quantized, kv) {
            (Some(quantized), _) => Elements::Grouped {
                quantized,
                scale_bytes,
            },
            (None, KvType::Int4) => Elements::Grouped {
                quantized: Quantized {
                    bits: 4,
                    group: DEFAULT_KV_GROUP,
                },
                scale_bytes,
            },
            (None, kv) => Elements::Plain(kv.resolve(self.dtype)),
        }
    }

    /// KV bytes of a sequence, summed over layers.
    fn kv_bytes(&self, context: u64, elements: Elements) -> u64 {
        self.caches.iter().fold(0, |sum: u64, cache| {
            let Kind::Tokens {
                heads,
                key,
                value,
                growth,
            } = cache.kind
            else {
                return sum;
            };
            let token = elements.row(key).saturating_add(elements.row(value));
            sum.saturating_add(product(&[
                cache.layers,
                heads,
                token,
                growth.tokens(context, self.prefill),
            ]))
        })
    }

    fn state_bytes(&self, kv: KvType) -> u64 {
        self.caches.iter().fold(0, |sum: u64, cache| {
            let Kind::State { plain, wide } = cache.kind else {
                return sum;
            };
            let bytes = plain
                .saturating_mul(self.activation_bytes(kv))
                .saturating_add(wide.saturating_mul(4));
            sum.saturating_add(bytes.saturating_mul(cache.layers))
        })
    }

    /// What a chunk of a prompt has in flight, and the copy that a growing layer makes of itself.
    fn overhead(&self, cell: Cell, kv_bytes: u64) -> Band {
        if let Some(given) = self.given_overhead {
            return given;
        }
        let tokens = cell.context.min(self.prefill);
        let activations = product(&[tokens, cell.batch, self.width, self.activation_bytes(cell.kv)]);
        let layers = self
            .caches
            .iter()
            .map(|cache| cache.layers)
            .max()
            .unwrap_or(1)
            .max(1);
        let likely = activations.saturating_add(kv_bytes / layers);
        Band {
            low: likely / 4,
            likely,
            high: likely.saturating_mul(2).saturating_add(METAL_HIGH_BYTES),
        }
    }
}

impl Plan for Mlx {
    fn reserve(&self, cell: Cell) -> Reservation {
        let elements = self.elements(cell.kv);
        let mut one = self.kv_bytes(cell.context, elements);
        if matches!(elements, Elements::Grouped { .. }) && self.quantized_start > 0 {
            // The first tokens are kept in full until the cache is long enough to be quantized.
            let full = Elements::Plain(KvType::Auto.resolve(self.dtype));
            let start = self.quantized_start.min(cell.context);
            let before = self.kv_bytes(start, full);
            one = if cell.context <= self.quantized_start {
                before
            } else {
                one.max(before)
            };
        }
        let kv_cache_bytes = one.saturating_mul(cell.batch);
        Reservation {
            weights_bytes: self.weights_bytes,
            kv_cache_bytes,
            state_bytes: self.state_bytes(cell.kv).saturating_mul(cell.batch),
            overhead: self.overhead(cell, kv_cache_bytes),
            usable_bytes: self.memory_bytes,
            ..Reservation::default()
        }
    }

    fn assumptions(&self) -> &[String] {
        &self.assumptions
    }
}

/// `catalog/mlx_caches.yaml`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    #[expect(dead_code, reason = "provenance for readers of the file")]
    source: String,
    rotating: Vec<String>,
    rotating_with_layer_types: Vec<String>,
    chunked: Vec<String>,
    expanded_latent: Vec<String>,
    own_cache: Vec<String>,
}

impl Catalog {
    /// The catalog; `None` if the file that was built in cannot be read, which a test rules out.
    fn built_in() -> Option<&'static Self> {
        static CATALOG: OnceLock<Option<Catalog>> = OnceLock::new();
        CATALOG
            .get_or_init(|| serde_saphyr::from_str(include_str!("../../catalog/mlx_caches.yaml")).ok())
            .as_ref()
    }
}

/// How the model's class in mlx-lm caches.
struct Class {
    rotates: bool,
    chunks: bool,
    /// Key and value elements of one token over all heads, where the class does not cache the latent.
    expanded: Option<(u64, u64)>,
    /// `--max-kv-size`, where it has an effect.
    max_size: Option<u64>,
    /// True where the option is given and has none.
    max_size_ignored: bool,
}

impl Class {
    fn of(model: &Model, settings: &Settings) -> Self {
        let kind = model.model_type.as_ref().map_or("", |fact| fact.value.as_str());
        let is = |choose: fn(&Catalog) -> &Vec<String>| {
            Catalog::built_in().is_some_and(|catalog| choose(catalog).iter().any(|name| name == kind))
        };
        let has_layer_types = text_config(model).is_some_and(|config| config.get("layer_types").is_some());
        let max_size = settings.count("max_kv_size");
        let own_cache = is(|catalog| &catalog.own_cache);
        Self {
            rotates: is(|catalog| &catalog.rotating)
                || (has_layer_types && is(|catalog| &catalog.rotating_with_layer_types)),
            chunks: is(|catalog| &catalog.chunked),
            expanded: is(|catalog| &catalog.expanded_latent)
                .then(|| expanded_latent(model))
                .flatten(),
            max_size: max_size.filter(|_| !own_cache),
            max_size_ignored: max_size.is_some() && own_cache,
        }
    }

    fn assumptions(&self) -> Vec<String> {
        let ignored = "mlx-lm ignores the maximum cache size for this model: its class makes its own caches";
        self.max_size_ignored
            .then(|| ignored.to_owned())
            .into_iter()
            .collect()
    }

    /// What each group of layers keeps. mlx-lm takes `layer_types` as they stand, while transformers, whose
    /// reading the layout is, makes the last layer of Gemma 4 a full one.
    fn caches(&self, layout: &Layout, config: Option<&serde_json::Value>) -> Vec<GroupCache> {
        let types = config.and_then(|config| config.get("layer_types")?.as_array());
        let slides = |layer: &&u32| {
            let named = types.and_then(|types| types.get(usize::try_from(**layer).ok()?)?.as_str());
            self.rotates && named == Some("sliding_attention")
        };
        let reach = |group: &LayerGroup| match group.cache {
            Cache::Attention { reach, .. } => Some(reach),
            _ => None,
        };
        let windowed = layout
            .groups
            .iter()
            .position(|group| matches!(reach(group), Some(Reach::Window(_))));
        let mut moved = 0;
        let mut caches = Vec::new();
        for group in &layout.groups {
            let relabelled = match (windowed, reach(group)) {
                (Some(_), Some(Reach::Full)) => group.layers.iter().filter(slides).count() as u64,
                _ => 0,
            };
            moved += relabelled;
            caches.push(GroupCache {
                layers: group.count().saturating_sub(relabelled),
                kind: self.kind(group.cache),
            });
        }
        if let Some(cache) = windowed.and_then(|at| caches.get_mut(at)) {
            cache.layers = cache.layers.saturating_add(moved);
        }
        caches
    }

    fn kind(&self, cache: Cache) -> Kind {
        let unbounded = self.max_size.map_or(Growth::Steps, Growth::Rotating);
        let tokens = |heads, key, value, growth| Kind::Tokens {
            heads,
            key,
            value,
            growth,
        };
        match cache {
            Cache::Attention {
                kv_heads,
                k_dim,
                v_dim,
                reach,
            } => {
                let growth = match reach {
                    Reach::Window(window) if self.rotates => Growth::Rotating(window),
                    Reach::Chunk(chunk) if self.chunks => Growth::Chunked(chunk),
                    _ => unbounded,
                };
                tokens(kv_heads, k_dim, v_dim, growth)
            }
            Cache::Latent { rank, rope_dim } => {
                let (key, value) = self.expanded.unwrap_or((rank, rope_dim));
                tokens(1, key, value, unbounded)
            }
            Cache::Indexer { head_dim } => tokens(1, head_dim, 0, Growth::Steps),
            Cache::Compressed { ratio, head_dim } | Cache::CompressedIndexer { ratio, head_dim } => {
                tokens(1, head_dim, 0, Growth::Every(ratio))
            }
            Cache::Ring { width, tokens } => Kind::State {
                plain: 0,
                wide: width.saturating_mul(tokens),
            },
            Cache::Cross {
                kv_heads,
                k_dim,
                v_dim,
                encoder_tokens,
            } => tokens(kv_heads, k_dim, v_dim, Growth::Fixed(encoder_tokens)),
            Cache::Recurrent { state, .. } => state_kind(state),
        }
    }
}

/// Convolutions and Mamba-1 states are kept like activations, matrix states in 32 bits (`ssm.py`,
/// `gated_delta.py`; measured for Mamba 1 and Falcon-H1).
fn state_kind(state: State) -> Kind {
    let (conv, recurrent) = state.elements();
    match state {
        State::Mamba1 { .. } | State::RgLru { .. } => Kind::State {
            plain: conv.saturating_add(recurrent),
            wide: 0,
        },
        _ => Kind::State {
            plain: conv,
            wide: recurrent,
        },
    }
}

fn text_config(model: &Model) -> Option<&serde_json::Value> {
    let config = model.config.as_ref()?;
    Some(config.get("text_config").unwrap_or(config))
}

/// Elements of the keys and values that a class without latent cache keeps for a token.
fn expanded_latent(model: &Model) -> Option<(u64, u64)> {
    let config = text_config(model)?;
    let count = |key: &str| config.get(key)?.as_u64();
    let heads = count("num_attention_heads")?;
    let key = count("qk_nope_head_dim")?.checked_add(count("qk_rope_head_dim")?)?;
    let value = count("v_head_dim").or_else(|| count("hidden_size")?.checked_div(heads))?;
    Some((heads.checked_mul(key)?, heads.checked_mul(value)?))
}

/// Elements that one token has in flight in the widest layer: three of the feed-forward width and six of the
/// residual stream.
pub(super) fn activation_width(model: &Model) -> u64 {
    let hidden = model.dims.hidden_size.as_ref().map_or(4096, |fact| fact.value);
    let feed = text_config(model)
        .and_then(|config| config.get("intermediate_size")?.as_u64())
        .unwrap_or(hidden.saturating_mul(4));
    feed.saturating_mul(3).saturating_add(hidden.saturating_mul(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_can_be_read_and_names_no_class_twice() {
        let catalog = Catalog::built_in().unwrap();
        for (at, name) in catalog.own_cache.iter().enumerate() {
            assert!(!catalog.own_cache[..at].contains(name), "{name}");
        }
        for name in catalog
            .rotating
            .iter()
            .chain(&catalog.chunked)
            .chain(&catalog.rotating_with_layer_types)
        {
            assert!(catalog.own_cache.contains(name), "{name}");
        }
    }

    #[test]
    fn a_rotating_cache_peaks_at_its_size_and_one_chunk() {
        let tokens = |context| rotating_tokens(1024, context, 2048);
        assert_eq!([tokens(20), tokens(300), tokens(2048)], [20, 300, 2048]);
        assert_eq!(tokens(2049), 2048);
        assert_eq!(tokens(4096), 1023 + 2048);
        assert_eq!(tokens(131_072), 1023 + 2048);
        assert!((0..9000).all(|context| tokens(context) <= tokens(context + 1)));
    }

    #[test]
    fn a_chunked_cache_stops_growing_past_a_chunk_and_a_prefill_step() {
        let tokens = |context| Growth::Chunked(8192).tokens(context, 2048);
        assert_eq!([tokens(100), tokens(8192), tokens(1 << 20)], [256, 8192, 10_240]);
    }

    #[test]
    fn group_scales_are_counted_for_quantized_caches() {
        let row = |bits, group| Quantized { bits, group }.row(128, 2);
        assert_eq!([row(8, 64), row(8, 32), row(4, 64)], [136, 144, 72]);
    }

    #[test]
    fn rotating_caches_refuse_to_be_quantized() {
        let cache = |growth| GroupCache {
            layers: 1,
            kind: Kind::Tokens {
                heads: 8,
                key: 80,
                value: 80,
                growth,
            },
        };
        let refused = |growth, group| {
            let wrong = Quantized { bits: 8, group }.contradictions(&[cache(growth)]);
            wrong
                .first()
                .map(|first| first.message.clone())
                .unwrap_or_default()
        };
        assert!(refused(Growth::Rotating(1024), 64).contains("rotating"));
        assert!(refused(Growth::Steps, 64).contains("80 elements of a head"));
        assert!(refused(Growth::Steps, 16).contains("32, 64 or 128"));
    }
}
