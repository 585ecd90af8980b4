//! Detached runs: commands in containers of their own that nobody has to watch. They outlive connections, agents and
//! gateways; what they say is kept. Of a run that is over while its node is away, the sweep removes what is left there.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use magrathea_core::api::{RunInfo, RunLines, RunStatus, StartRun};
use magrathea_core::names::{AppName, InstanceId, LabelName, Layer};
use magrathea_core::people::{Role, Verb};
use magrathea_core::units::Span;
use magrathea_core::wire::{ActionErrorKind, Progress, RunOnce};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::place::Place;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::{Client, DbError, apps, runs, timeline};
use crate::engine::nodes_of;
use crate::hub::{CallError, Told};
use crate::services::access::{InstanceName, Reach, find_app, require};
use crate::state::State;

/// How long a run may take when its person does not say, and at most.
const USUAL: u64 = 3600;
const MOST: u64 = 24 * 3600;

/// Runs of one instance at once.
const AT_ONCE: i64 = 16;

/// Lines that are kept of one run.
const LINES: i64 = 10_000;

/// How often a run is looked at that another gateway may have been asked to stop.
const LOOK: Duration = Duration::from_secs(1);

/// How long a node is waited for before a run begins on it, and after the time that a run has.
const ABSENCE: Duration = Duration::from_secs(300);

/// A line, and which of the run's it is.
type Line = (u64, String);

/// The name of a run's service. Stable, so that whoever takes the run up again finds it, and the sweep knows it.
pub fn service_name(slug: &str, id: Uuid) -> String {
    format!("{slug}-job-{}", id.simple())
}

/// The run that a service is, when it is one's.
pub fn run_of_service(name: &str) -> Option<Uuid> {
    let (_, id) = name.split_once("-job-")?;
    Uuid::try_parse(id).ok()
}

/// Starts a run.
pub async fn start(
    state: &Arc<State>,
    actor: &Actor,
    name: &InstanceName,
    wanted: StartRun,
) -> Result<RunInfo, ApiError> {
    let place = Place::find(state, actor, name).await?;
    begin(state, actor, place, wanted, None).await
}

/// Starts one at a place to which the actor has the right; of a task, when it is one.
pub async fn begin(
    state: &Arc<State>,
    actor: &Actor,
    place: Place,
    wanted: StartRun,
    task: Option<runs::Task<'_>>,
) -> Result<RunInfo, ApiError> {
    let seconds = wanted.time_limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&seconds) || wanted.command.is_empty() || wanted.command.contains('\0') {
        let message = format!("a command is needed, and a time limit from 1 to {MOST} seconds");
        return Err(ApiError::new(Code::BodyInvalid, message));
    }
    let instance = &place.site.instance;
    let (app, label) = (&instance.app_name, &instance.label);
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await.map_err(DbError::from)?;
    if runs::count_running(&tx, instance.id).await? >= AT_ONCE {
        return Err(ApiError::new(Code::Locked, format!("{AT_ONCE} runs of {app} ({label}) are under way"))
            .with_hint("td run list shows them, td run stop ends one"));
    }
    let id = Uuid::now_v7();
    let new = runs::NewRun {
        id,
        instance: instance.id,
        actor: &actor.name,
        command: &wanted.command,
        task,
        seconds,
        gateway: state.engine.id,
    };
    if let Some(task) = task {
        runs::give_up_task(&tx, instance.id, task.name).await?;
    }
    match runs::insert_run(&tx, &new).await {
        Err(error) if error.violates(runs::TASK_RUNS) => {
            drop(tx);
            return Err(task_runs(&conn, instance.id, new.task.map(|task| task.name).unwrap_or_default()).await?);
        }
        inserted => inserted?,
    }
    let of_task = task.map(|task| format!(" of the task {}", task.name)).unwrap_or_default();
    let message: String = format!("run {id}{of_task} started: {}", wanted.command).chars().take(500).collect();
    let entry = timeline::NewEntry {
        actor: Some(actor),
        action: "run.started",
        app: Some(app.as_str()),
        label: Some(label.as_str()),
        message: &message,
        ..timeline::NewEntry::default()
    };
    timeline::append(&tx, entry).await?;
    let info = runs::load_run(&tx, id).await?.ok_or_else(|| not_found(id))?.info;
    tx.commit().await.map_err(DbError::from)?;
    let begun = Begun { told: Told::default(), patience: ABSENCE };
    state.tasks.spawn(carry(Arc::clone(state), place, info.clone(), begun));
    Ok(info)
}

