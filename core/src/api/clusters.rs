//! Clusters, their nodes, and how a node comes to one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::names::Layer;
use crate::wire::NodeReport;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterInfo {
    pub name: String,
    pub domain: Option<String>,
    pub nodes: Vec<NodeInfo>,
    pub instances: u32,
    /// What is shared out among instances; told to the operator's people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<ClusterCapacity>,
}

/// What a cluster has to share out and what of it is promised, by what connected nodes tell and `capacity` in clusters.yml.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterCapacity {
    /// In bytes.
    pub memory: Level,
    /// In thousandths of a CPU.
    pub millicpus: Level,
    /// In bytes.
    pub disk: Level,
}

/// How much there is of something, and how much of it is promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Level {
    pub total: u64,
    pub promised: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    pub name: String,
    pub address: String,
    pub layers: Vec<Layer>,
    /// What fails together with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
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
