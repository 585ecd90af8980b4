//! Apps, their instances and the timeline.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{AppInfo, CreateApp, ExtendPreview, InstanceInfo, TimelineEntry};
use magrathea_core::names::{AppName, ClusterName, LabelName};
use magrathea_core::people::Verb;
use serde::Deserialize;

use super::error::{ApiError, Code};
use super::extract::{Instance, Json, Path, Query};
use crate::actor::Actor;
use crate::db::apps::App;
use crate::db::{apps, timeline};
use crate::engine;
use crate::services::access::{Reach, find_app, sees};
use crate::services::apps::create_app;
use crate::services::organisations::find_organisation;
use crate::services::previews;
use crate::services::quotas::list_concerning;
use crate::state::State;

fn info(app: App, instances: Vec<InstanceInfo>) -> AppInfo {
    AppInfo {
        id: app.id.0,
        name: app.name.into(),
        organisation: app.organisation,
        created: app.created,
        instances,
        traffic_quotas: Vec::new(),
    }
}

/// The apps that one may see.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", responses((status = 200, body = Vec<AppInfo>)))]
pub async fn list(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Vec<AppInfo>>, ApiError> {
    let mut apps = apps::list_apps(&state.db.conn().await?).await?;
    apps.retain(|app| sees(&actor, app));
    let mut instances: HashMap<String, Vec<InstanceInfo>> = HashMap::new();
    for instance in engine::instance_infos(&state, &actor, None).await? {
        instances.entry(instance.app.clone()).or_default().push(instance);
    }
    let infos = apps.into_iter().map(|app| {
        let own = instances.remove(app.name.as_str()).unwrap_or_default();
        info(app, own)
    });
    Ok(axum::Json(infos.collect()))
}

/// Makes an app.
#[utoipa::path(post, path = "/v1/apps", tag = "apps", request_body = CreateApp,
    responses((status = 201, body = AppInfo), (status = 409, description = "`name_taken`")))]
pub async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(body): Json<CreateApp>,
) -> Result<(StatusCode, axum::Json<AppInfo>), ApiError> {
    let name: AppName = body.name.parse()?;
    let organisation = match &body.organisation {
        Some(name) => find_organisation(&state.db.conn().await?, &actor, name).await?.id,
        None => actor.organisation,
    };
    let app = create_app(&state.db, &actor, organisation, &name).await?;
    Ok((StatusCode::CREATED, axum::Json(info(app, Vec::new()))))
}

/// One app.
#[utoipa::path(get, path = "/v1/apps/{app}", tag = "apps", params(("app" = String, Path)),
    responses((status = 200, body = AppInfo), (status = 404, description = "`app_not_found`")))]
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<AppName>,
) -> Result<axum::Json<AppInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let app = find_app(&conn, &actor, &name, Verb::Look, Reach::Some).await?;
    let traffic_quotas = list_concerning(&conn, &state, &actor, &[(app.organisation_id, app.id)]).await?;
    drop(conn);
    let instances = engine::instance_infos(&state, &actor, Some(app.id)).await?;
    Ok(axum::Json(AppInfo { traffic_quotas, ..info(app, instances) }))
}

/// What repeats the names of what is to be destroyed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Confirm {
    /// The app's name and those of its protected labels, or the label's, with commas between.
    confirm: Option<String>,
}

impl Confirm {
    /// Whether all of the names are repeated; others may be, as of labels that are not protected.
    fn check<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), ApiError> {
        let repeated: Vec<&str> = self.confirm.as_deref().unwrap_or_default().split(',').collect();
        let names: Vec<&str> = names.into_iter().collect();
        if names.iter().all(|name| repeated.contains(name)) {
            return Ok(());
        }
        let error = ApiError::new(Code::ConfirmationMismatch, "this destroys data and was not confirmed");
        Err(error.with_hint(format!("repeat what is destroyed: ?confirm={}", names.join(","))))
    }
}

/// Destroys an app with all its instances and their data.
#[utoipa::path(delete, path = "/v1/apps/{app}", tag = "apps", params(("app" = String, Path), Confirm),
    responses((status = 204), (status = 409, description = "`confirmation_mismatch` or `locked`")))]
