//! The decision on a push, while its new objects wait in quarantine: who may, what it means, and, when a label follows the
//! branch, whether the deploy succeeds. Only then do references move.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use git2::Oid;
use magrathea_core::api::{DeployEventKind, DeployInfo, DeployStatus, SourceInfo};
use magrathea_core::names::{ClusterName, DeployId, LabelName};
use magrathea_core::people::Verb;

use super::archive::export;
use super::desk::Say;
use super::inspect::{self, Commit};
use super::limits;
use super::lines::Lines;
use super::push::Push;
use super::update::{Facts, Meaning, Refusal, Update, resolve, short, weigh};
use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::db::previews;
use crate::engine;
use crate::services::access::{InstanceName, Reach, require};
use crate::state::State;

/// How often a silent deploy is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Decides; `Ok` lets the references move.
pub async fn decide(
    state: &Arc<State>,
    push: &Arc<Push>,
    quarantine: Option<PathBuf>,
    updates: Vec<Update>,
    say: &Say,
) -> Result<(), Refusal> {
    take_turn(push, say).await?;
    let (path, place) = (push.repository.path.clone(), quarantine.clone());
    let told = updates.iter().take(5).map(tell).collect::<Vec<_>>().join(", ");
    push.note(told);
    let previews = load_previews(state, push).await.map_err(refusal)?;
    let facts = blocking(move || inspect::gather(&path, place.as_deref(), updates, previews)).await?;
    let meaning = weigh(&facts)?;
    for label in &meaning.rights {
        require(&push.actor, &push.app, Verb::Deploy, Reach::Label(label)).map_err(refusal)?;
    }
    for note in &meaning.notes {
        say.line(format!("       {note}")).await;
    }
    let Meaning { deploy, end, head, .. } = meaning;
    if let Some((branch, commit, labels)) = deploy {
        let (path, place) = (push.repository.path.clone(), quarantine.clone());
        let described = blocking(move || inspect::describe(&path, place.as_deref(), commit)).await?;
        for warning in &described.warnings {
            say.line(format!(" !     {warning}")).await;
        }
        let source = Pushed { state, push, quarantine: quarantine.as_deref(), branch: &branch, commit, described };
        let mut done: Vec<String> = Vec::new();
        for at in find_targets(state, &facts, &branch, &labels).map_err(refusal)? {
            deploy_at(&source, &at, say).await.map_err(|mut refusal| {
                if !done.is_empty() {
                    refusal.details.push(format!("already deployed by this push: {}", done.join(", ")));
                }
                refusal
            })?;
            done.push(at.told);
        }
    }
    // Last: what is deployed may fail, and would leave the branches where they are.
    for label in &end {
        say.line(format!("-----> destroying the preview {label} with its data")).await;
        let name = InstanceName { app: push.app.name.clone(), label: label.clone(), cluster: None };
        let ended = engine::end_preview(state, &push.actor, &push.app, &name, "its branch was deleted").await;
        ended.map_err(refusal)?;
        push.note(format!("{label}: destroyed"));
    }
    if let Some(head) = head {
        let path = push.repository.path.clone();
        blocking(move || inspect::set_head(&path, &head)).await?;
    }
    Ok(())
}

/// Where a push deploys to.
struct At {
    label: LabelName,
    cluster: ClusterName,
    /// As in `production`, or `production on milan` for a label on several clusters.
    told: String,
}

/// Each label on each of its clusters. A cluster that does not exist refuses the push before anything is deployed.
fn find_targets(state: &State, facts: &Facts, branch: &str, labels: &[LabelName]) -> Result<Vec<At>, ApiError> {
    let mut targets = Vec::new();
    for label in labels {
        let Some(resolved) = resolve(facts, branch, label) else { continue };
        let clusters = engine::choose_clusters(state, &resolved, None)?;
        let are_several = clusters.len() > 1;
        for cluster in clusters {
            engine::check_cluster(state, &cluster)?;
            let told = if are_several { format!("{label} on {cluster}") } else { label.to_string() };
            targets.push(At { label: label.clone(), cluster, told });
        }
    }
    Ok(targets)
}

