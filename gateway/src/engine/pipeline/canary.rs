//! A release on trial: a share of the visitors meets it beside the one that serves, until somebody promotes or aborts it, or
//! it does not stay up.

use std::time::Duration;

use magrathea_core::api::{DeployEventKind, Phase};
use magrathea_core::plan::{Plan, Resource, Spec};
use magrathea_core::units::Span;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Attempt;
use super::switch::watch_replicas;
use crate::db::{deploys, releases};
use crate::engine::failure::Failure;
use crate::engine::layout::{Part, parts};
use crate::engine::lists::{follow_lists, lists_changed};
use crate::engine::runtime::Hold;

/// How often the store is asked whether somebody has decided.
const ASK: Duration = Duration::from_millis(500);
/// How long the replicas are watched at once.
const WATCH: Span = Span(Duration::from_secs(30));
/// After a node did not answer.
const PAUSE: Duration = Duration::from_secs(2);
/// A trial that nobody ends holds up every other deploy of the instance.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends the share of visitors to a release that was laid, and waits for the decision. Tells what it came to; an error takes
/// the release back.
pub async fn try_out(
    attempt: &mut Attempt,
    share: u8,
    laid: &str,
    stop: &CancellationToken,
    hold: &mut Option<Hold>,
) -> Result<String, Failure> {
    if attempt.old.is_none() {
        attempt.recorder.warn("nothing served before, so there is nothing to try it beside: it serves everybody");
        return Ok(laid.to_owned());
    }
    attempt.recorder.enter(Phase::Canary, laid).await?;
    begin(attempt, share, stop, hold).await
}

/// Begins the trial, or goes on with it.
pub async fn begin(
    attempt: &mut Attempt,
    share: u8,
    stop: &CancellationToken,
    hold: &mut Option<Hold>,
) -> Result<String, Failure> {
    let edits = attempt.site.state.engine.lists.subscribe();
    let plan = attempt.plan.as_ref().ok_or_else(|| anyhow::anyhow!("a deploy without a plan"))?;
    lead(attempt, plan, share).await?;
    attempt.recorder.emit(DeployEventKind::Canary { release: attempt.release, share });
    await_decision(attempt, share, stop, edits, hold).await
}

/// Leads the share to the new release. May be repeated.
async fn lead(attempt: &Attempt, plan: &Plan, share: u8) -> Result<(), Failure> {
    for resource in parts(plan, Part::Route) {
        let Spec::Route(route) = &resource.spec else { continue };
        let mut route = route.clone();
        route.canary = Some(share);
        let resource = Resource { spec: Spec::Route(route), ..resource.clone() };
        attempt.applier.ensure(&resource, &attempt.listener()).await?;
    }
    Ok(())
}

/// Waits for the decision, and tells whose it was. Others may look at the instance meanwhile; they see that a deploy is under
/// way.
async fn await_decision(
    attempt: &mut Attempt,
    share: u8,
    stop: &CancellationToken,
    edits: watch::Receiver<()>,
    hold: &mut Option<Hold>,
) -> Result<String, Failure> {
    drop(hold.take());
    let mut plans = (attempt.old.clone(), attempt.plan.clone());
    let decided = tokio::select! {
        biased;
        () = stop.cancelled() => Err(Failure::new("cancelled", "its trial was aborted; what served before serves on")),
        failed = watch_trial(attempt) => Err(failed),
        promoted = promotion(attempt) => promoted,
        () = follow_edits(attempt, share, edits, &mut plans) => Err(anyhow::anyhow!("lists are not followed any more").into()),
        () = tokio::time::sleep(LONGEST) => {
            let hours = LONGEST.as_secs() / 3600;
            Err(Failure::new("cancelled", format!("nobody promoted it within {hours} hours"))
                .hint("promote it in time with `td deploy promote`"))
        }
    };
    (attempt.old, attempt.plan) = plans;
    let site = &attempt.site;
    *hold = Some(site.state.engine.hold(site.instance.id).await);
    // The stored plans follow when the deploy is over.
    lists_changed(&site.state);
    decided
}

/// What serves and what is on trial, as they are laid.
type Plans = (Option<Plan>, Option<Plan>);

/// Keeps both routes to the access lists as they are, for as long as the gateway lives.
async fn follow_edits(attempt: &Attempt, share: u8, mut edits: watch::Receiver<()>, plans: &mut Plans) {
    while edits.changed().await.is_ok() {
        if let Err(failure) = follow(attempt, share, plans).await {
            attempt.recorder.warn(format!("the routing does not follow the access lists: {failure}; trying again"));
            edits.mark_changed();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Puts access lists as they are now into both routes. The trial pauses for the moment in between.
async fn follow(attempt: &Attempt, share: u8, (old, plan): &mut Plans) -> Result<(), Failure> {
    let site = &attempt.site;
    let mut changed = None;
    if let Some(old) = old
        && let Some(release) = old.release()
        && let Some(resolved) = releases::load_resolved(&site.state.db.conn().await?, site.instance.id, release).await?
    {
        changed = follow_lists(site, &resolved, &mut old.resources).await?;
    }
    if let Some(route) = &changed {
        attempt.applier.ensure(route, &attempt.listener()).await?;
    }
    let Some(plan) = plan else { return Ok(()) };
    let of_plan = follow_lists(site, &attempt.resolved, &mut plan.resources).await?;
    if changed.or(of_plan).is_some() {
        lead(attempt, plan, share).await?;
    }
    Ok(())
}

async fn promotion(attempt: &Attempt) -> Result<String, Failure> {
    loop {
        let found = async { deploys::find_promotion(&attempt.site.state.db.conn().await?, attempt.deploy).await };
        match found.await {
            Ok(Some(person)) => return Ok(format!("promoted by {person}")),
            Ok(None) => {}
            Err(error) => tracing::warn!(deploy = %attempt.deploy, %error, "cannot ask for the decision; trying again"),
        }
        tokio::time::sleep(ASK).await;
    }
}

/// Returns when a replica on trial does not stay up; or never. A node that goes away says nothing about the app.
async fn watch_trial(attempt: &Attempt) -> Failure {
    let Some(plan) = &attempt.plan else { return std::future::pending().await };
    loop {
        match watch_replicas(attempt, plan, WATCH).await {
            Ok(()) => {}
            Err(mut failure) if failure.code == "unhealthy" => {
                failure.message = format!("{} did not stay up on trial: {}", attempt.release, failure.message);
                return failure;
            }
            Err(failure) => {
                tracing::info!(deploy = %attempt.deploy, %failure, "the release on trial is not watched");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
