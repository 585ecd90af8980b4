//! `td config list`.

use jiff::Timestamp;
use magrathea_core::api::ConfigEntry;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::human;
use crate::table;

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let answer = context.client()?.get(&["apps", app.as_str(), "config"], &Query::new()).await?;
    let label = context.globals.label.clone();
    context.show(answer, |printer, entries: Vec<ConfigEntry>| {
        let now = Timestamp::now();
        let reaches = |entry: &ConfigEntry| label.is_none() || entry.label.is_none() || entry.label == label;
        let rows = entries.into_iter().filter(reaches).map(|entry| {
            [entry.key, entry.label.unwrap_or_else(|| "all".into()), "***".to_owned(), human::age(entry.updated, now)]
        });
        table::print(printer, ["KEY", "LABEL", "VALUE", "AGE"], rows);
    })
}
