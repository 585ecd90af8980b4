//! Deploys: what is sent, how far one is, and what one would do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::manifest::Origin;
use crate::names::ReleaseNumber;
use crate::plan::Change;
use crate::wire::Serving;

/// Query of `POST /v1/apps/{app}/deploys`, `…/deploys/label`, `…/deploys/all` and `POST /v1/apps/{app}/plan`; the body is the source, a tar compressed
/// with zstd (`application/zstd`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SourceInfo {
    /// The label to deploy; the branch's, or the only one, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// On this one of the label's clusters alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Whether the working tree was sent rather than the commit.
    pub dirty: bool,
    /// Makes the app when it does not exist.
    pub create: bool,
    /// A retry with the same key joins the deploy that the first try began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Seconds to wait for another deploy of the instance to end; refused at once when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<u32>,
    /// Percent of visitors, 1 to 99, who meet the new release first, until somebody promotes or aborts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 99)]
    #[param(minimum = 1, maximum = 99)]
    pub canary: Option<u8>,
    /// What comes of it when this very source serves already, with the values that are set now.
    #[serde(skip_serializing_if = "IfUnchanged::is_redeploy")]
    pub if_unchanged: IfUnchanged,
}

/// What comes of a deploy that would change nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfUnchanged {
    /// A new release, as of any other source.
    #[default]
    Redeploy,
    /// No deploy: the answer is the one that brought what serves, with `unchanged`.
    Skip,
}

impl IfUnchanged {
    fn is_redeploy(&self) -> bool {
        *self == IfUnchanged::Redeploy
    }
}

/// The phases of a deploy, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Receive,
    Detect,
    Build,
    Release,
    Plan,
    Storage,
    Db,
    ReleaseHook,
    App,
    Health,
    Proxy,
    /// With `canary`: a share of the visitors meets the new release, until somebody promotes or aborts it.
    Canary,
    Routing,
    /// The new release serves; the old one stands by until the new one has stayed up for `health.watch`.
    Watch,
    Drain,
    AfterHook,
    Record,
}

impl Phase {
    pub const ALL: [Phase; 17] = [
        Phase::Receive,
        Phase::Detect,
        Phase::Build,
        Phase::Release,
        Phase::Plan,
        Phase::Storage,
        Phase::Db,
        Phase::ReleaseHook,
        Phase::App,
        Phase::Health,
        Phase::Proxy,
        Phase::Canary,
        Phase::Routing,
        Phase::Watch,
        Phase::Drain,
        Phase::AfterHook,
        Phase::Record,
    ];

    /// The phase's name as written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Receive => "receive",
            Phase::Detect => "detect",
            Phase::Build => "build",
            Phase::Release => "release",
            Phase::Plan => "plan",
            Phase::Storage => "storage",
            Phase::Db => "db",
            Phase::ReleaseHook => "release_hook",
            Phase::App => "app",
            Phase::Health => "health",
            Phase::Proxy => "proxy",
            Phase::Canary => "canary",
            Phase::Routing => "routing",
            Phase::Watch => "watch",
            Phase::Drain => "drain",
            Phase::AfterHook => "after_hook",
            Phase::Record => "record",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far a deploy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeployStatus {
    /// Waits for another deploy of the instance.
    Waiting,
    Running,
    /// The new release serves.
    Succeeded,
    /// It ended before the cut-over; what served before serves on.
    Failed,
    /// A person stopped it before the cut-over.
    Cancelled,
}

impl DeployStatus {
    pub fn is_final(self) -> bool {
        matches!(self, DeployStatus::Succeeded | DeployStatus::Failed | DeployStatus::Cancelled)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeployInfo {
    pub id: Uuid,
    pub app: String,
    pub label: String,
    pub cluster: String,
    pub instance: Uuid,
    pub status: DeployStatus,
    pub phase: Phase,
    /// The release it made; none before the release phase.
    pub release: Option<ReleaseNumber>,
    pub urls: Vec<String>,
    /// What the router serves at the end, read back from it.
    pub serving: Option<Serving>,
    pub failure: Option<DeployFailure>,
    pub person: String,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
    #[schema(value_type = Option<String>)]
    pub finished: Option<jiff::Timestamp>,
    /// It is an earlier deploy, whose release serves what was sent: none was begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
}

/// Why a deploy ended before the cut-over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeployFailure {
    pub phase: Phase,
    /// `manifest_invalid`, `host_taken`, `capacity_exceeded`, `quota_reached`, `build_failed`, `unhealthy`, `hook_failed`, `refused`, `node`, `locked`,
    /// `cancelled`, `interrupted` or `internal`.
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    pub log_tail: Vec<String>,
}

/// One line of a deploy's event stream (`application/x-ndjson`), numbered from 1 without gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeployEvent {
    pub sequence: u64,
    #[schema(value_type = String)]
    pub at: jiff::Timestamp,
    #[serde(flatten)]
    pub event: DeployEventKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DeployEventKind {
    PhaseStarted {
        phase: Phase,
    },
    PhaseFinished {
        phase: Phase,
        milliseconds: u64,
        /// What it came to, as in `release v12` or `unchanged`.
        detail: String,
    },
    Log {
        phase: Phase,
        line: String,
    },
    Warning {
        message: String,
    },
    /// The share of the visitors, in percent, is led to the new release.
    Canary {
        release: ReleaseNumber,
        share: u8,
    },
    Finished {
        deploy: Box<DeployInfo>,
    },
}

/// What people are told of a canary, as in `v9 gets 10 % of the visitors`.
pub fn describe_canary(release: ReleaseNumber, share: u8) -> String {
    format!("{release} gets {share} % of the visitors")
}

/// The answer to a plan request: what a deploy would do, without doing it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanPreview {
    pub app: String,
    pub label: String,
    pub cluster: String,
    pub buildpack: String,
    /// By layer, what would be added, changed, removed.
    pub changes: Vec<Change>,
    /// The merged configuration, by dotted path.
    pub values: Vec<PlannedValue>,
    pub warnings: Vec<String>,
    /// The rendered texts by name, as in `routing/route/backend`.
    pub rendered: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlannedValue {
    pub path: String,
    pub value: String,
    /// None: the platform's default.
    pub origin: Option<Origin>,
}
