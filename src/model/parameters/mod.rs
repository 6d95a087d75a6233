//! Parameters from config.json alone: the tensors that the family's class would build, as a [`Census`].
//!
//! In: the fields, the dimensions and the family's [`Recipe`]. Out: the count and the census, or nothing for a
//! family whose formula is not known. [`blocks`] has the parts that families share, [`mixers`] the recurrent
//! ones, [`families`] what only one family has, [`vision`] the towers.

mod blocks;
mod encoders;
mod families;
mod mixers;
mod recipe;
mod vision;

use crate::memory::layout::Reach;
use crate::model::census::{Batch, Census, Split, Tally};
use crate::model::config::fields::Fields;
use crate::model::layout::{self, Kind};
use crate::model::{Component, Dims, Parameters};
use crate::source::tree::Node;

pub(crate) use recipe::{Family, Recipe};

/// What every part of the count looks at.
struct Plan<'a, 't> {
    fields: &'a Fields<'t>,
    dims: &'a Dims,
    recipe: &'a Recipe,
    /// Hidden size.
    width: u64,
    layers: u64,
    heads: u64,
    vocab: u64,
}

/// Counts the parameters; `None` for a family whose formula is not known, or where a dimension is missing.
pub(crate) fn count(fields: &Fields<'_>, dims: &Dims) -> Option<(Parameters, Option<Census>)> {
    let recipe = fields.class().weights.clone()?;
    let value = |fact: &Option<crate::fact::Fact<u64>>| fact.as_ref().map(|fact| fact.value);
    let plan = Plan {
        fields,
        dims,
        recipe: &recipe,
        width: value(&dims.hidden_size)?,
        layers: value(&dims.num_layers)?,
        heads: value(&dims.num_heads).unwrap_or(0),
        vocab: value(&dims.vocab_size)?,
    };
    let census = plan.census()?;
    let parameters = Parameters {
        count: census.parameters(),
        exact: true,
        how: crate::model::config::COUNTED_FROM,
    };
    Some((parameters, Some(census)))
}

impl Plan<'_, '_> {
    fn census(&self) -> Option<Census> {
        let mut tally = Tally::default();
        vision::towers(self, &mut tally)?;
        match self.recipe.family {
            Family::Bert => encoders::bert(self, &mut tally)?,
            Family::Bart | Family::Whisper => encoders::bart(self, &mut tally)?,
            Family::T5 => encoders::t5(self, &mut tally)?,
            _ => {
                self.embeddings(&mut tally)?;
                self.decoder(&mut tally)?;
                self.head(&mut tally);
            }
        }
        Some(tally.finish(self.layers, self.is_tied()))
    }

    /// The layers, each with what its kind and the recipe say.
    fn decoder(&self, tally: &mut Tally) -> Option<()> {
        match self.recipe.family {
            Family::Blocks => return families::blocks(self, tally),
            Family::DeepseekV4 => return families::deepseek_v4(self, tally),
            Family::Longcat => return families::longcat(self, tally),
            Family::Rwkv => return families::rwkv(self, tally),
            Family::Zamba => return families::zamba(self, tally),
            _ => {}
        }
        let kinds = layout::kinds(self.fields, self.layers).ok()?;
        let experts = blocks::layers_with_experts(self);
        for (index, kind) in kinds.iter().enumerate() {
            let mut batch = Batch::layer(u32::try_from(index).ok()?);
            self.mixer(&mut batch, *kind, index)?;
            self.feed_forward(&mut batch, *kind, index, &experts)?;
            self.layer_norms(&mut batch, *kind);
            families::layer_extras(self, &mut batch, *kind);
            tally.put(batch);
        }
        Some(())
    }

    fn mixer(&self, batch: &mut Batch, kind: Kind, layer: usize) -> Option<()> {
        match kind {
            Kind::Attention(reach) => blocks::attention(self, batch, reach, layer),
            Kind::Indexed | Kind::Cross => blocks::attention(self, batch, Reach::Full, layer),
            Kind::Recurrent => mixers::recurrent(self, batch),
            Kind::Both => {
                blocks::attention(self, batch, Reach::Full, layer)?;
                mixers::recurrent(self, batch)
            }
            Kind::Nothing => Some(()),
        }
    }

    /// The feed-forward half. Nemotron-H puts it into layers of its own; models of states alone have none.
    fn feed_forward(&self, batch: &mut Batch, kind: Kind, layer: usize, experts: &[bool]) -> Option<()> {
        let alone = self.splits_layers();
        if (alone && kind != Kind::Nothing) || self.heads == 0 {
            return Some(());
        }
        // Gemma 4 has experts beside its dense layer, not in its place.
        let has_experts = self.recipe.family != Family::Gemma4 && experts.get(layer) == Some(&true);
        if has_experts {
            blocks::experts(self, batch)
        } else {
            blocks::mlp(self, batch, self.mlp_width(layer)?, Component::Mlp);
            Some(())
        }
    }

