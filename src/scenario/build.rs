//! Multiplies out the dimensions of one deployment and judges every cell.

use std::sync::Arc;

use super::weights::{self, Format};
use super::{Estimate, Recommended, Scenario, Verdict};
use crate::engine::{self, Band, Cell, Contradiction, Engine, KvType, Plan, Request, Version};
use crate::machine::Machine;
use crate::manifest::{Deployment, WeightFormat};
use crate::memory::recommend::{HardwareCapabilities, QuantRecommendation, recommend_quantization};
use crate::memory::{GIB, kv, solve};
use crate::model::name::is_gguf_format;
use crate::model::{Dtype, Model};

/// A deployment with what its names resolved to.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its position in the report.
    pub index: usize,
    /// As declared, arguments settled.
    pub deployment: &'a Deployment,
    /// The model and its position.
    pub model: Option<(usize, &'a Model)>,
    /// One entry for each machine to check on: the machine and its position in the report, or `None` where the
    /// name is unknown.
    pub machines: &'a [Option<(usize, &'a Machine)>],
}

/// The scenarios of one deployment.
#[derive(Debug, Default)]
pub struct Built {
    /// In the order machine, context, batch, KV type.
    pub scenarios: Vec<Scenario>,
    /// What the engine cannot run, whatever the memory.
    pub contradictions: Vec<Refused>,
}

/// What an engine cannot run on a machine.
#[derive(Debug)]
pub struct Refused {
    /// The machine, by position in [`Subject::machines`].
    pub position: usize,
    /// The KV type of the cells in question; `None` where all cells of the machine are.
    pub kv: Option<KvType>,
    /// Why.
    pub contradiction: Contradiction,
}

/// Builds every scenario of a deployment.
pub fn build(subject: &Subject<'_>) -> Built {
    let mut built = Built::default();
    if subject.deployment.sized_as().is_none() {
        return built;
    }
    if let (Some((_, model)), true) = (subject.model, subject.machines.iter().all(Option::is_none)) {
        let deployment = subject.deployment;
        let refused = engine::sharding::split_contradictions(
            deployment.engine_or_default(),
            model,
            &deployment.settings,
        );
        built
            .contradictions
            .extend(refused.into_iter().map(|contradiction| Refused {
                position: subject.machines.len(),
                kv: None,
                contradiction,
            }));
    }
    for (position, machine) in subject.machines.iter().enumerate() {
        let scenarios = match (subject.model, machine) {
            (Some((_, model)), Some((_, machine))) => match Bench::new(subject.deployment, model, machine) {
                Ok(bench) => {
                    let refused = bench.refused_kv_types(subject.deployment, position);
                    let is_refused = |kv| refused.iter().any(|found| found.kv == Some(kv));
                    let scenarios = cells(subject, Some((0, *machine)))
                        .map(|cell| {
                            if is_refused(cell.kv) {
                                blank(subject, position, cell)
                            } else {
                                bench.scenario(subject, position, cell)
                            }
                        })
                        .collect();
                    built.contradictions.extend(refused);
                    scenarios
                }
                Err(contradictions) => {
                    let refused = contradictions.into_iter().map(|contradiction| Refused {
                        position,
                        kv: None,
                        contradiction,
                    });
                    built.contradictions.extend(refused);
                    unknown(subject, position)
                }
            },
            _ => unknown(subject, position),
        };
        built.scenarios.extend::<Vec<_>>(scenarios);
    }
    built
}

/// The cells of one machine: the product of the declared dimensions, with defaults for what is not declared.
fn cells<'s>(subject: &Subject<'s>, machine: Option<(usize, &'s Machine)>) -> impl Iterator<Item = Cell> {
    let deployment = subject.deployment;
    let engine = deployment.engine_or_default();
    let declared = |facts: &[crate::fact::Fact<u64>]| facts.iter().map(|fact| fact.value).collect::<Vec<_>>();
    let mut contexts = declared(&deployment.context);
    if contexts.is_empty() {
        let model = subject.model.map(|(_, model)| model);
        let machine = machine.map(|(_, machine)| machine);
        contexts.push(engine::default_context(engine, version(deployment), model, machine).value);
    }
    let mut batches = declared(&deployment.batch);
    if batches.is_empty() {
        batches.push(1);
    }
    let default = engine::default_kv_type(engine, subject.model.map(|(_, model)| model));
    let meant = |kv| match kv {
        KvType::Auto if default == KvType::Fp8 => default,
        kv => kv,
    };
    let mut types: Vec<KvType> = deployment.kv_cache.iter().map(|fact| meant(fact.value)).collect();
    if types.is_empty() {
        types.push(default);
    }
    let mut cells = Vec::with_capacity(contexts.len() * batches.len() * types.len());
    for context in contexts {
        for batch in &batches {
            cells.extend(types.iter().map(|kv| Cell {
                context,
                batch: *batch,
                kv: *kv,
            }));
        }
    }
    cells.into_iter()
}

