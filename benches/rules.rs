//! How long rules take: by hand, `cargo bench --bench rules`. Nothing here is a test.
//!
//! The built-in rules are linted over 10,000 scenarios of 100 deployments, as often as it takes to be 80 rules; and
//! each kind of condition is evaluated by itself on one scenario.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use oomlint::config::Settings;
use oomlint::lint::{self, Selection};
use oomlint::report::Report;
use oomlint::rule::{Rules, Scope, View};
use oomlint::run::{self, Run};
use oomlint::source::Sources;

/// As many rules as the set is meant to grow to.
const RULES: usize = 80;

fn main() {
    divan::main();
}

/// The scenarios of 100 deployments on 10 machines at 10 contexts, multiples of so many tokens: few findings come of
/// small ones, many of large ones.
fn world(tokens: u64) -> Report {
    let contexts: Vec<String> = (1..=10).map(|at| (at * tokens).to_string()).collect();
    let mut manifest = "oomlint: 1\ndeployments:\n".to_owned();
    for number in 0..100 {
        let _ = writeln!(
            manifest,
            "  - {{name: d{number}, model: {}/examples/models/llama-3.1-8b, engine: vllm, engine_version: 0.12.0, \
             machines: [h100-sxm-80gb, h200-sxm-141gb, a100-sxm-80gb, l40s, rtx-4090, m4-max-128gb, m3-ultra-512gb, \
             a10, l4, mi300x], context: [{}], args: [--max-num-seqs, \"64\"]}}",
            env!("CARGO_MANIFEST_DIR"),
            contexts.join(", ")
        );
    }
    let outcome = run::run(&Run {
        paths: Vec::<PathBuf>::new(),
        stdin: Some(manifest.into_bytes()),
        settings: Arc::new(Settings::default()),
        rules: Rules::builtin(),
        selection: run::Selection::default(),
        sources: Arc::new(Sources::default()),
    });
    outcome.report
}

fn subject(report: &Report) -> lint::Subject<'_> {
    lint::Subject {
        sources: &report.sources,
        models: &report.models,
        deployments: &report.deployments,
        machines: &report.machines,
        scenarios: &report.scenarios,
        solver: None,
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
    let world = world(tokens);
    let rules = eighty();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
    let pool = pool.unwrap_or_else(|_| std::process::abort());
    bencher.bench(|| pool.install(|| lint::lint(&subject(&world), &rules, &Selection::default()).len()));
}

/// Every condition of the 80 rules on one scenario: divide by 80 for the mean of one.
#[divan::bench]
fn eighty_conditions_on_one_scenario(bencher: divan::Bencher<'_, '_>) {
    let world = world(8192);
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
