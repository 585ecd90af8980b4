//! `magrathea.yml`: parse, validate, and resolve a label into a complete configuration.
//!
//! Top-level sections are the app's defaults; `labels` holds named variants that override them key by key and say on
//! which cluster they live. Maps merge, lists and scalars replace. `x-` keys are ignored everywhere at the top level.

mod sections;

pub use sections::*;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::diagnostics::Diagnostics;
use crate::names::{AppName, ClusterName, LabelName};

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
}

/// One label's complete configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    pub label: LabelName,
    /// The cluster it lives on; the gateway's only cluster when absent.
    pub cluster: Option<ClusterName>,
    /// The git branch that is deployed to it.
    pub branch: Option<String>,
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

/// Parses and validates the text of a manifest. On success the second value holds warnings only.
pub fn parse_manifest(_file: &str, _text: &str) -> Result<(Manifest, Diagnostics), Diagnostics> {
    todo!()
}

/// The manifest of a folder that has none: one label, all defaults.
pub fn default_manifest() -> Manifest {
    todo!()
}

/// The JSON Schema of `magrathea.yml`, for editors and for [`parse_manifest`] itself.
pub fn manifest_json_schema() -> serde_json::Value {
    todo!()
}
