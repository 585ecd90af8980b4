//! Takes lines over from where engine and router put them, in the order of their times, each once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use magrathea_core::logs::{LogLayer, LogRecord};
use magrathea_core::plan::NodeFolder;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::access::{AccessLog, KEPT_MIB};
use super::parse::{Speaker, parse_router_line};
use super::queue::{BATCH, Group, Queue};
use super::tail::{CHUNK, Lines, Origin, Tail};
use super::{HORIZON, Logs};
use crate::node::NodeAgent;
use crate::usage::Ledger;

/// Between rounds that find nothing.
const PAUSE: Duration = Duration::from_millis(40);
/// A source that was silent for so long is looked at in every fourth round.
const SILENT: Duration = Duration::from_secs(5);
/// Between comparisons with the engine when it tells nothing.
const COMPARE: Duration = Duration::from_secs(15);
const RECONNECT: Duration = Duration::from_millis(500);
/// Between looks at what is to be packed or removed of logs that nothing is written to.
const TIDY: Duration = Duration::from_secs(60);
/// The name under which the router's file is known among an instance's sources.
const ROUTER: &str = "router";

/// A container that says something.
#[derive(Debug, Clone)]
pub struct Found {
    pub container: String,
    pub path: PathBuf,
    pub speaker: Speaker,
}

/// Takes over until told to stop.
pub async fn collect(agent: Arc<NodeAgent>, stop: CancellationToken) {
    let (updates, inbox) = mpsc::sync_channel(16);
    let path = agent.folders.node(NodeFolder::RouterAdmin).join("access.log");
    let access = AccessLog::open(path, agent.folders.state("access-log.json"));
    let collector = Collector::new(agent.logs.clone(), access, agent.usage.clone());
    let ended = stop.clone();
    agent.tasks.spawn_blocking(move || collector.run(&inbox, &ended));
    let mut known = HashMap::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = listen(&agent, &updates, &mut known) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }
}

/// Tells which containers there are, now and whenever that changes. Ends when the engine is away.
async fn listen(agent: &NodeAgent, updates: &mpsc::SyncSender<Vec<Found>>, known: &mut HashMap<String, PathBuf>) {
    let mut changes = std::pin::pin!(agent.engine.container_changes());
    loop {
        match agent.engine.speakers(known).await {
            // A full inbox has newer news to come; this is told with them.
            Ok(found) => drop(updates.try_send(found)),
            Err(error) => {
                tracing::warn!(%error, "the containers whose logs are kept are not known");
                return;
            }
        }
        if let Ok(None | Some(Err(_))) = tokio::time::timeout(COMPARE, changes.next()).await {
            return;
        }
    }
}

struct Source {
    tail: Tail,
    speaker: Speaker,
    /// Its container is gone.
    gone: bool,
    heard: Instant,
}

pub(super) struct Collector {
    logs: Arc<Logs>,
    access: AccessLog,
    usage: Arc<Ledger>,
    sources: BTreeMap<String, Source>,
    groups: HashMap<String, Group>,
    compared: bool,
    rounds: u64,
    tidied: Instant,
    warned: Option<Instant>,
}

impl Collector {
    pub(super) fn new(logs: Arc<Logs>, access: AccessLog, usage: Arc<Ledger>) -> Self {
        Collector {
            logs,
            access,
            usage,
            sources: BTreeMap::new(),
            groups: HashMap::new(),
            compared: false,
            rounds: 0,
            tidied: Instant::now(),
            warned: None,
        }
    }

