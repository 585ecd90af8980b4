//! What instances used, by the hour.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use magrathea_core::names::{AppId, InstanceId, LabelName, OrganisationId};
use magrathea_core::usage::{Batch, Gap, Metric, Unit, Usage, hour_of};
use uuid::Uuid;

use super::{Client, DbError, Row};
use crate::hub::NodeRef;

/// An instance, destroyed or not, with the names that it has now or had last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub instance: InstanceId,
    pub label: LabelName,
    pub cluster: String,
    pub app: AppId,
    pub app_name: String,
    pub organisation: OrganisationId,
    pub organisation_name: String,
    pub is_destroyed: bool,
}

/// Instances that were there at some time after this one, by the names of organisation, app, label and cluster.
pub async fn list_accounts(client: &impl Client, after: Timestamp) -> Result<Vec<Account>, DbError> {
    let sql = "SELECT i.id, i.label, i.cluster, a.id, a.name, o.id, o.name, i.destroyed IS NOT NULL
               FROM instances i JOIN apps a ON a.id = i.app JOIN organisations o ON o.id = a.organisation
               WHERE i.destroyed IS NULL OR i.destroyed >= $1 ORDER BY o.name, a.name, i.label, i.cluster, i.created";
    let rows = client.query(sql, &[&after]).await?;
    rows.iter()
        .map(|row| {
            let label: String = row.try_get(1)?;
            Ok(Account {
                instance: InstanceId(row.try_get(0)?),
                label: label.parse().map_err(|e| DbError::value("instances.label", e))?,
                cluster: row.try_get(2)?,
                app: AppId(row.try_get(3)?),
                app_name: row.try_get(4)?,
                organisation: OrganisationId(row.try_get(5)?),
                organisation_name: row.try_get(6)?,
                is_destroyed: row.try_get(7)?,
            })
        })
        .collect()
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// It was not there before.
    pub is_new: bool,
    /// Names that no instance of the node's cluster has, with the requests that were told for them.
    pub strangers: BTreeMap<String, u64>,
}

/// Adds a batch of a node's to what is stored, once. Belongs into the transaction in which it is acknowledged.
pub async fn add_batch(client: &impl Client, node: &NodeRef, batch: &Batch, now: Timestamp) -> Result<Added, DbError> {
    let sql = "INSERT INTO usage_ledgers AS l (ledger, cluster, node, number, refused) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (ledger) DO UPDATE
                   SET number = excluded.number, refused = l.refused + excluded.refused, updated = now()
                   WHERE l.number < excluded.number AND (l.cluster, l.node) = (excluded.cluster, excluded.node)";
    let (cluster, name) = (node.cluster.as_str(), node.node.as_str());
    let (number, refused) = (big(batch.number), big(batch.refused));
    if client.execute(sql, &[&batch.ledger, &cluster, &name, &number, &refused]).await? == 0 {
        return Ok(Added::default());
    }
    let known = instances_by_slug(client, node, batch).await?;
    let mut added = Added { is_new: true, ..Added::default() };
    // The database takes each instance and hour once per statement.
    let mut hours: BTreeMap<(Uuid, Timestamp), Usage> = BTreeMap::new();
    for row in &batch.rows {
        match known.get(row.slug.as_str()) {
            // Nothing was used in the future.
            Some(id) => hours.entry((*id, hour_of(row.hour).min(hour_of(now)))).or_default().add_all(&row.usage),
            None => *added.strangers.entry(row.slug.clone()).or_default() += row.usage.get(Metric::Requests),
        }
    }
    add_hours(client, &hours).await?;
    add_levels(client, node, &known, batch, now).await?;
    for gap in &batch.gaps {
        add_gap(client, node, gap).await?;
    }
    Ok(added)
}

