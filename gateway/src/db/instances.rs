//! Instances: an app's label on a cluster, and the secrets that the platform makes for one.

use std::collections::BTreeMap;

use anyhow::Context;
use magrathea_core::names::{AppId, AppName, ClusterName, InstanceId, LabelName, OrganisationId};
use magrathea_core::people::Place;
use uuid::Uuid;

use super::{Client, DbError, Row};
use crate::seal::Seal;

/// An instance that was not destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    pub app: AppId,
    pub app_name: AppName,
    pub organisation: OrganisationId,
    pub label: LabelName,
    pub cluster: ClusterName,
    /// Its own user and group id on every node.
    pub uid: u32,
    pub created: jiff::Timestamp,
    /// Since when the newest magrathea.yml that was deployed has not had its label.
    pub absent_since: Option<jiff::Timestamp>,
}

const SELECT: &str = "SELECT i.id, i.app, a.name, i.label, i.cluster, i.uid, i.created, a.organisation, i.absent_since
     FROM instances i JOIN apps a ON a.id = i.app WHERE i.destroyed IS NULL";

fn instance(row: &Row) -> Result<Instance, DbError> {
    let (name, label, cluster): (String, String, String) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
    Ok(Instance {
        id: InstanceId(row.try_get(0)?),
        app: AppId(row.try_get(1)?),
        app_name: name.parse().map_err(|e| DbError::value("apps.name", e))?,
        label: label.parse().map_err(|e| DbError::value("instances.label", e))?,
        cluster: cluster.parse().map_err(|e| DbError::value("instances.cluster", e))?,
        uid: row.try_get::<_, i32>(5)?.try_into().map_err(|e| DbError::value("instances.uid", e))?,
        created: row.try_get(6)?,
        organisation: OrganisationId(row.try_get(7)?),
        absent_since: row.try_get(8)?,
    })
}

impl Instance {
    /// What acts on it are about.
    pub fn place(&self) -> Place<'_> {
        Place::Label { organisation: self.organisation, app: self.app, label: &self.label }
    }
}

/// The instance of an app's label on a cluster; makes it, with a user id of its own, when there is none.
pub async fn ensure_instance(
    client: &impl Client,
    app: AppId,
    label: &LabelName,
    cluster: &ClusterName,
) -> Result<Instance, DbError> {
    client
        .execute(
            "INSERT INTO instances (id, app, label, cluster) SELECT $1, $2, $3, $4
             WHERE NOT EXISTS (SELECT FROM instances WHERE app = $2 AND label = $3 AND cluster = $4
                 AND destroyed IS NULL)
             ON CONFLICT (app, label, cluster) WHERE destroyed IS NULL DO NOTHING",
            &[&Uuid::now_v7(), &app.0, &label.as_str(), &cluster.as_str()],
        )
        .await?;
    let sql = format!("{SELECT} AND i.app = $1 AND i.label = $2 AND i.cluster = $3");
    instance(&client.query_one(&sql, &[&app.0, &label.as_str(), &cluster.as_str()]).await?)
}

pub async fn load_instance(client: &impl Client, id: InstanceId) -> Result<Option<Instance>, DbError> {
    let row = client.query_opt(&format!("{SELECT} AND i.id = $1"), &[&id.0]).await?;
    row.as_ref().map(instance).transpose()
}

/// The instance whose resources bear a slug.
pub async fn load_instance_by_slug(client: &impl Client, slug: &str) -> Result<Option<Instance>, DbError> {
    let sql = format!("{SELECT} AND 'i' || right(replace(i.id::text, '-', ''), 12) = $1");
    client.query_opt(&sql, &[&slug]).await?.as_ref().map(instance).transpose()
}

/// Of all apps, by app, label and cluster.
pub async fn list_instances(client: &impl Client) -> Result<Vec<Instance>, DbError> {
    let rows = client.query(&format!("{SELECT} ORDER BY a.name, i.label, i.cluster"), &[]).await?;
    rows.iter().map(instance).collect()
}

/// Of one app, by label and cluster.
pub async fn list_app_instances(client: &impl Client, app: AppId) -> Result<Vec<Instance>, DbError> {
    let rows = client.query(&format!("{SELECT} AND i.app = $1 ORDER BY i.label, i.cluster"), &[&app.0]).await?;
    rows.iter().map(instance).collect()
}

/// Notes which instances of an app are where its magrathea.yml puts none, which gives each label with its clusters; without
/// one it stands for all. Previews are of other branches' files.
pub async fn mark_absent(client: &impl Client, app: AppId, places: &[(&str, Option<&str>)]) -> Result<(), DbError> {
    let (labels, clusters): (Vec<&str>, Vec<Option<&str>>) = places.iter().copied().unzip();
    let sql = "WITH told AS (
                   SELECT i.id, EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS place (label, cluster)
                       WHERE place.label = i.label AND (place.cluster IS NULL OR place.cluster = i.cluster)) AS present
                   FROM instances i WHERE i.app = $1 AND i.destroyed IS NULL
                       AND NOT EXISTS (SELECT FROM previews p WHERE p.instance = i.id))
               UPDATE instances i SET absent_since = CASE WHEN told.present THEN NULL ELSE now() END
               FROM told WHERE told.id = i.id AND told.present = (i.absent_since IS NOT NULL)";
    client.execute(sql, &[&app.0, &labels, &clusters]).await?;
    Ok(())
}

