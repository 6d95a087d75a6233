//! How a deployment is spread over accelerators: tensor, pipeline, data and expert parallelism.
//!
//! The GPU serving engines split models alike: attention heads and matrices over tensor-parallel ranks, layers
//! over pipeline stages. The one place that says what a rank holds of the weights and of the KV heads.

use std::ops::Range;

use super::{Contradiction, Engine, Request, Settings};
use crate::machine::{Machine, MachineKind};
use crate::memory::layout::Cache;
use crate::model::census::{ExpertPadding, PartKind, Ranks, Split, Storage};
use crate::model::{Component, Dtype, Model};

/// The degrees of parallelism; every one at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharding {
    /// Ranks that share each layer.
    pub tensor: u64,
    /// Ranks that share the attention heads of a layer: those of `tensor`, or fewer where groups of them attend
    /// for different requests.
    pub attention: u64,
    /// Stages that share the layers.
    pub pipeline: u64,
    /// Replicas that serve different requests.
    pub data: u64,
    /// True where routed experts are spread over tensor and data ranks as whole experts.
    pub expert: bool,
    /// Replicas that share one set of routed experts; 1 where each has its own.
    pub replicas_of_experts: u64,
}

impl Sharding {
    /// From the settings `tensor_parallel`, `pipeline_parallel`, `data_parallel`, `expert_parallel` (a switch or
    /// SGLang's count) and `dp_attention`.
    pub fn of(request: &Request<'_>) -> Self {
        let degree = |id| request.settings.count(id).unwrap_or(1).max(1);
        let (tensor, data) = (degree("tensor_parallel"), degree("data_parallel"));
        let settings = request.settings;
        let spread = settings.flag("expert_parallel") == Some(true) || degree("expert_parallel") > 1;
        // SGLang's data-parallel attention: the tensor ranks form `data` groups, each with all of the attention.
        let groups = if settings.flag("dp_attention") == Some(true) {
            data
        } else {
            1
        };
        Self {
            tensor,
            attention: (tensor / groups).max(1),
            pipeline: degree("pipeline_parallel"),
            data,
            expert: spread,
            replicas_of_experts: 1,
        }
    }

    /// True where nothing tells which rank holds which tensors, so that an even share is assumed.
    pub fn shares_evenly(&self, request: &Request<'_>) -> bool {
        request.model.census.is_none() && (self.tensor > 1 || self.pipeline > 1)
    }

    /// Bytes of weights that the worst rank holds. Where the tensors are known, in proportion to what that rank
    /// holds of them (replicated norms and KV heads, a padded vocabulary, uneven stages, layers that stay at 16
    /// bit); else an even share.
    pub fn rank_weights_bytes(&self, request: &Request<'_>) -> u64 {
        self.padded_weights_bytes(request, None)
    }

