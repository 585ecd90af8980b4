//! Where replicas may be. On any app node, when they need nothing that one node alone has; otherwise where that is: on the
//! manager, which carries all layers.

use std::collections::BTreeMap;
use std::time::Duration;

use magrathea_core::clusters::Cluster;
use magrathea_core::manifest::{Sections, WritableKind};
use magrathea_core::names::{Layer, NodeName, WEB};
use magrathea_core::plan::{CROSSING, Limits, Resource, ServiceMode, ServiceNetwork, ServiceSpec, Spec};
use magrathea_core::units::{ByteSize, Span};

use crate::{InstanceInput, LayerError, image, resource};

/// Replicas that stay on one node of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub node: NodeName,
    /// Why, as in `storage.writable.uploads is kept there`.
    pub reasons: Vec<String>,
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "all replicas are on node {}: {}", self.node, self.reasons.join(", "))
    }
}

/// What keeps an instance's replicas on the manager; none where they are spread, or where there is but one app node.
pub fn find_pin(sections: &Sections, cluster: &Cluster) -> Option<Pin> {
    let kept = sections.storage.writable.iter().filter(|(_, writable)| writable.kind == WritableKind::Shared);
    let mut reasons: Vec<_> = kept.map(|(path, _)| format!("storage.writable.{path} is kept there")).collect();
    if sections.db.mysql.is_some() {
        reasons.push("the database of db.mysql is reached from there alone".into());
    }
    if sections.app_layer.health.command.is_some() {
        reasons.push("app_layer.health.command is run there".into());
    }
    let node = cluster.manager().filter(|_| cluster.can_spread() && !reasons.is_empty())?;
    Some(Pin { node: node.clone(), reasons })
}

/// Whether the instance's replicas are spread.
pub fn is_spread(input: &InstanceInput<'_>) -> bool {
    input.cluster.can_spread() && find_pin(input.sections, input.cluster).is_none()
}

/// Whether those of one process type are. A command that says how a replica is, is run by the agent that waits for it.
pub fn is_process_spread(input: &InstanceInput<'_>, process: &str) -> bool {
    let workers = &input.sections.app_layer.workers;
    let worker = workers.iter().find(|(name, _)| name.as_str() == process).map(|(_, worker)| worker);
    is_spread(input) && (process == WEB || worker.is_none_or(|worker| worker.health.command.is_none()))
}

/// The way from the router into the network of an instance that is spread.
pub fn plan_crossing(input: &InstanceInput<'_>) -> Result<Option<Resource>, LayerError> {
    if !is_spread(input) {
        return Ok(None);
    }
    // It does nothing: the kernel passes packets on in its network, as the agent tells it.
    let spec = ServiceSpec {
        name: format!("{}-{CROSSING}", input.slug()),
        image: image(input.images, "clusters", "base")?,
        mode: ServiceMode::Global,
        on: Layer::Routing,
        spread: false,
        network: ServiceNetwork::Instance { network: input.slug(), aliases: Vec::new() },
        user: Some("65534:65534".into()),
        command: ["sleep", "infinity"].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        files: Vec::new(),
        secret_env: BTreeMap::new(),
        mounts: Vec::new(),
        tmpfs: Vec::new(),
        read_only: true,
        capabilities: Some(Vec::new()),
        limits: Limits { memory: Some(ByteSize::mib(16)), millicpus: None, pids: Some(8) },
        stop_signal: Some("SIGKILL".into()),
        stop_grace: Span(Duration::from_secs(1)),
        labels: BTreeMap::new(),
    };
    Ok(Some(resource(Layer::Storage, CROSSING, Spec::Service(Box::new(spec)))))
}
