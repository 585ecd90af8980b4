//! The agent's actions against the node's real engine: services, routes, builds, jobs. They need root, an engine that is
//! a swarm manager (or in no swarm) and the layer images; without an engine or images they say so and pass.

mod build;
mod jobs;
mod release;
mod support;
