//! `td deploy promote` and `td deploy abort`: how a release on trial goes on.

use magrathea_core::api::{DeployInfo, DeployStatus, Phase};
use serde_json::Value;
use uuid::Uuid;

use super::{Which, conclude};
use crate::client::{Client, Query};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::follow::{After, End, Until, follow};
use crate::progress::{Progress, Target};

pub async fn promote(context: &Context<'_>, which: &Which) -> Result<Exit, Failure> {
    let client = context.client()?;
    let trials = which.find_trials(context, &client).await?;
    for id in &trials {
        let _: Value = client.post(&["deploys", &id.to_string(), "promote"], &serde_json::json!({})).await?;
    }
    let mut first = Exit::Done;
    for id in trials {
        let (exit, _) = see_end(context, &client, id).await?;
        first = first.or(exit);
    }
    Ok(first)
}

pub async fn abort(context: &Context<'_>, which: &Which) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut first = Exit::Done;
    for id in which.find_trials(context, &client).await? {
        let exit = abort_one(context, &client, id).await?;
        first = first.or(exit);
    }
    Ok(first)
}

async fn abort_one(context: &Context<'_>, client: &Client, id: Uuid) -> Result<Exit, Failure> {
    let text = id.to_string();
    let deploy: DeployInfo = client.get(&["deploys", &text], &Query::new()).await?;
    if deploy.status.is_final() || deploy.phase != Phase::Canary {
        return Err(Failure::say(Exit::Failed, format!("deploy {id} has no release on trial"))
            .hint(format!("see how far it is: td deploy info {id}")));
    }
    let _: Value = client.post(&["deploys", &text, "cancel"], &serde_json::json!({})).await?;
    let (exit, end) = see_end(context, client, id).await?;
    // That it is taken back is what was asked for.
    Ok(if end == Some(DeployStatus::Cancelled) { Exit::Done } else { exit })
}

/// Shows what comes after the trial.
async fn see_end(context: &Context<'_>, client: &Client, id: Uuid) -> Result<(Exit, Option<DeployStatus>), Failure> {
    let mut progress = Progress::new(context.printer, Target::Progress);
    let mut after = After { phase: Phase::Canary, watcher: &mut progress, is_over: false };
    let end = follow(client, id, Until::default(), &mut after).await?;
    progress.finish();
    let status = match &end {
        End::Finished(deploy) => {
            if context.globals.json {
                context.printer.json(deploy);
            }
            Some(deploy.status)
        }
        _ => None,
    };
    Ok((conclude(context, id, end, &progress), status))
}
