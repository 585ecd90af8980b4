//! One instance's log: appended to by the collector alone, read by any number of followers, kept within bounds.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use magrathea_core::logs::Cursor;
use magrathea_core::plan::LogBounds;
use tokio::sync::watch;

use super::segment::{self, Positions, Segment};
use super::tail::Position;

/// A segment is full at this size, or at a sixteenth of what is kept.
const SEGMENT: u64 = 8 << 20;
/// A part of what is kept that goes at once.
const PARTS: u32 = 16;
/// Segments of an instance that says little last so long at least.
const SHORTEST: Duration = Duration::from_secs(600);

/// What is handed to the log at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// Whole lines, each a record.
    pub lines: Vec<u8>,
    /// The first one's time.
    pub first: Timestamp,
    /// How far the sources are read with it.
    pub at: Positions,
}

/// An instance's log.
#[derive(Debug)]
pub struct InstanceLog {
    folder: PathBuf,
    inner: Mutex<Inner>,
    /// Held while files are packed, and while all of them are removed.
    packing: Mutex<()>,
    /// Everything before it may be read.
    written: watch::Sender<Cursor>,
}

#[derive(Debug)]
struct Inner {
    bounds: LogBounds,
    segments: Vec<Segment>,
    positions: Positions,
    /// The newest segment.
    file: Option<File>,
    /// Its size without a record.
    empty: u64,
    destroyed: bool,
}

impl InstanceLog {
    /// Opens what is there; makes nothing.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        let held = segment::recover(&folder)?;
        let bounds = std::fs::read(folder.join("bounds.json")).ok();
        let bounds = bounds.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let (mut file, mut written) = (None, Cursor::default());
        if let Some(newest) = held.segments.last() {
            if newest.packed {
                written = Cursor { segment: newest.number + 1, offset: 0 };
            } else {
                written = Cursor { segment: newest.number, offset: newest.size };
                file = Some(File::options().append(true).open(segment::plain_path(&folder, newest.number))?);
            }
        }
        let inner =
            Inner { bounds, segments: held.segments, positions: held.positions, file, empty: 0, destroyed: false };
        let written = watch::Sender::new(written);
        Ok(InstanceLog { folder, inner: Mutex::new(inner), packing: Mutex::default(), written })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where reading ends at present; changes when there is more.
    pub fn written(&self) -> watch::Receiver<Cursor> {
        self.written.subscribe()
    }

    /// How far a source was read.
    pub fn position(&self, source: &str) -> Option<Position> {
        self.inner().positions.get(source).cloned()
    }

    /// The sources whose places are kept.
    pub fn sources(&self) -> Vec<String> {
        self.inner().positions.keys().cloned().collect()
    }

    /// A source is gone for ever.
    pub fn forget(&self, source: &str) {
        self.inner().positions.remove(source);
    }

