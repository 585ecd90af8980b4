//! Doors to an instance as websockets: a stream's frames, one binary message each; and runs that nobody has to watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::StatusCode;
use axum::response::Response;
use magrathea_core::api::{RunInfo, RunLines, StartRun, StartTask, TaskInfo};
use magrathea_core::names::{AppName, LabelName, ProcessName};
use magrathea_core::wire::{Size, Tty};
use serde::Deserialize;
use uuid::Uuid;

use super::error::{ApiError, Code};
use super::extract::{Instance, Json, Path, Query};
use crate::actor::Actor;
use crate::remote::{self, FilesProgram, ShellRequest, StreamHandle, TunnelTo, runs, socket, tasks};
use crate::state::State;

/// What is to run.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShellQuery {
    /// A command line; an interactive program when absent. For the database client: SQL.
    command: Option<String>,
    /// The kind of terminal, as in `xterm-256color`; without one, output and errors come apart and nothing is changed.
    term: Option<String>,
    /// The terminal's width in characters.
    #[serde(default = "default_cols")]
    cols: u16,
    /// The terminal's height in lines.
    #[serde(default = "default_rows")]
    rows: u16,
    /// The start of a replica's container id; any replica when absent. For shells alone.
    replica: Option<String>,
    /// The process type whose replica it is; `web` when absent. For shells alone.
    #[param(value_type = Option<String>)]
    process: Option<ProcessName>,
}

fn default_cols() -> u16 {
    80
}

fn default_rows() -> u16 {
    24
}

impl ShellQuery {
    fn request(self) -> Result<ShellRequest, ApiError> {
        let invalid = |message: &str| ApiError::new(Code::QueryInvalid, message);
        let size = Size { cols: self.cols, rows: self.rows };
        let tty = match self.term {
            Some(term) if is_term(&term) => Some(Tty { term, size }),
            Some(_) => return Err(invalid("term is not a kind of terminal, as in xterm-256color")),
            None => None,
        };
        if self.command.as_ref().is_some_and(|command| command.contains('\0')) {
            return Err(invalid("command holds a NUL"));
        }
        if self.replica.as_ref().is_some_and(|id| id.len() < 4 || !id.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(invalid("replica is not the start of a container's id, of four characters at least"));
        }
        let command = self.command.filter(|command| !command.is_empty());
        Ok(ShellRequest { command, tty, env: BTreeMap::new(), replica: self.replica, process: self.process })
    }
}

fn is_term(term: &str) -> bool {
    (1..=64).contains(&term.len()) && term.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
}

/// Where a tunnel leads.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TunnelQuery {
    /// `db` or `memcached`.
    #[param(value_type = String)]
    to: TunnelTo,
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Makes the request a websocket once the stream is open: what is refused is an answer as any other.
async fn upgraded(
    state: Arc<State>,
    upgrade: Upgrade,
    open: impl Future<Output = Result<StreamHandle, ApiError>>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| ApiError::new(Code::UpgradeRequired, rejection.body_text()))?;
    let handle = open.await?;
    let (tasks, shutdown) = (state.tasks.clone(), state.shutdown.clone());
    let upgrade = upgrade.max_message_size(socket::MAX_MESSAGE).max_frame_size(socket::MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| tasks.track_future(socket::serve(socket, handle, shutdown))))
}

/// A shell in a running replica, or one command in it. A websocket.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/shell", tag = "remote",
    params(Instance, ShellQuery),
    responses((status = 101), (status = 403, description = "`forbidden`"), (status = 409, description = "`not_serving`"),
        (status = 426, description = "`upgrade_required`")))]
pub async fn shell(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Query(query): Query<ShellQuery>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let request = query.request()?;
    upgraded(Arc::clone(&state), upgrade, remote::shell(&state, &actor, &name, request)).await
}

/// A command in a one-off container of what serves. A websocket.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/run", tag = "remote",
    params(Instance, ShellQuery),
    responses((status = 101), (status = 403, description = "`forbidden`"), (status = 409, description = "`not_serving`"),
        (status = 426, description = "`upgrade_required`")))]
pub async fn run(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Query(query): Query<ShellQuery>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let request = query.request()?;
    upgraded(Arc::clone(&state), upgrade, remote::run(&state, &actor, &name, request)).await
}

/// A client of the instance's own database. A websocket.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/db", tag = "remote",
    params(Instance, ShellQuery),
    responses((status = 101), (status = 403, description = "`forbidden`"),
        (status = 409, description = "`not_serving` or `service_missing`"),
        (status = 426, description = "`upgrade_required`")))]
