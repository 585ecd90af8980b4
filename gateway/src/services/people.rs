//! Who somebody is.

use std::net::IpAddr;

use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::api::token;
use crate::db::people;
use crate::services::lists::{self, DoorName};
use crate::state::State;

/// Whose token this is, when it is valid and may be used from there.
pub async fn actor_of_token(state: &State, text: &str, from: IpAddr) -> Result<Option<Actor>, ApiError> {
    let actor = people::load_actor(&state.db.conn().await?, &token::hash(text)).await?;
    admitted(state, DoorName::Api, actor, from).await
}

/// Whose SSH key this is, when it may be used from there. The key in the OpenSSH form; a comment is ignored.
pub async fn actor_of_key(state: &State, public_key: &str, from: IpAddr) -> Result<Option<Actor>, ApiError> {
    let words: Vec<&str> = public_key.split_whitespace().take(2).collect();
    let actor = people::load_actor_of_key(&state.db.conn().await?, &words.join(" ")).await?;
    admitted(state, DoorName::Ssh, actor, from).await
}

/// Somebody who is known is told that the address is the reason.
async fn admitted(
    state: &State,
    door: DoorName,
    actor: Option<Actor>,
    from: IpAddr,
) -> Result<Option<Actor>, ApiError> {
    let Some(actor) = actor else { return Ok(None) };
    if !lists::admit(state, door, from, Some(actor.organisation)).await? {
        let message = format!("this may not be used from {}", from.to_canonical());
        return Err(ApiError::new(Code::Forbidden, message)
            .with_hint("an administrator can change from where with `td access door`"));
    }
    Ok(Some(actor.at(from)))
}
