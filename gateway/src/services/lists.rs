//! IP access lists: kept once, used by the gateway's own doors and by apps' routing. What the doors compare with is held in
//! memory and loaded again when something changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use magrathea_core::access::AccessList;
use magrathea_core::api::{DoorInfo, Ended, ListInfo, SetDoor, SetList};
use magrathea_core::names::{ListName, OrganisationId};
use magrathea_core::people::{Place, Verb};
use magrathea_core::units::count;

use super::access::require_at;
use super::members::append;
use super::organisations::find_organisation;
use crate::actor::Actor;
use crate::api::error::{ApiError, Code};
use crate::db::{Client, DbError, lists as rows, organisations};
use crate::engine;
use crate::state::State;

/// Entries that a list may have.
const MOST_ENTRIES: usize = 10_000;

/// A door of the gateway's that lists are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoorName {
    Api,
    Ssh,
}

impl DoorName {
    pub fn as_str(self) -> &'static str {
        match self {
            DoorName::Api => "api",
            DoorName::Ssh => "ssh",
        }
    }
}

/// From where each door may be used; a door without an entry is open.
#[derive(Debug, Default)]
pub struct DoorLists(RwLock<Option<Arc<Admitted>>>);

type Admitted = BTreeMap<(String, Option<OrganisationId>), Vec<IpNet>>;

/// Whether a door may be used from an address: by anybody, and by an organisation's people when one is given.
pub async fn admit(
    state: &State,
    door: DoorName,
    from: IpAddr,
    organisation: Option<OrganisationId>,
) -> Result<bool, ApiError> {
    let admitted = {
        let known = state.door_lists.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(known) => known,
            None => changed(state).await?,
        }
    };
    Ok(passes(&admitted, door, from, None) && (organisation.is_none() || passes(&admitted, door, from, organisation)))
}

fn passes(admitted: &Admitted, door: DoorName, from: IpAddr, of: Option<OrganisationId>) -> bool {
    let from = from.to_canonical();
    let networks = admitted.get(&(door.as_str().to_owned(), of));
    networks.is_none_or(|networks| networks.iter().any(|network| network.contains(&from)))
}

/// Whether SSH may be used from an address. When that cannot be known, it may not.
pub async fn admit_ssh(state: &State, from: IpAddr, organisation: Option<OrganisationId>) -> bool {
    admit(state, DoorName::Ssh, from, organisation).await.unwrap_or(false)
}

/// Loads the doors' lists again.
pub async fn changed(state: &State) -> Result<Arc<Admitted>, ApiError> {
    let admitted = Arc::new(load(state, &state.db.conn().await?).await?);
    *state.door_lists.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&admitted));
    Ok(admitted)
}

async fn load(state: &State, client: &impl Client) -> Result<Admitted, ApiError> {
    let mut admitted = Admitted::new();
    for row in rows::list_door_lists(client).await? {
        let lists = named_in(state, client, row.organisation).await?;
        // A list that is gone admits nobody; those who are left out hear of it, those who should be out stay out.
        let networks = AccessList::resolve(&row.entries, &lists).unwrap_or_else(|error| {
            tracing::error!(door = row.door, %error, "a door's list cannot be used: nobody is let in");
            Vec::new()
        });
        admitted.insert((row.door, row.organisation), networks);
    }
    Ok(admitted)
}

/// The lists that an organisation may use, by name: its own, the operator's, and those of clusters.yml. The nearer wins.
pub async fn named(
    state: &State,
    organisation: Option<OrganisationId>,
) -> Result<BTreeMap<String, Vec<String>>, DbError> {
    named_in(state, &state.db.conn().await?, organisation).await
}

async fn named_in(
    state: &State,
    client: &impl Client,
    organisation: Option<OrganisationId>,
) -> Result<BTreeMap<String, Vec<String>>, DbError> {
    let mut lists = state.clusters().access_lists.clone();
    lists.extend(rows::load_lists(client, organisation).await?);
    Ok(lists)
}

