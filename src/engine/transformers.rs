//! transformers `generate`: caches of exactly as many tokens as there are, or allocated at their full length.
//!
//! The dynamic cache keeps every token of full layers, `window - 1` of window layers, the latent of MLA models,
//! convolutions over their full width and recurrent states in 32 bits; the static cache allocates its length at
//! the first use. Source: `huggingface/transformers` 5.20, `cache_utils.py` and the caches of DeepSeek-V4;
//! measured on 122 models.

use super::mlx::activation_width;
use super::{Band, Cell, Contradiction, KvType, Plan, Request, Reservation, Settings, overheads};
use crate::machine::MachineKind;
use crate::memory::layout::{Cache, LayerGroup, Layout, Reach, State};
use crate::memory::{MIB, product};
use crate::model::Dtype;

/// Driver context and libraries of `PyTorch` on an accelerator, likely and at most. Inference: start-up logs of
/// other `PyTorch` engines show 20 to 160 MiB beside the driver's own share.
const RUNTIME_MIB: (u64, u64) = (300, 1024);

/// What `cache_implementation` can be, as far as sizes differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Implementation {
    Dynamic,
    Static,
}

/// Plans a deployment on transformers.
///
/// # Errors
/// A cache implementation or a dtype that transformers does not have.
pub fn plan(request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    let settings = request.settings;
    let model = request.model;
    let (implementation, mut assumptions) = implementation(settings)?;
    let dtype = match settings.text("dtype").filter(|text| *text != "auto") {
        None => model.dtype.as_ref().map(|fact| fact.value),
        Some(text) => Some(Dtype::parse(text).ok_or_else(|| {
            vec![Contradiction {
                rule: Contradiction::GENERAL,
                message: format!("`{text}` is not a dtype of PyTorch"),
                settings: vec!["dtype"],
            }]
        })?),
    };
    let empty = Layout::default();
    let layout = model.layout.as_ref().unwrap_or(&empty);
    let accelerators = match request.machine.kind {
        MachineKind::Cpu => 1,
        _ => request.machine.count.max(1),
    };
    if accelerators > 1 {
        assumptions.push("whole layers are spread evenly over the accelerators".to_owned());
    }
    Ok(Box::new(Transformers {
        caches: caches(layout, settings.count("encoder_tokens")),
        implementation,
        dtype,
        weights_bytes: request.weights_bytes.div_ceil(accelerators),
        accelerators,
        usable_bytes: request.machine.engine_memory_bytes(),
        has_runtime: request.machine.kind != MachineKind::Cpu && !request.machine.unified_memory,
        width: activation_width(model),
        given_overhead: overheads::given(settings),
        assumptions,
    }))
}

fn implementation(settings: &Settings) -> Result<(Implementation, Vec<String>), Vec<Contradiction>> {
    Ok(match settings.text("cache_implementation") {
        None | Some("dynamic" | "dynamic_full") => (Implementation::Dynamic, Vec::new()),
        Some("static" | "sliding_window" | "hybrid" | "hybrid_chunked") => {
            (Implementation::Static, Vec::new())
        }
        Some(name @ ("quantized" | "offloaded" | "offloaded_static")) => {
            let said =
                format!("the `{name}` cache is counted as an unquantized one that stays on the accelerator");
            (Implementation::Dynamic, vec![said])
        }
        Some(name) => {
            return Err(vec![Contradiction {
                rule: Contradiction::GENERAL,
                message: format!(
                    "transformers has no cache implementation `{name}`: dynamic, static, quantized, offloaded"
                ),
                settings: vec!["cache_implementation"],
            }]);
        }
    })
}

/// A deployment on transformers, ready for any cell.
struct Transformers {
    caches: Vec<GroupCache>,
    implementation: Implementation,
    dtype: Option<Dtype>,
    weights_bytes: u64,
    accelerators: u64,
    usable_bytes: u64,
    has_runtime: bool,
    width: u64,
    given_overhead: Option<Band>,
    assumptions: Vec<String>,
}

/// Layers that cache alike.
struct GroupCache {
    layers: u64,
    kind: Kind,
}

/// What one layer keeps of one sequence.
#[derive(Clone, Copy)]
enum Kind {
    /// Elements for each token.
    Tokens { elements: u64, reach: Reach },
    /// DeepSeek-V4: entries for runs of tokens, the unfinished run, and for overlapping runs the last whole one.
    Runs { ratio: u64, dim: u64, overlap: bool },
    /// Elements of the encoder's tokens.
    Fixed { elements: u64 },
    /// Elements in the model's type, and in 32 bits.
    State { plain: u64, wide: u64 },
}

