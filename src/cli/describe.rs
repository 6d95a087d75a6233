//! `oomlint schema` and `oomlint completions`: what other programs need to know of this one.

use clap::{Args, CommandFactory};
use include_dir::{Dir, include_dir};

use super::output;
use super::{CLEAN, FAILED};

/// The schemas, as the repository publishes them.
static SCHEMAS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/schemas");

/// How the name of a schema's file ends.
const END: &str = ".schema.json";

/// The arguments of `schema`.
#[derive(Debug, Args)]
pub(super) struct SchemaArguments {
    /// Which one
    #[arg(value_name = "NAME", default_value = "report")]
    name: String,
}

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: clap_complete::Shell,
}

pub(super) fn schema(arguments: &SchemaArguments) -> u8 {
    let file = SCHEMAS.get_file(format!("{}{END}", arguments.name));
    match file.and_then(|file| file.contents_utf8()) {
        Some(text) => show(text),
        None => {
            let names: Vec<&str> = names().collect();
            output::complain(&format!(
                "there is no schema `{}`; there is {}",
                arguments.name,
                names.join(", ")
            ));
            FAILED
        }
    }
}

/// The names of the schemas, sorted.
fn names() -> impl Iterator<Item = &'static str> {
    let mut names: Vec<&str> = SCHEMAS
        .files()
        .filter_map(|file| file.path().to_str()?.strip_suffix(END))
        .collect();
    names.sort_unstable();
    names.into_iter()
}

pub(super) fn completions(arguments: &CompletionsArguments) -> u8 {
    let mut script = Vec::new();
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "oomlint", &mut script);
    show(&String::from_utf8_lossy(&script))
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
