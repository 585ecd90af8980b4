//! Traffic quotas: the operator sets them, those whom they concern see them.

use magrathea_core::api::{QuotaInfo, SetQuota};
use magrathea_core::names::{AppId, AppName, OrganisationId};
use magrathea_core::people::{Place, Verb};
use magrathea_core::usage::{describe_traffic, parse_traffic, percent_of};

use super::access::{Reach, find_app, require_at};
use super::apps::tell;
use super::members::append;
use super::organisations::find_organisation;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::Client;
use crate::db::quotas::{self, TrafficQuota, Whose};
use crate::engine;
use crate::state::State;

/// Those that somebody may see, with what of them is used.
pub async fn list(state: &State, actor: &Actor) -> Result<Vec<QuotaInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let mut all = quotas::list_traffic_quotas(&conn).await?;
    all.retain(|quota| sees(actor, quota));
    describe(&conn, state, all).await
}

/// Those that apps count for, for somebody who sees these apps. An organisation's shows to those who see no more of it when it
/// holds, as it does to every visitor.
pub async fn list_concerning(
    client: &impl Client,
    state: &State,
    actor: &Actor,
    apps: &[(OrganisationId, AppId)],
) -> Result<Vec<QuotaInfo>, ApiError> {
    let mut all = quotas::list_traffic_quotas(client).await?;
    all.retain(|quota| apps.iter().any(|(organisation, app)| quota.whose.covers(*organisation, *app)));
    let seen: Vec<bool> = all.iter().map(|quota| sees(actor, quota)).collect();
    let described = describe(client, state, all).await?.into_iter().zip(seen);
    Ok(described.filter_map(|(info, seen)| (seen || info.holds().is_some()).then_some(info)).collect())
}

fn sees(actor: &Actor, quota: &TrafficQuota) -> bool {
    let organisation = quota.organisation;
    let place = match quota.whose {
        Whose::App(app) => Place::SomeLabel { organisation, app },
        Whose::Organisation(organisation) => Place::Organisation(organisation),
    };
    actor.may(Verb::Look, place) || actor.may(Verb::Costs, place)
}

async fn describe(client: &impl Client, state: &State, of: Vec<TrafficQuota>) -> Result<Vec<QuotaInfo>, ApiError> {
    let used = engine::traffic_used(client, state, &of).await?;
    let describe = |quota: TrafficQuota| {
        let used = used.get(&quota.id).copied().unwrap_or_default();
        QuotaInfo {
            organisation: quota.organisation_name,
            app: quota.app_name,
            traffic: quota.bytes,
            then: quota.then,
            used,
            percent: percent_of(used, quota.bytes),
            set_by: quota.set_by,
        }
    };
    Ok(of.into_iter().map(describe).collect())
}

/// One that is so already stays as it is.
pub async fn set(state: &State, actor: &Actor, wanted: &SetQuota) -> Result<QuotaInfo, ApiError> {
    let bytes = parse_traffic(&wanted.traffic).map_err(|why| ApiError::new(Code::QuotaInvalid, why))?;
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let named = find(&tx, actor, (wanted.app.as_deref(), wanted.organisation.as_deref())).await?;
    if quotas::set_traffic_quota(&tx, named.whose(), (bytes, wanted.then), &actor.name).await? {
        let then = wanted.then.describe().map(|what| format!(", then {what}")).unwrap_or_default();
        let message = format!("a month may take {} of traffic{then}", describe_traffic(bytes));
        named.tell(&tx, actor, "quota.set", &message).await?;
    }
    tx.commit().await?;
    engine::follow_quotas(state);
    let mut all = quotas::list_traffic_quotas(&conn).await?;
    all.retain(|quota| quota.whose == named.whose());
    let set = describe(&conn, state, all).await?.pop();
    set.ok_or_else(|| ApiError::new(Code::QuotaNotFound, "somebody has taken it away again"))
}

pub async fn remove(state: &State, actor: &Actor, app: Option<&str>, of: Option<&str>) -> Result<(), ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let named = find(&tx, actor, (app, of)).await?;
    if !quotas::remove_traffic_quota(&tx, named.whose()).await? {
        let error = ApiError::new(Code::QuotaNotFound, "it has no traffic quota");
        return Err(error.with_hint("td quota list shows those that are set"));
    }
    named.tell(&tx, actor, "quota.unset", "traffic is not limited any more").await?;
    tx.commit().await?;
    engine::follow_quotas(state);
    Ok(())
}

/// What a quota is of, as it was named.
enum Named {
    App(AppName, AppId),
    Organisation(OrganisationId),
}

impl Named {
    fn whose(&self) -> Whose {
        match self {
            Named::App(_, app) => Whose::App(*app),
            Named::Organisation(organisation) => Whose::Organisation(*organisation),
        }
    }

    async fn tell(&self, client: &impl Client, actor: &Actor, action: &str, message: &str) -> Result<(), ApiError> {
        match self {
            Named::App(name, _) => tell(client, actor, (name, None), action, message).await,
            Named::Organisation(id) => append(client, actor, action, Some(*id), message).await,
        }
    }
}

/// Only who runs the platform may change what others may take.
async fn find(
    client: &impl Client,
    actor: &Actor,
    (app, organisation): (Option<&str>, Option<&str>),
) -> Result<Named, ApiError> {
    require_at(actor, Verb::Administer, Place::Platform, "quotas")?;
    match (app, organisation) {
        (Some(name), None) => {
            let name: AppName = name.parse()?;
            let id = find_app(client, actor, &name, Verb::Look, Reach::Some).await?.id;
            Ok(Named::App(name, id))
        }
        (None, Some(name)) => Ok(Named::Organisation(find_organisation(client, actor, name).await?.id)),
        (_, _) => Err(ApiError::new(Code::QuotaInvalid, "a quota is of one app, or of one organisation")
            .with_hint("name either `app` or `organisation`")),
    }
}