/// Of the node's cluster alone; those that were destroyed as well, as what they used may be told late.
async fn instances_by_slug(
    client: &impl Client,
    node: &NodeRef,
    batch: &Batch,
) -> Result<HashMap<String, Uuid>, DbError> {
    let rows = batch.rows.iter().map(|row| row.slug.as_str());
    let slugs: std::collections::BTreeSet<&str> = rows.chain(batch.levels.iter().map(|l| l.slug.as_str())).collect();
    let slugs: Vec<&str> = slugs.into_iter().collect();
    let sql = "SELECT 'i' || right(replace(id::text, '-', ''), 12), id FROM instances
               WHERE 'i' || right(replace(id::text, '-', ''), 12) = ANY($1) AND cluster = $2";
    let rows = client.query(sql, &[&slugs, &node.cluster.as_str()]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

async fn add_hours(client: &impl Client, hours: &BTreeMap<(Uuid, Timestamp), Usage>) -> Result<(), DbError> {
    if hours.is_empty() {
        return Ok(());
    }
    let names = joined(|metric| metric.to_string());
    let places = joined(|metric| format!("${}::bigint[]", metric as usize + 3));
    // A sum never overflows, whatever a node tells.
    let sums =
        joined(|metric| format!("{metric} = u.{metric} + least(excluded.{metric}, {} - u.{metric})", most(metric)));
    let sql = format!(
        "INSERT INTO usage_hours AS u (instance, hour, {names}) SELECT * FROM unnest($1::uuid[], $2::timestamptz[], {places})
         ON CONFLICT (instance, hour) DO UPDATE SET {sums}"
    );
    let (ids, begins): (Vec<Uuid>, Vec<Timestamp>) = hours.keys().copied().unzip();
    let column = |metric: &Metric| -> Vec<i64> {
        hours.values().map(|usage| big(usage.get(*metric)).min(most(*metric))).collect()
    };
    let columns: Vec<Vec<i64>> = Metric::ALL.iter().map(column).collect();
    let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&ids, &begins];
    parameters.extend(columns.iter().map(|column| column as &(dyn tokio_postgres::types::ToSql + Sync)));
    let statement = client.prepare_cached(&sql).await?;
    client.execute(&statement, &parameters).await?;
    Ok(())
}

async fn add_levels(
    client: &impl Client,
    node: &NodeRef,
    known: &HashMap<String, Uuid>,
    batch: &Batch,
    now: Timestamp,
) -> Result<(), DbError> {
    let mut newest: BTreeMap<(Uuid, &str), (i64, Timestamp)> = BTreeMap::new();
    for level in &batch.levels {
        let Some(id) = known.get(level.slug.as_str()) else { continue };
        for (metric, bytes) in &level.bytes {
            newest.insert((*id, metric.as_str()), (big(*bytes), level.at.min(now)));
        }
    }
    let (places, amounts): (Vec<_>, Vec<_>) = newest.into_iter().unzip();
    let (ids, metrics): (Vec<Uuid>, Vec<&str>) = places.into_iter().unzip();
    let (bytes, times): (Vec<i64>, Vec<Timestamp>) = amounts.into_iter().unzip();
    let sql = "INSERT INTO usage_levels AS l (instance, metric, bytes, at, node)
               SELECT *, $5 FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[])
               ON CONFLICT (instance, metric, node) DO UPDATE SET bytes = excluded.bytes, at = excluded.at
               WHERE l.at <= excluded.at";
    client.execute(sql, &[&ids, &metrics, &bytes, &times, &node.node.as_str()]).await?;
    Ok(())
}

/// Notes that something may not have been counted.
pub async fn add_gap(client: &impl Client, node: &NodeRef, gap: &Gap) -> Result<(), DbError> {
    let sql = "INSERT INTO usage_gaps (cluster, node, began, ended, reason, requests) VALUES ($1, $2, $3, $4, $5, $6)";
    let (cluster, name, requests) = (node.cluster.as_str(), node.node.as_str(), gap.requests.map(big));
    client.execute(sql, &[&cluster, &name, &gap.from, &gap.until, &gap.reason.as_str(), &requests]).await?;
    Ok(())
}

