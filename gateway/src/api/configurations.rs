//! The configuration history of apps.

use std::sync::Arc;

use axum::extract::State as Shared;
use magrathea_core::api::{Configuration, ConfigurationTexts, RestoreLayer, RestoredLayer, TextDifference};
use magrathea_core::names::{AppName, LabelName};
use serde::Deserialize;

use super::error::ApiError;
use super::extract::{Instance, Json, Path, Query};
use super::releases::ReleasesQuery;
use crate::actor::Actor;
use crate::services::configurations;
use crate::state::State;

/// What was laid for an app's instances, the newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/configurations", tag = "config",
    params(("app" = String, Path), ReleasesQuery),
    responses((status = 200, body = Vec<Configuration>), (status = 404, description = "`app_not_found`")))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
    Query(query): Query<ReleasesQuery>,
) -> Result<axum::Json<Vec<Configuration>>, ApiError> {
    Ok(axum::Json(configurations::list(&state, &actor, &app, query.on(), query.limit()).await?))
}

/// One of them, with what each layer was told.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/configurations/{id}", tag = "config",
    params(Instance, ("id" = String, Path)),
    responses((status = 200, body = ConfigurationTexts),
        (status = 404, description = "`app_not_found`, `instance_not_found` or `configuration_not_found`")))]
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Path((_, _, id)): Path<(AppName, LabelName, String)>,
) -> Result<axum::Json<ConfigurationTexts>, ApiError> {
    Ok(axum::Json(configurations::show(&state, &actor, &name, &id).await?))
}

/// With which other.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FromQuery {
    /// The id of the one that it is compared with; the one before it when absent.
    from: Option<String>,
}

/// How one differs from another.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/configurations/{id}/diff", tag = "config",
    params(Instance, ("id" = String, Path), FromQuery),
    responses((status = 200, body = Vec<TextDifference>),
        (status = 404, description = "`app_not_found`, `instance_not_found` or `configuration_not_found`")))]
pub async fn diff(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Path((_, _, id)): Path<(AppName, LabelName, String)>,
    Query(FromQuery { from }): Query<FromQuery>,
) -> Result<axum::Json<Vec<TextDifference>>, ApiError> {
    Ok(axum::Json(configurations::diff(&state, &actor, &name, &id, from.as_deref()).await?))
}

/// Puts one layer back to how it was in a configuration, for the release that serves.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/configurations/{id}/restore", tag = "config",
    request_body = RestoreLayer, params(Instance, ("id" = String, Path)),
    responses((status = 200, body = RestoredLayer), (status = 404, description = "`configuration_not_found`"),
        (status = 409, description = "`layer_not_restorable` or `locked`")))]
pub async fn restore(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Path((_, _, id)): Path<(AppName, LabelName, String)>,
    Json(body): Json<RestoreLayer>,
) -> Result<axum::Json<RestoredLayer>, ApiError> {
    Ok(axum::Json(configurations::restore(&state, &actor, &name, &id, body.layer).await?))
}
