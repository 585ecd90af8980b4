//! `td deploy cancel`.

use serde_json::Value;

use super::Which;
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub async fn run(context: &Context<'_>, which: &Which) -> Result<Exit, Failure> {
    let client = context.client()?;
    let id = which.find(context, &client).await?.to_string();
    let answer: Value = client.post(&["deploys", &id, "cancel"], &serde_json::json!({})).await?;
    context.done(&answer);
    context.printer.note(format!("asked deploy {id} to stop; how it ends: td deploy log {id}"));
    Ok(Exit::Done)
}
