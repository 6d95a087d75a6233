//! What a container runs, turned into engine invocations with settings: the one place that reads commands.
//!
//! In: image, entrypoint, arguments and environment as a format declares them, each a [`Text`] that knows the
//! place of every character. Out: one [`Invocation`] for each engine (or download) that the container starts.
//! Shell scripts are read, never run; what only a run would tell stays as written and is named as unresolved.
//! Which flags an engine has is data in `catalog/engines`, which image holds what is in `catalog/images.yaml`.

mod arguments;
mod devices;
mod docker;
mod environment;
mod expansion;
mod grammar;
mod images;
mod interpolation;
mod lexer;
mod options;
mod programs;
mod script;
mod shell;
mod start;
mod sums;
mod text;
mod variables;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;

pub use environment::{Environment, Variable};
pub use images::{ImageEngine, image_engine};
pub use interpolation::Interpolation;
pub use options::{option_file, option_text};
pub use text::Text;

use crate::engine::{Engine, Settings};
use crate::fact::Fact;
use crate::source::{Sources, Span};

/// What a container runs, as declared.
pub struct Launch<'a> {
    /// The image with its tag.
    pub image: Option<Fact<String>>,
    /// What replaces the image's entrypoint: `entrypoint` of compose, `command` of Kubernetes.
    pub entrypoint: Option<Words>,
    /// What follows it: `command` of compose, `args` of Kubernetes. Scripts of formats without an image's
    /// entrypoint (`SkyPilot`'s `run`, llama-swap's `cmd`) come here too, as [`Words::Shell`].
    pub arguments: Option<Words>,
    /// The container's environment, references among its variables resolved.
    pub environment: &'a Environment,
    /// The files that the texts come from.
    pub sources: &'a Sources,
    /// Files that the command may name (`--config /x.yaml`): their text by path.
    pub files: &'a dyn Fn(&str) -> Option<Text>,
}

/// A command as a format holds it.
#[derive(Debug, Clone)]
pub enum Words {
    /// Words, taken as they are.
    List(Vec<Text>),
    /// A script that a shell runs (`SkyPilot`'s `run`). A text that is plainly one command is split like [`Words::Line`].
    Shell(Text),
    /// One command that no shell sees, split by a shell's rules for words (a compose string, llama-swap's `cmd`):
    /// line ends are blanks.
    Line(Text),
}

/// What an invocation is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// Serves a model.
    Serves,
    /// Fetches a model and ends.
    Downloads {
        /// What it fetches, as written.
        model: Fact<String>,
        /// The directory it puts the files in, where one is named.
        directory: Option<Fact<String>>,
    },
}

/// One engine, or one download, that the container starts.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The engine whose sizing applies.
    pub engine: Option<Fact<Engine>>,
    /// The server's name where it is none of oomlint's engines, or wraps one: `nim`, `vllm-omni`,
    /// `huggingfaceserver`, `tabbyapi`, `koboldcpp`, `localai`, ...
    pub server: Option<Fact<String>>,
    /// The engine's release, from the image's tag; as written there.
    pub version: Option<Fact<String>>,
    /// True where the image is somebody's own build of the engine, perhaps of a fork with flags of its own.
    pub is_own_build: bool,
    /// The engine's own words after its executable.
    pub args: Vec<Fact<String>>,
    /// What environment variables and option files set, by setting id. `args` win over them.
    pub settings: Settings,
    /// The model as the engine's rules give it.
    pub model: Option<Fact<String>>,
    /// How many accelerators the process sees, where a list of devices says so.
    pub visible_devices: Option<Fact<u64>>,
    /// Setting ids and fields (`model`, `context`, `image`) whose value is a variable without a value, a template
    /// or a placeholder.
    pub unresolved: Vec<String>,
    /// What is wrong with the command, in a sentence.
    pub problems: Vec<(Span, String)>,
    /// The characters of the command, else of the image.
    pub span: Option<Span>,
    /// What it is for.
    pub role: Role,
}

/// The engines and downloads that a container starts, in the order of its command.
pub fn invocations(launch: &Launch<'_>) -> Vec<Invocation> {
    start::start(launch)
}

/// Words, and what is wrong with them in sentences.
pub type SplitWords = (Vec<Fact<String>>, Vec<(Span, String)>);

/// Splits a text that holds flags only (`VLLM_ADDITIONAL_ARGS`, an `extraArgs` string) as a shell would, with the
/// variables of `environment`.
pub fn words(text: &Text, environment: &Environment) -> SplitWords {
    variables::words(text, environment)
}
