//! Deploys, releases, plans and their application.

mod intake;

/// Wakes those who follow deploys.
#[derive(Debug, Default)]
pub struct Events {}
