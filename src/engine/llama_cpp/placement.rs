//! Which layers and weights lie on which accelerator.
//!
//! In: the weights by component and the offload settings. Out: bytes on one device for a number of layers.
//! llama.cpp counts the layers to offload from the end, the output layer last of all, and deals whole layers
//! over the devices by free memory or `--tensor-split`. Source: `ggml-org/llama.cpp` (2026-10),
//! `src/llama-model.cpp`, `llama_model_base::load_tensors`.

use crate::model::{Component, Model};

/// What a device holds of the weights is an estimate layer by layer: all repeating layers count alike.
#[derive(Debug)]
pub(super) struct WeightParts {
    /// Input embeddings: they stay in host memory.
    embedding: u64,
    /// Output projection; a copy of the embeddings where the two are tied.
    output: u64,
    tied: bool,
    /// One repeating layer without routed experts.
    layer: u64,
    /// Routed experts of one layer.
    experts: u64,
    /// Repeating layers.
    count: u64,
}

impl WeightParts {
    /// Splits `served` bytes of weights over `count` layers as the file's own bytes are split. Next-token layers
    /// are not loaded.
    pub(super) fn new(model: &Model, served: u64, count: u64) -> Self {
        let count = count.max(1);
        let whole = model
            .weights
            .by_component
            .values()
            .fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        let part = |component| {
            let own = model.weights.by_component.get(&component).copied().unwrap_or(0);
            let share = u128::from(own) * u128::from(served) / u128::from(whole.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        let embedding = part(Component::Embedding);
        let head = part(Component::LmHead);
        let experts = part(Component::Experts);
        let rest = [embedding, head, experts, part(Component::NextN)]
            .into_iter()
            .fold(served, u64::saturating_sub);
        Self {
            embedding,
            output: if head == 0 { embedding } else { head },
            tied: head == 0,
            layer: rest.div_ceil(count),
            experts: experts.div_ceil(count),
            count,
        }
    }

    /// All that is loaded, where host and accelerator share their memory: tied embeddings once.
    pub(super) fn total(&self) -> u64 {
        let copy = if self.tied { self.output } else { 0 };
        self.with_copies().saturating_sub(copy)
    }

    /// All that is loaded, where accelerators have memory of their own: tied embeddings on both sides.
    fn with_copies(&self) -> u64 {
        self.offloadable().saturating_add(self.embedding)
    }

    /// What accelerators can hold: everything but the input embeddings, which always stay in host memory.
    pub(super) fn offloadable(&self) -> u64 {
        self.of(0, self.count.saturating_add(1), 0)
    }

    /// Weights of the layers `from..to` on one device; the output stands after the last layer. Experts of the
    /// first `host_experts` layers stay in host memory.
    fn of(&self, from: u64, to: u64, host_experts: u64) -> u64 {
        let end = to.min(self.count);
        let layers = self.layer.saturating_mul(end.saturating_sub(from));
        let experts = self
            .experts
            .saturating_mul(end.saturating_sub(from.max(host_experts)));
        let output = if from <= self.count && to > self.count {
            self.output
        } else {
            0
        };
        layers.saturating_add(experts).saturating_add(output)
    }
}

/// How the layers are dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SplitMode {
    /// Whole layers.
    Layer,
    /// Matrices by rows; the cache stays on the main device.
    Row,
    /// Matrices and cache by heads.
    Tensor,
    /// One device only.
    None,
}

/// How many layers, and the experts of how many, were decided to go where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offload {
    /// Layers on accelerators, counted from the end; the output layer is one of them.
    pub(super) gpu_layers: u64,
    /// Layers, from the first, whose experts stay in host memory.
    pub(super) host_experts: u64,
}

/// The devices and their shares.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) mode: SplitMode,
    /// For each device the sum of the shares up to and with it, 1 at the last.
    cumulative: Vec<f64>,
    pub(super) main_gpu: usize,
    /// Repeating layers.
    pub(super) num_layers: u64,
}

/// What lies on one device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) weights: u64,
    /// Repeating layers whose caches lie here.
    pub(super) caches: (u64, u64),
    /// Each cache is divided by so many devices.
    pub(super) cache_share: u64,
}

impl Placement {
    /// `shares` may be shorter than `devices` (the rest get nothing) or empty (all get the same).
    pub(super) fn new(
        mode: SplitMode,
        devices: usize,
        shares: &[f64],
        main_gpu: usize,
        num_layers: u64,
    ) -> Self {
        let devices = devices.max(1);
        let share = |at: usize| {
            if shares.iter().sum::<f64>() > 0.0 {
                shares.get(at).copied().unwrap_or(0.0)
            } else {
                1.0
            }
        };
        let total: f64 = (0..devices).map(share).sum();
        let mut sum = 0.0;
        let cumulative = (0..devices).map(|at| {
            sum += share(at);
            sum / total
        });
        Self {
            mode,
            cumulative: cumulative.collect(),
            main_gpu: main_gpu.min(devices - 1),
            num_layers,
        }
    }