async fn load_previews(state: &State, push: &Push) -> Result<Vec<(String, LabelName)>, ApiError> {
    Ok(previews::list_of_app(&state.db.conn().await?, push.app.id).await?)
}

/// Waits until no other push of the app is under way.
async fn take_turn(push: &Push, say: &Say) -> Result<(), Refusal> {
    let turn = push.repository.take_turn(&push.actor.name);
    let mut turn = std::pin::pin!(turn);
    let turn = match tokio::time::timeout(Duration::from_millis(50), turn.as_mut()).await {
        Ok(turn) => turn,
        Err(_) => {
            let holder = || push.repository.holder().unwrap_or_else(|| "somebody".into());
            say.line(format!(" !     waiting for the push of {}", holder())).await;
            tokio::select! {
                turn = turn => turn,
                () = push.gone.cancelled() => return Err(Refusal::new("the client has left")),
                () = tokio::time::sleep(limits::WAIT) => {
                    return Err(Refusal::new(format!("the push of {} is still under way", holder()))
                        .hint("push again when it is over"));
                }
            }
        }
    };
    push.keep(turn);
    Ok(())
}

/// An update in a few characters, for the timeline.
fn tell(update: &Update) -> String {
    let id = |oid: Option<Oid>| oid.map_or_else(|| "none".into(), short);
    format!("{} {} → {}", update.name, id(update.old), id(update.new))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(defect(&error)),
        Err(panic) => Err(defect(&anyhow::anyhow!(panic))),
    }
}

fn defect(error: &anyhow::Error) -> Refusal {
    tracing::error!("a push cannot be decided: {error:#}");
    Refusal::new("the gateway made a mistake; its log says more").hint("push again, or tell whoever runs the gateway")
}

/// What an error of the API's comes to.
pub fn refusal(error: ApiError) -> Refusal {
    if error.status().is_server_error() {
        let cause = error.cause.as_ref().map(|cause| format!("{cause:#}")).unwrap_or_default();
        tracing::error!(code = error.code.as_str(), cause, "a push cannot be decided: {error}");
    }
    let mut refusal = Refusal::new(error.message);
    refusal.hint = error.hint;
    refusal.details =
        error.diagnostics.iter().flat_map(|d| d.to_string().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    refusal
}

/// A commit in quarantine.
struct Pushed<'a> {
    state: &'a Arc<State>,
    push: &'a Push,
    quarantine: Option<&'a Path>,
    branch: &'a str,
    commit: Oid,
    described: Commit,
}

async fn deploy_at(source: &Pushed<'_>, at: &At, say: &Say) -> Result<(), Refusal> {
    let At { label, cluster, told } = at;
    let Pushed { state, push, described, .. } = source;
    say.line(format!("-----> {} {} to {told}", source.branch, short(source.commit))).await;
    let info = SourceInfo {
        label: Some(label.to_string()),
        cluster: Some(cluster.to_string()),
        branch: Some(source.branch.to_owned()),
        commit: Some(source.commit.to_string()),
        message: Some(described.message.clone()),
        author: Some(described.author.clone()),
        wait: Some(u32::try_from(limits::WAIT.as_secs()).unwrap_or(u32::MAX)),
        ..SourceInfo::default()
    };
    let export = || export(state.git.base(), &push.repository.path, source.quarantine, source.commit);
    await_same(source, at, say).await?;
    if let Some(made) =
        engine::find_made(state, push.app.id, (label, cluster), &source.commit.to_string()).await.map_err(refusal)?
    {
        let release = made.release;
        let whose = (&push.actor, &push.app);
        if made.serves(state, whose, &info, export().map_err(|e| defect(&e))?).await.map_err(refusal)? {
            say.line(format!("=====> {release} of {}, label {told}, serves this commit already", push.app.name)).await;
            push.note(format!("{told}: {release} serves already"));
            return Ok(());
        }
    }
    let body = export().map_err(|e| defect(&e))?;
    let submitted = engine::submit_tar(state, &push.actor, &push.app.name, info, body);
    let deploy = tokio::select! {
        submitted = submitted => submitted.map_err(refusal)?,
        () = push.gone.cancelled() => return Err(Refusal::new("the client has left")),
    };
    let id = DeployId(deploy.id);
    let mut guard = Guard { state, actor: &push.actor, deploy: Some(id) };
    let end = follow(source, id, say).await;
    let Some(deploy) = end else {
        return Err(Refusal::new("the gateway is about to end").hint("push again soon"));
    };
    guard.deploy = None;
    match (deploy.status, deploy.failure) {
        (DeployStatus::Succeeded, _) => {
            push.note(format!("{told}: {}", deploy.release.map(|r| r.to_string()).unwrap_or_default()));
            Ok(())
        }
        (_, Some(failure)) => {
            let mut refusal = Refusal::new(format!("{}: {}", failure.phase, failure.message));
            refusal.hint = failure.hint;
            Err(refusal)
        }
        _ => Err(Refusal::new("the deploy was cancelled")),
    }
}

