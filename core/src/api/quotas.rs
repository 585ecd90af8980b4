//! Traffic quotas: how much an app or an organisation may take in a month.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::usage::{Then, describe_traffic, mark_of};

/// Sets the quota of an app, or of all of an organisation's apps together: one of them is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetQuota {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Bytes that visitors send and are sent in a month, as in `100GB` (10^9 bytes each) or `1.5TB`.
    pub traffic: String,
    #[serde(default)]
    pub then: Then,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuotaInfo {
    pub organisation: String,
    /// All of the organisation's apps together when absent.
    pub app: Option<String>,
    /// Bytes in a month that visitors may send and be sent.
    pub traffic: u64,
    pub then: Then,
    /// Bytes of this month.
    pub used: u64,
    /// In whole percent, rounded down. From 100 on, `then` holds.
    pub percent: u64,
    /// Who set it.
    pub set_by: String,
}

impl QuotaInfo {
    /// Whose traffic counts, for people.
    pub fn whose(&self) -> String {
        self.app.clone().unwrap_or_else(|| format!("all of {} together", self.organisation))
    }

    /// Whose it is and how it stands, in a line of its own.
    pub fn notice(&self) -> String {
        format!("traffic of {} this month: {self}", self.whose())
    }

    /// Whether people are told of it.
    pub fn is_near(&self) -> bool {
        mark_of(self.percent, 0) > 0
    }

    /// What visitors get less of because of it.
    pub fn holds(&self) -> Option<Then> {
        (self.percent >= 100 && self.then != Then::Warn).then_some(self.then)
    }
}

impl std::fmt::Display for QuotaInfo {
    /// How much of it is used, and what that means for visitors.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (used, most) = (describe_traffic(self.used), describe_traffic(self.traffic));
        write!(f, "{used} of {most} ({} %)", self.percent)?;
        let link = if self.holds().is_some() { "; " } else { ", then " };
        self.then.describe().map_or(Ok(()), |what| write!(f, "{link}{what}"))
    }
}
