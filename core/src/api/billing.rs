//! Months, what was and will be charged for them, and what the operator's view of it shows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::billing::{Charge, Kind, Meter, Month};

/// What a month would cost if it were closed now; of a closed one, what was charged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonthPreview {
    #[schema(value_type = String)]
    pub month: Month,
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    pub time_zone: String,
    pub currency: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed: Option<Timestamp>,
    /// Times in it in which something may not have been counted, on any node.
    pub gaps: u32,
    #[schema(value_type = String)]
    pub total: Decimal,
    pub organisations: Vec<OrganisationCosts>,
    /// The rows themselves, when one organisation was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charges: Vec<Charge>,
}

/// What an organisation is charged for a month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OrganisationCosts {
    pub id: Uuid,
    pub name: String,
    #[schema(value_type = String)]
    pub total: Decimal,
    pub meters: Vec<MeterCosts>,
}

/// The sum of an organisation's charges of a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeterCosts {
    pub kind: Kind,
    pub meter: Option<Meter>,
    /// In the meter's unit.
    #[schema(value_type = Option<String>)]
    pub quantity: Option<Decimal>,
    pub unit: Option<String>,
    #[schema(value_type = String)]
    pub cost: Decimal,
}

/// A month that was closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClosedMonth {
    #[schema(value_type = String)]
    pub month: Month,
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    pub time_zone: String,
    pub issuer: String,
    pub currency: String,
    /// Of what the asker may see.
    #[schema(value_type = String)]
    pub total: Decimal,
    pub charges: u32,
    #[schema(value_type = String, format = DateTime)]
    pub closed: Timestamp,
    pub closed_by: String,
    /// Of the whole export, by format, in hex.
    pub sha256: BTreeMap<String, String>,
}

/// Closes a month.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseMonth {
    /// The month once more, when it is to be closed although nodes are away.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub confirm: Option<Month>,
}

/// Adds to what an organisation is charged, or takes off it, in the month that is closed next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAdjustment {
    pub organisation: String,
    /// Negative: a credit.
    #[schema(value_type = String)]
    pub amount: Decimal,
    /// As it stands in the export.
    pub reason: String,
}

/// Something that was added or taken off by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdjustmentInfo {
    pub id: Uuid,
    pub organisation: String,
    #[schema(value_type = String)]
    pub amount: Decimal,
    pub currency: String,
    pub reason: String,
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    pub created_by: String,
    /// The month in which it was charged.
    #[schema(value_type = Option<String>)]
    pub month: Option<Month>,
}

/// What clusters and instances use and earn in a month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Costs {
    #[schema(value_type = String)]
    pub month: Month,
    pub currency: String,
    pub clusters: Vec<ClusterCosts>,
    /// Those that earn least first.
    pub instances: Vec<InstanceCosts>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterCosts {
    pub cluster: String,
    pub instances: u32,
    #[schema(value_type = String)]
    pub earned: Decimal,
    #[serde(flatten)]
    pub takes: Takes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceCosts {
    pub organisation: String,
    pub app: String,
    pub label: String,
    pub cluster: String,
    pub preview: bool,
    #[schema(value_type = String)]
    pub earned: Decimal,
    #[serde(flatten)]
    pub takes: Takes,
    /// It is there, and nobody has made a request for as long as was asked for.
    pub forgotten: bool,
}

/// What was used in the month so far, whether it has a price or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Takes {
    /// Core-hours.
    #[schema(value_type = String)]
    pub cpu: Decimal,
    /// GB-hours.
    #[schema(value_type = String)]
    pub memory: Decimal,
    /// GB through a month, databases included.
    #[schema(value_type = String)]
    pub disk: Decimal,
    /// GB that visitors were sent.
    #[schema(value_type = String)]
    pub sent: Decimal,
    pub requests: u64,
}

impl std::ops::AddAssign for Takes {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.memory += other.memory;
        self.disk += other.disk;
        self.sent += other.sent;
        self.requests = self.requests.saturating_add(other.requests);
    }
}