/// Waits for a deploy of the same commit, as a gateway leaves one that is killed: the next one ends it.
async fn await_same(source: &Pushed<'_>, at: &At, say: &Say) -> Result<(), Refusal> {
    let Pushed { state, push, .. } = source;
    let commit = source.commit.to_string();
    let find = || engine::find_deploying(state, push.app.id, (&at.label, &at.cluster), &commit);
    let Some(deploy) = find().await.map_err(refusal)? else { return Ok(()) };
    say.line(format!(" !     waiting: {}", engine::locked(&Some(deploy)).message)).await;
    let over = async {
        while find().await.map_err(refusal)?.is_some() {
            tokio::time::sleep(TICK / 4).await;
        }
        Ok(())
    };
    tokio::select! {
        over = over => over,
        () = push.gone.cancelled() => Err(Refusal::new("the client has left")),
        // The deploy's own wait says the rest.
        () = tokio::time::sleep(limits::WAIT) => Ok(()),
    }
}

/// Shows the deploy until it is over. A client that leaves cancels it, unless it is past the cut-over.
async fn follow(source: &Pushed<'_>, id: DeployId, say: &Say) -> Option<DeployInfo> {
    let Pushed { state, push, .. } = source;
    let mut events = std::pin::pin!(engine::follow(Arc::clone(state), id, 0));
    let mut lines = Lines::default();
    let mut left = false;
    loop {
        let shown = tokio::select! {
            event = events.next() => {
                let event = event?.event;
                let shown = lines.event(&event, Instant::now());
                if let DeployEventKind::Finished { deploy } = event {
                    for line in shown {
                        say.line(line).await;
                    }
                    return Some(*deploy);
                }
                shown
            }
            () = push.gone.cancelled(), if !left => {
                left = true;
                if let Err(error) = engine::cancel(state, &push.actor, id).await {
                    tracing::info!(deploy = %id, %error, "the client of a push has left; its deploy goes on");
                }
                Vec::new()
            }
            () = tokio::time::sleep(TICK) => lines.tick(Instant::now()),
        };
        for line in shown {
            say.line(line).await;
        }
    }
}

/// Cancels the deploy of a push that ends before it.
struct Guard<'a> {
    state: &'a Arc<State>,
    actor: &'a Actor,
    deploy: Option<DeployId>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let Some(id) = self.deploy else { return };
        let (state, actor) = (Arc::clone(self.state), self.actor.clone());
        let tasks = state.tasks.clone();
        tasks.spawn(async move {
            if let Err(error) = engine::cancel(&state, &actor, id).await {
                tracing::info!(deploy = %id, %error, "the deploy of a push that was stopped goes on");
            }
        });
    }
}
