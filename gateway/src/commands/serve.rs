//! `serve`: everything is opened, then listens, then runs until it is told to end, then is closed in reverse.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::tasks::Tasks;
use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use magrathea_core::clusters::Clusters;
use magrathea_core::scaling::Pace;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Store, prepare};
use crate::config::{Listen, Serve};
use crate::db::Db;
use crate::doors::{self, Doors};
use crate::drains::{self, Allowed};
use crate::engine::{self, Engine};
use crate::git::{self, Git};
use crate::hub::{self, Hub};
use crate::listen::Listener;
use crate::pki::Pki;
use crate::seal::Seal;
use crate::services::lists::DoorLists;
use crate::state::State;
use crate::{api, clusters, remote, services, ssh};

/// Files that the gateway may have open, where the system allows it.
const MAX_FILES: u64 = 65_536;

/// How long tasks may take to end before the database is stopped under them.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs the gateway until SIGTERM or SIGINT.
pub async fn serve(options: Serve) -> anyhow::Result<()> {
    raise_file_limit();
    let first = prepare(&options.place)?;
    let store = Store::open(&options.place).await?;
    if store.shared {
        bail!("another gateway runs on the data folder {}", options.place.data.display());
    }
    let result = run(&options, first, store.db.clone()).await;
    store.close().await;
    tracing::info!("ended");
    result
}

async fn run(options: &Serve, first: Clusters, db: Db) -> anyhow::Result<()> {
    let (sender, clusters) = watch::channel(Arc::new(first));
    let names = options.listen.names();
    let mut state = open_state(&options.place.data, db, clusters, &options.listen)?;
    state.drains_to = Allowed(options.drain_to.clone());
    state.pace = options.pace.pace();
    state.rates.clone_from(&options.place.rates);
    state.rates.iter().for_each(|path| services::billing::check(path));
    state.time_zone = options.time_zone.clone();
    let state = Arc::new(state);
    let bind =
        async |address, tls| Listener::bind(address, tls).await.with_context(|| format!("cannot listen on {address}"));
    let api = bind(options.listen.api, state.pki.api_config(&names)?).await?;
    let agents = bind(options.listen.agents, state.pki.agents_config(&names)?).await?.for_streams();
    let ssh = ssh::Listener::bind(options.listen.ssh, &state.ssh.host_key).await?;
    let (at_api, at_agents, at_ssh) = (api.address()?, agents.address()?, ssh.address()?);
    tracing::info!(api = %at_api, agents = %at_agents, ssh = %at_ssh, version = env!("CARGO_PKG_VERSION"), "serving");

    let (tasks, shutdown) = (&state.tasks, &state.shutdown);
    tasks.spawn(clusters::watch(options.place.clusters.clone(), sender, shutdown.clone()));
    engine::start(&state);
    tasks.spawn(remote::runs::resume(Arc::clone(&state)));
    git::start(&state)?;
    tasks.spawn(doors::watch(Arc::clone(&state)));
    tasks.spawn(drains::run(Arc::clone(&state)));
    tasks.spawn(api.serve(api::router(Arc::clone(&state)), tasks.clone(), shutdown.clone()));
    tasks.spawn(agents.serve(hub::router(Arc::clone(&state)), tasks.clone(), shutdown.clone()));
    tasks.spawn(ssh.serve(Arc::clone(&state)));

    asked_to_end().await?;
    tracing::info!("ending");
    shutdown.cancel();
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.left(), "tasks did not end in time; the next start finishes what they did not");
    }
    Ok(())
}

/// Opens everything that the parts of the gateway share.
pub fn open_state(
    data: &Path,
    db: Db,
    clusters: watch::Receiver<Arc<Clusters>>,
    listen: &Listen,
) -> anyhow::Result<State> {
    Ok(State {
        db,
        hub: Hub::default(),
        seal: Seal::load_or_create(&data.join("seal.key"))?,
        clusters,
        pki: Pki::load_or_create(&data.join("pki"))?,
        engine: Engine::open(data)?,
        git: Git::open(data, &Git::hook_command()?)?,
        data: data.to_owned(),
        api_url: listen.api_url(),
        connect: listen.connect(),
        ssh: ssh::Endpoint::open(&data.join("pki"), listen.ssh_reached())?,
        tasks: Tasks::default(),
        shutdown: CancellationToken::new(),
        doors: Doors::default(),
        door_lists: DoorLists::default(),
        drains_to: Allowed::default(),
        pace: Pace::default(),
        rates: None,
        time_zone: TimeZone::UTC,
    })
}

/// Allows as many open files as the system lets: every connection is one, and 1024 are gone too soon.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(MAX_FILES, |most| most.min(MAX_FILES));
    if limit.current.is_some_and(|now| now < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}

async fn asked_to_end() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
