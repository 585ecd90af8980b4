//! Drains: an instance's log on its way to a sink elsewhere. A drain is a reader of the log that keeps its place in the
//! database, once the sink has taken what lies before it; while the sink is away or slow, the lines stay in the nodes'
//! files, within their bounds, and nothing waits for it.

mod serve;
mod sink;
mod syslog;
mod target;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::db::drains;
use crate::state::State;

pub use sink::Sink;
pub use syslog::Origin;
pub use target::{Allowed, Target};

/// How often new drains, and those of a gateway that is gone, are looked for.
const LOOK: Duration = Duration::from_secs(2);

/// Serves this gateway's drains until it ends.
pub async fn run(state: Arc<State>) {
    let gateway = Uuid::now_v7();
    let mut running: HashMap<Uuid, DropGuard> = HashMap::new();
    loop {
        match claim(&state, gateway).await {
            Ok(claimed) => {
                running.retain(|id, _| claimed.iter().any(|drain| drain.id == *id));
                for drain in claimed {
                    running.entry(drain.id).or_insert_with(|| {
                        let stop = CancellationToken::new();
                        let (task, stopped) = (serve::serve(Arc::clone(&state), gateway, drain), stop.clone());
                        state.tasks.spawn(async move { stopped.run_until_cancelled(task).await });
                        stop.drop_guard()
                    });
                }
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "drains cannot be looked for"),
        }
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn claim(state: &State, gateway: Uuid) -> anyhow::Result<Vec<drains::Drain>> {
    drains::claim_drains(&state.db.conn().await?, &state.seal, gateway).await
}