    /// The same for an engine that pads the matrices of quantized experts.
    pub fn padded_weights_bytes(&self, request: &Request<'_>, padding: Option<ExpertPadding>) -> u64 {
        let even = request
            .weights_bytes
            .div_ceil(self.tensor.saturating_mul(self.pipeline));
        let one = Ranks {
            tensor: 1,
            attention: 1,
            pipeline: 1,
            experts: 1,
            whole_experts: false,
        };
        let ranks = self.ranks();
        let dealt = ranks != one || padding.is_some();
        let Some(census) = request.model.census.as_ref().filter(|_| dealt) else {
            return even;
        };
        let storage = storage(request);
        let whole = census.rank_bytes_in(&one, &storage).max(1);
        let rank = census.rank_bytes_in(&ranks, &Storage { padding, ..storage });
        let share = u128::from(request.weights_bytes) * u128::from(rank) / u128::from(whole);
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Bytes that a rank holds of `layers` layers which predict further tokens: those of the checkpoint, else each
    /// as large as the last decoder layer.
    pub fn next_token_bytes(&self, request: &Request<'_>, layers: u64) -> u64 {
        let model = request.model;
        if layers == 0 {
            return 0;
        }
        match model.weights.by_component.get(&Component::NextN) {
            Some(bytes) if *bytes > 0 => bytes.div_ceil(self.tensor),
            _ => model.census.as_ref().map_or(0, |census| {
                let layer = census.last_layer_bytes_in(&self.ranks(), &storage(request));
                layer.saturating_mul(layers)
            }),
        }
    }

    fn ranks(&self) -> Ranks {
        Ranks {
            tensor: self.tensor,
            attention: self.attention,
            pipeline: self.pipeline,
            experts: self.tensor.saturating_mul(self.replicas_of_experts),
            whole_experts: self.expert,
        }
    }

    /// KV heads of one rank: at least one, so that more ranks than heads keep copies (vLLM
    /// `ModelConfig.get_num_kv_heads`, SGLang `get_num_kv_heads`).
    pub fn kv_heads(&self, total: u64) -> u64 {
        if total == 0 {
            0
        } else {
            (total / self.attention).max(1)
        }
    }

    /// The layers of each stage. What does not divide goes one each to the stages before the last, from the
    /// back (vLLM `distributed/utils.py::get_pp_indices`, 0.33; SGLang has the same function).
    pub fn stages(&self, layers: u64) -> Vec<Range<u64>> {
        let stages = self.pipeline.min(layers.max(1));
        let (share, rest) = (layers / stages, layers % stages);
        let mut start = 0;
        (0..stages)
            .map(|stage| {
                let extra = stage + 1 < stages && stage + 1 + rest >= stages;
                let end = start + share + u64::from(extra);
                let range = start..end;
                start = end;
                range
            })
            .collect()
    }

    /// Every reason why the model cannot be split like this.
    pub fn contradictions(&self, request: &Request<'_>) -> Vec<Contradiction> {
        // One cause, one reason: heads that do not divide say it for the KV heads too.
        let heads = self
            .uneven_heads(request)
            .or_else(|| self.uneven_kv_heads(request));
        heads.into_iter().chain(self.uneven_groups(request)).collect()
    }

    /// KV heads divide over the ranks, or each is copied to equally many (`QKVParallelLinear`).
    fn uneven_kv_heads(&self, request: &Request<'_>) -> Option<Contradiction> {
        let layout = request.model.layout.as_ref().ok()?;
        let ranks = self.attention.max(1);
        let heads = layout.groups.iter().find_map(|group| match group.cache {
            Cache::Attention { kv_heads, .. }
                if kv_heads > 0 && !kv_heads.is_multiple_of(ranks) && !ranks.is_multiple_of(kv_heads) =>
            {
                Some(kv_heads)
            }
            _ => None,
        })?;
        Some(Contradiction {
            rule: "kv-heads-not-divisible",
            message: format!(
                "tensor parallelism {ranks} neither divides the {heads} KV heads of {} nor is a multiple of them",
                request.model.name
            ),
            settings: vec!["tensor_parallel", "model.num_kv_heads"],
        })
    }

    /// A rank's rows of a quantized matrix are whole groups, its part of an FP8 matrix whole blocks (vLLM
    /// `awq.py`, `marlin_utils.py::verify_marlin_supports_shape`, `fp8_utils.py::validate_fp8_block_shape`).
    fn uneven_groups(&self, request: &Request<'_>) -> Option<Contradiction> {
        let format = request.format?;
        let group = match (format.method.as_str(), format.group_size?) {
            ("gptq" | "awq", group) => group,
            ("compressed-tensors", group) if !format.float => group,
            // Blocks are squares.
            ("fp8", area) => area.isqrt(),
            _ => return None,
        };
        let in_blocks = format.float;
        let width = request.model.dims.hidden_size.as_ref()?.value;
        let census = request.model.census.as_ref()?;
        let storage = storage(request);
        let sparse = census.parts.iter().any(|part| part.split == Split::Expert);
        let (inner, ranks) = census.parts.iter().find_map(|part| {
            let ranks = match (part.split, part.component) {
                // For experts in groups of integers there are kernels that take any split.
                (Split::Expert, _) if self.expert || !in_blocks => return None,
                (Split::Expert, _) => self.ranks().experts,
                (Split::Even, Component::Attention) => self.attention,
                // Engines split the shared experts of a mixture in ways of their own.
                (Split::Even, Component::Mlp) if !sparse => self.tensor,
                _ => return None,
            };
            let PartKind::Linear { input, output } = part.kind else {
                return None;
            };
            let uneven = output == width && ranks > 1 && input % ranks.saturating_mul(group.max(1)) != 0;
            (uneven && storage.format_of(part) == Some(format)).then_some((input, ranks))
        })?;
        Some(Contradiction {
            rule: if in_blocks {
                "block-quant-tp-misaligned"
            } else {
                "group-quant-tp-misaligned"
            },
            message: format!(
                "split over {ranks} ranks, {inner} quantized rows of {} leave {} to each, which are no whole groups of \
                 {group}",
                request.model.name,
                inner / ranks.max(1)
            ),
            settings: vec!["tensor_parallel", "model.quantization"],
        })
    }

    /// Attention heads must divide over the tensor ranks (vLLM `ModelConfig.verify_with_parallel_config`,
    /// SGLang `ModelConfig`, TGI's and TensorRT-LLM's column splits).
    fn uneven_heads(&self, request: &Request<'_>) -> Option<Contradiction> {
        let heads = request.model.dims.num_heads.as_ref()?.value;
        (heads > 0 && heads % self.attention != 0).then(|| Contradiction {
            rule: "attention-heads-not-divisible",
            message: format!(
                "tensor parallelism {} does not divide the {heads} attention heads of {}",
                self.attention, request.model.name
            ),
            settings: vec!["tensor_parallel", "model.num_heads"],
        })
    }
}

/// The format to be served, with its exceptions where it is the published one.
fn storage<'r>(request: &Request<'r>) -> Storage<'r> {
    let published = &request.model.quantization;
    Storage {
        format: request.format,
        published: request.format == published.as_ref().map(|fact| &fact.value),
        ..Storage::plain(Dtype::Bfloat16)
    }
}

