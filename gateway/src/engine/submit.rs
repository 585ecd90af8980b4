//! Takes a source in, finds the instance that it is for, takes the instance's lock, and lets the deploy go on by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use magrathea_core::api::{DeployInfo, IfUnchanged, LabelDeploy, LabelRefusal, Phase, SourceInfo};
use magrathea_core::manifest::{Manifest, Resolved};
use magrathea_core::names::{AppName, ClusterName, LabelName};
use magrathea_core::people::Verb;

use super::again::find_same;
use super::choose::{Received, check_cluster, receive};
use super::events::Recorder;
use super::failure::into_api;
use super::intake::Packing;
use super::layout::Site;
use super::pipeline::{self, Job, Origin};
use super::previews::ensure_instance;
use super::turn::{Reason, carry_out, record};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::apps::{self, App};
use crate::db::instances::{self, Instance};
use crate::services::access::{Reach, no_app, require, sees};
use crate::services::apps::{check_may_create, ensure_app};
use crate::state::State;

/// How long a deploy waits for a gateway that has just started.
const OPENING: Duration = Duration::from_secs(10);

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
    let began = Instant::now();
    let known = admit(state, actor, name, &info).await?;
    let received = receive(state, name, packing, body).await?;
    let (resolved, cluster) = received.choose(state, name, &info)?;
    let (app, made) = make_app(state, actor, name, known).await?;
    let intake = Intake { received: &received, took: began.elapsed(), made: made.then_some(name), is_first: true };
    begin(state, actor, &app, info, &intake, (resolved, cluster)).await
}

/// Which labels of a source are deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    All,
    /// The one that is meant.
    One,
}

/// Takes a source in and begins a deploy of these labels on each of their clusters. That one cannot begin is no hindrance to
/// the others; where there is only one, its error is the answer.
pub async fn submit_all<E: std::fmt::Display>(
    state: &Arc<State>,
    actor: &Actor,
    name: &AppName,
    labels: Labels,
    info: SourceInfo,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Vec<LabelDeploy>, ApiError> {
    let began = Instant::now();
    let known = admit(state, actor, name, &info).await?;
    let received = receive(state, name, Packing::Zstd, body).await?;
    let targets = match labels {
        Labels::All => all_targets(state, &received, &info),
        Labels::One => {
            let (resolved, clusters) = received.choose_all(state, &info)?;
            if let [cluster] = clusters.as_slice() {
                check_cluster(state, cluster)?;
            }
            clusters.into_iter().map(|cluster| (resolved.label.clone(), Ok((resolved.clone(), cluster)))).collect()
        }
    };
    let is_only = labels == Labels::One && targets.len() == 1;
    let (app, mut made) = make_app(state, actor, name, known).await?;
    let (mut all, mut is_first) = (Vec::new(), true);
    for (label, chosen) in targets {
        let cluster = chosen.as_ref().ok().map(|(_, cluster)| cluster.to_string());
        let info = SourceInfo { label: Some(label.to_string()), cluster: cluster.clone(), ..info.clone() };
        let took = began.elapsed();
        let intake = Intake { received: &received, took, made: made.then_some(name), is_first };
        let begun = async { begin(state, actor, &app, info, &intake, chosen?).await };
        let (deploy, error) = match begun.await {
            Ok(deploy) => (Some(deploy), None),
            Err(error) if is_only => return Err(error),
            Err(error) => (None, Some(refusal(error))),
        };
        made &= deploy.is_none();
        is_first &= deploy.is_none();
        all.push(LabelDeploy { label: label.to_string(), cluster, deploy, error });
    }
    Ok(all)
}

type Target = (LabelName, Result<(Resolved, ClusterName), ApiError>);

/// Every label on each of its clusters. With a cluster, those labels alone that live on it.
fn all_targets(state: &State, received: &Received, info: &SourceInfo) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for label in received.manifest.labels.keys() {
        let of_label = SourceInfo { label: Some(label.to_string()), cluster: None, ..info.clone() };
        match received.choose_all(state, &of_label) {
            Err(error) => targets.push((label.clone(), Err(error))),
            Ok((resolved, clusters)) => {
                let wanted = |cluster: &ClusterName| info.cluster.as_ref().is_none_or(|name| name == cluster.as_str());
                let clusters = clusters.into_iter().filter(wanted);
                targets.extend(clusters.map(|cluster| (label.clone(), Ok((resolved.clone(), cluster)))));
            }
        }
    }
    targets
}

fn refusal(error: ApiError) -> LabelRefusal {
    if let Some(cause) = &error.cause {
        tracing::error!(code = error.code.as_str(), "{cause:#}");
    }
    LabelRefusal { code: error.code.as_str().to_owned(), message: error.message, hint: error.hint }
}