pub async fn destroy(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<AppName>,
    Query(confirm): Query<Confirm>,
) -> Result<StatusCode, ApiError> {
    let conn = state.db.conn().await?;
    let app = find_app(&conn, &actor, &name, Verb::Administer, Reach::Whole).await?;
    let labels = engine::protected_labels(&conn, &app).await?;
    drop(conn);
    confirm.check(std::iter::once(name.as_str()).chain(labels.iter().map(LabelName::as_str)))?;
    engine::destroy_app(&state, &actor, &app).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An app's instances.
#[utoipa::path(get, path = "/v1/apps/{app}/instances", tag = "apps", params(("app" = String, Path)),
    responses((status = 200, body = Vec<InstanceInfo>), (status = 404, description = "`app_not_found`")))]
pub async fn list_instances(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<AppName>,
) -> Result<axum::Json<Vec<InstanceInfo>>, ApiError> {
    let app = find_app(&state.db.conn().await?, &actor, &name, Verb::Look, Reach::Some).await?;
    Ok(axum::Json(engine::instance_infos(&state, &actor, Some(app.id)).await?))
}

/// One instance.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}", tag = "apps",
    params(Instance),
    responses((status = 200, body = InstanceInfo), (status = 404, description = "`instance_not_found`")))]
pub async fn show_instance(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
) -> Result<axum::Json<InstanceInfo>, ApiError> {
    Ok(axum::Json(engine::instance_info(&state, &actor, &name).await?))
}

/// Destroys a label's instances with their data: that on the named cluster, else all.
#[utoipa::path(delete, path = "/v1/apps/{app}/instances/{label}", tag = "apps",
    params(Instance, Confirm),
    responses((status = 204), (status = 409, description = "`confirmation_mismatch` or `locked`")))]
pub async fn destroy_instance(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Query(confirm): Query<Confirm>,
) -> Result<StatusCode, ApiError> {
    let reach = Reach::Label(&name.label);
    let app = find_app(&state.db.conn().await?, &actor, &name.app, Verb::Administer, reach).await?;
    confirm.check([name.label.as_str()])?;
    engine::destroy_instance(&state, &actor, &app, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Destroys a preview with its data; whoever may deploy it may.
#[utoipa::path(delete, path = "/v1/apps/{app}/instances/{label}/preview", tag = "apps",
    params(Instance),
    responses((status = 204), (status = 409, description = "`not_preview` or `locked`")))]
pub async fn destroy_preview(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
) -> Result<StatusCode, ApiError> {
    let reach = Reach::Label(&name.label);
    let app = find_app(&state.db.conn().await?, &actor, &name.app, Verb::Deploy, reach).await?;
    engine::end_preview(&state, &actor, &app, &name, "somebody has done with it").await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a preview live longer, or shorter.
#[utoipa::path(put, path = "/v1/apps/{app}/instances/{label}/preview", tag = "apps", request_body = ExtendPreview,
    params(Instance),
    responses((status = 200, body = InstanceInfo), (status = 409, description = "`not_preview` or `locked`")))]
pub async fn extend_preview(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Json(body): Json<ExtendPreview>,
) -> Result<axum::Json<InstanceInfo>, ApiError> {
    let extended = previews::extend(&state, &actor, &name, &body.expire).await?;
    Ok(axum::Json(engine::instance_info(&state, &actor, &extended).await?))
}

/// Which lines of the timeline.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TimelineQuery {
    /// Of this app alone.
    #[param(value_type = Option<String>)]
    app: Option<AppName>,
    /// Of this label alone.
    #[param(value_type = Option<String>)]
    label: Option<LabelName>,
    /// On this cluster alone.
    #[param(value_type = Option<String>)]
    cluster: Option<ClusterName>,
    /// At most so many, from 1 to 1000.
    #[serde(default = "default_limit")]
    limit: u16,
}

fn default_limit() -> u16 {
    50
}

/// Who did what, newest first.
#[utoipa::path(get, path = "/v1/timeline", tag = "apps", params(TimelineQuery),
    responses((status = 200, body = Vec<TimelineEntry>)))]
pub async fn timeline(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(query): Query<TimelineQuery>,
) -> Result<axum::Json<Vec<TimelineEntry>>, ApiError> {
    if !(1..=1000).contains(&query.limit) {
        return Err(ApiError::new(Code::QueryInvalid, "limit must be from 1 to 1000"));
    }
    let TimelineQuery { app, label, cluster, limit } = query;
    let of = timeline::Of { app: app.as_ref(), label: label.as_ref(), cluster: cluster.as_ref() };
    Ok(axum::Json(timeline::list(&state.db.conn().await?, &actor.access, of, limit).await?))
}
