//! IP access lists: kept once, used by the gateway's own doors and by apps' routing. What the doors compare with is held in
//! memory and loaded again when something changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use magrathea_core::access::AccessList;
use magrathea_core::names::OrganisationId;

use crate::api::error::ApiError;
use crate::db::lists as rows;
use crate::state::State;

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
    let from = from.to_canonical();
    let passes = |of: Option<OrganisationId>| {
        let networks = admitted.get(&(door.as_str().to_owned(), of));
        networks.is_none_or(|networks| networks.iter().any(|network| network.contains(&from)))
    };
    Ok(passes(None) && organisation.is_none_or(|own| passes(Some(own))))
}

/// Whether SSH may be used from an address. When that cannot be known, it may not.
pub async fn admit_ssh(state: &State, from: IpAddr, organisation: Option<OrganisationId>) -> bool {
    admit(state, DoorName::Ssh, from, organisation).await.unwrap_or(false)
}

/// Loads the doors' lists again.
pub async fn changed(state: &State) -> Result<Arc<Admitted>, ApiError> {
    let conn = state.db.conn().await?;
    let mut admitted = Admitted::new();
    for row in rows::list_door_lists(&conn).await? {
        let lists = named(state, row.organisation).await?;
        // A list that is gone admits nobody; those who are left out hear of it, those who should be out stay out.
        let networks = AccessList::resolve(&row.entries, &lists).unwrap_or_else(|error| {
            tracing::error!(door = row.door, %error, "a door's list cannot be used: nobody is let in");
            Vec::new()
        });
        admitted.insert((row.door, row.organisation), networks);
    }
    let admitted = Arc::new(admitted);
    *state.door_lists.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&admitted));
    Ok(admitted)
}

/// The lists that an organisation may use, by name: its own, the operator's, and those of clusters.yml. The nearer wins.
pub async fn named(
    state: &State,
    organisation: Option<OrganisationId>,
) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let mut lists = state.clusters().access_lists.clone();
    lists.extend(rows::load_lists(&state.db.conn().await?, organisation).await?);
    Ok(lists)
}
