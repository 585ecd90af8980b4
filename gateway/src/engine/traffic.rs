//! Traffic quotas: what a month has used is added up again and again; people are told, and routers are told whose visitors get
//! less. Each time all of it is said anew, so that a router that was away, a raised quota and a new month need nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use magrathea_core::billing::Month;
use magrathea_core::names::{ClusterName, Layer};
use magrathea_core::usage::{Then, describe_traffic, mark_of, percent_of};
use magrathea_core::wire::Limit;
use uuid::Uuid;

use super::apply::nodes_of;
use crate::db::instances::Instance;
use crate::db::quotas::{self, AppTraffic, TrafficQuota};
use crate::db::timeline::NewEntry;
use crate::db::{Client, instances, timeline};
use crate::services::billing;
use crate::state::State;

const EVERY: Duration = Duration::from_secs(10);
/// Adding up takes at most this part of the time.
const SHARE: u32 = 20;
/// A router that does not answer in this time is told the next time.
const ASK: Duration = Duration::from_secs(20);

/// Looks until the gateway ends.
pub async fn watch(state: Arc<State>) {
    loop {
        let pause = match look(&state).await {
            Ok(took) => EVERY.max(took * SHARE),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cannot look at traffic quotas");
                EVERY
            }
        };
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            () = state.engine.quotas.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Has what was set or taken away hold at once.
pub fn follow_quotas(state: &State) {
    state.engine.quotas.notify_one();
}

/// What of each of these this month has used, by its id.
pub async fn traffic_used(
    client: &impl Client,
    state: &State,
    of: &[TrafficQuota],
) -> anyhow::Result<BTreeMap<Uuid, u64>> {
    if of.is_empty() {
        return Ok(BTreeMap::new());
    }
    used_since(client, of, this_month(state).await).await
}

async fn used_since(
    client: &impl Client,
    of: &[TrafficQuota],
    month: Timestamp,
) -> anyhow::Result<BTreeMap<Uuid, u64>> {
    let traffic = quotas::sum_traffic(client, of, month).await?;
    Ok(of.iter().map(|quota| (quota.id, used(quota, &traffic))).collect())
}

/// When it began.
async fn this_month(state: &State) -> Timestamp {
    month_of(Timestamp::now(), &billing::zone(state).await)
}

/// When the month of an instant began.
fn month_of(at: Timestamp, zone: &TimeZone) -> Timestamp {
    Month::of(at, zone).period(zone).from
}

fn used(quota: &TrafficQuota, traffic: &[AppTraffic]) -> u64 {
    let counts = traffic.iter().filter(|of| quota.whose.covers(of.organisation, of.app));
    counts.map(|of| of.bytes).fold(0, u64::saturating_add)
}

/// Says how long it took to add up.
pub(super) async fn look(state: &Arc<State>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let limited = add_up(state).await?;
    let took = began.elapsed();
    tell_routers(state, &limited).await;
    Ok(took)
}

/// Tells people what is new, and gives whose visitors get less, by cluster and slug.
async fn add_up(state: &State) -> anyhow::Result<BTreeMap<ClusterName, BTreeMap<String, Then>>> {
    let mut conn = state.db.conn().await?;
    let all = quotas::list_traffic_quotas(&conn).await?;
    let mut limited: BTreeMap<ClusterName, BTreeMap<String, Then>> = BTreeMap::new();
    if all.is_empty() {
        return Ok(limited);
    }
    let month = this_month(state).await;
    let used = used_since(&conn, &all, month).await?;
    let mut reached = Vec::new();
    for quota in all {
        let percent = percent_of(used.get(&quota.id).copied().unwrap_or_default(), quota.bytes);
        // What a month has used does not become less, so what was told before moves no mark.
        let mark = mark_of(percent, 0);
        if (mark, Some(month)) != (quota.mark, quota.month) {
            let tx = conn.transaction().await?;
            if quotas::mark_traffic(&tx, &quota, (mark, month)).await?
                && let Some((action, message)) = describe(&quota, month, percent, mark)
            {
                let organisation = Some(quota.organisation);
                let app = quota.app_name.as_deref();
                let entry = NewEntry { action, app, organisation, message: &message, ..NewEntry::default() };
                timeline::append(&tx, entry).await?;
            }
            tx.commit().await?;
        }
        if percent >= 100 {
            reached.push(quota);
        }
    }
    if reached.is_empty() {
        return Ok(limited);
    }
    for instance in instances::list_instances(&conn).await? {
        if let Some(then) = strictest(&reached, &instance) {
            limited.entry(instance.cluster.clone()).or_default().insert(instance.id.slug(), then);
        }
    }
    Ok(limited)
}

/// What the quotas that are reached mean for an instance.
fn strictest(reached: &[TrafficQuota], instance: &Instance) -> Option<Then> {
    let concerns = reached.iter().filter(|quota| quota.whose.covers(instance.organisation, instance.app));
    concerns.map(|quota| quota.then).max().filter(|then| *then != Then::Warn)
}

/// All at once: one that hangs keeps none waiting.
async fn tell_routers(state: &State, limited: &BTreeMap<ClusterName, BTreeMap<String, Then>>) {
    let clusters = state.clusters();
    let connected = state.hub.connected();
    let routers = clusters.clusters.iter().flat_map(|(name, cluster)| {
        let then = limited.get(name).cloned().unwrap_or_default();
        let nodes = nodes_of(name, cluster, Layer::Routing).into_iter().filter(|node| connected.contains(node));
        nodes.map(move |node| (node, then.clone()))
    });
    let told = routers.map(async |(node, then)| {
        let call = state.hub.call(&node, Limit { then }, |_| {});
        match tokio::time::timeout(ASK, call).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::info!(%node, %error, "whose visitors get less is told later"),
            Err(_) => tracing::info!(%node, "whose visitors get less is told later: no answer"),
        }
    });
    join_all(told).await;
}

