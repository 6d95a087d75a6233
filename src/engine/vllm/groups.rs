//! vLLM's KV-cache groups: which layers share a block table, and what one block of the pool holds.
//!
//! In: the distinct layer specs of a model. Out: a [`Pool`], from which the need of any context is a sum over
//! a handful of terms. Source: vLLM 0.33 `v1/core/kv_cache_planning.py` (`get_kv_cache_groups`,
//! `unify_kv_cache_spec_page_size`, `_get_kv_cache_groups_uniform_page_size`) and the specs'
//! `max_memory_usage_bytes` in `v1/kv_cache_interface.py`.

use std::ops::Range;

/// How many blocks one request of a length may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Every token of the context.
    Full,
    /// The last so many tokens, what is in flight, and one block that the window straddles.
    Window(u64),
    /// The tokens of one chunk and what is in flight.
    Chunk(u64),
    /// The encoder's tokens, at most the encoder's budget.
    Encoder(u64),
    /// So many blocks, whatever the length (recurrent states).
    Blocks(u64),
    /// A state for every block of the context, and so many more.
    EveryBlock(u64),
}

/// What kind of page a layer keeps; layers of one kind and one demand can share a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Keys and values.
    Attention,
    /// A latent vector, or an indexer's key: its page cannot be padded.
    Latent,
    /// A recurrent state, which fills its page whatever the block size.
    State,
}

/// What one layer keeps in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    /// Kind of page.
    pub(super) family: Family,
    /// Blocks of one request.
    pub(super) demand: Demand,
    /// Heads and dimensions that tell specs of equal pages apart.
    pub(super) shape: [u64; 4],
    /// Tokens of one block.
    pub(super) block: u64,
    /// Bytes of one block.
    pub(super) page: u64,
}

/// The layers of one spec, by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// The spec.
    pub(super) spec: Spec,
    /// The layers.
    pub(super) layers: Vec<u32>,
}

/// Layers that share a block table.
struct Group {
    demand: Demand,
    block: u64,
    /// Layer and bytes of its page.
    members: Vec<(u32, u64)>,
}

/// Why layers cannot be brought into groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ungroupable {
    /// The hybrid manager is off, and states or encoder caches stand beside attention.
    CannotPromote,
    /// The hybrid manager is off, and windows of different sizes would have to become one.
    WindowsDiffer,
}

/// One term of the sum of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term {
    demand: Demand,
    block: u64,
    groups: u64,
}

/// What decides how many tokens a step adds before the scheduler frees any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    /// Tokens of the batches under way: `max_num_batched_tokens` times the batches that overlap.
    pub(super) under_way: u64,
    /// Encoder tokens of one step: `max_num_batched_tokens`, or the largest item.
    pub(super) batched: u64,
    /// Decode-context-parallel ranks, which share the tokens of full-attention layers.
    pub(super) context_ranks: u64,
    /// Prefill steps that speculation adds to the window.
    pub(super) extra: u64,
}

/// The pool of one rank: bytes of a block, and the blocks that a request takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    /// Bytes that one block takes over all layers that alias it, on the stage that holds most.
    pub(super) bytes_per_block: u64,
    /// Groups in all.
    pub(super) groups: u64,
    /// Smallest block of any group, in tokens; releases before 0.20.1 print tokens by it.
    pub(super) smallest_block: u64,
    terms: Vec<Term>,
}

impl Demand {
    fn blocks(self, block: u64, context: u64, flight: Flight) -> u64 {
        let block = block.max(1);
        match self {
            Self::Full => context.div_ceil(flight.context_ranks.max(1)).div_ceil(block),
            Self::Window(window) => {
                let held = window.saturating_sub(1).saturating_add(flight.extra);
                held.saturating_add(flight.under_way)
                    .min(context)
                    .div_ceil(block)
                    .saturating_add(1)
            }
            Self::Chunk(chunk) => chunk
                .saturating_add(flight.under_way)
                .min(context)
                .div_ceil(block),
            Self::Encoder(tokens) => tokens.max(flight.batched).div_ceil(block),
            Self::Blocks(blocks) => blocks,
            Self::EveryBlock(more) => context.div_ceil(block).saturating_add(more),
        }
    }
}

