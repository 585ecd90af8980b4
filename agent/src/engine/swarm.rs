//! The engine's swarm: joining it, its node's labels, and what the node is.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{LocalNodeState, SwarmInitRequest};
use bollard::query_parameters::{InspectNetworkOptions, LeaveSwarmOptions, ListNodesOptions, UpdateNodeOptions};
use magrathea_core::names::Layer;
use magrathea_core::wire::NodeReport;

use super::{Engine, GATEWAY_BRIDGE, found};
use crate::config::Prefix;
use crate::fail::{Doing, Outcome, node, with_hint};

/// Overlay networks are cut from here, 32 addresses each, so that 2,000 instances fit.
pub const OVERLAY_POOL: &str = "10.201.0.0/16";
const OVERLAY_MASK: u32 = 27;

impl Engine {
    /// Makes a swarm when the engine is in none. Says whether it did.
    pub async fn join_swarm(&self, advertise: IpAddr) -> Outcome<bool> {
        match self.swarm_state().await?.as_str() {
            "manager" => return Ok(false),
            "worker" => {
                return Err(with_hint(
                    node("this engine is a worker of somebody else's swarm"),
                    "run the agent on a manager, or take the engine out of that swarm: docker swarm leave",
                ));
            }
            _ => {}
        }
        let request = SwarmInitRequest {
            listen_addr: Some(format!("{}:2377", bracketed(advertise))),
            advertise_addr: Some(advertise.to_string()),
            default_addr_pool: Some(vec![OVERLAY_POOL.to_owned()]),
            subnet_size: Some(OVERLAY_MASK),
            ..SwarmInitRequest::default()
        };
        self.docker.init_swarm(request).await.doing(|| "making a swarm".into())?;
        Ok(true)
    }

    /// Leaves the swarm. Only ever called for one that [`Engine::join_swarm`] made.
    pub async fn leave_swarm(&self) -> Outcome<()> {
        let options = LeaveSwarmOptions { force: true };
        self.docker.leave_swarm(Some(options)).await.doing(|| "leaving the swarm".into())
    }

    /// Labels this engine's node with exactly these layers and this zone, beside labels of others.
    pub async fn label_node(&self, layers: &[Layer], zone: Option<&str>) -> Outcome<()> {
        let info = self.docker.info().await.doing(|| "asking the engine".into())?;
        let id = info.swarm.and_then(|swarm| swarm.node_id).unwrap_or_default();
        let held = self.docker.inspect_node(&id).await.doing(|| "reading the swarm's node".into())?;
        let mut spec = held.spec.unwrap_or_default();
        let (start, zone_label) = (format!("{}.layer.", self.prefix.as_str()), zone_label(&self.prefix));
        let mut labels: HashMap<_, _> = spec.labels.clone().unwrap_or_default();
        labels.retain(|key, _| !key.starts_with(&start) && *key != zone_label);
        labels.extend(layers.iter().map(|layer| (format!("{start}{layer}"), "true".to_owned())));
        labels.extend(zone.map(|zone| (zone_label, zone.to_owned())));
        if spec.labels.as_ref() == Some(&labels) {
            return Ok(());
        }
        spec.labels = Some(labels);
        let version = held.version.and_then(|v| v.index).and_then(|v| i64::try_from(v).ok()).unwrap_or_default();
        let options = UpdateNodeOptions { version };
        self.docker.update_node(&id, spec, options).await.doing(|| "labelling the swarm's node".into())
    }

    /// The addresses of the swarm's nodes, as far as they can be reached from elsewhere.
    pub async fn peers(&self) -> Outcome<Vec<IpAddr>> {
        let nodes =
            self.docker.list_nodes(None::<ListNodesOptions>).await.doing(|| "listing the swarm's nodes".into())?;
        let addresses = nodes.into_iter().filter_map(|node| node.status?.addr?.parse::<IpAddr>().ok());
        Ok(addresses.filter(|address| !address.is_loopback() && !address.is_unspecified()).collect())
    }

    /// `inactive`, `manager` or `worker`.
    pub async fn swarm_state(&self) -> Outcome<String> {
        let info = self.docker.info().await.doing(|| "asking the engine".into())?;
        Ok(state_of(info.swarm.as_ref()).to_owned())
    }

    /// The node's address on the bridge through which instances reach it; none before there is a swarm.
    pub async fn instance_gateway(&self) -> Outcome<Option<IpAddr>> {
        let inspected = self.docker.inspect_network(GATEWAY_BRIDGE, None::<InspectNetworkOptions>).await;
        let network = found(inspected, || format!("reading {GATEWAY_BRIDGE}"))?;
        let configs = network.and_then(|n| n.ipam).and_then(|ipam| ipam.config).unwrap_or_default();
        Ok(configs.into_iter().filter_map(|c| c.gateway).find_map(|gateway| gateway.parse().ok()))
    }

    /// Everything about the node except its disk.
    pub async fn report(&self) -> Outcome<NodeReport> {
        let info = self.docker.info().await.doing(|| "asking the engine".into())?;
        let state = state_of(info.swarm.as_ref()).to_owned();
        Ok(NodeReport {
            hostname: info.name.unwrap_or_default(),
            engine_version: info.server_version.unwrap_or_default(),
            swarm: state,
            cpus: info.ncpu.and_then(|n| n.try_into().ok()).unwrap_or_default(),
            memory: info.mem_total.and_then(|n| n.try_into().ok()).unwrap_or_default(),
            instance_gateway: self.instance_gateway().await?,
            images: self.layer_images().await?,
            ..NodeReport::default()
        })
    }
}

/// The label that names a node's zone.
pub fn zone_label(prefix: &Prefix) -> String {
    format!("{}.zone", prefix.as_str())
}

fn state_of(swarm: Option<&bollard::models::SwarmInfo>) -> &'static str {
    match swarm {
        Some(swarm) if swarm.control_available == Some(true) => "manager",
        Some(swarm)
            if matches!(swarm.local_node_state, None | Some(LocalNodeState::INACTIVE | LocalNodeState::EMPTY)) =>
        {
            "inactive"
        }
        Some(_) => "worker",
        None => "inactive",
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}
