//! Facts about an engine's own settings, by setting id: `setting.tensor_parallel` and its kin.
//!
//! In: the flags of `catalog/engines`. Out: four facts for each setting id that any engine has, typed as its
//! flags are, so that a typo in an id is found when a rule is loaded. Keys of JSON settings
//! (`setting.speculative_config.method`) are texts and are made when a rule names one. Nothing here knows an
//! engine: a new row in the catalog is a new fact.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::facts::{FactDefinition, Kind, Scope, Source, Unit, Value, View};
use crate::engine::args::is_placeholder;
use crate::engine::flags::{self, Flag, FlagTable, Takes};
use crate::engine::{Engine, Settings, Version, default_of};
use crate::fact::Origin;

/// What a fact tells of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// The declared value, typed; absent where none is declared or where it is a variable.
    Setting,
    /// True where the setting is declared in any way; never absent.
    Given,
    /// The declared value as written.
    Raw,
    /// The declared value, else the engine's plain default for its release.
    Effective,
}

impl Family {
    /// Every family, in the order of lists.
    pub const ALL: [Self; 4] = [Self::Effective, Self::Given, Self::Raw, Self::Setting];

    /// The first part of its facts' paths.
    pub fn word(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Given => "given",
            Self::Raw => "raw",
            Self::Effective => "effective",
        }
    }

    /// What its facts tell, for lists.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Setting => "the declared value; absent where none is declared or where it is a variable",
            Self::Given => "true where the setting is declared in any way, a variable included",
            Self::Raw => "the declared value as written",
            Self::Effective => {
                "the declared value, else the engine's default for its release (the newest where none is declared), where that is a plain value"
            }
        }
    }

    fn kind(self, declared: Kind) -> Kind {
        match self {
            Self::Setting | Self::Effective => declared,
            Self::Given => Kind::Bool,
            Self::Raw => Kind::Text,
        }
    }

    /// The value for a deployment.
    pub(super) fn read<'a>(self, view: &View<'a>, id: &str, kind: Kind) -> Option<Value<'a>> {
        let deployment = view.deployment?;
        let settings = &deployment.settings;
        match self {
            Self::Given => Some(Value::Bool(settings.get(id).is_some())),
            Self::Raw => Some(Value::Text(settings.text(id)?.into())),
            Self::Setting => declared(settings, id, kind),
            Self::Effective if settings.get(id).is_some() => declared(settings, id, kind),
            Self::Effective => {
                let version = deployment.engine_version.as_ref();
                let version = version.and_then(|text| Version::parse(&text.value));
                typed(
                    default_of(super::fact_table::engine(deployment)?, id, version)?,
                    kind,
                )
            }
        }
    }
}

/// Where a setting is declared.
pub(super) fn origin<'a>(view: &View<'a>, id: &str) -> Option<&'a Origin> {
    view.deployment?.settings.get(id).map(|fact| &fact.origin)
}

fn declared<'a>(settings: &'a Settings, id: &str, kind: Kind) -> Option<Value<'a>> {
    let text = settings.text(id)?;
    (!is_placeholder(text)).then(|| typed(text, kind))?
}

fn typed(text: &str, kind: Kind) -> Option<Value<'_>> {
    let trimmed = text.trim();
    match kind {
        Kind::Int => trimmed.parse().ok().map(Value::Int),
        Kind::Double => trimmed
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .map(Value::Double),
        Kind::Bool => Settings::truth(trimmed).map(Value::Bool),
        Kind::Text | Kind::List => Some(Value::Text(text.into())),
    }
}

/// A setting id with the type and unit of its values, and the flags that set it.
#[derive(Debug)]
pub struct SettingId {
    /// The id.
    pub id: &'static str,
    /// Type of its values.
    pub kind: Kind,
    /// What they count.
    pub unit: Unit,
    /// `engine --flag` for each engine that has it.
    pub flags: Vec<String>,
    /// True where it is a JSON object, whose keys can be named too.
    pub is_object: bool,
}

