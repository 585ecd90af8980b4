//! Follows IP access lists: when one is edited, the routes that use it are rendered again with its new addresses. Nothing
//! else of a plan changes, and no release is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use magrathea_core::access::is_list_name;
use magrathea_core::manifest::{Access, Resolved};
use magrathea_core::names::InstanceId;
use magrathea_core::plan::{Plan, Resource, Spec};
use magrathea_layers::refresh_lists;

use super::apply::UNHEARD;
use super::failure::Failure;
use super::layout::Site;
use super::{history, reconcile};
use crate::actor::GATEWAY;
use crate::db::instances::{self, Instance};
use crate::db::{Client, DbError, plans, releases};
use crate::services::lists::named;
use crate::state::State;

/// An instance and the lists that what it serves names.
pub struct ListUse {
    pub instance: Instance,
    pub lists: BTreeSet<String>,
}

/// Has the routes follow at once.
pub fn lists_changed(state: &State) {
    state.engine.lists.send_replace(());
}

/// Follows until the gateway ends. Also what `clusters.yml` holds, and what other gateways were told.
pub async fn watch(state: Arc<State>) {
    let (mut clusters, mut edits) = (state.clusters.clone(), state.engine.lists.subscribe());
    // What was edited before counts too.
    edits.mark_changed();
    loop {
        tokio::select! {
            () = state.shutdown.cancelled() => return,
            Ok(()) = edits.changed() => {}
            Ok(()) = clusters.changed() => {}
        }
        if let Err(error) = follow(&state).await {
            tracing::warn!(error = format!("{error:#}"), "cannot follow the access lists");
        }
    }
}

/// The instances that serve something with a list in it.
pub async fn list_uses(client: &impl Client) -> Result<Vec<ListUse>, DbError> {
    let mut uses = Vec::new();
    for instance in instances::list_instances(client).await? {
        let Some(serving) = releases::load_serving(client, instance.id).await? else { continue };
        let Some(resolved) = releases::load_resolved(client, instance.id, serving.release).await? else { continue };
        let lists = named_in(&resolved.sections.access);
        if !lists.is_empty() {
            uses.push(ListUse { instance, lists });
        }
    }
    Ok(uses)
}

fn named_in(access: &Access) -> BTreeSet<String> {
    let entries = access.allow.iter().chain(&access.deny).chain(&access.maintenance_allow);
    entries.filter(|entry| is_list_name(entry)).cloned().collect()
}

async fn follow(state: &Arc<State>) -> anyhow::Result<()> {
    let uses = list_uses(&state.db.conn().await?).await?;
    for ListUse { instance, .. } in uses {
        let lists = named(state, Some(instance.organisation)).await?;
        if let Err(failure) = refresh(state, instance.id, &lists).await {
            let (app, label) = (&instance.app_name, &instance.label);
            tracing::warn!(%app, %label, "the routing does not follow the access lists: {failure}");
        }
    }
    Ok(())
}

/// Puts the lists as they are now into the routes of an earlier plan. Gives the route, if that has changed it.
pub async fn follow_lists(
    site: &Site,
    resolved: &Resolved,
    resources: &mut [Resource],
) -> Result<Option<Resource>, Failure> {
    let lists = named(&site.state, Some(site.instance.organisation)).await?;
    apply_lists(resources, resolved, &lists)
}

/// The route, if that has changed it.
fn apply_lists(
    resources: &mut [Resource],
    resolved: &Resolved,
    lists: &BTreeMap<String, Vec<String>>,
) -> Result<Option<Resource>, Failure> {
    let mut changed = None;
    for resource in resources {
        let Spec::Route(route) = &mut resource.spec else { continue };
        let fresh = refresh_lists(route, &resolved.sections.access, lists);
        let fresh = fresh.map_err(|error| Failure::new("manifest_invalid", error.to_string()))?;
        if let Some(fresh) = fresh {
            *route = fresh;
            changed = Some(resource.clone());
        }
    }
    Ok(changed)
}

async fn refresh(state: &Arc<State>, id: InstanceId, lists: &BTreeMap<String, Vec<String>>) -> Result<(), Failure> {
    let _hold = state.engine.hold(id).await;
    let Some(standing) = reconcile::load_standing(state, id).await? else { return Ok(()) };
    let mut resources = standing.plan.resources.clone();
    let Some(route) = apply_lists(&mut resources, &standing.resolved, lists)? else { return Ok(()) };
    let old = &standing.plan;
    let mut conn = state.db.conn().await?;
    let generation = plans::next_generation(&conn, id).await?;
    let plan = Plan::new(old.subject.clone(), generation, Some(old.hash()), resources);
    let tx = conn.transaction().await.map_err(DbError::from)?;
    plans::insert_plan(&tx, id, standing.release, &plan).await?;
    releases::move_serving(&tx, id, standing.release, generation).await?;
    tx.commit().await.map_err(DbError::from)?;
    drop(conn);
    standing.applier.ensure(&route, UNHEARD).await?;
    let message = "its access lists were edited".to_owned();
    history::record_later(state, &standing.site.instance.cluster, standing.site.slug(), plan, GATEWAY, message);
    Ok(())
}
