//! Instances that live for a time: made for a branch by a deploy, renewed by each further one, and taken away with their
//! branch or when their time is over. Any gateway of a database may do the latter; a mark in the store says which does.

use std::sync::Arc;
use std::time::Duration;

use magrathea_core::manifest::{Preview, Resolved};
use magrathea_core::names::{ClusterName, InstanceId};

use super::destroy::destroy;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::apps::App;
use crate::db::instances::{self, Instance};
use crate::db::previews::Period;
use crate::db::{Client, DbError, previews, timeline};
use crate::services::access::{InstanceName, instances_of};
use crate::state::State;

/// How often it is looked for previews whose time is over.
const LOOK: Duration = Duration::from_secs(2);

/// The instance that a configuration is for. That of a pattern is made within the cluster's bounds, and lives on for its
/// time; one that is a label's own stays from now on.
pub async fn ensure_instance(
    state: &Arc<State>,
    actor: &Actor,
    app: &App,
    resolved: &Resolved,
    cluster: &ClusterName,
) -> Result<Instance, ApiError> {
    let mut conn = state.db.conn().await?;
    let Some(preview) = &resolved.preview else {
        let instance = instances::ensure_instance(&conn, app.id, &resolved.label, cluster).await?;
        if previews::forget_preview(&conn, instance.id).await? {
            let message = "it is no longer a preview: it stays".to_owned();
            tell(&conn, Some(actor), &instance, "preview.kept", &message).await?;
        }
        return Ok(instance);
    };
    let tx = conn.transaction().await?;
    previews::lock_app(&tx, app.id).await?;
    let mut known = instances::list_app_instances(&tx, app.id).await?.into_iter();
    let known = known.find(|instance| instance.label == resolved.label && instance.cluster == *cluster);
    let (instance, is_new) = match known {
        Some(instance) => {
            check_own(&tx, &instance, resolved, preview).await?;
            (instance, false)
        }
        None => {
            check_room(state, &tx, app, cluster).await?;
            (instances::ensure_instance(&tx, app.id, &resolved.label, cluster).await?, true)
        }
    };
    if !previews::keep_preview(&tx, instance.id, preview).await? {
        return Err(ending(&instance));
    }
    if is_new {
        let message =
            format!("a preview of the branch {}, for {} after its last deploy", preview.branch, preview.expire);
        tell(&tx, Some(actor), &instance, "preview.created", &message).await?;
    }
    tx.commit().await?;
    Ok(instance)
}

/// Refuses to make a preview of what is not, or is another branch's.
async fn check_own(
    client: &impl Client,
    instance: &Instance,
    resolved: &Resolved,
    preview: &Preview,
) -> Result<(), ApiError> {
    let label = &resolved.label;
    let taken = |message: String| Err(ApiError::new(Code::NameTaken, message));
    match previews::load_preview(client, instance.id).await? {
        None => taken(format!("the instance {label} is no preview, and is not made one: previews expire")),
        Some(stored) if stored.is_ending => Err(ending(instance)),
        Some(stored) if resolved.branch.is_some() && stored.branch != preview.branch => {
            let error = taken(format!("the label {label} belongs to the branch {} already", stored.branch));
            let hint =
                format!("rename the branch {}, or take the other away: td preview destroy {label}", preview.branch);
            error.map_err(|error| error.with_hint(hint))
        }
        Some(_) => Ok(()),
    }
}

fn ending(instance: &Instance) -> ApiError {
    ApiError::new(Code::Locked, format!("the preview {} is being taken away", instance.label))
        .with_hint("try again in a moment: it is made anew")
}

async fn check_room(state: &State, client: &impl Client, app: &App, cluster: &ClusterName) -> Result<(), ApiError> {
    let most = state.clusters().clusters.get(cluster).map_or(0, |spec| spec.previews);
    let count = previews::count_previews(client, app.id, cluster).await?;
    if count < i64::from(most) {
        return Ok(());
    }
    let message = format!("{} has {count} previews on {cluster}, which is the most that it may have", app.name);
    Err(ApiError::new(Code::LimitReached, message).with_hint(
        "delete branches that are done, or `td preview destroy LABEL`; the bound is `previews` of the cluster in \
         clusters.yml",
    ))
}

