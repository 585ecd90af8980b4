//! `td config history`: who changed which value when, never what it is; and when the layers were told something else.

use jiff::Timestamp;
use magrathea_core::api::{ConfigChange, Configuration};
use serde::Serialize;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::printer::clean;
use crate::{human, table};

/// Characters of a configuration's id.
pub const SHORT: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many of each kind
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
}

/// What --json prints.
#[derive(Debug, Serialize)]
struct History {
    values: Vec<ConfigChange>,
    configurations: Vec<Configuration>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let client = context.client()?;
    let label = context.globals.label.as_ref();
    let mut query: Query = vec![("limit".into(), arguments.limit.to_string())];
    query.extend(label.map(|label| ("label".to_owned(), label.clone())));
    query.extend(context.on_cluster());
    let mut values: Vec<ConfigChange> = client.get(&["apps", app.as_str(), "config-history"], &Query::new()).await?;
    values.retain(|change| change.label.is_none() || label.is_none() || change.label.as_ref() == label);
    values.truncate(arguments.limit);
    let configurations = client.get(&["apps", app.as_str(), "configurations"], &query).await?;
    let history = History { values, configurations };
    if context.globals.json {
        context.printer.json(&history);
    } else {
        print(context, history);
    }
    Ok(Exit::Done)
}

fn print(context: &Context<'_>, history: History) {
    let now = Timestamp::now();
    let values = history.values.into_iter().map(|change| {
        let label = change.label.unwrap_or_else(|| "all".into());
        let what = format!("{} {}", change.action, change.key);
        (change.at, [format!("c{}", change.version), human::age(change.at, now), change.person, label, what])
    });
    let laid = history.configurations.into_iter().map(|configuration| {
        let id = configuration.id.chars().take(SHORT).collect();
        let what = clean(&configuration.message).into_owned();
        (configuration.at, [id, human::age(configuration.at, now), configuration.person, configuration.label, what])
    });
    let mut rows: Vec<_> = values.chain(laid).collect();
    rows.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    table::print(context.printer, ["ID", "AGE", "WHO", "LABEL", "WHAT"], rows.into_iter().map(|(_, row)| row));
}
