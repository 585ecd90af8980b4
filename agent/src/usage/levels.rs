//! Levels of all instances at once: what is not told any more has ended.

use std::collections::{BTreeMap, BTreeSet};

use magrathea_core::usage::Metric;

use super::Ledger;

/// Tells what all instances take of something; those that are not among them take nothing of it any more.
pub fn tell(ledger: &Ledger, metric: Metric, levels: &BTreeMap<String, u64>) {
    end_others(ledger, metric, levels.keys());
    for (slug, bytes) in levels {
        ledger.level(slug, metric, *bytes);
    }
}

/// Ends the levels of instances that are not among these.
pub fn end_others<'a>(ledger: &Ledger, metric: Metric, held: impl Iterator<Item = &'a String>) {
    let held: BTreeSet<_> = held.collect();
    for slug in ledger.held(metric).iter().filter(|slug| !held.contains(slug)) {
        ledger.level(slug, metric, 0);
    }
}
