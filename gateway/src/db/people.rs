//! Organisations, people and their tokens.

use magrathea_core::names::PersonId;
use uuid::Uuid;

use super::{Client, DbError};
use crate::actor::Actor;

/// The organisation of those who run the platform.
const OPERATOR: &str = "operator";

/// The first administrator's name.
pub const ADMIN: &str = "admin";

/// Makes the organisation `operator` and its person `admin` unless they exist.
pub async fn ensure_admin(client: &impl Client) -> Result<Actor, DbError> {
    client
        .execute(
            "INSERT INTO organisations (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            &[&Uuid::now_v7(), &OPERATOR],
        )
        .await?;
    let row = client
        .query_one(
            "INSERT INTO people (id, organisation, name) SELECT $1, id, $3 FROM organisations WHERE name = $2
             ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
            &[&Uuid::now_v7(), &OPERATOR, &ADMIN],
        )
        .await?;
    Ok(Actor { person: PersonId(row.try_get(0)?), name: ADMIN.to_owned() })
}

/// Stores a token's hash; the token never expires by itself.
pub async fn insert_token(client: &impl Client, person: PersonId, hash: &[u8; 32], label: &str) -> Result<(), DbError> {
    client
        .execute("INSERT INTO tokens (hash, person, label) VALUES ($1, $2, $3)", &[&hash.as_slice(), &person.0, &label])
        .await?;
    Ok(())
}

/// Whose token this is; none when it is unknown or expired. Notes its use, at most once a minute.
pub async fn load_actor(client: &impl Client, hash: &[u8; 32]) -> Result<Option<Actor>, DbError> {
    let statement = client
        .prepare_cached(
            "WITH used AS (
                 UPDATE tokens SET last_used = now()
                 WHERE hash = $1 AND (last_used IS NULL OR last_used < now() - interval '1 minute'))
             SELECT p.id, p.name FROM tokens t JOIN people p ON p.id = t.person
             WHERE t.hash = $1 AND (t.expires IS NULL OR t.expires > now())",
        )
        .await?;
    let row = client.query_opt(&statement, &[&hash.as_slice()]).await?;
    row.map(|row| Ok(Actor { person: PersonId(row.try_get(0)?), name: row.try_get(1)? })).transpose()
}
