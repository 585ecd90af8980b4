//! The bodies of the HTTP API, shared by gateway and td. Paths and verbs stand in the gateway's route table.

mod people;
mod releases;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use people::*;
pub use releases::*;

use crate::diagnostics::Diagnostics;
use crate::logs::LogLayer;
use crate::manifest::Origin;
use crate::names::{Layer, ReleaseNumber};
use crate::plan::Change;
use crate::wire::{NodeReport, Serving};

/// Every error's body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A stable code, listed in docs/reference/errors.md.
    pub code: String,
    pub message: String,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Names the request in the gateway's log.
    pub request: String,
    /// For `manifest_invalid`: all findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<Diagnostics>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApp {
    pub name: String,
    /// Whose it is to be; the person's own organisation when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppInfo {
    pub id: Uuid,
    pub name: String,
    pub organisation: String,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
    pub instances: Vec<InstanceInfo>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceInfo {
    pub id: Uuid,
    pub app: String,
    pub label: String,
    pub cluster: String,
    /// Whether its label's name must be repeated by what destroys it.
    pub protected: bool,
    pub urls: Vec<String>,
    /// The release the last good deploy asked for.
    pub release: Option<ReleaseInfo>,
    /// What the router serves, read back from it; none when the node cannot be asked.
    pub serving: Option<Serving>,
    /// `serving`, `degraded`, `down`, `empty` or `unknown`.
    pub state: String,
    /// The deploy under way.
    pub deploy: Option<Uuid>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseInfo {
    pub number: ReleaseNumber,
    pub image: String,
    /// Bytes.
    pub size: u64,
    pub commit: Option<String>,
    pub message: Option<String>,
    pub author: Option<String>,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
}

/// Query of `POST /v1/apps/{app}/deploys` and `POST /v1/apps/{app}/plan`; the body is the source, a tar compressed
/// with zstd (`application/zstd`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SourceInfo {
    /// The label to deploy; the branch's, or the only one, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
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
    Routing,
    /// The new release serves; the old one stands by until the new one has stayed up for `health.watch`.
    Watch,
    Drain,
    AfterHook,
    Record,
}

impl Phase {
    pub const ALL: [Phase; 16] = [
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
}

/// Why a deploy ended before the cut-over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeployFailure {
    pub phase: Phase,
    /// `manifest_invalid`, `host_taken`, `build_failed`, `unhealthy`, `hook_failed`, `refused`, `node`, `locked`,
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
    Finished {
        deploy: Box<DeployInfo>,
    },
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterInfo {
    pub name: String,
    pub domain: Option<String>,
    pub nodes: Vec<NodeInfo>,
    pub instances: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    pub name: String,
    pub address: String,
    pub layers: Vec<Layer>,
    /// `connected`, `lost` or `new`.
    pub state: String,
    #[schema(value_type = Option<String>)]
    pub last_seen: Option<jiff::Timestamp>,
    pub report: Option<NodeReport>,
    /// The shared services on it.
    pub services: Vec<LayerService>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LayerService {
    pub layer: Layer,
    pub name: String,
    pub running: u16,
    pub wanted: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub gateway_version: String,
    pub person: String,
    pub clusters: Vec<ClusterInfo>,
    pub instances: Vec<InstanceInfo>,
    /// Deploys that are not over.
    pub deploys: Vec<DeployInfo>,
}

/// One line of the timeline: who did what, when, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimelineEntry {
    pub id: i64,
    #[schema(value_type = String)]
    pub at: jiff::Timestamp,
    /// A person's name, or `gateway`.
    pub actor: String,
    /// From where they did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// As in `deploy.succeeded` or `app.created`.
    pub action: String,
    pub app: Option<String>,
    pub label: Option<String>,
    pub cluster: Option<String>,
    pub message: String,
}

/// A secret's name and age; values are never told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigEntry {
    pub key: String,
    /// None: for all labels.
    pub label: Option<String>,
    #[schema(value_type = String)]
    pub updated: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetConfig {
    pub value: String,
    #[serde(default)]
    pub label: Option<String>,
}

/// Values to change, all or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeConfig {
    /// By key; null forgets the value.
    pub values: BTreeMap<String, Option<String>>,
    /// None: for all labels.
    #[serde(default)]
    pub label: Option<String>,
    /// Whether what serves is deployed with them at once; the next deploy delivers them otherwise.
    #[serde(default)]
    pub deploy: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigChanged {
    /// The deploys that began.
    pub deploys: Vec<DeployInfo>,
    /// Keys that nothing that serves names under `secrets` in its magrathea.yml.
    pub unused: Vec<String>,
}

/// A change of a value: who and when, never what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigChange {
    /// Rises with every change of the app's values.
    pub version: i64,
    pub key: String,
    /// None: for all labels.
    pub label: Option<String>,
    /// `set` or `unset`.
    pub action: String,
    pub person: String,
    #[schema(value_type = String)]
    pub at: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCertificate {
    /// PEM, leaf first.
    pub chain: String,
    /// PEM.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CertificateInfo {
    pub name: String,
    pub subjects: Vec<String>,
    #[schema(value_type = String)]
    pub expires: jiff::Timestamp,
}

/// `POST /v1/enrol`: an agent shows its one-time token and asks for a certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    pub token: String,
    /// PEM certificate signing request; the key never leaves the node.
    pub csr: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    pub cluster: String,
    pub node: String,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub ca: String,
    /// `host:port` of the agent listener.
    pub connect: String,
}

