//! `clusters.yml`: the static clusters, their nodes, and which layers each node carries.

mod parse;

pub use parse::{clusters_json_schema, parse_clusters};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{ClusterName, Layer, NodeName};
use crate::schema::format::*;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clusters {
    /// The clusters by name.
    #[schemars(extend("propertyNames" = keys::<ClusterName>()))]
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// Named IP access lists, used by `access` in manifests.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<Address>>", extend("propertyNames" = keys::<ShortName>()))]
    pub access_lists: BTreeMap<String, Vec<String>>,
}

/// A static group of nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Instances without domains of their own are named below this one.
    #[serde(default)]
    #[schemars(with = "Option<Host>")]
    pub domain: Option<String>,
    #[serde(default)]
    pub routing: ClusterRouting,
    #[serde(default)]
    pub storage: ClusterStorage,
    #[serde(default)]
    pub proxy: ClusterProxy,
    #[serde(default)]
    pub db: ClusterDb,
    /// How much is kept of each instance's log; a manifest may ask for less.
    #[serde(default)]
    pub logs: crate::plan::LogBounds,
    /// How many previews an app may have here: instances that a label such as `preview/*` stands for.
    #[serde(default = "default_previews")]
    #[schemars(range(max = 1000))]
    pub previews: u16,
    /// How much of what its nodes have is promised to instances.
    #[serde(default)]
    pub capacity: Capacity,
    /// Which releases can be brought back.
    #[serde(default)]
    pub keep_releases: KeepReleases,
    /// The servers by name.
    #[schemars(extend("propertyNames" = keys::<NodeName>()))]
    pub nodes: BTreeMap<NodeName, Node>,
}

fn default_previews() -> u16 {
    20
}

/// How much of what a cluster's nodes have is promised to its instances, in percent. The rest is for cut-overs, builds and the
/// nodes themselves; above 100, more is promised than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Capacity {
    /// Of the memory of app nodes, less what the shared services on them have.
    #[schemars(range(min = 1, max = 1000))]
    pub memory: u16,
    /// Of the CPUs of app nodes. Only instances with `cpus` are promised any.
    #[schemars(range(min = 1, max = 10000))]
    pub cpus: u16,
    /// Of the storage nodes' disk. Only instances with a quota are promised any.
    #[schemars(range(min = 1, max = 1000))]
    pub disk: u16,
}

impl Default for Capacity {
    fn default() -> Self {
        Capacity { memory: 90, cpus: 400, disk: 90 }
    }
}

/// Which releases of each instance are kept with their images: those within both bounds. What serves and the release before
/// it always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepReleases {
    /// The newest that served, so many.
    #[schemars(range(min = 1, max = 1000))]
    pub count: u16,
    /// How long after it last served.
    pub age: crate::units::Span,
}

impl Default for KeepReleases {
    fn default() -> Self {
        KeepReleases { count: 5, age: crate::units::Span(std::time::Duration::from_secs(90 * 86_400)) }
    }
}

/// Where the cluster's routers listen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterRouting {
    /// Addresses to listen on; all of the node's when empty.
    pub listen: Vec<IpAddr>,
    /// The port for plain HTTP.
    #[schemars(range(min = 1, max = 65535))]
    pub http: u16,
    /// The port for HTTPS.
    #[schemars(range(min = 1, max = 65535))]
    pub https: u16,
}

impl Cluster {
    /// The node whose engine decides for the swarm: the first that carries routing. In a cluster of several nodes it carries
    /// all layers, and the others app alone.
    pub fn manager(&self) -> Option<&NodeName> {
        let routes = self.nodes.iter().find(|(_, node)| node.layers.contains(&Layer::Routing));
        routes.map(|(name, _)| name)
    }

    /// Its nodes that carry a layer, the manager first.
    pub fn carrying(&self, layer: Layer) -> impl Iterator<Item = &NodeName> {
        let manager = self.manager();
        let carries = move |name: &&NodeName| self.nodes.get(*name).is_some_and(|node| node.layers.contains(&layer));
        let others = self.nodes.keys().filter(move |name| Some(*name) != manager);
        manager.into_iter().chain(others).filter(carries)
    }

    /// Whether replicas can be on more than one node.
    pub fn can_spread(&self) -> bool {
        self.carrying(Layer::App).nth(1).is_some()
    }
}

impl Default for ClusterRouting {
    fn default() -> Self {
        ClusterRouting { listen: Vec::new(), http: 80, https: 443 }
    }
}

/// Memory of the cluster's shared caches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterProxy {
    /// Memory of each routing node's cache.
    pub memory: crate::units::ByteSize,
}

impl Default for ClusterProxy {
    fn default() -> Self {
        ClusterProxy { memory: crate::units::ByteSize::mib(256) }
    }
}

/// The cluster's shared MariaDB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterDb {
    /// The port on which instances reach it, on db nodes.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Memory for its buffer pool.
    pub memory: crate::units::ByteSize,
}

impl Default for ClusterDb {
    fn default() -> Self {
        ClusterDb { port: 3306, memory: crate::units::ByteSize::mib(256) }
    }
}

/// Where writable paths live.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterStorage {
    pub driver: StorageDriver,
    /// The folder on every storage node; the agent's own data folder when absent.
    #[schemars(with = "Option<AbsolutePath>")]
    pub path: Option<String>,
}

/// How a node keeps writable paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StorageDriver {
    /// A folder on any mount; on more than one node the mount must be shared.
    #[default]
    Directory,
    /// A subvolume and qgroup per instance on a btrfs mount.
    Btrfs,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The address other nodes reach it at: a private one where there is one.
    pub address: IpAddr,
    /// The layers it carries. In a cluster of several nodes, one carries all of them and the others `app`.
    pub layers: BTreeSet<Layer>,
    /// What fails together, as a rack or a site: replicas are spread over zones, and within each over nodes.
    #[serde(default)]
    #[schemars(with = "Option<ShortName>")]
    pub zone: Option<String>,
}
