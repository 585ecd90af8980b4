//! People: found, invited, removed.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use magrathea_core::api::{Ended, InvitationInfo, Invite, MadeInvitation};
use magrathea_core::names::{OrganisationId, PersonId, PersonName};
use magrathea_core::people::{Place, Verb};
use magrathea_core::units::count;
use uuid::Uuid;

use super::access::require_at;
use super::grants::{Administrators, resolve};
use super::organisations::find_organisation;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::api::token;
use crate::db::members::{self, NewInvitation, Person};
use crate::db::timeline::{self, NewEntry};
use crate::db::{Client, organisations};
use crate::state::State;

/// The person of this name; `self` is the one who asks. To somebody who may not see them, there is none.
pub async fn find_person(client: &impl Client, actor: &Actor, name: &str) -> Result<Person, ApiError> {
    let name = if name == "self" { &actor.name } else { name };
    let found = members::load_person(client, name).await?;
    let visible = |person: &Person| {
        person.id == actor.person
            || actor.may(Verb::Look, Place::Organisation(person.organisation))
            || actor.may(Verb::Administer, Place::Organisation(person.organisation))
    };
    found.filter(visible).ok_or_else(|| {
        ApiError::new(Code::PersonNotFound, format!("there is no person {name}"))
            .with_hint("td person list lists yours")
    })
}

impl Person {
    /// Refuses those who are neither the person nor administer them. A limited token is nobody in this.
    pub fn require_own(&self, actor: &Actor, what: &str) -> Result<(), ApiError> {
        if self.id == actor.person && actor.access.limits.is_none() {
            return Ok(());
        }
        let place = Place::Organisation(self.organisation);
        require_at(actor, Verb::Administer, place, &format!("the {what} of {}", self.name))
    }
}

/// Invites somebody into an organisation, with what they will be allowed to do.
pub async fn invite(
    state: &State,
    actor: &Actor,
    organisation: &str,
    body: &Invite,
) -> Result<MadeInvitation, ApiError> {
    let name: PersonName = body.name.parse()?;
    if !(1..=30).contains(&body.days) {
        return Err(ApiError::new(Code::BodyInvalid, "an invitation is good for 1 to 30 days"));
    }
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let organisation = find_organisation(&tx, actor, organisation).await?;
    require_at(actor, Verb::Administer, Place::Organisation(organisation.id), "the people of this organisation")?;
    if members::load_person(&tx, name.as_str()).await?.is_some() {
        return Err(taken(&name));
    }
    let mut grants = Vec::new();
    for spec in &body.grants {
        grants.push(resolve(&tx, actor, spec).await?.0);
    }
    let secret = token::for_invitation()?;
    let new = NewInvitation {
        hash: &secret.hash,
        organisation: organisation.id,
        name: &name,
        grants: &grants,
        invited_by: actor.person,
        days: body.days.into(),
    };
    let id = members::insert_invitation(&tx, &new)
        .await
        .map_err(|error| if error.violates(members::INVITED) { taken(&name) } else { error.into() })?;
    let roles: Vec<String> = body.grants.iter().map(ToString::to_string).collect();
    let roles = if roles.is_empty() { "no role yet".to_owned() } else { roles.join(", ") };
    let message = format!("{name} was invited to {} ({roles})", organisation.name);
    append(&tx, actor, "person.invited", Some(organisation.id), &message).await?;
    tx.commit().await?;
    let info = members::list_invitations(&conn, organisation.id).await?.into_iter().find(|info| info.id == id);
    let info: InvitationInfo = info.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the invitation vanished")))?;
    Ok(MadeInvitation { invitation: compose(state, &secret.text), info })
}

/// All that `td join` needs in one word: where the gateway is, how it is known, and the secret.
fn compose(state: &State, secret: &str) -> String {
    let parts = [state.api_url.as_str(), &state.pki.fingerprint(), secret].join("\n");
    format!("magjoin_{}", BASE64_URL_SAFE_NO_PAD.encode(parts))
}

