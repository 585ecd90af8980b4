//! `magrathea.yml`: parse, validate, and resolve a label into a complete configuration.
//!
//! Top-level sections are the app's defaults; `labels` holds named variants that override them key by key and say on
//! which clusters they live. Maps merge, lists and scalars replace, `null` resets to the platform's default. `x-` keys
//! at the top level are ignored.
//!
//! `parse` reads a file: `crate::yaml` → `crate::schema::check` → `merge` → `semantics`.

mod clusters;
mod cron;
mod merge;
mod parse;
mod patterns;
mod processes;
mod replicas;
mod resolve;
mod schema;
mod sections;
mod semantics;
#[cfg(test)]
mod tests;

pub(crate) use cron::check_schedule;
pub use parse::{default_manifest, parse_manifest};
pub use processes::*;
pub use replicas::*;
pub use resolve::{LabelError, MAIN_BRANCHES};
pub use schema::manifest_json_schema;
pub use sections::*;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{AppName, ClusterName, LabelName};
use crate::previews::LabelPattern;
use crate::units::Span;

/// The file name looked for in an app's folder.
pub const FILE_NAME: &str = "magrathea.yml";

/// The label of an app whose manifest names none.
pub const DEFAULT_LABEL: &str = "default";

/// A parsed and validated manifest. Every label in it resolves.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The app's name, when the file gives one.
    pub app: Option<AppName>,
    /// The labels, each complete; a file without labels has the one named [`DEFAULT_LABEL`].
    pub labels: BTreeMap<LabelName, Resolved>,
    /// The labels that stand for many, as in `preview/*`.
    pub patterns: BTreeMap<LabelPattern, Pattern>,
}

/// A label that stands for one per branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    pub name: LabelPattern,
    /// The branches that it follows, as in `feature/*`.
    pub branches: String,
    /// How long each lives after its last deploy.
    pub expire: Span,
    pub(crate) clusters: Vec<ClusterName>,
    pub(crate) sections: Sections,
    pub(crate) origins: BTreeMap<String, Origin>,
}

/// That an instance is one of many, and does not stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    pub pattern: LabelPattern,
    /// The branch that the label's name is made from; what the label follows may be spelled another way.
    pub branch: String,
    pub expire: Span,
}

/// One label's complete configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    pub label: LabelName,
    /// The clusters that it lives on, an instance on each; the gateway's only cluster when empty.
    #[serde(default, alias = "cluster", deserialize_with = "clusters::one_or_several")]
    pub clusters: Vec<ClusterName>,
    /// The git branch that is deployed to it.
    pub branch: Option<String>,
    /// What the file says about protection.
    #[serde(default)]
    pub protected: Option<bool>,
    /// Set when a pattern stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
    pub sections: Sections,
    /// Where each value that the file sets comes from, by dotted path, as in `app_layer.replicas`.
    pub origins: BTreeMap<String, Origin>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Origin {
    pub file: String,
    pub line: usize,
    /// Whether the label's own block set it, rather than the file's defaults.
    pub from_label: bool,
}
