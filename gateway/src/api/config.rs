//! Secret values of apps: set and listed, never told.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{ConfigEntry, SetConfig};
use magrathea_core::names::{AppName, LabelName};
use magrathea_core::people::Verb;
use serde::Deserialize;

use super::error::{ApiError, Code};
use super::extract::{Json, Path, Query};
use crate::actor::Actor;
use crate::db::config_values;
use crate::services::access::{Reach, find_app, require};
use crate::services::config::{ValueName, set_value, unset_value};
use crate::state::State;

/// The longest value, in bytes.
const MAX_VALUE: usize = 64 << 10;

fn check_key(key: &str) -> Result<(), ApiError> {
    let starts = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let valid =
        starts && key.len() <= 128 && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if valid {
        return Ok(());
    }
    Err(ApiError::new(
        Code::NameInvalid,
        "a key starts with a letter or underscore, has at most 128 letters, digits, underscores, hyphens and dots",
    ))
}

/// The names of an app's values.
#[utoipa::path(get, path = "/v1/apps/{app}/config", tag = "config", params(("app" = String, Path)),
    responses((status = 200, body = Vec<ConfigEntry>), (status = 404, description = "`app_not_found`")))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
) -> Result<axum::Json<Vec<ConfigEntry>>, ApiError> {
    let conn = state.db.conn().await?;
    let app = find_app(&conn, &actor, &app, Verb::Look, Reach::Some).await?;
    let mut values = config_values::list_values(&conn, app.id).await?;
    values.retain(|value| {
        let label = value.label.as_ref().and_then(|label| label.parse().ok());
        require(&actor, &app, Verb::Look, label.as_ref().map_or(Reach::Some, Reach::Label)).is_ok()
    });
    Ok(axum::Json(values))
}

/// Sets a value; the next deploy uses it.
#[utoipa::path(put, path = "/v1/apps/{app}/config/{key}", tag = "config", request_body = SetConfig,
    params(("app" = String, Path), ("key" = String, Path)),
    responses((status = 200, body = ConfigEntry), (status = 404, description = "`app_not_found`")))]
pub async fn set(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((name, key)): Path<(AppName, String)>,
    Json(body): Json<SetConfig>,
) -> Result<axum::Json<ConfigEntry>, ApiError> {
    check_key(&key)?;
    let label: Option<LabelName> = body
        .label
        .map(|label| label.parse())
        .transpose()
        .map_err(|error| ApiError::new(Code::NameInvalid, format!("{error}")))?;
    if body.value.len() > MAX_VALUE || body.value.contains('\0') {
        return Err(ApiError::new(Code::BodyInvalid, "a value has at most 64 KiB and no NUL character"));
    }
    let name = ValueName { app: &name, label: label.as_ref(), key: &key };
    Ok(axum::Json(set_value(&state.db, &state.seal, &actor, name, &body.value).await?))
}

/// Of which label.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfLabel {
    /// The value of this label alone; the app's when absent.
    #[param(value_type = Option<String>)]
    label: Option<LabelName>,
}

/// Forgets a value.
#[utoipa::path(delete, path = "/v1/apps/{app}/config/{key}", tag = "config",
    params(("app" = String, Path), ("key" = String, Path), OfLabel),
    responses((status = 204), (status = 404, description = "`config_not_found`")))]
pub async fn unset(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((name, key)): Path<(AppName, String)>,
    Query(OfLabel { label }): Query<OfLabel>,
) -> Result<StatusCode, ApiError> {
    let name = ValueName { app: &name, label: label.as_ref(), key: &key };
    unset_value(&state.db, &actor, name).await?;
    Ok(StatusCode::NO_CONTENT)
}
