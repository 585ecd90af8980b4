//! Takes a source in, finds the instance that it is for, takes the instance's lock, and lets the deploy go on by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use magrathea_core::api::{DeployInfo, DeployStatus, Phase, SourceInfo};
use magrathea_core::manifest::{self, DEFAULT_LABEL, Manifest, Resolved};
use magrathea_core::names::{AppName, ClusterName, DeployId, LabelName};
use magrathea_core::people::Verb;
use uuid::Uuid;

use super::events::Recorder;
use super::failure::Failure;
use super::intake::{self, IntakeError, Packing, Source};
use super::layout::Site;
use super::lease;
use super::pipeline::{self, Attempt, Job, Origin};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::deploys::{self, Deploy, NewDeploy};
use crate::db::{apps, instances, timeline};
use crate::services::access::{Reach, no_app, require, sees};
use crate::services::apps::{check_may_create, ensure_app};
use crate::state::State;

/// How often a waiting deploy asks whether it may run.
const TURN: Duration = Duration::from_millis(100);

/// How long a deploy waits for a gateway that has just started.
const OPENING: Duration = Duration::from_secs(10);

/// A source and the configuration that it is deployed with.
pub struct Chosen {
    pub source: Source,
    pub resolved: Resolved,
    pub cluster: ClusterName,
    pub warnings: Vec<String>,
}

