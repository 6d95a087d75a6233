//! What a vLLM plan promises, on models small enough to follow by hand.

use super::{kv_contradiction, plan};
use crate::engine::fixtures::{attention, h100, machine, model, settings};
use crate::engine::{Cell, KvType, Plan, Request, Settings, Version};
use crate::machine::Machine;
use crate::memory::layout::{Cache, Reach, State};
use crate::memory::{GIB, MIB, solve};
use crate::model::Model;
use crate::scenario::Verdict;

fn llama() -> Model {
    model(&[(attention(8, 128, Reach::Full), 32)])
}

fn gpt_oss() -> Model {
    model(&[
        (attention(8, 64, Reach::Window(128)), 12),
        (attention(8, 64, Reach::Full), 12),
    ])
}

fn planned(model: &Model, machine: &Machine, version: &str, values: &[(&str, &str)]) -> Box<dyn Plan> {
    plan(&Request {
        model,
        machine,
        version: Version::parse(version),
        settings: &settings(values),
        weights_bytes: 16 * GIB,
        format: None,
    })
    .unwrap_or_else(|refused| panic!("{refused:?}"))
}

fn refused(model: &Model, values: &[(&str, &str)]) -> Vec<String> {
    let refused = plan(&Request {
        model,
        machine: &h100(),
        version: None,
        settings: &settings(values),
        weights_bytes: GIB,
        format: None,
    });
    let refused = refused.err().unwrap_or_default();
    refused.into_iter().map(|refusal| refusal.message).collect()
}

fn cell(context: u64, kv: KvType) -> Cell {
    Cell {
        context,
        batch: 1,
        kv,
    }
}

fn verdict(plan: &dyn Plan, context: u64) -> Verdict {
    let reservation = plan.reserve(cell(context, KvType::Auto));
    Verdict::judge(
        reservation.certain_bytes(),
        reservation.overhead,
        reservation.usable_bytes,
    )
}

#[test]
fn llama_at_128k_needs_sixteen_gib_and_fp8_half() {
    let plan = planned(&llama(), &h100(), "0.33.0", &[]);
    let need = |kv| plan.reserve(cell(131_072, kv)).kv_cache_bytes;
    assert_eq!(need(KvType::Auto), 16 * GIB);
    assert_eq!(need(KvType::Fp8), 8 * GIB);
    let three = plan.reserve(Cell {
        batch: 3,
        ..cell(131_072, KvType::Auto)
    });
    assert_eq!(three.kv_cache_bytes, 48 * GIB);
}

#[test]
fn one_block_is_held_back_so_eight_gib_hold_65520_tokens() {
    let plan = planned(
        &llama(),
        &h100(),
        "0.33.0",
        &[("kv_cache_memory_bytes", "8589934592")],
    );
    let fits = |tokens| verdict(plan.as_ref(), tokens) == Verdict::Fits;
    assert_eq!(solve::largest(131_072, fits), Some(65_520));
    assert_eq!(verdict(plan.as_ref(), 65_521), Verdict::Exceeds);
}

#[test]
fn a_pool_of_blocks_is_as_good_as_a_pool_of_bytes() {
    let blocks = planned(
        &llama(),
        &h100(),
        "0.33.0",
        &[("num_gpu_blocks_override", "16384")],
    );
    let reservation = blocks.reserve(cell(131_072, KvType::Auto));
    assert_eq!(reservation.kv_cache_tokens, Some(262_144));
    assert_eq!(reservation.max_concurrency, Some(2.0));
}

#[test]
fn more_ranks_than_kv_heads_keep_copies() {
    let need = |tensor: &str| {
        let plan = planned(&llama(), &h100(), "0.33.0", &[("tensor_parallel", tensor)]);
        plan.reserve(cell(4096, KvType::Auto)).kv_cache_bytes
    };
    assert_eq!(
        [need("2"), need("8"), need("16")],
        [256, 64, 64].map(|mib| mib * MIB)
    );
}

