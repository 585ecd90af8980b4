//! `td app open`.

use std::process::{Command, Stdio};

use magrathea_core::api::AppInfo;

use super::Named;
use crate::client::Query;
use crate::command::instances;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Only print the URL
    #[arg(long)]
    print: bool,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let name = context.app(arguments.named.name.as_deref())?;
    let app: AppInfo = context.client()?.get(&["apps", name.as_str()], &Query::new()).await?;
    let instance = instances::choose(&app.instances, name.as_str(), context.wanted())?;
    if context.globals.json {
        context.printer.json(&instance.urls);
        return Ok(Exit::Done);
    }
    let url = instance
        .urls
        .first()
        .ok_or_else(|| Failure::say(Exit::Failed, format!("{name} has no URL yet")).hint("deploy it: td app deploy"))?;
    context.printer.data(url);
    if !arguments.print && settings::has_display() {
        let browser = Command::new("xdg-open").arg(url).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if browser.is_err() {
            context.printer.note("no browser was opened: xdg-open is not here");
        }
    }
    Ok(Exit::Done)
}