impl Pool {
    /// Groups the layers. `stages` are the layer ranges of the pipeline; `packed` is the plan of models with
    /// compressed caches (DeepSeek-V4).
    pub(super) fn of(
        buckets: Vec<Bucket>,
        hybrid: bool,
        packed: bool,
        stages: &[Range<u64>],
    ) -> Result<Self, Ungroupable> {
        let buckets = if hybrid {
            merged(buckets)
        } else {
            promoted(merged(buckets))?
        };
        let groups = if packed {
            packed_groups(buckets)
        } else if is_uniform(&buckets) {
            buckets_as_one(buckets)
        } else {
            dealt(unified(buckets))
        };
        Ok(Self::from_groups(&groups, stages))
    }

    /// The pool of a model that caches nothing.
    pub(super) fn empty() -> Self {
        Self::from_groups(&[], &[])
    }

    /// Blocks that one request of `context` tokens may hold, over all groups.
    pub(super) fn blocks(&self, context: u64, flight: Flight) -> u64 {
        self.terms.iter().fold(0u64, |sum, term| {
            let blocks = term.demand.blocks(term.block, context, flight);
            sum.saturating_add(blocks.saturating_mul(term.groups))
        })
    }

    fn from_groups(groups: &[Group], stages: &[Range<u64>]) -> Self {
        let mut terms: Vec<Term> = Vec::new();
        for group in groups {
            let same = |term: &&mut Term| term.demand == group.demand && term.block == group.block;
            if let Some(term) = terms.iter_mut().find(same) {
                term.groups += 1;
            } else {
                terms.push(Term {
                    demand: group.demand,
                    block: group.block,
                    groups: 1,
                });
            }
        }
        let stage_bytes = |stage: &Range<u64>| groups.iter().map(|group| group.bytes(stage)).max();
        Self {
            bytes_per_block: stages.iter().filter_map(stage_bytes).max().unwrap_or(0),
            groups: groups.len() as u64,
            smallest_block: groups.iter().map(|group| group.block).min().unwrap_or(1),
            terms,
        }
    }
}

impl Group {
    /// Bytes of one block on the stage that holds these layers.
    fn bytes(&self, stage: &Range<u64>) -> u64 {
        self.members
            .iter()
            .filter(|(layer, _)| stage.contains(&u64::from(*layer)))
            .fold(0u64, |sum, (_, page)| sum.saturating_add(*page))
    }

    fn of(bucket: Bucket) -> Self {
        let page = bucket.spec.page;
        Self {
            demand: bucket.spec.demand,
            block: bucket.spec.block,
            members: bucket.layers.into_iter().map(|layer| (layer, page)).collect(),
        }
    }
}

/// Equal specs are one bucket, wherever they come from; layers ascend.
fn merged(buckets: Vec<Bucket>) -> Vec<Bucket> {
    let mut all: Vec<Bucket> = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        if let Some(known) = all.iter_mut().find(|known| known.spec == bucket.spec) {
            known.layers.extend(bucket.layers);
            known.layers.sort_unstable();
        } else if !bucket.layers.is_empty() {
            all.push(bucket);
        }
    }
    all
}

/// One group can hold every layer: one kind of demand and one block size, whatever the pages
/// (`UniformTypeKVCacheSpecs.is_uniform_type`).
fn is_uniform(buckets: &[Bucket]) -> bool {
    buckets.windows(2).all(|pair| match pair {
        [a, b] => {
            let same_kind = (a.spec.family == Family::State) == (b.spec.family == Family::State);
            same_kind && a.spec.demand == b.spec.demand && a.spec.block == b.spec.block
        }
        _ => true,
    })
}

fn buckets_as_one(buckets: Vec<Bucket>) -> Vec<Group> {
    let Some(first) = buckets.first().map(|bucket| bucket.spec) else {
        return Vec::new();
    };
    let members = buckets.into_iter().flat_map(|bucket| Group::of(bucket).members);
    vec![Group {
        demand: first.demand,
        block: first.block,
        members: members.collect(),
    }]
}

/// Without the hybrid manager, windows and chunks beside full attention become full attention
/// (`unify_hybrid_kv_cache_specs`).
fn promoted(mut buckets: Vec<Bucket>) -> Result<Vec<Bucket>, Ungroupable> {
    if is_uniform(&buckets) {
        return Ok(buckets);
    }
    let mut reach = None;
    for bucket in &mut buckets {
        match bucket.spec.demand {
            Demand::Full => {}
            Demand::Window(_) | Demand::Chunk(_) => {
                if reach.is_some_and(|known| known != bucket.spec.demand) {
                    return Err(Ungroupable::WindowsDiffer);
                }
                reach = Some(bucket.spec.demand);
                bucket.spec.demand = Demand::Full;
            }
            Demand::Encoder(_) | Demand::Blocks(_) | Demand::EveryBlock(_) => {
                return Err(Ungroupable::CannotPromote);
            }
        }
    }
    Ok(merged(buckets))
}

