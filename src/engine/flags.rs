//! What flags each engine has, which setting each sets, and how the engine's parser reads them.
//!
//! The rows are in `catalog/engines`, one file an engine, read from the engine's own argument table; each file
//! names its source and release. Beside the flags a file lists the spellings of the KV cache type and the
//! defaults that are plain values. The reading of a command line is in [`super::args`].

use std::collections::BTreeMap;
use std::sync::OnceLock;

use include_dir::{Dir, include_dir};
use serde::Deserialize;

use super::releases::Releases;
use super::{Engine, KvType, Version};

static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/catalog/engines");

/// What stands after a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Takes {
    /// One value.
    #[default]
    Value,
    /// Every word up to the next flag (argparse `nargs="+"`).
    Many,
    /// A value or none.
    Optional,
    /// Nothing.
    Switch,
    /// Nothing, and `--no-flag` turns it round (argparse `BooleanOptionalAction`).
    Negatable,
    /// Two values.
    Two,
}

/// How a flag's value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// As it stands.
    #[default]
    Text,
    /// A whole number.
    Count,
    /// A whole number that may end in a letter: `1k` is 1000 and `1K` 1024 (vLLM `human_readable_int`).
    Human,
    /// The same, or `auto`, or -1 which means it (vLLM `human_readable_int_or_auto`).
    HumanOrAuto,
    /// A number.
    Number,
    /// An amount of memory with a decimal unit.
    Bytes,
    /// JSON.
    Json,
}

/// One flag of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// Its spellings; none for what only an environment variable sets.
    #[serde(default)]
    pub names: Vec<String>,
    /// The setting it sets; none where oomlint has no use for it.
    #[serde(default)]
    pub setting: Option<String>,
    /// What follows it.
    #[serde(default)]
    pub takes: Takes,
    /// How its value is read.
    #[serde(default)]
    pub kind: Kind,
    /// What a switch sets, where that is not `true`.
    #[serde(default)]
    pub sets: Option<String>,
    /// Spellings that turn a switch round.
    #[serde(default)]
    pub negation: Vec<String>,
    /// The environment variable that does the same.
    #[serde(default)]
    pub env: Option<String>,
    /// The newest sampled release that has it, where a later one has it no more.
    #[serde(default)]
    pub last: Option<String>,
    /// The oldest sampled release that has it no more.
    #[serde(default)]
    pub gone_by: Option<String>,
    /// The newest sampled release without it, where a later one has it again.
    #[serde(default)]
    pub gone_until: Option<String>,
    /// The newest sampled release before it came.
    #[serde(default)]
    pub lacks: Option<String>,
    /// The oldest sampled release that has it.
    #[serde(default)]
    pub since: Option<String>,
    /// What takes its place in the releases without it.
    #[serde(default)]
    pub instead: Option<Instead>,
    /// The release from which on it is a switch; before, a truth value could follow.
    #[serde(default)]
    valued_before: Option<String>,
    /// Settings that keys of a JSON value set as well.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
}

/// What takes the place of a flag or a variable that is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instead {
    /// A flag that means the same and takes the same values.
    pub flag: Option<String>,
    /// True where the engine does the same without it.
    pub drop: bool,
    /// The way out in words, where it is neither.
    pub say: Option<String>,
}

impl Flag {
    /// The releases that have it.
    pub fn releases(&self) -> Releases {
        let read = |text: &Option<String>| text.as_deref().and_then(Version::parse);
        Releases {
            last: read(&self.last),
            gone_by: read(&self.gone_by),
            gone_until: read(&self.gone_until),
            lacks: read(&self.lacks),
            since: read(&self.since),
        }
    }

    /// True when a release is known to lack it.
    pub fn is_gone(&self, version: Option<Version>) -> bool {
        self.releases().lacking(version, None).is_some()
    }

    /// Whether a release takes a truth value after the switch; `None` where that depends on a release nobody gives.
    pub(super) fn takes_truth(&self, version: Option<Version>) -> Option<bool> {
        let Some(before) = self.valued_before.as_deref().and_then(Version::parse) else {
            return Some(false);
        };
        version.map(|version| version < before)
    }

    /// The value that the switch sets.
    pub(super) fn switched(&self, negated: bool) -> String {
        match (self.sets.as_deref(), negated) {
            (Some("false"), false) | (None | Some("true"), true) => "false".to_owned(),
            (Some("false") | None, _) => "true".to_owned(),
            (Some(other), _) => other.to_owned(),
        }
    }
}

