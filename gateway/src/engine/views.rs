//! What the API tells about deploys and instances.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use magrathea_core::api::{AutomaticInfo, DeployInfo, InstanceInfo, PreviewInfo};
use magrathea_core::names::{AppId, DeployId, InstanceId, LabelName, Layer, ProcessName};
use magrathea_core::people::Verb;
use magrathea_core::wire::{ReadServing, Serving};

use super::apply::nodes_of;
use super::destroy::is_protected;
use super::layout::{Site, urls_of};
use super::previews::load_memory_used;
use super::quotas::quota_uses;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::instances::Instance;
use crate::db::{Client, apps, deploys, instances, previews, releases, scales, timeline};
use crate::services::access::{InstanceName, Reach, find_instance, require};
use crate::state::State;

/// How long a router may take to say what it serves.
const ASK: Duration = Duration::from_secs(3);
/// Instances that are asked about at once.
const AT_ONCE: usize = 16;

/// Which deploys are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Which {
    /// An app's.
    Of(AppId),
    /// All that are not over.
    Unfinished,
}

fn not_found(id: DeployId) -> ApiError {
    ApiError::new(Code::DeployNotFound, format!("there is no deploy {id}"))
}

/// One deploy, when the actor may do this with its label. One that they may not see does not exist.
pub async fn deploy_info(state: &Arc<State>, actor: &Actor, id: DeployId, verb: Verb) -> Result<DeployInfo, ApiError> {
    let conn = state.db.conn().await?;
    let info = deploys::load_deploy(&conn, id).await?.ok_or_else(|| not_found(id))?.info;
    let app = apps::load_app_of(&conn, InstanceId(info.instance)).await?.ok_or_else(|| not_found(id))?;
    let label: LabelName = info.label.parse().map_err(|_| not_found(id))?;
    require(actor, &app, Verb::Look, Reach::Label(&label)).map_err(|_| not_found(id))?;
    require(actor, &app, verb, Reach::Label(&label))?;
    Ok(info)
}

/// The deploys that somebody may see, the newest first.
pub async fn list_deploys(
    state: &Arc<State>,
    actor: &Actor,
    which: Which,
    limit: u32,
) -> Result<Vec<DeployInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let listed = match which {
        Which::Unfinished => deploys::list_unfinished(&conn, limit.into()).await?,
        Which::Of(app) => deploys::list_of_app(&conn, app, limit.into()).await?,
    };
    let visible = visible_instances(&conn, actor, None).await?;
    let visible: BTreeSet<_> = visible.into_iter().map(|instance| instance.id.0).collect();
    Ok(listed.into_iter().map(|deploy| deploy.info).filter(|info| visible.contains(&info.instance)).collect())
}

/// Stops a deploy before its cut-over.
pub async fn cancel(state: &Arc<State>, actor: &Actor, id: DeployId) -> Result<DeployInfo, ApiError> {
    let info = deploy_info(state, actor, id, Verb::Deploy).await?;
    let conn = state.db.conn().await?;
    if !deploys::request_cancel(&conn, id, &actor.name).await? {
        return Err(ApiError::new(Code::NotCancellable, "the deploy is over, or past the cut-over")
            .with_hint("deploy the earlier version again to go back"));
    }
    let message = format!("deploy {id} is to stop");
    let entry = timeline::NewEntry::about_deploy(&info, actor, "deploy.cancel", &message);
    timeline::append(&conn, entry).await?;
    drop(conn);
    state.engine.stop(id);
    deploy_info(state, actor, id, Verb::Look).await
}

/// Lets a release on trial serve everybody.
pub async fn promote_trial(state: &Arc<State>, actor: &Actor, id: DeployId) -> Result<DeployInfo, ApiError> {
    let info = deploy_info(state, actor, id, Verb::Deploy).await?;
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    if !deploys::request_promotion(&tx, id, &actor.name).await? {
        return Err(ApiError::new(Code::NotOnTrial, "the deploy has no release on trial")
            .with_hint("`td deploy info` tells how far it is; a trial begins with `td app deploy --canary 10`"));
    }
    let release = info.release.map(|release| release.to_string()).unwrap_or_default();
    let message = format!("{release} is to serve everybody");
    let entry = timeline::NewEntry::about_deploy(&info, actor, "deploy.promote", &message);
    timeline::append(&tx, entry).await?;
    tx.commit().await?;
    drop(conn);
    deploy_info(state, actor, id, Verb::Look).await
}

