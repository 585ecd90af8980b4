//! Values of apps.

use magrathea_core::api::ConfigEntry;
use magrathea_core::names::{AppName, LabelName};
use magrathea_core::people::Verb;

use super::access::{Reach, find_app};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::config_values::{self, ValueKey};
use crate::db::timeline::{self, NewEntry};
use crate::db::{Client, Db};
use crate::seal::Seal;

/// Which value, as a person names it.
#[derive(Debug, Clone, Copy)]
pub struct ValueName<'a> {
    pub app: &'a AppName,
    /// None: for all labels.
    pub label: Option<&'a LabelName>,
    pub key: &'a str,
}

impl ValueName<'_> {
    fn reach(&self) -> Reach<'_> {
        self.label.map_or(Reach::Whole, Reach::Label)
    }
}

/// Sets a value.
pub async fn set_value(
    db: &Db,
    seal: &Seal,
    actor: &Actor,
    name: ValueName<'_>,
    value: &str,
) -> Result<ConfigEntry, ApiError> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let app = find_app(&tx, actor, name.app, Verb::Deploy, name.reach()).await?;
    let key = ValueKey { app: app.id, label: name.label, key: name.key };
    let entry = config_values::upsert_value(&tx, seal, actor, key, value).await?;
    append(&tx, actor, name, "config.set", "set").await?;
    tx.commit().await?;
    Ok(entry)
}

/// Forgets a value.
pub async fn unset_value(db: &Db, actor: &Actor, name: ValueName<'_>) -> Result<(), ApiError> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let app = find_app(&tx, actor, name.app, Verb::Deploy, name.reach()).await?;
    let key = ValueKey { app: app.id, label: name.label, key: name.key };
    if !config_values::delete_value(&tx, key).await? {
        return Err(ApiError::new(Code::ConfigNotFound, format!("{} has no such value {}", name.app, name.key)));
    }
    append(&tx, actor, name, "config.unset", "forgotten").await?;
    Ok(tx.commit().await?)
}

async fn append(
    client: &impl Client,
    actor: &Actor,
    name: ValueName<'_>,
    action: &str,
    done: &str,
) -> Result<(), ApiError> {
    let message = format!("the value {} was {done}", name.key);
    let entry = NewEntry {
        actor: Some(actor),
        action,
        app: Some(name.app.as_str()),
        label: name.label.map(LabelName::as_str),
        cluster: None,
        message: &message,
        ..Default::default()
    };
    Ok(timeline::append(client, entry).await?)
}
