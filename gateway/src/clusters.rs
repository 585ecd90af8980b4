//! `clusters.yml` while the gateway runs: read at the start, and again when it changes or on SIGHUP. A file with
//! mistakes changes nothing; the last good one stays in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use magrathea_core::clusters::{Clusters, parse_clusters};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Reads the file; the error shows every mistake in it.
pub fn load(path: &Path) -> anyhow::Result<Clusters> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse_clusters(&path.display().to_string(), &text)?)
}

/// What tells whether a file was written since.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Reads the file again whenever it changes or SIGHUP comes, until `shutdown`.
pub async fn watch(path: PathBuf, clusters: watch::Sender<Arc<Clusters>>, shutdown: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::error!(%error, "cannot listen for SIGHUP"),
    };
    let mut seen = stamp(&path);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = hangup.recv() => {}
            () = tokio::time::sleep(INTERVAL) => {
                if stamp(&path) == seen {
                    continue;
                }
            }
        }
        seen = stamp(&path);
        match load(&path) {
            Ok(new) => {
                let changed = clusters.send_if_modified(|old| {
                    let changed = **old != new;
                    *old = Arc::new(new);
                    changed
                });
                tracing::info!(changed, "read {} again", path.display());
            }
            Err(error) => tracing::error!("{} has mistakes and is not used:\n{error:#}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "clusters:\n  local:\n    nodes:\n      one: {address: 127.0.0.1, layers: [storage, db, app, proxy, routing, support]}\n";

    #[tokio::test]
    async fn a_change_is_read_and_a_mistake_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clusters.yml");
        std::fs::write(&path, GOOD).unwrap();
        let (sender, mut receiver) = watch::channel(Arc::new(load(&path).unwrap()));
        let shutdown = CancellationToken::new();
        let watching = watch(path.clone(), sender, shutdown.clone());
        let change = async {
            std::fs::write(&path, "clusters: [").unwrap();
            tokio::time::sleep(INTERVAL + INTERVAL / 2).await;
            assert!(!receiver.has_changed().unwrap());
            std::fs::write(&path, GOOD.replace("local", "milan")).unwrap();
            receiver.changed().await.unwrap();
            assert!(receiver.borrow().clusters.keys().any(|name| name.as_str() == "milan"));
            shutdown.cancel();
        };
        tokio::join!(watching, change);
    }
}
