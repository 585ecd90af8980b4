//! How much disk each instance takes on this node: writable files, databases, logs, and the releases that are kept. Looked at
//! every few minutes, one after the other, and never in the way of what serves.

mod groups;
mod images;
mod measure;
mod schedule;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use magrathea_core::plan::NodeFolder;
use magrathea_core::usage::Metric;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::groups::Groups;
use self::images::Sizes;
pub use self::measure::run_measure;
use self::schedule::Schedule;
use super::levels::{end_others, tell};
use crate::database::quota;
use crate::engine::is_slug;
use crate::fail::{Doing, Outcome, internal};
use crate::node::NodeAgent;
use crate::storage;

/// The most and the least time between two looks at what is due.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often databases with a quota are looked at.
const QUOTA_EVERY: Duration = Duration::from_secs(10);

/// Looks until told to stop, at everything about this often.
pub async fn watch(agent: Arc<NodeAgent>, every: Duration, stop: CancellationToken) {
    let looks = async {
        tokio::join!(watch_trees(&agent, every), watch_others(&agent, every), watch_quotas(&agent, every));
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = looks => {}
    }
}

fn pause(every: Duration) -> Duration {
    (every / 60).clamp(PAUSES.0, PAUSES.1)
}

/// Writable files. Each tree in its turn, so that they are spread over the time and never walked two at once.
async fn watch_trees(agent: &NodeAgent, every: Duration) {
    let (mut schedule, mut groups) = (Schedule::new(every), Groups::default());
    loop {
        let held: BTreeMap<String, PathBuf> = storage::list(&agent.folders).into_iter().collect();
        end_others(&agent.usage, Metric::Files, held.keys());
        groups.retain(|folder| held.values().any(|held| held == folder));
        for slug in schedule.due(held.keys(), Instant::now()) {
            let Some(folder) = held.get(&slug) else { continue };
            let began = Instant::now();
            match files(&mut groups, folder).await {
                Ok(bytes) => agent.usage.level(&slug, Metric::Files, bytes),
                // What it took before goes on to count.
                Err(error) if folder.exists() => tracing::warn!(slug, %error, "writable files were not measured"),
                Err(_) => {}
            }
            schedule.done(slug, began.elapsed(), Instant::now());
        }
        tokio::time::sleep(pause(every)).await;
    }
}

async fn files(groups: &mut Groups, folder: &Path) -> Outcome<u64> {
    if storage::is_subvolume(folder) {
        match groups.referenced(folder).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => tracing::warn!(%error, "the tree is walked instead"),
        }
    }
    let taken = measure::measure(folder).await?;
    if taken.left_out > 0 {
        tracing::warn!(folder = %folder.display(), taken.left_out, "files could not be looked at; they are not counted");
    }
    Ok(taken.bytes)
}

/// What is known without a walk, or with a short one.
async fn watch_others(agent: &NodeAgent, every: Duration) {
    let mut sizes = Sizes::default();
    loop {
        let logs = agent.logs.sizes();
        tell(&agent.usage, Metric::Logs, &logs);
        match sizes.code(&agent.engine, &logs.keys().cloned().collect()).await {
            Ok(code) => tell(&agent.usage, Metric::Code, &code),
            Err(error) => tracing::warn!(%error, "releases were not measured"),
        }
        match databases(agent).await {
            Ok(databases) => tell(&agent.usage, Metric::Database, &databases),
            Err(error) => tracing::warn!(%error, "databases were not measured"),
        }
        tokio::time::sleep(every).await;
    }
}

/// What each database's files take: whatever engine its tables have, and also while the server is away.
async fn databases(agent: &NodeAgent) -> Outcome<BTreeMap<String, u64>> {
    let folder = agent.folders.node(NodeFolder::Mariadb);
    let names = std::fs::read_dir(&folder).doing(|| "listing databases".into())?;
    let slugs = names.flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_slug(name));
    let mut all = BTreeMap::new();
    for slug in slugs {
        if let Some(bytes) = database(&folder, &slug).await? {
            all.insert(slug, bytes);
        }
    }
    Ok(all)
}

/// None when there is no such database.
async fn database(folder: &Path, slug: &str) -> Outcome<Option<u64>> {
    let folder = folder.join(slug);
    if !folder.is_dir() {
        return Ok(None);
    }
    let doing = || format!("measuring {}", folder.display());
    let path = folder.clone();
    let walked = tokio::task::spawn_blocking(move || walk::measure(&path, 1)).await;
    match walked.map_err(|error| internal(format!("{}: {error}", doing())))? {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        walked => Ok(Some(walked.doing(doing)?.bytes)),
    }
}

/// Databases that have a quota are closed for writing when they reach it, and opened again when there is room.
async fn watch_quotas(agent: &NodeAgent, every: Duration) {
    loop {
        for slug in quota::limited(&agent.folders) {
            let checked = async {
                let _turn = agent.serial.turn(format!("database {slug}")).await;
                let Some(bytes) = database(&agent.folders.node(NodeFolder::Mariadb), &slug).await? else {
                    return Ok(());
                };
                agent.usage.level(&slug, Metric::Database, bytes);
                quota::check(agent, &slug, bytes).await
            };
            if let Err(error) = checked.await {
                tracing::warn!(slug, %error, "the database's quota was not looked at");
            }
        }
        tokio::time::sleep(QUOTA_EVERY.min(every)).await;
    }
}
