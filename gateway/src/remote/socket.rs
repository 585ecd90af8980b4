//! A stream over a websocket: one binary message per frame.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt, StreamExt};
use magrathea_core::wire::Frame;
use tokio_util::sync::CancellationToken;

use super::StreamHandle;

/// Keeps the way open through whatever forgets silent connections.
const PING: Duration = Duration::from_secs(25);

/// How long a client may take to close after the last frame.
const CLOSE: Duration = Duration::from_secs(5);

/// The largest message that a client may send.
pub const MAX_MESSAGE: usize = magrathea_core::wire::stream::MAX_PAYLOAD + 1;

/// Passes frames until the stream or the socket ends. A client that does not read holds its stream up, for as long as
/// its machine answers for it.
pub async fn serve(socket: WebSocket, handle: StreamHandle, shutdown: CancellationToken) {
    let StreamHandle { to, mut from } = handle;
    let (mut sink, mut stream) = socket.split();
    let receive = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => match Frame::from_message(bytes) {
                    Ok(frame) => {
                        if to.send(frame).await.is_err() {
                            // The other direction has the last frame.
                            std::future::pending::<()>().await;
                        }
                    }
                    Err(error) => return tracing::debug!(%error, "a client broke the protocol of a stream"),
                },
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let send = async {
        let mut ping = tokio::time::interval(PING);
        loop {
            let message = tokio::select! {
                frame = from.recv() => {
                    let Some(frame) = frame else { break };
                    Message::Binary(frame.to_message())
                }
                _ = ping.tick() => Message::Ping(Default::default()),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = tokio::time::timeout(CLOSE, sink.close()).await;
    };
    tokio::select! {
        () = receive => {}
        () = send => {}
        // The stream tells why it ends; a client that does not read it is left.
        () = async { shutdown.cancelled().await; tokio::time::sleep(CLOSE).await } => {}
    }
}
