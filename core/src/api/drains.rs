//! Log drains.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::logs::LogLayer;

/// Somewhere that an instance's log is sent to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrainInfo {
    pub id: Uuid,
    /// Its address, without what is secret in it.
    pub target: String,
    pub layers: Vec<LogLayer>,
    #[schema(value_type = String, format = DateTime)]
    pub created: jiff::Timestamp,
    pub created_by: String,
    /// Lines that the sink has taken.
    pub delivered: u64,
    /// Since when it takes nothing, and why.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<jiff::Timestamp>,
    pub error: Option<String>,
}

/// A drain to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDrain {
    /// `http://`, `https://`, `syslog://` or `syslog+tls://`.
    pub url: String,
    /// PEM of the only CA that is trusted; the system's when absent.
    #[serde(default)]
    pub ca: Option<String>,
    /// All but `build` when empty.
    #[serde(default)]
    pub layers: Vec<LogLayer>,
}
