//! The tensors of a model in groups, for every question about weight bytes: how many parameters, what a
//! quantized copy takes, what one rank of a parallel deployment holds.
//!
//! Made by [`parameters`](super::parameters) from config.json. Plain arithmetic from here on; no file is read.

use std::collections::{BTreeMap, BTreeSet};

use crate::memory::product;

use super::scheme::{Scheme, Stored};
use super::{Component, Dtype, Quantization};

/// Rows to which vLLM pads the vocabulary (`vocab_parallel_embedding.py::DEFAULT_VOCAB_PADDING_SIZE`, 0.33).
const VOCAB_PADDING: u64 = 64;

/// All tensors of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Census {
    /// Groups of equal tensors.
    pub parts: Vec<Part>,
    /// Decoder layers, over which pipeline stages are cut.
    pub num_layers: u64,
    /// True when the output projection is the input embedding.
    pub tied: bool,
}

/// Equal tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What they belong to.
    pub component: Component,
    /// Their shape.
    pub kind: PartKind,
    /// How many of them each layer holds, or the whole model where [`Part::place`] is not a layer.
    pub each: u64,
    /// Where they are.
    pub place: Place,
    /// How vLLM divides each of them among tensor-parallel ranks.
    pub split: Split,
    /// True when quantizers replace it: linear layers, but not routers, embeddings or output projections.
    pub quantizable: bool,
    /// True when vLLM keeps it in 32-bit floats whatever the model's type.
    pub wide: bool,
    /// How it is stored, where not as the checkpoint's format says.
    pub stored: Option<Stored>,
    /// False for what engines hold beside the parameters: buffers, and projections that exist only in memory.
    pub counted: bool,
}

/// The shape of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// A matrix that multiplies activations.
    Linear {
        /// Elements that go in.
        input: u64,
        /// Elements that come out.
        output: u64,
    },
    /// A table of vectors.
    Embedding {
        /// Vectors.
        rows: u64,
        /// Elements of one.
        width: u64,
    },
    /// Norms, biases, convolutions: whatever is small.
    Other {
        /// Elements.
        elements: u64,
    },
}

/// Where tensors are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In these layers.
    Layers(Vec<u32>),
    /// Before the first layer: embeddings, towers.
    First,
    /// After the last layer: final norm, output projection.
    Last,
}

/// How a tensor is divided among tensor-parallel ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// By output or by input elements: each rank holds an equal part.
    Even,
    /// Whole on each rank.
    Replicated,
    /// By vocabulary, padded to a multiple of 64 rows.
    Vocab,
    /// By heads; whole heads are repeated when there are fewer than ranks.
    Heads(u64),
    /// A routed expert: divided like [`Split::Even`], or whole experts on each rank under expert parallelism.
    Expert,
}

impl Place {
    /// The layers; none for what stands outside them.
    fn layers(&self) -> &[u32] {
        match self {
            Self::Layers(layers) => layers,
            Self::First | Self::Last => &[],
        }
    }
}

impl PartKind {
    /// Elements of one tensor.
    pub fn elements(self) -> u64 {
        match self {
            Self::Linear { input, output } => product(&[input, output]),
            Self::Embedding { rows, width } => product(&[rows, width]),
            Self::Other { elements } => elements,
        }
    }
}

impl Part {
    /// How many such tensors the whole model holds.
    pub fn count(&self) -> u64 {
        match &self.place {
            Place::Layers(layers) => self.each.saturating_mul(layers.len() as u64),
            Place::First | Place::Last => self.each,
        }
    }

    /// Elements of all of them.
    pub fn elements(&self) -> u64 {
        self.kind.elements().saturating_mul(self.count())
    }
}

/// How a model is dealt out. Every number at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// Ranks that share each layer.
    pub tensor: u64,
    /// Ranks that share the attention of a layer; fewer than `tensor` where groups of ranks attend for
    /// different requests.
    pub attention: u64,
    /// Stages that share the layers.
    pub pipeline: u64,
    /// Ranks that share the routed experts: those of other replicas too, where they serve together.
    pub experts: u64,
    /// True where a rank holds whole experts, false where it holds a part of each.
    pub whole_experts: bool,
}

