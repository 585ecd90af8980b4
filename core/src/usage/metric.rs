//! What is counted: the names are the same in SQL, API, exports and `rates.yml`.

use serde::{Deserialize, Serialize};

macro_rules! metrics {
    // The text is a token as it stands: the schema does not see through a captured literal.
    ($($(#[$doc:meta])* $name:ident = $text:tt in $unit:ident,)*) => {
        /// Something that is counted per instance and hour.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum Metric {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Metric {
            pub const ALL: &'static [Metric] = &[$(Metric::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Metric::$name => $text,)* }
            }

            pub const fn unit(self) -> Unit {
                match self { $(Metric::$name => Unit::$unit,)* }
            }
        }
    };
}

metrics! {
    /// Requests that visitors made.
    Requests = "requests" in Number,
    /// Bytes that visitors sent.
    Received = "received" in Bytes,
    /// Bytes that visitors were sent, headers included.
    Sent = "sent" in Bytes,
    /// Requests answered with a status of 100 to 199: changed to another protocol, as WebSockets.
    Status1xx = "status_1xx" in Number,
    Status2xx = "status_2xx" in Number,
    Status3xx = "status_3xx" in Number,
    Status4xx = "status_4xx" in Number,
    Status5xx = "status_5xx" in Number,
    /// Requests that a cache answered.
    Hits = "hits" in Number,
    /// Requests that a cache passed on.
    Misses = "misses" in Number,
    /// Requests over HTTPS.
    Https = "https" in Number,
    /// CPU time of the containers.
    Cpu = "cpu" in Milliseconds,
    /// Memory of the containers.
    Memory = "memory" in ByteSeconds,
    /// Bytes that the containers sent, to caches, databases and elsewhere.
    Egress = "egress" in Bytes,
    /// Writable files.
    Files = "files" in ByteSeconds,
    /// Releases that are kept.
    Code = "code" in ByteSeconds,
    /// Databases.
    Database = "database" in ByteSeconds,
    Backups = "backups" in ByteSeconds,
    /// Kept logs.
    Logs = "logs" in ByteSeconds,
}

/// What the numbers of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Number,
    Bytes,
    Milliseconds,
    /// A byte for a second.
    ByteSeconds,
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Metric {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|metric| metric.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|metric| metric.as_str()).collect();
            format!("{text:?} is not counted; what is: {}", names.join(", "))
        })
    }
}

impl Metric {
    /// What takes room on a disk.
    pub const DISK: [Metric; 5] = [Metric::Files, Metric::Code, Metric::Database, Metric::Backups, Metric::Logs];
}
