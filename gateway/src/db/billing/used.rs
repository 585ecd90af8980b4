//! What instances used, summed up by the meters that are sold.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, ToSpan};
use magrathea_core::billing::{Meter, Period, Subject, Used};
use magrathea_core::names::{AppId, InstanceId, OrganisationId};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use uuid::Uuid;

use super::Owners;
use crate::db::{Client, DbError};

/// By instance.
pub type Sums = BTreeMap<InstanceId, Used>;

/// The meters whose sums are columns 2 and on of the query.
const METERS: [Meter; 7] =
    [Meter::Requests, Meter::Sent, Meter::Received, Meter::Disk, Meter::Database, Meter::Cpu, Meter::Memory];

/// Adds up the hours that begin in a period, apart for each part of it; parts begin at `starts`.
pub async fn load_used(
    client: &impl Client,
    period: Period,
    starts: &[Timestamp],
    owners: Owners<'_>,
) -> Result<Sums, DbError> {
    let sql = "SELECT instance, width_bucket(hour, $3::timestamptz[]), sum(requests), sum(sent), sum(received),
                   sum(files) + sum(code) + sum(backups) + sum(logs), sum(database), sum(cpu), sum(memory)
               FROM usage_hours
               WHERE hour >= $1 AND hour < $2
                   AND ($4::uuid[] IS NULL OR instance IN (
                       SELECT i.id FROM instances i JOIN apps a ON a.id = i.app WHERE a.organisation = ANY($4)))
               GROUP BY 1, 2";
    let mut sums = Sums::new();
    for row in client.query(sql, &[&period.from, &period.until, &starts, &owners]).await? {
        let used = sums.entry(InstanceId(row.try_get(0)?)).or_default();
        let part = usize::try_from(row.try_get::<_, i32>(1)?.max(1) - 1).unwrap_or_default();
        for (n, meter) in METERS.into_iter().enumerate() {
            let amount: Decimal = row.try_get(n + 2)?;
            let amounts = used.entry(meter).or_insert_with(|| vec![0; starts.len()]);
            if let Some(place) = amounts.get_mut(part) {
                *place = amount.to_u128().unwrap_or_default();
            }
        }
    }
    Ok(sums)
}

/// The instances that existed in a period, and those that used something in it, by their names.
pub async fn list_subjects(
    client: &impl Client,
    period: Period,
    sums: &Sums,
    owners: Owners<'_>,
) -> Result<Vec<Subject>, DbError> {
    let used: Vec<Uuid> = sums.keys().map(|id| id.0).collect();
    let sql = "SELECT o.id, o.name, a.id, a.name, i.id, i.label, i.cluster, i.created, i.destroyed
               FROM instances i JOIN apps a ON a.id = i.app JOIN organisations o ON o.id = a.organisation
               WHERE (i.created < $2 AND (i.destroyed IS NULL OR i.destroyed > $1) OR i.id = ANY($3))
                   AND ($4::uuid[] IS NULL OR o.id = ANY($4))
               ORDER BY o.name, o.id, a.name, i.label, i.cluster, i.id";
    let rows = client.query(sql, &[&period.from, &period.until, &used, &owners]).await?;
    rows.iter()
        .map(|row| {
            let (app, label, cluster): (&str, &str, &str) = (row.try_get(3)?, row.try_get(5)?, row.try_get(6)?);
            Ok(Subject {
                organisation: OrganisationId(row.try_get(0)?),
                organisation_name: row.try_get(1)?,
                app: AppId(row.try_get(2)?),
                app_name: app.parse().map_err(|e| DbError::value("apps.name", e))?,
                instance: InstanceId(row.try_get(4)?),
                label: label.parse().map_err(|e| DbError::value("instances.label", e))?,
                cluster: cluster.parse().map_err(|e| DbError::value("instances.cluster", e))?,
                created: row.try_get(7)?,
                destroyed: row.try_get(8)?,
            })
        })
        .collect()
}

/// Times of a period in which something may not have been counted.
pub async fn count_gaps(client: &impl Client, period: Period) -> Result<u32, DbError> {
    let sql = "SELECT count(*) FROM usage_gaps WHERE began < $2 AND ended > $1";
    let count: i64 = client.query_one(sql, &[&period.from, &period.until]).await?.try_get(0)?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The instances that are there and had no request for so many days, which they have existed for; and which are previews.
pub async fn list_idle(
    client: &impl Client,
    days: u16,
    now: Timestamp,
) -> Result<(BTreeSet<InstanceId>, BTreeSet<InstanceId>), DbError> {
    let since = now.checked_sub((i64::from(days) * 24).hours()).unwrap_or(Timestamp::MIN);
    let sql = "WITH busy AS (SELECT DISTINCT instance FROM usage_hours WHERE hour >= $1 AND requests > 0)
               SELECT i.id, i.created < $1 AND busy.instance IS NULL,
                   EXISTS (SELECT FROM previews p WHERE p.instance = i.id)
               FROM instances i LEFT JOIN busy ON busy.instance = i.id WHERE i.destroyed IS NULL";
    let (mut idle, mut previews) = (BTreeSet::new(), BTreeSet::new());
    for row in client.query(sql, &[&since]).await? {
        let id = InstanceId(row.try_get(0)?);
        if row.try_get(1)? {
            idle.insert(id);
        }
        if row.try_get(2)? {
            previews.insert(id);
        }
    }
    Ok((idle, previews))
}