#[test]
fn context_parallel_ranks_share_the_tokens() {
    let values = [("tensor_parallel", "8"), ("decode_context_parallel", "2")];
    let latent = model(&[(
        Cache::Latent {
            rank: 512,
            rope_dim: 64,
        },
        61,
    )]);
    let plan = planned(&latent, &h100(), "0.33.0", &values);
    let alone = planned(&latent, &h100(), "0.33.0", &values[..1]);
    let need = |plan: &dyn Plan| plan.reserve(cell(8192, KvType::Auto)).kv_cache_bytes;
    assert_eq!(need(plan.as_ref()) * 2, need(alone.as_ref()));
}

#[test]
fn a_window_pays_for_the_batches_under_way() {
    let blocks = |version, values: &[(&str, &str)]| {
        let plan = planned(&gpt_oss(), &h100(), version, values);
        plan.reserve(cell(131_072, KvType::Auto)).kv_cache_bytes / 393_216 - 8192
    };
    assert_eq!(blocks("0.33.0", &[]), 1033);
    assert_eq!(blocks("0.33.0", &[("async_scheduling", "false")]), 521);
    assert_eq!(blocks("0.33.0", &[("max_batched_tokens", "2048")]), 265);
    assert_eq!(blocks("0.25.1", &[]), 521, "older releases count one batch");
}

#[test]
fn older_releases_print_tokens_by_blocks_and_groups() {
    // 21.09 GiB of 393,216-byte blocks: a public 0.12.0 log prints 460,688 tokens and 35.18x.
    let bytes = (57_586u64 * 393_216).to_string();
    let values = [
        ("kv_cache_memory_bytes", bytes.as_str()),
        ("max_batched_tokens", "2048"),
    ];
    let plan = planned(&gpt_oss(), &machine(40_960, (8, 0)), "0.12.0", &values);
    let reservation = plan.reserve(cell(24_000, KvType::Auto));
    assert_eq!(reservation.kv_cache_tokens, Some(460_688));
    let concurrency = reservation.max_concurrency.unwrap();
    assert!((concurrency - 35.18).abs() < 0.005, "{concurrency}");
}

#[test]
fn a_pipeline_shares_weights_and_layers() {
    let plan = planned(&llama(), &h100(), "0.33.0", &[("pipeline_parallel", "2")]);
    let reservation = plan.reserve(cell(131_072, KvType::Auto));
    assert_eq!(
        (reservation.weights_bytes, reservation.kv_cache_bytes),
        (8 * GIB, 8 * GIB)
    );
}

#[test]
fn states_raise_the_block_until_a_page_holds_one() {
    let delta = Cache::Recurrent {
        state: State::DeltaNet {
            key_heads: 16,
            key_dim: 128,
            value_heads: 32,
            value_dim: 128,
            conv_kernel: 4,
        },
        state_element_bytes: None,
    };
    let qwen3_next = model(&[(delta, 36), (attention(2, 256, Reach::Full), 12)]);
    let need = |values: &[(&str, &str)]| {
        let plan = planned(&qwen3_next, &h100(), "0.33.0", values);
        plan.reserve(cell(262_144, KvType::Auto)).kv_cache_bytes
    };
    assert_eq!(need(&[]), 6_582_435_840);
    // Blocks of 544 tokens: one state each and 482 blocks of attention.
    assert_eq!(need(&[("prefix_caching", "false")]), 12 * 544 * 2048 * (3 + 482));
}

#[test]
fn releases_before_0_28_keep_a_mamba_state_for_every_block() {
    let mamba = Cache::Recurrent {
        state: State::Mamba1 {
            inner: 8192,
            state: 16,
            conv_kernel: 4,
        },
        state_element_bytes: None,
    };
    let jamba = model(&[(mamba, 28), (attention(8, 128, Reach::Full), 4)]);
    let need = |version| {
        planned(&jamba, &h100(), version, &[])
            .reserve(cell(262_144, KvType::Auto))
            .kv_cache_bytes
    };
    // Blocks of 80 tokens, 7 groups of one state and what the prefix keeps; before, blocks of one chunk.
    let page = 80 * 4096;
    assert_eq!(need("0.33.0"), 4 * page * (7 * 2 + 3277));
    assert_eq!(need("0.27.1"), 4 * 2048 * 4096 * (7 * 128 + 128));
    assert_eq!(
        need("0.25.1"),
        4 * page * (7 + 3277),
        "no prefix caching by default"
    );
}

