//! Values of apps: changed together, told only to those who operate the app, and delivered by a deploy.

use std::collections::BTreeMap;
use std::sync::Arc;

use magrathea_core::api::{ChangeConfig, ConfigChanged, ConfigEntry, DeployInfo};
use magrathea_core::names::{AppName, LabelName};
use magrathea_core::people::Verb;
use magrathea_core::plan::Spec;
use magrathea_core::units::count;

use super::access::{InstanceName, Reach, find_app, instances_of, require};
use super::apps::tell;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::apps::App;
use crate::db::config_values::{self, ValueKey};
use crate::db::instances::{self, Instance};
use crate::db::{Client, Db, plans, releases};
use crate::engine::{self, Values};
use crate::seal::Seal;
use crate::state::State;

/// The longest value, in bytes, and how many an app has.
const MAX_VALUE: usize = 64 << 10;
const MOST_VALUES: usize = 500;

/// Seconds for which a deploy that follows a change waits for one under way.
const WAIT: u32 = 600;

/// Which value, as a person names it.
#[derive(Debug, Clone, Copy)]
pub struct ValueName<'a> {
    pub app: &'a AppName,
    /// None: for all labels.
    pub label: Option<&'a LabelName>,
    pub key: &'a str,
}

fn reach(label: Option<&LabelName>) -> Reach<'_> {
    label.map_or(Reach::Whole, Reach::Label)
}

/// Whether a text can be a value's key.
pub fn check_key(key: &str) -> Result<(), ApiError> {
    let starts = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let valid =
        starts && key.len() <= 128 && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if valid {
        return Ok(());
    }
    let rule =
        "a key starts with a letter or underscore, has at most 128 letters, digits, underscores, hyphens and dots";
    Err(ApiError::new(Code::NameInvalid, format!("{key:?}: {rule}")))
}

fn check_value(key: &str, value: &str) -> Result<(), ApiError> {
    if value.len() > MAX_VALUE || value.contains('\0') {
        return Err(ApiError::new(
            Code::BodyInvalid,
            format!("{key}: a value has at most 64 KiB and no NUL character"),
        ));
    }
    Ok(())
}

/// Sets a value; the next deploy delivers it.
pub async fn set_value(
    db: &Db,
    seal: &Seal,
    actor: &Actor,
    name: ValueName<'_>,
    value: &str,
) -> Result<ConfigEntry, ApiError> {
    check_key(name.key)?;
    check_value(name.key, value)?;
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let app = find_app(&tx, actor, name.app, Verb::Deploy, reach(name.label)).await?;
    let changes = BTreeMap::from([(name.key.to_owned(), Some(value.to_owned()))]);
    apply(&tx, seal, actor, &app, name.label, &changes).await?;
    let entries = config_values::list_values(&tx, app.id).await?;
    tx.commit().await?;
    let own =
        |entry: &ConfigEntry| entry.key == name.key && entry.label.as_deref() == name.label.map(LabelName::as_str);
    entries.into_iter().find(own).ok_or_else(|| ApiError::internal(anyhow::anyhow!("the value vanished")))
}

/// Forgets a value.
pub async fn unset_value(db: &Db, seal: &Seal, actor: &Actor, name: ValueName<'_>) -> Result<(), ApiError> {
    let mut conn = db.conn().await?;
    let tx = conn.transaction().await?;
    let app = find_app(&tx, actor, name.app, Verb::Deploy, reach(name.label)).await?;
    let changes = BTreeMap::from([(name.key.to_owned(), None)]);
    apply(&tx, seal, actor, &app, name.label, &changes).await?;
    Ok(tx.commit().await?)
}

/// Changes values all at once, and deploys what serves with them unless asked not to.
pub async fn change_values(
    state: &Arc<State>,
    actor: &Actor,
    name: &AppName,
    body: ChangeConfig,
) -> Result<ConfigChanged, ApiError> {
    let label: Option<LabelName> = body.label.as_ref().map(|label| label.parse()).transpose()?;
    for (key, value) in &body.values {
        check_key(key)?;
        check_value(key, value.as_deref().unwrap_or_default())?;
    }
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let app = find_app(&tx, actor, name, Verb::Deploy, reach(label.as_ref())).await?;
    apply(&tx, &state.seal, actor, &app, label.as_ref(), &body.values).await?;
    let count = config_values::list_values(&tx, app.id).await?.len();
    if count > MOST_VALUES {
        return Err(ApiError::new(Code::LimitReached, format!("an app has at most {MOST_VALUES} values")));
    }
    tx.commit().await?;
    let mut users = Vec::new();
    let mut unused: Vec<String> = body.values.keys().cloned().collect();
    for instance in instances::list_app_instances(&conn, app.id).await? {
        if label.as_ref().is_some_and(|label| *label != instance.label) {
            continue;
        }
        let named = named_by(&conn, &instance).await?;
        if body.values.keys().any(|key| named.contains(key)) {
            unused.retain(|key| !named.contains(key));
            users.push(instance);
        }
    }
    drop(conn);
    let mut deploys = Vec::new();
    if body.deploy {
        let keys: Vec<&str> = body.values.keys().map(String::as_str).collect();
        let why = format!("the values of {} changed", keys.join(", "));
        for instance in users {
            require(actor, &app, Verb::Deploy, Reach::Label(&instance.label))?;
            deploys.push(engine::redeploy(state, actor, instance, &why, Values::AsTheyAre, WAIT).await?);
        }
    }
    Ok(ConfigChanged { deploys, unused })
}

