//! The way of a deploy from an accepted source to a serving release. Up to the switch everything can be taken back;
//! after it everything is completed. A process that dies on the way leaves the rest to [`super::recover`].

mod back;
mod build;
mod canary;
mod lay;
mod password;
mod revert;
mod scale;
mod switch;

use std::sync::Arc;

use magrathea_buildpacks::Tree;
use magrathea_core::api::{Counts, DeployEventKind, DeployStatus, Phase, SourceInfo};
use magrathea_core::manifest::Resolved;
use magrathea_core::names::{AppName, ClusterName, DeployId, ProcessName, ReleaseNumber};
use magrathea_core::plan::Plan;
use magrathea_core::units::{count, size};
use magrathea_core::wire::{Blob, Progress, Serving};
use tokio_util::sync::CancellationToken;

use super::apply::Applier;
use super::events::Recorder;
use super::failure::Failure;
use super::layout::Site;
use super::runtime::Hold;
use super::{lease, sweep};
use crate::actor::{Actor, GATEWAY};
use crate::db::deploys::{self, End};
use crate::db::scales::{self, Rescale};
use crate::db::timeline;
use crate::state::State;

pub use lay::await_replicas;
use revert::revert;
pub use scale::{replicas_in, stand};
pub use switch::read_serving;
use switch::{complete, stand_by, switch};

/// A deploy to carry out.
pub struct Job {
    pub deploy: DeployId,
    /// None: the gateway itself.
    pub actor: Option<Actor>,
    pub site: Site,
    pub resolved: Resolved,
    /// Of an earlier release's source only the hash is known.
    pub blob: Blob,
    pub info: SourceInfo,
    pub origin: Origin,
}

/// Where a deploy's release comes from.
pub enum Origin {
    /// It is built from the source.
    Source(Tree),
    /// A new release with an earlier one's image.
    Again(Reused),
    /// An earlier release itself, as it was.
    Back(ReleaseNumber),
    /// What serves, with other numbers of replicas.
    Scale(Rescale),
}

/// An earlier release's image.
#[derive(Debug, Clone)]
pub struct Reused {
    pub release: ReleaseNumber,
    pub image: String,
    pub size: u64,
    /// Another cluster, on whose nodes it is.
    pub elsewhere: Option<ClusterName>,
    /// The version of the app's values that goes with it; none: as they are when the deploy begins.
    pub config_version: Option<i64>,
}

/// What a deploy has done so far: enough to complete it or to take it back.
pub struct Attempt {
    pub deploy: DeployId,
    pub site: Site,
    pub recorder: Arc<Recorder>,
    pub applier: Applier,
    pub resolved: Resolved,
    pub release: ReleaseNumber,
    /// None until the release phase: nothing but additive ground was laid before.
    pub plan: Option<Plan>,
    /// What serves before the switch.
    pub old: Option<Plan>,
    pub image: Option<String>,
    /// The numbers of replicas that it sets, when it does nothing else.
    pub scale: Option<Rescale>,
}

impl Attempt {
    /// Nothing was done yet.
    pub fn new(job: &Job, recorder: &Arc<Recorder>) -> Self {
        Attempt {
            deploy: job.deploy,
            site: job.site.clone(),
            recorder: Arc::clone(recorder),
            applier: job.site.applier(Default::default()),
            resolved: job.resolved.clone(),
            release: ReleaseNumber(0),
            plan: None,
            old: None,
            image: None,
            scale: match &job.origin {
                Origin::Scale(rescale) => Some(rescale.clone()),
                _ => None,
            },
        }
    }

    /// A listener for actions' progress.
    pub fn listener(&self) -> impl Fn(Progress) + Send + Sync + use<> {
        let recorder = Arc::clone(&self.recorder);
        move |progress| recorder.progress(progress)
    }
}

