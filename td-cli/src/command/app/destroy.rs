//! `td app destroy`: never without its name typed or said.

use magrathea_core::api::AppInfo;
use serde_json::json;

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
    /// Do not ask: the name of the app, or with --label the label's
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let name = context.app(arguments.named.name.as_deref())?;
    let client = context.client()?;
    let app: AppInfo = client.get(&["apps", name.as_str()], &Query::new()).await?;
    let label = context.globals.label.as_deref();
    let doomed = match label {
        Some(label) => vec![instances::choose(&app.instances, name.as_str(), Some(label))?],
        None => app.instances.iter().collect(),
    };
    let list: Vec<_> = doomed.iter().map(|instance| format!("{} on {}", instance.label, instance.cluster)).collect();
    let wanted = label.unwrap_or(name.as_str());
    let confirm = confirm(context, arguments, &name.to_string(), wanted, &list)?;
    if confirm != wanted {
        return Err(Failure::usage(format!("{confirm:?} is not {wanted:?}: nothing was destroyed")));
    }
    let query = vec![("confirm".into(), confirm)];
    match label {
        Some(label) => client.delete(&["apps", name.as_str(), "instances", label], &query).await?,
        None => client.delete(&["apps", name.as_str()], &query).await?,
    }
    context.done(&json!({"app": name, "label": label, "destroyed": doomed}));
    for instance in list {
        context.printer.note(format!("destroyed {name}, label {instance}, with its files and database"));
    }
    if label.is_none() {
        context.printer.note(format!("destroyed the app {name}"));
    }
    Ok(Exit::Done)
}

fn confirm(
    context: &Context<'_>,
    arguments: &Arguments,
    app: &str,
    wanted: &str,
    list: &[String],
) -> Result<String, Failure> {
    if let Some(confirm) = &arguments.confirm {
        return Ok(confirm.clone());
    }
    if !settings::can_ask() {
        return Err(Failure::usage(format!("destroying {app} needs --confirm {wanted}")));
    }
    context.printer.message(format!("This destroys {app} with all its files and databases:"));
    for instance in list {
        context.printer.message(format!("  {instance}"));
    }
    context.printer.question(&format!("Type {wanted} to go on:"));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}
