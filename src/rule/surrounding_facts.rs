//! Facts about what stands around an engine, its pod or its service: `pod.<id>`.
//!
//! In: the rows of `catalog/surroundings.yaml`. Out: one fact for each, typed as its row says, read from
//! [`Deployment::surroundings`](crate::manifest::Deployment). A new row and a reader that fills it are a new fact.

use std::sync::OnceLock;

use super::facts::{FactDefinition, Kind, Scope, Source, Unit, Value, View};
use crate::fact::Origin;
use crate::manifest::surroundings::{self, catalog};

/// Every fact of the surroundings, sorted by path.
pub(super) fn facts() -> &'static [FactDefinition] {
    static FACTS: OnceLock<Vec<FactDefinition>> = OnceLock::new();
    FACTS.get_or_init(|| {
        let fact = |row: &'static surroundings::Row| {
            let (kind, unit) = match row.kind {
                surroundings::Kind::Bool => (Kind::Bool, Unit::None),
                surroundings::Kind::Count => (Kind::Int, Unit::Count),
                surroundings::Kind::Bytes => (Kind::Double, Unit::Bytes),
                surroundings::Kind::Ratio => (Kind::Double, Unit::Ratio),
                surroundings::Kind::Text => (Kind::Text, Unit::None),
            };
            FactDefinition {
                path: String::leak(format!("pod.{}", row.id)),
                kind,
                unit,
                scope: Scope::Deployment,
                meaning: &row.meaning,
                source: Source::Surrounding(&row.id),
            }
        };
        catalog().facts.iter().map(fact).collect()
    })
}

/// The fact of a path.
pub(super) fn find(path: &str) -> Option<&'static FactDefinition> {
    path.strip_prefix("pod.")?;
    let at = facts().binary_search_by(|fact| fact.path.cmp(path)).ok()?;
    facts().get(at)
}

/// The value for a deployment, as its type reads it.
pub(super) fn read<'a>(view: &View<'a>, id: &str, kind: Kind) -> Option<Value<'a>> {
    let text = view.deployment?.surroundings.text(id)?;
    match kind {
        Kind::Int => text.parse().ok().map(Value::Int),
        Kind::Double => text.parse().ok().map(Value::Double),
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Text | Kind::List => Some(Value::Text(text.into())),
    }
}

/// Where it is declared.
pub(super) fn origin<'a>(view: &View<'a>, id: &str) -> Option<&'a Origin> {
    view.deployment?.surroundings.get(id).map(|fact| &fact.origin)
}
