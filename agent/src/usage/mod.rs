//! The ledger: what this node's instances use, kept on disk until the gateway has it. Needs no gateway.
//!
//! Traffic is counted from the router's own log as it is taken over, and from the router's sums; what containers and disks take
//! is told by whoever measures it. Now and then all of it is sealed into a batch, which goes to the gateway like every other
//! observation and counts there once.

mod account;
mod clock;
mod containers;
mod disk;
mod levels;
mod line;
mod poll;
mod state;
mod traffic;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use magrathea_core::usage::{Gap, GapReason, Metric, Usage};
use magrathea_core::wire::Observation;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

pub use self::account::Sums;
use self::clock::Reading;
pub use self::containers::watch as watch_containers;
pub use self::disk::{run_measure, watch as watch_disk};
use self::line::{Line, Reader};
pub use self::poll::watch;
use self::state::State;
use self::traffic::Traffic;
use crate::fail::Outcome;
use crate::folders;
use crate::logs::{Lines, Position};
use crate::spool::Spool;

/// How often what was counted is stored.
const STORE: Duration = Duration::from_secs(2);
/// While so many batches wait for the gateway, each next one takes longer to fill.
const SLOWER: usize = 60;
/// So many never wait: what is counted stays in one until there is room.
const MOST: usize = 2000;

/// What a process of the router says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// When it began, in microseconds since 1970.
    pub began: i64,
    /// When it was asked, by the node's clock in microseconds since 1970.
    pub asked: i64,
    pub sums: BTreeMap<String, Sums>,
    /// Lines of its log that it could not write.
    pub dropped: u64,
}

/// Counts, and keeps what is counted.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// How often a batch goes to the gateway.
    every: Duration,
    /// Why what is counted cannot be kept.
    trouble: watch::Sender<Option<String>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    reader: Reader,
    traffic: Traffic,
    /// Since the agent was started, for who watches.
    live: BTreeMap<String, Usage>,
    stored: Option<Position>,
    stored_at: Option<Instant>,
    sealed_at: Instant,
    failures: Failures,
}

/// Why the last of each did not succeed.
#[derive(Debug, Default)]
struct Failures {
    store: Option<String>,
    seal: Option<String>,
}

impl Ledger {
    /// Goes on where it was. One that cannot be read is set aside, and the gap is told.
    pub fn open(path: PathBuf, every: Duration) -> Self {
        let loaded = folders::load::<State>(&path);
        let state = match loaded {
            Ok(Some(state)) => state,
            Ok(None) => State::new(Uuid::now_v7()),
            Err(error) => {
                tracing::error!(%error, "the ledger cannot be read; another is begun");
                let changed = std::fs::metadata(&path).and_then(|held| held.modified()).ok();
                let _ = std::fs::rename(&path, path.with_extension("damaged"));
                let until = Timestamp::now();
                let from = changed.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(until);
                let mut state = State::new(Uuid::now_v7());
                state.gap(Gap { from, until, reason: GapReason::LedgerLost, requests: None });
                state
            }
        };
        let stored = state.position.clone();
        let inner = Inner {
            state,
            reader: Reader::default(),
            traffic: Traffic::default(),
            live: BTreeMap::new(),
            stored,
            stored_at: None,
            sealed_at: Instant::now(),
            failures: Failures::default(),
        };
        Ledger { path, every, trouble: watch::Sender::new(None), inner: Mutex::new(inner) }
    }

    /// Counts lines of the router's log, each once.
    pub fn count(&self, lines: &Lines) {
        self.inner().count(lines, &Reading::take());
    }

    /// The router's processes have been asked.
    pub fn told(&self, told: &[Told]) {
        let mut inner = self.inner();
        let now = inner.now();
        for told in told {
            inner.told(told, now);
        }
        inner.state.tidy(now);
    }

    /// A counter that only grows stands at a total: adds what it grew by since it was told last. One that stands lower than
    /// before began anew.
    pub fn counter(&self, source: &str, slug: &str, metric: Metric, total: u64) {
        let mut inner = self.inner();
        let now = inner.now();
        let grown = inner.state.grown(source, total, now);
        inner.add(slug, now, &[(metric, grown)].into_iter().collect());
    }

    /// So many bytes there are from now on.
    pub fn level(&self, slug: &str, metric: Metric, bytes: u64) {
        let mut inner = self.inner();
        let now = inner.now();
        inner.state.level(slug, metric, bytes, now);
    }

    /// The instances that take anything of a metric, as it was told last.
    pub fn held(&self, metric: Metric) -> Vec<String> {
        self.inner().state.held(metric)
    }

    /// An instance was destroyed.
    pub fn forget(&self, slug: &str) {
        let mut inner = self.inner();
        let now = inner.now();
        inner.state.forget(slug, now);
    }

    /// The gateway says what time it is.
    pub fn set_clock(&self, time: Timestamp) {
        self.inner().state.clock.set(&Reading::take(), time);
    }

    /// What was counted since the agent was started.
    pub fn live(&self) -> BTreeMap<String, Usage> {
        let mut inner = self.inner();
        inner.settle();
        inner.live.clone()
    }

    /// Whether what stands before a place of the router's log is counted for ever.
    pub fn holds(&self, position: &Position) -> bool {
        self.inner().stored.as_ref().is_some_and(|stored| stored.is_after(position))
    }

    /// Why what is counted cannot be kept; none when it can.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// Stores what was counted when it is time to.
    pub fn store_when_due(&self) {
        if self.inner().stored_at.is_none_or(|at| at.elapsed() >= STORE) {
            self.store_now();
        }
    }

