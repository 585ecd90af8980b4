//! Streams to agents: asked for with a call, met by the request that the agent then makes. Bounded in both directions:
//! whoever does not read holds the other side up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use magrathea_core::wire::stream::Decoder;
use magrathea_core::wire::{Frame, OpenStream, StreamSpec};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::session::Session;
use super::{CallError, Hub, NodeRef};
use crate::lock::locked;

/// Frames that wait in each direction.
const QUEUE: usize = 8;

/// How long a node may take to be there, to answer the call, and to make its request.
const OPEN: Duration = Duration::from_secs(20);

/// The gateway's end of a stream. Dropping either half ends the stream, and on the node what it belongs to.
#[derive(Debug)]
pub struct StreamHandle {
    /// To the node. An error means that the stream has ended.
    pub to: mpsc::Sender<Frame>,
    /// From the node. Ends with [`Frame::Exit`] or [`Frame::Failed`]; none without one means that the node was lost.
    pub from: mpsc::Receiver<Frame>,
}

/// The end of a stream that the node's request carries.
pub(crate) struct StreamEnd {
    pub outgoing: mpsc::Receiver<Frame>,
    pub incoming: mpsc::Sender<Frame>,
    /// A stream does not outlive the connection that it was asked for on.
    session: Arc<Session>,
}

/// Streams whose agent has not come yet.
#[derive(Default)]
pub(super) struct Awaited(Mutex<HashMap<Uuid, Waiting>>);

struct Waiting {
    node: NodeRef,
    end: StreamEnd,
    come: oneshot::Sender<()>,
}

impl Awaited {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Waiting>> {
        locked(&self.0)
    }
}

/// Forgets a stream that nobody waits for any more.
struct Forget<'a>(&'a Awaited, Uuid);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Hub {
    /// Opens a stream to a node. It is never opened again by itself: a lost connection ends it.
    pub async fn open_stream(&self, node: &NodeRef, stream: StreamSpec) -> Result<StreamHandle, CallError> {
        tokio::time::timeout(OPEN, self.ask_for_stream(node, stream)).await.unwrap_or(Err(CallError::Timeout))
    }

    async fn ask_for_stream(&self, node: &NodeRef, stream: StreamSpec) -> Result<StreamHandle, CallError> {
        let session = self.session(node).await.ok_or(CallError::NotConnected)?;
        let id = Uuid::now_v7();
        let (to, outgoing) = mpsc::channel(QUEUE);
        let (incoming, from) = mpsc::channel(QUEUE);
        let (come, coming) = oneshot::channel();
        let end = StreamEnd { outgoing, incoming, session: Arc::clone(&session) };
        let awaited = &self.inner.streams;
        awaited.lock().insert(id, Waiting { node: node.clone(), end, come });
        let _forget = Forget(awaited, id);
        session
            .call(self.next_call(), OpenStream { id, stream }.into(), &mut |_| {})
            .await
            .ok_or(CallError::Lost)??;
        tokio::select! {
            come = coming => come.map_err(|_| CallError::Lost)?,
            () = session.closed() => return Err(CallError::Lost),
        }
        Ok(StreamHandle { to, from })
    }

    /// The end for the node's request; none when it was not asked for this stream.
    pub(crate) fn accept_stream(&self, node: &NodeRef, id: Uuid) -> Option<StreamEnd> {
        let mut streams = self.inner.streams.lock();
        if streams.get(&id)?.node != *node {
            return None;
        }
        let waiting = streams.remove(&id)?;
        waiting.come.send(()).ok()?;
        Some(waiting.end)
    }
}

/// Carries a stream over the agent's request: takes frames from its body, and gives the answer's body. The future ends
/// with the stream.
pub(super) fn carry(end: StreamEnd, request: Body) -> (Body, impl Future<Output = ()> + Send) {
    let StreamEnd { outgoing, incoming, session } = end;
    let over = CancellationToken::new();
    // The answer's body is dropped when the agent is gone, though nothing of the request may be read just then.
    let frames =
        stream::unfold((outgoing, over.clone(), over.clone().drop_guard()), async |(mut frames, over, guard)| {
            let frame = tokio::select! {
                () = over.cancelled() => None,
                frame = frames.recv() => frame,
            }?;
            Some((Ok::<_, std::convert::Infallible>(frame.to_bytes()), (frames, over, guard)))
        });
    let reading = async move {
        tokio::select! {
            () = read(request, &incoming) => {}
            () = incoming.closed() => {}
            () = session.closed() => {}
            () = over.cancelled() => {}
        }
        over.cancel();
    };
    (Body::from_stream(frames), reading)
}

/// Hands on what the agent sends, up to the last frame.
async fn read(request: Body, incoming: &mpsc::Sender<Frame>) {
    let mut body = request.into_data_stream();
    let mut decoder = Decoder::default();
    while let Some(Ok(bytes)) = body.next().await {
        let bytes: Bytes = bytes;
        decoder.push(&bytes);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    let last = frame.is_last();
                    if incoming.send(frame).await.is_err() || last {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => return tracing::warn!(%error, "an agent broke the protocol of a stream"),
            }
        }
    }
}
