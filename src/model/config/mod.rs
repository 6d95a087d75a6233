//! config.json: from its text to dimensions, layout, context, element type and parameters.
//!
//! In: the file. Out: [`ConfigFacts`], in which every value knows the characters that state it or the class
//! whose default it is. Knows nothing of weights on disk, machines or engines.

pub(crate) mod class;
mod context;
pub(crate) mod fields;
#[cfg(test)]
mod tests;

use crate::fact::Fact;
use crate::finding::{Finding, Label, Severity};
use crate::memory::layout::Layout;
use crate::model::census::Census;
use crate::model::{Dims, Dtype, Parameters, Refusal, layout, parameters};
use crate::source::tree::{Node, Shape, Style, Tree};
use crate::source::{SourceFile, Span};

use class::Class;
use fields::Fields;

/// Where a multimodal config keeps its text model.
const TEXT_SECTIONS: [&[&str]; 6] = [
    &["text_config"],
    &["llm_config"],
    &["language_config"],
    &["thinker_config", "text_config"],
    &["thinker_config"],
    &["decoder"],
];

/// How reports call a parameter count that was worked out from the dimensions.
pub const COUNTED_FROM: &str = "config.json";

/// How deep a config may nest before the rest is left out of its JSON copy.
const DEEPEST: usize = 64;

/// What config.json says of a model.
#[derive(Debug)]
pub struct ConfigFacts {
    /// `architectures[0]`.
    pub architecture: Option<Fact<String>>,
    /// `model_type` of the text model, or of the whole where the text model names none.
    pub model_type: Option<Fact<String>>,
    /// Dimensions of the text model.
    pub dims: Dims,
    /// Element type of the unquantized weights.
    pub dtype: Option<Fact<Dtype>>,
    /// Context in tokens that vLLM derives when nobody asks for one.
    pub max_context: Option<Fact<u64>>,
    /// Longest context in tokens that vLLM lets anyone ask for.
    pub longest_context: Option<Fact<u64>>,
    /// What the layers keep, or why that cannot be said.
    pub layout: Result<Layout, Refusal>,
    /// Parameters counted from the dimensions.
    pub parameters: Option<Parameters>,
    /// The tensors of the model in groups, where the family's formula is known.
    pub census: Option<Census>,
    /// The whole file, for engines that read fields of their own. `NaN` and infinities are null.
    pub json: serde_json::Value,
    /// Syntax errors and fields that cannot be right.
    pub findings: Vec<Finding>,
}

/// Reads config.json.
pub fn read(file: &SourceFile) -> ConfigFacts {
    let tree = Tree::parse(file);
    let syntax = tree.problems.first();
    if let Some(problem) = syntax {
        let place = file.position(problem.span.start());
        let message = format!(
            "config.json is not valid JSON: {} (line {}, column {})",
            problem.message, place.line, place.column
        );
        return unreadable("yaml-invalid", &message, "reading stopped here", problem.span);
    }
    let Some(document) = tree.documents.first() else {
        return unreadable(
            "yaml-invalid",
            "config.json is empty",
            "no JSON here",
            file.span(0..1),
        );
    };
    let root = document.root();
    if root.shape() != Shape::Mapping {
        let message = format!("config.json holds {}, expected an object", root.shape().words());
        return unreadable("config-incomplete", &message, "expected an object", root.span());
    }
    read_root(root, file.path())
}

fn unreadable(rule: &str, message: &str, label: &str, span: Span) -> ConfigFacts {
    let label = Label {
        span,
        text: label.to_owned(),
    };
    ConfigFacts {
        architecture: None,
        model_type: None,
        dims: Dims::default(),
        dtype: None,
        max_context: None,
        longest_context: None,
        layout: Err(Refusal {
            reason: message.to_owned(),
            span: Some(span),
        }),
        parameters: None,
        census: None,
        json: serde_json::Value::Null,
        findings: vec![Finding::at(rule, Severity::Error, message, label)],
    }
}

