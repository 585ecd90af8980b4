//! Several deploys side by side: of all labels, or of one label on all of its clusters. One summary, and the exit code of the
//! first that did not succeed.

use futures_util::future::join_all;
use magrathea_core::api::{DeployInfo, LabelDeploy, LabelRefusal};
use uuid::Uuid;

use super::{describe_status, follow_to_end, print_trial};
use crate::client::Client;
use crate::context::{Context, Place};
use crate::exit::{Exit, Failure};
use crate::follow::{End, Until, follow};
use crate::human;
use crate::printer::clean;
use crate::progress::{Progress, Target};
use crate::table::{self, or_dash};

/// What was begun.
pub enum Begun {
    One(Uuid),
    Several(Vec<LabelDeploy>),
}

/// Asks for the same at each place. Where there is only one, its failure is the command's.
pub async fn each(
    places: &[Place],
    ask: impl AsyncFn(&Place) -> Result<DeployInfo, Failure>,
    tell: impl Fn(&Place),
) -> Result<Begun, Failure> {
    if let [only] = places {
        let deploy = ask(only).await?;
        tell(only);
        return Ok(Begun::One(deploy.id));
    }
    let mut begun = Vec::new();
    for place in places {
        let asked = ask(place).await;
        if asked.is_ok() {
            tell(place);
        }
        begun.push(LabelDeploy::of(&place.label, &place.cluster, asked.map_err(Failure::into_refusal)));
    }
    Ok(Begun::Several(begun))
}

/// Follows what was begun to its end.
pub async fn follow_each(context: &Context<'_>, begun: Begun) -> Result<Exit, Failure> {
    match begun {
        Begun::One(id) => follow_to_end(context, id, Target::Progress).await,
        Begun::Several(begun) => follow_all(context, begun, Some(Until::default())).await,
    }
}

/// What came of one.
struct Ended {
    begun: LabelDeploy,
    exit: Exit,
    is_on_trial: bool,
}

/// Follows deploys that were begun; with nothing to wait for only tells that they were.
pub async fn follow_all(context: &Context<'_>, begun: Vec<LabelDeploy>, until: Option<Until>) -> Result<Exit, Failure> {
    let client = context.client()?;
    let labels: Vec<String> = begun.iter().map(|begun| begun.label.clone()).collect();
    let is_spread = |label: &String| labels.iter().filter(|other| *other == label).count() > 1;
    let followed = begun.into_iter().map(|begun| {
        let name = match begun.cluster.as_ref().filter(|_| is_spread(&begun.label)) {
            Some(cluster) => format!("{} {cluster}", begun.label),
            None => begun.label.clone(),
        };
        watch(context, &client, begun, (name, until))
    });
    let ended = join_all(followed).await.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    let exit = ended.iter().map(|ended| ended.exit).fold(Exit::Done, Exit::or);
    if context.globals.json {
        context.printer.json(&ended.into_iter().map(|ended| ended.begun).collect::<Vec<_>>());
        return Ok(exit);
    }
    print(context, &ended);
    for deploy in ended.iter().filter(|ended| ended.is_on_trial).filter_map(|ended| ended.begun.deploy.as_ref()) {
        print_trial(context.printer, deploy.id);
    }
    Ok(exit)
}

/// Follows one deploy to its end; without a wait only tells that it began.
async fn watch(
    context: &Context<'_>,
    client: &Client,
    mut begun: LabelDeploy,
    (name, until): (String, Option<Until>),
) -> Result<Ended, Failure> {
    let mut progress = Progress::labelled(context.printer, Target::Progress, &name);
    if let Some(error) = &begun.error {
        progress.warning(&error.message);
    }
    let ended = |begun, exit| Ended { begun, exit, is_on_trial: false };
    let Some(deploy) = &begun.deploy else {
        let exit = begun.error.as_ref().map_or(Exit::Failed, |error| Exit::of_code(&error.code));
        return Ok(ended(begun, exit));
    };
    let Some(until) = until.filter(|_| !deploy.unchanged) else {
        return Ok(ended(begun, Exit::Done));
    };
    match follow(client, deploy.id, until, &mut progress).await? {
        End::Finished(deploy) => {
            let exit = Exit::of_deploy(&deploy);
            if let Some(failure) = &deploy.failure {
                progress.warning(&format!("{}: {}", failure.phase, failure.message));
            }
            begun.deploy = Some(*deploy);
            Ok(ended(begun, exit))
        }
        End::OnTrial => Ok(Ended { begun, exit: Exit::Done, is_on_trial: true }),
        End::TimedOut | End::Detached => Ok(ended(begun, Exit::Running)),
    }
}

fn print(context: &Context<'_>, ended: &[Ended]) {
    let rows = ended.iter().map(|Ended { begun, is_on_trial, .. }| {
        let deploy = begun.deploy.as_ref();
        let took = deploy.and_then(|deploy| Some((deploy.created, deploy.finished?)));
        let took = took.map(|(created, finished)| human::duration(finished.duration_since(created).unsigned_abs()));
        let refused = begun.error.as_ref().map(describe_refusal);
        let status = if *is_on_trial { Some("on trial".to_owned()) } else { deploy.map(describe_status) };
        [
            begun.label.clone(),
            or_dash(begun.cluster.clone().or_else(|| deploy.map(|deploy| deploy.cluster.clone()))),
            or_dash(deploy.and_then(|deploy| deploy.release)),
            refused.or(status).unwrap_or_default(),
            or_dash(took),
            or_dash(deploy.and_then(|deploy| deploy.urls.first().cloned())),
        ]
    });
    table::print(context.printer, ["LABEL", "CLUSTER", "RELEASE", "STATUS", "TOOK", "URL"], rows);
}

fn describe_refusal(refusal: &LabelRefusal) -> String {
    format!("refused: {}", clean(&refusal.message))
}
