//! The HTTP API. Handlers are thin: they take typed input apart, call a service or a query, and answer.

mod access;
mod apps;
mod auth;
mod billing;
mod certificates;
mod clusters;
mod config;
mod configurations;
mod deploys;
mod drains;
mod enrol;
pub mod error;
mod extract;
mod git;
mod leftover;
mod logs;
mod people;
mod quotas;
mod releases;
mod remote;
mod respond;
mod routes;
mod throttle;
pub mod token;
mod usage;

#[cfg(test)]
mod tests;

pub use routes::{openapi, router};