    fn run(mut self, inbox: &mpsc::Receiver<Vec<Found>>, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            while let Ok(found) = inbox.try_recv() {
                self.update(found);
            }
            let lagging = self.round(Timestamp::now());
            if !lagging {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Takes in which containers there are.
    pub(super) fn update(&mut self, found: Vec<Found>) {
        let present: HashSet<String> = found.iter().map(|found| found.container.clone()).collect();
        for found in found {
            if self.sources.contains_key(&found.container) {
                continue;
            }
            let Some(log) = self.group(&found.speaker.slug).map(|group| group.log.clone()) else { continue };
            let tail = Tail::new(&found.path, log.position(&found.container));
            let source = Source { tail, speaker: found.speaker, gone: false, heard: Instant::now() };
            self.sources.insert(found.container, source);
        }
        for (container, source) in &mut self.sources {
            source.gone = !present.contains(container);
        }
        if !self.compared {
            self.compared = true;
            for log in self.logs.all() {
                let sources = log.sources();
                sources.iter().filter(|key| *key != ROUTER && !present.contains(*key)).for_each(|key| log.forget(key));
            }
        }
    }

    /// Reads, orders and stores what there is. Says whether there is more.
    pub(super) fn round(&mut self, now: Timestamp) -> bool {
        self.rounds += 1;
        let reached = self.read_access();
        self.read_containers(now);
        let horizon = now - HORIZON;
        let (mut told, mut lagging, mut failure, mut waiting) = (horizon, false, None, false);
        for group in self.groups.values_mut() {
            let read = reached.into_iter().chain(group.reached()).fold(horizon, Timestamp::min);
            lagging |= read < horizon;
            let until = group.held().into_iter().fold(read, Timestamp::min);
            match group.store(until, now) {
                Ok(()) => {}
                Err(error) => failure = Some(error),
            }
            told = told.min(until);
            waiting |= group.is_refused() || group.queues.get(ROUTER).is_some_and(|queue| !queue.is_empty());
        }
        self.usage.store_when_due();
        if !waiting {
            self.access.settle(|position| self.usage.holds(position));
        }
        match failure {
            Some(error) => self.warn(&error),
            None => self.logs.reach(told),
        }
        self.end_sources();
        if self.tidied.elapsed() > TIDY {
            self.tidied = Instant::now();
            for log in self.logs.all() {
                if let Err(error) = log.tidy(now) {
                    self.warn(&error);
                }
            }
        }
        // After a failure there is no hurry.
        lagging && self.warned.is_none_or(|at| at.elapsed() > PAUSE)
    }

    /// Reads requests. None when all of them are read, else how far in time.
    fn read_access(&mut self) -> Option<Timestamp> {
        let (mut reached, mut read) = (None, 0);
        loop {
            if read > BATCH || self.groups.values().any(|group| group.is_full(ROUTER)) {
                return reached;
            }
            let lines = match self.access.read() {
                Ok(Some(lines)) => lines,
                Ok(None) => return None,
                Err(error) => {
                    self.warn(&error);
                    return None;
                }
            };
            read += lines.bytes.len();
            self.usage.count(&lines);
            if lines.lost {
                self.tell_missing(&lines);
            }
            for (line, end) in lines.each() {
                let Some((slug, record)) = parse_router_line(line) else { continue };
                reached = Some(record.time);
                self.access.reach(record.time);
                self.push_access(&slug, &record, (&lines.origin, end));
            }
        }
    }

    /// Nobody knows any more whose requests they were: each instance's log says that some may be missing.
    fn tell_missing(&mut self, lines: &Lines) {
        let next = lines.each().find_map(|(line, _)| parse_router_line(line)).map(|(_, record)| record.time);
        let until = next.unwrap_or_else(Timestamp::now);
        let notice = LogRecord::notice(until, LogLayer::Routing, missing(self.access.reached(), until));
        for slug in self.logs.slugs() {
            self.push_access(&slug, &notice, (&lines.origin, lines.start));
        }
    }

    fn push_access(&mut self, slug: &str, record: &LogRecord, (origin, end): (&Arc<Origin>, u64)) {
        let Some(group) = self.group(slug) else { return };
        // After a restart: an instance may have come further than the whole.
        let known = group.log.position(ROUTER);
        if known.is_none_or(|at| end > at.offset || !origin.holds(&at)) {
            group.queues.entry(ROUTER.into()).or_default().push(std::slice::from_ref(record), (origin, end));
        }
    }

    fn read_containers(&mut self, now: Timestamp) {
        let mut failure = None;
        for (key, source) in &mut self.sources {
            let Some(group) = self.groups.get_mut(&source.speaker.slug) else { continue };
            let queue = group.queues.entry(key.clone()).or_default();
            queue.lagging = false;
            if source.heard.elapsed() > SILENT && !source.gone && !self.rounds.is_multiple_of(4) {
                continue;
            }
            loop {
                if queue.bytes >= CHUNK {
                    queue.lagging = true;
                    break;
                }
                match source.tail.read() {
                    Ok(Some(lines)) => {
                        source.heard = Instant::now();
                        queue.take(&lines, &source.speaker, now);
                    }
                    Ok(None) => {
                        queue.settle(source.gone);
                        break;
                    }
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
        }
        if let Some(error) = failure {
            self.warn(&error);
        }
    }

    /// Lets go of sources whose containers are gone and that are read to their end.
    fn end_sources(&mut self) {
        let ended = |source: &Source, group: &Group, key: &String| {
            let over = |queue: &Queue| queue.is_empty() && !queue.lagging;
            source.gone && group.queues.get(key).is_none_or(over)
        };
        let groups = &mut self.groups;
        self.sources.retain(|key, source| {
            let Some(group) = groups.get_mut(&source.speaker.slug) else { return false };
            if group.is_refused() || !ended(source, group, key) {
                return true;
            }
            group.queues.remove(key);
            group.log.forget(key);
            false
        });
    }

    fn group(&mut self, slug: &str) -> Option<&mut Group> {
        if !self.groups.contains_key(slug) {
            let log = match self.logs.of(slug) {
                Ok(log) => log,
                Err(error) => {
                    self.warn(&io::Error::other(error));
                    return None;
                }
            };
            self.groups.insert(slug.to_owned(), Group::new(log));
        }
        self.groups.get_mut(slug)
    }

    /// Once a minute is enough.
    fn warn(&mut self, error: &io::Error) {
        if self.warned.is_none_or(|at| at.elapsed() > TIDY) {
            tracing::error!(%error, "logs wait: they cannot be read or stored");
            self.warned = Some(Instant::now());
        }
    }
}

/// What stands in place of requests that the router had no room for.
fn missing(from: Option<Timestamp>, until: Timestamp) -> String {
    let from = from.map(|from| format!(" from {from:.3}")).unwrap_or_default();
    format!(
        "requests{from} until {until:.3} may be missing here: they were not taken over in time, and the router keeps \
         no more than {KEPT_MIB} MiB of them"
    )
}
