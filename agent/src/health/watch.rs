//! Replicas that were healthy, for as long as the old release stands by.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use magrathea_core::wire::{ActionErrorKind, Watch, Watched};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{Answer, Prober, TAIL, unhealthy};
use crate::engine::{ContainerEvent, Happening};
use crate::fail::{Outcome, fail};
use crate::node::NodeAgent;

const PAUSE: Duration = Duration::from_secs(1);
/// A replica in use that did not answer this often is not just busy.
const MOST_MISSES: u32 = 3;

/// Watches: an error when one ends, or does not answer as wanted any more.
pub async fn watch(agent: &Arc<NodeAgent>, wanted: &Watch) -> Outcome<Watched> {
    let (engine, service) = (&agent.engine, &wanted.health.service);
    let prober = Prober::new(agent, &wanted.health)?;
    let begun = Instant::now();
    let until = begun + wanted.span.0;
    let mut happenings = agent.events.subscribe();
    let first = engine.replicas(service).await?;
    // All were healthy a moment ago.
    if first.len() < usize::from(wanted.health.replicas) {
        let reason = format!("only {} of {} replicas run", first.len(), wanted.health.replicas);
        return Err(unhealthy(engine, &wanted.health, reason).await);
    }
    let mut misses = 0;
    while Instant::now() < until {
        tokio::select! {
            () = tokio::time::sleep(PAUSE.max(wanted.health.interval.0).min(until - Instant::now())) => {}
            () = ended(&mut happenings, service) => {}
        }
        let now = engine.replicas(service).await?;
        let after = begun.elapsed().as_secs();
        let gone = first.iter().find(|replica| now.iter().all(|other| other.container != replica.container));
        if let Some(replica) = gone {
            let failed = engine.failed_tasks(service).await?;
            let how = failed.into_iter().next().map_or_else(|| "its process ended".to_owned(), |task| task.error);
            let reason = format!("a replica ended after {after} s in use: {how}");
            let mut error = fail(ActionErrorKind::Unhealthy, reason);
            error.log_tail = engine.log_tail(&replica.container, TAIL).await;
            return Err(error);
        }
        // They were healthy before: that one runs still is all that there is to say without a question.
        let answers = join_all(now.iter().map(|replica| prober.ask(replica, Duration::MAX))).await;
        let wrong = answers.into_iter().find_map(|answer| match answer {
            Answer::Well => None,
            Answer::None(said) | Answer::Wrong(said) => Some(said),
        });
        let Some(seen) = wrong else {
            misses = 0;
            continue;
        };
        misses += 1;
        if misses >= MOST_MISSES {
            let reason = format!("a replica stopped answering after {after} s in use: {seen}");
            return Err(unhealthy(engine, &wanted.health, reason).await);
        }
    }
    Ok(Watched {})
}

/// Returns when a container of the service has ended; or never.
async fn ended(happenings: &mut broadcast::Receiver<ContainerEvent>, service: &str) {
    loop {
        match happenings.recv().await {
            Ok(event) if event.service == service && matches!(event.happening, Happening::Died { .. }) => return,
            Ok(_) => {}
            Err(_) => std::future::pending().await,
        }
    }
}
