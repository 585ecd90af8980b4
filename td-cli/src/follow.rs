//! Following a deploy's events to its end, over lost connections.

use std::time::Duration;

use magrathea_core::api::{DeployEvent, DeployEventKind, DeployInfo};
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

/// How following ended.
#[derive(Debug)]
pub enum End {
    Finished(Box<DeployInfo>),
    TimedOut,
    /// The person pressed Ctrl-C.
    Detached,
}

/// Follows a deploy until it is over, `deadline` has come, or the person detaches. Every event is seen once.
pub async fn follow(
    client: &Client,
    deploy: Uuid,
    deadline: Option<Instant>,
    watcher: &mut impl Watcher,
) -> Result<End, Failure> {
    let expired = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        end = watch(client, deploy, watcher) => end.map(End::Finished),
        () = expired => Ok(End::TimedOut),
        _ = tokio::signal::ctrl_c() => Ok(End::Detached),
    }
}

async fn watch(client: &Client, deploy: Uuid, watcher: &mut impl Watcher) -> Result<Box<DeployInfo>, Failure> {
    let id = deploy.to_string();
    let mut seen = 0;
    let mut heard = Instant::now();
    let mut wait = BACKOFF.0;
    loop {
        let opened = client.stream(&["deploys", &id, "events"], &vec![("after".into(), seen.to_string())]).await;
        let error = match opened {
            Ok(response) => {
                let before = seen;
                if let Some(deploy) = read_events(response?, &mut seen, watcher).await? {
                    return Ok(deploy);
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
    watcher: &mut impl Watcher,
) -> Result<Option<Box<DeployInfo>>, Failure> {
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
            if let DeployEventKind::Finished { deploy } = event.event {
                return Ok(Some(deploy));
            }
        }
    }
    Ok(None)
}
