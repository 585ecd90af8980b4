//! `td drain …`: where an instance's log is sent to.

mod add;
mod list;
mod remove;

use magrathea_core::api::AppInfo;

use crate::client::{Client, Query};
use crate::command::instances;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Send the log to a sink, too, from now on
    #[command(after_help = "A sink is http://, https:// (batches of NDJSON), syslog:// or syslog+tls:// (RFC 5424).\n\
                            While it is away or slow, the lines wait on the nodes, as long as they are kept.")]
    Add(add::Arguments),
    /// List sinks and how they do
    List,
    /// End a drain
    Remove(remove::Arguments),
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Add(arguments) => add::run(context, &arguments).await,
        Command::List => list::run(context).await,
        Command::Remove(arguments) => remove::run(context, &arguments).await,
    }
}

/// The app and label that are meant, and the parameter that names the cluster.
async fn which(context: &Context<'_>, client: &Client) -> Result<(String, String, Query), Failure> {
    let app = context.app(None)?.to_string();
    if let Some(label) = &context.globals.label {
        return Ok((app, label.clone(), context.on_cluster()));
    }
    let info: AppInfo = client.get(&["apps", &app], &Query::new()).await?;
    let label = instances::choose(&info.instances, &app, context.wanted())?.label.clone();
    Ok((app, label, context.on_cluster()))
}
