//! Where reports go: the terminal or files, several in one run.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use crate::report::{OutputFormat, RenderOptions, Report, render};

/// `FORMAT` or `FORMAT=FILE`, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) format: OutputFormat,
    pub(super) file: Option<PathBuf>,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = match text.split_once('=') {
            Some((_, "")) => return Err("the file name after `=` is missing".to_owned()),
            Some((name, file)) => (name, Some(PathBuf::from(file))),
            None => (text, None),
        };
        let format = OutputFormat::parse(name).ok_or_else(|| {
            let names: Vec<&str> = OutputFormat::ALL.iter().map(|format| format.name()).collect();
            format!("unknown format `{name}`; the formats are {}", names.join(", "))
        })?;
        Ok(Self { format, file })
    }
}

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Color {
    /// On a terminal that takes it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The options for text on the standard output.
pub(super) fn options(color: Color) -> RenderOptions {
    use std::io::IsTerminal;
    let terminal = std::io::stdout().is_terminal();
    let color = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => !matches!(
            anstream::AutoStream::choice(&std::io::stdout()),
            anstream::ColorChoice::Never
        ),
    };
    RenderOptions {
        color,
        width: width(terminal),
        links: terminal && color,
    }
}

/// Columns to fill: those of the terminal where `COLUMNS` says them, else 100.
fn width(terminal: bool) -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns
        .filter(|columns| terminal && (40..=200).contains(columns))
        .unwrap_or(100)
}

/// Writes every report. Files are written without colour. `Err` holds the words of each that failed.
pub(super) fn write_all(report: &Report, outputs: &[Output], color: Color) -> Result<(), Vec<String>> {
    let mut failed = Vec::new();
    for output in outputs {
        let result = match &output.file {
            Some(file) => {
                let plain = RenderOptions {
                    color: false,
                    width: 100,
                    links: false,
                };
                std::fs::write(file, render(report, output.format, &plain)).map_err(|error| {
                    format!("cannot write {}: {}", file.display(), crate::walk::plain(&error))
                })
            }
            None => print(&render(report, output.format, &options(color))),
        };
        failed.extend(result.err());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

/// Prints to the standard output. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!(
            "cannot write to the standard output: {}",
            crate::walk::plain(&error)
        )),
        _ => Ok(()),
    }
}

/// Says on the standard error why the tool could not do its job.
pub(super) fn complain(words: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "oomlint: {}", crate::source::sanitize(words));
}
