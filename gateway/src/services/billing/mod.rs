//! What usage costs: previews, closed months and their export, adjustments, and the operator's view. Whose costs somebody may
//! see is decided here; what things cost, in `core::billing`.

mod adjust;
mod close;
mod costs;
mod export;
mod preview;
mod rates;
#[cfg(test)]
mod tests;

pub use adjust::{adjust, list_adjustments};
pub use close::close;
pub use costs::costs;
pub use export::{Export, export};
pub use preview::preview;
pub use rates::{check, load_rates, zone};

use jiff::Timestamp;
use magrathea_core::api::ClosedMonth;
use magrathea_core::billing::{Charge, Kind, Month, Period, Rates, Subject, Used, charge, corrections};
use magrathea_core::people::{Place, Verb};
use uuid::Uuid;

use super::access::require_at;
use super::organisations::find_organisation;
use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::db::Client;
use crate::db::billing::{self, Owners, StoredMonth, Sums};
use crate::db::organisations;
use crate::state::State;

/// Closed months that are reckoned again when the next is closed: what nodes tell later than that is not charged.
const CORRECTED: u16 = 3;

/// Most closed months that are listed.
const MOST_MONTHS: u16 = 600;

/// Whose costs an answer is about: those of the organisation that was named, else all that somebody may see; none: everybody's.
async fn owners(
    client: &impl Client,
    actor: &Actor,
    organisation: Option<&str>,
) -> Result<Option<Vec<Uuid>>, ApiError> {
    if let Some(name) = organisation {
        let found = find_organisation(client, actor, name).await?;
        require_at(actor, Verb::Costs, Place::Organisation(found.id), &format!("the organisation {name}"))?;
        return Ok(Some(vec![found.id.0]));
    }
    if actor.may(Verb::Costs, Place::Platform) {
        return Ok(None);
    }
    let all = organisations::list_organisations(client).await?.into_iter();
    let own: Vec<Uuid> =
        all.map(|one| one.id).filter(|id| actor.may(Verb::Costs, Place::Organisation(*id))).map(|id| id.0).collect();
    if own.is_empty() {
        require_at(actor, Verb::Costs, Place::Platform, "any organisation")?;
    }
    Ok(Some(own))
}

/// The closed months, the last first, with the sums of what somebody may see.
pub async fn list(state: &State, actor: &Actor) -> Result<Vec<ClosedMonth>, ApiError> {
    let conn = state.db.conn().await?;
    let owners = owners(&conn, actor, None).await?;
    let mut months = Vec::new();
    for month in billing::list_months(&conn, MOST_MONTHS).await? {
        months.push(describe(&conn, month, owners.as_deref()).await?);
    }
    Ok(months)
}

async fn describe(client: &impl Client, month: StoredMonth, owners: Owners<'_>) -> Result<ClosedMonth, ApiError> {
    let StoredMonth { statement, charges, total, sha256, closed, closed_by, .. } = month;
    let (charges, total) = match owners {
        None => (charges, total),
        Some(_) => billing::sum_charges(client, statement.month, owners).await?,
    };
    Ok(ClosedMonth {
        month: statement.month,
        from: statement.period.from,
        until: statement.period.until,
        time_zone: statement.time_zone,
        issuer: statement.issuer,
        currency: statement.currency,
        total,
        charges,
        closed,
        closed_by,
        sha256,
    })
}

/// A month's bounds. It begins where the one that was closed before it ended, also when the time zone was changed since.
fn period_of(rates: &Rates, month: Month, last: Option<&StoredMonth>) -> Period {
    let mut period = month.period(&rates.zone());
    if let Some(last) = last.map(|last| &last.statement)
        && last.month.next() == month
    {
        period.from = last.period.until;
    }
    period
}

/// The instances of a period, and what they used in each part of it in which other prices hold.
async fn load_period(
    client: &impl Client,
    rates: &Rates,
    period: Period,
    owners: Owners<'_>,
) -> Result<(Vec<Subject>, Sums), ApiError> {
    let starts: Vec<Timestamp> = rates.segments(period).iter().map(|segment| segment.period.from).collect();
    let sums = billing::load_used(client, period, &starts, owners).await?;
    let subjects = billing::list_subjects(client, period, &sums, owners).await?;
    Ok((subjects, sums))
}

/// What the usage of a period costs.
fn charge_period(rates: &Rates, period: Period, (subjects, sums): (&[Subject], &Sums)) -> Vec<Charge> {
    let nothing = Used::new();
    let of = |subject: &Subject| charge(rates, period, subject, sums.get(&subject.instance).unwrap_or(&nothing));
    subjects.iter().flat_map(of).collect()
}

/// All rows of a month that is not closed: its usage, corrections of months before it, and adjustments.
async fn charge_month(
    client: &impl Client,
    rates: &Rates,
    (month, period): (Month, Period),
    owners: Owners<'_>,
) -> Result<Vec<Charge>, ApiError> {
    let (subjects, sums) = load_period(client, rates, period, owners).await?;
    let mut charges = charge_period(rates, period, (&subjects, &sums));
    let closed = billing::list_months(client, CORRECTED).await?;
    // What is late is charged in the month after the last that was closed.
    if closed.first().is_some_and(|last| last.statement.month.next() != month) {
        return Ok(charges);
    }
    for StoredMonth { statement, rates, .. } in closed.iter().rev() {
        let (subjects, sums) = load_period(client, rates, statement.period, owners).await?;
        let now = charge_period(rates, statement.period, (&subjects, &sums));
        let billed = billing::load_billed(client, statement.month).await?;
        charges.extend(corrections(statement.month, statement.period, &now, billed));
    }
    for open in billing::list_adjustments(client, owners, true).await?.into_iter().rev() {
        charges.push(Charge {
            kind: Kind::Adjustment,
            organisation: open.organisation,
            organisation_name: open.info.organisation,
            app: None,
            app_name: None,
            instance: None,
            label: None,
            cluster: None,
            meter: None,
            price_id: None,
            from: period.from,
            until: period.until,
            consumed: None,
            quantity: None,
            price: None,
            cost: open.info.amount,
            description: open.info.reason,
            corrects: None,
            adjustment: Some(open.id),
        });
    }
    Ok(charges)
}
