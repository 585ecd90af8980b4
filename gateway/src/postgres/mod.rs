//! The private PostgreSQL: a child of the gateway, on a Unix socket that only the gateway's user can reach.
//!
//! A file lock says which process owns the server. Its owner keeps it running (a server that dies is started again)
//! and stops it at the end. A gateway that was killed leaves its server behind; the next owner stops that one first,
//! so that a server never outlives the settings it was started with.

mod binaries;
mod cluster;
mod process;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::process::Server;
use crate::db::Db;

/// The longest path of a Unix socket, without the end mark.
const MAX_SOCKET_PATH: usize = 107;

/// How a private server is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's folder: `data/`, `run/` and `lock`.
    pub folder: PathBuf,
    /// Put before every command of PostgreSQL's; tests that run as root change the user with it.
    pub wrapper: Vec<OsString>,
    /// Settings beyond the usual, as in `fsync=off`.
    pub settings: Vec<String>,
}

impl Options {
    pub fn new(folder: PathBuf) -> Self {
        Options { folder, wrapper: Vec::new(), settings: Vec::new() }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn socket_folder(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The connection string for one of the server's databases.
    pub fn url(&self, database: &str) -> String {
        let folder = self.socket_folder().display().to_string().replace('\\', "\\\\").replace('\'', "\\'");
        format!("host='{folder}' user=magrathea dbname={database} connect_timeout=10 application_name=magrathea")
    }
}

/// A private server that this process owns. [`Private::stop`] it; when it is only dropped it is left behind, to be
/// taken over by the next owner.
pub struct Private {
    stop: CancellationToken,
    supervisor: JoinHandle<()>,
    _lock: File,
}

/// Whether this process may start a server in the folder.
pub enum Ownership {
    /// It owns the server now.
    Owned(Private),
    /// Another gateway process does, and its server answers.
    Elsewhere,
}

/// Starts the private server, making its data folder first when there is none; or finds that another process owns it.
pub async fn start(options: &Options) -> anyhow::Result<Ownership> {
    if options.wrapper.is_empty() && rustix::process::geteuid().is_root() {
        bail!("PostgreSQL refuses to run as root: run the gateway as an unprivileged user, or give --database-url");
    }
    let socket = options.socket_folder().join(".s.PGSQL.5432");
    if socket.as_os_str().len() > MAX_SOCKET_PATH {
        bail!("the data folder's path is too long for the Unix socket {}", socket.display());
    }
    crate::files::private_folder(&options.folder)?;
    let Some(lock) = try_lock(&options.folder.join("lock"))? else {
        return Ok(Ownership::Elsewhere);
    };
    let binaries = binaries::find()?;
    cluster::ensure(&binaries, options).await?;
    process::stop_orphan(options).await?;
    let server = Server::start(&binaries, options).await?;
    let stop = CancellationToken::new();
    let supervisor = process::supervise(server, binaries, options.clone(), stop.clone());
    Ok(Ownership::Owned(Private { stop, supervisor, _lock: lock }))
}

/// Makes a database unless it exists.
pub async fn ensure_database(options: &Options, name: &str) -> anyhow::Result<()> {
    let db = Db::new(&options.url("postgres"))?;
    let result =
        crate::db::ensure_database(&db, name).await.with_context(|| format!("cannot make the database {name}"));
    db.close();
    result
}

impl Private {
    /// Stops the server: connections are closed, what was committed is on disk.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the supervisor of PostgreSQL failed");
        }
    }
}

/// None when another process holds the lock.
fn try_lock(path: &Path) -> anyhow::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Polls until `done`, quickly at first, for at most `limit`; tells whether it came to pass.
async fn wait_until(limit: Duration, mut done: impl AsyncFnMut() -> bool) -> bool {
    let end = tokio::time::Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        if done().await {
            return true;
        }
        if tokio::time::Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
