//! `run`: serves the gateway until a signal comes.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::EngineOptions;
use crate::link;
use crate::node::NodeAgent;

/// Runs until SIGTERM or SIGINT. A gateway that is away is tried for ever; what is served does not depend on it.
pub async fn run_agent(options: &EngineOptions) -> anyhow::Result<()> {
    let agent = NodeAgent::start(options).await?;
    let identity = link::Identity::load(&agent.folders)?.context("this node is not enrolled: magrathea-agent enrol")?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(cluster = %identity.cluster, node = %identity.node, gateway = identity.connect, "the agent runs");
    let serve = link::serve_gateway(agent.clone(), identity, stop.clone());
    tokio::select! {
        outcome = serve => outcome?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    agent.end().await;
    tracing::info!("the agent ends");
    Ok(())
}
