//! Deploys: a source comes in, events go out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use magrathea_core::api::{DeployEvent, DeployInfo, LabelDeploy, PlanPreview, SourceInfo};
use magrathea_core::names::{AppName, DeployId, InstanceId};
use magrathea_core::people::Verb;
use serde::Deserialize;

use super::error::{ApiError, Code};
use super::extract::{Path, Query};
use crate::actor::Actor;
use crate::db::apps;
use crate::doors::{DoorKind, NewDoor};
use crate::engine::{self, Labels, Which};
use crate::services::access::{Reach, find_app};
use crate::state::State;

/// A source that stops arriving for so long is given up.
const BODY_IDLE: Duration = Duration::from_secs(30);

/// Silence on an event stream is broken this often, so that both ends notice a lost connection.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// How many deploys of an app are listed.
const LISTED: u32 = 50;

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()) {
        Some(b"application/zstd") => Ok(()),
        _ => Err(ApiError::new(Code::MediaTypeUnsupported, "the source must be a tar compressed with zstd")
            .with_hint("send it with Content-Type: application/zstd")),
    }
}

/// The body, with an error when the client falls silent.
fn source(request: Request) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + Unpin {
    let body = request.into_body().into_data_stream();
    Box::pin(stream::unfold(Some(body), async |body| {
        let mut body = body?;
        match tokio::time::timeout(BODY_IDLE, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
            Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
            Ok(None) => None,
            Err(_) => {
                Some((Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the source stopped arriving")), None))
            }
        }
    }))
}

/// Deploys a source to one instance; the deploy goes on whether or not the client stays.
#[utoipa::path(post, path = "/v1/apps/{app}/deploys", tag = "deploys", params(("app" = String, Path), SourceInfo),
    request_body(content = Vec<u8>, content_type = "application/zstd", description = "A tar compressed with zstd."),
    responses((status = 202, body = DeployInfo), (status = 409, description = "`locked`"),
        (status = 422, description = "`manifest_invalid`, `source_invalid`, `cluster_ambiguous`, …")))]
pub async fn submit(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
    Query(info): Query<SourceInfo>,
    request: Request,
) -> Result<(StatusCode, axum::Json<DeployInfo>), ApiError> {
    check_type(request.headers())?;
    let deploy = engine::submit(&state, &actor, &app, info, source(request)).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(deploy)))
}

/// Deploys a source under one label, on each of its clusters. One that cannot be deployed is no hindrance to the others.
#[utoipa::path(post, path = "/v1/apps/{app}/deploys/label", tag = "deploys", params(("app" = String, Path), SourceInfo),
    request_body(content = Vec<u8>, content_type = "application/zstd", description = "A tar compressed with zstd."),
    responses((status = 202, body = Vec<LabelDeploy>), (status = 409, description = "`locked`, where there is only one"),
        (status = 422, description = "`manifest_invalid`, `source_invalid`, …")))]
pub async fn submit_label(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
    Query(info): Query<SourceInfo>,
    request: Request,
) -> Result<(StatusCode, axum::Json<Vec<LabelDeploy>>), ApiError> {
    check_type(request.headers())?;
    let deploys = engine::submit_all(&state, &actor, &app, Labels::One, info, source(request)).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(deploys)))
}

/// Deploys a source under each of its labels, on each of their clusters. One that cannot be deployed is no hindrance to the
/// others.
#[utoipa::path(post, path = "/v1/apps/{app}/deploys/all", tag = "deploys", params(("app" = String, Path), SourceInfo),
    request_body(content = Vec<u8>, content_type = "application/zstd", description = "A tar compressed with zstd."),
    responses((status = 202, body = Vec<LabelDeploy>),
        (status = 422, description = "`manifest_invalid`, `source_invalid`, …")))]
pub async fn submit_all(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
    Query(info): Query<SourceInfo>,
    request: Request,
) -> Result<(StatusCode, axum::Json<Vec<LabelDeploy>>), ApiError> {
    check_type(request.headers())?;
    if info.label.is_some() {
        return Err(ApiError::new(Code::QueryInvalid, "a label is chosen where all are deployed"));
    }
    let deploys = engine::submit_all(&state, &actor, &app, Labels::All, info, source(request)).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(deploys)))
}

