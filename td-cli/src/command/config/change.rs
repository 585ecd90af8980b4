//! What all commands that change values share: one request, then the deploys that it began.

use std::collections::BTreeMap;

use magrathea_core::api::{ChangeConfig, ConfigChanged, DeployInfo};

use crate::command::deploy::conclude;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::follow::{Until, follow};
use crate::progress::{Progress, Target};

/// Whether what serves is deployed with the new values at once.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Staging {
    /// Only store it; the next deploy delivers it
    #[arg(long)]
    pub no_deploy: bool,
}

/// Values by key; none forgets one.
pub type Changes = BTreeMap<String, Option<String>>;

/// Changes values, all or none, and follows the deploys that deliver them.
pub async fn change(context: &Context<'_>, values: Changes, staging: Staging) -> Result<Exit, Failure> {
    let app = context.app(None)?;
    let label = context.globals.label.clone();
    let body = ChangeConfig { values, label: label.clone(), deploy: !staging.no_deploy };
    let changed: ConfigChanged = context.client()?.post(&["apps", app.as_str(), "config"], &body).await?;
    let place = super::describe_label(label.as_deref());
    for (key, value) in &body.values {
        let verb = if value.is_some() { "set" } else { "unset" };
        context.printer.note(format!("{verb} {key} of {app} {place}"));
    }
    for key in &changed.unused {
        context.printer.note(format!("nothing that serves uses {key} yet: name it under `secrets` in magrathea.yml"));
    }
    if staging.no_deploy {
        context.printer.note("it takes effect with the next deploy: td app deploy");
    }
    context.done(&changed);
    follow_all(context, &changed.deploys).await
}

/// Follows deploys one after another; the exit code is that of the first that did not succeed.
pub async fn follow_all(context: &Context<'_>, deploys: &[DeployInfo]) -> Result<Exit, Failure> {
    let client = context.client()?;
    let mut exit = Exit::Done;
    for deploy in deploys {
        context.printer.note(format!("deploying {} ({} on {}) with it", deploy.app, deploy.label, deploy.cluster));
        let mut progress = Progress::new(context.printer, Target::Progress);
        let end = follow(&client, deploy.id, Until::default(), &mut progress).await;
        progress.finish();
        let ended = conclude(context, deploy.id, end?, &progress);
        if ended == Exit::Running {
            return Ok(ended);
        }
        if exit == Exit::Done {
            exit = ended;
        }
    }
    Ok(exit)
}