/// Who runs the task.
async fn task_runs(client: &impl Client, instance: InstanceId, task: &str) -> Result<ApiError, ApiError> {
    let message = match runs::find_task_run(client, instance, task).await? {
        Some(run) => format!("{} runs the task {task} since {:.0}: run {}", run.person, run.started, run.id),
        None => format!("the task {task} has ended just now"),
    };
    Ok(ApiError::new(Code::Locked, message)
        .with_hint("one run of a task goes on at a time; td run log --follow ID waits for it, td run stop ID ends it"))
}

/// Takes up what this gateway waited for when it ended.
pub async fn resume(state: Arc<State>) {
    let resumed = async {
        let conn = state.db.conn().await?;
        for run in runs::list_running(&conn, state.engine.id).await? {
            let told = Told(runs::count_lines(&conn, run.id).await?);
            match Place::of_instance(&state, InstanceId(run.instance)).await {
                Ok(place) => {
                    let begun = Begun { told, patience: time_left(&run) };
                    state.tasks.spawn(carry(Arc::clone(&state), place, run, begun));
                }
                Err(error) => runs::finish_run(&conn, run.id, RunStatus::Failed, None, Some(&error.message)).await?,
            }
        }
        anyhow::Ok(())
    };
    if let Err(error) = resumed.await {
        tracing::error!(error = format!("{error:#}"), "detached runs were not taken up again");
    }
}

/// An app's runs that somebody may see.
pub async fn list(state: &State, actor: &Actor, app: &AppName) -> Result<Vec<RunInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let app = find_app(&conn, actor, app, Verb::Look, Reach::Some).await?;
    let listed = runs::list_runs(&conn, app.id, 100).await?.into_iter().filter(|run| {
        let label = run.info.label.parse();
        label.is_ok_and(|label| require(actor, &app, verb_of(run.role), Reach::Label(&label)).is_ok())
    });
    Ok(listed.map(|run| run.info).collect())
}

/// What a role is the least for; runs have no accountants.
fn verb_of(role: Role) -> Verb {
    Verb::ALL.into_iter().find(|verb| verb.least_role() == role).unwrap_or(Verb::Administer)
}

/// One run, when the actor might have started it.
pub async fn find(state: &State, actor: &Actor, id: Uuid) -> Result<RunInfo, ApiError> {
    let conn = state.db.conn().await?;
    let runs::Stored { info: run, role } = runs::load_run(&conn, id).await?.ok_or_else(|| not_found(id))?;
    let app = apps::load_app_of(&conn, InstanceId(run.instance)).await?.ok_or_else(|| not_found(id))?;
    let label: LabelName = run.label.parse().map_err(|_| not_found(id))?;
    require(actor, &app, Verb::Look, Reach::Label(&label)).map_err(|_| not_found(id))?;
    require(actor, &app, verb_of(role), Reach::Label(&label))?;
    Ok(run)
}

/// What a run said after a line, and how it stands.
pub async fn lines(state: &State, actor: &Actor, id: Uuid, after: i64) -> Result<RunLines, ApiError> {
    // In this order: a run that is over has said all that there is.
    let run = find(state, actor, id).await?;
    Ok(RunLines { lines: runs::list_lines(&state.db.conn().await?, id, after).await?, run })
}

/// Stops a run.
pub async fn stop(state: &State, actor: &Actor, id: Uuid) -> Result<RunInfo, ApiError> {
    let run = find(state, actor, id).await?;
    let conn = state.db.conn().await?;
    let message = format!("stopped by {}", actor.name);
    runs::finish_run(&conn, id, RunStatus::Stopped, None, Some(&message)).await?;
    let entry = timeline::NewEntry {
        actor: Some(actor),
        action: "run.stopped",
        app: Some(&run.app),
        label: Some(&run.label),
        message: &format!("run {id} is to stop"),
        ..timeline::NewEntry::default()
    };
    timeline::append(&conn, entry).await?;
    drop(conn);
    find(state, actor, id).await
}

fn not_found(id: Uuid) -> ApiError {
    ApiError::new(Code::RunNotFound, format!("there is no run {id}"))
}

/// How far a run was followed when it is taken up.
struct Begun {
    told: Told,
    /// How long its node is waited for.
    patience: Duration,
}

