//! The process types of what serves, as they are wanted and as they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use magrathea_core::api::{AutomaticInfo, BusyInfo, ProcessInfo};
use magrathea_core::names::{Layer, ProcessName};
use magrathea_core::plan::{Plan, ServiceMode, Spec};
use magrathea_core::scaling::{Hour, Situation, advise};
use magrathea_core::wire::Inventory;

use super::apply::nodes_of;
use super::failure::into_api;
use super::health::process_of;
use super::layout::Site;
use super::redeploy::nothing;
use super::scaling::{at_once, now_busy};
use crate::api::error::ApiError;
use crate::db::instances::Instance;
use crate::db::{loads, plans, releases, scales};
use crate::lock::locked;
use crate::state::State;

/// How long the node may take to say what runs.
const ANSWER: Duration = Duration::from_secs(5);

pub async fn processes(state: &Arc<State>, instance: Instance) -> Result<Vec<ProcessInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let serving = releases::load_serving(&conn, instance.id).await?.ok_or_else(|| nothing(&instance))?;
    let plan = plans::load_serving_plan(&conn, instance.id).await?.ok_or_else(|| nothing(&instance))?;
    let resolved = releases::load_resolved(&conn, instance.id, serving.release).await?;
    let scales = scales::load_scales(&conn, instance.id).await?;
    let hours = loads::list_hours(&conn, instance.id).await?;
    drop(conn);
    let site = Site::new(state, instance).map_err(into_api)?;
    let running = running(&site).await;
    let load = LoadOfWeb::now(&site, &plan);
    let replicas = resolved.as_ref().map(|resolved| resolved.sections.app_layer.replicas.clone());
    let infos = plan.resources.iter().filter_map(|resource| {
        let process: ProcessName = process_of(resource)?.parse().ok()?;
        let Spec::Service(service) = &resource.spec else { return None };
        let ServiceMode::Replicated(wanted) = service.mode else { return None };
        let is_set = scales.contains_key(&process);
        let automatic = replicas.as_ref().filter(|_| process.is_web());
        let automatic = automatic.and_then(|replicas| AutomaticInfo::new(replicas, is_set, load.now));
        let most = automatic.as_ref().filter(|automatic| !automatic.rests).map(|automatic| automatic.max);
        let says = resolved.as_ref().and_then(|resolved| resolved.sections.app_layer.replicas_of(&process));
        Some(ProcessInfo {
            wanted,
            running: running.as_ref().map(|running| running.get(&service.name).copied().unwrap_or_default()),
            manifest: says.unwrap_or(wanted),
            scaled: scales.get(&process).copied(),
            memory: service.limits.memory.map(|memory| memory.bytes()),
            millicpus: service.limits.millicpus,
            processes: service.limits.pids,
            busy: load.busy(wanted).filter(|_| process.is_web()),
            advice: load.advice(wanted, most, &hours).filter(|_| process.is_web()),
            automatic,
            process,
        })
    });
    Ok(infos.collect())
}

/// What is known of the load on what visitors reach.
struct LoadOfWeb {
    now: Timestamp,
    /// Requests that one replica answers at once; zero when it is not known.
    at_once: u32,
    requests: Option<u32>,
}

impl LoadOfWeb {
    fn now(site: &Site, plan: &Plan) -> Self {
        let now = Timestamp::now();
        let routers = nodes_of(&site.instance.cluster, &site.cluster, Layer::Routing);
        let samples = locked(&site.state.engine.loads).samples(&routers, &site.slug(), i64::MIN);
        LoadOfWeb { now, at_once: at_once(plan).unwrap_or(0), requests: now_busy(&samples, now.as_second()) }
    }

    fn busy(&self, wanted: u16) -> Option<BusyInfo> {
        let at_once = self.at_once.saturating_mul(wanted.into());
        self.requests.filter(|_| at_once > 0).map(|requests| BusyInfo { requests, at_once })
    }

    fn advice(&self, replicas: u16, most: Option<u16>, hours: &[Hour]) -> Option<String> {
        advise(hours, &Situation { replicas, at_once: self.at_once, most, now: self.now })
    }
}

/// Running replicas by service; none when no node answers in time.
async fn running(site: &Site) -> Option<BTreeMap<String, u16>> {
    let node = nodes_of(&site.instance.cluster, &site.cluster, Layer::App).into_iter().next()?;
    let asked = tokio::time::timeout(ANSWER, site.state.hub.call(&node, Inventory {}, |_| {})).await;
    let holdings = asked.ok()?.ok()?;
    Some(holdings.services.into_iter().map(|service| (service.name, service.running)).collect())
}
