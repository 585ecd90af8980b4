//! How people prove who they are: something fresh is signed with an SSH key, and a session comes back.

use aws_lc_rs::rand;
use magrathea_core::api::{AskChallenge, Challenge, Join, LoggedIn, Login, login_message};
use magrathea_core::people::{Place, Scope, Verb};
use sha2::{Digest, Sha256};

use super::keys::{self as ssh_keys, PublicKey};
use super::lists::{self, DoorName};
use super::members::append;
use crate::actor::{Actor, Credential};
use crate::api::error::{ApiError, Code};
use crate::api::token;
use crate::db::members::{self, Person};
use crate::db::tokens::{NewToken, TokenKind, insert_token};
use crate::db::{Client, apps, grants, keys, organisations, people};
use crate::state::State;

/// For how long a challenge is good, in seconds.
const CHALLENGE_LIFE: i64 = 120;

/// What challenges are sealed for.
const PLACE: &str = "login/challenge";

/// Keys that are asked about at once.
const MOST_KEYS: usize = 64;

fn refused() -> ApiError {
    ApiError::new(Code::LoginFailed, "the key is not known here, or the signature is not its own")
        .with_hint("td whoami on a machine that is logged in, or an administrator, can add a key: td key add FILE.pub")
}

/// Something fresh to sign. Nothing is stored: the gateway knows its own seal again.
pub async fn challenge(state: &State, ask: &AskChallenge) -> Result<Challenge, ApiError> {
    if ask.keys.len() > MOST_KEYS {
        return Err(ApiError::new(Code::BodyInvalid, format!("at most {MOST_KEYS} keys are asked about at once")));
    }
    let mut fresh = [0; 24];
    let (random, at) = fresh.split_at_mut(16);
    rand::fill(random).map_err(|_| ApiError::internal(anyhow::anyhow!("no randomness")))?;
    at.copy_from_slice(&(jiff::Timestamp::now().as_second() + CHALLENGE_LIFE).to_be_bytes());
    let challenge = hex::encode(state.seal.seal(PLACE, &fresh).map_err(ApiError::internal)?);
    // Bad keys are nobody's; td offers whatever the person has.
    let offered: Vec<Option<PublicKey>> = ask.keys.iter().map(|key| ssh_keys::parse_key(key).ok()).collect();
    let fingerprints: Vec<String> = offered.iter().flatten().map(|key| key.fingerprint.clone()).collect();
    let known = keys::find_known(&state.db.conn().await?, &fingerprints).await?;
    let key =
        known.and_then(|known| offered.iter().position(|key| key.as_ref().is_some_and(|key| key.fingerprint == known)));
    Ok(Challenge { challenge, key })
}

/// The key that signed a fresh challenge of this gateway's.
async fn prove(state: &State, client: &impl Client, login: &Login) -> Result<PublicKey, ApiError> {
    let stale = || ApiError::new(Code::LoginFailed, "the challenge is unknown, used or too old; ask for another");
    let sealed = hex::decode(&login.challenge).map_err(|_| stale())?;
    let fresh = state.seal.open(PLACE, &sealed).map_err(|_| stale())?;
    let until = fresh.get(16..).and_then(|at| at.try_into().ok()).map(i64::from_be_bytes).ok_or_else(stale)?;
    if jiff::Timestamp::now().as_second() > until {
        return Err(stale());
    }
    let message = login_message(&state.pki.fingerprint(), &login.challenge);
    let key = ssh_keys::verify(&login.signature, &message)
        .map_err(|error| ApiError::new(Code::LoginFailed, error.to_string()).with_hint(error.hint()))?;
    if !keys::use_challenge(client, &Sha256::digest(&sealed).into()).await? {
        return Err(stale());
    }
    Ok(key)
}

