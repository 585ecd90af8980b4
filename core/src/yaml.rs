//! YAML text → a tree in which every value knows its place. The only file that names the YAML crate.
//!
//! Nothing here knows what the text is for: keys, types and values are judged by `schema`.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use crate::diagnostics::{Diagnostic, Diagnostics, Severity};

/// Most bytes a configuration file may have.
const MAX_BYTES: usize = 1 << 20;
/// Most levels of nesting; ours need eight.
const MAX_DEPTH: usize = 32;

/// Where something stands, from 1, columns in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub line: usize,
    pub column: usize,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub mark: Mark,
    /// Whether a label's own block set it; only `manifest::merge` says so.
    pub from_label: bool,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A key with nothing behind it.
    Empty,
    /// An explicit `null` or `~`.
    Null,
    /// `value` is what YAML takes it for, `text` what stands there: `8.4` is a number, but its text is kept.
    Scalar {
        value: Value,
        text: String,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map, with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_mark: Mark,
    pub node: Node,
}

impl Node {
    /// The value behind `key`, when this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Where the value behind `keys` stands (a map's place is its key), or the nearest one above it that the text
    /// holds; and whether a label set it.
    pub fn place<K: AsRef<str>>(&self, keys: &[K]) -> (Mark, bool) {
        let (mut node, mut mark) = (self, self.mark);
        for key in keys.iter().map(AsRef::as_ref) {
            if let Some(entry) = node.get(key) {
                node = &entry.node;
                mark = if matches!(node.kind, Kind::Map(_)) { entry.key_mark } else { node.mark };
            } else if let (Kind::List(items), Ok(n)) = (&node.kind, key.parse::<usize>()) {
                node = items.get(n).unwrap_or(node);
                mark = node.mark;
            } else {
                break;
            }
        }
        (mark, node.from_label)
    }

    /// Whether the text itself gives the key behind `keys` a value.
    pub fn says(&self, keys: &[&str]) -> bool {
        let found = keys.iter().try_fold(self, |node, key| Some(&node.get(key)?.node));
        found.is_some_and(|node| !matches!(node.kind, Kind::Null))
    }

    /// The tree without the keys that are `null`.
    pub fn without_nulls(self) -> Node {
        let keep = |entry: Entry| {
            let is_null = matches!(entry.node.kind, Kind::Null);
            (!is_null).then(|| Entry { node: entry.node.without_nulls(), ..entry })
        };
        let kind = match self.kind {
            Kind::Map(entries) => Kind::Map(entries.into_iter().filter_map(keep).collect()),
            other => other,
        };
        Node { kind, ..self }
    }

    /// The tree without its places.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Empty | Kind::Null => Value::Null,
            Kind::Scalar { value, .. } => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Kind::Map(entries) => Value::Object(entries.iter().map(|e| (e.key.clone(), e.node.to_json())).collect()),
        }
    }
}

/// Parses one YAML document. Duplicate keys, alias bombs and too deep or too large texts are refused.
pub(crate) fn parse(file: &str, text: &str) -> Result<Node, Diagnostics> {
    if text.len() > MAX_BYTES {
        return Err(fail(file, text, None, "the file is larger than 1 MiB".into()));
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, flow_nesting_limit: MAX_DEPTH, max_nodes: 50_000 },
    };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| fail(file, text, error.location(), plain_message(&error)))?;
    Ok(node(text, raw))
}

/// A finding that points at `mark`.
pub(crate) fn finding(file: &str, text: &str, mark: Mark, message: String) -> Diagnostic {
    const WIDEST: usize = 160;
    let line = mark.line.checked_sub(1).and_then(|n| text.lines().nth(n));
    let snippet = line.filter(|_| mark.column <= WIDEST);
    Diagnostic {
        severity: Severity::Error,
        file: file.into(),
        line: mark.line,
        column: mark.column,
        path: String::new(),
        message,
        hint: None,
        snippet: snippet.map(|l| l.chars().take(WIDEST).map(|c| if c.is_control() { ' ' } else { c }).collect()),
    }
}

fn fail(file: &str, text: &str, location: Option<Location>, message: String) -> Diagnostics {
    Diagnostics(vec![finding(file, text, location.map(mark).unwrap_or_default(), message)])
}

/// The crate's own sentence without the place, which the finding carries itself, and without advice to programmers.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let sentence = text.lines().next().unwrap_or_default();
    let end = [" at line ", ", set Dup", "; use from"].iter().filter_map(|stop| sentence.find(stop)).min();
    let sentence = sentence.get(..end.unwrap_or(sentence.len())).unwrap_or(sentence).trim_end_matches('.');
    if sentence.starts_with("budget breached") {
        return "the file is too large, or its aliases grow too much".into();
    }
    if sentence.starts_with("recursive references") {
        return "an alias refers to the value that it stands in".into();
    }
    format!("not valid YAML: {sentence}")
}

