//! The nodes of the swarm that this engine manages: their labels say what each carries, and whether it takes replicas.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bollard::models::{Node, NodeSpec, NodeSpecAvailabilityEnum, NodeSpecRoleEnum, NodeState};
use bollard::query_parameters::{DeleteNodeOptions, ListNodesOptions, UpdateNodeOptions};
use magrathea_core::names::{Layer, NodeName};
use magrathea_core::wire::Admit;

use super::Engine;
use crate::config::Prefix;
use crate::fail::{Doing, Outcome, node, with_hint};

impl Engine {
    /// Labels this engine's node with exactly these layers and this zone, beside labels of others.
    pub async fn label_node(&self, layers: &[Layer], zone: Option<&str>) -> Outcome<()> {
        let held = self.own_node().await?;
        let carries = |layer: &Layer| layers.contains(layer).then(|| "true".to_owned());
        let mut labels: BTreeMap<_, _> =
            Layer::ALL.iter().map(|layer| (layer_label(&self.prefix, *layer), carries(layer))).collect();
        labels.insert(spread_label(&self.prefix), carries(&Layer::App));
        labels.insert(zone_label(&self.prefix), zone.map(str::to_owned));
        let availability = availability_of(&held).unwrap_or(NodeSpecAvailabilityEnum::ACTIVE);
        self.change_node(held, labels, availability).await.map(drop)
    }

    /// Names a node of the swarm, and lets it take replicas that are spread.
    pub async fn admit(&self, wanted: &Admit) -> Outcome<()> {
        let held = self.docker.inspect_node(&wanted.id).await.doing(|| format!("looking for node {}", wanted.name))?;
        // The id is the other agent's word.
        let spec = held.spec.clone().unwrap_or_default();
        let labels = spec.labels.unwrap_or_default();
        let is_taken = labels.contains_key(&spread_label(&self.prefix))
            && labels.get(&name_label(&self.prefix)).is_some_and(|name| name != wanted.name.as_str());
        if is_taken || spec.role != Some(NodeSpecRoleEnum::WORKER) {
            return Err(with_hint(
                node(format!("what node {} says it is in the swarm is another node", wanted.name)),
                "if the machine was copied from that one: docker swarm leave there",
            ));
        }
        let labels = BTreeMap::from([
            (name_label(&self.prefix), Some(wanted.name.to_string())),
            (spread_label(&self.prefix), Some("true".to_owned())),
            (zone_label(&self.prefix), wanted.zone.clone()),
        ]);
        self.change_node(held, labels, NodeSpecAvailabilityEnum::ACTIVE).await?;
        // One that left and came back is another to the swarm, which keeps the first.
        for (other, name) in self.admitted().await? {
            if name == wanted.name.as_str() && other.id.as_deref() != Some(&wanted.id) {
                self.forget_node(&other, &name).await?;
            }
        }
        Ok(())
    }

    async fn forget_node(&self, held: &Node, name: &str) -> Outcome<()> {
        let id = held.id.as_deref().unwrap_or_default();
        let options = DeleteNodeOptions { force: true };
        self.docker.delete_node(id, Some(options)).await.doing(|| format!("forgetting the former {name}"))
    }

    /// Gives a node no new replicas; those that it has stay. Says whether that is a change.
    pub async fn suspend(&self, name: &NodeName) -> Outcome<bool> {
        let mut changed = false;
        for (held, other) in self.admitted().await? {
            let is_active = availability_of(&held) == Some(NodeSpecAvailabilityEnum::ACTIVE);
            if other == name.as_str() && is_active {
                changed |= self.change_node(held, BTreeMap::new(), NodeSpecAvailabilityEnum::PAUSE).await?;
            }
        }
        Ok(changed)
    }

    /// Has nodes that were admitted give their replicas up when they are none of these; forgets them once they are down.
    pub async fn dismiss_others(&self, names: &[NodeName]) -> Outcome<()> {
        for (held, other) in self.admitted().await? {
            if names.iter().all(|name| name.as_str() != other) {
                if held.status.as_ref().and_then(|status| status.state) == Some(NodeState::DOWN) {
                    self.forget_node(&held, &other).await?;
                    continue;
                }
                let no_more = BTreeMap::from([(spread_label(&self.prefix), None)]);
                if self.change_node(held, no_more, NodeSpecAvailabilityEnum::DRAIN).await? {
                    tracing::info!(node = other, "is no node of the cluster any more; its replicas go to others");
                }
            }
        }
        Ok(())
    }

