//! The agent's actions against the node's real engine: services, routes, builds, jobs. They need root, an engine that is
//! a swarm manager (or in no swarm) and the layer images; without an engine or images they say so and pass.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::panic)]

mod build;
mod images;
mod jobs;
mod layers;
mod quota;
mod release;
mod support;
