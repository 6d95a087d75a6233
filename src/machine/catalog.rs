//! The machines that oomlint knows, and how a name in a manifest becomes one of them.
//!
//! The rows are in `catalog/machines`, one file a vendor, each with its source. Apple computers are made from a
//! table of chips and memory sizes, cloud instance types are an accelerator and a count. Names are ids, aliases,
//! driver names and label values; a name that stands for machines of different memory is ambiguous, never a guess.

mod rows;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;

use self::rows::{
    AppleFile, Chip, FILES, Instance, InstanceGroup, VendorFile, WorkingSet, bytes_per_second, parse,
};
use super::name::{bare_key, key, split_count};
use super::{Machine, MachineKind};

const GIB: u64 = 1 << 30;

/// How sure a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A data sheet, or an analogy.
    Low,
    /// One observation, or a data sheet that observations support.
    Medium,
    /// Observed.
    High,
}

impl Confidence {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What a row's memory figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The driver's total.
    Driver,
    /// The total that a process gets from the runtime.
    Runtime,
    /// The marketed size taken as GiB: an upper bound, so that nothing is refused that would run.
    Specified,
}

/// One machine of the catalog: a [`Machine`] of count 1, and the names it goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The machine.
    pub machine: Machine,
    /// Who makes it; machines of one vendor stand in for each other.
    pub vendor: String,
    /// Commonly rented or owned: worth recommending.
    pub common: bool,
    /// Names as the driver prints them.
    pub driver_names: Vec<String>,
    /// Further names.
    pub aliases: Vec<String>,
    /// Values by label key (`nvidia.com/gpu.product`, ...).
    pub labels: BTreeMap<String, Vec<String>>,
    /// Kubernetes resources that count it.
    pub resources: Vec<String>,
    /// The size it is sold as.
    pub marketed_gb: u64,
    /// An architecture that is no CUDA compute capability (`gfx942`).
    pub architecture: Option<String>,
    /// What the memory figure is.
    pub basis: Basis,
    /// Where the memory figure comes from.
    pub source: String,
    /// How sure it is.
    pub confidence: Confidence,
    /// What else to know.
    pub note: Option<String>,
}

/// Where a machine is at home. Ascending: what a larger one of may stand in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// In a laptop.
    Laptop,
    /// A consumer's card, or a computer on a desk.
    Desktop,
    /// A workstation's card.
    Workstation,
    /// A server's accelerator.
    Datacenter,
}

impl Entry {
    /// Where it is at home, told from how makers name their lines.
    pub fn segment(&self) -> Segment {
        let named = |words: &[&str]| {
            let mut names = self.driver_names.iter();
            names.any(|name| words.iter().any(|word| name.contains(word)))
        };
        if named(&["Laptop", "Max-Q"]) {
            Segment::Laptop
        } else if named(&["GeForce", "TITAN", "Radeon RX"]) || self.machine.unified_memory {
            Segment::Desktop
        } else if named(&["RTX", "Quadro", "Radeon", "Arc"]) {
            Segment::Workstation
        } else {
            Segment::Datacenter
        }
    }

    /// Every name it goes by, the id first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.machine.id)
            .chain(&self.driver_names)
            .chain(&self.aliases)
            .chain(self.labels.values().flatten())
            .map(String::as_str)
    }
}

/// A label key under which manifests name an accelerator.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelKey {
    /// The key.
    pub key: String,
    /// What its values mean.
    pub meaning: String,
    /// Values seen.
    pub examples: Vec<String>,
    /// Who says so.
    pub source: String,
}

/// A name that no machine has, or that several different machines have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The name as written.
    pub name: String,
    /// Several machines have the name: `suggestions` are these.
    pub ambiguous: bool,
    /// Names that would resolve, the best first.
    pub suggestions: Vec<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = self.suggestions.join(", ");
        match (self.ambiguous, self.suggestions.is_empty()) {
            (true, _) => write!(f, "`{}` may be any of {list}", self.name),
            (false, true) => write!(f, "no machine is named `{}`", self.name),
            (false, false) => write!(f, "no machine is named `{}`; did you mean {list}?", self.name),
        }
    }
}

impl std::error::Error for Unknown {}

/// Every machine, by every name.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: Vec<Entry>,
    chips: Vec<Chip>,
    working_sets: Vec<WorkingSet>,
    apple_source: String,
    /// Positions in `entries` by [`key`] of each name.
    by_name: BTreeMap<String, Vec<usize>>,
    /// The same by [`bare_key`].
    by_bare_name: BTreeMap<String, Vec<usize>>,
    instances: OnceLock<BTreeMap<String, Instance>>,
    labels: OnceLock<Vec<LabelKey>>,
}

