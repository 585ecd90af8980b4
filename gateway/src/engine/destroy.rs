//! Takes instances away with their data, in reverse layer order. May be repeated after an interruption: an instance is
//! marked only when nothing of it is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use magrathea_core::manifest::Resolved;
use magrathea_core::names::LabelName;
use magrathea_core::plan::Resource;
use magrathea_core::remote::is_protected_by_default;
use magrathea_core::wire::DataFate;

use super::failure::into_api;
use super::layout::Site;
use super::turn::alone;
use super::{history, sweep};
use crate::actor::{Actor, GATEWAY};
use crate::api::error::ApiError;
use crate::db::apps::App;
use crate::db::instances::Instance;
use crate::db::{Client, DbError, apps, deploys, instances, plans, releases, timeline};
use crate::services::access::{InstanceName, instances_of};
use crate::state::State;

/// An app's labels that are protected: who destroys it repeats their names.
pub async fn protected_labels(client: &impl Client, app: &App) -> Result<BTreeSet<LabelName>, ApiError> {
    let mut labels = BTreeSet::new();
    for instance in instances::list_app_instances(client, app.id).await? {
        let resolved = match releases::load_serving(client, instance.id).await? {
            Some(row) => releases::load_resolved(client, instance.id, row.release).await?,
            None => None,
        };
        if is_protected(&instance.label, resolved.as_ref()) {
            labels.insert(instance.label);
        }
    }
    Ok(labels)
}

/// Whether a label is protected, by what serves there or else by its name.
pub fn is_protected(label: &LabelName, serving: Option<&Resolved>) -> bool {
    serving.map_or_else(|| is_protected_by_default(label), Resolved::is_protected)
}

/// Takes an app's label away with its data: on the cluster that is named, else on every one that it lives on.
pub async fn destroy_instance(
    state: &Arc<State>,
    actor: &Actor,
    app: &App,
    name: &InstanceName,
) -> Result<(), ApiError> {
    let of_label = instances_of(&state.db.conn().await?, app, name).await?;
    for instance in of_label {
        destroy(state, Some(actor), instance, "").await?;
    }
    Ok(())
}

/// Takes an app away with all its instances and their data.
pub async fn destroy_app(state: &Arc<State>, actor: &Actor, app: &App) -> Result<(), ApiError> {
    for instance in instances::list_app_instances(&state.db.conn().await?, app.id).await? {
        destroy(state, Some(actor), instance, "").await?;
    }
    let name = &app.name;
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await.map_err(DbError::from)?;
    apps::destroy_app(&tx, app.id).await?;
    let message = format!("app {name} was destroyed");
    let entry = timeline::NewEntry {
        actor: Some(actor),
        action: "app.destroyed",
        app: Some(name.as_str()),
        message: &message,
        ..Default::default()
    };
    timeline::append(&tx, entry).await?;
    tx.commit().await.map_err(DbError::from)?;
    state.git.remove(app.id);
    Ok(())
}

/// Takes an instance away; without an actor it is the gateway that does.
pub async fn destroy(state: &Arc<State>, actor: Option<&Actor>, instance: Instance, why: &str) -> Result<(), ApiError> {
    let _hold = alone(state, actor, instance.id).await?;
    let site = Site::new(state, instance).map_err(into_api)?;
    let instance = &site.instance;
    let applier = site.applier(BTreeMap::new());
    for resource in laid(state, instance).await?.iter().rev() {
        applier.remove(resource, DataFate::Destroy).await.map_err(into_api)?;
    }
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    let message =
        format!("{} ({}) on {} was destroyed with its data{why}", instance.app_name, instance.label, instance.cluster);
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await.map_err(DbError::from)?;
    releases::forget_instance(&tx, instance.id).await?;
    instances::destroy_instance(&tx, instance.id).await?;
    let entry = timeline::NewEntry::about(instance, actor, "instance.destroyed", &message);
    timeline::append(&tx, entry).await?;
    tx.commit().await.map_err(DbError::from)?;
    history::forget_later(state, &instance.cluster, site.slug(), actor.map_or(GATEWAY, |actor| &actor.name), message);
    // Services of other releases, should there be any, and all images.
    sweep::sweep_later(state, &instance.cluster);
    Ok(())
}

/// All that may have been laid for an instance, in layer order: what serves, else what was tried last.
async fn laid(state: &State, instance: &Instance) -> Result<Vec<Resource>, DbError> {
    let conn = state.db.conn().await?;
    let plans = [
        deploys::load_ground(&conn, instance.id).await?,
        plans::load_newest_plan(&conn, instance.id).await?,
        plans::load_serving_plan(&conn, instance.id).await?,
    ];
    let mut by_key = BTreeMap::new();
    for resource in plans.into_iter().flatten().flat_map(|plan| plan.resources) {
        by_key.insert(resource.key.clone(), resource);
    }
    let mut resources: Vec<Resource> = by_key.into_values().collect();
    // Networks go last: the engine keeps one for as long as a service is attached.
    resources.sort_by_key(|r| (!matches!(r.spec, magrathea_core::plan::Spec::Network(_)), r.layer));
    Ok(resources)
}