/// Carries a deploy out, to its recorded end; or leaves it, wherever it is, to another gateway that has taken it over.
pub async fn run(job: Job, recorder: Arc<Recorder>) {
    let state = Arc::clone(&job.site.state);
    let (id, actor) = (job.deploy, job.actor.clone());
    let lease = lease::keep(&state, id);
    let stop = state.engine.stop_token(id);
    let mut attempt = Attempt::new(&job, &recorder);
    let mut hold = Some(state.engine.hold(job.site.instance.id).await);
    let work = async {
        // People stop it before its switch only.
        let mut ready = tokio::select! {
            biased;
            () = stop.cancelled() => Err(Failure::new(
                "cancelled",
                "it was cancelled before the cut-over; what served before serves on",
            )),
            ready = prepare(&job, &mut attempt) => ready,
        };
        if let (Ok(laid), Some(share)) = (&ready, job.info.canary) {
            ready = canary::try_out(&mut attempt, share, laid, &stop, &mut hold).await;
        }
        decide(&mut attempt, actor.as_ref(), ready).await;
    };
    tokio::select! {
        biased;
        () = lease.lost.cancelled() => tracing::info!(deploy = %id, "another gateway goes on with it"),
        () = work => {}
    }
    state.engine.forget(id);
    drop(hold);
}

/// Everything before the switch. Tells what its last phase came to.
async fn prepare(job: &Job, attempt: &mut Attempt) -> Result<String, Failure> {
    let made = build::make_release(job, attempt).await?;
    lay::lay(attempt, &made).await
}

/// Goes on with a release that is on trial, or was about to be, after its gateway was killed.
pub async fn resume_trial(attempt: &mut Attempt, share: u8, stop: &CancellationToken, hold: &mut Option<Hold>) {
    let decided = canary::begin(attempt, share, stop, hold).await;
    decide(attempt, None, decided).await;
}

/// Cuts over to a release that is ready, telling what the phase before came to, or takes one back that is not.
async fn decide(attempt: &mut Attempt, actor: Option<&Actor>, ready: Result<String, Failure>) {
    let entered = async { Ok(attempt.recorder.enter(Phase::Routing, &ready?).await?) };
    match entered.await {
        Ok(()) => cut_over(attempt, actor).await,
        Err(failure) => fail(attempt, actor, failure).await,
    }
}

async fn cut_over(attempt: &mut Attempt, actor: Option<&Actor>) {
    match switch(attempt).await {
        Ok(serving) => match stand_by(attempt).await {
            Ok(()) => finish(attempt, actor, serving).await,
            Err(failure) => fail(attempt, actor, failure).await,
        },
        Err(failure) => {
            // A lost call leaves open which release serves: the router is asked once its node is back.
            if failure.code == "node" {
                attempt.recorder.warn(format!("{failure}; waiting for it, to ask what it serves"));
                attempt.site.state.engine.wait_ready(&attempt.site.needed_nodes()).await;
                if let Ok(serving) = read_serving(attempt).await
                    && serving.release == Some(attempt.release)
                {
                    return finish(attempt, actor, serving).await;
                }
            }
            fail(attempt, actor, failure).await;
        }
    }
}

/// Completes a deploy whose release serves, and records its success.
/// Without an actor the gateway itself does it.
pub async fn finish(attempt: &mut Attempt, actor: Option<&Actor>, serving: Serving) {
    let author = actor.map_or(GATEWAY, |actor| actor.name.as_str());
    if let Err(failure) = complete(attempt, author, &serving).await {
        log_cause(attempt.deploy, &failure);
        attempt.recorder.warn(format!("the new release serves, but: {failure}"));
    }
    let app = &attempt.site.instance;
    let (action, message) = match &attempt.scale {
        None => ("deploy.succeeded", format!("release {} of {} ({}) serves", attempt.release, app.app_name, app.label)),
        Some(rescale) => ("app.scaled", format!("{} ({}): {}", app.app_name, app.label, tell_rescale(rescale))),
    };
    let end = End { status: DeployStatus::Succeeded, serving: Some(&serving), failure: None };
    record_end(attempt, actor, end, (action, &message)).await;
}

/// What it does, in words: the gateway's own reason, or the numbers.
pub fn tell_rescale(rescale: &Rescale) -> String {
    rescale.reason.clone().unwrap_or_else(|| tell_counts(&rescale.counts))
}

