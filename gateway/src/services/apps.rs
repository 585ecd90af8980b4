//! Apps.

use magrathea_core::names::{AppName, LabelName, OrganisationId};
use magrathea_core::people::{Place, Verb};

use super::access::{no_app, require_at, sees};
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::apps::{self, App};
use crate::db::timeline::{self, NewEntry};
use crate::db::{Client, Db};

/// Refuses those who may not make apps for an organisation.
pub fn check_may_create(actor: &Actor, organisation: OrganisationId) -> Result<(), ApiError> {
    require_at(actor, Verb::Deploy, Place::Organisation(organisation), "new apps of this organisation")
}

/// Makes an app. Names are the gateway's, not an organisation's: they are parts of host names.
pub async fn create_app(db: &Db, actor: &Actor, organisation: OrganisationId, name: &AppName) -> Result<App, ApiError> {
    check_may_create(actor, organisation)?;
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let app = match apps::insert_app(&tx, organisation, name).await {
        Ok(app) => app,
        Err(error) if error.violates(apps::NAME_TAKEN) => {
            return Err(ApiError::new(Code::NameTaken, format!("the name {name} is taken; choose another")));
        }
        Err(error) => return Err(error.into()),
    };
    let message = format!("app {name} was created");
    tell(&tx, actor, (name, None), "app.created", &message).await?;
    tx.commit().await?;
    Ok(app)
}

/// Makes an app in the actor's organisation, or finds the one that somebody else was faster to make.
pub async fn ensure_app(db: &Db, actor: &Actor, name: &AppName) -> Result<App, ApiError> {
    match create_app(db, actor, actor.organisation, name).await {
        Err(error) if error.code == Code::NameTaken => {
            let app = apps::load_app(&db.conn().await?, name).await?.ok_or_else(|| no_app(name))?;
            if sees(actor, &app) { Ok(app) } else { Err(error) }
        }
        other => other,
    }
}

/// Appends a line about an app, or one of its labels.
pub async fn tell(
    client: &impl Client,
    actor: &Actor,
    (app, label): (&AppName, Option<&LabelName>),
    action: &str,
    message: &str,
) -> Result<(), ApiError> {
    let entry = NewEntry {
        actor: Some(actor),
        action,
        app: Some(app.as_str()),
        label: label.map(LabelName::as_str),
        message,
        ..NewEntry::default()
    };
    Ok(timeline::append(client, entry).await?)
}
