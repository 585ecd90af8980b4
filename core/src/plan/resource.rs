//! The kinds of resources an agent can bring about. No host path, port or image is left for the agent to choose, and
//! none can reach outside the folders and names the agent owns.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::clusters::StorageDriver;
use crate::manifest::ProxyKind;
use crate::names::{InstanceId, Layer, ReleaseNumber};
use crate::units::{ByteSize, Span};

/// What a resource asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Spec {
    Network(NetworkSpec),
    Storage(StorageSpec),
    Seed(SeedSpec),
    Assets(AssetsSpec),
    Database(DatabaseSpec),
    Service(Box<ServiceSpec>),
    Cache(CacheSpec),
    Route(RouteSpec),
    Support(SupportSpec),
    /// How much of the instance's log is kept.
    Logs(LogsSpec),
    /// Cluster: the router's own configuration, around which the agent puts the routes.
    Router(RouterSpec),
    /// Cluster: which doors the node's packet filter leaves open.
    Firewall(FirewallSpec),
}

/// A text in which `${secret:NAME}` stands for a value that travels beside the plan and is never stored in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl SecretText {
    /// The text that stands for one secret.
    pub fn secret(name: &str) -> Self {
        SecretText(format!("${{secret:{name}}}"))
    }

    /// The names of the secrets it needs.
    pub fn names(&self) -> Vec<&str> {
        self.0.split("${secret:").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
    }

    /// The text with every secret in its place; the error is the name of one that is missing.
    pub fn reveal(&self, secrets: &BTreeMap<String, String>) -> Result<String, String> {
        let mut parts = self.0.split("${secret:");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let Some((name, rest)) = part.split_once('}') else {
                out.push_str("${secret:");
                out.push_str(part);
                continue;
            };
            out.push_str(secrets.get(name).ok_or_else(|| name.to_owned())?);
            out.push_str(rest);
        }
        Ok(out)
    }
}

/// Instances' networks are cut from here, 32 addresses each, so that 2,000 instances fit.
pub const OVERLAY_POOL: &str = "10.201.0.0/16";

/// The key of the service through which a router reaches an instance's replicas on other nodes.
pub const CROSSING: &str = "storage/crossing";

/// The name of that service.
pub fn crossing_name(slug: &str) -> String {
    format!("{slug}-crossing")
}

/// A network of one instance alone (a Swarm overlay).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// As in `mag-i0123456789ab`.
    pub name: String,
}

/// The writable paths of an instance that outlive a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StorageSpec {
    /// [`InstanceId::slug`].
    pub slug: String,
    pub driver: StorageDriver,
    /// The cluster's storage folder; the agent's own when absent.
    pub base: Option<String>,
    pub quota: Option<ByteSize>,
    /// Owner of the folders.
    pub uid: u32,
    pub mounts: Vec<StorageMount>,
    /// Each app node has folders of its own: nothing in them is shared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spread: bool,
}

/// One writable path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StorageMount {
    /// The folder's name in the instance's storage: `[a-z0-9-]`, from the path and its hash.
    pub name: String,
    /// The path in the repository, as in `web/uploads`; empty for a folder of the platform's own.
    pub path: String,
    pub shared: bool,
}

/// Fills a mount once with what the release has at its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedSpec {
    pub storage: StorageSpec,
    /// The release image's id.
    pub image: String,
}

/// Keeps served files whose names hold a hash beyond their release: pages that were loaded before a deploy ask for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssetsSpec {
    /// Where they are kept: its only mount.
    pub storage: StorageSpec,
    /// The release that has them.
    pub service: String,
    pub image: String,
    /// The folder that is served, in the container.
    pub root: String,
    /// Folders in the container whose files are not the release's.
    pub leave_out: Vec<String>,
    /// Those that no release had for so long go.
    pub keep: Span,
}

/// A database and its user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseSpec {
    /// The database's and the user's name.
    pub name: String,
    /// Brings it about; may be run any number of times.
    pub ensure: SecretText,
    /// Takes it away with its data.
    pub destroy: String,
    /// Where it has one; not of releases from before it was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<DatabaseQuota>,
}

/// What a database may take, and how it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseQuota {
    pub bytes: ByteSize,
    /// Closes it for writing; may be run any number of times.
    pub close: String,
    /// Opens it again.
    pub open: String,
}

/// A Swarm service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// As in `mag-i0123456789ab-web-v12`.
    pub name: String,
    /// An image id, `sha256:…`.
    pub image: String,
    pub mode: ServiceMode,
    /// Runs only on nodes that carry this layer; of the app layer's, on the manager, unless it is spread.
    pub on: Layer,
    /// Its replicas may be on any app node: they need nothing that only one of them has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spread: bool,
    pub network: ServiceNetwork,
    /// `uid:gid`; the image's own user when absent.
    pub user: Option<String>,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Rendered files (Swarm configs), read-only.
    pub files: Vec<FileSpec>,
    /// Environment that holds secrets: one Swarm secret of NUL-separated `KEY=value`, at [`ENV_SECRET`].
    pub secret_env: BTreeMap<String, SecretText>,
    pub mounts: Vec<MountSpec>,
    pub tmpfs: Vec<TmpfsSpec>,
    pub read_only: bool,
    /// Capabilities it keeps; all others are dropped. `None` leaves the engine's default set.
    pub capabilities: Option<Vec<String>>,
    pub limits: Limits,
    pub stop_signal: Option<String>,
    pub stop_grace: Span,
    /// Engine labels beside the agent's own.
    pub labels: BTreeMap<String, String>,
}

