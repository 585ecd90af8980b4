//! No more is promised than a cluster has: what a deploy is to take is counted and noted before anything is made for it.

use std::collections::BTreeMap;

use magrathea_core::api::{ClusterCapacity, Level};
use magrathea_core::capacity::{Amounts, Supply, demand_of, shortages, supply_of, tell_demand};
use magrathea_core::clusters::Cluster;
use magrathea_core::names::{ClusterName, DeployId, NodeName};
use magrathea_core::plan::Plan;
use magrathea_core::wire::NodeReport;

use super::failure::Failure;
use super::layout::Site;
use crate::db::promises::{self, Promised};
use crate::db::{Client, DbError};
use crate::hub::NodeRef;
use crate::state::State;

/// Promises a deploy what its plan takes, until it ends; or refuses, naming what is short.
pub async fn promise(site: &Site, deploy: DeployId, plan: &Plan) -> Result<(), Failure> {
    let mut conn = site.state.db.conn().await?;
    let tx = conn.transaction().await.map_err(DbError::from)?;
    promises::lock_cluster(&tx, &site.instance.cluster).await?;
    if let Some(failure) = misfit(&tx, site, plan).await? {
        return Err(failure);
    }
    promises::promise(&tx, deploy, &demand_of(plan)).await?;
    Ok(tx.commit().await.map_err(DbError::from)?)
}

/// Why a plan does not fit into its instance's cluster; none when it does.
pub async fn misfit(client: &impl Client, site: &Site, plan: &Plan) -> Result<Option<Failure>, Failure> {
    let cluster = &site.instance.cluster;
    let Promised { own, others } = promises::load_promised(client, cluster, Some(site.instance.id)).await?;
    let supply = supply(&site.state, cluster, &site.cluster);
    let short = shortages(&supply, others, own, plan);
    if short.is_empty() {
        return Ok(None);
    }
    let failure = Failure::new("capacity_exceeded", format!("cluster {cluster} is too small: {}", short.join("; ")));
    Ok(Some(failure.hint(format!(
        "it takes {}: fewer replicas, or less for each; `td cluster info {cluster}` shows what is promised",
        tell_demand(plan)
    ))))
}

/// What a cluster has and what of it is promised.
pub async fn capacity(
    client: &impl Client,
    state: &State,
    name: &ClusterName,
    cluster: &Cluster,
) -> Result<ClusterCapacity, DbError> {
    let Promised { others: promised, .. } = promises::load_promised(client, name, None).await?;
    let total = supply(state, name, cluster).all;
    let level = |of: fn(&Amounts) -> u64| Level { total: of(&total), promised: of(&promised) };
    Ok(ClusterCapacity {
        memory: level(|amounts| amounts.memory),
        millicpus: level(|amounts| amounts.millicpus),
        disk: level(|amounts| amounts.disk),
    })
}

/// By what its nodes have told: those that are not connected count for nothing.
fn supply(state: &State, name: &ClusterName, cluster: &Cluster) -> Supply {
    let told = cluster.nodes.keys().filter_map(|node| {
        let report = state.hub.report(&NodeRef { cluster: name.clone(), node: node.clone() })?;
        Some((node.clone(), report))
    });
    let reports: BTreeMap<NodeName, NodeReport> = told.collect();
    supply_of(cluster, |node| reports.get(node))
}