/// What engines pad the matrices of routed experts to, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertPadding {
    /// Width of the residual stream, which is padded to a multiple of [`ExpertPadding::stream_step`].
    pub stream: u64,
    /// Multiple for the stream.
    pub stream_step: u64,
    /// Multiple for a rank's part of the inner width.
    pub inner_step: u64,
}

/// How tensors are stored.
#[derive(Debug, Clone, Copy)]
pub struct Storage<'a> {
    /// The format of what is quantized.
    pub format: Option<&'a Quantization>,
    /// True for the checkpoint's own format: what it stores otherwise counts.
    pub published: bool,
    /// The type of everything else.
    pub dtype: Dtype,
    /// Padding of quantized experts.
    pub padding: Option<ExpertPadding>,
}

impl Storage<'_> {
    /// Nothing quantized.
    pub fn plain(dtype: Dtype) -> Self {
        Self {
            format: None,
            published: false,
            dtype,
            padding: None,
        }
    }

    /// The format of a tensor; `None` for the plain type.
    pub fn format_of<'f>(&'f self, part: &'f Part) -> Option<&'f Quantization> {
        let format = self.format?;
        match &part.stored {
            Some(Stored::Plain) if self.published => None,
            Some(Stored::As(own)) if self.published => Some(own),
            _ => is_quantized(part, format).then_some(format),
        }
    }

    /// One tensor as a checkpoint stores it.
    fn quantized(&self, part: &Part) -> u64 {
        match (self.format_of(part), part.kind) {
            (Some(format), PartKind::Linear { input, output }) => {
                quantized_bytes(format, input, output, self.dtype)
            }
            (Some(format), PartKind::Embedding { rows, width }) => {
                quantized_bytes(format, width, rows, self.dtype)
            }
            _ => part.kind.elements().saturating_mul(self.dtype.bits() / 8),
        }
    }

    /// One tensor as an engine holds it.
    fn bytes_of_one(&self, part: &Part) -> u64 {
        if part.wide {
            return part.kind.elements().saturating_mul(4);
        }
        self.quantized(part)
    }

    /// A rank's part of one expert's matrix.
    fn expert_bytes(&self, part: &Part, ranks: u64) -> u64 {
        let (Some(padding), Some(format), PartKind::Linear { input, output }) =
            (self.padding, self.format_of(part), part.kind)
        else {
            return self.bytes_of_one(part) / ranks;
        };
        let padded = |width: u64| {
            if width == padding.stream {
                width.next_multiple_of(padding.stream_step.max(1))
            } else {
                width.div_ceil(ranks).next_multiple_of(padding.inner_step.max(1))
            }
        };
        // A matrix as wide as it is high: the side that is not the stream is the inner one.
        let (input, output) = if input == output {
            let inner = input.div_ceil(ranks).next_multiple_of(padding.inner_step.max(1));
            (padded(input), inner)
        } else {
            (padded(input), padded(output))
        };
        quantized_bytes(format, input, output, self.dtype)
    }
}

impl Census {
    /// Parameters of the whole model.
    pub fn parameters(&self) -> u64 {
        self.sum(|part| part.counted, Part::elements)
    }

    /// Parameters of one component.
    pub fn parameters_of(&self, component: Component) -> u64 {
        self.sum(|part| part.counted && part.component == component, Part::elements)
    }

