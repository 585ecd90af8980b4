//! The agent's parts, put together.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Caches;
use crate::config::EngineOptions;
use crate::engine::Engine;
use crate::fail::Outcome;
use crate::folders::Folders;
use crate::health::Checks;
use crate::logs::{Logs, collect};
use crate::router::Router;
use crate::serial::Serial;
use crate::spool::Spool;
use crate::usage::Ledger;
use crate::watch::{Events, watch_elsewhere, watch_engine};
use crate::{build, firewall, streams, usage};

/// How long an end waits for what is under way.
const END_LIMIT: Duration = Duration::from_millis(500);

/// Everything that actions work with.
pub struct NodeAgent {
    pub engine: Engine,
    pub folders: Folders,
    pub(crate) router: Router,
    pub(crate) caches: Caches,
    pub(crate) spool: Spool,
    pub(crate) logs: Arc<Logs>,
    pub(crate) usage: Arc<Ledger>,
    pub(crate) events: Events,
    pub(crate) checks: Checks,
    pub(crate) serial: Serial,
    pub tasks: TaskTracker,
    stop: CancellationToken,
}

impl NodeAgent {
    /// Connects to the engine, re-establishes what is on disk and starts to listen.
    pub async fn start(options: &EngineOptions) -> Outcome<Arc<Self>> {
        let folders = Folders::new(&options.data);
        folders.prepare()?;
        let engine = Engine::connect(&options.docker, options.prefix.clone()).await?;
        build::tidy(&engine, &folders).await?;
        firewall::restore(&engine, &folders).await;
        let tasks = TaskTracker::new();
        let router = Router::start(engine.clone(), folders.clone(), &tasks)?;
        let agent = Arc::new(NodeAgent {
            caches: Caches::new(engine.clone(), folders.clone()),
            spool: Spool::open(folders.spool())?,
            logs: Arc::new(Logs::new(folders.logs())),
            usage: Arc::new(Ledger::open(folders.state("usage.json"), options.usage_every.0)),
            events: Events::default(),
            checks: Checks::default(),
            serial: Serial::default(),
            stop: CancellationToken::new(),
            router,
            engine,
            folders,
            tasks,
        });
        agent.tasks.spawn(watch_engine(agent.clone(), agent.stop.clone()));
        agent.tasks.spawn(watch_elsewhere(agent.clone(), agent.stop.clone()));
        streams::tidy(&agent).await;
        agent.tasks.spawn(collect(agent.clone(), agent.stop.clone()));
        agent.tasks.spawn(usage::watch(agent.clone(), agent.stop.clone()));
        agent.tasks.spawn(usage::watch_containers(agent.clone(), agent.stop.clone()));
        agent.tasks.spawn(usage::watch_disk(agent.clone(), options.disk_every.0, agent.stop.clone()));
        Ok(agent)
    }

    /// Ends the listening.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends the listening and waits for what is under way. What is served stays served.
    pub async fn end(&self) {
        self.stop();
        self.tasks.close();
        // The router's keeper ends with the process: its inbox is open as long as this value lives.
        let _ = tokio::time::timeout(END_LIMIT, self.tasks.wait()).await;
    }
}
