//! What an engine takes beside weights and KV cache: an estimate with bounds, never a fact.
//!
//! Pure arithmetic over two tables of numbers: [`Coefficients`], which are data with a source each
//! (`catalog/engines/overheads.yaml`), and the [`Load`] of one deployment. `docs/overhead.md` says how well it
//! does. The peak of a profiling run is the larger of two moments: the feed-forward layers under the most
//! tokens of a step, and the sampler under the most sequences; the rest adds up.

/// The estimate with its bounds. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overhead {
    /// At least this much.
    pub low: u64,
    /// The best guess.
    pub likely: u64,
    /// At most this much.
    pub high: u64,
}

/// How an engine's overhead grows with its load. Bytes and ratios.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Coefficients {
    /// Taken whatever the load: runtime context, kernels' workspaces.
    pub base_bytes: f64,
    /// More of it for every doubling of the tensor-parallel ranks: communication buffers.
    pub doubling_bytes: f64,
    /// More of it where the accelerator shares memory with the host.
    pub unified_bytes: f64,
    /// More of it on AMD accelerators.
    pub amd_bytes: f64,
    /// More of it for models with a vision or audio tower, which the profiling run feeds.
    pub multimodal_bytes: f64,
    /// fp32 copies of one row of logits per sequence that the sampler holds at once.
    pub logits_copies: f64,
    /// Copies of one feed-forward row per token of a step, in the model's dtype.
    pub ffn_copies: f64,
    /// Copies of one hidden row per token of a step, in the model's dtype.
    pub hidden_copies: f64,
    /// One captured CUDA graph, per tensor-parallel rank; 0 where graphs lie outside the budget.
    pub graph_bytes: f64,
    /// Lower bound as a share of the best guess.
    pub low_share: f64,
    /// Upper bound as a share of the best guess.
    pub high_share: f64,
    /// Added to the upper bound. Bytes.
    pub high_bytes: f64,
    /// What the user says instead, whatever the load.
    pub given: Option<Overhead>,
}

/// What a deployment asks of the engine at most. Counts are those of one rank where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Sequences of a step.
    pub sequences: u64,
    /// Tokens of a step.
    pub tokens: u64,
    /// Tokens of the vocabulary.
    pub vocabulary: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width of the widest feed-forward layer, split over tensor-parallel ranks.
    pub ffn: u64,
    /// Bytes of one element of the model's dtype.
    pub dtype_bytes: u64,
    /// Tensor-parallel ranks.
    pub tensor: u64,
    /// Tokens of the largest captured CUDA graph; 0 without graphs.
    pub largest_graph: u64,
    /// The accelerator shares memory with the host.
    pub unified: bool,
    /// The accelerator is AMD's.
    pub amd: bool,
    /// The model has a vision or audio tower.
    pub multimodal: bool,
    /// Taken besides and known exactly: adapters reserved up front. Bytes.
    pub adapter_bytes: u64,
}

impl Load {
    /// The same load with another number of tokens in a step.
    pub fn with_tokens(self, tokens: u64) -> Self {
        Self { tokens, ..self }
    }

    /// Graphs that are captured: for 1, 2 and 4 tokens, every 8 up to 256, every 16 beyond (vLLM
    /// `config/vllm.py::_set_cudagraph_sizes`, 0.33).
    fn graphs(&self) -> u64 {
        let steps = self.largest_graph.min(256) / 8 + self.largest_graph.saturating_sub(256) / 16;
        if self.largest_graph == 0 { 0 } else { 3 + steps }
    }
}

impl Coefficients {
    /// The estimate for a load.
    pub fn estimate(&self, load: &Load) -> Overhead {
        if let Some(given) = self.given {
            return given;
        }
        let only = |condition: bool, bytes: f64| if condition { bytes } else { 0.0 };
        let fixed = self.base_bytes
            + self.doubling_bytes * (load.tensor.max(1) as f64).log2()
            + only(load.unified, self.unified_bytes)
            + only(load.amd, self.amd_bytes)
            + only(load.multimodal, self.multimodal_bytes);
        let row = self.ffn_copies * load.ffn as f64 + self.hidden_copies * load.hidden as f64;
        let step = load.tokens as f64 * row * load.dtype_bytes as f64;
        let sampler = self.logits_copies * load.sequences as f64 * load.vocabulary as f64 * 4.0;
        let graphs = self.graph_bytes * load.graphs() as f64 * load.tensor.max(1) as f64;
        let likely = fixed + step.max(sampler) + graphs;
        let add = |bytes: f64| whole(bytes).saturating_add(load.adapter_bytes);
        Overhead {
            low: add(likely * self.low_share),
            likely: add(likely),
            high: add(likely * self.high_share + self.high_bytes),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and bytes are not negative"
)]
fn whole(bytes: f64) -> u64 {
    bytes.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const COEFFICIENTS: Coefficients = Coefficients {
        base_bytes: 100.0,
        doubling_bytes: 10.0,
        unified_bytes: 0.0,
        amd_bytes: 0.0,
        multimodal_bytes: 0.0,
        logits_copies: 10.0,
        ffn_copies: 3.0,
        hidden_copies: 1.0,
        graph_bytes: 1.0,
        low_share: 0.5,
        high_share: 2.0,
        high_bytes: 7.0,
        given: None,
    };

    #[test]
    fn the_peak_is_the_larger_of_step_and_sampler() {
        let load = Load {
            sequences: 1,
            tokens: 1,
            vocabulary: 1000,
            hidden: 10,
            ffn: 30,
            dtype_bytes: 2,
            tensor: 1,
            ..Load::default()
        };
        assert_eq!(COEFFICIENTS.estimate(&load).likely, 100 + 40_000);
        assert_eq!(
            COEFFICIENTS.estimate(&load.with_tokens(1000)).likely,
            100 + 200_000
        );
    }

    #[test]
    fn bounds_enclose_the_guess_and_ranks_add_buffers() {
        let load = Load {
            tensor: 4,
            ..Load::default()
        };
        let band = COEFFICIENTS.estimate(&load);
        assert_eq!((band.low, band.likely, band.high), (60, 120, 247));
    }

    #[test]
    fn larger_batches_capture_more_graphs() {
        let graphs = |largest_graph| {
            Load {
                largest_graph,
                ..Load::default()
            }
            .graphs()
        };
        assert_eq!([0, 64, 256, 512].map(graphs), [0, 11, 35, 51]);
    }
}
