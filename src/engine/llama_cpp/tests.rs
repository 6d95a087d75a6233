//! What must stay true of plans, beside the measured records in `tests/truth_llamacpp.rs`.

use super::*;
use crate::engine::settings;
use crate::fact::Fact;
use crate::memory::GIB;
use crate::memory::layout::{LayerGroup, Reach};
use crate::model::{Component, Dims, ModelSource};

fn llama_8b() -> Model {
    let attention = Cache::Attention {
        kv_heads: 8,
        k_dim: 128,
        v_dim: 128,
        reach: Reach::Full,
    };
    let known = |value| Some(Fact::derived(value, []));
    let layout = Layout {
        num_layers: 32,
        nextn_layers: 0,
        groups: vec![LayerGroup {
            cache: attention,
            layers: (0..32).collect(),
        }],
    };
    let mut model = Model::bare("m", "m", ModelSource::Directory, Ok(layout));
    model.model_type = Some(Fact::derived("llama".into(), []));
    model.dims = Dims {
        hidden_size: known(4096),
        vocab_size: known(128_256),
        num_heads: known(32),
        ..Dims::default()
    };
    model.max_context = known(8192);
    model.weights.bytes = Some(16 * GIB);
    model.weights.by_component = [
        (Component::Embedding, GIB),
        (Component::LmHead, GIB),
        (Component::Mlp, 14 * GIB),
    ]
    .into();
    model
}

fn gpu(count: u64, gib: u64) -> Machine {
    Machine {
        id: "gpu".into(),
        kind: MachineKind::Nvidia,
        count,
        memory_bytes: gib * GIB,
        runtime_memory_bytes: None,
        unified_memory: false,
        compute_capability: None,
        working_set_bytes: None,
        apple_generation: None,
        macos: None,
        bandwidth: None,
        provenance: String::new(),
    }
}

fn settings_of(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = settings::Settings::default();
    for (id, value) in pairs {
        settings.set(*id, Fact::default((*value).to_owned(), "a test"));
    }
    settings
}

fn planned(machine: &Machine, pairs: &[(&str, &str)]) -> Box<dyn Plan> {
    let model = llama_8b();
    let settings = settings_of(pairs);
    let request = Request {
        model: &model,
        machine,
        version: None,
        settings: &settings,
        weights_bytes: 16 * GIB,
        format: None,
    };
    plan(&request).unwrap()
}

fn cell(context: u64, batch: u64) -> Cell {
    Cell {
        context,
        batch,
        kv: KvType::F16,
    }
}

#[test]
fn the_key_gives_each_sequence_its_context_and_the_flag_the_total() {
    let key = planned(&gpu(1, 80), &[]);
    assert_eq!(key.reserve(cell(8192, 1)).kv_cache_bytes, GIB);
    assert_eq!(key.reserve(cell(8192, 4)).kv_cache_bytes, 4 * GIB);
    let flag = planned(&gpu(1, 80), &[("ctx_size", "8192"), ("parallel", "4")]);
    assert_eq!(flag.reserve(cell(8192, 1)).kv_cache_bytes, GIB);
}

#[test]
fn a_context_of_zero_is_the_model_own() {
    let plan = planned(&gpu(1, 80), &[("ctx_size", "0")]);
    assert_eq!(plan.reserve(cell(0, 1)).kv_cache_bytes, GIB);
}

#[test]
fn values_keep_f16_where_a_flag_quantizes_keys_only() {
    let q8 = Cell {
        kv: KvType::Q8_0,
        ..cell(8192, 1)
    };
    let both = planned(&gpu(1, 80), &[]).reserve(q8).kv_cache_bytes;
    let keys = planned(&gpu(1, 80), &[("cache_type_k", "q8_0")])
        .reserve(q8)
        .kv_cache_bytes;
    assert_eq!(both, GIB / 32 * 17);
    assert_eq!(keys, GIB / 64 * 49);
}

#[test]
fn input_embeddings_stay_in_host_memory_without_being_pushed_there() {
    let plan = planned(&gpu(1, 80), &[("gpu_layers", "99")]);
    assert_eq!(plan.reserve(cell(8192, 1)).weights_bytes, 15 * GIB);
    assert_eq!(plan.host_bytes(cell(8192, 1)), 0);
}

