//! Months in the operator's time zone, and the parts of them in which one price list holds.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{PriceList, Rates};
use crate::manifest::find_zone;
use crate::usage::{Period, day_start};

/// A calendar month, written as in `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month(Date);

/// Why a text is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a month; write it as in 2026-11")]
pub struct MonthError(String);

/// A part of a period with its price list; none has begun when it is absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment<'a> {
    pub period: Period,
    pub list: Option<&'a PriceList>,
}

impl Month {
    /// The month that a moment is in.
    pub fn of(at: Timestamp, zone: &TimeZone) -> Self {
        Month(at.to_zoned(zone.clone()).date().first_of_month())
    }

    pub fn next(self) -> Self {
        Month(self.0.last_of_month().tomorrow().unwrap_or(self.0))
    }

    pub fn previous(self) -> Self {
        Month(self.0.yesterday().map_or(self.0, Date::first_of_month))
    }

    /// From its first moment to the next month's. An hour of usage belongs to the month in which it begins.
    pub fn period(self, zone: &TimeZone) -> Period {
        Period { from: start_of(self.0, zone), until: start_of(self.next().0, zone) }
    }
}

fn start_of(day: Date, zone: &TimeZone) -> Timestamp {
    day_start(day, zone).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Period {
    pub fn seconds(self) -> u64 {
        u64::try_from(self.until.as_second() - self.from.as_second()).unwrap_or_default()
    }

    /// What both have in common, in seconds.
    pub fn overlap(self, from: Timestamp, until: Option<Timestamp>) -> u64 {
        let until = until.map_or(self.until, |until| until.min(self.until));
        Period { from: from.max(self.from), until }.seconds()
    }
}

impl Rates {
    /// The zone in which months begin.
    pub fn zone(&self) -> TimeZone {
        find_zone(&self.time_zone).unwrap_or(TimeZone::UTC)
    }

    /// The parts of a period in which one list holds, in the order of time; they fill it without a gap.
    pub fn segments(&self, period: Period) -> Vec<Segment<'_>> {
        let zone = self.zone();
        let begun: Vec<_> = self.prices.iter().map(|list| (start_of(list.from, &zone), list)).collect();
        let mut list = begun.iter().rfind(|(from, _)| *from <= period.from).map(|(_, list)| *list);
        let mut from = period.from;
        let mut segments = Vec::new();
        for (start, next) in begun.iter().filter(|(start, _)| *start > period.from && *start < period.until) {
            segments.push(Segment { period: Period { from, until: *start }, list });
            (from, list) = (*start, Some(*next));
        }
        segments.push(Segment { period: Period { from, until: period.until }, list });
        segments
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let wrong = || MonthError(text.chars().take(40).collect());
        let (year, month) = text.split_once('-').filter(|(y, m)| y.len() == 4 && m.len() == 2).ok_or_else(wrong)?;
        let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let (year, month) = (year.parse::<i16>().map_err(|_| wrong())?, month.parse::<i8>().map_err(|_| wrong())?);
        // Farther away, there is no calendar to reckon with.
        let date = Date::new(year, month, 1).ok().filter(|_| is_plain && (2000..9000).contains(&year));
        date.map(Month).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:04}-{:02}", self.0.year(), self.0.month()))
    }
}

impl TryFrom<String> for Month {
    type Error = MonthError;

    fn try_from(text: String) -> Result<Self, MonthError> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> String {
        month.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(month: &str, zone: &str) -> String {
        let period = month.parse::<Month>().unwrap().period(&find_zone(zone).unwrap());
        format!("{} {} {}h", period.from, period.until, period.seconds() as f64 / 3600.0)
    }

    #[test]
    fn months_follow_the_zone_and_its_daylight_saving() {
        for (month, zone, expect) in [
            ("2026-11", "UTC", "2026-11-01T00:00:00Z 2026-12-01T00:00:00Z 720h"),
            ("2026-10", "Europe/Berlin", "2026-09-30T22:00:00Z 2026-10-31T23:00:00Z 745h"),
            ("2026-03", "Europe/Berlin", "2026-02-28T23:00:00Z 2026-03-31T22:00:00Z 743h"),
            ("2026-11", "Asia/Kolkata", "2026-10-31T18:30:00Z 2026-11-30T18:30:00Z 720h"),
            // Its clock is moved by half an hour.
            ("2026-04", "Australia/Lord_Howe", "2026-03-31T13:00:00Z 2026-04-30T13:30:00Z 720.5h"),
        ] {
            assert_eq!(period(month, zone), expect, "{month} {zone}");
        }
    }

    #[test]
    fn months_follow_each_other() {
        let month: Month = "2026-12".parse().unwrap();
        assert_eq!((month.next().to_string().as_str(), month.previous().to_string().as_str()), ("2027-01", "2026-11"));
        assert_eq!(month.next().previous(), month);
        for bad in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "2026-11-01", "+026-11", "9999-12"] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }
}
