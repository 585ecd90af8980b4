//! Organisations, people, teams, and what they prove themselves with.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use magrathea_core::api::{
    AddKey, CreateOrganisation, CreateTeam, CreateToken, Ended, InvitationInfo, Invite, KeyInfo, MadeInvitation,
    MadeToken, OrganisationInfo, PersonInfo, TeamInfo, TokenInfo, Whoami,
};
use magrathea_core::names::OrganisationName;
use magrathea_core::people::{Place, Verb};
use uuid::Uuid;

use super::error::{ApiError, Code};
use super::extract::{Json, Path};
use crate::actor::{Actor, Credential};
use crate::db::{members, organisations};
use crate::services::access::require_at;
use crate::services::organisations::{create_organisation, describe, find_organisation};
use crate::services::{grants, keys, members as service, teams, tokens};
use crate::state::State;

/// Who one is, and what one may do.
#[utoipa::path(get, path = "/v1/whoami", tag = "people", responses((status = 200, body = Whoami)))]
pub async fn whoami(Shared(state): Shared<Arc<State>>, actor: Actor) -> Result<axum::Json<Whoami>, ApiError> {
    let conn = state.db.conn().await?;
    let mut roles = Vec::new();
    for grant in &actor.access.grants {
        roles.push(grants::describe(&conn, grant).await?);
    }
    let mut limits = None;
    for grant in actor.access.limits.iter().flatten() {
        limits.get_or_insert_with(Vec::new).push(grants::describe(&conn, grant).await?);
    }
    let credential = match actor.credential {
        Credential::Token(_) => "token",
        Credential::Key(_) => "key",
        Credential::Local => "local",
    };
    Ok(axum::Json(Whoami {
        id: actor.person.0,
        organisation: organisations::load_name(&conn, actor.organisation).await?.unwrap_or_default(),
        name: actor.name,
        credential: credential.to_owned(),
        roles,
        limits,
    }))
}

/// The organisations that one may see.
#[utoipa::path(get, path = "/v1/organisations", tag = "people",
    responses((status = 200, body = Vec<OrganisationInfo>)))]
pub async fn list_organisations(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
) -> Result<axum::Json<Vec<OrganisationInfo>>, ApiError> {
    let conn = state.db.conn().await?;
    let mut infos = Vec::new();
    for organisation in organisations::list_organisations(&conn).await? {
        let own = organisation.id == actor.organisation;
        if own || actor.access.sees(Place::Organisation(organisation.id)) {
            infos.push(describe(&conn, organisation).await?);
        }
    }
    Ok(axum::Json(infos))
}

/// Makes an organisation.
#[utoipa::path(post, path = "/v1/organisations", tag = "people", request_body = CreateOrganisation,
    responses((status = 201, body = OrganisationInfo), (status = 403, description = "`forbidden`"),
        (status = 409, description = "`name_taken`")))]
pub async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(body): Json<CreateOrganisation>,
) -> Result<(StatusCode, axum::Json<OrganisationInfo>), ApiError> {
    let name: OrganisationName = body.name.parse()?;
    Ok((StatusCode::CREATED, axum::Json(create_organisation(&state, &actor, &name).await?)))
}

/// One organisation.
#[utoipa::path(get, path = "/v1/organisations/{organisation}", tag = "people",
    params(("organisation" = String, Path)),
    responses((status = 200, body = OrganisationInfo), (status = 404, description = "`organisation_not_found`")))]
pub async fn show_organisation(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<axum::Json<OrganisationInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let organisation = find_organisation(&conn, &actor, &name).await?;
    Ok(axum::Json(describe(&conn, organisation).await?))
}

/// Removes an organisation that has no apps, with its people.
#[utoipa::path(delete, path = "/v1/organisations/{organisation}", tag = "people",
    params(("organisation" = String, Path)),
    responses((status = 200, body = Ended), (status = 409, description = "`not_empty`")))]
