//! `td drain remove`.

use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The drain's id, as `td drain list` shows it
    id: String,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let client = context.client()?;
    let (app, label, query) = super::which(context, &client).await?;
    let id = &arguments.id;
    client.delete(&["apps", &app, "instances", &label, "drains", id], &query).await?;
    context.done(&json!({"removed": id}));
    context.printer.note(format!("ended the drain {id}"));
    Ok(Exit::Done)
}
