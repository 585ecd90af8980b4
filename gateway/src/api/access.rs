//! Who may do what, from where; and logging in.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{
    AddGrant, AskChallenge, Authority, Challenge, DoorInfo, Ended, GrantInfo, Join, ListInfo, LoggedIn, Login, SetDoor,
    SetList,
};
use serde::Deserialize;
use uuid::Uuid;

use super::auth;
use super::error::{ApiError, Code};
use super::extract::{Json, Path, Query};
use super::throttle::Throttle;
use crate::actor::{Actor, Credential};
use crate::listen::Peer;
use crate::services::lists::{self, DoorName};
use crate::services::{grants, login, tokens};
use crate::state::State;

/// The roles that one may see: one's own, and those on what one administers.
#[utoipa::path(get, path = "/v1/grants", tag = "people", responses((status = 200, body = Vec<GrantInfo>)))]
pub async fn list_grants(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
) -> Result<axum::Json<Vec<GrantInfo>>, ApiError> {
    Ok(axum::Json(grants::list_grants(&state, &actor).await?))
}

/// Gives a role to a person, a team, or an organisation that an app is shared with.
#[utoipa::path(post, path = "/v1/grants", tag = "people", request_body = AddGrant,
    responses((status = 201, body = GrantInfo), (status = 403, description = "`forbidden`")))]
pub async fn add_grant(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(body): Json<AddGrant>,
) -> Result<(StatusCode, axum::Json<GrantInfo>), ApiError> {
    Ok((StatusCode::CREATED, axum::Json(grants::add_grant(&state, &actor, &body).await?)))
}

/// Takes a role back; what is held open through it ends.
#[utoipa::path(delete, path = "/v1/grants/{id}", tag = "people", params(("id" = Uuid, Path)),
    responses((status = 200, body = Ended), (status = 404, description = "`grant_not_found`"),
        (status = 409, description = "`last_administrator`")))]
pub async fn remove_grant(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<Uuid>,
) -> Result<axum::Json<Ended>, ApiError> {
    Ok(axum::Json(grants::remove_grant(&state, &actor, id).await?))
}

/// The IP access lists that one may use.
#[utoipa::path(get, path = "/v1/lists", tag = "access", responses((status = 200, body = Vec<ListInfo>)))]
pub async fn list_lists(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
) -> Result<axum::Json<Vec<ListInfo>>, ApiError> {
    Ok(axum::Json(lists::list_lists(&state, &actor).await?))
}

/// Whether to do it all the same.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Force {
    /// Also when it shuts out the address that asks.
    #[serde(default)]
    force: bool,
}

/// Makes a list or replaces its entries; all that uses it follows at once.
#[utoipa::path(put, path = "/v1/lists/{name}", tag = "access", request_body = SetList,
    params(("name" = String, Path), Force),
    responses((status = 200, body = ListInfo), (status = 409, description = "`locked_out`"),
        (status = 422, description = "`list_invalid`")))]
pub async fn set_list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
    Json(body): Json<SetList>,
) -> Result<axum::Json<ListInfo>, ApiError> {
    Ok(axum::Json(lists::set_list(&state, &actor, &name, &body, force).await?))
}

/// Whose list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfOrganisation {
    /// An organisation's; the operator's when absent.
    organisation: Option<String>,
}

/// Forgets a list that nothing uses.
#[utoipa::path(delete, path = "/v1/lists/{name}", tag = "access", params(("name" = String, Path), OfOrganisation),
    responses((status = 204), (status = 404, description = "`list_not_found`"), (status = 409, description = "`in_use`")))]
pub async fn remove_list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
    Query(OfOrganisation { organisation }): Query<OfOrganisation>,
) -> Result<StatusCode, ApiError> {
    lists::remove_list(&state, &actor, &name, organisation.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// From where the gateway's own doors may be used; one that is not listed is open.
#[utoipa::path(get, path = "/v1/doors", tag = "access", responses((status = 200, body = Vec<DoorInfo>)))]
pub async fn list_doors(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
) -> Result<axum::Json<Vec<DoorInfo>>, ApiError> {
    Ok(axum::Json(lists::list_doors(&state, &actor).await?))
}

/// Sets from where a door (`api` or `ssh`) may be used; what is held open from elsewhere ends.
#[utoipa::path(put, path = "/v1/doors/{door}", tag = "access", request_body = SetDoor,
    params(("door" = String, Path)),
    responses((status = 200, body = Ended), (status = 409, description = "`locked_out`"),
        (status = 422, description = "`list_invalid`")))]
