//! `td app create`.

use magrathea_core::api::{AppInfo, CreateApp};

use super::Named;
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub async fn run(context: &Context<'_>, named: &Named) -> Result<Exit, Failure> {
    let name = context.app(named.name.as_deref())?;
    let body = CreateApp { name: name.to_string(), organisation: None };
    let answer = context.client()?.post(&["apps"], &body).await?;
    context.show(answer, |printer, app: AppInfo| {
        printer.data(&app.name);
        printer.note(format!("made the app {}; deploy it: td app deploy --app {}", app.name, app.name));
    })
}
