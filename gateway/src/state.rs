//! What every part of a running gateway shares.

use std::path::PathBuf;
use std::sync::Arc;

use crate::tasks::Tasks;
use jiff::tz::TimeZone;
use magrathea_core::clusters::Clusters;
use magrathea_core::scaling::Pace;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::doors::Doors;
use crate::drains::Allowed;
use crate::engine::Engine;
use crate::git::Git;
use crate::hub::Hub;
use crate::pki::Pki;
use crate::seal::Seal;
use crate::services::lists::DoorLists;
use crate::ssh;

/// Used as `Arc<State>`.
pub struct State {
    pub db: Db,
    pub hub: Hub,
    pub seal: Seal,
    /// The clusters of `clusters.yml` as last read without an error.
    pub clusters: watch::Receiver<Arc<Clusters>>,
    /// The data folder: `blobs/`, `pki/`, …
    pub data: PathBuf,
    pub pki: Pki,
    /// As in `https://127.0.0.1:7443`: where clients reach the API.
    pub api_url: String,
    /// `host:port` at which agents reach the agent listener.
    pub connect: String,
    /// Where SSH clients connect, and by what they know the gateway.
    pub ssh: ssh::Endpoint,
    /// Every task of the gateway's; shutdown waits for them.
    pub tasks: Tasks,
    /// Cancelled when the gateway is to end.
    pub shutdown: CancellationToken,
    /// What the engine knows beside the store; made with [`Engine::open`].
    pub engine: Engine,
    /// Apps' repositories.
    pub git: Git,
    /// What people hold open.
    pub doors: Doors,
    /// Where logs may be sent to.
    pub drains_to: Allowed,
    /// How quickly automatic scaling follows the load.
    pub pace: Pace,
    /// The rates.yml, read whenever prices are needed.
    pub rates: Option<PathBuf>,
    /// Whose days and months usage is told in, where no rates.yml has a zone.
    pub time_zone: TimeZone,
    /// From where the gateway's doors may be used.
    pub door_lists: DoorLists,
}

impl State {
    /// The clusters as they are now.
    pub fn clusters(&self) -> Arc<Clusters> {
        Arc::clone(&self.clusters.borrow())
    }

    /// The folder of blobs that agents may fetch, each named by its SHA-256 in hex.
    pub fn blobs(&self) -> PathBuf {
        self.data.join("blobs")
    }
}