/// A session for whoever has the key that signed.
pub async fn log_in(state: &State, login: &Login, from: std::net::IpAddr) -> Result<LoggedIn, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let key = prove(state, &tx, login).await?;
    let actor = people::load_actor_of_key(&tx, &key.text).await?.ok_or_else(refused)?.at(from);
    if !lists::admit(state, DoorName::Api, from, Some(actor.organisation)).await? {
        return Err(ApiError::new(Code::Forbidden, format!("this may not be used from {}", from.to_canonical())));
    }
    let session = begin(&tx, &actor, &login.name, &format!("with the key {}", key.fingerprint)).await?;
    let organisation = organisations::load_name(&tx, actor.organisation).await?.unwrap_or_default();
    tx.commit().await?;
    Ok(LoggedIn { token: session, person: actor.name, organisation })
}

/// Makes the person of an invitation, with the key that signed, and their first session.
pub async fn join(state: &State, body: &Join, from: std::net::IpAddr) -> Result<LoggedIn, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let key = prove(state, &tx, &body.login).await?;
    let invitation = members::use_invitation(&tx, &token::hash(body.invitation.trim())).await?.ok_or_else(|| {
        ApiError::new(Code::InvitationInvalid, "the invitation is unknown, used or expired")
            .with_hint("ask for another")
    })?;
    let name = invitation.name.parse().map_err(|error| ApiError::internal(anyhow::anyhow!("{error}")))?;
    let id = members::insert_person(&tx, invitation.organisation, &name, "").await.map_err(|error| {
        if error.violates(members::NAME_TAKEN) {
            return ApiError::new(Code::NameTaken, format!("the name {name} is taken; ask for another invitation"));
        }
        error.into()
    })?;
    let person = Person { id, name: invitation.name.clone(), organisation: invitation.organisation };
    // A signature tells no comment; where the key was first used is the next best name.
    ssh_keys::insert(&tx, &person, &key, Some(&body.login.name)).await?;
    if !still_stands(&tx, &invitation).await? {
        return Err(ApiError::new(Code::InvitationInvalid, "whoever invited you may no longer do so")
            .with_hint("ask for another invitation"));
    }
    for grant in &invitation.grants {
        grants::insert_grant(&tx, grants::Subject::Person(id), grant).await?;
    }
    let actor = people::load_actor_of_key(&tx, &key.text).await?.ok_or_else(refused)?.at(from);
    append(&tx, &actor, "person.joined", Some(person.organisation), &format!("{} joined", person.name)).await?;
    let session = begin(&tx, &actor, &body.login.name, &format!("with the key {}", key.fingerprint)).await?;
    let organisation = organisations::load_name(&tx, person.organisation).await?.unwrap_or_default();
    tx.commit().await?;
    Ok(LoggedIn { token: session, person: person.name, organisation })
}

/// Whether the one who invited could still give what the invitation gives.
async fn still_stands(client: &impl Client, invitation: &members::Invitation) -> Result<bool, ApiError> {
    let Some(access) = people::load_access(client, invitation.invited_by).await? else { return Ok(false) };
    if !access.may(Verb::Administer, Place::Organisation(invitation.organisation)) {
        return Ok(false);
    }
    for grant in &invitation.grants {
        let stands = match &grant.scope {
            Scope::Platform => access.may(Verb::Administer, Place::Platform),
            Scope::Organisation(id) => access.may(Verb::Administer, Place::Organisation(*id)),
            Scope::App(app) | Scope::Label(app, _) | Scope::Labels(app, _) => {
                match apps::load_owner(client, *app).await? {
                    Some(organisation) => access.may(Verb::Administer, Place::App { organisation, app: *app }),
                    None => false,
                }
            }
        };
        if !stands {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn begin(client: &impl Client, actor: &Actor, name: &str, how: &str) -> Result<String, ApiError> {
    let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    let name = if name.is_empty() { "a session" } else { &name };
    let session = token::for_session()?;
    let new = NewToken {
        person: actor.person,
        hash: &session.hash,
        name,
        kind: TokenKind::Session,
        limits: None,
        key: match actor.credential {
            Credential::Key(key) => Some(key),
            _ => None,
        },
        days: None,
    };
    insert_token(client, &new).await?;
    append(client, actor, "session.opened", None, &format!("{} logged in {how}", actor.name)).await?;
    Ok(session.text)
}
