//! A small world for tests: one manifest, one model, and cells made by hand.

use crate::engine::{Band, Engine, KvType};
use crate::fact::Fact;
use crate::lint::Subject;
use crate::machine::{Machine, MachineKind};
use crate::manifest::{Deployment, Format, WeightFormat};
use crate::memory::GIB;
use crate::memory::layout::Layout;
use crate::model::{Dims, Dtype, Model, ModelSource, Parameters, Weights};
use crate::report::Deployed;
use crate::scenario::{Estimate, Recommended, Scenario, Verdict};
use crate::source::{SourceFile, Sources, Span};

use super::facts::View;

pub(crate) const MANIFEST: &str = "\
oomlint: 1
deployments:
  - name: chat
    model: ./models/small
    engine: mlx
    machines: [m4-24gb, 2x l4]
    context: [8k, 128k]
    batch: 1
    kv_cache: fp16
    quantization: auto
";

const CONFIG: &str = "\
{
  \"max_position_embeddings\": 131072,
  \"num_hidden_layers\": 32,
  \"num_key_value_heads\": 8,
  \"torch_dtype\": \"bfloat16\"
}
";

/// Texts, one deployment of one model, two machines, and no cells yet.
pub(crate) struct World {
    pub(crate) sources: Sources,
    pub(crate) models: Vec<Model>,
    pub(crate) deployments: Vec<Deployed>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) scenarios: Vec<Scenario>,
}

fn place(file: &SourceFile, needle: &str) -> Span {
    let at = file.text().find(needle).unwrap();
    file.span(at..at + needle.len())
}

/// The first character behind a key.
fn number_after(file: &SourceFile, key: &str) -> Span {
    let end = place(file, key).end();
    file.span(end..end + 1)
}

fn stated<T>(file: &SourceFile, needle: &str, value: T) -> Fact<T> {
    Fact::at(value, place(file, needle))
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(MANIFEST)
    }

    /// The same world with another manifest text, which must hold the same values.
    pub(crate) fn of(text: &str) -> Self {
        let sources = Sources::default();
        let manifest = sources.add("oomlint.yaml", text);
        let config = sources.add("models/small/config.json", CONFIG);
        let deployment = deployment(&manifest);
        Self {
            models: vec![model(&config)],
            deployments: vec![Deployed {
                deployment,
                model: Some(0),
            }],
            machines: vec![m4_24gb(), two_l4()],
            scenarios: Vec::new(),
            sources,
        }
    }

    /// Adds a cell that fits easily, changed by `change`.
    pub(crate) fn cell(mut self, machine: usize, context: u64, change: impl FnOnce(&mut Scenario)) -> Self {
        let memory = self.machines[machine].memory_bytes;
        let mut scenario = Scenario {
            accelerators: 1,
            deployment: 0,
            model: Some(0),
            machine: Some(machine),
            context,
            batch: 1,
            kv_cache: KvType::F16,
            quantization: "fp16".to_owned(),
            estimate: Some(estimate(4 * GIB, GIB, memory)),
            recommended: Some(Recommended {
                name: "fp16".to_owned(),
                fits: true,
                needed_bytes: 5 * GIB,
                available_bytes: memory,
            }),
            largest_context: None,
            alternatives: None,
            machine_name: Some(machine),
            assumptions: Vec::new().into(),
        };
        change(&mut scenario);
        self.scenarios.push(scenario);
        self
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            sources: &self.sources,
            models: &self.models,
            deployments: &self.deployments,
            machines: &self.machines,
            scenarios: &self.scenarios,
            solver: None,
        }
    }

    pub(crate) fn view(&self, cell: usize) -> View<'_> {
        let scenario = &self.scenarios[cell];
        View {
            deployment: Some(&self.deployments[0].deployment),
            model: Some(&self.models[0]),
            machine: scenario.machine.map(|machine| &self.machines[machine]),
            scenario: Some(scenario),
            ..View::new(&self.sources)
        }
    }
}

/// Weights and KV cache in bytes, an overhead of 1 GiB (0.5 to 2), and the verdict that follows.
pub(crate) fn estimate(weights: u64, kv: u64, usable: u64) -> Estimate {
    let overhead = Band {
        low: GIB / 2,
        likely: GIB,
        high: 2 * GIB,
    };
    let certain = weights.saturating_add(kv);
    Estimate {
        weights_bytes: weights,
        kv_cache_logical_bytes: kv,
        kv_cache_bytes: kv,
        state_bytes: 0,
        overhead,
        required_bytes: certain.saturating_add(overhead.likely),
        usable_bytes: usable,
        memory_bytes: usable,
        verdict: Verdict::judge(certain, overhead, usable),
        host_bytes: 0,
        kv_cache_tokens: None,
        max_concurrency: None,
        max_sequences: None,
        state_slots: None,
        state_slots_at_most: None,
    }
}

fn deployment(file: &SourceFile) -> Deployment {
    let name = stated(file, "chat", "chat".to_owned());
    Deployment {
        engine: Some(stated(file, "mlx", Engine::Mlx)),
        model: Some(stated(file, "./models/small", "./models/small".to_owned())),
        machines: vec![
            stated(file, "m4-24gb", "m4-24gb".to_owned()),
            stated(file, "2x l4", "2x l4".to_owned()),
        ],
        context: vec![stated(file, "8k", 8192), stated(file, "128k", 131_072)],
        batch: vec![Fact::at(1, number_after(file, "batch: "))],
        kv_cache: vec![stated(file, "fp16", KvType::F16)],
        quantization: Some(stated(file, "auto", WeightFormat::Auto)),
        ..Deployment::new(name, file.id(), place(file, "name: chat"), Format::Own)
    }
}

fn model(config: &SourceFile) -> Model {
    Model {
        name: "small".to_owned(),
        path: "models/small".to_owned(),
        source: ModelSource::Directory,
        architecture: None,
        model_type: None,
        dims: Dims {
            num_layers: Some(stated(config, "32", 32)),
            num_kv_heads: Some(Fact::at(8, number_after(config, "\"num_key_value_heads\": "))),
            ..Dims::default()
        },
        dtype: Some(stated(config, "\"bfloat16\"", Dtype::Bfloat16)),
        max_context: Some(stated(config, "131072", 131_072)),
        longest_context: None,
        census: None,
        quantization: None,
        layout: Ok(Layout::default()),
        parameters: Some(Parameters {
            count: 8_030_261_248,
            exact: true,
            how: "tensor shapes",
        }),
        weights: Weights {
            bytes: Some(16_060_522_496),
            exact: true,
            how: "safetensors headers",
            ..Weights::default()
        },
        gguf: None,
        config: None,
        assumptions: Vec::new(),
        bytes_read: 0,
    }
}

pub(crate) fn m4_24gb() -> Machine {
    Machine {
        id: "m4-24gb".to_owned(),
        kind: MachineKind::AppleSilicon,
        count: 1,
        memory_bytes: 24 * GIB,
        runtime_memory_bytes: None,
        unified_memory: true,
        compute_capability: None,
        working_set_bytes: Some(16 * GIB),
        apple_generation: Some(4),
        macos: None,
        bandwidth: None,
        provenance: String::new(),
    }
}

pub(crate) fn two_l4() -> Machine {
    Machine {
        id: "l4".to_owned(),
        kind: MachineKind::Nvidia,
        count: 2,
        memory_bytes: 23_034 << 20,
        unified_memory: false,
        compute_capability: Some((8, 9)),
        working_set_bytes: None,
        apple_generation: None,
        ..m4_24gb()
    }
}
