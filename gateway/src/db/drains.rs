//! Drains: where an instance's log is sent to, and how far each has come.

use jiff::Timestamp;
use magrathea_core::api::DrainInfo;
use magrathea_core::logs::LogLayer;
use magrathea_core::names::InstanceId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Client, DbError, Row};
use crate::seal::Seal;

/// How long a gateway that serves a drain may be silent before another takes over.
const LEASE: &str = "15 seconds";

/// What is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    pub url: String,
    /// PEM of the only CA that is trusted; the system's when absent.
    pub ca: Option<String>,
}

/// A drain to serve.
#[derive(Debug, Clone)]
pub struct Drain {
    pub id: Uuid,
    pub instance: InstanceId,
    pub sink: Sink,
    pub layers: Vec<LogLayer>,
    pub created: Timestamp,
    pub places: String,
}

/// A drain to store.
#[derive(Debug)]
pub struct NewDrainRow<'a> {
    pub instance: InstanceId,
    pub target: &'a str,
    pub sink: &'a Sink,
    pub layers: &'a [LogLayer],
    pub created_by: &'a str,
}

const INFO: &str = "id, target, layers, created, created_by, delivered, failing_since, error";

fn info(row: &Row) -> Result<DrainInfo, DbError> {
    let delivered: i64 = row.try_get(5)?;
    Ok(DrainInfo {
        id: row.try_get(0)?,
        target: row.try_get(1)?,
        layers: layers(row.try_get(2)?)?,
        created: row.try_get(3)?,
        created_by: row.try_get(4)?,
        delivered: delivered.unsigned_abs(),
        failing_since: row.try_get(6)?,
        error: row.try_get(7)?,
    })
}

fn layers(names: Vec<String>) -> Result<Vec<LogLayer>, DbError> {
    names.iter().map(|name| name.parse().map_err(|error: String| DbError::value("drains.layers", error))).collect()
}

fn place(id: Uuid) -> String {
    format!("drain/{id}")
}

pub async fn insert_drain(client: &impl Client, seal: &Seal, new: NewDrainRow<'_>) -> anyhow::Result<DrainInfo> {
    let id = Uuid::now_v7();
    let sealed = seal.seal(&place(id), &serde_json::to_vec(new.sink)?)?;
    let layers: Vec<&str> = new.layers.iter().map(|layer| layer.as_str()).collect();
    let sql = format!(
        "INSERT INTO drains (id, instance, target, sealed, layers, created_by) VALUES ($1, $2, $3, $4, $5, $6)
         RETURNING {INFO}"
    );
    let row = client.query_one(&sql, &[&id, &new.instance.0, &new.target, &sealed, &layers, &new.created_by]).await?;
    Ok(info(&row)?)
}

pub async fn list_drains(client: &impl Client, instance: InstanceId) -> Result<Vec<DrainInfo>, DbError> {
    let sql = format!("SELECT {INFO} FROM drains WHERE instance = $1 ORDER BY created, id");
    client.query(&sql, &[&instance.0]).await?.iter().map(info).collect()
}

/// Forgets a drain; gives what it was shown as.
pub async fn delete_drain(client: &impl Client, instance: InstanceId, id: Uuid) -> Result<Option<String>, DbError> {
    let sql = "DELETE FROM drains WHERE id = $1 AND instance = $2 RETURNING target";
    Ok(client.query_opt(sql, &[&id, &instance.0]).await?.map(|row| row.try_get(0)).transpose()?)
}

/// Takes, and keeps, the drains that are this gateway's to serve: its own and those that nobody serves. Drains of
/// instances that are gone are nobody's.
pub async fn claim_drains(client: &impl Client, seal: &Seal, gateway: Uuid) -> anyhow::Result<Vec<Drain>> {
    let sql = format!(
        "UPDATE drains d SET gateway = $1, lease = now() + interval '{LEASE}'
         FROM instances i WHERE i.id = d.instance AND i.destroyed IS NULL AND (d.gateway = $1 OR d.lease < now())
         RETURNING d.id, d.instance, d.sealed, d.layers, d.created, d.places"
    );
    let rows = client.query(&sql, &[&gateway]).await?;
    let drain = |row: &Row| {
        let (id, sealed): (Uuid, Vec<u8>) = (row.try_get(0)?, row.try_get(2)?);
        Ok(Drain {
            id,
            instance: InstanceId(row.try_get(1)?),
            sink: serde_json::from_slice(&seal.open(&place(id), &sealed)?)?,
            layers: layers(row.try_get(3)?)?,
            created: row.try_get(4)?,
            places: row.try_get(5)?,
        })
    };
    rows.iter().map(drain).collect()
}

/// Everything up to these places was taken by the sink.
pub async fn save_places(
    client: &impl Client,
    gateway: Uuid,
    id: Uuid,
    (places, lines): (&str, u64),
) -> Result<(), DbError> {
    let sql = "UPDATE drains SET places = $3, delivered = delivered + $4, failing_since = NULL, error = NULL
               WHERE id = $1 AND gateway = $2";
    client.execute(sql, &[&id, &gateway, &places, &i64::try_from(lines).unwrap_or(i64::MAX)]).await?;
    Ok(())
}

/// The sink does not take anything.
pub async fn save_failure(client: &impl Client, gateway: Uuid, id: Uuid, error: &str) -> Result<(), DbError> {
    let sql = "UPDATE drains SET failing_since = coalesce(failing_since, now()), error = $3
               WHERE id = $1 AND gateway = $2";
    client.execute(sql, &[&id, &gateway, &error]).await?;
    Ok(())
}
