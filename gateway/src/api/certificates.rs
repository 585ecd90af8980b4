//! Certificates for apps' domains.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{CertificateInfo, SetCertificate};

use super::error::{ApiError, Code};
use super::extract::{Json, Path};
use crate::actor::Actor;
use crate::db::certificates;
use crate::pki::check_chain;
use crate::services::certificates::{missing, remove_certificate, sees, store_certificate};
use crate::state::State;

fn check_name(name: &str) -> Result<(), ApiError> {
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    if inner && name.len() <= 100 && name.starts_with(ends) && name.ends_with(ends) && !name.contains("..") {
        return Ok(());
    }
    let rule = "a certificate's name has at most 100 lower-case letters, digits, hyphens and dots";
    Err(ApiError::new(Code::NameInvalid, rule))
}

/// The certificates of one's organisation.
#[utoipa::path(get, path = "/v1/certificates", tag = "certificates",
    responses((status = 200, body = Vec<CertificateInfo>)))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
) -> Result<axum::Json<Vec<CertificateInfo>>, ApiError> {
    let all = certificates::list_certificates(&state.db.conn().await?).await?;
    let own = all.into_iter().filter(|(_, owner)| sees(&actor, *owner));
    Ok(axum::Json(own.map(|(info, _)| info).collect()))
}

/// One certificate.
#[utoipa::path(get, path = "/v1/certificates/{name}", tag = "certificates", params(("name" = String, Path)),
    responses((status = 200, body = CertificateInfo), (status = 404, description = "`certificate_not_found`")))]
pub async fn show(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<axum::Json<CertificateInfo>, ApiError> {
    check_name(&name)?;
    let certificate = certificates::load_certificate(&state.db.conn().await?, &name).await?;
    let visible = certificate.filter(|(_, owner)| sees(&actor, *owner));
    Ok(axum::Json(visible.ok_or_else(|| missing(&name))?.0))
}

/// Stores a certificate with its key; one of the same name is replaced.
#[utoipa::path(put, path = "/v1/certificates/{name}", tag = "certificates", request_body = SetCertificate,
    params(("name" = String, Path)),
    responses((status = 200, body = CertificateInfo), (status = 422, description = "`certificate_invalid`")))]
pub async fn set(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
    Json(body): Json<SetCertificate>,
) -> Result<axum::Json<CertificateInfo>, ApiError> {
    check_name(&name)?;
    let checked = check_chain(&body.chain, &body.key, jiff::Timestamp::now())
        .map_err(|error| ApiError::new(Code::CertificateInvalid, error.to_string()))?;
    Ok(axum::Json(store_certificate(&state.db, &state.seal, &actor, &name, &checked).await?))
}

/// Forgets a certificate.
#[utoipa::path(delete, path = "/v1/certificates/{name}", tag = "certificates", params(("name" = String, Path)),
    responses((status = 204), (status = 404, description = "`certificate_not_found`")))]
pub async fn remove(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    check_name(&name)?;
    remove_certificate(&state.db, &actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
