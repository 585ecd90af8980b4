//! `td deploy …`: deploys that run and that were.

mod cancel;
mod info;
mod list;
mod log;
mod result;
mod several;
mod trial;

pub use list::{describe_status, print};
pub use log::{conclude, follow_to_end};
pub use result::{print_running, print_summary, print_trial};
pub use several::{Begun, each, follow_all, follow_each};

use magrathea_core::api::{DeployInfo, Phase};
use uuid::Uuid;

use crate::client::{Client, Query};
use crate::context::Context;
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the app's deploys, newest first
    List(list::Arguments),
    /// Show a deploy
    Info(Which),
    /// Print a deploy's phases and log; follow it while it runs
    #[command(after_help = "It ends with the deploy's own exit code.")]
    Log(log::Arguments),
    /// Stop a deploy before its cut-over; what served before serves on
    Cancel(Which),
    /// Let a release on trial serve everybody
    #[command(after_help = "A trial begins with `td app deploy --canary 10`.")]
    Promote(Which),
    /// Take a release on trial back; what serves serves everybody again
    Abort(Which),
}

/// A deploy.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The deploy's id; the app's newest deploy when absent
    #[arg(value_name = "ID")]
    id: Option<Uuid>,
}

pub async fn run(context: &Context<'_>, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(arguments) => list::run(context, &arguments).await,
        Command::Info(which) => info::run(context, &which).await,
        Command::Log(arguments) => log::run(context, &arguments).await,
        Command::Cancel(which) => cancel::run(context, &which).await,
        Command::Promote(which) => trial::promote(context, &which).await,
        Command::Abort(which) => trial::abort(context, &which).await,
    }
}

impl Which {
    /// Those that have a release on trial, when no id is said: a label on several clusters may have one on each.
    async fn find_trials(&self, context: &Context<'_>, client: &Client) -> Result<Vec<Uuid>, Failure> {
        if let Some(id) = self.id {
            return Ok(vec![id]);
        }
        let app = context.app(None)?;
        let deploys: Vec<DeployInfo> = client.get(&["apps", app.as_str(), "deploys"], &Query::new()).await?;
        let on_trial = |d: &&DeployInfo| !d.status.is_final() && d.phase == Phase::Canary;
        let newest = deploys.iter().filter(|d| context.means(&d.label, &d.cluster)).max_by_key(|d| d.created);
        let newest = newest.ok_or_else(|| {
            Failure::say(Exit::Failed, format!("{app} was never deployed")).hint("deploy it: td app deploy")
        })?;
        let of_label = deploys.iter().filter(|d| d.label == newest.label && context.means(&d.label, &d.cluster));
        let trials: Vec<Uuid> = of_label.filter(on_trial).map(|deploy| deploy.id).collect();
        Ok(if trials.is_empty() { vec![newest.id] } else { trials })
    }

    async fn find(&self, context: &Context<'_>, client: &Client) -> Result<Uuid, Failure> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        let app = context.app(None)?;
        let deploys: Vec<DeployInfo> = client.get(&["apps", app.as_str(), "deploys"], &Query::new()).await?;
        let newest = deploys.iter().filter(|d| context.means(&d.label, &d.cluster)).max_by_key(|d| d.created);
        newest.map(|deploy| deploy.id).ok_or_else(|| {
            Failure::say(Exit::Failed, format!("{app} was never deployed")).hint("deploy it: td app deploy")
        })
    }
}
