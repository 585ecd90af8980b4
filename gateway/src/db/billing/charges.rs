//! The rows of closed months. The database refuses any change of them.

use magrathea_core::billing::{Billed, Charge, Month, Sum};
use magrathea_core::names::{AppId, InstanceId, OrganisationId};
use rust_decimal::Decimal;
use tokio_postgres::types::Json;

use super::Owners;
use crate::db::{Client, DbError, Row};

/// Rows that one statement inserts.
const CHUNK: usize = 2000;

/// Stores a month's rows, numbered from 1. The month itself must follow in the same transaction.
pub async fn insert_charges(client: &impl Client, month: Month, charges: &[Charge]) -> Result<(), DbError> {
    let sql = r#"INSERT INTO billing_charges (month, number, kind, organisation, organisation_name, app, app_name, instance, label,
                   cluster, meter, price_id, starts, ends, consumed, quantity, price, cost, description, corrects, adjustment)
               SELECT $1, ($2 + n)::integer, c.kind, c.organisation, c.organisation_name, c.app, c.app_name, c.instance, c.label, c.cluster,
                   c.meter, c.price_id, c."from", c.until, c.consumed, c.quantity, c.price, c.cost, c.description, c.corrects,
                   c.adjustment
               FROM ROWS FROM (json_to_recordset($3) AS (kind text, organisation uuid, organisation_name text, app uuid,
                   app_name text, instance uuid, label text, cluster text, meter text, price_id text, "from" timestamptz,
                   until timestamptz, consumed numeric, quantity numeric, price numeric, cost numeric, description text,
                   corrects text, adjustment uuid)) WITH ORDINALITY AS c(kind, organisation, organisation_name, app, app_name,
                   instance, label, cluster, meter, price_id, "from", until, consumed, quantity, price, cost, description,
                   corrects, adjustment, n)"#;
    let statement = client.prepare_cached(sql).await?;
    for (n, chunk) in charges.chunks(CHUNK).enumerate() {
        let before = i64::try_from(n * CHUNK).unwrap_or(i64::MAX);
        client.execute(&statement, &[&month.to_string(), &before, &Json(chunk)]).await?;
    }
    Ok(())
}

/// A month's rows after a number, at most so many, in their order.
pub async fn list_charges(
    client: &impl Client,
    month: Month,
    owners: Owners<'_>,
    (after, most): (i32, i64),
) -> Result<Vec<(i32, Charge)>, DbError> {
    let sql = "SELECT number, kind, organisation, organisation_name, app, app_name, instance, label, cluster, meter, price_id,
                   starts, ends, consumed, quantity, price, cost, description, corrects, adjustment
               FROM billing_charges
               WHERE month = $1 AND number > $2 AND ($3::uuid[] IS NULL OR organisation = ANY($3)) ORDER BY number LIMIT $4";
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &[&month.to_string(), &after, &owners, &most]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, charge(row)?))).collect()
}

fn charge(row: &Row) -> Result<Charge, DbError> {
    Ok(Charge {
        kind: parsed(row, 1, "billing_charges.kind")?.ok_or_else(|| DbError::value("billing_charges.kind", "null"))?,
        organisation: OrganisationId(row.try_get(2)?),
        organisation_name: row.try_get(3)?,
        app: row.try_get::<_, Option<_>>(4)?.map(AppId),
        app_name: parsed(row, 5, "billing_charges.app_name")?,
        instance: row.try_get::<_, Option<_>>(6)?.map(InstanceId),
        label: parsed(row, 7, "billing_charges.label")?,
        cluster: parsed(row, 8, "billing_charges.cluster")?,
        meter: parsed(row, 9, "billing_charges.meter")?,
        price_id: row.try_get(10)?,
        from: row.try_get(11)?,
        until: row.try_get(12)?,
        consumed: row.try_get(13)?,
        quantity: row.try_get(14)?,
        price: row.try_get(15)?,
        cost: row.try_get(16)?,
        description: row.try_get(17)?,
        corrects: parsed(row, 18, "billing_charges.corrects")?,
        adjustment: row.try_get(19)?,
    })
}

fn parsed<T: std::str::FromStr>(row: &Row, column: usize, name: &'static str) -> Result<Option<T>, DbError>
where
    T::Err: std::fmt::Display,
{
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|e| DbError::value(name, e))).transpose()
}

/// How many rows of a month are these owners', and their sum.
pub async fn sum_charges(client: &impl Client, month: Month, owners: Owners<'_>) -> Result<(u32, Decimal), DbError> {
    let sql = "SELECT count(*), coalesce(sum(cost), 0) FROM billing_charges
               WHERE month = $1 AND ($2::uuid[] IS NULL OR organisation = ANY($2))";
    let row = client.query_one(sql, &[&month.to_string(), &owners]).await?;
    Ok((u32::try_from(row.try_get::<_, i64>(0)?).unwrap_or(u32::MAX), row.try_get(1)?))
}

/// What was charged for the usage of a month, in its own rows and in later corrections.
pub async fn load_billed(client: &impl Client, month: Month) -> Result<Billed, DbError> {
    let sql = "SELECT instance, meter, sum(consumed), sum(quantity), sum(cost) FROM billing_charges
               WHERE (month = $1 AND kind = 'usage' OR corrects = $1) AND instance IS NOT NULL AND meter IS NOT NULL
               GROUP BY 1, 2";
    let mut billed = Billed::new();
    for row in client.query(sql, &[&month.to_string()]).await? {
        let sum = Sum { consumed: row.try_get(2)?, quantity: row.try_get(3)?, cost: row.try_get(4)? };
        if let Some(meter) = parsed(&row, 1, "billing_charges.meter")? {
            billed.insert((InstanceId(row.try_get(0)?), meter), sum);
        }
    }
    Ok(billed)
}
