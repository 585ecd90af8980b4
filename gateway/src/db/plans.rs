//! Plans as they were applied: of instances and of clusters. A plan is never changed.

use magrathea_core::capacity::demand_of;
use magrathea_core::names::{ClusterName, InstanceId, ReleaseNumber};
use magrathea_core::plan::Plan;
use tokio_postgres::types::Json;

use super::deploys::number_in;
use super::promises::columns;
use super::{Client, DbError, Row};

fn plan(row: Row) -> Result<Plan, DbError> {
    Ok(row.try_get::<_, Json<Plan>>(0)?.0)
}

fn generation(plan: &Plan) -> i64 {
    i64::try_from(plan.generation).unwrap_or(i64::MAX)
}

/// Stores an instance's plan.
pub async fn insert_plan(
    client: &impl Client,
    instance: InstanceId,
    release: ReleaseNumber,
    plan: &Plan,
) -> Result<(), DbError> {
    let sql = "INSERT INTO plans (instance, generation, release, parent, hash, body, memory, millicpus, disk,
                   pinned)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let statement = client.prepare_cached(sql).await?;
    let (number, hash, body) = (number_in(release), plan.hash(), Json(plan));
    let [memory, millicpus, disk, pinned] = columns(&demand_of(plan));
    client
        .execute(
            &statement,
            &[&instance.0, &generation(plan), &number, &plan.parent, &hash, &body, &memory, &millicpus, &disk, &pinned],
        )
        .await?;
    Ok(())
}

/// The generation that an instance's next plan gets.
pub async fn next_generation(client: &impl Client, instance: InstanceId) -> Result<u64, DbError> {
    let sql = "SELECT coalesce(max(generation), 0) + 1 FROM plans WHERE instance = $1";
    let statement = client.prepare_cached(sql).await?;
    let next: i64 = client.query_one(&statement, &[&instance.0]).await?.try_get(0)?;
    Ok(next.unsigned_abs())
}

/// The plan of the release that an instance serves.
pub async fn load_serving_plan(client: &impl Client, instance: InstanceId) -> Result<Option<Plan>, DbError> {
    let sql = "SELECT p.body FROM serving s JOIN plans p ON p.instance = s.instance AND p.generation = s.generation
               WHERE s.instance = $1";
    let statement = client.prepare_cached(sql).await?;
    client.query_opt(&statement, &[&instance.0]).await?.map(plan).transpose()
}

/// What the instances of a cluster serve, and what deploys under way are about to.
pub async fn list_wanted(client: &impl Client, cluster: &ClusterName) -> Result<Vec<(InstanceId, Plan)>, DbError> {
    let sql = "SELECT i.id, p.body FROM instances i JOIN plans p ON p.instance = i.id
               WHERE i.cluster = $1 AND i.destroyed IS NULL AND (
                   p.generation = (SELECT generation FROM serving WHERE instance = i.id)
                   OR p.generation = (SELECT max(generation) FROM plans WHERE instance = i.id)
                   AND EXISTS (SELECT FROM deploys WHERE instance = i.id AND status = 'running'))
               ORDER BY i.created, p.generation";
    let rows = client.query(sql, &[&cluster.as_str()]).await?;
    rows.into_iter().map(|row| Ok((InstanceId(row.try_get(0)?), row.try_get::<_, Json<Plan>>(1)?.0))).collect()
}

/// The newest plan of a release.
pub async fn load_plan(
    client: &impl Client,
    instance: InstanceId,
    release: ReleaseNumber,
) -> Result<Option<Plan>, DbError> {
    let sql = "SELECT body FROM plans WHERE instance = $1 AND release = $2 ORDER BY generation DESC LIMIT 1";
    client.query_opt(sql, &[&instance.0, &number_in(release)]).await?.map(plan).transpose()
}

/// The plan with this hash, as another's parent.
pub async fn load_by_hash(client: &impl Client, instance: InstanceId, hash: &str) -> Result<Option<Plan>, DbError> {
    let sql = "SELECT body FROM plans WHERE instance = $1 AND hash = $2 ORDER BY generation DESC LIMIT 1";
    client.query_opt(sql, &[&instance.0, &hash]).await?.map(plan).transpose()
}

/// The newest plan of an instance, whether or not it ever served.
pub async fn load_newest_plan(client: &impl Client, instance: InstanceId) -> Result<Option<Plan>, DbError> {
    let sql = "SELECT body FROM plans WHERE instance = $1 ORDER BY generation DESC LIMIT 1";
    client.query_opt(sql, &[&instance.0]).await?.map(plan).transpose()
}

/// Stores a cluster's plan.
pub async fn insert_cluster_plan(client: &impl Client, cluster: &ClusterName, plan: &Plan) -> Result<(), DbError> {
    let sql = "INSERT INTO cluster_plans (cluster, generation, parent, hash, body) VALUES ($1, $2, $3, $4, $5)";
    client.execute(sql, &[&cluster.as_str(), &generation(plan), &plan.parent, &plan.hash(), &Json(plan)]).await?;
    Ok(())
}

/// A cluster's newest plan.
pub async fn load_cluster_plan(client: &impl Client, cluster: &ClusterName) -> Result<Option<Plan>, DbError> {
    let sql = "SELECT body FROM cluster_plans WHERE cluster = $1 ORDER BY generation DESC LIMIT 1";
    client.query_opt(sql, &[&cluster.as_str()]).await?.map(plan).transpose()
}
