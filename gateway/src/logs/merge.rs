//! Several sources become one log in the order of time. A line waits until every other source has come as far; one that
//! says nothing for too long is waited for no more.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use magrathea_core::logs::{LogLayer, LogRecord, Mark};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Piece, Places, Said, Source};

/// Bytes of one source that wait for the others.
const WAITING: usize = 1 << 20;
/// The same while the newest lines of all sources are sought.
const WAITING_HISTORY: usize = 32 << 20;
/// A source that says nothing for so long is not waited for.
const SILENCE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(250);

/// Hands on what the sources say until all of them have ended, or nobody reads any more. With `last`, of what there is at
/// first only so many lines.
pub async fn merge(mut sources: Vec<Source>, last: Option<usize>, out: mpsc::Sender<Piece>) {
    let mut order = Order::new(sources.iter().map(|source| source.name.clone()).collect(), last);
    let mut heard: Vec<Instant> = sources.iter().map(|_| Instant::now()).collect();
    while !order.is_over() {
        let next = std::future::poll_fn(|context| {
            for (n, source) in sources.iter_mut().enumerate().filter(|(n, _)| order.takes(*n)) {
                if let Poll::Ready(said) = source.said.poll_recv(context) {
                    return Poll::Ready((n, said));
                }
            }
            Poll::Pending
        });
        match tokio::time::timeout(TICK, next).await {
            Ok((n, Some(said))) => {
                if let Some(heard) = heard.get_mut(n) {
                    *heard = Instant::now();
                }
                order.push(n, said);
            }
            Ok((n, None)) => order.end(n),
            Err(_) => {}
        }
        for (n, heard) in heard.iter().enumerate() {
            order.set_silent(n, heard.elapsed() > SILENCE);
        }
        for piece in order.ready() {
            if out.send(piece).await.is_err() {
                return;
            }
        }
    }
}

/// What waits, and what has come how far. Knows no clock.
struct Order {
    sources: Vec<Waiting>,
    /// The newest lines that are wanted of what there is at first.
    last: Option<usize>,
    marked: Option<Places>,
}

struct Waiting {
    name: String,
    queue: VecDeque<Queued>,
    bytes: usize,
    /// Nothing earlier comes any more.
    reached: Timestamp,
    marked: bool,
    /// Where to go on; and whether lines after it were told.
    cursor: Option<magrathea_core::logs::Cursor>,
    dirty: bool,
    ended: bool,
    silent: bool,
    /// Its lines come a second after they were said: once what there was is told, nobody waits for it.
    late: bool,
}

enum Queued {
    Line(Timestamp, Bytes),
    /// Lines, when there is no other source.
    Lines(Bytes),
    Mark(Mark),
}

impl Order {
    fn new(names: Vec<String>, last: Option<usize>) -> Self {
        let one = names.len() == 1;
        let sources = names.into_iter().map(|name| Waiting {
            late: name == super::build::NAME,
            name,
            queue: VecDeque::new(),
            bytes: 0,
            reached: Timestamp::MIN,
            marked: false,
            cursor: None,
            dirty: false,
            ended: false,
            silent: false,
        });
        // A single source has found the newest lines itself.
        Order { sources: sources.collect(), last: last.filter(|_| !one), marked: None }
    }

    fn takes(&self, n: usize) -> bool {
        let most = if self.last.is_some() { WAITING_HISTORY } else { WAITING };
        self.sources.get(n).is_some_and(|source| !source.ended && source.bytes < most)
    }

    fn is_over(&self) -> bool {
        self.sources.iter().all(|source| source.ended && source.queue.is_empty())
    }

    fn end(&mut self, n: usize) {
        if let Some(source) = self.sources.get_mut(n) {
            source.ended = true;
        }
    }

    fn set_silent(&mut self, n: usize, silent: bool) {
        if let Some(source) = self.sources.get_mut(n) {
            source.silent = silent;
        }
    }

