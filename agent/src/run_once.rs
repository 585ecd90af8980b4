//! One-off commands of a release: jobs of the swarm, because only those reach an instance's network. A job bears the
//! run's name, so that a gateway or an agent that starts again finds it and never starts it twice.

use std::time::Duration;

use magrathea_core::plan::ServiceSpec;
use magrathea_core::wire::{ActionErrorKind, RanOnce, RunOnce};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::build::Lines;
use crate::engine::{Ended, Engine, Job};
use crate::fail::{Outcome, cancelled, fail, node};
use crate::folders::Folders;
use crate::reporter::Reporter;

const POLL: Duration = Duration::from_millis(20);

/// A job that came to its end while nobody waited for it is taken over in this time.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Runs the command to its end. Its time began with its job, whoever waited for it since. Cancelled, it is ended; dropped, it goes on and is found again.
pub async fn run_once(
    engine: &Engine,
    folders: &Folders,
    wanted: &RunOnce,
    reporter: &Reporter,
    cancel: &CancellationToken,
) -> Outcome<RanOnce> {
    let spec = ServiceSpec { command: Vec::new(), ..(*wanted.service).clone() };
    let mut lines = Lines::default();
    let age = engine.ensure_job(&spec, (&wanted.name, &wanted.command), &wanted.secrets, folders).await?;
    let left = wanted.timeout.0.saturating_sub(age).max(TAKE_OVER.min(wanted.timeout.0));
    let job = follow(engine, wanted, reporter, &mut lines);
    let outcome = tokio::select! {
        () = cancel.cancelled() => Err(cancelled()),
        outcome = tokio::time::timeout(left, job) => outcome.unwrap_or_else(|_| {
            Err(fail(ActionErrorKind::TimedOut, format!("it took longer than {} s", wanted.timeout.0.as_secs())))
        }),
    };
    engine.remove_service(&engine.prefix().name(&wanted.name)).await?;
    outcome.map_err(|mut error| {
        error.log_tail = lines.tail();
        error
    })
}

async fn follow(engine: &Engine, wanted: &RunOnce, reporter: &Reporter, lines: &mut Lines) -> Outcome<RanOnce> {
    // The engine needs a moment to make the task.
    let no_task = Instant::now() + Duration::from_secs(10);
    loop {
        let container = match engine.job(&wanted.name).await? {
            None if Instant::now() > no_task => return Err(node("the engine made no task of it")),
            None => None,
            Some(Job::Going(container)) => container,
            Some(Job::Ended { exit_code, container, error }) => {
                if let Some(container) = &container {
                    tell(engine, container, reporter, lines).await?;
                }
                return match error {
                    Some(error) => Err(node(format!("the command could not run: {error}"))),
                    None => Ok(RanOnce { exit_code }),
                };
            }
        };
        // Of a container that is made but not started yet there is nothing to follow.
        if let Some(container) = container
            && tell(engine, &container, reporter, lines).await.is_ok()
        {
            return match engine.settled(&container).await? {
                Ended::Exited { out_of_memory: true, .. } => {
                    Err(fail(ActionErrorKind::OutOfMemory, "the command needed more memory than the app has"))
                }
                Ended::Exited { code, .. } => Ok(RanOnce { exit_code: code }),
                Ended::TimedOut => Err(node("the command's end is not known")),
            };
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Tells what a container says, from its beginning to its end. Lines bear numbers, because they are told again when this
/// is.
async fn tell(engine: &Engine, container: &str, reporter: &Reporter, lines: &mut Lines) -> Outcome<()> {
    *lines = Lines::default();
    let mut number = 0;
    let mut numbered = |line| {
        number += 1;
        reporter.numbered(number, line);
    };
    engine.follow_log(container, |bytes| lines.push(bytes, &mut numbered)).await?;
    lines.finish(numbered);
    Ok(())
}
