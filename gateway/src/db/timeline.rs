//! The timeline: who did what, when, and how it went. Append-only; the database itself refuses a change.

use magrathea_core::api::TimelineEntry;
use magrathea_core::names::AppName;

use super::{Client, DbError};
use crate::actor::{Actor, GATEWAY};

/// A line to append.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewEntry<'a> {
    /// None: the gateway itself.
    pub actor: Option<&'a Actor>,
    /// As in `deploy.succeeded` or `app.created`.
    pub action: &'a str,
    pub app: Option<&'a str>,
    pub label: Option<&'a str>,
    pub cluster: Option<&'a str>,
    pub message: &'a str,
}

pub async fn append(client: &impl Client, entry: NewEntry<'_>) -> Result<(), DbError> {
    let person = entry.actor.map(|actor| actor.person.0);
    let name = entry.actor.map_or(GATEWAY, |actor| actor.name.as_str());
    client
        .execute(
            "INSERT INTO timeline (person, actor, action, app, label, cluster, message)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[&person, &name, &entry.action, &entry.app, &entry.label, &entry.cluster, &entry.message],
        )
        .await?;
    Ok(())
}

/// The last lines, newest first; of one app when given.
pub async fn list(client: &impl Client, app: Option<&AppName>, limit: u16) -> Result<Vec<TimelineEntry>, DbError> {
    let rows = client
        .query(
            "SELECT id, at, actor, action, app, label, cluster, message FROM timeline
             WHERE $1::text IS NULL OR app = $1 ORDER BY id DESC LIMIT $2",
            &[&app.map(AppName::as_str), &i64::from(limit)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(TimelineEntry {
                id: row.try_get(0)?,
                at: row.try_get(1)?,
                actor: row.try_get(2)?,
                action: row.try_get(3)?,
                app: row.try_get(4)?,
                label: row.try_get(5)?,
                cluster: row.try_get(6)?,
                message: row.try_get(7)?,
            })
        })
        .collect()
}