    fn push(&mut self, n: usize, said: Said) {
        let one = self.sources.len() == 1;
        let Some(source) = self.sources.get_mut(n) else { return };
        match said {
            Said::Lines(lines) if one => {
                source.bytes += lines.len();
                source.queue.push_back(Queued::Lines(lines));
            }
            Said::Lines(lines) => {
                let mut at = 0;
                for line in lines.split_inclusive(|byte| *byte == b'\n') {
                    let from = at;
                    at += line.len();
                    // One whose time cannot be read is told after the one before it.
                    let time = time_of(line).unwrap_or(source.reached);
                    source.bytes += line.len();
                    source.queue.push_back(Queued::Line(time, lines.slice(from..at)));
                }
            }
            Said::Mark(mark) => source.queue.push_back(Queued::Mark(mark)),
            Said::Notice(text) => {
                let record = LogRecord::notice(Timestamp::now(), LogLayer::App, text);
                if let Ok(mut line) = serde_json::to_vec(&record) {
                    line.push(b'\n');
                    source.bytes += line.len();
                    let line = Bytes::from(line);
                    // What comes after it is later; what it is about has not come.
                    source.queue.push_back(Queued::Line(source.reached, line));
                }
            }
        }
    }

    /// What may be told now.
    fn ready(&mut self) -> Vec<Piece> {
        let mut out = Vec::new();
        if let Some(last) = self.last {
            let complete = |source: &Waiting| {
                // A mark on the way through a long log bears no time.
                let is_end =
                    |queued: &Queued| matches!(queued, Queued::Mark(mark) if mark.time > Timestamp::UNIX_EPOCH);
                source.ended || source.silent || source.queue.iter().any(is_end)
            };
            if !self.sources.iter().all(complete) {
                return out;
            }
            self.last = None;
            self.skip_to_last(last);
        }
        let mut lines = BytesMut::new();
        loop {
            self.take_marks();
            let Some(n) = self.next() else { break };
            let Some(source) = self.sources.get_mut(n) else { break };
            if let Some(Queued::Line(_, line) | Queued::Lines(line)) = source.queue.pop_front() {
                source.bytes -= line.len();
                source.dirty = true;
                lines.extend_from_slice(&line);
            }
        }
        if !lines.is_empty() {
            out.push(Piece::Lines(lines.freeze()));
        }
        out.extend(self.mark());
        out
    }

    /// Drops lines at the beginning, the oldest first.
    fn skip_to_last(&mut self, last: usize) {
        let is_line = |queued: &&Queued| matches!(queued, Queued::Line(..));
        let held: usize = self.sources.iter().map(|source| source.queue.iter().filter(is_line).count()).sum();
        for _ in last..held {
            let head = |source: &Waiting| {
                source.queue.iter().find_map(|queued| match queued {
                    Queued::Line(time, _) => Some(*time),
                    _ => None,
                })
            };
            let oldest = self.sources.iter_mut().filter_map(|source| Some((head(source)?, source)));
            let Some((_, source)) = oldest.min_by_key(|(time, _)| *time) else { return };
            if let Some(at) = source.queue.iter().position(|queued| is_line(&queued))
                && let Some(Queued::Line(_, line)) = source.queue.remove(at)
            {
                source.bytes -= line.len();
            }
        }
    }

    fn take_marks(&mut self) {
        for source in &mut self.sources {
            while let Some(Queued::Mark(mark)) = source.queue.front() {
                source.reached = source.reached.max(mark.time);
                source.cursor = mark.cursor.parse().ok().or(source.cursor);
                (source.dirty, source.marked) = (false, true);
                source.queue.pop_front();
            }
        }
    }

    /// The source whose line comes next, when that is certain.
    fn next(&self) -> Option<usize> {
        if let [only] = self.sources.as_slice() {
            return (!only.queue.is_empty()).then_some(0);
        }
        let heads = self.sources.iter().enumerate().filter_map(|(n, source)| match source.queue.front() {
            Some(Queued::Line(time, _)) => Some((*time, n)),
            _ => None,
        });
        let (time, n) = heads.min()?;
        let may_come_before = |source: &Waiting| {
            source.queue.is_empty()
                && !(source.ended || source.silent || source.marked && source.late)
                && source.reached < time
        };
        (!self.sources.iter().any(may_come_before)).then_some(n)
    }

