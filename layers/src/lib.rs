//! The six layers: each a pure module that turns an instance on its cluster into desired resources.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use magrathea_core::clusters::{Cluster, StorageDriver};
use magrathea_core::manifest::{Sections, Stack};
use magrathea_core::names::{AppName, ClusterName, InstanceId, LabelName, ReleaseNumber};
use magrathea_core::plan::Resource;

/// Everything that rendering an instance needs to know.
#[derive(Debug, Clone)]
pub struct InstanceInput<'a> {
    pub instance: InstanceId,
    pub app: &'a AppName,
    pub label: &'a LabelName,
    pub release: ReleaseNumber,
    pub sections: &'a Sections,
    pub cluster_name: &'a ClusterName,
    pub cluster: &'a Cluster,
    /// The runtime that the buildpack or the manifest settled.
    pub stack: Stack,
    /// The release image's id.
    pub image: &'a str,
    /// The cluster's layer and stack images, by name (`memcached`, …).
    pub images: &'a BTreeMap<String, String>,
    /// The instance's own unprivileged user and group id.
    pub uid: u32,
    /// The address at which the instance's containers reach a db node.
    pub db_address: IpAddr,
    /// Named IP access lists.
    pub access_lists: &'a BTreeMap<String, Vec<String>>,
    /// Names of the secret values that are set for the instance; a needed one that is not here is an error.
    pub secrets: &'a BTreeSet<String>,
    /// Contents of repository files that the manifest names (`proxy.vcl`, `access.maintenance_page`), by path.
    pub texts: &'a BTreeMap<String, String>,
    /// Names of the secrets that hold PEM chains with keys for the instance's hosts.
    pub certificates: &'a [String],
}

/// Everything that rendering a cluster's shared services needs to know.
#[derive(Debug, Clone)]
pub struct ClusterInput<'a> {
    pub cluster_name: &'a ClusterName,
    pub cluster: &'a Cluster,
    pub images: &'a BTreeMap<String, String>,
    /// The address at which instances' containers reach their node (docker_gwbridge).
    pub instance_gateway: IpAddr,
}

/// Why an instance or a cluster cannot be laid out. Says which key of the manifest is at fault and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct LayerError {
    /// The manifest's key, as in `access.allow`.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

/// The resources of one release of an instance.
pub fn plan_instance(_input: &InstanceInput<'_>) -> Result<Vec<Resource>, LayerError> {
    let _ = StorageDriver::Directory;
    todo!()
}

/// The resources of a cluster's shared services.
pub fn plan_cluster(_input: &ClusterInput<'_>) -> Result<Vec<Resource>, LayerError> {
    todo!()
}
