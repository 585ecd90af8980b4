//! The short table: a row for each charge, in columns that people read.

use super::{Statement, money, plain, text, time};
use crate::billing::Charge;

pub(super) const COLUMNS: [&str; 15] = [
    "month",
    "organisation",
    "app",
    "label",
    "cluster",
    "kind",
    "what",
    "from",
    "until",
    "quantity",
    "unit",
    "price",
    "cost",
    "currency",
    "corrects",
];

pub(super) fn row(statement: &Statement, charge: &Charge) -> [String; 15] {
    let shown = |name: Option<&dyn std::fmt::Display>| name.map(ToString::to_string).unwrap_or_default();
    [
        statement.month.to_string(),
        charge.organisation_name.clone(),
        shown(charge.app_name.as_ref().map(|name| name as _)),
        shown(charge.label.as_ref().map(|name| name as _)),
        shown(charge.cluster.as_ref().map(|name| name as _)),
        text(charge.kind),
        charge.description.clone(),
        time(charge.from),
        time(charge.until),
        charge.quantity.map(|quantity| plain(quantity, 0)).unwrap_or_default(),
        charge.meter.map(|meter| meter.pricing_unit().to_owned()).unwrap_or_default(),
        charge.price.map(|price| plain(price, 0)).unwrap_or_default(),
        money(statement, charge.cost),
        statement.currency.clone(),
        shown(charge.corrects.as_ref().map(|month| month as _)),
    ]
}
