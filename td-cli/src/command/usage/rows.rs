//! The rows of usage tables.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use magrathea_core::api::UsageReport;
use magrathea_core::manifest::find_zone;
use magrathea_core::usage::{Metric, Step, Usage};
use uuid::Uuid;

use crate::human;

/// The longest bar of a chart, in characters.
const BAR: u64 = 24;

/// An instance each, and the sum of several.
pub fn instances(report: &UsageReport) -> Vec<[String; 10]> {
    let seconds = seconds(report.from, report.until);
    let disk: BTreeMap<Uuid, u64> =
        report.levels.iter().map(|level| (level.instance, level.bytes.values().sum())).collect();
    let row = |names: [&str; 3], usage: &Usage, disk: u64| {
        let [requests, received, sent, cached, cpu, memory] = common(usage, seconds);
        let [app, label, cluster] = names.map(str::to_owned);
        [app, label, cluster, requests, received, sent, cached, cpu, memory, human::size(disk)]
    };
    let mut rows: Vec<_> = report
        .rows
        .iter()
        .map(|part| {
            let of = &part.of;
            let label = if of.destroyed { format!("{} (destroyed)", of.label) } else { of.label.clone() };
            row([&of.app, &label, &of.cluster], &part.usage, disk.get(&of.instance).copied().unwrap_or_default())
        })
        .collect();
    if rows.len() > 1 {
        let mut sum = Usage::default();
        report.rows.iter().for_each(|part| sum.add_all(&part.usage));
        rows.push(row(["all", "", ""], &sum, disk.values().sum()));
    }
    rows
}

/// A part of the time each, with a bar.
pub fn parts(report: &UsageReport, step: Step) -> Vec<[String; 9]> {
    let mut sums: BTreeMap<(Timestamp, Timestamp), Usage> = BTreeMap::new();
    for row in &report.rows {
        sums.entry((row.from, row.until)).or_default().add_all(&row.usage);
    }
    let most = sums.values().map(|usage| usage.get(Metric::Sent)).max().unwrap_or_default();
    let row = |((from, until), usage): (&(Timestamp, Timestamp), &Usage)| {
        let seconds = seconds(*from, *until);
        let [requests, received, sent, cached, cpu, memory] = common(usage, seconds);
        let disk = Metric::DISK.iter().map(|metric| usage.get(*metric)).sum::<u64>() / seconds;
        let bar = bar(usage.get(Metric::Sent), most);
        [name(*from, step, &report.time_zone), requests, received, sent, cached, cpu, memory, human::size(disk), bar]
    };
    sums.iter().map(row).collect()
}

/// Requests, bytes received and sent, the share of cached requests, CPU time, and memory in the mean.
fn common(usage: &Usage, seconds: u64) -> [String; 6] {
    let requests = usage.get(Metric::Requests);
    [
        requests.to_string(),
        human::size(usage.get(Metric::Received)),
        human::size(usage.get(Metric::Sent)),
        share(usage.get(Metric::Hits), requests),
        human::duration(std::time::Duration::from_millis(usage.get(Metric::Cpu))),
        human::size(usage.get(Metric::Memory) / seconds),
    ]
}

pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{} %", u128::from(part) * 100 / u128::from(whole)) }
}

/// Until now, where the time has not ended yet.
fn seconds(from: Timestamp, until: Timestamp) -> u64 {
    let until = until.min(Timestamp::now());
    u64::try_from(until.duration_since(from).as_secs()).unwrap_or_default().max(1)
}

fn bar(amount: u64, most: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = u128::from(amount) * u128::from(BAR) * 8 / u128::from(most.max(1));
    let (whole, rest) =
        (usize::try_from(eighths / 8).unwrap_or_default(), usize::try_from(eighths % 8).unwrap_or_default());
    format!("{}{}", "█".repeat(whole), EIGHTHS.get(rest).copied().unwrap_or_default())
}

fn name(from: Timestamp, step: Step, zone: &str) -> String {
    let at = from.to_zoned(find_zone(zone).unwrap_or(TimeZone::UTC));
    let format = match step {
        Step::Month => "%Y-%m",
        Step::Hour => "%Y-%m-%d %H:%M",
        _ => "%Y-%m-%d %a",
    };
    at.strftime(format).to_string()
}

/// An instant in the zone of the report.
pub fn local(at: Timestamp, zone: &str) -> String {
    name(at, Step::Hour, zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        for (amount, most, width, end) in [(0, 0, 0, ""), (10, 10, 24, "█"), (5, 10, 12, "█"), (1, 192, 1, "▏")] {
            let bar = bar(amount, most);
            assert!(bar.chars().count() == width && bar.ends_with(end), "{bar}");
        }
    }

    #[test]
    fn parts_are_named_in_their_zone() {
        let at: Timestamp = "2026-10-31T23:00:00Z".parse().unwrap();
        for (step, text) in [(Step::Month, "2026-11"), (Step::Day, "2026-11-01 Sun"), (Step::Hour, "2026-11-01 00:00")]
        {
            assert_eq!(name(at, step, "Europe/Rome"), text);
        }
        assert_eq!((share(1, 0), share(999, 1000)), ("-".to_owned(), "99 %".to_owned()));
    }
}
