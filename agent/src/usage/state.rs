//! What the ledger keeps on disk, in one file that is replaced as a whole: what is counted moves together with the places it was
//! counted from, so that a program that is killed counts nothing twice.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use magrathea_core::usage::{Batch, Gap, Level, Metric, Row, Unit, Usage, hour_of};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::account::{Account, Sums};
use super::clock::Clock;
use crate::logs::Position;

/// A process of the router that did not answer for so long has ended.
const GONE: SignedDuration = SignedDuration::from_mins(10);
/// A counter that was not told for so long is gone.
const SILENT: SignedDuration = SignedDuration::from_hours(48);
/// So many rows fit well into a frame to the gateway.
const MOST_ROWS: usize = 5000;
/// Between two measurements that lie further apart, the amount before is taken for no longer than this.
const STRETCH: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub ledger: Uuid,
    /// Of the last batch that was sealed.
    pub number: u64,
    pub clock: Clock,
    /// Up to where the router's log is counted.
    pub position: Option<Position>,
    /// When the last request before it was over, by the gateway's time.
    pub reached: Option<Timestamp>,
    /// The router's processes by when they began, in microseconds.
    pub workers: BTreeMap<i64, Worker>,
    counters: BTreeMap<String, Counter>,
    levels: BTreeMap<String, BTreeMap<Metric, Held>>,
    open: Open,
    /// What is not surely in the spool yet.
    pub sealed: Option<Batch>,
}

/// What the next batch will hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Open {
    hours: BTreeMap<Timestamp, BTreeMap<String, Usage>>,
    levels: BTreeMap<String, Level>,
    gaps: Vec<Gap>,
    refused: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub accounts: BTreeMap<String, Account>,
    /// When it was asked last, by the node's clock in microseconds.
    pub asked: Option<i64>,
    pub seen: Option<Timestamp>,
    /// Lines that it could not write.
    pub dropped: u64,
}

/// A number that only grows, as somebody else counts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counter {
    total: u64,
    seen: Timestamp,
}

/// An amount that is there until the next is told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Held {
    bytes: u64,
    since: Timestamp,
}

impl State {
    pub fn new(ledger: Uuid) -> Self {
        State {
            ledger,
            number: 0,
            clock: Clock::default(),
            position: None,
            reached: None,
            workers: BTreeMap::new(),
            counters: BTreeMap::new(),
            levels: BTreeMap::new(),
            open: Open::default(),
            sealed: None,
        }
    }

    pub fn add(&mut self, slug: &str, at: Timestamp, usage: &Usage) {
        if usage.is_empty() {
            return;
        }
        let hour = self.open.hours.entry(hour_of(at)).or_default();
        match hour.get_mut(slug) {
            Some(held) => held.add_all(usage),
            None => drop(hour.insert(slug.to_owned(), usage.clone())),
        }
    }

    pub fn gap(&mut self, gap: Gap) {
        // One that goes on is one.
        match self.open.gaps.iter_mut().find(|held| held.reason == gap.reason) {
            Some(held) => {
                held.from = held.from.min(gap.from);
                held.until = held.until.max(gap.until);
                held.requests = held.requests.zip(gap.requests).map(|(one, two)| one.saturating_add(two));
            }
            None => self.open.gaps.push(gap),
        }
    }

    pub fn refuse(&mut self, requests: u64) {
        self.open.refused = self.open.refused.saturating_add(requests);
    }

    /// A process of the router tells its sums. Gives what is new, by instance.
    pub fn told(
        &mut self,
        began: i64,
        asked: i64,
        now: Timestamp,
        sums: &BTreeMap<String, Sums>,
    ) -> Vec<(String, Sums)> {
        let worker = self.workers.entry(began).or_default();
        (worker.asked, worker.seen) = (Some(asked), Some(now));
        let mut new = Vec::new();
        for (slug, sums) in sums {
            let account = match worker.accounts.get_mut(slug) {
                Some(account) => account,
                None => worker.accounts.entry(slug.clone()).or_default(),
            };
            let sums = account.told(*sums);
            if sums != Sums::default() {
                new.push((slug.clone(), sums));
            }
        }
        new
    }

