//! How many replicas each process type of an instance has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::manifest::Replicas;
use crate::names::ProcessName;
use crate::scaling::Occurrence;

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
    /// What the manifest says; the fewest, where the number follows the load.
    pub manifest: u16,
    /// What somebody has set beside it.
    pub scaled: Option<u16>,
    /// Bytes that one replica may use.
    pub memory: Option<u64>,
    /// Thousandths of a CPU that one replica may use.
    pub millicpus: Option<u32>,
    /// Processes and threads that one replica may have.
    pub processes: Option<u32>,
    /// Where the manifest lets the number follow the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<AutomaticInfo>,
    /// How busy its replicas are; unknown when the routers do not tell, and of what visitors do not reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<BusyInfo>,
    /// What its load says about the number, after a day of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// A number of replicas that follows the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AutomaticInfo {
    /// The fewest, outside of windows.
    pub min: u16,
    pub max: u16,
    /// As in `70%`.
    pub target: String,
    /// Whether it leaves the number to somebody who has set one; `default` gives it back.
    pub rests: bool,
    /// The window that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowInfo>,
    /// The window that begins next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_window: Option<WindowInfo>,
}

/// A time in which there are more replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WindowInfo {
    #[schema(value_type = String)]
    pub from: jiff::Timestamp,
    #[schema(value_type = String)]
    pub until: jiff::Timestamp,
    /// The fewest replicas in it.
    pub min: u16,
}

/// How busy replicas are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BusyInfo {
    /// Requests in them, in the mean of the last ten seconds; those that wait for others among them.
    pub requests: u32,
    /// How many the replicas that are wanted answer at once.
    pub at_once: u32,
}

impl AutomaticInfo {
    /// As it is at an instant; none where the number is fixed.
    pub fn new(replicas: &Replicas, is_set: bool, now: jiff::Timestamp) -> Option<Self> {
        let scaling = replicas.scaling()?;
        let info = |window: Occurrence| WindowInfo { from: window.from, until: window.until, min: window.min };
        Some(AutomaticInfo {
            min: scaling.min,
            max: scaling.max,
            target: scaling.target.to_string(),
            rests: is_set,
            window: scaling.bounds(now).window.map(info),
            next_window: scaling.next_window(now).map(info),
        })
    }
}
