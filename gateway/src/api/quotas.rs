//! Traffic quotas.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{QuotaInfo, SetQuota};
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::ApiError;
use super::extract::{Json, Query};
use crate::actor::Actor;
use crate::services::quotas;
use crate::state::State;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Whose {
    app: Option<String>,
    organisation: Option<String>,
}

/// Traffic quotas that one may see, with how much of them this month has used.
#[utoipa::path(get, path = "/v1/quotas", tag = "quotas", responses((status = 200, body = Vec<QuotaInfo>)))]
pub async fn list(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Vec<QuotaInfo>>, ApiError> {
    Ok(axum::Json(quotas::list(&state, &actor).await?))
}

/// Sets how much traffic an app, or all of an organisation's apps together, may take in a month.
#[utoipa::path(put, path = "/v1/quotas", tag = "quotas", request_body = SetQuota,
    responses((status = 200, body = QuotaInfo), (status = 403, description = "`forbidden`"),
        (status = 404, description = "`app_not_found`, `organisation_not_found`"), (status = 422, description = "`quota_invalid`")))]
pub async fn set(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(body): Json<SetQuota>,
) -> Result<axum::Json<QuotaInfo>, ApiError> {
    Ok(axum::Json(quotas::set(&state, &actor, &body).await?))
}

/// Takes a quota away.
#[utoipa::path(delete, path = "/v1/quotas", tag = "quotas", params(Whose),
    responses((status = 204), (status = 404, description = "`quota_not_found`")))]
pub async fn remove(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(whose): Query<Whose>,
) -> Result<StatusCode, ApiError> {
    quotas::remove(&state, &actor, whose.app.as_deref(), whose.organisation.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
