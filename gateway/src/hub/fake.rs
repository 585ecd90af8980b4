//! An agent for tests of what stands above the hub: no socket, only the session that a connection would have.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use magrathea_core::wire::{Action, ActionError, GatewayFrame, NodeReport};
use tokio_util::task::AbortOnDropHandle;

use super::session::Session;
use super::{Hub, NodeRef};

/// What the agent does with an action.
pub type Serve = Arc<dyn Fn(Action) -> BoxFuture<'static, Result<serde_json::Value, ActionError>> + Send + Sync>;

/// A connection that is lost when it is dropped.
pub struct FakeAgent {
    hub: Hub,
    node: NodeRef,
    session: Arc<Session>,
    _task: AbortOnDropHandle<()>,
}

impl FakeAgent {
    /// Connects a node.
    pub fn connect(hub: &Hub, node: &NodeRef, report: NodeReport, serve: Serve) -> Self {
        let (session, mut frames) = Session::new();
        let session = Arc::new(session);
        let answering = Arc::clone(&session);
        let tracker = tokio_util::task::TaskTracker::new();
        let task = tracker.spawn(async move {
            let mut calls = tokio::task::JoinSet::new();
            while let Some(frame) = frames.recv().await {
                if let GatewayFrame::Call { id, action } = frame {
                    let (answering, served) = (Arc::clone(&answering), serve(*action));
                    calls.spawn(async move { answering.result(id, served.await) });
                }
            }
        });
        hub.attach(node, &session, report);
        FakeAgent { hub: hub.clone(), node: node.clone(), session, _task: AbortOnDropHandle::new(task) }
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.hub.detach(&self.node, &self.session);
    }
}
