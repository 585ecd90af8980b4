//! `td billing …`: what usage costs.

mod adjust;
mod close;
mod costs;
mod export;
mod list;
mod preview;

use magrathea_core::api::ClosedMonth;
use magrathea_core::billing::plain;
use rust_decimal::Decimal;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what a month would cost if it were closed now
    Preview(preview::Arguments),
    /// Close a month that is over: from then on nothing of it changes
    #[command(after_help = "What is told later of a closed month is charged in the next one, as a correction.")]
    Close(close::Arguments),
    /// List the closed months
    List,
    /// Write a closed month to a file: the same bytes every time
    Export(export::Arguments),
    /// Charge an organisation something, or give it a credit, in the month that is closed next
    Adjust(adjust::Arguments),
    /// List adjustments
    Adjustments(adjust::ListArguments),
    /// Show what clusters and instances use and earn, and which instances nobody comes to
    Costs(costs::Arguments),
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Preview(arguments) => preview::run(context, &arguments).await,
        Command::Close(arguments) => close::run(context, &arguments).await,
        Command::List => list::run(context).await,
        Command::Export(arguments) => export::run(context, &arguments).await,
        Command::Adjust(arguments) => adjust::run(context, &arguments).await,
        Command::Adjustments(arguments) => adjust::list(context, &arguments).await,
        Command::Costs(arguments) => costs::run(context, &arguments).await,
    }
}

/// An amount of money for people; no currency has fewer than the digits that the gateway rounded to.
fn money(amount: Decimal) -> String {
    plain(amount, 2)
}

/// A quantity for people, in three digits after the point.
fn quantity(amount: Decimal) -> String {
    plain(amount.round_dp(3), 0)
}

fn summary(month: &ClosedMonth) -> String {
    let ClosedMonth { month, charges, total, currency, closed_by, .. } = month;
    let rows = magrathea_core::units::count(*charges, "charge");
    format!("{month} is closed: {rows}, {} {currency}, by {closed_by}", money(*total))
}