/// The values that what an instance serves names in its magrathea.yml.
async fn named_by(client: &impl Client, instance: &Instance) -> Result<Vec<String>, ApiError> {
    let Some(serving) = releases::load_serving(client, instance.id).await? else { return Ok(Vec::new()) };
    let Some(resolved) = releases::load_resolved(client, instance.id, serving.release).await? else {
        return Ok(Vec::new());
    };
    let mut named = resolved.sections.secrets.clone();
    named.extend(resolved.sections.access.basic_auth.clone());
    Ok(named)
}

async fn apply(
    client: &impl Client,
    seal: &Seal,
    actor: &Actor,
    app: &App,
    label: Option<&LabelName>,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<(), ApiError> {
    for (key, value) in changes {
        let place = ValueKey { app: app.id, label, key };
        let done = match value {
            Some(value) => {
                config_values::set_value(client, seal, actor, place, value).await?;
                "set"
            }
            None => {
                if !config_values::unset_value(client, actor, place).await? {
                    let message = format!("{} has no such value {key}", app.name);
                    return Err(ApiError::new(Code::ConfigNotFound, message));
                }
                "unset"
            }
        };
        let message = format!("the value {key} was {done}");
        tell(client, actor, (&app.name, label), &format!("config.{done}"), &message).await?;
    }
    Ok(())
}

/// The values that a label sees, or those for all labels. It takes who may open a shell, which sees them as well, and
/// stands on the timeline.
pub async fn export_values(
    state: &State,
    actor: &Actor,
    name: &AppName,
    label: Option<&LabelName>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let conn = state.db.conn().await?;
    let app = find_app(&conn, actor, name, Verb::Operate, reach(label)).await?;
    let values = config_values::load_own_values(&conn, &state.seal, app.id, label).await?;
    tell(&conn, actor, (&app.name, label), "config.exported", &format!("read: {}", count(values.len(), "value")))
        .await?;
    Ok(values)
}

/// Gives an instance's database account a new password. What runs goes on with the former one until the new release has
/// taken over; both are good in between.
pub async fn rotate_password(
    state: &Arc<State>,
    actor: &Actor,
    named: &InstanceName,
) -> Result<Vec<DeployInfo>, ApiError> {
    let InstanceName { app: name, label, .. } = named;
    let mut conn = state.db.conn().await?;
    let app = find_app(&conn, actor, name, Verb::Operate, Reach::Label(label)).await?;
    let mut with_database = Vec::new();
    for instance in instances_of(&conn, &app, named).await? {
        let serving = releases::load_serving(&conn, instance.id).await?;
        let resolved = match serving {
            Some(serving) => releases::load_resolved(&conn, instance.id, serving.release).await?,
            None => None,
        };
        if resolved.is_some_and(|resolved| resolved.sections.db.mysql.is_some()) {
            with_database.push(instance);
        }
    }
    if with_database.is_empty() {
        return Err(ApiError::new(Code::PlanInvalid, format!("{name} ({label}) serves nothing with a database"))
            .with_hint("`db: {mysql: {}}` in magrathea.yml gives it one"));
    }
    let mut begun = Vec::new();
    for instance in with_database {
        // A deploy under way runs on the password that it began with.
        let hold = engine::alone(state, Some(actor), instance.id).await?;
        check_takes_two(&conn, &instance).await?;
        let tx = conn.transaction().await?;
        engine::rotate_password(&tx, &state.seal, instance.id).await?;
        tell(&tx, actor, (&app.name, Some(label)), "db.rotated", "the database's password is being replaced").await?;
        tx.commit().await?;
        drop(hold);
        let why = "the database's password is replaced";
        begun.push(engine::redeploy(state, actor, instance, why, Values::AsServed, WAIT).await?);
    }
    Ok(begun)
}

/// Accounts that were laid by an earlier version take one password alone.
async fn check_takes_two(client: &impl Client, instance: &Instance) -> Result<(), ApiError> {
    let plan = plans::load_serving_plan(client, instance.id).await?;
    let takes_two = plan.iter().flat_map(|plan| &plan.resources).any(|resource| match &resource.spec {
        Spec::Database(spec) => spec.ensure.names().contains(&magrathea_layers::OLD_PASSWORD),
        _ => false,
    });
    if takes_two {
        return Ok(());
    }
    Err(ApiError::new(Code::PlanInvalid, "its database account was made by an earlier version")
        .with_hint("deploy it once more, then rotate: td app deploy"))
}