/// Gives all pages the size of the largest: a page that divides it takes more tokens, any other is padded. A
/// latent page can do neither, and then windows beside it are allocated in full
/// (`unify_kv_cache_spec_page_size`).
fn unified(mut buckets: Vec<Bucket>) -> Vec<Bucket> {
    let largest = buckets.iter().map(|bucket| bucket.spec.page).max().unwrap_or(0);
    let stubborn = |bucket: &Bucket| {
        let page = bucket.spec.page.max(1);
        bucket.spec.family == Family::Latent && largest % page != 0
    };
    if buckets.iter().any(stubborn)
        && let Ok(full) = promoted(buckets.clone())
        && is_uniform(&full)
    {
        return full;
    }
    for bucket in &mut buckets {
        let page = bucket.spec.page.max(1);
        if bucket.spec.family != Family::State && largest % page == 0 {
            bucket.spec.block = bucket.spec.block.saturating_mul(largest / page);
        }
        bucket.spec.page = largest;
    }
    merged(buckets)
}

/// Deals each bucket round-robin into groups of the smallest bucket's size, or of the largest one's where that
/// wastes less than half (`_get_kv_cache_groups_uniform_page_size`).
fn dealt(buckets: Vec<Bucket>) -> Vec<Group> {
    if is_uniform(&buckets) {
        return buckets_as_one(buckets);
    }
    let sizes = || buckets.iter().map(|bucket| bucket.layers.len());
    let (least, most) = (sizes().min().unwrap_or(1).max(1), sizes().max().unwrap_or(1));
    let size = if most.saturating_mul(2) < least.saturating_mul(3) {
        most
    } else {
        least
    };
    buckets
        .into_iter()
        .flat_map(|bucket| {
            let hands = bucket.layers.len().div_ceil(size);
            (0..hands).map(move |hand| {
                Group::of(Bucket {
                    spec: bucket.spec,
                    layers: bucket.layers.iter().copied().skip(hand).step_by(hands).collect(),
                })
            })
        })
        .collect()
}

/// Buckets that can share a group, though their pages differ.
struct Alike {
    buckets: Vec<Bucket>,
}

impl Alike {
    /// Layers of the page size that has most.
    fn repeats(&self) -> usize {
        self.buckets
            .iter()
            .map(|bucket| bucket.layers.len())
            .max()
            .unwrap_or(0)
    }

    /// Every page size has as many layers, so that they repeat as a pattern.
    fn is_balanced(&self) -> bool {
        self.buckets
            .iter()
            .all(|bucket| bucket.layers.len() == self.repeats())
    }

    /// Dealt round-robin into so many groups.
    fn split(&self, hands: usize) -> Vec<Group> {
        let hands = hands.max(1);
        let hand = |hand: usize| {
            let deal = |bucket: &Bucket| Bucket {
                spec: bucket.spec,
                layers: bucket.layers.iter().copied().skip(hand).step_by(hands).collect(),
            };
            buckets_as_one(self.buckets.iter().map(deal).collect())
        };
        (0..hands).flat_map(hand).collect()
    }
}

/// The plan of models that pack pages of many sizes into one block (DeepSeek-V4): kinds of layers whose page
/// sizes repeat as a pattern are split into groups of equally many repeats
/// (`_get_packed_kv_cache_groups`); all others stay whole.
fn packed_groups(buckets: Vec<Bucket>) -> Vec<Group> {
    let mut kinds: Vec<Alike> = Vec::new();
    for bucket in buckets {
        let joins = |kind: &&mut Alike| {
            let first = kind.buckets.first();
            first.is_some_and(|first| is_uniform(&[first.clone(), bucket.clone()]))
        };
        match kinds.iter_mut().find(joins) {
            Some(kind) => kind.buckets.push(bucket),
            None => kinds.push(Alike {
                buckets: vec![bucket],
            }),
        }
    }
    let balanced = || kinds.iter().filter(|kind| kind.is_balanced());
    let mixed = balanced().filter(|kind| kind.buckets.len() > 1);
    let floor = mixed.map(Alike::repeats).max();
    let counts: Vec<usize> = balanced().map(Alike::repeats).collect();
    let repeats = floor.map(|floor| least_padding(&counts, floor));
    kinds
        .iter()
        .flat_map(|kind| {
            let hands = match repeats {
                Some(repeats) if kind.is_balanced() => kind.repeats().div_ceil(repeats),
                _ => 1,
            };
            kind.split(hands)
        })
        .collect()
}

