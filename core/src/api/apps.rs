//! Apps and where they live.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::quotas::QuotaInfo;
use super::scale::AutomaticInfo;
use crate::names::ReleaseNumber;
use crate::usage::QuotaUse;
use crate::wire::Serving;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApp {
    pub name: String,
    /// Whose it is to be; the person's own organisation when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppInfo {
    pub id: Uuid,
    pub name: String,
    pub organisation: String,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
    pub instances: Vec<InstanceInfo>,
    /// The traffic quotas that it counts for; told of one app alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic_quotas: Vec<QuotaInfo>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceInfo {
    pub id: Uuid,
    pub app: String,
    pub label: String,
    pub cluster: String,
    /// Whether its label's name must be repeated by what destroys it.
    pub protected: bool,
    pub urls: Vec<String>,
    /// The release the last good deploy asked for.
    pub release: Option<ReleaseInfo>,
    /// What the router serves, read back from it; none when the node cannot be asked.
    pub serving: Option<Serving>,
    /// `serving`, `degraded`, `down`, `empty` or `unknown`.
    pub state: String,
    /// The deploy under way.
    pub deploy: Option<Uuid>,
    #[serde(default)]
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
    /// Since when its label is missing from the magrathea.yml that was deployed last; it serves on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub absent_since: Option<jiff::Timestamp>,
    /// When the number of its replicas follows the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<AutomaticInfo>,
    /// What it takes of its disk quotas, as it was measured last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<QuotaUse>,
    /// When a pattern of labels stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewInfo>,
}

/// Of an instance that lives for a time only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PreviewInfo {
    /// As in `preview/*`.
    pub pattern: String,
    pub branch: String,
    /// When it is destroyed, unless it is deployed again before.
    #[schema(value_type = String)]
    pub expires: jiff::Timestamp,
    /// What it has cost so far: the memory that its replicas reserved, times the hours in which they did.
    pub memory_gib_hours: f64,
}

/// Lets a preview live longer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendPreview {
    /// From now on, as in `7d`; up to `365d`.
    pub expire: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseInfo {
    pub number: ReleaseNumber,
    pub image: String,
    /// Bytes.
    pub size: u64,
    pub commit: Option<String>,
    pub message: Option<String>,
    pub author: Option<String>,
    #[schema(value_type = String)]
    pub created: jiff::Timestamp,
}
