//! Closed months and adjustments. Both only ever grow.

use std::collections::BTreeMap;

use jiff::Timestamp;
use magrathea_core::api::AdjustmentInfo;
use magrathea_core::billing::{Month, Period, Rates, Statement};
use magrathea_core::names::OrganisationId;
use rust_decimal::Decimal;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Owners;
use crate::actor::Actor;
use crate::db::{Client, DbError, Row, Transaction};

/// Of the lock that a closing holds; the number is arbitrary.
const LOCK: i64 = 0x6269_6c6c;

/// A closed month, without its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMonth {
    pub statement: Statement,
    pub rates: Rates,
    pub charges: u32,
    pub total: Decimal,
    /// Of its export, by format.
    pub sha256: BTreeMap<String, String>,
    pub closed: Timestamp,
    pub closed_by: String,
}

/// A month to close.
#[derive(Debug)]
pub struct NewMonth<'a> {
    pub statement: &'a Statement,
    pub rates: &'a Rates,
    pub charges: usize,
    pub total: Decimal,
    pub sha256: &'a BTreeMap<String, String>,
}

/// An adjustment that was not charged yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Adjustment {
    pub id: Uuid,
    pub organisation: OrganisationId,
    pub info: AdjustmentInfo,
}

/// Lets nobody else close a month until the transaction ends. False: somebody does already.
pub async fn try_lock(tx: &Transaction<'_>) -> Result<bool, DbError> {
    Ok(tx.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await?.try_get(0)?)
}

/// Closes the month: from now on nothing can be added to it.
pub async fn insert_month(client: &impl Client, actor: &Actor, new: NewMonth<'_>) -> Result<(), DbError> {
    let sql =
        "INSERT INTO billing_months (month, starts, ends, issuer, currency, time_zone, rates, charges, total, sha256,
                   closed_by, person) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let Statement { month, period, issuer, currency, time_zone } = new.statement;
    client
        .execute(
            sql,
            &[
                &month.to_string(),
                &period.from,
                &period.until,
                &issuer,
                &currency,
                &time_zone,
                &Json(new.rates),
                &i32::try_from(new.charges).unwrap_or(i32::MAX),
                &new.total,
                &Json(new.sha256),
                &actor.name,
                &actor.person.0,
            ],
        )
        .await?;
    Ok(())
}

const MONTH: &str =
    "SELECT month, starts, ends, issuer, currency, time_zone, rates, charges, total, sha256, closed, closed_by
     FROM billing_months";

fn stored(row: &Row) -> Result<StoredMonth, DbError> {
    let month: &str = row.try_get(0)?;
    Ok(StoredMonth {
        statement: Statement {
            month: month.parse().map_err(|e| DbError::value("billing_months.month", e))?,
            period: Period { from: row.try_get(1)?, until: row.try_get(2)? },
            issuer: row.try_get(3)?,
            currency: row.try_get(4)?,
            time_zone: row.try_get(5)?,
        },
        rates: row.try_get::<_, Json<Rates>>(6)?.0,
        charges: row.try_get::<_, i32>(7)?.unsigned_abs(),
        total: row.try_get(8)?,
        sha256: row.try_get::<_, Json<_>>(9)?.0,
        closed: row.try_get(10)?,
        closed_by: row.try_get(11)?,
    })
}

/// The last first, at most so many.
pub async fn list_months(client: &impl Client, most: u16) -> Result<Vec<StoredMonth>, DbError> {
    let rows = client.query(&format!("{MONTH} ORDER BY month DESC LIMIT $1"), &[&i64::from(most)]).await?;
    rows.iter().map(stored).collect()
}

pub async fn load_month(client: &impl Client, month: Month) -> Result<Option<StoredMonth>, DbError> {
    let row = client.query_opt(&format!("{MONTH} WHERE month = $1"), &[&month.to_string()]).await?;
    row.as_ref().map(stored).transpose()
}

pub async fn insert_adjustment(
    client: &impl Client,
    actor: &Actor,
    organisation: OrganisationId,
    (amount, currency, reason): (Decimal, &str, &str),
) -> Result<Uuid, DbError> {
    let id = Uuid::now_v7();
    let sql = "INSERT INTO billing_adjustments (id, organisation, amount, currency, reason, created_by, person)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    client.execute(sql, &[&id, &organisation.0, &amount, &currency, &reason, &actor.name, &actor.person.0]).await?;
    Ok(id)
}

/// The newest first; those that were charged say in which month.
pub async fn list_adjustments(
    client: &impl Client,
    owners: Owners<'_>,
    only_open: bool,
) -> Result<Vec<Adjustment>, DbError> {
    let sql = "SELECT j.id, j.organisation, o.name, j.amount, j.currency, j.reason, j.created, j.created_by, c.month
               FROM billing_adjustments j JOIN organisations o ON o.id = j.organisation
                   LEFT JOIN billing_charges c ON c.adjustment = j.id
               WHERE ($1::uuid[] IS NULL OR j.organisation = ANY($1)) AND ($2 = false OR c.month IS NULL)
               ORDER BY j.id DESC LIMIT 10000";
    let rows = client.query(sql, &[&owners, &only_open]).await?;
    rows.iter()
        .map(|row| {
            let (id, month): (Uuid, Option<&str>) = (row.try_get(0)?, row.try_get(8)?);
            let month = month.map(|month| month.parse().map_err(|e| DbError::value("billing_charges.month", e)));
            let info = AdjustmentInfo {
                id,
                organisation: row.try_get(2)?,
                amount: row.try_get(3)?,
                currency: row.try_get(4)?,
                reason: row.try_get(5)?,
                created: row.try_get(6)?,
                created_by: row.try_get(7)?,
                month: month.transpose()?,
            };
            Ok(Adjustment { id, organisation: OrganisationId(row.try_get(1)?), info })
        })
        .collect()
}