impl Catalog {
    /// The catalog inside the binary, read on first use.
    pub fn builtin() -> &'static Self {
        static CATALOG: OnceLock<Catalog> = OnceLock::new();
        // The rows are part of the program and tested; were one broken, no machine would be known.
        CATALOG.get_or_init(|| Self::read().unwrap_or_default())
    }

    fn read() -> Result<Self, String> {
        let mut catalog = Self::default();
        for file in FILES.files() {
            match file.path().file_stem().and_then(|stem| stem.to_str()) {
                None | Some("instances" | "labels") => {}
                Some("apple") => catalog.add_apple(parse("apple.yaml")?),
                Some(stem) => catalog.add_vendor(parse(&format!("{stem}.yaml"))?),
            }
        }
        catalog.index();
        Ok(catalog)
    }

    fn add_vendor(&mut self, file: VendorFile) {
        for row in file.machines {
            self.entries.push(row.entry(&file.vendor, file.kind));
        }
    }

    fn add_apple(&mut self, file: AppleFile) {
        self.working_sets = file.working_sets;
        self.chips = file.chips;
        self.apple_source = file.source;
        for chip in &self.chips {
            for &memory_gb in &chip.memory_gb {
                let machine = self.apple(chip, memory_gb);
                self.entries.push(Entry {
                    driver_names: vec![format!("Apple {} {memory_gb}GB", chip.name.replace('-', " "))],
                    machine,
                    vendor: "apple".to_owned(),
                    common: true,
                    aliases: Vec::new(),
                    labels: BTreeMap::new(),
                    resources: Vec::new(),
                    marketed_gb: memory_gb,
                    architecture: None,
                    basis: Basis::Specified,
                    source: self.apple_source.clone(),
                    confidence: file.confidence,
                    note: None,
                });
            }
        }
    }

    fn index(&mut self) {
        for (at, entry) in self.entries.iter().enumerate() {
            for name in entry.names() {
                insert(&mut self.by_name, key(name), at);
                insert(&mut self.by_bare_name, bare_key(name), at);
            }
        }
    }

    /// Every machine, vendor by vendor in the order of the rows.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The row of an id.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.machine.id == id)
    }

    /// The label keys that name accelerators.
    pub fn label_keys(&self) -> &[LabelKey] {
        self.labels
            .get_or_init(|| parse("labels.yaml").unwrap_or_default())
    }

    /// The machine of a name: an id, an alias, a driver name, a label value, `m4-24gb`, a cloud instance type;
    /// with a count before or after it (`2x l4`, `L4:2`).
    ///
    /// # Errors
    /// No machine has the name, or machines of different memory have it.
    pub fn resolve(&self, name: &str) -> Result<Machine, Unknown> {
        self.resolve_with(&[], name)
    }

    /// Like [`Self::resolve`], with machines that a manifest or the settings file adds; these come first.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_with(&self, extra: &[Machine], name: &str) -> Result<Machine, Unknown> {
        // A manifest may name a machine so that it looks like a count; no name of the catalog does.
        let own = extra.iter().any(|machine| key(&machine.id) == key(name));
        let (count, bare) = split_count(name).filter(|_| !own).unwrap_or((1, name));
        let mut machine = self
            .one(extra, bare)
            .map_err(|ambiguous| self.unknown(extra, name, bare, ambiguous))?;
        machine.count = machine.count.saturating_mul(count);
        Ok(machine)
    }

    /// The machine of a value under a label key (`nvidia.com/gpu.product: Tesla-T4`, `skypilot: A100`): some
    /// values mean one machine under one key only. A `-SHARED` suffix (time slicing) is the whole device.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_label(&self, label: &str, value: &str) -> Result<Machine, Unknown> {
        let bare = value.strip_suffix("-SHARED").unwrap_or(value);
        let wanted = key(bare);
        let named = |entry: &&Entry| {
            let values = entry.labels.get(label);
            values.is_some_and(|values| values.iter().any(|value| key(value) == wanted))
        };
        let found: Vec<&Entry> = self.entries.iter().filter(named).collect();
        match pick(&found) {
            Some(found) => found.map_err(|ambiguous| self.unknown(&[], value, value, ambiguous)),
            None => self.resolve(bare),
        }
    }

    /// Machines of the same vendor with more memory each: first those of the same segment, ascending, then those
    /// of the segments above. Among equals the ones nearest to `than` come first. Of a segment with many cards
    /// only the common ones.
    pub fn larger<'a>(&'a self, than: &Machine) -> impl Iterator<Item = &'a Machine> + use<'a> {
        let known = self.entry(&than.id);
        let alike = |entry: &&Entry| {
            let machine = &entry.machine;
            known.map_or(machine.kind == than.kind, |known| known.vendor == entry.vendor)
                && machine.memory_bytes > than.memory_bytes.saturating_add(than.memory_bytes / 50)
                && machine.unified_memory == than.unified_memory
                && machine.apple_generation >= than.apple_generation
        };
        let segment = known.map_or(Segment::Desktop, Entry::segment);
        let mut larger: Vec<&Entry> = self.entries.iter().filter(alike).collect();
        larger.retain(|entry| entry.segment() >= segment);
        let common: Vec<Segment> = larger
            .iter()
            .filter(|entry| entry.common)
            .map(|entry| entry.segment())
            .collect();
        larger.retain(|entry| entry.common || !common.contains(&entry.segment()));
        let chip = than.id.rsplit_once('-').map_or("", |(chip, _)| chip).to_owned();
        larger.sort_by_key(|entry| {
            let machine = &entry.machine;
            let other_chip = !machine
                .id
                .strip_prefix(&chip)
                .is_some_and(|rest| rest.starts_with('-'));
            (
                entry.segment(),
                machine.memory_bytes,
                other_chip,
                machine.apple_generation,
            )
        });
        larger.into_iter().map(|entry| &entry.machine)
    }

    /// One name without a count. The error holds the ids it may mean, empty where it means none.
    fn one(&self, extra: &[Machine], name: &str) -> Result<Machine, Vec<String>> {
        let wanted = key(name);
        if let Some(machine) = extra.iter().find(|machine| key(&machine.id) == wanted) {
            return Ok(machine.clone());
        }
        let bare = bare_key(name);
        for (names, wanted) in [(&self.by_name, &wanted), (&self.by_bare_name, &bare)] {
            let found: Vec<&Entry> = names
                .get(wanted)
                .into_iter()
                .flatten()
                .filter_map(|at| self.entries.get(*at))
                .collect();
            if let Some(found) = pick(&found) {
                return found;
            }
        }
        if let Some(found) = self.apple_by_name(&bare) {
            return found;
        }
        match self.instances().get(&wanted) {
            Some(instance) => self.of_instance(instance).ok_or_else(Vec::new),
            None => Err(Vec::new()),
        }
    }

    /// `m4max128gb`: a chip and a memory size; a chip alone may be any of its sizes.
    fn apple_by_name(&self, bare: &str) -> Option<Result<Machine, Vec<String>>> {
        // Of `m4` and `m4max` the longer one that fits.
        let (chip, size) = self
            .chips
            .iter()
            .filter_map(|chip| Some((chip, bare.strip_prefix(&key(&chip.name))?)))
            .min_by_key(|(_, size)| size.len())?;
        if size.is_empty() {
            let sizes = chip
                .memory_gb
                .iter()
                .map(|size| format!("{}-{size}gb", chip.name));
            return Some(Err(sizes.collect()));
        }
        let digits = ["gib", "gb", "g"]
            .iter()
            .find_map(|unit| size.strip_suffix(unit))?;
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        let memory_gb: u64 = digits
            .parse()
            .ok()
            .filter(|gb| all_digits && (1..=65_536).contains(gb))?;
        Some(Ok(self.apple(chip, memory_gb)))
    }

    fn apple(&self, chip: &Chip, memory_gb: u64) -> Machine {
        let memory_bytes = memory_gb.saturating_mul(GIB);
        let sold = if chip.memory_gb.contains(&memory_gb) {
            String::new()
        } else {
            format!("; {} is not sold with {memory_gb} GB", chip.name)
        };
        Machine {
            id: format!("{}-{memory_gb}gb", chip.name),
            kind: MachineKind::AppleSilicon,
            count: 1,
            memory_bytes,
            runtime_memory_bytes: None,
            unified_memory: true,
            compute_capability: None,
            working_set_bytes: self.default_working_set(memory_bytes),
            apple_generation: generation(&chip.name),
            macos: None,
            bandwidth: bytes_per_second(chip.bandwidth_gb_s),
            provenance: format!("the unified memory{sold}"),
        }
    }

    /// The GPU limit in bytes that macOS sets by default for a memory size: the smaller share of the measured
    /// sizes on both sides of it.
    pub fn default_working_set(&self, memory_bytes: u64) -> Option<u64> {
        let size = |row: &&WorkingSet| row.memory_gb.saturating_mul(GIB);
        let below = self
            .working_sets
            .iter()
            .filter(|row| size(row) <= memory_bytes)
            .map(|row| row.memory_gb)
            .max();
        let above = self
            .working_sets
            .iter()
            .filter(|row| size(row) >= memory_bytes)
            .map(|row| row.memory_gb)
            .min();
        self.working_sets
            .iter()
            .filter(|row| Some(row.memory_gb) == below || Some(row.memory_gb) == above)
            .filter_map(|row| {
                let (part, of) = row.share;
                memory_bytes.saturating_mul(part).checked_div(of)
            })
            .min()
    }

    fn instances(&self) -> &BTreeMap<String, Instance> {
        self.instances.get_or_init(|| {
            let groups: Vec<InstanceGroup> = parse("instances.yaml").unwrap_or_default();
            groups
                .into_iter()
                .flat_map(InstanceGroup::instances)
                .map(|one| (key(&one.name), one))
                .collect()
        })
    }

    fn of_instance(&self, instance: &Instance) -> Option<Machine> {
        let mut machine = self.entry(&instance.accelerator)?.machine.clone();
        machine.count = instance.count;
        if instance.parts > 1 {
            machine.provenance = format!(
                "1/{} of one {}; {}",
                instance.parts, machine.id, machine.provenance
            );
            machine.id.clone_from(&instance.name);
            machine.memory_bytes = machine.memory_bytes.checked_div(instance.parts)?;
            machine.runtime_memory_bytes = machine
                .runtime_memory_bytes
                .and_then(|bytes| bytes.checked_div(instance.parts));
            machine.bandwidth = None;
        }
        machine.provenance = format!(
            "{}; {} has {} ({}, confidence {})",
            machine.provenance,
            instance.name,
            machine.count,
            instance.source,
            instance.confidence.name()
        );
        Some(machine)
    }

    fn unknown(&self, extra: &[Machine], name: &str, searched: &str, ambiguous: Vec<String>) -> Unknown {
        Unknown {
            name: name.to_owned(),
            ambiguous: !ambiguous.is_empty(),
            suggestions: if ambiguous.is_empty() {
                self.nearest(extra, searched)
            } else {
                ambiguous
            },
        }
    }

    /// Up to three names that look like `name`, the nearest first.
    fn nearest(&self, extra: &[Machine], name: &str) -> Vec<String> {
        let wanted = bare_key(name);
        if wanted.is_empty() {
            return Vec::new();
        }
        let known = self.by_bare_name.iter().filter_map(|(known, at)| {
            let entry = self.entries.get(*at.first()?)?;
            Some((known.as_str(), entry.machine.id.as_str()))
        });
        let instances = self
            .instances()
            .iter()
            .map(|(known, one)| (known.as_str(), one.name.as_str()));
        let extra: Vec<(String, &str)> = extra
            .iter()
            .map(|one| (bare_key(&one.id), one.id.as_str()))
            .collect();
        let extra = extra.iter().map(|(known, id)| (known.as_str(), *id));
        let mut scored: Vec<(f64, &str)> = known
            .chain(instances)
            .chain(extra)
            .map(|(known, id)| (likeness(&wanted, known), id))
            .filter(|(score, _)| *score > 0.65)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let mut names: Vec<String> = Vec::new();
        for (_, id) in scored {
            if !names.iter().any(|name| name == id) {
                names.push(id.to_owned());
            }
            if names.len() == 3 {
                break;
            }
        }
        names
    }
}

