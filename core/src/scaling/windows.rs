//! The bounds at an instant: those of the manifest, raised by the windows that are open.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::manifest::{Scaling, Window, WindowTime, find_zone};

/// So much earlier a window opens, so that its replicas are there when it begins.
const LEAD: Duration = Duration::from_secs(120);

/// How far ahead a daily window is looked for: each weekday comes within that time.
const DAYS: i32 = 8;

/// Between which numbers the load decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    pub min: u16,
    pub max: u16,
    /// The window that gives `min`.
    pub window: Option<Occurrence>,
}

/// One time that a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    pub from: Timestamp,
    pub until: Timestamp,
    pub min: u16,
}

impl Scaling {
    /// The bounds at an instant.
    pub fn bounds(&self, now: Timestamp) -> Bounds {
        let open = self.occurrences(now).filter(|window| window.from - LEAD <= now && now < window.until);
        let window = open.max_by_key(|window| (window.min, window.until)).filter(|window| window.min > self.min);
        // A manifest that says otherwise is refused; one that was stored must not make the bounds cross.
        let min = window.map_or(self.min, |window| window.min).min(self.max);
        Bounds { min, max: self.max, window }
    }

    /// The window that begins next.
    pub fn next_window(&self, now: Timestamp) -> Option<Occurrence> {
        self.occurrences(now).filter(|window| window.from > now).min_by_key(|window| window.from)
    }

    /// Those that are open, and each one's next.
    fn occurrences(&self, now: Timestamp) -> impl Iterator<Item = Occurrence> {
        let zone = self.time_zone.as_deref().and_then(find_zone).unwrap_or(TimeZone::UTC);
        let today = zone.to_datetime(now).date();
        self.windows.iter().flat_map(move |window| occurrences(window, today, zone.clone()))
    }
}

fn occurrences(window: &Window, today: Date, zone: TimeZone) -> Vec<Occurrence> {
    let spans: Vec<(DateTime, DateTime)> = match (window.from, window.until) {
        (WindowTime::Dated(from), WindowTime::Dated(until)) => vec![(from, until)],
        (WindowTime::Daily(from), WindowTime::Daily(until)) => {
            // Since yesterday: it may be open over midnight.
            let days = (-1..=DAYS).filter_map(|n| today.checked_add(jiff::Span::new().days(n)).ok());
            let days =
                days.filter(|day| window.days.is_empty() || window.days.iter().any(|of| of.weekday() == day.weekday()));
            let span = |day: Date| {
                let end = if until > from { day } else { day.tomorrow().ok()? };
                Some((day.to_datetime(from), end.to_datetime(until)))
            };
            days.filter_map(span).collect()
        }
        _ => Vec::new(),
    };
    // A time that a change of clocks leaves out is the one after it; of one that comes twice the first is meant.
    let instant = |moment: DateTime| zone.to_ambiguous_zoned(moment).compatible().ok().map(|zoned| zoned.timestamp());
    let both = |(from, until)| Some(Occurrence { from: instant(from)?, until: instant(until)?, min: window.min });
    spans.into_iter().filter_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Replicas;

    fn scaling(text: &str) -> Scaling {
        match serde_json::from_str(text).unwrap() {
            Replicas::Automatic(scaling) => scaling,
            Replicas::Fixed(_) => panic!("{text}"),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_opens_a_little_before_and_over_midnight() {
        let weekly = scaling(
            r#"{"min": 1, "max": 6, "time_zone": "Europe/Berlin",
                "windows": [{"days": ["fri", "sat"], "from": "18:00", "until": "02:00", "min": 4},
                            {"from": "2026-11-27T20:00", "until": "2026-11-27T21:00", "min": 6}]}"#,
        );
        // 27 November 2026 is a Friday; Berlin is an hour ahead.
        for (now, min) in [
            ("2026-11-27T16:57:59Z", 1),
            ("2026-11-27T16:58:00Z", 4),
            ("2026-11-27T19:30:00Z", 6),
            ("2026-11-27T20:00:00Z", 4),
            ("2026-11-28T00:59:59Z", 4),
            ("2026-11-28T01:00:00Z", 1),
            ("2026-11-28T17:00:00Z", 4),
            ("2026-11-29T00:30:00Z", 4),
            ("2026-11-29T18:00:00Z", 1),
        ] {
            assert_eq!(weekly.bounds(at(now)).min, min, "{now}");
        }
        let next = |now: &str| weekly.next_window(at(now)).map(|window| (window.from.to_string(), window.min));
        assert_eq!(next("2026-11-26T12:00:00Z"), Some(("2026-11-27T17:00:00Z".to_owned(), 4)));
        assert_eq!(next("2026-11-27T18:00:00Z"), Some(("2026-11-27T19:00:00Z".to_owned(), 6)));
        assert_eq!(next("2026-11-29T12:00:00Z"), Some(("2026-12-04T17:00:00Z".to_owned(), 4)));
    }

    #[test]
    fn windows_follow_the_clocks_of_their_zone() {
        let daily = scaling(
            r#"{"max": 3, "time_zone": "Europe/Berlin", "windows": [{"from": "02:30", "until": "03:30", "min": 2}]}"#,
        );
        let from = |now: &str| daily.next_window(at(now)).unwrap().from.to_string();
        assert_eq!(from("2026-03-27T12:00:00Z"), "2026-03-28T01:30:00Z", "winter");
        // On the 29th there is no 02:30; on the 30th clocks are an hour further.
        assert_eq!(from("2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(from("2026-03-29T12:00:00Z"), "2026-03-30T00:30:00Z", "summer");
        // On 25 October 02:30 comes twice.
        let open = |now: &str| daily.bounds(at(now)).min == 2;
        assert!(open("2026-10-25T00:31:00Z") && open("2026-10-25T02:29:00Z") && !open("2026-10-25T02:31:00Z"));
    }

    #[test]
    fn a_window_below_the_least_changes_nothing() {
        let low = scaling(r#"{"min": 3, "max": 5, "windows": [{"from": "00:00", "until": "23:59", "min": 2}]}"#);
        assert_eq!(low.bounds(at("2026-11-27T12:00:00Z")), Bounds { min: 3, max: 5, window: None });
    }
}
