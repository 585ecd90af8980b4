//! Disk quotas: people are told when an instance comes near one; where nothing else holds it to one, deploys are refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use magrathea_core::api::QuotaInfo;
use magrathea_core::clusters::StorageDriver;
use magrathea_core::manifest::Sections;
use magrathea_core::plan::{Plan, Spec};
use magrathea_core::units::size;
use magrathea_core::usage::{Level, Metric, QuotaUse};
use magrathea_core::wire::Observation;
use tokio::sync::broadcast::error::RecvError;

use super::failure::Failure;
use super::layout::Site;
use crate::actor::Actor;
use crate::db::instances::Instance;
use crate::db::{Client, DbError, instances, quotas, releases, timeline, usage};
use crate::hub::HubEvent;
use crate::services::quotas::list_concerning;
use crate::state::State;

/// Tells as levels come, until the gateway ends. What is missed while none listens comes again with the next measurement.
pub async fn watch(state: Arc<State>) {
    let mut events = state.hub.subscribe();
    loop {
        let event = tokio::select! {
            () = state.shutdown.cancelled() => return,
            event = events.recv() => event,
        };
        match event {
            Ok(HubEvent::Observed(_, Observation::Usage(batch))) => {
                for level in &batch.levels {
                    if let Err(error) = follow(&state, level).await {
                        tracing::warn!(slug = level.slug, error = format!("{error:#}"), "cannot look at a quota");
                    }
                }
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Why a deploy of new code is refused; none when it is not. What it would lay says what the quota is, so that one with a
/// larger quota goes.
pub async fn overrun(client: &impl Client, site: &Site, plan: &Plan) -> Result<Option<Failure>, Failure> {
    let quota = plan.resources.iter().find_map(|resource| match &resource.spec {
        Spec::Storage(storage) if storage.driver == StorageDriver::Directory => storage.quota,
        _ => None,
    });
    let Some(quota) = quota else { return Ok(None) };
    let levels = levels(client, &site.instance).await?;
    let used = levels.get(&Metric::Files).copied().unwrap_or_default();
    let of = QuotaUse { metric: Metric::Files, used, quota: quota.bytes(), hard: false };
    if !of.is_reached() {
        return Ok(None);
    }
    let failure =
        Failure::new("quota_reached", format!("its writable files take {} of {}", size(used), size(of.quota)));
    Ok(Some(failure.hint(
        "delete some of them (`td app shell`, sftp) and wait until they are measured again, or raise storage.quota; \
         rollbacks and `td app scale` go on",
    )))
}

/// What whoever deploys should hear of: quotas that are nearly used up, or are.
pub async fn near_quotas(site: &Site, sections: &Sections, actor: Option<&Actor>) -> anyhow::Result<Vec<String>> {
    let (state, instance) = (&site.state, &site.instance);
    let conn = state.db.conn().await?;
    let disk = quota_uses(&conn, instance, sections, site.cluster.storage.driver).await?;
    let mut lines: Vec<String> = disk.iter().filter(|of| of.is_near()).map(QuotaUse::to_string).collect();
    if let Some(actor) = actor {
        let traffic = list_concerning(&conn, state, actor, &[(instance.organisation, instance.app)]).await?;
        lines.extend(traffic.iter().filter(|quota| quota.is_near()).map(QuotaInfo::notice));
    }
    Ok(lines)
}

/// What an instance takes of the quotas in its configuration, as it was measured last.
pub async fn quota_uses(
    client: &impl Client,
    instance: &Instance,
    sections: &Sections,
    driver: StorageDriver,
) -> Result<Vec<QuotaUse>, DbError> {
    let limits = [
        (Metric::Files, sections.storage.quota, driver == StorageDriver::Btrfs),
        (Metric::Database, sections.db.mysql.as_ref().and_then(|mysql| mysql.quota), false),
    ];
    if limits.iter().all(|(_, quota, _)| quota.is_none()) {
        return Ok(Vec::new());
    }
    let levels = levels(client, instance).await?;
    let of = |(metric, quota, hard): (Metric, Option<magrathea_core::units::ByteSize>, bool)| {
        Some(QuotaUse { metric, used: levels.get(&metric).copied()?, quota: quota?.bytes(), hard })
    };
    Ok(limits.into_iter().filter_map(of).collect())
}

async fn levels(client: &impl Client, instance: &Instance) -> Result<BTreeMap<Metric, u64>, DbError> {
    Ok(usage::list_levels(client, &[instance.id]).await?.remove(&instance.id).unwrap_or_default())
}

pub(super) async fn follow(state: &Arc<State>, level: &Level) -> anyhow::Result<()> {
    if ![Metric::Files, Metric::Database].iter().any(|metric| level.bytes.contains_key(metric)) {
        return Ok(());
    }
    let mut conn = state.db.conn().await?;
    let Some(instance) = instances::load_instance_by_slug(&conn, &level.slug).await? else { return Ok(()) };
    let Some(driver) = state.clusters().clusters.get(&instance.cluster).map(|cluster| cluster.storage.driver) else {
        return Ok(());
    };
    let Some(serving) = releases::load_serving(&conn, instance.id).await? else { return Ok(()) };
    let Some(resolved) = releases::load_resolved(&conn, instance.id, serving.release).await? else { return Ok(()) };
    for of in quota_uses(&conn, &instance, &resolved.sections, driver).await? {
        let held = quotas::load_mark(&conn, instance.id, of.metric).await?;
        let mark = of.mark(held);
        if mark == held {
            continue;
        }
        let tx = conn.transaction().await?;
        if quotas::set_mark(&tx, instance.id, of.metric, (held, mark)).await?
            && let Some((action, message)) = describe(&of, held, mark)
        {
            timeline::append(&tx, timeline::NewEntry::about(&instance, None, action, &message)).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// The line on the timeline, and what it is called; none when nobody needs to know.
fn describe(of: &QuotaUse, held: u8, mark: u8) -> Option<(&'static str, String)> {
    let then = match of.metric {
        Metric::Files if of.hard => "nothing more can be written",
        Metric::Files => "deploys are refused until they take less",
        _ => "writing is refused where they have no free room left",
    };
    match (held, mark) {
        (_, 100) => Some(("quota.reached", format!("{of}: {then}"))),
        (100, _) => Some(("quota.lifted", format!("{of} again"))),
        (held, mark) if mark > held => Some(("quota.near", of.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_follows() {
        let of = |metric, used, hard| QuotaUse { metric, used, quota: 1 << 30, hard };
        let (files, database) = (Metric::Files, Metric::Database);
        for (of, held, mark, expect) in [
            (of(files, 860 << 20, false), 0, 80, Some("quota.near: writable files take 860 MiB of 1.0 GiB (83 %)")),
            (
                of(files, 2 << 30, false),
                80,
                100,
                Some(
                    "quota.reached: writable files take 2.0 GiB of 1.0 GiB (200 %): deploys are refused until they take less",
                ),
            ),
            (
                of(files, 1 << 30, true),
                90,
                100,
                Some("quota.reached: writable files take 1.0 GiB of 1.0 GiB (100 %): nothing more can be written"),
            ),
            (
                of(database, 0, false),
                100,
                0,
                Some("quota.lifted: the database's files take 0 B of 1.0 GiB (0 %) again"),
            ),
            (of(database, 0, false), 90, 0, None),
            (of(database, 0, false), 90, 80, None),
        ] {
            let told = describe(&of, held, mark).map(|(action, message)| format!("{action}: {message}"));
            assert_eq!(told.as_deref(), expect);
        }
    }
}
