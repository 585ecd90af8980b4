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