async fn visible_instances(conn: &impl Client, actor: &Actor, app: Option<AppId>) -> Result<Vec<Instance>, ApiError> {
    let mut listed = match app {
        None => instances::list_instances(conn).await?,
        Some(app) => instances::list_app_instances(conn, app).await?,
    };
    listed.retain(|instance| actor.may(Verb::Look, instance.place()));
    Ok(listed)
}

/// The instances that somebody may see, of an app or all, with what serves read back from their routers.
pub async fn instance_infos(
    state: &Arc<State>,
    actor: &Actor,
    app: Option<AppId>,
) -> Result<Vec<InstanceInfo>, ApiError> {
    let listed = visible_instances(&state.db.conn().await?, actor, app).await?;
    stream::iter(listed).map(|instance| info(state, instance)).buffered(AT_ONCE).try_collect().await
}

/// One instance, when somebody may see it.
pub async fn instance_info(state: &Arc<State>, actor: &Actor, name: &InstanceName) -> Result<InstanceInfo, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Look).await?;
    info(state, instance).await
}

async fn info(state: &Arc<State>, instance: Instance) -> Result<InstanceInfo, ApiError> {
    let conn = state.db.conn().await?;
    let row = releases::load_serving(&conn, instance.id).await?;
    let (release, resolved) = match row {
        Some(row) => (
            releases::load_release(&conn, instance.id, row.release).await?,
            releases::load_resolved(&conn, instance.id, row.release).await?,
        ),
        None => (None, None),
    };
    let running = deploys::find_running(&conn, instance.id).await?;
    let preview = match previews::load_preview(&conn, instance.id).await? {
        Some(stored) => Some(PreviewInfo {
            pattern: stored.pattern.to_string(),
            branch: stored.branch,
            expires: stored.expires,
            memory_gib_hours: load_memory_used(&conn, instance.id).await?,
        }),
        None => None,
    };
    let is_set = scales::load_scales(&conn, instance.id).await?.contains_key(&ProcessName::web());
    let replicas = resolved.as_ref().map(|resolved| &resolved.sections.app_layer.replicas);
    let automatic = replicas.and_then(|replicas| AutomaticInfo::new(replicas, is_set, jiff::Timestamp::now()));
    let driver = state.clusters().clusters.get(&instance.cluster).map(|cluster| cluster.storage.driver);
    let quotas = match resolved.as_ref().zip(driver) {
        Some((resolved, driver)) => quota_uses(&conn, &instance, &resolved.sections, driver).await?,
        None => Vec::new(),
    };
    let (created, absent_since) = (instance.created, instance.absent_since);
    let protected = is_protected(&instance.label, resolved.as_ref());
    drop(conn);
    let (id, app, label, cluster) =
        (instance.id, instance.app_name.to_string(), instance.label.to_string(), instance.cluster.to_string());
    // An instance whose cluster has left clusters.yml is still told about.
    let site = Site::new(state, instance).ok();
    let urls = site.as_ref().zip(resolved.as_ref()).map(|(site, resolved)| urls_of(site, resolved));
    let serving = match (&site, row) {
        (Some(site), Some(_)) => ask(site).await,
        _ => None,
    };
    Ok(InstanceInfo {
        id: id.0,
        app,
        label,
        cluster,
        protected,
        urls: urls.unwrap_or_default(),
        state: state_of(row.is_some(), serving.as_ref()).to_owned(),
        release,
        serving,
        deploy: running.map(|deploy| deploy.info.id),
        created,
        absent_since,
        automatic,
        quotas,
        preview,
    })
}

/// What the router says that it serves; none when it says nothing.
pub async fn ask(site: &Site) -> Option<Serving> {
    let node = nodes_of(&site.instance.cluster, &site.cluster, Layer::Routing).into_iter().next()?;
    if !site.state.hub.connected().contains(&node) {
        return None;
    }
    let call = site.state.hub.call(&node, ReadServing { slug: site.slug() }, |_| {});
    tokio::time::timeout(ASK, call).await.ok()?.ok()
}

fn state_of(has_release: bool, serving: Option<&Serving>) -> &'static str {
    let Some(serving) = serving else { return if has_release { "unknown" } else { "empty" } };
    let up = count_up(serving);
    match (serving.release, up) {
        (None, _) | (_, 0) => "down",
        (Some(_), up) if up < serving.replicas.len() => "degraded",
        _ => "serving",
    }
}

/// Whether all of what should serve does.
pub fn is_up(serving: &Serving) -> bool {
    !serving.replicas.is_empty() && count_up(serving) == serving.replicas.len()
}

fn count_up(serving: &Serving) -> usize {
    serving.replicas.iter().filter(|replica| replica.state == "up").count()
}
