//! Releases of apps.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{DeployInfo, ProcessInfo, Promote, Release, ReleaseDiff, Rollback, Scale};
use magrathea_core::names::{AppName, ClusterName, LabelName, ReleaseNumber};
use serde::Deserialize;

use super::error::ApiError;
use super::extract::{Instance, Json, Path, Query};
use crate::actor::Actor;
use crate::services::releases;
use crate::state::State;

/// Most releases of an instance that are listed.
const MOST: u32 = 500;

/// Which of them.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReleasesQuery {
    /// Of this label alone.
    #[param(value_type = Option<String>)]
    label: Option<LabelName>,
    /// On this cluster alone.
    #[param(value_type = Option<String>)]
    cluster: Option<ClusterName>,
    /// At most so many of each instance.
    #[serde(default = "default_limit")]
    limit: u32,
}

impl ReleasesQuery {
    pub fn on(&self) -> (Option<&LabelName>, Option<&ClusterName>) {
        (self.label.as_ref(), self.cluster.as_ref())
    }

    pub fn limit(&self) -> u32 {
        self.limit.min(MOST)
    }
}

fn default_limit() -> u32 {
    50
}

/// The releases of an app, instance by instance, the newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/releases", tag = "deploys", params(("app" = String, Path), ReleasesQuery),
    responses((status = 200, body = Vec<Release>), (status = 404, description = "`app_not_found`")))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
    Query(query): Query<ReleasesQuery>,
) -> Result<axum::Json<Vec<Release>>, ApiError> {
    Ok(axum::Json(releases::list(&state, &actor, &app, query.on(), query.limit()).await?))
}

/// One release.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/releases/{release}", tag = "deploys",
    params(Instance, ("release" = u32, Path)),
    responses((status = 200, body = Release),
        (status = 404, description = "`app_not_found`, `instance_not_found` or `release_not_found`")))]
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Path((_, _, number)): Path<(AppName, LabelName, u32)>,
) -> Result<axum::Json<Release>, ApiError> {
    Ok(axum::Json(releases::show(&state, &actor, &name, ReleaseNumber(number)).await?))
}

/// With which other.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffQuery {
    /// The release that it is compared with.
    from: u32,
}

/// What is different in a release than in another.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/releases/{release}/diff", tag = "deploys",
    params(Instance, ("release" = u32, Path), DiffQuery),
    responses((status = 200, body = ReleaseDiff),
        (status = 404, description = "`app_not_found`, `instance_not_found` or `release_not_found`")))]
pub async fn diff(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Path((_, _, number)): Path<(AppName, LabelName, u32)>,
    Query(DiffQuery { from }): Query<DiffQuery>,
) -> Result<axum::Json<ReleaseDiff>, ApiError> {
    let pair = (ReleaseNumber(from), ReleaseNumber(number));
    Ok(axum::Json(releases::diff(&state, &actor, &name, pair).await?))
}

/// Brings an earlier release back: its image, its configuration and the values that it was made with. A deploy, but for the
/// build and the release hook.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/rollback", tag = "deploys", request_body = Rollback,
    params(Instance),
    responses((status = 202, body = DeployInfo), (status = 404, description = "`release_not_found`"),
        (status = 409, description = "`locked`")))]
pub async fn rollback(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Json(body): Json<Rollback>,
) -> Result<(StatusCode, axum::Json<DeployInfo>), ApiError> {
    let deploy = releases::rollback(&state, &actor, &name, body).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(deploy)))
}

/// The process types of what serves: replicas wanted and running, and limits.
#[utoipa::path(get, path = "/v1/apps/{app}/instances/{label}/scale", tag = "deploys",
    params(Instance),
    responses((status = 200, body = Vec<ProcessInfo>),
        (status = 404, description = "`app_not_found`, `instance_not_found` or `release_not_found`")))]
pub async fn processes(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
) -> Result<axum::Json<Vec<ProcessInfo>>, ApiError> {
    Ok(axum::Json(releases::processes(&state, &actor, &name).await?))
}

/// Gives what serves other numbers of replicas, without a build; later deploys keep them. A deploy of the serving release.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/scale", tag = "deploys", request_body = Scale,
    params(Instance),
    responses((status = 202, body = DeployInfo), (status = 404, description = "`release_not_found`"),
        (status = 409, description = "`locked` or `service_missing`")))]
pub async fn scale(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Json(body): Json<Scale>,
) -> Result<(StatusCode, axum::Json<DeployInfo>), ApiError> {
    let deploy = releases::scale(&state, &actor, &name, body).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(deploy)))
}

/// Deploys the very image that a label serves under another label, with that one's own configuration and values. A deploy, but
/// for the build.
#[utoipa::path(post, path = "/v1/apps/{app}/instances/{label}/promote", tag = "deploys", request_body = Promote,
    params(Instance),
    responses((status = 202, body = DeployInfo), (status = 404, description = "`release_not_found`"),
        (status = 409, description = "`locked`"), (status = 422, description = "`label_unknown` or `plan_invalid`")))]
pub async fn promote(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Instance(name): Instance,
    Json(body): Json<Promote>,
) -> Result<(StatusCode, axum::Json<DeployInfo>), ApiError> {
    let deploy = releases::promote(&state, &actor, &name, body).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(deploy)))
}
