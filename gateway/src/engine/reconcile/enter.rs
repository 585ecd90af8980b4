//! The nodes of a cluster beside its manager: they enter its swarm, and take replicas once all that these need is there.

use std::sync::Arc;

use magrathea_core::clusters::{Cluster, Node};
use magrathea_core::names::ClusterName;
use magrathea_core::wire::{Admit, Invite, Join, Joined};

use super::shared_applier;
use crate::db::{instances, plans};
use crate::engine::apply::{
    UNHEARD, all_nodes, go_on_without, is_away, is_of_release, is_spread, manager_beside, manager_of, spread_image,
    suspend,
};
use crate::engine::carry::bring_image;
use crate::engine::failure::Failure;
use crate::engine::layout::Site;
use crate::hub::NodeRef;
use crate::state::State;

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
    // Until then the cluster's plan may be an earlier one.
    let manager = manager_of(&node.cluster, cluster).filter(|manager| state.engine.is_ready(manager));
    let plan = match manager {
        Some(_) => plans::load_cluster_plan(&state.db.conn().await?, &node.cluster).await?,
        None => None,
    };
    let plan = plan.ok_or_else(|| Failure::new("node", "the cluster's manager is not ready yet"))?;
    let applier = shared_applier(state, &node.cluster, cluster);
    for resource in &plan.resources {
        if applier.targets(resource)?.contains(node) {
            applier.ensure_on(node, resource, UNHEARD).await?;
        }
    }
    Ok(())
}

/// Brings what replicas need that Swarm may start on the node once it is admitted: the images and folders of what serves, and of
/// what deploys under way are about to start.
pub async fn bring_replicas_needs(state: &Arc<State>, node: &NodeRef) -> Result<(), Failure> {
    let wanted = plans::list_wanted(&state.db.conn().await?, &node.cluster).await?;
    for (id, plan) in wanted {
        let Some(image) = plan.resources.iter().find_map(spread_image) else { continue };
        let instance = instances::load_instance(&state.db.conn().await?, id).await?;
        let Some(instance) = instance else { continue };
        let site = Site::new(state, instance)?;
        let tell = |line| tracing::info!(instance = %id, "{line}");
        for (other, failure) in bring_image(&site, (image, &plan.resources), None, tell).await? {
            if other == *node {
                return Err(failure);
            }
            go_on_without(state, &site.cluster, &other, failure).await?;
        }
        let applier = site.applier(Default::default());
        for resource in plan.resources.iter().filter(|resource| is_spread(resource)) {
            match applier.ensure_on(node, resource, UNHEARD).await {
                Err(failure) if is_of_release(resource) => tracing::warn!(instance = %id, %node, "{failure}"),
                ensured => drop(ensured?),
            }
        }
    }
    Ok(())
}

/// Lets the node take replicas.
pub async fn admit(state: &State, node: &NodeRef, id: &str) -> Result<(), Failure> {
    let clusters = state.clusters();
    let Some(cluster) = clusters.clusters.get(&node.cluster) else { return Ok(()) };
    let (Some(manager), Some(spec)) = (manager_beside(node, cluster), cluster.nodes.get(&node.node)) else {
        return Ok(());
    };
    if !state.engine.is_ready(node) {
        return Err(Failure::new("node", format!("node {node} has failed meanwhile")));
    }
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