/// The engine's release, where declared.
fn version(deployment: &Deployment) -> Option<Version> {
    let text = deployment.engine_version.as_ref()?;
    Version::parse(&text.value)
}

/// The format to serve. A GGUF file is served as it is, whatever would be recommended in its place. An engine's
/// argument that names a method says how a quantized checkpoint is read: what is quantized is not quantized again.
pub fn wanted(deployment: &Deployment, model: &Model) -> WeightFormat {
    let wanted = deployment.weight_format();
    let published = model.quantization.as_ref().map(|fact| &fact.value);
    let is_gguf = model.gguf.is_some() || published.is_some_and(|format| is_gguf_format(&format.method));
    let method = deployment.settings.text("quantization");
    let by_argument = method.is_some_and(|method| method.eq_ignore_ascii_case(wanted.name()));
    match wanted {
        WeightFormat::Auto if is_gguf => WeightFormat::AsPublished,
        WeightFormat::Named(_) if by_argument && published.is_some() => WeightFormat::AsPublished,
        wanted => wanted,
    }
}

/// The cells of a machine for which there is no estimate.
fn unknown(subject: &Subject<'_>, position: usize) -> Vec<Scenario> {
    let machine = subject.machines.get(position).copied().flatten();
    cells(subject, machine)
        .map(|cell| blank(subject, position, cell))
        .collect()
}

/// A scenario without an estimate.
fn blank(subject: &Subject<'_>, position: usize, cell: Cell) -> Scenario {
    let deployment = subject.deployment;
    let dtype = subject
        .model
        .and_then(|(_, model)| model.dtype.as_ref())
        .map(|dtype| dtype.value);
    Scenario {
        deployment: subject.index,
        model: subject.model.map(|(index, _)| index),
        machine: subject
            .machines
            .get(position)
            .copied()
            .flatten()
            .map(|(index, _)| index),
        machine_name: Some(position),
        accelerators: 1,
        context: cell.context,
        batch: cell.batch,
        kv_cache: cell.kv.resolve(dtype),
        quantization: deployment.weight_format().name().to_owned(),
        estimate: None,
        recommended: None,
        largest_context: None,
        alternatives: None,
        assumptions: Arc::default(),
    }
}

/// The plans of one deployment of one model on one machine, one for each weight format in question.
pub(super) struct Bench<'a> {
    engine: Engine,
    model: &'a Model,
    machine: &'a Machine,
    pub(super) wanted: WeightFormat,
    /// The formats in question, best quality first; the published one is among them where it is known.
    options: Vec<Choice>,
    /// Accelerators that serve one copy of the model.
    accelerators: u64,
    /// True where the settings say what stays in host memory.
    chooses_offload: bool,
    /// The overhead that the user gives in the place of the estimate.
    given_overhead: Option<Band>,
    assumptions: Vec<String>,
}