    /// Appends a batch: all of it or nothing.
    pub fn append(&self, batch: &Batch, now: Timestamp) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.destroyed {
            return Ok(());
        }
        let positions = &mut inner.positions;
        positions.extend(batch.at.iter().map(|(source, position)| (source.clone(), position.clone())));
        let mut bytes = Vec::with_capacity(batch.lines.len() + 256);
        let full = inner.file.is_none() || inner.segments.last().is_none_or(|newest| inner.bounds.is_full(newest, now));
        if full {
            let number = self.written.borrow().segment + u64::from(inner.file.is_some());
            let number = number.max(1);
            std::fs::DirBuilder::new().recursive(true).create(&self.folder)?;
            let path = segment::plain_path(&self.folder, number);
            let _ = std::fs::remove_file(&path);
            bytes.extend(segment::header(number, batch.first, &inner.positions)?);
            inner.file = Some(File::options().append(true).create_new(true).open(path)?);
            inner.segments.push(Segment { number, from: batch.first, size: 0, packed: false });
        }
        bytes.extend_from_slice(&batch.lines);
        bytes.extend(segment::reached(&batch.at)?);
        let Inner { file: Some(file), segments, empty, .. } = &mut *inner else { return Ok(()) };
        let Some(newest) = segments.last_mut() else { return Ok(()) };
        if let Err(error) = file.write_all(&bytes) {
            // A full disk: what came to lie there half goes, and the batch is offered again.
            file.set_len(newest.size)?;
            return Err(error);
        }
        newest.size += bytes.len() as u64;
        if full {
            *empty = bytes.len() as u64 - batch.lines.len() as u64;
        }
        self.written.send_replace(Cursor { segment: newest.number, offset: newest.size });
        Ok(())
    }

    /// Settles how much is kept.
    pub fn bound(&self, bounds: &LogBounds) -> io::Result<bool> {
        let mut inner = self.inner();
        inner.destroyed = false;
        let json = serde_json::to_vec(bounds)?;
        let path = self.folder.join("bounds.json");
        if std::fs::read(&path).is_ok_and(|held| held == json) {
            return Ok(false);
        }
        inner.bounds = bounds.clone();
        std::fs::DirBuilder::new().recursive(true).create(&self.folder)?;
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, json)?;
        std::fs::rename(fresh, path)?;
        Ok(true)
    }

    /// Packs what is full and removes what is too old or too much.
    pub fn tidy(&self, now: Timestamp) -> io::Result<()> {
        let _packing = self.packing();
        // Lines of an instance that says nothing any more must not stay for ever in a segment that is not full.
        let (idle, at) = {
            let inner = self.inner();
            let is_full = |newest: &Segment| newest.size > inner.empty && inner.bounds.is_full(newest, now);
            (inner.file.is_some() && inner.segments.last().is_some_and(is_full), inner.positions.clone())
        };
        if idle {
            self.append(&Batch { lines: Vec::new(), first: now, at }, now)?;
        }
        let (mut kept, bounds) = {
            let inner = self.inner();
            (inner.segments.clone(), inner.bounds.clone())
        };
        let newest = kept.pop();
        // Packing takes its time; writers and readers go on meanwhile.
        for old in kept.iter_mut().filter(|old| !old.packed) {
            if self.inner().destroyed {
                return Ok(());
            }
            old.size = segment::pack(&self.folder, old.number)?;
            old.packed = true;
        }
        kept.extend(newest);
        let ends = kept.iter().skip(1).map(|next| next.from).chain([now]).collect::<Vec<_>>();
        let mut total: u64 = kept.iter().map(|segment| segment.size).sum();
        let mut gone = Vec::new();
        for (index, (old, end)) in kept.iter().zip(ends).enumerate() {
            let stale = now.duration_since(end).unsigned_abs() > bounds.keep.0 && end < now;
            if index + 1 == kept.len() || !(stale || total > bounds.size.bytes()) {
                break;
            }
            total = total.saturating_sub(old.size);
            gone.push(old.number);
        }
        let mut inner = self.inner();
        for segment in &mut inner.segments {
            if let Some(packed) = kept.iter().find(|kept| kept.number == segment.number && kept.packed) {
                (segment.size, segment.packed) = (packed.size, true);
            }
        }
        for number in gone {
            segment::remove(&self.folder, number)?;
            inner.segments.retain(|segment| segment.number != number);
        }
        Ok(())
    }

    /// Removes everything, for good.
    pub fn destroy(&self) -> io::Result<bool> {
        // What is being packed would leave a file behind: it is told to stop first.
        self.inner().destroyed = true;
        let _packing = self.packing();
        let mut inner = self.inner();
        let was_there = self.folder.is_dir();
        inner.file = None;
        inner.segments.clear();
        inner.positions.clear();
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(was_there),
        }
    }

    /// The segments there are, the oldest first.
    pub fn segments(&self) -> Vec<Segment> {
        self.inner().segments.clone()
    }

    fn packing(&self) -> MutexGuard<'_, ()> {
        self.packing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a segment ends here.
trait Fullness {
    fn is_full(&self, newest: &Segment, now: Timestamp) -> bool;
}

impl Fullness for LogBounds {
    fn is_full(&self, newest: &Segment, now: Timestamp) -> bool {
        let most = SEGMENT.min(self.size.bytes() / u64::from(PARTS));
        let longest = (self.keep.0 / PARTS).max(SHORTEST);
        newest.packed || newest.size >= most || age(newest, now) > longest
    }
}

fn age(segment: &Segment, now: Timestamp) -> Duration {
    if segment.from > now { Duration::ZERO } else { now.duration_since(segment.from).unsigned_abs() }
}

