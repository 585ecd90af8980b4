//! Which lines somebody wants, and from where.

use jiff::Timestamp;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::record::{LogLayer, LogRecord, LogStream};
use crate::names::ReleaseNumber;

/// A compiled pattern may take so many bytes.
const PATTERN_LIMIT: usize = 1 << 20;

/// A place in a node's log of one instance: after these bytes of this segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    pub segment: u64,
    pub offset: u64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> String {
        cursor.to_string()
    }
}

impl TryFrom<String> for Cursor {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Cursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (segment, offset) = text.split_once(':')?;
            Some(Cursor { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
        };
        parse().ok_or_else(|| format!("{text:?} is not a place in a log"))
    }
}

/// What a node is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogQuery {
    pub slug: String,
    #[serde(flatten)]
    pub filter: LogFilter,
    /// Go on here; `since` and `last` are not asked for then.
    pub after: Option<Cursor>,
    /// Only so many of the newest lines that there are.
    pub last: Option<u32>,
    /// Go on with what comes.
    pub follow: bool,
    /// Values that must not be seen. They are never stored.
    pub mask: Values,
}

/// Secret values; they do not show in what is debugged.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Values(pub Vec<String>);

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.0.len())
    }
}

/// Which lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFilter {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// All when empty.
    pub layers: Vec<LogLayer>,
    /// As in `web.1`, or `web` for all of them.
    pub replica: Option<String>,
    pub release: Option<ReleaseNumber>,
    /// A regular expression that is found in the line.
    pub grep: Option<String>,
}

/// A pattern that cannot be searched for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GrepError(String);

/// A filter that is ready for use.
#[derive(Debug, Clone)]
pub struct Matcher {
    filter: LogFilter,
    grep: Option<Regex>,
}

impl LogFilter {
    /// Whether it lets every line pass.
    pub fn is_open(&self) -> bool {
        *self == LogFilter::default()
    }

    /// Makes it ready for use.
    pub fn matcher(&self) -> Result<Matcher, GrepError> {
        let compile = |pattern: &String| {
            let built = RegexBuilder::new(pattern).size_limit(PATTERN_LIMIT).dfa_size_limit(PATTERN_LIMIT).build();
            built.map_err(|error| GrepError(error.to_string()))
        };
        Ok(Matcher { grep: self.grep.as_ref().map(compile).transpose()?, filter: self.clone() })
    }
}

impl Matcher {
    /// Whether a line is wanted. What the platform says about the log itself is told whatever is searched for.
    pub fn matches(&self, record: &LogRecord) -> bool {
        let filter = &self.filter;
        let in_time = filter.since.is_none_or(|since| record.time >= since)
            && filter.until.is_none_or(|until| record.time < until);
        let of_layer = filter.layers.is_empty() || filter.layers.contains(&record.layer);
        if record.stream == Some(LogStream::Notice) {
            return in_time && of_layer;
        }
        let of_replica = filter.replica.as_deref().is_none_or(|wanted| {
            record
                .replica
                .as_deref()
                .and_then(|name| name.strip_prefix(wanted))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let of_release = filter.release.is_none_or(|wanted| record.release == Some(wanted));
        let found = || {
            self.grep.as_ref().is_none_or(|grep| match (&record.text, &record.access) {
                (Some(text), _) => grep.is_match(text),
                _ => grep.is_match(&record.line()),
            })
        };
        in_time && of_layer && of_replica && of_release && found()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(replica: &str, text: &str) -> LogRecord {
        LogRecord {
            replica: Some(replica.into()),
            release: Some(ReleaseNumber(3)),
            stream: Some(LogStream::Stdout),
            ..LogRecord::notice(Timestamp::UNIX_EPOCH, LogLayer::App, text)
        }
    }

    #[test]
    fn filters() {
        let open = LogFilter::default;
        let second = |second| Some(Timestamp::from_second(second).unwrap());
        for (filter, expect) in [
            (open(), true),
            (LogFilter { replica: Some("web".into()), ..open() }, true),
            (LogFilter { replica: Some("web.1".into()), ..open() }, true),
            (LogFilter { replica: Some("we".into()), ..open() }, false),
            (LogFilter { replica: Some("web.2".into()), ..open() }, false),
            (LogFilter { release: Some(ReleaseNumber(2)), ..open() }, false),
            (LogFilter { layers: vec![LogLayer::Db], ..open() }, false),
            (LogFilter { since: second(1), ..open() }, false),
            (LogFilter { until: second(0), ..open() }, false),
            (LogFilter { grep: Some("(?i)hello, w".into()), ..open() }, true),
            (LogFilter { grep: Some("^w".into()), ..open() }, false),
        ] {
            let matcher = filter.matcher().unwrap();
            assert_eq!(matcher.matches(&record("web.1", "Hello, world")), expect, "{filter:?}");
        }
        let never = LogFilter { grep: Some("never".into()), replica: Some("x".into()), ..open() };
        assert!(never.matcher().unwrap().matches(&LogRecord::notice(Timestamp::UNIX_EPOCH, LogLayer::App, "gap")));
    }

    #[test]
    fn a_bad_pattern_is_told_and_a_huge_one_refused() {
        for pattern in ["(", r"\w{999}{999}"] {
            assert!(LogFilter { grep: Some(pattern.into()), ..LogFilter::default() }.matcher().is_err());
        }
    }

    #[test]
    fn a_cursor_reads_as_it_is_written() {
        let cursor = Cursor { segment: 12, offset: 345 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "1", "1:", "a:b", "-1:2", "1:2:3"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
        }
    }
}
