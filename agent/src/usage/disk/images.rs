//! What kept releases take: each image's own layer, without the stack's below it, which all share.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::engine::{Engine, label};
use crate::fail::Outcome;

/// What images take by id. An image never changes: the engine is asked once.
#[derive(Debug, Default)]
pub struct Sizes(HashMap<String, u64>);

impl Sizes {
    /// Bytes by instance. An image counts for the instance that it was made for, where that lives on this node; one that was
    /// promoted from elsewhere counts for the first of those that run it.
    pub async fn code(&mut self, engine: &Engine, here: &BTreeSet<String>) -> Outcome<BTreeMap<String, u64>> {
        let images = engine.list_release_images().await?;
        let users = engine.image_users().await?;
        self.0.retain(|id, _| images.iter().any(|image| image.id == *id));
        let mut code: BTreeMap<String, u64> = BTreeMap::new();
        for image in images {
            let made_for = image.labels.get(label::SLUG).filter(|slug| here.contains(*slug));
            let Some(slug) = made_for.or_else(|| users.get(&image.id)) else { continue };
            let size = match self.0.get(&image.id) {
                Some(size) => *size,
                None => {
                    let size = engine.top_layer(&image.id).await?;
                    self.0.insert(image.id, size);
                    size
                }
            };
            *code.entry(slug.clone()).or_default() += size;
        }
        Ok(code)
    }
}
