//! A month's charges as files. Pure functions of stored rows: the same rows are the same bytes.

mod focus;
mod short;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;

use super::charges::minor_digits;
use super::{Charge, Month, Period};

/// How a month is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The FinOps Open Cost and Usage Specification 1.2, in CSV.
    Focus,
    /// A short table for people.
    Csv,
    /// Everything that is stored.
    Json,
}

/// What all rows of a month's export have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub month: Month,
    pub period: Period,
    pub issuer: String,
    pub currency: String,
    pub time_zone: String,
}

impl Format {
    pub const ALL: [Format; 3] = [Format::Focus, Format::Csv, Format::Json];

    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Focus => "focus",
            Format::Csv => "csv",
            Format::Json => "json",
        }
    }

    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Focus | Format::Csv => "text/csv; charset=utf-8",
            Format::Json => "application/json",
        }
    }

    /// What stands before the first row.
    pub fn head(self, statement: &Statement) -> String {
        match self {
            Format::Focus => line(focus::columns()),
            Format::Csv => line(short::COLUMNS),
            Format::Json => {
                let Statement { month, period: Period { from, until }, issuer, currency, time_zone } = statement;
                let head = serde_json::json!({ "month": month, "from": from, "until": until, "time_zone": time_zone,
                    "issuer": issuer, "currency": currency });
                format!("{},\"charges\":[", head.to_string().trim_end_matches('}'))
            }
        }
    }

    /// A row; `n` counts from 0.
    pub fn row(self, statement: &Statement, n: usize, charge: &Charge) -> String {
        match self {
            Format::Focus => line(focus::row(statement, charge)),
            Format::Csv => line(short::row(statement, charge)),
            Format::Json => {
                let comma = if n == 0 { "" } else { "," };
                format!("{comma}\n{}", json(charge))
            }
        }
    }

    /// What stands after the last row.
    pub fn tail(self) -> &'static str {
        match self {
            Format::Focus | Format::Csv => "",
            Format::Json => "\n]}\n",
        }
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no format; formats are focus, csv and json"))
    }
}

/// Decimals come back from the store with as many zeros as they like; here they have none at their end.
fn json(charge: &Charge) -> String {
    let mut charge = charge.clone();
    charge.cost = charge.cost.normalize();
    for decimal in [&mut charge.consumed, &mut charge.quantity, &mut charge.price].into_iter().flatten() {
        *decimal = decimal.normalize();
    }
    serde_json::to_string(&charge).unwrap_or_default()
}

/// A line of CSV (RFC 4180, but for its end, which is a line feed).
fn line<I: IntoIterator<Item = S>, S: AsRef<[u8]>>(fields: I) -> String {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    // Writing to memory does not fail.
    let _ = writer.write_record(fields);
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

/// A decimal as plain digits with a point, and at least so many digits after it.
pub fn plain(value: Decimal, digits: u32) -> String {
    let mut value = value.normalize();
    if value.scale() < digits {
        value.rescale(digits);
    }
    value.to_string()
}

/// A cost, with the digits that its currency has.
fn money(statement: &Statement, value: Decimal) -> String {
    plain(value, minor_digits(&statement.currency))
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An enum's name as it is stored.
fn text(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}