pub async fn remove_organisation(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<axum::Json<Ended>, ApiError> {
    Ok(axum::Json(service::remove_organisation(&state, &actor, &name).await?))
}

/// The people that one may see.
#[utoipa::path(get, path = "/v1/people", tag = "people", responses((status = 200, body = Vec<PersonInfo>)))]
pub async fn list_people(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
) -> Result<axum::Json<Vec<PersonInfo>>, ApiError> {
    let conn = state.db.conn().await?;
    let mut of = Vec::new();
    for organisation in organisations::list_organisations(&conn).await? {
        let at = Place::Organisation(organisation.id);
        if actor.may(Verb::Look, at) || actor.may(Verb::Administer, at) {
            of.push(organisation.id);
        }
    }
    let mut people = members::list_people(&conn, Some(&of), None).await?;
    if !people.iter().any(|person| person.id == actor.person.0) {
        people.extend(members::list_people(&conn, None, Some(&actor.name)).await?);
    }
    Ok(axum::Json(people))
}

/// One person; `self` is the one who asks.
#[utoipa::path(get, path = "/v1/people/{person}", tag = "people", params(("person" = String, Path)),
    responses((status = 200, body = PersonInfo), (status = 404, description = "`person_not_found`")))]
pub async fn show_person(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<axum::Json<PersonInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let person = service::find_person(&conn, &actor, &name).await?;
    let found = members::list_people(&conn, None, Some(&person.name)).await?.into_iter().next();
    found.map(axum::Json).ok_or_else(|| ApiError::new(Code::PersonNotFound, format!("there is no person {name}")))
}

/// Removes a person: all that they hold open ends, and nothing that they had works any more.
#[utoipa::path(delete, path = "/v1/people/{person}", tag = "people", params(("person" = String, Path)),
    responses((status = 200, body = Ended), (status = 404, description = "`person_not_found`"),
        (status = 409, description = "`last_administrator`")))]
pub async fn remove_person(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<axum::Json<Ended>, ApiError> {
    Ok(axum::Json(service::remove_person(&state, &actor, &name).await?))
}

/// An organisation's open invitations.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/invitations", tag = "people",
    params(("organisation" = String, Path)), responses((status = 200, body = Vec<InvitationInfo>)))]
pub async fn list_invitations(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<axum::Json<Vec<InvitationInfo>>, ApiError> {
    let conn = state.db.conn().await?;
    let organisation = find_organisation(&conn, &actor, &name).await?;
    require_at(&actor, Verb::Administer, Place::Organisation(organisation.id), "the people of this organisation")?;
    Ok(axum::Json(members::list_invitations(&conn, organisation.id).await?))
}

/// Invites somebody, with what they will be allowed to do.
#[utoipa::path(post, path = "/v1/organisations/{organisation}/invitations", tag = "people", request_body = Invite,
    params(("organisation" = String, Path)),
    responses((status = 201, body = MadeInvitation), (status = 409, description = "`name_taken`")))]
pub async fn invite(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
    Json(body): Json<Invite>,
) -> Result<(StatusCode, axum::Json<MadeInvitation>), ApiError> {
    Ok((StatusCode::CREATED, axum::Json(service::invite(&state, &actor, &name, &body).await?)))
}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/v1/organisations/{organisation}/invitations/{id}", tag = "people",
    params(("organisation" = String, Path), ("id" = Uuid, Path)),
    responses((status = 204), (status = 404, description = "`invitation_not_found`")))]
pub async fn withdraw(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((name, id)): Path<(String, Uuid)>,
) -> Result<StatusCode, ApiError> {
    service::withdraw(&state, &actor, &name, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An organisation's teams.
#[utoipa::path(get, path = "/v1/organisations/{organisation}/teams", tag = "people",
    params(("organisation" = String, Path)), responses((status = 200, body = Vec<TeamInfo>)))]
pub async fn list_teams(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<axum::Json<Vec<TeamInfo>>, ApiError> {
    Ok(axum::Json(teams::list_teams(&state, &actor, &name).await?))
}

/// Makes a team.
#[utoipa::path(post, path = "/v1/organisations/{organisation}/teams", tag = "people", request_body = CreateTeam,
    params(("organisation" = String, Path)),
    responses((status = 201, body = TeamInfo), (status = 409, description = "`name_taken`")))]
pub async fn create_team(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(organisation): Path<String>,
    Json(body): Json<CreateTeam>,
) -> Result<(StatusCode, axum::Json<TeamInfo>), ApiError> {
    Ok((StatusCode::CREATED, axum::Json(teams::create_team(&state, &actor, &organisation, &body.name).await?)))
}

/// Removes a team with its roles.
#[utoipa::path(delete, path = "/v1/organisations/{organisation}/teams/{team}", tag = "people",
    params(("organisation" = String, Path), ("team" = String, Path)),
    responses((status = 200, body = Ended), (status = 404, description = "`team_not_found`")))]
pub async fn remove_team(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((organisation, team)): Path<(String, String)>,
) -> Result<axum::Json<Ended>, ApiError> {
    Ok(axum::Json(teams::remove_team(&state, &actor, &organisation, &team).await?))
}

