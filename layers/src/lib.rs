//! The six layers: each a pure module that turns an instance on its cluster into desired resources.
//!
//! Every rendered text comes out of a template in `templates/`; every value that goes into one passed `check` first.

mod access;
mod app;
mod check;
mod cluster;
mod db;
mod proxy;
mod render;
mod routing;
mod spread;
mod storage;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use magrathea_core::clusters::Cluster;
use magrathea_core::manifest::{Sections, Stack};
use magrathea_core::names::{AppName, ClusterName, InstanceId, LabelName, Layer, ReleaseNumber};
use magrathea_core::plan::{Resource, Spec};

pub use app::replica_port;
pub use db::{MEMCACHED_PORT, OLD_PASSWORD, PASSWORD};
pub use routing::{BASIC_AUTH_SECRET, basic_auth_hash, default_host, refresh_lists};
pub use spread::{Pin, find_pins};

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
    /// The address from which the router reaches the instance's containers (docker_gwbridge): its word about the visitor's
    /// address is taken, and where replicas are spread that of the instance's own network.
    pub instance_gateway: IpAddr,
    /// Named IP access lists.
    pub access_lists: &'a BTreeMap<String, Vec<String>>,
    /// Names of the secret values that are set for the instance; a needed one that is not here is an error.
    pub secrets: &'a BTreeSet<String>,
    /// Contents of repository files that the manifest names (`proxy.vcl`, `access.maintenance_page`), by path.
    pub texts: &'a BTreeMap<String, String>,
    /// Names of the secrets that hold PEM chains with keys for the instance's hosts.
    pub certificates: &'a [String],
}

impl InstanceInput<'_> {
    fn slug(&self) -> String {
        self.instance.slug()
    }

    /// A file of the repository that the manifest names.
    fn text(&self, key: &str, path: &str) -> Result<&str, LayerError> {
        self.texts
            .get(path)
            .map(String::as_str)
            .ok_or_else(|| LayerError::new(key, format!("the release has no readable file {path:?}")))
    }
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

impl LayerError {
    fn new(path: &str, message: impl Into<String>) -> Self {
        LayerError { path: path.to_owned(), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The resources of one release of an instance.
pub fn plan_instance(input: &InstanceInput<'_>) -> Result<Vec<Resource>, LayerError> {
    let mut resources = storage::plan_storage(input)?;
    resources.extend(db::plan_db(input)?);
    resources.extend(app::plan_app(input)?);
    resources.extend(proxy::plan_proxy(input)?);
    resources.extend(routing::plan_routing(input)?);
    resources.extend(support::plan_support(input)?);
    Ok(resources)
}

/// The resources of a cluster's shared services.
pub fn plan_cluster(input: &ClusterInput<'_>) -> Result<Vec<Resource>, LayerError> {
    cluster::plan_cluster(input)
}

fn resource(layer: Layer, name: &str, spec: Spec) -> Resource {
    Resource { layer, key: format!("{layer}/{name}"), spec }
}

/// The id of one of the cluster's own images; `key` is what needs it.
fn image(images: &BTreeMap<String, String>, key: &str, name: &str) -> Result<String, LayerError> {
    images.get(name).cloned().ok_or_else(|| {
        LayerError::new(key, format!("the cluster's nodes have no image {name:?}"))
            .hint("build the images on the node with layers/images/build.sh")
    })
}
