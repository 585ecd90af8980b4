//! What instances use.

use std::sync::Arc;

use axum::extract::State as Shared;
use magrathea_core::api::{UsageNow, UsageReport};
use serde::Deserialize;
use utoipa::IntoParams;

use super::error::{ApiError, Code};
use super::extract::Query;
use crate::actor::Actor;
use crate::services::usage::{self, Selection};
use crate::state::State;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// Only instances of this organisation's apps.
    organisation: Option<String>,
    /// Only instances of this app.
    app: Option<String>,
    label: Option<String>,
    cluster: Option<String>,
    /// Where the time begins: an instant, a day or a month, as in `2026-11-22`; else this month.
    from: Option<String>,
    /// Where it ends; a day or a month is part of it. Now when absent.
    to: Option<String>,
    /// `total`, `month`, `day` or `hour`.
    by: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AskedNow {
    /// Only instances of this organisation's apps.
    organisation: Option<String>,
    /// Only instances of this app.
    app: Option<String>,
    label: Option<String>,
    cluster: Option<String>,
}

/// What instances used: hour by hour it is kept for ever.
#[utoipa::path(get, path = "/v1/usage", tag = "usage", params(Asked), responses((status = 200, body = UsageReport)))]
pub async fn report(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<UsageReport>, ApiError> {
    let Asked { organisation, app, label, cluster, from, to, by } = asked;
    let by = by.map(|by| by.parse()).transpose().map_err(|error: String| ApiError::new(Code::QueryInvalid, error))?;
    let selection = Selection { organisation, app, label, cluster };
    let time = (from.as_deref(), to.as_deref());
    Ok(axum::Json(usage::report(&state, &actor, &selection, time, by.unwrap_or_default()).await?))
}

/// Sums since some time before, without a delay: the difference between two answers is what was used between them.
#[utoipa::path(get, path = "/v1/usage/now", tag = "usage", params(AskedNow),
    responses((status = 200, body = UsageNow)))]
pub async fn now(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(asked): Query<AskedNow>,
) -> Result<axum::Json<UsageNow>, ApiError> {
    let AskedNow { organisation, app, label, cluster } = asked;
    Ok(axum::Json(usage::now(&state, &actor, &Selection { organisation, app, label, cluster }).await?))
}
