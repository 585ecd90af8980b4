//! A release on trial: a share of the visitors meets it beside the one that serves, until somebody promotes or aborts it, or
//! it does not stay up.

use std::time::Duration;

use magrathea_core::api::{DeployEventKind, Phase};
use magrathea_core::plan::{Resource, Spec};
use magrathea_core::units::Span;
use tokio_util::sync::CancellationToken;

use super::Attempt;
use super::switch::watch_replicas;
use crate::db::deploys;
use crate::engine::failure::Failure;
use crate::engine::layout::{Part, parts};
use crate::engine::lists::lists_changed;
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
    attempt: &Attempt,
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
    lead(attempt, share).await?;
    attempt.recorder.emit(DeployEventKind::Canary { release: attempt.release, share });
    await_decision(attempt, stop, hold).await
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
pub async fn await_decision(
    attempt: &Attempt,
    stop: &CancellationToken,
    hold: &mut Option<Hold>,
) -> Result<String, Failure> {
    drop(hold.take());
    let decided = tokio::select! {
        biased;
        () = stop.cancelled() => Err(Failure::new("cancelled", "its trial was aborted; what served before serves on")),
        failed = watch(attempt) => Err(failed),
        promoted = promotion(attempt) => promoted,
        () = tokio::time::sleep(LONGEST) => {
            let hours = LONGEST.as_secs() / 3600;
            Err(Failure::new("cancelled", format!("nobody promoted it within {hours} hours"))
                .hint("promote it in time with `td deploy promote`"))
        }
    };
    let site = &attempt.site;
    *hold = Some(site.state.engine.hold(site.instance.id).await);
    // Lists that were edited meanwhile are followed when the deploy is over.
    lists_changed(&site.state);
    decided
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
async fn watch(attempt: &Attempt) -> Failure {
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
