//! Releases as people see them, and going back to one.

use std::sync::Arc;

use magrathea_core::api::{DeployInfo, ProcessInfo, Promote, Release, ReleaseDiff, Rollback, Scale};
use magrathea_core::manifest::MOST_REPLICAS;
use magrathea_core::names::{AppName, ClusterName, LabelName, ReleaseNumber};
use magrathea_core::people::Verb;

use super::access::{
    InstanceName, Reach, find_app, find_instance, instance_of, instances_of, require, visible_instances,
};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::releases;
use crate::engine;
use crate::state::State;

/// The releases of an app's instances that somebody may see, instance by instance, the newest first.
pub async fn list(
    state: &State,
    actor: &Actor,
    app: &AppName,
    on: (Option<&LabelName>, Option<&ClusterName>),
    limit: u32,
) -> Result<Vec<Release>, ApiError> {
    let conn = state.db.conn().await?;
    let mut all = Vec::new();
    for instance in visible_instances(&conn, actor, app, on).await? {
        all.extend(releases::list_releases(&conn, &instance, None, limit).await?);
    }
    Ok(all)
}

pub async fn show(
    state: &State,
    actor: &Actor,
    name: &InstanceName,
    number: ReleaseNumber,
) -> Result<Release, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Look).await?;
    let found = releases::list_releases(&state.db.conn().await?, &instance, Some(number), 1).await?;
    found.into_iter().next().ok_or_else(|| {
        ApiError::new(Code::ReleaseNotFound, format!("{} ({}) has no release {number}", name.app, name.label))
            .with_hint("td release list shows which there are")
    })
}

/// What `to` has that `from` has not, and the other way round.
pub async fn diff(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    (from, to): (ReleaseNumber, ReleaseNumber),
) -> Result<ReleaseDiff, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Look).await?;
    engine::diff_releases(state, &instance, (from, to)).await
}

/// Begins to bring an earlier release back.
pub async fn rollback(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    Rollback { release, wait }: Rollback,
) -> Result<DeployInfo, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Deploy).await?;
    engine::rollback(state, actor, instance, release, wait.unwrap_or(0)).await
}

/// The process types of what serves.
pub async fn processes(state: &Arc<State>, actor: &Actor, name: &InstanceName) -> Result<Vec<ProcessInfo>, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Look).await?;
    engine::processes(state, instance).await
}

/// Begins to give what serves other numbers of replicas.
pub async fn scale(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    Scale { counts, wait }: Scale,
) -> Result<DeployInfo, ApiError> {
    let invalid = |message: String| Err(ApiError::new(Code::BodyInvalid, message));
    if counts.is_empty() {
        return invalid("no process type is named".to_owned());
    }
    for (process, count) in &counts {
        let least = u16::from(process.is_web());
        if let Some(count) = count.filter(|count| !(least..=MOST_REPLICAS).contains(count)) {
            return invalid(format!("{process} can have {least} to {MOST_REPLICAS} replicas, not {count}"));
        }
    }
    let instance = find_instance(&state.db.conn().await?, actor, name, Verb::Deploy).await?;
    engine::scale(state, actor, instance, counts, wait.unwrap_or(0)).await
}

/// Begins to deploy what one label serves under another, with that one's configuration. Of a label that serves on several
/// clusters, what it serves on the target's own is taken.
pub async fn promote(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    Promote { to, to_cluster, wait }: Promote,
) -> Result<DeployInfo, ApiError> {
    let to: LabelName = to.parse()?;
    let to_cluster: Option<ClusterName> = to_cluster.map(|cluster| cluster.parse()).transpose()?;
    let conn = state.db.conn().await?;
    let app = find_app(&conn, actor, &name.app, Verb::Look, Reach::Label(&name.label)).await?;
    let of_label = instances_of(&conn, &app, name).await?;
    let beside = of_label.iter().find(|instance| Some(&instance.cluster) == to_cluster.as_ref()).cloned();
    let from = match beside {
        Some(instance) => instance,
        None => instance_of(&conn, &app, name).await?,
    };
    if from.label == to && to_cluster.as_ref().is_none_or(|cluster| *cluster == from.cluster) {
        return Err(ApiError::new(Code::BodyInvalid, format!("{to} serves that already"))
            .with_hint("promote it to another label, or to another cluster of the same"));
    }
    require(actor, &app, Verb::Deploy, Reach::Label(&to))?;
    drop(conn);
    engine::promote(state, actor, from, (&to, to_cluster.as_ref()), wait.unwrap_or(0)).await
}
