//! Detached runs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::people::Role;

/// Body of `POST /v1/apps/{app}/instances/{label}/runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// Run by the shell in the release's folder.
    pub command: String,
    /// Seconds after which it is ended; an hour when absent, a day at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<u64>,
}

/// Body of `POST /v1/apps/{app}/instances/{label}/tasks/{task}/runs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartTask {
    /// Seconds after which it is ended; an hour when absent, a day at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<u64>,
}

/// A named command of the release that serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskInfo {
    pub name: String,
    pub command: String,
    /// The least role that may run it.
    pub role: Role,
    /// Whether whoever asks may.
    pub allowed: bool,
    /// The run that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunInfo>,
}

/// How a detached run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    /// The command ended by itself; it has an exit code.
    Ended,
    /// It could not run, or was ended by its time limit.
    Failed,
    /// A person stopped it.
    Stopped,
}

impl RunStatus {
    pub const ALL: [RunStatus; 4] = [RunStatus::Running, RunStatus::Ended, RunStatus::Failed, RunStatus::Stopped];

    /// As written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Ended => "ended",
            RunStatus::Failed => "failed",
            RunStatus::Stopped => "stopped",
        }
    }
}

/// A command that runs detached in a container of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunInfo {
    pub id: Uuid,
    pub app: String,
    pub label: String,
    pub cluster: String,
    pub instance: Uuid,
    pub person: String,
    pub command: String,
    /// The manifest's name for it, when it is a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    pub status: RunStatus,
    pub exit_code: Option<i32>,
    /// Why there is no exit code.
    pub message: Option<String>,
    /// Seconds.
    pub time_limit: u64,
    #[schema(value_type = String)]
    pub started: jiff::Timestamp,
    #[schema(value_type = Option<String>)]
    pub ended: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunLine {
    /// From 1, without gaps.
    pub sequence: i64,
    pub line: String,
}

/// What a detached run said, a thousand lines at most, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunLines {
    pub run: RunInfo,
    pub lines: Vec<RunLine>,
}
