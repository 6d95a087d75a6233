//! Option files of engines: the YAML of vLLM's and SGLang's `--config`, and of TensorRT-LLM's options.

use super::text::Text;
use crate::engine::Engine;
use crate::engine::args::ParsedArgs;
use crate::source::tree::Node;

/// What an option file sets, by setting id.
pub fn option_file(_engine: Engine, _root: Node<'_>) -> ParsedArgs {
    ParsedArgs::default()
}

/// The same for a file that is part of another (a heredoc, a `ConfigMap`).
pub fn option_text(_engine: Engine, _text: &Text) -> ParsedArgs {
    ParsedArgs::default()
}
