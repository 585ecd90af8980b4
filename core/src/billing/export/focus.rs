//! FOCUS 1.2 (FinOps Open Cost and Usage Specification, <https://focus.finops.org>), its Cost and Usage dataset.
//!
//! Billing account: the organisation; sub account: the app; resource: the instance; region: the cluster. What the platform has
//! nothing for (capacity reservations, other pricing currencies, tags) has no column, but for two that other columns' rules refer
//! to. Absent values are empty.

use rust_decimal::Decimal;

use super::{Statement, plain, time};
use crate::billing::charges::minor_digits;
use crate::billing::{Charge, Kind, Meter};

/// The value of a column; none is null.
type Value = fn(&Statement, &Charge) -> Option<String>;

/// In the order of the alphabet; columns of our own stand last.
const TABLE: [(&str, Value); 43] = [
    ("BilledCost", |s, c| Some(money(s, c.cost))),
    ("BillingAccountId", |_, c| Some(c.organisation.to_string())),
    ("BillingAccountName", |_, c| Some(c.organisation_name.clone())),
    ("BillingCurrency", |s, _| Some(s.currency.clone())),
    ("BillingPeriodEnd", |s, _| Some(time(s.period.until))),
    ("BillingPeriodStart", |s, _| Some(time(s.period.from))),
    ("ChargeCategory", |_, c| Some(category(c).to_owned())),
    ("ChargeClass", |_, c| (c.kind == Kind::Correction).then(|| "Correction".to_owned())),
    ("ChargeDescription", |_, c| Some(c.description.clone())),
    ("ChargeFrequency", |_, c| Some(frequency(c).to_owned())),
    ("ChargePeriodEnd", |_, c| Some(time(c.until))),
    ("ChargePeriodStart", |_, c| Some(time(c.from))),
    ("CommitmentDiscountStatus", |_, _| None),
    ("ConsumedQuantity", |_, c| c.consumed.map(number)),
    ("ConsumedUnit", |_, c| c.consumed.and(c.meter).map(|meter| meter.consumed_unit().to_owned())),
    ("ContractedCost", |s, c| Some(unrounded(s, c))),
    ("ContractedUnitPrice", |_, c| c.price.map(number)),
    ("EffectiveCost", |s, c| Some(money(s, c.cost))),
    ("InvoiceId", |s, c| Some(invoice(s, c))),
    ("InvoiceIssuerName", |s, _| Some(s.issuer.clone())),
    ("ListCost", |s, c| Some(unrounded(s, c))),
    ("ListUnitPrice", |_, c| c.price.map(number)),
    ("PricingCategory", |_, c| c.meter.map(|_| "Standard".to_owned())),
    ("PricingQuantity", |_, c| c.quantity.map(number)),
    ("PricingUnit", |_, c| c.quantity.and(c.meter).map(|meter| meter.pricing_unit().to_owned())),
    ("ProviderName", |s, _| Some(s.issuer.clone())),
    ("PublisherName", |s, _| Some(s.issuer.clone())),
    ("RegionId", |_, c| c.cluster.as_ref().map(ToString::to_string)),
    ("RegionName", |_, c| c.cluster.as_ref().map(ToString::to_string)),
    ("ResourceId", |_, c| c.instance.map(|id| id.to_string())),
    ("ResourceName", |_, c| resource(c)),
    ("ResourceType", |_, c| c.instance.map(|_| "Instance".to_owned())),
    ("ServiceCategory", |_, c| Some(service(c.meter).0.to_owned())),
    ("ServiceName", |_, c| Some(service(c.meter).1.to_owned())),
    ("ServiceSubcategory", |_, c| Some(service(c.meter).2.to_owned())),
    ("SkuId", |_, c| c.meter.map(|meter| meter.to_string())),
    ("SkuMeter", |_, c| c.meter.map(|meter| meter.title().to_owned())),
    ("SkuPriceDetails", |_, _| None),
    ("SkuPriceId", |_, c| c.price_id.clone()),
    ("SubAccountId", |_, c| c.app.map(|id| id.to_string())),
    ("SubAccountName", |_, c| c.app_name.as_ref().map(ToString::to_string)),
    ("x_CorrectedMonth", |_, c| c.corrects.map(|month| month.to_string())),
    ("x_Label", |_, c| c.label.as_ref().map(ToString::to_string)),
];

pub(super) fn columns() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

pub(super) fn row(statement: &Statement, charge: &Charge) -> impl Iterator<Item = String> {
    TABLE.iter().map(|(_, value)| value(statement, charge).unwrap_or_default())
}

/// Readers tell a decimal by its point.
fn number(value: Decimal) -> String {
    plain(value, 1)
}

fn money(statement: &Statement, value: Decimal) -> String {
    plain(value, minor_digits(&statement.currency).max(1))
}

/// Before it is rounded: quantity × price. What has no price costs what is billed.
fn unrounded(statement: &Statement, charge: &Charge) -> String {
    match (charge.quantity, charge.price) {
        (Some(quantity), Some(price)) => number(quantity.saturating_mul(price)),
        _ => money(statement, charge.cost),
    }
}

fn category(charge: &Charge) -> &'static str {
    match charge.kind {
        Kind::Usage | Kind::Correction => "Usage",
        Kind::Adjustment if charge.cost < Decimal::ZERO => "Credit",
        Kind::Adjustment => "Adjustment",
    }
}

fn frequency(charge: &Charge) -> &'static str {
    match (charge.kind, charge.meter) {
        (Kind::Adjustment, _) => "One-Time",
        (_, Some(Meter::Base)) => "Recurring",
        _ => "Usage-Based",
    }
}

/// One invoice for each organisation and month.
fn invoice(statement: &Statement, charge: &Charge) -> String {
    let id = charge.organisation.0.simple().to_string();
    format!("{}-{}", statement.month, id.get(20..).unwrap_or_default())
}

/// As the instance is called over SSH.
fn resource(charge: &Charge) -> Option<String> {
    Some(format!("{}.{}.{}", charge.app_name.as_ref()?, charge.label.as_ref()?, charge.cluster.as_ref()?))
}

/// Category, name and subcategory: each name has one of each.
const fn service(meter: Option<Meter>) -> (&'static str, &'static str, &'static str) {
    match meter {
        Some(Meter::Database) => ("Databases", "Database", "Relational Databases"),
        Some(Meter::Disk) => ("Storage", "Disk", "File Storage"),
        Some(Meter::Requests | Meter::Sent | Meter::Received) => ("Networking", "Web traffic", "Content Delivery"),
        Some(Meter::Base | Meter::Cpu | Meter::Memory) => ("Web", "Applications", "Application Platforms"),
        None => ("Other", "Adjustments", "Other (Other)"),
    }
}
