//! What the built-in rules say, in full, and when they keep silent.

use std::fmt::Write;

use super::*;
use crate::engine::Engine;
use crate::memory::GIB;
use crate::rule::world::{World, estimate};
use crate::scenario::{Alternatives, Recommended};

fn findings(world: &World) -> Vec<Finding> {
    lint(&world.subject(), Rules::builtin(), &Selection::default())
}

fn rules_of(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| &*finding.rule).collect()
}

/// A finding as text: every word and the characters of every place.
fn told(world: &World) -> String {
    let mut text = String::new();
    for finding in findings(world) {
        let _ = writeln!(
            text,
            "{} {}: {}",
            finding.severity.word(),
            finding.rule,
            finding.message
        );
        for label in finding.primary.iter().chain(&finding.related) {
            let _ = writeln!(text, "  [{}] {}", world.sources.slice(label.span), label.text);
        }
        for line in finding.help.iter().flat_map(|help| help.lines()) {
            let _ = writeln!(text, "  = {line}");
        }
        for edit in finding.fix.iter().flat_map(|fix| &fix.edits) {
            let _ = writeln!(
                text,
                "  fix [{}] -> {}",
                world.sources.slice(edit.span),
                edit.text
            );
        }
    }
    text
}

fn alternatives() -> Alternatives {
    Alternatives {
        largest_context: Some(41_216),
        kv_cache: Some(("int8".to_owned(), 82_432)),
        quantization: Some(("int8".to_owned(), 8 * GIB, 100_608)),
        machine: Some(("m4-max-48gb".to_owned(), 48 * GIB)),
        tensor_parallel: None,
        ..Alternatives::default()
    }
}

fn named_format(world: &mut World) {
    let deployment = &mut world.deployments[0].deployment;
    let asked = deployment.quantization.take();
    deployment.quantization =
        asked.map(|fact| fact.map(|_| crate::manifest::WeightFormat::Named("fp16".to_owned())));
}

#[test]
fn a_deployment_that_fits_is_left_in_peace() {
    let world = World::new().cell(0, 8192, |_| {}).cell(1, 131_072, |_| {});
    assert_eq!(told(&world), "");
}