/// How an engine's argument parser reads words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent habits of a parser, named in the data"
)]
pub struct ParserHabits {
    /// `_` and `-` are alike in long names.
    pub underscores: bool,
    /// An unambiguous beginning of a long name will do, and `-O3` is `-O 3` (argparse).
    pub prefixes: bool,
    /// `--flag.key value` sets a key of a JSON flag.
    pub dotted: bool,
    /// `--disable-x` turns `--enable-x` round, and the other way.
    pub enable_disable: bool,
    /// `--flag=value` is understood.
    pub equals: bool,
    /// The next word is the value whatever it looks like.
    pub greedy: bool,
    /// A whole number ends at its first other character (`std::stoi`).
    pub stoi: bool,
}

impl Default for ParserHabits {
    fn default() -> Self {
        Self {
            underscores: false,
            prefixes: false,
            dotted: false,
            enable_disable: false,
            equals: true,
            greedy: false,
            stoi: false,
        }
    }
}

/// One spelling of a KV cache type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvSpelling {
    /// As the engine takes it.
    pub name: String,
    /// What it is; none for a layout that [`KvType`] has no name for.
    pub kv: Option<KvType>,
}

/// Everything that an engine's file says.
#[derive(Debug, Default)]
pub struct FlagTable {
    /// How words are read.
    pub habits: ParserHabits,
    /// Every flag.
    pub flags: Vec<Flag>,
    /// The engine whose flags are accepted too, without effect.
    pub also_known: Option<Engine>,
    /// The release that the flags were read from.
    pub version: Option<Version>,
    /// Where they were read.
    pub source: String,
    /// Variables of the environment that came or went.
    pub environment: Vec<EnvironmentRow>,
    /// The names that `--tool-call-parser` takes, in any sampled release.
    pub tool_parsers: Vec<String>,
    kv_types: Vec<KvSpelling>,
    weight_formats: BTreeMap<String, String>,
    defaults: BTreeMap<String, Vec<DefaultRow>>,
    /// Position in `flags` and whether the spelling turns the switch round, by [`Self::key`].
    by_name: BTreeMap<String, (usize, bool)>,
}

