//! The very image that one label serves, deployed under another label with that one's own configuration and values.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use magrathea_core::api::DeployInfo;
use magrathea_core::manifest::{self, Resolved, Stack};
use magrathea_core::names::{ClusterName, LabelName};

use super::choose::{check_cluster, choose_clusters, only_cluster, read_manifest};
use super::intake;
use super::pipeline::{Origin, Reused};
use super::previews::ensure_instance;
use super::redeploy::{Earlier, Why, nothing};
use super::turn::Reason;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::instances::Instance;
use crate::db::{apps, releases};
use crate::services::access::no_app;
use crate::state::State;

/// Begins it; it goes on whether or not the caller stays.
pub async fn promote(
    state: &Arc<State>,
    actor: &Actor,
    from: Instance,
    (to, to_cluster): (&LabelName, Option<&ClusterName>),
    wait: u32,
) -> Result<DeployInfo, ApiError> {
    let serving = releases::load_serving(&state.db.conn().await?, from.id).await?;
    let number = serving.ok_or_else(|| nothing(&from))?.release;
    let mut earlier = Earlier::load(state, &from, number).await?;
    let made_with = &earlier.configured.resolved;
    let resolved = settle_like(resolve(state, &earlier.source, to).await?, made_with)?;
    let differs = resolved.sections.build != made_with.sections.build;
    let cluster = only_cluster(&from.app_name, to, choose_clusters(state, &resolved, to_cluster)?)?;
    check_cluster(state, &cluster)?;
    let app = apps::load_app(&state.db.conn().await?, &from.app_name).await?;
    let app = app.ok_or_else(|| no_app(&from.app_name))?;
    let instance = ensure_instance(state, actor, &app, &resolved, &cluster).await?;
    let origin = Origin::Again(Reused {
        release: number,
        image: earlier.release.image.clone(),
        size: earlier.release.size,
        elsewhere: Some(from.cluster.clone()),
        config_version: None,
    });
    earlier.configured.resolved = resolved;
    let why = Why {
        message: earlier.release.message.clone(),
        reason: Reason::Told(format!("{number} of {} on {} is promoted to {to}", from.label, from.cluster)),
        warning: differs.then(|| format!("`build` of {to} differs: the image stays as {} built it", from.label)),
    };
    earlier.begin(state, Some(actor), instance, origin, why, wait).await
}

/// What the release's own magrathea.yml says of the other label.
async fn resolve(state: &State, source: &str, label: &LabelName) -> Result<Resolved, ApiError> {
    let archive = intake::blob_path(&state.blobs(), source);
    let name = manifest::FILE_NAME.to_owned();
    let mut texts = intake::read_texts(archive, BTreeSet::from([name.clone()])).await.context("reading the source")?;
    let (manifest, _) = read_manifest(texts.remove(&name).as_deref())?;
    manifest
        .label_for(Some(label.as_str()), None)
        .map_err(|error| ApiError::new(Code::LabelUnknown, format!("its magrathea.yml: {error}")))
}

/// The configuration with what the image was found to be where the file is silent.
fn settle_like(mut resolved: Resolved, like: &Resolved) -> Result<Resolved, ApiError> {
    let (app, image) = (&mut resolved.sections.app_layer, &like.sections.app_layer);
    let stack_of = |stack: Option<Stack>| stack.unwrap_or(Stack::Php);
    let other_version = app.version.as_ref().is_some_and(|version| image.version.as_ref() != Some(version));
    if app.stack.is_some_and(|stack| stack != stack_of(image.stack)) || other_version {
        let version = |version: &Option<String>| version.clone().unwrap_or_default();
        let message = format!(
            "the image runs on {:?} {}, the label {} asks for {:?} {}",
            stack_of(image.stack),
            version(&image.version),
            resolved.label,
            stack_of(app.stack),
            version(&app.version)
        );
        let hint = format!("build one for it: td app deploy --label {}", resolved.label);
        return Err(ApiError::new(Code::PlanInvalid, message).with_hint(hint));
    }
    app.stack = image.stack;
    app.version.clone_from(&image.version);
    if app.health.watch.is_none() {
        app.health.watch = image.health.watch;
    }
    if !resolved.origins.contains_key("app_layer.root") {
        app.root.clone_from(&image.root);
    }
    Ok(resolved)
}
