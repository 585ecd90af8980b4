//! Automatic scaling: fetches from the routers how many requests instances' replicas have, keeps what advice needs, and gives
//! what serves other numbers of replicas where its manifest leaves them to the load. The decision is `core::scaling`'s; the
//! scaling is a deploy like `td app scale`'s, in the gateway's own name, which gives way to everybody else's.
//!
//! Of several gateways the one that the routers' agents are connected to sees the load, and the instance's lock lets one scale.

mod known;
mod loads;
mod tally;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use magrathea_core::names::{InstanceId, Layer, ProcessName};
use magrathea_core::scaling::{Load, decide};
use magrathea_core::units::Span;
use magrathea_core::wire::ReadLoad;

pub use self::known::at_once;
use self::known::{Known, Standing};
pub use self::loads::{Loads, now_busy};
use self::tally::Tally;
use super::apply::nodes_of;
use super::layout::Site;
use super::redeploy::scale_by_itself;
use crate::api::error::Code;
use crate::db::scales::{self, Past};
use crate::hub::NodeRef;
use crate::lock::locked;
use crate::state::State;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });
/// How long a router may take to tell.
const ANSWER: Duration = Duration::from_secs(3);
/// The longest pause after scalings that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Follows the load until the gateway ends.
pub async fn watch(state: Arc<State>) {
    let mut watcher = Watcher::default();
    while state.shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        if let Err(error) = watcher.look(&state).await {
            tracing::warn!("following the load: {error:#}");
        }
    }
    if let Err(error) = watcher.tally.store(&state).await {
        tracing::warn!(%error, "the last minute's load is not kept");
    }
}

#[derive(Default)]
struct Watcher {
    known: Known,
    tally: Tally,
}

impl Watcher {
    async fn look(&mut self, state: &Arc<State>) -> anyhow::Result<()> {
        gather(state).await;
        let conn = state.db.conn().await?;
        self.known.refresh(&conn).await?;
        let set: BTreeSet<_> = scales::list_set(&conn, &ProcessName::web()).await?.into_iter().collect();
        drop(conn);
        for standing in self.known.iter() {
            self.tally.count(state, standing);
        }
        self.tally.store_when_due(state).await?;
        for standing in self.known.iter().filter(|standing| standing.scaling.is_some()) {
            // What is wrong with one is no hindrance to the others.
            if let Err(error) = consider(state, standing, &set).await {
                tracing::warn!(instance = %standing.instance.id, "following the load: {error:#}");
            }
        }
        Ok(())
    }
}

/// The routers of an instance's cluster.
fn routers(state: &State, standing: &Standing) -> Vec<NodeRef> {
    let cluster = &standing.instance.cluster;
    let clusters = state.clusters();
    clusters.clusters.get(cluster).map(|spec| nodes_of(cluster, spec, Layer::Routing)).unwrap_or_default()
}

/// Fetches what all connected routers saw since they were last asked.
async fn gather(state: &Arc<State>) {
    let clusters = state.clusters();
    let nodes = clusters.clusters.iter().flat_map(|(name, spec)| nodes_of(name, spec, Layer::Routing));
    let asked = nodes.filter(|node| state.hub.is_connected(node)).map(|node| async move {
        let after = locked(&state.engine.loads).last_of(&node);
        let call = state.hub.call(&node, ReadLoad { after }, |_| {});
        match tokio::time::timeout(ANSWER, call).await {
            Ok(Ok(seen)) => locked(&state.engine.loads).take(&node, seen, Timestamp::now().as_second()),
            Ok(Err(error)) => tracing::debug!(%node, %error, "the load is not known"),
            Err(_) => tracing::debug!(%node, "the load is not known in time"),
        }
    });
    join_all(asked).await;
    let kept = state.pace.down.0.max(state.pace.up.0) + ANSWER + LOOK;
    let kept = i64::try_from(kept.as_secs()).unwrap_or(i64::MAX);
    locked(&state.engine.loads).forget_before(Timestamp::now().as_second().saturating_sub(kept.max(60)));
}

/// Scales an instance, when its load or a window wants it.
async fn consider(state: &Arc<State>, standing: &Standing, set: &BTreeSet<InstanceId>) -> anyhow::Result<()> {
    let Some(scaling) = standing.scaling.as_ref().filter(|_| !set.contains(&standing.instance.id)) else {
        return Ok(());
    };
    // A gateway that the nodes are not connected to leaves it to the one that they are.
    let Ok(site) = Site::new(state, standing.instance.clone()) else { return Ok(()) };
    if state.engine.unready(&site.needed_nodes()).is_some() {
        return Ok(());
    }
    let past = scales::load_past(&state.db.conn().await?, standing.instance.id).await?;
    let now = Timestamp::now();
    if past.is_busy || is_pausing(&past, state.pace.rest, now) {
        return Ok(());
    }
    let samples = locked(&state.engine.loads).samples(&routers(state, standing), &standing.slug, i64::MIN);
    let load = Load {
        current: standing.replicas,
        at_once: standing.at_once,
        samples: &samples,
        changed: past.changed.map(Timestamp::as_second),
        now: now.as_second(),
    };
    let Some(change) = decide(&scaling.bounds(now), scaling.target, &state.pace, &load) else { return Ok(()) };
    // What the cluster had no room for may have room for one.
    let lacked = past.failed.is_some_and(|(_, code)| code == "capacity_exceeded");
    let to = if lacked { change.to.min(standing.replicas.saturating_add(1)) } else { change.to };
    let reason = format!("web {} → {to}: {}", standing.replicas, change.why);
    match scale_by_itself(state, standing.instance.clone(), to, reason.clone()).await {
        Ok(deploy) => tracing::info!(slug = standing.slug, deploy = %deploy.id, reason, "scaling"),
        Err(error) if matches!(error.code, Code::Locked | Code::ShuttingDown) => {}
        Err(error) => tracing::info!(slug = standing.slug, reason, %error, "it cannot be scaled now"),
    }
    Ok(())
}

/// After a failure it is tried again, ever more rarely.
fn is_pausing(past: &Past, rest: Span, now: Timestamp) -> bool {
    let Some((failed, _)) = &past.failed else { return false };
    let doubled = 1u32 << past.failures.saturating_sub(1).min(10);
    let pause = rest.0.saturating_mul(doubled).min(LONGEST_PAUSE.max(rest.0));
    now.duration_since(*failed) < jiff::SignedDuration::try_from(pause).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_tried_again_ever_more_rarely() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let rest = Span(Duration::from_secs(60));
        for (failures, after, pauses) in [
            (0, 0, false),
            (1, 59, true),
            (1, 60, false),
            (2, 119, true),
            (3, 240, false),
            (99, 3599, true),
            (99, 3600, false),
        ] {
            let failed = (failures > 0).then(|| (at(0), "node".to_owned()));
            let past = Past { failed, failures, ..Past::default() };
            assert_eq!(is_pausing(&past, rest, at(after)), pauses, "{failures} {after}");
        }
    }
}
