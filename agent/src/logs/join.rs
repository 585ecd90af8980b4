//! Puts lines together again that the engine cut: it hands on one of more than 16 KiB in pieces. Holds back what one
//! container says from a line that is not whole until it is, so that a place in the container's file has everything
//! stored before it. Pure.

use std::time::Duration;

use jiff::Timestamp;
use magrathea_core::logs::{LogRecord, LogStream};
use tokio::time::Instant;

/// A piece of fewer bytes is no buffer full: the program said nothing more on this output.
const PIECE: usize = 16 << 10;
/// Most bytes that are held back. A longer line is handed on in records that say that it goes on.
pub const LONGEST: usize = 256 << 10;
/// A line whose end does not come for so long is handed on without it.
const PATIENCE: Duration = Duration::from_millis(400);

/// What one container said since a line that is not whole yet.
#[derive(Debug, Default)]
pub struct Joiner {
    held: Vec<LogRecord>,
    /// Where the lines stand among them whose ends are not known, of each output.
    open: Vec<(Option<LogStream>, usize)>,
    bytes: usize,
    since: Option<Instant>,
}

/// Whether more of an open line may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    MayCome,
    /// The container has gone.
    Never,
}

impl Joiner {
    /// Takes what was said next, a line or with `more` a piece of one. Hands on what is whole with it: records that belong
    /// together, because their pieces stand among each other.
    pub fn push(&mut self, record: LogRecord, now: Instant) -> Vec<LogRecord> {
        let length = record.text.as_deref().map_or(0, str::len);
        let ends = !record.more || length < PIECE;
        if self.open.is_empty() && ends {
            return vec![LogRecord { more: false, ..record }];
        }
        self.since.get_or_insert(now);
        self.bytes += length;
        let stream = record.stream;
        let place = self.open.iter().position(|(of, _)| *of == stream);
        let begun = place.and_then(|place| self.held.get_mut(self.open.get(place)?.1));
        match begun {
            Some(begun) => begun.text.get_or_insert_default().push_str(record.text.as_deref().unwrap_or_default()),
            None => {
                if !ends {
                    self.open.push((stream, self.held.len()));
                }
                self.held.push(LogRecord { more: false, ..record });
            }
        }
        if let Some(place) = place.filter(|_| ends) {
            self.open.swap_remove(place);
        }
        match self.open.is_empty() {
            true => self.cut(Rest::Never),
            false if self.bytes >= LONGEST => self.cut(Rest::MayCome),
            false => Vec::new(),
        }
    }

    /// Hands on what is held back as it is.
    pub fn cut(&mut self, rest: Rest) -> Vec<LogRecord> {
        let mut held = std::mem::take(&mut self.held);
        for (_, place) in self.open.drain(..) {
            if let Some(record) = held.get_mut(place) {
                record.more = rest == Rest::MayCome;
            }
        }
        (self.bytes, self.since) = (0, None);
        held
    }

    /// The time of what is held back.
    pub fn held(&self) -> Option<Timestamp> {
        self.held.iter().map(|record| record.time).min()
    }

    /// Whether the end of a line has been waited for long enough.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use magrathea_core::logs::LogLayer;

    use super::*;

    fn said(stream: LogStream, text: &str, more: bool) -> LogRecord {
        let stream = Some(stream);
        LogRecord { stream, more, ..LogRecord::notice(Timestamp::UNIX_EPOCH, LogLayer::App, text) }
    }

    fn told(records: &[LogRecord]) -> Vec<(String, bool)> {
        records.iter().map(|record| (record.line(), record.more)).collect()
    }

    fn full(letter: &str) -> String {
        letter.repeat(PIECE)
    }

    #[test]
    fn pieces_of_two_outputs_become_two_lines() {
        use LogStream::{Stderr, Stdout};
        let (mut joiner, now) = (Joiner::default(), Instant::now());
        assert_eq!(told(&joiner.push(said(Stdout, "short", false), now)), [("short".into(), false)]);
        for piece in [said(Stdout, &full("a"), true), said(Stderr, "whole", false), said(Stderr, &full("b"), true)] {
            assert_eq!(joiner.push(piece, now), []);
        }
        assert_eq!(joiner.push(said(Stdout, "A", false), now), []);
        assert!(joiner.held().is_some() && !joiner.is_overdue(now) && joiner.is_overdue(now + PATIENCE));
        let records = joiner.push(said(Stderr, "B", false), now);
        let expect = [(full("a") + "A", false), ("whole".into(), false), (full("b") + "B", false)];
        assert_eq!(told(&records), expect);
        assert_eq!((joiner.held(), joiner.is_overdue(now + PATIENCE)), (None, false));
    }

    #[test]
    fn what_never_ends_is_cut() {
        use LogStream::{Stderr, Stdout};
        let (mut joiner, now) = (Joiner::default(), Instant::now());
        let mut records = Vec::new();
        while records.is_empty() {
            records = joiner.push(said(Stdout, &full("a"), true), now);
        }
        assert_eq!(told(&records), [("a".repeat(LONGEST), true)]);
        assert_eq!(told(&joiner.push(said(Stdout, "rest", false), now)), [("rest".into(), false)]);
        // The other output cannot make it hold more and more.
        joiner.push(said(Stdout, &full("a"), true), now);
        let mut count = 0;
        while joiner.push(said(Stderr, &full("b"), false), now).is_empty() {
            count += 1;
        }
        assert!(count < LONGEST / PIECE);
    }

    #[test]
    fn a_last_line_needs_no_end() {
        let (mut joiner, now) = (Joiner::default(), Instant::now());
        assert_eq!(told(&joiner.push(said(LogStream::Stdout, "$ ", true), now)), [("$ ".into(), false)]);
        joiner.push(said(LogStream::Stdout, &full("a"), true), now);
        assert_eq!(told(&joiner.cut(Rest::Never)), [(full("a"), false)]);
        joiner.push(said(LogStream::Stdout, &full("a"), true), now);
        assert_eq!(told(&joiner.cut(Rest::MayCome)), [(full("a"), true)]);
    }
}
