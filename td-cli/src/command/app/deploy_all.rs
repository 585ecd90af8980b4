//! `td app deploy --all`: every label of the source, side by side, with one summary.

use std::time::Instant;

use futures_util::future::join_all;
use magrathea_core::api::{DeployInfo, LabelDeploy, LabelRefusal};
use tokio::time::Instant as Deadline;

use super::deploy::{Arguments, Sending};
use crate::client::Client;
use crate::command::deploy::describe_status;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::follow::{End, Until, follow};
use crate::human;
use crate::printer::clean;
use crate::progress::{Progress, Target};
use crate::table::{self, or_dash};

/// What came of one label.
struct Ended {
    label: String,
    deploy: Option<DeployInfo>,
    refusal: Option<LabelRefusal>,
    exit: Exit,
}

pub async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let begun = Instant::now();
    if context.globals.label.is_some() {
        return Err(Failure::usage("--label and --all exclude each other"));
    }
    let Sending { app, client, progress, .. } = Sending::new(context)?;
    let begun_deploys: Vec<LabelDeploy> =
        super::deploy::send(context, arguments, (&app, &client), &progress, &["deploys", "all"], begun).await?;
    let deadline = Deadline::now() + arguments.timeout.0;
    let wait = !arguments.no_wait;
    let followed = begun_deploys.into_iter().map(|begun| watch(context, &client, begun, wait.then_some(deadline)));
    let ended = join_all(followed).await.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    let exit = ended.iter().map(|ended| ended.exit).find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done);
    if context.globals.json {
        let all = ended.into_iter().map(|ended| LabelDeploy {
            label: ended.label,
            deploy: ended.deploy,
            error: ended.refusal,
        });
        context.printer.json(&all.collect::<Vec<_>>());
        return Ok(exit);
    }
    print(context, &ended);
    Ok(exit)
}

/// Follows one label's deploy to its end; without a deadline only tells that it began.
async fn watch(
    context: &Context<'_>,
    client: &Client,
    begun: LabelDeploy,
    deadline: Option<Deadline>,
) -> Result<Ended, Failure> {
    let LabelDeploy { label, deploy, error } = begun;
    let mut progress = Progress::labelled(context.printer, Target::Progress, &label);
    if let Some(error) = &error {
        progress.warning(&error.message);
    }
    let Some(deploy) = deploy else {
        let exit = error.as_ref().map_or(Exit::Failed, |error| Exit::of_code(&error.code));
        return Ok(Ended { label, deploy: None, refusal: error, exit });
    };
    if deadline.is_none() || deploy.unchanged {
        return Ok(Ended { label, deploy: Some(deploy), refusal: None, exit: Exit::Done });
    }
    let (deploy, exit) = match follow(client, deploy.id, Until { deadline, canary: false }, &mut progress).await? {
        End::Finished(deploy) => {
            let exit = Exit::of_deploy(&deploy);
            if let Some(failure) = &deploy.failure {
                progress.warning(&format!("{}: {}", failure.phase, failure.message));
            }
            (*deploy, exit)
        }
        End::TimedOut | End::Detached | End::OnTrial => (deploy, Exit::Running),
    };
    Ok(Ended { label, deploy: Some(deploy), refusal: None, exit })
}

fn print(context: &Context<'_>, ended: &[Ended]) {
    let rows = ended.iter().map(|ended| {
        let deploy = ended.deploy.as_ref();
        let took = deploy.and_then(|deploy| Some((deploy.created, deploy.finished?)));
        let took = took.map(|(created, finished)| human::duration(finished.duration_since(created).unsigned_abs()));
        let refused = ended.refusal.as_ref().map(|refusal| format!("refused: {}", clean(&refusal.message)));
        [
            ended.label.clone(),
            or_dash(deploy.map(|deploy| deploy.cluster.clone())),
            or_dash(deploy.and_then(|deploy| deploy.release)),
            refused.or_else(|| deploy.map(describe_status)).unwrap_or_default(),
            or_dash(took),
            or_dash(deploy.and_then(|deploy| deploy.urls.first().cloned())),
        ]
    });
    table::print(context.printer, ["LABEL", "CLUSTER", "RELEASE", "STATUS", "TOOK", "URL"], rows);
}
