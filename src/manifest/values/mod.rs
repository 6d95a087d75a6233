//! Values of Helm charts: files of their own, and inline in a Flux `HelmRelease`, an Argo `Application` or k3s'
//! `HelmChart`.
//!
//! A chart's values have no mark of their own. Each chart that serves models is known by keys that only it has; any
//! other by an image that serves. Subcharts stand under keys of their own, so every mapping is looked at; what is
//! `enabled: false` is not there.

mod app_template;
mod generic;
mod llm_d;
mod ollama;
mod production_stack;
mod recipes;
mod release;

use super::keys;
use super::{Declared, Deployment, Format, Input, custom};
use crate::fact::Fact;
use crate::source::tree::{Node, Shape};

/// Deepest nesting of subcharts that is looked at.
const MAX_DEPTH: usize = 6;

/// One mapping of values: a chart's own, a subchart's, or a section.
#[derive(Debug, Clone)]
struct Section<'t> {
    /// The mapping.
    node: Node<'t>,
    /// The key it stands under, or the release's name.
    name: Fact<String>,
    /// The file's format, where the chart has none of its own.
    format: Format,
    /// True where the text is known to be values: in a release, or in a file that is named so.
    certain: bool,
    /// How many keys lead to it.
    depth: usize,
}

impl<'t> Section<'t> {
    fn key(&self) -> &str {
        &self.name.value
    }

    /// The format of a chart that has one of its own; values in a release have the release's.
    fn format_or(&self, own: Format) -> Format {
        if self.format == Format::HelmValues {
            own
        } else {
            self.format
        }
    }

    /// A mapping below, under a key.
    fn below(&self, key: Node<'t>, node: Node<'t>) -> Self {
        let own = ["name", "nameOverride", "fullnameOverride"]
            .iter()
            .find_map(|key| node.get(key).and_then(keys::written));
        let name = Fact::at(key.text().unwrap_or("").to_owned(), key.span());
        Self {
            node,
            // The item of a list has no key of its own.
            name: if key.shape() == Shape::Scalar {
                name
            } else {
                own.unwrap_or_else(|| self.name.clone())
            },
            depth: self.depth.saturating_add(1),
            ..self.clone()
        }
    }
}

/// True for a file of values whose chart is known.
pub fn recognizes(input: &Input<'_>) -> bool {
    is_values(input.root) && !read(input).deployments.is_empty()
}

/// Reads a file of values.
pub fn read(input: &Input<'_>) -> Declared {
    let named = input.file.name().to_ascii_lowercase().contains("values");
    of_chart(
        input,
        input.root,
        Fact::derived(String::new(), [input.root.span()]),
        Format::HelmValues,
        named,
    )
}

/// True for a release with inline values.
pub fn recognizes_release(input: &Input<'_>) -> bool {
    release::recognizes(input)
}

/// Reads a release with inline values.
pub fn read_release(input: &Input<'_>) -> Declared {
    release::read(input)
}

/// True for values, scenarios or objects of llm-d.
pub fn recognizes_llm_d(input: &Input<'_>) -> bool {
    llm_d::recognizes(input)
}

/// Reads values, scenarios or objects of llm-d.
pub fn read_llm_d(input: &Input<'_>) -> Declared {
    llm_d::read(input)
}

/// False for what other tools write under keys that charts use too: objects, compose files, workflows.
fn is_values(root: Node<'_>) -> bool {
    const OTHERS: [&str; 12] = [
        "apiVersion",
        "kind",
        "services",
        "jobs",
        "on",
        "steps",
        "stages",
        "pipeline",
        "run",
        "AWSTemplateFormatVersion",
        "suite",
        "tests",
    ];
    root.shape() == Shape::Mapping && !OTHERS.iter().any(|key| root.get(key).is_some())
}

/// What a chart's values declare.
fn of_chart(
    input: &Input<'_>,
    root: Node<'_>,
    name: Fact<String>,
    format: Format,
    certain: bool,
) -> Declared {
    let mut declared = Declared::default();
    let section = Section {
        node: root,
        name,
        format,
        certain,
        depth: 0,
    };
    visit(&mut declared, input, &section);
    declared.deployments.iter_mut().for_each(name_it);
    declared
}

/// A deployment without a name is called by its model, else by its engine.
fn name_it(deployment: &mut Deployment) {
    if deployment.name.value.is_empty() {
        let name = deployment.model.as_ref().map(|model| model.value.clone());
        let name = name.or_else(|| deployment.engine_name().map(str::to_owned));
        deployment.name.value = name.unwrap_or_default();
    }
}

/// Reads a section by the first chart that knows it, and then what lies below.
fn visit(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) {
    let node = section.node;
    let off = node
        .get("enabled")
        .is_some_and(|enabled| enabled.as_bool() == Some(false));
    if off || section.depth > MAX_DEPTH {
        return;
    }
    let taken = chart(declared, input, section);
    for (key, value) in node.entries() {
        if taken.contains(&key.text().unwrap_or("")) {
            continue;
        }
        match value.shape() {
            Shape::Mapping => visit(declared, input, &section.below(key, value)),
            Shape::Sequence => {
                for item in value.items().filter(|item| item.shape() == Shape::Mapping) {
                    visit(declared, input, &section.below(value, item));
                }
            }
            _ => {}
        }
    }
}

/// Reads a section as what its keys say it is. Out come the keys that were read and hold no chart of their own.
fn chart(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>) -> &'static [&'static str] {
    let node = section.node;
    if node.at(&["servingEngineSpec", "modelSpec"]).is_some() {
        production_stack::read(declared, input, section);
        return &["servingEngineSpec", "cacheserverSpec", "routerSpec"];
    }
    if app_template::recognizes(section) {
        app_template::read(declared, input, section);
        return &["controllers", "service", "ingress", "persistence"];
    }
    if llm_d::is_model_service(node) {
        llm_d::model_service(declared, input, section);
        return &["decode", "prefill", "routing"];
    }
    if recipes::recognizes(node) {
        recipes::read(declared, input, section);
        return &["model", "job", "workload", "vllm", "sglang", "trtllm", "dynamo"];
    }
    if let Some(models) = node.get("catalog").filter(|models| is_kubeai_catalog(*models)) {
        kubeai_catalog(declared, input, section, models);
        return &["catalog"];
    }
    if ollama::recognizes(node) {
        ollama::read(declared, input, section);
        return &["ollama", "image"];
    }
    generic::read(declared, input, section);
    &[]
}

/// The catalog of KubeAI's chart of models: `url` and `resourceProfile` by name.
fn is_kubeai_catalog(models: Node<'_>) -> bool {
    models
        .pairs()
        .any(|(_, model)| model.get("resourceProfile").is_some() && model.get("engine").is_some())
}

fn kubeai_catalog(declared: &mut Declared, input: &Input<'_>, section: &Section<'_>, models: Node<'_>) {
    for (key, model) in models.entries() {
        let on = model.get("enabled").and_then(Node::as_bool) == Some(true);
        if on {
            let name = Fact::at(key.text().unwrap_or("").to_owned(), key.span());
            custom::kubeai::add(declared, input, section.format, name, model);
        }
    }
}
