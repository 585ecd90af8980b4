//! What the keeper holds about an instance: who answers to its names, and its two lanes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use magrathea_core::names::ReleaseNumber;
use magrathea_core::plan::RouteSpec;
use serde::{Deserialize, Serialize};

/// One of an instance's two backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub const BOTH: [Slot; 2] = [Slot::A, Slot::B];

    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// The backend's name in the router.
    pub fn backend(self, slug: &str) -> String {
        match self {
            Slot::A => format!("{slug}_a"),
            Slot::B => format!("{slug}_b"),
        }
    }
}

/// A replica in its place: the n-th place is the server `r<n+1>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub container: String,
    pub address: SocketAddr,
}

/// The release in a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    pub service: String,
    pub release: ReleaseNumber,
    pub port: u16,
    /// The backend's lines above its servers.
    pub text: String,
    /// What follows each server's address.
    pub options: String,
    /// A place that is empty waits for a replica.
    pub places: Vec<Option<Server>>,
    /// Empty places that wait for nobody: there were more replicas.
    #[serde(default)]
    pub spare: usize,
    /// The files that its lines refer to.
    pub files: Vec<String>,
}

impl Lane {
    /// A lane for what the route asks for, with these replicas.
    pub fn new(spec: &RouteSpec, servers: Vec<Server>) -> Self {
        Lane {
            service: spec.service.clone(),
            release: spec.release,
            port: spec.port,
            text: spec.backend.clone(),
            options: spec.server_options.clone(),
            places: servers.into_iter().map(Some).collect(),
            spare: 0,
            files: spec.files.keys().cloned().collect(),
        }
    }

    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.places.iter().flatten()
    }

    /// Puts a replica into its old place, or the first free one. Says whether that changed anything.
    pub fn join(&mut self, server: Server) -> bool {
        if let Some(place) = self.places.iter_mut().flatten().find(|held| held.container == server.container) {
            return std::mem::replace(place, server.clone()) != server;
        }
        match self.places.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(server),
            None => self.places.push(Some(server)),
        }
        self.spare = self.spare.min(self.empty());
        true
    }

    /// Empties the place of a replica that is gone. Says whether it had one.
    pub fn leave(&mut self, container: &str) -> bool {
        let place = self.places.iter_mut().find(|p| p.as_ref().is_some_and(|held| held.container == container));
        place.is_some_and(|place| place.take().is_some())
    }

    /// Empties the place of a replica that nobody follows. Says whether it had one.
    pub fn leave_out(&mut self, container: &str) -> bool {
        let left = self.leave(container);
        self.spare += usize::from(left);
        left
    }

    fn empty(&self) -> usize {
        self.places.iter().filter(|place| place.is_none()).count()
    }

    /// Whether a place waits for a replica.
    pub fn lacks_replicas(&self) -> bool {
        self.empty() > self.spare
    }

    /// Makes its places hold exactly these replicas, moving none that is already placed.
    pub fn set_servers(&mut self, servers: &[Server]) -> bool {
        let before = self.places.clone();
        let live: BTreeSet<_> = servers.iter().map(|server| server.container.as_str()).collect();
        for place in &mut self.places {
            place.take_if(|held| !live.contains(held.container.as_str()));
        }
        for server in servers {
            self.join(server.clone());
        }
        self.places != before
    }
}

/// A release that only a part of the visitors meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    pub slot: Slot,
    /// In percent.
    pub share: u8,
}

/// An instance's route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub slug: String,
    pub hosts: Vec<String>,
    pub wildcards: Vec<String>,
    /// Names of its certificates' files.
    pub certificates: BTreeSet<String>,
    /// A hash over the contents of its files and certificates: a change needs a reload.
    pub files_hash: String,
    /// The slot that serves; none while the first release is being put in place.
    pub active: Option<Slot>,
    /// The slot that served before and has not begun to drain: its replicas answer when none of those that serve can.
    #[serde(default)]
    pub standby: Option<Slot>,
    /// What is tried out beside what serves.
    #[serde(default)]
    pub canary: Option<Canary>,
    pub a: Option<Lane>,
    pub b: Option<Lane>,
}

