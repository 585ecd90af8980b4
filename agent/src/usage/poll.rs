//! Asks the router now and then what is under way, and hands what was counted on.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::node::NodeAgent;

/// As often as the router itself sums up what is under way.
const ASK: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);

/// Until told to stop.
pub async fn watch(agent: Arc<NodeAgent>, stop: CancellationToken) {
    let ask = async {
        loop {
            tokio::time::sleep(ASK).await;
            match agent.router.usage().await {
                Ok(told) => agent.usage.told(&told),
                Err(error) => tracing::trace!(%error, "what is under way is not known"),
            }
        }
    };
    let seal = async {
        loop {
            tokio::time::sleep(LOOK).await;
            agent.usage.seal_when_due(&agent.spool);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = ask => {}
        () = seal => {}
    }
}
