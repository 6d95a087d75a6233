//! How long rules take: by hand, `cargo bench --bench rules`. Nothing here is a test.
//!
//! The built-in rules are linted over 10,000 scenarios of 100 deployments, as often as it takes to be 80 rules; and
//! each kind of condition is evaluated by itself on one scenario.

use std::collections::BTreeSet;

use oomlint::engine::{Engine, Settings};
use oomlint::fact::Fact;
use oomlint::lint::{self, Selection};
use oomlint::machine::Machine;
use oomlint::machine::catalog::Catalog;
use oomlint::manifest::{Deployment, Format};
use oomlint::model::Model;
use oomlint::report::Deployed;
use oomlint::rule::{Rules, Scope, View};
use oomlint::scenario::{self, Scenario, Subject};
use oomlint::source::Sources;

/// As many rules as the set is meant to grow to.
const RULES: usize = 80;

fn main() {
    divan::main();
}

struct World {
    sources: Sources,
    models: Vec<Model>,
    deployments: Vec<Deployed>,
    machines: Vec<Machine>,
    scenarios: Vec<Scenario>,
}

impl World {
    /// 100 deployments on 10 machines at 10 contexts; the contexts are such that few findings come of them, or many.
    fn new(tokens: u64) -> Self {
        let sources = Sources::default();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/llama-3.1-8b");
        let loaded = oomlint::model::directory::load(&sources, path.as_ref(), "llama-3.1-8b");
        let models = vec![loaded.model.unwrap_or_else(|| std::process::abort())];
        let machines: Vec<Machine> = [
            "h100-sxm-80gb",
            "h200-sxm-141gb",
            "a100-sxm-80gb",
            "l40s",
            "rtx-4090",
        ]
        .into_iter()
        .chain(["m4-max-128gb", "m3-ultra-512gb", "a10", "l4", "mi300x"])
        .filter_map(|name| Catalog::builtin().resolve_with(&[], name).ok())
        .collect();
        let deployments: Vec<Deployed> = (0..100)
            .map(|_| Deployed {
                deployment: deployment(&sources, tokens),
                model: Some(0),
            })
            .collect();
        let places: Vec<_> = machines.iter().enumerate().map(Some).collect();
        let scenarios = deployments
            .iter()
            .enumerate()
            .flat_map(|(index, deployed)| {
                let subject = Subject {
                    index,
                    deployment: &deployed.deployment,
                    model: models.first().map(|model| (0, model)),
                    machines: &places,
                };
                scenario::build(&subject).scenarios
            })
            .collect();
        Self {
            sources,
            models,
            deployments,
            machines,
            scenarios,
        }
    }

    fn subject(&self) -> lint::Subject<'_> {
        lint::Subject {
            sources: &self.sources,
            models: &self.models,
            deployments: &self.deployments,
            machines: &self.machines,
            scenarios: &self.scenarios,
            solver: None,
        }
    }
}

fn deployment(sources: &Sources, tokens: u64) -> Deployment {
    let file = sources.add("bench.yaml", "");
    let mut settings = Settings::default();
    settings.set("tensor_parallel", Fact::default("1".to_owned(), "bench"));
    let name = Fact::default("bench".to_owned(), "bench");
    Deployment {
        engine: Some(Fact::default(Engine::Vllm, "bench")),
        engine_version: Some(Fact::default("0.12.0".to_owned(), "bench")),
        context: (1..=10).map(|at| Fact::default(at * tokens, "bench")).collect(),
        settings,
        ..Deployment::new(name, file.id(), file.span(0..0), Format::Own)
    }
}

/// The rules that have conditions, with further ones until there are [`RULES`]: copies under other ids.
fn eighty() -> Rules {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/rules");
    let mut files = Vec::new();
    let ids: BTreeSet<&str> = Rules::builtin()
        .iter()
        .filter(|rule| rule.scope != Scope::Structural)
        .map(|rule| &*rule.id)
        .collect();
    for (number, id) in ids
        .iter()
        .cycle()
        .take(RULES.saturating_sub(ids.len()))
        .enumerate()
    {
        let text = std::fs::read_to_string(format!("{folder}/{id}.yaml")).unwrap_or_default();
        let name = format!("{id}-{number}");
        let text = text.replacen(&format!("id: {id}"), &format!("id: {name}"), 1);
        files.push((format!("{name}.yaml"), text));
    }
    Rules::load(files.into_iter(), &Sources::default()).unwrap_or_else(|_| std::process::abort())
}

/// 80 rules on 10,000 scenarios, on two threads; 1024 tokens at the least, or 64 times as many.
#[divan::bench(args = [1024, 65_536], sample_count = 10)]
fn eighty_rules_on_ten_thousand_scenarios(bencher: divan::Bencher<'_, '_>, tokens: u64) {
    let world = World::new(tokens);
    let rules = eighty();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let pool = pool.unwrap_or_else(|_| std::process::abort());
    bencher.bench(|| pool.install(|| lint::lint(&world.subject(), &rules, &Selection::default()).len()));
}

/// Every condition of the 80 rules on one scenario: divide by 80 for the mean of one.
#[divan::bench]
fn eighty_conditions_on_one_scenario(bencher: divan::Bencher<'_, '_>) {
    let world = World::new(8192);
    let rules = eighty();
    let conditions: Vec<_> = rules.iter().filter_map(|rule| rule.when.as_ref()).collect();
    let scenario = world.scenarios.get(77);
    let view = View {
        deployment: world.deployments.first().map(|deployed| &deployed.deployment),
        model: world.models.first(),
        machine: scenario.and_then(|scenario| world.machines.get(scenario.machine?)),
        scenario,
        ..View::new(&world.sources)
    };
    bencher.bench(|| {
        conditions
            .iter()
            .filter(|when| when.holds(divan::black_box(&view)))
            .count()
    });
}

/// Loading every built-in rule file, as each start does.
#[divan::bench]
fn loading_the_rules() -> usize {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/rules");
    let files = Rules::builtin().ids().map(|id| {
        let text = std::fs::read_to_string(format!("{folder}/{id}.yaml")).unwrap_or_default();
        (
            format!("{id}-x.yaml"),
            text.replacen(&format!("id: {id}"), &format!("id: {id}-x"), 1),
        )
    });
    Rules::load(files, &Sources::default()).map_or(0, |rules| rules.iter().count())
}
