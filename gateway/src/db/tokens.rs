//! Tokens of people: those that they make for programs, and the sessions that `td login` makes. Only hashes are kept.

use magrathea_core::names::{PersonId, TokenId};
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
            "INSERT INTO tokens (id, hash, person, label, kind, limits, expires)
             VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))",
            &[&id, &new.hash.as_slice(), &new.person.0, &new.name, &new.kind.as_str(), &limits, &days],
        )
        .await?;
    Ok(TokenId(id))
}
