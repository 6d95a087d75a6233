//! The matrix of `oomlint table`: one row a scenario.

use comfy_table::{
    Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width,
};

use super::Report;
use super::units::{bytes, count};
use crate::scenario::Scenario;
use crate::source::sanitize;

/// How a column is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A name from a file: may be broken where the terminal is narrow. Told once above the table where every
    /// row has the same.
    Name,
    /// A setting: told once above the table where every row has the same.
    Setting,
    /// A number, to the right.
    Number,
    /// A word of ours.
    Word,
}

const COLUMNS: [(&str, Kind); 13] = [
    ("deployment", Kind::Name),
    ("model", Kind::Name),
    ("machine", Kind::Name),
    ("context", Kind::Number),
    ("batch", Kind::Setting),
    ("KV type", Kind::Setting),
    ("format", Kind::Word),
    ("recommended", Kind::Word),
    ("weights", Kind::Number),
    ("KV cache", Kind::Number),
    ("needs", Kind::Number),
    ("has", Kind::Number),
    ("verdict", Kind::Word),
];

/// Names are not broken into pieces shorter than this.
const SHORTEST_NAME: u16 = 12;

/// No lines but one under the header: every column counts on a narrow terminal.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// Every scenario of the report, in its order. Fits `width` columns where breaking names is enough for it (0
/// for no limit). Bytes are per accelerator; "needs" holds the likely overhead, "has" is what the engine may
/// use.
pub fn table(report: &Report, width: usize) -> String {
    if report.scenarios.is_empty() {
        return "no scenarios\n".to_owned();
    }
    let rows: Vec<[String; 13]> = report
        .scenarios
        .iter()
        .map(|scenario| row(report, scenario))
        .collect();
    let mut out = String::new();
    let mut table = Table::new();
    table.load_style(STYLE);
    let mut shown = Vec::new();
    for (at, (name, kind)) in COLUMNS.into_iter().enumerate() {
        match shared_value(&rows, at).filter(|_| matches!(kind, Kind::Name | Kind::Setting)) {
            Some(value) => {
                let separator = if out.is_empty() { "" } else { ", " };
                out = format!("{out}{separator}{name} {value}");
            }
            None => shown.push((at, name, kind)),
        }
    }
    let aligned = |text: &str, kind: Kind| {
        let side = if kind == Kind::Number {
            CellAlignment::Right
        } else {
            CellAlignment::Left
        };
        Cell::new(text).set_alignment(side)
    };
    table.set_header(shown.iter().map(|(_, name, kind)| aligned(name, *kind)));
    for row in &rows {
        table.add_row(
            shown
                .iter()
                .map(|(at, _, kind)| aligned(row.get(*at).map_or("", String::as_str), *kind)),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Ok(width @ 1..) = u16::try_from(width) {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width)
            .set_constraints(shown.iter().map(|(_, _, kind)| match kind {
                Kind::Name => ColumnConstraint::LowerBoundary(Width::Fixed(SHORTEST_NAME)),
                _ => ColumnConstraint::ContentWidth,
            }));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What every row has in a column, if there are several rows and all have the same.
fn shared_value(rows: &[[String; 13]], at: usize) -> Option<&str> {
    let (first, others) = rows.split_first()?;
    let value = first.get(at)?;
    let shared = !others.is_empty() && others.iter().all(|row| row.get(at) == Some(value));
    shared.then_some(value)
}

/// One scenario in words, column by column; safe to print.
fn row(report: &Report, scenario: &Scenario) -> [String; 13] {
    let words = Words::of(report, scenario);
    [
        words.deployment,
        words.model,
        words.machine,
        count(scenario.context),
        count(scenario.batch),
        scenario.kv_cache.name().to_owned(),
        words.quantization,
        words.recommended,
        words.weights,
        words.kv_cache,
        words.needs,
        words.has,
        words.verdict,
    ]
}

/// A scenario in words, for tables of any kind. Nothing in it can break a line or a terminal.
pub(super) struct Words {
    /// Name of the deployment.
    pub(super) deployment: String,
    /// Name of the model; `?` when it was not found.
    pub(super) model: String,
    /// Name of the machine; `?` when it is not known.
    pub(super) machine: String,
    /// Weight format of the estimate.
    pub(super) quantization: String,
    /// The recommended weight format, and whether not even that fits.
    pub(super) recommended: String,
    /// Bytes of weights.
    pub(super) weights: String,
    /// Reserved KV bytes with states.
    pub(super) kv_cache: String,
    /// Bytes needed with the likely overhead.
    pub(super) needs: String,
    /// Bytes the engine may use.
    pub(super) has: String,
    /// The verdict.
    pub(super) verdict: String,
}

impl Words {
    pub(super) fn of(report: &Report, scenario: &Scenario) -> Self {
        let amount = |of: fn(&crate::scenario::Estimate) -> u64| {
            scenario
                .estimate
                .as_ref()
                .map_or_else(|| "?".to_owned(), |estimate| bytes(of(estimate)))
        };
        let deployment = report.deployment_of(scenario);
        let declared_model = deployment.and_then(|deployment| deployment.model.as_ref());
        Self {
            deployment: deployment.map_or_else(String::new, |deployment| one_line(&deployment.name.value)),
            model: report
                .model_of(scenario)
                .map(|model| model.name.as_str())
                .or(declared_model.map(|fact| fact.value.as_str()))
                .map_or_else(|| "?".to_owned(), one_line),
            machine: report
                .machine_of(scenario)
                .map_or_else(|| "?".to_owned(), |machine| one_line(&machine.name())),
            quantization: one_line(&scenario.quantization),
            recommended: recommended(scenario),
            weights: amount(|estimate| estimate.weights_bytes),
            kv_cache: amount(|estimate| estimate.kv_cache_bytes.saturating_add(estimate.state_bytes)),
            needs: amount(|estimate| estimate.required_bytes),
            has: amount(|estimate| estimate.usable_bytes),
            verdict: scenario.verdict().word().replace('_', " "),
        }
    }
}

/// `int4`, `int4 (no fit)`, `?`.
fn recommended(scenario: &Scenario) -> String {
    match &scenario.recommended {
        Some(best) if best.fits => one_line(&best.name),
        Some(best) => one_line(&best.name) + " (no fit)",
        None => "?".to_owned(),
    }
}

/// Text from a file in one printable line.
pub(super) fn one_line(text: &str) -> String {
    sanitize(text).replace(['\n', '\t'], " ")
}
