//! `td billing list`.

use jiff::Timestamp;
use magrathea_core::api::ClosedMonth;

use super::money;
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{human, table};

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let answer = context.client()?.get(&["billing", "months"], &Query::new()).await?;
    context.show(answer, |printer, months: Vec<ClosedMonth>| {
        let now = Timestamp::now();
        let rows = months.into_iter().map(|month| {
            let ClosedMonth { month, charges, total, currency, closed, closed_by, .. } = month;
            [month.to_string(), charges.to_string(), money(total), currency, human::age(closed, now), closed_by]
        });
        table::print(printer, ["MONTH", "CHARGES", "TOTAL", "CURRENCY", "AGE", "BY"], rows);
    })
}
