//! `td config history`: who changed which value when, never what it is.

use jiff::Timestamp;
use magrathea_core::api::ConfigChange;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{human, table};

pub async fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let answer = context.client()?.get(&["apps", app.as_str(), "config-history"], &Query::new()).await?;
    context.show(answer, |printer, changes: Vec<ConfigChange>| {
        let now = Timestamp::now();
        let rows = changes.into_iter().map(|one| {
            let label = one.label.unwrap_or_else(|| "all".into());
            [one.version.to_string(), human::age(one.at, now), one.person, one.action, one.key, label]
        });
        table::print(printer, ["VERSION", "AGE", "WHO", "WHAT", "KEY", "LABEL"], rows);
    })
}