    /// By how much a counter grew since it was told last.
    pub fn grown(&mut self, source: &str, total: u64, now: Timestamp) -> u64 {
        let told = Counter { total, seen: now };
        let before = self.counters.insert(source.to_owned(), told);
        match before {
            Some(before) if before.total <= total => total - before.total,
            _ => total,
        }
    }

    /// There is so much from now on; until now there was what was told before.
    pub fn level(&mut self, slug: &str, metric: Metric, bytes: u64, now: Timestamp) {
        self.sum_up(slug, metric, now);
        self.levels.entry(slug.to_owned()).or_default().insert(metric, Held { bytes, since: now });
        if Metric::DISK.contains(&metric) {
            let fresh = || Level { slug: slug.to_owned(), at: now, bytes: BTreeMap::new() };
            let level = self.open.levels.entry(slug.to_owned()).or_insert_with(fresh);
            level.at = now;
            level.bytes.insert(metric, bytes);
        }
    }

    /// Those that have anything of it.
    pub fn held(&self, metric: Metric) -> Vec<String> {
        let has = |levels: &BTreeMap<Metric, Held>| levels.get(&metric).is_some_and(|held| held.bytes > 0);
        self.levels.iter().filter(|(_, levels)| has(levels)).map(|(slug, _)| slug.clone()).collect()
    }

    /// An instance is gone with all it took.
    pub fn forget(&mut self, slug: &str, now: Timestamp) {
        let held: Vec<Metric> = self.levels.get(slug).into_iter().flat_map(BTreeMap::keys).copied().collect();
        held.into_iter().for_each(|metric| self.level(slug, metric, 0, now));
        self.levels.remove(slug);
    }

    /// Adds what was held since it was told, to the hours in which it was.
    fn sum_up(&mut self, slug: &str, metric: Metric, now: Timestamp) {
        debug_assert_eq!(metric.unit(), Unit::ByteSeconds);
        let Some(held) = self.levels.get(slug).and_then(|levels| levels.get(&metric)).copied() else { return };
        let until = held.since.saturating_add(STRETCH).map_or(now, |most| now.min(most));
        let mut from = held.since;
        while from < until {
            let hour = hour_of(from);
            let end = hour.saturating_add(SignedDuration::from_hours(1)).map_or(until, |end| end.min(until));
            let milliseconds = u128::try_from(end.duration_since(from).as_millis()).unwrap_or_default();
            let amount = u64::try_from(u128::from(held.bytes) * milliseconds / 1000).unwrap_or(u64::MAX);
            self.add(slug, from, &[(metric, amount)].into_iter().collect());
            from = end;
        }
    }

    /// Forgets what nothing more can come of.
    pub fn tidy(&mut self, now: Timestamp) {
        let is_past = |seen: Timestamp, limit| now.duration_since(seen) > limit;
        let newest = self.workers.keys().next_back().copied();
        self.workers.retain(|began, worker| Some(*began) == newest || !is_past(*worker.seen.get_or_insert(now), GONE));
        self.counters.retain(|_, counter| !is_past(counter.seen, SILENT));
    }

