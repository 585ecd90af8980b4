//! Following a deploy's events to its end, over lost connections.

use std::time::Duration;

use magrathea_core::api::{DeployEvent, DeployEventKind, DeployInfo, Phase};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use crate::client::Client;
use crate::exit::{Exit, Failure};

/// The gateway sends a blank line well within this; a longer silence is a dead connection.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a lost gateway is looked for.
const PATIENCE: Duration = Duration::from_secs(60);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
const TICK: Duration = Duration::from_secs(1);
/// Longer than any event.
const MAX_LINE: usize = 16 << 20;

/// Sees a deploy happen.
pub trait Watcher {
    fn event(&mut self, event: &DeployEvent);
    /// A second passed in which nothing happened.
    fn tick(&mut self) {}
}

/// Shows only what comes when a phase is over.
pub struct After<'a, W> {
    pub phase: Phase,
    pub watcher: &'a mut W,
    pub is_over: bool,
}

impl<W: Watcher> Watcher for After<'_, W> {
    fn event(&mut self, event: &DeployEvent) {
        self.is_over |= matches!(event.event, DeployEventKind::PhaseFinished { phase, .. } if phase == self.phase);
        if self.is_over {
            self.watcher.event(event);
        }
    }

    fn tick(&mut self) {
        if self.is_over {
            self.watcher.tick();
        }
    }
}

/// When a deploy is left to itself before its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Until {
    pub deadline: Option<Instant>,
    /// When visitors are led to its canary.
    pub canary: bool,
}

/// How following ended.
#[derive(Debug)]
pub enum End {
    Finished(Box<DeployInfo>),
    /// Visitors are led to its canary.
    OnTrial,
    TimedOut,
    /// The person pressed Ctrl-C.
    Detached,
}

/// Follows a deploy until it is over, it is to be left, or the person detaches. Every event is seen once.
pub async fn follow(client: &Client, deploy: Uuid, until: Until, watcher: &mut impl Watcher) -> Result<End, Failure> {
    let expired = async {
        match until.deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        end = watch(client, deploy, until.canary, watcher) => end,
        () = expired => Ok(End::TimedOut),
        _ = tokio::signal::ctrl_c() => Ok(End::Detached),
    }
}

async fn watch(client: &Client, deploy: Uuid, until_canary: bool, watcher: &mut impl Watcher) -> Result<End, Failure> {
    let id = deploy.to_string();
    let mut seen = 0;
    let mut heard = Instant::now();
    let mut wait = BACKOFF.0;
    loop {
        let opened = client.stream(&["deploys", &id, "events"], &vec![("after".into(), seen.to_string())]).await;
        let error = match opened {
            Ok(response) => {
                let before = seen;
                if let Some(end) = read_events(response?, &mut seen, until_canary, watcher).await? {
                    return Ok(end);
                }
                if seen > before {
                    (heard, wait) = (Instant::now(), BACKOFF.0);
                }
                None
            }
            Err(error) => Some(error),
        };
        if heard.elapsed() > PATIENCE {
            let failure = match error {
                Some(error) => client.unreachable(&error),
                None => Failure::say(Exit::Unreachable, "the gateway breaks the deploy's events off again and again"),
            };
            return Err(failure.hint(format!("the deploy goes on without td; follow it with `td deploy log {id}`")));
        }
        sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Reads one connection to its end. None: it ended before the deploy did.
async fn read_events(
    mut response: reqwest::Response,
    seen: &mut u64,
    until_canary: bool,
    watcher: &mut impl Watcher,
) -> Result<Option<End>, Failure> {
    let mut buffer = Vec::new();
    let mut heard = Instant::now();
    while heard.elapsed() < SILENCE && buffer.len() < MAX_LINE {
        let chunk = match timeout(TICK, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None) | Err(_)) => break,
            Err(_) => {
                watcher.tick();
                continue;
            }
        };
        heard = Instant::now();
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let rest = buffer.split_off(end + 1);
            let line = std::mem::replace(&mut buffer, rest);
            if line.trim_ascii().is_empty() {
                continue;
            }
            let event: DeployEvent = serde_json::from_slice(&line).map_err(Failure::not_understood)?;
            if event.sequence <= *seen {
                continue;
            }
            *seen = event.sequence;
            watcher.event(&event);
            match event.event {
                DeployEventKind::Finished { deploy } => return Ok(Some(End::Finished(deploy))),
                DeployEventKind::Canary { .. } if until_canary => return Ok(Some(End::OnTrial)),
                _ => {}
            }
        }
    }
    Ok(None)
}