/// The line on the timeline; none when nobody needs to know.
fn describe(quota: &TrafficQuota, month: Timestamp, percent: u64, mark: u8) -> Option<(&'static str, String)> {
    let whose = if quota.app_name.is_some() { "" } else { ", of all its apps together" };
    let most = describe_traffic(quota.bytes);
    let used = format!("{percent} % of the month's {most} of traffic are used{whose}");
    let then = quota.then.describe().map(|what| format!(": {what} until the month is over")).unwrap_or_default();
    let told = if quota.month == Some(month) { quota.mark } else { 0 };
    match mark {
        100 if told < 100 => Some(("quota.reached", format!("{used}{then}"))),
        mark if mark < 100 && quota.mark == 100 => Some(("quota.lifted", used)),
        mark if mark > told => Some(("quota.near", used)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use magrathea_core::names::OrganisationId;

    use super::*;
    use crate::db::quotas::Whose;

    #[test]
    fn months_begin_in_the_operators_zone() {
        for (at, zone, begins) in [
            ("2026-11-22T10:00:00Z", "UTC", "2026-11-01T00:00:00Z"),
            ("2026-11-30T23:30:00Z", "Europe/Rome", "2026-11-30T23:00:00Z"),
            ("2026-10-31T23:30:00Z", "Europe/Rome", "2026-10-31T23:00:00Z"),
            ("2026-10-31T22:30:00Z", "Europe/Rome", "2026-09-30T22:00:00Z"),
        ] {
            let month = month_of(at.parse().unwrap(), &TimeZone::get(zone).unwrap());
            assert_eq!(month, begins.parse().unwrap(), "{at} {zone}");
        }
    }

    #[test]
    fn each_mark_is_told_once_a_month() {
        let (october, november) =
            ("2026-10-01T00:00:00Z".parse::<Timestamp>().unwrap(), "2026-11-01T00:00:00Z".parse().unwrap());
        for (month, held, mark, told) in [
            (None, 0, 0, None),
            (None, 0, 100, Some("quota.reached")),
            (Some(november), 0, 80, Some("quota.near")),
            (Some(november), 80, 90, Some("quota.near")),
            (Some(november), 90, 100, Some("quota.reached")),
            // It was raised.
            (Some(november), 100, 80, Some("quota.lifted")),
            (Some(november), 90, 80, None),
            // Another month.
            (Some(october), 100, 0, Some("quota.lifted")),
            (Some(october), 90, 0, None),
            (Some(october), 80, 80, Some("quota.near")),
            (Some(october), 100, 100, Some("quota.reached")),
        ] {
            let organisation = OrganisationId(Uuid::from_u128(1));
            let quota = TrafficQuota {
                id: Uuid::from_u128(2),
                whose: Whose::Organisation(organisation),
                organisation,
                organisation_name: "acme".into(),
                app_name: None,
                bytes: 1_500_000_000,
                then: Then::Page,
                set_by: "zaphod".into(),
                mark: held,
                month,
            };
            let line = describe(&quota, november, mark.into(), mark);
            assert_eq!(line.as_ref().map(|(action, _)| *action), told, "{month:?} {held} {mark}: {line:?}");
            assert!(line.is_none_or(|(_, line)| line.contains(" % of the month's 1.5 GB of traffic are used")));
        }
    }
}
