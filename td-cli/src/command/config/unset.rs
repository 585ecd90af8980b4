//! `td config unset`.

use serde_json::json;

use super::describe_label;
use crate::client::Query;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(required = true, value_name = "KEY", help = "The values' names")]
    keys: Vec<String>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let client = context.client()?;
    let label = context.globals.label.as_deref();
    let query: Query = label.map(|label| ("label".into(), label.into())).into_iter().collect();
    for key in &arguments.keys {
        client.delete(&["apps", app.as_str(), "config", key], &query).await?;
        context.printer.note(format!("unset {key} of {app} {}", describe_label(label)));
    }
    context.done(&json!({"app": app, "label": label, "unset": arguments.keys}));
    Ok(Exit::Done)
}
