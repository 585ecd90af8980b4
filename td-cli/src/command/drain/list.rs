//! `td drain list`.

use jiff::Timestamp;
use magrathea_core::api::DrainInfo;
use magrathea_core::logs::{LogLayer, shown};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{human, table};

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let client = context.client()?;
    let (app, label, query) = super::which(context, &client).await?;
    let answer = client.get(&["apps", &app, "instances", &label, "drains"], &query).await?;
    context.show(answer, |printer, drains: Vec<DrainInfo>| {
        let now = Timestamp::now();
        let rows = drains.into_iter().map(|drain| {
            let layers = drain.layers.iter().map(|layer: &LogLayer| layer.as_str()).collect::<Vec<_>>().join(" ");
            let state = match (drain.failing_since, drain.error) {
                (Some(since), Some(error)) => format!("failing for {}: {error}", human::age(since, now)),
                _ => "fine".to_owned(),
            };
            [
                drain.id.to_string(),
                shown(&drain.target).into_owned(),
                layers,
                drain.delivered.to_string(),
                shown(&state).into_owned(),
            ]
        });
        table::print(printer, ["ID", "SINK", "LAYERS", "LINES", "STATE"], rows);
    })
}
