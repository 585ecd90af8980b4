//! JSON Schemas made from the types, and what is done with them: checking a text, and the reference pages.
//!
//! The types are the one source; the schema is what editors read, what `check` enforces, and what the reference
//! shows. Formats of texts (paths, sizes, names, …) stand in `format`.

pub(crate) mod check;
pub(crate) mod format;
pub(crate) mod nearest;
mod reference;

pub use reference::render_reference;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of `T`, self-contained: no references, so that `check` and the reference just walk it.
pub(crate) fn json_schema<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = match schema.to_value() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    schema.remove("title");
    accept_null(&mut schema);
    accept_unquoted(&mut schema);
    schema
}

/// Where a text is wanted, an unquoted `8.4` or `off` is taken as it stands.
fn accept_unquoted(schema: &mut Map<String, Value>) {
    let is_free = !schema.contains_key("enum") && !schema.contains_key("const");
    match schema.get_mut("type") {
        Some(Value::String(name)) if is_free && name == "string" => {
            schema.insert("type".into(), json!(["string", "number", "boolean"]));
        }
        Some(Value::Array(names)) if is_free && names.iter().any(|name| name == "string") => {
            names.extend(["number".into(), "boolean".into()]);
        }
        _ => {}
    }
    for (keyword, value) in schema.iter_mut() {
        match value {
            Value::Object(inner) if keyword == "properties" => {
                inner.values_mut().filter_map(Value::as_object_mut).for_each(accept_unquoted);
            }
            Value::Object(inner) if keyword == "items" || keyword == "additionalProperties" => accept_unquoted(inner),
            _ => {}
        }
    }
}

/// Every key that may be left out may also be `null`: in a label that resets it to the platform's default.
fn accept_null(schema: &mut Map<String, Value>) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required = |key: &str| required.as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
    for (key, value) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Value::Object(property) = value {
            accept_null(property);
            if !is_required(key) {
                make_nullable(property);
            }
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(keyword) {
            accept_null(inner);
            if keyword == "additionalProperties" {
                make_nullable(inner);
            }
        }
    }
}

fn make_nullable(schema: &mut Map<String, Value>) {
    match schema.get_mut("type") {
        Some(Value::String(name)) => {
            let name = std::mem::take(name);
            schema.insert("type".into(), json!([name, "null"]));
        }
        Some(_) => {}
        None => {
            for keyword in ["oneOf", "anyOf"] {
                if let Some(Value::Array(choices)) = schema.get_mut(keyword) {
                    let null = json!({"type": "null"});
                    if !choices.contains(&null) {
                        choices.push(null);
                    }
                }
            }
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
}

/// The texts that a schema allows, when it names them one by one.
pub(crate) fn choices(schema: &Value) -> Option<Vec<&str>> {
    let texts = |key: &str, of: fn(&Value) -> Option<&Value>| {
        let list = schema.get(key)?.as_array()?;
        let found: Vec<&str> = list.iter().filter_map(of).filter_map(Value::as_str).collect();
        (!found.is_empty()).then_some(found)
    };
    texts("enum", |value| Some(value))
        .or_else(|| texts("oneOf", |value| value.get("const")))
        .or_else(|| schema.get("anyOf")?.as_array()?.iter().find_map(choices))
}

/// Whether a schema allows values of this JSON type.
pub(crate) fn allows(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(many)) => many.iter().any(|one| one == name),
        _ => false,
    }
}
