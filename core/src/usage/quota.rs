//! How near something is to its quota, and when people are told.

use serde::{Deserialize, Serialize};

use super::Metric;
use crate::units::size;

/// The percentages of a quota at which people are told.
const MARKS: [u8; 3] = [80, 90, 100];
/// A mark is left only when the amount is so many percent below it, so that one who stands at it is told once.
const SLACK: u8 = 2;

/// A quota and what is taken of it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QuotaUse {
    /// `files` or `database`.
    pub metric: Metric,
    pub used: u64,
    pub quota: u64,
    /// Whether the disk itself refuses more; otherwise deploys are refused, or writing to the database is.
    pub hard: bool,
}

impl QuotaUse {
    pub fn percent(&self) -> u64 {
        percent_of(self.used, self.quota)
    }

    /// Whether people are told of it.
    pub fn is_near(&self) -> bool {
        self.mark(0) > 0
    }

    pub fn is_reached(&self) -> bool {
        self.used >= self.quota
    }

    /// As [`mark_of`].
    pub fn mark(&self, held: u8) -> u8 {
        mark_of(self.percent(), held)
    }
}

impl std::fmt::Display for QuotaUse {
    /// For people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.metric == Metric::Files { "writable files take" } else { "the database's files take" };
        write!(f, "{what} {} of {} ({} %)", size(self.used), size(self.quota), self.percent())
    }
}

/// In whole percent, rounded down; all of a quota of nothing is taken.
pub fn percent_of(used: u64, quota: u64) -> u64 {
    let percent = (u128::from(used) * 100).checked_div(quota.into()).unwrap_or(100);
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// The highest mark that is reached, where `held` is the one that was before: 0 for none.
pub fn mark_of(percent: u64, held: u8) -> u8 {
    let is_at = |mark: u8| percent >= mark.into() || (mark <= held && percent >= mark.saturating_sub(SLACK).into());
    MARKS.into_iter().rfind(|mark| is_at(*mark)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_reached_and_left() {
        for (used, quota, held, mark) in [
            (0, 1000, 0, 0),
            (799, 1000, 0, 0),
            (800, 1000, 0, 80),
            (899, 1000, 80, 80),
            (900, 1000, 0, 90),
            (999, 1000, 90, 90),
            (1000, 1000, 90, 100),
            (u64::MAX, 1000, 0, 100),
            (u64::MAX, u64::MAX, 0, 100),
            (985, 1000, 100, 100),
            (979, 1000, 100, 90),
            (879, 1000, 100, 80),
            (785, 1000, 80, 80),
            (779, 1000, 100, 0),
            (0, 0, 0, 100),
        ] {
            let of = QuotaUse { metric: Metric::Files, used, quota, hard: false };
            assert_eq!(of.mark(held), mark, "{used} of {quota}, {held} before");
        }
    }
}
