//! The agents' door: the websocket on which they are called, the streams and blobs they ask for, and their certificates'
//! renewal. TLS has checked that the client holds a certificate of ours; here it is checked that it is of the node's
//! present enrolment.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, Path, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Body};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use magrathea_core::wire::{AgentFrame, GatewayFrame, MAX_FRAME, NodeReport, PROTOCOL};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::session::Session;
use super::{NodeRef, observe, streams};
use crate::db::nodes;
use crate::listen::Peer;
use crate::pki::Identity;
use crate::services::nodes::renew_node;
use crate::state::State;

/// How long an agent may take to say hello, and to read a frame.
const HELLO: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(30);

/// An agent is pinged this often, and lost when nothing came from it for so long.
const PING: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(16);

/// How old a node's report may become.
const REFRESH: Duration = Duration::from_secs(60);

/// The routes of the agent listener.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/agent/v1/connect", get(connect))
        .route("/agent/v1/blobs/{sha256}", get(blob))
        .route("/agent/v1/certificate", post(renew))
        .route("/agent/v1/streams/{id}", post(stream))
        .with_state(state)
}

/// The node that the client's certificate speaks for, when it is of the node's present enrolment and `clusters.yml` has
/// the node.
async fn admit<'p>(state: &State, peer: &'p Peer) -> Result<&'p Identity, (StatusCode, &'static str)> {
    let refuse = |status, message| Err((status, message));
    let Some(identity) = &peer.node else {
        return refuse(StatusCode::FORBIDDEN, "the certificate is not a node's\n");
    };
    let known = match load(state, &identity.node).await {
        Ok(known) => known,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot check a node's certificate");
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "the store is away\n");
        }
    };
    if known.is_none_or(|known| known.certificate_serial != identity.enrolment) {
        return refuse(StatusCode::FORBIDDEN, "the certificate was revoked; enrol the node again\n");
    }
    let clusters = state.clusters();
    let listed =
        clusters.clusters.get(&identity.node.cluster).is_some_and(|c| c.nodes.contains_key(&identity.node.node));
    if !listed {
        return refuse(StatusCode::FORBIDDEN, "clusters.yml does not have this node\n");
    }
    Ok(identity)
}

async fn load(state: &State, node: &NodeRef) -> anyhow::Result<Option<nodes::EnrolledNode>> {
    Ok(nodes::load_node(&state.db.conn().await?, node).await?)
}

async fn connect(
    Shared(state): Shared<Arc<State>>,
    Extension(peer): Extension<Peer>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let node = match admit(&state, &peer).await {
        Ok(identity) => identity.node.clone(),
        Err(refusal) => {
            tracing::warn!(address = %peer.address, node = ?peer.node, reason = refusal.1.trim_end(), "an agent was refused");
            return refusal.into_response();
        }
    };
    let tasks = state.tasks.clone();
    upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| tasks.track_future(serve(state, node, socket)))
}

async fn serve(state: Arc<State>, node: NodeRef, mut socket: WebSocket) {
    let report = match greet(&node, &mut socket).await {
        Ok(report) => report,
        Err(reason) => {
            tracing::warn!(%node, reason, "an agent was turned away");
            let close = CloseFrame { code: close_code::POLICY, reason: reason.into() };
            let _ = socket.send(Message::Close(Some(close))).await;
            return;
        }
    };
    let (session, frames) = Session::new();
    let session = Arc::new(session);
    let (sink, stream) = socket.split();
    state.hub.attach(&node, &session, report);
    tracing::info!(%node, "connected");
    let reason = tokio::select! {
        reason = write(sink, frames) => reason,
        reason = read(&state, &node, &session, stream) => reason,
        reason = keep_fresh(&state, &node) => reason,
        () = session.closed() => "the connection was given up",
        () = state.shutdown.cancelled() => "the gateway ends",
    };
    state.hub.detach(&node, &session);
    tracing::info!(%node, reason, "disconnected");
    observe::touch(&state, &node).await;
}

/// Waits for the agent's hello, and answers it. The error is what the agent is told.
async fn greet(node: &NodeRef, socket: &mut WebSocket) -> Result<NodeReport, &'static str> {
    let first = tokio::time::timeout(HELLO, socket.recv()).await.map_err(|_| "no hello in time")?;
    let Some(Ok(Message::Text(text))) = first else { return Err("no hello") };
    let Ok(AgentFrame::Hello { protocol, cluster, node: name, report, version }) = serde_json::from_str(&text) else {
        return Err("the first frame is not a hello");
    };
    if protocol != PROTOCOL {
        tracing::warn!(%node, protocol, version, "the agent speaks another protocol");
        return Err("gateway and agent speak different protocols; run the same version of both");
    }
    if (&cluster, &name) != (&node.cluster, &node.node) {
        return Err("the hello names another node than the certificate");
    }
    let welcome = GatewayFrame::Welcome {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: jiff::Timestamp::now(),
    };
    let text = serde_json::to_string(&welcome).map_err(|_| "no welcome")?;
    socket.send(Message::Text(text.into())).await.map_err(|_| "gone before the welcome")?;
    Ok(report)
}

