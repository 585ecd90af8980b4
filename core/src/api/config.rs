//! Configuration values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::deploys::DeployInfo;

/// A secret's name and age; values are never told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigEntry {
    pub key: String,
    /// None: for all labels.
    pub label: Option<String>,
    #[schema(value_type = String)]
    pub updated: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetConfig {
    pub value: String,
    #[serde(default)]
    pub label: Option<String>,
}

/// Values to change, all or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeConfig {
    /// By key; null forgets the value.
    pub values: BTreeMap<String, Option<String>>,
    /// None: for all labels.
    #[serde(default)]
    pub label: Option<String>,
    /// Whether what serves is deployed with them at once; the next deploy delivers them otherwise.
    #[serde(default)]
    pub deploy: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigChanged {
    /// The deploys that began.
    pub deploys: Vec<DeployInfo>,
    /// Keys that nothing that serves names under `secrets` in its magrathea.yml.
    pub unused: Vec<String>,
}

/// A change of a value: who and when, never what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigChange {
    /// Rises with every change of the app's values.
    pub version: i64,
    pub key: String,
    /// None: for all labels.
    pub label: Option<String>,
    /// `set` or `unset`.
    pub action: String,
    pub person: String,
    #[schema(value_type = String)]
    pub at: jiff::Timestamp,
}
