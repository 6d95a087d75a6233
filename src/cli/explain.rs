//! `oomlint explain`, `oomlint rules` and `oomlint machines`: what the tool knows, in tables and words.

use clap::Args;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

use super::check::{Scope, give_up, human};
use super::output::{self, Color};
use super::{CLEAN, FAILED};
use crate::machine::MachineKind;
use crate::machine::catalog::Catalog;
use crate::nearest::nearest;
use crate::report::units;

/// The arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// The rule's id; with --facts a text that the lines must contain
    #[arg(value_name = "RULE", required_unless_present = "facts")]
    rule: Option<String>,

    /// List every fact that a rule may name: type, unit and meaning
    #[arg(long)]
    facts: bool,

    #[command(flatten)]
    scope: Scope,
}

/// The arguments of the listing commands.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Only those whose line contains this text
    #[arg(value_name = "TEXT")]
    filter: Option<String>,

    #[command(flatten)]
    scope: Scope,
}

pub(super) fn explain(arguments: &ExplainArguments) -> u8 {
    if arguments.facts {
        return show(&crate::rule::page::facts(arguments.rule.as_deref()));
    }
    let wanted = arguments.rule.as_deref().unwrap_or("");
    let prepared = match arguments.scope.prepare() {
        Ok(prepared) => prepared,
        Err(mistakes) => return give_up(mistakes, &human(), Color::Auto),
    };
    let Some(rule) = prepared.rules.get(wanted) else {
        let hint = match nearest(wanted, prepared.rules.ids()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`oomlint rules` lists them".to_owned(),
        };
        output::complain(&format!("there is no rule `{wanted}`; {hint}"));
        return FAILED;
    };
    show(&rule.explain())
}

pub(super) fn rules(arguments: &ListArguments) -> u8 {
    let prepared = match arguments.scope.prepare() {
        Ok(prepared) => prepared,
        Err(mistakes) => return give_up(mistakes, &human(), Color::Auto),
    };
    let mut table = list(&["rule", "severity", "group", "what it finds"]);
    for rule in prepared.rules.iter() {
        let row = [&*rule.id, rule.severity.word(), &rule.group, &rule.summary];
        add(&mut table, arguments, &row.map(str::to_owned));
    }
    show(&format!("{table}\n"))
}

pub(super) fn machines(arguments: &ListArguments) -> u8 {
    let prepared = match arguments.scope.prepare() {
        Ok(prepared) => prepared,
        Err(mistakes) => return give_up(mistakes, &human(), Color::Auto),
    };
    let mut table = list(&[
        "machine",
        "memory",
        "kind",
        "capability",
        "source of the memory figure",
    ]);
    let extra = prepared.settings.machines.iter();
    for machine in Catalog::builtin().iter().map(|entry| &entry.machine).chain(extra) {
        let capability = match (machine.compute_capability, machine.kind) {
            (Some((major, minor)), _) => format!("{major}.{minor}"),
            (None, MachineKind::AppleSilicon) => "unified memory".to_owned(),
            (None, _) => String::new(),
        };
        let row = [
            machine.name(),
            units::bytes(machine.memory_bytes),
            kind(machine.kind).to_owned(),
            capability,
            machine.provenance.clone(),
        ];
        add(&mut table, arguments, &row);
    }
    show(&format!("{table}\n"))
}

fn kind(kind: MachineKind) -> &'static str {
    match kind {
        MachineKind::Nvidia => "nvidia",
        MachineKind::Amd => "amd",
        MachineKind::AppleSilicon => "apple-silicon",
        MachineKind::Tpu => "tpu",
        MachineKind::Intel => "intel",
        MachineKind::Other => "other",
        MachineKind::Cpu => "cpu",
    }
}

/// No lines but one under the header.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

fn list(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(output::options(Color::Auto).width).unwrap_or(100));
    table.set_header(header.iter().copied());
    table
}

fn add(table: &mut Table, arguments: &ListArguments, row: &[String]) {
    let wanted = arguments.filter.as_ref().map(|text| text.to_ascii_lowercase());
    let line = row.join(" ").to_ascii_lowercase();
    if wanted.is_none_or(|wanted| line.contains(&wanted)) {
        table.add_row(row);
    }
}

fn show(text: &str) -> u8 {
    match output::print(text) {
        Ok(()) => CLEAN,
        Err(words) => {
            output::complain(&words);
            FAILED
        }
    }
}
