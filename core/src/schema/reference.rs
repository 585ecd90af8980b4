//! A reference page made from a schema.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::allows;
use super::check::wanted;

/// Renders a schema as Markdown: a section for each section of the file, a table row for each key below it.
pub fn render_reference(schema: &Value) -> String {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut page = format!("# {}\n\n", text("title"));
    page += "<!-- Generated from the schema by `make docs`; edit the types in core/src instead. -->\n\n";
    let _ = writeln!(page, "{}\n", text("description"));
    page += "Top-level keys that start with `x-` are ignored: a place for anchors. Sizes are whole numbers with a unit \
             (`KiB`, `MiB`, `GiB`, `TiB`), durations likewise (`ms`, `s`, `m`, `h`, `d`).\n\n";
    let properties = properties(schema);
    let is_section = |schema: &Value| element(schema).get("properties").is_some();
    let (sections, single): (Vec<_>, Vec<_>) =
        properties.into_iter().flatten().partition(|(_, value)| is_section(value));
    page += "| key | value | default | meaning |\n| --- | --- | --- | --- |\n";
    for (key, schema) in &single {
        row(&mut page, key, schema, false);
    }
    for (key, schema) in &sections {
        match is_map(schema) {
            true => row(&mut page, &format!("{key}.<name>"), element(schema), false),
            false => row(&mut page, key, schema, false),
        }
    }
    let mut told = Vec::new();
    for (key, schema) in sections {
        let prefix = if is_map(schema) { format!("{key}.<name>") } else { key.clone() };
        let description = [description(schema), description(element(schema))];
        let description = description.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let _ = write!(page, "\n## {key}\n\n{description}\n\n");
        page += "| key | value | default | meaning |\n| --- | --- | --- | --- |\n";
        rows(&mut page, &prefix, element(schema), key == "labels", &mut told);
    }
    page
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// Whether the keys below are the user's own.
fn is_map(schema: &Value) -> bool {
    schema.get("additionalProperties").is_some_and(Value::is_object)
}

/// The schema of what stands below the user's own keys or in a list, or the schema itself.
fn element(schema: &Value) -> &Value {
    let inner = schema.get("additionalProperties").filter(|rest| rest.is_object()).or_else(|| schema.get("items"));
    inner.filter(|inner| inner.get("properties").is_some() || is_map(inner)).unwrap_or(schema)
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// Keys that were told of, and where.
type Told<'a> = Vec<(&'a Value, String)>;

/// Fewer keys are repeated wherever they may stand.
const MANY: usize = 3;

/// Rows for the keys below `prefix`. Labels repeat the sections, which are only named there; so are many keys that stand in
/// several places.
fn rows<'a>(page: &mut String, prefix: &str, schema: &'a Value, is_shallow: bool, told: &mut Told<'a>) {
    let required = schema.get("required").and_then(Value::as_array);
    for (key, inner) in properties(schema).into_iter().flatten() {
        let is_required = required.is_some_and(|keys| keys.iter().any(|k| k == key));
        let path = format!("{prefix}.{key}");
        let below = element(inner);
        let keys = below.get("properties").filter(|keys| keys.as_object().is_some_and(|keys| keys.len() >= MANY));
        if let Some((_, place)) = told.iter().find(|(known, _)| Some(*known) == keys) {
            let marker = if is_map(inner) { ".<name>" } else { "" };
            row(page, &path, inner, is_required);
            let _ = writeln!(page, "| `{path}{marker}.…` | as below `{place}` | | |");
            continue;
        }
        told.extend(keys.filter(|_| !is_shallow).map(|keys| (keys, path.clone())));
        row(page, &path, inner, is_required);
        if !is_shallow && below.get("properties").is_some() {
            let marker = match () {
                () if is_map(inner) => ".<name>",
                () if inner.get("items").is_some() => "[]",
                () => "",
            };
            rows(page, &format!("{path}{marker}"), below, is_shallow, told);
        }
    }
}

fn row(page: &mut String, path: &str, schema: &Value, is_required: bool) {
    let default = match schema.get("default") {
        _ if is_required => "**required**".to_owned(),
        None | Some(Value::Null) => String::new(),
        Some(Value::Object(_)) => String::new(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
    };
    let _ = writeln!(page, "| `{path}` | {} | {default} | {} |", cell(&value(schema)), cell(&meaning(schema)));
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn value(schema: &Value) -> String {
    if let Some(items) = schema.get("items") {
        if allows(schema, "string") {
            return format!("{0}, or a list: {0}", value(items));
        }
        return format!("a list: {}", value(items));
    }
    if is_map(schema) {
        let inner = schema.get("additionalProperties").map(value).unwrap_or_default();
        return format!("a map: name → {inner}");
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("patternErrorMessage"), text("format")) {
        ("", format) if format.ends_with("-name") => "a name".into(),
        ("", _) => wanted(schema),
        (message, _) => message.trim_start_matches("wants ").into(),
    }
}

/// A key's description, with those of its choices.
fn meaning(schema: &Value) -> String {
    let one_of = |schema: &Value| schema.get("oneOf").and_then(Value::as_array).cloned();
    let nested = || schema.get("anyOf").and_then(Value::as_array).into_iter().flatten().find_map(one_of);
    let mut text = description(schema).to_owned();
    for choice in one_of(schema).or_else(nested).into_iter().flatten() {
        if let Some(name) = choice.get("const").and_then(Value::as_str) {
            let _ = write!(text, " `{name}`: {}", description(&choice));
        }
    }
    text
}