/// Sends frames and pings until the connection fails.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut frames: mpsc::Receiver<GatewayFrame>) -> &'static str {
    let mut ping = tokio::time::interval(PING);
    loop {
        let message = tokio::select! {
            frame = frames.recv() => {
                let Some(frame) = frame else { return "closed" };
                match serde_json::to_string(&frame) {
                    Ok(text) if text.len() <= MAX_FRAME => Message::Text(text.into()),
                    _ => return "a frame is too large to be sent",
                }
            }
            _ = ping.tick() => Message::Ping(Default::default()),
        };
        match tokio::time::timeout(WRITE, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return "the connection broke",
            Err(_) => return "the agent does not read",
        }
    }
}

/// Asks for a report and notes that the node is there, now and then. Never ends.
async fn keep_fresh(state: &State, node: &NodeRef) -> &'static str {
    loop {
        observe::touch(state, node).await;
        observe::note_trouble(state, node).await;
        tokio::time::sleep(REFRESH).await;
        if let Err(error) = state.hub.refresh(node).await {
            tracing::debug!(%node, %error, "no new report");
        }
    }
}

/// Hands on what the agent says until it falls silent.
async fn read(state: &State, node: &NodeRef, session: &Session, mut stream: SplitStream<WebSocket>) -> &'static str {
    // The first observation that could not be stored: those after it wait until it is, as an acknowledgement is of all before.
    let mut owed: Option<u64> = None;
    loop {
        let message = match tokio::time::timeout(SILENCE, stream.next()).await {
            Err(_) => return "the agent fell silent",
            Ok(None | Some(Ok(Message::Close(_)))) => return "the agent closed the connection",
            Ok(Some(Err(_))) => return "the connection broke",
            Ok(Some(Ok(message))) => message,
        };
        let Message::Text(text) = message else { continue };
        match serde_json::from_str(&text) {
            Ok(AgentFrame::Progress { id, progress }) => session.progress(id, progress),
            Ok(AgentFrame::Result { id, result }) => session.result(id, result),
            Ok(AgentFrame::Trouble { trouble }) => {
                state.hub.set_trouble(node, trouble);
                observe::note_trouble(state, node).await;
            }
            Ok(AgentFrame::Observation { sequence, observation }) => {
                if owed.is_some_and(|owed| sequence > owed) {
                    continue;
                }
                owed = Some(sequence);
                if observe::store(state, node, sequence, observation).await {
                    owed = None;
                    session.send(GatewayFrame::Acknowledge { sequence, now: jiff::Timestamp::now() });
                }
            }
            Ok(AgentFrame::Hello { .. }) | Err(_) => return "the agent broke the protocol",
        }
    }
}

async fn blob(
    Shared(state): Shared<Arc<State>>,
    Extension(peer): Extension<Peer>,
    Path(sha256): Path<String>,
) -> Response {
    if let Err(refusal) = admit(&state, &peer).await {
        return refusal.into_response();
    }
    let valid = sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !valid {
        return StatusCode::NOT_FOUND.into_response();
    }
    let Ok(file) = tokio::fs::File::open(state.blobs().join(&sha256)).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(metadata) = file.metadata().await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let headers =
        [(header::CONTENT_TYPE, "application/zstd".to_owned()), (header::CONTENT_LENGTH, metadata.len().to_string())];
    (headers, Body::from_stream(ReaderStream::with_capacity(file, 64 << 10))).into_response()
}

/// The agent's side of a stream that it was asked for.
async fn stream(
    Shared(state): Shared<Arc<State>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<Uuid>,
    request: Body,
) -> Response {
    let node = match admit(&state, &peer).await {
        Ok(identity) => &identity.node,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(end) = state.hub.accept_stream(node, id) else { return StatusCode::NOT_FOUND.into_response() };
    let (answer, carried) = streams::carry(end, request);
    state.tasks.spawn(carried);
    answer.into_response()
}

/// Signs a new key of the node's: a signing request in PEM comes in, the certificate in PEM goes out.
async fn renew(Shared(state): Shared<Arc<State>>, Extension(peer): Extension<Peer>, csr: String) -> Response {
    let identity = match admit(&state, &peer).await {
        Ok(identity) => identity,
        Err(refusal) => return refusal.into_response(),
    };
    match renew_node(&state, peer.address.ip(), identity, &csr).await {
        Ok(certificate) => {
            tracing::info!(node = %identity.node, "the node's certificate was renewed");
            certificate.into_response()
        }
        Err(error) => {
            tracing::warn!(node = %identity.node, cause = ?error.cause, "cannot renew the node's certificate: {error}");
            (error.status(), format!("{error}\n")).into_response()
        }
    }
}
