//! Files of variables: `.env` and what `env_file` names.
//!
//! Read as compose does (compose-go, `dotenv`): `NAME=value` and `export NAME=value` a line, quotes taken off, comments
//! after a blank left out, and references to variables before put in except in single quotes.

use std::sync::Arc;

use crate::manifest::command::{Environment, Interpolation, Text};
use crate::source::SourceFile;

/// Adds the variables of a file.
pub(super) fn read(file: &Arc<SourceFile>, environment: &mut Environment) {
    let whole = Text::of_source(file);
    let text = file.text();
    let mut start = text.len() - text.trim_start_matches('\u{feff}').len();
    while let Some(line) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let end = line.find('\n').map_or(text.len(), |at| start + at);
        if let Some((name, value)) = assignment(text, start, end) {
            let value = match value {
                Value::Plain(range) => {
                    let text = whole.slice(range);
                    Interpolation::Compose.apply(&text, environment)
                }
                Value::Literal(range) => whole.slice(range),
            };
            environment.set_text(name, value);
        }
        start = end + 1;
    }
}

enum Value {
    /// References in it are put in.
    Plain(std::ops::Range<usize>),
    /// As it stands.
    Literal(std::ops::Range<usize>),
}

/// The name and the value of the line between two bytes.
fn assignment(text: &str, start: usize, end: usize) -> Option<(&str, Value)> {
    let line = text.get(start..end)?;
    let body = line.trim_start();
    let body = body.strip_prefix("export ").unwrap_or(body).trim_start();
    let at = body.find(['=', ':'])?;
    let name = body.get(..at)?.trim();
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || !name.chars().all(valid) {
        return None;
    }
    let rest = body.get(at + 1..)?;
    let value = rest.trim_start();
    let from = end - value.len();
    let quoted = |quote: char| {
        let inside = value.strip_prefix(quote)?;
        let close = inside.find(quote)?;
        Some(from + 1..from + 1 + close)
    };
    if let Some(range) = quoted('\'') {
        return Some((name, Value::Literal(range)));
    }
    if let Some(range) = quoted('"') {
        return Some((name, Value::Plain(range)));
    }
    let plain = value
        .find(" #")
        .and_then(|at| value.get(..at))
        .unwrap_or(value)
        .trim_end();
    Some((name, Value::Plain(from..from + plain.len())))
}