pub async fn set_door(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(door): Path<String>,
    Json(body): Json<SetDoor>,
) -> Result<axum::Json<Ended>, ApiError> {
    let door = match door.as_str() {
        "api" => DoorName::Api,
        "ssh" => DoorName::Ssh,
        _ => return Err(ApiError::new(Code::NameInvalid, "the gateway's doors are api and ssh")),
    };
    Ok(axum::Json(lists::set_door(&state, &actor, door, &body).await?))
}

/// The gateway's authority, for td to pin: whoever asks must compare the fingerprint with one that they were told.
#[utoipa::path(get, path = "/v1/authority", tag = "gateway", security(()),
    responses((status = 200, body = Authority)))]
pub async fn authority(Shared(state): Shared<Arc<State>>) -> axum::Json<Authority> {
    axum::Json(Authority { ca: state.pki.ca_pem().to_owned(), fingerprint: state.pki.fingerprint() })
}

/// Something fresh to sign with an SSH key.
#[utoipa::path(post, path = "/v1/login/challenge", tag = "people", security(()), request_body = AskChallenge,
    responses((status = 200, body = Challenge)))]
pub async fn challenge(
    Shared(state): Shared<Arc<State>>,
    Json(body): Json<AskChallenge>,
) -> Result<axum::Json<Challenge>, ApiError> {
    Ok(axum::Json(login::challenge(&state, &body).await?))
}

/// Begins a session, with a signed challenge.
#[utoipa::path(post, path = "/v1/login", tag = "people", security(()), request_body = Login,
    responses((status = 201, body = LoggedIn), (status = 401, description = "`login_failed`")))]
pub async fn log_in(
    Shared(state): Shared<Arc<State>>,
    Extension(throttle): Extension<Arc<Throttle>>,
    Extension(peer): Extension<Peer>,
    Json(body): Json<Login>,
) -> Result<(StatusCode, axum::Json<LoggedIn>), ApiError> {
    let session = login::log_in(&state, &body, peer.address.ip()).await;
    let session = session.map_err(|error| match error.code {
        Code::LoginFailed => auth::slow(&throttle, &peer, error),
        _ => error,
    })?;
    Ok((StatusCode::CREATED, axum::Json(session)))
}

/// Accepts an invitation: with a signed challenge, whose key becomes the person's first.
#[utoipa::path(post, path = "/v1/join", tag = "people", security(()), request_body = Join,
    responses((status = 201, body = LoggedIn), (status = 401, description = "`invitation_invalid` or `login_failed`")))]
pub async fn join(
    Shared(state): Shared<Arc<State>>,
    Extension(throttle): Extension<Arc<Throttle>>,
    Extension(peer): Extension<Peer>,
    Json(body): Json<Join>,
) -> Result<(StatusCode, axum::Json<LoggedIn>), ApiError> {
    let joined = login::join(&state, &body, peer.address.ip()).await;
    let joined = joined.map_err(|error| match error.code {
        Code::LoginFailed | Code::InvitationInvalid => auth::slow(&throttle, &peer, error),
        _ => error,
    })?;
    Ok((StatusCode::CREATED, axum::Json(joined)))
}

/// Ends the session, or gives up the token, with which this is asked.
#[utoipa::path(delete, path = "/v1/login", tag = "people", responses((status = 200, body = Ended)))]
pub async fn log_out(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Ended>, ApiError> {
    let Credential::Token(id) = actor.credential else { return Ok(axum::Json(Ended::default())) };
    Ok(axum::Json(tokens::remove_token(&state, &actor, "self", id.0).await?))
}
