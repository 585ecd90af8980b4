//! What gateway and agent say to each other.
//!
//! The agent dials `GET /agent/v1/connect` on the gateway's agent listener (mutual TLS) and upgrades to a websocket.
//! It sends [`AgentFrame::Hello`], the gateway answers [`GatewayFrame::Welcome`] or closes with a reason. From then on
//! the gateway sends calls and the agent answers each with any number of progress frames and one result. A frame is
//! one JSON text message of at most [`MAX_FRAME`] bytes. Bulk data does not travel here: the agent fetches blobs with
//! `GET /agent/v1/blobs/SHA256` on the same listener, and renews its certificate with `POST /agent/v1/certificate`: a
//! signing request goes in, the certificate comes back, both in PEM. Shells, logs and the like are [`stream`]s. After a
//! lost connection the gateway repeats calls that had no result; every action but the opening of a stream may be
//! repeated.

mod action;
pub mod stream;

pub use action::*;
pub use stream::{
    ConnectSpec, ExecSpec, FilesSpec, Frame, OpenStream, Opened, RunSpec, SendImage, Signal, Size, StreamSpec,
    TakeImage, Tty,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{ClusterName, NodeName};
use crate::units::ByteSize;
use crate::usage::Batch;

/// Rises with each change that an older peer cannot understand.
pub const PROTOCOL: u32 = 7;

/// The largest frame that either side accepts, in bytes.
pub const MAX_FRAME: usize = 8 << 20;

/// Gateway to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum GatewayFrame {
    Welcome {
        protocol: u32,
        version: String,
        /// What time it is: usage belongs to hours of the gateway's clock.
        now: Timestamp,
    },
    Call {
        id: u64,
        action: Box<Action>,
    },
    /// The gateway no longer wants the call's result; the agent stops it and cleans up.
    Cancel {
        id: u64,
    },
    /// Every observation up to this number is stored.
    Acknowledge {
        sequence: u64,
        now: Timestamp,
    },
}

/// Agent to gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum AgentFrame {
    Hello {
        protocol: u32,
        version: String,
        cluster: ClusterName,
        node: NodeName,
        report: NodeReport,
    },
    Progress {
        id: u64,
        progress: Progress,
    },
    Result {
        id: u64,
        result: Result<serde_json::Value, ActionError>,
    },
    /// What the report says of the node's trouble has changed. Not an observation: the disk that keeps those may be the trouble.
    Trouble {
        trouble: Option<String>,
    },
    /// Something seen on the node that must not be lost; kept on the agent's disk until acknowledged.
    Observation {
        sequence: u64,
        observation: Observation,
    },
}

/// What happened while an action runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub enum Progress {
    /// A line of a build's, hook's or app's output.
    Log {
        line: String,
        /// Counts the lines of an action that tells them anew when it is repeated, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
    },
    /// Something the person who deploys should know.
    Warning { message: String },
}

/// Something seen on the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "observation", rename_all = "snake_case")]
pub enum Observation {
    /// A replica of an instance ended without having been asked to.
    ReplicaDied { slug: String, service: String, exit_code: Option<i64>, at: Timestamp },
    /// A database reached its quota and was closed for writing, or has room and is open again.
    DatabaseFull { slug: String, full: bool, bytes: u64, quota: ByteSize, at: Timestamp },
    /// What instances used.
    Usage(Box<Batch>),
}

/// Why an action did not succeed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ActionError {
    pub kind: ActionErrorKind,
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// The end of the log that tells more.
    pub log_tail: Vec<String>,
}

/// Kinds of failure that the gateway treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionErrorKind {
    /// A command of the app's failed: its own fault.
    CommandFailed,
    /// A time limit was reached.
    TimedOut,
    /// The build's disk limit was reached.
    DiskFull,
    /// The memory limit was reached.
    OutOfMemory,
    /// Replicas did not become healthy.
    Unhealthy,
    /// A generated text was refused by the real program.
    Refused,
    /// The gateway cancelled the call.
    Cancelled,
    /// The node is not as it must be (engine gone, disk full, port in use).
    Node,
    /// A defect of the agent's.
    Internal,
}
