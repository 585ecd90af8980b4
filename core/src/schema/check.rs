//! Checks a tree against a schema: reports every mistake with its place, and returns what was good, coerced.

use serde_json::{Map, Value};

use super::nearest::nearest;
use super::{allows, choices, format};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::yaml::{Entry, Kind, Mark, Node, finding};

/// Where the values of a document are from, and what was found wrong with them.
pub(crate) struct Checker<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub findings: Vec<Diagnostic>,
}

impl Checker<'_> {
    /// Reports a mistake at `mark`.
    pub fn report(&mut self, mark: Mark, path: &str, message: String, hint: Option<String>) {
        let found = Diagnostic { path: path.into(), hint, ..finding(self.file, self.text, mark, message) };
        self.findings.push(found);
    }

    /// All findings, in the order of the text, each once.
    pub fn finish(mut self) -> Diagnostics {
        self.findings.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        self.findings.dedup_by(|a, b| (a.line, a.column, &a.message) == (b.line, b.column, &b.message));
        Diagnostics(self.findings)
    }

    /// Checks `node`, which stands behind `path`; what is wrong is reported and left out of the result.
    pub fn check(&mut self, schema: &Value, node: &Node, path: &str) -> Option<Node> {
        let kind = match &node.kind {
            Kind::Empty if allows(schema, "object") => Kind::Map(self.check_map(schema, &[], node.mark, path)?),
            Kind::Empty if allows(schema, "array") => Kind::List(Vec::new()),
            Kind::Null if is_nullable(schema) => Kind::Null,
            Kind::Map(entries) if allows(schema, "object") => {
                Kind::Map(self.check_map(schema, entries, node.mark, path)?)
            }
            Kind::List(items) if allows(schema, "array") => {
                let inner = schema.get("items").unwrap_or(&Value::Bool(true));
                let check = |(n, item)| self.check(inner, item, &format!("{path}[{n}]"));
                Kind::List(items.iter().enumerate().filter_map(check).collect())
            }
            Kind::Scalar { value, text } => {
                let value = self.check_scalar(schema, value, text, node.mark, path)?;
                Kind::Scalar { value, text: text.clone() }
            }
            other => {
                let (problem, hint) = match other {
                    Kind::Empty | Kind::Null if allows(schema, "string") && !is_nullable(schema) => {
                        ("has no value; it wants", Some("write \"\" for an empty text"))
                    }
                    Kind::Empty | Kind::Null => ("has no value; it wants", Some("give it one, or leave the key out")),
                    Kind::List(_) => ("is a list; it wants", None),
                    Kind::Map(_) | Kind::Scalar { .. } => ("is a map of keys; it wants", None),
                };
                let message = format!("{} {problem} {}", name(path), wanted(schema));
                self.report(node.mark, path, message, hint.map(str::to_owned));
                return None;
            }
        };
        Some(Node { mark: node.mark, from_label: false, kind })
    }

    fn check_map(&mut self, schema: &Value, entries: &[Entry], mark: Mark, path: &str) -> Option<Vec<Entry>> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut good = Vec::new();
        for entry in entries {
            let path = join(path, &entry.key);
            let known = properties.and_then(|p| p.get(&entry.key));
            let free = schema.get("additionalProperties").filter(|rest| rest.is_object());
            let Some(inner) = known.or(free) else {
                let extension = entry.key.starts_with("x-") && schema.get("patternProperties").is_some();
                if !extension {
                    self.report_unknown_key(properties, entry, &path);
                }
                continue;
            };
            if known.is_none() && !self.check_key(schema, entry, &path) {
                continue;
            }
            if let Some(node) = self.check(inner, &entry.node, &path) {
                good.push(Entry { key: entry.key.clone(), key_mark: entry.key_mark, node });
            }
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let mut complete = true;
        for key in required.filter(|key| !good.iter().any(|entry| entry.key == *key)) {
            complete = false;
            if !entries.iter().any(|entry| entry.key == key) {
                let what = properties.and_then(|p| p.get(key)).map(wanted).unwrap_or_default();
                self.report(
                    mark,
                    path,
                    format!("{} lacks the key `{key}`", name(path)),
                    Some(format!("add `{key}`: {what}")),
                );
            }
        }
        complete.then_some(good)
    }

    /// Checks the key of a map whose keys are the user's own.
    fn check_key(&mut self, schema: &Value, entry: &Entry, path: &str) -> bool {
        let format = schema.pointer("/propertyNames/format").and_then(Value::as_str).unwrap_or_default();
        match format::check(format, &entry.key) {
            Ok(()) => true,
            Err(misfit) => {
                self.report(entry.key_mark, path, format!("the key `{}` {}", entry.key, misfit.message), misfit.hint);
                false
            }
        }
    }

    fn report_unknown_key(&mut self, properties: Option<&Map<String, Value>>, entry: &Entry, path: &str) {
        let keys = || properties.into_iter().flat_map(Map::keys).map(String::as_str);
        let below = || {
            let holds =
                |(_, inner): &(&String, &Value)| inner.get("properties").is_some_and(|p| p.get(&entry.key).is_some());
            properties.into_iter().flatten().find(holds).map(|(section, _)| section)
        };
        let hint = match (nearest(&entry.key, keys()), below()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(section)) => format!("`{}` belongs below `{section}`", entry.key),
            (None, None) => format!("known keys: {}", keys().collect::<Vec<_>>().join(", ")),
        };
        let place = path.strip_suffix(&entry.key).map(|p| p.trim_end_matches('.')).unwrap_or_default();
        let place = if place.is_empty() { String::new() } else { format!(" in `{place}`") };
        self.report(entry.key_mark, path, format!("unknown key `{}`{place}", entry.key), Some(hint));
    }

    fn check_scalar(&mut self, schema: &Value, value: &Value, text: &str, mark: Mark, path: &str) -> Option<Value> {
        if let Some(choices) = choices(schema) {
            if choices.contains(&text) {
                return Some(text.into());
            }
            let hint = nearest(text, choices.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.report(mark, path, format!("{} wants {}, not {text:?}", name(path), wanted(schema)), hint);
            return None;
        }
        if allows(schema, "string") {
            let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
            return match format::check(format, text) {
                Ok(()) => Some(text.into()),
                Err(misfit) => {
                    self.report(mark, path, format!("{} {}", name(path), misfit.message), misfit.hint);
                    None
                }
            };
        }
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let good = match value {
            Value::Bool(_) => allows(schema, "boolean"),
            Value::Number(n) if allows(schema, "integer") => n.as_u64().is_some_and(|n| {
                bound("minimum").is_none_or(|least| n >= least) && bound("maximum").is_none_or(|most| n <= most)
            }),
            _ => false,
        };
        if good {
            return Some(value.clone());
        }
        let quoted = value.is_string() && (allows(schema, "integer") && text.parse::<u64>().is_ok());
        let hint = match text {
            "yes" | "on" if allows(schema, "boolean") => Some("write true".into()),
            "no" | "off" if allows(schema, "boolean") => Some("write false".into()),
            _ if quoted => Some("leave out the quotes".into()),
            _ if allows(schema, "array") => Some(format!("write [{text}]")),
            _ => None,
        };
        let shown = if value.is_string() { format!("the text {text:?}") } else { text.to_owned() };
        self.report(mark, path, format!("{} wants {}, not {shown}", name(path), wanted(schema)), hint);
        None
    }
}

