//! Usage × prices → charges: one per instance, meter, price list and step.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::quantity::{consumed, quantity};
use super::{Meter, MeterPrice, Month, Period, Rates};
use crate::names::{AppId, AppName, ClusterName, InstanceId, LabelName, OrganisationId};

/// An instance that may have been used, with all its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub organisation: OrganisationId,
    pub organisation_name: String,
    pub app: AppId,
    pub app_name: AppName,
    pub instance: InstanceId,
    pub label: LabelName,
    pub cluster: ClusterName,
    pub created: Timestamp,
    pub destroyed: Option<Timestamp>,
}

/// What an instance used in each segment of a period, in whole numbers, by meter. `Base` is made from when it existed.
pub type Used = BTreeMap<Meter, Vec<u128>>;

/// What a charge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Usage,
    /// Usage of a closed month that was not known, or was not right, when the month was closed.
    Correction,
    /// What somebody added or took off by hand.
    Adjustment,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Correction => "correction",
            Kind::Adjustment => "adjustment",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Kind::Usage, Kind::Correction, Kind::Adjustment];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("{text:?} is no kind of charge"))
    }
}

/// A row of a statement. Names are as they were when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Charge {
    pub kind: Kind,
    #[schema(value_type = String, format = Uuid)]
    pub organisation: OrganisationId,
    pub organisation_name: String,
    /// These five are absent from adjustments.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub app: Option<AppId>,
    #[schema(value_type = Option<String>)]
    pub app_name: Option<AppName>,
    #[schema(value_type = Option<String>, format = Uuid)]
    pub instance: Option<InstanceId>,
    #[schema(value_type = Option<String>)]
    pub label: Option<LabelName>,
    #[schema(value_type = Option<String>)]
    pub cluster: Option<ClusterName>,
    pub meter: Option<Meter>,
    /// Which price it is: the price list, where in it, the meter, and the step. Absent where none or several are.
    pub price_id: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// In the unit that is measured.
    #[schema(value_type = Option<String>)]
    pub consumed: Option<Decimal>,
    /// In the unit that is sold.
    #[schema(value_type = Option<String>)]
    pub quantity: Option<Decimal>,
    /// Of a unit.
    #[schema(value_type = Option<String>)]
    pub price: Option<Decimal>,
    /// Rounded to what the currency has coins for.
    #[schema(value_type = String)]
    pub cost: Decimal,
    pub description: String,
    /// The closed month that it corrects.
    #[schema(value_type = Option<String>)]
    pub corrects: Option<Month>,
    /// The adjustment that it comes from.
    pub adjustment: Option<Uuid>,
}

/// What an instance costs in a period. Rows without any quantity are left out.
pub fn charge(rates: &Rates, period: Period, subject: &Subject, used: &Used) -> Vec<Charge> {
    let segments = rates.segments(period);
    let mut charges = Vec::new();
    for meter in Meter::ALL {
        let amount_in = |n: usize, part: Period| match meter {
            Meter::Base => u128::from(part.overlap(subject.created, subject.destroyed)),
            _ => used.get(&meter).and_then(|amounts| amounts.get(n)).copied().unwrap_or_default(),
        };
        let (mut amount, mut before) = (0_u128, Decimal::ZERO);
        for (n, segment) in segments.iter().enumerate() {
            amount = amount.saturating_add(amount_in(n, segment.period));
            let after = quantity(meter, amount, period.seconds());
            let list = segment.list;
            let price = list.and_then(|list| list.find(meter, &subject.organisation_name, subject.cluster.as_str()));
            if let (Some(list), Some((price, place))) = (list, price) {
                for part in price.split(before, after) {
                    let price_id = format!("{}/{place}/{meter}/{}", list.from, part.step);
                    charges.push(row(rates, (period, segment.period), subject, meter, price_id, part));
                }
            }
            before = after;
        }
    }
    charges
}

fn row(
    rates: &Rates,
    (month, part): (Period, Period),
    subject: &Subject,
    meter: Meter,
    price_id: String,
    Part { step, quantity, price }: Part,
) -> Charge {
    let description = match step.as_str() {
        "included" => format!("{}, included", meter.title()),
        _ => meter.title().to_owned(),
    };
    Charge {
        kind: Kind::Usage,
        organisation: subject.organisation,
        organisation_name: subject.organisation_name.clone(),
        app: Some(subject.app),
        app_name: Some(subject.app_name.clone()),
        instance: Some(subject.instance),
        label: Some(subject.label.clone()),
        cluster: Some(subject.cluster.clone()),
        meter: Some(meter),
        price_id: Some(price_id),
        from: part.from,
        until: part.until,
        consumed: Some(consumed(meter, quantity, month.seconds())),
        quantity: Some(quantity.normalize()),
        price: Some(price.normalize()),
        cost: rates.round(quantity.saturating_mul(price)),
        description,
        corrects: None,
        adjustment: None,
    }
}

/// What is used at one price.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// `included`, or the number of the price from 1.
    pub step: String,
    pub quantity: Decimal,
    pub price: Decimal,
}

impl MeterPrice {
    /// The parts of what was used between two totals of a month, at their prices. Those of nothing are left out.
    pub(super) fn split(&self, before: Decimal, after: Decimal) -> Vec<Part> {
        let first = (self.included, self.price);
        let prices: Vec<_> = std::iter::once(first).chain(self.steps.iter().map(|s| (s.above, s.price))).collect();
        let ends = prices.iter().skip(1).map(|(above, _)| *above).chain([Decimal::MAX]);
        let included = (Decimal::ZERO, self.included, Decimal::ZERO, "included".to_owned());
        let steps = prices.iter().zip(ends).enumerate();
        let steps = steps.map(|(n, ((above, price), end))| (*above, end, *price, (n + 1).to_string()));
        let parts = std::iter::once(included).chain(steps).map(|(start, end, price, step)| {
            let quantity = (after.min(end) - before.max(start)).max(Decimal::ZERO);
            Part { step, quantity, price }
        });
        parts.filter(|part| !part.quantity.is_zero()).collect()
    }
}

impl Rates {
    /// To the currency's smallest unit; halves to the even one.
    pub fn round(&self, cost: Decimal) -> Decimal {
        cost.round_dp_with_strategy(self.minor_digits(), RoundingStrategy::MidpointNearestEven)
    }

    /// Decimals that the currency has.
    pub fn minor_digits(&self) -> u32 {
        minor_digits(&self.currency)
    }
}

/// Decimals that a currency has: two of most.
pub(super) fn minor_digits(currency: &str) -> u32 {
    let known = iso_currency::Currency::from_code(currency).and_then(iso_currency::Currency::exponent);
    known.map_or(2, u32::from)
}

/// The sum of all rows: nothing but rounded numbers is ever added.
pub fn total<'a>(charges: impl IntoIterator<Item = &'a Charge>) -> Decimal {
    charges.into_iter().map(|charge| charge.cost).sum()
}
