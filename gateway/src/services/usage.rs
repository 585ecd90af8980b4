//! What instances use, for those who may see it: whoever may look at an instance, and whoever sees its costs.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use magrathea_core::api::{UsageGap, UsageLevel, UsageNow, UsageOf, UsageReport, UsageRow, UsageSince};
use magrathea_core::names::InstanceId;
use magrathea_core::people::{Place, Verb};
use magrathea_core::usage::{Period, Step, Usage};
use magrathea_core::wire::ReadUsage;

use super::billing;
use super::quotas::list_concerning;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::Client;
use crate::db::usage::{self, Account};
use crate::state::State;

/// A node that does not answer in this time is left out.
const ASK: Duration = Duration::from_secs(3);

/// Which instances are asked for; what is absent does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub organisation: Option<String>,
    pub app: Option<String>,
    pub label: Option<String>,
    pub cluster: Option<String>,
}

/// Those of them that somebody may see. A name that none of these has is refused: a sum of nothing looks like no usage.
async fn select(
    client: &impl Client,
    actor: &Actor,
    selection: &Selection,
    after: Timestamp,
) -> Result<Vec<Account>, ApiError> {
    let mut accounts = usage::list_accounts(client, after).await?;
    accounts.retain(|account| {
        let place = Place::Label { organisation: account.organisation, app: account.app, label: &account.label };
        actor.may(Verb::Look, place) || actor.may(Verb::Costs, place)
    });
    let Selection { organisation, app, label, cluster } = selection;
    let mut narrow = |wanted: &Option<String>, what: &str, code: Code, of: fn(&Account) -> &str| {
        let Some(wanted) = wanted else { return Ok(()) };
        accounts.retain(|account| of(account) == wanted);
        if !accounts.is_empty() {
            return Ok(());
        }
        let error = ApiError::new(code, format!("no instance in this time belongs to the {what} {wanted}"));
        Err(error.with_hint("td usage shows all that are yours"))
    };
    narrow(organisation, "organisation", Code::OrganisationNotFound, |account| &account.organisation_name)?;
    narrow(app, "app", Code::AppNotFound, |account| &account.app_name)?;
    narrow(label, "label", Code::InstanceNotFound, |account| account.label.as_str())?;
    narrow(cluster, "cluster", Code::ClusterNotFound, |account| &account.cluster)?;
    Ok(accounts)
}

fn describe(account: &Account) -> UsageOf {
    UsageOf {
        organisation: account.organisation_name.clone(),
        app: account.app_name.clone(),
        label: account.label.to_string(),
        cluster: account.cluster.clone(),
        instance: account.instance.0,
        destroyed: account.is_destroyed,
    }
}

/// What instances used in a time, part by part.
pub async fn report(
    state: &State,
    actor: &Actor,
    selection: &Selection,
    (from, to): (Option<&str>, Option<&str>),
    by: Step,
) -> Result<UsageReport, ApiError> {
    let invalid = |message: String| ApiError::new(Code::QueryInvalid, message);
    let zone = &billing::zone(state).await;
    let period = Period::parse(from, to, zone, Timestamp::now()).map_err(invalid)?;
    let parts = period.split(by, zone).map_err(invalid)?;
    let conn = state.db.conn().await?;
    let accounts = select(&conn, actor, selection, period.from).await?;
    let ids: Vec<InstanceId> = accounts.iter().map(|account| account.instance).collect();
    let mut sums: HashMap<(usize, InstanceId), Usage> = HashMap::new();
    let stretches: Vec<_> = parts.iter().map(|part| (part.from, part.until)).collect();
    for (part, instance, usage) in usage::sum_hours(&conn, &ids, &stretches).await? {
        sums.insert((part, instance), usage);
    }
    let mut rows = Vec::with_capacity(sums.len());
    for (n, part) in parts.iter().enumerate() {
        rows.extend(accounts.iter().filter_map(|account| {
            let usage = sums.remove(&(n, account.instance))?;
            Some(UsageRow { of: describe(account), from: part.from, until: part.until, usage })
        }));
    }
    let levels = usage::list_levels(&conn, &ids).await?;
    let levels = accounts.iter().filter_map(|account| {
        let bytes = levels.get(&account.instance)?.iter().map(|(metric, bytes)| (metric.to_string(), *bytes)).collect();
        Some(UsageLevel { instance: account.instance.0, bytes })
    });
    let apps: BTreeSet<_> = accounts.iter().map(|account| (account.organisation, account.app)).collect();
    let apps: Vec<_> = apps.into_iter().collect();
    let traffic_quotas = list_concerning(&conn, state, actor, &apps).await?;
    let clusters: BTreeSet<&str> = accounts.iter().map(|account| account.cluster.as_str()).collect();
    let clusters: Vec<&str> = clusters.into_iter().collect();
    let gaps = usage::list_gaps(&conn, &clusters, (period.from, period.until)).await?;
    let gaps = gaps.into_iter().map(|(cluster, node, gap)| UsageGap {
        cluster,
        node,
        from: gap.from,
        until: gap.until,
        reason: gap.reason,
        requests: gap.requests,
    });
    Ok(UsageReport {
        from: period.from,
        until: period.until,
        time_zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        rows,
        levels: levels.collect(),
        gaps: gaps.collect(),
        traffic_quotas,
    })
}

/// What instances used since their nodes' agents were started, asked of these at once.
pub async fn now(state: &State, actor: &Actor, selection: &Selection) -> Result<UsageNow, ApiError> {
    let at = Timestamp::now();
    let accounts = select(&state.db.conn().await?, actor, selection, at).await?;
    let mut nodes = state.hub.connected();
    nodes.retain(|node| accounts.iter().any(|account| account.cluster == node.cluster.as_str()));
    let asked = nodes.iter().map(async |node| {
        let call = state.hub.call(node, ReadUsage {}, |_| {});
        let answer = tokio::time::timeout(ASK, call).await.ok()?.ok()?;
        Some((node.cluster.as_str(), answer))
    });
    // By cluster as well: a node tells nothing of other clusters' instances.
    let mut sums: HashMap<(&str, String), Usage> = HashMap::new();
    for (cluster, answer) in join_all(asked).await.into_iter().flatten() {
        for (slug, usage) in answer.instances {
            sums.entry((cluster, slug)).or_default().add_all(&usage);
        }
    }
    let rows = accounts.iter().filter_map(|account| {
        let usage = sums.remove(&(account.cluster.as_str(), account.instance.slug()))?;
        Some(UsageSince { of: describe(account), usage })
    });
    Ok(UsageNow { at, rows: rows.collect() })
}
