//! Ends deploys whose gateway was killed: completes those whose release serves, takes back all others. The router is
//! asked which it is; the store only says how far somebody meant to go.

use std::sync::Arc;
use std::time::Duration;

use magrathea_core::api::Phase;
use magrathea_core::manifest::Resolved;
use magrathea_core::names::ReleaseNumber;
use magrathea_core::plan::Plan;

use super::events::Recorder;
use super::failure::Failure;
use super::layout::{Site, load_secrets_of};
use super::lease;
use super::pipeline::{self, Attempt};
use super::runtime::Hold;
use crate::db::deploys::{self, Deploy};
use crate::db::{instances, plans, releases, scales};
use crate::state::State;

/// How often deploys of gateways that are gone are looked for.
const EVERY: Duration = Duration::from_secs(15);

/// Takes over what an earlier process of this gateway left. To be called before anything else touches instances: each
/// one's hold is taken here, so that nothing comes between.
pub async fn claim_own(state: &Arc<State>) -> anyhow::Result<()> {
    claim(state, true).await
}

/// Looks for deploys of other gateways that are gone, until the gateway ends.
pub async fn watch(state: Arc<State>) {
    while state.shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        if let Err(error) = claim(&state, false).await {
            tracing::warn!("looking for abandoned deploys: {error:#}");
        }
    }
}

async fn claim(state: &Arc<State>, previous: bool) -> anyhow::Result<()> {
    let claimed = deploys::claim_orphans(&state.db.conn().await?, state.engine.id, previous).await?;
    for (id, instance) in claimed {
        let hold = state.engine.hold(instance).await;
        // It may have ended while the hold was waited for: its own task can have been late, not gone.
        let deploy = deploys::load_deploy(&state.db.conn().await?, id).await?;
        let Some(deploy) = deploy.filter(|deploy| !deploy.info.status.is_final()) else { continue };
        tracing::info!(deploy = %id, phase = %deploy.info.phase, "recovering a deploy");
        let task = Arc::clone(state);
        state.tasks.spawn(async move {
            tokio::select! {
                () = task.shutdown.cancelled() => {}
                () = recover(&task, deploy, hold) => {}
            }
        });
    }
    Ok(())
}

async fn recover(state: &Arc<State>, deploy: Deploy, hold: Hold) {
    let lease = lease::keep(state, deploy.id());
    let mut hold = Some(hold);
    while let Err(failure) = tokio::select! {
        () = lease.lost.cancelled() => Ok(()),
        result = settle(state, &deploy, &mut hold) => result,
    } {
        tracing::warn!(deploy = %deploy.id(), "recovering: {failure}; trying again");
        if let Some(cause) = &failure.cause {
            tracing::warn!(deploy = %deploy.id(), "{cause:#}");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    state.engine.forget(deploy.id());
    drop(hold);
}

async fn settle(state: &Arc<State>, deploy: &Deploy, hold: &mut Option<Hold>) -> Result<(), Failure> {
    let mut attempt = reopen(state, deploy).await?;
    if attempt.plan.is_some() {
        state.engine.wait_ready(&attempt.site.needed_nodes()).await;
        let serving = pipeline::read_serving(&attempt).await?;
        if deploy.committed || serving.release == Some(attempt.release) && attempt.scale.is_none() {
            attempt.recorder.warn("the gateway was restarted; the new release serves, and its deploy is completed");
            pipeline::finish(&mut attempt, None, serving).await;
            return Ok(());
        }
        let share = deploys::find_share(&state.db.conn().await?, deploy.id()).await?;
        if let Some(share) = share
            && deploy.info.phase == Phase::Canary
            && attempt.old.is_some()
        {
            attempt.recorder.warn("the gateway was restarted; the trial goes on");
            let stop = state.engine.stop_token(deploy.id());
            pipeline::resume_trial(&mut attempt, share, &stop, hold).await;
            return Ok(());
        }
    }
    let message = format!("the gateway was restarted in the {} phase; what served before serves on", deploy.info.phase);
    let failure = Failure::new("interrupted", message).hint("deploy again");
    pipeline::fail(&mut attempt, None, failure).await;
    Ok(())
}

/// Makes the attempt anew from what was stored.
async fn reopen(state: &Arc<State>, deploy: &Deploy) -> Result<Attempt, Failure> {
    let conn = state.db.conn().await?;
    let instance = instances::load_instance(&conn, deploy.instance())
        .await?
        .ok_or_else(|| anyhow::anyhow!("the deploy's instance was destroyed"))?;
    let (plan, configured) = match deploy.info.release {
        None => (None, None),
        Some(release) => (
            plans::load_plan(&conn, instance.id, release).await?,
            releases::load_configured(&conn, instance.id, release).await?,
        ),
    };
    let old = load_old(&conn, deploy, plan.as_ref()).await?;
    let scale = scales::load_rescale(&conn, deploy.id()).await?;
    let no_resolved = || Resolved {
        label: instance.label.clone(),
        clusters: Vec::new(),
        branch: None,
        protected: None,
        preview: None,
        sections: Default::default(),
        origins: Default::default(),
    };
    let mut configured =
        configured.unwrap_or_else(|| releases::Configured { resolved: no_resolved(), config_version: 0 });
    if deploys::has_finished(&conn, deploy.id(), Phase::AfterHook).await? {
        configured.resolved.sections.hooks.after.clear();
    }
    drop(conn);
    let site = Site::new(state, instance)?;
    let secrets = match plan {
        Some(_) => load_secrets_of(&site, &configured).await?,
        None => Default::default(),
    };
    let resolved = configured.resolved;
    Ok(Attempt {
        deploy: deploy.id(),
        recorder: Recorder::open(state, deploy.id(), deploy.info.phase).await?,
        applier: site.applier(secrets),
        site,
        resolved,
        release: deploy.info.release.unwrap_or(ReleaseNumber(0)),
        plan,
        old,
        image: deploy.image.clone(),
        scale,
    })
}

/// What served before the deploy: after the commit it is only known as the plan's parent.
async fn load_old(
    conn: &impl crate::db::Client,
    deploy: &Deploy,
    plan: Option<&Plan>,
) -> Result<Option<Plan>, crate::db::DbError> {
    match plan.map(|plan| plan.parent.as_deref()) {
        Some(None) => Ok(None),
        Some(Some(parent)) => plans::load_by_hash(conn, deploy.instance(), parent).await,
        None => plans::load_serving_plan(conn, deploy.instance()).await,
    }
}
