//! `td timeline`: who did what.

use jiff::Timestamp;
use magrathea_core::api::TimelineEntry;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::table;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many entries
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    limit: u32,
}

/// Unlike other commands, only what was asked for narrows the timeline; the working folder does not.
pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut query = vec![("limit".to_owned(), arguments.limit.to_string())];
    if context.globals.app.is_some() {
        query.push(("app".into(), context.app(None)?.to_string()));
    }
    query.extend(context.globals.label.iter().map(|label| ("label".to_owned(), label.clone())));
    query.extend(context.on_cluster());
    let answer = context.client()?.get(&["timeline"], &query).await?;
    context.show(answer, |printer, entries: Vec<TimelineEntry>| {
        let now = Timestamp::now();
        let rows = entries.into_iter().map(|entry| {
            let place = [entry.app, entry.label].into_iter().flatten().collect::<Vec<_>>().join("/");
            let place = if place.is_empty() { entry.cluster.unwrap_or_else(|| "-".into()) } else { place };
            [human::age(entry.at, now), entry.actor, entry.action, place, entry.message]
        });
        table::print(printer, ["AGE", "WHO", "WHAT", "WHERE", "MESSAGE"], rows);
    })
}
