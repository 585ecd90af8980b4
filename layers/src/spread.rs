//! Where replicas may be. On any app node, when they need nothing that one node alone has; otherwise where that is: on the
//! manager, which carries all layers.

use std::collections::BTreeMap;
use std::time::Duration;

use magrathea_core::clusters::Cluster;
use magrathea_core::manifest::{Sections, WritableKind};
use magrathea_core::names::{Layer, NodeName, WEB};
use magrathea_core::plan::{CROSSING, Limits, Resource, ServiceMode, ServiceNetwork, ServiceSpec, Spec, crossing_name};
use magrathea_core::units::{ByteSize, Span};

use crate::{InstanceInput, LayerError, image};

/// Replicas that stay on one node of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Which, as in `all replicas`.
    pub what: String,
    pub node: NodeName,
    /// Why, as in `storage.writable.uploads is kept there`.
    pub reasons: Vec<String>,
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} are on node {}: {}", self.what, self.node, self.reasons.join(", "))
    }
}

/// The replicas that could be on several nodes but for what only the manager has.
pub fn find_pins(sections: &Sections, cluster: &Cluster) -> Vec<Pin> {
    let Some(node) = cluster.manager().filter(|_| cluster.can_spread()) else { return Vec::new() };
    let pin = |what, reasons| Pin { what, node: node.clone(), reasons };
    let app = &sections.app_layer;
    let mut workers = app.workers.iter().filter(|(_, worker)| worker.replicas > 1);
    let reasons = reasons_of(sections);
    if !reasons.is_empty() {
        let are_several = app.replicas.most() > 1 || workers.next().is_some();
        return are_several.then(|| pin("all replicas".into(), reasons)).into_iter().collect();
    }
    let pinned = workers.filter(|(_, worker)| worker.health.command.is_some());
    let pin_of = |name| pin(format!("replicas of {name}"), vec!["its health.command is run there".into()]);
    pinned.map(|(name, _)| pin_of(name)).collect()
}

/// What keeps all of an instance's replicas on the manager.
fn reasons_of(sections: &Sections) -> Vec<String> {
    let kept = sections.storage.writable.iter().filter(|(_, writable)| writable.kind == WritableKind::Shared);
    let mut reasons: Vec<_> = kept.map(|(path, _)| format!("storage.writable.{path} is kept there")).collect();
    if sections.db.mysql.is_some() {
        reasons.push("the database of db.mysql is reached from there alone".into());
    }
    if sections.app_layer.health.command.is_some() {
        reasons.push("app_layer.health.command is run there".into());
    }
    reasons
}

/// Whether the instance's replicas are spread.
pub fn is_spread(input: &InstanceInput<'_>) -> bool {
    input.cluster.can_spread() && reasons_of(input.sections).is_empty()
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
        name: crossing_name(&input.slug()),
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
    Ok(Some(Resource { layer: Layer::Storage, key: CROSSING.into(), spec: Spec::Service(Box::new(spec)) }))
}
