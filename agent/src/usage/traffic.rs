//! Requests that are read from the router's log and not in the accounts yet: what is done for each line is done here, and must
//! cost next to nothing.

use std::collections::HashMap;

use jiff::Timestamp;
use magrathea_core::usage::{Metric, Usage, hour_of};

use super::account::Sums;
use super::line::Request;

const HOUR: i64 = 3_600_000_000;

/// Requests by process of the router, hour and instance.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Few, and the last is nearly always the one.
    stretches: Vec<Stretch>,
}

/// What came through one process in one hour.
#[derive(Debug)]
pub struct Stretch {
    pub worker: i64,
    pub hour: Timestamp,
    pub tallies: HashMap<String, Tally>,
    /// The hour in microseconds since 1970.
    from: i64,
    /// When the process was asked last.
    asked: Option<i64>,
}

/// Requests of one instance.
#[derive(Debug, Default)]
pub struct Tally {
    pub all: Sums,
    /// Those that began before their process was asked.
    pub known: Sums,
    /// By status, from 100 on.
    statuses: [u64; 5],
    hits: u64,
    misses: u64,
    https: u64,
}

impl Traffic {
    /// Takes in a request that was over at a time, in microseconds since 1970. `asked` tells when its process was asked last; it
    /// may not change until what is here is taken.
    pub fn add(&mut self, request: &Request<'_>, over: i64, asked: impl Fn(i64) -> Option<i64>) {
        let is_in = |stretch: &Stretch| stretch.worker == request.worker && (0..HOUR).contains(&(over - stretch.from));
        if !self.stretches.last().is_some_and(is_in) {
            let stretch = match self.stretches.iter().position(is_in) {
                Some(found) => self.stretches.remove(found),
                None => Stretch::new(request.worker, over, asked(request.worker)),
            };
            self.stretches.push(stretch);
        }
        let Some(stretch) = self.stretches.last_mut() else { return };
        match stretch.tallies.get_mut(request.slug.as_ref()) {
            Some(tally) => tally.add(request, stretch.asked),
            None => {
                let tally = stretch.tallies.entry(request.slug.as_ref().to_owned()).or_default();
                tally.add(request, stretch.asked);
            }
        }
    }

    pub fn take(&mut self) -> Vec<Stretch> {
        std::mem::take(&mut self.stretches)
    }
}

impl Stretch {
    fn new(worker: i64, over: i64, asked: Option<i64>) -> Self {
        let hour = hour_of(Timestamp::from_microsecond(over).unwrap_or_default());
        Stretch { worker, hour, tallies: HashMap::new(), from: hour.as_microsecond(), asked }
    }
}

impl Tally {
    fn add(&mut self, request: &Request<'_>, asked: Option<i64>) {
        let sums = Sums { requests: 1, received: request.received, sent: request.sent };
        self.all += sums;
        // Whole milliseconds are told, rounded down: it began up to one earlier.
        let took = request.ms.max(0).saturating_add(1).saturating_mul(1000);
        if asked.is_some_and(|asked| request.at.saturating_sub(took) <= asked) {
            self.known += sums;
        }
        let class = usize::try_from(request.status / 100 - 1).ok();
        if let Some(count) = class.and_then(|class| self.statuses.get_mut(class)) {
            *count += 1;
        }
        self.https += u64::from(request.tls);
        let says = |word: &str| request.cache.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        self.hits += u64::from(says("hit"));
        self.misses += u64::from(says("miss"));
    }

    /// What they were, without what the accounts settle.
    pub fn kinds(&self) -> Usage {
        let classes = [Metric::Status1xx, Metric::Status2xx, Metric::Status3xx, Metric::Status4xx, Metric::Status5xx];
        let rest = [(Metric::Hits, self.hits), (Metric::Misses, self.misses), (Metric::Https, self.https)];
        classes.into_iter().zip(self.statuses).chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_process_hour_and_instance() {
        let request = |worker, slug: &'static str, at, ms| Request {
            layer: "routing".into(),
            slug: slug.into(),
            worker,
            at,
            status: 503,
            sent: 10,
            received: 1,
            ms,
            cache: "Miss".into(),
            tls: true,
        };
        let mut traffic = Traffic::default();
        for (worker, slug, at, ms) in [
            (1, "a", 0, 0),
            (1, "a", HOUR - 1, 0),
            (1, "a", HOUR, 9_000),
            (2, "a", HOUR, 0),
            (1, "b", 5, 0),
            (1, "a", 6, 0),
        ] {
            traffic.add(&request(worker, slug, at, ms), at, |worker| (worker == 1).then_some(HOUR - 5_000_000));
        }
        let mut told: Vec<_> = traffic
            .take()
            .into_iter()
            .flat_map(|stretch| {
                let (worker, hour) = (stretch.worker, stretch.hour.as_second());
                let told = move |(slug, tally): (String, Tally)| {
                    (worker, hour, slug, tally.all.requests, tally.known.requests)
                };
                stretch.tallies.into_iter().map(told)
            })
            .collect();
        told.sort();
        let wanted = [(1, 0, "a", 3, 2), (1, 0, "b", 1, 1), (1, 3600, "a", 1, 1), (2, 3600, "a", 1, 0)];
        assert_eq!(told, wanted.map(|(worker, hour, slug, all, known)| (worker, hour, slug.to_owned(), all, known)));
        assert!(traffic.take().is_empty());
    }

    #[test]
    fn kinds_of_requests() {
        let mut tally = Tally::default();
        for (status, cache, tls) in
            [(101, "", false), (200, "HIT", true), (204, "hit", true), (599, "MISS", false), (-1, "x", false)]
        {
            let request = Request {
                layer: "".into(),
                slug: "".into(),
                worker: 0,
                at: 0,
                status,
                sent: 0,
                received: 0,
                ms: 0,
                cache: cache.into(),
                tls,
            };
            tally.add(&request, None);
        }
        let kinds: Vec<_> = tally.kinds().iter().map(|(metric, count)| (metric.as_str(), count)).collect();
        assert_eq!(
            kinds,
            [("status_1xx", 1), ("status_2xx", 2), ("status_5xx", 1), ("hits", 2), ("misses", 1), ("https", 2)]
        );
    }
}
