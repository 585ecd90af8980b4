//! Makes a node that has connected what its cluster's plans say: joins it, lays the shared services, then every
//! instance that serves; one beside the manager enters its swarm, and is admitted when it has what replicas need. Takes
//! no input but the stored plans, so it is the same after a reboot, a `make stop` or a lost connection. What comes to
//! differ while a node stays connected, `drift` finds.

mod drift;
mod enter;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use magrathea_core::clusters::Cluster;
use magrathea_core::manifest::Resolved;
use magrathea_core::names::{ClusterName, InstanceId, ReleaseNumber, WEB};
use magrathea_core::plan::{Plan, Resource, Subject};
use magrathea_core::wire::{DataFate, Joined};
use magrathea_layers::{ClusterInput, plan_cluster};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;

#[cfg(test)]
pub use self::drift::check;
use super::apply::{Applier, UNHEARD, all_nodes, is_spread, manager_beside, manager_of};
use super::failure::Failure;
use super::health::process_of;
use super::layout::{Part, Site, load_secrets_of, part_of};
use super::{history, pipeline, sweep};
use crate::actor::GATEWAY;
use crate::db::{deploys, instances, plans, releases, timeline};
use crate::hub::{HubEvent, NodeRef};
use crate::state::State;

/// Instances that are reconciled at once.
const AT_ONCE: usize = 4;
/// How long replicas that start again are waited for: a deploy that would mend them waits as long.
const HEALTHY: Duration = Duration::from_secs(15);
/// Between tries to prepare a node: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Before a node that failed is prepared anew.
const PUT_OFF: Duration = Duration::from_secs(3);

/// Watches nodes come and go, until the gateway ends.
pub async fn watch(state: Arc<State>) {
    let mut events = state.hub.subscribe();
    let mut clusters = state.clusters.clone();
    let mut put_off = state.engine.nodes_put_off();
    let mut running: HashMap<NodeRef, AbortHandle> = HashMap::new();
    let mut due = state.hub.connected();
    state.tasks.spawn(drift::watch(Arc::clone(&state)));
    loop {
        for node in due.drain(..) {
            let task = state.tasks.spawn(prepare_until_done(Arc::clone(&state), node.clone()));
            if let Some(before) = running.insert(node, task.abort_handle()) {
                before.abort();
            }
        }
        tokio::select! {
            () = state.shutdown.cancelled() => break,
            Ok(()) = clusters.changed() => {
                due = state.hub.connected();
                // Nobody goes by the cluster's plan as it was.
                due.iter().for_each(|node| state.engine.set_unready(node));
            }
            Ok(node) = put_off.recv() => {
                let task = state.tasks.spawn(prepare_again(Arc::clone(&state), node.clone()));
                if let Some(before) = running.insert(node, task.abort_handle()) {
                    before.abort();
                }
            }
            event = events.recv() => match event {
                Ok(HubEvent::Connected(node)) => {
                    state.engine.set_unknown(&node);
                    tell_later(&state, &node, "node.connected", "is connected");
                    due.push(node);
                }
                Ok(HubEvent::Lost(node)) => {
                    state.engine.set_unknown(&node);
                    tell_later(&state, &node, "node.lost", "is no longer connected; what it serves goes on");
                    let task = state.tasks.spawn(enter::suspend_lost(Arc::clone(&state), node.clone()));
                    if let Some(before) = running.insert(node, task.abort_handle()) {
                        before.abort();
                    }
                }
                Ok(HubEvent::Observed(..)) => {}
                Err(RecvError::Lagged(_)) => {
                    due = state.hub.connected();
                    due.iter().for_each(|node| state.engine.set_unknown(node));
                }
                Err(RecvError::Closed) => break,
            },
        }
    }
    for task in running.into_values() {
        task.abort();
    }
}

/// Puts a node's coming or going on the timeline.
fn tell_later(state: &Arc<State>, node: &NodeRef, action: &'static str, what: &str) {
    let (task, cluster, message) = (Arc::clone(state), node.cluster.clone(), format!("node {node} {what}"));
    state.tasks.spawn(async move {
        let entry =
            timeline::NewEntry { action, cluster: Some(cluster.as_str()), message: &message, ..Default::default() };
        let appended = async { timeline::append(&task.db.conn().await?, entry).await };
        if let Err(error) = appended.await {
            tracing::warn!(%error, "{message}; the timeline lacks it");
        }
    });
}

