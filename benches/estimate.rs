//! How fast the parts are that every run waits for. By hand: `cargo bench`. Nothing here is a test.
//!
//! `a_million_scenarios` estimates 100 deployments x 100 machines x 100 contexts on all cores, recommendation and
//! largest context included; the other benchmarks are one unit of work each.

use oomlint::engine::{self, Cell, Engine, KvType, Request, Settings};
use oomlint::fact::Fact;
use oomlint::machine::Machine;
use oomlint::machine::catalog::Catalog;
use oomlint::manifest::{Deployment, Format};
use oomlint::memory::solve;
use oomlint::model::Model;
use oomlint::scenario::{self, Subject};
use oomlint::source::Sources;
use oomlint::source::tree::Tree;
use rayon::prelude::*;

fn main() {
    divan::main();
}

fn model(sources: &Sources) -> Model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/llama-3.1-8b");
    let loaded = oomlint::model::directory::load(sources, path.as_ref(), "llama-3.1-8b");
    loaded.model.unwrap_or_else(|| std::process::abort())
}

fn machines(count: usize) -> Vec<Machine> {
    Catalog::builtin()
        .iter()
        .take(count)
        .map(|entry| entry.machine.clone())
        .collect()
}

fn deployment(sources: &Sources, engine: Engine, contexts: u64) -> Deployment {
    let file = sources.add("bench.yaml", "");
    let name = Fact::default("bench".to_owned(), "bench");
    Deployment {
        engine: Some(Fact::default(engine, "bench")),
        context: (1..=contexts)
            .map(|at| Fact::default(at * 1024, "bench"))
            .collect(),
        ..Deployment::new(name, file.id(), file.span(0..0), Format::Own)
    }
}

#[divan::bench(args = [Engine::Mlx, Engine::Vllm, Engine::LlamaCpp], sample_count = 3)]
fn a_million_scenarios(bencher: divan::Bencher<'_, '_>, engine: Engine) {
    let sources = Sources::default();
    let model = model(&sources);
    let machines = machines(100);
    let places: Vec<_> = machines.iter().enumerate().map(Some).collect();
    let deployments: Vec<Deployment> = (0..100).map(|_| deployment(&sources, engine, 100)).collect();
    bencher.bench(|| {
        let count = |(index, deployment): (usize, &Deployment)| {
            let subject = Subject {
                index,
                deployment,
                model: Some((0, &model)),
                machines: &places,
            };
            scenario::build(&subject).scenarios.len()
        };
        deployments.par_iter().enumerate().map(count).sum::<usize>()
    });
}

#[divan::bench(args = [Engine::Mlx, Engine::Vllm, Engine::Sglang, Engine::LlamaCpp, Engine::Transformers])]
fn one_estimate(bencher: divan::Bencher<'_, '_>, engine: Engine) {
    let sources = Sources::default();
    let model = model(&sources);
    let machine = machines(1).remove(0);
    let settings = Settings::default();
    let request = Request {
        model: &model,
        machine: &machine,
        version: None,
        settings: &settings,
        weights_bytes: 16 << 30,
        format: None,
    };
    let Ok(plan) = engine::plan(engine, &request) else {
        return;
    };
    let cell = Cell {
        context: 32_768,
        batch: 1,
        kv: KvType::F16,
    };
    bencher.bench(|| plan.reserve(divan::black_box(cell)));
}

#[divan::bench]
fn the_largest_context(bencher: divan::Bencher<'_, '_>) {
    let sources = Sources::default();
    let model = model(&sources);
    let machine = machines(1).remove(0);
    let settings = Settings::default();
    let request = Request {
        model: &model,
        machine: &machine,
        version: None,
        settings: &settings,
        weights_bytes: 16 << 30,
        format: None,
    };
    let Ok(plan) = engine::plan(Engine::Vllm, &request) else {
        return;
    };
    bencher.bench(|| {
        solve::largest(1 << 24, |context| {
            let reserved = plan.reserve(Cell {
                context,
                batch: 1,
                kv: KvType::F16,
            });
            reserved.certain_bytes() <= reserved.usable_bytes
        })
    });
}

#[divan::bench]
fn one_config(bencher: divan::Bencher<'_, '_>) {
    let sources = Sources::default();
    let file = sources.add(
        "config.json",
        include_str!("../examples/models/llama-3.1-8b/config.json"),
    );
    bencher.bench(|| oomlint::model::config::read(&file));
}

#[divan::bench]
fn a_megabyte_of_yaml(bencher: divan::Bencher<'_, '_>) {
    let text = "- {name: chat, model: m, machines: [m4-24gb, l4], context: [8k, 128k]}\n".repeat(14_500);
    let sources = Sources::default();
    let file = sources.add("big.yaml", text);
    bencher.bench(|| Tree::parse(&file).documents.len());
}
