//! A label's block over the file's defaults: maps merge per key, lists and scalars replace, `null` resets.

use std::collections::BTreeMap;

use super::Origin;
use crate::schema::check::join;
use crate::yaml::{Entry, Kind, Node};

/// `over` laid over `base`. What `null` resets is gone from the result.
pub(super) fn merge(base: &Node, over: &Node) -> Node {
    let (Kind::Map(below), Kind::Map(above)) = (&base.kind, &over.kind) else { return mark_label(over) };
    let mut entries: Vec<Entry> = Vec::new();
    for entry in below {
        match over.get(&entry.key) {
            Some(Entry { node, .. }) if matches!(node.kind, Kind::Null) => {}
            Some(winner) => entries.push(Entry { node: merge(&entry.node, &winner.node), ..winner.clone() }),
            None => entries.push(entry.clone()),
        }
    }
    for entry in above.iter().filter(|entry| base.get(&entry.key).is_none()) {
        entries.push(Entry { node: mark_label(&entry.node), ..entry.clone() });
    }
    Node { kind: Kind::Map(entries), from_label: true, ..over.clone() }.without_nulls()
}

fn mark_label(node: &Node) -> Node {
    let kind = match &node.kind {
        Kind::Map(entries) => {
            Kind::Map(entries.iter().map(|e| Entry { node: mark_label(&e.node), ..e.clone() }).collect())
        }
        Kind::List(items) => Kind::List(items.iter().map(mark_label).collect()),
        other => other.clone(),
    };
    Node { kind, from_label: true, mark: node.mark }
}

/// Where each leaf of a merged tree comes from.
pub(super) fn origins(file: &str, node: &Node) -> BTreeMap<String, Origin> {
    let mut found = BTreeMap::new();
    collect(file, node, "", &mut found);
    found
}

fn collect(file: &str, node: &Node, path: &str, found: &mut BTreeMap<String, Origin>) {
    match &node.kind {
        Kind::Map(entries) if !entries.is_empty() || path.is_empty() => {
            for entry in entries {
                collect(file, &entry.node, &join(path, &entry.key), found);
            }
        }
        Kind::List(items) if items.iter().any(|item| matches!(item.kind, Kind::Map(_))) => {
            for (n, item) in items.iter().enumerate() {
                collect(file, item, &format!("{path}[{n}]"), found);
            }
        }
        _ => {
            let origin = Origin { file: file.into(), line: node.mark.line, from_label: node.from_label };
            found.insert(path.into(), origin);
        }
    }
}