impl FlagTable {
    /// The table of an engine, read on first use.
    pub fn of(engine: Engine) -> &'static Self {
        static TABLES: [OnceLock<FlagTable>; Engine::ALL.len()] =
            [const { OnceLock::new() }; Engine::ALL.len()];
        static EMPTY: OnceLock<FlagTable> = OnceLock::new();
        let place = Engine::ALL.iter().position(|one| *one == engine);
        let table = place.and_then(|place| TABLES.get(place)).unwrap_or(&EMPTY);
        // The files are part of the program and tested; were one broken, its flags would all be unknown.
        table.get_or_init(|| Self::read(engine).unwrap_or_default())
    }

    fn read(engine: Engine) -> Result<Self, String> {
        let name = format!("{}.yaml", engine.name());
        let text = FILES
            .get_file(&name)
            .and_then(|file| file.contents_utf8())
            .ok_or_else(|| format!("{name}: missing"))?;
        let file: EngineFile = serde_saphyr::from_str(text).map_err(|error| format!("{name}: {error}"))?;
        if file.engine != engine.name() {
            return Err(format!("{name}: the flags of {}", file.engine));
        }
        Ok(Self::new(file))
    }

    fn new(file: EngineFile) -> Self {
        let mut flags = file.flags;
        for (takes, kind, names) in file.others.groups() {
            flags.extend(names.into_iter().map(|name| Flag {
                names: vec![name],
                takes,
                kind,
                ..Flag::default()
            }));
        }
        for added in &file.added {
            added.mark(&mut flags);
        }
        let spelling = |(name, kv): (String, Option<String>)| KvSpelling {
            kv: kv.as_deref().and_then(KvType::parse),
            name,
        };
        let mut table = Self {
            habits: file.parser,
            flags,
            also_known: file.also_known.as_deref().and_then(Engine::parse),
            version: file.version.as_deref().and_then(Version::parse),
            source: file.source,
            kv_types: file.kv_types.into_iter().map(spelling).collect(),
            weight_formats: file.weight_formats,
            environment: file.environment,
            tool_parsers: file.tool_parsers,
            defaults: file.defaults,
            by_name: BTreeMap::new(),
        };
        table.index();
        table
    }

    fn index(&mut self) {
        let mut by_name = BTreeMap::new();
        for (at, flag) in self.flags.iter().enumerate() {
            for name in &flag.names {
                by_name.entry(self.key(name)).or_insert((at, false));
            }
            for name in flag.negation.iter().cloned().chain(self.implied_negations(flag)) {
                by_name.entry(self.key(&name)).or_insert((at, true));
            }
        }
        self.by_name = by_name;
    }

    /// `--no-x`, and `--disable-x` for `--enable-x` where the parser pairs them.
    fn implied_negations(&self, flag: &Flag) -> Vec<String> {
        if flag.takes != Takes::Negatable {
            return Vec::new();
        }
        let mut names = Vec::new();
        for name in flag.names.iter().filter_map(|name| name.strip_prefix("--")) {
            names.push(format!("--no-{name}"));
            if self.habits.enable_disable {
                names.extend(
                    name.strip_prefix("enable-")
                        .map(|rest| format!("--disable-{rest}")),
                );
                names.extend(
                    name.strip_prefix("disable-")
                        .map(|rest| format!("--enable-{rest}")),
                );
            }
        }
        names
    }

    /// How a name is compared: as it stands, or with `-` for `_` before the first dot of a long name.
    pub(super) fn key(&self, name: &str) -> String {
        if !self.habits.underscores || !name.starts_with("--") {
            return name.to_owned();
        }
        match name.split_once('.') {
            Some((head, tail)) => format!("{}.{tail}", head.replace('_', "-")),
            None => name.replace('_', "-"),
        }
    }

    /// True for a flag that takes every word up to the next flag.
    pub(crate) fn takes_many(&self, name: &str) -> bool {
        self.find(name).is_some_and(|(flag, _)| flag.takes == Takes::Many)
    }

    /// The flag of a spelling, and whether the spelling turns it round.
    pub(crate) fn find(&self, name: &str) -> Option<(&Flag, bool)> {
        let (at, negated) = self.by_name.get(&self.key(name))?;
        Some((self.flags.get(*at)?, *negated))
    }

    /// The spellings that begin with `name`, with their flags.
    pub(super) fn beginning_with(&self, name: &str) -> Vec<(&str, &Flag, bool)> {
        let key = self.key(name);
        self.by_name
            .range(key.clone()..)
            .take_while(|(known, _)| known.starts_with(&key))
            .filter_map(|(known, (at, negated))| Some((known.as_str(), self.flags.get(*at)?, *negated)))
            .collect()
    }

    /// The spelling nearest to one that no flag has.
    pub(super) fn nearest(&self, name: &str, version: Option<Version>) -> Option<String> {
        let wanted = name.replace('_', "-");
        self.flags
            .iter()
            .filter(|flag| !flag.is_gone(version))
            .flat_map(|flag| &flag.names)
            .map(|known| {
                let likeness = strsim::normalized_damerau_levenshtein(&wanted, &known.replace('_', "-"));
                (likeness, known)
            })
            .filter(|(likeness, known)| *likeness > 0.75 && known.starts_with("--") == name.starts_with("--"))
            .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))
            .map(|(_, known)| known.clone())
    }
}

/// The spellings of the KV cache type that an engine takes.
pub fn kv_types(engine: Engine) -> &'static [KvSpelling] {
    &FlagTable::of(engine).kv_types
}

/// The serving format (a row of `catalog/formats.yaml`) to which an engine quantizes a 16-bit checkpoint while it
/// loads, by the name of the method in lower case.
pub fn online_format(engine: Engine, method: &str) -> Option<&'static str> {
    FlagTable::of(engine)
        .weight_formats
        .get(method)
        .map(String::as_str)
}

/// What an engine takes for a setting that nobody gives, where that is a plain value: by release, the newest
/// where none is declared.
pub fn default_of(engine: Engine, setting: &str, version: Option<Version>) -> Option<&'static str> {
    let rows = FlagTable::of(engine).defaults.get(setting)?;
    let since = |row: &DefaultRow| row.since.as_deref().and_then(Version::parse).unwrap_or_default();
    rows.iter()
        .filter(|row| version.is_none_or(|version| since(row) <= version))
        .max_by_key(|row| since(row))
        .map(|row| row.value.as_str())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineFile {
    engine: String,
    version: Option<String>,
    source: String,
    #[serde(default)]
    parser: ParserHabits,
    also_known: Option<String>,
    flags: Vec<Flag>,
    #[serde(default)]
    others: Others,
    /// Releases that brought flags.
    #[serde(default)]
    added: Vec<Added>,
    #[serde(default)]
    environment: Vec<EnvironmentRow>,
    #[serde(default)]
    tool_parsers: Vec<String>,
    kv_types: BTreeMap<String, Option<String>>,
    #[serde(default)]
    weight_formats: BTreeMap<String, String>,
    #[serde(default)]
    defaults: BTreeMap<String, Vec<DefaultRow>>,
}

