//! What a cluster has promised to its instances: what their serving plans take, or what a running deploy is to take, whichever
//! is more.

use magrathea_core::capacity::{Amounts, demand_of};
use magrathea_core::names::{ClusterName, DeployId, InstanceId};
use magrathea_core::plan::Plan;
use tokio_postgres::types::Json;

use super::{Client, DbError, Row, Transaction};

/// Of the locks that one transaction holds on a cluster; the number is arbitrary.
const LOCK: i32 = 0x7072_6f6d;

/// What is promised in a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promised {
    /// To the instance that was asked for, by what it serves.
    pub own: Amounts,
    pub others: Amounts,
}

/// Lets nobody else promise anything in the cluster until the transaction ends.
pub async fn lock_cluster(tx: &Transaction<'_>, cluster: &ClusterName) -> Result<(), DbError> {
    let sql = "SELECT pg_advisory_xact_lock($1, hashtext($2))";
    tx.execute(sql, &[&LOCK, &cluster.as_str()]).await?;
    Ok(())
}

/// What is promised in a cluster, apart for one instance.
pub async fn load_promised(
    client: &impl Client,
    cluster: &ClusterName,
    instance: Option<InstanceId>,
) -> Result<Promised, DbError> {
    let sql = "SELECT i.id IS NOT DISTINCT FROM $2,
                   sum(greatest(p.memory, d.memory, 0))::bigint,
                   sum(greatest(p.millicpus, d.millicpus, 0))::bigint,
                   sum(greatest(p.disk, d.disk, 0))::bigint,
                   sum(greatest(p.pinned, d.pinned, 0))::bigint
               FROM instances i
               LEFT JOIN serving s ON s.instance = i.id
               LEFT JOIN plans p ON p.instance = i.id AND p.generation = s.generation
               LEFT JOIN deploys d ON d.instance = i.id AND d.status = 'running'
               WHERE i.cluster = $1 AND i.destroyed IS NULL
               GROUP BY 1";
    let statement = client.prepare_cached(sql).await?;
    let mut promised = Promised::default();
    for row in client.query(&statement, &[&cluster.as_str(), &instance.map(|id| id.0)]).await? {
        let amounts = amounts(&row, 1)?;
        match row.try_get(0)? {
            true => promised.own = amounts,
            false => promised.others = amounts,
        }
    }
    Ok(promised)
}

fn amounts(row: &Row, first: usize) -> Result<Amounts, DbError> {
    let one = |n: usize| Ok::<_, DbError>(row.try_get::<_, i64>(first + n)?.unsigned_abs());
    Ok(Amounts { memory: one(0)?, millicpus: one(1)?, disk: one(2)?, pinned: one(3)? })
}

/// Counts what serving plans take that were stored by a gateway which did not.
pub async fn count_serving(client: &impl Client) -> Result<(), DbError> {
    let sql = "SELECT p.body FROM serving s JOIN plans p ON p.instance = s.instance AND p.generation = s.generation
               WHERE p.memory IS NULL";
    let statement = client.prepare_cached(sql).await?;
    for row in client.query(&statement, &[]).await? {
        let plan = row.try_get::<_, Json<Plan>>(0)?.0;
        let [memory, millicpus, disk, pinned] = columns(&demand_of(&plan));
        let sql =
            "UPDATE plans SET memory = $2, millicpus = $3, disk = $4, pinned = $5 WHERE hash = $1 AND memory IS NULL";
        client.execute(sql, &[&plan.hash(), &memory, &millicpus, &disk, &pinned]).await?;
    }
    Ok(())
}

/// Promises it to a deploy for as long as it runs.
pub async fn promise(client: &impl Client, deploy: DeployId, demand: &Amounts) -> Result<(), DbError> {
    let [memory, millicpus, disk, pinned] = columns(demand);
    let sql = "UPDATE deploys SET memory = $2, millicpus = $3, disk = $4, pinned = $5 WHERE id = $1";
    client.execute(sql, &[&deploy.0, &memory, &millicpus, &disk, &pinned]).await?;
    Ok(())
}

/// As PostgreSQL has them: memory, millicpus, disk, pinned memory.
pub(super) fn columns(amounts: &Amounts) -> [i64; 4] {
    [amounts.memory, amounts.millicpus, amounts.disk, amounts.pinned]
        .map(|amount| i64::try_from(amount).unwrap_or(i64::MAX))
}
