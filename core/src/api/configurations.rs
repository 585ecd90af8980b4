//! The configuration history: what the layers were told, each time that changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was laid for an instance at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Configuration {
    /// The commit in the cluster's history; its beginning is enough where it is asked for.
    pub id: String,
    pub label: String,
    pub cluster: String,
    #[schema(value_type = String)]
    pub at: jiff::Timestamp,
    pub person: String,
    pub message: String,
}

/// A configuration with its rendered texts by name, as in `proxy/cache`. Secrets are placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationTexts {
    #[serde(flatten)]
    pub configuration: Configuration,
    pub texts: BTreeMap<String, String>,
}