/// `a.b` for a key below a path; the root's path is empty.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// How a message calls the value behind `path`.
fn name(path: &str) -> String {
    if path.is_empty() { "the file".into() } else { format!("`{path}`") }
}

fn is_nullable(schema: &Value) -> bool {
    allows(schema, "null") || is_optional_choice(schema)
}

fn is_optional_choice(schema: &Value) -> bool {
    let null = |key: &str| {
        let mut list = schema.get(key).and_then(Value::as_array).into_iter().flatten();
        list.any(|one| one.is_null() || allows(one, "null"))
    };
    null("enum") || null("oneOf") || null("anyOf")
}

/// What a schema wants, in words.
pub(crate) fn wanted(schema: &Value) -> String {
    if let Some(choices) = choices(schema) {
        let quoted: Vec<String> = choices.iter().map(|c| format!("`{c}`")).collect();
        return match quoted.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        };
    }
    let words = [("string", "a text"), ("boolean", "true or false"), ("array", "a list"), ("object", "a map of keys")];
    let word = words.iter().find(|(name, _)| allows(schema, name)).map_or("another value", |(_, word)| word);
    if allows(schema, "integer") {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let number = match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
            (Some(least), None) if least > 0 => format!("a whole number from {least}"),
            _ => "a whole number".into(),
        };
        return if allows(schema, "object") { format!("{number}, or a map of keys") } else { number };
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("size") => "a size, as in 256MiB".into(),
        Some("duration") => "a duration, as in 90s".into(),
        Some("percent") => "a share, as in 70%".into(),
        Some("ip") => "an address".into(),
        Some("price") => "a price, as in 0.08".into(),
        Some("volume") => "a number, as in 50".into(),
        Some("day") => "a day, as in 2026-11-01".into(),
        _ => word.into(),
    }
}