impl Kind {
    /// Elements of keys and values after `context` tokens.
    fn elements(self, context: u64, implementation: Implementation) -> u64 {
        match self {
            Self::Tokens { elements, reach } => elements.saturating_mul(kept(reach, context, implementation)),
            Self::Runs { ratio, dim, overlap } => runs_elements(ratio.max(1), dim, overlap, context),
            Self::Fixed { elements } => elements,
            Self::State { .. } => 0,
        }
    }
}

/// Tokens that a layer keeps. The dynamic cache drops the one that the next step cannot see; the static one
/// allocates the whole window.
fn kept(reach: Reach, context: u64, implementation: Implementation) -> u64 {
    match (reach, implementation) {
        (Reach::Full, _) => context,
        (Reach::Window(size) | Reach::Chunk(size), Implementation::Dynamic) => {
            context.min(size.saturating_sub(1))
        }
        (Reach::Window(size) | Reach::Chunk(size), Implementation::Static) => context.min(size),
    }
}

/// Whole runs as one entry each; the tokens of the unfinished run with their gates; and where runs overlap, all
/// of that twice as wide, and the last whole run with its gates (`DeepseekV4CSACache`, `DeepseekV4HCACache`).
fn runs_elements(ratio: u64, dim: u64, overlap: bool, context: u64) -> u64 {
    let entries = product(&[context / ratio, dim]);
    let unfinished = product(&[2, context % ratio, dim]);
    if !overlap {
        return entries.saturating_add(unfinished);
    }
    let last = if context >= ratio {
        product(&[2, ratio, dim])
    } else {
        0
    };
    entries
        .saturating_add(unfinished.saturating_mul(2))
        .saturating_add(last)
}

/// Prepares a layout. DeepSeek-V4 has one vector for key and value: layers that compress keep it once, pure
/// window layers twice.
fn caches(layout: &Layout, encoder_tokens: Option<u64>) -> Vec<GroupCache> {
    let compresses = |layer: &&u32| {
        layout.groups.iter().any(|group| {
            matches!(group.cache, Cache::Compressed { .. }) && group.layers.binary_search(layer).is_ok()
        })
    };
    let has_runs = layout
        .groups
        .iter()
        .any(|group| matches!(group.cache, Cache::Compressed { .. }));
    let mut caches = Vec::new();
    for group in &layout.groups {
        let Some(kind) = kind(group, layout, encoder_tokens) else {
            continue;
        };
        let once = GroupCache {
            layers: group.count(),
            kind,
        };
        if let (true, Kind::Tokens { elements, reach }) = (has_runs, kind) {
            let compressing = group.layers.iter().filter(compresses).count() as u64;
            let twice = Kind::Tokens {
                elements: elements.saturating_mul(2),
                reach,
            };
            caches.push(GroupCache {
                layers: group.count().saturating_sub(compressing),
                kind: twice,
            });
            caches.push(GroupCache {
                layers: compressing,
                ..once
            });
        } else {
            caches.push(once);
        }
    }
    caches
}

fn kind(group: &LayerGroup, layout: &Layout, encoder_tokens: Option<u64>) -> Option<Kind> {
    let tokens = |elements| Kind::Tokens {
        elements,
        reach: Reach::Full,
    };
    Some(match group.cache {
        Cache::Attention { reach, .. } => Kind::Tokens {
            elements: group.cache.elements_per_token(),
            reach,
        },
        Cache::Latent { .. } | Cache::Indexer { .. } => tokens(group.cache.elements_per_token()),
        Cache::Compressed { ratio, head_dim } => Kind::Runs {
            ratio,
            dim: head_dim,
            overlap: overlaps(layout, ratio),
        },
        Cache::CompressedIndexer { ratio, head_dim } => Kind::Runs {
            ratio,
            dim: head_dim,
            overlap: true,
        },
        Cache::Cross {
            kv_heads,
            k_dim,
            v_dim,
            encoder_tokens: most,
        } => Kind::Fixed {
            elements: product(&[
                kv_heads,
                k_dim.saturating_add(v_dim),
                encoder_tokens.unwrap_or(most),
            ]),
        },
        Cache::Recurrent { state, .. } => state_kind(state),
        // What a run has not filled yet is counted with the runs.
        Cache::Ring { .. } => return None,
    })
}

/// Runs that an indexer chooses from overlap.
fn overlaps(layout: &Layout, ratio: u64) -> bool {
    let indexes = |group: &LayerGroup| matches!(group.cache, Cache::CompressedIndexer { ratio: own, .. } if own == ratio);
    layout.groups.iter().any(indexes)
}