/// How alike two keys are, 0 to 1: edits by length, with a bonus where one begins with the other.
fn likeness(wanted: &str, known: &str) -> f64 {
    let edits = strsim::normalized_damerau_levenshtein(wanted, known);
    let prefix =
        wanted.len().min(known.len()) >= 3 && (known.starts_with(wanted) || wanted.starts_with(known));
    if prefix { 0.75 + edits / 4.0 } else { edits }
}

fn insert(names: &mut BTreeMap<String, Vec<usize>>, name: String, at: usize) {
    let places = names.entry(name).or_default();
    if !places.contains(&at) {
        places.push(at);
    }
}

/// The one machine that entries of one name stand for: the first, where they agree in what is reckoned with.
/// `None` for no entry; the ids where they differ.
fn pick(found: &[&Entry]) -> Option<Result<Machine, Vec<String>>> {
    let (first, others) = found.split_first()?;
    let mut machine = first.machine.clone();
    let same = |entry: &&Entry| {
        let other = &entry.machine;
        (other.kind, other.memory_bytes, other.compute_capability)
            == (machine.kind, machine.memory_bytes, machine.compute_capability)
    };
    if !others.iter().all(same) {
        return Some(Err(found.iter().map(|entry| entry.machine.id.clone()).collect()));
    }
    if !others.is_empty() {
        let ids: Vec<&str> = others.iter().map(|entry| entry.machine.id.as_str()).collect();
        machine.provenance = format!(
            "{}; the name is also that of {}",
            machine.provenance,
            ids.join(", ")
        );
    }
    Some(Ok(machine))
}

/// The number after the M of `m4-max`.
fn generation(chip: &str) -> Option<u32> {
    let number = chip.split('-').next()?.strip_prefix('m')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests;
