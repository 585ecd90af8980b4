//! SSH keys of people, and what was signed with them to log in.

use magrathea_core::api::KeyInfo;
use magrathea_core::names::PersonId;
use uuid::Uuid;

use super::{Client, DbError, Row};
use crate::services::keys::PublicKey;

/// The constraint that a key violates which somebody has.
pub const KEY_TAKEN: &str = "ssh_keys_fingerprint_key";

fn key(row: &Row) -> Result<KeyInfo, DbError> {
    Ok(KeyInfo {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        algorithm: row.try_get(2)?,
        fingerprint: row.try_get(3)?,
        created: row.try_get(4)?,
        last_used: row.try_get(5)?,
    })
}

/// Violates [`KEY_TAKEN`] when somebody has it: a key is one person's.
pub async fn insert_key(
    client: &impl Client,
    person: PersonId,
    public: &PublicKey,
    name: &str,
) -> Result<KeyInfo, DbError> {
    let row = client
        .query_one(
            "INSERT INTO ssh_keys (id, person, name, algorithm, fingerprint, public) VALUES ($1, $2, $3, $4, $5, $6)
             RETURNING id, name, algorithm, fingerprint, created, last_used",
            &[&Uuid::now_v7(), &person.0, &name, &public.algorithm, &public.fingerprint, &public.text],
        )
        .await?;
    key(&row)
}

/// A person's keys, the oldest first.
pub async fn list_keys(client: &impl Client, person: PersonId) -> Result<Vec<KeyInfo>, DbError> {
    let sql = "SELECT id, name, algorithm, fingerprint, created, last_used FROM ssh_keys WHERE person = $1
               ORDER BY created, id";
    client.query(sql, &[&person.0]).await?.iter().map(key).collect()
}

/// With the sessions that it began; tells how many those were.
pub async fn delete_key(client: &impl Client, person: PersonId, id: Uuid) -> Result<u64, DbError> {
    let sessions = client.execute("DELETE FROM tokens WHERE person = $1 AND ssh_key = $2", &[&person.0, &id]).await?;
    client.execute("DELETE FROM ssh_keys WHERE person = $1 AND id = $2", &[&person.0, &id]).await?;
    Ok(sessions)
}

/// The first of some keys that somebody has.
pub async fn find_known(client: &impl Client, fingerprints: &[String]) -> Result<Option<String>, DbError> {
    let sql = "SELECT k.fingerprint FROM ssh_keys k JOIN people p ON p.id = k.person
               WHERE k.fingerprint = ANY($1) AND p.removed IS NULL ORDER BY array_position($1, k.fingerprint) LIMIT 1";
    client.query_opt(sql, &[&fingerprints]).await?.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Uses up a challenge; false when it was used before. Old ones are forgotten.
pub async fn use_challenge(client: &impl Client, hash: &[u8; 32]) -> Result<bool, DbError> {
    client.execute("DELETE FROM used_challenges WHERE used < now() - interval '1 hour'", &[]).await?;
    let sql = "INSERT INTO used_challenges (hash) VALUES ($1) ON CONFLICT DO NOTHING";
    Ok(client.execute(sql, &[&hash.as_slice()]).await? > 0)
}
