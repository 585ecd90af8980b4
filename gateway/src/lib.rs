//! The gateway: it keeps all durable state, decides what every cluster should look like, and asks the agents to bring
//! it about. It never touches an engine itself.

pub mod actor;
pub mod api;
pub mod clusters;
pub mod commands;
pub mod config;
pub mod db;
mod disk;
pub mod doors;
pub mod drains;
pub mod engine;
mod files;
pub mod git;
pub mod hub;
mod listen;
mod lock;
pub mod logs;
pub mod pki;
pub mod postgres;
pub mod remote;
pub mod seal;
pub mod services;
pub mod ssh;
pub mod state;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
