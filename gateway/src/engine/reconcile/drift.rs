//! Looks now and then whether nodes that stay connected still hold what the plans say, and lays what differs: a service
//! that somebody removed or scaled by hand, a route that the router has lost, a certificate that was renewed. Where
//! nothing differs a node is asked what it holds, and its router what each instance serves; nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use magrathea_core::clusters::Cluster;
use magrathea_core::names::{ClusterName, InstanceId};
use magrathea_core::plan::{Plan, Resource, ServiceMode, Spec};
use magrathea_core::wire::{Inventory, ReadServing};

use super::{AT_ONCE, Standing, load_standing, prepare, shared_applier};
use crate::db::{deploys, plans, releases};
use crate::engine::apply::all_nodes;
use crate::engine::failure::Failure;
use crate::engine::layout::{Part, part_of};
use crate::hub::NodeRef;
use crate::state::State;

/// The longest time between two looks; half of it is the shortest.
const EVERY: Duration = Duration::from_secs(300);

/// Looks until the gateway ends.
pub async fn watch(state: Arc<State>) {
    while state.shutdown.run_until_cancelled(tokio::time::sleep(jittered(EVERY))).await.is_some() {
        for cluster in state.clusters().clusters.keys() {
            if state.shutdown.run_until_cancelled(check(&state, cluster)).await.is_none() {
                return;
            }
        }
    }
}

/// Between half of it and all of it, so that several gateways do not look at once.
fn jittered(pause: Duration) -> Duration {
    let random = uuid::Uuid::now_v7().as_u128() & 0xffff;
    pause / 2 + pause * u32::try_from(random).unwrap_or_default() / 0x2_0000
}

/// Services by name, with the number of tasks that each is to have.
type Held = BTreeMap<String, u16>;

/// Looks at one cluster. Nodes that are away or being prepared are laid when they are ready.
pub async fn check(state: &Arc<State>, name: &ClusterName) {
    let clusters = state.clusters();
    let Some(cluster) = clusters.clusters.get(name) else { return };
    if let Err(failure) = try_check(state, name, cluster).await {
        tracing::warn!(cluster = %name, "cannot compare the cluster with its plans: {failure}");
    }
}

async fn try_check(state: &Arc<State>, name: &ClusterName, cluster: &Cluster) -> Result<(), Failure> {
    let nodes = ready_nodes(state, name, cluster);
    if nodes.is_empty() {
        return Ok(());
    }
    let held = list_held(state, &nodes).await?;
    let plan = plans::load_cluster_plan(&state.db.conn().await?, name).await?;
    if plan.as_ref().is_some_and(|plan| lacks_service(plan, &held)) {
        tracing::warn!(cluster = %name, "a shared service is not there; laying them again");
        let applier = shared_applier(state, name, cluster);
        for node in &nodes {
            plan.iter().flat_map(|plan| &plan.resources).for_each(|resource| applier.forget(resource));
            prepare(state, node).await?;
        }
    }
    let serving = releases::list_serving(&state.db.conn().await?, name).await?;
    stream::iter(serving)
        .for_each_concurrent(AT_ONCE, async |instance| {
            if let Err(failure) = check_instance(state, instance, &nodes, &held).await {
                tracing::warn!(%instance, "cannot lay the instance as its plan says: {failure}");
            }
        })
        .await;
    Ok(())
}

fn ready_nodes(state: &State, name: &ClusterName, cluster: &Cluster) -> Vec<NodeRef> {
    let mut nodes = all_nodes(name, cluster);
    nodes.retain(|node| state.hub.is_connected(node) && state.engine.unready(std::slice::from_ref(node)).is_none());
    nodes
}

async fn list_held(state: &State, nodes: &[NodeRef]) -> Result<Held, Failure> {
    let mut held = Held::new();
    for node in nodes {
        let holdings = state.hub.call(node, Inventory {}, |_| {}).await;
        let holdings = holdings.map_err(|error| Failure::call(node, "node", error))?;
        held.extend(holdings.services.into_iter().map(|service| (service.name, service.wanted)));
    }
    Ok(held)
}

fn lacks_service(plan: &Plan, held: &Held) -> bool {
    plan.resources.iter().any(|resource| match &resource.spec {
        Spec::Service(service) => !held.contains_key(&service.name),
        _ => false,
    })
}

async fn check_instance(state: &Arc<State>, id: InstanceId, nodes: &[NodeRef], held: &Held) -> Result<(), Failure> {
    // A deploy has the hold to its end: nobody waits for it here.
    if deploys::find_running(&state.db.conn().await?, id).await?.is_some() {
        return Ok(());
    }
    let _hold = state.engine.hold(id).await;
    let Some(standing) = load_standing(state, id).await? else { return Ok(()) };
    let mut due = standing.differing(state, nodes, held).await;
    if due.iter().any(|resource| matches!(resource.spec, Spec::Service(_))) {
        // A deploy may have ended since the nodes were asked.
        due = standing.differing(state, nodes, &list_held(state, nodes).await?).await;
    }
    if due.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = due.iter().map(|resource| resource.key.as_str()).collect();
    let instance = &standing.site.instance;
    tracing::warn!(app = %instance.app_name, label = %instance.label, ?keys, "differs from the plan; laying it again");
    due.iter().for_each(|resource| standing.applier.forget(resource));
    standing.lay(&due).await
}

impl Standing {
    /// What must be laid again. All of it when a service is gone: who took it took what it stands on as well.
    async fn differing(&self, state: &Arc<State>, nodes: &[NodeRef], held: &Held) -> Vec<&Resource> {
        let resources = self.plan.resources.iter();
        if lacks_service(&self.plan, held) {
            return resources.filter(|resource| !matches!(part_of(resource), Part::Seed | Part::Assets)).collect();
        }
        let mut due = Vec::new();
        for resource in resources {
            let differs = match &resource.spec {
                Spec::Service(service) => match service.mode {
                    ServiceMode::Replicated(replicas) => held.get(&service.name) != Some(&replicas),
                    ServiceMode::Global => false,
                },
                Spec::Route(_) => self.has_other_route(state, resource, nodes).await,
                _ => false,
            };
            if differs {
                due.push(resource);
            }
        }
        due
    }

    /// Whether a router serves another release, or an older certificate than there is.
    async fn has_other_route(&self, state: &Arc<State>, route: &Resource, nodes: &[NodeRef]) -> bool {
        let slug = self.site.slug();
        let targets = self.applier.targets(route).unwrap_or_default();
        for node in targets.iter().filter(|node| nodes.contains(node)) {
            if self.applier.has_new_certificate(node, route) {
                return true;
            }
            match state.hub.call(node, ReadServing { slug: slug.clone() }, |_| {}).await {
                Ok(serving) if serving.release == Some(self.release) => {}
                Ok(_) => return true,
                Err(error) => tracing::info!(%node, slug, %error, "the router does not say what it serves"),
            }
        }
        false
    }
}
