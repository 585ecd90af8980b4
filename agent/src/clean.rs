//! `stop` and `clean`: work without a gateway.

use crate::config::EngineOptions;
use crate::engine::{Engine, GATEWAY_BRIDGE};
use crate::folders::{self, Folders};
use crate::{build, crossing, firewall, storage};

/// Present when the agent's own Join made the swarm or entered it; says whether the engine made its bridge for it, too.
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
    crossing::close_all(&folders).await?;
    // Where another node manages, Swarm would bring back what is removed here; out of the swarm, it brings it elsewhere.
    if engine.swarm_state().await? == "worker" && folders::load::<bool>(&folders.state(SWARM_MARKER))?.is_some() {
        engine.leave_swarm().await?;
    }
    engine.remove_everything().await?;
    leave_swarm(&engine, &folders).await?;
    firewall::remove(&engine, &folders).await?;
    build::release_disks(&folders).await?;
    storage::destroy_all(&folders).await?;
    match std::fs::remove_dir_all(folders.root()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Takes the node's labels away, or the whole swarm where it was made here. A person may have left it meanwhile.
async fn leave_swarm(engine: &Engine, folders: &Folders) -> anyhow::Result<()> {
    let manager = engine.swarm_state().await? == "manager";
    let Some(bridge_too) = folders::load::<bool>(&folders.state(SWARM_MARKER))? else {
        return if manager { Ok(engine.label_node(&[], None).await?) } else { Ok(()) };
    };
    if manager {
        // Others may have moved in meanwhile; their services are worth more than a tidy engine.
        if !engine.swarm_is_empty().await? {
            tracing::warn!("the swarm stays: services of others run in it");
            return Ok(());
        }
        engine.leave_swarm().await?;
    }
    if bridge_too && let Err(error) = engine.remove_network(GATEWAY_BRIDGE).await {
        tracing::warn!(%error, "the engine's bridge stays");
    }
    Ok(())
}
