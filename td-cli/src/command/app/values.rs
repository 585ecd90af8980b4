//! A label's configuration, value by value, with where each comes from.

use magrathea_core::api::PlannedValue;
use magrathea_core::manifest::Resolved;

use crate::printer::Printer;
use crate::table;

/// Whether anybody wrote this value: defaults are for those who ask.
fn is_set(value: &PlannedValue) -> bool {
    value.origin.is_some()
}

/// A table of values; without `all` only those that the file sets.
pub fn print(printer: &Printer, values: &[PlannedValue], all: bool) {
    let rows: Vec<_> = values.iter().filter(|value| all || is_set(value)).map(row).collect();
    if rows.is_empty() {
        printer.data("every value is the platform's default; --values shows them");
    } else {
        table::print(printer, ["VALUE", "IS", "FROM"], rows);
    }
}

fn row(value: &PlannedValue) -> [String; 3] {
    let from = match &value.origin {
        Some(origin) => {
            let label = if origin.from_label { " (label)" } else { "" };
            format!("{}:{}{label}", origin.file, origin.line)
        }
        None => "default".into(),
    };
    [value.path.clone(), value.value.clone(), from]
}

/// The values of a resolved label, by dotted path.
pub fn list(resolved: &Resolved) -> Vec<PlannedValue> {
    resolved.values().into_iter().map(|(path, value, origin)| PlannedValue { path, value, origin }).collect()
}
