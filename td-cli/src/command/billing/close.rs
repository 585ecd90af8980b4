//! `td billing close`.

use magrathea_core::api::{CloseMonth, ClosedMonth};
use magrathea_core::billing::Month;

use super::summary;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The month, as in 2026-11
    #[arg(long, value_name = "MONTH")]
    month: Month,
    /// The month once more, to close it although nodes are away that may have usage of it to tell
    #[arg(long, value_name = "MONTH")]
    confirm: Option<Month>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let month = arguments.month.to_string();
    let body = CloseMonth { confirm: arguments.confirm };
    let closed: ClosedMonth = context.client()?.post_long(&["billing", "months", &month, "close"], &body).await?;
    context.done(&closed);
    context.printer.note(summary(&closed));
    context.printer.note(format!("its files: td billing export --month {month} --format focus --output FILE"));
    Ok(Exit::Done)
}
