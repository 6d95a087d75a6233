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

    /// Memory that engines count with: what the runtime sees; where nobody recorded it, what the driver reports
    /// without what CUDA keeps of it.
    pub fn engine_memory_bytes(&self) -> u64 {
        let kept = match self.kind {
            MachineKind::Nvidia if !self.unified_memory => cuda_keeps(self.memory_bytes),
            _ => 0,
        };
        self.runtime_memory_bytes
            .unwrap_or(self.memory_bytes.saturating_sub(kept))
    }
}

/// What `cudaMemGetInfo` reports less than the driver does: 0.42 GiB and 0.18 % of the memory, within 0.1 GiB of
/// the eleven accelerators in `catalog/machines/nvidia.yaml` for which both figures were recorded with ECC off or
/// in HBM (0.44 of 15 GiB on a T4, 0.48 of 31.8 on an RTX 5090, 0.54 of 79.6 on an H100, 0.70 of 140.4 on an H200).
fn cuda_keeps(memory_bytes: u64) -> u64 {
    (420 * (1 << 20) + memory_bytes / 1000 * 18 / 10).min(memory_bytes)
}