    /// True where attention, mixers and feed-forward layers are layers of their own.
    fn splits_layers(&self) -> bool {
        let named = |key: &str| self.fields.declared(key).is_some();
        self.fields.model_type() == "nemotron_h" || named("hybrid_override_pattern")
    }

    fn layer_norms(&self, batch: &mut Batch, kind: Kind) {
        let norms = match self.recipe.family {
            Family::Falcon => families::falcon_norms(self),
            _ if self.splits_layers() || self.heads == 0 => 1,
            _ if self
                .recipe
                .one_norm_if
                .as_deref()
                .is_some_and(|key| self.fields.flag(key)) =>
            {
                1
            }
            _ => self.recipe.norms,
        };
        let component = match kind {
            Kind::Recurrent => Component::Recurrent,
            Kind::Nothing => Component::Mlp,
            _ => Component::Attention,
        };
        batch.times(norms, |batch| {
            batch.other(component, self.norm(self.width), Split::Replicated);
        });
    }

    fn norm(&self, width: u64) -> u64 {
        self.recipe.norm.elements(width)
    }

    fn embeddings(&self, tally: &mut Tally) -> Option<()> {
        let mut batch = Batch::first();
        let width = self.embedding_width();
        batch.table(Component::Embedding, self.vocab, width, Split::Vocab);
        if width != self.width {
            batch.linear(Component::Embedding, width, self.width, Split::Replicated, 2);
        }
        if let Some(key) = &self.recipe.positions {
            let rows = self
                .fields
                .count_at(key)?
                .saturating_add(self.recipe.positions_extra);
            batch.table(Component::Embedding, rows, self.width, Split::Replicated);
        }
        if self.recipe.embedding_norm {
            batch.other(Component::Embedding, self.norm(self.width), Split::Replicated);
        }
        families::embedding_extras(self, &mut batch);
        tally.put(batch);
        Some(())
    }

    /// OPT-350M projects narrow embeddings to the hidden size and back.
    fn embedding_width(&self) -> u64 {
        self.fields.number(&["word_embed_proj_dim"], self.width)
    }

    /// The final norm and the output projection, or what stands in its place.
    fn head(&self, tally: &mut Tally) {
        let mut batch = Batch::last();
        if self.recipe.final_norm.is_on(self.fields) {
            batch.other(Component::Other, self.norm(self.width), Split::Replicated);
        }
        match self.purpose() {
            Purpose::Generation if !self.is_tied() => {
                batch.plain(
                    Component::LmHead,
                    self.embedding_width(),
                    self.vocab,
                    Split::Vocab,
                );
            }
            Purpose::Generation | Purpose::Features => {}
            Purpose::Classification => {
                batch.plain(Component::Other, self.width, self.labels(), Split::Replicated);
            }
        }
        if self.recipe.lm_head_bias.is_on(self.fields) && self.purpose() == Purpose::Generation {
            batch.other(Component::LmHead, self.vocab, Split::Vocab);
        }
        tally.put(batch);
    }

    /// What the class is for, by the ending of its name.
    fn purpose(&self) -> Purpose {
        let root = self.fields.root();
        let class = root.get("architectures").and_then(|list| list.items().next());
        let name = class.and_then(Node::text).unwrap_or("");
        // ChatGLM publishes its language model under the name of its trunk, GPT-2 and Qwen name the head.
        if name.ends_with("Model") && !name.starts_with("ChatGLM") && !name.ends_with("LMHeadModel") {
            Purpose::Features
        } else if name.ends_with("ForSequenceClassification") {
            Purpose::Classification
        } else {
            Purpose::Generation
        }
    }

    fn labels(&self) -> u64 {
        let root = self.fields.root();
        let named = root.get("id2label").map(|labels| labels.pairs().count() as u64);
        let counted = root.get("num_labels").and_then(Node::as_u64);
        named.or(counted).filter(|labels| *labels > 0).unwrap_or(2)
    }

    /// True when the output projection is the input embedding: the whole config decides, then the text model's.
    fn is_tied(&self) -> bool {
        let root = self.fields.root();
        let key = if root.get("tie_embedding").is_some() {
            "tie_embedding"
        } else {
            "tie_word_embeddings"
        };
        let declared = root.get(key).and_then(Node::as_bool);
        declared.unwrap_or_else(|| {
            let whole = root.get("model_type").and_then(Node::text).unwrap_or("");
            self.fields
                .at(key)
                .and_then(Node::as_bool)
                .or_else(|| crate::model::config::class::Class::of(whole).ties())
                .unwrap_or_else(|| self.fields.flag("tie_word_embeddings"))
        })
    }
}

/// What a class is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Generation,
    Features,
    Classification,
}