/// Every setting id of every engine, sorted.
pub fn setting_ids() -> &'static [SettingId] {
    static IDS: OnceLock<Vec<SettingId>> = OnceLock::new();
    IDS.get_or_init(|| {
        use rayon::prelude::*;
        // The tables are independent texts: read at once, they cost a start a few milliseconds less.
        Engine::ALL.par_iter().for_each(|engine| {
            FlagTable::of(*engine);
        });
        let mut uses: BTreeMap<&'static str, Vec<Use>> = BTreeMap::new();
        for engine in Engine::ALL {
            for flag in &FlagTable::of(engine).flags {
                let whole = flag.setting.as_deref().map(|id| (id, Some(flag)));
                // A key of a JSON value has no type of its own.
                let keys = flag.keys.values().map(|id| (id.as_str(), None));
                for (id, typed_by) in whole.into_iter().chain(keys) {
                    let name = flag.names.first().or(flag.env.as_ref());
                    let name = name.map_or("", String::as_str);
                    uses.entry(id).or_default().push(Use {
                        engine,
                        name,
                        typed_by,
                    });
                }
            }
        }
        uses.into_iter()
            .map(|(id, uses)| SettingId::new(id, &uses))
            .collect()
    })
}

/// One way to give a setting.
struct Use {
    engine: Engine,
    name: &'static str,
    typed_by: Option<&'static Flag>,
}

impl SettingId {
    fn new(id: &'static str, uses: &[Use]) -> Self {
        let typed = || uses.iter().filter_map(|one| one.typed_by);
        let kinds: Vec<Kind> = typed().map(flag_kind).collect();
        let kind = common(&kinds);
        let bytes = typed().any(|flag| flag.kind == flags::Kind::Bytes);
        Self {
            id,
            kind,
            unit: unit(id, kind, bytes),
            flags: uses
                .iter()
                .map(|one| format!("{} `{}`", one.engine.name(), one.name))
                .collect(),
            is_object: typed().any(|flag| flag.kind == flags::Kind::Json),
        }
    }
}

/// The type that holds the values of every engine's flag: text where they have nothing in common. A flag that takes
/// any text beside switches or numbers takes those words too (`--max-lora-rank 16` is a choice of vLLM's).
fn common(kinds: &[Kind]) -> Kind {
    let typed: Vec<Kind> = kinds.iter().copied().filter(|kind| *kind != Kind::Text).collect();
    let kinds = if typed.is_empty() { kinds } else { &typed };
    let Some(first) = kinds.first() else {
        return Kind::Text;
    };
    let numbers = kinds.iter().all(|kind| matches!(kind, Kind::Int | Kind::Double));
    match kinds.iter().all(|kind| kind == first) {
        true => *first,
        false if numbers => Kind::Double,
        false => Kind::Text,
    }
}

fn flag_kind(flag: &Flag) -> Kind {
    match (flag.takes, flag.kind) {
        (Takes::Switch | Takes::Negatable, _) => match flag.sets.as_deref() {
            None | Some("true" | "false") => Kind::Bool,
            Some(_) => Kind::Text,
        },
        (
            Takes::Value | Takes::Optional,
            flags::Kind::Count | flags::Kind::Human | flags::Kind::HumanOrAuto,
        ) => Kind::Int,
        (Takes::Value | Takes::Optional, flags::Kind::Number | flags::Kind::Bytes) => Kind::Double,
        _ => Kind::Text,
    }
}

/// Settings that count tokens although their id does not end in `tokens`.
const TOKEN_SETTINGS: [&str; 8] = [
    "block_size",
    "chunked_prefill",
    "context",
    "ctx_size",
    "fit_ctx",
    "max_cache_len",
    "num_ctx",
    "page_size",
];

fn unit(id: &str, kind: Kind, bytes: bool) -> Unit {
    match kind {
        Kind::Int if id.ends_with("_tokens") || TOKEN_SETTINGS.contains(&id) => Unit::Tokens,
        Kind::Int => Unit::Count,
        Kind::Double if bytes => Unit::Bytes,
        Kind::Double => Unit::Ratio,
        Kind::Bool | Kind::Text | Kind::List => Unit::None,
    }
}

