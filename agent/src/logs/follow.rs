//! Answers one question about an instance's log: finds where to begin, reads on, and hands over the lines that are
//! wanted. At the end of what is written it says so with a mark, and waits for more when asked to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use magrathea_core::logs::{Cursor, LogLayer, LogQuery, LogRecord, Mark, Matcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::instance::InstanceLog;
use super::mask::Masker;
use super::read::{Reader, Step};
use super::segment::RECORD;
use super::{HORIZON, Logs};
use crate::fail::{Doing, Outcome, fail, internal};

/// A mark comes so often at least, so that who merges several nodes need not wait for a silent one.
const MARK: Duration = Duration::from_millis(250);
/// A mark comes after so many bytes at the latest.
const UNMARKED: usize = 2 << 20;
/// Most lines that `last` may ask for.
const MOST_LAST: usize = 100_000;

/// Hands over records, one JSON object per line, and marks. Ends with the log, or with who listens.
pub async fn follow(logs: &Logs, query: LogQuery, out: mpsc::Sender<Bytes>) -> Outcome<()> {
    let log = logs.of(&query.slug)?;
    let refused = |error| fail(magrathea_core::wire::ActionErrorKind::Refused, format!("the pattern: {error}"));
    let matcher = query.filter.matcher().map_err(refused)?;
    let masker = Masker::new(&query.mask.0);
    let mut reading = Reading { log: log.clone(), matcher, masker, open: false, reader: None, query };
    reading.open = reading.query.filter.is_open();
    let mut written = log.written();
    let begin = reading.clone_for_search();
    let cursor = blocking(move || begin.begin()).await??;
    reading.reader = Some(Reader::new(log.folder().to_owned(), cursor));
    let (mut marked, mut unmarked) = (None, 0);
    loop {
        // Taken before reading: what is read comes to this time at least.
        let horizon = logs.horizon();
        let end = *written.borrow_and_update();
        let piece = blocking(move || {
            let piece = reading.piece(end);
            (piece, reading)
        });
        let (bytes, at_end);
        (bytes, at_end, reading) = match piece.await? {
            (Ok((bytes, at_end)), reading) => (bytes, at_end, reading),
            (Err(error), _) => return Err(error),
        };
        unmarked += bytes.len();
        if !bytes.is_empty() && out.send(bytes).await.is_err() {
            return Ok(());
        }
        if !at_end {
            // On the way through a long log: who is interrupted need not begin anew.
            if unmarked > UNMARKED {
                let cursor = reading.reader.as_ref().map(Reader::cursor).unwrap_or_default();
                let mark =
                    serde_json::json!({"mark": Mark { time: Timestamp::UNIX_EPOCH, cursor: cursor.to_string() }});
                if out.send(Bytes::from(format!("{mark}\n"))).await.is_err() {
                    return Ok(());
                }
                unmarked = 0;
            }
            continue;
        }
        unmarked = 0;
        let cursor = reading.reader.as_ref().map(Reader::cursor).unwrap_or_default();
        let due =
            marked.as_ref().is_none_or(|(at, since): &(Cursor, Instant)| *at != cursor || since.elapsed() >= MARK);
        if due {
            let mark = serde_json::json!({"mark": Mark { time: horizon, cursor: cursor.to_string() }});
            if out.send(Bytes::from(format!("{mark}\n"))).await.is_err() {
                return Ok(());
            }
            marked = Some((cursor, Instant::now()));
        }
        if !reading.query.follow || reading.is_past() {
            return Ok(());
        }
        tokio::select! {
            () = out.closed() => return Ok(()),
            changed = tokio::time::timeout(MARK, written.changed()) => if let Ok(Err(_)) = changed {
                return Ok(());
            },
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| internal(format!("reading a log ended: {error}")))
}

/// What one follower is at.
struct Reading {
    log: Arc<InstanceLog>,
    query: LogQuery,
    matcher: Matcher,
    masker: Masker,
    /// Every line passes; only values may have to be hidden.
    open: bool,
    reader: Option<Reader>,
}

/// What is needed to find where to begin.
struct Search {
    log: Arc<InstanceLog>,
    query: LogQuery,
    matcher: Matcher,
}

impl Reading {
    fn clone_for_search(&self) -> Search {
        Search { log: self.log.clone(), query: self.query.clone(), matcher: self.matcher.clone() }
    }

    /// Whether nothing that is wanted can come any more.
    fn is_past(&self) -> bool {
        self.query.filter.until.is_some_and(|until| until + 2 * HORIZON < Timestamp::now())
    }

    /// The wanted lines of one piece, and whether it was the last at present.
    fn piece(&mut self, written: Cursor) -> Outcome<(Bytes, bool)> {
        let Some(reader) = &mut self.reader else { return Err(internal("nothing is read")) };
        let mut buffer = Vec::new();
        let step = reader.read(written, &mut buffer).doing(|| "reading a log".into())?;
        match step {
            Step::End => Ok((Bytes::new(), true)),
            Step::Gap => {
                let text = "lines are missing here: they are not kept any more";
                let layer = self.query.filter.layers.first().copied().unwrap_or(LogLayer::App);
                Ok((encode(&LogRecord::notice(Timestamp::now(), layer, text))?.into(), false))
            }
            Step::Lines => Ok((self.select(&buffer)?.into(), false)),
        }
    }

    fn select(&self, lines: &[u8]) -> Outcome<Vec<u8>> {
        let mut out = Vec::with_capacity(lines.len());
        for line in records(lines) {
            if self.open && !self.masker.may_match(line) {
                out.extend_from_slice(line);
                continue;
            }
            let Ok(mut record) = serde_json::from_slice::<LogRecord>(line) else { continue };
            if !self.matcher.matches(&record) {
                continue;
            }
            if self.masker.mask(&mut record) {
                out.extend(encode(&record)?);
            } else {
                out.extend_from_slice(line);
            }
        }
        Ok(out)
    }
}

impl Search {
    /// Where to begin.
    fn begin(&self) -> Outcome<Cursor> {
        if let Some(after) = self.query.after {
            return Ok(after);
        }
        let segments = self.log.segments();
        let first_held = segments.first().map_or(0, |segment| segment.number);
        let place = |segment| Cursor { segment, offset: 0 };
        let from = match self.query.filter.since {
            // The last segment that begins before it; its lines are sorted out while they are read.
            Some(since) => segments.iter().rev().find(|segment| segment.from <= since).map(|segment| segment.number),
            None => None,
        };
        let from = from.unwrap_or(first_held);
        let Some(last) = self.query.last else { return Ok(place(from)) };
        let wanted = usize::try_from(last).unwrap_or(usize::MAX).min(MOST_LAST);
        let written = *self.log.written().borrow();
        if wanted == 0 {
            return Ok(written);
        }
        let mut missing = wanted;
        let numbers: Vec<u64> = segments.iter().map(|segment| segment.number).filter(|n| *n >= from).collect();
        for number in numbers.iter().rev() {
            let mut places = self.places(*number, written)?;
            if places.len() >= missing {
                let offset = places.get(places.len() - missing).copied().unwrap_or_default();
                return Ok(Cursor { segment: *number, offset });
            }
            missing -= places.len();
            places.clear();
        }
        Ok(place(from))
    }

    /// Where the wanted lines of a segment begin.
    fn places(&self, segment: u64, written: Cursor) -> Outcome<Vec<u64>> {
        let end = written.min(Cursor { segment: segment + 1, offset: 0 });
        let mut reader = Reader::new(self.log.folder().to_owned(), Cursor { segment, offset: 0 });
        let (mut buffer, mut places) = (Vec::new(), Vec::new());
        let open = self.query.filter.is_open();
        loop {
            let offset = reader.cursor().offset;
            match reader.read(end, &mut buffer).doing(|| "searching a log".into())? {
                Step::Lines => {}
                Step::End | Step::Gap => return Ok(places),
            }
            let mut place = if reader.cursor().segment == segment { offset } else { return Ok(places) };
            for line in buffer.split_inclusive(|byte| *byte == b'\n') {
                let wanted = line.starts_with(RECORD)
                    && (open || serde_json::from_slice(line).is_ok_and(|record| self.matcher.matches(&record)));
                if wanted {
                    places.push(place);
                }
                place += line.len() as u64;
            }
        }
    }
}

/// The records among the lines of a segment.
fn records(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split_inclusive(|byte| *byte == b'\n').filter(|line| line.starts_with(RECORD))
}

fn encode(record: &LogRecord) -> Outcome<Vec<u8>> {
    let mut line = serde_json::to_vec(record).doing(|| "encoding a line".into())?;
    line.push(b'\n');
    Ok(line)
}