fn entries_checked(entries: &[String], lists: &BTreeMap<String, Vec<String>>) -> Result<Vec<IpNet>, ApiError> {
    if entries.len() > MOST_ENTRIES {
        return Err(ApiError::new(Code::ListInvalid, format!("a list has at most {MOST_ENTRIES} entries")));
    }
    AccessList::resolve(entries, lists).map_err(|error| {
        let mut api = ApiError::new(Code::ListInvalid, error.to_string());
        api.hint = error.hint();
        api
    })
}

/// Whose list or door it is: an organisation's own people's, or the operator's.
async fn owner(
    client: &impl Client,
    actor: &Actor,
    organisation: Option<&str>,
    verb: Verb,
) -> Result<Option<OrganisationId>, ApiError> {
    let Some(name) = organisation else {
        require_at(actor, verb, Place::Platform, "the operator's lists")?;
        return Ok(None);
    };
    let found = find_organisation(client, actor, name).await?;
    require_at(actor, verb, Place::Organisation(found.id), "the lists of this organisation")?;
    Ok(Some(found.id))
}

/// The lists that one may use.
pub async fn list_lists(state: &State, actor: &Actor) -> Result<Vec<ListInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let doors = rows::list_door_lists(&conn).await?;
    let uses = engine::list_uses(&conn).await?;
    let used_by = |of: Option<OrganisationId>, name: &str| {
        let by_doors = doors.iter().filter(|door| of.is_none() || door.organisation == of);
        let by_doors = by_doors.filter(|door| door.entries.iter().any(|entry| entry == name));
        let mut used: Vec<String> = by_doors.map(|door| format!("the door {}", door.door)).collect();
        let visible = uses.iter().filter(|usage| actor.may(Verb::Look, usage.instance.place()));
        let by_apps = visible.filter(|usage| of.is_none_or(|of| of == usage.instance.organisation));
        let by_apps = by_apps.filter(|usage| usage.lists.contains(name));
        used.extend(by_apps.map(|usage| format!("{} ({})", usage.instance.app_name, usage.instance.label)));
        used
    };
    let mut infos: Vec<ListInfo> = Vec::new();
    for (name, entries) in &state.clusters().access_lists {
        infos.push(ListInfo {
            name: name.clone(),
            organisation: None,
            entries: entries.clone(),
            kept: "clusters.yml".to_owned(),
            used_by: used_by(None, name),
        });
    }
    for list in rows::list_lists(&conn).await? {
        let visible = list.organisation.is_none_or(|of| actor.may(Verb::Look, Place::Organisation(of)));
        if visible {
            infos.push(ListInfo {
                used_by: used_by(list.organisation, &list.name),
                name: list.name,
                organisation: list.organisation_name,
                entries: list.entries,
                kept: "gateway".to_owned(),
            });
        }
    }
    Ok(infos)
}

/// Makes a list, or replaces its entries; whatever uses it follows at once.
pub async fn set_list(
    state: &Arc<State>,
    actor: &Actor,
    name: &str,
    body: &SetList,
    force: bool,
) -> Result<ListInfo, ApiError> {
    let name: ListName = name.parse()?;
    if state.clusters().access_lists.contains_key(name.as_str()) {
        return Err(ApiError::new(Code::NameTaken, format!("clusters.yml has a list {name}"))
            .with_hint("edit it there; it is read again at once"));
    }
    entries_checked(&body.entries, &BTreeMap::new())?;
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let of = owner(&tx, actor, body.organisation.as_deref(), Verb::Administer).await?;
    rows::upsert_list(&tx, of, name.as_str(), &body.entries).await?;
    if !force {
        check_not_locked_out(state, &tx, actor).await?;
    }
    let message = format!("the access list {name} is now {}", shown(&body.entries));
    append(&tx, actor, "list.set", of, &message).await?;
    tx.commit().await?;
    drop(conn);
    follow(state).await?;
    let listed = list_lists(state, actor).await?;
    let found = listed.into_iter().find(|info| info.name == name.as_str() && info.organisation == body.organisation);
    found.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the list vanished")))
}

