//! `stop` and `clean`: work without a gateway.

use crate::config::EngineOptions;
use crate::engine::Engine;
use crate::folders::Folders;
use crate::{build, firewall, storage};

/// Present when the agent's own Join made the swarm.
pub const SWARM_MARKER: &str = "swarm-created.json";

/// Stops this installation's services; data stays.
pub async fn run_stop(options: &EngineOptions) -> anyhow::Result<()> {
    let engine = Engine::connect(&options.docker, options.prefix.clone()).await?;
    if engine.swarm_state().await? == "manager" {
        engine.remove_all_services().await?;
    }
    Ok(())
}

/// Removes everything that this installation made, in the engine and on the node.
pub async fn run_clean(options: &EngineOptions) -> anyhow::Result<()> {
    let folders = Folders::new(&options.data);
    let engine = Engine::connect(&options.docker, options.prefix.clone()).await?;
    engine.remove_everything().await?;
    if folders.state(SWARM_MARKER).exists() {
        // Others may have moved in meanwhile; their services are worth more than a tidy engine.
        if engine.swarm_is_empty().await? {
            engine.leave_swarm().await?;
        } else {
            tracing::warn!("the swarm stays: services of others run in it");
        }
    } else if engine.swarm_state().await? == "manager" {
        engine.label_node(&[]).await?;
    }
    firewall::remove(&engine, &folders).await?;
    build::release_disks(&folders).await?;
    storage::destroy_all(&folders).await?;
    match std::fs::remove_dir_all(folders.root()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
