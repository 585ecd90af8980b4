//! Choosing a label, and listing what it says.

use serde_json::Value;

use super::{DEFAULT_LABEL, Manifest, Origin, Resolved};
use crate::names::LabelName;
use crate::remote::is_protected_by_default;
use crate::schema::check::join;
use crate::schema::nearest::nearest;

/// Why no label could be chosen. Displays as a sentence that says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("there is no label `{label}`; {}", known_labels(.known, .near.as_deref()))]
    Unknown { label: String, known: Vec<String>, near: Option<String> },
    #[error("several labels could be meant; name one of {}", list(.0))]
    Ambiguous(Vec<String>),
    #[error("several labels follow the branch `{branch}`; name one of {}", list(.labels))]
    SameBranch { branch: String, labels: Vec<String> },
}

fn list(labels: &[String]) -> String {
    labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}

fn known_labels(labels: &[String], near: Option<&str>) -> String {
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the file has {}", list(labels)),
    }
}

impl Manifest {
    /// The label that is meant: the one named, else the one that follows `branch`, else the only one, else the default's.
    pub fn label_for(&self, label: Option<&str>, branch: Option<&str>) -> Result<Resolved, LabelError> {
        let all = || {
            let labels = self.labels.keys().map(ToString::to_string);
            labels.chain(self.patterns.keys().map(ToString::to_string)).collect::<Vec<_>>()
        };
        if let Some(label) = label {
            return self.named(label, branch).ok_or_else(|| {
                let near = nearest(label, self.labels.keys().map(LabelName::as_str)).map(str::to_owned);
                LabelError::Unknown { label: label.to_owned(), known: all(), near }
            });
        }
        let following = branch.map(|branch| self.following(branch)).unwrap_or_default();
        let mut labels = self.labels.values();
        match (following.as_slice(), labels.next(), labels.next()) {
            ([one], ..) => Ok(one.clone()),
            ([], Some(only), None) => Ok(only.clone()),
            ([], ..) => self
                .labels
                .values()
                .find(|resolved| resolved.label.as_str() == DEFAULT_LABEL)
                .cloned()
                .ok_or_else(|| LabelError::Ambiguous(all())),
            (several, ..) => Err(LabelError::SameBranch {
                branch: branch.unwrap_or_default().into(),
                labels: several.iter().map(|r| r.label.to_string()).collect(),
            }),
        }
    }

    /// The labels that name a branch; when there is none, the previews that follow it.
    fn following(&self, branch: &str) -> Vec<Resolved> {
        let own: Vec<_> = self.labels.values().filter(|r| r.branch.as_deref() == Some(branch)).cloned().collect();
        if own.is_empty() { self.previews_of(branch) } else { own }
    }
}

/// The branches that a file's only label follows when it names none.
pub const MAIN_BRANCHES: [&str; 2] = ["main", "master"];

impl Manifest {
    /// The labels that a push of `branch` deploys: those that name it, else the previews that follow it; the only label
    /// follows [`MAIN_BRANCHES`] when it names no branch. Other branches belong to nobody.
    pub fn labels_of_branch(&self, branch: &str) -> Vec<LabelName> {
        let mut labels = self.labels.values();
        if let (Some(only), None) = (labels.next(), labels.next())
            && only.branch.is_none()
            && MAIN_BRANCHES.contains(&branch)
        {
            return vec![only.label.clone()];
        }
        self.following(branch).into_iter().map(|resolved| resolved.label).collect()
    }
}

impl Resolved {
    /// Whether what destroys asks for the label's name.
    pub fn is_protected(&self) -> bool {
        self.protected.unwrap_or_else(|| is_protected_by_default(&self.label))
    }

    /// Every leaf of the configuration by its dotted path, as text, with its place in the file; defaults of the
    /// platform have none. A value that is not set is shown as `-`; a list of single values is one leaf.
    pub fn values(&self) -> Vec<(String, String, Option<Origin>)> {
        let mut leaves = Vec::new();
        flatten(&serde_json::to_value(&self.sections).unwrap_or_default(), String::new(), &mut leaves);
        let with_origin = |(path, value): (String, String)| {
            let origin = self.origins.get(&path).cloned();
            (path, value, origin)
        };
        leaves.into_iter().map(with_origin).collect()
    }
}

fn flatten(value: &Value, path: String, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, inner)| flatten(inner, join(&path, key), leaves));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(n, item)| flatten(item, format!("{path}[{n}]"), leaves));
        }
        Value::Null => leaves.push((path, "-".into())),
        Value::String(text) => leaves.push((path, text.clone())),
        other => leaves.push((path, other.to_string())),
    }
}
