//! `td drain add`.

use std::path::PathBuf;

use anyhow::Context as _;
use magrathea_core::api::{DrainInfo, NewDrain};
use magrathea_core::logs::LogLayer;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The sink's address
    #[arg(value_name = "URL")]
    url: String,
    /// Only these layers: app, proxy, routing, db, cron
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    layer: Vec<LogLayer>,
    /// PEM of the only CA that is trusted, for a sink whose certificate is not from a public one
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
    let ca = arguments.ca.as_ref().map(read).transpose()?;
    let client = context.client()?;
    let (app, label, query) = super::which(context, &client).await?;
    let body = NewDrain { url: arguments.url.clone(), ca, layers: arguments.layer.clone() };
    let made: DrainInfo = client.post_with(&["apps", &app, "instances", &label, "drains"], &query, &body).await?;
    context.done(&made);
    context
        .printer
        .note(format!("the log of {app} ({label}) goes to {}, too; `td drain list` tells how it does", made.target));
    Ok(Exit::Done)
}
