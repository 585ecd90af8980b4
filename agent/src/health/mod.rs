//! Waiting until every replica of a service answers as its health check wants, and watching that it goes on so.

mod command;
mod probe;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use magrathea_core::wire::{ActionError, ActionErrorKind, AwaitHealthy, Healthy, Replica};
use tokio::time::Instant;

pub use self::probe::{Answer, Prober};
pub use self::watch::watch;
use crate::engine::{Engine, Happening, Running};
use crate::fail::{Outcome, fail};
use crate::node::NodeAgent;

/// Between two looks at replicas that do not answer yet.
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// A replica that ended this often will not come up by waiting.
const MOST_FAILURES: usize = 3;
/// How often the engine is asked when it tells nothing by itself.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
const TAIL: u32 = 30;

/// How each service that was waited for is asked, for its replicas that start later.
#[derive(Debug, Default)]
pub struct Checks(Mutex<BTreeMap<String, AwaitHealthy>>);

impl Checks {
    pub fn get(&self, service: &str) -> Option<AwaitHealthy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }

    pub fn forget(&self, service: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }

    fn note(&self, wanted: &AwaitHealthy) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(wanted.service.clone(), wanted.clone());
    }
}

/// What was seen of a replica.
struct Seen {
    since: Instant,
    /// When it is asked again.
    due: Instant,
    healthy: bool,
    wrong: u16,
}

/// Waits. The error tells the last answer, and the end of the replica's log.
pub async fn await_healthy(agent: &Arc<NodeAgent>, wanted: &AwaitHealthy) -> Outcome<Healthy> {
    let engine = &agent.engine;
    agent.checks.note(wanted);
    let prober = Prober::new(agent, wanted)?;
    let count = usize::from(wanted.replicas);
    let give_up = Instant::now() + wanted.timeout.0;
    let mut happenings = agent.events.subscribe();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut running = Vec::new();
    let mut last = None;
    let mut next_look = Instant::now();
    loop {
        while let Ok(event) = happenings.try_recv() {
            if event.service == wanted.service && event.happening != Happening::Told {
                next_look = Instant::now();
            }
        }
        if Instant::now() >= next_look {
            running = look(engine, wanted, &mut seen).await?;
            next_look = Instant::now() + LOOK_PAUSE;
            if let Some(error) = hopeless(engine, wanted).await? {
                return Err(error);
            }
        }
        let now = Instant::now();
        let due: Vec<&Running> =
            running.iter().filter(|r| seen.get(&r.container).is_some_and(|s| s.is_due(now))).collect();
        if due.iter().any(|replica| replica.address.is_none()) {
            // An address may come a moment after the start.
            next_look = now;
        }
        let answers = due.into_iter().filter_map(|replica| {
            let ran = seen.get(&replica.container)?.since.elapsed();
            let answer = prober.ask(replica, ran);
            Some(async move { (replica.container.clone(), answer.await) })
        });
        // Whoever is in the middle of an answer at the end has not given one.
        let answers = tokio::time::timeout_at(give_up, join_all(answers)).await.unwrap_or_default();
        for (container, answer) in answers {
            let Some(replica) = seen.get_mut(&container) else { continue };
            let (pause, said) = replica.take(answer, wanted.interval.0);
            replica.due = Instant::now() + pause;
            last = said.or(last);
            if wanted.attempts.is_some_and(|most| replica.wrong >= most) {
                let reason = format!("a replica gave {} wrong answers: {}", replica.wrong, last.unwrap_or_default());
                return Err(unhealthy(engine, wanted, reason).await);
            }
        }
        if seen.values().filter(|replica| replica.healthy).count() >= count {
            // Healthy is what answered and still runs.
            running = look(engine, wanted, &mut seen).await?;
            let healthy: Vec<Replica> = running.iter().filter(|r| is_healthy(&seen, r)).map(replica_of).collect();
            if healthy.len() >= count {
                return Ok(Healthy { replicas: healthy });
            }
        }
        if Instant::now() >= give_up {
            let nothing = if running.is_empty() { "no replica has started" } else { "no answer came" };
            let seen = last.unwrap_or_else(|| nothing.into());
            let seconds = wanted.timeout.0.as_secs();
            return Err(unhealthy(engine, wanted, format!("not healthy after {seconds} s: {seen}")).await);
        }
        let next = seen.values().filter(|replica| !replica.healthy).map(|replica| replica.due).min();
        let wake = next.unwrap_or(next_look).min(next_look).min(give_up).max(Instant::now() + Duration::from_millis(1));
        tokio::select! {
            () = tokio::time::sleep_until(wake) => {}
            event = happenings.recv() => {
                if event.is_ok_and(|event| event.service == wanted.service) {
                    next_look = Instant::now();
                }
            }
        }
    }
}

