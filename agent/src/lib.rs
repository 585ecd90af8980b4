//! The agent: acts beside its node's Docker Engine on the gateway's behalf. It carries no policy: every name, text and
//! image comes with the action; what it keeps on disk is only what a restarted node needs to serve without a gateway.

mod actions;
mod build;
mod cache;
pub mod clean;
pub mod config;
mod crossing;
mod database;
pub mod engine;
pub mod enrol;
mod fail;
mod firewall;
pub mod folders;
mod health;
mod images;
mod link;
pub mod logs;
pub mod node;
mod program;
mod reporter;
mod router;
pub mod run;
mod run_once;
mod serial;
pub mod spool;
mod storage;
pub mod streams;
pub mod usage;
mod watch;

pub use actions::{Call, perform};
pub use build::Blobs;
pub use node::NodeAgent;
pub use reporter::Reporter;
pub use usage::run_measure;