    /// Notes what the published checkpoint stores otherwise than in its one format. `width` is that of the
    /// residual stream, by which output projections are told from the others.
    /// `beside` says that experts stand beside the dense layer (Gemma 4), not inside of `mlp`.
    pub fn note(&mut self, scheme: &Scheme, width: u64, beside: bool) {
        let sparse: BTreeSet<u32> = self
            .parts
            .iter()
            .filter(|part| part.split == Split::Expert)
            .flat_map(|part| part.place.layers().to_vec())
            .collect();
        let parts = std::mem::take(&mut self.parts);
        for part in parts {
            if !part.quantizable || part.place.layers().is_empty() {
                self.parts.push(part);
                continue;
            }
            let mut kinds: Vec<(Option<Stored>, Vec<u32>)> = Vec::new();
            for layer in part.place.layers() {
                let names = module_names(&part, width, sparse.contains(layer), beside);
                let stored = scheme.of(u64::from(*layer), names);
                match kinds.iter_mut().find(|(kind, _)| *kind == stored) {
                    Some((_, layers)) => layers.push(*layer),
                    None => kinds.push((stored, vec![*layer])),
                }
            }
            self.parts.extend(kinds.into_iter().map(|(stored, layers)| Part {
                stored,
                place: Place::Layers(layers),
                ..part.clone()
            }));
        }
    }

    /// Bytes of the weights in a quantized format: linear layers in the format, all else in `dtype`.
    pub fn bytes(&self, format: &Quantization, dtype: Dtype) -> u64 {
        self.checkpoint_bytes(&Storage {
            format: Some(format),
            ..Storage::plain(dtype)
        })
    }

    /// The same for the published format, whose exceptions count.
    pub fn published_bytes(&self, format: &Quantization, dtype: Dtype) -> u64 {
        self.checkpoint_bytes(&Storage {
            format: Some(format),
            published: true,
            ..Storage::plain(dtype)
        })
    }

    /// Bytes of the published weights by component; `format` is `None` where nothing is quantized.
    pub fn published_by_component(
        &self,
        format: Option<&Quantization>,
        dtype: Dtype,
    ) -> BTreeMap<Component, u64> {
        let storage = Storage {
            format,
            published: true,
            ..Storage::plain(dtype)
        };
        let mut bytes = BTreeMap::new();
        for part in self.parts.iter().filter(|part| part.counted) {
            let sum: &mut u64 = bytes.entry(part.component).or_default();
            *sum = sum.saturating_add(storage.quantized(part).saturating_mul(part.count()));
        }
        bytes
    }

    fn checkpoint_bytes(&self, storage: &Storage<'_>) -> u64 {
        self.sum(
            |part| part.counted,
            |part| storage.quantized(part).saturating_mul(part.count()),
        )
    }

    /// Bytes that the fullest rank holds when vLLM divides the model over `tp` tensor-parallel and `pp`
    /// pipeline-parallel ranks, all tensors in `dtype`. `expert_parallel` gives each rank whole experts.
    pub fn rank_bytes(&self, tp: u64, pp: u64, expert_parallel: bool, dtype: Dtype) -> u64 {
        let ranks = Ranks {
            tensor: tp,
            attention: tp,
            pipeline: pp,
            experts: tp,
            whole_experts: expert_parallel,
        };
        self.rank_bytes_in(&ranks, &Storage::plain(dtype))
    }

    /// Bytes that the fullest rank holds of the weights in a format.
    pub fn rank_bytes_in(&self, ranks: &Ranks, storage: &Storage<'_>) -> u64 {
        let stages = stages(self.num_layers, ranks.pipeline.max(1));
        let last = stages.len().saturating_sub(1);
        let bytes_of_stage = |(index, stage): (usize, &std::ops::Range<u64>)| {
            self.sum(
                |_| true,
                |part| {
                    let here = match &part.place {
                        Place::Layers(layers) => {
                            let inside = layers.iter().filter(|layer| stage.contains(&u64::from(**layer)));
                            part.each.saturating_mul(inside.count() as u64)
                        }
                        Place::First if index == 0 => part.each,
                        // A tied embedding is also the output projection of the last stage.
                        Place::First if index == last && self.tied && part.split == Split::Vocab => part.each,
                        Place::Last if index == last => part.each,
                        Place::First | Place::Last => 0,
                    };
                    rank_share(part, here, ranks, storage)
                },
            )
        };
        stages.iter().enumerate().map(bytes_of_stage).max().unwrap_or(0)
    }