    pub(super) fn devices(&self) -> usize {
        self.cumulative.len()
    }

    /// What a device holds.
    pub(super) fn load(&self, device: usize, offload: Offload, parts: &WeightParts) -> Load {
        let all = self.num_layers.saturating_add(1);
        let offloaded = offload.gpu_layers.min(all);
        let first = all - offloaded;
        let of = |from, to| parts.of(from, to, offload.host_experts);
        let nothing = Load {
            weights: 0,
            caches: (0, 0),
            cache_share: 1,
        };
        match self.mode {
            SplitMode::Layer => {
                let (from, to) = self.layers_of(device, first, offloaded);
                Load {
                    weights: of(from, to),
                    caches: (from, to.min(self.num_layers)),
                    cache_share: 1,
                }
            }
            SplitMode::None if device != self.main_gpu => nothing,
            SplitMode::None => Load {
                weights: of(first, all),
                caches: (first, self.num_layers),
                cache_share: 1,
            },
            SplitMode::Row => Load {
                weights: self.fraction(device, of(first, all)),
                caches: if device == self.main_gpu {
                    (first, self.num_layers)
                } else {
                    (0, 0)
                },
                cache_share: 1,
            },
            SplitMode::Tensor => Load {
                weights: self.fraction(device, of(first, all)),
                caches: (first, self.num_layers),
                cache_share: self.devices() as u64,
            },
        }
    }

    /// A device's share of bytes.
    fn fraction(&self, device: usize, bytes: u64) -> u64 {
        let (before, after) = self.bounds(device);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the bytes; the cast saturates"
        )]
        let share = (bytes as f64 * (after - before)).ceil() as u64;
        share
    }

    fn bounds(&self, device: usize) -> (f64, f64) {
        let at = |index: usize| self.cumulative.get(index).copied().unwrap_or(1.0);
        (device.checked_sub(1).map_or(0.0, at), at(device))
    }

    /// The layers of a device: layer `i` of the offloaded ones goes to the first device whose cumulative share
    /// is above `i / offloaded`.
    fn layers_of(&self, device: usize, first: u64, offloaded: u64) -> (u64, u64) {
        let (before, after) = self.bounds(device);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most the number of layers"
        )]
        let boundary = |share: f64| {
            let exact = share * offloaded as f64;
            let whole = exact as u64;
            first
                .saturating_add(whole)
                .saturating_add(u64::from((whole as f64) < exact))
        };
        let all = first.saturating_add(offloaded);
        let from = boundary(before).min(all);
        (from, boundary(after).clamp(from, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: WeightParts = WeightParts {
        embedding: 50,
        output: 70,
        tied: false,
        layer: 100,
        experts: 200,
        count: 3,
    };

    fn placed(devices: usize, gpu_layers: u64, host_experts: u64) -> Vec<(u64, (u64, u64))> {
        let placement = Placement::new(SplitMode::Layer, devices, &[], 0, 3);
        let offload = Offload {
            gpu_layers,
            host_experts,
        };
        (0..devices)
            .map(|device| placement.load(device, offload, &PARTS))
            .map(|load| (load.weights, load.caches))
            .collect()
    }

    #[test]
    fn layers_are_counted_from_the_end_and_the_output_is_the_last() {
        assert_eq!(placed(1, 99, 0), [(970, (0, 3))]);
        assert_eq!(placed(1, 1, 0), [(70, (3, 3))]);
        assert_eq!(placed(1, 2, 0), [(370, (2, 3))]);
        assert_eq!(placed(1, 0, 0), [(0, (3 + 1, 3))]);
    }

    #[test]
    fn whole_layers_are_dealt_and_every_layer_lands_somewhere() {
        assert_eq!(placed(2, 99, 0), [(600, (0, 2)), (370, (2, 3))]);
        let sum: u64 = placed(3, 99, 0).iter().map(|(weights, _)| weights).sum();
        assert_eq!(sum, 970);
    }

    #[test]
    fn experts_of_the_first_layers_can_stay_in_host_memory() {
        assert_eq!(placed(1, 99, 2), [(570, (0, 3))]);
        assert_eq!(placed(1, 99, 99), [(370, (0, 3))]);
    }

    #[test]
    fn split_by_rows_keeps_the_cache_on_the_main_device() {
        let placement = Placement::new(SplitMode::Row, 2, &[3.0, 1.0], 1, 3);
        let offload = Offload {
            gpu_layers: 99,
            host_experts: 0,
        };
        let load = |device| placement.load(device, offload, &PARTS);
        assert_eq!((load(0).weights, load(0).caches), (728, (0, 0)));
        assert_eq!((load(1).weights, load(1).caches), (243, (0, 3)));
    }
}
