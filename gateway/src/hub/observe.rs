//! What agents saw and must not be lost: stored once, however often it is sent.

use jiff::Timestamp;
use magrathea_core::units;
use magrathea_core::usage::{Batch, Gap, GapReason};
use magrathea_core::wire::Observation;

use super::{HubEvent, NodeRef};
use crate::db::timeline::NewEntry;
use crate::db::usage::Added;
use crate::db::{Client, instances, nodes, timeline, usage};
use crate::state::State;

/// Stores an observation; false when it could not be, so that the agent sends it again later.
pub async fn store(state: &State, node: &NodeRef, sequence: u64, observation: Observation) -> bool {
    match try_store(state, node, sequence, &observation).await {
        Ok(new) => {
            if new {
                state.hub.tell(HubEvent::Observed(node.clone(), observation));
            }
            true
        }
        Err(error) => {
            tracing::error!(%node, error = format!("{error:#}"), "an observation could not be stored");
            false
        }
    }
}

async fn try_store(state: &State, node: &NodeRef, sequence: u64, observation: &Observation) -> anyhow::Result<bool> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    if !nodes::acknowledge(&tx, node, sequence).await? {
        return Ok(false);
    }
    match observation {
        Observation::ReplicaDied { slug, service, exit_code, at } => {
            if let Some(instance) = instances::load_instance_by_slug(&tx, slug).await? {
                let how = exit_code.map_or_else(String::new, |code| format!(" with status {code}"));
                let message = format!("a replica of {service} ended by itself{how} on {node} at {at:.0}");
                let entry = timeline::NewEntry::about(&instance, None, "replica.died", &message);
                timeline::append(&tx, entry).await?;
            }
        }
        Observation::DatabaseFull { slug, full, bytes, quota, at } => {
            let instance = instances::load_instance_by_slug(&tx, slug).await?;
            if let Some(instance) = instance.filter(|instance| instance.cluster == node.cluster) {
                let takes = format!("the database takes {} of {quota} at {at:.0}", units::size(*bytes));
                let (action, message) = match full {
                    true => ("database.closed", format!("{takes}: nothing more can be written, rows can be deleted")),
                    false => ("database.opened", format!("{takes}: it can be written to again")),
                };
                timeline::append(&tx, NewEntry::about(&instance, None, action, &message)).await?;
            }
        }
        Observation::Usage(batch) => add_usage(&tx, node, batch).await?,
    }
    tx.commit().await?;
    Ok(true)
}

/// Adds what a node counted, and says what may be missing or cannot be.
async fn add_usage(client: &impl Client, node: &NodeRef, batch: &Batch) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let Added { is_new, strangers } = usage::add_batch(client, node, batch, now).await?;
    if !is_new {
        return Ok(());
    }
    let tell = async |action: &str, message: &str| {
        let cluster = Some(node.cluster.as_str());
        timeline::append(client, NewEntry { action, cluster, message, ..NewEntry::default() }).await
    };
    for gap in &batch.gaps {
        tell("usage.gap", &format!("{node}: {gap}")).await?;
    }
    if !strangers.is_empty() {
        let requests = strangers.values().copied().fold(0, u64::saturating_add);
        let gap = Gap { from: now, until: now, reason: GapReason::Refused, requests: Some(requests) };
        usage::add_gap(client, node, &gap).await?;
        let names: Vec<&str> = strangers.keys().take(3).map(String::as_str).collect();
        let message = format!("{node}: {gap}: {} and {} more", names.join(", "), strangers.len() - names.len());
        tell("usage.refused", message.trim_end_matches(" and 0 more")).await?;
    }
    Ok(())
}

/// Puts a line on the timeline when what the node's report says of its trouble is new.
pub async fn note_trouble(state: &State, node: &NodeRef) {
    let Some(report) = state.hub.report(node) else { return };
    if let Err(error) = try_note_trouble(state, node, report.trouble.as_deref()).await {
        tracing::warn!(%node, error = format!("{error:#}"), "cannot note a node's trouble; it is tried again");
    }
}

async fn try_note_trouble(state: &State, node: &NodeRef, trouble: Option<&str>) -> anyhow::Result<()> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    if nodes::set_trouble(&tx, node, trouble).await? {
        let (action, message) = match trouble {
            Some(trouble) => ("node.trouble", format!("{node}: {trouble}")),
            None => ("node.recovered", format!("{node}: what was wrong is over")),
        };
        let cluster = Some(node.cluster.as_str());
        timeline::append(&tx, NewEntry { action, cluster, message: &message, ..NewEntry::default() }).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Notes when the node was last there.
pub async fn touch(state: &State, node: &NodeRef) {
    let touched = async { anyhow::Ok(nodes::touch_node(&state.db.conn().await?, node).await?) };
    if let Err(error) = touched.await {
        tracing::warn!(%node, error = format!("{error:#}"), "cannot note when the node was last seen");
    }
}
