//! The bodies of the HTTP API, shared by gateway and td. Paths and verbs stand in the gateway's route table.

mod apps;
mod billing;
mod certificates;
mod clusters;
mod config;
mod configurations;
mod deploys;
mod drains;
mod gateway;
mod people;
mod quotas;
mod releases;
mod runs;
mod scale;
mod usage;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use apps::*;
pub use billing::*;
pub use certificates::*;
pub use clusters::*;
pub use config::*;
pub use configurations::*;
pub use deploys::*;
pub use drains::*;
pub use gateway::*;
pub use people::*;
pub use quotas::*;
pub use releases::*;
pub use runs::*;
pub use scale::*;
pub use usage::*;

use crate::diagnostics::Diagnostics;

/// Every error's body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A stable code, listed in docs/reference/errors.md.
    pub code: String,
    pub message: String,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Names the request in the gateway's log.
    pub request: String,
    /// For `manifest_invalid`: all findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<Diagnostics>,
    /// For `cluster_ambiguous`: the clusters that can be meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
}
