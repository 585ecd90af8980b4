//! `td cert unset`.

use serde_json::json;

use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The certificate's name
    name: String,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    context.client()?.delete(&["certificates", &arguments.name], &Query::new()).await?;
    context.done(&json!({"unset": arguments.name}));
    context.printer.note(format!("unset the certificate {}", arguments.name));
    Ok(Exit::Done)
}
