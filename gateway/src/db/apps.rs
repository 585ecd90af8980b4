//! Apps.

use magrathea_core::names::{AppId, AppName, InstanceId, OrganisationId};
use uuid::Uuid;

use super::{Client, DbError, Row};

/// An app that was not destroyed.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    pub id: AppId,
    pub name: AppName,
    pub organisation: String,
    pub organisation_id: OrganisationId,
    /// Rises with every change of one of the app's values.
    pub config_version: i64,
    pub created: jiff::Timestamp,
}

/// The constraint that a taken name violates.
pub const NAME_TAKEN: &str = "apps_name_key";

fn app(row: &Row) -> Result<App, DbError> {
    let name: String = row.try_get(1)?;
    Ok(App {
        id: AppId(row.try_get(0)?),
        name: name.parse().map_err(|e| DbError::value("apps.name", e))?,
        organisation: row.try_get(2)?,
        config_version: row.try_get(3)?,
        created: row.try_get(4)?,
        organisation_id: OrganisationId(row.try_get(5)?),
    })
}

/// Makes an app. Violates [`NAME_TAKEN`] when there is one of this name.
pub async fn insert_app(client: &impl Client, organisation: OrganisationId, name: &AppName) -> Result<App, DbError> {
    let row = client
        .query_one(
            "INSERT INTO apps (id, organisation, name) VALUES ($1, $3, $2)
             RETURNING id, name, (SELECT o.name FROM organisations o WHERE o.id = organisation),
                 config_version, created, organisation",
            &[&Uuid::now_v7(), &name.as_str(), &organisation.0],
        )
        .await?;
    app(&row)
}

pub async fn load_app(client: &impl Client, name: &AppName) -> Result<Option<App>, DbError> {
    let row = client
        .query_opt(
            "SELECT a.id, a.name, o.name, a.config_version, a.created, o.id
             FROM apps a JOIN organisations o ON o.id = a.organisation WHERE a.name = $1 AND a.destroyed IS NULL",
            &[&name.as_str()],
        )
        .await?;
    row.as_ref().map(app).transpose()
}

/// The version of the app's values as they are now.
pub async fn load_config_version(client: &impl Client, id: AppId) -> Result<i64, DbError> {
    let statement = client.prepare_cached("SELECT config_version FROM apps WHERE id = $1").await?;
    client.query_one(&statement, &[&id.0]).await?.try_get(0).map_err(DbError::from)
}

pub async fn load_owner(client: &impl Client, id: AppId) -> Result<Option<OrganisationId>, DbError> {
    let row = client.query_opt("SELECT organisation FROM apps WHERE id = $1 AND destroyed IS NULL", &[&id.0]).await?;
    row.map(|row| Ok(OrganisationId(row.try_get(0)?))).transpose()
}

pub async fn load_name(client: &impl Client, id: AppId) -> Result<Option<String>, DbError> {
    let row = client.query_opt("SELECT name FROM apps WHERE id = $1 AND destroyed IS NULL", &[&id.0]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// The app that an instance belongs to, destroyed or not.
pub async fn load_app_of(client: &impl Client, instance: InstanceId) -> Result<Option<App>, DbError> {
    let row = client
        .query_opt(
            "SELECT a.id, a.name, o.name, a.config_version, a.created, o.id
             FROM instances i JOIN apps a ON a.id = i.app JOIN organisations o ON o.id = a.organisation
             WHERE i.id = $1",
            &[&instance.0],
        )
        .await?;
    row.as_ref().map(app).transpose()
}

/// All apps by name.
pub async fn list_apps(client: &impl Client) -> Result<Vec<App>, DbError> {
    let rows = client
        .query(
            "SELECT a.id, a.name, o.name, a.config_version, a.created, o.id
             FROM apps a JOIN organisations o ON o.id = a.organisation WHERE a.destroyed IS NULL ORDER BY a.name",
            &[],
        )
        .await?;
    rows.iter().map(app).collect()
}

/// Frees the app's name and forgets its values; its history stays. To be called when it has no instance left.
pub async fn destroy_app(client: &impl Client, id: AppId) -> Result<(), DbError> {
    client.execute("UPDATE config_changes SET sealed = NULL WHERE app = $1", &[&id.0]).await?;
    client.execute("DELETE FROM grants WHERE app = $1", &[&id.0]).await?;
    client.execute("UPDATE apps SET destroyed = now() WHERE id = $1 AND destroyed IS NULL", &[&id.0]).await?;
    Ok(())
}