/// Convolutions keep their full width; recurrent states are 32-bit but for lightning attention; RWKV-4 keeps
/// two of its five vectors in the model's type.
fn state_kind(state: State) -> Kind {
    let (conv, recurrent) = state.elements();
    let widened = |kernel: u64| {
        let steps = kernel.saturating_sub(1).max(1);
        (conv / steps).saturating_mul(kernel)
    };
    let (plain, wide) = match state {
        State::Mamba1 { conv_kernel, .. }
        | State::Mamba2 { conv_kernel, .. }
        | State::DeltaNet { conv_kernel, .. }
        | State::Kda { conv_kernel, .. }
        | State::RgLru { conv_kernel, .. } => (widened(conv_kernel), recurrent),
        State::ShortConv { kernel, .. } => (widened(kernel), 0),
        State::Lightning { .. } => (recurrent, 0),
        State::Rwkv { width, head_size: 0 } => (width.saturating_mul(2), width.saturating_mul(3)),
        State::Rwkv { .. } => (conv, recurrent),
    };
    Kind::State { plain, wide }
}

impl Transformers {
    /// The type of activations, in which the caches are kept: that of the cell where it is a float type, else
    /// the model's.
    fn kv_type(&self, kv: KvType) -> KvType {
        match kv {
            KvType::F32 | KvType::F16 | KvType::Bf16 => kv,
            _ => KvType::Auto.resolve(self.dtype),
        }
    }

    fn overhead(&self, cell: Cell, element_bytes: u64, kv_bytes: u64) -> Band {
        if let Some(given) = self.given_overhead {
            return given;
        }
        // The prompt goes through each layer at once, and a growing layer is copied.
        let activations = product(&[cell.context, cell.batch, self.width, element_bytes]);
        let layers = self
            .caches
            .iter()
            .map(|cache| cache.layers)
            .max()
            .unwrap_or(1)
            .max(1);
        let likely = activations.saturating_add(kv_bytes / layers);
        let (context, context_high) = if self.has_runtime { RUNTIME_MIB } else { (0, 0) };
        Band {
            low: likely / 4,
            likely: likely.saturating_add(context.saturating_mul(MIB)),
            high: likely
                .saturating_mul(2)
                .saturating_add(context_high.saturating_mul(MIB)),
        }
    }
}

impl Plan for Transformers {
    fn reserve(&self, cell: Cell) -> Reservation {
        let element_bytes = self.kv_type(cell.kv).row_bytes(1);
        let (mut kv, mut states) = (0u64, 0u64);
        for cache in &self.caches {
            let elements = cache.kind.elements(cell.context, self.implementation);
            kv = kv.saturating_add(product(&[cache.layers, elements, element_bytes]));
            if let Kind::State { plain, wide } = cache.kind {
                let bytes = plain
                    .saturating_mul(element_bytes)
                    .saturating_add(wide.saturating_mul(4));
                states = states.saturating_add(bytes.saturating_mul(cache.layers));
            }
        }
        let share = |bytes: u64| bytes.saturating_mul(cell.batch).div_ceil(self.accelerators);
        Reservation {
            weights_bytes: self.weights_bytes,
            kv_cache_bytes: share(kv),
            state_bytes: share(states),
            overhead: self.overhead(cell, element_bytes, share(kv)),
            usable_bytes: self.usable_bytes,
            ..Reservation::default()
        }
    }

    fn assumptions(&self) -> &[String] {
        &self.assumptions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_window_keeps_one_token_less_than_a_static_one() {
        let tokens = |implementation| kept(Reach::Window(32), 100, implementation);
        assert_eq!(
            (tokens(Implementation::Dynamic), tokens(Implementation::Static)),
            (31, 32)
        );
        assert_eq!(kept(Reach::Window(32), 20, Implementation::Dynamic), 20);
    }

    #[test]
    fn compressed_runs_keep_entries_the_unfinished_run_and_the_overlap() {
        // Measured: 53 tokens in runs of 16 and of 4, 32 elements an entry.
        assert_eq!(runs_elements(16, 32, false, 53), (3 + 2 * 5) * 32);
        assert_eq!(runs_elements(4, 32, true, 53), 13 * 32 + 2 * 64 + 2 * 4 * 32);
    }

    #[test]
    fn convolutions_keep_their_full_width_and_states_are_32_bit() {
        let mamba = State::Mamba1 {
            inner: 64,
            state: 16,
            conv_kernel: 4,
        };
        assert!(matches!(
            state_kind(mamba),
            Kind::State {
                plain: 256,
                wide: 1024
            }
        ));
        let rwkv = State::Rwkv {
            width: 32,
            head_size: 0,
        };
        assert!(matches!(state_kind(rwkv), Kind::State { plain: 64, wide: 96 }));
    }
}