/// The time until nobody waits for a run any more whose node is away.
fn time_left(run: &RunInfo) -> Duration {
    let ran = Duration::try_from(run.started.duration_until(Timestamp::now())).unwrap_or_default();
    (Duration::from_secs(run.time_limit) + ABSENCE).saturating_sub(ran)
}

/// Waits for a run and records what it says and how it ends.
async fn carry(state: Arc<State>, place: Place, run: RunInfo, begun: Begun) {
    let (lines, queue) = mpsc::channel(4096);
    let keeping = keep_lines(&state, run.id, queue);
    let running = async {
        let outcome = execute(&state, &place, &run, begun, lines).await;
        outcome.unwrap_or_else(|error| (RunStatus::Failed, None, Some(error.to_string())))
    };
    let ((status, code, message), ()) = tokio::select! {
        end = async { tokio::join!(running, keeping) } => end,
        () = await_stop(&state, run.id) => return,
        () = state.shutdown.cancelled() => {
            // The connection to the node goes first: a call that is dropped on one that stands would end the run.
            return tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    let recorded = async {
        let conn = state.db.conn().await?;
        anyhow::Ok(runs::finish_run(&conn, run.id, status, code, message.as_deref()).await?)
    };
    if let Err(error) = recorded.await {
        tracing::error!(run = %run.id, error = format!("{error:#}"), "a run's end was not recorded");
    }
}

async fn execute(
    state: &Arc<State>,
    place: &Place,
    run: &RunInfo,
    Begun { mut told, patience }: Begun,
    lines: mpsc::Sender<Line>,
) -> Result<(RunStatus, Option<i32>, Option<String>), ApiError> {
    let mut service = place.one_off("run")?;
    service.name = service_name(&place.site.slug(), run.id);
    let request = RunOnce {
        name: service.name.clone(),
        service: Box::new(service),
        secrets: place.secrets().await?,
        command: run.command.clone(),
        timeout: Span(Duration::from_secs(run.time_limit)),
    };
    let node = nodes_of(&place.site.instance.cluster, &place.site.cluster, Layer::App).into_iter().next();
    let node =
        node.ok_or_else(|| ApiError::new(Code::NodeUnavailable, "no node of the cluster carries the layer app"))?;
    let mut give_up = Instant::now() + patience;
    let called = loop {
        while !state.hub.is_connected(&node) && Instant::now() < give_up {
            tokio::time::sleep(LOOK).await;
        }
        let called = state.hub.call(&node, request.clone(), |progress| {
            if told.is_new(&progress)
                && let Progress::Log { line, number: Some(number) } = progress
            {
                let _ = lines.try_send((number, line));
            }
        });
        match called.await {
            // What was begun goes on there.
            Err(CallError::Lost) if !time_left(run).is_zero() => give_up = Instant::now() + time_left(run),
            called => break called,
        }
    };
    Ok(match called {
        Ok(ran) => (RunStatus::Ended, i32::try_from(ran.exit_code).ok(), None),
        Err(CallError::Action(error)) if error.kind == ActionErrorKind::Cancelled => {
            (RunStatus::Stopped, None, Some(error.message))
        }
        Err(error) => (RunStatus::Failed, None, Some(error.to_string())),
    })
}

/// Stores lines as they come, many at a time.
async fn keep_lines(state: &State, run: Uuid, mut queue: mpsc::Receiver<Line>) {
    let mut came = Vec::new();
    while queue.recv_many(&mut came, 256).await > 0 {
        // PostgreSQL's text holds no NUL.
        let kept = came.drain(..).map(|(number, line)| (i64::try_from(number), line.replace('\0', "\u{fffd}")));
        let kept: Vec<(i64, String)> =
            kept.filter_map(|(n, line)| Some((n.ok().filter(|n| *n <= LINES)?, line))).collect();
        if kept.is_empty() {
            continue;
        }
        let stored = async { anyhow::Ok(runs::append_lines(&state.db.conn().await?, run, &kept).await?) };
        if let Err(error) = stored.await {
            tracing::warn!(%run, error = format!("{error:#}"), "lines of a run were lost");
        }
    }
}

/// Resolves when a run was stopped, by whichever gateway.
async fn await_stop(state: &State, run: Uuid) {
    loop {
        tokio::time::sleep(LOOK).await;
        let looked = async { anyhow::Ok(runs::load_run(&state.db.conn().await?, run).await?) };
        match looked.await {
            Ok(Some(run)) if run.info.status == RunStatus::Running => {}
            Ok(_) => return,
            Err(_) => {}
        }
    }
}
