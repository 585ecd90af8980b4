//! A label's configuration, value by value, with where each comes from.

use magrathea_core::api::PlannedValue;
use magrathea_core::manifest::Resolved;
use serde_json::Value;

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

/// The values of a resolved label, by dotted path. What is neither set nor has a default is left out.
pub fn list(resolved: &Resolved) -> Result<Vec<PlannedValue>, serde_json::Error> {
    let mut values = Vec::new();
    collect(&mut values, resolved, String::new(), &serde_json::to_value(&resolved.sections)?);
    Ok(values)
}

fn collect(values: &mut Vec<PlannedValue>, resolved: &Resolved, path: String, value: &Value) {
    let value = match value {
        Value::Null => return,
        Value::Object(fields) if fields.is_empty() => return,
        Value::Array(items) if items.is_empty() => return,
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(values, resolved, path, value);
            }
            return;
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // The origin of a list or a map may be told as a whole.
    let origin = ancestors(&path).find_map(|path| resolved.origins.get(path)).cloned();
    values.push(PlannedValue { path, value, origin });
}

/// The path itself, then its parents.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('.').map(|(parent, _)| parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_end_at_the_root() {
        assert_eq!(ancestors("a.b.c").collect::<Vec<_>>(), ["a.b.c", "a.b", "a"]);
    }
}
