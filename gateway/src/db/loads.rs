//! What was seen of instances' load, by the hour.

use jiff::Timestamp;
use magrathea_core::names::InstanceId;
use magrathea_core::scaling::Hour;

use super::{Client, DbError};

/// How long hours are kept.
const KEPT: &str = "14 days";

fn int(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// Adds to what is stored of these hours. Instances that are gone are passed over.
pub async fn add_hours(client: &impl Client, hours: &[(InstanceId, Hour)]) -> Result<(), DbError> {
    let sql = "INSERT INTO loads AS l (instance, hour, seconds, waiting, busy_sum, busy_max, at_once)
               SELECT n.* FROM unnest($1::uuid[], $2::timestamptz[], $3::int[], $4::int[], $5::bigint[], $6::int[], $7::int[])
                   AS n (instance, hour, seconds, waiting, busy_sum, busy_max, at_once)
               JOIN instances i ON i.id = n.instance
               ON CONFLICT (instance, hour) DO UPDATE SET
                   seconds = least(l.seconds + excluded.seconds, 3600), waiting = l.waiting + excluded.waiting,
                   busy_sum = l.busy_sum + excluded.busy_sum, busy_max = greatest(l.busy_max, excluded.busy_max),
                   at_once = greatest(l.at_once, excluded.at_once)";
    let ids: Vec<_> = hours.iter().map(|(id, _)| id.0).collect();
    let begins: Vec<Timestamp> = hours.iter().map(|(_, hour)| hour.hour).collect();
    let column = |of: fn(&Hour) -> u32| hours.iter().map(|(_, hour)| int(of(hour))).collect::<Vec<i32>>();
    let sums: Vec<i64> = hours.iter().map(|(_, hour)| i64::try_from(hour.busy_sum).unwrap_or(i64::MAX)).collect();
    let (seconds, waiting) = (column(|hour| hour.seconds), column(|hour| hour.waiting));
    let (most, at_once) = (column(|hour| hour.busy_max), column(|hour| hour.at_once));
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, &[&ids, &begins, &seconds, &waiting, &sums, &most, &at_once]).await?;
    Ok(())
}

/// An instance's hours, the oldest first.
pub async fn list_hours(client: &impl Client, instance: InstanceId) -> Result<Vec<Hour>, DbError> {
    let sql = "SELECT hour, seconds, waiting, busy_sum, busy_max, at_once FROM loads WHERE instance = $1 ORDER BY hour";
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&instance.0]).await?;
    let number = |row: &super::Row, n: usize| Ok::<_, DbError>(row.try_get::<_, i32>(n)?.unsigned_abs());
    rows.iter()
        .map(|row| {
            Ok(Hour {
                hour: row.try_get(0)?,
                seconds: number(row, 1)?,
                waiting: number(row, 2)?,
                busy_sum: row.try_get::<_, i64>(3)?.unsigned_abs(),
                busy_max: number(row, 4)?,
                at_once: number(row, 5)?,
            })
        })
        .collect()
}

/// Forgets what is too old for any advice.
pub async fn forget_old(client: &impl Client) -> Result<(), DbError> {
    let sql = format!("DELETE FROM loads WHERE hour < now() - interval '{KEPT}'");
    client.execute(&sql, &[]).await?;
    Ok(())
}
