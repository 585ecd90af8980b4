//! What instances use, hour by hour: traffic at the edge, disk, and what their containers take. Everything is a sum of whole
//! numbers, so that parts may be added in any order, and a number that was added once never shrinks.

mod metric;
mod period;
mod quota;
mod traffic;

pub use metric::{Metric, Unit};
pub(crate) use period::day_start;
pub use period::{Period, Step};
pub use quota::{QuotaUse, mark_of, percent_of};
pub use traffic::{Then, describe_traffic, parse_traffic};

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Amounts by metric; those that are nothing are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usage(BTreeMap<Metric, u64>);

impl Usage {
    pub fn get(&self, metric: Metric) -> u64 {
        self.0.get(&metric).copied().unwrap_or_default()
    }

    pub fn add(&mut self, metric: Metric, amount: u64) {
        if amount > 0 {
            let held = self.0.entry(metric).or_default();
            *held = held.saturating_add(amount);
        }
    }

    pub fn add_all(&mut self, other: &Usage) {
        other.iter().for_each(|(metric, amount)| self.add(metric, amount));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Metric, u64)> {
        self.0.iter().map(|(metric, amount)| (*metric, *amount))
    }
}

impl FromIterator<(Metric, u64)> for Usage {
    fn from_iter<T: IntoIterator<Item = (Metric, u64)>>(amounts: T) -> Self {
        let mut usage = Usage::default();
        amounts.into_iter().for_each(|(metric, amount)| usage.add(metric, amount));
        usage
    }
}

/// What a node counts between two reports to the gateway, and sends until the gateway has it. The gateway counts a batch once,
/// by ledger and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Which ledger it comes from; a node that lost its own begins another.
    pub ledger: Uuid,
    /// Rises by one with each batch of a ledger, from 1.
    pub number: u64,
    pub rows: Vec<Row>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<Level>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Requests that were refused before they were any instance's.
    #[serde(default)]
    pub refused: u64,
}

/// What an instance used in an hour, or in a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub slug: String,
    /// When the hour began.
    pub hour: Timestamp,
    pub usage: Usage,
}

/// How much disk an instance takes at a moment, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    pub slug: String,
    pub at: Timestamp,
    /// By the metric that sums it up.
    pub bytes: BTreeMap<Metric, u64>,
}

/// A time in which something may not have been counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub from: Timestamp,
    pub until: Timestamp,
    pub reason: GapReason,
    /// Requests that are missing, where the number is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

/// Why something may not have been counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The router's log was not read in time, and its front was freed.
    LogLost,
    /// The router could not write lines of its log: a disk is full, or two of its threads were in each other's way.
    LogRefused,
    /// Lines that are not what the router writes.
    LogDamaged,
    /// The node could not store what it had counted.
    LedgerLost,
    /// A node reported usage of an instance that is none of its cluster's.
    Refused,
}

impl GapReason {
    pub const ALL: [GapReason; 5] =
        [GapReason::LogLost, GapReason::LogRefused, GapReason::LogDamaged, GapReason::LedgerLost, GapReason::Refused];

    pub const fn as_str(self) -> &'static str {
        match self {
            GapReason::LogLost => "log_lost",
            GapReason::LogRefused => "log_refused",
            GapReason::LogDamaged => "log_damaged",
            GapReason::LedgerLost => "ledger_lost",
            GapReason::Refused => "refused",
        }
    }

    /// For people.
    pub const fn describe(self) -> &'static str {
        match self {
            GapReason::LogLost => "the router's log was not taken over in time",
            GapReason::LogRefused => {
                "the router could not write lines of its log; their requests count, without their kinds"
            }
            GapReason::LogDamaged => "lines of the router's log were damaged",
            GapReason::LedgerLost => "the node could not keep what it had counted",
            GapReason::Refused => "a node reported usage of an instance that is none of its cluster's",
        }
    }
}

impl std::fmt::Display for Gap {
    /// For people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {:.0} until {:.0}", self.reason.describe(), self.from, self.until)?;
        self.requests.map_or(Ok(()), |requests| write!(f, " ({})", crate::units::count(requests, "request")))
    }
}

impl std::str::FromStr for GapReason {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no gap's reason"))
    }
}

/// When the hour of an instant began. Hours are UTC's: each zone's days and months are made of whole ones, but for zones that
/// are half an hour beside.
pub fn hour_of(at: Timestamp) -> Timestamp {
    at.round(jiff::TimestampRound::new().smallest(jiff::Unit::Hour).mode(jiff::RoundMode::Floor)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_added_and_written_by_name() {
        let mut usage: Usage = [(Metric::Sent, 5), (Metric::Requests, 1), (Metric::Hits, 0)].into_iter().collect();
        usage.add_all(&usage.clone());
        let text = serde_json::to_string(&usage).unwrap();
        assert_eq!(text, r#"{"requests":2,"sent":10}"#);
        assert_eq!(serde_json::from_str::<Usage>(&text).unwrap(), usage);
        usage.add(Metric::Sent, u64::MAX);
        assert_eq!(usage.get(Metric::Sent), u64::MAX);
    }

    #[test]
    fn hours_begin_before_their_instants() {
        for (at, hour) in [
            ("2026-11-22T01:59:59.999Z", "2026-11-22T01:00:00Z"),
            ("2026-11-22T02:00:00Z", "2026-11-22T02:00:00Z"),
            ("1969-12-31T23:30:00Z", "1969-12-31T23:00:00Z"),
        ] {
            assert_eq!(hour_of(at.parse().unwrap()), hour.parse().unwrap(), "{at}");
        }
    }
}