/// Takes a source in, a tar packed with zstd, and begins its deploy, which goes on by itself whether or not the caller
/// stays.
pub async fn submit<E: std::fmt::Display>(
    state: &Arc<State>,
    actor: &Actor,
    name: &AppName,
    info: SourceInfo,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<DeployInfo, ApiError> {
    submit_packed(state, actor, name, info, Packing::Zstd, body).await
}

/// The same for a plain tar.
pub async fn submit_tar<E: std::fmt::Display>(
    state: &Arc<State>,
    actor: &Actor,
    name: &AppName,
    info: SourceInfo,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<DeployInfo, ApiError> {
    submit_packed(state, actor, name, info, Packing::Plain, body).await
}

async fn submit_packed<E: std::fmt::Display>(
    state: &Arc<State>,
    actor: &Actor,
    name: &AppName,
    info: SourceInfo,
    packing: Packing,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<DeployInfo, ApiError> {
    if state.shutdown.is_cancelled() {
        return Err(ApiError::new(Code::ShuttingDown, "the gateway is about to end; try again soon"));
    }
    let began = Instant::now();
    // Before a large source is taken in; the label is known only after it.
    let known = apps::load_app(&state.db.conn().await?, name).await?.filter(|app| sees(actor, app));
    match &known {
        Some(app) => {
            let label: Option<LabelName> = info.label.as_ref().and_then(|label| label.parse().ok());
            require(actor, app, Verb::Deploy, label.as_ref().map_or(Reach::Some, Reach::Label))?;
        }
        None if info.create => check_may_create(actor, actor.organisation)?,
        None => {
            return Err(no_app(name).with_hint(format!("make it with `td app create {name}`, or deploy with --create")));
        }
    }
    let chosen = choose(state, name, &info, packing, body).await?;
    let label = &chosen.resolved.label;
    let (app, made) = match known {
        Some(app) => (app, None),
        None => (ensure_app(&state.db, actor, name).await?, Some(name)),
    };
    require(actor, &app, Verb::Deploy, Reach::Label(label))?;
    if tokio::time::timeout(OPENING, state.engine.wait_open()).await.is_err() {
        return Err(ApiError::new(Code::StoreUnavailable, "the gateway is still starting; try again soon"));
    }
    let took = began.elapsed();
    let conn = state.db.conn().await?;
    let instance = instances::ensure_instance(&conn, app.id, &chosen.resolved.label, &chosen.cluster).await?;
    drop(conn);
    let site = Site::new(state, instance).map_err(into_api)?;
    let (deploy, is_new) = record(state, actor, &site, &info, &chosen.source.blob.sha256, "").await?;
    if is_new {
        let recorder = Recorder::open(state, deploy.id(), Phase::Receive).await?;
        pipeline::tell_received(&recorder, took, chosen.source.tree.files.len(), chosen.source.blob.size, made);
        for warning in &chosen.warnings {
            recorder.warn(warning);
        }
        let wait = Duration::from_secs(info.wait.unwrap_or(0).into());
        let job = Job {
            deploy: deploy.id(),
            actor: actor.clone(),
            site,
            resolved: chosen.resolved,
            blob: chosen.source.blob,
            info,
            origin: Origin::Source(chosen.source.tree),
        };
        state.tasks.spawn(carry_out(job, recorder, deploy.info.status, wait));
    }
    Ok(deploy.info)
}

/// Receives the source, reads its manifest and chooses label and cluster. Records nothing.
pub async fn choose<E: std::fmt::Display>(
    state: &Arc<State>,
    app: &AppName,
    info: &SourceInfo,
    packing: Packing,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Chosen, ApiError> {
    let source = intake::receive(body, packing, state.blobs()).await.map_err(refused)?;
    let (manifest, mut warnings) = match &source.manifest {
        None => (manifest::default_manifest(), Vec::new()),
        Some(text) => {
            let parsed = manifest::parse_manifest(manifest::FILE_NAME, text).map_err(ApiError::diagnostics)?;
            let warnings = parsed.1.0.iter().map(|d| format!("{}:{}: {}", d.file, d.line, d.message)).collect();
            (parsed.0, warnings)
        }
    };
    if let Some(named) = manifest.app.as_ref().filter(|named| *named != app) {
        warnings.push(format!("magrathea.yml names the app {named}, but it is deployed as {app}"));
    }
    let label = choose_label(&manifest, info)?;
    let Some(resolved) = manifest.labels.get(&label).cloned() else {
        return Err(ApiError::internal(anyhow::anyhow!("label {label} vanished")));
    };
    let cluster = choose_cluster(state, &resolved)?;
    Ok(Chosen { source, resolved, cluster, warnings })
}

/// The label that was asked for, the branch's, the only one, or the default.
fn choose_label(manifest: &Manifest, info: &SourceInfo) -> Result<LabelName, ApiError> {
    let labels = &manifest.labels;
    let all = || labels.keys().map(LabelName::as_str).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = &info.label {
        let found = labels.keys().find(|label| label.as_str() == wanted).cloned();
        return found.ok_or_else(|| {
            ApiError::new(Code::LabelUnknown, format!("magrathea.yml has no label {wanted:?}"))
                .with_hint(format!("it has {}", all()))
        });
    }
    if let Some(branch) = &info.branch {
        let mut of_branch = labels.iter().filter(|(_, resolved)| resolved.branch.as_ref() == Some(branch));
        if let (Some((label, _)), None) = (of_branch.next(), of_branch.next()) {
            return Ok(label.clone());
        }
    }
    let mut labels = labels.keys();
    match (labels.next(), labels.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => manifest.labels.keys().find(|label| label.as_str() == DEFAULT_LABEL).cloned().ok_or_else(|| {
            ApiError::new(Code::LabelUnknown, "magrathea.yml has several labels and none was chosen")
                .with_hint(format!("choose one with --label: {}", all()))
        }),
    }
}

/// The label's cluster, or the only one.
fn choose_cluster(state: &State, resolved: &Resolved) -> Result<ClusterName, ApiError> {
    let clusters = state.clusters();
    let all = || clusters.clusters.keys().map(ClusterName::as_str).collect::<Vec<_>>().join(", ");
    match &resolved.cluster {
        Some(name) if clusters.clusters.contains_key(name) => Ok(name.clone()),
        Some(name) => Err(ApiError::new(Code::ClusterUnknown, format!("clusters.yml has no cluster {name}"))
            .with_hint(format!("it has {}", all()))),
        None => match (clusters.clusters.keys().next(), clusters.clusters.len()) {
            (Some(only), 1) => Ok(only.clone()),
            _ => Err(ApiError::new(
                Code::ClusterUnknown,
                format!("the label {} names no cluster, and there is not just one", resolved.label),
            )
            .with_hint(format!("add `cluster:` to the label; clusters.yml has {}", all()))),
        },
    }
}

/// Records the deploy, which takes the instance's lock; or finds the one that this is a retry of.
pub async fn record(
    state: &Arc<State>,
    actor: &Actor,
    site: &Site,
    info: &SourceInfo,
    source: &str,
    why: &str,
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
        actor: &actor.name,
        status: DeployStatus::Running,
        phase: Phase::Receive,
        source,
        info,
        gateway: state.engine.id,
    };
    let mut inserted = deploys::insert_deploy(&conn, &new).await;
    if inserted.as_ref().is_err_and(|error| error.violates("deploys_one_running")) {
        if info.wait.is_none_or(|seconds| seconds == 0) {
            let holder = deploys::find_running(&conn, instance.id).await?;
            return Err(locked(&holder));
        }
        new.status = DeployStatus::Waiting;
        inserted = deploys::insert_deploy(&conn, &new).await;
    }
    match inserted {
        Ok(()) => {}
        Err(error) if error.violates("deploys_by_key") => {
            let key = info.idempotency_key.as_deref().unwrap_or_default();
            let earlier = deploys::find_by_key(&conn, instance.id, key).await?;
            return earlier.map(|deploy| (deploy, false)).ok_or_else(|| error.into());
        }
        Err(error) => return Err(error.into()),
    }
    let deploy = deploys::load_deploy(&conn, new.id).await?;
    let deploy = deploy.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the deploy vanished")))?;
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    let message = format!("deploy {} of {} ({}){why}", new.id, instance.app_name, instance.label);
    let entry = timeline::NewEntry {
        actor: Some(actor),
        action: "deploy.started",
        app: Some(instance.app_name.as_str()),
        label: Some(instance.label.as_str()),
        cluster: Some(instance.cluster.as_str()),
        message: &message,
        ..Default::default()
    };
    timeline::append(&conn, entry).await?;
    Ok((deploy, true))
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
    if status == DeployStatus::Waiting
        && let Err(failure) = wait_for_turn(&job, &recorder, wait).await
    {
        let mut attempt = Attempt::new(&job, &recorder);
        return pipeline::fail(&mut attempt, Some(&job.actor), failure).await;
    }
    if let Err(error) = recorder.begin(Phase::Detect).await {
        let mut attempt = Attempt::new(&job, &recorder);
        return pipeline::fail(&mut attempt, Some(&job.actor), error.into()).await;
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

fn refused(error: IntakeError) -> ApiError {
    let code = match &error {
        IntakeError::Limit { .. } => Code::SourceTooLarge,
        IntakeError::Entry { .. } | IntakeError::Unreadable(_) | IntakeError::Empty => Code::SourceInvalid,
        IntakeError::Store(_) => return ApiError::internal(error),
    };
    let mut api = ApiError::new(code, error.to_string());
    api.hint = error.hint();
    api
}

/// A failure outside of a deploy, as the API tells it.
pub fn into_api(failure: Failure) -> ApiError {
    let code = match failure.code {
        "manifest_invalid" => Code::PlanInvalid,
        "build_failed" => Code::BuildpackUnknown,
        "host_taken" => Code::HostTaken,
        "node" => Code::NodeUnavailable,
        "internal" => Code::Internal,
        _ => Code::ActionFailed,
    };
    let mut api = ApiError::new(code, failure.message);
    api.hint = failure.hint;
    api.cause = failure.cause;
    api
}
