//! What agents saw and must not be lost: stored once, however often it is sent.

use magrathea_core::wire::Observation;

use super::{HubEvent, NodeRef};
use crate::db::{instances, nodes, timeline};
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
    let Observation::ReplicaDied { slug, service, exit_code, at } = observation;
    if let Some(instance) = instances::load_instance_by_slug(&tx, slug).await? {
        let how = exit_code.map_or_else(String::new, |code| format!(" with status {code}"));
        let message = format!("a replica of {service} ended by itself{how} on {node} at {at:.0}");
        let entry = timeline::NewEntry::about(&instance, None, "replica.died", &message);
        timeline::append(&tx, entry).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Notes when the node was last there.
pub async fn touch(state: &State, node: &NodeRef) {
    let touched = async { anyhow::Ok(nodes::touch_node(&state.db.conn().await?, node).await?) };
    if let Err(error) = touched.await {
        tracing::warn!(%node, error = format!("{error:#}"), "cannot note when the node was last seen");
    }
}
