//! A release on trial: a share of the visitors meets it beside the one that serves, until somebody promotes or aborts it, or
//! it does not stay up.

use std::time::Duration;

use magrathea_core::api::{DeployEventKind, Phase};
use magrathea_core::plan::{Resource, Spec};
use magrathea_core::units::Span;
use tokio::sync::watch;
use tokio::time::Instant;
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
    lead(attempt, share).await?;
    attempt.recorder.emit(DeployEventKind::Canary { release: attempt.release, share });
    await_decision(attempt, share, stop, edits, hold).await
}

/// Leads the share to the new release. May be repeated.
async fn lead(attempt: &Attempt, share: u8) -> Result<(), Failure> {
    let plan = attempt.plan.as_ref().ok_or_else(|| anyhow::anyhow!("a deploy without a plan"))?;
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
    mut edits: watch::Receiver<()>,
    hold: &mut Option<Hold>,
) -> Result<String, Failure> {
    drop(hold.take());
    let end = Instant::now() + LONGEST;
    let decided = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                break Err(Failure::new("cancelled", "its trial was aborted; what served before serves on"));
            }
            Ok(()) = edits.changed() => {}
            failed = watch_trial(attempt) => break Err(failed),
            promoted = promotion(attempt) => break promoted,
            () = tokio::time::sleep_until(end) => {
                let hours = LONGEST.as_secs() / 3600;
                break Err(Failure::new("cancelled", format!("nobody promoted it within {hours} hours"))
                    .hint("promote it in time with `td deploy promote`"));
            }
        }
        if let Err(failure) = follow_edits(attempt, share).await {
            attempt.recorder.warn(format!("the routing does not follow the access lists: {failure}; trying again"));
            edits.mark_changed();
            tokio::time::sleep(PAUSE).await;
        }
    };
    let site = &attempt.site;
    *hold = Some(site.state.engine.hold(site.instance.id).await);
    // The stored plans follow when the deploy is over.
    lists_changed(&site.state);
    decided
}

/// Puts access lists as they are now into both routes. The trial pauses for the moment in between.
async fn follow_edits(attempt: &mut Attempt, share: u8) -> Result<(), Failure> {
    let site = attempt.site.clone();
    let mut followed = None;
    if let Some(old) = &mut attempt.old
        && let Some(release) = old.release()
        && let Some(resolved) = releases::load_resolved(&site.state.db.conn().await?, site.instance.id, release).await?
    {
        followed = follow_lists(&site, &resolved, &mut old.resources).await?;
    }
    if let Some(route) = &followed {
        attempt.applier.ensure(route, &attempt.listener()).await?;
    }
    let resolved = attempt.resolved.clone();
    let plan = attempt.plan.as_mut().map(|plan| &mut plan.resources);
    let changed = follow_lists(&site, &resolved, plan.map_or(&mut [], Vec::as_mut_slice)).await?;
    if followed.or(changed).is_some() {
        lead(attempt, share).await?;
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