/// Why a model as published cannot be split as the settings say, whatever the machine.
pub fn split_contradictions(engine: Engine, model: &Model, settings: &Settings) -> Vec<Contradiction> {
    if !matches!(
        engine,
        Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::TensorrtLlm
    ) {
        return Vec::new();
    }
    // Nothing of a machine is looked at: how a model is split follows from the settings alone.
    let anywhere = Machine {
        id: String::new(),
        kind: MachineKind::Other,
        count: u64::MAX,
        memory_bytes: u64::MAX,
        runtime_memory_bytes: None,
        unified_memory: false,
        compute_capability: None,
        working_set_bytes: None,
        apple_generation: None,
        macos: None,
        bandwidth: None,
        provenance: String::new(),
    };
    let request = Request {
        model,
        machine: &anywhere,
        version: None,
        settings,
        weights_bytes: 0,
        format: model.quantization.as_ref().map(|fact| &fact.value),
    };
    Sharding::of(&request).contradictions(&request)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn over(tensor: u64, pipeline: u64) -> Sharding {
        Sharding {
            tensor,
            attention: tensor,
            pipeline,
            data: 1,
            expert: false,
            replicas_of_experts: 1,
        }
    }

    #[test]
    fn kv_heads_are_replicated_when_there_are_more_ranks_than_heads() {
        assert_eq!(
            [1, 2, 8, 16].map(|tensor| over(tensor, 1).kv_heads(8)),
            [8, 4, 1, 1]
        );
    }

    #[test]
    fn layers_that_do_not_divide_go_to_the_stages_before_the_last() {
        assert_eq!(over(1, 2).stages(61), [0..31, 31..61]);
        assert_eq!(over(1, 4).stages(62), [0..15, 15..31, 31..47, 47..62]);
        assert_eq!(over(1, 4).stages(2), [0..1, 1..2]);
    }
}
