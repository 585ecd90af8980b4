//! The actions, each with its reply. All but the opening of a stream may be
//! repeated: the second run finds the work done.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::stream::{OpenStream, Opened};
use crate::names::{Layer, NodeName, ReleaseNumber};
use crate::plan::{Limits, Resource, ServiceSpec};
use crate::units::{ByteSize, Span};
use crate::usage::{Then, Usage};

/// An action's type names its reply, so that a caller cannot read one as another.
pub trait Request: Into<Action> {
    type Reply: Serialize + DeserializeOwned + Send;
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident -> $reply:ty,)*) => {
        /// Everything that a gateway can ask an agent.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "action", rename_all = "snake_case")]
        pub enum Action {
            $($(#[$doc])* $name($name),)*
        }

        impl Action {
            /// The action's name, for logs.
            pub fn name(&self) -> &'static str {
                match self { $(Action::$name(_) => stringify!($name),)* }
            }
        }

        $(
            impl From<$name> for Action {
                fn from(value: $name) -> Action {
                    Action::$name(value)
                }
            }
            impl Request for $name {
                type Reply = $reply;
            }
        )*
    };
}

actions! {
    /// What is on the node now.
    Report -> NodeReport,
    /// Makes the engine a swarm's manager if it is in none, and labels its node with the layers; or has it enter the swarm
    /// that another node manages.
    Join -> Joined,
    /// On the manager: how another node enters its swarm.
    Invite -> Entry,
    /// On the manager: lets a node that has entered its swarm take replicas.
    Admit -> Admitted,
    /// On the manager: gives another node no new replicas, while its agent is away. Those that it has stay.
    Suspend -> Suspended,
    /// Brings a resource about.
    Ensure -> Ensured,
    /// Takes a resource away.
    Remove -> Removed,
    /// Makes a release image.
    Build -> Built,
    /// Waits until all replicas of a service are healthy.
    AwaitHealthy -> Healthy,
    /// Watches a service that is healthy; an error of kind `unhealthy` when it does not stay so.
    Watch -> Watched,
    /// Waits until a release has no request in flight.
    Drain -> Drained,
    /// Runs a command in a one-off container.
    RunOnce -> RanOnce,
    /// Lists what the agent's engine holds that bears the platform's labels.
    Inventory -> Holdings,
    /// What a release image is made of; nothing when the engine has none of the id that is this installation's.
    DescribeImage -> Described,
    /// How many of an image's layers, from the first on, the engine has in images of its own.
    CountLayers -> KnownLayers,
    /// Removes services and images by name or id; what is in use or not the platform's is left and reported.
    Prune -> Pruned,
    /// What the router serves for an instance, read back from the router itself.
    ReadServing -> Serving,
    /// How many requests instances' replicas had, second by second.
    ReadLoad -> Loads,
    /// What instances used since the agent was started.
    ReadUsage -> LiveUsage,
    /// Settles which instances' visitors get less; those that are not named get all.
    Limit -> Limited,
    /// Stops all of the platform's services on this engine; data stays.
    Shutdown -> Removed,
    /// Opens a stream; the only action that is never repeated.
    OpenStream -> Opened,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {}

/// A node as its agent sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NodeReport {
    pub hostname: String,
    pub engine_version: String,
    /// Whether the engine is in a swarm: `inactive`, `manager` or `worker`.
    pub swarm: String,
    pub cpus: u32,
    #[schema(value_type = u64)]
    pub memory: u64,
    pub disk_total: u64,
    pub disk_free: u64,
    /// The address at which instances' containers reach their node.
    #[schema(value_type = Option<String>)]
    pub instance_gateway: Option<IpAddr>,
    /// The layer and stack images present: name (`router`, `varnish`, `php`, …) → image id.
    pub images: BTreeMap<String, String>,
    /// What is wrong on the node, for people; none when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    pub advertise: IpAddr,
    pub layers: Vec<Layer>,
    /// What fails together with the node.
    #[serde(default)]
    pub zone: Option<String>,
    /// The swarm to enter; none on the manager.
    #[serde(default)]
    pub entry: Option<Entry>,
    /// On the manager, the cluster's other nodes: any that was admitted and is not among them gives its replicas up.
    #[serde(default)]
    pub others: Vec<NodeName>,
}

/// The way into a swarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `ADDRESS:PORT`
    pub manager: String,
    /// What the swarm calls the manager.
    pub id: String,
    pub token: JoinToken,
}

