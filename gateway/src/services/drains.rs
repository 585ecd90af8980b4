//! Drains: who may make them, and what stands in the timeline.

use magrathea_core::api::{DrainInfo, NewDrain};
use magrathea_core::logs::LogLayer;
use magrathea_core::people::Verb;
use uuid::Uuid;

use super::access::{InstanceName, find_instance};
use super::apps::tell;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::drains::{self, NewDrainRow, Sink};
use crate::drains::Target;
use crate::state::State;

/// Drains that one instance may have.
const MOST: usize = 10;

pub async fn list(state: &State, actor: &Actor, name: &InstanceName) -> Result<Vec<DrainInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let instance = find_instance(&conn, actor, name, Verb::Look).await?;
    Ok(drains::list_drains(&conn, instance.id).await?)
}

pub async fn add(state: &State, actor: &Actor, name: &InstanceName, new: NewDrain) -> Result<DrainInfo, ApiError> {
    let invalid = |why: String| ApiError::new(Code::DrainInvalid, why);
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let instance = find_instance(&tx, actor, name, Verb::Operate).await?;
    let target = Target::parse(&new.url).map_err(|error| {
        invalid(format!("the sink cannot be used: {error:#}"))
            .with_hint("as in https://logs.example/in, syslog://logs.example:601 or syslog+tls://logs.example:6514")
    })?;
    if new.layers.contains(&LogLayer::Build) {
        return Err(
            invalid("what deploys say is not drained".into()).with_hint("it stays in `td app logs --layer build`")
        );
    }
    if drains::list_drains(&tx, instance.id).await?.len() >= MOST {
        return Err(invalid(format!("an instance has at most {MOST} drains")));
    }
    let sink = Sink { url: new.url, ca: new.ca };
    let origin = crate::drains::Origin { app: name.app.to_string(), label: name.label.to_string() };
    crate::drains::Sink::new(&sink, origin, &state.drains_to)
        .map_err(|error| invalid(format!("the sink cannot be used: {error:#}")))?;
    let layers: Vec<LogLayer> = if new.layers.is_empty() {
        LogLayer::ALL.into_iter().filter(|layer| *layer != LogLayer::Build).collect()
    } else {
        new.layers
    };
    let shown = target.shown();
    let row =
        NewDrainRow { instance: instance.id, target: &shown, sink: &sink, layers: &layers, created_by: &actor.name };
    let info = drains::insert_drain(&tx, &state.seal, row).await?;
    tell(&tx, actor, (&name.app, Some(&name.label)), "drain.added", &format!("the log goes to {shown}, too")).await?;
    tx.commit().await?;
    Ok(info)
}

pub async fn remove(state: &State, actor: &Actor, name: &InstanceName, id: Uuid) -> Result<(), ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let instance = find_instance(&tx, actor, name, Verb::Operate).await?;
    let gone = drains::delete_drain(&tx, instance.id, id).await?;
    let target = gone.ok_or_else(|| ApiError::new(Code::DrainNotFound, "the instance has no such drain"))?;
    tell(&tx, actor, (&name.app, Some(&name.label)), "drain.removed", &format!("the log no longer goes to {target}"))
        .await?;
    Ok(tx.commit().await?)
}
