//! Waiting until every replica of a service answers as its health check wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use magrathea_core::wire::{ActionError, ActionErrorKind, AwaitHealthy, Healthy, Replica, Watch, Watched};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::engine::{ContainerEvent, Engine, Happening, Running};
use crate::fail::{Outcome, fail};
use crate::watch::Events;

const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// What a probe waits for an answer; a slow first page is not a dead one.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// More than this of an answer is not looked at.
const MOST_BODY: usize = 64 << 10;
/// A replica that ended this often will not come up by waiting.
const MOST_FAILURES: usize = 3;
/// How often the engine is asked when it tells nothing by itself.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
const TAIL: u32 = 30;
const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// A replica in use that did not answer this often is not just busy.
const MOST_MISSES: u32 = 3;

/// Waits. The error tells the last answer, and the end of the replica's log.
pub async fn await_healthy(engine: &Engine, events: &Events, wanted: &AwaitHealthy) -> Outcome<Healthy> {
    let client = probe_client()?;
    let give_up = Instant::now() + wanted.timeout.0;
    let mut happenings = events.subscribe();
    // The last thing seen of each replica that is not healthy.
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut look = true;
    let mut running = Vec::new();
    let mut healthy: BTreeMap<String, SocketAddr> = BTreeMap::new();
    let mut next_look = Instant::now();
    loop {
        while let Ok(event) = happenings.try_recv() {
            look |= event.service == wanted.service && event.happening != Happening::Told;
        }
        if look || Instant::now() >= next_look {
            running = engine.running(&wanted.service).await?;
            healthy.retain(|container, _| running.iter().any(|r| r.container == *container));
            (look, next_look) = (false, Instant::now() + LOOK_PAUSE);
            if let Some(error) = hopeless(engine, wanted).await? {
                return Err(error);
            }
        }
        let pending: Vec<_> = running.iter().filter(|r| !healthy.contains_key(&r.container)).collect();
        // An address may come a moment after the start.
        look |= pending.iter().any(|replica| replica.address.is_none());
        let probes =
            pending.into_iter().filter_map(|replica| target(replica, wanted.port)).map(|(container, address)| {
                let client = &client;
                async move { (container, address, probe(client, address, wanted).await) }
            });
        for (container, address, outcome) in join_all(probes).await {
            match outcome {
                Ok(()) => drop(healthy.insert(container, address)),
                Err(seen) => drop(last.insert(container, seen)),
            }
        }
        if healthy.len() >= usize::from(wanted.replicas.max(1)) {
            // Healthy is what answered and still runs.
            running = engine.running(&wanted.service).await?;
            healthy.retain(|container, _| running.iter().any(|r| r.container == *container));
            if healthy.len() >= usize::from(wanted.replicas.max(1)) {
                let replica = |(container, address): (String, SocketAddr)| Replica {
                    container,
                    address: address.to_string(),
                    state: "up".into(),
                };
                return Ok(Healthy { replicas: healthy.into_iter().map(replica).collect() });
            }
        }
        if Instant::now() >= give_up {
            let seen = last.into_values().next_back().unwrap_or_else(|| "no replica has started".into());
            let seconds = wanted.timeout.0.as_secs();
            return Err(unhealthy(engine, wanted, format!("not healthy after {seconds} s: {seen}")).await);
        }
        let pause = if healthy.len() < running.len() { PROBE_PAUSE } else { LOOK_PAUSE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            event = happenings.recv() => look |= event.is_ok_and(|event| event.service == wanted.service),
        }
    }
}

/// Watches replicas that were healthy: an error when one ends, or does not answer as wanted any more.
pub async fn watch(engine: &Engine, events: &Events, wanted: &Watch) -> Outcome<Watched> {
    let client = probe_client()?;
    let until = Instant::now() + wanted.span.0;
    let mut happenings = events.subscribe();
    let begun = Instant::now();
    let first = engine.running(&wanted.health.service).await?;
    let mut misses = 0;
    while Instant::now() < until {
        tokio::select! {
            () = tokio::time::sleep(WATCH_PAUSE.min(until - Instant::now())) => {}
            () = ended(&mut happenings, &wanted.health.service) => {}
        }
        let now = engine.running(&wanted.health.service).await?;
        let after = begun.elapsed().as_secs();
        let gone = first.iter().find(|replica| now.iter().all(|other| other.container != replica.container));
        if let Some(replica) = gone {
            let failed = engine.failed_tasks(&wanted.health.service).await?;
            let how = failed.into_iter().next().map_or_else(|| "its process ended".to_owned(), |task| task.error);
            let reason = format!("a replica ended after {after} s in use: {how}");
            let mut error = fail(ActionErrorKind::Unhealthy, reason);
            error.log_tail = engine.log_tail(&replica.container, TAIL).await;
            return Err(error);
        }
        let targets = now.iter().filter_map(|replica| target(replica, wanted.health.port));
        let probes = join_all(targets.map(|(_, address)| probe(&client, address, &wanted.health))).await;
        let Some(seen) = probes.into_iter().find_map(Result::err) else {
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

fn target(replica: &Running, port: u16) -> Option<(String, SocketAddr)> {
    Some((replica.container.clone(), SocketAddr::new(replica.address?, port)))
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
            break;
        }
    }
    error
}

fn probe_client() -> Outcome<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(PROBE_LIMIT)
        .tls_certs_only([])
        .build()
        .map_err(|error| crate::fail::internal(format!("making the prober: {error}")))
}

/// One question; the error says what came instead of the wanted answer.
async fn probe(client: &reqwest::Client, address: SocketAddr, wanted: &AwaitHealthy) -> Result<(), String> {
    let url = format!("http://{address}{}", wanted.path);
    let request = client.get(url).header(reqwest::header::HOST, &wanted.host).header("user-agent", "magrathea-health");
    let response = request.send().await.map_err(|error| format!("GET {}: {}", wanted.path, innermost(&error)))?;
    let status = response.status().as_u16();
    let fits = (wanted.expect_low..=wanted.expect_high).contains(&status);
    if fits && wanted.contains.is_none() {
        return Ok(());
    }
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(Ok(chunk)) = stream.next().await {
        body.extend_from_slice(&chunk);
        if body.len() >= MOST_BODY {
            break;
        }
    }
    let body = String::from_utf8_lossy(&body);
    if fits && wanted.contains.as_deref().is_some_and(|text| body.contains(text)) {
        return Ok(());
    }
    let start: String = body.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let lack = if fits { ", without the wanted text" } else { "" };
    Err(format!("GET {} answered {status}{lack}: {}", wanted.path, start.trim()))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
