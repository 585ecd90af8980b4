//! What usage costs: price lists, months in the operator's time zone, charges, corrections, and the formats of the export.
//!
//! Amounts come in as whole numbers and become decimals once, in `quantity`. Nothing here is a float.

mod charges;
mod correct;
mod export;
mod meter;
mod parse;
mod period;
mod quantity;
mod rates;
#[cfg(test)]
mod tests;

pub use charges::{Charge, Kind, Subject, Used, charge, total};
pub use correct::{Billed, Sum, corrections};
pub use export::{Format, Statement, plain};
pub use meter::Meter;
pub use parse::{parse_rates, rates_json_schema};
pub use period::{Month, MonthError, Segment};

pub use crate::usage::Period;
pub use rates::{MeterPrice, Meters, PriceList, Rates, Step};
