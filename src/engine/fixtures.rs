//! Models, machines and settings small enough to follow by hand, for the engines' tests.

use super::Settings;
use crate::fact::Fact;
use crate::machine::{Machine, MachineKind};
use crate::memory::MIB;
use crate::memory::layout::{Cache, LayerGroup, Layout, Reach};
use crate::model::{Dims, Model, ModelSource, Weights};

pub(super) fn attention(kv_heads: u64, dim: u64, reach: Reach) -> Cache {
    Cache::Attention {
        kv_heads,
        k_dim: dim,
        v_dim: dim,
        reach,
    }
}

/// Layers of each cache, one kind after the other.
pub(super) fn model(caches: &[(Cache, u32)]) -> Model {
    let mut first = 0;
    let groups: Vec<LayerGroup> = caches
        .iter()
        .map(|(cache, count)| {
            let layers = (first..first + count).collect();
            first += count;
            LayerGroup {
                cache: *cache,
                layers,
            }
        })
        .collect();
    Model {
        assumptions: Vec::new(),
        name: String::from("tiny"),
        path: String::new(),
        source: ModelSource::Directory,
        architecture: None,
        model_type: None,
        dims: Dims {
            num_heads: Some(Fact::default(32, "a test's")),
            ..Dims::default()
        },
        dtype: None,
        max_context: None,
        longest_context: None,
        census: None,
        quantization: None,
        layout: Ok(Layout {
            num_layers: u64::from(first),
            nextn_layers: 0,
            groups,
        }),
        parameters: None,
        weights: Weights::default(),
        gguf: None,
        config: None,
        bytes_read: 0,
    }
}

pub(super) fn machine(mib: u64, capability: (u32, u32)) -> Machine {
    Machine {
        id: String::from("test-gpu"),
        kind: MachineKind::Nvidia,
        count: 1,
        memory_bytes: mib * MIB,
        runtime_memory_bytes: Some(mib * MIB),
        unified_memory: false,
        compute_capability: Some(capability),
        working_set_bytes: None,
        apple_generation: None,
        macos: None,
        bandwidth: None,
        provenance: String::new(),
    }
}

pub(super) fn h100() -> Machine {
    machine(81_559, (9, 0))
}

pub(super) fn settings(values: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    for (id, value) in values {
        settings.set(*id, Fact::default((*value).to_owned(), "a test's"));
    }
    settings
}