    /// Bytes that a rank holds of the last decoder layer, like which the layers that predict further tokens are.
    pub fn last_layer_bytes_in(&self, ranks: &Ranks, storage: &Storage<'_>) -> u64 {
        let last = self.num_layers.saturating_sub(1);
        self.sum(
            |part| part.place.layers().iter().any(|layer| u64::from(*layer) == last),
            |part| rank_share(part, part.each, ranks, storage),
        )
    }

    fn sum(&self, keep: impl Fn(&Part) -> bool, size: impl Fn(&Part) -> u64) -> u64 {
        let parts = self.parts.iter().filter(|part| keep(part));
        parts.fold(0, |sum, part| sum.saturating_add(size(part)))
    }
}

/// The layers of each pipeline stage: equal numbers, and what is left over goes to the stages before the last.
///
/// Source: vLLM 0.33 `distributed/utils.py::get_pp_indices`.
fn stages(layers: u64, pp: u64) -> Vec<std::ops::Range<u64>> {
    let (each, left) = (layers / pp, layers % pp);
    let mut start = 0;
    (0..pp)
        .map(|stage| {
            let from_end = pp - stage;
            let extra = u64::from(from_end >= 2 && from_end < left + 2);
            let end = start + each + extra;
            let range = start..end;
            start = end;
            range
        })
        .collect()
}

/// Bytes of `tensors` equal tensors on one rank.
fn rank_share(part: &Part, tensors: u64, ranks: &Ranks, storage: &Storage<'_>) -> u64 {
    let tp = match part.component {
        Component::Attention => ranks.attention.max(1),
        _ => ranks.tensor.max(1),
    };
    let whole = storage.bytes_of_one(part);
    match part.split {
        Split::Replicated => whole.saturating_mul(tensors),
        Split::Expert if ranks.whole_experts => {
            let experts = tensors.div_ceil(ranks.experts.max(1));
            storage.expert_bytes(part, 1).saturating_mul(experts)
        }
        Split::Expert => storage
            .expert_bytes(part, ranks.experts.max(1))
            .saturating_mul(tensors),
        Split::Even => (whole / tp).saturating_mul(tensors),
        Split::Heads(heads) => {
            let heads = heads.max(1);
            (whole / heads)
                .saturating_mul((heads / tp).max(1))
                .saturating_mul(tensors)
        }
        Split::Vocab => {
            let bytes = storage.dtype.bits() / 8;
            let padded = |rows: u64, width: u64| {
                let rows = rows.div_ceil(VOCAB_PADDING).saturating_mul(VOCAB_PADDING);
                product(&[rows / tp, width, bytes, tensors])
            };
            match part.kind {
                PartKind::Embedding { rows, width } => padded(rows, width),
                PartKind::Linear { input, output } => padded(output, input),
                PartKind::Other { elements } => padded(elements, 1),
            }
        }
    }
}

/// The names that a matrix goes by in the layers of common families, for the lists of quantizers.
fn module_names(part: &Part, width: u64, sparse: bool, beside: bool) -> &'static [&'static str] {
    let back = matches!(part.kind, PartKind::Linear { output, .. } if output == width);
    match (part.component, back) {
        (Component::Attention, true) => &["self_attn.o_proj", "attn.wo_b", "mixer.o_proj", "attention.dense"],
        (Component::Attention, false) => &[
            "self_attn.q_proj",
            "self_attn.q_b_proj",
            "attn.wq_b",
            "mixer.q_proj",
        ],
        (Component::Recurrent, true) => &["linear_attn.out_proj", "mixer.out_proj", "mamba.out_proj"],
        (Component::Recurrent, false) => &["linear_attn.in_proj_qkv", "mixer.in_proj", "mamba.in_proj"],
        (Component::Experts, _) if beside => &["experts.0.up_proj", "moe.experts.0.up_proj"],
        (Component::Experts, _) => &[
            "mlp.experts.0.up_proj",
            "block_sparse_moe.experts.0.w1",
            "feed_forward.experts.up_proj",
            "ffn.experts.0.w1",
            "mixer.experts.0.up_proj",
            "moe.up_proj",
        ],
        (Component::Mlp, _) if sparse && !beside => &[
            "mlp.shared_experts.up_proj",
            "mlp.shared_expert.up_proj",
            "ffn.shared_experts.w1",
            "feed_forward.shared_expert.up_proj",
            "mixer.shared_experts.up_proj",
        ],
        (Component::Mlp, _) => &["mlp.up_proj", "ffn.w1", "feed_forward.up_proj", "mixer.up_proj"],
        _ => &[],
    }
}

