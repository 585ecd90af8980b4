//! Git's smart protocol over HTTPS, for `git push https://…/git/APP.git`. Its errors are plain text, which git shows.
//!
//! Protocol: gitprotocol-http(5). Basic authentication with any user name and a token as the password.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, Query, Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use futures_util::TryStreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_util::io::{ReaderStream, StreamReader};
use tokio_util::sync::CancellationToken;
use tower_http::decompression::RequestDecompressionLayer;

use super::auth;
use super::error::{ApiError, Code};
use super::throttle::Throttle;
use crate::actor::Actor;
use crate::git::{self, GitIo, Mode, Service};
use crate::listen::Peer;
use crate::services::people::actor_of_token;
use crate::state::State;

/// Bytes of an answer that wait for the client.
const PIPE: usize = 128 << 10;

/// Git's routes. A client that shows no token is asked for one on each of them, whatever the repository.
pub fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/git/{repository}/info/refs", get(advertise))
        .route("/git/{repository}/{service}", post(serve))
        .route("/git/{repository}/info/lfs/{*rest}", any(lfs))
        .layer(RequestDecompressionLayer::new())
}

/// An error as git shows it.
struct Refused(ApiError);

impl<E: Into<ApiError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refused(error) = self;
        let cause = error.cause.as_ref().map(|cause| format!("{cause:#}")).unwrap_or_default();
        if error.status().is_server_error() {
            tracing::error!(code = error.code.as_str(), cause, "git is not served: {error}");
        } else {
            tracing::info!(code = error.code.as_str(), "git is not served: {error}");
        }
        let hint = error.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        let text = format!("error: {error}\n{hint}");
        let mut response =
            (error.status(), [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
        let headers = response.headers_mut();
        match error.code {
            Code::Unauthenticated => {
                let challenge =
                    HeaderValue::from_static("Basic realm=\"Magrathea: any user name, a token as the password\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Code::TooManyAttempts => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}

/// Whose token the request bears.
async fn authenticate(state: &State, throttle: &Throttle, peer: &Peer, headers: &HeaderMap) -> Result<Actor, ApiError> {
    let actor = match token(headers) {
        Some(token) => actor_of_token(state, &token, peer.address.ip()).await?,
        None => None,
    };
    actor.ok_or_else(|| {
        let error = ApiError::new(Code::Unauthenticated, "a valid token is needed")
            .with_hint("any user name, and a token as the password; `td app link --https` makes git ask td for it");
        // Git always asks without a token first.
        if headers.contains_key(header::AUTHORIZATION) { auth::slow(throttle, peer, error) } else { error }
    })
}

fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?;
    let (_, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(password.to_owned())
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get("git-protocol")?.to_str().ok()
}

#[derive(Debug, Deserialize)]
struct Asked {
    service: Option<String>,
}

async fn session(
    state: &Arc<State>,
    actor: &Actor,
    service: Service,
    repository: &str,
    headers: &HeaderMap,
) -> Result<git::Session, ApiError> {
    let app = git::parse_repository(repository).map_err(|error| ApiError::new(Code::NameInvalid, error.to_string()))?;
    let request = git::GitRequest { service, app, protocol: None }.with_protocol(protocol(headers));
    git::open(state, actor, service, &request.app, request.protocol).await
}

/// What branches and tags there are.
async fn advertise(
    Shared(state): Shared<Arc<State>>,
    Extension(throttle): Extension<Arc<Throttle>>,
    Extension(peer): Extension<Peer>,
    Path(repository): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let actor = authenticate(&state, &throttle, &peer, &headers).await?;
    let Some(service) = asked.service.as_deref().and_then(Service::named) else {
        return Err(ApiError::new(Code::QueryInvalid, "only git's smart protocol is served here").into());
    };
    let session = session(&state, &actor, service, &repository, &headers).await?;
    let name = service.as_str();
    let is_second = protocol(&headers).is_some_and(|protocol| protocol.split(':').any(|word| word == "version=2"));
    // Version 2 has no line that names the service (gitprotocol-v2, "HTTP Transport").
    let head = match service {
        Service::UploadPack if is_second => String::new(),
        _ => format!("{:04x}# service={name}\n0000", name.len() + 15),
    };
    Ok(answer(session, Mode::Advertise, Body::empty(), head, format!("application/x-{name}-advertisement")))
}

/// One request of a client's.
async fn serve(
    Shared(state): Shared<Arc<State>>,
    Extension(throttle): Extension<Arc<Throttle>>,
    Extension(peer): Extension<Peer>,
    Path((repository, service)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let actor = authenticate(&state, &throttle, &peer, &parts.headers).await?;
    let Some(service) = Service::named(&service) else {
        return Err(ApiError::new(Code::RouteNotFound, "this path is not part of git's protocol").into());
    };
    let expected = format!("application/x-{}-request", service.as_str());
    if parts.headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != expected.as_bytes()) {
        return Err(ApiError::new(Code::MediaTypeUnsupported, format!("the body must be {expected}")).into());
    }
    let session = session(&state, &actor, service, &repository, &parts.headers).await?;
    let kind = format!("application/x-{}-result", service.as_str());
    // Before a large request git asks with a flush packet alone whether it may. Nothing comes of that.
    if parts.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "4") {
        let _ = axum::body::to_bytes(body, 4).await;
        return Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)]).into_response());
    }
    Ok(answer(session, Mode::Request, body, String::new(), kind))
}

/// Runs git with the body as its input and its output as the answer.
fn answer(session: git::Session, mode: Mode, body: Body, head: String, kind: String) -> Response {
    let gone = CancellationToken::new();
    let (mut writer, reader) = tokio::io::duplex(PIPE);
    let left = gone.clone().drop_guard();
    let running = async move {
        if writer.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        let body = body.into_data_stream().map_err(std::io::Error::other);
        let io = GitIo {
            stdin: Box::new(StreamReader::new(body)),
            stdout: Box::new(writer),
            // What git has to say to the client travels in the answer.
            stderr: Box::new(tokio::io::sink()),
            gone,
        };
        if let Err(error) = session.run(mode, io).await {
            tracing::info!("git over HTTPS: {error:#}");
        }
    };
    // The answer's body drives git: it is polled until git ends, and dropped when the client leaves.
    let mut running = Box::pin(running);
    let mut done = false;
    let mut stream = Box::pin(ReaderStream::with_capacity(reader, PIPE));
    let pieces = futures_util::stream::poll_fn(move |context| {
        let _left = &left;
        if !done {
            done = std::future::Future::poll(running.as_mut(), context).is_ready();
        }
        futures_util::Stream::poll_next(stream.as_mut(), context)
    });
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache".to_owned())];
    (StatusCode::OK, headers, Body::from_stream(pieces)).into_response()
}

/// Git LFS asks here; its client shows the message.
async fn lfs() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/vnd.git-lfs+json")];
    (StatusCode::NOT_IMPLEMENTED, kind, Json(json!({"message": git::LFS}))).into_response()
}
