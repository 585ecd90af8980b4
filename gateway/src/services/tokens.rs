//! Tokens that people make for programs.

use magrathea_core::api::{CreateToken, Ended, MadeToken, TokenInfo};
use magrathea_core::people::{Grant, Verb};
use magrathea_core::units::count;
use uuid::Uuid;

use super::grants::{describe, resolve_for};
use super::members::{append, find_person};
use crate::actor::{Actor, Credential};
use crate::api::error::{ApiError, Code};
use crate::api::token;
use crate::db::tokens::{self, NewToken, TokenKind};
use crate::state::State;

/// Tokens that one person may have.
const MOST_TOKENS: usize = 100;

/// Makes a token for oneself; it may do no more than its limits and its person allow.
pub async fn make_token(state: &State, actor: &Actor, body: &CreateToken) -> Result<MadeToken, ApiError> {
    if !(1..=730).contains(&body.days) {
        return Err(ApiError::new(Code::BodyInvalid, "a token is good for 1 to 730 days"));
    }
    let name = body.name.trim();
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return Err(ApiError::new(Code::NameInvalid, "a token's name has 1 to 100 characters"));
    }
    if actor.access.limits.is_some() {
        return Err(ApiError::new(Code::Forbidden, "a limited token makes no tokens"));
    }
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    if tokens::list_tokens(&tx, actor.person).await?.len() >= MOST_TOKENS {
        return Err(ApiError::new(Code::LimitReached, format!("you have {MOST_TOKENS} tokens already"))
            .with_hint("remove those that nobody uses: td token list, td token remove ID"));
    }
    let mut limits = Vec::new();
    for spec in &body.limits {
        // What one may not do oneself a token does not do either; so that one sees the place is enough.
        let (scope, _) = resolve_for(&tx, actor, spec, Verb::Look).await?;
        limits.push(Grant { role: spec.role, scope });
    }
    let made = token::for_person()?;
    let new = NewToken {
        person: actor.person,
        hash: &made.hash,
        name,
        kind: TokenKind::Token,
        limits: (!limits.is_empty()).then_some(limits.as_slice()),
        key: None,
        days: Some(body.days.into()),
    };
    let id = tokens::insert_token(&tx, &new).await?;
    let scope = match limits.as_slice() {
        [] => "without limits".to_owned(),
        _ => body.limits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    append(
        &tx,
        actor,
        "token.created",
        None,
        &format!("the token {name} was made ({scope}, {})", count(body.days, "day")),
    )
    .await?;
    tx.commit().await?;
    drop(conn);
    let own = list_tokens(state, actor, "self").await?;
    let info = own.into_iter().find(|info| info.id == id.0);
    let info = info.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the token vanished")))?;
    Ok(MadeToken { token: made.text, info })
}

/// A person's tokens and sessions.
pub async fn list_tokens(state: &State, actor: &Actor, person: &str) -> Result<Vec<TokenInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let person = find_person(&conn, actor, person).await?;
    person.require_own(actor, "tokens")?;
    let mut infos = Vec::new();
    for token in tokens::list_tokens(&conn, person.id).await? {
        let mut info = token.info;
        if let Some(limits) = token.limits {
            let mut words = Vec::new();
            for grant in &limits {
                words.push(describe(&conn, grant).await?);
            }
            info.limits = Some(words);
        }
        infos.push(info);
    }
    Ok(infos)
}

/// Takes a token or a session back; what is held open with it ends.
pub async fn remove_token(state: &State, actor: &Actor, person: &str, id: Uuid) -> Result<Ended, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let person = find_person(&tx, actor, person).await?;
    // A limited token may give itself up.
    let is_itself =
        person.id == actor.person && actor.credential == Credential::Token(magrathea_core::names::TokenId(id));
    if !is_itself {
        person.require_own(actor, "tokens")?;
    }
    let known = tokens::list_tokens(&tx, person.id).await?.into_iter().find(|token| token.info.id == id);
    let known = known.ok_or_else(|| ApiError::new(Code::TokenNotFound, "there is no such token"))?;
    tokens::delete_token(&tx, person.id, id).await?;
    let kind = &known.info.kind;
    let message = format!("the {kind} {} of {} was removed", known.info.name, person.name);
    append(&tx, actor, "token.removed", Some(person.organisation), &message).await?;
    tx.commit().await?;
    drop(conn);
    let mut ended = Ended { doors: state.doors.look(state).await?, ..Ended::default() };
    if kind == "session" {
        ended.sessions = 1
    } else {
        ended.tokens = 1
    }
    Ok(ended)
}
