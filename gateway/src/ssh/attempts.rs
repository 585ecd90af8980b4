//! Who tries keys that nobody has: each address may fail so often, then its failures are answered slowly, and the
//! timeline is told. A right key is never held up, so nobody can shut others of the same address out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::waiting::network_of;
use crate::lock::locked;

/// Failures in a row before an address is slowed, and how many more it gets per second.
const BURST: f64 = 30.0;
const PER_SECOND: f64 = 0.2;

/// How often the timeline is told of one address.
const TELL: Duration = Duration::from_secs(600);

/// Addresses that are remembered; beyond, those that failed least are forgotten.
const MAX_ADDRESSES: usize = 4096;

/// What is remembered.
#[derive(Default)]
pub struct Attempts {
    by_network: Mutex<HashMap<IpAddr, Tried>>,
}

#[derive(Debug, Clone, Copy)]
struct Tried {
    left: f64,
    at: Instant,
    /// Failures since the timeline was told.
    untold: u64,
    told: Option<Instant>,
}

impl Tried {
    fn left(&self, now: Instant) -> f64 {
        (self.left + now.duration_since(self.at).as_secs_f64() * PER_SECOND).min(BURST)
    }
}

impl Attempts {
    /// Counts failures; tells how many there were when it is time that the timeline hears of them.
    pub fn fail(&self, address: IpAddr, failures: u32, now: Instant) -> Option<u64> {
        if failures == 0 {
            return None;
        }
        let network = network_of(address);
        let mut by_network = locked(&self.by_network);
        if by_network.len() >= MAX_ADDRESSES && !by_network.contains_key(&network) {
            by_network.retain(|_, tried| tried.left(now) < BURST / 2.0);
            if by_network.len() >= MAX_ADDRESSES {
                return None;
            }
        }
        let tried = by_network.entry(network).or_insert(Tried { left: BURST, at: now, untold: 0, told: None });
        tried.left = (tried.left(now) - f64::from(failures)).max(0.0);
        tried.at = now;
        tried.untold += u64::from(failures);
        let is_time = tried.told.is_none_or(|told| now.duration_since(told) >= TELL);
        if tried.left >= 1.0 || !is_time {
            return None;
        }
        tried.told = Some(now);
        Some(std::mem::take(&mut tried.untold))
    }

    /// Whether an address has failed so often that its next failure is answered slowly.
    pub fn is_slowed(&self, address: IpAddr, now: Instant) -> bool {
        let by_network = locked(&self.by_network);
        by_network.get(&network_of(address)).is_some_and(|tried| tried.left(now) < 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_slow_an_address_and_are_told_once() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (one, two) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let told: Vec<_> = (0..100).filter_map(|_| attempts.fail(one, 1, now)).collect();
        assert_eq!(told, [30]);
        assert!(attempts.is_slowed(one, now) && !attempts.is_slowed(two, now));
        let later = now + TELL;
        assert!(!attempts.is_slowed(one, later), "it is forgiven in time");
        assert_eq!(attempts.fail(one, 40, later), Some(110), "what was not told yet is told too");
    }

    #[test]
    fn memory_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..10_000_u32 {
            attempts.fail(IpAddr::from(n.to_be_bytes()), 20, now);
        }
        assert!(attempts.by_network.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