/// What deploying a source would change, without doing it.
#[utoipa::path(post, path = "/v1/apps/{app}/plan", tag = "deploys", params(("app" = String, Path), SourceInfo),
    request_body(content = Vec<u8>, content_type = "application/zstd", description = "A tar compressed with zstd."),
    responses((status = 200, body = PlanPreview), (status = 422, description = "`manifest_invalid`, …")))]
pub async fn plan(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
    Query(info): Query<SourceInfo>,
    request: Request,
) -> Result<axum::Json<PlanPreview>, ApiError> {
    check_type(request.headers())?;
    Ok(axum::Json(engine::preview(&state, &actor, &app, info, source(request)).await?))
}

/// An app's deploys, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/deploys", tag = "deploys", params(("app" = String, Path)),
    responses((status = 200, body = Vec<DeployInfo>), (status = 404, description = "`app_not_found`")))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(app): Path<AppName>,
) -> Result<axum::Json<Vec<DeployInfo>>, ApiError> {
    let app = find_app(&state.db.conn().await?, &actor, &app, Verb::Look, Reach::Some).await?;
    Ok(axum::Json(engine::list_deploys(&state, &actor, Which::Of(app.id), LISTED).await?))
}

/// One deploy.
#[utoipa::path(get, path = "/v1/deploys/{id}", tag = "deploys", params(("id" = String, Path)),
    responses((status = 200, body = DeployInfo), (status = 404, description = "`deploy_not_found`")))]
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<DeployId>,
) -> Result<axum::Json<DeployInfo>, ApiError> {
    Ok(axum::Json(engine::deploy_info(&state, &actor, id, Verb::Look).await?))
}

/// From where a stream of events goes on.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct After {
    /// The sequence number of the last event that is known.
    #[serde(default)]
    after: u64,
}

/// A deploy's events, one JSON object (`DeployEvent`) per line, until it is over. Blank lines keep it alive.
#[utoipa::path(get, path = "/v1/deploys/{id}/events", tag = "deploys", params(("id" = String, Path), After),
    responses((status = 200, body = String, content_type = "application/x-ndjson"),
        (status = 404, description = "`deploy_not_found`")))]
pub async fn events(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<DeployId>,
    Query(After { after }): Query<After>,
) -> Result<Response, ApiError> {
    let info = engine::deploy_info(&state, &actor, id, Verb::Look).await?;
    let conn = state.db.conn().await?;
    let app = apps::load_app_of(&conn, InstanceId(info.instance)).await?;
    drop(conn);
    let label = info.label.parse().ok();
    let new = NewDoor {
        actor: &actor,
        kind: DoorKind::Events,
        app: app.as_ref(),
        label: label.as_ref(),
        verb: Verb::Look,
        detail: "",
    };
    let door = state.doors.open(&state, new).await?;
    let events = engine::follow(Arc::clone(&state), id, after).take_until(Box::pin(door.over()));
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(lines(events))).into_response())
}

fn lines(
    events: impl Stream<Item = DeployEvent> + Send,
) -> impl Stream<Item = Result<Bytes, serde_json::Error>> + Send {
    stream::unfold(Box::pin(events), async |mut events| {
        let line = match tokio::time::timeout(KEEPALIVE, events.next()).await {
            Ok(Some(event)) => serde_json::to_vec(&event).map(|mut line| {
                line.push(b'\n');
                Bytes::from(line)
            }),
            Ok(None) => return None,
            Err(_) => Ok(Bytes::from_static(b"\n")),
        };
        Some((line, events))
    })
}

/// Stops a deploy before its cut-over.
#[utoipa::path(post, path = "/v1/deploys/{id}/cancel", tag = "deploys", params(("id" = String, Path)),
    responses((status = 200, body = DeployInfo), (status = 409, description = "`not_cancellable`")))]
pub async fn cancel(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<DeployId>,
) -> Result<axum::Json<DeployInfo>, ApiError> {
    Ok(axum::Json(engine::cancel(&state, &actor, id).await?))
}

/// Lets a release on trial serve everybody.
#[utoipa::path(post, path = "/v1/deploys/{id}/promote", tag = "deploys", params(("id" = String, Path)),
    responses((status = 200, body = DeployInfo), (status = 409, description = "`not_on_trial`")))]
pub async fn promote(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<DeployId>,
) -> Result<axum::Json<DeployInfo>, ApiError> {
    Ok(axum::Json(engine::promote_trial(&state, &actor, id).await?))
}
