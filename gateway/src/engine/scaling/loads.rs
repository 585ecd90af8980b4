//! What the routers saw in the last minutes. A second counts for an instance when all routers of its cluster have told of it.

use std::collections::BTreeMap;

use magrathea_core::scaling::{STALE, Sample};
use magrathea_core::wire;

use crate::hub::NodeRef;

/// By router.
#[derive(Debug, Default)]
pub struct Loads(BTreeMap<NodeRef, Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The last second by the agent's clock.
    last: i64,
    /// What is added to the agent's clock to get the gateway's.
    offset: i64,
    /// Busy replicas' requests by slug, by the gateway's clock.
    seconds: BTreeMap<i64, BTreeMap<String, u32>>,
}

/// Clocks are compared in whole seconds: what differs less stays as it is, or seconds would be lost and counted twice.
const WOBBLE: u64 = 2;

/// What is further from now than this is no second that was seen.
const FAR: i64 = 120;

impl Loads {
    /// The last second that a router has told of, by its agent's clock.
    pub fn last_of(&self, node: &NodeRef) -> i64 {
        self.0.get(node).map_or(0, |seen| seen.last)
    }

    pub fn take(&mut self, node: &NodeRef, told: wire::Loads, now: i64) {
        let seen = self.0.entry(node.clone()).or_default();
        let offset = now.saturating_sub(told.now);
        if seen.seconds.is_empty() || offset.abs_diff(seen.offset) > WOBBLE {
            seen.offset = offset;
        }
        for second in told.seconds {
            let at = second.at.saturating_add(seen.offset);
            seen.last = second.at;
            if at.abs_diff(now) <= FAR.unsigned_abs() {
                seen.seconds.insert(at, second.busy);
            }
        }
    }

    pub fn forget_before(&mut self, second: i64) {
        for seen in self.0.values_mut() {
            seen.seconds = seen.seconds.split_off(&second);
        }
        self.0.retain(|_, seen| !seen.seconds.is_empty());
    }

    /// An instance's load in the seconds after this one.
    pub fn samples(&self, routers: &[NodeRef], slug: &str, after: i64) -> Vec<Sample> {
        let Some(all) = routers.iter().map(|node| self.0.get(node)).collect::<Option<Vec<_>>>() else {
            return Vec::new();
        };
        let Some((first, others)) = all.split_first() else { return Vec::new() };
        let busy_in = |busy: &BTreeMap<String, u32>| busy.get(slug).copied().unwrap_or(0);
        let sample = |(at, busy): (&i64, &BTreeMap<String, u32>)| {
            let others = others.iter().map(|seen| seen.seconds.get(at).map(busy_in));
            let others: Option<u32> = others.sum();
            Some(Sample { at: *at, busy: busy_in(busy).saturating_add(others?) })
        };
        first.seconds.range(after.saturating_add(1)..).filter_map(sample).collect()
    }
}

/// The mean of the last seconds; none when nobody has seen them.
pub fn now_busy(samples: &[Sample], now: i64) -> Option<u32> {
    const SPAN: i64 = 10;
    let end = samples.last().map(|sample| sample.at).filter(|end| now.saturating_sub(*end) <= STALE)?;
    let last =
        samples.iter().filter(|sample| sample.at > end.saturating_sub(SPAN)).map(|sample| u64::from(sample.busy));
    let (count, sum) = last.fold((0u64, 0u64), |(count, sum), busy| (count + 1, sum + busy));
    u32::try_from((sum + count / 2) / count.max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use magrathea_core::wire::LoadSecond;

    fn node(name: &str) -> NodeRef {
        NodeRef { cluster: "local".parse().unwrap(), node: name.parse().unwrap() }
    }

    fn told(now: i64, seconds: std::ops::Range<i64>, busy: u32) -> wire::Loads {
        let second = |at| LoadSecond { at, busy: [("i1".to_owned(), busy)].into() };
        wire::Loads { now, seconds: seconds.map(second).collect() }
    }

    #[test]
    fn all_routers_must_have_told() {
        let mut loads = Loads::default();
        let (one, two) = (node("one"), node("two"));
        let both = [one.clone(), two.clone()];
        loads.take(&one, told(1_000, 990..1_000, 3), 1_000);
        assert_eq!(loads.last_of(&one), 999);
        assert_eq!(loads.samples(&both, "i1", 0), []);
        // Another clock, an hour ahead, that was rounded differently.
        loads.take(&two, told(4_600, 4_590..4_595, 4), 1_000);
        loads.take(&two, told(4_602, 4_595..4_600, 4), 1_001);
        let samples = loads.samples(&both, "i1", 996);
        assert_eq!(samples, [997, 998, 999].map(|at| Sample { at, busy: 7 }));
        assert_eq!(loads.samples(&both, "i2", 998), [Sample { at: 999, busy: 0 }]);
        assert_eq!((now_busy(&samples, 1_005), now_busy(&samples, 1_100)), (Some(7), None));
        loads.forget_before(998);
        assert_eq!(loads.samples(&both, "i1", 0).len(), 2);
    }

    #[test]
    fn an_agent_that_says_nonsense_fills_nothing() {
        let mut loads = Loads::default();
        loads.take(&node("one"), told(1_000, 5_000..6_000, 1), 1_000);
        loads.take(&node("one"), told(i64::MIN, 0..10, 1), 1_000);
        assert_eq!(loads.samples(&[node("one")], "i1", i64::MIN), []);
    }
}
