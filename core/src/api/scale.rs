//! How many replicas each process type of an instance has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::names::ProcessName;

/// Wanted replicas by process type; none: as the manifest says.
pub type Counts = BTreeMap<ProcessName, Option<u16>>;

/// Body of `POST /v1/apps/{app}/instances/{label}/scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Wanted replicas by process type; `null` goes back to what the manifest says.
    #[schema(value_type = BTreeMap<String, Option<u16>>)]
    pub counts: Counts,
    /// Seconds to wait for another deploy of the instance to end; refused at once when absent.
    #[serde(default)]
    pub wait: Option<u32>,
}

/// A process type of what serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessInfo {
    #[schema(value_type = String)]
    pub process: ProcessName,
    /// How many replicas it is to have.
    pub wanted: u16,
    /// How many run; unknown when no node answers.
    pub running: Option<u16>,
    /// What the manifest says.
    pub manifest: u16,
    /// What somebody has set beside it.
    pub scaled: Option<u16>,
    /// Bytes that one replica may use.
    pub memory: Option<u64>,
    /// Thousandths of a CPU that one replica may use.
    pub millicpus: Option<u32>,
    /// Processes and threads that one replica may have.
    pub processes: Option<u32>,
}
