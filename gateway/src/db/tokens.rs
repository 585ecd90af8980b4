//! Tokens of people: those that they make for programs, and the sessions that `td login` makes. Only hashes are kept.

use magrathea_core::api::TokenInfo;
use magrathea_core::names::{KeyId, PersonId, TokenId};
use magrathea_core::people::Grant;
use uuid::Uuid;

use super::people::SESSION_DAYS;
use super::{Client, DbError};

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Made for a program.
    Token,
    /// Made by a login; lives as long as it is used.
    Session,
}

impl TokenKind {
    fn as_str(self) -> &'static str {
        match self {
            TokenKind::Token => "token",
            TokenKind::Session => "session",
        }
    }
}

/// A token to store.
#[derive(Debug)]
pub struct NewToken<'a> {
    pub person: PersonId,
    pub hash: &'a [u8; 32],
    pub name: &'a str,
    pub kind: TokenKind,
    /// What it is limited to; whatever its person may when absent.
    pub limits: Option<&'a [Grant]>,
    /// The key that began the session: it ends with it.
    pub key: Option<KeyId>,
    /// Days until it expires; never when absent. A session's are counted from its last use.
    pub days: Option<i32>,
}

/// Stores a token's hash.
pub async fn insert_token(client: &impl Client, new: &NewToken<'_>) -> Result<TokenId, DbError> {
    let limits = new.limits.map(serde_json::to_value).transpose().map_err(|e| DbError::value("tokens.limits", e))?;
    let days = if new.kind == TokenKind::Session { Some(SESSION_DAYS) } else { new.days };
    let id = Uuid::now_v7();
    client
        .execute(
            "INSERT INTO tokens (id, hash, person, label, kind, limits, expires, ssh_key)
             VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7), $8)",
            &[
                &id,
                &new.hash.as_slice(),
                &new.person.0,
                &new.name,
                &new.kind.as_str(),
                &limits,
                &days,
                &new.key.map(|key| key.0),
            ],
        )
        .await?;
    Ok(TokenId(id))
}

/// A token as the store has it.
#[derive(Debug)]
pub struct Token {
    pub limits: Option<Vec<Grant>>,
    pub info: TokenInfo,
}

/// A person's tokens and sessions that are good now, the newest first. What they are limited to is told by the caller.
pub async fn list_tokens(client: &impl Client, person: PersonId) -> Result<Vec<Token>, DbError> {
    let rows = client
        .query(
            "SELECT id, label, kind, created, last_used, expires, limits FROM tokens
             WHERE person = $1 AND (expires IS NULL OR expires > now()) ORDER BY created DESC, id",
            &[&person.0],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let limits: Option<serde_json::Value> = row.try_get(6)?;
            let limits = limits.map(serde_json::from_value).transpose();
            Ok(Token {
                limits: limits.map_err(|e| DbError::value("tokens.limits", e))?,
                info: TokenInfo {
                    id: row.try_get(0)?,
                    name: row.try_get(1)?,
                    kind: row.try_get(2)?,
                    limits: None,
                    created: row.try_get(3)?,
                    last_used: row.try_get(4)?,
                    expires: row.try_get(5)?,
                },
            })
        })
        .collect()
}

pub async fn delete_token(client: &impl Client, person: PersonId, id: Uuid) -> Result<bool, DbError> {
    Ok(client.execute("DELETE FROM tokens WHERE person = $1 AND id = $2", &[&person.0, &id]).await? > 0)
}