/// A variable of the environment that some releases read and others do not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentRow {
    /// Its name; with a `*` at the end all that begin so.
    pub name: String,
    /// The newest sampled release that reads it.
    #[serde(default)]
    pub last: Option<String>,
    /// The oldest sampled release that reads it no more.
    pub gone_by: String,
    /// What takes its place.
    #[serde(default)]
    pub instead: Option<Instead>,
}

impl EnvironmentRow {
    /// True for a variable of this name.
    pub fn is_of(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(front) => name.starts_with(front),
            None => name == self.name,
        }
    }

    /// The releases that read it.
    pub fn releases(&self) -> Releases {
        Releases {
            last: self.last.as_deref().and_then(Version::parse),
            gone_by: Version::parse(&self.gone_by),
            ..Releases::default()
        }
    }
}

/// Flags that came between two sampled releases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    lacks: String,
    since: String,
    flags: Vec<String>,
}

impl Added {
    fn mark(&self, flags: &mut [Flag]) {
        for flag in flags {
            if flag.names.iter().any(|name| self.flags.contains(name)) {
                flag.lacks = Some(self.lacks.clone());
                flag.since = Some(self.since.clone());
            }
        }
    }
}

/// Flags without a setting, by what follows them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Others {
    value: Vec<String>,
    many: Vec<String>,
    optional: Vec<String>,
    switch: Vec<String>,
    negatable: Vec<String>,
    two: Vec<String>,
    json: Vec<String>,
}