fn taken(name: &PersonName) -> ApiError {
    ApiError::new(Code::NameTaken, format!("the name {name} is taken, or invited already; choose another"))
}

/// Takes an invitation back.
pub async fn withdraw(state: &State, actor: &Actor, organisation: &str, id: Uuid) -> Result<(), ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let organisation = find_organisation(&tx, actor, organisation).await?;
    require_at(actor, Verb::Administer, Place::Organisation(organisation.id), "the people of this organisation")?;
    let open = members::list_invitations(&tx, organisation.id).await?.into_iter().find(|open| open.id == id);
    let open = open.ok_or_else(|| ApiError::new(Code::InvitationNotFound, "there is no such open invitation"))?;
    members::delete_invitation(&tx, organisation.id, id).await?;
    let message = format!("the invitation of {} was taken back", open.name);
    append(&tx, actor, "person.uninvited", Some(organisation.id), &message).await?;
    Ok(tx.commit().await?)
}

/// Removes a person: all that they hold open ends, nothing they had works any more, what they did stays recorded.
pub async fn remove_person(state: &State, actor: &Actor, name: &str) -> Result<Ended, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let person = find_person(&tx, actor, name).await?;
    require_at(
        actor,
        Verb::Administer,
        Place::Organisation(person.organisation),
        &format!("the person {}", person.name),
    )?;
    let administrators = Administrators::count(&tx, Some(person.organisation)).await?;
    let had = members::remove_person(&tx, person.id).await?;
    administrators.check(&tx).await?;
    let counted = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let mut ended = Ended {
        doors: Vec::new(),
        keys: counted(had.keys),
        tokens: counted(had.tokens),
        sessions: counted(had.sessions),
    };
    let message = format!(
        "{} was removed; void: {}, {} and {}",
        person.name,
        count(ended.keys, "key"),
        count(ended.tokens, "token"),
        count(ended.sessions, "session")
    );
    append(&tx, actor, "person.removed", Some(person.organisation), &message).await?;
    tx.commit().await?;
    drop(conn);
    ended.doors = state.doors.look(state).await?;
    Ok(ended)
}

/// Takes an organisation with its people away; it must have no apps left.
pub async fn remove_organisation(state: &State, actor: &Actor, name: &str) -> Result<Ended, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let organisation = find_organisation(&tx, actor, name).await?;
    require_at(actor, Verb::Administer, Place::Platform, "the organisations")?;
    if super::organisations::is_operator(&organisation) {
        return Err(ApiError::new(Code::LastAdministrator, "the operator's own organisation stays"));
    }
    let (apps, _, _) = organisations::count(&tx, organisation.id).await?;
    if apps > 0 {
        return Err(ApiError::new(Code::NotEmpty, format!("{name} has {}", count(apps, "app")))
            .with_hint("destroy them first, each with its data: td app destroy APP"));
    }
    let mut ended = Ended::default();
    for person in members::list_people(&tx, Some(&[organisation.id]), None).await? {
        let had = members::remove_person(&tx, PersonId(person.id)).await?;
        ended.keys += u32::try_from(had.keys).unwrap_or(0);
        ended.tokens += u32::try_from(had.tokens).unwrap_or(0);
        ended.sessions += u32::try_from(had.sessions).unwrap_or(0);
    }
    organisations::remove_organisation(&tx, organisation.id).await?;
    append(&tx, actor, "organisation.removed", None, &format!("the organisation {name} was removed")).await?;
    tx.commit().await?;
    drop(conn);
    ended.doors = state.doors.look(state).await?;
    Ok(ended)
}

/// Appends a line that belongs to an organisation.
pub async fn append(
    client: &impl Client,
    actor: &Actor,
    action: &str,
    organisation: Option<OrganisationId>,
    message: &str,
) -> Result<(), ApiError> {
    let entry = NewEntry { actor: Some(actor), action, organisation, message, ..NewEntry::default() };
    Ok(timeline::append(client, entry).await?)
}
