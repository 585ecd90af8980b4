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

/// By name.
pub async fn list_organisations(client: &impl Client) -> Result<Vec<Organisation>, DbError> {
    let sql = "SELECT id, name, created FROM organisations WHERE removed IS NULL ORDER BY name";
    client.query(sql, &[]).await?.iter().map(organisation).collect()
}