    /// The nodes of the swarm that were admitted for this installation, with their names.
    async fn admitted(&self) -> Outcome<Vec<(Node, String)>> {
        let nodes = self.list_nodes(HashMap::new()).await?;
        let name = |node: Node| {
            let name = node.spec.as_ref()?.labels.as_ref()?.get(&name_label(&self.prefix)).cloned()?;
            Some((node, name))
        };
        Ok(nodes.into_iter().filter_map(name).collect())
    }

    /// The ids of the nodes that this one manages; none on one that manages no swarm.
    pub(super) async fn managed(&self) -> Outcome<Vec<String>> {
        let workers = HashMap::from([("role".to_owned(), vec!["worker".to_owned()])]);
        Ok(self.list_nodes(workers).await?.into_iter().filter_map(|node| node.id).collect())
    }

    async fn list_nodes(&self, filters: HashMap<String, Vec<String>>) -> Outcome<Vec<Node>> {
        let listed = self.docker.list_nodes(Some(ListNodesOptions { filters: Some(filters) })).await;
        match listed {
            Err(error) if is_no_manager(&error) => Ok(Vec::new()),
            listed => listed.doing(|| "listing the swarm's nodes".into()),
        }
    }

    pub(super) async fn own_node(&self) -> Outcome<Node> {
        let id = self.swarm_id().await?;
        self.docker.inspect_node(&id).await.doing(|| "reading the swarm's node".into())
    }

    /// The addresses of the swarm's nodes, as far as they can be reached from elsewhere, without those that were dismissed;
    /// only a manager knows them.
    pub async fn peers(&self) -> Outcome<Vec<IpAddr>> {
        let is_dismissed = |node: &Node| {
            let labels = node.spec.as_ref().and_then(|spec| spec.labels.as_ref());
            labels.is_some_and(|labels| {
                labels.contains_key(&name_label(&self.prefix)) && !labels.contains_key(&spread_label(&self.prefix))
            })
        };
        let nodes = self.list_nodes(HashMap::new()).await?;
        let nodes = nodes.into_iter().filter(|node| !is_dismissed(node));
        let addresses = nodes.filter_map(|node| node.status?.addr?.parse::<IpAddr>().ok());
        Ok(addresses.filter(|address| !address.is_loopback() && !address.is_unspecified()).collect())
    }

    /// Gives a node labels, or takes them away, beside those that it has. Says whether anything changed.
    async fn change_node(
        &self,
        held: Node,
        labels: BTreeMap<String, Option<String>>,
        availability: NodeSpecAvailabilityEnum,
    ) -> Outcome<bool> {
        let before = held.spec.unwrap_or_default();
        let mut all = before.labels.clone().unwrap_or_default();
        for (label, value) in labels {
            match value {
                Some(value) => drop(all.insert(label, value)),
                None => drop(all.remove(&label)),
            }
        }
        let spec = NodeSpec { labels: Some(all), availability: Some(availability), ..before.clone() };
        if spec == before {
            return Ok(false);
        }
        let version = held.version.and_then(|v| v.index).and_then(|v| i64::try_from(v).ok()).unwrap_or_default();
        let options = UpdateNodeOptions { version };
        let id = held.id.unwrap_or_default();
        self.docker.update_node(&id, spec, options).await.doing(|| "labelling the swarm's node".into())?;
        Ok(true)
    }
}

/// The label of nodes that carry a layer.
pub fn layer_label(prefix: &Prefix, layer: Layer) -> String {
    format!("{}.layer.{layer}", prefix.as_str())
}

/// The label of nodes that take replicas which may be on any of them.
pub fn spread_label(prefix: &Prefix) -> String {
    format!("{}.spread", prefix.as_str())
}

/// The label that names a node's zone.
pub fn zone_label(prefix: &Prefix) -> String {
    format!("{}.zone", prefix.as_str())
}

/// The label that names a node that was admitted.
fn name_label(prefix: &Prefix) -> String {
    format!("{}.node", prefix.as_str())
}

fn availability_of(node: &Node) -> Option<NodeSpecAvailabilityEnum> {
    node.spec.as_ref()?.availability
}

/// Whether the engine refuses because it manages no swarm.
fn is_no_manager(error: &bollard::errors::Error) -> bool {
    // Not that it has no leader for a moment, which bears the same status.
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 503, message }
        if message.contains("not a swarm manager"))
}
