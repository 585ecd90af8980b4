//! `td billing adjust` and `td billing adjustments`.

use jiff::Timestamp;
use magrathea_core::api::{AdjustmentInfo, NewAdjustment};
use rust_decimal::Decimal;

use super::money;
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::table::{self, or_dash};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The organisation
    #[arg(long, value_name = "ORGANISATION")]
    org: String,
    /// How much, in the currency of rates.yml; below zero it is a credit
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true)]
    amount: Decimal,
    /// Why, as it stands in the export
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Of this organisation alone
    #[arg(long, value_name = "ORGANISATION")]
    org: Option<String>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let Arguments { org, amount, reason } = arguments;
    let new = NewAdjustment { organisation: org.clone(), amount: *amount, reason: reason.clone() };
    let made: AdjustmentInfo = context.client()?.post(&["billing", "adjustments"], &new).await?;
    context.done(&made);
    let AdjustmentInfo { organisation, amount, currency, .. } = &made;
    let note = format!("{organisation} is charged {} {currency} in the month that is closed next", money(*amount));
    context.printer.note(note);
    Ok(Exit::Done)
}

pub async fn list(context: &Context<'_>, arguments: &ListArguments) -> Result<Exit, Failure> {
    let query: Query = arguments.org.iter().map(|org| ("organisation".to_owned(), org.clone())).collect();
    let answer = context.client()?.get(&["billing", "adjustments"], &query).await?;
    context.show(answer, |printer, all: Vec<AdjustmentInfo>| {
        let now = Timestamp::now();
        let rows = all.into_iter().map(|one| {
            let AdjustmentInfo { organisation, amount, currency, reason, created, created_by, month, .. } = one;
            [organisation, money(amount), currency, or_dash(month), human::age(created, now), created_by, reason]
        });
        table::print(printer, ["ORGANISATION", "AMOUNT", "CURRENCY", "MONTH", "AGE", "BY", "REASON"], rows);
    })
}
