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
    if label.is_none() && context.globals.cluster.is_some() {
        return Err(Failure::usage("an app is destroyed everywhere; --cluster limits a label").hint("say --label, too"));
    }
    let doomed = match label {
        Some(_) => instances::choose_all(&app.instances, name.as_str(), context.wanted())?,
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
    let gone = |instance: &str| {
        context.printer.note(format!("destroyed {name}, label {instance}, with its files and database"));
    };
    let Some(label) = label else {
        client.delete(&["apps", name.as_str()], &query).await?;
        context.done(&json!({"app": name, "label": label, "destroyed": doomed}));
        list.iter().for_each(|instance| gone(instance));
        context.printer.note(format!("destroyed the app {name}"));
        return Ok(Exit::Done);
    };
    // One that cannot go is no hindrance to the others.
    let (mut destroyed, mut failed) = (Vec::new(), None);
    for (instance, told) in doomed.iter().zip(&list) {
        let mut query = query.clone();
        query.push(("cluster".into(), instance.cluster.clone()));
        match client.delete(&["apps", name.as_str(), "instances", label], &query).await {
            Ok(()) => {
                destroyed.push(instance);
                gone(told);
            }
            Err(failure) if doomed.len() == 1 => return Err(failure),
            Err(failure) => {
                context.printer.warning(&format!("{told} stays: {:#}", failure.error));
                failed.get_or_insert(failure);
            }
        }
    }
    context.done(&json!({"app": name, "label": label, "destroyed": destroyed}));
    failed.map_or(Ok(Exit::Done), Err)
}