/// MLX quantizes embeddings and output projections too; the others leave them alone.
fn is_quantized(part: &Part, format: &Quantization) -> bool {
    let row = match part.kind {
        PartKind::Linear { input, .. } => input,
        PartKind::Embedding { width, .. } => width,
        PartKind::Other { .. } => return false,
    };
    match format.method.as_str() {
        "mlx" => {
            let group = format.group_size.unwrap_or(64).max(1);
            let chosen =
                part.quantizable || matches!(part.component, Component::Embedding | Component::LmHead);
            chosen && row.is_multiple_of(group)
        }
        // gpt-oss: the experts alone.
        "mxfp4" => part.component == Component::Experts && part.quantizable,
        _ => part.quantizable,
    }
}

/// Bytes of one quantized matrix with its scales and zero points.
///
/// Sources: the layer classes of vLLM 0.33 `model_executor/layers/quantization/`; `mlx.core.quantize` for MLX.
fn quantized_bytes(format: &Quantization, input: u64, output: u64, dtype: Dtype) -> u64 {
    let elements = product(&[input, output]);
    let bits = whole_bits(format.bits);
    let packed = crate::memory::kv::bits_to_bytes(elements, bits);
    let groups = |group: u64| output.saturating_mul(input.div_ceil(group.max(1)));
    let size = dtype.bits() / 8;
    let group = format.group_size;
    match format.method.as_str() {
        "gptq" | "awq" => {
            let groups = groups(group.unwrap_or(input.max(1)));
            let zeros = crate::memory::kv::bits_to_bytes(groups, bits);
            let order = if format.method == "gptq" {
                input.saturating_mul(4)
            } else {
                0
            };
            packed
                .saturating_add(groups.saturating_mul(2))
                .saturating_add(zeros)
                .saturating_add(order)
        }
        "mlx" => packed.saturating_add(product(&[groups(group.unwrap_or(64)), 2, size])),
        "mxfp4" => packed.saturating_add(groups(32)),
        // NVFP4, under whichever name: a byte for each 16 weights and two floats for the tensor.
        "modelopt" | "modelopt_fp4" | "nvfp4" if bits <= 4 => {
            packed.saturating_add(groups(16)).saturating_add(8)
        }
        "compressed-tensors" if bits <= 4 && group == Some(16) => {
            packed.saturating_add(groups(16)).saturating_add(8)
        }
        "modelopt" => packed.saturating_add(8),
        // Double quantization: a byte for each 64 weights, a 32-bit float for each 256 of those bytes.
        "bitsandbytes-double" => {
            let scales = elements.div_ceil(64);
            packed
                .saturating_add(scales)
                .saturating_add(scales.div_ceil(256).saturating_mul(4))
        }
        "bitsandbytes" if bits <= 4 => packed.saturating_add(elements.div_ceil(64).saturating_mul(4)),
        "bitsandbytes" => packed.saturating_add(output.saturating_mul(4)),
        // DeepSeek's blocks of 128 x 128, one float each.
        "fp8" if group.is_some() => {
            let edge = group.unwrap_or(128).max(1);
            packed.saturating_add(product(&[output.div_ceil(edge), input.div_ceil(edge), 4]))
        }
        _ if bits >= 8 => packed.saturating_add(output.saturating_mul(size.max(2))),
        _ => packed
            .saturating_add(groups(group.unwrap_or(128)).saturating_mul(2))
            .saturating_add(16),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bits of one weight, between 1 and 32"
)]
fn whole_bits(bits: f64) -> u64 {
    bits.clamp(1.0, 32.0).round() as u64
}

