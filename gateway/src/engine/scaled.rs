//! The process types of what serves, as they are wanted and as they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use magrathea_core::api::ProcessInfo;
use magrathea_core::names::{Layer, ProcessName};
use magrathea_core::plan::{ServiceMode, Spec};
use magrathea_core::wire::Inventory;

use super::apply::nodes_of;
use super::health::process_of;
use super::layout::Site;
use super::redeploy::nothing;
use super::submit::into_api;
use crate::api::error::ApiError;
use crate::db::instances::Instance;
use crate::db::{plans, releases, scales};
use crate::state::State;

/// How long the node may take to say what runs.
const ANSWER: Duration = Duration::from_secs(5);

pub async fn processes(state: &Arc<State>, instance: Instance) -> Result<Vec<ProcessInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let serving = releases::load_serving(&conn, instance.id).await?.ok_or_else(|| nothing(&instance))?;
    let plan = plans::load_serving_plan(&conn, instance.id).await?.ok_or_else(|| nothing(&instance))?;
    let resolved = releases::load_resolved(&conn, instance.id, serving.release).await?;
    let scales = scales::load_scales(&conn, instance.id).await?;
    drop(conn);
    let site = Site::new(state, instance).map_err(into_api)?;
    let running = running(&site).await;
    let infos = plan.resources.iter().filter_map(|resource| {
        let process: ProcessName = process_of(resource)?.parse().ok()?;
        let Spec::Service(service) = &resource.spec else { return None };
        let ServiceMode::Replicated(wanted) = service.mode else { return None };
        let says = resolved.as_ref().and_then(|resolved| resolved.sections.app_layer.replicas_of(&process));
        Some(ProcessInfo {
            wanted,
            running: running.as_ref().map(|running| running.get(&service.name).copied().unwrap_or_default()),
            manifest: says.unwrap_or(wanted),
            scaled: scales.get(&process).copied(),
            memory: service.limits.memory.map(|memory| memory.bytes()),
            millicpus: service.limits.millicpus,
            processes: service.limits.pids,
            process,
        })
    });
    Ok(infos.collect())
}

/// Running replicas by service; none when no node answers in time.
async fn running(site: &Site) -> Option<BTreeMap<String, u16>> {
    let node = nodes_of(&site.instance.cluster, &site.cluster, Layer::App).into_iter().next()?;
    let asked = tokio::time::timeout(ANSWER, site.state.hub.call(&node, Inventory {}, |_| {})).await;
    let holdings = asked.ok()?.ok()?;
    Some(holdings.services.into_iter().map(|service| (service.name, service.running)).collect())
}
