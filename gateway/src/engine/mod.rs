//! Deploys, releases, plans and their application.
//!
//! `submit` takes a source in, `pipeline` carries a deploy out, `recover` ends what a killed gateway left,
//! `reconcile` keeps nodes as their plans say, `scaling` follows the load, and `sweep` takes away what nothing refers to. All
//! of them reach a node through `apply` and tell people through `events`.

mod again;
mod apply;
mod capacity;
mod carry;
mod choose;
mod destroy;
mod differ;
mod events;
mod failure;
mod health;
pub mod history;
mod intake;
mod layout;
mod lease;
mod lists;
mod pipeline;
mod plan_preview;
mod previews;
mod promote;
mod quotas;
mod reconcile;
mod recover;
mod redeploy;
mod restore;
mod runtime;
mod scaled;
mod scaling;
mod secrets;
mod submit;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;
mod traffic;
mod turn;
mod views;

use std::sync::Arc;
use std::time::Duration;

pub use again::{find_deploying, find_made};
pub use apply::nodes_of;
pub use capacity::capacity;
pub use choose::{check_cluster, choose_clusters};
pub use destroy::{destroy_app, destroy_instance, protected_labels};
pub use differ::{diff_releases, diff_texts};
pub use events::follow;
pub use failure::into_api;
pub use health::process_of;
pub use layout::{Site, load_secrets_of};
pub use lists::{ListUse, list_uses, lists_changed};
pub use plan_preview::preview;
pub use previews::end_preview;
pub use promote::promote;
pub use redeploy::{Values, redeploy, rollback, scale};
pub use restore::restore_layer;
pub use runtime::Engine;
pub use scaled::processes;
pub use secrets::rotate_password;
pub use submit::{Labels, submit, submit_all, submit_tar};
#[cfg(test)]
pub use sweep::sweep_later;
pub use traffic::{follow_quotas, traffic_used};
pub use turn::{alone, locked};
pub use views::{Which, cancel, deploy_info, instance_info, instance_infos, list_deploys, promote_trial};

use crate::db::promises;
use crate::state::State;

/// What must be done before anything new begins.
async fn take_over(state: &Arc<State>) -> anyhow::Result<()> {
    promises::count_serving(&state.db.conn().await?).await?;
    recover::claim_own(state).await
}

/// Ends what an earlier process left and keeps the clusters as their plans say, until the gateway ends.
pub fn start(state: &Arc<State>) {
    let task = Arc::clone(state);
    state.tasks.spawn(async move {
        while let Err(error) = take_over(&task).await {
            tracing::warn!("taking over what an earlier process left: {error:#}; trying again");
            if task.shutdown.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_none() {
                return;
            }
        }
        task.engine.set_open();
        task.tasks.spawn(recover::watch(Arc::clone(&task)));
        task.tasks.spawn(lists::watch(Arc::clone(&task)));
        task.tasks.spawn(previews::watch(Arc::clone(&task)));
        task.tasks.spawn(sweep::watch(Arc::clone(&task)));
        task.tasks.spawn(scaling::watch(Arc::clone(&task)));
        task.tasks.spawn(quotas::watch(Arc::clone(&task)));
        task.tasks.spawn(traffic::watch(Arc::clone(&task)));
        reconcile::watch(task).await;
    });
}
