//! Keeps a deploy's lease while this process works on it, and learns from the store that somebody wants it stopped.

use std::sync::Arc;
use std::time::Duration;

use magrathea_core::names::DeployId;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::db::DbError;
use crate::db::deploys::{self, Beat};
use crate::state::State;

/// A sixth of the lease, so that a few lost beats do no harm.
const EVERY: Duration = Duration::from_secs(5);

/// A lease that is renewed until it is dropped.
pub struct Lease {
    /// Another gateway has taken the deploy over: nothing more may be done in its name.
    pub lost: CancellationToken,
    _stop: DropGuard,
}

/// Begins to renew the deploy's lease.
pub fn keep(state: &Arc<State>, id: DeployId) -> Lease {
    let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
    let (task, lost_task, stopped) = (Arc::clone(state), lost.clone(), stop.clone());
    state.tasks.spawn(async move {
        while stopped.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            match beat(&task, id).await {
                Ok(Beat::Held) => {}
                Ok(Beat::Cancelled(_)) => task.engine.stop(id),
                Ok(Beat::Gone) => {
                    lost_task.cancel();
                    return;
                }
                Err(error) => tracing::warn!(deploy = %id, %error, "cannot renew the lease; trying again"),
            }
        }
    });
    Lease { lost, _stop: stop.drop_guard() }
}

async fn beat(state: &State, id: DeployId) -> Result<Beat, DbError> {
    deploys::beat(&state.db.conn().await?, id, state.engine.id).await
}
