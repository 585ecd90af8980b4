//! What is sold: each meter takes its amount from one or more metrics of the usage.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What people pay for. The names are the same in `rates.yml`, SQL, API and exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Meter {
    /// That the instance exists.
    Base,
    /// Requests that visitors made.
    Requests,
    /// What visitors were sent.
    Sent,
    /// What visitors sent.
    Received,
    /// Files, kept releases, backups and logs.
    Disk,
    Database,
    /// CPU time of the containers.
    Cpu,
    /// Memory of the containers.
    Memory,
}

impl Meter {
    pub const ALL: [Meter; 8] = [
        Meter::Base,
        Meter::Requests,
        Meter::Sent,
        Meter::Received,
        Meter::Disk,
        Meter::Database,
        Meter::Cpu,
        Meter::Memory,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Meter::Base => "base",
            Meter::Requests => "requests",
            Meter::Sent => "sent",
            Meter::Received => "received",
            Meter::Disk => "disk",
            Meter::Database => "database",
            Meter::Cpu => "cpu",
            Meter::Memory => "memory",
        }
    }

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Meter::Base => "Instance",
            Meter::Requests => "Requests",
            Meter::Sent => "Web traffic sent",
            Meter::Received => "Web traffic received",
            Meter::Disk => "Disk space",
            Meter::Database => "Database",
            Meter::Cpu => "CPU time",
            Meter::Memory => "Memory",
        }
    }

    /// What a price is for, in the spelling of FOCUS. A GB is 10⁹ bytes.
    pub const fn pricing_unit(self) -> &'static str {
        match self {
            Meter::Base => "Instance-Months",
            Meter::Requests => "1000000 Requests",
            Meter::Sent | Meter::Received => "GB",
            Meter::Disk | Meter::Database => "GB-Months",
            Meter::Cpu => "Core-Hours",
            Meter::Memory => "GB-Hours",
        }
    }

    /// What is measured, in the spelling of FOCUS.
    pub const fn consumed_unit(self) -> &'static str {
        match self {
            Meter::Base => "Instance-Hours",
            Meter::Requests => "Requests",
            Meter::Disk | Meter::Database => "GB-Hours",
            other => other.pricing_unit(),
        }
    }
}

impl std::fmt::Display for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Meter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|meter| meter.as_str() == text).ok_or_else(|| format!("{text:?} is no meter"))
    }
}
