//! Whether what is about to be deployed serves already, to the last file and value. So it is when a push is repeated whose
//! gateway was killed between the cut-over and the verdict, and when a machine deploys whatever it is told to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use magrathea_core::api::{DeployInfo, SourceInfo};
use magrathea_core::names::{AppId, ClusterName, LabelName, ReleaseNumber};
use magrathea_core::wire::Serving;

use super::choose::receive;
use super::failure::into_api;
use super::intake::Packing;
use super::layout::Site;
use super::previews::ensure_instance;
use super::views;
use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::db::apps::App;
use crate::db::deploys::Deploy;
use crate::db::instances::Instance;
use crate::db::{apps, deploys, instances, releases};
use crate::state::State;

/// How long the nodes may take to be back: they come with a gateway that has just started.
const NODES: Duration = Duration::from_secs(20);

/// A release of an instance's.
pub struct Made {
    instance: Instance,
    pub release: ReleaseNumber,
}

/// The deploy of a commit that is under way for a label on a cluster.
pub async fn find_deploying(
    state: &State,
    app: AppId,
    (label, cluster): (&LabelName, &ClusterName),
    commit: &str,
) -> Result<Option<Deploy>, ApiError> {
    let conn = state.db.conn().await?;
    let of_app = instances::list_app_instances(&conn, app).await?;
    for instance in of_app.iter().filter(|i| i.label == *label && i.cluster == *cluster) {
        let Some(deploy) = deploys::find_running(&conn, instance.id).await? else { continue };
        let Some(number) = deploy.info.release else { continue };
        let made = releases::load_release(&conn, instance.id, number).await?;
        if made.is_some_and(|made| made.commit.as_deref() == Some(commit)) {
            return Ok(Some(deploy));
        }
    }
    Ok(None)
}

/// The release that a label serves on a cluster, when it is said to be of this commit and was made with the values that are set now.
pub async fn find_made(
    state: &State,
    app: AppId,
    (label, cluster): (&LabelName, &ClusterName),
    commit: &str,
) -> Result<Option<Made>, ApiError> {
    let conn = state.db.conn().await?;
    let of_app = instances::list_app_instances(&conn, app).await?;
    for instance in of_app.into_iter().filter(|i| i.label == *label && i.cluster == *cluster) {
        let Some(serving) = releases::load_serving(&conn, instance.id).await? else { continue };
        let made = releases::load_release(&conn, instance.id, serving.release).await?;
        if made.is_none_or(|made| made.commit.as_deref() != Some(commit)) {
            continue;
        }
        let configured = releases::load_configured(&conn, instance.id, serving.release).await?;
        let now = apps::load_config_version(&conn, app).await?;
        if configured.is_some_and(|configured| configured.config_version == now) {
            return Ok(Some(Made { instance, release: serving.release }));
        }
    }
    Ok(None)
}

impl Made {
    /// Whether it was made from this very source, a plain tar, for where that would be deployed to, and serves by the
    /// router's own word. A commit's name alone proves nothing: whoever deploys with td says what they like.
    pub async fn serves<E: std::fmt::Display>(
        self,
        state: &Arc<State>,
        (actor, app): (&Actor, &App),
        info: &SourceInfo,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<bool, ApiError> {
        let Made { instance, release } = self;
        let received = receive(state, &instance.app_name, Packing::Plain, body).await?;
        let (resolved, cluster) = received.choose(state, &instance.app_name, info)?;
        // A preview may be another branch's, and lives longer for being deployed again.
        if resolved.preview.is_some() {
            ensure_instance(state, actor, app, &resolved, &cluster).await?;
        }
        if cluster != instance.cluster {
            return Ok(false);
        }
        let site = Site::new(state, instance).map_err(into_api)?;
        Ok(is_served(&site, release, &received.source.blob.sha256).await?.is_some())
    }
}

/// The deploy that brought what an instance serves, when that was made from this very source with the values that are set
/// now, serves by the router's own word, and nothing else is under way.
pub async fn find_same(site: &Site, source: &str) -> Result<Option<DeployInfo>, ApiError> {
    let (state, instance) = (&site.state, &site.instance);
    let conn = state.db.conn().await?;
    let Some(row) = releases::load_serving(&conn, instance.id).await? else { return Ok(None) };
    let configured = releases::load_configured(&conn, instance.id, row.release).await?;
    let now = apps::load_config_version(&conn, instance.app).await?;
    let is_current = configured.is_some_and(|configured| configured.config_version == now);
    if !is_current || deploys::find_running(&conn, instance.id).await?.is_some() {
        return Ok(None);
    }
    let Some(deploy) = deploys::find_bringer(&conn, instance.id, row.release).await? else { return Ok(None) };
    drop(conn);
    let serving = is_served(site, row.release, source).await?;
    Ok(serving.map(|serving| DeployInfo { serving: Some(serving), unchanged: true, ..deploy.info }))
}

/// What the router says, when all of it is this release, and that was made from this source.
async fn is_served(site: &Site, release: ReleaseNumber, source: &str) -> Result<Option<Serving>, ApiError> {
    let state = &site.state;
    let made_from = releases::load_source(&state.db.conn().await?, site.instance.id, release).await?;
    if made_from.is_none_or(|made_from| made_from != source) {
        return Ok(None);
    }
    let _ = tokio::time::timeout(NODES, state.engine.wait_ready(&site.needed_nodes())).await;
    let serving = views::ask(site).await;
    Ok(serving.filter(|serving| serving.release == Some(release) && views::is_up(serving)))
}
