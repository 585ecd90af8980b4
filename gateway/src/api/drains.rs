//! Drains of an instance's log.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{DrainInfo, NewDrain};
use magrathea_core::names::{AppName, LabelName};
use uuid::Uuid;

use super::error::ApiError;
use super::extract::{Json, Path};
use crate::actor::Actor;
use crate::services::drains;
use crate::state::State;

/// Where an instance's log is sent to, and how that goes.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/drains", tag = "logs",
    params(("app" = String, Path), ("label" = String, Path)),
    responses((status = 200, body = Vec<DrainInfo>), (status = 404, description = "`instance_not_found`")))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((app, label)): Path<(AppName, LabelName)>,
) -> Result<axum::Json<Vec<DrainInfo>>, ApiError> {
    Ok(axum::Json(drains::list(&state, &actor, (&app, &label)).await?))
}

/// Sends what an instance says from now on to a sink, too.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/drains", tag = "logs",
    params(("app" = String, Path), ("label" = String, Path)), request_body = NewDrain,
    responses((status = 201, body = DrainInfo), (status = 422, description = "`drain_invalid`")))]
pub async fn add(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((app, label)): Path<(AppName, LabelName)>,
    Json(new): Json<NewDrain>,
) -> Result<(StatusCode, axum::Json<DrainInfo>), ApiError> {
    Ok((StatusCode::CREATED, axum::Json(drains::add(&state, &actor, (&app, &label), new).await?)))
}

/// Ends a drain.
#[utoipa::path(delete, path = "/v1/apps/{app}/instances/{label}/drains/{id}", tag = "logs",
    params(("app" = String, Path), ("label" = String, Path), ("id" = String, Path)),
    responses((status = 204), (status = 404, description = "`drain_not_found`")))]
pub async fn remove(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((app, label, id)): Path<(AppName, LabelName, Uuid)>,
) -> Result<StatusCode, ApiError> {
    drains::remove(&state, &actor, (&app, &label), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
