//! What was accounted to an app.

use std::collections::BTreeMap;

use crate::site::Site;

/// By metric, from the beginning.
pub fn accounted(site: &Site) -> BTreeMap<String, u64> {
    let report = site.td(&["usage", "--json"]).ok().json();
    // Not to one of the same name that an earlier run has destroyed.
    let row = report["rows"].as_array().unwrap().iter().find(|row| row["destroyed"] == false);
    let amounts = row.and_then(|row| row["usage"].as_object()).into_iter().flatten();
    amounts.map(|(metric, amount)| (metric.clone(), amount.as_u64().unwrap())).collect()
}

/// One that is absent is nothing.
pub fn of(usage: &BTreeMap<String, u64>, metric: &str) -> u64 {
    usage.get(metric).copied().unwrap_or_default()
}