struct Choice {
    format: Format,
    plan: Box<dyn Plan>,
    /// What a scenario in this format assumes.
    assumptions: Arc<[String]>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        deployment: &'a Deployment,
        model: &'a Model,
        machine: &'a Machine,
    ) -> Result<Self, Vec<Contradiction>> {
        let engine = deployment.engine_or_default();
        let settings = deployment.settings_on(machine.count);
        let accelerators = engine::accelerators_used(engine, &settings, machine);
        let wanted = wanted(deployment, model);
        let mut bench = Self {
            engine,
            model,
            machine,
            wanted,
            options: Vec::new(),
            chooses_offload: deployment.settings.offload().is_some(),
            accelerators,
            given_overhead: deployment
                .settings
                .text(engine::overheads::GIVEN)
                .and_then(Band::parse),
            assumptions: Vec::new(),
        };
        if model.layout.is_err() {
            return Ok(bench);
        }
        let version = version(deployment);
        for format in bench.formats() {
            let request = Request {
                model,
                machine,
                version,
                settings: &settings,
                weights_bytes: format.bytes,
                format: format.quantization.as_ref(),
            };
            let plan = match engine::plan(engine, &request) {
                Ok(plan) => plan,
                // A format that was only going to be proposed.
                Err(_) if !bench.is_asked_for(&format) => continue,
                Err(contradictions) => return Err(contradictions),
            };
            let assumptions = Arc::default();
            bench.options.push(Choice {
                format,
                plan,
                assumptions,
            });
        }
        bench.assume();
        bench.share_assumptions();
        Ok(bench)
    }

    /// True for the format that the deployment would be served in, by its checkpoint or by its own words.
    fn is_asked_for(&self, format: &Format) -> bool {
        match &self.wanted {
            WeightFormat::Named(name) => *name == format.name,
            WeightFormat::Auto | WeightFormat::AsPublished => {
                weights::published(self.model).is_none_or(|published| published.name == format.name)
            }
        }
    }

    /// The declared KV types that the engine refuses on the machine.
    fn refused_kv_types(&self, deployment: &Deployment, position: usize) -> Vec<Refused> {
        let refused = deployment.kv_cache.iter().filter_map(|kv| {
            let contradiction = self.refuses(deployment, kv.value)?;
            Some(Refused {
                position,
                kv: Some(kv.value),
                contradiction,
            })
        });
        refused.collect()
    }

    /// Why the engine refuses a KV type here, if it does.
    pub(super) fn refuses(&self, deployment: &Deployment, kv: KvType) -> Option<Contradiction> {
        let request = Request {
            model: self.model,
            machine: self.machine,
            version: None,
            settings: &deployment.settings,
            weights_bytes: 0,
            format: None,
        };
        engine::refusals::kv_type(self.engine, &request, kv)
    }

    /// The formats to plan for, best quality first, each once.
    fn formats(&self) -> Vec<Format> {
        let published = weights::published(self.model);
        let fallbacks = weights::fallbacks(self.engine, self.machine);
        let mut formats: Vec<Format> = Vec::new();
        // A runtime that quantizes as it loads starts from 16 bit; the others start from what is published.
        if self.uses_tree() {
            formats.extend(weights::named(self.engine, self.model, "fp16"));
        } else {
            formats.extend(published.clone());
        }
        if let WeightFormat::Named(name) = &self.wanted {
            formats.extend(weights::named(self.engine, self.model, name));
        }
        if self.wanted == WeightFormat::AsPublished {
            formats.extend(published.clone());
        }
        let most = published.map_or(u64::MAX, |format| format.bytes);
        let smaller = |format: &Format| self.uses_tree() || format.bytes < most;
        formats.extend(
            fallbacks
                .iter()
                .filter_map(|name| weights::named(self.engine, self.model, name))
                .filter(smaller),
        );
        let mut names = Vec::new();
        formats.retain(|format| {
            !names.contains(&format.name) && {
                names.push(format.name.clone());
                true
            }
        });
        formats
    }

    /// True where the MLX-family runtime's own decision tree applies: it quantizes 16-bit checkpoints itself.
    fn uses_tree(&self) -> bool {
        self.engine == Engine::Mlx && self.model.quantization.is_none()
    }

    fn assume(&mut self) {
        self.assumptions.extend(self.model.assumptions.iter().cloned());
        if let Some(choice) = self.options.first() {
            self.assumptions.extend(choice.plan.assumptions().iter().cloned());
        }
        if let Some(band) = &self.given_overhead {
            let gib = |bytes: u64| format!("{:.2}", bytes as f64 / GIB as f64);
            let words = if band.low == band.high {
                format!("the overhead is {} GiB, as given", gib(band.likely))
            } else {
                let (low, likely, high) = (gib(band.low), gib(band.likely), gib(band.high));
                format!("the overhead is {likely} GiB ({low} to {high}), as given")
            };
            self.assumptions.push(words);
        }
        if self.uses_tree() && self.neural_accelerator_assumed() {
            self.assumptions.push("macOS 26.2 or later".to_owned());
        }
        if engine::default_kv_type(self.engine, Some(self.model)) == KvType::Fp8 {
            self.assumptions
                .push("KV cache in fp8 where none is declared: the checkpoint says so".to_owned());
        }
        let float32 = self
            .model
            .dtype
            .as_ref()
            .is_some_and(|dtype| dtype.value == Dtype::Float32);
        if float32 && engine::default_kv_type(self.engine, Some(self.model)) == KvType::Bf16 {
            self.assumptions
                .push("KV cache in bfloat16 where none is declared: the checkpoint is float32".to_owned());
        }
        if self.machine.count > self.accelerators {
            let unused = format!(
                "one copy uses {} of {} accelerators",
                self.accelerators, self.machine.count
            );
            self.assumptions.push(unused);
        }
    }

    /// Gives each format the assumptions of all, and its own.
    fn share_assumptions(&mut self) {
        for choice in &mut self.options {
            let mut all = self.assumptions.clone();
            if !choice.format.exact {
                all.push(format!(
                    "{} weights estimated from the parameter count",
                    choice.format.name
                ));
            }
            choice.assumptions = all.into();
        }
    }

    fn neural_accelerator_assumed(&self) -> bool {
        self.machine.macos.is_none()
            && self.machine.apple_generation >= Some(HardwareCapabilities::CHIP_WITH_NEURAL_ACCELERATOR)
    }

    fn scenario(&self, subject: &Subject<'_>, position: usize, cell: Cell) -> Scenario {
        let mut scenario = blank(subject, position, cell);
        scenario.accelerators = self.accelerators;
        let recommended = self.recommend(cell);
        if let Some(choice) = self.chosen(recommended.as_ref()) {
            scenario.quantization.clone_from(&choice.format.name);
            scenario.assumptions = Arc::clone(&choice.assumptions);
            let estimate = self.estimate(choice, cell);
            scenario.largest_context = Some(self.largest_context(choice, cell));
            scenario.estimate = Some(estimate);
        }
        scenario.recommended = recommended;
        scenario
    }

    /// The format of the estimate: the recommended one under `auto`, else the one that was asked for.
    fn chosen(&self, recommended: Option<&Recommended>) -> Option<&Choice> {
        match &self.wanted {
            WeightFormat::Auto => self.option(&recommended?.name),
            WeightFormat::AsPublished => self.option(&weights::published(self.model)?.name),
            WeightFormat::Named(name) => self.option(name),
        }
    }

    /// The largest context with which nothing would be reported, in the format that this cell gets.
    pub(super) fn largest_context_of(&self, cell: Cell) -> Option<u64> {
        let choice = self.chosen(self.recommend(cell).as_ref())?;
        Some(self.largest_context(choice, cell))
    }

    /// True when nothing would be reported of a cell.
    pub(super) fn satisfies(&self, cell: Cell) -> bool {
        let recommended = self.recommend(cell);
        let enough =
            self.wanted != WeightFormat::Auto || recommended.as_ref().is_some_and(|found| found.fits);
        enough
            && self
                .chosen(recommended.as_ref())
                .is_some_and(|choice| self.fits(choice, cell))
    }

    /// Of the formats smaller than the one asked for, the best with which the cell fits, else the one with the
    /// longest context: name, bytes of one accelerator's weights, largest context.
    pub(super) fn other_format(&self, cell: Cell) -> Option<(String, u64, u64)> {
        let now = self.chosen(None)?.format.bytes;
        let smaller = self.options.iter().filter(|choice| choice.format.bytes < now);
        let solved = smaller.filter_map(|choice| {
            let largest = Some(self.largest_context(choice, cell)).filter(|largest| *largest > 0)?;
            let weights = choice
                .plan
                .reserve(Cell {
                    context: largest,
                    ..cell
                })
                .weights_bytes;
            Some((choice.format.name.clone(), weights, largest))
        });
        let solved: Vec<_> = solved.collect();
        let fitting = solved.iter().find(|(_, _, largest)| *largest >= cell.context);
        fitting
            .or_else(|| solved.iter().max_by_key(|(_, _, largest)| *largest))
            .cloned()
    }

    fn option(&self, name: &str) -> Option<&Choice> {
        self.options.iter().find(|choice| choice.format.name == name)
    }

    fn estimate(&self, choice: &Choice, cell: Cell) -> Estimate {
        let reserved = choice.plan.reserve(cell);
        let certain = reserved.certain_bytes();
        let dtype = self.model.dtype.as_ref().map(|dtype| dtype.value);
        let (block, bytes) = cell.kv.resolve(dtype).block();
        let logical = self.model.layout.as_ref().map_or(0, |layout| {
            // Per 32 elements, so that block formats with scales stay whole numbers of bits.
            kv::logical_kv_bytes(layout, cell.context, cell.batch, 8 * bytes * 32 / block) / 32
        });
        Estimate {
            weights_bytes: reserved.weights_bytes,
            kv_cache_logical_bytes: logical,
            kv_cache_bytes: reserved.kv_cache_bytes,
            state_bytes: reserved.state_bytes,
            overhead: reserved.overhead,
            required_bytes: certain.saturating_add(reserved.overhead.likely),
            usable_bytes: reserved.usable_bytes,
            memory_bytes: self.machine.memory_bytes,
            verdict: self.as_sure(Verdict::judge(certain, reserved.overhead, reserved.usable_bytes)),
            host_bytes: choice.plan.host_bytes(cell),
            kv_cache_tokens: reserved.kv_cache_tokens,
            max_concurrency: reserved.max_concurrency,
            max_sequences: reserved.max_sequences,
            state_slots: reserved.state_slots,
            state_slots_at_most: reserved.state_slots_at_most,
        }
    }

    /// What is known of a model by its name alone may be wrong: it makes nothing certain.
    fn as_sure(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Exceeds if !self.model.assumptions.is_empty() => Verdict::LikelyExceeds,
            other => other,
        }
    }

    /// True when a cell fits with the likely overhead, and nothing is pushed into host memory unasked.
    fn fits(&self, choice: &Choice, cell: Cell) -> bool {
        let reserved = choice.plan.reserve(cell);
        reserved.certain_bytes().saturating_add(reserved.overhead.likely) <= reserved.usable_bytes
            && (self.chooses_offload || choice.plan.host_bytes(cell) == 0)
    }

    /// The best format for a cell. For the MLX family the runtime's own decision in whole GB; for the others the
    /// best format that fits with the likely overhead and leaves nothing in host memory, else the best that fits
    /// without the overhead, else the smallest.
    fn recommend(&self, cell: Cell) -> Option<Recommended> {
        if self.uses_tree() {
            let decided = self.decide(self.options.first()?, cell);
            return Some(Recommended {
                name: decided.format.name().to_owned(),
                fits: decided.fits,
                needed_bytes: decided.needed_gb.saturating_mul(GIB),
                available_bytes: self.machine.memory_bytes / GIB * GIB,
            });
        }
        let certain = |choice: &&Choice| {
            let reserved = choice.plan.reserve(cell);
            reserved.certain_bytes() <= reserved.usable_bytes && choice.plan.host_bytes(cell) == 0
        };
        let smallest = || self.options.iter().min_by_key(|choice| choice.format.bytes);
        let best = self
            .options
            .iter()
            .find(|choice| self.fits(choice, cell))
            .or_else(|| self.options.iter().find(certain))
            .map(|choice| (choice, true))
            .or_else(|| {
                // What an engine pushes into host memory starts all the same.
                let starts = |choice: &Choice| choice.plan.host_bytes(cell) > 0;
                smallest().map(|choice| (choice, starts(choice)))
            });
        best.map(|(choice, fits)| {
            let reserved = choice.plan.reserve(cell);
            Recommended {
                name: choice.format.name.clone(),
                fits,
                needed_bytes: reserved.certain_bytes(),
                available_bytes: reserved.usable_bytes,
            }
        })
    }

    /// The decision tree of the MLX-family runtime for a cell.
    fn decide(&self, choice: &Choice, cell: Cell) -> QuantRecommendation {
        let reserved = choice.plan.reserve(cell);
        let kv_bytes = reserved.kv_cache_bytes.saturating_add(reserved.state_bytes);
        let memory_gb = u32::try_from(self.machine.memory_bytes / GIB).unwrap_or(u32::MAX);
        let macos = self
            .machine
            .macos
            .unwrap_or(HardwareCapabilities::MACOS_WITH_NEURAL_ACCELERATOR);
        let generation = self.machine.apple_generation.unwrap_or(0);
        let hardware = HardwareCapabilities::apple(generation, memory_gb, macos);
        recommend_quantization(self.params_billions(), memory_gb, &hardware, Some(kv_bytes))
    }

    fn params_billions(&self) -> f64 {
        match (&self.model.parameters, self.model.weights.bytes) {
            (Some(parameters), _) => parameters.count as f64 / 1e9,
            (None, Some(bytes)) => bytes as f64 / 2.0 / 1e9,
            (None, None) => crate::memory::recommend::FALLBACK_PARAMS_BILLIONS,
        }
    }

    /// The largest context with which nothing would be reported, all else the same; 0 when there is none.
    fn largest_context(&self, choice: &Choice, cell: Cell) -> u64 {
        let most = self
            .model
            .longest_context
            .as_ref()
            .or(self.model.max_context.as_ref())
            .map_or(0, |fact| fact.value)
            .max(cell.context);
        let tree = self.uses_tree() && self.wanted == WeightFormat::Auto;
        let fits = |context| {
            let cell = Cell { context, ..cell };
            self.fits(choice, cell) && (!tree || self.decide(choice, cell).fits)
        };
        solve::largest(most, fits).unwrap_or(0)
    }
}