fn shown(entries: &[String]) -> String {
    match entries {
        [] => "empty".to_owned(),
        many if many.len() > 10 => count(many.len(), "entry"),
        few => few.join(", "),
    }
}

/// Forgets a list that nothing uses.
pub async fn remove_list(
    state: &Arc<State>,
    actor: &Actor,
    name: &str,
    organisation: Option<&str>,
) -> Result<(), ApiError> {
    let listed = list_lists(state, actor).await?;
    let known = listed.into_iter().find(|info| info.name == name && info.organisation.as_deref() == organisation);
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let of = owner(&tx, actor, organisation, Verb::Administer).await?;
    if let Some(users) = known.filter(|info| !info.used_by.is_empty()).map(|info| info.used_by.join(", ")) {
        return Err(ApiError::new(Code::InUse, format!("the list {name} is used by {users}"))
            .with_hint("take it out there first; an empty list admits nobody"));
    }
    if !rows::delete_list(&tx, of, name).await? {
        return Err(ApiError::new(Code::ListNotFound, format!("there is no access list {name}"))
            .with_hint("td access list lists them"));
    }
    append(&tx, actor, "list.removed", of, &format!("the access list {name} was removed")).await?;
    tx.commit().await?;
    drop(conn);
    follow(state).await
}

/// From where the gateway's doors may be used.
pub async fn list_doors(state: &State, actor: &Actor) -> Result<Vec<DoorInfo>, ApiError> {
    let conn = state.db.conn().await?;
    let mut infos = Vec::new();
    for row in rows::list_door_lists(&conn).await? {
        let place = row.organisation.map_or(Place::Platform, Place::Organisation);
        if actor.may(Verb::Look, place) {
            let organisation = match row.organisation {
                Some(id) => organisations::load_name(&conn, id).await?,
                None => None,
            };
            infos.push(DoorInfo { door: row.door, organisation, entries: row.entries });
        }
    }
    Ok(infos)
}

/// Sets from where a door may be used.
pub async fn set_door(state: &Arc<State>, actor: &Actor, door: DoorName, body: &SetDoor) -> Result<Ended, ApiError> {
    let mut conn = state.db.conn().await?;
    let tx = conn.transaction().await?;
    let of = owner(&tx, actor, body.organisation.as_deref(), Verb::Administer).await?;
    entries_checked(&body.entries, &named_in(state, &tx, of).await?)?;
    rows::set_door(&tx, door.as_str(), of, &body.entries).await?;
    if !body.force {
        check_not_locked_out(state, &tx, actor).await?;
    }
    let whose = body.organisation.as_deref().map_or_else(String::new, |name| format!(" for the people of {name}"));
    let from = if body.entries.is_empty() { "everywhere".to_owned() } else { shown(&body.entries) };
    let message = format!("the door {} is open{whose} from {from}", door.as_str());
    append(&tx, actor, "door.set", of, &message).await?;
    tx.commit().await?;
    drop(conn);
    changed(state).await?;
    Ok(Ended { doors: state.doors.look(state).await?, ..Ended::default() })
}

/// Refuses, before it is committed, what would shut out the one who does it.
async fn check_not_locked_out(state: &State, tx: &impl Client, actor: &Actor) -> Result<(), ApiError> {
    let Some(from) = actor.address else { return Ok(()) };
    let admitted = load(state, tx).await?;
    let own = Some(actor.organisation);
    if passes(&admitted, DoorName::Api, from, None) && passes(&admitted, DoorName::Api, from, own) {
        return Ok(());
    }
    Err(ApiError::new(Code::LockedOut, format!("this would shut out {from}, from where you ask"))
        .with_hint("add it, or repeat with --force"))
}

/// Brings all that uses lists up to date: the doors here, and the routers.
async fn follow(state: &Arc<State>) -> Result<(), ApiError> {
    changed(state).await?;
    state.doors.look(state).await?;
    engine::lists_changed(state);
    Ok(())
}