/// What instances used in stretches of time that are made of whole hours, each named by its number. Instances that used nothing
/// in one are absent from it.
pub async fn sum_hours(
    client: &impl Client,
    instances: &[InstanceId],
    stretches: &[(Timestamp, Timestamp)],
) -> Result<Vec<(usize, InstanceId, Usage)>, DbError> {
    let sums = joined(|metric| format!("sum(u.{metric})::numeric::bigint"));
    let sql = format!(
        "SELECT s.n, u.instance, {sums}
         FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS s (began, ended, n)
         JOIN usage_hours u ON u.hour >= s.began AND u.hour < s.ended
         WHERE u.instance = ANY($1) GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let ids: Vec<Uuid> = instances.iter().map(|id| id.0).collect();
    let (begins, ends): (Vec<Timestamp>, Vec<Timestamp>) = stretches.iter().copied().unzip();
    let statement = client.prepare_cached(&sql).await?;
    let rows = client.query(&statement, &[&ids, &begins, &ends]).await?;
    rows.iter()
        .map(|row| {
            let number = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or_default().saturating_sub(1);
            Ok((number, InstanceId(row.try_get(1)?), amounts(row, 2)?))
        })
        .collect()
}

fn amounts(row: &Row, first: usize) -> Result<Usage, DbError> {
    let one = |(n, metric): (usize, &Metric)| Ok((*metric, row.try_get::<_, i64>(first + n)?.unsigned_abs()));
    Metric::ALL.iter().enumerate().map(one).collect()
}

/// How much disk each instance takes, by metric, on all nodes together.
pub async fn list_levels(
    client: &impl Client,
    instances: &[InstanceId],
) -> Result<HashMap<InstanceId, BTreeMap<Metric, u64>>, DbError> {
    let ids: Vec<Uuid> = instances.iter().map(|id| id.0).collect();
    let sql = "SELECT instance, metric, least(sum(bytes), 9223372036854775807)::bigint FROM usage_levels
               WHERE instance = ANY($1) GROUP BY 1, 2";
    let mut levels: HashMap<InstanceId, BTreeMap<Metric, u64>> = HashMap::new();
    for row in client.query(sql, &[&ids]).await? {
        let metric =
            row.try_get::<_, &str>(1)?.parse().map_err(|e: String| DbError::value("usage_levels.metric", e))?;
        let bytes = row.try_get::<_, i64>(2)?.unsigned_abs();
        levels.entry(InstanceId(row.try_get(0)?)).or_default().insert(metric, bytes);
    }
    Ok(levels)
}

/// Times of a cluster's nodes in which something may not have been counted, the newest first.
pub async fn list_gaps(
    client: &impl Client,
    clusters: &[&str],
    (from, until): (Timestamp, Timestamp),
) -> Result<Vec<(String, String, Gap)>, DbError> {
    let sql = "SELECT cluster, node, began, ended, reason, requests FROM usage_gaps
               WHERE cluster = ANY($1) AND ended >= $2 AND began < $3 ORDER BY ended DESC LIMIT 100";
    let rows = client.query(sql, &[&clusters, &from, &until]).await?;
    rows.iter()
        .map(|row| {
            let reason = row.try_get::<_, &str>(4)?;
            let gap = Gap {
                from: row.try_get(2)?,
                until: row.try_get(3)?,
                reason: reason.parse().map_err(|e: String| DbError::value("usage_gaps.reason", e))?,
                requests: row.try_get::<_, Option<i64>>(5)?.map(i64::unsigned_abs),
            };
            Ok((row.try_get(0)?, row.try_get(1)?, gap))
        })
        .collect()
}

fn joined(of: impl Fn(Metric) -> String) -> String {
    Metric::ALL.iter().map(|metric| of(*metric)).collect::<Vec<_>>().join(", ")
}

/// What the column of a metric holds at most.
fn most(metric: Metric) -> i64 {
    let is_small = metric.unit() == Unit::Number && metric != Metric::Requests;
    if is_small { i32::MAX.into() } else { i64::MAX }
}

fn big(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
