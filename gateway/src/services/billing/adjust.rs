//! What the operator adds to an organisation's charges or takes off them by hand.

use magrathea_core::api::{AdjustmentInfo, NewAdjustment};
use magrathea_core::billing::plain;
use magrathea_core::people::{Place, Verb};
use rust_decimal::Decimal;

use super::{load_rates, owners};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::billing;
use crate::services::access::require_at;
use crate::services::members::append;
use crate::services::organisations::find_organisation;
use crate::state::State;

/// Longest reason, in characters.
const MOST_REASON: usize = 200;

/// Adds something to what is charged in the month that is closed next.
pub async fn adjust(state: &State, actor: &Actor, new: NewAdjustment) -> Result<AdjustmentInfo, ApiError> {
    require_at(actor, Verb::Costs, Place::Platform, "all organisations")?;
    let rates = load_rates(state, actor).await?;
    let invalid = |why: String| ApiError::new(Code::AdjustmentInvalid, why);
    let amount = new.amount.normalize();
    let most = Decimal::from(1_000_000_000);
    if amount.is_zero() || amount.abs() >= most || amount.scale() > rates.minor_digits() {
        let digits = rates.minor_digits();
        return Err(invalid(format!("{amount} is not an amount of {} that can be charged", rates.currency))
            .with_hint(format!("it is not 0, below a billion, and has at most {digits} decimals")));
    }
    let reason = new.reason.trim();
    // Spreadsheets take what begins otherwise for a formula.
    let begins_well = reason.chars().next().is_some_and(char::is_alphanumeric);
    if !begins_well || reason.chars().count() > MOST_REASON || reason.chars().any(char::is_control) {
        return Err(invalid("the reason is not acceptable".into())
            .with_hint(format!("one line of at most {MOST_REASON} characters that begins with a letter or a digit")));
    }
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let organisation = find_organisation(&tx, actor, &new.organisation).await?;
    let id = billing::insert_adjustment(&tx, actor, organisation.id, (amount, &rates.currency, reason)).await?;
    let shown = format!("{} {}", plain(amount, rates.minor_digits()), rates.currency);
    let message = format!("{} is charged {shown}: {reason}", organisation.name);
    append(&tx, actor, "billing.adjusted", Some(organisation.id), &message).await?;
    let all = billing::list_adjustments(&tx, Some(&[organisation.id.0]), true).await?;
    let made = all.into_iter().find(|one| one.id == id);
    tx.commit().await?;
    made.map(|made| made.info).ok_or_else(|| ApiError::internal(anyhow::anyhow!("the adjustment {id} is not there")))
}

/// The newest first.
pub async fn list_adjustments(
    state: &State,
    actor: &Actor,
    organisation: Option<&str>,
) -> Result<Vec<AdjustmentInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let owners = owners(&conn, actor, organisation).await?;
    let all = billing::list_adjustments(&conn, owners.as_deref(), false).await?;
    Ok(all.into_iter().map(|one| one.info).collect())
}
