//! Times as people ask for them: months and days of a time zone. An hour of usage belongs to the part in which it begins.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::hour_of;

/// How usage is divided by time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Not at all.
    #[default]
    Total,
    Month,
    Day,
    Hour,
}

impl Step {
    pub const fn as_str(self) -> &'static str {
        match self {
            Step::Total => "total",
            Step::Month => "month",
            Step::Day => "day",
            Step::Hour => "hour",
        }
    }
}

impl std::str::FromStr for Step {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Step::Total, Step::Month, Step::Day, Step::Hour];
        let found = all.into_iter().find(|step| step.as_str() == text);
        found.ok_or_else(|| format!("{text:?} divides nothing; write total, month, day or hour"))
    }
}

/// From a moment up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// So many stretches are one answer's at most: 83 days by the hour.
pub const MOST_STRETCHES: usize = 2000;

impl Period {
    /// From a day, a month (`2026-11`) or an instant until another; a day or a month at the end is part of it. Without an end it
    /// goes until now, without a beginning it begins with the month of its end.
    pub fn parse(from: Option<&str>, to: Option<&str>, zone: &TimeZone, now: Timestamp) -> Result<Self, String> {
        let until = match to {
            Some(text) => bounds(text, zone)?.1,
            None => hour_of(now).checked_add(1.hour()).map_err(|error| error.to_string())?,
        };
        let from = match from {
            Some(text) => bounds(text, zone)?.0,
            None => {
                let last = until.checked_sub(1.second()).map_err(|error| error.to_string())?.to_zoned(zone.clone());
                start(last.date().first_of_month(), zone)?
            }
        };
        if until <= from {
            return Err(format!("nothing lies between {from:.0} and {until:.0}"));
        }
        Ok(Period { from, until })
    }

    /// Its parts, the first and the last as long as they lie in it.
    pub fn split(&self, step: Step, zone: &TimeZone) -> Result<Vec<Period>, String> {
        if step == Step::Total {
            return Ok(vec![*self]);
        }
        let mut parts = Vec::new();
        let mut from = self.from;
        while from < self.until {
            let date = from.to_zoned(zone.clone()).date();
            let next = match step {
                Step::Month => date.first_of_month().checked_add(1.month()).and_then(|date| day_start(date, zone)),
                Step::Day => date.checked_add(1.day()).and_then(|date| day_start(date, zone)),
                Step::Hour | Step::Total => from.checked_add(1.hour()),
            };
            let until = next.map_err(|error| error.to_string())?.min(self.until);
            parts.push(Period { from, until });
            if parts.len() > MOST_STRETCHES {
                return Err(format!("more than {MOST_STRETCHES} parts are too many at once; ask for less time"));
            }
            from = until;
        }
        Ok(parts)
    }
}

/// Where something that a person wrote begins and ends.
fn bounds(text: &str, zone: &TimeZone) -> Result<(Timestamp, Timestamp), String> {
    let wrong = || format!("{text:?} is no time; write 2026-11-22, 2026-11 or 2026-11-22T10:00:00Z");
    let after = |date: Date, span: Span| date.checked_add(span).map_err(|error| error.to_string());
    if let Ok(instant) = text.parse::<Timestamp>() {
        let hour = hour_of(instant);
        return Ok((hour, hour));
    }
    if let Ok(first) = format!("{text}-01").parse::<Date>()
        && text.len() == 7
    {
        return Ok((start(first, zone)?, start(after(first, 1.month())?, zone)?));
    }
    let day: Date = text.parse().map_err(|_| wrong())?;
    Ok((start(day, zone)?, start(after(day, 1.day())?, zone)?))
}

fn start(date: Date, zone: &TimeZone) -> Result<Timestamp, String> {
    day_start(date, zone).map_err(|error| error.to_string())
}

/// A day's first moment in a zone; after midnight where the clock skips it.
pub(crate) fn day_start(date: Date, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
    Ok(date.to_zoned(zone.clone())?.start_of_day()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        crate::manifest::find_zone(name).unwrap()
    }

    fn period(from: Option<&str>, to: Option<&str>, name: &str) -> String {
        let now = "2026-11-22T10:30:00Z".parse().unwrap();
        match Period::parse(from, to, &zone(name), now) {
            Ok(period) => format!("{} {}", period.from, period.until),
            Err(error) => error,
        }
    }

    #[test]
    fn times_as_people_write_them() {
        for (from, to, zone, found) in [
            (None, None, "UTC", "2026-11-01T00:00:00Z 2026-11-22T11:00:00Z"),
            (None, Some("2026-10"), "Europe/Rome", "2026-09-30T22:00:00Z 2026-10-31T23:00:00Z"),
            (Some("2026-10-25"), Some("2026-10-25"), "Europe/Rome", "2026-10-24T22:00:00Z 2026-10-25T23:00:00Z"),
            (Some("2026-11-22T08:15:00Z"), None, "UTC", "2026-11-22T08:00:00Z 2026-11-22T11:00:00Z"),
            (Some("2026-11-01"), Some("2026-11-01"), "Asia/Kolkata", "2026-10-31T18:30:00Z 2026-11-01T18:30:00Z"),
            (
                Some("2026-12"),
                Some("2026-11"),
                "UTC",
                "nothing lies between 2026-12-01T00:00:00Z and 2026-12-01T00:00:00Z",
            ),
            (
                Some("yesterday"),
                None,
                "UTC",
                "\"yesterday\" is no time; write 2026-11-22, 2026-11 or 2026-11-22T10:00:00Z",
            ),
        ] {
            assert_eq!(period(from, to, zone), found, "{from:?} {to:?}");
        }
    }

    #[test]
    fn parts_are_whole_and_days_may_have_25_hours() {
        let rome = zone("Europe/Rome");
        let now = Timestamp::UNIX_EPOCH;
        let october = Period::parse(Some("2026-10"), Some("2026-10"), &rome, now).unwrap();
        for (step, count, longest) in
            [(Step::Total, 1, 745), (Step::Day, 31, 25), (Step::Hour, 745, 1), (Step::Month, 1, 745)]
        {
            let parts = october.split(step, &rome).unwrap();
            assert_eq!((parts.len(), parts[0].from, parts[count - 1].until), (count, october.from, october.until));
            assert!(parts.windows(2).all(|pair| pair[0].until == pair[1].from));
            let hours = parts.iter().map(|part| part.until.duration_since(part.from).as_hours()).max();
            assert_eq!(hours, Some(longest), "{step:?}");
        }
        let long = Period::parse(Some("2026-01"), Some("2026-12"), &rome, now).unwrap();
        assert!(long.split(Step::Hour, &rome).unwrap_err().contains("ask for less"));
    }
}
