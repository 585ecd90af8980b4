//! Traffic as it is sold: how much a month may take, and what follows.

use serde::{Deserialize, Serialize};

/// What follows when a month's traffic is used up, beside a line on the timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// Nothing.
    #[default]
    Warn,
    /// Visitors are served slowly.
    Throttle,
    /// Visitors see a page that says so.
    Page,
}

impl Then {
    pub const ALL: [Then; 3] = [Then::Warn, Then::Throttle, Then::Page];

    pub const fn as_str(self) -> &'static str {
        match self {
            Then::Warn => "warn",
            Then::Throttle => "throttle",
            Then::Page => "page",
        }
    }

    /// What visitors notice, for people; nothing when they do not.
    pub const fn describe(self) -> Option<&'static str> {
        match self {
            Then::Warn => None,
            Then::Throttle => Some("visitors are served slowly"),
            Then::Page => Some("visitors see a page that says so"),
        }
    }
}

impl std::str::FromStr for Then {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|then| then.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not what can follow; write warn, throttle or page"))
    }
}

const UNITS: [(&str, u64); 4] = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];

/// Bytes: `100GB` is 10^11 bytes.
pub fn parse_traffic(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no amount of traffic; write it as in 100GB, 1.5TB or 500MB");
    let (number, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 3 {
        return Err(wrong());
    }
    let thousandths: u64 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
    let bytes = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(unit));
    let bytes = bytes.and_then(|bytes| bytes.checked_add(unit / 1000 * thousandths));
    bytes.filter(|bytes| *bytes > 0 && *bytes <= i64::MAX.unsigned_abs()).ok_or_else(wrong)
}

/// The other way round, to two decimals, rounded down.
pub fn describe_traffic(bytes: u64) -> String {
    let (name, unit) = UNITS.into_iter().find(|(_, unit)| bytes >= *unit).unwrap_or(("B", 1));
    let hundredths = bytes % unit * 100 / unit;
    let part = format!(".{hundredths:02}");
    format!("{}{} {name}", bytes / unit, part.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_read_as_it_is_sold() {
        for (text, bytes) in [
            ("100GB", Some(100_000_000_000)),
            ("1.5TB", Some(1_500_000_000_000)),
            ("0.001kB", Some(1)),
            ("500MB", Some(500_000_000)),
            ("0GB", None),
            ("100", None),
            ("GB", None),
            (".5GB", None),
            ("1.GB", None),
            ("1.2345GB", None),
            ("-1GB", None),
            ("99999999999999TB", None),
            ("10 GB", None),
        ] {
            assert_eq!(parse_traffic(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn traffic_is_told_as_it_is_sold() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1_500_000, "1.5 MB"),
            (999_999_999, "999.99 MB"),
            (100_000_000_000, "100 GB"),
            (1_250_000_000_000, "1.25 TB"),
            (1_009_000_000_000, "1 TB"),
            (u64::MAX, "18446744.07 TB"),
        ] {
            assert_eq!(describe_traffic(bytes), text);
        }
    }
}