async fn prepare_until_done(state: Arc<State>, node: NodeRef) {
    let (mut wait, most) = RETRY;
    while let Err(failure) = prepare_all(&state, &node).await {
        tracing::warn!(%node, "cannot prepare the node: {failure}; trying again");
        if let Some(cause) = &failure.cause {
            tracing::warn!(%node, "{cause:#}");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(most);
    }
    sweep::sweep_later(&state, &node.cluster);
}

/// After a failure: it may go on for a while.
async fn prepare_again(state: Arc<State>, node: NodeRef) {
    tokio::time::sleep(PUT_OFF).await;
    if state.hub.is_connected(&node) {
        prepare_until_done(state, node).await;
    }
}

/// Everything that a node needs, in an order in which each step finds what it stands on.
async fn prepare_all(state: &Arc<State>, node: &NodeRef) -> Result<(), Failure> {
    let joined = prepare(state, node).await?;
    let clusters = state.clusters();
    let is_beside = clusters.clusters.get(&node.cluster).and_then(|cluster| manager_beside(node, cluster)).is_some();
    if is_beside {
        enter::bring_replicas_needs(state, node).await?;
    }
    reconcile_instances(state, &node.cluster).await;
    if is_beside {
        // Deploys have begun since.
        enter::bring_replicas_needs(state, node).await?;
        enter::admit(state, node, &joined.id).await?;
    }
    Ok(())
}

/// Joins the node, and lays the cluster's shared services when it is the manager.
async fn prepare(state: &Arc<State>, node: &NodeRef) -> Result<Joined, Failure> {
    let clusters = state.clusters();
    let Some(cluster) = clusters.clusters.get(&node.cluster) else {
        return Err(Failure::new("node", format!("clusters.yml has no cluster {}", node.cluster)));
    };
    let Some(spec) = cluster.nodes.get(&node.node) else {
        return Err(Failure::new("node", format!("clusters.yml has no node {node}")));
    };
    let joined = enter::join(state, node, cluster, spec).await?;
    state.hub.refresh(node).await.map_err(|error| Failure::call(node, "node", error))?;
    match manager_beside(node, cluster) {
        Some(_) => enter::lay_own(state, node, cluster).await?,
        None => {
            if joined.created {
                // The others are in a swarm that is no more.
                let others = all_nodes(&node.cluster, cluster).into_iter().filter(|other| other != node);
                others.filter(|other| state.hub.is_connected(other)).for_each(|other| state.engine.put_off(&other));
            }
            enter::suspend_away(state, &node.cluster, cluster).await;
            lay_shared(state, node, cluster, &joined).await?;
        }
    }
    state.engine.set_ready(node);
    tracing::info!(%node, "the node is ready");
    Ok(joined)
}

async fn lay_shared(state: &Arc<State>, node: &NodeRef, cluster: &Cluster, joined: &Joined) -> Result<(), Failure> {
    let old = plans::load_cluster_plan(&state.db.conn().await?, &node.cluster).await?;
    let plan = render(state, &node.cluster, cluster, joined.instance_gateway, old.as_ref())?;
    let applier = shared_applier(state, &node.cluster, cluster);
    for resource in &plan.resources {
        let key = &resource.key;
        applier.ensure(resource, UNHEARD).await.map_err(|mut failure| {
            failure.message = format!("{key}: {}", failure.message);
            failure
        })?;
    }
    if let Some(old) = &old {
        for gone in old.resources.iter().rev().filter(|resource| plan.get(&resource.key).is_none()) {
            applier.remove(gone, DataFate::Keep).await?;
        }
    }
    if old.is_none_or(|old| old.hash() != plan.hash()) {
        plans::insert_cluster_plan(&state.db.conn().await?, &node.cluster, &plan).await?;
        let message = format!("shared services of {}: generation {}", node.cluster, plan.generation);
        history::record_later(state, &node.cluster, "cluster".to_owned(), plan, GATEWAY, message);
    }
    Ok(())
}

/// For a cluster's shared services.
fn shared_applier(state: &Arc<State>, name: &ClusterName, cluster: &Cluster) -> Applier {
    Applier {
        state: Arc::clone(state),
        subject: format!("cluster {name}"),
        cluster_name: name.clone(),
        cluster: cluster.clone(),
        secrets: Default::default(),
    }
}

fn render(
    state: &State,
    name: &ClusterName,
    cluster: &Cluster,
    instance_gateway: std::net::IpAddr,
    old: Option<&Plan>,
) -> Result<Plan, Failure> {
    let images = manager_of(name, cluster).and_then(|node| state.hub.report(&node)).unwrap_or_default().images;
    let input = ClusterInput { cluster_name: name, cluster, images: &images, instance_gateway };
    let resources = plan_cluster(&input).map_err(|error| {
        let mut failure = Failure::new("node", error.to_string());
        failure.hint = error.hint;
        failure
    })?;
    let generation = old.map_or(1, |old| old.generation + 1);
    Ok(Plan::new(Subject::Cluster { cluster: name.clone() }, generation, old.map(Plan::hash), resources))
}

/// Lays every serving instance of the cluster again; those that are as they should be cost a question each.
async fn reconcile_instances(state: &Arc<State>, cluster: &ClusterName) {
    let listed = async { releases::list_serving(&state.db.conn().await?, cluster).await };
    let listed = match listed.await {
        Ok(listed) => listed,
        Err(error) => return tracing::warn!(%cluster, %error, "cannot list the instances to reconcile"),
    };
    stream::iter(listed)
        .for_each_concurrent(AT_ONCE, async |instance| {
            if let Err(failure) = reconcile(state, instance).await {
                tracing::warn!(%instance, "cannot reconcile the instance: {failure}");
            }
        })
        .await;
}

async fn reconcile(state: &Arc<State>, id: InstanceId) -> Result<(), Failure> {
    let _hold = state.engine.hold(id).await;
    let Some(standing) = load_standing(state, id).await? else { return Ok(()) };
    // A node that is new to the instance gets what every node has.
    let is_laid = |resource: &&Resource| is_spread(resource) || !matches!(part_of(resource), Part::Seed | Part::Assets);
    let resources = standing.plan.resources.iter().filter(is_laid);
    standing.lay(&resources.collect::<Vec<_>>()).await
}

/// An instance as it should stand.
pub struct Standing {
    pub site: Site,
    pub resolved: Resolved,
    pub release: ReleaseNumber,
    pub plan: Plan,
    pub applier: Applier,
}

/// To be called with the instance's hold. None when it serves nothing, or a deploy is under way: one that waits for this
/// process's hold lays everything itself, and one of another gateway must not be disturbed.
pub async fn load_standing(state: &Arc<State>, id: InstanceId) -> Result<Option<Standing>, Failure> {
    let conn = state.db.conn().await?;
    let Some(instance) = instances::load_instance(&conn, id).await? else { return Ok(None) };
    if deploys::find_running(&conn, id).await?.is_some() {
        return Ok(None);
    }
    let (Some(plan), Some(serving)) =
        (plans::load_serving_plan(&conn, id).await?, releases::load_serving(&conn, id).await?)
    else {
        return Ok(None);
    };
    let Some(configured) = releases::load_configured(&conn, id, serving.release).await? else { return Ok(None) };
    drop(conn);
    let site = Site::new(state, instance)?;
    let applier = site.applier(load_secrets_of(&site, &configured).await?);
    Ok(Some(Standing { site, resolved: configured.resolved, release: serving.release, plan, applier }))
}

impl Standing {
    /// Brings these of its resources about, in the plan's order.
    async fn lay(&self, resources: &[&Resource]) -> Result<(), Failure> {
        for resource in resources {
            self.applier.ensure(resource, UNHEARD).await?;
            if process_of(resource).is_some_and(|process| process == WEB) {
                // The route is laid in any case: the router knows itself which replicas are up.
                let resources = [*resource];
                let awaited = pipeline::await_replicas(&self.applier, &self.site, &self.resolved, &resources, UNHEARD);
                if let Ok(Err(failure)) = tokio::time::timeout(HEALTHY, awaited).await {
                    let instance = &self.site.instance;
                    tracing::warn!(app = %instance.app_name, label = %instance.label, "{failure}");
                }
            }
        }
        Ok(())
    }
}
