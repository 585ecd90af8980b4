//! Secret values of apps: set and listed, never told.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{ChangeConfig, ConfigChange, ConfigChanged, ConfigEntry, DeployInfo, SetConfig};
use magrathea_core::names::{AppName, LabelName};
use magrathea_core::people::Verb;
use serde::Deserialize;

use super::error::ApiError;
use super::extract::{Instance, Json, Path, Query};
use crate::actor::Actor;
use crate::db::config_values;
use crate::services::access::{Reach, find_app, require};
use crate::services::config::{ValueName, change_values, export_values, rotate_password, set_value, unset_value};
use crate::state::State;

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
    let label: Option<LabelName> = body.label.map(|label| label.parse()).transpose()?;
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
    unset_value(&state.db, &state.seal, &actor, name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes values, all or none, and deploys what serves with them when asked to.
#[utoipa::path(post, path = "/v1/apps/{app}/config", tag = "config", request_body = ChangeConfig,
    params(("app" = String, Path)),
    responses((status = 200, body = ConfigChanged), (status = 404, description = "`app_not_found` or `config_not_found`")))]
pub async fn change(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<AppName>,
    Json(body): Json<ChangeConfig>,
) -> Result<axum::Json<ConfigChanged>, ApiError> {
    Ok(axum::Json(change_values(&state, &actor, &name, body).await?))
}

/// Who changed which value when, the newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/config-history", tag = "config", params(("app" = String, Path)),
    responses((status = 200, body = Vec<ConfigChange>), (status = 404, description = "`app_not_found`")))]
pub async fn history(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<AppName>,
) -> Result<axum::Json<Vec<ConfigChange>>, ApiError> {
    let conn = state.db.conn().await?;
    let app = find_app(&conn, &actor, &name, Verb::Look, Reach::Some).await?;
    let mut changes = config_values::list_changes(&conn, app.id, 200).await?;
    changes.retain(|change| {
        let label = change.label.as_ref().and_then(|label| label.parse().ok());
        require(&actor, &app, Verb::Look, label.as_ref().map_or(Reach::Some, Reach::Label)).is_ok()
    });
    Ok(axum::Json(changes))
}

/// The values themselves: one label's own, or those for all labels. It takes who may operate the app, and stands on the
/// timeline.
#[utoipa::path(get, path = "/v1/apps/{app}/config-values", tag = "config", params(("app" = String, Path), OfLabel),
    responses((status = 200, body = BTreeMap<String, String>), (status = 403, description = "`forbidden`")))]
pub async fn export(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<AppName>,
    Query(OfLabel { label }): Query<OfLabel>,
) -> Result<axum::Json<BTreeMap<String, String>>, ApiError> {
    Ok(axum::Json(export_values(&state, &actor, &name, label.as_ref()).await?))
}

/// Gives a label's database account a new password, with a deploy that drops no request.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/db/rotate", tag = "config",
    params(Instance),
    responses((status = 202, body = Vec<DeployInfo>), (status = 403, description = "`forbidden`"),
        (status = 422, description = "`plan_invalid`: it has no database")))]
pub async fn rotate(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
) -> Result<(StatusCode, axum::Json<Vec<DeployInfo>>), ApiError> {
    Ok((StatusCode::ACCEPTED, axum::Json(rotate_password(&state, &actor, &name).await?)))
}
