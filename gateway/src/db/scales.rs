//! How many replicas people want of an instance's process types, beside what the manifest says.

use std::collections::BTreeMap;

use magrathea_core::api::Counts;
use magrathea_core::names::{DeployId, InstanceId, ProcessName};
use tokio_postgres::types::Json;

use super::{Client, DbError};

/// By process type; those that nobody has set are not there.
pub type Scales = BTreeMap<ProcessName, u16>;

pub async fn load_scales(client: &impl Client, instance: InstanceId) -> Result<Scales, DbError> {
    let sql = "SELECT process, replicas FROM scales WHERE instance = $1";
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&instance.0]).await?;
    let scale = |row: &super::Row| {
        let (process, replicas): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
        let process = process.parse().map_err(|error| DbError::value("scales.process", error))?;
        Ok((process, u16::try_from(replicas).unwrap_or_default()))
    };
    rows.iter().map(scale).collect()
}

pub async fn set_scales(
    client: &impl Client,
    instance: InstanceId,
    counts: &Counts,
    actor: &str,
) -> Result<(), DbError> {
    for (process, count) in counts {
        match count {
            Some(count) => {
                let sql = "INSERT INTO scales (instance, process, replicas, actor) VALUES ($1, $2, $3, $4)
                           ON CONFLICT (instance, process)
                           DO UPDATE SET replicas = excluded.replicas, actor = excluded.actor, created = now()";
                client.execute(sql, &[&instance.0, &process.as_str(), &i32::from(*count), &actor]).await?;
            }
            None => {
                let sql = "DELETE FROM scales WHERE instance = $1 AND process = $2";
                client.execute(sql, &[&instance.0, &process.as_str()]).await?;
            }
        }
    }
    Ok(())
}

/// Notes what a deploy is to set.
pub async fn note_counts(client: &impl Client, deploy: DeployId, counts: &Counts) -> Result<(), DbError> {
    client.execute("UPDATE deploys SET scale = $2 WHERE id = $1", &[&deploy.0, &Json(counts)]).await?;
    Ok(())
}

/// What a deploy is to set; none when it is one of a release.
pub async fn load_counts(client: &impl Client, deploy: DeployId) -> Result<Option<Counts>, DbError> {
    let row = client.query_opt("SELECT scale FROM deploys WHERE id = $1", &[&deploy.0]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(row.try_get::<_, Option<Json<Counts>>>(0)?.map(|json| json.0))
}