/// The fact of a path such as `setting.tensor_parallel`. Made once for each path: facts live as long as the
/// program, as those of the table do.
pub(super) fn find(path: &str) -> Option<&'static FactDefinition> {
    static MADE: Mutex<BTreeMap<String, &'static FactDefinition>> = Mutex::new(BTreeMap::new());
    let (word, id) = path.split_once('.')?;
    let family = Family::ALL.into_iter().find(|family| family.word() == word)?;
    let (kind, unit) = nature(id)?;
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(fact) = made.get(path) {
        return Some(fact);
    }
    let kind = family.kind(kind);
    let unit = if matches!(family, Family::Given | Family::Raw) {
        Unit::None
    } else {
        unit
    };
    let fact: &'static FactDefinition = Box::leak(Box::new(FactDefinition {
        path: String::leak(path.to_owned()),
        kind,
        unit,
        scope: Scope::Deployment,
        meaning: family.meaning(),
        source: Source::Setting(family, String::leak(id.to_owned())),
    }));
    made.insert(path.to_owned(), fact);
    Some(fact)
}

/// Type and unit of a setting, or of a key of a JSON setting.
fn nature(id: &str) -> Option<(Kind, Unit)> {
    let known = |id: &str| {
        let at = setting_ids().binary_search_by(|known| known.id.cmp(id)).ok()?;
        setting_ids().get(at)
    };
    if let Some(setting) = known(id) {
        return Some((setting.kind, setting.unit));
    }
    let (object, _) = id.split_once('.')?;
    known(object)
        .filter(|setting| setting.is_object)
        .map(|_| (Kind::Text, Unit::None))
}

/// Every path of the families, for "did you mean".
pub(super) fn paths() -> impl Iterator<Item = String> {
    Family::ALL.into_iter().flat_map(|family| {
        setting_ids()
            .iter()
            .map(move |setting| format!("{}.{}", family.word(), setting.id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(path: &str) -> Option<&'static str> {
        find(path).map(|fact| fact.kind.name())
    }

    #[test]
    fn settings_have_the_types_of_their_flags() {
        assert_eq!(kind("setting.tensor_parallel"), Some("int"));
        assert_eq!(kind("setting.memory_fraction"), Some("double"));
        assert_eq!(kind("setting.enforce_eager"), Some("bool"));
        assert_eq!(kind("setting.dtype"), Some("string"));
        assert_eq!(kind("setting.speculative_config.method"), Some("string"));
        assert_eq!(kind("effective.max_sequences"), Some("int"));
        assert_eq!(kind("given.tensor_parallel"), Some("bool"));
        assert_eq!(kind("raw.tensor_parallel"), Some("string"));
        assert_eq!(find("setting.context").map(|fact| fact.unit), Some(Unit::Tokens));
    }

    #[test]
    fn an_id_that_no_engine_has_is_no_fact() {
        assert_eq!(kind("setting.tensor_paralel"), None);
        assert_eq!(kind("setting.dtype.key"), None);
        assert_eq!(kind("settings.dtype"), None);
        assert_eq!(kind("setting."), None);
    }

    #[test]
    fn a_fact_is_made_once() {
        let (one, two) = (find("setting.dtype"), find("setting.dtype"));
        assert!(one.zip(two).is_some_and(|(one, two)| std::ptr::eq(one, two)));
    }

    #[test]
    fn values_that_do_not_read_as_their_type_are_absent() {
        assert_eq!(typed("8", Kind::Int), Some(Value::Int(8)));
        assert_eq!(typed("auto", Kind::Int), None);
        assert_eq!(typed("nan", Kind::Double), None);
        assert_eq!(typed("", Kind::Bool), Some(Value::Bool(true)));
        assert_eq!(typed("maybe", Kind::Bool), None);
    }
}
