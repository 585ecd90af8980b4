//! The nodes of a cluster beside its manager: they enter its swarm, and take replicas once all that these need is there.

use std::sync::Arc;

use magrathea_core::clusters::{Cluster, Node};
use magrathea_core::names::ClusterName;
use magrathea_core::plan::{Plan, Spec};
use magrathea_core::wire::{Admit, Invite, Join, Joined};

use super::shared_applier;
use crate::db::{instances, plans, releases};
use crate::engine::apply::{UNHEARD, all_nodes, is_away, manager_of, suspend};
use crate::engine::carry::bring_image;
use crate::engine::failure::Failure;
use crate::engine::layout::Site;
use crate::hub::NodeRef;
use crate::state::State;

/// Whose swarm the node belongs to; none when it manages that itself.
pub fn manager_beside(node: &NodeRef, cluster: &Cluster) -> Option<NodeRef> {
    manager_of(&node.cluster, cluster).filter(|manager| manager != node)
}

/// Has the node make its swarm, or enter its manager's.
pub async fn join(state: &State, node: &NodeRef, cluster: &Cluster, spec: &Node) -> Result<Joined, Failure> {
    let manager = manager_beside(node, cluster);
    let entry = match &manager {
        Some(manager) => {
            let invited = state.hub.call(manager, Invite {}, |_| {}).await;
            Some(invited.map_err(|error| Failure::call(manager, "node", error))?)
        }
        None => None,
    };
    let others = match &manager {
        Some(_) => Vec::new(),
        None => cluster.nodes.keys().filter(|name| **name != node.node).cloned().collect(),
    };
    let layers = spec.layers.iter().copied().collect();
    let join = Join { advertise: spec.address, layers, zone: spec.zone.clone(), entry, others };
    state.hub.call(node, join, |_| {}).await.map_err(|error| Failure::call(node, "node", error))
}

/// Lays what of the cluster's plan is each node's own.
pub async fn lay_own(state: &Arc<State>, node: &NodeRef, cluster: &Cluster) -> Result<(), Failure> {
    let plan = plans::load_cluster_plan(&state.db.conn().await?, &node.cluster).await?;
    let plan = plan.ok_or_else(|| Failure::new("node", "the cluster's manager is not ready yet"))?;
    let applier = shared_applier(state, &node.cluster, cluster);
    for resource in &plan.resources {
        if applier.targets(resource)?.contains(node) {
            applier.ensure(resource, UNHEARD).await?;
        }
    }
    Ok(())
}

/// Brings the images of what serves and is spread: Swarm may start a replica on the node at any time from then on.
pub async fn bring_images(state: &Arc<State>, name: &ClusterName) -> Result<(), Failure> {
    let serving = releases::list_serving(&state.db.conn().await?, name).await?;
    for id in serving {
        let conn = state.db.conn().await?;
        let plan = plans::load_serving_plan(&conn, id).await?;
        let Some((image, plan)) = plan.as_ref().and_then(|plan| Some((spread_image(plan)?, plan))) else { continue };
        let Some(instance) = instances::load_instance(&conn, id).await? else { continue };
        drop(conn);
        let site = Site::new(state, instance)?;
        bring_image(&site, (image, &plan.resources), None, |line| tracing::info!(instance = %id, "{line}")).await?;
    }
    Ok(())
}

/// The image of a release whose replicas may be on any app node.
fn spread_image(plan: &Plan) -> Option<&str> {
    plan.resources.iter().find_map(|resource| match &resource.spec {
        Spec::Service(service) if service.spread => Some(service.image.as_str()),
        _ => None,
    })
}

/// Lets the node take replicas.
pub async fn admit(state: &State, node: &NodeRef, id: &str) -> Result<(), Failure> {
    let clusters = state.clusters();
    let Some(cluster) = clusters.clusters.get(&node.cluster) else { return Ok(()) };
    let (Some(manager), Some(spec)) = (manager_beside(node, cluster), cluster.nodes.get(&node.node)) else {
        return Ok(());
    };
    let admit = Admit { id: id.to_owned(), name: node.node.clone(), zone: spec.zone.clone() };
    let admitted = state.hub.call(&manager, admit, |_| {}).await;
    admitted.map_err(|error| Failure::call(&manager, "node", error))?;
    tracing::info!(%node, "the node takes replicas");
    Ok(())
}

/// Before anything is laid by a manager that has just come: nodes whose agents are not here get no new replicas.
pub async fn suspend_away(state: &State, name: &ClusterName, cluster: &Cluster) {
    for node in all_nodes(name, cluster).into_iter().filter(|node| is_away(state, cluster, node)) {
        if let Some(manager) = manager_beside(&node, cluster) {
            suspend(state, &manager, &node).await;
        }
    }
}

/// A node's agent went away.
pub async fn suspend_lost(state: Arc<State>, node: NodeRef) {
    let clusters = state.clusters();
    let manager = clusters.clusters.get(&node.cluster).and_then(|cluster| manager_beside(&node, cluster));
    if let Some(manager) = manager {
        suspend(&state, &manager, &node).await;
    }
}
