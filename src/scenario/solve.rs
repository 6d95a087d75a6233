//! What would fit instead of a cell that does not: solved backwards with the code that made the estimate.
//!
//! In: a scenario that fails. Out: its [`Alternatives`]. Only the cell that a finding speaks of is solved, so
//! the cost does not grow with the matrix.

use super::build::{Bench, Subject};
use super::{Alternatives, Scenario};
use crate::engine::{self, Cell, Engine, KvType, Settings, Version};
use crate::fact::Fact;
use crate::machine::Machine;
use crate::machine::catalog::Catalog;
use crate::manifest::{Deployment, WeightFormat};
use crate::memory::solve;
use crate::model::Model;

/// Tensor-parallel sizes that are worth proposing: those of one host.
const TENSOR_PARALLEL_SIZES: [u64; 3] = [2, 4, 8];

/// Memory fractions that are proposed, in hundredths: above, CUDA graphs and other libraries find no room beside
/// the pool (vLLM's own advice is 0.90 to 0.95).
const MOST_HUNDREDTHS: u32 = 95;

/// Solves scenarios of the deployments it was made from.
#[derive(Debug, Clone, Copy)]
pub struct Solver<'a> {
    /// The deployments, by position.
    pub subjects: &'a [Subject<'a>],
}

impl Solver<'_> {
    /// What would fit instead of a scenario.
    pub fn alternatives(&self, scenario: &Scenario) -> Alternatives {
        let Some(case) = self.case(scenario) else {
            return Alternatives::default();
        };
        Alternatives {
            largest_context: scenario.largest_context.filter(|context| *context > 0),
            kv_cache: case.other_kv_type(scenario.largest_context.unwrap_or(0)),
            quantization: case.other_format(),
            machine: case.other_machine(),
            tensor_parallel: case.other_tensor_parallel(),
            memory_fraction: case.other_memory_fraction(),
            largest_batch: case.largest_batch(),
        }
    }

    fn case(&self, scenario: &Scenario) -> Option<Case<'_>> {
        let subject = self.subjects.get(scenario.deployment)?;
        let (_, model) = subject.model?;
        let (_, machine) = subject.machines.get(scenario.machine_name?).copied().flatten()?;
        let cell = Cell {
            context: scenario.context,
            batch: scenario.batch,
            kv: scenario.kv_cache,
        };
        Some(Case {
            deployment: subject.deployment,
            model,
            machine,
            cell,
        })
    }
}

/// One failing cell.
struct Case<'a> {
    deployment: &'a Deployment,
    model: &'a Model,
    machine: &'a Machine,
    cell: Cell,
}