/// A node's one-time token, told once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeToken {
    pub cluster: String,
    pub node: String,
    pub token: String,
    /// Seconds for which it is good.
    pub lifetime: u32,
}

/// The person whose token it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    pub id: Uuid,
    pub name: String,
    pub organisation: String,
    /// What was shown: `token` (also that of a session), `key` or `local`.
    pub credential: String,
    /// As in `developer of blog (staging)`.
    pub roles: Vec<String>,
    /// What the token is limited to; none: not limited.
    pub limits: Option<Vec<String>>,
}

/// The gateway and its doors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GatewayInfo {
    pub version: String,
    pub ssh: SshInfo,
}

/// Where SSH clients connect, and by what they know that it is the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SshInfo {
    /// A host name or address.
    pub host: String,
    pub port: u16,
    /// As in `ssh-ed25519 AAAA…`.
    pub host_key: String,
}

impl SshInfo {
    /// The host as OpenSSH writes it in known_hosts.
    pub fn known_host(&self) -> String {
        if self.port == 22 { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }

    /// The line for known_hosts.
    pub fn known_hosts_line(&self) -> String {
        format!("{} {}", self.known_host(), self.host_key)
    }

    /// The start of an SSH URL, as in `ssh://git@gateway.example:7422`.
    pub fn url(&self, user: &str) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 22 { format!("ssh://{user}@{host}") } else { format!("ssh://{user}@{host}:{}", self.port) }
    }
}

/// Whether the gateway can work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub version: String,
    /// Whether the database answers.
    pub database: bool,
}

/// td's stored credentials for one gateway (`credentials.json` in its configuration directory, mode 0600).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credentials {
    /// As in `https://127.0.0.1:7443`.
    pub gateway: String,
    pub token: String,
    /// PEM of the gateway's CA: the only one trusted.
    pub ca: String,
}

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

/// Somewhere that an instance's log is sent to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrainInfo {
    pub id: Uuid,
    /// Its address, without what is secret in it.
    pub target: String,
    pub layers: Vec<LogLayer>,
    #[schema(value_type = String, format = DateTime)]
    pub created: jiff::Timestamp,
    pub created_by: String,
    /// Lines that the sink has taken.
    pub delivered: u64,
    /// Since when it takes nothing, and why.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<jiff::Timestamp>,
    pub error: Option<String>,
}

/// A drain to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDrain {
    /// `http://`, `https://`, `syslog://` or `syslog+tls://`.
    pub url: String,
    /// PEM of the only CA that is trusted; the system's when absent.
    #[serde(default)]
    pub ca: Option<String>,
    /// All but `build` when empty.
    #[serde(default)]
    pub layers: Vec<LogLayer>,
}
