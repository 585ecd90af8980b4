//! One connection: greets, takes calls, sends what comes of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use magrathea_core::wire::{Action, ActionError, AgentFrame, GatewayFrame, NodeReport, PROTOCOL, Progress};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::{Identity, Socket};
use crate::actions::{self, Call};
use crate::build::Blobs;
use crate::fail::internal;
use crate::node::NodeAgent;
use crate::reporter::Reporter;
use crate::streams::Streams;

const GREETING_LIMIT: Duration = Duration::from_secs(15);
const PING_PAUSE: Duration = Duration::from_secs(10);
/// A gateway that says nothing for so long, not even to a ping, is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// What was not acknowledged after so long is sent again.
const RESEND_PAUSE: Duration = Duration::from_secs(20);
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// Progress that waits for one call.
const PROGRESS_QUEUE: usize = 4096;

/// The ways to the gateway beside the connection.
#[derive(Debug, Clone)]
pub struct Ways {
    pub blobs: Blobs,
    pub streams: Streams,
}

/// Serves until the connection is lost. Calls that then still run and can be repeated are ended; a one-off command runs
/// on and is found by the gateway's repeated call.
pub async fn serve_session(
    agent: &Arc<NodeAgent>,
    identity: &Identity,
    ways: Ways,
    report: NodeReport,
    socket: Socket,
) -> anyhow::Result<()> {
    let (mut out, mut inbound) = socket.split();
    let hello = AgentFrame::Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        cluster: identity.cluster.clone(),
        node: identity.node.clone(),
        report,
    };
    send(&mut out, &hello).await?;
    let welcome =
        timeout(GREETING_LIMIT, inbound.next()).await?.context("the gateway closed instead of greeting")??;
    match parse(&welcome)? {
        Some(GatewayFrame::Welcome { protocol, version, now }) => {
            agent.usage.set_clock(now);
            tracing::info!(protocol, version, "connected to the gateway")
        }
        _ => bail!("the gateway did not greet: {}", described(&welcome)),
    }

    let (frames, mut outbound) = mpsc::channel::<AgentFrame>(256);
    let mut calls = Calls { agent: agent.clone(), ways, frames, tokens: HashMap::new(), running: JoinSet::new() };
    let mut spooled = agent.spool.subscribe();
    spooled.mark_changed();
    let mut troubled = agent.usage.trouble();
    troubled.mark_changed();
    let (mut sent, mut sent_at) = (0, Instant::now());
    let mut ping = tokio::time::interval(PING_PAUSE);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            message = inbound.next() => {
                heard = Instant::now();
                match message.transpose()? {
                    None | Some(Message::Close(_)) => return Ok(()),
                    Some(message) => if let Some(frame) = parse(&message)? { calls.take(frame)? },
                }
            }
            Some(frame) = outbound.recv() => send(&mut out, &frame).await?,
            Some(ended) = calls.running.join_next() => {
                if let Ok(id) = ended { calls.tokens.remove(&id); }
            }
            Ok(()) = changed(&mut spooled) => {
                for (sequence, observation) in agent.spool.after(sent) {
                    send(&mut out, &AgentFrame::Observation { sequence, observation }).await?;
                    (sent, sent_at) = (sequence, Instant::now());
                }
            }
            Ok(()) = changed(&mut troubled) => {
                let trouble = troubled.borrow_and_update().clone();
                send(&mut out, &AgentFrame::Trouble { trouble }).await?;
            }
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE_LIMIT { bail!("the gateway is silent"); }
                // What the gateway could not store it is told again.
                if sent_at.elapsed() > RESEND_PAUSE && agent.spool.count() > 0 {
                    sent = 0;
                    spooled.mark_changed();
                }
                timeout(SEND_LIMIT, out.send(Message::Ping(Vec::new().into()))).await??;
            }
        }
    }
}

