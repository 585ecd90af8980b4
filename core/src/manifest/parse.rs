//! Text → manifest: check against the schema, merge each label, then look at what keys mean together.

use std::collections::BTreeMap;

use super::clusters::{check_clusters, named};
use super::merge::{merge, origins};
use super::patterns::check_patterns;
use super::schema::{LabelHead, manifest_json_schema};
use super::semantics::{Subject, check_labels, check_sections};
use super::{DEFAULT_LABEL, Manifest, Pattern, Resolved, Sections};
use crate::diagnostics::Diagnostics;
use crate::names::{AppName, LabelName};
use crate::previews::{DEFAULT_EXPIRE, LabelPattern};
use crate::schema::check::{Checker, join};
use crate::yaml::{self, Kind, Node};

/// Parses and validates the text of a manifest. On success the second value holds warnings only.
///
/// Everything that is wrong is reported at once: a value that does not fit is left out of what follows, so that one
/// mistake is not reported twice.
pub fn parse_manifest(file: &str, text: &str) -> Result<(Manifest, Diagnostics), Diagnostics> {
    let document = yaml::parse(file, text)?;
    let mut checker = Checker { file, text, findings: Vec::new() };
    let checked = checker.check(&manifest_json_schema(), &document, "");
    let empty = Node { mark: document.mark, from_label: false, kind: Kind::Map(Vec::new()) };
    let root = checked.filter(|node| matches!(node.kind, Kind::Map(_))).unwrap_or(empty);

    let app = root.get("app").and_then(|entry| entry.node.to_json().as_str()?.parse::<AppName>().ok());
    let defaults = without(&root, &["app", "cluster", "labels"]);
    let mut subjects = Vec::new();
    if let Some(Kind::Map(labels)) = root.get("labels").map(|entry| &entry.node.kind) {
        for entry in labels.iter().filter(|entry| matches!(entry.node.kind, Kind::Map(_))) {
            let Some(key) = Key::parse(&entry.key) else { continue };
            let head = typed::<LabelHead>(&mut checker, &entry.node).unwrap_or_default();
            let tree = merge(&defaults, &without(&entry.node, &["cluster", "branch", "protected", "expire"]));
            if let Some(sections) = typed::<Sections>(&mut checker, &tree) {
                let path = join("labels", &entry.key);
                let named = named(&root, Some((&entry.node, &path)));
                subjects.push(Subject { key, head, named, sections, tree, mark: entry.key_mark, path });
            }
        }
    }
    if !subjects.iter().any(|subject| matches!(subject.key, Key::Label(_))) {
        let tree = defaults.without_nulls();
        if let (Some(label), Some(sections)) = (default_label(), typed::<Sections>(&mut checker, &tree)) {
            let mark = tree.mark;
            let (key, head, named) = (Key::Label(label), LabelHead::default(), named(&root, None));
            subjects.push(Subject { key, head, named, sections, tree, mark, path: String::new() });
        }
    }
    for subject in &subjects {
        check_sections(&mut checker, subject);
        check_clusters(&mut checker, subject);
    }
    check_labels(&mut checker, &subjects);
    check_patterns(&mut checker, &subjects);

    let findings = checker.finish();
    if findings.has_errors() {
        return Err(findings);
    }
    let mut manifest = Manifest { app, labels: BTreeMap::new(), patterns: BTreeMap::new() };
    for subject in subjects {
        let origins = origins(file, &subject.tree);
        let LabelHead { branch, protected, expire, .. } = subject.head;
        let clusters = subject.named.map(|named| named.clusters).unwrap_or_default();
        let sections = subject.sections;
        match subject.key {
            Key::Label(label) => {
                let resolved =
                    Resolved { label: label.clone(), clusters, branch, protected, preview: None, sections, origins };
                manifest.labels.insert(label, resolved);
            }
            Key::Pattern(name) => {
                let branches = branch.unwrap_or_else(|| name.to_string());
                let expire = expire.unwrap_or(DEFAULT_EXPIRE);
                let pattern = Pattern { name: name.clone(), branches, expire, clusters, sections, origins };
                manifest.patterns.insert(name, pattern);
            }
        }
    }
    Ok((manifest, findings))
}

/// What a key of `labels` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Label(LabelName),
    Pattern(LabelPattern),
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        text.parse().map(Key::Label).or_else(|_| text.parse().map(Key::Pattern)).ok()
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Label(label) => label.fmt(f),
            Key::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// The manifest of a folder that has none: one label, all defaults.
pub fn default_manifest() -> Manifest {
    let resolved = |label: LabelName| Resolved {
        label,
        clusters: Vec::new(),
        branch: None,
        protected: None,
        preview: None,
        sections: Sections::default(),
        origins: BTreeMap::new(),
    };
    let labels = default_label().map(|label| (label.clone(), resolved(label))).into_iter().collect();
    Manifest { app: None, labels, patterns: BTreeMap::new() }
}

fn default_label() -> Option<LabelName> {
    DEFAULT_LABEL.parse().ok()
}

fn without(node: &Node, keys: &[&str]) -> Node {
    let kind = match &node.kind {
        Kind::Map(entries) => Kind::Map(entries.iter().filter(|e| !keys.contains(&e.key.as_str())).cloned().collect()),
        other => other.clone(),
    };
    Node { kind, ..node.clone() }
}

/// The typed value of a checked tree. The schema is made from the type, so this fails only when the two disagree.
fn typed<T: serde::de::DeserializeOwned>(checker: &mut Checker<'_>, node: &Node) -> Option<T> {
    match serde_json::from_value(node.to_json()) {
        Ok(typed) => Some(typed),
        Err(error) => {
            checker.report(node.mark, "", format!("cannot be used: {error}"), None);
            None
        }
    }
}
