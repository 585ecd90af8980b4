//! A program in a one-off container at a stream's end. The container is a job of the swarm, because only those reach an
//! instance's network; it does nothing itself, so that the program in it has what a shell's has: a terminal, an end of
//! its input, signals and a status.

use std::time::Duration;

use magrathea_core::wire::stream::lost;
use magrathea_core::wire::{ActionErrorKind, RunSpec};
use tokio::time::{Instant, timeout};

use super::StreamIo;
use super::exec::run_in;
use crate::engine::{Engine, Job, Program};
use crate::fail::{Outcome, fail, node};
use crate::node::NodeAgent;

const POLL: Duration = Duration::from_millis(30);
const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs the program to its end, the stream's or its time's. Its container is gone when this returns.
pub async fn run(agent: &NodeAgent, spec: &RunSpec, io: StreamIo) -> Outcome<i32> {
    let engine = &agent.engine;
    let name = &spec.service.name;
    let work = async {
        engine.ensure_held(&spec.service, spec.timeout.0, &spec.secrets, &agent.folders).await?;
        let container = tokio::select! {
            () = io.ended.cancelled() => return Err(lost("the gateway")),
            container = started(engine, name) => container?,
        };
        let program = Program { command: &spec.command, tty: spec.tty.as_ref(), env: &spec.env };
        run_in(agent, &container, &program, io).await
    };
    let limit = spec.timeout.0;
    let outcome = timeout(limit, work).await.unwrap_or_else(|_| {
        Err(fail(ActionErrorKind::TimedOut, format!("it took longer than {} s and was ended", limit.as_secs())))
    });
    engine.remove_service(&engine.prefix().name(name)).await?;
    outcome
}

/// Waits for a job's container.
async fn started(engine: &Engine, name: &str) -> Outcome<String> {
    let give_up = Instant::now() + START_LIMIT;
    loop {
        if let Some(running) = engine.running(name).await?.into_iter().next() {
            return Ok(running.container);
        }
        if let Some(Job::Ended { error, .. }) = engine.job(name).await? {
            return Err(node(format!("the container did not start: {}", error.unwrap_or_default())));
        }
        if Instant::now() > give_up {
            return Err(node(format!("the container did not start within {} s", START_LIMIT.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
}
