//! Values that people set for their apps. They are sealed, and only [`load_values`] ever opens them.

use std::collections::BTreeMap;

use magrathea_core::api::{ConfigChange, ConfigEntry};
use magrathea_core::names::{AppId, LabelName};

use super::{Client, DbError};
use crate::actor::Actor;
use crate::seal::Seal;

/// Which value: of one label, or of all of the app's.
#[derive(Debug, Clone, Copy)]
pub struct ValueKey<'a> {
    pub app: AppId,
    pub label: Option<&'a LabelName>,
    pub key: &'a str,
}

impl ValueKey<'_> {
    fn label(&self) -> Option<&str> {
        self.label.map(LabelName::as_str)
    }

    fn place(&self) -> String {
        place(self.app, self.label(), self.key)
    }
}

/// A label is never empty, so the two forms cannot be mistaken for each other.
fn place(app: AppId, label: Option<&str>, key: &str) -> String {
    format!("config/{app}/{}/{key}", label.unwrap_or_default())
}

/// The names of an app's values, by key and label.
pub async fn list_values(client: &impl Client, app: AppId) -> Result<Vec<ConfigEntry>, DbError> {
    let rows = client
        .query(
            "SELECT key, label, updated FROM config_values WHERE app = $1 ORDER BY key, label NULLS FIRST",
            &[&app.0],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(ConfigEntry { key: row.try_get(0)?, label: row.try_get(1)?, updated: row.try_get(2)? }))
        .collect()
}

/// The values that a label sees: its own before the app's.
pub async fn load_values(
    client: &impl Client,
    seal: &Seal,
    app: AppId,
    label: &LabelName,
) -> anyhow::Result<BTreeMap<String, String>> {
    let rows = client
        .query(
            "SELECT key, label, sealed FROM config_values WHERE app = $1 AND (label IS NULL OR label = $2)
             ORDER BY label NULLS FIRST",
            &[&app.0, &label.as_str()],
        )
        .await?;
    let mut values = BTreeMap::new();
    for row in &rows {
        let (key, label): (String, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
        let value = String::from_utf8(seal.open(&place(app, label, &key), row.try_get(2)?)?)?;
        values.insert(key, value);
    }
    Ok(values)
}

/// The values of one label alone, or those for all labels.
pub async fn load_own_values(
    client: &impl Client,
    seal: &Seal,
    app: AppId,
    label: Option<&LabelName>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let label = label.map(LabelName::as_str);
    let sql = "SELECT key, sealed FROM config_values WHERE app = $1 AND label IS NOT DISTINCT FROM $2";
    let rows = client.query(sql, &[&app.0, &label]).await?;
    rows.iter()
        .map(|row| {
            let key: String = row.try_get(0)?;
            let value = String::from_utf8(seal.open(&place(app, label, &key), row.try_get(1)?)?)?;
            Ok((key, value))
        })
        .collect()
}

/// What was changed of an app's values, the newest first.
pub async fn list_changes(client: &impl Client, app: AppId, limit: u16) -> Result<Vec<ConfigChange>, DbError> {
    let rows = client
        .query(
            "SELECT c.version, c.key, c.label, c.action, p.name, c.at FROM config_changes c
             JOIN people p ON p.id = c.person WHERE c.app = $1 ORDER BY c.version DESC LIMIT $2",
            &[&app.0, &i64::from(limit)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(ConfigChange {
                version: row.try_get(0)?,
                key: row.try_get(1)?,
                label: row.try_get(2)?,
                action: row.try_get(3)?,
                person: row.try_get(4)?,
                at: row.try_get(5)?,
            })
        })
        .collect()
}

async fn note_change(
    client: &impl Client,
    actor: &Actor,
    key: ValueKey<'_>,
    version: i64,
    action: &str,
) -> Result<(), DbError> {
    let sql = "INSERT INTO config_changes (app, version, label, key, action, person) VALUES ($1, $2, $3, $4, $5, $6)";
    client.execute(sql, &[&key.app.0, &version, &key.label(), &key.key, &action, &actor.person.0]).await?;
    Ok(())
}

/// Sets a value, in a transaction of the caller's.
pub async fn upsert_value(
    client: &impl Client,
    seal: &Seal,
    actor: &Actor,
    key: ValueKey<'_>,
    value: &str,
) -> anyhow::Result<ConfigEntry> {
    let sealed = seal.seal(&key.place(), value.as_bytes())?;
    let version = raise_version(client, key.app).await?;
    note_change(client, actor, key, version, "set").await?;
    let row = client
        .query_one(
            "INSERT INTO config_values (app, label, key, sealed, version, person) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT ON CONSTRAINT config_values_key DO UPDATE
             SET sealed = excluded.sealed, version = excluded.version, person = excluded.person, updated = now()
             RETURNING key, label, updated",
            &[&key.app.0, &key.label(), &key.key, &sealed, &version, &actor.person.0],
        )
        .await?;
    Ok(ConfigEntry { key: row.try_get(0)?, label: row.try_get(1)?, updated: row.try_get(2)? })
}

/// Deletes a value, in a transaction of the caller's; tells whether there was one.
pub async fn delete_value(client: &impl Client, actor: &Actor, key: ValueKey<'_>) -> Result<bool, DbError> {
    let deleted = client
        .execute(
            "DELETE FROM config_values WHERE app = $1 AND label IS NOT DISTINCT FROM $2 AND key = $3",
            &[&key.app.0, &key.label(), &key.key],
        )
        .await?;
    if deleted > 0 {
        let version = raise_version(client, key.app).await?;
        note_change(client, actor, key, version, "unset").await?;
    }
    Ok(deleted > 0)
}

async fn raise_version(client: &impl Client, app: AppId) -> Result<i64, DbError> {
    let sql = "UPDATE apps SET config_version = config_version + 1 WHERE id = $1 RETURNING config_version";
    Ok(client.query_one(sql, &[&app.0]).await?.try_get(0)?)
}
