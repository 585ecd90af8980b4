//! Listens to the engine: keeps router and caches in line with containers that come and go, and notes replicas that
//! ended by themselves. Needs no gateway.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use magrathea_core::wire::Observation;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::engine::{ContainerEvent, Engine, Happening};
use crate::node::NodeAgent;

/// After a lost connection to the engine.
const RECONNECT: Duration = Duration::from_millis(500);
/// How long a restarted replica may take to listen before the router learns of it all the same: its own health check
/// decides from then on.
const LISTEN_LIMIT: Duration = Duration::from_secs(60);
const LISTEN_POLL: Duration = Duration::from_millis(50);

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
        Happening::Started if event.slug.is_some() => {
            let (agent, stop, event) = (agent.clone(), stop.clone(), event.clone());
            agent.tasks.clone().spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = join(&agent, &event) => {}
                }
            });
        }
        Happening::Told => drop(told.insert(event.container.clone())),
        Happening::Died { exit_code } => {
            agent.router.left(event.container.clone()).await;
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

/// Hands a replica that Swarm started anew to the router, once it listens.
async fn join(agent: &NodeAgent, event: &ContainerEvent) {
    let Some(port) = agent.router.port_of(&event.service).await else { return };
    let give_up = tokio::time::Instant::now() + LISTEN_LIMIT;
    loop {
        let address = address_of(&agent.engine, event).await;
        let Ok(address) = address else { return };
        if let Some(address) = address.map(|ip| SocketAddr::new(ip, port))
            && (tokio::net::TcpStream::connect(address).await.is_ok() || tokio::time::Instant::now() > give_up)
        {
            agent.router.joined(event.service.clone(), event.container.clone(), address).await;
            return;
        }
        tokio::time::sleep(LISTEN_POLL).await;
    }
}

/// The replica's address; the error: it is gone.
async fn address_of(engine: &Engine, event: &ContainerEvent) -> Result<Option<std::net::IpAddr>, ()> {
    let running = engine.running(&event.service).await.map_err(drop)?;
    running.into_iter().find(|r| r.container == event.container).map(|r| r.address).ok_or(())
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
