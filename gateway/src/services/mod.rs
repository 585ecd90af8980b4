//! What is done in one transaction, with its line on the timeline. Handlers and commands call these; nothing here knows
//! HTTP beyond the error that the edge shows.

pub mod access;
pub mod apps;
pub mod billing;
pub mod certificates;
pub mod config;
pub mod configurations;
pub mod drains;
pub mod grants;
pub mod keys;
pub mod lists;
pub mod login;
pub mod members;
pub mod nodes;
pub mod organisations;
pub mod people;
pub mod previews;
pub mod quotas;
pub mod releases;
pub mod teams;
pub mod tokens;
pub mod usage;
