//! What instances use.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::quotas::QuotaInfo;
use crate::usage::{GapReason, Usage};

/// Answer of `GET /v1/usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// Whose days and months they are.
    pub time_zone: String,
    pub rows: Vec<UsageRow>,
    /// How much disk the instances take now.
    pub levels: Vec<UsageLevel>,
    /// Times in which something may not have been counted.
    pub gaps: Vec<UsageGap>,
    /// The traffic quotas that the apps count for, as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic_quotas: Vec<QuotaInfo>,
}

/// An instance, as it is called now, or was when it was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct UsageOf {
    pub organisation: String,
    pub app: String,
    pub label: String,
    pub cluster: String,
    /// Tells it from another of the same names.
    pub instance: Uuid,
    pub destroyed: bool,
}

/// What an instance used in a part of the time. Parts in which it used nothing are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageRow {
    #[serde(flatten)]
    pub of: UsageOf,
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// By metric; those that are nothing are absent. Bytes, milliseconds of `cpu`, and bytes for seconds of `memory` and what
    /// takes disk.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub usage: Usage,
}

/// How much disk an instance takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageLevel {
    pub instance: Uuid,
    /// In bytes, by metric.
    pub bytes: BTreeMap<String, u64>,
}

/// A time in which something may not have been counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageGap {
    pub cluster: String,
    pub node: String,
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    pub reason: GapReason,
    /// Requests that are missing, where the number is known.
    pub requests: Option<u64>,
}

/// Answer of `GET /v1/usage/now`: sums since some time before, to be compared with an answer that comes later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageNow {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub rows: Vec<UsageSince>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageSince {
    #[serde(flatten)]
    pub of: UsageOf,
    #[schema(value_type = BTreeMap<String, u64>)]
    pub usage: Usage,
}