/// Collects tensors and merges equal ones.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    parts: Vec<Part>,
}

/// The tensors of one layer, or of what stands outside the layers.
#[derive(Debug)]
pub(crate) struct Batch {
    place: Place,
    parts: Vec<Part>,
}

impl Tally {
    /// Adds the tensors of a batch.
    pub(crate) fn put(&mut self, batch: Batch) {
        for part in batch.parts.into_iter().filter(|part| part.elements() > 0) {
            let same = |known: &&mut Part| {
                let place = matches!((&known.place, &part.place), (Place::Layers(_), Place::Layers(_)));
                place
                    && known.component == part.component
                    && known.kind == part.kind
                    && known.each == part.each
                    && known.split == part.split
                    && known.stored == part.stored
                    && (known.quantizable, known.wide, known.counted)
                        == (part.quantizable, part.wide, part.counted)
            };
            match (self.parts.iter_mut().find(same), part.place) {
                (Some(known), Place::Layers(more)) => {
                    if let Place::Layers(layers) = &mut known.place {
                        layers.extend(more);
                    }
                }
                (_, place) => self.parts.push(Part { place, ..part }),
            }
        }
    }

    /// The finished census.
    pub(crate) fn finish(self, num_layers: u64, tied: bool) -> Census {
        Census {
            parts: self.parts,
            num_layers,
            tied,
        }
    }
}

impl Batch {
    /// For the tensors of one layer.
    pub(crate) fn layer(index: u32) -> Self {
        Self::at(Place::Layers(vec![index]))
    }

    /// For the tensors before the first layer.
    pub(crate) fn first() -> Self {
        Self::at(Place::First)
    }