#[cfg(test)]
mod tests {
    use magrathea_core::units::{ByteSize, Span};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn batch(second: i64, lines: usize) -> Batch {
        let line = |_| format!("{{\"time\":\"{}\",\"text\":\"{}\"}}\n", at(second), uuid::Uuid::now_v7());
        Batch { lines: (0..lines).map(line).collect::<String>().into_bytes(), first: at(second), at: Positions::new() }
    }

    fn bounds(size: u64, keep: u64) -> LogBounds {
        LogBounds { size: ByteSize(size), keep: Span(Duration::from_secs(keep)) }
    }

    #[test]
    fn it_stays_within_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let log = InstanceLog::open(folder.path().join("i0")).unwrap();
        log.bound(&bounds(64 << 10, 1 << 20)).unwrap();
        for second in 0..200 {
            log.append(&batch(second, 100), at(second)).unwrap();
            log.tidy(at(second)).unwrap();
        }
        let held: u64 = std::fs::read_dir(log.folder()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(held < 80 << 10, "{held}");
        let segments = log.segments();
        assert!(segments.len() > 3 && segments[0].number > 1 && segments[0].packed, "{segments:?}");
        let again = InstanceLog::open(folder.path().join("i0")).unwrap();
        assert_eq!(again.segments(), segments);
        assert_eq!(*again.written().borrow(), *log.written().borrow());
    }

    #[test]
    fn old_lines_go_also_when_nothing_is_said_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let log = InstanceLog::open(folder.path().join("i0")).unwrap();
        log.bound(&bounds(1 << 20, 16_000)).unwrap();
        log.append(&batch(0, 1), at(0)).unwrap();
        log.tidy(at(900)).unwrap();
        assert_eq!(log.segments().len(), 1);
        for hour in 1..10 {
            log.tidy(at(hour * 3600)).unwrap();
        }
        let segments = log.segments();
        assert_eq!((segments.len(), segments[0].number), (1, 2), "{segments:?}");
    }

    #[test]
    fn what_was_half_written_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let open = || InstanceLog::open(folder.path().join("i0")).unwrap();
        open().append(&batch(0, 2), at(0)).unwrap();
        let path = segment::plain_path(&folder.path().join("i0"), 1);
        let whole = std::fs::read(&path).unwrap();
        for half in [&batch(1, 3).lines[..], b"{\"time\":\"20", b"\0\0\0\0", b"{\"at\":{}"] {
            std::fs::write(&path, [&whole, half].concat()).unwrap();
            let log = open();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
            assert_eq!(log.written().borrow().offset, whole.len() as u64);
        }
        // A segment of which not even the first batch is whole does not count.
        std::fs::write(segment::plain_path(&folder.path().join("i0"), 2), b"{\"segment\":2,\"from\"").unwrap();
        assert_eq!(open().segments().len(), 1);
    }

    #[test]
    fn what_is_destroyed_stays_away_until_it_is_wanted_again() {
        let folder = tempfile::tempdir().unwrap();
        let log = InstanceLog::open(folder.path().join("i0")).unwrap();
        log.append(&batch(0, 1), at(0)).unwrap();
        assert!(log.destroy().unwrap());
        log.append(&batch(1, 1), at(1)).unwrap();
        assert!(!log.folder().exists());
        log.bound(&LogBounds::default()).unwrap();
        log.append(&batch(1, 1), at(1)).unwrap();
        assert_eq!(log.segments().len(), 1);
    }

    #[test]
    fn it_is_destroyed_while_it_is_packed() {
        let folder = tempfile::tempdir().unwrap();
        for turn in 0..20 {
            let log = InstanceLog::open(folder.path().join(format!("i{turn}"))).unwrap();
            log.bound(&bounds(64 << 10, 1 << 20)).unwrap();
            (0..40).for_each(|second| log.append(&batch(second, 50), at(second)).unwrap());
            std::thread::scope(|scope| {
                let packs = scope.spawn(|| log.tidy(at(40)));
                while !segment::packed_path(log.folder(), 1).exists() && !packs.is_finished() {
                    std::thread::yield_now();
                }
                assert!(log.destroy().unwrap());
                packs.join().unwrap().unwrap();
            });
            assert!(!log.folder().exists());
        }
    }
}
