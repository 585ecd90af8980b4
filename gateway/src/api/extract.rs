//! Typed input. What does not parse is refused with a documented code rather than axum's own text.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, uri};
use magrathea_core::names::{AppName, ClusterName, LabelName};
use serde::Deserialize;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use super::error::{ApiError, Code};
use crate::services::access::InstanceName;

/// A JSON body.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub struct Json<T>(pub T);

/// Parts of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

/// Query parameters.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::MediaTypeUnsupported,
            _ => Code::BodyInvalid,
        };
        ApiError::new(code, rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        ApiError::new(Code::NameInvalid, rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        ApiError::new(Code::QueryInvalid, rejection.body_text())
    }
}

/// The instance that `/apps/{app}/instances/{label}` and the query's `cluster` name.
pub struct Instance(pub InstanceName);

#[derive(Deserialize)]
struct InPath {
    app: AppName,
    label: LabelName,
}

#[derive(Deserialize)]
struct InQuery {
    cluster: Option<ClusterName>,
}

impl<S: Send + Sync> FromRequestParts<S> for Instance {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(InPath { app, label }) = Path::from_request_parts(parts, state).await?;
        let Query(InQuery { cluster }) = Query::from_request_parts(parts, state).await?;
        // What is left is for the route's own parameters, which refuse what they do not know.
        parts.uri = without(&parts.uri, "cluster=")?;
        Ok(Instance(InstanceName { app, label, cluster }))
    }
}

fn without(uri: &Uri, parameter: &str) -> Result<Uri, ApiError> {
    let Some(query) = uri.query() else { return Ok(uri.clone()) };
    let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with(parameter)).collect();
    let path = uri.path();
    let path = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(uri::PathAndQuery::try_from(path).map_err(ApiError::internal)?);
    Uri::from_parts(parts).map_err(ApiError::internal)
}

impl utoipa::IntoParams for Instance {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || Some(ObjectBuilder::new().schema_type(Type::String));
        let parameter = |name: &str, place: ParameterIn, required: Required| {
            ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(text())
        };
        let cluster = "The cluster of the instance that is meant; needed when the label lives on several.";
        vec![
            parameter("app", ParameterIn::Path, Required::True).build(),
            parameter("label", ParameterIn::Path, Required::True).build(),
            parameter("cluster", ParameterIn::Query, Required::False).description(Some(cluster)).build(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_taken_out_of_a_query() {
        for (uri, expect) in [
            ("/a", "/a"),
            ("/a?cluster=x", "/a"),
            ("/a?follow=true&cluster=x&last=1", "/a?follow=true&last=1"),
            ("/a?clusters=x", "/a?clusters=x"),
        ] {
            assert_eq!(without(&uri.parse().unwrap(), "cluster=").unwrap().to_string(), expect);
        }
    }
}