async fn changed<T>(told: &mut watch::Receiver<T>) -> Result<(), watch::error::RecvError> {
    told.changed().await
}

/// The calls of one connection. Dropping it ends those that may be left at any point.
struct Calls {
    agent: Arc<NodeAgent>,
    ways: Ways,
    frames: mpsc::Sender<AgentFrame>,
    tokens: HashMap<u64, CancellationToken>,
    running: JoinSet<u64>,
}

impl Calls {
    fn take(&mut self, frame: GatewayFrame) -> anyhow::Result<()> {
        match frame {
            GatewayFrame::Welcome { .. } => bail!("the gateway greets twice"),
            GatewayFrame::Acknowledge { sequence, now } => {
                self.agent.usage.set_clock(now);
                self.agent.spool.acknowledge(sequence)?;
            }
            GatewayFrame::Cancel { id } => {
                if let Some(token) = self.tokens.get(&id) {
                    token.cancel();
                }
            }
            GatewayFrame::Call { id, action } => self.start(id, *action),
        }
        Ok(())
    }

    fn start(&mut self, id: u64, action: Action) {
        let cancel = CancellationToken::new();
        self.tokens.insert(id, cancel.clone());
        let (progress, queue) = mpsc::channel(PROGRESS_QUEUE);
        let Ways { blobs, streams } = self.ways.clone();
        let call = Call { reporter: Reporter(progress), blobs, streams, cancel: cancel.clone() };
        let (agent, frames) = (self.agent.clone(), self.frames.clone());
        // The work outlives the connection when it has to end by itself; the waiting for it does not.
        let adoptable = matches!(action, Action::RunOnce(_));
        let name = action.name();
        let work = async move {
            let began = Instant::now();
            let outcome = actions::perform(&agent, &call, action).await;
            let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            match &outcome {
                Ok(_) => tracing::debug!(id, name, milliseconds, "done"),
                Err(error) => tracing::info!(id, name, milliseconds, kind = ?error.kind, %error, "failed"),
            }
            outcome
        };
        if adoptable {
            self.running.spawn(async move {
                deliver(id, &frames, queue, work).await;
                id
            });
            return;
        }
        let task = self.agent.tasks.spawn(work);
        let guard = cancel.drop_guard();
        self.running.spawn(async move {
            let work = async {
                task.await.unwrap_or_else(|error| Err(internal(format!("the action ended abnormally: {error}"))))
            };
            deliver(id, &frames, queue, work).await;
            guard.disarm();
            id
        });
    }
}

/// Sends a call's progress, then its result: in this order, and nothing of it after.
async fn deliver(
    id: u64,
    frames: &mpsc::Sender<AgentFrame>,
    mut queue: mpsc::Receiver<Progress>,
    work: impl Future<Output = Result<serde_json::Value, ActionError>>,
) {
    let mut work = std::pin::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            Some(progress) = queue.recv() => drop(frames.send(AgentFrame::Progress { id, progress }).await),
            result = &mut work => break result,
        }
    };
    while let Ok(progress) = queue.try_recv() {
        let _ = frames.send(AgentFrame::Progress { id, progress }).await;
    }
    let _ = frames.send(AgentFrame::Result { id, result }).await;
}

async fn send(out: &mut SplitSink<Socket, Message>, frame: &AgentFrame) -> anyhow::Result<()> {
    let text = serde_json::to_string(frame)?;
    timeout(SEND_LIMIT, out.send(Message::text(text))).await.context("the gateway takes nothing")??;
    Ok(())
}

fn parse(message: &Message) -> anyhow::Result<Option<GatewayFrame>> {
    match message {
        Message::Text(text) => {
            Ok(Some(serde_json::from_str(text).context("a frame of the gateway's is not understood")?))
        }
        _ => Ok(None),
    }
}

fn described(message: &Message) -> String {
    match message {
        Message::Close(Some(close)) => close.reason.to_string(),
        _ => "it said something else".into(),
    }
}