pub async fn db(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Query(query): Query<ShellQuery>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let request = query.request()?;
    upgraded(Arc::clone(&state), upgrade, remote::db(&state, &actor, &name, request)).await
}

/// A connection to the instance's own database or memcached. A websocket.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/tunnel", tag = "remote",
    params(Instance, TunnelQuery),
    responses((status = 101), (status = 403, description = "`forbidden`"),
        (status = 409, description = "`not_serving` or `service_missing`"),
        (status = 426, description = "`upgrade_required`")))]
pub async fn tunnel(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Query(query): Query<TunnelQuery>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    upgraded(Arc::clone(&state), upgrade, remote::tunnel(&state, &actor, &name, query.to)).await
}

/// The instance's writable paths over the SFTP protocol. A websocket.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/sftp", tag = "remote",
    params(Instance),
    responses((status = 101), (status = 403, description = "`forbidden`"),
        (status = 409, description = "`not_serving` or `service_missing`"),
        (status = 426, description = "`upgrade_required`")))]
pub async fn sftp(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    upgraded(Arc::clone(&state), upgrade, remote::files(&state, &actor, &name, FilesProgram::Sftp)).await
}

/// Starts a command in a container of its own that nobody has to watch.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/runs", tag = "remote", request_body = StartRun,
    params(Instance),
    responses((status = 201, body = RunInfo), (status = 403, description = "`forbidden`"),
        (status = 409, description = "`not_serving` or `locked`")))]
pub async fn start_run(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Json(body): Json<StartRun>,
) -> Result<(StatusCode, axum::Json<RunInfo>), ApiError> {
    let run = runs::start(&state, &actor, &name, body).await?;
    Ok((StatusCode::CREATED, axum::Json(run)))
}

/// The named commands of what a label serves.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/tasks", tag = "remote",
    params(Instance),
    responses((status = 200, body = Vec<TaskInfo>), (status = 409, description = "`not_serving`")))]
pub async fn list_tasks(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
) -> Result<axum::Json<Vec<TaskInfo>>, ApiError> {
    Ok(axum::Json(tasks::list(&state, &actor, &name).await?))
}

/// Runs a named command, for whoever has its role; one run of it goes on at a time.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/tasks/{task}/runs", tag = "remote",
    request_body = StartTask, params(Instance, ("task" = String, Path)),
    responses((status = 201, body = RunInfo), (status = 403, description = "`forbidden`"),
        (status = 404, description = "`task_not_found`"), (status = 409, description = "`not_serving` or `locked`")))]
pub async fn start_task(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Path((_, _, task)): Path<(AppName, LabelName, String)>,
    Json(body): Json<StartTask>,
) -> Result<(StatusCode, axum::Json<RunInfo>), ApiError> {
    let run = tasks::start(&state, &actor, &name, &task, body).await?;
    Ok((StatusCode::CREATED, axum::Json(run)))
}

/// An app's detached runs, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/runs", tag = "remote", params(("app" = String, Path)),
    responses((status = 200, body = Vec<RunInfo>)))]
pub async fn list_runs(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
) -> Result<axum::Json<Vec<RunInfo>>, ApiError> {
    Ok(axum::Json(runs::list(&state, &actor, &app).await?))
}

/// Which lines.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LinesQuery {
    /// The last line that is known; from the first when absent.
    #[serde(default)]
    after: i64,
}

/// What a detached run said, and how it stands.
#[utoipa::path(get, path = "/v1/runs/{id}", tag = "remote", params(("id" = Uuid, Path), LinesQuery),
    responses((status = 200, body = RunLines), (status = 404, description = "`run_not_found`")))]
pub async fn show_run(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<Uuid>,
    Query(query): Query<LinesQuery>,
) -> Result<axum::Json<RunLines>, ApiError> {
    Ok(axum::Json(runs::lines(&state, &actor, id, query.after).await?))
}

/// Stops a detached run.
#[utoipa::path(post, path = "/v1/runs/{id}/stop", tag = "remote", params(("id" = Uuid, Path)),
    responses((status = 200, body = RunInfo), (status = 404, description = "`run_not_found`")))]
pub async fn stop_run(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<Uuid>,
) -> Result<axum::Json<RunInfo>, ApiError> {
    Ok(axum::Json(runs::stop(&state, &actor, id).await?))
}