/// Whoever has it may enter a swarm as a worker.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JoinToken(pub String);

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinToken(…)")
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// Whether this call made the swarm, or entered it.
    pub created: bool,
    pub instance_gateway: IpAddr,
    /// What the swarm calls the node.
    #[serde(default)]
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invite {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Admit {
    /// What the swarm calls the node.
    pub id: String,
    pub name: NodeName,
    pub zone: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Admitted {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspend {
    pub name: NodeName,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspended {
    pub changed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ensure {
    pub resource: Resource,
    /// Values for the resource's secret texts.
    pub secrets: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ensured {
    /// Whether anything had to be done.
    pub changed: bool,
    /// For a route: what serves now.
    pub serving: Option<Serving>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remove {
    pub resource: Resource,
    /// Whether its data goes too (files, database); kept otherwise.
    pub data: DataFate,
}

/// What happens to the data of a removed resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFate {
    Keep,
    Destroy,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    pub changed: bool,
}

/// How a release image is made: the source on top of the stack's image, after the commands ran on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Fetched with `GET /agent/v1/blobs/SHA256`: a zstd-compressed tar that the gateway has checked and normalised.
    pub source: Blob,
    /// Keys the cache: the app's id.
    pub cache: String,
    /// The id of the image the commands run in.
    pub builder_image: String,
    /// The id of the stack's runtime image.
    pub runtime_image: String,
    /// Run with `sh -e` in the source folder, in order. No container is started when empty.
    pub commands: Vec<BuildCommand>,
    pub env: BTreeMap<String, String>,
    pub limits: Limits,
    pub disk: ByteSize,
    pub timeout: Span,
    /// The folder inside the source that becomes the release, as in `target/app`; the whole when absent.
    pub output: Option<String>,
    /// Labels of the release image.
    pub labels: BTreeMap<String, String>,
    /// Writable paths: a warning is given when the release has files there.
    pub hidden_by_mounts: Vec<String>,
    /// Writable paths in memory: the engine gives what it mounts there the mode of the release's folder.
    #[serde(default)]
    pub in_memory: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildCommand {
    /// Shown in the log, as in `composer install`.
    pub title: String,
    pub run: String,
    /// Whether the command may reach the outside (package registries).
    #[serde(default)]
    pub network: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub sha256: String,
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Built {
    /// `sha256:…`
    pub image: String,
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AwaitHealthy {
    pub service: String,
    pub replicas: u16,
    pub probe: Probe,
    /// A replica that has answered wrongly this often will not come up by waiting.
    pub attempts: Option<u16>,
    /// Between two questions to a replica that has answered.
    pub interval: Span,
    /// Most time that one answer may take.
    pub attempt_timeout: Span,
    /// Most time until all are healthy.
    pub timeout: Span,
}

/// How a replica is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Probe {
    Http(HttpProbe),
    /// Whether it takes connections.
    Tcp {
        port: u16,
    },
    /// A program run in it: exit status 0.
    Command {
        /// The whole command line.
        command: Vec<String>,
        /// As its person wrote it.
        title: String,
    },
    /// It has run for so long.
    Running {
        span: Span,
    },
}

/// A request that a replica is to answer well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpProbe {
    pub port: u16,
    /// Sent as the Host header.
    pub host: String,
    pub path: String,
    pub expect_low: u16,
    pub expect_high: u16,
    pub contains: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Healthy {
    pub replicas: Vec<Replica>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// What was waited for before.
    pub health: AwaitHealthy,
    /// How long.
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watched {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replica {
    /// The container's id.
    pub container: String,
    /// `address:port` as the router reaches it.
    pub address: String,
    /// `up`, `down` or `starting`.
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    pub slug: String,
    /// The release that no longer serves.
    pub release: ReleaseNumber,
    pub timeout: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drained {
    /// Requests still in flight when the time was up.
    pub cut: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOnce {
    /// The release's own service: image, mounts, network, files and environment are taken from it.
    pub service: Box<ServiceSpec>,
    pub secrets: BTreeMap<String, String>,
    /// Run with `sh -ec` in the release's folder.
    pub command: String,
    /// Names the run: two calls with the same name never run at once, and the second adopts the first's container.
    pub name: String,
    pub timeout: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RanOnce {
    pub exit_code: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inventory {}

/// What an engine holds of the platform's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Holdings {
    pub services: Vec<HeldService>,
    pub images: Vec<HeldImage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldService {
    pub name: String,
    /// The instance's slug; none for a layer service.
    pub slug: Option<String>,
    pub release: Option<ReleaseNumber>,
    pub running: u16,
    pub wanted: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldImage {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DescribeImage {
    /// `sha256:…`
    pub id: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Described {
    pub image: Option<ImageLayers>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageLayers {
    /// The digest of each layer's tar, the lowest first, as in `sha256:…`.
    pub layers: Vec<String>,
    /// Of all of them, in bytes.
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountLayers {
    pub layers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownLayers {
    pub count: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prune {
    pub services: Vec<String>,
    pub images: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pruned {
    pub removed: Vec<String>,
    /// What was left, with the reason.
    pub left: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadServing {
    pub slug: String,
}

/// What the router serves for an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Serving {
    /// None when the router has no route for the instance.
    pub release: Option<ReleaseNumber>,
    pub replicas: Vec<Replica>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadLoad {
    /// The last second that is known, in seconds since 1970 by the agent's clock.
    pub after: i64,
}

/// What the router saw in the seconds that it was asked in; a minute of them is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loads {
    /// The agent's clock, in seconds since 1970.
    pub now: i64,
    /// In the order of time. A second in which the router did not answer is not there.
    pub seconds: Vec<LoadSecond>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadSecond {
    /// By the agent's clock.
    pub at: i64,
    /// Requests in the replicas of what serves, by the instance's slug; the others had none.
    pub busy: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadUsage {}

/// What instances used since the agent was started, by slug.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveUsage {
    pub instances: BTreeMap<String, Usage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// By slug. With [`Then::Warn`], all is as for those that are not named.
    pub then: BTreeMap<String, Then>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limited {
    pub changed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shutdown {}
