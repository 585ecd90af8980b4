//! Lines that wait until no earlier one can come any more, of each of an instance's sources, and the batches made of them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use magrathea_core::logs::LogRecord;
use tokio::time::Instant;

use super::instance::{Batch, InstanceLog};
use super::join::{Joiner, Rest};
use super::parse::{Speaker, parse_engine_line};
use super::tail::{Lines, Origin};

/// Most bytes that one batch brings.
pub const BATCH: usize = 1 << 20;
/// A line from later than this was written by a clock that has been set back.
const AHEAD: Duration = Duration::from_secs(1);

/// An instance's sources.
pub struct Group {
    pub log: Arc<InstanceLog>,
    pub queues: BTreeMap<String, Queue>,
    /// A batch that could not be stored.
    refused: Option<Batch>,
}

impl Group {
    pub fn new(log: Arc<InstanceLog>) -> Self {
        Group { log, queues: BTreeMap::new(), refused: None }
    }

    pub fn is_full(&self, key: &str) -> bool {
        self.queues.get(key).is_some_and(|queue| queue.bytes >= BATCH)
    }

    /// How far in time all sources that have more are read.
    pub fn reached(&self) -> Option<Timestamp> {
        self.queues.values().filter(|queue| queue.lagging).map(|queue| queue.last).min()
    }

    /// Where the earliest line belongs that is not whole: others wait for it, but none of its own source's before it.
    pub fn held(&self) -> Option<Timestamp> {
        self.queues.values().filter_map(|queue| Some(queue.joiner.held()?.max(queue.last))).min()
    }

    /// Whether a batch could not be stored.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Stores the lines up to a time.
    pub fn store(&mut self, until: Timestamp, now: Timestamp) -> io::Result<()> {
        loop {
            let batch = match self.refused.take() {
                Some(batch) => batch,
                None => match self.next_batch(until, now) {
                    Some(batch) => batch,
                    None => return Ok(()),
                },
            };
            let segments = self.log.written().borrow().segment;
            if let Err(error) = self.log.append(&batch, now) {
                self.refused = Some(batch);
                return Err(error);
            }
            if self.log.written().borrow().segment != segments {
                self.log.tidy(now)?;
            }
        }
    }

    fn next_batch(&mut self, until: Timestamp, now: Timestamp) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut reached: BTreeMap<String, (Arc<Origin>, u64)> = BTreeMap::new();
        let due = |entry: &&Entry| entry.order <= until || entry.order > now + AHEAD;
        while batch.lines.len() < BATCH {
            let heads = self.queues.iter_mut().filter_map(|(key, queue)| {
                let order = queue.entries.front().filter(due)?.order;
                Some((order, key, queue))
            });
            let Some((order, key, queue)) = heads.min_by_key(|(order, ..)| *order) else { break };
            let Some(entry) = queue.entries.pop_front() else { break };
            if batch.lines.is_empty() {
                batch.first = order;
            }
            queue.bytes -= entry.lines.len();
            batch.lines.extend_from_slice(&entry.lines);
            match reached.get_mut(key) {
                Some(place) => *place = (entry.origin, entry.end),
                None => drop(reached.insert(key.clone(), (entry.origin, entry.end))),
            }
        }
        batch.at = reached.into_iter().map(|(key, (origin, end))| (key, origin.at(end))).collect();
        (!batch.lines.is_empty()).then_some(batch)
    }
}

/// The lines of one source that wait.
#[derive(Default)]
pub struct Queue {
    entries: VecDeque<Entry>,
    pub bytes: usize,
    last: Timestamp,
    /// There is more to read.
    pub lagging: bool,
    joiner: Joiner,
    /// What the joiner holds is read up to here.
    read: Option<(Arc<Origin>, u64)>,
}

impl Queue {
    pub fn push(&mut self, records: &[LogRecord], (origin, end): (&Arc<Origin>, u64)) {
        let Some(first) = records.first() else { return };
        let order = self.last.max(first.time);
        let mut lines = Vec::with_capacity(256);
        for record in records {
            self.last = self.last.max(record.time);
            if serde_json::to_writer(&mut lines, record).is_ok() {
                lines.push(b'\n');
            }
        }
        self.bytes += lines.len();
        self.entries.push_back(Entry { order, lines, origin: origin.clone(), end });
    }

    /// Takes lines of the engine's.
    pub fn take(&mut self, lines: &Lines, speaker: &Speaker, now: Timestamp) {
        let notice = |text: &str| LogRecord {
            replica: Some(speaker.replica.clone()),
            release: speaker.release,
            ..LogRecord::notice(now, speaker.layer, text)
        };
        if lines.lost {
            self.cut(Rest::MayCome);
            let missing = notice("lines are missing here: the engine no longer had them");
            self.push(&[missing], (&lines.origin, lines.start));
        }
        for (line, end) in lines.each() {
            let said = parse_engine_line(line, speaker);
            let said = said.unwrap_or_else(|| notice("a line is missing here: the engine's own was damaged"));
            let whole = self.joiner.push(said, Instant::now());
            self.read = whole.is_empty().then(|| (lines.origin.clone(), end));
            self.push(&whole, (&lines.origin, end));
        }
    }

    /// No longer waits for the rest of a line when that is gone, or has not come in time.
    pub fn settle(&mut self, gone: bool) {
        if gone {
            self.cut(Rest::Never);
        } else if self.joiner.is_overdue(Instant::now()) {
            self.cut(Rest::MayCome);
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.read.is_none()
    }

    fn cut(&mut self, rest: Rest) {
        if let Some((origin, end)) = self.read.take() {
            let records = self.joiner.cut(rest);
            self.push(&records, (&origin, end));
        }
    }
}

/// A line that waits for its turn; or several, when the engine's file holds pieces of them among each other.
struct Entry {
    /// No earlier than the one before it from the same source.
    order: Timestamp,
    lines: Vec<u8>,
    origin: Arc<Origin>,
    end: u64,
}
