//! One line of a log, as it is stored, sent and shown: one JSON object.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::names::ReleaseNumber;

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLayer {
    /// The app's replicas and one-off commands.
    App,
    /// What the cache fetched from the replicas.
    Proxy,
    /// What visitors asked for.
    Routing,
    /// The instance's own database services.
    Db,
    /// Scheduled commands.
    Cron,
    /// Builds and hooks of deploys.
    Build,
}

impl LogLayer {
    pub const ALL: [LogLayer; 6] =
        [LogLayer::App, LogLayer::Proxy, LogLayer::Routing, LogLayer::Db, LogLayer::Cron, LogLayer::Build];

    pub const fn as_str(self) -> &'static str {
        match self {
            LogLayer::App => "app",
            LogLayer::Proxy => "proxy",
            LogLayer::Routing => "routing",
            LogLayer::Db => "db",
            LogLayer::Cron => "cron",
            LogLayer::Build => "build",
        }
    }
}

impl std::fmt::Display for LogLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for LogLayer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|layer| layer.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a layer with logs: {}", names()))
    }
}

/// Which of a program's outputs a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    Stdout,
    Stderr,
    /// Said by the platform about the log itself, as that lines are missing.
    Notice,
}

/// One line. Fields that say where it comes from stand before what was said: masking relies on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogRecord {
    #[schema(value_type = String, format = DateTime)]
    pub time: jiff::Timestamp,
    pub layer: LogLayer,
    /// As in `web.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// The line goes on in the same replica's next record: those of more than 256 KiB come in pieces.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

/// A request, as the router saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Access {
    /// The visitor's address; none for a cache's own request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub method: String,
    pub host: String,
    /// With its query.
    pub path: String,
    pub protocol: String,
    /// 0 when the visitor left before there was an answer.
    pub status: u16,
    /// Bytes sent to the visitor, headers included.
    pub sent: u64,
    /// Bytes that the visitor sent.
    pub received: u64,
    /// From the request's first byte to the answer's last, in milliseconds.
    pub ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    pub tls: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub referrer: String,
}

/// What the cache had to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// It came out of the cache.
    Hit,
    /// The cache asked the app.
    Miss,
    /// The cache was not asked.
    Bypass,
}

/// Everything up to here was told: a line of its own in a stream of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub time: jiff::Timestamp,
    /// Where to go on.
    pub cursor: String,
}

impl LogRecord {
    /// Something that the platform says about the log itself.
    pub fn notice(time: jiff::Timestamp, layer: LogLayer, text: impl Into<String>) -> Self {
        LogRecord {
            time,
            layer,
            replica: None,
            release: None,
            stream: Some(LogStream::Notice),
            more: false,
            text: Some(text.into()),
            access: None,
        }
    }

    /// What was said, in one line; may hold anything that an app or a visitor made up.
    pub fn line(&self) -> String {
        match (&self.text, &self.access) {
            (Some(text), _) => text.clone(),
            (None, Some(access)) => access.line(),
            (None, None) => String::new(),
        }
    }
}

impl Access {
    fn line(&self) -> String {
        let mut line = String::with_capacity(self.path.len() + 80);
        if let Some(address) = &self.address {
            let _ = write!(line, "{address} ");
        }
        let scheme = if self.tls { "https" } else { "http" };
        let status = self.status;
        let _ = write!(
            line,
            "{} {scheme}://{}{} {status} {} B {} ms",
            self.method, self.host, self.path, self.sent, self.ms
        );
        if let Some(cache) = self.cache {
            let cache = match cache {
                Cache::Hit => "hit",
                Cache::Miss => "miss",
                Cache::Bypass => "bypass",
            };
            let _ = write!(line, " {cache}");
        }
        if !self.agent.is_empty() {
            let _ = write!(line, " \"{}\"", self.agent);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_as_one_line() {
        let access = Access {
            address: Some("203.0.113.9".into()),
            method: "GET".into(),
            host: "blog.example".into(),
            path: "/a?b=c".into(),
            protocol: "HTTP/2.0".into(),
            status: 200,
            sent: 1234,
            received: 90,
            ms: 12,
            cache: Some(Cache::Hit),
            tls: true,
            agent: "curl/8".into(),
            referrer: String::new(),
        };
        let mut record = LogRecord::notice(jiff::Timestamp::UNIX_EPOCH, LogLayer::Routing, "");
        (record.text, record.stream, record.access) = (None, None, Some(access));
        assert_eq!(record.line(), "203.0.113.9 GET https://blog.example/a?b=c 200 1234 B 12 ms hit \"curl/8\"");
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.starts_with(r#"{"time":"1970-01-01T00:00:00Z","layer":"routing","access":{"#), "{json}");
        assert_eq!(serde_json::from_str::<LogRecord>(&json).unwrap(), record);
    }
}