    /// Makes a batch of what is open; none when that is nothing, or the one before is not in the spool yet.
    pub fn seal(&mut self) -> Option<&Batch> {
        if self.sealed.is_none() && self.open != Open::default() {
            let mut open = std::mem::take(&mut self.open);
            let rows = std::mem::take(&mut open.hours)
                .into_iter()
                .flat_map(|(hour, rows)| rows.into_iter().map(move |(slug, usage)| Row { slug, hour, usage }));
            let mut rows: Vec<Row> = rows.collect();
            for row in rows.split_off(rows.len().min(MOST_ROWS)) {
                self.add(&row.slug, row.hour, &row.usage);
            }
            self.number += 1;
            self.sealed = Some(Batch {
                ledger: self.ledger,
                number: self.number,
                rows,
                levels: open.levels.into_values().collect(),
                gaps: open.gaps,
                refused: open.refused,
            });
        }
        self.sealed.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    type Told = (String, String, Vec<(Metric, u64)>);

    fn rows(state: &mut State) -> Vec<Told> {
        let rows = state.seal().map(|batch| batch.rows.clone()).unwrap_or_default();
        rows.iter().map(|row| (row.slug.clone(), row.hour.to_string(), row.usage.iter().collect())).collect()
    }

    #[test]
    fn what_is_held_is_summed_up_by_the_hour() {
        let mut state = State::new(Uuid::nil());
        state.level("i0", Metric::Files, 100, time("2026-11-22T10:59:30Z"));
        state.level("i0", Metric::Files, 300, time("2026-11-22T11:00:10Z"));
        state.forget("i0", time("2026-11-22T11:00:20Z"));
        let files = |amount| vec![(Metric::Files, amount)];
        let wanted = [("10:00", 3000), ("11:00", 1000 + 3000)]
            .map(|(hour, amount)| ("i0".to_owned(), format!("2026-11-22T{hour}:00Z"), files(amount)));
        assert_eq!(rows(&mut state), wanted);
        let levels = &state.sealed.as_ref().unwrap().levels;
        assert_eq!(levels[0].bytes, [(Metric::Files, 0)].into());
    }

    #[test]
    fn a_node_that_was_away_for_long_guesses_no_longer_than_a_day() {
        let mut state = State::new(Uuid::nil());
        state.level("i0", Metric::Files, 1, time("2026-11-01T00:00:00Z"));
        state.level("i0", Metric::Files, 1, time("2026-11-09T00:00:00Z"));
        let total: u64 = rows(&mut state).iter().flat_map(|(_, _, usage)| usage).map(|(_, amount)| amount).sum();
        assert_eq!(total, 86_400);
    }

    #[test]
    fn counters_that_begin_anew() {
        let mut state = State::new(Uuid::nil());
        let now = Timestamp::UNIX_EPOCH;
        let grown: Vec<u64> = [5, 9, 9, 2].into_iter().map(|total| state.grown("c", total, now)).collect();
        assert_eq!(grown, [5, 4, 0, 2]);
    }

    #[test]
    fn a_batch_waits_until_the_one_before_is_safe() {
        let mut state = State::new(Uuid::nil());
        assert_eq!(state.seal(), None);
        state.refuse(1);
        assert_eq!(state.seal().map(|batch| (batch.number, batch.refused)), Some((1, 1)));
        state.refuse(5);
        assert_eq!(state.seal().map(|batch| (batch.number, batch.refused)), Some((1, 1)));
        state.sealed = None;
        assert_eq!(state.seal().map(|batch| (batch.number, batch.refused)), Some((2, 5)));
    }

    #[test]
    fn gaps_that_go_on_are_one() {
        use magrathea_core::usage::GapReason::{LogLost, LogRefused};
        let mut state = State::new(Uuid::nil());
        let gap = |from, until, reason, requests| Gap { from: time(from), until: time(until), reason, requests };
        state.gap(gap("2026-11-22T10:00:00Z", "2026-11-22T10:00:05Z", LogRefused, Some(5)));
        state.gap(gap("2026-11-22T10:00:05Z", "2026-11-22T10:00:10Z", LogRefused, Some(2)));
        state.gap(gap("2026-11-22T10:00:05Z", "2026-11-22T10:00:10Z", LogLost, None));
        let gaps = &state.seal().unwrap().gaps;
        assert_eq!(gaps.len(), 2);
        assert_eq!(gaps[0], gap("2026-11-22T10:00:00Z", "2026-11-22T10:00:10Z", LogRefused, Some(7)));
    }
}