/// Takes an app's preview away with its data. A label that is not a preview is left alone and refused.
pub async fn end_preview(
    state: &Arc<State>,
    actor: &Actor,
    app: &App,
    name: &InstanceName,
    why: &str,
) -> Result<(), ApiError> {
    let label = &name.label;
    let of_label = instances_of(&state.db.conn().await?, app, name).await?;
    for instance in of_label {
        if previews::load_preview(&state.db.conn().await?, instance.id).await?.is_none() {
            let message = format!("{} ({label}) on {} is no preview", app.name, instance.cluster);
            return Err(ApiError::new(Code::NotPreview, message)
                .with_hint(format!("an administrator can take it away: td app destroy --label {label}")));
        }
        if !previews::begin_end(&state.db.conn().await?, instance.id).await? {
            return Err(ending(&instance));
        }
        let id = instance.id;
        if let Err(error) = destroy(state, Some(actor), instance, why).await {
            previews::give_up_end(&state.db.conn().await?, id).await?;
            return Err(error);
        }
    }
    Ok(())
}

/// Tells of previews that are about to expire and takes away those that have, until the gateway ends.
pub async fn watch(state: Arc<State>) {
    while state.shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        if let Err(error) = look(&state).await {
            tracing::warn!(error = format!("{error:#}"), "looking for expired previews");
        }
    }
}

async fn look(state: &Arc<State>) -> anyhow::Result<()> {
    let conn = state.db.conn().await?;
    for (id, expires) in previews::claim_warnings(&conn).await? {
        let Some(instance) = instances::load_instance(&conn, id).await? else { continue };
        let message = format!(
            "the preview expires at {expires:.0}, and is destroyed then with its data; td preview extend {} 7d",
            instance.label
        );
        tell(&conn, None, &instance, "preview.expires", &message).await?;
    }
    let expired = previews::claim_expired(&conn).await?;
    drop(conn);
    for id in expired {
        let Some(instance) = instances::load_instance(&state.db.conn().await?, id).await? else {
            previews::forget_preview(&state.db.conn().await?, id).await?;
            continue;
        };
        let name = format!("{} ({})", instance.app_name, instance.label);
        let work = destroy(state, None, instance, "the preview has expired");
        match state.shutdown.run_until_cancelled(work).await {
            None => return Ok(()),
            Some(Ok(())) => tracing::info!(name, "an expired preview was taken away"),
            // It keeps its mark, so that it is tried again when that is stale.
            Some(Err(error)) => tracing::warn!(name, "an expired preview cannot be taken away yet: {error}"),
        }
    }
    Ok(())
}

async fn tell(
    client: &impl Client,
    actor: Option<&Actor>,
    instance: &Instance,
    action: &str,
    message: &str,
) -> Result<(), DbError> {
    let entry = timeline::NewEntry::about(instance, actor, action, message);
    timeline::append(client, entry).await
}

/// The memory that an instance was promised so far, in GiB-hours.
pub async fn load_memory_used(client: &impl Client, instance: InstanceId) -> Result<f64, DbError> {
    Ok(gib_hours(&previews::list_periods(client, instance).await?))
}

fn gib_hours(periods: &[Period]) -> f64 {
    let used = |period: &Period| {
        let hours = period.until.duration_since(period.from).as_secs_f64().max(0.0) / 3600.0;
        // Far from where the difference between integer and float would count.
        hours * period.memory.as_mib() as f64 / 1024.0
    };
    periods.iter().map(used).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use magrathea_core::units::ByteSize;

    #[test]
    fn memory_is_counted_in_gib_hours() {
        let period = |from: i64, until: i64, mib| Period {
            from: jiff::Timestamp::from_second(from).unwrap(),
            until: jiff::Timestamp::from_second(until).unwrap(),
            memory: ByteSize::mib(mib),
        };
        // Two replicas of 512 MiB for an hour, then one for half of one.
        let used = gib_hours(&[period(0, 3600, 1024), period(3600, 5400, 512)]);
        assert!((used - 1.25).abs() < 1e-9, "{used}");
    }
}
