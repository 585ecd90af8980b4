//! Apps.

use magrathea_core::names::AppName;

use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::apps::{self, App};
use crate::db::timeline::{self, NewEntry};
use crate::db::{Client, Db};

/// The app, or the error that there is none.
pub async fn find_app(client: &impl Client, name: &AppName) -> Result<App, ApiError> {
    apps::load_app(client, name).await?.ok_or_else(|| {
        ApiError::new(Code::AppNotFound, format!("there is no app {name}"))
            .with_hint(format!("td app create {name} makes it, td app list lists all"))
    })
}

/// Makes an app in the actor's organisation.
pub async fn create_app(db: &Db, actor: &Actor, name: &AppName) -> Result<App, ApiError> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let app = match apps::insert_app(&tx, actor, name).await {
        Ok(app) => app,
        Err(error) if error.violates(apps::NAME_TAKEN) => {
            return Err(ApiError::new(Code::NameTaken, format!("there is an app {name} already")));
        }
        Err(error) => return Err(error.into()),
    };
    let message = format!("app {name} was created");
    let (actor, app_name) = (Some(actor), Some(name.as_str()));
    let entry = NewEntry { actor, action: "app.created", app: app_name, message: &message, ..NewEntry::default() };
    timeline::append(&tx, entry).await?;
    tx.commit().await?;
    Ok(app)
}
