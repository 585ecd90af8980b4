//! What a deploy would do: the same way as a deploy's up to its plan, with nothing recorded and nothing laid.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use magrathea_buildpacks::plan_build;
use magrathea_core::api::{PlanPreview, PlannedValue, SourceInfo};
use magrathea_core::manifest::Resolved;
use magrathea_core::names::{AppId, AppName, ClusterName, InstanceId, OrganisationId};
use magrathea_core::people::Verb;
use magrathea_core::plan::{Plan, Spec, diff_plans};
use magrathea_layers::find_pins;
use uuid::Uuid;

use super::capacity::misfit;
use super::choose::{Received, receive};
use super::failure::{Failure, into_api};
use super::intake::Packing;
use super::layout::{Site, TO_BE_BUILT, gather_with, rendered, settle};
use super::pipeline::stand;
use super::quotas::overrun;
use super::secrets::name_secrets;
use crate::actor::Actor;
use crate::api::error::ApiError;
use crate::db::apps::App;
use crate::db::instances::Instance;
use crate::db::{apps, instances, plans, releases};
use crate::services::access::{Reach, require, sees};
use crate::state::State;

pub async fn preview<E: std::fmt::Display>(
    state: &Arc<State>,
    actor: &Actor,
    name: &AppName,
    info: SourceInfo,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<PlanPreview, ApiError> {
    let known = apps::load_app(&state.db.conn().await?, name).await?.filter(|app| sees(actor, app));
    if let Some(app) = &known {
        require(actor, app, Verb::Look, Reach::Some)?;
    }
    let received = receive(state, name, Packing::Zstd, body).await?;
    let (resolved, cluster) = received.choose(state, name, &info)?;
    if let Some(app) = &known {
        require(actor, app, Verb::Look, Reach::Label(&resolved.label))?;
    }
    draw(state, known, name, received, (resolved, cluster)).await.map_err(into_api)
}

async fn draw(
    state: &Arc<State>,
    app: Option<App>,
    name: &AppName,
    received: Received,
    (resolved, cluster): (Resolved, ClusterName),
) -> Result<PlanPreview, Failure> {
    let Received { source, mut warnings, .. } = received;
    let recipe = plan_build(&source.tree, &resolved.sections).map_err(|error| {
        let mut failure = Failure::new("build_failed", error.message);
        failure.hint = error.hint;
        failure
    })?;
    warnings.extend(recipe.warnings.iter().cloned());
    let resolved = settle(resolved, &recipe);
    let conn = state.db.conn().await?;
    let known = match app {
        None => None,
        Some(app) => instances::list_app_instances(&conn, app.id)
            .await?
            .into_iter()
            .find(|instance| instance.label == resolved.label && instance.cluster == cluster)
            .or_else(|| Some(unborn((app.organisation_id, app.id), name, &resolved.label, &cluster))),
    };
    let instance = known
        .unwrap_or_else(|| unborn((OrganisationId(Uuid::nil()), AppId(Uuid::nil())), name, &resolved.label, &cluster));
    let old = plans::load_serving_plan(&conn, instance.id).await?;
    let number = releases::next_number(&conn, instance.id).await?;
    let generation = plans::next_generation(&conn, instance.id).await?;
    let source_before = match old.as_ref().and_then(Plan::release) {
        Some(release) => releases::load_source(&conn, instance.id, release).await?,
        None => None,
    };
    drop(conn);

    let site = Site::new(state, instance)?;
    let secrets = name_secrets(state, &site.instance, &resolved.sections).await?;
    let mut ingredients = gather_with(site, resolved, &source.blob.sha256, secrets).await?;
    stand(&mut ingredients.scales, &ingredients.resolved, old.as_ref());
    let parent = old.as_ref().map(Plan::hash);
    let plan = ingredients.render(recipe.stack, number, TO_BE_BUILT, generation, parent)?;
    if let Some(failure) = misfit(&state.db.conn().await?, &ingredients.site, &plan).await? {
        warnings.push(format!("a deploy would be refused: {failure}"));
    }
    if let Some(failure) = overrun(&state.db.conn().await?, &ingredients.site, &plan).await? {
        warnings.push(format!("a deploy would be refused: {failure}"));
    }
    let sections = &ingredients.resolved.sections;
    warnings.extend(find_pins(sections, &ingredients.site.cluster).iter().map(ToString::to_string));
    // Every deploy makes a release of its own; what people ask is what else it changes.
    let like_before = match &old {
        Some(before) => {
            let same = source_before.as_deref() == Some(source.blob.sha256.as_str());
            let image = before.get("app/web").and_then(|web| match &web.spec {
                Spec::Service(service) if same => Some(service.image.as_str()),
                _ => None,
            });
            let release = before.release().unwrap_or(number);
            ingredients.render(recipe.stack, release, image.unwrap_or(TO_BE_BUILT), generation, None)?
        }
        None => plan.clone(),
    };
    Ok(PlanPreview {
        app: name.to_string(),
        label: ingredients.resolved.label.to_string(),
        cluster: cluster.to_string(),
        buildpack: recipe.buildpack,
        changes: diff_plans(old.as_ref(), &like_before),
        values: ingredients
            .resolved
            .values()
            .into_iter()
            .map(|(path, value, origin)| PlannedValue { path, value, origin })
            .collect(),
        warnings,
        rendered: rendered(&plan),
    })
}

/// An instance that its first deploy would make; its ids are examples.
fn unborn(
    (organisation, app): (OrganisationId, AppId),
    name: &AppName,
    label: &magrathea_core::names::LabelName,
    cluster: &magrathea_core::names::ClusterName,
) -> Instance {
    Instance {
        id: InstanceId(Uuid::nil()),
        app,
        app_name: name.clone(),
        organisation,
        label: label.clone(),
        cluster: cluster.clone(),
        uid: 200_000,
        created: jiff::Timestamp::UNIX_EPOCH,
        absent_since: None,
    }
}
