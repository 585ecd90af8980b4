//! Images: those of the layers, and releases made on top of them.

use std::collections::{BTreeMap, HashMap};

use bollard::body_try_stream;
use bollard::query_parameters::{BuildImageOptions, ListImagesOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use magrathea_core::wire::{Built, HeldImage};

use super::{Engine, found, is_missing, label};
use crate::fail::{Doing, Outcome, node};

impl Engine {
    /// The newest layer and stack image of each name.
    pub(super) async fn layer_images(&self) -> Outcome<BTreeMap<String, String>> {
        let filters = HashMap::from([("label".to_owned(), vec![label::IMAGE.to_owned()])]);
        let mut newest: BTreeMap<String, (i64, String)> = BTreeMap::new();
        for image in self.list_images(filters).await? {
            // Release images inherit the label of the stack they stand on; so do images of build steps.
            if image.labels.contains_key(label::OWNER) || image.repo_tags.is_empty() {
                continue;
            }
            let Some(name) = image.labels.get(label::IMAGE) else { continue };
            match newest.get(name) {
                Some((created, _)) if *created >= image.created => {}
                _ => drop(newest.insert(name.clone(), (image.created, image.id))),
            }
        }
        Ok(newest.into_iter().map(|(name, (_, id))| (name, id)).collect())
    }

    /// Makes an image out of a build context whose `Dockerfile` needs nothing from outside.
    pub async fn build_image<S>(&self, context: S, labels: &BTreeMap<String, String>) -> Outcome<Built>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let doing = || "making the release image".to_owned();
        let mut all = self.labels([]);
        all.extend(labels.clone());
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".into(),
            q: true,
            rm: true,
            forcerm: true,
            labels: Some(all),
            networkmode: Some("none".into()),
            ..BuildImageOptions::default()
        };
        let mut id = None;
        {
            let mut progress = std::pin::pin!(self.docker.build_image(options, None, Some(body_try_stream(context))));
            while let Some(step) = progress.next().await {
                let step = step.doing(doing)?;
                if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
                    return Err(node(format!("{}: {error}", doing())));
                }
                let said = step.stream.as_deref().map(str::trim).filter(|said| said.starts_with("sha256:"));
                id = step.aux.and_then(|aux| aux.id).or_else(|| said.map(str::to_owned)).or(id);
            }
        }
        let id = id.ok_or_else(|| node("making the release image: the engine named no image"))?;
        let image = self.docker.inspect_image(&id).await.doing(doing)?;
        Ok(Built { image: id, size: image.size.and_then(|size| size.try_into().ok()).unwrap_or_default() })
    }

    /// The release images of this installation.
    pub async fn list_release_images(&self) -> Outcome<Vec<HeldImage>> {
        let held = self.list_images(self.own(&[])).await?.into_iter().map(|image| HeldImage {
            id: image.id,
            labels: image.labels.into_iter().collect(),
            size: image.size.try_into().unwrap_or_default(),
        });
        Ok(held.collect())
    }

    /// Removes a release image of this installation; what is another's, or in use, is an error.
    pub async fn remove_image(&self, id: &str) -> Outcome<bool> {
        let doing = || format!("removing image {id}");
        let Some(image) = found(self.docker.inspect_image(id).await, doing)? else { return Ok(false) };
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(label::OWNER).map(String::as_str) != Some(self.prefix.as_str()) {
            return Err(node(format!("image {id} was not made by this installation")));
        }
        match self.docker.remove_image(id, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error).doing(doing),
        }
    }

    async fn list_images(&self, filters: HashMap<String, Vec<String>>) -> Outcome<Vec<bollard::models::ImageSummary>> {
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        self.docker.list_images(Some(options)).await.doing(|| "listing images".into())
    }
}
