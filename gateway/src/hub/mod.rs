//! The agents that are connected, and calls to them. Nothing here decides what a node should do.

#[cfg(test)]
pub(crate) mod fake;
mod listener;
mod observe;
mod session;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use magrathea_core::names::{ClusterName, NodeName};
use magrathea_core::wire::{Action, ActionError, ActionErrorKind, NodeReport, Observation, Progress, Report, Request};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

pub use self::listener::router;
use self::session::Session;
#[cfg(test)]
pub(crate) use self::streams::StreamEnd;
pub use self::streams::StreamHandle;
use crate::lock::locked;

/// How long a call waits for a lost node to come back.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });

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

/// Which lines of an action have come: a repeated one tells all of them again.
#[derive(Debug, Default)]
pub struct Told(pub u64);

impl Told {
    /// Whether it comes for the first time.
    pub fn is_new(&mut self, progress: &Progress) -> bool {
        let Progress::Log { number: Some(number), .. } = progress else { return true };
        let is_new = *number > self.0;
        self.0 = self.0.max(*number);
        is_new
    }
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
    nodes: Mutex<BTreeMap<NodeRef, Link>>,
    /// Counts connections made, so that waiting calls look again.
    connections: watch::Sender<u64>,
    events: broadcast::Sender<HubEvent>,
    next_call: AtomicU64,
    streams: streams::Awaited,
}

/// What the hub knows of a node since the gateway started.
struct Link {
    session: Option<Arc<Session>>,
    report: NodeReport,
    lost_at: Option<Instant>,
}

impl Default for Hub {
    fn default() -> Self {
        let inner = Inner {
            nodes: Mutex::default(),
            connections: watch::Sender::new(0),
            events: broadcast::channel(256).0,
            next_call: AtomicU64::new(1),
            streams: streams::Awaited::default(),
        };
        Hub { inner: Arc::new(inner) }
    }
}

impl Hub {
    /// Asks a node to do something and waits for its reply. Dropping the future cancels the action on the node. When
    /// the connection is lost and comes back within half a minute, the call is repeated: every action may be. What it
    /// numbers is told once.
    pub async fn call<R: Request>(
        &self,
        node: &NodeRef,
        request: R,
        mut on_progress: impl FnMut(Progress) + Send,
    ) -> Result<R::Reply, CallError> {
        let action: Action = request.into();
        let limit = time_limit(&action);
        let mut told = Told::default();
        let mut on_progress = |progress| {
            if told.is_new(&progress) {
                on_progress(progress);
            }
        };
        let calls = async {
            let mut absent = CallError::NotConnected;
            loop {
                let session = self.session(node).await.ok_or(absent)?;
                match session.call(self.next_call(), action.clone(), &mut on_progress).await {
                    Some(result) => return Ok(result?),
                    None => absent = CallError::Lost,
                }
                tracing::info!(%node, action = action.name(), "the node was lost during a call; waiting for it");
            }
        };
        let value = tokio::time::timeout(limit, calls).await.unwrap_or(Err(CallError::Timeout))?;
        serde_json::from_value(value).map_err(|error| {
            CallError::Action(ActionError {
                kind: ActionErrorKind::Internal,
                message: format!("the agent's reply to {} is malformed: {error}", action.name()),
                hint: Some("run the same version of gateway and agents".to_owned()),
                log_tail: Vec::new(),
            })
        })
    }

    /// The node's last report; none when it has not been connected since the gateway started.
    pub fn report(&self, node: &NodeRef) -> Option<NodeReport> {
        self.nodes().get(node).map(|link| link.report.clone())
    }

    /// Asks the node for a new report and keeps it.
    pub async fn refresh(&self, node: &NodeRef) -> Result<NodeReport, CallError> {
        let report = self.call(node, Report {}, |_| {}).await?;
        if let Some(link) = self.nodes().get_mut(node) {
            link.report = report.clone();
        }
        Ok(report)
    }

    /// Keeps what a node says of its trouble.
    fn set_trouble(&self, node: &NodeRef, trouble: Option<String>) {
        if let Some(link) = self.nodes().get_mut(node) {
            link.report.trouble = trouble;
        }
    }

    /// The nodes that are connected now, in order.
    pub fn connected(&self) -> Vec<NodeRef> {
        let nodes = self.nodes();
        nodes.iter().filter(|(_, link)| link.session.is_some()).map(|(node, _)| node.clone()).collect()
    }

    pub fn is_connected(&self, node: &NodeRef) -> bool {
        self.nodes().get(node).is_some_and(|link| link.session.is_some())
    }

    /// Ends a node's connection, as when its certificate was replaced.
    pub fn disconnect(&self, node: &NodeRef) {
        if let Some(session) = self.nodes().get(node).and_then(|link| link.session.as_ref()) {
            session.close();
        }
    }

    /// What happens to nodes from now on. A slow reader misses the oldest events.
    pub fn subscribe(&self) -> broadcast::Receiver<HubEvent> {
        self.inner.events.subscribe()
    }

    /// Makes a session the node's one; the one before is closed.
    fn attach(&self, node: &NodeRef, session: &Arc<Session>, report: NodeReport) {
        let link = Link { session: Some(Arc::clone(session)), report, lost_at: None };
        let before = self.nodes().insert(node.clone(), link);
        if let Some(before) = before.and_then(|link| link.session) {
            tracing::warn!(%node, "a second connection replaces the first");
            before.close();
        }
        self.inner.connections.send_modify(|count| *count += 1);
        self.tell(HubEvent::Connected(node.clone()));
    }

    /// Forgets a session that ended, unless another has replaced it.
    fn detach(&self, node: &NodeRef, session: &Arc<Session>) {
        session.close();
        let mut nodes = self.nodes();
        let Some(link) = nodes.get_mut(node) else { return };
        if link.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            link.session = None;
            link.lost_at = Some(Instant::now());
            drop(nodes);
            self.tell(HubEvent::Lost(node.clone()));
        }
    }

    fn tell(&self, event: HubEvent) {
        // An error means that nobody listens.
        let _ = self.inner.events.send(event);
    }

    fn next_call(&self) -> u64 {
        self.inner.next_call.fetch_add(1, Ordering::Relaxed)
    }

    /// The node's session; waits for a node that was lost a moment ago.
    async fn session(&self, node: &NodeRef) -> Option<Arc<Session>> {
        let mut connections = self.inner.connections.subscribe();
        loop {
            let end = {
                let nodes = self.nodes();
                let link = nodes.get(node)?;
                if let Some(session) = &link.session {
                    return Some(Arc::clone(session));
                }
                link.lost_at? + PATIENCE
            };
            tokio::time::timeout_at(end, connections.changed()).await.ok()?.ok()?;
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeRef, Link>> {
        locked(&self.inner.nodes)
    }
}

/// The longest that a call may take in all. Actions with a limit of their own end by themselves before it.
fn time_limit(action: &Action) -> Duration {
    let own = match action {
        Action::Build(build) => build.timeout.0,
        Action::AwaitHealthy(wait) => wait.timeout.0,
        Action::Watch(watch) => watch.span.0,
        Action::Drain(drain) => drain.timeout.0,
        Action::RunOnce(run) => run.timeout.0,
        _ => Duration::ZERO,
    };
    own + Duration::from_secs(300)
}
