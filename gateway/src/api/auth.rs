//! Who asks: the bearer token becomes an [`Actor`], without which no protected handler runs.

use std::sync::Arc;

use axum::extract::{Extension, FromRequestParts, Request, State as Shared};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::error::{ApiError, Code};
use super::throttle::Throttle;
use crate::actor::Actor;
use crate::listen::Peer;
use crate::services::people::actor_of_token;
use crate::state::State;

/// Lets a request in that bears a valid token, and notes whose it is.
pub async fn authenticate(
    Shared((state, throttle)): Shared<(Arc<State>, Arc<Throttle>)>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let actor = match bearer(request.headers()) {
        Some(token) => actor_of_token(&state, token, peer.address.ip()).await?,
        None => None,
    };
    let Some(actor) = actor else {
        let error = ApiError::new(Code::Unauthenticated, "a valid token is needed")
            .with_hint("send the header Authorization: Bearer TOKEN; td keeps its token in credentials.json");
        return Err(slow(&throttle, &peer, error));
    };
    request.extensions_mut().insert(actor.clone());
    let mut response = next.run(request).await;
    response.extensions_mut().insert(actor);
    Ok(response)
}

/// Counts a failed authentication: the error it ends in, or that there were too many.
pub fn slow(throttle: &Throttle, peer: &Peer, error: ApiError) -> ApiError {
    if throttle.fail(peer.address.ip(), Instant::now()) {
        return error;
    }
    ApiError::new(Code::TooManyAttempts, "too many failed attempts from this address; wait and try again")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Actor>().cloned().ok_or_else(|| {
            ApiError::internal(anyhow::anyhow!("a handler that needs an actor stands outside the protected routes"))
        })
    }
}
