//! Text Generation Inference: blocks in what a warm-up prefill leaves free.
//!
//! Every layer keeps the whole context, windows too. Source: TGI db931fcf
//! `server/text_generation_server/models/flash_causal_lm.py::warmup`, `utils/import_utils.py`,
//! `models/globals.py`; read, not measured.

use super::sharding::Sharding;
use super::token_pool::{Cells, RankCaches, admitted};
use super::{Band, Cell, Contradiction, Engine, KvType, Plan, Request, Reservation, overheads};
use crate::memory::round_up;

/// Share of the memory that the warm-up may fill (`TGI_WIGGLE_ROOM`).
const WIGGLE_ROOM: f64 = 0.90;
/// `max_batch_prefill_tokens` where none is declared.
const PREFILL_TOKENS: u64 = 4096;

struct TgiPlan {
    caches: RankCaches,
    weights_bytes: u64,
    usable_bytes: u64,
    overhead: Band,
    block: u64,
    assumptions: Vec<String>,
}

/// The plan of one deployment of one model on one machine.
///
/// # Errors
/// The reasons why TGI refuses to start whatever the memory.
pub fn plan(request: &Request<'_>) -> Result<Box<dyn Plan>, Vec<Contradiction>> {
    let sharding = Sharding::of(request);
    let layout = admitted(request, &sharding, kv_contradiction)?;
    let settings = request.settings;
    let count = |ids: [&str; 2]| ids.iter().find_map(|id| settings.count(id));
    let fraction = ["memory_fraction", "cuda_memory_fraction"]
        .iter()
        .find_map(|id| settings.number(id));
    let prefill = count(["max_prefill_tokens", "max_batch_prefill_tokens"]).unwrap_or(PREFILL_TOKENS);
    let load = overheads::load(request, &sharding, 1, prefill);
    let fraction = fraction.unwrap_or(1.0).clamp(0.0, 1.0) * WIGGLE_ROOM;
    let block = settings
        .count("block_size")
        .unwrap_or_else(|| block_size(request))
        .max(1);
    Ok(Box::new(TgiPlan {
        caches: RankCaches::of(request, layout, sharding),
        weights_bytes: sharding.rank_weights_bytes(request),
        usable_bytes: scaled(request.machine.engine_memory_bytes(), fraction),
        overhead: overheads::of(Engine::Tgi, request.version, request.settings)
            .estimate(&load)
            .into(),
        block,
        assumptions: vec![String::from(
            "TGI's reservation follows its source; it was not measured",
        )],
    }))
}

/// Why TGI refuses a KV type, whatever the memory: it knows the model's dtype and fp8.
pub fn kv_contradiction(kv: KvType) -> Option<Contradiction> {
    let known = matches!(kv, KvType::Auto | KvType::F16 | KvType::Bf16 | KvType::Fp8);
    (!known).then(|| Contradiction {
        rule: "kv-cache-dtype-unsupported",
        message: format!("TGI has no KV cache of type {}", kv.name()),
        settings: vec!["kv_cache"],
    })
}

/// Tokens of a block: `FlashInfer` pages single tokens and needs SM80; older GPUs page 16.
fn block_size(request: &Request<'_>) -> u64 {
    match request.machine.compute_capability {
        Some((major, _)) if major < 8 => 16,
        _ => 1,
    }
}

impl TgiPlan {
    fn bytes_per_token(cells: &Cells) -> u64 {
        cells.full.saturating_add(cells.window)
    }
}

impl Plan for TgiPlan {
    fn reserve(&self, cell: Cell) -> Reservation {
        let cells = self.caches.cells(cell.kv, None);
        let token = Self::bytes_per_token(&cells);
        let context = round_up(cell.context, self.block);
        let rest = self
            .usable_bytes
            .saturating_sub(self.weights_bytes)
            .saturating_sub(self.overhead.likely);
        let blocks = rest.checked_div(token.saturating_mul(self.block)).unwrap_or(0);
        let tokens = blocks.saturating_mul(self.block);
        Reservation {
            weights_bytes: self.weights_bytes,
            kv_cache_bytes: token
                .saturating_mul(context)
                .saturating_add(cells.encoder)
                .saturating_mul(cell.batch),
            state_bytes: cells.state.saturating_mul(cell.batch),
            extra_reserved_bytes: 0,
            overhead: self.overhead,
            usable_bytes: self.usable_bytes,
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
    reason = "a float cast saturates, and the factor is between 0 and 1"
)]
fn scaled(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor) as u64
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
            version: Version::parse("3.3.6"),
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
    fn a_tenth_stays_free_and_windows_are_kept_in_full() {
        let mistral = model(&[(attention(8, 128, Reach::Window(4096)), 32)]);
        let reservation = planned(&mistral, &[]).reserve(cell(32_768, 1));
        assert_eq!(reservation.kv_cache_bytes, 4 * GIB);
        assert_eq!(reservation.usable_bytes, (81_559 << 20) * 9 / 10);
    }

    #[test]
    fn blocks_round_the_context_up() {
        let llama = model(&[(attention(8, 128, Reach::Full), 32)]);
        let need = |block| {
            planned(&llama, &[("block_size", block)])
                .reserve(cell(1000, 1))
                .kv_cache_bytes
        };
        assert_eq!([need("1"), need("256")], [1000 * 131_072, 1024 * 131_072]);
    }

    #[test]
    fn the_default_context_follows_the_release_and_ends_at_the_model() {
        let mut falcon = model(&[(attention(8, 64, Reach::Full), 60)]);
        let context = |model: &Model, release: &str| {
            let version = Version::parse(release);
            crate::engine::default_context(crate::engine::Engine::Tgi, version, Some(model), None).value
        };
        let releases = ["1.4.5", "2.2.0", "3.3.6", "latest"];
        assert_eq!(
            releases.map(|release| context(&falcon, release)),
            [2048, 4096, 8192, 8192]
        );
        falcon.max_context = Some(crate::fact::Fact::derived(2048, []));
        assert_eq!(context(&falcon, "latest"), 2048);
    }
}
