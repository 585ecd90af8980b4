//! What is charged: sums of the usage, closed months with their rows, and adjustments.

mod charges;
mod months;
mod used;

pub use charges::{insert_charges, list_charges, load_billed, sum_charges};
pub use months::{
    Adjustment, NewMonth, StoredMonth, insert_adjustment, insert_month, list_adjustments, list_months, load_month,
    try_lock,
};
pub use used::{Sums, count_gaps, list_idle, list_subjects, load_used};

/// Whose rows: everybody's when absent.
pub type Owners<'a> = Option<&'a [uuid::Uuid]>;
