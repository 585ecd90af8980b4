//! The way out: every request gets an id, every error its body and its one line in the log, every panic an answer.

use std::any::Any;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Response as HttpResponse, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use magrathea_core::api::ErrorBody;
use tokio::time::Instant;
use tower_http::catch_panic::ResponseForPanic;
use uuid::Uuid;

use super::error::{ApiError, Code};
use crate::actor::Actor;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An error on its way to [`finish`], which knows the request's id.
#[derive(Clone)]
struct Pending(Arc<ApiError>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Pending(Arc::new(self)));
        response
    }
}

/// Gives the request an id, writes an error's body, and logs how it went.
pub async fn finish(request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().simple().to_string();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let start = Instant::now();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let person = response.extensions().get::<Actor>().map_or_else(String::new, |actor| actor.name.clone());
    match response.extensions_mut().remove::<Pending>() {
        Some(Pending(error)) => {
            if error.status().is_server_error() {
                let cause = error.cause.as_ref().map(|cause| format!("{cause:#}")).unwrap_or_default();
                tracing::error!(request = id, %method, path, status, ms, person, code = error.code.as_str(), message = %error, cause);
            } else {
                tracing::info!(request = id, %method, path, status, ms, person, code = error.code.as_str(), message = %error);
            }
            response = render(&error, &id);
        }
        None if method.is_safe() => tracing::debug!(request = id, %method, path, status, ms, person),
        None => tracing::info!(request = id, %method, path, status, ms, person),
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn render(error: &ApiError, id: &str) -> Response {
    let body = ErrorBody {
        code: error.code.as_str().to_owned(),
        message: error.message.clone(),
        hint: error.hint.clone(),
        request: id.to_owned(),
        diagnostics: error.diagnostics.clone(),
        clusters: error.clusters.clone(),
    };
    let mut response = (error.status(), axum::Json(body)).into_response();
    match error.code {
        Code::Unauthenticated | Code::EnrolTokenInvalid => {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Code::TooManyAttempts => {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        _ => {}
    }
    response
}

/// Answers for a handler that panicked.
#[derive(Clone, Copy)]
pub struct Panicked;

impl ResponseForPanic for Panicked {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send>) -> HttpResponse<Body> {
        let what = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.to_string());
        ApiError::internal(anyhow::anyhow!("panic: {what}")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn boom() {
        panic!("boom: hunter2");
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_tells_nothing() {
        let router = Router::new()
            .route("/", get(boom))
            .layer(CatchPanicLayer::custom(Panicked))
            .layer(axum::middleware::from_fn(finish));
        let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        let body: ErrorBody = serde_json::from_slice(&body).unwrap();
        assert_eq!(body.code, "internal");
        assert!(!body.message.contains("hunter2"));
    }
}
