//! Listens to the engine: keeps router and caches in line with containers that come and go, and notes replicas that
//! ended by themselves. Needs no gateway.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use magrathea_core::wire::Observation;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::crossing;
use crate::engine::{ContainerEvent, Engine, Happening, Running};
use crate::health::{Answer, Prober};
use crate::node::NodeAgent;

/// After a lost connection to the engine.
const RECONNECT: Duration = Duration::from_millis(500);
/// How long a restarted replica may take to be well before the router learns of it all the same: its own health check
/// decides from then on.
const LISTEN_LIMIT: Duration = Duration::from_secs(60);
const LISTEN_POLL: Duration = Duration::from_millis(50);
/// Between two looks at the swarm's other nodes: before Swarm ends a replica there, it waits for three seconds…
const ELSEWHERE: Duration = Duration::from_secs(1);
/// …and where there are no others.
const ELSEWHERE_ALONE: Duration = Duration::from_secs(5);

/// Tells container events to whoever waits for one.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<ContainerEvent>);

impl Default for Events {
    fn default() -> Self {
        Events(broadcast::Sender::new(256))
    }
}

impl Events {
    pub fn subscribe(&self) -> broadcast::Receiver<ContainerEvent> {
        self.0.subscribe()
    }
}

/// Listens until told to stop; listens anew, and compares everything, whenever the engine was away.
pub async fn watch_engine(agent: Arc<NodeAgent>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = listen(&agent, &stop) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }
}

async fn listen(agent: &Arc<NodeAgent>, stop: &CancellationToken) {
    let mut events = std::pin::pin!(agent.engine.container_events());
    // What happens during the comparison is told after it.
    crossing::restore(&agent.engine, &agent.folders).await;
    agent.router.resync().await;
    resync_caches(agent, stop);
    let mut told = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => handle(agent, stop, &mut told, event).await,
            Err(error) => {
                tracing::warn!(%error, "the engine's events are not heard");
                return;
            }
        }
    }
}

async fn handle(agent: &Arc<NodeAgent>, stop: &CancellationToken, told: &mut HashSet<String>, event: ContainerEvent) {
    match event.happening {
        Happening::Started if event.role.as_deref() == Some("router") => agent.router.resync().await,
        Happening::Started if event.role.as_deref() == Some("varnish") => resync_caches(agent, stop),
        Happening::Started if event.slug.is_some() => match crossing::slug_of(&event.service) {
            Some(slug) => open_crossing(agent, stop, slug),
            None => join_later(agent, stop, (event.service.clone(), event.container.clone())),
        },
        Happening::Told => drop(told.insert(event.container.clone())),
        Happening::Died { exit_code } => {
            agent.router.left(event.container.clone()).await;
            if let Some(slug) = crossing::slug_of(&event.service)
                && let Err(error) = crossing::interrupt(&agent.folders, &slug).await
            {
                tracing::warn!(%error, slug, "the way to other nodes is not closed");
            }
            let was_told = told.remove(&event.container);
            if let (false, Some(slug)) = (was_told, &event.slug) {
                let died = Observation::ReplicaDied {
                    slug: slug.clone(),
                    service: event.service.clone(),
                    exit_code,
                    at: jiff::Timestamp::now(),
                };
                if let Err(error) = agent.spool.push(&died) {
                    tracing::error!(%error, "an observation is lost");
                }
            }
        }
        Happening::Started => {}
    }
    // Nobody may be waiting.
    let _ = agent.events.0.send(event);
}

/// Looks for replicas on the swarm's other nodes, of which this engine tells nothing by itself, until told to stop. A look that
/// fails changes nothing.
pub async fn watch_elsewhere(agent: Arc<NodeAgent>, stop: CancellationToken) {
    let mut known: BTreeMap<String, Running> = BTreeMap::new();
    let mut pause = Duration::ZERO;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let now = match agent.engine.elsewhere().await {
            Ok(now) => now,
            Err(error) => {
                tracing::debug!(%error, "replicas on other nodes are not known");
                pause = ELSEWHERE_ALONE;
                continue;
            }
        };
        pause = if now.is_some() { ELSEWHERE } else { ELSEWHERE_ALONE };
        let now: BTreeMap<_, _> =
            now.into_iter().flatten().map(|replica| (replica.container.clone(), replica)).collect();
        for gone in known.keys().filter(|container| !now.contains_key(*container)) {
            agent.router.left(gone.clone()).await;
        }
        for (container, replica) in now.iter().filter(|(container, _)| !known.contains_key(*container)) {
            join_later(&agent, &stop, (replica.service.clone(), container.clone()));
        }
        known = now;
    }
}

fn open_crossing(agent: &Arc<NodeAgent>, stop: &CancellationToken, slug: String) {
    let (agent, stop) = (agent.clone(), stop.clone());
    agent.tasks.clone().spawn(async move {
        let opened = stop.run_until_cancelled(crossing::open(&agent.engine, &agent.folders, &slug)).await;
        if let Some(Err(error)) = opened {
            tracing::warn!(%error, slug, "replicas on other nodes are out of reach");
        }
    });
}

/// A service and one of its containers.
type Joining = (String, String);

fn join_later(agent: &Arc<NodeAgent>, stop: &CancellationToken, joining: Joining) {
    let (agent, stop) = (agent.clone(), stop.clone());
    agent.tasks.clone().spawn(async move { stop.run_until_cancelled(join(&agent, &joining)).await });
}

/// Hands a replica that Swarm started to the router, once it is well: as its release's health check wants it, or, when
/// this agent was not told of one, once it listens.
async fn join(agent: &Arc<NodeAgent>, joining: &Joining) {
    let (service, container) = joining;
    let Some(port) = agent.router.port_of(service).await else { return };
    let check = agent.checks.get(service);
    let Ok(prober) = check.as_ref().map(|check| Prober::new(agent, check)).transpose() else { return };
    let pause = check.map_or(LISTEN_POLL, |check| check.interval.0.max(LISTEN_POLL));
    let begun = tokio::time::Instant::now();
    while let Some(replica) = replica_of(&agent.engine, joining).await {
        if let Some(address) = replica.address.map(|ip| SocketAddr::new(ip, port)) {
            let well = match &prober {
                Some(prober) => prober.ask(&replica, begun.elapsed()).await == Answer::Well,
                None => tokio::net::TcpStream::connect(address).await.is_ok(),
            };
            if well || begun.elapsed() > LISTEN_LIMIT {
                agent.router.joined(service.clone(), container.clone(), address).await;
                return;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// The replica; none when it is gone.
async fn replica_of(engine: &Engine, (service, container): &Joining) -> Option<Running> {
    let running = engine.staying(service).await.ok()?;
    running.into_iter().find(|replica| replica.container == *container)
}

fn resync_caches(agent: &Arc<NodeAgent>, stop: &CancellationToken) {
    let (agent, stop) = (agent.clone(), stop.clone());
    agent.tasks.clone().spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            outcome = agent.caches.resync() => {
                if let Err(error) = outcome {
                    tracing::warn!(%error, "the caches are not in line");
                }
            }
        }
    });
}
