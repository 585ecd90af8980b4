//! `td release rollback`.

use magrathea_core::api::{Release, ReleaseState, Rollback};
use magrathea_core::names::ReleaseNumber;
use magrathea_core::units::Span;

use super::Number;
use crate::client::Client;
use crate::command::deploy::{each, follow_each};
use crate::context::{Context, Place};
use crate::exit::{Exit, Failure};

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
    let (client, places) = context.places_of(context.globals.label.as_deref()).await?;
    if let (Some(Number(number)), [_, _, ..]) = (arguments.release, places.as_slice()) {
        let clusters = places.iter().map(|place| place.cluster.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(format!("each cluster has a {number} of its own"))
            .hint(format!("say --cluster: {clusters}; without a number all go back by one")));
    }
    let wait = arguments.wait.map(Span::whole_seconds);
    let body = Rollback { release: arguments.release.map(|Number(number)| number), wait };
    let roll_back = async |place: &Place| client.post_with(&place.segments("rollback"), &place.query(), &body).await;
    let begun = each(&places, roll_back, |place| context.printer.note(format!("rolling {place} back"))).await?;
    follow_each(context, begun).await
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
    client.get(&["apps", &place.app, "releases"], &place.narrow(500)).await
}
