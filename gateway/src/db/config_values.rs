//! Values that people set for their apps, by version: every change raises the app's version, and what a key held at an
//! earlier one stays, sealed, while a release needs it. Only the functions here open them.

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

/// The state of each key and label at a version (`$2`; none: now), of the app `$1`.
const LATEST: &str = "SELECT DISTINCT ON (key, label) key, label, sealed, at FROM config_changes
     WHERE app = $1 AND version <= coalesce($2, version) ORDER BY key, label, version DESC";

/// The names of an app's values, by key and label.
pub async fn list_values(client: &impl Client, app: AppId) -> Result<Vec<ConfigEntry>, DbError> {
    let sql = format!(
        "SELECT key, label, at FROM ({LATEST}) AS latest WHERE sealed IS NOT NULL ORDER BY key, label NULLS FIRST"
    );
    let rows = client.query(&sql, &[&app.0, &None::<i64>]).await?;
    rows.iter()
        .map(|row| Ok(ConfigEntry { key: row.try_get(0)?, label: row.try_get(1)?, updated: row.try_get(2)? }))
        .collect()
}

/// The values that a label sees: its own before the app's. As they were at a version of the app's configuration, or as they
/// are now.
pub async fn load_values(
    client: &impl Client,
    seal: &Seal,
    app: AppId,
    label: &LabelName,
    version: Option<i64>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let sql = format!(
        "SELECT key, label, sealed FROM ({LATEST}) AS latest
         WHERE sealed IS NOT NULL AND (label IS NULL OR label = $3) ORDER BY label NULLS FIRST"
    );
    let statement = client.prepare_cached(&sql).await?;
    let rows = client.query(&statement, &[&app.0, &version, &label.as_str()]).await?;
    rows.iter().map(|row| open(seal, app, row)).collect()
}

/// The values of one label alone, or those for all labels.
pub async fn load_own_values(
    client: &impl Client,
    seal: &Seal,
    app: AppId,
    label: Option<&LabelName>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let label = label.map(LabelName::as_str);
    let sql = format!(
        "SELECT key, label, sealed FROM ({LATEST}) AS latest WHERE sealed IS NOT NULL AND label IS NOT DISTINCT FROM $3"
    );
    let rows = client.query(&sql, &[&app.0, &None::<i64>, &label]).await?;
    rows.iter().map(|row| open(seal, app, row)).collect()
}

/// Everything that a label's values have ever been, as far as it is kept.
pub async fn load_former_values(
    client: &impl Client,
    seal: &Seal,
    app: AppId,
    label: &LabelName,
) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT key, label, sealed FROM config_changes
               WHERE app = $1 AND (label IS NULL OR label = $2) AND sealed IS NOT NULL";
    let rows = client.query(sql, &[&app.0, &label.as_str()]).await?;
    rows.iter().map(|row| Ok(open(seal, app, row)?.1)).collect()
}

/// Forgets values that are neither set now nor were in force when a release was made that can still be brought back. Not
/// while the app is being deployed: the release that will be recorded may hold what has been replaced since.
pub async fn forget_former(client: &impl Client) -> Result<u64, DbError> {
    let sql = "UPDATE config_changes c SET sealed = NULL WHERE sealed IS NOT NULL
               AND EXISTS (SELECT FROM config_changes next WHERE next.app = c.app AND next.key = c.key
                           AND next.label IS NOT DISTINCT FROM c.label AND next.version > c.version)
               AND NOT EXISTS (SELECT FROM deploys d JOIN instances i ON i.id = d.instance
                   WHERE i.app = c.app AND d.status = 'running')
               AND NOT EXISTS (SELECT FROM releases r JOIN instances i ON i.id = r.instance
                   WHERE i.app = c.app AND i.destroyed IS NULL AND r.state IN ('made', 'served')
                   AND r.config_version >= c.version
                   AND NOT EXISTS (SELECT FROM config_changes next WHERE next.app = c.app AND next.key = c.key
                       AND next.label IS NOT DISTINCT FROM c.label
                       AND next.version > c.version AND next.version <= r.config_version))";
    Ok(client.execute(sql, &[]).await?)
}

/// A row of key, label and sealed value.
fn open(seal: &Seal, app: AppId, row: &tokio_postgres::Row) -> anyhow::Result<(String, String)> {
    let (key, label): (String, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
    let value = String::from_utf8(seal.open(&place(app, label, &key), row.try_get(2)?)?)?;
    Ok((key, value))
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
    action: &str,
    sealed: Option<&[u8]>,
) -> Result<jiff::Timestamp, DbError> {
    let version = raise_version(client, key.app).await?;
    let sql = "INSERT INTO config_changes (app, version, label, key, action, person, sealed)
               VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING at";
    let person = actor.person.0;
    let row = client.query_one(sql, &[&key.app.0, &version, &key.label(), &key.key, &action, &person, &sealed]).await?;
    Ok(row.try_get(0)?)
}

/// Sets a value, in a transaction of the caller's.
pub async fn set_value(
    client: &impl Client,
    seal: &Seal,
    actor: &Actor,
    key: ValueKey<'_>,
    value: &str,
) -> anyhow::Result<ConfigEntry> {
    let sealed = seal.seal(&key.place(), value.as_bytes())?;
    let updated = note_change(client, actor, key, "set", Some(&sealed)).await?;
    Ok(ConfigEntry { key: key.key.to_owned(), label: key.label().map(str::to_owned), updated })
}

/// Unsets a value, in a transaction of the caller's; tells whether there was one.
pub async fn unset_value(client: &impl Client, actor: &Actor, key: ValueKey<'_>) -> Result<bool, DbError> {
    // The app's row orders those who change its values.
    client.query_one("SELECT FROM apps WHERE id = $1 FOR UPDATE", &[&key.app.0]).await?;
    let sql = "SELECT sealed IS NOT NULL FROM config_changes
               WHERE app = $1 AND label IS NOT DISTINCT FROM $2 AND key = $3 ORDER BY version DESC LIMIT 1";
    let row = client.query_opt(sql, &[&key.app.0, &key.label(), &key.key]).await?;
    let is_set = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(false);
    if is_set {
        note_change(client, actor, key, "unset", None).await?;
    }
    Ok(is_set)
}

async fn raise_version(client: &impl Client, app: AppId) -> Result<i64, DbError> {
    let sql = "UPDATE apps SET config_version = config_version + 1 WHERE id = $1 RETURNING config_version";
    Ok(client.query_one(sql, &[&app.0]).await?.try_get(0)?)
}
