//! Drains of an instance's log.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{DrainInfo, NewDrain};
use magrathea_core::names::{AppName, LabelName};
use uuid::Uuid;

use super::error::ApiError;
use super::extract::{Instance, Json, Path};
use crate::actor::Actor;
use crate::services::drains;
use crate::state::State;

/// Where an instance's log is sent to, and how that goes.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/drains", tag = "logs",
    params(Instance),
    responses((status = 200, body = Vec<DrainInfo>), (status = 404, description = "`instance_not_found`")))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
) -> Result<axum::Json<Vec<DrainInfo>>, ApiError> {
    Ok(axum::Json(drains::list(&state, &actor, &name).await?))
}

/// Sends what an instance says from now on to a sink, too.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/drains", tag = "logs",
    params(Instance), request_body = NewDrain,
    responses((status = 201, body = DrainInfo), (status = 422, description = "`drain_invalid`")))]
pub async fn add(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Json(new): Json<NewDrain>,
) -> Result<(StatusCode, axum::Json<DrainInfo>), ApiError> {
    Ok((StatusCode::CREATED, axum::Json(drains::add(&state, &actor, &name, new).await?)))
}

/// Ends a drain.
#[utoipa::path(delete, path = "/v1/apps/{app}/instances/{label}/drains/{id}", tag = "logs",
    params(Instance, ("id" = String, Path)),
    responses((status = 204), (status = 404, description = "`drain_not_found`")))]
pub async fn remove(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Path((_, _, id)): Path<(AppName, LabelName, Uuid)>,
) -> Result<StatusCode, ApiError> {
    drains::remove(&state, &actor, &name, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
