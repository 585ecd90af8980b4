//! Brings resources about on the nodes that they belong to. The one way to a node for deploys, recovery, reconciling
//! and removal alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use magrathea_core::clusters::Cluster;
use magrathea_core::names::{ClusterName, Layer};
use magrathea_core::plan::{Resource, Spec, hash_of};
use magrathea_core::wire::{DataFate, Ensure, Ensured, Progress, Remove, Serving, Suspend};

use super::failure::Failure;
use crate::hub::NodeRef;
use crate::state::State;

/// Takes in what actions tell while they run.
pub type Listener<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// What is confirmed beside an instance's route: its certificates, which change without a deploy.
const CERTIFICATES: &str = "certificates";

/// For work that nobody watches.
pub const UNHEARD: Listener<'static> = &|_| {};

/// Applies resources of one subject.
#[derive(Clone)]
pub struct Applier {
    pub state: Arc<State>,
    /// The instance's slug, or the cluster's name.
    pub subject: String,
    pub cluster_name: ClusterName,
    pub cluster: Cluster,
    /// All secret values of the subject; each resource is sent those that it names.
    pub secrets: BTreeMap<String, String>,
}

/// What came of bringing a resource about.
#[derive(Debug, Default)]
pub struct Outcome {
    pub changed: bool,
    /// For a route, by node.
    pub serving: Vec<Serving>,
}

/// The nodes of a cluster that carry a layer, the manager first.
pub fn nodes_of(name: &ClusterName, cluster: &Cluster, layer: Layer) -> Vec<NodeRef> {
    cluster.carrying(layer).map(|node| NodeRef { cluster: name.clone(), node: node.clone() }).collect()
}

/// All nodes of a cluster, in order.
pub fn all_nodes(name: &ClusterName, cluster: &Cluster) -> Vec<NodeRef> {
    cluster.nodes.keys().map(|node| NodeRef { cluster: name.clone(), node: node.clone() }).collect()
}

/// The node whose engine manages the cluster's swarm.
pub fn manager_of(name: &ClusterName, cluster: &Cluster) -> Option<NodeRef> {
    cluster.manager().map(|node| NodeRef { cluster: name.clone(), node: node.clone() })
}

/// Whose swarm the node belongs to; none when it manages that itself.
pub fn manager_beside(node: &NodeRef, cluster: &Cluster) -> Option<NodeRef> {
    manager_of(&node.cluster, cluster).filter(|manager| manager != node)
}

/// Whether a node is away without which the cluster goes on: it is prepared anew when it is back.
pub fn is_away(state: &State, cluster: &Cluster, node: &NodeRef) -> bool {
    manager_beside(node, cluster).is_some() && !state.hub.is_connected(node)
}

/// Goes on without a node that failed, unless it is the manager: it gets no new replicas until it was prepared anew. Gives what
/// is to be said about it.
pub async fn go_on_without(
    state: &Arc<State>,
    cluster: &Cluster,
    node: &NodeRef,
    failure: Failure,
) -> Result<String, Failure> {
    let Some(manager) = manager_beside(node, cluster) else { return Err(failure) };
    let message = format!("{failure}; node {node} gets no new replicas for now");
    tracing::warn!("{message}");
    suspend(state, &manager, node).await;
    state.engine.put_off(node);
    Ok(message)
}

/// Has no new replicas given to a node that nobody brings images to. What runs there, runs on.
pub async fn suspend(state: &State, manager: &NodeRef, node: &NodeRef) {
    match state.hub.call(manager, Suspend { name: node.node.clone() }, |_| {}).await {
        Ok(_) => tracing::info!(%node, "the node gets no new replicas"),
        Err(error) => tracing::warn!(%node, %error, "the node may still be given replicas"),
    }
}

impl Applier {
    /// Services and networks are the swarm's, so one node brings them about for all; the rest is each node's own.
    pub fn targets(&self, resource: &Resource) -> Result<Vec<NodeRef>, Failure> {
        let mut nodes = match resource.spec {
            Spec::Firewall(_) | Spec::Logs(_) => all_nodes(&self.cluster_name, &self.cluster),
            _ if is_spread(resource) => nodes_of(&self.cluster_name, &self.cluster, Layer::App),
            _ => nodes_of(&self.cluster_name, &self.cluster, resource.layer),
        };
        if matches!(resource.spec, Spec::Service(_) | Spec::Network(_)) {
            nodes.truncate(1);
        }
        if nodes.is_empty() {
            return Err(Failure::new(
                "node",
                format!("cluster {} has no node that carries the layer {}", self.cluster_name, resource.layer),
            )
            .hint("add the layer to a node in clusters.yml"));
        }
        Ok(nodes)
    }

    /// Without those that are away.
    fn present(&self, mut nodes: Vec<NodeRef>) -> Vec<NodeRef> {
        nodes.retain(|node| !is_away(&self.state, &self.cluster, node));
        nodes
    }

    /// The node that is asked about the layer's things that only one node needs to do.
    pub fn first_node(&self, layer: Layer) -> Result<NodeRef, Failure> {
        nodes_of(&self.cluster_name, &self.cluster, layer).into_iter().next().ok_or_else(|| {
            Failure::new("node", format!("cluster {} has no node that carries the layer {layer}", self.cluster_name))
                .hint("add the layer to a node in clusters.yml")
        })
    }

