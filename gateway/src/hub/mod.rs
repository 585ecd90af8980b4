//! The agents that are connected, and calls to them.

use std::sync::Arc;

use magrathea_core::names::{ClusterName, NodeName};
use magrathea_core::wire::{ActionError, NodeReport, Observation, Progress, Request};
use tokio::sync::broadcast;

/// A node, named by its cluster and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRef {
    pub cluster: ClusterName,
    pub node: NodeName,
}

impl std::fmt::Display for NodeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.cluster, self.node)
    }
}

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    #[error("the node is not connected")]
    NotConnected,
    #[error("the node was lost during the call and did not come back in time")]
    Lost,
    #[error(transparent)]
    Action(#[from] ActionError),
    #[error("the node did not answer in time")]
    Timeout,
}

/// Something that happened to a node.
#[derive(Debug, Clone, PartialEq)]
pub enum HubEvent {
    Connected(NodeRef),
    Lost(NodeRef),
    /// Stored already; told for those who act on it.
    Observed(NodeRef, Observation),
}

/// All connected agents.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    events: broadcast::Sender<HubEvent>,
}

impl Default for Hub {
    fn default() -> Self {
        Hub { inner: Arc::new(Inner { events: broadcast::channel(256).0 }) }
    }
}

impl Hub {
    /// Asks a node to do something and waits for its reply. Dropping the future cancels the action on the node. When
    /// the connection is lost and comes back within half a minute, the call is repeated: every action may be.
    pub async fn call<R: Request>(
        &self,
        _node: &NodeRef,
        _request: R,
        _on_progress: impl FnMut(Progress) + Send,
    ) -> Result<R::Reply, CallError> {
        Err(CallError::NotConnected)
    }

    /// The node's last report; none when it has not been connected since the gateway started.
    pub fn report(&self, _node: &NodeRef) -> Option<NodeReport> {
        None
    }

    /// Asks the node for a new report and keeps it.
    pub async fn refresh(&self, _node: &NodeRef) -> Result<NodeReport, CallError> {
        Err(CallError::NotConnected)
    }

    /// The nodes that are connected now, in order.
    pub fn connected(&self) -> Vec<NodeRef> {
        Vec::new()
    }

    /// What happens to nodes from now on. A slow reader misses the oldest events.
    pub fn subscribe(&self) -> broadcast::Receiver<HubEvent> {
        self.inner.events.subscribe()
    }
}
