//! IP access lists, and which of them the gateway's doors use.

use std::collections::BTreeMap;

use magrathea_core::names::OrganisationId;
use uuid::Uuid;

use super::{Client, DbError};

/// From where a door may be used.
#[derive(Debug)]
pub struct DoorList {
    pub door: String,
    /// None: by everybody.
    pub organisation: Option<OrganisationId>,
    pub entries: Vec<String>,
}

pub async fn list_door_lists(client: &impl Client) -> Result<Vec<DoorList>, DbError> {
    let sql = "SELECT door, organisation, entries FROM door_lists ORDER BY door, organisation NULLS FIRST";
    let rows = client.query(sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let organisation: Option<Uuid> = row.try_get(1)?;
            Ok(DoorList {
                door: row.try_get(0)?,
                organisation: organisation.map(OrganisationId),
                entries: row.try_get(2)?,
            })
        })
        .collect()
}

/// The operator's lists and an organisation's own; of two with one name, its own.
pub async fn load_lists(
    client: &impl Client,
    organisation: Option<OrganisationId>,
) -> Result<BTreeMap<String, Vec<String>>, DbError> {
    let rows = client
        .query(
            "SELECT name, entries FROM access_lists WHERE organisation IS NULL OR organisation = $1
             ORDER BY organisation NULLS FIRST",
            &[&organisation.map(|organisation| organisation.0)],
        )
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// A list as the store has it.
#[derive(Debug)]
pub struct List {
    pub organisation: Option<OrganisationId>,
    /// None: the operator's.
    pub organisation_name: Option<String>,
    pub name: String,
    pub entries: Vec<String>,
}

/// All lists, the operator's first.
pub async fn list_lists(client: &impl Client) -> Result<Vec<List>, DbError> {
    let sql = "SELECT l.organisation, o.name, l.name, l.entries FROM access_lists l
               LEFT JOIN organisations o ON o.id = l.organisation ORDER BY o.name NULLS FIRST, l.name";
    let rows = client.query(sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let organisation: Option<Uuid> = row.try_get(0)?;
            Ok(List {
                organisation: organisation.map(OrganisationId),
                organisation_name: row.try_get(1)?,
                name: row.try_get(2)?,
                entries: row.try_get(3)?,
            })
        })
        .collect()
}

pub async fn upsert_list(
    client: &impl Client,
    of: Option<OrganisationId>,
    name: &str,
    entries: &[String],
) -> Result<(), DbError> {
    let sql = "INSERT INTO access_lists (id, organisation, name, entries) VALUES ($1, $2, $3, $4)
               ON CONFLICT ON CONSTRAINT access_lists_key DO UPDATE SET entries = excluded.entries, updated = now()";
    client.execute(sql, &[&Uuid::now_v7(), &of.map(|id| id.0), &name, &entries]).await?;
    Ok(())
}

pub async fn delete_list(client: &impl Client, of: Option<OrganisationId>, name: &str) -> Result<bool, DbError> {
    let sql = "DELETE FROM access_lists WHERE organisation IS NOT DISTINCT FROM $1 AND name = $2";
    Ok(client.execute(sql, &[&of.map(|id| id.0), &name]).await? > 0)
}

/// Sets from where a door may be used; without entries it is open.
pub async fn set_door(
    client: &impl Client,
    door: &str,
    of: Option<OrganisationId>,
    entries: &[String],
) -> Result<(), DbError> {
    let of = of.map(|id| id.0);
    if entries.is_empty() {
        let sql = "DELETE FROM door_lists WHERE door = $1 AND organisation IS NOT DISTINCT FROM $2";
        client.execute(sql, &[&door, &of]).await?;
        return Ok(());
    }
    let sql = "INSERT INTO door_lists (door, organisation, entries) VALUES ($1, $2, $3)
               ON CONFLICT ON CONSTRAINT door_lists_key DO UPDATE SET entries = excluded.entries";
    client.execute(sql, &[&door, &of, &entries]).await?;
    Ok(())
}
