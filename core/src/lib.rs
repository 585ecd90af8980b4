//! The pure heart of Magrathea: names, the manifest, clusters, plans, the wire and the API types.
//!
//! Nothing here does I/O, reads a clock, or draws randomness: ids and times are arguments, every map is ordered,
//! and the same input gives the same output. All other crates depend on this one; it depends on none of them.

pub mod access;
pub mod api;
pub mod billing;
pub mod capacity;
pub mod clusters;
pub mod diagnostics;
pub mod dotenv;
pub mod logs;
pub mod manifest;
pub mod names;
pub mod people;
pub mod plan;
pub mod previews;
pub mod remote;
pub mod scaling;
pub mod schema;
pub mod units;
pub mod usage;
pub mod wire;
mod yaml;
