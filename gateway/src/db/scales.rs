//! How many replicas people want of an instance's process types, beside what the manifest says.

use std::collections::BTreeMap;

use jiff::Timestamp;
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

/// Other numbers of replicas for what serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescale {
    pub counts: Counts,
    /// Why the gateway itself does it: the numbers are nobody's, and later deploys only begin with them. None: somebody has
    /// set them.
    pub reason: Option<String>,
}

/// What a deploy is to set; none when it is one of a release.
pub async fn load_rescale(client: &impl Client, deploy: DeployId) -> Result<Option<Rescale>, DbError> {
    let row = client.query_opt("SELECT scale, scale_reason FROM deploys WHERE id = $1", &[&deploy.0]).await?;
    let Some(row) = row else { return Ok(None) };
    let counts: Option<Json<Counts>> = row.try_get(0)?;
    let reason = row.try_get(1)?;
    Ok(counts.map(|counts| Rescale { counts: counts.0, reason }))
}

/// Whether a deploy is one of the gateway's own.
pub async fn is_automatic(client: &impl Client, deploy: DeployId) -> Result<bool, DbError> {
    let sql = "SELECT FROM deploys WHERE id = $1 AND scale_reason IS NOT NULL";
    Ok(client.query_opt(sql, &[&deploy.0]).await?.is_some())
}

/// The instances of which somebody has set a process type's number.
pub async fn list_set(client: &impl Client, process: &ProcessName) -> Result<Vec<InstanceId>, DbError> {
    let rows = client.query("SELECT instance FROM scales WHERE process = $1", &[&process.as_str()]).await?;
    rows.iter().map(|row| Ok(InstanceId(row.try_get(0)?))).collect()
}

/// What became of the gateway's own scalings of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Whether a deploy of any kind holds the instance or waits for it.
    pub is_busy: bool,
    /// When one last succeeded.
    pub changed: Option<Timestamp>,
    /// When the last one failed, and how; none when one has succeeded since.
    pub failed: Option<(Timestamp, String)>,
    /// How many have failed since the last that succeeded, of those that are looked at.
    pub failures: u32,
}

/// How many of the last scalings are looked at.
const LOOKED_AT: i64 = 8;

pub async fn load_past(client: &impl Client, instance: InstanceId) -> Result<Past, DbError> {
    let sql = "SELECT status, finished, failure ->> 'code',
                   EXISTS (SELECT FROM deploys o WHERE o.instance = $1 AND o.status IN ('waiting', 'running'))
               FROM (SELECT $1::uuid AS instance) AS of
               LEFT JOIN LATERAL (SELECT * FROM deploys d WHERE d.instance = of.instance AND d.scale_reason IS NOT NULL
                   ORDER BY d.created DESC LIMIT $2) AS last ON true
               ORDER BY last.created DESC";
    let statement = client.prepare_cached(sql).await?;
    let mut past = Past::default();
    for row in client.query(&statement, &[&instance.0, &LOOKED_AT]).await? {
        past.is_busy = row.try_get(3)?;
        let status: Option<String> = row.try_get(0)?;
        let Some(finished) = row.try_get::<_, Option<Timestamp>>(1)? else { continue };
        if status.as_deref() == Some("succeeded") {
            past.changed = Some(finished);
            break;
        }
        past.failures += 1;
        let code: Option<String> = row.try_get(2)?;
        past.failed.get_or_insert((finished, code.unwrap_or_default()));
    }
    Ok(past)
}
