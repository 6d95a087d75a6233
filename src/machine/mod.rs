//! Machines: one or more accelerators of a kind, or a unified-memory computer.
//!
//! In: names and labels as manifests write them. Out: a [`Machine`] with driver-reported memory. The data is
//! in `catalog/machines`; a manifest and the settings file may add their own.

pub mod catalog;
mod name;
pub mod quantity;

pub use catalog::{Catalog, Unknown};

/// What kind of accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineKind {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// An Apple computer: unified memory.
    AppleSilicon,
    /// Google TPU.
    Tpu,
    /// Intel.
    Intel,
    /// Any other accelerator.
    Other,
    /// No accelerator: host memory is the budget.
    Cpu,
}

/// One kind of accelerator, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// The catalog id, or the name the manifest gave it; without the count.
    pub id: String,
    /// What kind.
    pub kind: MachineKind,
    /// How many accelerators.
    pub count: u64,
    /// Memory of one accelerator in bytes, as the driver reports it; for unified memory the whole of it.
    pub memory_bytes: u64,
    /// Memory of one accelerator in bytes as the engines' runtime sees it (`cudaMemGetInfo`), where measured.
    /// Engines multiply their memory fraction with this one.
    pub runtime_memory_bytes: Option<u64>,
    /// True where the accelerator shares its memory with the host.
    pub unified_memory: bool,
    /// CUDA compute capability, major and minor.
    pub compute_capability: Option<(u32, u32)>,
    /// GPU memory limit in bytes that macOS sets by default (`recommendedMaxWorkingSetSize`).
    pub working_set_bytes: Option<u64>,
    /// Apple: the number after the M.
    pub apple_generation: Option<u32>,
    /// macOS version, where the manifest states it.
    pub macos: Option<(u32, u32)>,
    /// Memory bandwidth of one accelerator in bytes per second.
    pub bandwidth: Option<u64>,
    /// Where the memory figure comes from, and how sure it is.
    pub provenance: String,
}

impl Machine {
    /// The name in reports: `2x l4`, `m4-24gb`.
    pub fn name(&self) -> String {
        if self.count == 1 {
            self.id.clone()
        } else {
            format!("{}x {}", self.count, self.id)
        }
    }

    /// Memory that engines count with: what the runtime sees, else what the driver reports.
    pub fn engine_memory_bytes(&self) -> u64 {
        self.runtime_memory_bytes.unwrap_or(self.memory_bytes)
    }
}