/// How many instances each cluster has; clusters without any are absent.
pub async fn count_instances(client: &impl Client) -> Result<BTreeMap<String, u32>, DbError> {
    let rows =
        client.query("SELECT cluster, count(*) FROM instances WHERE destroyed IS NULL GROUP BY cluster", &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, u32::try_from(row.try_get::<_, i64>(1)?).unwrap_or(u32::MAX)))).collect()
}

/// Marks an instance as destroyed and forgets its secrets. Its id and user id are never used again.
pub async fn destroy_instance(client: &impl Client, id: InstanceId) -> Result<(), DbError> {
    client.execute("DELETE FROM instance_secrets WHERE instance = $1", &[&id.0]).await?;
    client.execute("DELETE FROM previews WHERE instance = $1", &[&id.0]).await?;
    client.execute("UPDATE instances SET destroyed = now() WHERE id = $1 AND destroyed IS NULL", &[&id.0]).await?;
    Ok(())
}

fn place(id: InstanceId, key: &str) -> String {
    format!("instance/{id}/{key}")
}

/// The secret that the platform keeps for an instance under a key; `make` gives its value when there is none yet.
pub async fn ensure_secret(
    client: &impl Client,
    seal: &Seal,
    id: InstanceId,
    key: &str,
    make: impl FnOnce() -> String + Send,
) -> anyhow::Result<String> {
    update_secret(client, seal, id, key, |old| Ok(old.is_none().then(make))).await
}

/// The value of a secret, when there is one.
pub async fn load_secret(
    client: &impl Client,
    seal: &Seal,
    id: InstanceId,
    key: &str,
) -> anyhow::Result<Option<String>> {
    let select = "SELECT sealed FROM instance_secrets WHERE instance = $1 AND key = $2";
    let Some(row) = client.query_opt(select, &[&id.0, &key]).await? else { return Ok(None) };
    Ok(Some(String::from_utf8(seal.open(&place(id, key), row.try_get(0)?)?)?))
}

/// Replaces a secret and keeps what it was under another key, in a transaction of the caller's. One whose former value
/// is still kept is left as it is: its replacement is not through yet.
pub async fn rotate_secret(
    client: &impl Client,
    seal: &Seal,
    id: InstanceId,
    (key, old_key): (&str, &str),
    new: &str,
) -> anyhow::Result<()> {
    let Some(old) = load_secret(client, seal, id, key).await? else { return Ok(()) };
    let sealed = seal.seal(&place(id, old_key), old.as_bytes())?;
    let insert = "INSERT INTO instance_secrets (instance, key, sealed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    if client.execute(insert, &[&id.0, &old_key, &sealed]).await? > 0 {
        let sealed = seal.seal(&place(id, key), new.as_bytes())?;
        let update = "UPDATE instance_secrets SET sealed = $3 WHERE instance = $1 AND key = $2";
        client.execute(update, &[&id.0, &key, &sealed]).await?;
    }
    Ok(())
}

pub async fn delete_secret(client: &impl Client, id: InstanceId, key: &str) -> Result<(), DbError> {
    client.execute("DELETE FROM instance_secrets WHERE instance = $1 AND key = $2", &[&id.0, &key]).await?;
    Ok(())
}

/// As [`ensure_secret`]; `next` sees the value that there is and may give another in its place. Of several who replace
/// the same value the first wins, and all get its.
pub async fn update_secret(
    client: &impl Client,
    seal: &Seal,
    id: InstanceId,
    key: &str,
    next: impl FnOnce(Option<&str>) -> anyhow::Result<Option<String>> + Send,
) -> anyhow::Result<String> {
    let place = place(id, key);
    let select = "SELECT sealed FROM instance_secrets WHERE instance = $1 AND key = $2";
    let row = client.query_opt(select, &[&id.0, &key]).await?;
    let sealed: Option<Vec<u8>> = row.map(|row| row.try_get(0)).transpose()?;
    let old = sealed.as_ref().map(|sealed| anyhow::Ok(String::from_utf8(seal.open(&place, sealed)?)?)).transpose()?;
    if let Some(new) = next(old.as_deref())? {
        let new = seal.seal(&place, new.as_bytes())?;
        client
            .execute(
                "INSERT INTO instance_secrets (instance, key, sealed) VALUES ($1, $2, $3)
                 ON CONFLICT (instance, key) DO UPDATE SET sealed = excluded.sealed
                 WHERE instance_secrets.sealed = $4",
                &[&id.0, &key, &new, &sealed],
            )
            .await?;
        let row = client.query_one(select, &[&id.0, &key]).await?;
        return Ok(String::from_utf8(seal.open(&place, row.try_get(0)?)?)?);
    }
    old.context("the secret has no value")
}

/// All secrets that the platform keeps for an instance, for who must hide them.
pub async fn list_secrets(client: &impl Client, seal: &Seal, id: InstanceId) -> anyhow::Result<Vec<String>> {
    let rows = client.query("SELECT key, sealed FROM instance_secrets WHERE instance = $1", &[&id.0]).await?;
    let open = |row: &Row| {
        let (key, sealed): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(String::from_utf8(seal.open(&place(id, &key), &sealed)?)?)
    };
    rows.iter().map(open).collect()
}
