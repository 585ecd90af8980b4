//! The one task that owns the routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use magrathea_core::names::ReleaseNumber;
use magrathea_core::plan::{NodeFolder, RouteSpec, RouterSpec};
use magrathea_core::usage::Then;
use magrathea_core::wire::{ActionErrorKind, Replica, Serving};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Request;
use super::apply::Applier;
use super::control::{Control, Worker};
use super::files::RouteFiles;
use super::render::{ACTIVE, LIMITS, is_own, listenable, map_path, render};
use super::route::{Canary, Lane, Route, Server, Slot};
use crate::engine::{Engine, Running, is_slug};
use crate::fail::{Outcome, fail, internal, node};
use crate::folders::{self, Folders};

/// How long a route waits for a router that is starting.
const ROUTER_START: Duration = Duration::from_secs(20);

/// How often a missing replica is looked for, beside what the engine tells by itself.
const MEND: Duration = Duration::from_secs(3);
/// For so long the engine may list a container that has ended.
const LISTED: Duration = Duration::from_secs(60);

/// Where it is kept whose visitors get less.
const LIMITED: &str = "limits.json";

pub struct Keeper {
    engine: Engine,
    folders: Folders,
    control: Control,
    spec: Option<RouterSpec>,
    routes: BTreeMap<String, Route>,
    /// Containers that are about to end, and those that ended a moment ago, with the time: the engine may list them as running
    /// for a while after it has told that they ended.
    leaving: BTreeMap<String, Option<Instant>>,
    /// Whose visitors get less, by slug.
    limits: BTreeMap<String, Then>,
}

impl Keeper {
    pub fn load(engine: Engine, folders: Folders, control: Control) -> Self {
        let routes =
            folders::load_all::<Route>(&folders.state("routes")).into_iter().map(|r| (r.slug.clone(), r)).collect();
        let spec = folders::load(&folders.state("router.json")).unwrap_or_else(|error| {
            tracing::error!(%error, "the router's configuration is unreadable");
            None
        });
        let limits = folders::load(&folders.state(LIMITED)).unwrap_or_else(|error| {
            tracing::error!(%error, "whose visitors get less is unreadable; the gateway says it again");
            None
        });
        let limits = limits.unwrap_or_default();
        Keeper { engine, folders, control, spec, routes, leaving: BTreeMap::new(), limits }
    }