fn mark(location: Location) -> Mark {
    let number = |n: u64| usize::try_from(n).unwrap_or_default();
    Mark { line: number(location.line()), column: number(location.column()) }
}

/// What the deserializer hands over, before the scalars' own text is looked up.
enum Raw {
    Null,
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(text: &str, raw: Spanned<Raw>) -> Node {
    let source = || {
        let span = raw.defined.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        text.get(start..end).map(str::trim)
    };
    let kind = match raw.value {
        Raw::Null if source().is_none_or(|s| !matches!(s, "~" | "null" | "Null" | "NULL")) => Kind::Empty,
        Raw::Null => Kind::Null,
        Raw::Scalar(Value::String(text)) => Kind::Scalar { value: Value::String(text.clone()), text },
        Raw::Scalar(value) => Kind::Scalar { text: source().map_or_else(|| value.to_string(), str::to_owned), value },
        Raw::List(items) => Kind::List(items.into_iter().map(|item| node(text, item)).collect()),
        Raw::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry { key_mark: mark(key.defined), key: key.value, node: node(text, value) })
                .collect(),
        ),
    };
    Node { mark: mark(raw.defined), from_label: false, kind }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        let body = match &node.kind {
            Kind::Empty => "empty".to_owned(),
            Kind::Null => "null".to_owned(),
            Kind::Scalar { value, text } => format!("{value} {text:?}"),
            Kind::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Kind::Map(entries) => {
                let show =
                    |e: &Entry| format!("{}@{}:{}: {}", e.key, e.key_mark.line, e.key_mark.column, show(&e.node));
                format!("{{{}}}", entries.iter().map(show).collect::<Vec<_>>().join(", "))
            }
        };
        format!("{}:{} {body}", node.mark.line, node.mark.column)
    }

    #[test]
    fn scalars_keep_their_text_and_place() {
        let text = "a: 8.40\nb: \"8.4\"\nc: off\nd: True # x\ne:\nf: ~\nä: 007\n8.4: [1, null, x y]\n";
        insta::assert_snapshot!(show(&parse("f", text).unwrap()), @r#"1:1 {a@1:1: 1:4 8.4 "8.40", b@2:1: 2:4 "8.4" "8.4", c@3:1: 3:4 "off" "off", d@4:1: 4:4 true "True", e@5:1: 5:2 empty, f@6:1: 6:4 null, ä@7:1: 7:4 7.0 "007", 8.4@8:1: 8:6 [8:7 1 "1", 8:10 null, 8:16 "x y" "x y"]}"#);
    }

    #[test]
    fn anchors_and_merge_keys_point_at_their_definition() {
        let text = "x-base: &base {a: 1, b: 2}\none:\n  <<: *base\n  b: 3\ntwo: *base\n";
        insta::assert_snapshot!(show(&parse("f", text).unwrap()), @r#"1:1 {x-base@1:1: 1:15 {a@1:16: 1:19 1 "1", b@1:22: 1:25 2 "2"}, one@2:1: 3:3 {b@4:3: 4:6 3 "3", a@1:16: 1:19 1 "1"}, two@5:1: 1:15 {a@1:16: 1:19 1 "1", b@1:22: 1:25 2 "2"}}"#);
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        let bomb = format!(
            "a0: &a0 [x]\n{}",
            (1..40).map(|n| format!("a{n}: &a{n} [*a{m}, *a{m}]\n", m = n - 1)).collect::<String>()
        );
        let deep = "[".repeat(5000);
        let mut out = String::new();
        for text in [
            "a: 1\na: 2\n",
            "a: [1\nb: 2\n",
            "a: b: c\n",
            "a:\n\tb: 1\n",
            "a: *nowhere\n",
            "a: 1\n---\nb: 2\n",
            "a: &x [*x]\n",
            &bomb,
            &deep,
        ] {
            let d = &parse("f", text).unwrap_err().0[0];
            out += &format!("{}:{} {}\n", d.line, d.column, d.message);
        }
        insta::assert_snapshot!(out, @r"
        2:1 not valid YAML: duplicate mapping key: a
        2:2 not valid YAML: illegal placement of ':' indicator
        1:5 not valid YAML: mapping values are not allowed in this context
        2:2 not valid YAML: tabs disallowed within this context (block indentation)
        1:4 not valid YAML: alias references unknown anchor
        3:1 not valid YAML: multiple YAML documents detected
        1:8 an alias refers to the value that it stands in
        15:12 the file is too large, or its aliases grow too much
        1:33 not valid YAML: recursion limit exceeded
        ");
    }
}