impl Route {
    pub fn new(slug: &str) -> Self {
        Route {
            slug: slug.to_owned(),
            hosts: Vec::new(),
            wildcards: Vec::new(),
            certificates: BTreeSet::new(),
            files_hash: String::new(),
            active: None,
            standby: None,
            canary: None,
            a: None,
            b: None,
        }
    }

    pub fn lane(&self, slot: Slot) -> Option<&Lane> {
        match slot {
            Slot::A => self.a.as_ref(),
            Slot::B => self.b.as_ref(),
        }
    }

    pub fn lane_mut(&mut self, slot: Slot) -> &mut Option<Lane> {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    pub fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.a.iter_mut().chain(self.b.iter_mut())
    }

    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.a.iter().chain(self.b.iter())
    }

    /// The slot that holds a service.
    pub fn slot_of(&self, service: &str) -> Option<Slot> {
        Slot::BOTH.into_iter().find(|slot| self.lane(*slot).is_some_and(|lane| lane.service == service))
    }

    /// The slot that a new release goes into.
    pub fn free_slot(&self) -> Slot {
        self.active.map_or(Slot::A, Slot::other)
    }

    /// Lets a slot serve; what served until now stands by.
    pub fn activate(&mut self, slot: Slot) {
        if self.active != Some(slot) {
            self.standby = self.active.replace(slot);
        }
        self.canary = None;
    }

    /// Takes a slot's release away from visitors, where it has any beside those that serve.
    pub fn dismiss(&mut self, slot: Slot) {
        self.standby.take_if(|standby| *standby == slot);
        self.canary.take_if(|canary| canary.slot == slot);
    }

    /// The lane whose replicas answer for a slot's when none of these can: for what serves, what served before and has
    /// not begun to drain; for any other, what serves. A request that was assigned to a slot stays with its backend.
    pub fn standby_of(&self, slot: Slot) -> Option<&Lane> {
        let other = Some(slot.other());
        let stands_by = if self.active == Some(slot) { self.standby == other } else { self.active == other };
        self.lane(slot)?;
        stands_by.then(|| self.lane(slot.other())).flatten()
    }

    /// The value of the map that decides: backend and release.
    pub fn active_value(&self) -> Option<String> {
        self.value_of(self.active?)
    }

    /// The value of the map of releases on trial: backend, release and share.
    pub fn canary_value(&self) -> Option<String> {
        let Canary { slot, share } = self.canary?;
        Some(format!("{},{share}", self.value_of(slot)?))
    }

    fn value_of(&self, slot: Slot) -> Option<String> {
        Some(format!("{},{}", slot.backend(&self.slug), self.lane(slot)?.release.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(container: &str, last: u8) -> Server {
        Server { container: container.into(), address: SocketAddr::from(([172, 18, 0, last], 8080)) }
    }

    #[test]
    fn replicas_keep_their_places() {
        let mut lane = Lane {
            service: "s".into(),
            release: ReleaseNumber(1),
            port: 8080,
            text: String::new(),
            options: String::new(),
            spare: 0,
            files: Vec::new(),
            places: vec![Some(server("x", 1)), Some(server("y", 2))],
        };
        assert!(lane.leave("x"));
        assert!(!lane.leave("x"));
        assert!(lane.set_servers(&[server("y", 2), server("z", 3)]));
        assert_eq!(lane.places, [Some(server("z", 3)), Some(server("y", 2))]);
        assert!(!lane.set_servers(&[server("y", 2), server("z", 3)]));
        assert!(lane.join(server("y", 4)), "a new address is a change");
        assert_eq!(lane.places, [Some(server("z", 3)), Some(server("y", 4))]);
        // What is one too many is not waited for; what dies is.
        assert!(lane.leave_out("z") && !lane.leave_out("z") && !lane.lacks_replicas());
        assert!(lane.leave("y") && lane.lacks_replicas());
        assert!(lane.join(server("a", 5)) && !lane.lacks_replicas());
        assert!(lane.join(server("b", 6)) && lane.leave("b") && lane.lacks_replicas(), "there are two again");
    }
}