#[test]
fn a_state_is_one_block_however_long_the_context() {
    let mamba = Cache::Recurrent {
        state: State::Mamba1 {
            inner: 1536,
            state: 16,
            conv_kernel: 4,
        },
        state_element_bytes: None,
    };
    let plan = planned(&model(&[(mamba, 24)]), &h100(), "0.33.0", &[]);
    let need = |context| plan.reserve(cell(context, KvType::Auto)).kv_cache_bytes;
    assert_eq!([need(16), need(2048)], [1_400_832; 2]);
    assert!(plan.reserve(cell(16, KvType::Auto)).state_slots > Some(1024));
}

#[test]
fn what_cannot_run_is_refused_with_both_facts() {
    let ranks = refused(&llama(), &[("tensor_parallel", "3")]);
    assert_eq!(
        ranks,
        ["tensor parallelism 3 does not divide the 32 attention heads of tiny"]
    );
    let window = refused(
        &gpt_oss(),
        &[("tensor_parallel", "16"), ("decode_context_parallel", "2")],
    );
    let copies = refused(
        &llama(),
        &[("tensor_parallel", "8"), ("decode_context_parallel", "2")],
    );
    assert!(
        copies[0].contains("needs 2 ranks for each of the 8 KV heads"),
        "{copies:?}"
    );
    assert!(window[0].contains("windowed layers"), "{window:?}");
    assert!(refused(&llama(), &[("memory_fraction", "1.2")])[0].contains("1.2"));
    let state = Cache::Recurrent {
        state: State::ShortConv { width: 64, kernel: 3 },
        state_element_bytes: None,
    };
    let hybrid = model(&[(state, 2), (attention(2, 64, Reach::Full), 2)]);
    let off = refused(&hybrid, &[("hybrid_kv_cache_manager", "false")]);
    assert!(off[0].contains("hybrid KV-cache manager"), "{off:?}");
}

#[test]
fn fp8_on_triton_needs_sm89() {
    let latent = model(&[(
        Cache::Latent {
            rank: 512,
            rope_dim: 64,
        },
        4,
    )]);
    let settings = Settings::default();
    let refuses = |model: &Model, capability, kv| {
        let machine = machine(81_920, capability);
        let request = Request {
            model,
            machine: &machine,
            version: None,
            settings: &settings,
            weights_bytes: GIB,
            format: None,
        };
        kv_contradiction(&request, kv).is_some()
    };
    assert!(refuses(&latent, (8, 0), KvType::Fp8));
    assert!(!refuses(&latent, (8, 9), KvType::Fp8));
    assert!(!refuses(&llama(), (8, 0), KvType::Fp8), "FlashInfer takes it");
    assert!(refuses(&llama(), (9, 0), KvType::Q8_0));
}

#[test]
fn the_need_never_shrinks_as_the_context_grows() {
    for model in [llama(), gpt_oss()] {
        let plan = planned(&model, &h100(), "0.33.0", &[("max_sequences", "2")]);
        let need = |context| plan.reserve(cell(context, KvType::Auto)).kv_cache_bytes;
        let contexts: Vec<u64> = (0..400).chain((4000..40_000).step_by(17)).collect();
        for pair in contexts.windows(2) {
            assert!(need(pair[0]) <= need(pair[1]), "{pair:?}");
        }
    }
}

#[test]
fn absurd_numbers_saturate() {
    let huge = model(&[
        (attention(u64::MAX, u64::MAX, Reach::Window(u64::MAX)), 3),
        (attention(0, 0, Reach::Full), 3),
        (
            Cache::Latent {
                rank: u64::MAX,
                rope_dim: 1,
            },
            1,
        ),
    ]);
    let plan = planned(
        &huge,
        &h100(),
        "0.33.0",
        &[("block_size", "18446744073709551615")],
    );
    for kv in KvType::ALL {
        let reservation = plan.reserve(Cell {
            context: u64::MAX,
            batch: u64::MAX,
            kv,
        });
        assert!(reservation.certain_bytes() > GIB, "{kv:?}");
    }
    let nothing = planned(&model(&[]), &h100(), "0.33.0", &[]);
    assert_eq!(nothing.reserve(cell(8192, KvType::Auto)).kv_cache_bytes, 0);
}