/// As people write them: `queue=2 web=default`.
pub fn tell_counts(counts: &Counts) -> String {
    let one = |(process, count): (&ProcessName, &Option<u16>)| {
        format!("{process}={}", count.map_or_else(|| "default".to_owned(), |count| count.to_string()))
    };
    counts.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Takes a deploy back and records why.
pub async fn fail(attempt: &mut Attempt, actor: Option<&Actor>, failure: Failure) {
    log_cause(attempt.deploy, &failure);
    let recorder = Arc::clone(&attempt.recorder);
    let record = failure.record(recorder.phase(), recorder.tail());
    revert(attempt).await;
    let (status, action) = match failure.code {
        "cancelled" => (DeployStatus::Cancelled, "deploy.cancelled"),
        _ => (DeployStatus::Failed, "deploy.failed"),
    };
    let message = format!("{} phase: {}", record.phase, record.message);
    let end = End { status, serving: None, failure: Some(&record) };
    record_end(attempt, actor, end, (action, &message)).await;
}

/// Ends the deploy in the store, on the timeline and for those who follow it. Tried until the store takes it: an end
/// that is not recorded would keep the instance locked.
async fn record_end(attempt: &Attempt, actor: Option<&Actor>, end: End<'_>, told: (&str, &str)) {
    let state = &attempt.site.state;
    loop {
        match try_record_end(state, attempt, actor, &end, told).await {
            Ok(()) => break,
            Err(error) => tracing::warn!(deploy = %attempt.deploy, %error, "cannot record the end; trying again"),
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    attempt.recorder.flush().await;
    // Not before: what a deploy may still need is not left over.
    sweep::sweep_later(state, &attempt.site.instance.cluster);
}

async fn try_record_end(
    state: &Arc<State>,
    attempt: &Attempt,
    actor: Option<&Actor>,
    end: &End<'_>,
    (action, message): (&str, &str),
) -> Result<(), crate::db::DbError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let instance = &attempt.site.instance;
    let is_news = match (&attempt.scale, end.failure) {
        // What the gateway tries again and again is told once, for as long as it fails in the same way.
        (Some(Rescale { reason: Some(_), .. }), Some(failure)) => {
            let failed = scales::load_past(&tx, instance.id).await?.failed;
            failed.is_none_or(|(_, code)| code != failure.code)
        }
        _ => true,
    };
    deploys::finish_deploy(&tx, attempt.deploy, end).await?;
    if is_news {
        timeline::append(&tx, timeline::NewEntry::about(instance, actor, action, message)).await?;
    }
    let deploy = deploys::load_deploy(&tx, attempt.deploy).await?;
    tx.commit().await?;
    if let Some(deploy) = deploy {
        attempt.recorder.emit(DeployEventKind::Finished { deploy: Box::new(deploy.info) });
    }
    Ok(())
}

fn log_cause(id: DeployId, failure: &Failure) {
    match &failure.cause {
        Some(cause) => tracing::error!(deploy = %id, "{cause:#}"),
        None => tracing::info!(deploy = %id, code = failure.code, "{failure}"),
    }
}

/// Tells about a phase that was over before the recorder began, and which app it made, if any.
pub fn tell_received(recorder: &Recorder, took: std::time::Duration, files: usize, bytes: u64, made: Option<&AppName>) {
    let phase = Phase::Receive;
    recorder.emit(DeployEventKind::PhaseStarted { phase });
    if let Some(app) = made {
        recorder.emit(DeployEventKind::Log { phase, line: format!("made the app {app}") });
    }
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let detail = format!("{}, {}", count(files, "file"), size(bytes));
    recorder.emit(DeployEventKind::PhaseFinished { phase, milliseconds, detail });
}

/// The same for a source that is there already.
pub fn tell_again(recorder: &Recorder, detail: &str) {
    let phase = Phase::Receive;
    recorder.emit(DeployEventKind::PhaseStarted { phase });
    recorder.emit(DeployEventKind::PhaseFinished { phase, milliseconds: 0, detail: detail.to_owned() });
}
