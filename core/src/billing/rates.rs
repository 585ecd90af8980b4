//! `rates.yml`: what things cost, for whom, where, and from when on.

use std::collections::BTreeMap;

use jiff::civil::Date;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Meter;
use crate::names::{ClusterName, OrganisationName};
use crate::schema::format::*;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Who issues the invoices, as named in exports.
    #[schemars(with = "Line")]
    pub issuer: String,
    /// Of all prices; an ISO 4217 code.
    #[schemars(with = "CurrencyCode")]
    pub currency: String,
    /// Where months and days begin.
    #[serde(default = "utc")]
    #[schemars(with = "TimeZoneName")]
    pub time_zone: String,
    /// Price lists, the oldest first. Each holds until the next begins; what was used before the first costs nothing.
    pub prices: Vec<PriceList>,
}

fn utc() -> String {
    "UTC".into()
}

/// Prices from a day on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceList {
    /// The first day on which it holds. In the middle of a month, it splits the month's charges.
    #[schemars(with = "Day")]
    pub from: Date,
    /// For everybody everywhere. What is not named costs nothing and is not charged.
    pub meters: Meters,
    /// Other prices on a cluster: a meter that is named here is another one as a whole.
    #[serde(default)]
    #[schemars(extend("propertyNames" = keys::<ClusterName>()))]
    pub clusters: BTreeMap<ClusterName, Meters>,
    /// Other prices for an organisation, wherever its instances are: they come before those of clusters.
    #[serde(default)]
    #[schemars(extend("propertyNames" = keys::<OrganisationName>()))]
    pub organisations: BTreeMap<OrganisationName, Meters>,
}

/// Prices by what is sold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meters {
    /// For an instance and month, in proportion to the part of the month in which it existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Price>")]
    pub base: Option<Decimal>,
    /// For a million requests of visitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<MeterPrice>,
    /// For a GB (10⁹ bytes) that visitors were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<MeterPrice>,
    /// For a GB that visitors sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<MeterPrice>,
    /// For a GB of files, kept releases, backups and logs through a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<MeterPrice>,
    /// For a GB in databases through a month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<MeterPrice>,
    /// For an hour of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MeterPrice>,
    /// For a GB of memory through an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MeterPrice>,
}

/// What a meter costs. Included volume and steps count per instance and month.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterPrice {
    /// Of a unit, beyond what is included.
    #[schemars(with = "Price")]
    pub price: Decimal,
    /// So many units a month cost nothing.
    #[serde(default)]
    #[schemars(with = "Option<Volume>")]
    pub included: Decimal,
    /// Other prices for what is above a volume, in ascending order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// A price for what is above a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Units in the month, those that are included counted with them.
    #[schemars(with = "Volume")]
    pub above: Decimal,
    /// Of a unit.
    #[schemars(with = "Price")]
    pub price: Decimal,
}

impl Meters {
    pub fn get(&self, meter: Meter) -> Option<MeterPrice> {
        match meter {
            Meter::Base => self.base.map(|price| MeterPrice { price, ..MeterPrice::default() }),
            Meter::Requests => self.requests.clone(),
            Meter::Sent => self.sent.clone(),
            Meter::Received => self.received.clone(),
            Meter::Disk => self.disk.clone(),
            Meter::Database => self.database.clone(),
            Meter::Cpu => self.cpu.clone(),
            Meter::Memory => self.memory.clone(),
        }
    }
}

impl PriceList {
    /// What a meter costs an organisation on a cluster, and where in the list that stands.
    pub fn find(&self, meter: Meter, organisation: &str, cluster: &str) -> Option<(MeterPrice, String)> {
        let of_organisation = self.organisations.iter().find(|(name, _)| name.as_str() == organisation);
        let of_cluster = self.clusters.iter().find(|(name, _)| name.as_str() == cluster);
        let own = of_organisation.and_then(|(name, meters)| Some((meters.get(meter)?, format!("organisation/{name}"))));
        own.or_else(|| of_cluster.and_then(|(name, meters)| Some((meters.get(meter)?, format!("cluster/{name}")))))
            .or_else(|| Some((self.meters.get(meter)?, "all".to_owned())))
    }
}