    /// Stores what was counted.
    pub fn store_now(&self) {
        let mut inner = self.inner();
        inner.stored_at = Some(Instant::now());
        inner.failures.store = self.store(&mut inner).err().map(|error| error.to_string());
        self.tell(&inner.failures);
    }

    /// Hands what was counted to the spool when it is time to.
    pub fn seal_when_due(&self, spool: &Spool) {
        let mut inner = self.inner();
        if inner.sealed_at.elapsed() < self.every {
            return;
        }
        let waiting = spool.count();
        let pause = self.every.saturating_mul(1 + u32::try_from(waiting.min(SLOWER)).unwrap_or_default());
        if waiting < MOST && inner.sealed_at.elapsed() >= pause {
            inner.sealed_at = Instant::now();
            inner.failures.seal = self.seal(&mut inner, spool).err().map(|error| error.to_string());
            self.tell(&inner.failures);
        }
    }

    /// A batch is on the disk before the spool has it, so that one that comes into it twice has the same number.
    fn seal(&self, inner: &mut Inner, spool: &Spool) -> Outcome<()> {
        inner.settle();
        let Some(batch) = inner.state.seal().cloned() else { return Ok(()) };
        self.store(inner)?;
        spool.push(&Observation::Usage(Box::new(batch)))?;
        inner.state.sealed = None;
        Ok(())
    }

    fn store(&self, inner: &mut Inner) -> Outcome<()> {
        inner.settle();
        folders::store(&self.path, &inner.state)?;
        inner.stored = inner.state.position.clone();
        Ok(())
    }

    /// Says once that what is counted cannot be kept, and once that it can be again.
    fn tell(&self, failures: &Failures) {
        let failure = failures.store.as_ref().or(failures.seal.as_ref());
        self.trouble.send_if_modified(|told| {
            if told.is_some() == failure.is_some() {
                return false;
            }
            match failure {
                Some(error) => tracing::error!(error, "what is counted cannot be stored; it is kept in memory"),
                None => tracing::info!("what is counted is stored again"),
            }
            *told = failure.map(|error| format!("what is counted cannot be stored, only held in memory: {error}"));
            true
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.state.clock.now(&Reading::take())
    }

    fn add(&mut self, slug: &str, at: Timestamp, usage: &Usage) {
        self.state.add(slug, at, usage);
        match self.live.get_mut(slug) {
            Some(live) => live.add_all(usage),
            None => drop(self.live.insert(slug.to_owned(), usage.clone())),
        }
    }

    fn count(&mut self, lines: &Lines, reading: &Reading) {
        let now = self.state.clock.now(reading);
        let known = self.state.position.as_ref().filter(|position| lines.origin.holds(position));
        let from = known.map_or(0, |position| position.offset);
        // What is missing before these lines was not counted, unless it was counted before the agent was started again.
        if lines.lost && (lines.start > from || known.is_none()) {
            let gap =
                Gap { from: self.state.reached.unwrap_or(now), until: now, reason: GapReason::LogLost, requests: None };
            self.state.gap(gap);
        }
        let Inner { state, reader, traffic, .. } = self;
        let (mut refused, mut damaged, mut end) = (0, 0, None);
        let (latest, ahead) = (now.as_microsecond(), now.as_microsecond() - reading.wall.as_microsecond());
        let mut reached = state.reached.map_or(i64::MIN, |reached| reached.as_microsecond());
        for (line, place) in lines.each().filter(|(_, place)| *place > from) {
            end = Some(place);
            match reader.read(line) {
                Line::Request(request) => {
                    // By the gateway's time, in the order in which they were over, and never in the future.
                    reached = request.at.saturating_add(ahead).max(reached).min(latest);
                    let asked = |worker| state.workers.get(&worker).and_then(|worker| worker.asked);
                    traffic.add(&request, reached, asked);
                }
                Line::Refused => refused += 1,
                Line::Inner => {}
                Line::Damaged => damaged += 1,
            }
        }
        if let Ok(reached) = Timestamp::from_microsecond(reached) {
            state.reached = Some(reached);
        }
        self.state.refuse(refused);
        if damaged > 0 {
            let from = self.state.reached.unwrap_or(now);
            self.state.gap(Gap { from, until: now, reason: GapReason::LogDamaged, requests: Some(damaged) });
        }
        if let Some(end) = end {
            self.state.position = Some(lines.origin.at(end));
        }
    }

    /// Puts requests that are read into the accounts.
    fn settle(&mut self) {
        for stretch in self.traffic.take() {
            for (slug, tally) in stretch.tallies {
                let worker = self.state.workers.entry(stretch.worker).or_default();
                let account = worker.accounts.entry(slug.clone()).or_default();
                let mut usage = tally.kinds();
                account.ended(tally.all, tally.known).add_to(&mut usage);
                self.add(&slug, stretch.hour, &usage);
            }
        }
    }

    fn told(&mut self, told: &Told, now: Timestamp) {
        self.settle();
        let seen = self.state.workers.get(&told.began).and_then(|worker| worker.seen);
        for (slug, sums) in self.state.told(told.began, told.asked, now, &told.sums) {
            let mut usage = Usage::default();
            sums.add_to(&mut usage);
            self.add(&slug, now, &usage);
        }
        let worker = self.state.workers.entry(told.began).or_default();
        let dropped = told.dropped.saturating_sub(std::mem::replace(&mut worker.dropped, told.dropped));
        // What a process that has just begun could not say is no request's.
        if let Some(from) = seen.filter(|_| dropped > 0) {
            self.state.gap(Gap { from, until: now, reason: GapReason::LogRefused, requests: Some(dropped) });
        }
    }
}

#[cfg(test)]
mod tests;