#[test]
fn the_kv_cache_that_does_not_fit_is_told_with_its_sum_and_ways_out() {
    let mut world = World::new()
        .cell(0, 8192, |_| {})
        .cell(0, 131_072, |cell| {
            cell.estimate = Some(estimate(16_060_522_496, 16 * GIB, 24 * GIB));
            cell.alternatives = Some(Box::new(alternatives()));
        })
        .cell(1, 131_072, |cell| {
            cell.estimate = Some(estimate(16_060_522_496 / 2, 16 * GIB, 20 * GIB));
            cell.alternatives.get_or_insert_default().largest_context = Some(98_304);
        });
    named_format(&mut world);
    insta::assert_snapshot!(told(&world), @"
    error kv-cache-does-not-fit: one request of 131,072 tokens needs 16.0 GiB of KV cache, 9.0 GiB is left beside the weights on m4-24gb
      [128k] 131,072 tokens
      [m4-24gb] 24.0 GiB to use, 15.0 GiB of them for weights
      [fp16] KV cache in fp16
      [32] 32 layers
      [8] 8 KV heads
      = the largest context that fits is 41,216 tokens
      = with `kv_cache: int8` the largest context is 82,432 tokens
      = with int8 weights (8.0 GiB) the largest context is 100,608 tokens
      = all of it fits on m4-max-48gb, which has 48.0 GiB
      = KV cache is exact; weights are exact (safetensors headers); overhead is an estimate, 1.0 GiB (512 MiB to 2.0 GiB)
      = the same for 1 more cell:
      =   machine  context  batch  KV    needs     has
      =   2x l4    131,072  1      fp16  24.5 GiB  20.0 GiB
      fix [128k] -> 41216
    ");
}

#[test]
fn weights_that_do_not_fit_silence_the_kv_cache_and_the_overhead() {
    let mut world = World::new().cell(1, 131_072, |cell| {
        cell.estimate = Some(estimate(32 * GIB, 16 * GIB, 20 * GIB));
        cell.alternatives = Some(Box::new(alternatives()));
    });
    named_format(&mut world);
    insta::assert_snapshot!(told(&world), @"
    error weights-do-not-fit: the fp16 weights of small need 32.0 GiB, each accelerator of 2x l4 has 20.0 GiB to use
      [2x l4] 20.0 GiB to use on each accelerator
      [auto] 32.0 GiB of weights
      [./models/small] 8.03 billion parameters
      = no context is short enough: 32.0 GiB are needed before the first token
      = with int8 weights (8.0 GiB) the largest context is 100,608 tokens
      = all of it fits on m4-max-48gb, which has 48.0 GiB
      = KV cache is exact; weights are computed from 8.03 billion parameters (tensor shapes); overhead is an estimate, 1.0 GiB (512 MiB to 2.0 GiB)
    ");
}

#[test]
fn the_recommended_quantization_that_does_not_fit_is_the_one_finding_of_its_cells() {
    let world = World::new()
        .cell(0, 131_072, |cell| {
            cell.quantization = "int4".to_owned();
            cell.estimate = Some(estimate(15 * GIB, 16 * GIB, 24 * GIB));
            cell.recommended = Some(Recommended {
                name: "int4".to_owned(),
                fits: false,
                needed_bytes: 31 * GIB,
                available_bytes: 24 * GIB,
            });
            cell.alternatives = Some(Box::new(alternatives()));
        })
        .cell(1, 131_072, |cell| {
            cell.estimate = Some(estimate(15 * GIB, 16 * GIB, 20 * GIB));
        });
    insta::assert_snapshot!(told(&world), @"
    error kv-cache-does-not-fit: one request of 131,072 tokens needs 16.0 GiB of KV cache, 5.0 GiB is left beside the weights on each accelerator of 2x l4
      [128k] 131,072 tokens
      [2x l4] 20.0 GiB to use on each accelerator, 15.0 GiB of them for weights
      [fp16] KV cache in fp16
      [32] 32 layers
      [8] 8 KV heads
      = KV cache is exact; weights are computed from 8.03 billion parameters (tensor shapes); overhead is an estimate, 1.0 GiB (512 MiB to 2.0 GiB)
    error recommended-quantization-does-not-fit: one request of 131,072 tokens needs 31.0 GiB with int4 weights, the smallest that are recommended, and m4-24gb has 24.0 GiB
      [128k] 131,072 tokens
      [m4-24gb] 24.0 GiB to use
      [fp16] KV cache in fp16
      [32] 32 layers
      [8] 8 KV heads
      = the largest context that fits is 41,216 tokens
      = with `kv_cache: int8` the largest context is 82,432 tokens
      = with int8 weights (8.0 GiB) the largest context is 100,608 tokens
      = all of it fits on m4-max-48gb, which has 48.0 GiB
      = counted as an MLX-family runtime decides, weights and KV cache each rounded up to whole GB; unrounded, 15.0 GiB of weights and 16.0 GiB of KV cache
      fix [128k] -> 41216
    ");
}

#[test]
fn the_overhead_that_decides_is_a_warning() {
    let world = World::new().cell(1, 8192, |cell| {
        cell.estimate = Some(estimate(15 * GIB, 4 * GIB + GIB / 2, 20 * GIB));
        cell.alternatives.get_or_insert_default().largest_context = Some(7680);
    });
    insta::assert_snapshot!(told(&world), @"
    warning overhead-decides-fit: weights and KV cache leave 512 MiB on each accelerator of 2x l4, and the overhead is estimated at 1.0 GiB
      [8k] 8,192 tokens: 4.5 GiB of KV cache
      [2x l4] 20.0 GiB to use on each accelerator, 15.0 GiB of them for weights
      = the largest context that likely fits is 7,680 tokens
      = this is likely, not certain: KV cache is exact; weights are computed from 8.03 billion parameters (tensor shapes); overhead is an estimate, 1.0 GiB (512 MiB to 2.0 GiB)
      fix [8k] -> 7680
    ");
}

#[test]
fn the_working_set_of_macos_is_a_warning_with_the_setting_that_raises_it() {
    let world = World::new().cell(0, 8192, |cell| {
        cell.estimate = Some(estimate(16_060_522_496, 2 * GIB, 24 * GIB));
    });
    insta::assert_snapshot!(told(&world), @"
    warning unified-memory-working-set-exceeded: weights and KV cache need 17.0 GiB, by default macOS lets the GPU use 16.0 GiB of the 24.0 GiB of m4-24gb
      [m4-24gb] the GPU may use 16.0 GiB of 24.0 GiB
      [8k] 8,192 tokens: 2.0 GiB of KV cache
      = `sudo sysctl iogpu.wired_limit_mb=18432` raises the limit until the next restart and leaves 6.0 GiB for macOS and everything else
      = the need includes no overhead: KV cache is exact; weights are exact (safetensors headers); overhead is an estimate, 1.0 GiB (512 MiB to 2.0 GiB)
    ");
}

#[test]
fn a_context_beyond_the_model_is_an_error_where_the_engine_refuses_and_a_warning_elsewhere() {
    let mut world = World::new()
        .cell(0, 200_000, |_| {})
        .cell(1, 200_000, |_| {})
        .cell(0, 262_144, |_| {});
    insta::assert_snapshot!(told(&world), @"
    warning context-exceeds-model-maximum: chat asks for a context of 262,144 tokens, small was made for 131,072 tokens
      [131072] made for 131,072 tokens
      = the largest context the model was made for is 131,072 tokens
      = mlx starts all the same; answers degrade beyond position 131,072, which the model never saw
      = the same for 1 more cell:
      =   context  made for
      =   200,000  131,072
    ");
    world.deployments[0].deployment.engine = Some(crate::fact::Fact::default(Engine::Vllm, "given"));
    let findings = findings(&world);
    assert_eq!(rules_of(&findings), ["context-exceeds-model-maximum"]);
    assert_eq!(findings[0].severity, Severity::Error);
    assert_eq!(findings[0].scenarios, [0, 1, 2]);
}

#[test]
fn bfloat16_on_a_neural_accelerator_is_a_note() {
    let mut world = World::new().cell(0, 8192, |_| {});
    world.machines[0].apple_generation = Some(5);
    insta::assert_snapshot!(told(&world), @r#"
    info bfloat16-on-neural-accelerator: small is stored in bfloat16 (4.0 GiB as fp16), and m4-24gb has a Neural Accelerator, for which the recommendation is fp16
      [m4-24gb] has a Neural Accelerator
      ["bfloat16"] bfloat16 keeps 8 bits of precision, fp16 11
      = nothing is wrong with the memory: bfloat16 and fp16 take the same 2 bytes a weight
      = known: MLX 0.30 and later run bfloat16 and fp16 matrix products on the Neural Accelerator; with bfloat16 its attention was seen to round about 8 times coarser than with fp16
      = not known: whether either is faster for this model; measure before converting, and keep bfloat16 where activations exceed 65,504, the largest fp16 number
    "#);
    world.machines[0].macos = Some((26, 1));
    assert_eq!(told(&world), "");
}

#[test]
fn a_superseded_rule_still_speaks_of_the_cells_that_the_other_does_not() {
    let mut world = World::new()
        .cell(0, 8192, |cell| {
            cell.estimate = Some(estimate(30 * GIB, GIB, 24 * GIB));
        })
        .cell(1, 131_072, |cell| {
            cell.estimate = Some(estimate(15 * GIB, 16 * GIB, 20 * GIB));
        });
    named_format(&mut world);
    let findings = findings(&world);
    assert_eq!(
        rules_of(&findings),
        ["kv-cache-does-not-fit", "weights-do-not-fit"]
    );
    assert_eq!(
        (&*findings[0].scenarios, &*findings[1].scenarios),
        (&[1][..], &[0][..])
    );
}

#[test]
fn an_unknown_verdict_is_no_finding_of_these_rules() {
    let world = World::new().cell(0, 8192, |cell| {
        cell.estimate = None;
        cell.recommended = None;
    });
    assert_eq!(told(&world), "");
}

#[test]
fn long_tables_are_cut_and_say_so() {
    let mut world = World::new();
    for step in 0..20 {
        world = world.cell(0, 8192 + step, |cell| {
            cell.estimate = Some(estimate(15 * GIB, (10 + step) * GIB, 24 * GIB));
        });
    }
    let help = findings(&world)[0].help.clone().unwrap();
    assert!(help.contains("the same for 19 more cells:\n"), "{help}");
    assert!(help.ends_with("\n  and 7 more"), "{help}");
}

#[test]
fn settings_leave_rules_out_and_change_severities() {
    let world = World::new().cell(0, 200_000, |cell| {
        cell.estimate = Some(estimate(30 * GIB, GIB, 24 * GIB));
    });
    let run = |selection: Selection| lint(&world.subject(), Rules::builtin(), &selection);
    let mut selection = Selection::default();
    selection.ignore.insert("weights-do-not-fit".to_owned());
    assert_eq!(
        rules_of(&run(selection.clone())),
        ["context-exceeds-model-maximum"]
    );
    assert!(!selection.runs_all());
    selection = Selection::default();
    selection.select = Some(BTreeSet::from(["weights-do-not-fit".to_owned()]));
    selection
        .severity
        .insert("weights-do-not-fit".to_owned(), Severity::Info);
    let found = run(selection);
    assert_eq!(rules_of(&found), ["weights-do-not-fit"]);
    assert_eq!(found[0].severity, Severity::Info);
}

#[test]
fn rules_about_deployments_models_and_files_speak_once_each() {
    let sources = Sources::default();
    let rule = |id: &str, scope: &str, when: &str, message: &str| {
        let text = format!("id: {id}\nseverity: info\nscope: {scope}\nwhen: {when}\nmessage: '{message}'\n");
        (format!("{id}.yaml"), text)
    };
    let files = [
        rule(
            "on-deployment",
            "deployment",
            "deployment.has_context",
            "{deployment.name} serves {model.name}",
        ),
        rule(
            "on-model",
            "model",
            "model.num_layers > 1",
            "{model.name} has {model.num_layers} layers",
        ),
        rule(
            "on-file",
            "manifest",
            "manifest.deployments == 1",
            "{manifest.path} is {manifest.format}",
        ),
    ];
    let rules = Rules::load(files.into_iter(), &sources).unwrap();
    let world = World::new().cell(0, 8192, |_| {}).cell(1, 8192, |_| {});
    let found = lint(&world.subject(), &rules, &Selection::default());
    let messages: Vec<_> = found.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "chat serves small",
            "small has 32 layers",
            "oomlint.yaml is oomlint"
        ]
    );
    assert_eq!(found[0].deployment, Some(0));
    assert_eq!(found[1].path.as_deref(), Some("models/small"));
}

#[test]
fn ten_thousand_cells_give_the_same_findings_on_one_thread_and_many() {
    let mut world = World::new();
    for step in 0..10_000 {
        world = world.cell(step % 2, 8192 + step as u64, |cell| {
            cell.estimate = Some(estimate(15 * GIB, step as u64 * GIB / 500, 20 * GIB));
        });
    }
    let found = findings(&world);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| findings(&world)), found);
    assert!(!found.is_empty());
}