    /// A mark over all sources, when it says more than the last.
    fn mark(&mut self) -> Option<Piece> {
        if self.sources.iter().any(|source| source.dirty || !source.queue.is_empty()) {
            return None;
        }
        let mut places = Places::default();
        for source in &self.sources {
            if let Some(cursor) = source.cursor {
                places.set(&source.name, cursor);
            }
        }
        let all = self.sources.iter().all(|source| source.marked || source.ended || source.silent);
        if !all || self.marked.as_ref() == Some(&places) {
            return None;
        }
        let time = self.sources.iter().filter(|s| !s.ended && !s.silent).map(|s| s.reached).min();
        let mark = Mark { time: time.unwrap_or_default(), cursor: places.to_string() };
        self.marked = Some(places);
        Some(Piece::Mark(mark))
    }
}

/// The time of a record's line.
fn time_of(line: &[u8]) -> Option<Timestamp> {
    let rest = line.strip_prefix(b"{\"time\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lines(seconds: &[i64]) -> Said {
        let line = |second: &i64| format!("{{\"time\":\"{}\",\"text\":\"{second}\"}}\n", at(*second));
        Said::Lines(Bytes::from(seconds.iter().map(line).collect::<String>()))
    }

    fn mark(second: i64) -> Said {
        Said::Mark(Mark { time: at(second), cursor: format!("1:{second}") })
    }

    fn told(order: &mut Order) -> (Vec<i64>, Option<String>) {
        let (mut seconds, mut cursor) = (Vec::new(), None);
        for piece in order.ready() {
            match piece {
                Piece::Lines(lines) => {
                    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
                        seconds.push(value["text"].as_str().unwrap().parse().unwrap());
                    }
                }
                Piece::Mark(mark) => cursor = Some(mark.cursor),
            }
        }
        (seconds, cursor)
    }

    fn two(last: Option<usize>) -> Order {
        Order::new(vec!["a".into(), "b".into()], last)
    }

    #[test]
    fn a_line_waits_for_the_others() {
        let mut order = two(None);
        order.push(0, lines(&[1, 4, 6]));
        assert_eq!(told(&mut order), (vec![], None));
        order.push(1, lines(&[2, 5]));
        assert_eq!(told(&mut order), (vec![1, 2, 4, 5], None));
        order.push(1, mark(9));
        assert_eq!(told(&mut order), (vec![6], None));
        order.push(0, mark(7));
        assert_eq!(told(&mut order), (vec![], Some("a=1:7,b=1:9".into())));
        order.push(0, lines(&[8]));
        assert_eq!(told(&mut order), (vec![8], None));
    }

    #[test]
    fn nobody_waits_for_the_dead_or_the_silent() {
        let mut order = two(None);
        order.push(0, lines(&[1]));
        assert!(told(&mut order).0.is_empty());
        order.set_silent(1, true);
        assert_eq!(told(&mut order).0, [1]);
        order.push(0, lines(&[2]));
        order.set_silent(1, false);
        assert!(told(&mut order).0.is_empty());
        order.end(1);
        assert_eq!(told(&mut order).0, [2]);
        order.end(0);
        assert!(order.is_over());
    }

    #[test]
    fn nobody_waits_for_builds_once_they_are_told() {
        let mut order = Order::new(vec!["a".into(), super::super::build::NAME.into()], None);
        order.push(0, lines(&[5]));
        assert!(told(&mut order).0.is_empty());
        order.push(1, lines(&[1]));
        order.push(1, mark(2));
        assert_eq!(told(&mut order).0, [1, 5]);
    }

    #[test]
    fn only_the_newest_of_all() {
        let mut order = two(Some(3));
        order.push(0, lines(&[1, 3, 5]));
        order.push(0, mark(9));
        order.push(1, lines(&[2, 4, 6]));
        assert!(told(&mut order).0.is_empty());
        order.push(1, mark(9));
        assert_eq!(told(&mut order), (vec![4, 5, 6], Some("a=1:9,b=1:9".into())));
        order.push(0, lines(&[10]));
        order.push(1, mark(11));
        assert_eq!(told(&mut order).0, [10]);
    }

    #[test]
    fn a_single_source_passes_through() {
        let mut order = Order::new(vec!["a".into()], Some(1));
        order.push(0, lines(&[1, 3, 2]));
        assert_eq!(told(&mut order).0, [1, 3, 2]);
        order.push(0, mark(4));
        assert_eq!(told(&mut order).1, Some("a=1:4".into()));
    }
}