/// The size, at least `floor`, to whose multiples all counts can be rounded up with the least padding; the
/// largest of several (`_approximate_gcd`).
fn least_padding(counts: &[usize], floor: usize) -> usize {
    let floor = floor.max(1);
    let most = counts.iter().copied().max().unwrap_or(floor).max(floor);
    let padding = |size: &usize| -> usize {
        counts
            .iter()
            .map(|count| count.next_multiple_of(*size) - count)
            .sum()
    };
    (floor..=most).rev().min_by_key(padding).unwrap_or(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIGHT: Flight = Flight {
        under_way: 16_384,
        batched: 8192,
        context_ranks: 1,
        extra: 0,
    };

    fn bucket(demand: Demand, block: u64, page: u64, layers: Range<u32>) -> Bucket {
        Bucket {
            spec: Spec {
                family: Family::Attention,
                demand,
                shape: [page / block, 0, 0, 0],
                block,
                page,
            },
            layers: layers.collect(),
        }
    }

    fn one_stage() -> Vec<Range<u64>> {
        std::iter::once(0..1000).collect()
    }

    fn pool(buckets: Vec<Bucket>) -> Pool {
        Pool::of(buckets, true, false, &one_stage()).unwrap()
    }

    #[test]
    fn one_kind_of_layer_makes_one_group() {
        let pool = pool(vec![bucket(Demand::Full, 16, 65_536, 0..32)]);
        assert_eq!((pool.bytes_per_block, pool.groups), (2_097_152, 1));
        assert_eq!(pool.blocks(131_072, FLIGHT), 8192);
    }

    #[test]
    fn a_window_holds_what_is_under_way_and_one_block_more() {
        let pool = pool(vec![
            bucket(Demand::Window(128), 16, 32_768, 0..12),
            bucket(Demand::Full, 16, 32_768, 12..24),
        ]);
        assert_eq!(pool.bytes_per_block, 393_216);
        assert_eq!(pool.blocks(131_072, FLIGHT), 1033 + 8192);
    }

    #[test]
    fn smaller_pages_take_more_tokens() {
        let pool = pool(vec![
            bucket(Demand::Window(1024), 16, 262_144, 0..50),
            bucket(Demand::Full, 16, 131_072, 50..60),
        ]);
        assert_eq!((pool.bytes_per_block, pool.groups), (2_621_440, 6));
        assert_eq!(pool.blocks(262_144, FLIGHT), 5 * 1089 + 8192);
    }

    #[test]
    fn nearly_equal_buckets_are_not_split() {
        let pool = pool(vec![
            bucket(Demand::Window(128), 128, 65_536, 0..45),
            bucket(Demand::Full, 128, 65_536, 45..77),
        ]);
        assert_eq!((pool.bytes_per_block, pool.groups), (45 * 65_536, 2));
    }

    #[test]
    fn without_the_hybrid_manager_windows_are_kept_in_full_and_states_refused() {
        let window = bucket(Demand::Window(128), 16, 32_768, 0..12);
        let full = bucket(Demand::Full, 16, 32_768, 12..24);
        let state = bucket(Demand::Blocks(1), 16, 32_768, 24..30);
        let pool = Pool::of(vec![window, full.clone()], false, false, &one_stage()).unwrap();
        assert_eq!(
            (pool.bytes_per_block, pool.blocks(4096, FLIGHT)),
            (24 * 32_768, 256)
        );
        let refused = Pool::of(vec![full, state], false, false, &one_stage());
        assert_eq!(refused, Err(Ungroupable::CannotPromote));
    }

    #[test]
    fn packed_kinds_share_one_number_of_repeats() {
        assert_eq!(least_padding(&[43, 23, 20], 20), 23, "DeepSeek-V4-Flash");
        assert_eq!(least_padding(&[61, 31, 30], 30), 31);
        assert_eq!(least_padding(&[8, 8], 4), 8, "the largest of equals");
        assert_eq!(least_padding(&[], 0), 1);
    }

    #[test]
    fn a_pipeline_counts_the_stage_that_holds_most() {
        let buckets = vec![bucket(Demand::Full, 16, 100, 0..61)];
        let pool = Pool::of(buckets, true, false, &[0..31, 31..61]).unwrap();
        assert_eq!(pool.bytes_per_block, 3100);
    }
}
