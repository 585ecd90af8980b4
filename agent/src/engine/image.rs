//! Images: those of the layers, and releases made on top of them.

use std::collections::{BTreeMap, HashMap};

use bollard::body_try_stream;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, ImportImageOptions, ListImagesOptions, RemoveImageOptions,
    UploadToContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use magrathea_core::wire::{Built, HeldImage, ImageLayers};

use super::{Engine, found, is_missing, label};
use crate::fail::{Doing, Outcome, node};

/// Starts the names of containers that become images.
const HALF_MADE: &str = "release-";

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

    /// Makes an image of another with the archive's files on top. Not by the engine's builder: filling a container that
    /// never runs and keeping it takes half as long.
    pub async fn make_image<S>(&self, base: &str, files: S, labels: &BTreeMap<String, String>) -> Outcome<Built>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let doing = || "making the release image".to_owned();
        let name = self.prefix.name(&format!("{HALF_MADE}{}", uuid::Uuid::now_v7().simple()));
        let mut all = self.labels([]);
        all.extend(labels.clone());
        let body =
            ContainerCreateBody { image: Some(base.to_owned()), labels: Some(all), ..ContainerCreateBody::default() };
        let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        self.docker.create_container(Some(options), body).await.doing(doing)?;
        let made = async {
            let options = UploadToContainerOptions { path: "/".into(), ..UploadToContainerOptions::default() };
            self.docker.upload_to_container(&name, Some(options), body_try_stream(files)).await.doing(doing)?;
            let options = CommitContainerOptions { container: Some(name.clone()), pause: false, ..Default::default() };
            self.docker.commit_container(options, ContainerConfig::default()).await.doing(doing)
        };
        let made = made.await;
        self.remove_container(&name).await?;
        let id = made?.id;
        let image = self.docker.inspect_image(&id).await.doing(doing)?;
        Ok(Built { image: id, size: image.size.and_then(|size| size.try_into().ok()).unwrap_or_default() })
    }

    /// Removes what an agent before this one was making images of.
    pub async fn remove_half_made(&self) -> Outcome<()> {
        let name = format!("^/{}", self.prefix.name(HALF_MADE));
        let mut filters = self.own(&[]);
        filters.insert("name".into(), vec![name]);
        for container in self.list_containers(filters, true).await? {
            self.remove_container(&container.id.unwrap_or_default()).await?;
        }
        Ok(())
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

    /// The bytes of an image's own layer: a release is one on top of its stack's. One that is gone has none.
    pub async fn top_layer(&self, id: &str) -> Outcome<u64> {
        let history = found(self.docker.image_history(id).await, || format!("reading image {id}"))?;
        let top = history.and_then(|layers| layers.into_iter().next()).map(|layer| layer.size);
        Ok(top.and_then(|size| size.try_into().ok()).unwrap_or_default())
    }

    /// The first instance that runs each image, by its id.
    pub async fn image_users(&self) -> Outcome<BTreeMap<String, String>> {
        let mut users: BTreeMap<String, String> = BTreeMap::new();
        for container in self.list_containers(self.own(&[(label::SLUG, "")]), false).await? {
            let (Some(image), Some(labels)) = (container.image_id, container.labels) else { continue };
            let Some(slug) = labels.get(label::SLUG) else { continue };
            let user = users.entry(image).or_insert_with(|| slug.clone());
            if slug < user {
                user.clone_from(slug);
            }
        }
        Ok(users)
    }

    /// Removes a release image of this installation; what is another's, or in use, is an error.
    pub async fn remove_image(&self, id: &str) -> Outcome<bool> {
        let doing = || format!("removing image {id}");
        let Some(image) = found(self.docker.inspect_image(id).await, doing)? else { return Ok(false) };
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(label::OWNER).map(String::as_str) != Some(self.prefix.as_str()) {
            return Err(node(format!("image {id} was not made by this installation")));
        }
        // The swarm keeps what is left of hooks and runs whose service is gone.
        let ended = ["exited", "dead"].map(str::to_owned);
        let mut filters = self.own(&[]);
        filters.extend([("ancestor".to_owned(), vec![id.to_owned()]), ("status".to_owned(), ended.into())]);
        for container in self.list_containers(filters, true).await? {
            if let Some(container) = container.id {
                self.remove_container(&container).await?;
            }
        }
        match self.docker.remove_image(id, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error).doing(doing),
        }
    }

    /// What one of them is made of; none when there is none of the id.
    pub async fn describe_release(&self, id: &str) -> Outcome<Option<ImageLayers>> {
        let Some(image) = found(self.docker.inspect_image(id).await, || format!("reading image {id}"))? else {
            return Ok(None);
        };
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        if image.id.as_deref() != Some(id) || labels.get(label::OWNER).map(String::as_str) != Some(self.prefix.as_str())
        {
            return Ok(None);
        }
        let layers = image.root_fs.and_then(|root| root.layers).unwrap_or_default();
        Ok(Some(ImageLayers { layers, size: image.size.and_then(|size| size.try_into().ok()).unwrap_or_default() }))
    }

    /// How many of these layers, from the first on, the engine has in an image.
    pub async fn count_layers(&self, layers: &[String]) -> Outcome<usize> {
        let mut most = 0;
        for image in self.list_images(HashMap::new()).await? {
            let held = found(self.docker.inspect_image(&image.id).await, || format!("reading image {}", image.id))?;
            let held = held.and_then(|image| image.root_fs?.layers).unwrap_or_default();
            most = most.max(held.iter().zip(layers).take_while(|(held, wanted)| held == wanted).count());
        }
        Ok(most)
    }

    /// An image as the engine writes it: a tar with `manifest.json`.
    pub fn export_image(&self, id: &str) -> impl Stream<Item = Outcome<Bytes>> + Send + 'static {
        let doing = format!("reading image {id}");
        self.docker.export_image(id).map(move |bytes| bytes.doing(|| doing.clone()))
    }

    /// Has the engine read an image from a tar such as it writes. It takes layers that it has from there.
    pub async fn import_image<S>(&self, tar: S) -> Outcome<()>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let doing = || "taking an image in".to_owned();
        let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
        let mut said = std::pin::pin!(self.docker.import_image_stream(options, tar, None));
        while let Some(info) = said.next().await {
            if let Some(error) = info.doing(doing)?.error_detail {
                return Err(node(format!("taking an image in: {}", error.message.unwrap_or_default())));
            }
        }
        Ok(())
    }

    async fn list_images(&self, filters: HashMap<String, Vec<String>>) -> Outcome<Vec<bollard::models::ImageSummary>> {
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        self.docker.list_images(Some(options)).await.doing(|| "listing images".into())
    }
}
