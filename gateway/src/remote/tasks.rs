//! Named commands: the manifest of the release that serves says what they run and who may. Nothing of the command comes from
//! whoever runs it. Each run is a detached one, of which there is one at a time.

use std::sync::Arc;

use magrathea_core::api::{RunInfo, StartRun, StartTask, TaskInfo};
use magrathea_core::people::Verb;

use super::place::Place;
use super::runs::begin;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::runs;
use crate::services::access::{InstanceName, Reach, find_app};
use crate::state::State;

/// The tasks of what a label serves, for whoever may look at it.
pub async fn list(state: &Arc<State>, actor: &Actor, name: &InstanceName) -> Result<Vec<TaskInfo>, ApiError> {
    let place = Place::find_to(state, actor, name, Verb::Look).await?;
    let conn = state.db.conn().await?;
    let mut all = Vec::new();
    for (name, task) in place.tasks() {
        all.push(TaskInfo {
            name: name.clone(),
            command: task.run.clone(),
            role: task.verb().least_role(),
            allowed: actor.may(task.verb(), place.site.instance.place()),
            running: runs::find_task_run(&conn, place.site.instance.id, name).await?,
        });
    }
    Ok(all)
}

/// Runs one, for somebody with its role.
pub async fn start(
    state: &Arc<State>,
    actor: &Actor,
    at: &InstanceName,
    task_name: &str,
    wanted: StartTask,
) -> Result<RunInfo, ApiError> {
    let place = Place::find_to(state, actor, at, Verb::Look).await?;
    let Some(task) = place.tasks().get(task_name).cloned() else {
        let known = place.tasks().keys().cloned().collect::<Vec<_>>().join(", ");
        let error = ApiError::new(
            Code::TaskNotFound,
            format!("what {} ({}) serves has no task {task_name:?}", at.app, at.label),
        );
        return Err(error.with_hint(match known.as_str() {
            "" => "magrathea.yml names tasks, as in `tasks: {reindex: {run: php index.php}}`; then deploy".to_owned(),
            known => format!("it has {known}"),
        }));
    };
    find_app(&state.db.conn().await?, actor, &at.app, task.verb(), Reach::Label(&at.label)).await?;
    let run = StartRun { command: task.run.clone(), time_limit: wanted.time_limit };
    begin(state, actor, place, run, Some(runs::Task { name: task_name, role: task.verb().least_role() })).await
}