impl Case<'_> {
    fn engine(&self) -> Engine {
        self.deployment.engine_or_default()
    }

    fn bench<'b>(&'b self, deployment: &'b Deployment, machine: &'b Machine) -> Option<Bench<'b>> {
        Bench::new(deployment, self.model, machine).ok()
    }

    /// The best smaller KV type with which a longer context fits.
    fn other_kv_type(&self, now: u64) -> Option<(String, u64)> {
        let bench = self.bench(self.deployment, self.machine)?;
        let dtype = self.model.dtype.as_ref().map(|dtype| dtype.value);
        let size = |kv: KvType| kv.resolve(dtype).row_bytes(256);
        let smaller = |kv: &KvType| size(*kv) < size(self.cell.kv);
        smaller_kv_types(self.engine())
            .iter()
            .filter(|kv| smaller(kv) && bench.refuses(self.deployment, **kv).is_none())
            .find_map(|kv| {
                // Settings that name the type as an engine's argument would go before the cell's.
                let largest = bench.largest_context_of(Cell { kv: *kv, ..self.cell })?;
                (largest > now).then(|| (kv.name().to_owned(), largest))
            })
    }

    /// The best other weight format with which the cell fits, else the one with the longest context.
    fn other_format(&self) -> Option<(String, u64, u64)> {
        let bench = self.bench(self.deployment, self.machine)?;
        if bench.wanted == WeightFormat::Auto {
            return None;
        }
        bench.other_format(self.cell)
    }

    /// The smallest machine of the catalog on which the cell fits as it is, with as many accelerators.
    fn other_machine(&self) -> Option<(String, u64)> {
        Catalog::builtin().larger(self.machine).find_map(|larger| {
            let machine = Machine {
                count: self.machine.count,
                ..larger.clone()
            };
            let fits = self.bench(self.deployment, &machine)?.satisfies(self.cell);
            fits.then(|| (machine.name(), machine.memory_bytes))
        })
    }

    /// The least memory fraction, in whole hundredths up to what leaves the runtime room, with which the cell fits.
    fn other_memory_fraction(&self) -> Option<f64> {
        let settings = &self.deployment.settings;
        let pool_is_given = settings.get("kv_cache_memory_bytes").is_some()
            || settings.get("num_gpu_blocks_override").is_some();
        if self.engine() != Engine::Vllm || pool_is_given {
            return None;
        }
        let version = self.deployment.engine_version.as_ref();
        let version = version.and_then(|text| Version::parse(&text.value));
        let now = settings
            .number("memory_fraction")
            .unwrap_or_else(|| engine::vllm::default_memory_fraction(version));
        let fractions = (1..=MOST_HUNDREDTHS).map(|hundredths| f64::from(hundredths) / 100.0);
        fractions.filter(|fraction| *fraction > now).find(|fraction| {
            let mut settings = settings.clone();
            settings.set(
                "memory_fraction",
                Fact::default(fraction.to_string(), "a proposal"),
            );
            let deployment = Deployment {
                settings,
                ..self.deployment.clone()
            };
            let bench = self.bench(&deployment, self.machine);
            bench.is_some_and(|bench| bench.satisfies(self.cell))
        })
    }

    /// The largest batch of the context that fits, where more than one sequence was asked for.
    fn largest_batch(&self) -> Option<u64> {
        let bench = self.bench(self.deployment, self.machine)?;
        let fits = |batch| bench.satisfies(Cell { batch, ..self.cell });
        solve::largest(self.cell.batch, fits).filter(|batch| *batch < self.cell.batch)
    }

    /// The next tensor-parallel size with which the cell fits, else the largest of one host.
    fn other_tensor_parallel(&self) -> Option<(u64, u64)> {
        let splits = matches!(
            self.engine(),
            Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorrtLlm
        );
        if !splits {
            return None;
        }
        let settings = self.deployment.settings_on(self.machine.count);
        let now = engine::accelerators_used(self.engine(), &settings, self.machine);
        let mut best = None;
        for size in TENSOR_PARALLEL_SIZES.into_iter().filter(|size| *size > now) {
            let deployment = Deployment {
                settings: split(&settings, size),
                ..self.deployment.clone()
            };
            let machine = Machine {
                count: size,
                ..self.machine.clone()
            };
            let Some(bench) = self.bench(&deployment, &machine) else {
                continue;
            };
            let Some(largest) = bench.largest_context_of(self.cell).filter(|largest| *largest > 0) else {
                continue;
            };
            best = Some((size, largest));
            if largest >= self.cell.context {
                break;
            }
        }
        best
    }
}

/// The same settings with another tensor-parallel size.
fn split(settings: &Settings, size: u64) -> Settings {
    let mut settings = settings.clone();
    settings.set("tensor_parallel", Fact::default(size.to_string(), "a proposal"));
    settings
}

/// KV types below 16 bit that are worth proposing, best quality first.
fn smaller_kv_types(engine: Engine) -> &'static [KvType] {
    match engine {
        Engine::Mlx => &[KvType::Int8],
        Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorrtLlm => &[KvType::Fp8],
        Engine::LlamaCpp | Engine::Ollama => &[KvType::Q8_0, KvType::Q4_0],
        Engine::Transformers => &[],
    }
}
