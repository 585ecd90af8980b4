//! How many requests the replicas of what serves have, asked of the router every second and kept for a minute. Whoever
//! wants to know it fetches it; nothing here decides.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use magrathea_core::wire::{LoadSecond, Loads};

use super::control::{Control, ServerLoad};
use super::render::is_own;

const EVERY: Duration = Duration::from_secs(1);

/// So many seconds are kept: a gateway that asks less often misses some.
const KEPT: usize = 60;

/// The last seconds.
#[derive(Debug, Clone, Default)]
pub struct LoadMeter(Arc<Mutex<VecDeque<LoadSecond>>>);

impl LoadMeter {
    /// Asks once in every second. Never ends.
    pub async fn run(self, control: Control) {
        loop {
            tokio::time::sleep(until_next(jiff::Timestamp::now().subsec_nanosecond(), uuid::Uuid::now_v7().as_u128()))
                .await;
            match control.read_load().await {
                Ok((active, servers)) => self.push(jiff::Timestamp::now().as_second(), busy(&active, &servers)),
                Err(error) => tracing::trace!(%error, "the load was not read"),
            }
        }
    }

    fn push(&self, at: i64, busy: BTreeMap<String, u32>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.back().is_some_and(|last| last.at == at) {
            return;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(LoadSecond { at, busy });
    }

    /// What came after a second; all, when the clock was put back since.
    pub fn after(&self, second: i64) -> Loads {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ahead = kept.back().is_none_or(|last| last.at < second);
        let seconds = kept.iter().filter(|kept| is_ahead || kept.at > second).cloned().collect();
        Loads { now: jiff::Timestamp::now().as_second(), seconds }
    }
}

/// How long until a moment of the next second, another one each time: whoever asked at a steady beat would see always the same of
/// visitors who come at one.
fn until_next(nanoseconds: i32, random: u128) -> Duration {
    let rest = EVERY.saturating_sub(Duration::from_nanos(nanoseconds.unsigned_abs().into()));
    rest + EVERY * u32::try_from(random & 0xffff).unwrap_or_default() / 0x1_0000
}

/// Requests by instance, in the replicas that the map leads to; without those that have none.
fn busy(active: &BTreeMap<String, String>, servers: &[ServerLoad]) -> BTreeMap<String, u32> {
    let mut by_backend: BTreeMap<&str, u32> = BTreeMap::new();
    for server in servers.iter().filter(|server| is_own(&server.name)) {
        *by_backend.entry(&server.backend).or_default() += server.requests;
    }
    let of = |(slug, value): (&String, &String)| {
        let backend = value.split(',').next()?;
        let requests = by_backend.get(backend).copied().filter(|requests| *requests > 0)?;
        Some((slug.clone(), requests))
    };
    active.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_the_replicas_that_serve_are_counted() {
        let active = [("i0", "i0_b,2"), ("i1", "i1_a,1")].map(|(slug, value)| (slug.to_owned(), value.to_owned()));
        let server =
            |backend: &str, name: &str, requests| ServerLoad { backend: backend.into(), name: name.into(), requests };
        // The cache's own server and what stands by or drains is no replica of what serves. A worker that ends counts.
        let servers = [
            server("i0_a", "r1", 5),
            server("i0_b", "r1", 2),
            server("i0_b", "r2", 1),
            server("i0_b", "s1", 7),
            server("i0_b", "cache", 9),
            server("i0_b", "r1", 1),
            server("i1_a", "r1", 0),
        ];
        assert_eq!(busy(&active.into(), &servers), [("i0".to_owned(), 4)].into());
    }

    #[test]
    fn each_second_is_asked_for_once() {
        for (nanoseconds, random, milliseconds) in [(0, 0, 1000), (999_000_000, 0, 1), (500_000_000, 0xffff, 1499)] {
            assert_eq!(until_next(nanoseconds, random).as_millis(), milliseconds, "{nanoseconds} {random}");
        }
    }

    #[test]
    fn a_minute_is_kept_and_a_clock_may_be_put_back() {
        let meter = LoadMeter::default();
        for at in (100..200).chain([199]) {
            meter.push(at, BTreeMap::new());
        }
        let seconds = |after| meter.after(after).seconds.iter().map(|second| second.at).collect::<Vec<_>>();
        assert_eq!(seconds(0), (140..200).collect::<Vec<_>>());
        assert_eq!(seconds(197), [198, 199]);
        assert_eq!(seconds(199), [] as [i64; 0]);
        assert_eq!(seconds(500).len(), 60);
    }
}