impl Seen {
    fn is_due(&self, now: Instant) -> bool {
        !self.healthy && self.due <= now
    }

    /// Takes an answer in; tells when to ask again, and what it said when it was not the wanted one.
    fn take(&mut self, answer: Answer, interval: Duration) -> (Duration, Option<String>) {
        match answer {
            Answer::Well => {
                self.healthy = true;
                (Duration::ZERO, None)
            }
            Answer::None(said) => (PROBE_PAUSE, Some(said)),
            Answer::Wrong(said) => {
                self.wrong += 1;
                (interval.max(PROBE_PAUSE), Some(said))
            }
        }
    }
}

/// Asks the engine what runs, and forgets what was seen of others.
async fn look(engine: &Engine, wanted: &AwaitHealthy, seen: &mut BTreeMap<String, Seen>) -> Outcome<Vec<Running>> {
    let running = engine.staying(&wanted.service).await?;
    seen.retain(|container, _| running.iter().any(|replica| replica.container == *container));
    let now = Instant::now();
    for replica in &running {
        let fresh = Seen { since: now, due: now, healthy: false, wrong: 0 };
        seen.entry(replica.container.clone()).or_insert(fresh);
    }
    Ok(running)
}

fn is_healthy(seen: &BTreeMap<String, Seen>, replica: &Running) -> bool {
    seen.get(&replica.container).is_some_and(|seen| seen.healthy)
}

fn replica_of(running: &Running) -> Replica {
    Replica {
        container: running.container.clone(),
        address: running.address.map(|address| address.to_string()).unwrap_or_default(),
        state: "up".into(),
    }
}

/// Why waiting longer is of no use.
async fn hopeless(engine: &Engine, wanted: &AwaitHealthy) -> Outcome<Option<ActionError>> {
    let failed = engine.failed_tasks(&wanted.service).await?;
    let Some(newest) = failed.first() else { return Ok(None) };
    let mut per_slot: BTreeMap<i64, usize> = BTreeMap::new();
    for task in &failed {
        *per_slot.entry(task.slot).or_default() += 1;
    }
    let most = per_slot.values().max().copied().unwrap_or_default();
    let rejected = failed.iter().all(|task| task.rejected) && failed.len() >= usize::from(wanted.replicas.max(1));
    if rejected {
        // Nothing of it ran, so there is no log to show.
        let reason = format!("the engine cannot start a replica: {}", newest.error);
        let mut error = fail(ActionErrorKind::Unhealthy, reason);
        if newest.error.contains("No such image") {
            error.hint = Some("the image was removed from the node; `td app deploy` builds one again".into());
        }
        return Ok(Some(error));
    }
    if most < MOST_FAILURES {
        return Ok(None);
    }
    Ok(Some(unhealthy(engine, wanted, format!("a replica ended {most} times: {}", newest.error)).await))
}

async fn unhealthy(engine: &Engine, wanted: &AwaitHealthy, reason: String) -> ActionError {
    let mut error = fail(ActionErrorKind::Unhealthy, reason);
    // The newest may have been made a moment ago and have said nothing yet.
    for container in engine.recent_containers(&wanted.service).await.unwrap_or_default() {
        error.log_tail = engine.log_tail(&container, TAIL).await;
        if !error.log_tail.is_empty() {
            return error;
        }
    }
    // On another node, perhaps.
    error.log_tail = engine.service_tail(&wanted.service, TAIL).await;
    error
}
