//! Deploys end to end on a real PostgreSQL, against an agent that keeps its world in memory.

mod canary;
mod capacity;
mod deploys;
mod drift;
mod nodes;
mod previews;
mod quotas;
mod scale;
mod scaling;
mod several;
pub(crate) mod world;
