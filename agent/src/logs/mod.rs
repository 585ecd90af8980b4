//! The logs of this node's instances: taken from engine and router as they are written, kept in files of our own that
//! outlive containers and deploys, and read from there by whoever asks. Needs no gateway.
//!
//! The only memory between who writes and who reads is those files: a slow reader lags behind on the disk, and a reader
//! that was away goes on where it was, as long as the lines are kept.

mod access;
mod collect;
mod follow;
mod instance;
mod join;
mod mask;
mod parse;
mod queue;
mod read;
mod segment;
mod tail;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use magrathea_core::logs::LogQuery;
use magrathea_core::plan::LogBounds;
use tokio::sync::mpsc;

pub use collect::{Found, collect};
use instance::InstanceLog;
pub use parse::Speaker;
pub use tail::{Lines, Position, Tail};

use crate::engine::is_slug;
use crate::fail::{Doing, Outcome, internal};

/// A line may come into its file so long after the time that it bears, or lie there unread: lines are put in order up to
/// so long before now.
const HORIZON: Duration = Duration::from_millis(200);

/// All instances' logs.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    instances: Mutex<HashMap<String, Arc<InstanceLog>>>,
    /// Everything up to this time is stored, in nanoseconds since 1970.
    horizon: AtomicI64,
}

impl Logs {
    /// Of a folder; every instance's is opened when it is first asked for.
    pub fn new(folder: PathBuf) -> Self {
        Logs { folder, instances: Mutex::default(), horizon: AtomicI64::new(0) }
    }

    /// Hands over the lines that are wanted until there are no more, or nobody listens any more.
    pub async fn follow(&self, query: LogQuery, out: mpsc::Sender<Bytes>) -> Outcome<()> {
        follow::follow(self, query, out).await
    }

    /// Settles how much of an instance's log is kept. Says whether that is new.
    pub fn bound(&self, slug: &str, bounds: &LogBounds) -> Outcome<bool> {
        self.of(slug)?.bound(bounds).doing(|| "settling how much of a log is kept".into())
    }

    /// Removes an instance's log.
    pub fn destroy(&self, slug: &str) -> Outcome<bool> {
        self.of(slug)?.destroy().doing(|| "removing a log".into())
    }

    /// What each instance's log takes, in bytes; those that have none are there, too.
    pub fn sizes(&self) -> BTreeMap<String, u64> {
        let size = |slug: String| {
            let segments = self.of(&slug).ok()?.segments();
            Some((slug, segments.iter().map(|segment| segment.size).sum()))
        };
        self.slugs().into_iter().filter_map(size).collect()
    }

    fn of(&self, slug: &str) -> Outcome<Arc<InstanceLog>> {
        if !is_slug(slug) {
            return Err(internal(format!("{slug:?} is no instance's name")));
        }
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = instances.get(slug) {
            return Ok(log.clone());
        }
        let log = InstanceLog::open(self.folder.join(slug)).doing(|| format!("opening the log of {slug}"))?;
        let log = Arc::new(log);
        instances.insert(slug.to_owned(), log.clone());
        Ok(log)
    }

    /// Every instance that has a log.
    fn slugs(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        names.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn all(&self) -> Vec<Arc<InstanceLog>> {
        self.slugs().iter().filter_map(|slug| self.of(slug).ok()).collect()
    }

    fn horizon(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.horizon.load(Ordering::Acquire).into()).unwrap_or_default()
    }

    fn reach(&self, horizon: Timestamp) {
        let nanoseconds = i64::try_from(horizon.as_nanosecond()).unwrap_or_default();
        self.horizon.store(nanoseconds, Ordering::Release);
    }
}
