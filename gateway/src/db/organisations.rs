//! Organisations.

use magrathea_core::names::{OrganisationId, OrganisationName};
use uuid::Uuid;

use super::{Client, DbError, Row};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    pub id: OrganisationId,
    pub name: String,
    pub created: jiff::Timestamp,
}

/// The constraint that a taken name violates.
pub const NAME_TAKEN: &str = "organisations_name_key";

fn organisation(row: &Row) -> Result<Organisation, DbError> {
    Ok(Organisation { id: OrganisationId(row.try_get(0)?), name: row.try_get(1)?, created: row.try_get(2)? })
}

/// Violates [`NAME_TAKEN`] when there is one of this name.
pub async fn insert_organisation(client: &impl Client, name: &OrganisationName) -> Result<Organisation, DbError> {
    let sql = "INSERT INTO organisations (id, name) VALUES ($1, $2) RETURNING id, name, created";
    organisation(&client.query_one(sql, &[&Uuid::now_v7(), &name.as_str()]).await?)
}

pub async fn load_organisation(client: &impl Client, name: &str) -> Result<Option<Organisation>, DbError> {
    let sql = "SELECT id, name, created FROM organisations WHERE name = $1 AND removed IS NULL";
    client.query_opt(sql, &[&name]).await?.as_ref().map(organisation).transpose()
}

pub async fn load_name(client: &impl Client, id: OrganisationId) -> Result<Option<String>, DbError> {
    let row = client.query_opt("SELECT name FROM organisations WHERE id = $1", &[&id.0]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// By name.
pub async fn list_organisations(client: &impl Client) -> Result<Vec<Organisation>, DbError> {
    let sql = "SELECT id, name, created FROM organisations WHERE removed IS NULL ORDER BY name";
    client.query(sql, &[]).await?.iter().map(organisation).collect()
}

/// How much an organisation has: apps, people, teams.
pub async fn count(client: &impl Client, id: OrganisationId) -> Result<(u32, u32, u32), DbError> {
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM apps WHERE organisation = $1 AND destroyed IS NULL),
                 (SELECT count(*) FROM people WHERE organisation = $1 AND removed IS NULL),
                 (SELECT count(*) FROM teams WHERE organisation = $1)",
            &[&id.0],
        )
        .await?;
    let count = |i: usize| Ok::<u32, DbError>(row.try_get::<_, i64>(i)?.try_into().unwrap_or(u32::MAX));
    Ok((count(0)?, count(1)?, count(2)?))
}

/// Frees the name. What the organisation's people did stays on the timeline.
pub async fn remove_organisation(client: &impl Client, id: OrganisationId) -> Result<(), DbError> {
    for sql in [
        "DELETE FROM grants WHERE organisation = $1 OR shared_with = $1
             OR team IN (SELECT id FROM teams WHERE organisation = $1)",
        "DELETE FROM team_members WHERE team IN (SELECT id FROM teams WHERE organisation = $1)",
        "DELETE FROM teams WHERE organisation = $1",
        "DELETE FROM invitations WHERE organisation = $1",
        "DELETE FROM door_lists WHERE organisation = $1",
        "DELETE FROM access_lists WHERE organisation = $1",
        "DELETE FROM certificates WHERE organisation = $1",
        "UPDATE organisations SET removed = now() WHERE id = $1 AND removed IS NULL",
    ] {
        client.execute(sql, &[&id.0]).await?;
    }
    Ok(())
}
