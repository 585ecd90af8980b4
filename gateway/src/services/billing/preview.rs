//! What a month costs so far, by organisation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use magrathea_core::api::{MeterCosts, MonthPreview, OrganisationCosts};
use magrathea_core::billing::{Charge, Kind, Meter, Month, Statement, total};
use magrathea_core::names::OrganisationId;
use rust_decimal::Decimal;

use super::{charge_month, load_rates, owners, period_of};
use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::db::billing::{self, Owners};
use crate::db::{Client, DbError};
use crate::state::State;

/// Rows of a closed month that are read at a time.
const PAGE: i64 = 5000;

/// What a month would cost if it were closed now; the present one when none is named.
pub async fn preview(
    state: &State,
    actor: &Actor,
    month: Option<Month>,
    organisation: Option<&str>,
) -> Result<MonthPreview, ApiError> {
    let conn = state.db.conn().await?;
    let owners = owners(&conn, actor, organisation).await?;
    let owners = owners.as_deref();
    let stored = match month {
        Some(month) => billing::load_month(&conn, month).await?,
        None => None,
    };
    let (statement, closed, charges) = match stored {
        Some(stored) => {
            let charges = all_charges(&conn, stored.statement.month, owners).await?;
            (stored.statement, Some(stored.closed), charges)
        }
        None => {
            let rates = load_rates(state, actor).await?;
            let month = month.unwrap_or_else(|| Month::of(Timestamp::now(), &rates.zone()));
            let period = period_of(&rates, month, billing::list_months(&conn, 1).await?.first());
            let charges = charge_month(&conn, &rates, (month, period), owners).await?;
            let (issuer, currency, time_zone) = (rates.issuer, rates.currency, rates.time_zone);
            (Statement { month, period, issuer, currency, time_zone }, None, charges)
        }
    };
    Ok(MonthPreview {
        month: statement.month,
        from: statement.period.from,
        until: statement.period.until,
        time_zone: statement.time_zone,
        currency: statement.currency,
        closed,
        gaps: billing::count_gaps(&conn, statement.period).await?,
        total: total(&charges),
        organisations: by_organisation(&charges),
        charges: if organisation.is_some() { charges } else { Vec::new() },
    })
}

/// The rows of a closed month.
pub(super) async fn all_charges(
    client: &impl Client,
    month: Month,
    owners: Owners<'_>,
) -> Result<Vec<Charge>, DbError> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = billing::list_charges(client, month, owners, (after, PAGE)).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after = *last;
        all.extend(page.into_iter().map(|(_, charge)| charge));
    }
}

/// The sums of an organisation's charges, by what they are for.
type Sums = BTreeMap<(Kind, Option<Meter>), (Option<Decimal>, Decimal)>;

fn by_organisation(charges: &[Charge]) -> Vec<OrganisationCosts> {
    let mut all: BTreeMap<(&str, OrganisationId), Sums> = BTreeMap::new();
    for charge in charges {
        let sums = all.entry((&charge.organisation_name, charge.organisation)).or_default();
        let (quantity, cost) = sums.entry((charge.kind, charge.meter)).or_default();
        *quantity = charge.quantity.map(|more| quantity.unwrap_or_default() + more).or(*quantity);
        *cost += charge.cost;
    }
    let costs = |((name, id), sums): ((&str, OrganisationId), Sums)| OrganisationCosts {
        id: id.0,
        name: name.to_owned(),
        total: sums.values().map(|(_, cost)| cost).sum(),
        meters: sums
            .into_iter()
            .map(|((kind, meter), (quantity, cost))| MeterCosts {
                kind,
                meter,
                quantity: quantity.map(|quantity| quantity.normalize()),
                unit: meter.map(|meter| meter.pricing_unit().to_owned()),
                cost,
            })
            .collect(),
    };
    all.into_iter().map(costs).collect()
}