    pub async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut due = tokio::time::interval(MEND);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let request = tokio::select! {
                request = inbox.recv() => request,
                _ = due.tick() => {
                    self.leaving.retain(|_, ended| ended.is_none_or(|ended| ended.elapsed() < LISTED));
                    if self.lacks_replicas() {
                        self.resync().await;
                    }
                    continue;
                }
            };
            let Some(request) = request else { return };
            // A caller that has gone needs no answer.
            match request {
                Request::Configure(spec, reply) => drop(reply.send(self.configure(spec).await)),
                Request::Unconfigure(reply) => drop(reply.send(self.unconfigure())),
                Request::Ensure(spec, secrets, reply) => drop(reply.send(self.ensure(&spec, &secrets).await)),
                Request::Remove(slug, reply) => drop(reply.send(self.remove(&slug).await)),
                Request::Read(slug, reply) => drop(reply.send(self.read(&slug).await)),
                Request::Retire(slug, release, reply) => drop(reply.send(self.retire(&slug, release).await)),
                Request::Forget(service, reply) => drop(reply.send(self.forget(&service).await)),
                Request::Joined { service, container, address } => {
                    // One that has ended may have been started again.
                    if self.leaving.get(&container).is_some_and(Option::is_some) {
                        self.leaving.remove(&container);
                    }
                    let stays = !self.leaving.contains_key(&container);
                    self.follow(|lane| {
                        stays && lane.service == service && lane.join(Server { container: container.clone(), address })
                    })
                    .await;
                }
                Request::Left { container } => {
                    if self.leaving.insert(container.clone(), Some(Instant::now())).is_none() {
                        self.follow(|lane| lane.leave(&container)).await;
                    }
                }
                Request::LeaveOut(containers, reply) => {
                    self.follow(|lane| containers.iter().filter(|container| lane.leave_out(container)).count() > 0)
                        .await;
                    self.leaving.extend(containers.into_iter().map(|container| (container, None)));
                    let _ = reply.send(Ok(()));
                }
                Request::Limit(then, reply) => drop(reply.send(self.limit(then).await)),
                Request::Resync => self.resync().await,
                Request::PortOf(service, reply) => {
                    let lane = self.routes.values().flat_map(Route::lanes).find(|lane| lane.service == service);
                    let _ = reply.send(lane.map(|lane| lane.port));
                }
            }
        }
    }

    /// Those that are not about to end.
    fn staying(&self, mut running: Vec<Running>) -> Vec<Running> {
        running.retain(|replica| !self.leaving.contains_key(&replica.container));
        running
    }

    /// Whether a release that serves has a place that waits for a replica.
    fn lacks_replicas(&self) -> bool {
        let serving = |route: &Route| route.active.and_then(|slot| route.lane(slot).cloned());
        self.routes.values().filter_map(serving).any(|lane| lane.lacks_replicas())
    }

    fn applier(&self) -> Applier {
        Applier { engine: self.engine.clone(), folders: self.folders.clone(), control: self.control.clone() }
    }

    async fn apply(&self) -> Outcome<()> {
        match &self.spec {
            Some(spec) => {
                let config = listenable(&spec.config, has_ipv6());
                let limited = self.limits.iter().map(|(slug, then)| (slug.clone(), then.as_str().to_owned()));
                let mut texts = render(&config, &self.routes);
                texts.maps.insert(LIMITS, limited.collect());
                self.applier().apply(&texts, &self.routes).await
            }
            None => Err(node("the router has no configuration yet")),
        }
    }

    /// Stored first: a router that is away learns of it when it is back. What fails counts as not done, and the gateway says it
    /// again.
    async fn limit(&mut self, mut then: BTreeMap<String, Then>) -> Outcome<bool> {
        then.retain(|slug, then| is_slug(slug) && *then != Then::Warn);
        if self.limits == then {
            return Ok(false);
        }
        folders::store(&self.folders.state(LIMITED), &then)?;
        let before = std::mem::replace(&mut self.limits, then);
        if self.spec.is_some()
            && let Err(error) = self.apply().await
        {
            self.limits = before;
            return Err(error);
        }
        Ok(true)
    }

    async fn configure(&mut self, spec: RouterSpec) -> Outcome<bool> {
        if self.spec.as_ref() == Some(&spec) {
            return Ok(false);
        }
        let before = self.spec.replace(spec);
        if let Err(error) = self.apply().await {
            self.spec = before;
            self.restore().await;
            return Err(error);
        }
        folders::store(&self.folders.state("router.json"), &self.spec)?;
        Ok(true)
    }

    fn unconfigure(&mut self) -> Outcome<bool> {
        self.applier().distrust()?;
        folders::remove_file(&self.folders.state("router.json"))?;
        Ok(self.spec.take().is_some())
    }

    async fn ensure(&mut self, spec: &RouteSpec, secrets: &BTreeMap<String, String>) -> Outcome<(bool, Serving)> {
        self.await_router().await?;
        let running = self.engine.replicas(&spec.service).await?;
        let servers = servers_of(&self.staying(running), spec.port);
        if servers.is_empty() {
            return Err(fail(ActionErrorKind::Unhealthy, format!("no replica of {} runs", spec.service)));
        }
        let before = self.routes.get(&spec.slug).cloned();
        let mut route = before.clone().unwrap_or_else(|| Route::new(&spec.slug));
        let slot = route.slot_of(&spec.service).unwrap_or_else(|| route.free_slot());
        let mut lane = Lane::new(spec, Vec::new());
        lane.places = route
            .lane(slot)
            .filter(|held| held.service == spec.service)
            .map(|held| held.places.clone())
            .unwrap_or_default();
        lane.spare = route.lane(slot).filter(|held| held.service == spec.service).map_or(0, |held| held.spare);
        lane.set_servers(&servers);
        *route.lane_mut(slot) = Some(lane);
        let canary = spec.canary.filter(|_| route.active.is_some_and(|active| active != slot));
        let files = RouteFiles::reveal(spec, secrets)?;
        route.files_hash.clone_from(&files.hash);
        let undo = files.write(&self.folders, before.as_ref())?;

        // First the release in its lane, with what serves untouched; then the one step that switches.
        let prepared = route.clone();
        match canary {
            // It is met under the names that lead to the other release.
            Some(share) => route.canary = Some(Canary { slot, share }),
            None => {
                route.activate(slot);
                route.hosts.clone_from(&spec.hosts);
                route.wildcards.clone_from(&spec.wildcards);
            }
        }
        if let Some(names) = files.certificate_names() {
            route.certificates = names;
        }
        let changed = before.as_ref() != Some(&route);
        let steps = if changed { vec![prepared, route] } else { vec![route] };
        for step in steps {
            self.routes.insert(spec.slug.clone(), step);
            if let Err(error) = self.apply().await {
                match before {
                    Some(before) => drop(self.routes.insert(spec.slug.clone(), before)),
                    None => drop(self.routes.remove(&spec.slug)),
                }
                undo.undo()?;
                self.restore().await;
                return Err(error);
            }
        }
        if changed {
            self.persist(&spec.slug)?;
        }
        let serving = self.read(&spec.slug).await?;
        if canary.is_none() && serving.release != Some(spec.release) {
            return Err(internal(format!(
                "the router serves {:?} after the switch to {}",
                serving.release, spec.release
            )));
        }
        Ok((changed, serving))
    }

    async fn remove(&mut self, slug: &str) -> Outcome<bool> {
        let Some(route) = self.routes.remove(slug) else { return Ok(false) };
        // Visitors first, so that no name leads to a backend that is gone.
        let mut closing = route.clone();
        closing.active = None;
        self.routes.insert(slug.to_owned(), closing);
        self.apply().await?;
        self.routes.remove(slug);
        for name in &route.certificates {
            folders::remove_file(&self.folders.node(NodeFolder::Router).join("certs").join(name))?;
        }
        self.apply().await?;
        let _ = std::fs::remove_dir_all(self.folders.node(NodeFolder::Router).join("instances").join(slug));
        folders::remove_file(&self.route_file(slug))?;
        Ok(true)
    }

    async fn read(&self, slug: &str) -> Outcome<Serving> {
        let active = self.control.read_map(Worker::Current, &map_path(ACTIVE)).await?;
        let Some((backend, release)) = active.get(slug).and_then(|value| value.split_once(',')) else {
            return Ok(Serving::default());
        };
        let states = self.control.read_servers(Worker::Current, backend).await?;
        let lanes = || self.routes.get(slug).into_iter().flat_map(Route::lanes).flat_map(Lane::servers);
        let replicas = states.into_iter().filter(|state| !state.out && is_own(&state.name)).filter_map(|state| {
            let address = state.address?;
            let container = lanes().find(|server| server.address == address).map(|server| server.container.clone());
            let word = match state.operation {
                2 => "up",
                1 => "starting",
                _ => "down",
            };
            Some(Replica { container: container.unwrap_or_default(), address: address.to_string(), state: word.into() })
        });
        Ok(Serving { release: release.parse().ok().map(ReleaseNumber), replicas: replicas.collect() })
    }

    /// The backend of a release that is to drain; no new visitor meets it.
    async fn retire(&mut self, slug: &str, release: ReleaseNumber) -> Outcome<Option<String>> {
        let Some(route) = self.routes.get_mut(slug) else { return Ok(None) };
        let slot = Slot::BOTH.into_iter().find(|slot| route.lane(*slot).is_some_and(|lane| lane.release == release));
        if slot.is_some() && route.active == slot {
            return Err(internal(format!("{release} is what serves; it cannot be drained")));
        }
        let before = route.clone();
        slot.into_iter().for_each(|slot| route.dismiss(slot));
        if *route != before {
            self.apply().await?;
            self.persist(slug)?;
        }
        Ok(slot.map(|slot| slot.backend(slug)))
    }

    async fn forget(&mut self, service: &str) -> Outcome<bool> {
        let Some((slug, slot)) = self.routes.values().find_map(|r| Some((r.slug.clone(), r.slot_of(service)?))) else {
            return Ok(false);
        };
        let Some(route) = self.routes.get_mut(&slug) else { return Ok(false) };
        if route.active == Some(slot) {
            return Err(internal(format!("{service} is what serves; its route must go first")));
        }
        *route.lane_mut(slot) = None;
        route.dismiss(slot);
        self.apply().await?;
        self.persist(&slug)?;
        Ok(true)
    }

    /// Changes the lanes that a container's coming or going touches.
    async fn follow(&mut self, mut change: impl FnMut(&mut Lane) -> bool) {
        let mut touched = BTreeSet::new();
        for route in self.routes.values_mut() {
            // Every lane is asked: none may be skipped because another has changed.
            let changed = route.lanes_mut().filter_map(|lane| change(lane).then_some(())).count() > 0;
            if changed {
                touched.insert(route.slug.clone());
            }
        }
        if touched.is_empty() {
            return;
        }
        if let Err(error) = self.apply().await {
            tracing::error!(%error, "the router could not follow a replica");
        }
        for slug in touched {
            if let Err(error) = self.persist(&slug) {
                tracing::error!(%error, slug, "a route is not stored");
            }
        }
    }

    /// Compares everything with the engine, then brings the router in line.
    async fn resync(&mut self) {
        if self.spec.is_none() {
            return;
        }
        let outcome = async {
            let running = self.engine.all_replicas().await?;
            let running = self.staying(running);
            for route in self.routes.values_mut() {
                for lane in route.lanes_mut() {
                    let own: Vec<_> = running.iter().filter(|r| r.service == lane.service).cloned().collect();
                    lane.set_servers(&servers_of(&own, lane.port));
                }
            }
            self.apply().await?;
            self.routes.keys().try_for_each(|slug| self.persist(slug))
        };
        if let Err(error) = outcome.await {
            tracing::warn!(%error, "the router is not in line with its routes");
        }
    }

    /// Puts the files back to what the router runs, after a change was refused.
    async fn restore(&self) {
        if self.spec.is_some()
            && let Err(error) = self.apply().await
        {
            tracing::error!(%error, "the router's files could not be put back");
        }
    }

    async fn await_router(&self) -> Outcome<()> {
        let give_up = Instant::now() + ROUTER_START;
        while !self.control.answers().await {
            if Instant::now() > give_up {
                return Err(node("the router is not running"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn persist(&self, slug: &str) -> Outcome<()> {
        self.routes.get(slug).map_or(Ok(()), |route| folders::store(&self.route_file(slug), route))
    }

    fn route_file(&self, slug: &str) -> std::path::PathBuf {
        self.folders.state("routes").join(format!("{slug}.json"))
    }
}

/// Whether any interface of the node has an IPv6 address.
fn has_ipv6() -> bool {
    std::fs::read("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.is_empty())
}

fn servers_of(running: &[Running], port: u16) -> Vec<Server> {
    let server =
        |r: &Running| Some(Server { container: r.container.clone(), address: SocketAddr::new(r.address?, port) });
    running.iter().filter_map(server).collect()
}
