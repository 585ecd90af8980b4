//! One deploy of an instance at a time: recorded, which takes the instance's lock, or let in behind the one that has it; then carried
//! out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use magrathea_core::api::{DeployStatus, Phase, SourceInfo};
use magrathea_core::names::{DeployId, InstanceId};
use uuid::Uuid;

use super::events::Recorder;
use super::failure::Failure;
use super::layout::Site;
use super::lease;
use super::pipeline::{self, Attempt, Job};
use super::runtime::Hold;
use crate::actor::{Actor, GATEWAY};
use crate::api::error::{ApiError, Code};
use crate::db::deploys::{self, Deploy, NewDeploy};
use crate::db::{DbError, previews, scales, timeline};
use crate::state::State;

/// How often a waiting deploy asks whether it may run.
const TURN: Duration = Duration::from_millis(100);

/// How long a scaling of the gateway's own may take to give way.
const GIVES_WAY: Duration = Duration::from_secs(120);

/// What there is to say of why a deploy is made.
pub enum Reason {
    None,
    /// Of one that somebody asked for.
    Told(String),
    /// Of a scaling that the gateway begins by itself: told when it is over.
    Scaling(String),
}

impl Reason {
    pub fn as_str(&self) -> &str {
        match self {
            Reason::None => "",
            Reason::Told(why) | Reason::Scaling(why) => why,
        }
    }
}

/// Records the deploy, which takes the instance's lock; or finds the one that this is a retry of. A scaling of the gateway's
/// own gives way to what somebody asks for.
pub async fn record(
    state: &Arc<State>,
    actor: Option<&Actor>,
    site: &Site,
    info: &SourceInfo,
    source: &str,
    reason: &Reason,
) -> Result<(Deploy, bool), ApiError> {
    let conn = state.db.conn().await?;
    let instance = &site.instance;
    if let Some(key) = &info.idempotency_key
        && let Some(earlier) = deploys::find_by_key(&conn, instance.id, key).await?
    {
        return Ok((earlier, false));
    }
    let mut new = NewDeploy {
        id: DeployId(Uuid::now_v7()),
        instance: instance.id,
        actor: actor.map_or(GATEWAY, |actor| actor.name.as_str()),
        status: DeployStatus::Running,
        phase: Phase::Receive,
        source,
        info,
        gateway: state.engine.id,
        scale_reason: match reason {
            Reason::Scaling(reason) => Some(reason),
            _ => None,
        },
    };
    let mut inserted = deploys::insert_deploy(&conn, &new).await;
    if inserted.as_ref().is_err_and(|error| error.violates("deploys_one_running")) {
        let holder = deploys::find_running(&conn, instance.id).await?;
        let gives_way = match (actor, &holder) {
            (Some(actor), Some(holder)) => make_way(state, actor, holder).await?,
            _ => false,
        };
        if !gives_way && info.wait.is_none_or(|seconds| seconds == 0) {
            return Err(locked(&holder));
        }
        new.status = DeployStatus::Waiting;
        inserted = deploys::insert_deploy(&conn, &new).await;
    }
    match inserted {
        // That a preview is visited is nobody's word that it is to live longer.
        Ok(()) if matches!(reason, Reason::Scaling(_)) => {}
        Ok(()) => previews::renew_preview(&conn, instance.id).await?,
        Err(error) if error.violates("deploys_by_key") => {
            let key = info.idempotency_key.as_deref().unwrap_or_default();
            let earlier = deploys::find_by_key(&conn, instance.id, key).await?;
            return earlier.map(|deploy| (deploy, false)).ok_or_else(|| error.into());
        }
        Err(error) => return Err(error.into()),
    }
    let deploy = deploys::load_deploy(&conn, new.id).await?;
    let deploy = deploy.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the deploy vanished")))?;
    let why = match reason {
        Reason::None => String::new(),
        Reason::Told(why) => format!(": {why}"),
        Reason::Scaling(_) => return Ok((deploy, true)),
    };
    let message = format!("deploy {} of {} ({}){why}", new.id, instance.app_name, instance.label);
    let entry = timeline::NewEntry::about(instance, actor, "deploy.started", &message);
    timeline::append(&conn, entry).await?;
    Ok((deploy, true))
}

