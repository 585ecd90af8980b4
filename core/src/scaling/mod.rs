//! How many replicas there should be: from the bounds that a manifest gives and the load that was seen to a number, and
//! to the reason for it in words.
//!
//! It goes up when the mean over `Pace::up` is above the target, or at once when requests wait for others to end. It goes
//! down by a few at a time, and only to a number at which everything that was seen in `Pace::down` would have stayed well
//! below what makes it go up; so a load that stays settles it. After each change it rests. What was not seen is not taken
//! for silence.

mod advice;
#[cfg(test)]
mod tests;
mod windows;

pub use advice::{Hour, Situation, advise};
pub use windows::{Bounds, Occurrence};

use crate::units::{Percent, Span};
use std::time::Duration;

/// How quickly it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long replicas are too busy before there are more.
    pub up: Span,
    /// How long fewer replicas would have done before there are fewer.
    pub down: Span,
    /// How long nothing changes after a change.
    pub rest: Span,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        Pace { up: seconds(30), down: seconds(300), rest: seconds(60) }
    }
}

/// How many requests an instance's replicas had in one second, those that waited for others among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since 1970.
    pub at: i64,
    pub busy: u32,
}

/// What is decided from.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// How many replicas there are.
    pub current: u16,
    /// Requests that one replica answers at once.
    pub at_once: u32,
    /// In the order of time; seconds that nobody saw are not there.
    pub samples: &'a [Sample],
    /// When the number was last changed in this way, in seconds since 1970.
    pub changed: Option<i64>,
    /// Seconds since 1970.
    pub now: i64,
}

/// Another number of replicas, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub to: u16,
    pub why: String,
}

/// Samples that end longer ago say nothing about now.
pub const STALE: i64 = 20;
/// For so many seconds requests wait before there are more replicas at once.
const QUEUE: i64 = 5;
/// How much of what lets it go up may be in use at the number that it goes down to, in percent.
const LOW: u64 = 80;
/// How much of a span must have been seen, in percent.
const SEEN_UP: u64 = 80;
const SEEN_DOWN: u64 = 90;

/// The number that there should be, when it is another.
pub fn decide(bounds: &Bounds, target: Percent, pace: &Pace, load: &Load<'_>) -> Option<Change> {
    let current = load.current;
    if current < bounds.min {
        let why = match &bounds.window {
            Some(window) => format!("a window wants at least {} until {:.0}", bounds.min, window.until),
            None => format!("magrathea.yml wants at least {}", bounds.min),
        };
        return Some(Change { to: bounds.min, why });
    }
    if current > bounds.max {
        return Some(Change { to: bounds.max, why: format!("magrathea.yml allows at most {}", bounds.max) });
    }
    let is_resting = load.changed.is_some_and(|changed| load.now < changed.saturating_add(seconds(pace.rest)));
    if is_resting || load.at_once == 0 {
        return None;
    }
    // A number that is no more says nothing about this one: requests may have waited then.
    let seen = load.samples.partition_point(|sample| load.changed.is_some_and(|changed| sample.at <= changed));
    let seen = load.samples.get(seen..).unwrap_or_default();
    let end = seen.last()?.at;
    if load.now.saturating_sub(end) > STALE {
        return None;
    }
    let rule = Rule { bounds, target: target.0.into(), pace, load, seen, end };
    rule.up().or_else(|| rule.down())
}

struct Rule<'a> {
    bounds: &'a Bounds,
    target: u64,
    pace: &'a Pace,
    load: &'a Load<'a>,
    seen: &'a [Sample],
    /// The last second that was seen.
    end: i64,
}

impl Rule<'_> {
    /// What so many replicas answer at once.
    fn room(&self, replicas: u16) -> u64 {
        u64::from(self.load.at_once) * u64::from(replicas)
    }

    /// The samples of so many seconds before the end.
    fn last(&self, seconds: i64) -> &[Sample] {
        let from = self.seen.partition_point(|sample| sample.at <= self.end.saturating_sub(seconds));
        self.seen.get(from..).unwrap_or_default()
    }

    fn up(&self) -> Option<Change> {
        let Load { current, .. } = *self.load;
        let room = self.room(current);
        let queue = self.last(QUEUE);
        let waits = is_seen(queue, QUEUE, SEEN_UP) && queue.iter().all(|sample| u64::from(sample.busy) > room);
        let span = seconds(self.pace.up);
        let recent = self.last(span);
        let is_busy = is_seen(recent, span, SEEN_UP) && total(recent) * 100 > self.target * room * count(recent);
        let (of, why) = match (waits, is_busy) {
            (true, _) => {
                let waiting = (total(queue) / count(queue)).saturating_sub(room).max(1);
                (queue, format!("all {room} at once are in use, and {waiting} more wait"))
            }
            (false, true) => {
                let share = total(recent) * 100 / (room * count(recent));
                (recent, format!("{share} % of {room} at once in use for {}", self.pace.up))
            }
            (false, false) => return None,
        };
        // Requests that wait are counted with those that run, so it may be too many: no more than twice as many at a time.
        let needed = (total(of) * 100).div_ceil(self.target * u64::from(self.load.at_once) * count(of));
        let to = u16::try_from(needed).unwrap_or(u16::MAX);
        let to = to.max(current.saturating_add(1)).min(current.saturating_mul(2)).min(self.bounds.max);
        (to > current).then_some(Change { to, why })
    }

    fn down(&self) -> Option<Change> {
        let Load { current, .. } = *self.load;
        let span = seconds(self.pace.down);
        let seen = self.last(span);
        if current <= self.bounds.min || !is_seen(seen, span, SEEN_DOWN) {
            return None;
        }
        // The most that either rule of going up would have seen.
        let mean = highest(seen, seconds(self.pace.up), |part| (total(part) * 100).div_ceil(count(part)));
        let queue = highest(seen, QUEUE, |part| u64::from(part.iter().map(|sample| sample.busy).min().unwrap_or(0)));
        let would_do = |replicas: &u16| {
            let room = self.room(*replicas);
            mean * 100 <= LOW * self.target * room && queue * 100 <= LOW * room
        };
        let fewest = (self.bounds.min..current).find(would_do)?;
        let to = fewest.max(current.saturating_sub((current / 4).max(1)));
        let most = seen.iter().map(|sample| sample.busy).max().unwrap_or(0);
        let why = format!("at most {most} of {} at once in use for {}", self.room(current), self.pace.down);
        Some(Change { to, why })
    }
}

/// A span in seconds, at least one.
fn seconds(span: Span) -> i64 {
    span.whole_seconds().into()
}

fn total(samples: &[Sample]) -> u64 {
    samples.iter().map(|sample| u64::from(sample.busy)).sum()
}

fn count(samples: &[Sample]) -> u64 {
    (samples.len() as u64).max(1)
}

/// Whether enough of a span was seen.
fn is_seen(samples: &[Sample], span: i64, percent: u64) -> bool {
    !samples.is_empty() && samples.len() as u64 * 100 >= span.unsigned_abs() * percent
}

/// The highest value over all parts that are this long.
fn highest(samples: &[Sample], span: i64, of: impl Fn(&[Sample]) -> u64) -> u64 {
    let ends = samples.iter().enumerate();
    let parts = ends.filter_map(|(n, last)| {
        let upto = samples.get(..=n)?;
        let from = upto.partition_point(|sample| sample.at <= last.at.saturating_sub(span));
        upto.get(from..)
    });
    parts.map(of).max().unwrap_or(0)
}