#[test]
fn the_automatic_fit_moves_layers_to_host_and_an_explicit_count_does_not() {
    let fitted = planned(&gpu(1, 12), &[]);
    let taken = fitted.reserve(cell(8192, 1));
    assert!(taken.certain_bytes() <= 11 * GIB && taken.certain_bytes() > 9 * GIB);
    assert!(fitted.host_bytes(cell(8192, 1)) > 5 * GIB);
    let forced = planned(&gpu(1, 12), &[("gpu_layers", "99")]).reserve(cell(8192, 1));
    assert!(forced.certain_bytes() > forced.usable_bytes);
}

#[test]
fn layers_spread_over_accelerators_and_the_worst_is_told() {
    let plan = planned(&gpu(2, 80), &[("gpu_layers", "99")]);
    let taken = plan.reserve(cell(8192, 1));
    // 33 layers with the output: the second device has 15 of them and the output, which weighs more than two.
    assert_eq!(taken.kv_cache_bytes, GIB / 32 * 15);
    assert_eq!(taken.weights_bytes, 14 * GIB / 32 * 15 + GIB);
}

#[test]
fn contradictions_name_both_facts() {
    let model = llama_8b();
    let refused = |pairs: &[(&str, &str)]| {
        let settings = settings_of(pairs);
        let request = Request {
            model: &model,
            machine: &gpu(1, 80),
            version: None,
            settings: &settings,
            weights_bytes: GIB,
            format: None,
        };
        plan(&request)
            .err()
            .map(|wrong| wrong[0].message.clone())
            .unwrap_or_default()
    };
    assert!(
        refused(&[("cache_type_v", "q8_0"), ("flash_attention", "off")]).contains("need flash attention")
    );
    assert!(refused(&[("cache_type_k", "q9_0")]).contains("no cache type `q9_0`"));
    assert_eq!(
        refused(&[("cache_type_k", "q8_0"), ("flash_attention", "off")]),
        ""
    );
}

#[test]
fn absurd_numbers_saturate() {
    let plan = planned(
        &gpu(1, 80),
        &[("ctx_size", "18446744073709551615"), ("gpu_layers", "99")],
    );
    assert_eq!(plan.reserve(cell(u64::MAX, u64::MAX)).kv_cache_bytes, u64::MAX);
}

#[test]
fn a_longer_context_never_takes_less() {
    for pairs in [
        &[("gpu_layers", "99")][..],
        &[("ctx_size", "1"), ("parallel", "3"), ("gpu_layers", "99")],
        &[
            ("ctx_size", "1"),
            ("parallel", "3"),
            ("kv_unified", "true"),
            ("gpu_layers", "99"),
        ],
    ] {
        let plan = planned(&gpu(1, 80), pairs);
        let bytes = |context| plan.reserve(cell(context, 1)).certain_bytes();
        assert!(
            (1..5000).all(|context| bytes(context) <= bytes(context + 1)),
            "{pairs:?}"
        );
    }
}

#[test]
fn a_customary_99_stands_for_every_layer_and_more_slots_than_there_are_is_refused() {
    assert_eq!(
        offload(&settings_of(&[("gpu_layers", "99")]), 126).0.gpu_layers,
        127
    );
    assert_eq!(
        offload(&settings_of(&[("gpu_layers", "98")]), 126).0.gpu_layers,
        98
    );
    assert_eq!(check_settings(&settings_of(&[("parallel", "257")])).len(), 1);
}

#[test]
fn slots_divide_the_context_that_is_asked_for_in_all() {
    let sharing = |pairs: &[(&str, &str)]| sharing_sequences(&crate::engine::fixtures::settings(pairs));
    assert_eq!(sharing(&[("ctx_size", "131072"), ("parallel", "4")]), 4);
    assert_eq!(
        sharing(&[("ctx_size", "131072"), ("parallel", "4"), ("kv_unified", "true")]),
        1
    );
    assert_eq!(
        sharing(&[("parallel", "4")]),
        1,
        "a manifest's own key is of one sequence"
    );
    assert_eq!(sharing(&[("ctx_size", "131072")]), 1);
}
