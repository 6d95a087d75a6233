//! Models that Docker Model Runner serves: `models:` at the top level, and services whose provider is a model.
//!
//! Source: compose-spec `15-models.md` and `provider` in `05-services.md`; the runner's default engine is llama.cpp
//! (docs.docker.com, Docker Model Runner, "Inference engines").

use super::listed;
use super::project::Project;
use crate::engine::Engine;
use crate::fact::Fact;
use crate::manifest::{Deployment, Format, plain_keys};
use crate::source::tree::Node;

/// The models of a compose file.
pub(super) fn deployments(project: &Project<'_>) -> Vec<Deployment> {
    let root = project.input().root;
    let entries = root.get("models").map(Node::entries).unwrap_or_default();
    let listed = entries
        .into_iter()
        .filter_map(|(key, model)| deployment(project, key, model, model.get("model")?));
    let provided = project.services().into_iter().filter_map(|service| {
        let provider = service.get("provider")?;
        let is_model = provider.get("type").and_then(Node::text) == Some("model");
        let options = provider.get("options").filter(|_| is_model)?;
        deployment(project, service.key(), options, options.get("model")?)
    });
    listed.chain(provided).collect()
}

fn deployment(
    project: &Project<'_>,
    key: Node<'_>,
    options: Node<'_>,
    model: Node<'_>,
) -> Option<Deployment> {
    let name = Fact::at(key.text()?.to_owned(), key.span());
    let file = project.input().source().id();
    let mut found = Deployment::new(name, file, options.span(), Format::Compose);
    found.server = Some(Fact::derived("docker-model-runner".to_owned(), [key.span()]));
    found.engine = Some(Fact::derived(Engine::LlamaCpp, [key.span()]));
    plain_keys::declare_model(&mut found, project.fact(model)?);
    let context = options
        .get("context_size")
        .or_else(|| options.get("context-size"));
    if let Some(context) = context.and_then(|context| project.fact(context)) {
        plain_keys::declare(&mut found, "ctx_size", context);
    }
    let flags = options
        .get("runtime_flags")
        .or_else(|| options.get("runtime-flags"));
    for flag in flags.map(listed).unwrap_or_default() {
        found.args.extend(project.fact(flag));
    }
    Some(found)
}