/// Puts a person into a team.
#[utoipa::path(put, path = "/v1/organisations/{organisation}/teams/{team}/members/{person}", tag = "people",
    params(("organisation" = String, Path), ("team" = String, Path), ("person" = String, Path)),
    responses((status = 204), (status = 404, description = "`team_not_found` or `person_not_found`")))]
pub async fn add_member(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((organisation, team, person)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    teams::add_member(&state, &actor, &organisation, &team, &person).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a person out of a team.
#[utoipa::path(delete, path = "/v1/organisations/{organisation}/teams/{team}/members/{person}", tag = "people",
    params(("organisation" = String, Path), ("team" = String, Path), ("person" = String, Path)),
    responses((status = 200, body = Ended), (status = 404, description = "`team_not_found` or `person_not_found`")))]
pub async fn remove_member(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((organisation, team, person)): Path<(String, String, String)>,
) -> Result<axum::Json<Ended>, ApiError> {
    Ok(axum::Json(teams::remove_member(&state, &actor, &organisation, &team, &person).await?))
}

/// A person's SSH keys.
#[utoipa::path(get, path = "/v1/people/{person}/keys", tag = "people", params(("person" = String, Path)),
    responses((status = 200, body = Vec<KeyInfo>)))]
pub async fn list_keys(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(person): Path<String>,
) -> Result<axum::Json<Vec<KeyInfo>>, ApiError> {
    Ok(axum::Json(keys::list_keys(&state.db, &actor, &person).await?))
}

/// Gives a person an SSH key.
#[utoipa::path(post, path = "/v1/people/{person}/keys", tag = "people", request_body = AddKey,
    params(("person" = String, Path)),
    responses((status = 201, body = KeyInfo), (status = 409, description = "`key_taken`"),
        (status = 422, description = "`key_invalid`")))]
pub async fn add_key(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(person): Path<String>,
    Json(body): Json<AddKey>,
) -> Result<(StatusCode, axum::Json<KeyInfo>), ApiError> {
    let added = keys::add_key(&state.db, &actor, &person, &body.key, body.name.as_deref()).await?;
    Ok((StatusCode::CREATED, axum::Json(added)))
}

/// Takes an SSH key from a person; what is held open with it ends.
#[utoipa::path(delete, path = "/v1/people/{person}/keys/{key}", tag = "people",
    params(("person" = String, Path), ("key" = Uuid, Path)),
    responses((status = 200, body = Ended), (status = 404, description = "`key_not_found`")))]
pub async fn remove_key(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((person, key)): Path<(String, Uuid)>,
) -> Result<axum::Json<Ended>, ApiError> {
    Ok(axum::Json(keys::remove_key(&state, &actor, &person, key).await?))
}

/// A person's tokens and sessions.
#[utoipa::path(get, path = "/v1/people/{person}/tokens", tag = "people", params(("person" = String, Path)),
    responses((status = 200, body = Vec<TokenInfo>)))]
pub async fn list_tokens(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(person): Path<String>,
) -> Result<axum::Json<Vec<TokenInfo>>, ApiError> {
    Ok(axum::Json(tokens::list_tokens(&state, &actor, &person).await?))
}

/// One's own.
pub async fn list_own_tokens(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
) -> Result<axum::Json<Vec<TokenInfo>>, ApiError> {
    Ok(axum::Json(tokens::list_tokens(&state, &actor, "self").await?))
}

/// Makes a token for oneself.
#[utoipa::path(post, path = "/v1/people/self/tokens", tag = "people", request_body = CreateToken,
    responses((status = 201, body = MadeToken), (status = 403, description = "`forbidden`")))]
pub async fn create_token(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Json(body): Json<CreateToken>,
) -> Result<(StatusCode, axum::Json<MadeToken>), ApiError> {
    Ok((StatusCode::CREATED, axum::Json(tokens::make_token(&state, &actor, &body).await?)))
}

/// Takes a token or a session back; what is held open with it ends.
#[utoipa::path(delete, path = "/v1/people/{person}/tokens/{id}", tag = "people",
    params(("person" = String, Path), ("id" = Uuid, Path)),
    responses((status = 200, body = Ended), (status = 404, description = "`token_not_found`")))]
pub async fn remove_token(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path((person, id)): Path<(String, Uuid)>,
) -> Result<axum::Json<Ended>, ApiError> {
    Ok(axum::Json(tokens::remove_token(&state, &actor, &person, id).await?))
}
