//! Slows those who guess: each address has a bucket of failed authentications that refills slowly. A right token is
//! never refused, so nobody can lock others of the same address out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use crate::lock::locked;
use tokio::time::Instant;

/// Failures in a row before an address is slowed, and how many more it gets per second.
const BURST: f64 = 20.0;
const PER_SECOND: f64 = 0.5;

/// Addresses that are remembered; beyond, those with the fullest bucket are forgotten.
const MAX_ADDRESSES: usize = 4096;

/// The buckets.
#[derive(Default)]
pub struct Throttle {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn at(self, now: Instant) -> f64 {
        (self.left + now.duration_since(self.at).as_secs_f64() * PER_SECOND).min(BURST)
    }
}

impl Throttle {
    /// Counts a failure; false when the address has had too many.
    pub fn fail(&self, address: IpAddr, now: Instant) -> bool {
        let address = address.to_canonical();
        let mut buckets = locked(&self.buckets);
        if buckets.len() >= MAX_ADDRESSES && !buckets.contains_key(&address) {
            buckets.retain(|_, bucket| bucket.at(now) < BURST / 2.0);
            if buckets.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let bucket = buckets.entry(address).or_insert(Bucket { left: BURST, at: now });
        let left = bucket.at(now);
        let allowed = left >= 1.0;
        *bucket = Bucket { left: if allowed { left - 1.0 } else { left }, at: now };
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_allowed_and_the_bucket_refills() {
        let throttle = Throttle::default();
        let (one, two) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let now = Instant::now();
        let allowed = (0..50).filter(|_| throttle.fail(one, now)).count();
        assert_eq!(allowed, 20);
        assert!(throttle.fail(two, now), "another address has its own bucket");
        assert!(throttle.fail(one, now + Duration::from_secs(3)));
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..10_000_u32 {
            throttle.fail(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(throttle.buckets.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
