//! The configuration history: what the layers were told, each time that changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TextDifference;
use crate::names::Layer;

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

/// Puts one layer back to how it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreLayer {
    /// `proxy` or `routing`; the others come back with their release alone.
    pub layer: Layer,
}

/// What putting a layer back came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RestoredLayer {
    pub layer: Layer,
    /// The configuration that it is from.
    pub from: String,
    /// Of the instance's plan; as before when nothing differed.
    pub generation: u64,
    /// How the texts changed.
    pub differences: Vec<TextDifference>,
}

/// A configuration with its rendered texts by name, as in `proxy/cache`. Secrets are placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationTexts {
    #[serde(flatten)]
    pub configuration: Configuration,
    pub texts: BTreeMap<String, String>,
}
