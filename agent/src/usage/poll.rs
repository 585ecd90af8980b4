//! Asks the router now and then what is under way, and hands what was counted on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::node::NodeAgent;

/// What a process of the router knows alone is lost with one that is killed. It sums up what is under way every five seconds.
const ASK: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(500);

/// Until told to stop.
pub async fn watch(agent: Arc<NodeAgent>, stop: CancellationToken) {
    let ask = async {
        let mut holds = agent.router.holds();
        let mut asked = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let last = holds.look().await;
            if !last.is_empty() {
                agent.usage.told(&last);
                agent.usage.store_now();
            }
            holds.let_go();
            if asked.elapsed() < ASK {
                continue;
            }
            asked = Instant::now();
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
