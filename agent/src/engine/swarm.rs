//! The engine's swarm: making, entering or leaving it, and what the node is.

use std::net::{IpAddr, SocketAddr};

use bollard::models::{LocalNodeState, SwarmInfo, SwarmInitRequest, SwarmJoinRequest};
use bollard::query_parameters::{InspectNetworkOptions, LeaveSwarmOptions};
use magrathea_core::plan::OVERLAY_POOL;
use magrathea_core::wire::{Entry, JoinToken, NodeReport};

use super::{Engine, GATEWAY_BRIDGE, found};
use crate::fail::{Doing, Outcome, node, with_hint};

const OVERLAY_MASK: u32 = 27;
/// Where managers listen.
const MANAGER_PORT: u16 = 2377;

/// Whether the agent may take its engine out of the swarm that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// The agent made it, or entered it.
    Yes,
    No,
}

impl Engine {
    /// Makes a swarm when the engine is in none. Says whether it did.
    pub async fn make_swarm(&self, advertise: IpAddr) -> Outcome<bool> {
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
            listen_addr: Some(manager_at(advertise)),
            advertise_addr: Some(advertise.to_string()),
            default_addr_pool: Some(vec![OVERLAY_POOL.to_owned()]),
            subnet_size: Some(OVERLAY_MASK),
            ..SwarmInitRequest::default()
        };
        self.docker.init_swarm(request).await.doing(|| "making a swarm".into())?;
        Ok(true)
    }

    /// Enters the swarm that another node manages, leaving one of our own in which nothing runs. Says whether it did.
    pub async fn enter_swarm(&self, advertise: IpAddr, entry: &Entry, ours: Ours) -> Outcome<bool> {
        let info = self.docker.info().await.doing(|| "asking the engine".into())?.swarm;
        match state_of(info.as_ref()) {
            "worker" if is_managed_by(info.as_ref(), entry) => return Ok(false),
            "worker" if ours == Ours::Yes => self.leave_swarm().await?,
            "manager" if ours == Ours::Yes && self.swarm_is_empty().await? => self.leave_swarm().await?,
            "inactive" => {}
            state => {
                return Err(with_hint(
                    node(format!("this engine is the {state} of another swarm")),
                    "take it out of that swarm, which ends what runs there: docker swarm leave --force",
                ));
            }
        }
        let request = SwarmJoinRequest {
            listen_addr: Some(manager_at(advertise)),
            advertise_addr: Some(advertise.to_string()),
            remote_addrs: Some(vec![entry.manager.clone()]),
            join_token: Some(entry.token.0.clone()),
            ..SwarmJoinRequest::default()
        };
        let joined = self.docker.join_swarm(request).await;
        let joined = joined.doing(|| format!("entering the swarm of {}", entry.manager));
        joined.map_err(|error| with_hint(error, "open TCP 2377 and 7946, UDP 7946 and 4789 between the nodes"))?;
        Ok(true)
    }

    /// How another node enters the swarm that this one manages.
    pub async fn invite(&self) -> Outcome<Entry> {
        let doing = || "asking for the swarm's token".to_owned();
        let token = self.docker.inspect_swarm().await.doing(doing)?.join_tokens.and_then(|tokens| tokens.worker);
        let own = self.own_node().await?;
        let manager = own.manager_status.and_then(|status| status.addr);
        let (Some(manager), Some(token)) = (manager, token) else {
            return Err(node("this engine manages no swarm"));
        };
        if manager.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback()) {
            return Err(with_hint(
                node(format!("the swarm was made at {manager}, where no other node reaches it")),
                "make it anew at the address that clusters.yml has now: stop the agent, docker swarm leave --force, start it",
            ));
        }
        Ok(Entry { manager, id: own.id.unwrap_or_default(), token: JoinToken(token) })
    }

    /// What the swarm calls this node; nothing outside of one.
    pub async fn swarm_id(&self) -> Outcome<String> {
        let info = self.docker.info().await.doing(|| "asking the engine".into())?;
        Ok(info.swarm.and_then(|swarm| swarm.node_id).unwrap_or_default())
    }

    /// Leaves the swarm. Only ever called for one that this agent made or entered.
    pub async fn leave_swarm(&self) -> Outcome<()> {
        let options = LeaveSwarmOptions { force: true };
        self.docker.leave_swarm(Some(options)).await.doing(|| "leaving the swarm".into())
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

/// By the manager's id: one that is made anew at the same address is another swarm.
fn is_managed_by(swarm: Option<&SwarmInfo>, entry: &Entry) -> bool {
    let managers = swarm.and_then(|swarm| swarm.remote_managers.as_ref());
    managers.into_iter().flatten().any(|known| known.node_id.as_deref() == Some(&entry.id))
}

fn state_of(swarm: Option<&SwarmInfo>) -> &'static str {
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

fn manager_at(address: IpAddr) -> String {
    SocketAddr::new(address, MANAGER_PORT).to_string()
}
