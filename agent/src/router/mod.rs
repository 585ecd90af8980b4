//! HAProxy's keeper: one task owns the node's routes and brings the router in line with them.
//!
//! Each instance has two lanes, `a` and `b`: a backend of its own with the replicas of one release. A new release is
//! put into the free lane, then one entry of one map decides which lane serves. What is wanted is on disk before the
//! router is told, so that a router, an engine or an agent that starts again serves the same without a gateway.

mod apply;
mod certificate;
mod control;
mod drain;
mod files;
mod hold;
mod keeper;
mod load;
mod render;
mod route;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use magrathea_core::names::ReleaseNumber;
use magrathea_core::plan::{RouteSpec, RouterSpec};
use magrathea_core::usage::Then;
use magrathea_core::wire::{Drained, Loads, Serving};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::engine::Engine;
use crate::fail::{Outcome, internal};
use crate::folders::Folders;
use crate::usage::Told;
use control::Control;
pub use hold::Holds;
use keeper::Keeper;
use load::LoadMeter;

type Reply<T> = oneshot::Sender<Outcome<T>>;

/// What the keeper can be asked.
enum Request {
    Configure(RouterSpec, Reply<bool>),
    Unconfigure(Reply<bool>),
    Ensure(Box<RouteSpec>, BTreeMap<String, String>, Reply<(bool, Serving)>),
    Remove(String, Reply<bool>),
    Read(String, Reply<Serving>),
    /// The backend that holds a release that no longer serves.
    Retire(String, ReleaseNumber, Reply<Option<String>>),
    /// A service goes: its lane is emptied.
    Forget(String, Reply<bool>),
    /// A replica answers at this address.
    Joined {
        service: String,
        container: String,
        address: SocketAddr,
    },
    /// A replica is gone.
    Left {
        container: String,
    },
    /// Replicas that are about to end: no visitor meets them any more.
    LeaveOut(Vec<String>, Reply<()>),
    /// Whose visitors get less, and what.
    Limit(BTreeMap<String, Then>, Reply<bool>),
    /// Compare everything with the engine and the router.
    Resync,
    /// The port that a service's replicas are reached on, when it has a lane.
    PortOf(String, oneshot::Sender<Option<u16>>),
}

/// Speaks to the keeper.
#[derive(Clone)]
pub struct Router {
    requests: mpsc::Sender<Request>,
    control: Control,
    meter: LoadMeter,
}

impl Router {
    /// Starts the keeper with the routes on disk.
    pub fn start(engine: Engine, folders: Folders, tasks: &TaskTracker) -> Outcome<Self> {
        certificate::ensure_default(&folders)?;
        let (requests, inbox) = mpsc::channel(64);
        let control = Control::new(&folders);
        let keeper = Keeper::load(engine, folders, control.clone());
        tasks.spawn(keeper.run(inbox));
        let meter = LoadMeter::default();
        tasks.spawn(meter.clone().run(control.clone()));
        Ok(Router { requests, control, meter })
    }

    /// Settles everything around the routes. Says whether it changed.
    pub async fn configure(&self, spec: RouterSpec) -> Outcome<bool> {
        self.ask(|reply| Request::Configure(spec, reply)).await
    }

    /// Forgets the router's configuration; the routes stay.
    pub async fn unconfigure(&self) -> Outcome<bool> {
        self.ask(Request::Unconfigure).await
    }

    /// Settles whose visitors get less, and what. Says whether it changed.
    pub async fn limit(&self, then: BTreeMap<String, Then>) -> Outcome<bool> {
        self.ask(|reply| Request::Limit(then, reply)).await
    }

    /// Sends an instance's visitors to a release. Says whether it changed anything, and what the router serves now.
    pub async fn ensure(&self, spec: RouteSpec, secrets: BTreeMap<String, String>) -> Outcome<(bool, Serving)> {
        self.ask(|reply| Request::Ensure(Box::new(spec), secrets, reply)).await
    }

    /// Takes an instance's route away.
    pub async fn remove(&self, slug: &str) -> Outcome<bool> {
        self.ask(|reply| Request::Remove(slug.to_owned(), reply)).await
    }

    /// What the router serves, read from it.
    pub async fn read(&self, slug: &str) -> Outcome<Serving> {
        self.ask(|reply| Request::Read(slug.to_owned(), reply)).await
    }

    /// How many requests the replicas of each instance had, in the seconds after this one.
    pub fn load(&self, after: i64) -> Loads {
        self.meter.after(after)
    }

    /// Keeps the router's processes until they have told what they counted.
    pub fn holds(&self) -> Holds {
        self.control.holds()
    }

    /// What each of the router's processes counted, by instance.
    pub async fn usage(&self) -> Outcome<Vec<Told>> {
        self.control.read_usage().await
    }

    /// Waits until a release that no longer serves has no request in flight.
    pub async fn drain(&self, slug: &str, release: ReleaseNumber, timeout: Duration) -> Outcome<Drained> {
        match self.ask(|reply| Request::Retire(slug.to_owned(), release, reply)).await? {
            Some(backend) => drain::wait_idle(&self.control, &backend, timeout).await,
            None => Ok(Drained { cut: 0 }),
        }
    }

    /// Empties the lane of a service that is about to go.
    pub async fn forget(&self, service: &str) -> Outcome<bool> {
        self.ask(|reply| Request::Forget(service.to_owned(), reply)).await
    }

    pub async fn joined(&self, service: String, container: String, address: SocketAddr) {
        let _ = self.requests.send(Request::Joined { service, container, address }).await;
    }

    pub async fn left(&self, container: String) {
        let _ = self.requests.send(Request::Left { container }).await;
    }

    /// Sends no more visitors to replicas that are about to end; requests in flight go on.
    pub async fn leave_out(&self, containers: Vec<String>) -> Outcome<()> {
        if containers.is_empty() {
            return Ok(());
        }
        self.ask(|reply| Request::LeaveOut(containers, reply)).await
    }

    pub async fn resync(&self) {
        let _ = self.requests.send(Request::Resync).await;
    }

    /// The port of a service's replicas; none when no route knows the service.
    pub async fn port_of(&self, service: &str) -> Option<u16> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::PortOf(service.to_owned(), reply)).await.ok()?;
        answer.await.ok().flatten()
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Outcome<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || internal("the router's keeper has ended");
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