/// Where the secret environment is found in a container.
pub const ENV_SECRET: &str = "/run/secrets/magrathea-env";

/// How many tasks a service has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceMode {
    Replicated(u16),
    Global,
}

/// What a service's tasks are attached to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceNetwork {
    /// The node's own network.
    Host,
    /// The engine's default bridge: for layer services that talk over Unix sockets alone.
    Bridge,
    /// An instance's network, under these names.
    Instance { network: String, aliases: Vec<String> },
}

/// A rendered file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Absolute path in the container.
    pub target: String,
    /// Permission bits.
    pub mode: u32,
    pub content: String,
}

/// A folder of the node in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountSpec {
    pub source: MountSource,
    pub target: String,
    pub read_only: bool,
}

/// Which folder; never a path of the gateway's choosing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A writable path of an instance.
    Storage { slug: String, base: Option<String>, mount: String },
    /// A folder of the agent's own for a layer service.
    Node(NodeFolder),
}

/// The agent's own folders that layer services share with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeFolder {
    /// HAProxy's configuration, maps, lists and certificates.
    Router,
    /// The Unix sockets between router and caches (world-reachable inside, entered by layer services only).
    Sockets,
    /// HAProxy's master and stats sockets.
    RouterAdmin,
    /// Varnish's VCL files and secret.
    Varnish,
    /// nginx's configuration and cache.
    Nginx,
    /// MariaDB's data.
    Mariadb,
}

impl NodeFolder {
    /// Where layer services find the folder: the same path in every container.
    pub const fn target(self) -> &'static str {
        match self {
            NodeFolder::Router => "/etc/magrathea/router",
            NodeFolder::Sockets => "/run/magrathea/sockets",
            NodeFolder::RouterAdmin => "/run/magrathea/admin",
            NodeFolder::Varnish => "/etc/magrathea/varnish",
            NodeFolder::Nginx => "/etc/magrathea/nginx",
            NodeFolder::Mariadb => "/var/lib/mysql",
        }
    }
}

/// A file system in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TmpfsSpec {
    pub target: String,
    pub size: ByteSize,
    pub mode: u32,
}

/// What one task may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub memory: Option<ByteSize>,
    /// In thousandths of a CPU.
    pub millicpus: Option<u32>,
    pub pids: Option<u32>,
}

/// An instance's own part of the cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheSpec {
    pub slug: String,
    /// `varnish` or `nginx`.
    pub proxy: ProxyKind,
    /// VCL for Varnish, `server` block for nginx.
    pub text: String,
}

/// Sends an instance's visitors to one release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteSpec {
    pub instance: InstanceId,
    pub slug: String,
    pub release: ReleaseNumber,
    /// Exact host names, lower case.
    pub hosts: Vec<String>,
    /// Domains whose sub-domains all match, without the `*.`.
    pub wildcards: Vec<String>,
    /// The service whose replicas serve.
    pub service: String,
    /// The port that a replica listens on.
    pub port: u16,
    /// The lines of the instance's HAProxy backend, without its `backend` line and replica servers.
    pub backend: String,
    /// What follows `server NAME ADDRESS` for each replica.
    pub server_options: String,
    /// How many requests a replica answers at once; more of them wait in it. Not known of releases from before it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// Files that `backend` refers to, in the router's folder below `instances/SLUG/`.
    pub files: BTreeMap<String, SecretText>,
    /// PEM certificate chains with keys, by file name.
    pub certificates: BTreeMap<String, SecretText>,
    pub drain: Span,
    /// The release gets this share of visitors, in percent, beside the one that serves; all of them when absent. Never in a
    /// stored plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u8>,
}

/// The support layer's place in a plan; carried out by a later part of the product.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SupportSpec {
    pub cron: Vec<crate::manifest::Cron>,
    pub backup: Option<crate::manifest::Backup>,
}

/// An instance's log on each of its nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogsSpec {
    pub slug: String,
    pub bounds: LogBounds,
}

/// How much of a log is kept: whatever is beyond either bound goes, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogBounds {
    /// Disk space per instance and node, compressed.
    pub size: ByteSize,
    /// Age of a line.
    pub keep: Span,
}

impl Default for LogBounds {
    fn default() -> Self {
        LogBounds { size: ByteSize::mib(256), keep: Span(std::time::Duration::from_secs(14 * 86_400)) }
    }
}

/// The router's own configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterSpec {
    /// Global, defaults and frontends; backends are appended by the agent.
    pub config: String,
}

/// The doors of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirewallSpec {
    /// Ports that everybody reaches.
    pub public_ports: Vec<u16>,
    /// Ports that instances' containers reach on the node.
    pub instance_ports: Vec<u16>,
    /// Addresses of the cluster's nodes.
    pub nodes: Vec<IpAddr>,
}