    /// The values that the resource names.
    pub fn secrets_of(&self, resource: &Resource) -> BTreeMap<String, String> {
        let names = secret_names(resource);
        let values = names.into_iter().filter_map(|name| self.secrets.get_key_value(&name));
        values.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Brings a resource about on its nodes; what fails on another than the manager is gone on without.
    pub async fn ensure(&self, resource: &Resource, listener: Listener<'_>) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        for node in self.present(self.targets(resource)?) {
            match self.ensure_on(&node, resource, listener).await {
                Ok(ensured) => {
                    outcome.changed |= ensured.changed;
                    outcome.serving.extend(ensured.serving);
                }
                // What the release's own files led to is the deploy's failure, not the node's.
                Err(failure) if is_of_release(resource) && self.state.hub.is_connected(&node) => return Err(failure),
                Err(failure) => {
                    let message = go_on_without(&self.state, &self.cluster, &node, failure).await?;
                    listener(Progress::Warning { message });
                }
            }
        }
        Ok(outcome)
    }

    /// The same on one of them; nothing is asked that the node has confirmed since it connected.
    pub async fn ensure_on(
        &self,
        node: &NodeRef,
        resource: &Resource,
        listener: Listener<'_>,
    ) -> Result<Ensured, Failure> {
        let secrets = self.secrets_of(resource);
        let hash = identity_of(resource, &secrets);
        let engine = &self.state.engine;
        // What a router serves is always asked for.
        let is_route = matches!(resource.spec, Spec::Route(_));
        if !is_route && engine.is_confirmed(node, &self.subject, &resource.key, &hash) {
            return Ok(Ensured { changed: false, serving: None });
        }
        engine.unconfirm(node, &self.subject, &resource.key);
        let request = Ensure { resource: resource.clone(), secrets };
        let ensured = self.state.hub.call(node, request, listener).await;
        let ensured = ensured.map_err(|error| Failure::call(node, own_code(resource), error))?;
        engine.confirm(node, &self.subject, &resource.key, hash);
        if let Some(hash) = self.certificates_hash(resource) {
            engine.confirm(node, &self.subject, CERTIFICATES, hash);
        }
        Ok(ensured)
    }

    /// Has a resource brought about again, whatever its nodes have confirmed.
    pub fn forget(&self, resource: &Resource) {
        for node in self.targets(resource).unwrap_or_default() {
            self.state.engine.unconfirm(&node, &self.subject, &resource.key);
        }
    }

    /// Whether the node was told a route with other certificates than those that there are now. One that is missing is
    /// for a deploy to complain about.
    pub fn has_new_certificate(&self, node: &NodeRef, route: &Resource) -> bool {
        let hash = self.certificates_hash(route);
        hash.is_some_and(|hash| !self.state.engine.is_confirmed(node, &self.subject, CERTIFICATES, &hash))
    }

    /// None without certificates.
    fn certificates_hash(&self, resource: &Resource) -> Option<String> {
        let Spec::Route(route) = &resource.spec else { return None };
        let revealed = route.certificates.values().map(|text| text.reveal(&self.secrets).ok());
        revealed.collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty()).map(|texts| hash_of(&texts))
    }

    /// Takes a resource away. Data is gone only when it is gone from every node.
    pub async fn remove(&self, resource: &Resource, data: DataFate) -> Result<(), Failure> {
        let nodes = match resource.spec {
            // An earlier release may have been spread.
            Spec::Storage(_) => nodes_of(&self.cluster_name, &self.cluster, Layer::App),
            _ => self.targets(resource)?,
        };
        let nodes = if data == DataFate::Destroy { nodes } else { self.present(nodes) };
        for node in nodes {
            self.state.engine.unconfirm(&node, &self.subject, &resource.key);
            let request = Remove { resource: resource.clone(), data };
            if let Err(error) = self.state.hub.call(&node, request, UNHEARD).await {
                let failure = Failure::call(&node, "node", error);
                if data == DataFate::Destroy {
                    return Err(failure);
                }
                go_on_without(&self.state, &self.cluster, &node, failure).await?;
            }
        }
        Ok(())
    }
}

/// Whether each app node has it for the replicas that are there.
pub fn is_spread(resource: &Resource) -> bool {
    match &resource.spec {
        Spec::Storage(storage) => storage.spread,
        Spec::Seed(seed) => seed.storage.spread,
        Spec::Assets(assets) => assets.storage.spread,
        _ => false,
    }
}

/// The image of replicas that may be on any app node.
pub fn spread_image(resource: &Resource) -> Option<&str> {
    match &resource.spec {
        Spec::Service(service) if service.spread => Some(&service.image),
        _ => None,
    }
}

/// Whether it is made of what the release's image holds.
pub fn is_of_release(resource: &Resource) -> bool {
    matches!(resource.spec, Spec::Seed(_) | Spec::Assets(_))
}

/// The code of a failure that is the app's own, by what was to be brought about.
fn own_code(resource: &Resource) -> &'static str {
    match resource.spec {
        Spec::Service(_) => "unhealthy",
        Spec::Cache(_) | Spec::Route(_) | Spec::Router(_) => "refused",
        _ => "node",
    }
}

/// What must be the same for a resource to count as there. Seeding happens once per set of mounts, whatever the image.
fn identity_of(resource: &Resource, secrets: &BTreeMap<String, String>) -> String {
    match &resource.spec {
        Spec::Seed(seed) => hash_of(&seed.storage),
        spec => hash_of(&(spec, secrets)),
    }
}

fn secret_names(resource: &Resource) -> Vec<String> {
    let texts = match &resource.spec {
        Spec::Database(database) => vec![&database.ensure],
        Spec::Service(service) => service.secret_env.values().collect(),
        Spec::Route(route) => route.files.values().chain(route.certificates.values()).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().flat_map(|text| text.names()).map(str::to_owned).collect()
}
