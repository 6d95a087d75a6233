//! `images` of a kustomization: other names, tags and digests for the images of containers.

use super::build::Built;
use super::change;
use crate::fact::Fact;
use crate::source::tree::{Assembly, Node, Part};

/// One entry of `images`.
struct Image {
    name: String,
    new: Option<Fact<String>>,
    tag: Option<Fact<String>>,
    separator: char,
}

impl Image {
    fn new(entry: Node<'_>) -> Option<Self> {
        let fact = |key: &str| {
            let node = entry.get(key)?;
            Some(Fact::at(node.text()?.to_owned(), node.mention()))
        };
        let digest = fact("digest");
        let separator = if digest.is_some() { '@' } else { ':' };
        Some(Self {
            name: entry.get("name")?.text()?.to_owned(),
            new: fact("newName"),
            tag: digest.or_else(|| fact("newTag")),
            separator,
        })
    }

    /// What an image becomes; `None` for another image.
    fn of(&self, image: &str) -> Option<Fact<String>> {
        let end = image
            .find('@')
            .or_else(|| {
                image
                    .rfind(':')
                    .filter(|at| !image.get(*at..).unwrap_or("").contains('/'))
            })
            .unwrap_or(image.len());
        let (name, rest) = image.split_at_checked(end)?;
        (name == self.name).then(|| self.renamed(name, rest))
    }

    fn renamed(&self, name: &str, rest: &str) -> Fact<String> {
        let name = self.new.as_ref().map_or(name, |new| new.value.as_str());
        let text = match &self.tag {
            Some(tag) => format!("{name}{}{}", self.separator, tag.value),
            None => format!("{name}{rest}"),
        };
        let spans = [&self.new, &self.tag]
            .into_iter()
            .flatten()
            .filter_map(Fact::span);
        Fact::derived(text, spans)
    }
}

pub(super) fn images(root: Node<'_>, built: &mut Built<'_>) {
    let entries = root.get("images").into_iter().flat_map(Node::items);
    let images: Vec<Image> = entries.filter_map(Image::new).collect();
    let named = images.iter().map(|image| image.renamed(&image.name, ""));
    built.images.extend(named);
    if images.is_empty() {
        return;
    }
    let only = match images.as_slice() {
        [only] => Some(only.renamed(&only.name, "")),
        _ => None,
    };
    for object in &mut built.objects {
        let is_partial = object.origin.is_none();
        let mut change = |container: Node<'_>, assembly: &mut Assembly| -> Option<Vec<(Part, Part)>> {
            let image = match container.get("image").and_then(Node::text) {
                Some(image) => images.iter().find_map(|entry| entry.of(image))?,
                // The base would have named the only image that is renamed here.
                None if is_partial => only.clone()?,
                None => return None,
            };
            let span = image.span().unwrap_or_else(|| container.span());
            let value = assembly.scalar(span, &image.value);
            Some(change::with_key(container, assembly, "image", span, value))
        };
        if let Some(document) = change::containers(object.root(), &mut change) {
            object.become_changed(document);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_change_by_name_and_keep_what_is_not_given() {
        let image = |new: Option<&str>, tag: Option<&str>| Image {
            name: "host:5000/vllm".to_owned(),
            new: new.map(|name| Fact::default(name.to_owned(), "")),
            tag: tag.map(|tag| Fact::default(tag.to_owned(), "")),
            separator: ':',
        };
        let of = |image: &Image, text: &str| image.of(text).map(|fact| fact.value);
        let both = image(Some("vllm/vllm-openai"), Some("v1"));
        assert_eq!(
            of(&both, "host:5000/vllm:old").as_deref(),
            Some("vllm/vllm-openai:v1")
        );
        assert_eq!(of(&both, "vllm:old"), None);
        let name = image(Some("x"), None);
        assert_eq!(of(&name, "host:5000/vllm:old").as_deref(), Some("x:old"));
        assert_eq!(
            of(&name, "host:5000/vllm@sha256:1").as_deref(),
            Some("x@sha256:1")
        );
    }
}
