//! `td release rollback`.

use magrathea_core::api::{DeployInfo, Release, ReleaseState, Rollback};
use magrathea_core::names::ReleaseNumber;
use magrathea_core::units::Span;

use super::Number;
use crate::client::{Client, Query};
use crate::command::deploy::follow_to_end;
use crate::context::{Context, Place};
use crate::exit::{Exit, Failure};
use crate::progress::Target;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The release to bring back; the one before that which serves when absent
    #[arg(value_name = "RELEASE")]
    release: Option<Number>,
    /// Wait this long for another deploy of the instance to end; without it td refuses at once
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m")]
    wait: Option<Span>,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let (client, place) = context.place().await?;
    let path = ["apps", &place.app, "instances", &place.label, "rollback"];
    let wait = arguments.wait.map(Span::whole_seconds);
    let body = Rollback { release: arguments.release.map(|Number(number)| number), wait };
    let deploy: DeployInfo = client.post(&path, &body).await?;
    context.printer.note(format!("rolling {place} back"));
    follow_to_end(context, deploy.id, Target::Progress).await
}

/// The release that an instance serves.
pub async fn serving(client: &Client, place: &Place) -> Result<ReleaseNumber, Failure> {
    let all = list(client, place).await?;
    let serving = all.iter().find(|release| release.serving);
    serving.map(|release| release.release.number).ok_or_else(|| {
        Failure::say(Exit::Failed, format!("{place} serves nothing yet")).hint("deploy it first: td app deploy")
    })
}

/// The release that served before another.
pub async fn before(client: &Client, place: &Place, number: ReleaseNumber) -> Result<ReleaseNumber, Failure> {
    let has_served = |release: &&Release| matches!(release.state, ReleaseState::Served | ReleaseState::Pruned);
    let all = list(client, place).await?;
    let mut earlier = all.iter().filter(has_served).map(|release| release.release.number);
    earlier
        .find(|earlier| *earlier < number)
        .ok_or_else(|| Failure::say(Exit::Failed, format!("{place} has no release before {number}")))
}

async fn list(client: &Client, place: &Place) -> Result<Vec<Release>, Failure> {
    let query: Query = vec![("label".into(), place.label.clone()), ("limit".into(), "500".into())];
    client.get(&["apps", &place.app, "releases"], &query).await
}
