//! `td app destroy`: never without its name typed or said.

use std::collections::BTreeSet;

use magrathea_core::api::AppInfo;
use serde_json::json;

use super::Named;
use crate::client::Query;
use crate::command::confirmation::Confirmation;
use crate::command::instances;
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    confirmation: Confirmation,
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
    let mut names = vec![label.unwrap_or(name.as_str())];
    if label.is_none() {
        let protected = doomed.iter().filter(|instance| instance.protected).map(|instance| instance.label.as_str());
        names.extend(protected.collect::<BTreeSet<_>>());
    }
    let mut what = vec![format!("This destroys {name} with all its files and databases:")];
    what.extend(list.iter().map(|instance| format!("  {instance}")));
    arguments.confirmation.ask(context, &what, &names)?;
    let query = vec![("confirm".into(), names.join(","))];
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
