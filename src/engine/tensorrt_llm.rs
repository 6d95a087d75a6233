//! TensorRT-LLM (`PyTorch` backend): blocks in a fraction of what is free after model and activations.
//!
//! Source: TensorRT-LLM `tensorrt_llm/_torch/pyexecutor/_util.py` (`KvCacheCreator._cal_max_memory`) and the
//! published reference of `KvCacheConfig`; read, not measured.

use super::sharding::Sharding;
use super::token_pool::{RankCaches, admitted};
use super::{Band, Cell, Contradiction, Engine, KvType, Plan, Request, Reservation, overheads};
use crate::memory::round_up;

/// `free_gpu_memory_fraction`: of the memory that is free after the profiling run.
const FREE_FRACTION: f64 = 0.9;
/// `tokens_per_block`.
const TOKENS_PER_BLOCK: u64 = 32;
/// `max_num_tokens` and `max_batch_size` of the server.
const BATCHED_TOKENS: u64 = 8192;
const SEQUENCES: u64 = 2048;

struct TensorrtLlmPlan {
    caches: RankCaches,
    weights_bytes: u64,
    memory_bytes: u64,
    overhead: Band,
    free_fraction: f64,
    block: u64,
    max_tokens: Option<u64>,
    assumptions: Vec<String>,
}

/// The plan of one deployment of one model on one machine.
///
/// # Errors
/// The reasons why TensorRT-LLM refuses to start whatever the memory.
pub fn plan(request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    let sharding = Sharding::of(request);
    let layout = admitted(request, &sharding, kv_contradiction)?;
    let settings = request.settings;
    let block = settings.count("tokens_per_block").unwrap_or(TOKENS_PER_BLOCK);
    if !block.is_power_of_two() {
        return Err(vec![Contradiction {
            rule: Contradiction::GENERAL,
            message: format!("tokens per block is {block}, TensorRT-LLM takes powers of two"),
            settings: vec!["tokens_per_block"],
        }]);
    }
    let tokens = settings.count("max_batched_tokens").unwrap_or(BATCHED_TOKENS);
    let sequences = settings.count("max_sequences").unwrap_or(SEQUENCES);
    // Logits are computed for sequences that fit a step.
    let load = overheads::load(request, &sharding, sequences.min(tokens), tokens);
    let free_fraction = settings
        .number("free_memory_fraction")
        .or_else(|| settings.number("memory_fraction"))
        .unwrap_or(FREE_FRACTION)
        .clamp(0.01, 1.0);
    Ok(Box::new(TensorrtLlmPlan {
        caches: RankCaches::of(request, layout, sharding),
        weights_bytes: sharding.rank_weights_bytes(request),
        memory_bytes: request.machine.engine_memory_bytes(),
        overhead: overheads::of(Engine::TensorrtLlm, request.version, request.settings)
            .estimate(&load)
            .into(),
        free_fraction,
        block,
        max_tokens: settings.count("max_tokens"),
        assumptions: vec![String::from(
            "TensorRT-LLM's reservation follows its source; it was not measured",
        )],
    }))
}

/// Why TensorRT-LLM refuses a KV type, whatever the memory: it knows the model's dtype, int8, fp8 and nvfp4.
pub fn kv_contradiction(kv: KvType) -> Option<Contradiction> {
    let known = matches!(
        kv,
        KvType::Auto | KvType::F16 | KvType::Bf16 | KvType::Fp8 | KvType::Int8 | KvType::Nvfp4
    );
    (!known).then(|| Contradiction {
        rule: "kv-cache-dtype-unsupported",
        message: format!("TensorRT-LLM has no KV cache of type {}", kv.name()),
        settings: vec!["kv_cache"],
    })
}

impl Plan for TensorrtLlmPlan {
    /// The fraction is of what is free, so a cache of `n` bytes needs `n / fraction` of it:
    /// `extra_reserved_bytes` is the part that the engine leaves alone. Windows keep the whole context unless
    /// `max_attention_window` is declared, which is not modelled.
    fn reserve(&self, cell: Cell) -> Reservation {
        let cells = self.caches.cells(cell.kv, None);
        let token = cells.full.saturating_add(cells.window);
        let context = round_up(cell.context, self.block);
        let kv_cache_bytes = token
            .saturating_mul(context)
            .saturating_add(cells.encoder)
            .saturating_mul(cell.batch);
        let free = self
            .memory_bytes
            .saturating_sub(self.weights_bytes)
            .saturating_sub(self.overhead.likely);
        let pool = scaled(free, self.free_fraction);
        let blocks = pool.checked_div(token.saturating_mul(self.block)).unwrap_or(0);
        let tokens = blocks
            .saturating_mul(self.block)
            .min(self.max_tokens.unwrap_or(u64::MAX));
        Reservation {
            weights_bytes: self.weights_bytes,
            kv_cache_bytes,
            state_bytes: cells.state.saturating_mul(cell.batch),
            extra_reserved_bytes: scaled(kv_cache_bytes, 1.0 / self.free_fraction - 1.0),
            overhead: self.overhead,
            usable_bytes: self.memory_bytes,
            kv_cache_tokens: Some(tokens),
            max_concurrency: Some(tokens as f64 / context.max(1) as f64),
            max_sequences: None,
            state_slots: None,
            state_slots_at_most: None,
        }
    }

    fn assumptions(&self) -> &[String] {
        &self.assumptions
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and the factors are not negative"
)]
fn scaled(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor.max(0.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures::{attention, h100, model, settings};
    use crate::engine::{Request, Version};
    use crate::memory::GIB;
    use crate::memory::layout::Reach;
    use crate::model::Model;

    fn planned(model: &Model, values: &[(&str, &str)]) -> Box<dyn Plan> {
        plan(&Request {
            model,
            machine: &h100(),
            version: Version::parse("1.2.0"),
            settings: &settings(values),
            weights_bytes: 16 * GIB,
            format: None,
        })
        .unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    const fn cell(context: u64, batch: u64) -> Cell {
        Cell {
            context,
            batch,
            kv: KvType::Auto,
        }
    }

    #[test]
    fn the_fraction_is_of_what_is_free() {
        let llama = model(&[(attention(8, 128, Reach::Full), 32)]);
        let reservation = planned(&llama, &[("free_memory_fraction", "0.5")]).reserve(cell(8192, 1));
        assert_eq!(
            (reservation.kv_cache_bytes, reservation.extra_reserved_bytes),
            (GIB, GIB)
        );
        let free = reservation.usable_bytes - 16 * GIB - reservation.overhead.likely;
        assert_eq!(reservation.kv_cache_tokens, Some(free / 2 / 131_072 / 32 * 32));
    }

    #[test]
    fn max_tokens_caps_the_pool() {
        let llama = model(&[(attention(8, 128, Reach::Full), 32)]);
        let reservation = planned(&llama, &[("max_tokens", "4096")]).reserve(cell(2048, 1));
        assert_eq!(reservation.kv_cache_tokens, Some(4096));
        assert_eq!(reservation.max_concurrency, Some(2.0));
    }

    #[test]
    fn blocks_are_powers_of_two() {
        let llama = model(&[(attention(8, 128, Reach::Full), 32)]);
        let refused = plan(&Request {
            model: &llama,
            machine: &h100(),
            version: None,
            settings: &settings(&[("tokens_per_block", "48")]),
            weights_bytes: GIB,
            format: None,
        });
        assert!(refused.is_err_and(|refused| refused[0].message.contains("48")));
    }
}