    /// For the tensors after the last layer.
    pub(crate) fn last() -> Self {
        Self::at(Place::Last)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            parts: Vec::new(),
        }
    }

    /// Whatever `fill` adds, so many times.
    pub(crate) fn times(&mut self, count: u64, fill: impl FnOnce(&mut Self)) {
        let before = self.parts.len();
        fill(self);
        for part in self.parts.iter_mut().skip(before) {
            part.each = part.each.saturating_mul(count);
        }
    }

    /// Matrices that quantizers replace.
    pub(crate) fn linear(&mut self, component: Component, input: u64, output: u64, split: Split, each: u64) {
        self.add(component, PartKind::Linear { input, output }, split, each, true);
    }

    /// A matrix that stays in the model's type: a router, an output projection.
    pub(crate) fn plain(&mut self, component: Component, input: u64, output: u64, split: Split) {
        self.add(component, PartKind::Linear { input, output }, split, 1, false);
    }

    /// A table of vectors.
    pub(crate) fn table(&mut self, component: Component, rows: u64, width: u64, split: Split) {
        self.add(component, PartKind::Embedding { rows, width }, split, 1, false);
    }

    /// Small tensors.
    pub(crate) fn other(&mut self, component: Component, elements: u64, split: Split) {
        self.add(component, PartKind::Other { elements }, split, 1, false);
    }

    /// Small tensors that vLLM keeps in 32-bit floats.
    pub(crate) fn wide(&mut self, component: Component, elements: u64, split: Split) {
        self.other(component, elements, split);
        if let Some(part) = self.parts.last_mut() {
            part.wide = true;
        }
    }

    /// Says of the last tensor that vLLM keeps it in 32-bit floats.
    pub(crate) fn widen_last(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.wide = true;
        }
    }

    /// Says of the last tensor that engines hold it but nobody counts it as a parameter.
    pub(crate) fn uncount_last(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.counted = false;
        }
    }

    fn add(&mut self, component: Component, kind: PartKind, split: Split, each: u64, quantizable: bool) {
        self.parts.push(Part {
            component,
            kind,
            each,
            place: self.place.clone(),
            split,
            quantizable,
            stored: None,
            wide: false,
            counted: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::read;
    use crate::source::{FileId, SourceFile};

    fn census(text: &str) -> Census {
        let file = SourceFile::new(FileId::from_index(0), "config.json", text);
        read(&file).census.unwrap()
    }

    fn format(method: &str, bits: f64, group_size: Option<u64>) -> Quantization {
        Quantization {
            method: method.to_owned(),
            bits,
            group_size,
            float: false,
        }
    }

    const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}"#;

    #[test]
    fn known_models_have_their_published_counts() {
        assert_eq!(census(LLAMA).parameters(), 8_030_261_248);
        let embedding = census(LLAMA).parameters_of(Component::Embedding);
        assert_eq!(embedding, 128_256 * 4096);
    }

    #[test]
    fn eight_ranks_hold_what_vllm_measured() {
        assert_eq!(
            census(LLAMA).rank_bytes(8, 1, false, Dtype::Bfloat16),
            2_008_031_232
        );
    }

    #[test]
    fn kv_projections_are_repeated_when_ranks_outnumber_heads() {
        let one_head = LLAMA.replace("\"num_key_value_heads\": 8", "\"num_key_value_heads\": 1");
        let census = census(&one_head);
        let keys_and_values = 32 * 2 * 4096 * 128 * 2;
        let even = (census.parameters() - keys_and_values / 2 - 65 * 4096) * 2 / 2;
        assert_eq!(
            census.rank_bytes(2, 1, false, Dtype::Bfloat16),
            even + keys_and_values + 65 * 4096 * 2
        );
    }

    #[test]
    fn leftover_layers_go_to_the_stages_before_the_last() {
        let lengths = |layers, pp| {
            let stages = stages(layers, pp);
            stages
                .iter()
                .map(|stage| stage.end - stage.start)
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(32, 4), [8, 8, 8, 8]);
        assert_eq!(lengths(61, 4), [15, 15, 16, 15]);
        assert_eq!(lengths(7, 4), [2, 2, 2, 1]);
        assert_eq!(lengths(2, 4), [0, 1, 1, 0]);
    }

    #[test]
    fn pipeline_stages_hold_all_weights_between_them() {
        let whole = census(LLAMA).rank_bytes(1, 1, false, Dtype::Bfloat16);
        let half = census(LLAMA).rank_bytes(1, 2, false, Dtype::Bfloat16);
        assert!(half >= whole / 2 && half < whole * 6 / 10, "{half} of {whole}");
    }

    #[test]
    fn mxfp4_takes_the_published_size_of_gpt_oss() {
        let census = census(r#"{"model_type": "gpt_oss", "num_hidden_layers": 24, "num_local_experts": 32}"#);
        assert_eq!(census.parameters(), 20_914_757_184);
        let bytes = census.bytes(&format("mxfp4", 4.0, Some(32)), Dtype::Bfloat16);
        assert_eq!(bytes, 13_761_264_768);
    }

    #[test]
    fn four_bit_formats_cost_their_scales() {
        let census = census(LLAMA);
        let bytes = |method, group| census.bytes(&format(method, 4.0, Some(group)), Dtype::Bfloat16);
        let linear = 8_030_261_248 - 2 * 128_256 * 4096 - 65 * 4096;
        let kept = (2 * 128_256 * 4096 + 65 * 4096) * 2;
        assert_eq!(
            bytes("awq", 128),
            kept + linear / 2 + linear / 128 * 2 + linear / 128 / 2
        );
        // MLX quantizes the embeddings too: 4.5 bits a weight in groups of 64.
        let all = 8_030_261_248 - 65 * 4096;
        assert_eq!(bytes("mlx", 64), all * 9 / 16 + 65 * 4096 * 2);
    }
}
