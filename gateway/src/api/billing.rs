//! What usage costs: previews, closed months, adjustments, and the operator's view.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use magrathea_core::api::{AdjustmentInfo, CloseMonth, ClosedMonth, Costs, MonthPreview, NewAdjustment};
use magrathea_core::billing::{Format, Month};
use serde::Deserialize;

use super::error::{ApiError, Code};
use super::extract::{Json, Path, Query};
use crate::actor::Actor;
use crate::services::billing;
use crate::state::State;

/// The SHA-256 of a whole export, in hex, as it was stored when the month was closed.
const SHA256: HeaderName = HeaderName::from_static("x-magrathea-sha256");

/// Days without a request after which an instance counts as forgotten.
const IDLE_DAYS: u16 = 14;

/// Which month, and whose.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// As in `2026-11`; the present one when absent.
    month: Option<String>,
    /// Of this organisation alone, with its rows.
    organisation: Option<String>,
}

/// In which format, and whose.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `focus` (FOCUS 1.2 in CSV), `csv` (a short table) or `json`.
    format: Option<String>,
    /// Of this organisation alone.
    organisation: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct OrganisationQuery {
    /// Of this organisation alone.
    organisation: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct CostsQuery {
    /// As in `2026-11`; the present one when absent.
    month: Option<String>,
    /// After so many days without a request an instance counts as forgotten; 14 when absent.
    idle_days: Option<u16>,
}

fn month(text: &str) -> Result<Month, ApiError> {
    text.parse()
        .map_err(|error: magrathea_core::billing::MonthError| ApiError::new(Code::QueryInvalid, error.to_string()))
}

/// What a month would cost if it were closed now; of a closed month, what was charged.
#[utoipa::path(get, path = "/v1/billing/preview", tag = "billing", params(PreviewQuery),
    responses((status = 200, body = MonthPreview), (status = 409, description = "`rates_missing`")))]
pub async fn preview(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(query): Query<PreviewQuery>,
) -> Result<axum::Json<MonthPreview>, ApiError> {
    let month = query.month.as_deref().map(month).transpose()?;
    Ok(axum::Json(billing::preview(&state, &actor, month, query.organisation.as_deref()).await?))
}

/// The months that are closed, the last first.
#[utoipa::path(get, path = "/v1/billing/months", tag = "billing", responses((status = 200, body = Vec<ClosedMonth>)))]
pub async fn list(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Vec<ClosedMonth>>, ApiError> {
    Ok(axum::Json(billing::list(&state, &actor).await?))
}

/// Closes a month. One that is closed already is answered as it is.
#[utoipa::path(post, path = "/v1/billing/months/{month}/close", tag = "billing", params(("month" = String, Path)),
    request_body = CloseMonth,
    responses((status = 200, body = ClosedMonth),
        (status = 409, description = "`month_open`, `usage_incomplete`, `rates_missing` or `locked`")))]
pub async fn close(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
    Json(body): Json<CloseMonth>,
) -> Result<axum::Json<ClosedMonth>, ApiError> {
    Ok(axum::Json(billing::close(&state, &actor, month(&name)?, body.confirm).await?))
}

/// A closed month as a file. The same month and format are the same bytes for ever; `x-magrathea-sha256` names their hash, but
/// where only a part of the month is seen.
#[utoipa::path(get, path = "/v1/billing/months/{month}/export", tag = "billing",
    params(("month" = String, Path), ExportQuery),
    responses((status = 200, body = String, content_type = "text/csv"), (status = 404, description = "`month_not_found`")))]
pub async fn export(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let format = query.format.as_deref().unwrap_or(Format::Focus.as_str());
    let format: Format = format.parse().map_err(|error: String| ApiError::new(Code::QueryInvalid, error))?;
    let export = billing::export(&state, &actor, month(&name)?, format, query.organisation.as_deref()).await?;
    let sha256 = export.sha256.as_deref().and_then(|hash| HeaderValue::from_str(hash).ok());
    let mut response = Body::from_stream(export.stream()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.extend(sha256.map(|hash| (SHA256, hash)));
    Ok(response)
}

/// What was added to charges or taken off by hand, the newest first.
#[utoipa::path(get, path = "/v1/billing/adjustments", tag = "billing", params(OrganisationQuery),
    responses((status = 200, body = Vec<AdjustmentInfo>)))]
pub async fn list_adjustments(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(query): Query<OrganisationQuery>,
) -> Result<axum::Json<Vec<AdjustmentInfo>>, ApiError> {
    Ok(axum::Json(billing::list_adjustments(&state, &actor, query.organisation.as_deref()).await?))
}

/// Adds to what an organisation is charged, or takes off it, in the month that is closed next.
#[utoipa::path(post, path = "/v1/billing/adjustments", tag = "billing", request_body = NewAdjustment,
    responses((status = 201, body = AdjustmentInfo), (status = 422, description = "`adjustment_invalid`")))]
pub async fn adjust(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(new): Json<NewAdjustment>,
) -> Result<(StatusCode, axum::Json<AdjustmentInfo>), ApiError> {
    Ok((StatusCode::CREATED, axum::Json(billing::adjust(&state, &actor, new).await?)))
}

/// What clusters and instances use and earn, and which instances nobody comes to.
#[utoipa::path(get, path = "/v1/billing/costs", tag = "billing", params(CostsQuery),
    responses((status = 200, body = Costs)))]
pub async fn costs(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(query): Query<CostsQuery>,
) -> Result<axum::Json<Costs>, ApiError> {
    let month = query.month.as_deref().map(month).transpose()?;
    Ok(axum::Json(billing::costs(&state, &actor, month, query.idle_days.unwrap_or(IDLE_DAYS)).await?))
}