impl Others {
    fn groups(self) -> [(Takes, Kind, Vec<String>); 7] {
        [
            (Takes::Value, Kind::Text, self.value),
            (Takes::Many, Kind::Text, self.many),
            (Takes::Optional, Kind::Text, self.optional),
            (Takes::Switch, Kind::Text, self.switch),
            (Takes::Negatable, Kind::Text, self.negatable),
            (Takes::Two, Kind::Text, self.two),
            (Takes::Value, Kind::Json, self.json),
        ]
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultRow {
    since: Option<String>,
    value: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_engine_has_a_well_formed_table() {
        for engine in Engine::ALL {
            let table = FlagTable::read(engine).unwrap();
            assert!(
                !table.source.is_empty() && !table.kv_types.is_empty(),
                "{}",
                engine.name()
            );
            let mut names = BTreeSet::new();
            for flag in &table.flags {
                assert!(!flag.names.is_empty() || flag.env.is_some());
                for name in flag.names.iter().chain(&flag.negation) {
                    assert!(name.starts_with('-'), "{name}");
                    assert!(names.insert(table.key(name)), "{}: {name} twice", engine.name());
                }
                assert!(flag.keys.is_empty() || flag.kind == Kind::Json);
                let gone = flag.gone_by.as_deref().map(Version::parse);
                assert!(gone.is_none_or(|gone| flag.is_gone(gone)), "{:?}", flag.names);
            }
            let version = table.version.unwrap_or_default();
            for releases in table
                .flags
                .iter()
                .map(Flag::releases)
                .chain(table.environment.iter().map(EnvironmentRow::releases))
            {
                assert!(releases.gone_by.is_none_or(|gone| gone <= version));
                assert!(releases.last.is_none() || releases.last < releases.gone_by);
                assert!(releases.lacks.is_none() || releases.lacks < releases.since);
            }
            for flag in &table.flags {
                assert_eq!(
                    flag.last.is_some(),
                    flag.last.as_deref().and_then(Version::parse).is_some()
                );
                let other = flag.instead.as_ref().and_then(|instead| instead.flag.as_deref());
                assert!(
                    other.is_none_or(|other| table.find(other).is_some()),
                    "{:?}",
                    flag.names
                );
            }
        }
    }

    #[test]
    fn the_settings_that_engines_read_have_flags() {
        let ids = |engine| -> BTreeSet<&str> {
            let flags = FlagTable::of(engine).flags.iter();
            flags
                .flat_map(|flag| flag.setting.iter().chain(flag.keys.values()))
                .map(String::as_str)
                .collect()
        };
        let expect = |engine, wanted: &str| {
            let known = ids(engine);
            for id in wanted.split_whitespace() {
                assert!(known.contains(id), "{}: {id}", Engine::name(engine));
            }
        };
        expect(
            Engine::Vllm,
            "tensor_parallel pipeline_parallel data_parallel expert_parallel decode_context_parallel \
             memory_fraction max_sequences max_batched_tokens block_size kv_cache_memory_bytes \
             num_gpu_blocks_override enforce_eager prefix_caching chunked_prefill async_scheduling \
             hybrid_kv_cache_manager cpu_offload_gb kv_cache_dtype_skip_layers speculative_config \
             num_speculative_tokens mamba_cache_dtype mamba_ssm_cache_dtype max_loras max_lora_rank dtype \
             performance_mode quantization context kv_cache model model_revision served_model_name",
        );
        expect(
            Engine::Sglang,
            "page_size chunked_prefill_size max_total_tokens max_prefill_tokens cuda_graph_max_bs \
             swa_full_tokens_ratio mamba_full_memory_ratio memory_fraction context kv_cache tensor_parallel",
        );
        expect(
            Engine::LlamaCpp,
            "ctx_size parallel batch_size ubatch_size cache_type_k cache_type_v flash_attention swa_full \
             kv_unified gpu_layers kv_offload split_mode tensor_split main_gpu cpu_moe n_cpu_moe fit fit_ctx \
             fit_target mmproj draft_model model",
        );
        expect(
            Engine::Mlx,
            "kv_bits kv_group_size max_kv_size quantized_kv_start kv_cache",
        );
        expect(
            Engine::Ollama,
            "num_ctx num_parallel kv_cache_type num_gpu num_batch",
        );
        expect(
            Engine::Tgi,
            "cuda_memory_fraction context tensor_parallel kv_cache",
        );
        expect(
            Engine::TensorrtLlm,
            "free_memory_fraction tokens_per_block max_tokens context kv_cache",
        );
        expect(Engine::Transformers, "cache_implementation");
    }

    #[test]
    fn methods_that_quantize_while_loading_name_known_formats() {
        for engine in Engine::ALL {
            for (method, format) in &FlagTable::of(engine).weight_formats {
                let bits = crate::model::quantization::real_bits_per_weight(format);
                assert!(bits.is_some_and(|bits| bits < 16.0), "{} {method}", engine.name());
            }
        }
        assert_eq!(online_format(Engine::Tgi, "bitsandbytes"), Some("bnb-8bit"));
        assert_eq!(online_format(Engine::Vllm, "bitsandbytes"), Some("nf4"));
    }

    #[test]
    fn kv_types_are_those_that_the_engine_takes() {
        let kv = |engine, name: &str| {
            let found = kv_types(engine).iter().find(|spelling| spelling.name == name);
            found.map(|spelling| spelling.kv)
        };
        assert_eq!(kv(Engine::Vllm, "fp8_e5m2"), Some(Some(KvType::Fp8)));
        assert_eq!(kv(Engine::Vllm, "turboquant_k8v4"), Some(Some(KvType::TurboK8V4)));
        assert_eq!(kv(Engine::Vllm, "octave_k3v4"), Some(None));
        assert_eq!(kv(Engine::Vllm, "q8_0"), None);
        assert_eq!(kv(Engine::LlamaCpp, "iq4_nl"), Some(Some(KvType::Iq4Nl)));
        assert_eq!(kv(Engine::LlamaCpp, "int8"), None);
        assert_eq!(kv(Engine::Mlx, "int8"), Some(Some(KvType::Int8)));
    }

    #[test]
    fn defaults_follow_the_release() {
        let fraction = |version| default_of(Engine::Vllm, "memory_fraction", version);
        assert_eq!(fraction(Version::parse("0.18.1")), Some("0.9"));
        assert_eq!(fraction(Version::parse("0.20.0")), Some("0.92"));
        assert_eq!(fraction(None), Some("0.92"));
        assert_eq!(default_of(Engine::Vllm, "nonsense", None), None);
    }

    #[test]
    #[ignore = "prints times, for a release build"]
    fn times_of_reading_the_tables() {
        for engine in Engine::ALL {
            let start = std::time::Instant::now();
            let table = FlagTable::read(engine).unwrap();
            println!(
                "{}: {} flags in {:?}",
                engine.name(),
                table.flags.len(),
                start.elapsed()
            );
        }
    }
}
