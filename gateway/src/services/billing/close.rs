//! Closing a month: its rows are stored once, with all names and prices, and never change.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use magrathea_core::api::ClosedMonth;
use magrathea_core::billing::{Charge, Format, Month, Period, Rates, Statement, plain, total};
use magrathea_core::people::{Place, Verb};
use magrathea_core::units::count;
use sha2::{Digest, Sha256};

use super::{charge_month, describe, load_rates, period_of};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::billing::{self, NewMonth, StoredMonth};
use crate::hub::NodeRef;
use crate::services::access::require_at;
use crate::services::members::append;
use crate::state::State;

/// How long after its end a month can be closed: by then connected nodes have told all that they counted in it.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Closes a month that is over; one that is closed stays as it is.
pub async fn close(
    state: &State,
    actor: &Actor,
    month: Month,
    confirm: Option<Month>,
) -> Result<ClosedMonth, ApiError> {
    require_at(actor, Verb::Costs, Place::Platform, "all organisations")?;
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    if !billing::try_lock(&tx).await? {
        return Err(ApiError::new(Code::Locked, "a month is being closed at the moment").with_hint("try again soon"));
    }
    if let Some(closed) = billing::load_month(&tx, month).await? {
        return describe(&tx, closed, None).await;
    }
    let rates = load_rates(state, actor).await?;
    let last = billing::list_months(&tx, 1).await?.pop();
    let period = period_of(&rates, month, last.as_ref());
    check(&rates, (month, period), last.as_ref(), Timestamp::now())?;
    check_nodes(state, month, confirm)?;

    let charges = charge_month(&tx, &rates, (month, period), None).await?;
    if let Some(other) = open_currency(&billing::list_adjustments(&tx, None, true).await?, &rates) {
        let message = format!("there is an adjustment in {other}, and the prices are in {}", rates.currency);
        return Err(ApiError::new(Code::RatesInvalid, message));
    }
    let statement = Statement {
        month,
        period,
        issuer: rates.issuer.clone(),
        currency: rates.currency.clone(),
        time_zone: rates.time_zone.clone(),
    };
    let (sum, sha256) = (total(&charges), hashes(&statement, &charges));
    billing::insert_charges(&tx, month, &charges).await?;
    let new = NewMonth { statement: &statement, rates: &rates, charges: charges.len(), total: sum, sha256: &sha256 };
    billing::insert_month(&tx, actor, new).await?;
    let rows = count(u32::try_from(charges.len()).unwrap_or(u32::MAX), "charge");
    let message = format!("{month} was closed: {rows}, {} {}", plain(sum, rates.minor_digits()), rates.currency);
    append(&tx, actor, "billing.closed", None, &message).await?;
    let closed = billing::load_month(&tx, month).await?;
    tx.commit().await?;
    let closed = closed.ok_or_else(|| ApiError::internal(anyhow::anyhow!("{month} was closed and is not there")))?;
    describe(&conn, closed, None).await
}

/// Whether the month may be closed now, after the last one that was.
fn check(
    rates: &Rates,
    (month, period): (Month, Period),
    last: Option<&StoredMonth>,
    now: Timestamp,
) -> Result<(), ApiError> {
    if let Some(last) = last.map(|last| &last.statement) {
        let next = last.month.next();
        if month != next {
            let message = format!("months are closed one after the other: after {} comes {next}", last.month);
            return Err(ApiError::new(Code::MonthOpen, message).with_hint(format!("td billing close --month {next}")));
        }
        if last.currency != rates.currency {
            let message =
                format!("{} was closed in {}, and the prices are in {}", last.month, last.currency, rates.currency);
            return Err(ApiError::new(Code::RatesInvalid, message)
                .with_hint("what is charged late must be of the same currency; keep it in rates.yml"));
        }
    }
    let first = period.until.checked_add(GRACE).unwrap_or(Timestamp::MAX);
    if now < first {
        return Err(ApiError::new(Code::MonthOpen, format!("{month} can be closed from {first} on"))
            .with_hint("td billing preview shows it as far as it is known"));
    }
    Ok(())
}

/// Nodes that are away may have usage to tell: whoever does not want to wait says so.
fn check_nodes(state: &State, month: Month, confirm: Option<Month>) -> Result<(), ApiError> {
    match confirm {
        Some(confirmed) if confirmed == month => return Ok(()),
        Some(confirmed) => {
            let message = format!("{confirmed} is confirmed, and {month} is to be closed");
            return Err(ApiError::new(Code::ConfirmationMismatch, message));
        }
        None => {}
    }
    let clusters = state.clusters();
    let nodes = clusters.clusters.iter().flat_map(|(cluster, its)| {
        its.nodes.keys().map(|node| NodeRef { cluster: cluster.clone(), node: node.clone() })
    });
    let away: Vec<String> = nodes.filter(|node| !state.hub.is_connected(node)).map(|node| node.to_string()).collect();
    if away.is_empty() {
        return Ok(());
    }
    let message = format!("nodes are away that may have usage of {month} to tell: {}", away.join(", "));
    Err(ApiError::new(Code::UsageIncomplete, message).with_hint(format!(
        "wait for them, or close it with --confirm {month}: what they tell later is charged in the next month"
    )))
}

fn open_currency(open: &[billing::Adjustment], rates: &Rates) -> Option<String> {
    open.iter().map(|one| &one.info.currency).find(|currency| **currency != rates.currency).cloned()
}

/// The SHA-256 of the export in each format.
fn hashes(statement: &Statement, charges: &[Charge]) -> BTreeMap<String, String> {
    let hash = |format: Format| {
        let mut hash = Sha256::new();
        hash.update(format.head(statement));
        for (n, charge) in charges.iter().enumerate() {
            hash.update(format.row(statement, n, charge));
        }
        hash.update(format.tail());
        (format.as_str().to_owned(), hex::encode(hash.finalize()))
    };
    Format::ALL.into_iter().map(hash).collect()
}
