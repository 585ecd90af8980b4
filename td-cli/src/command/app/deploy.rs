//! `td app deploy`.

use std::time::{Duration, Instant};

use magrathea_core::api::{DeployInfo, IfUnchanged, LabelDeploy};
use magrathea_core::names::AppName;
use magrathea_core::units::{Span, count};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::upload::upload;
use crate::client::{Client, Query};
use crate::command::deploy::{follow_all, print_running, print_summary, print_trial};
use crate::context::{Context, locate};
use crate::exit::{Exit, Failure};
use crate::follow::{End, Until, follow};
use crate::human;
use crate::progress::{Events, Progress, Target};
use crate::source::{self, Sent, Version};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    version: Version,
    /// Wait this long for another deploy of the instance to end; without it td refuses at once
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m")]
    wait: Option<Span>,
    /// Deploy every label of magrathea.yml on each of its clusters, side by side; the exit code is the first failure's
    #[arg(long, conflicts_with = "events")]
    all: bool,
    /// Let only this share of the visitors meet the new release, in percent, until `td deploy promote` or `td deploy abort`
    #[arg(long, value_name = "PERCENT", conflicts_with_all = ["all", "no_wait"], value_parser = clap::value_parser!(u8).range(1..=99))]
    canary: Option<u8>,
    /// What to do when this very source serves already, with the values that are set now
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Unchanged::Redeploy)]
    if_unchanged: Unchanged,
    /// Return as soon as the source is received
    #[arg(long, conflicts_with_all = ["events", "timeout"])]
    pub no_wait: bool,
    /// Leave the deploy to itself after this long, with exit code 7
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub timeout: Span,
    /// Print the deploy's events on stdout as they come, one JSON object per line
    #[arg(long, conflicts_with = "json")]
    events: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Unchanged {
    /// Deploy nothing
    Skip,
    /// Make a release all the same
    Redeploy,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let begun = Instant::now();
    if arguments.all && context.globals.label.is_some() {
        return Err(Failure::usage("--label and --all exclude each other"));
    }
    let (app, client) = (context.app(None)?, context.client()?);
    let mut progress = Progress::new(context.printer, Target::Progress);
    let sending = (&app, &client);
    let deploy = if arguments.events {
        // Events do not say which deploy they are of: there can be only one.
        send(context, arguments, sending, &progress, &["deploys"], begun).await?
    } else {
        let labels = if arguments.all { "all" } else { "label" };
        let all: Vec<LabelDeploy> = send(context, arguments, sending, &progress, &["deploys", labels], begun).await?;
        match only(all, arguments.all) {
            Ok(deploy) => deploy,
            Err(several) => {
                progress.finish();
                let wait = (!arguments.no_wait).then(|| arguments.until());
                return follow_all(context, several, wait).await;
            }
        }
    };

    if deploy.unchanged {
        progress.finish();
        return Ok(report(context, arguments, &deploy, &progress, begun.elapsed()));
    }
    if arguments.no_wait {
        progress.finish();
        print_running(context.printer, deploy.id, "received");
        return context.show(serde_json::to_value(&deploy)?, |printer, deploy: DeployInfo| {
            printer.data(deploy.id.to_string());
        });
    }
    let until = arguments.until();
    let end = if arguments.events {
        follow(&client, deploy.id, until, &mut Events(context.printer)).await
    } else {
        follow(&client, deploy.id, until, &mut progress).await
    };
    progress.finish();
    match end? {
        End::Finished(deploy) => Ok(report(context, arguments, &deploy, &progress, begun.elapsed())),
        End::OnTrial => {
            print_trial(context.printer, deploy.id);
            let route = ["deploys", &deploy.id.to_string()];
            context.show(client.get(&route, &Query::new()).await?, |_, _: DeployInfo| {})
        }
        End::TimedOut => {
            print_running(context.printer, deploy.id, &format!("not over after {}", arguments.timeout));
            Ok(Exit::Running)
        }
        End::Detached => {
            print_running(context.printer, deploy.id, "\ndetached");
            Ok(Exit::Running)
        }
    }
}

impl Arguments {
    fn until(&self) -> Until {
        Until { deadline: Some(tokio::time::Instant::now() + self.timeout.0), canary: self.canary.is_some() }
    }
}

/// The deploy of one label on one cluster; several are told of together, as those of --all are.
fn only(begun: Vec<LabelDeploy>, all: bool) -> Result<DeployInfo, Vec<LabelDeploy>> {
    match <[LabelDeploy; 1]>::try_from(begun) {
        Ok([LabelDeploy { deploy: Some(deploy), .. }]) if !all => Ok(deploy),
        Ok([other]) => Err(vec![other]),
        Err(several) => Err(several),
    }
}

/// Sends the chosen source to one of the app's routes.
async fn send<T: DeserializeOwned>(
    context: &Context<'_>,
    arguments: &Arguments,
    (app, client): (&AppName, &Client),
    progress: &Progress<'_>,
    route: &[&str],
    begun: Instant,
) -> Result<T, Failure> {
    let mut source = source::choose(&locate(&context.globals.folder)?, arguments.version)?;
    source.info.label = context.globals.label.clone();
    source.info.cluster = context.globals.cluster.clone();
    source.info.create = true;
    source.info.if_unchanged = match arguments.if_unchanged {
        Unchanged::Skip => IfUnchanged::Skip,
        Unchanged::Redeploy => IfUnchanged::Redeploy,
    };
    source.info.idempotency_key = Some(Uuid::now_v7().to_string());
    source.info.canary = arguments.canary;
    source.info.wait = arguments.wait.map(Span::whole_seconds);
    let sent = Sent::default();
    let uploading = progress.uploading(sent.clone());
    let segments = [&["apps", app.as_str()], route].concat();
    let answer = upload(client, &segments, &source.kind, &source.info, &sent).await?;
    drop(uploading);
    progress.done("send", begun.elapsed(), &format!("{}, {}", source.describe(), human::size(sent.bytes())));
    let uncommitted = source.count_uncommitted();
    if uncommitted > 0 {
        let changes = count(uncommitted, "uncommitted change");
        progress.warning(&format!("{changes} left out: the commit is deployed; --dirty sends the working tree"));
    }
    Ok(answer)
}

fn report(
    context: &Context<'_>,
    arguments: &Arguments,
    deploy: &DeployInfo,
    progress: &Progress<'_>,
    took: Duration,
) -> Exit {
    let exit = Exit::of_deploy(deploy);
    print_summary(context.printer, deploy, progress, Some(took));
    if context.globals.json {
        context.printer.json(deploy);
    } else if exit == Exit::Done && context.printer.is_quiet() && !arguments.events {
        for url in &deploy.urls {
            context.printer.data(url);
        }
    }
    exit
}
