//! How many replicas visitors are answered by: a number, or bounds between which the platform follows the load, with
//! windows for peaks that are known before.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::schema::format::*;
use crate::units::Percent;

/// The most replicas that a process type can have.
pub const MOST_REPLICAS: u16 = 64;

/// How many replicas there are to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Replicas {
    Fixed(u16),
    Automatic(Scaling),
}

impl Replicas {
    /// How many there are at least, and at first.
    pub fn least(&self) -> u16 {
        match self {
            Replicas::Fixed(count) => *count,
            Replicas::Automatic(scaling) => scaling.min,
        }
    }

    /// How many there are at most.
    pub fn most(&self) -> u16 {
        match self {
            Replicas::Fixed(count) => *count,
            Replicas::Automatic(scaling) => scaling.max,
        }
    }

    /// The bounds, where the number follows the load.
    pub fn scaling(&self) -> Option<&Scaling> {
        match self {
            Replicas::Fixed(_) => None,
            Replicas::Automatic(scaling) => Some(scaling),
        }
    }
}

impl std::fmt::Display for Replicas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Replicas::Fixed(count) => write!(f, "{count}"),
            Replicas::Automatic(Scaling { min, max, target, .. }) => write!(f, "{min}–{max} at {target}"),
        }
    }
}

impl JsonSchema for Replicas {
    fn schema_name() -> Cow<'static, str> {
        "Replicas".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // One schema with two types, so that what is wrong with either is said in its words.
        let mut schema = Scaling::json_schema(generator);
        schema.insert("type".into(), serde_json::json!(["integer", "object"]));
        schema.insert("minimum".into(), 1.into());
        schema.insert("maximum".into(), MOST_REPLICAS.into());
        schema
    }
}

/// Between which bounds, and by what, the number of replicas follows the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// The fewest replicas, and how many there are at first.
    #[schemars(range(min = 1, max = 64))]
    #[serde(default = "one")]
    pub min: u16,
    /// The most replicas.
    #[schemars(range(min = 1, max = 64))]
    pub max: u16,
    /// How much of what the replicas can answer at once may be in use, in the mean, before there are more of them.
    #[serde(default = "usual_target")]
    pub target: Percent,
    /// Known peaks, in which there are more replicas whatever the load.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Whose time the windows are in, as in `Europe/Berlin`; UTC when absent.
    #[serde(default)]
    #[schemars(with = "Option<TimeZoneName>")]
    pub time_zone: Option<String>,
}

fn one() -> u16 {
    1
}

fn usual_target() -> Percent {
    Percent(70)
}

/// A peak that is known before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The fewest replicas in it.
    #[schemars(range(min = 1, max = 64))]
    pub min: u16,
    /// When it begins: a time of the day, or a day with a time. The replicas are there by then.
    #[schemars(with = "WindowMoment")]
    pub from: WindowTime,
    /// When it ends, written like `from`; a time of the day that is not after it is the next day's.
    #[schemars(with = "WindowMoment")]
    pub until: WindowTime,
    /// The days on which it begins; every day when absent. Not with a day in `from`.
    #[serde(default)]
    pub days: Vec<Day>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    pub fn weekday(self) -> Weekday {
        match self {
            Day::Mon => Weekday::Monday,
            Day::Tue => Weekday::Tuesday,
            Day::Wed => Weekday::Wednesday,
            Day::Thu => Weekday::Thursday,
            Day::Fri => Weekday::Friday,
            Day::Sat => Weekday::Saturday,
            Day::Sun => Weekday::Sunday,
        }
    }
}

/// A time of every day, or of one, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WindowTime {
    Daily(Time),
    Dated(DateTime),
}

/// Why a time was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time; write one as in \"18:00\", or a day with one as in 2026-11-27T18:00")]
pub struct TimeError(String);

impl FromStr for WindowTime {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let error = || TimeError(text.to_owned());
        let daily = |text| Time::strptime("%H:%M", text).map_err(|_| error());
        // Only the one form of each that is printed again.
        let found = match text.len() {
            5 => WindowTime::Daily(daily(text)?),
            _ => WindowTime::Dated(DateTime::strptime("%Y-%m-%dT%H:%M", text).map_err(|_| error())?),
        };
        if found.to_string() == text { Ok(found) } else { Err(error()) }
    }
}

impl std::fmt::Display for WindowTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WindowTime::Daily(time) => write!(f, "{}", time.strftime("%H:%M")),
            WindowTime::Dated(moment) => write!(f, "{}", moment.strftime("%Y-%m-%dT%H:%M")),
        }
    }
}

impl TryFrom<String> for WindowTime {
    type Error = TimeError;
    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

impl From<WindowTime> for String {
    fn from(time: WindowTime) -> String {
        time.to_string()
    }
}

/// A time zone by its name, from the tables that are built in: the same on every machine.
pub fn find_zone(name: &str) -> Option<TimeZone> {
    static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    ZONES.get(name).ok()
}
