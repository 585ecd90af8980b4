//! Sizes and durations as people write them: `256MiB`, `2GiB`, `90s`, `5m`; and numbers of things as they read them.

use std::borrow::Cow;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes, written with a binary unit (`KiB`, `MiB`, `GiB`, `TiB`; `K`, `M`, `G`, `T` mean the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

/// A span of time, written with a unit (`ms`, `s`, `m`, `h`, `d`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// In seconds, at least one.
    pub fn whole_seconds(self) -> u32 {
        u32::try_from(self.0.as_secs().max(1)).unwrap_or(u32::MAX)
    }
}

/// `1 replica`, `3 replicas`, `2 entries`.
pub fn count(number: impl std::fmt::Display + PartialEq + From<u8>, noun: &str) -> String {
    match noun.strip_suffix("ry") {
        _ if number == 1.into() => format!("{number} {noun}"),
        Some(stem) => format!("{number} {stem}ries"),
        None => format!("{number} {noun}s"),
    }
}

/// A number of bytes for people: `1.4 GiB`, `312 B`.
pub fn size(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1024.0 {
            return if unit == "B" || scaled >= 100.0 {
                format!("{scaled:.0} {unit}")
            } else {
                format!("{scaled:.1} {unit}")
            };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TiB")
}

/// A share of a whole in percent, written with its sign, as in `70%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(pub u8);

/// Why a size or a span was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("{0:?} is not a size; write a whole number and a unit, as in 256MiB or 2GiB")]
    Size(String),
    #[error("{0:?} is not a duration; write a whole number and a unit, as in 90s, 5m or 12h")]
    Span(String),
    #[error("{0:?} is not a share; write a whole number from 1 to 99 and a percent sign, as in 70%")]
    Percent(String),
}

const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
    ("", 1),
];

const SPANS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim()))
}

fn scale(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = split(text.trim())?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

impl ByteSize {
    pub const fn mib(count: u64) -> Self {
        ByteSize(count << 20)
    }
    pub const fn gib(count: u64) -> Self {
        ByteSize(count << 30)
    }
    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
    /// Whole MiB, rounded down.
    pub const fn as_mib(self) -> u64 {
        self.0 >> 20
    }
}

impl std::str::FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        scale(text, SIZES).map(ByteSize).ok_or_else(|| UnitError::Size(text.into()))
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (unit, factor) =
            SIZES.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)).unwrap_or(&("B", 1));
        f.pad(&format!("{}{unit}", self.0 / factor))
    }
}

impl std::str::FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        scale(text, SPANS).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(|| UnitError::Span(text.into()))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, factor) = SPANS
            .iter()
            .rev()
            .filter(|(unit, _)| *unit != "w")
            .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor))
            .unwrap_or(if ms == 0 { &("s", 1) } else { &("ms", 1) });
        f.pad(&format!("{}{unit}", ms / factor))
    }
}

impl std::str::FromStr for Percent {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let number = text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let share = number.and_then(|digits| digits.parse().ok()).filter(|share| (1..=99).contains(share));
        share.map(Percent).ok_or_else(|| UnitError::Percent(text.into()))
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}%", self.0))
    }
}

macro_rules! text_form {
    ($type:ident, $name:literal, $format:literal, $pattern:literal) => {
        impl TryFrom<String> for $type {
            type Error = UnitError;
            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "format": $format, "pattern": $pattern})
            }
        }
    };
}

text_form!(ByteSize, "ByteSize", "size", "^[0-9]+ *(B|KiB|MiB|GiB|TiB|K|M|G|T)?$");
text_form!(Percent, "Percent", "percent", "^[1-9][0-9]?%$");
text_form!(Span, "Duration", "duration", "^[0-9]+ *(ms|s|m|h|d|w)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (300 << 20, "300 MiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn sizes_round_trip() {
        for (text, bytes, shown) in [
            ("256MiB", 256 << 20, "256MiB"),
            ("256M", 256 << 20, "256MiB"),
            ("2 GiB", 2 << 30, "2GiB"),
            ("1023", 1023, "1023B"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for bad in ["", "GiB", "1.5GiB", "-1", "1XB", "99999999999999TiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_of_things() {
        for (number, noun, text) in
            [(0, "app", "0 apps"), (1, "app", "1 app"), (2, "key", "2 keys"), (3, "entry", "3 entries")]
        {
            assert_eq!(count(number, noun), text);
        }
    }

    #[test]
    fn spans_round_trip() {
        for (text, ms, shown) in
            [("90s", 90_000, "90s"), ("120s", 120_000, "2m"), ("250ms", 250, "250ms"), ("0ms", 0, "0s")]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.0.as_millis(), span.to_string().as_str()), (ms, shown));
        }
        assert!("5".parse::<Span>().is_err());
        assert_eq!("70%".parse::<Percent>().unwrap().to_string(), "70%");
        for bad in ["70", "0%", "100%", "7.5%", "+7%", "%", "300%"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad}");
        }
    }
}
