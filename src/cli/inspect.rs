//! `oomlint inspect`: one model, and what it would take on the machines given.

use clap::Args;

use super::check::{self, Scope};
use super::output::{self, Color, Output};
use super::{CLEAN, FAILED};
use crate::engine::{Engine, KvType};
use crate::finding::Severity;
use crate::report::OutputFormat;
use crate::run::inspect::{Inspection, inspect};

/// The arguments of `inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArguments {
    /// A directory with config.json, a .gguf file, or a name to look up in the model roots
    #[arg(value_name = "MODEL")]
    model: String,

    /// The serving engine
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    engine: Option<Engine>,

    /// The engine's release, for defaults that changed
    #[arg(long, value_name = "VERSION")]
    engine_version: Option<String>,

    /// Concurrent sequences. Repeatable
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = check::count)]
    batch: Vec<u64>,

    /// KV-cache type: fp16, int8, fp8, ... Repeatable
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = kv_type)]
    kv_cache: Vec<KvType>,

    /// Weight format: auto, as-published, fp16, int8, int4, ...
    #[arg(long, value_name = "FORMAT")]
    quantization: Option<String>,

    /// Write a report instead: json, human, ...; to the terminal or to FILE. Repeatable
    #[arg(long, value_name = "FORMAT[=FILE]", value_delimiter = ',')]
    output: Vec<Output>,

    #[command(flatten)]
    scope: Scope,

    /// When to use colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,

    /// The engine's own arguments, after `--`
    #[arg(last = true, value_name = "ENGINE_ARGS")]
    args: Vec<String>,
}

fn engine(text: &str) -> Result<Engine, String> {
    Engine::parse(text).ok_or_else(|| format!("the engines are {}", Engine::ALL.map(Engine::name).join(", ")))
}

fn kv_type(text: &str) -> Result<KvType, String> {
    KvType::parse(text).ok_or_else(|| format!("the types are {}", KvType::ALL.map(KvType::name).join(", ")))
}

pub(super) fn run(arguments: &InspectArguments) -> u8 {
    let prepared = match arguments.scope.prepare() {
        Ok(prepared) => prepared,
        Err(mistakes) => return check::give_up(mistakes, &check::human(), arguments.color),
    };
    let inspection = Inspection {
        model: arguments.model.clone(),
        engine: arguments.engine,
        engine_version: arguments.engine_version.clone(),
        batch: arguments.batch.clone(),
        kv_cache: arguments.kv_cache.clone(),
        quantization: arguments.quantization.clone(),
        args: arguments.args.clone(),
    };
    let report = match inspect(
        &inspection,
        &prepared.settings,
        &prepared.sources,
        &prepared.rules,
    ) {
        Ok(report) => report,
        Err(words) => {
            output::complain(&words);
            return FAILED;
        }
    };
    let written = if arguments.output.is_empty() {
        let options = output::options(arguments.color);
        let mut text = crate::report::inspect::inspect(&report, options.width);
        if !report.findings.is_empty() {
            text.push('\n');
            text.push_str(&crate::report::render(&report, OutputFormat::Human, &options));
        }
        output::print(&text).map_err(|words| vec![words])
    } else {
        output::write_all(&report, &arguments.output, arguments.color)
    };
    if let Err(failed) = written {
        for words in &failed {
            output::complain(words);
        }
        return FAILED;
    }
    let unreadable = report.models.is_empty()
        || report.findings.iter().any(|finding| {
            finding.severity == Severity::Error
                && matches!(&*finding.rule, "file-unreadable" | "yaml-invalid")
        });
    if unreadable { FAILED } else { CLEAN }
}