/// Stops a scaling of the gateway's own, or lets it end where it is past that. False when it is something else.
async fn make_way(state: &State, actor: &Actor, holder: &Deploy) -> Result<bool, ApiError> {
    let conn = state.db.conn().await?;
    if !scales::is_automatic(&conn, holder.id()).await? {
        return Ok(false);
    }
    if deploys::request_cancel(&conn, holder.id(), &actor.name).await? {
        state.engine.stop(holder.id());
    }
    Ok(true)
}

/// Waits until this process does nothing else to the instance, for what may not run beside a deploy. A scaling of the gateway's
/// own gives way to what somebody asks for; a deploy that is still under way then refuses it.
pub async fn alone(state: &State, actor: Option<&Actor>, instance: InstanceId) -> Result<Hold, ApiError> {
    let until = Instant::now() + GIVES_WAY;
    loop {
        let gives_way = match (actor, find_running(state, instance).await?) {
            (Some(actor), Some(holder)) => make_way(state, actor, &holder).await?,
            _ => false,
        };
        let hold = state.engine.hold(instance).await;
        let holder = find_running(state, instance).await?;
        if holder.is_none() {
            return Ok(hold);
        }
        if !gives_way || Instant::now() > until {
            return Err(locked(&holder).with_hint("wait until it is over, or cancel it: td deploy cancel"));
        }
        drop(hold);
        tokio::time::sleep(TURN).await;
    }
}

async fn find_running(state: &State, instance: InstanceId) -> Result<Option<Deploy>, DbError> {
    deploys::find_running(&state.db.conn().await?, instance).await
}

/// Who holds the instance, and since when.
pub fn locked(holder: &Option<Deploy>) -> ApiError {
    let message = match holder {
        Some(Deploy { info, .. }) => {
            format!(
                "deploy {} of {} holds the instance since {} (phase {})",
                info.id, info.person, info.created, info.phase
            )
        }
        None => "another deploy of the instance has just ended".to_owned(),
    };
    ApiError::new(Code::Locked, message).with_hint("wait for it with --wait, or cancel it")
}

/// Waits for its turn if it must, then runs. When the gateway is to end, the deploy is left wherever it is: the next process
/// recovers it.
pub async fn carry_out(job: Job, recorder: Arc<Recorder>, status: DeployStatus, wait: Duration) {
    let (id, shutdown) = (job.deploy, job.site.state.shutdown.clone());
    if shutdown.run_until_cancelled(carry(job, recorder, status, wait)).await.is_none() {
        tracing::info!(deploy = %id, "left to be recovered");
    }
}

async fn carry(job: Job, recorder: Arc<Recorder>, status: DeployStatus, wait: Duration) {
    // Whoever did not ask to wait was let in behind a scaling of the gateway's own.
    let wait = if wait.is_zero() { GIVES_WAY } else { wait };
    if status == DeployStatus::Waiting
        && let Err(failure) = wait_for_turn(&job, &recorder, wait).await
    {
        let mut attempt = Attempt::new(&job, &recorder);
        return pipeline::fail(&mut attempt, job.actor.as_ref(), failure).await;
    }
    if let Err(error) = recorder.begin(Phase::Detect).await {
        let mut attempt = Attempt::new(&job, &recorder);
        return pipeline::fail(&mut attempt, job.actor.as_ref(), error.into()).await;
    }
    pipeline::run(job, recorder).await;
}

async fn wait_for_turn(job: &Job, recorder: &Recorder, wait: Duration) -> Result<(), Failure> {
    let state = &job.site.state;
    let holder = deploys::find_running(&state.db.conn().await?, job.site.instance.id).await?;
    recorder.warn(format!("waiting: {}", locked(&holder).message));
    let lease = lease::keep(state, job.deploy);
    let stop = state.engine.stop_token(job.deploy);
    let turn = async {
        loop {
            if deploys::begin_deploy(&state.db.conn().await?, job.deploy).await? {
                return Ok::<_, Failure>(());
            }
            tokio::time::sleep(TURN).await;
        }
    };
    tokio::select! {
        result = turn => result,
        () = stop.cancelled() => Err(Failure::new("cancelled", "it was cancelled while it waited")),
        () = lease.lost.cancelled() => Err(Failure::new("interrupted", "another gateway took it over")),
        () = tokio::time::sleep(wait) => {
            let holder = deploys::find_running(&state.db.conn().await?, job.site.instance.id).await?;
            let message = format!("waited {} s; {}", wait.as_secs(), locked(&holder).message);
            Err(Failure::new("locked", message).hint("wait longer, or cancel the other deploy"))
        }
    }
}
