//! Releases as people see them, and going back to one.

use std::sync::Arc;

use magrathea_core::api::{DeployInfo, ProcessInfo, Promote, Release, ReleaseDiff, Rollback, Scale};
use magrathea_core::names::{AppName, LabelName, ReleaseNumber};
use magrathea_core::people::Verb;

use super::access::{Reach, find_app, find_instance, visible_instances};
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
    label: Option<&LabelName>,
    limit: u32,
) -> Result<Vec<Release>, ApiError> {
    let conn = state.db.conn().await?;
    let mut all = Vec::new();
    for instance in visible_instances(&conn, actor, app, label).await? {
        all.extend(releases::list_releases(&conn, &instance, None, limit).await?);
    }
    Ok(all)
}

pub async fn show(
    state: &State,
    actor: &Actor,
    (app, label): (&AppName, &LabelName),
    number: ReleaseNumber,
) -> Result<Release, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, (app, label), Verb::Look).await?;
    let found = releases::list_releases(&state.db.conn().await?, &instance, Some(number), 1).await?;
    found.into_iter().next().ok_or_else(|| {
        ApiError::new(Code::ReleaseNotFound, format!("{app} ({label}) has no release {number}"))
            .with_hint("td release list shows which there are")
    })
}

/// What `to` has that `from` has not, and the other way round.
pub async fn diff(
    state: &Arc<State>,
    actor: &Actor,
    place: (&AppName, &LabelName),
    (from, to): (ReleaseNumber, ReleaseNumber),
) -> Result<ReleaseDiff, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, place, Verb::Look).await?;
    engine::diff_releases(state, &instance, (from, to)).await
}

/// Begins to bring an earlier release back.
pub async fn rollback(
    state: &Arc<State>,
    actor: &Actor,
    place: (&AppName, &LabelName),
    Rollback { release, wait }: Rollback,
) -> Result<DeployInfo, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, place, Verb::Deploy).await?;
    engine::rollback(state, actor, instance, release, wait.unwrap_or(0)).await
}

/// The process types of what serves.
pub async fn processes(
    state: &Arc<State>,
    actor: &Actor,
    place: (&AppName, &LabelName),
) -> Result<Vec<ProcessInfo>, ApiError> {
    let instance = find_instance(&state.db.conn().await?, actor, place, Verb::Look).await?;
    engine::processes(state, instance).await
}

/// Most replicas of a process type.
const MOST_REPLICAS: u16 = 64;

/// Begins to give what serves other numbers of replicas.
pub async fn scale(
    state: &Arc<State>,
    actor: &Actor,
    place: (&AppName, &LabelName),
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
    let instance = find_instance(&state.db.conn().await?, actor, place, Verb::Deploy).await?;
    engine::scale(state, actor, instance, counts, wait.unwrap_or(0)).await
}

/// Begins to deploy what one label serves under another, with that one's configuration.
pub async fn promote(
    state: &Arc<State>,
    actor: &Actor,
    (app, label): (&AppName, &LabelName),
    Promote { to, wait }: Promote,
) -> Result<DeployInfo, ApiError> {
    let to: LabelName = to.parse()?;
    if *label == to {
        return Err(ApiError::new(Code::BodyInvalid, format!("{to} serves that already"))
            .with_hint("promote it to another label"));
    }
    let from = find_instance(&state.db.conn().await?, actor, (app, label), Verb::Look).await?;
    find_app(&state.db.conn().await?, actor, app, Verb::Deploy, Reach::Label(&to)).await?;
    engine::promote(state, actor, from, &to, wait.unwrap_or(0)).await
}