fn read_root(root: Node<'_>, path: &str) -> ConfigFacts {
    let text = text_section(root);
    let declared = text.get("model_type").or_else(|| root.get("model_type"));
    let model_type = declared
        .and_then(|node| Some(Fact::at(node.text()?.to_owned(), node.span())))
        .filter(|fact| !fact.value.is_empty());
    let fields = Fields::new(root, text, &class_name(root, text));
    let dims = layout::dims(&fields);
    let layout = layout::build(&fields, &dims);
    let (max_context, longest_context) = context::contexts(&fields);
    let counted = layout
        .is_ok()
        .then(|| parameters::count(&fields, &dims))
        .flatten();
    let (parameters, census) =
        counted.map_or((None, None), |(parameters, census)| (Some(parameters), census));
    let findings = with_what_is_missing(fields.take_findings(), &layout, path);
    ConfigFacts {
        architecture: architecture(root).or_else(|| architecture(text)),
        model_type,
        dtype: dtype(text).or_else(|| dtype(root)),
        max_context: Some(max_context),
        longest_context: Some(longest_context),
        layout,
        parameters,
        census,
        json: to_json(root, 0),
        findings,
        dims,
    }
}

/// A field that nobody supplies has no place; the finding about it names the file.
fn with_what_is_missing(
    mut findings: Vec<Finding>,
    layout: &Result<Layout, Refusal>,
    path: &str,
) -> Vec<Finding> {
    if let Err(Refusal { reason, span: None }) = layout
        && findings.is_empty()
    {
        findings.push(Finding::about("config-incomplete", Severity::Error, reason, path));
    }
    findings
}

/// The mapping that holds the text model's fields: a section of its own, or the whole.
fn text_section(root: Node<'_>) -> Node<'_> {
    TEXT_SECTIONS
        .iter()
        .filter_map(|path| root.at(path))
        .find(|node| node.shape() == Shape::Mapping)
        .unwrap_or(root)
}

/// The `model_type` whose class defaults hold for the text model: its own, else the one that the class of the
/// whole names (`qwen2_vl` keeps the text fields at the top level, `gemma3` nests a `gemma3_text`).
fn class_name(root: Node<'_>, text: Node<'_>) -> String {
    let named = |node: Node<'_>| {
        node.get("model_type")
            .and_then(|node| node.text().map(str::to_owned))
    };
    let mut name = named(text).or_else(|| named(root)).unwrap_or_default();
    for _ in 0..2 {
        match Class::of(&name).text {
            Some(inner) => name = inner,
            None => break,
        }
    }
    name
}

fn architecture(node: Node<'_>) -> Option<Fact<String>> {
    let first = node.get("architectures")?.items().next()?;
    Some(Fact::at(first.text()?.to_owned(), first.span()))
}

fn dtype(node: Node<'_>) -> Option<Fact<Dtype>> {
    let declared = node.get("dtype").or_else(|| node.get("torch_dtype"))?;
    Some(Fact::at(Dtype::parse(declared.text()?)?, declared.span()))
}

/// The tree as plain JSON; what JSON cannot hold is null.
fn to_json(node: Node<'_>, depth: usize) -> serde_json::Value {
    use serde_json::Value;
    if depth > DEEPEST {
        return Value::Null;
    }
    match node.shape() {
        Shape::Mapping => Value::Object(
            node.entries()
                .into_iter()
                .filter_map(|(key, value)| Some((key.text()?.to_owned(), to_json(value, depth + 1))))
                .collect(),
        ),
        Shape::Sequence => Value::Array(node.items().map(|item| to_json(item, depth + 1)).collect()),
        Shape::Scalar => scalar(node),
        Shape::Null | Shape::UnknownAlias => Value::Null,
    }
}

fn scalar(node: Node<'_>) -> serde_json::Value {
    use serde_json::Value;
    let Some(text) = node.text() else {
        return Value::Null;
    };
    if node.style() != Some(Style::Plain) {
        return text.into();
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "NaN" | "Infinity" | "-Infinity" => Value::Null,
        _ => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Value::Number),
    }
}
