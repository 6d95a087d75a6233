//! Solving backwards is the inverse of the estimate: the answer fits, and one step more does not.
//!
//! Random models, engines and settings go through the same door as `oomlint inspect`; every answer is put back
//! into the forward estimate.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::Arc;

use oomlint::config::Settings;
use oomlint::engine::{Engine, KvType};
use oomlint::report::Report;
use oomlint::rule::Rules;
use oomlint::run::inspect::{Inspection, inspect};
use oomlint::scenario::{Alternatives, Scenario, Solver, Subject, Verdict};
use oomlint::source::Sources;
use proptest::prelude::*;

/// A deployment to solve.
#[derive(Debug, Clone)]
struct Question {
    config: serde_json::Value,
    engine: Engine,
    machine: &'static str,
    context: u64,
    batch: u64,
    kv: Option<KvType>,
    args: Vec<String>,
}

/// Layers of full, sliding, latent or recurrent kind, on a model of one to some ten billion parameters.
fn config() -> impl Strategy<Value = serde_json::Value> {
    let dims = (0..4usize, 1..40u64, 0..4u32, 1..5u64, 12..18u32);
    dims.prop_map(|(family, layers, kv_shift, width, longest)| {
        let kv_heads = 1u64 << kv_shift;
        let mut config = serde_json::json!({
            "model_type": "llama", "hidden_size": width * 1024, "num_hidden_layers": layers,
            "num_attention_heads": 16, "num_key_value_heads": kv_heads, "head_dim": 128,
            "intermediate_size": width * 4096, "vocab_size": 32_000, "torch_dtype": "bfloat16",
            "max_position_embeddings": 1u64 << longest,
        });
        let more = match family {
            0 => serde_json::json!({}),
            1 => serde_json::json!({"model_type": "mistral", "sliding_window": 1000}),
            2 => serde_json::json!({"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 6}),
            _ => serde_json::json!({
                "model_type": "qwen3_next", "full_attention_interval": 4, "linear_num_key_heads": 16,
                "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
                "linear_conv_kernel_dim": 4, "num_experts": 0,
            }),
        };
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    })
}

fn question() -> impl Strategy<Value = Question> {
    let engine = prop_oneof![
        Just((Engine::Mlx, "m4-24gb")),
        Just((Engine::Vllm, "l4")),
        Just((Engine::Vllm, "a100-sxm-40gb")),
        Just((Engine::Sglang, "rtx-4090")),
        Just((Engine::Tgi, "a10g")),
        Just((Engine::TensorrtLlm, "l40s")),
        Just((Engine::LlamaCpp, "m4-24gb")),
        Just((Engine::Transformers, "rtx-3090")),
    ];
    let fraction = prop_oneof![Just(None), (50..95u32).prop_map(Some)];
    (config(), engine, 1..200_000u64, 1..20u64, any::<bool>(), fraction).prop_map(
        |(config, (engine, machine), context, batch, small, fraction)| {
            let kv = match engine {
                Engine::Vllm | Engine::Sglang if small => Some(KvType::Fp8),
                Engine::LlamaCpp if small => Some(KvType::Q8_0),
                _ => None,
            };
            let flag = match engine {
                Engine::Vllm => Some("--gpu-memory-utilization"),
                Engine::Sglang => Some("--mem-fraction-static"),
                _ => None,
            };
            let given = flag.zip(fraction);
            let args = given.map_or_else(Vec::new, |(flag, share)| {
                vec![flag.to_owned(), format!("0.{share}")]
            });
            Question {
                config,
                engine,
                machine,
                context,
                batch,
                kv,
                args,
            }
        },
    )
}

impl Question {
    fn report(&self, folder: &Path) -> Report {
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        let mut settings = Settings::default();
        settings.default_machines.push(self.machine.to_owned());
        settings.default_contexts.push(self.context);
        let inspection = Inspection {
            model: folder.display().to_string(),
            engine: Some(self.engine),
            engine_version: None,
            batch: vec![self.batch],
            kv_cache: self.kv.into_iter().collect(),
            quantization: Some("as-published".to_owned()),
            args: self.args.clone(),
        };
        inspect(
            &inspection,
            &settings,
            &Arc::new(Sources::default()),
            Rules::builtin(),
        )
        .unwrap()
    }

    fn scenario(&self, folder: &Path) -> Scenario {
        self.report(folder).scenarios[0].clone()
    }

    fn fits(&self, folder: &Path) -> bool {
        fits(&self.scenario(folder))
    }

    /// The longest context that is looked at.
    fn most(&self) -> u64 {
        self.config["max_position_embeddings"]
            .as_u64()
            .unwrap()
            .max(self.context)
    }
}

fn fits(scenario: &Scenario) -> bool {
    matches!(scenario.verdict(), Verdict::Fits | Verdict::LikelyFits)
        && scenario
            .estimate
            .as_ref()
            .is_some_and(|estimate| estimate.host_bytes == 0)
}

fn alternatives(report: &Report) -> Alternatives {
    let machine = report.machines.first().map(|machine| (0, machine));
    let subjects = [Subject {
        index: 0,
        deployment: &report.deployments[0].deployment,
        model: report.models.first().map(|model| (0, model)),
        machines: &[machine],
    }];
    Solver { subjects: &subjects }.alternatives(&report.scenarios[0])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_largest_context_fits_and_one_token_more_does_not(question in question()) {
        let folder = tempfile::tempdir().unwrap();
        let found = question.scenario(folder.path());
        prop_assume!(found.estimate.is_some());
        let largest = found.largest_context.unwrap();
        let at = |context| Question { context, ..question.clone() }.fits(folder.path());
        prop_assert!(largest == 0 || at(largest), "{} does not fit", largest);
        prop_assert!(largest >= question.most() || !at(largest + 1), "{} fits too", largest + 1);
        prop_assert_eq!(fits(&found), largest >= question.context);
    }

    #[test]
    fn every_proposal_fits_and_no_smaller_change_would_do(question in question()) {
        let folder = tempfile::tempdir().unwrap();
        let report = question.report(folder.path());
        prop_assume!(!fits(&report.scenarios[0]) && report.scenarios[0].estimate.is_some());
        let found = alternatives(&report);
        let fits = |question: Question| question.fits(folder.path());
        if let Some(batch) = found.largest_batch {
            let at = |batch| fits(Question { batch, ..question.clone() });
            prop_assert!(at(batch) && !at(batch + 1), "{} requests", batch);
        }
        if let Some((name, largest)) = &found.kv_cache {
            let kv = KvType::parse(name);
            let at = |context| fits(Question { context, kv, ..question.clone() });
            prop_assert!(at(*largest), "{} tokens in {}", largest, name);
            prop_assert!(*largest >= question.most() || !at(largest + 1), "{} in {}", largest + 1, name);
        }
        if let Some(fraction) = found.memory_fraction {
            let at = |fraction: f64| {
                let args = vec!["--gpu-memory-utilization".to_owned(), format!("{fraction:.2}")];
                fits(Question { args, ..question.clone() })
            };
            prop_assert!(at(fraction) && !at(fraction - 0.01), "{}", fraction);
        }
        if let Some((name, _)) = &found.machine {
            let machine = Box::leak(name.clone().into_boxed_str());
            prop_assert!(fits(Question { machine, ..question.clone() }), "on {}", name);
        }
        if let Some((size, largest)) = found.tensor_parallel {
            let mut args = question.args.clone();
            let flag = match question.engine { Engine::Sglang => "--tp", Engine::Tgi => "--num-shard", Engine::TensorrtLlm => "--tp_size", _ => "-tp" };
            args.extend([flag.to_owned(), size.to_string()]);
            let machine = Box::leak(format!("{size}x {}", question.machine).into_boxed_str());
            let at = |context| fits(Question { context, machine, args: args.clone(), ..question.clone() });
            prop_assert!(at(largest), "{} tokens on {} ranks", largest, size);
            prop_assert!(largest >= question.most() || !at(largest + 1), "{} on {} ranks", largest + 1, size);
        }
    }
}
