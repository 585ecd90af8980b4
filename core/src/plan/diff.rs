//! What applying a plan would change.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Plan, Resource, Spec};
use crate::names::Layer;

/// One difference between two plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    pub layer: Layer,
    pub key: String,
    pub change: ChangeKind,
    /// The fields that differ, as dotted paths with their old and new value; empty for added and removed.
    pub fields: Vec<FieldChange>,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldChange {
    pub path: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Add,
    Change,
    Remove,
}

/// The differences from `old` (none: nothing exists) to `new`, in the new plan's order, removals last in reverse
/// layer order. Empty exactly when both ask for the same.
pub fn diff_plans(old: Option<&Plan>, new: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    for resource in &new.resources {
        match old.and_then(|plan| plan.get(&resource.key)) {
            None => changes.push(change(resource, ChangeKind::Add, Vec::new())),
            Some(before) if asked(before) != asked(resource) => {
                changes.push(change(resource, ChangeKind::Change, field_changes(before, resource)));
            }
            Some(_) => {}
        }
    }
    let gone = old.iter().flat_map(|plan| plan.resources.iter().rev()).filter(|r| new.get(&r.key).is_none());
    changes.extend(gone.map(|r| change(r, ChangeKind::Remove, Vec::new())));
    changes
}

/// What a resource asks for. Which release's files storage takes over follows from the replicas', where it is told.
fn asked(resource: &Resource) -> Spec {
    let mut spec = resource.spec.clone();
    match &mut spec {
        Spec::Seed(seed) => seed.image.clear(),
        Spec::Assets(assets) => {
            assets.image.clear();
            assets.service.clear();
        }
        _ => {}
    }
    spec
}

fn change(resource: &Resource, change: ChangeKind, fields: Vec<FieldChange>) -> Change {
    Change { layer: resource.layer, key: resource.key.clone(), change, fields }
}

fn field_changes(old: &Resource, new: &Resource) -> Vec<FieldChange> {
    let old = serde_json::to_value(asked(old)).unwrap_or_default();
    let new = serde_json::to_value(asked(new)).unwrap_or_default();
    let mut out = Vec::new();
    compare(&mut out, String::new(), Some(&old), Some(&new));
    out
}

/// Files and mounts are known by where they are in the container, not by their turn.
fn by_target(list: &[serde_json::Value]) -> Option<BTreeMap<&str, &serde_json::Value>> {
    list.iter().map(|item| Some((item.get("target")?.as_str()?, item))).collect()
}

fn compare(out: &mut Vec<FieldChange>, path: String, old: Option<&serde_json::Value>, new: Option<&serde_json::Value>) {
    use serde_json::Value;
    if old == new {
        return;
    }
    if let (Some(Value::Object(a)), Some(Value::Object(b))) = (old, new) {
        let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(out, path, a.get(key), b.get(key));
        }
        return;
    }
    if let (Some(Value::Array(a)), Some(Value::Array(b))) = (old, new) {
        if let (Some(a), Some(b)) = (by_target(a), by_target(b)) {
            let targets: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for target in targets {
                compare(out, format!("{path}[{target}]"), a.get(target).copied(), b.get(target).copied());
            }
            return;
        }
        for n in 0..a.len().max(b.len()) {
            compare(out, format!("{path}[{n}]"), a.get(n), b.get(n));
        }
        return;
    }
    let text = |value: Option<&Value>| {
        value.map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    out.push(FieldChange { path, old: text(old), new: text(new) });
}