/// Whether somebody may deploy the app at all, before a large source is taken in; the label is known only after it.
async fn admit(state: &State, actor: &Actor, name: &AppName, info: &SourceInfo) -> Result<Option<App>, ApiError> {
    if info.canary.is_some_and(|share| !(1..=99).contains(&share)) {
        return Err(ApiError::new(Code::QueryInvalid, "a canary gets 1 to 99 percent of the visitors"));
    }
    if state.shutdown.is_cancelled() {
        return Err(ApiError::new(Code::ShuttingDown, "the gateway is about to end; try again soon"));
    }
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
    Ok(known)
}

/// The app, and whether it was made just now.
async fn make_app(
    state: &Arc<State>,
    actor: &Actor,
    name: &AppName,
    known: Option<App>,
) -> Result<(App, bool), ApiError> {
    match known {
        Some(app) => Ok((app, false)),
        None => Ok((ensure_app(&state.db, actor, name).await?, true)),
    }
}

/// What a deploy is told about how its source came.
struct Intake<'a> {
    received: &'a Received,
    took: Duration,
    /// The app that was made for it.
    made: Option<&'a AppName>,
    /// Whether it is the source's first deploy, which tells what there is to say of the file as a whole.
    is_first: bool,
}

async fn begin(
    state: &Arc<State>,
    actor: &Actor,
    app: &App,
    info: SourceInfo,
    intake: &Intake<'_>,
    (resolved, cluster): (Resolved, ClusterName),
) -> Result<DeployInfo, ApiError> {
    require(actor, app, Verb::Deploy, Reach::Label(&resolved.label))?;
    check_cluster(state, &cluster)?;
    if tokio::time::timeout(OPENING, state.engine.wait_open()).await.is_err() {
        return Err(ApiError::new(Code::StoreUnavailable, "the gateway is still starting; try again soon"));
    }
    let instance = ensure_instance(state, actor, app, &resolved, &cluster).await?;
    let site = Site::new(state, instance).map_err(into_api)?;
    let Received { source, warnings, .. } = intake.received;
    if info.if_unchanged == IfUnchanged::Skip
        && let Some(same) = find_same(&site, &source.blob.sha256).await?
    {
        return Ok(same);
    }
    let (deploy, is_new) = record(state, Some(actor), &site, &info, &source.blob.sha256, &Reason::None).await?;
    if is_new {
        let recorder = Recorder::open(state, deploy.id(), Phase::Receive).await?;
        pipeline::tell_received(&recorder, intake.took, source.tree.files.len(), source.blob.size, intake.made);
        for warning in warnings {
            recorder.warn(warning);
        }
        if resolved.preview.is_none() && intake.is_first {
            for warning in absent_labels(state, actor, app, &intake.received.manifest).await? {
                recorder.warn(warning);
            }
        }
        let wait = Duration::from_secs(info.wait.unwrap_or(0).into());
        let job = Job {
            deploy: deploy.id(),
            actor: Some(actor.clone()),
            site,
            resolved,
            blob: source.blob.clone(),
            info,
            origin: Origin::Source(source.tree.clone()),
        };
        state.tasks.spawn(carry_out(job, recorder, deploy.info.status, wait));
    }
    Ok(deploy.info)
}

/// Notes which of the app's labels have left its magrathea.yml, or a cluster, and says so of those that the actor may see. What they
/// serve goes on: whether it is to end is for people to say.
async fn absent_labels(state: &State, actor: &Actor, app: &App, manifest: &Manifest) -> Result<Vec<String>, ApiError> {
    let mut places = Vec::new();
    for (label, resolved) in &manifest.labels {
        if resolved.clusters.is_empty() {
            // It names no cluster, and stays wherever it is.
            places.push((label.as_str(), None));
        }
        places.extend(resolved.clusters.iter().map(|cluster| (label.as_str(), Some(cluster.as_str()))));
    }
    let conn = state.db.conn().await?;
    instances::mark_absent(&conn, app.id, &places).await?;
    let mut absent = instances::list_app_instances(&conn, app.id).await?;
    absent.retain(|instance| instance.absent_since.is_some() && actor.may(Verb::Look, instance.place()));
    let tell = |instance: &Instance| {
        let Instance { label, cluster, .. } = instance;
        format!(
            "{label} on {cluster} has left magrathea.yml; it serves on until: \
             td app destroy --label {label} --cluster {cluster}"
        )
    };
    Ok(absent.iter().map(tell).collect())
}
