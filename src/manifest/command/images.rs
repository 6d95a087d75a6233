//! What an image holds, by its name: `catalog/images.yaml`.

use crate::engine::Engine;
use crate::fact::Fact;

/// What an image's name says.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageEngine {
    /// The engine whose sizing applies.
    pub engine: Option<Engine>,
    /// The server's name where it is none of oomlint's engines, or wraps one.
    pub server: Option<String>,
    /// False for an image that serves no model: routers, clients, embedding servers.
    pub serves: bool,
    /// The release, from the tag.
    pub version: Option<Fact<String>>,
    /// What the image runs when nothing replaces it.
    pub entrypoint: Vec<String>,
}

/// What is known of an image by its name, private mirrors of public images included.
pub fn image_engine(_image: &Fact<String>) -> Option<ImageEngine> {
    None
}
